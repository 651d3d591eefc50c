/* kvctl render: keys of one revision through a template into a file, which is replaced as a whole.
 */
#include "client/kvctl/child.h"
#include "client/kvctl/config.h"
#include "client/kvctl/file.h"
#include "client/kvctl/follow.h"
#include "client/kvctl/template.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_UPS_MAX = 10000, /* of one rendering, a round trip each: some seconds */
    NEW_FILE_MODE = 0644,
    DEBOUNCE_DEFAULT_MS = 500,
    RETRY_MS = 1000, /* while the cluster is away */
};
#define ARENA_BYTES_MAX KVCTL_DOCUMENT_BYTES_MAX

/* ---------------------------------------------------------------- templates from files */

static int read_source(struct kvctl_template_loader *loader,
                       const char *path,
                       struct kvctl_template_source *ret_source,
                       struct kv_error *ret_error)
{
    struct kv_buf buf;
    struct stat info;
    void *text = NULL;
    char *name;
    int status;

    kv_buf_init(&buf, KVCTL_TEMPLATE_BYTES_MAX);
    status = kvctl_file_read(path, &buf, ret_error);
    if (status == 0 && stat(path, &info) != 0) {
        status = kv_error_set(ret_error, KV_IO, "%.300s cannot be looked at", path);
    }
    if (status == 0) {
        text = kv_arena_copy(loader->arena, buf.size ? buf.data : (const void *)"", buf.size);
        name = kv_arena_copy(loader->arena, path, strlen(path) + 1);
        if (!text || !name) {
            status = kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
        } else {
            *ret_source = (struct kvctl_template_source){
                name, kv_bytes_of(text, buf.size), {info.st_dev, info.st_ino}};
        }
    }
    kv_buf_deinit(&buf);
    return status;
}

/* A relative name is beside the template that includes it. */
static int load(struct kvctl_template_loader *loader,
                const struct kvctl_template_source *from,
                const char *name,
                struct kvctl_template_source *ret_source,
                struct kv_error *ret_error)
{
    const char *slash = from && name[0] != '/' ? strrchr(from->name, '/') : NULL;
    char path[4096];

    if (snprintf(path,
                 sizeof path,
                 "%.*s%s",
                 slash ? (int)(slash - from->name) + 1 : 0,
                 slash ? from->name : "",
                 name) >= (int)sizeof path) {
        return kv_error_set(ret_error, KV_INVALID, "the name %.100s... is too long", name);
    }
    return read_source(loader, path, ret_source, ret_error);
}

/* ---------------------------------------------------------------- keys of one revision */

struct keys {
    struct kvctl_template_keys functions; /* first: they get it */
    struct kvctl_source source;
    struct kv_arena *arena; /* of this rendering */
    int64_t revision;
    struct kvctl_document asked; /* what was asked for: key, type none; or prefix, type string */
};

static int ask(struct keys *keys,
               const struct kv_range_spec *range,
               struct kvctl_document *document,
               struct kv_error *ret_error)
{
    struct kvctl_entry *asked;
    int status;

    if (keys->asked.n_entries == LOOK_UPS_MAX) {
        return kv_error_set(
            ret_error, KV_TOO_LARGE, "more than %d keys and ranges", (int)LOOK_UPS_MAX);
    }
    asked = kvctl_document_add(&keys->asked);
    if (!asked) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    asked->key = range->start;
    asked->type = range->kind == KV_RANGE_KEY ? KV_TYPE_NONE : KV_TYPE_STRING;
    /* A field may be asked for of a key, but not of those of a range. */
    keys->source.no_content = range->kind != KV_RANGE_KEY;
    status = kvctl_fetch_range(&keys->source, range, keys->revision, document, NULL, ret_error);
    return status < 0 ? status : kvctl_document_sort(document, ret_error);
}

static int get(struct kvctl_template_keys *functions,
               struct kv_bytes key,
               const struct kvctl_entry **ret_entry,
               struct kv_error *ret_error)
{
    struct keys *keys = (struct keys *)functions;
    struct kv_range_spec range = {.kind = KV_RANGE_KEY, .start = key};
    struct kvctl_document document = {.arena = keys->arena};
    int status = ask(keys, &range, &document, ret_error);

    if (status == 0) {
        *ret_entry = document.n_entries ? &document.entries[0] : NULL;
    }
    return status;
}

static int list(struct kvctl_template_keys *functions,
                struct kv_bytes prefix,
                const struct kvctl_document **ret_document,
                struct kv_error *ret_error)
{
    struct keys *keys = (struct keys *)functions;
    struct kv_range_spec range = {.kind = prefix.size ? KV_RANGE_PREFIX : KV_RANGE_ALL,
                                  .start = prefix};
    struct kvctl_document *document = kv_arena_alloc(keys->arena, sizeof *document);
    int status;

    if (!document) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    *document = (struct kvctl_document){.arena = keys->arena};
    status = ask(keys, &range, document, ret_error);
    if (status == 0) {
        *ret_document = document;
    }
    return status;
}

/* ---------------------------------------------------------------- ranges to follow */

static int compare_asked(const void *a, const void *b)
{
    const struct kvctl_entry *x = a;
    const struct kvctl_entry *y = b;
    int order = kvctl_bytes_compare(x->key, y->key);

    /* A prefix comes before the key that is called the same. */
    return order != 0 ? order : (x->type == KV_TYPE_NONE) - (y->type == KV_TYPE_NONE);
}

/* Leaves out what a prefix before it has already. */
static size_t reduce(struct kvctl_entry *asked, size_t n)
{
    size_t kept = 0;

    qsort(asked, n, sizeof *asked, compare_asked);
    for (size_t i = 0; i < n; i++) {
        const struct kvctl_entry *last = kept > 0 ? &asked[kept - 1] : NULL;
        bool covered =
            last && (last->type == KV_TYPE_STRING ? kvctl_has_prefix(asked[i].key, last->key)
                                                  : asked[i].type == KV_TYPE_NONE &&
                                                        kvctl_bytes_equal(asked[i].key, last->key));

        if (!covered) {
            asked[kept++] = asked[i];
        }
    }
    return kept;
}

/* What was asked for as few ranges: neighbours that are too many share the prefix that they have in
 * common. */
static size_t make_ranges(struct kvctl_document *asked, struct kv_range_spec *ret_ranges)
{
    size_t n = reduce(asked->entries, asked->n_entries);
    size_t n_ranges = n < KVCTL_FOLLOW_RANGES_MAX ? n : KVCTL_FOLLOW_RANGES_MAX;

    for (size_t i = 0; i < n_ranges; i++) {
        const struct kvctl_entry *first = &asked->entries[i * n / n_ranges];
        const struct kvctl_entry *last = &asked->entries[(i + 1) * n / n_ranges - 1];
        size_t size = 0;

        ret_ranges[i] = (struct kv_range_spec){
            .kind = first->type == KV_TYPE_NONE ? KV_RANGE_KEY : KV_RANGE_PREFIX,
            .start = first->key,
        };
        if (first != last) {
            while (size < first->key.size && size < last->key.size &&
                   ((const char *)first->key.data)[size] == ((const char *)last->key.data)[size]) {
                size++;
            }
            ret_ranges[i].kind = KV_RANGE_PREFIX;
            ret_ranges[i].start.size = size;
        }
        if (ret_ranges[i].start.size == 0) {
            ret_ranges[i].kind = KV_RANGE_ALL;
        }
    }
    return n_ranges;
}

/* ---------------------------------------------------------------- the file */

struct render {
    struct kvctl *kvctl;
    const char *target;
    const struct kvctl_template *template;
    struct kv_arena arena; /* of the last rendering */
    struct keys keys;
    bool read; /* the keys are known, at keys.revision */
    bool away; /* the cluster, which was said */
};

static bool is_same(const char *path, const struct kv_buf *content)
{
    struct kv_error error;
    struct kv_buf old;
    struct stat info;
    bool same;

    /* Reading a pipe may take for ever. */
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
        return false;
    }
    kv_buf_init(&old, KVCTL_RENDERED_BYTES_MAX + 1024 * 1024);
    same = kvctl_file_read(path, &old, &error) == 0 && old.size == content->size &&
           (old.size == 0 || memcmp(old.data, content->data, old.size) == 0);
    kv_buf_deinit(&old);
    return same;
}

/* Writes, checks, puts in place, tells. */
static int replace(struct render *render, const struct kv_buf *content, struct kv_error *ret_error)
{
    const char *const *strings = (const char *const *)render->kvctl->args.strings;
    struct kvctl_new_file file;
    struct kv_error error;
    int status = kvctl_new_file_write(&file,
                                      render->target,
                                      kv_bytes_of(content->data, content->size),
                                      NEW_FILE_MODE,
                                      false,
                                      ret_error);

    if (status == 0 && strings[KVCTL_CHECK] &&
        kvctl_shell_command(NULL, strings[KVCTL_CHECK], file.path, &error) < 0) {
        kvctl_new_file_drop(&file);
        return kv_error_set(ret_error,
                            KV_IO,
                            "the check failed, %.100s stays as it was: %.300s",
                            render->target,
                            error.message);
    }
    if (status == 0) {
        status = kvctl_new_file_commit(&file, ret_error);
    }
    if (status == 0 && strings[KVCTL_EXEC] &&
        kvctl_shell_command(NULL, strings[KVCTL_EXEC], render->target, &error) < 0) {
        return kv_error_set(ret_error,
                            KV_IO,
                            "%.100s is written, the command after it failed: %.300s",
                            render->target,
                            error.message);
    }
    return status;
}

static int
put_in_place(struct render *render, const struct kv_buf *content, struct kv_error *ret_error)
{
    FILE *out = render->kvctl->out;

    if (strcmp(render->target, "-") == 0) {
        kvctl_print_raw(out, kv_bytes_of(content->data, content->size));
        return 0;
    }
    if (is_same(render->target, content)) {
        return 0;
    }
    /* What the commands print comes behind what is printed here. */
    fflush(out);
    return replace(render, content, ret_error);
}

/* An enum kvctl_exit, said. */
static int render_once(struct render *render)
{
    struct kvctl *kvctl = render->kvctl;
    struct keys *keys = &render->keys;
    struct kv_error error;
    struct kv_buf content;
    int status;
    int code = KVCTL_OK;

    kv_arena_deinit(&render->arena);
    kv_arena_init(&render->arena, ARENA_BYTES_MAX);
    *keys = (struct keys){
        .functions = {get, list},
        .source = kvctl_source_of(kvctl),
        .arena = &render->arena,
        .asked = {.arena = &render->arena},
    };
    status = kvctl_fetch_revision(&keys->source, &keys->revision, &error);
    render->read = status == 0;
    if (status < 0) {
        /* With --watch it is tried again and again, and said once. */
        bool known = render->away;

        render->away = true;
        return known ? (int)kvctl_exit_of(status, false) : kvctl_fail(kvctl, &error);
    }
    render->away = false;
    kv_buf_init(&content, KVCTL_RENDERED_BYTES_MAX);
    status =
        kvctl_template_render(render->template, &keys->functions, &render->arena, &content, &error);
    if (status < 0) {
        render->read = kv_status_retry(status) == KV_RETRY_NEVER && status != KV_COMPACTED;
        code = kvctl_fail(kvctl, &error);
    } else if (put_in_place(render, &content, &error) < 0) {
        code = kvctl_local_fault(kvctl, &error);
    }
    kv_buf_deinit(&content);
    return code;
}

/* ---------------------------------------------------------------- going on */

static void pause_ms(int64_t ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&time, &time) != 0) {
        /* the rest */
    }
}

/* Until something that was asked for changes. */
static int wait_for_change(struct render *render)
{
    struct kv_range_spec ranges[KVCTL_FOLLOW_RANGES_MAX];
    size_t n = make_ranges(&render->keys.asked, ranges);
    int64_t debounce_ms = render->kvctl->args.numbers[KVCTL_DEBOUNCE];
    struct kvctl_follow *follow;
    struct kv_error error;
    struct pollfd fd = {.events = POLLIN};
    int status = kvctl_follow_open(render->kvctl->client,
                                   ranges,
                                   n,
                                   render->keys.revision,
                                   "render",
                                   render->kvctl->err,
                                   &follow,
                                   &error);

    if (status < 0) {
        return kvctl_fail(render->kvctl, &error);
    }
    fd.fd = kvctl_follow_fd(follow);
    while (poll(&fd, 1, -1) < 0) {
        /* a signal came */
    }
    status = kvctl_follow_take(follow, &error);
    kvctl_follow_close(follow);
    if (status < 0) {
        return kvctl_fail(render->kvctl, &error);
    }
    pause_ms(debounce_ms ? debounce_ms : DEBOUNCE_DEFAULT_MS);
    return KVCTL_OK;
}

static int render_and_watch(struct render *render)
{
    int code = KVCTL_OK;

    while (code == KVCTL_OK) {
        /* What goes wrong is said; the next change may mend it. */
        int result = render_once(render);

        fflush(render->kvctl->out);
        if (result != KVCTL_OK && !render->read) {
            pause_ms(RETRY_MS);
        } else {
            code = wait_for_change(render);
        }
    }
    return code;
}

int kvctl_run_render(struct kvctl *kvctl)
{
    struct render render = {.kvctl = kvctl, .target = kvctl->args.arguments[1]};
    struct kvctl_template_loader loader = {load, NULL};
    struct kvctl_template *template;
    struct kv_error error;
    struct kv_arena arena;
    int code;

    if (kvctl->args.set[KVCTL_WATCH] && kvctl->args.set[KVCTL_ONCE]) {
        return kvctl_usage(kvctl, "render takes one of --watch and --once");
    }
    kv_arena_init(&arena, ARENA_BYTES_MAX);
    kv_arena_init(&render.arena, ARENA_BYTES_MAX);
    loader.arena = &arena;
    if (kvctl_template_compile(&arena, &loader, kvctl->args.arguments[0], &template, &error) < 0) {
        code = kvctl_local_fault(kvctl, &error);
    } else {
        render.template = template;
        code = kvctl->args.set[KVCTL_WATCH] ? render_and_watch(&render) : render_once(&render);
    }
    kv_arena_deinit(&render.arena);
    kv_arena_deinit(&arena);
    return code;
}
