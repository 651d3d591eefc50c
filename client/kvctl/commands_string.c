/* kvctl's commands on single keys. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <stdlib.h>

static struct kv_get_options get_options(const struct kvctl *kvctl)
{
    return (struct kv_get_options){
        .at_revision = kvctl->args.numbers[KVCTL_AT],
        .call = kvctl_call_options(kvctl),
    };
}

/* The value argument; KVCTL_OK or an exit code. */
static int
read_argument(struct kvctl *kvctl, size_t i, struct kv_bytes *ret_value, void **ret_memory)
{
    struct kv_error error;
    int status = kvctl_read_value(kvctl->args.arguments[i], stdin, ret_value, ret_memory, &error);

    if (status < 0) {
        fprintf(kvctl->err, "kvctl: %s\n", error.message);
        return status == KV_TOO_LARGE ? KVCTL_REFUSED : KVCTL_LOCAL;
    }
    return KVCTL_OK;
}

/* A key's value: text escaped and a line, value exactly as it is. */
static void print_pair(struct kvctl *kvctl, const struct kv_pair *pair)
{
    switch (kvctl->args.format) {
    case KVCTL_TEXT:
        kvctl_print_escaped(kvctl->out, pair->value);
        fputc('\n', kvctl->out);
        break;
    case KVCTL_JSON:
        kvctl_print_json_pair(kvctl->out, pair, false);
        fputc('\n', kvctl->out);
        break;
    case KVCTL_VALUE:
        kvctl_print_raw(kvctl->out, pair->value);
        break;
    }
}

static void print_number(struct kvctl *kvctl, const char *name, uint64_t number)
{
    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out, "{\"%s\":%" PRIu64 "}\n", name, number);
    } else {
        fprintf(kvctl->out, "%" PRIu64 "\n", number);
    }
}

/* ---------------------------------------------------------------- put */

/* KVCTL_OK or KVCTL_USAGE. */
static int put_condition(struct kvctl *kvctl, struct kv_put_options *options)
{
    static const struct {
        enum kvctl_option_id id;
        enum kv_put_condition condition;
    } conditions[] = {
        {KVCTL_IF_ABSENT, KV_PUT_IF_ABSENT},
        {KVCTL_IF_PRESENT, KV_PUT_IF_PRESENT},
        {KVCTL_IF_REV, KV_PUT_IF_MOD_REVISION},
        {KVCTL_IF_VALUE, KV_PUT_IF_VALUE},
    };

    for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
        if (!kvctl->args.set[conditions[i].id]) {
            continue;
        }
        if (options->condition != KV_PUT_ALWAYS) {
            return kvctl_usage(
                kvctl, "put takes one of --if-absent, --if-present, --if-rev and --if-value");
        }
        options->condition = conditions[i].condition;
    }
    options->mod_revision = kvctl->args.numbers[KVCTL_IF_REV];
    if (kvctl->args.set[KVCTL_IF_VALUE]) {
        options->expected = kv_bytes_str(kvctl->args.strings[KVCTL_IF_VALUE]);
    }
    options->return_previous = kvctl->args.set[KVCTL_PREV];
    options->call = kvctl_call_options(kvctl);
    return KVCTL_OK;
}

static void print_put(struct kvctl *kvctl, const struct kv_put_result *result, bool done)
{
    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out,
                "{\"done\":%s,\"revision\":%" PRId64,
                done ? "true" : "false",
                result->revision);
        if (done) {
            fprintf(kvctl->out, ",\"version\":%" PRId64, result->version);
        }
        if (result->had_previous) {
            fputs(",\"previous\":", kvctl->out);
            kvctl_print_json_pair(kvctl->out, &result->previous, false);
        }
        fputs("}\n", kvctl->out);
        return;
    }
    if (done && kvctl->args.format == KVCTL_TEXT) {
        fprintf(kvctl->out, "OK, revision %" PRId64 "\n", result->revision);
    }
    if (result->had_previous) {
        print_pair(kvctl, &result->previous);
    }
}

int kvctl_run_put(struct kvctl *kvctl)
{
    struct kv_put_options options = {0};
    struct kv_put_result result = {0};
    struct kv_error error;
    struct kv_bytes value;
    void *memory = NULL;
    int code;
    int status;

    code = put_condition(kvctl, &options);
    if (code == KVCTL_OK) {
        code = read_argument(kvctl, 1, &value, &memory);
    }
    if (code != KVCTL_OK) {
        return code;
    }
    status = kv_put(kvctl->client, kvctl_argument(kvctl, 0), value, &options, &result, &error);
    free(memory);
    if (status == 0 || result.had_previous) {
        print_put(kvctl, &result, status == 0);
    }
    kv_pair_free(&result.previous);
    return status < 0 ? kvctl_fail(kvctl, &error) : KVCTL_OK;
}

/* ---------------------------------------------------------------- the others */

int kvctl_run_get(struct kvctl *kvctl)
{
    struct kv_get_options options = get_options(kvctl);
    struct kv_error error;
    struct kv_pair pair;

    if (kv_get(kvctl->client, kvctl_argument(kvctl, 0), &options, &pair, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_pair(kvctl, &pair);
    kv_pair_free(&pair);
    return KVCTL_OK;
}

int kvctl_run_append(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    struct kv_bytes value;
    uint64_t length;
    void *memory;
    int code = read_argument(kvctl, 1, &value, &memory);
    int status;

    if (code != KVCTL_OK) {
        return code;
    }
    status = kv_append(kvctl->client, kvctl_argument(kvctl, 0), value, &options, &length, &error);
    free(memory);
    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_number(kvctl, "length", length);
    return KVCTL_OK;
}

int kvctl_run_getset(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    struct kv_bytes value;
    struct kv_pair previous;
    void *memory;
    int code = read_argument(kvctl, 1, &value, &memory);
    int status;

    if (code != KVCTL_OK) {
        return code;
    }
    status = kv_getset(kvctl->client, kvctl_argument(kvctl, 0), value, &options, &previous, &error);
    free(memory);
    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    if (previous.version != 0) {
        print_pair(kvctl, &previous);
    } else if (kvctl->args.format == KVCTL_JSON) {
        fputs("null\n", kvctl->out);
    }
    kv_pair_free(&previous);
    return KVCTL_OK;
}

int kvctl_run_getdel(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    struct kv_pair previous;

    if (kv_getdel(kvctl->client, kvctl_argument(kvctl, 0), &options, &previous, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_pair(kvctl, &previous);
    kv_pair_free(&previous);
    return KVCTL_OK;
}

int kvctl_run_strlen(struct kvctl *kvctl)
{
    struct kv_get_options options = get_options(kvctl);
    struct kv_error error;
    uint64_t length;

    if (kv_strlen(kvctl->client, kvctl_argument(kvctl, 0), &options, &length, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_number(kvctl, "length", length);
    return KVCTL_OK;
}

int kvctl_run_getrange(struct kvctl *kvctl)
{
    struct kv_get_options options = get_options(kvctl);
    struct kv_error error;
    struct kv_pair pair;
    int64_t first;
    int64_t last;
    int status;

    if (!kvctl_parse_number(kvctl->args.arguments[1], INT64_MIN, INT64_MAX, &first) ||
        !kvctl_parse_number(kvctl->args.arguments[2], INT64_MIN, INT64_MAX, &last)) {
        return kvctl_usage(kvctl, "getrange wants two numbers after the key: FIRST and LAST");
    }
    status =
        kv_get_range(kvctl->client, kvctl_argument(kvctl, 0), first, last, &options, &pair, &error);
    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fputc('{', kvctl->out);
        kvctl_print_json_bytes(kvctl->out, "value", pair.value);
        fputs("}\n", kvctl->out);
    } else {
        print_pair(kvctl, &pair);
    }
    kv_pair_free(&pair);
    return KVCTL_OK;
}

int kvctl_run_setrange(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    struct kv_bytes value;
    int64_t offset;
    uint64_t length;
    void *memory;
    int code;
    int status;

    if (!kvctl_parse_number(kvctl->args.arguments[1], 0, INT64_MAX, &offset)) {
        return kvctl_usage(kvctl, "setrange wants a number after the key: OFFSET");
    }
    code = read_argument(kvctl, 2, &value, &memory);
    if (code != KVCTL_OK) {
        return code;
    }
    status = kv_set_range(kvctl->client,
                          kvctl_argument(kvctl, 0),
                          (uint64_t)offset,
                          value,
                          &options,
                          &length,
                          &error);
    free(memory);
    if (status < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_number(kvctl, "length", length);
    return KVCTL_OK;
}

static void
print_exists(struct kvctl *kvctl, const struct kv_bytes *keys, const bool *present, size_t n_keys)
{
    bool json = kvctl->args.format == KVCTL_JSON;

    fputs(json ? "[" : "", kvctl->out);
    for (size_t i = 0; i < n_keys; i++) {
        if (json) {
            fputs(i ? ",{" : "{", kvctl->out);
            kvctl_print_json_bytes(kvctl->out, "key", keys[i]);
            fprintf(kvctl->out, ",\"exists\":%s}", present[i] ? "true" : "false");
        } else {
            kvctl_print_escaped(kvctl->out, keys[i]);
            fprintf(kvctl->out, "\t%s\n", present[i] ? "yes" : "no");
        }
    }
    fputs(json ? "]\n" : "", kvctl->out);
}

int kvctl_run_exists(struct kvctl *kvctl)
{
    struct kv_get_options options = get_options(kvctl);
    size_t n_keys = kvctl->args.n_arguments;
    struct kv_bytes *keys = calloc(n_keys, sizeof *keys);
    bool *present = calloc(n_keys, sizeof *present);
    struct kv_error error = {.status = KV_NO_MEMORY, .message = "out of memory"};
    uint64_t count = 0;
    int code;

    for (size_t i = 0; keys && i < n_keys; i++) {
        keys[i] = kvctl_argument(kvctl, i);
    }
    if (!keys || !present ||
        kv_exists(kvctl->client, keys, n_keys, &options, present, &count, &error) < 0) {
        code = kvctl_fail(kvctl, &error);
    } else {
        print_exists(kvctl, keys, present, n_keys);
        code = count == n_keys ? KVCTL_OK : KVCTL_NOT_MET;
    }
    free(keys);
    free(present);
    return code;
}
