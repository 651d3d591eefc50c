/* kvctl export, import and rollback: documents out of the cluster and into it. */
#include "client/kvctl/config.h"
#include "client/kvctl/file.h"

#include <string.h>

struct kvctl_source kvctl_source_of(const struct kvctl *kvctl)
{
    return (struct kvctl_source){.client = kvctl->client, .options = kvctl_call_options(kvctl)};
}

struct kv_range_spec kvctl_prefix_spec(const char *prefix)
{
    return (struct kv_range_spec){
        .kind = prefix[0] ? KV_RANGE_PREFIX : KV_RANGE_ALL,
        .start = kv_bytes_str(prefix),
    };
}

int kvctl_local_fault(struct kvctl *kvctl, const struct kv_error *error)
{
    fflush(kvctl->out);
    fprintf(kvctl->err, "kvctl %s: %s\n", kvctl->args.command->name, error->message);
    return error->status == KV_INVALID ? KVCTL_USAGE : KVCTL_LOCAL;
}

int kvctl_load_range(struct kvctl *kvctl,
                     const struct kv_range_spec *range,
                     int64_t at_revision,
                     struct kvctl_document *document)
{
    struct kvctl_source source = kvctl_source_of(kvctl);
    struct kv_error error;
    size_t limiters;

    if (kvctl_fetch_range(&source, range, at_revision, document, &limiters, &error) < 0 ||
        kvctl_document_sort(document, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    if (limiters > 0) {
        fprintf(kvctl->err,
                "kvctl %s: left alone: %zu rate limiters, whose state is the time of their use\n",
                kvctl->args.command->name,
                limiters);
    }
    return KVCTL_OK;
}

int kvctl_notation(struct kvctl *kvctl, enum kvctl_notation *ret_notation)
{
    const char *format = kvctl->args.strings[KVCTL_NOTATION];

    *ret_notation = kvctl->args.format == KVCTL_JSON ? KVCTL_JSON_TEXT : KVCTL_YAML;
    if (!format) {
        return KVCTL_OK;
    }
    if (strcmp(format, "json") != 0 && strcmp(format, "yaml") != 0) {
        return kvctl_usage(kvctl, "--format wants json or yaml, not \"%.100s\"", format);
    }
    *ret_notation = strcmp(format, "json") == 0 ? KVCTL_JSON_TEXT : KVCTL_YAML;
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- export */

int kvctl_run_export(struct kvctl *kvctl)
{
    struct kv_range_spec range =
        kvctl_prefix_spec(kvctl->args.n_arguments ? kvctl->args.arguments[0] : "");
    struct kv_arena arena;
    struct kvctl_document document = {.arena = &arena};
    enum kvctl_notation notation;
    struct kv_error error;
    int code = kvctl_notation(kvctl, &notation);

    if (code != KVCTL_OK) {
        return code;
    }
    kv_arena_init(&arena, KVCTL_DOCUMENT_BYTES_MAX);
    code = kvctl_load_range(kvctl, &range, kvctl->args.numbers[KVCTL_AT], &document);
    if (code == KVCTL_OK && kvctl_document_write(&document, notation, kvctl->out, &error) < 0) {
        code = kvctl_local_fault(kvctl, &error);
    }
    kv_arena_deinit(&arena);
    return code;
}

/* ---------------------------------------------------------------- import */

/* Leaves the keys that begin with the prefix. */
static void keep_prefix(struct kvctl_document *document, struct kv_bytes prefix)
{
    size_t n = 0;

    for (size_t i = 0; i < document->n_entries; i++) {
        if (kvctl_has_prefix(document->entries[i].key, prefix)) {
            document->entries[n++] = document->entries[i];
        }
    }
    document->n_entries = n;
}

static int read_document(struct kvctl *kvctl, struct kv_buf *buf, struct kvctl_document *document)
{
    const char *path = kvctl->args.arguments[0];
    const char *prefix = kvctl->args.strings[KVCTL_PREFIX];
    struct kv_error error;
    int status;

    if (kvctl->in_shell && strcmp(path, "-") == 0) {
        return kvctl_usage(kvctl, "import in a shell wants a FILE");
    }
    status = kvctl_file_read(path, buf, &error);
    if (status == 0) {
        status = kvctl_document_parse(document,
                                      strcmp(path, "-") == 0 ? "standard input" : path,
                                      kv_bytes_of(buf->data, buf->size),
                                      &error);
    }
    if (status < 0) {
        return kvctl_local_fault(kvctl, &error);
    }
    if (prefix) {
        keep_prefix(document, kv_bytes_str(prefix));
    }
    return KVCTL_OK;
}

/* What is in the cluster of that: with --delete-missing the whole prefix, else the file's keys. */
static int read_present(struct kvctl *kvctl,
                        const struct kv_range_spec *scope,
                        const struct kvctl_document *wanted,
                        struct kvctl_document *present)
{
    struct kvctl_source source = kvctl_source_of(kvctl);
    struct kv_error error;

    if (scope) {
        return kvctl_load_range(kvctl, scope, 0, present);
    }
    if (kvctl_fetch_keys(&source, wanted, 0, present, &error) < 0 ||
        kvctl_document_sort(present, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    return KVCTL_OK;
}

static int run_diff(struct kvctl *kvctl,
                    const struct kv_range_spec *scope,
                    const struct kvctl_document *from,
                    const struct kvctl_document *to,
                    const char *too_large)
{
    struct kvctl_source source = kvctl_source_of(kvctl);
    struct kvctl_diff diff;
    struct kvctl_plan plan = {
        .kvctl = kvctl,
        .source = &source,
        .diff = &diff,
        .revision = from->revision,
        .scope = scope,
        .too_large = too_large,
    };
    struct kv_error error;

    if (kvctl_diff_make(from->arena, from, to, scope != NULL, &diff, &error) < 0) {
        return kvctl_local_fault(kvctl, &error);
    }
    return kvctl_plan_run(&plan);
}

int kvctl_run_import(struct kvctl *kvctl)
{
    const bool *set = kvctl->args.set;
    const char *prefix = kvctl->args.strings[KVCTL_PREFIX];
    struct kv_range_spec scope = kvctl_prefix_spec(prefix ? prefix : "");
    bool whole = set[KVCTL_DELETE_MISSING];
    struct kv_arena arena;
    struct kvctl_document wanted = {.arena = &arena};
    struct kvctl_document present = {.arena = &arena};
    struct kv_buf buf;
    int code;

    if (whole && !set[KVCTL_PREFIX] && !set[KVCTL_ALL]) {
        return kvctl_usage(kvctl,
                           "import --delete-missing wants --prefix P, or --all to delete whatever "
                           "else there is in the cluster");
    }
    kv_buf_init(&buf, KVCTL_FILE_BYTES_MAX);
    kv_arena_init(&arena, KVCTL_DOCUMENT_BYTES_MAX);
    code = read_document(kvctl, &buf, &wanted);
    if (code == KVCTL_OK) {
        code = read_present(kvctl, whole ? &scope : NULL, &wanted, &present);
    }
    if (code == KVCTL_OK) {
        code = run_diff(kvctl,
                        whole ? &scope : NULL,
                        &present,
                        &wanted,
                        "import parts of the file, one --prefix P after the other");
    }
    kv_arena_deinit(&arena);
    kv_buf_deinit(&buf);
    return code;
}

/* ---------------------------------------------------------------- rollback */

/* KEY, PREFIX that ends with a slash, or --prefix P. */
static int select_scope(struct kvctl *kvctl, struct kv_range_spec *ret_scope)
{
    const char *prefix = kvctl->args.strings[KVCTL_PREFIX];
    const char *key = kvctl->args.n_arguments ? kvctl->args.arguments[0] : NULL;

    if (!prefix == !key) {
        return kvctl_usage(kvctl,
                           "rollback wants a KEY, a PREFIX/ that ends with a slash, or --prefix P");
    }
    if (!kvctl->args.set[KVCTL_BACK_TO] || kvctl->args.numbers[KVCTL_BACK_TO] < 1) {
        return kvctl_usage(kvctl, "rollback wants --to REVISION; kvctl history KEY lists a key's");
    }
    *ret_scope = kvctl_prefix_spec(prefix ? prefix : key);
    if (key && key[0] && key[strlen(key) - 1] != '/') {
        ret_scope->kind = KV_RANGE_KEY;
    }
    return KVCTL_OK;
}

/* A key or field that had an end of its own comes back without one: that time is over. */
static void forget_expiry(struct kvctl_document *document)
{
    for (size_t i = 0; i < document->n_entries; i++) {
        struct kvctl_entry *entry = &document->entries[i];

        entry->ttl_ms = 0;
        entry->lease_id = 0;
        for (size_t k = 0; k < entry->n_elements; k++) {
            entry->elements[k].ttl_ms = 0;
        }
    }
}

int kvctl_run_rollback(struct kvctl *kvctl)
{
    struct kv_arena arena;
    struct kvctl_document present = {.arena = &arena};
    struct kvctl_document past = {.arena = &arena};
    struct kv_range_spec scope;
    int code = select_scope(kvctl, &scope);

    if (code != KVCTL_OK) {
        return code;
    }
    kv_arena_init(&arena, KVCTL_DOCUMENT_BYTES_MAX);
    code = kvctl_load_range(kvctl, &scope, kvctl->args.numbers[KVCTL_BACK_TO], &past);
    if (code == KVCTL_OK) {
        code = kvctl_load_range(kvctl, &scope, 0, &present);
    }
    if (code == KVCTL_OK) {
        forget_expiry(&past);
        code = run_diff(kvctl, &scope, &present, &past, "roll back parts, by longer prefixes");
    }
    kv_arena_deinit(&arena);
    return code;
}
