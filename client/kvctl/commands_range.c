/* kvctl's commands on ranges: range, ls, count, del. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <stdlib.h>

/* --prefix, --from and --to, --all; KVCTL_OK or KVCTL_USAGE. Without any: everything. */
int kvctl_select_range(struct kvctl *kvctl,
                       const struct kvctl_args *args,
                       struct kv_range_spec *ret_spec)
{
    bool between = args->set[KVCTL_FROM] || args->set[KVCTL_TO];

    if (args->set[KVCTL_PREFIX] + between + args->set[KVCTL_ALL] > 1) {
        return kvctl_usage(
            kvctl, "%s takes one of --prefix, --from/--to and --all", args->command->name);
    }
    *ret_spec = (struct kv_range_spec){.kind = KV_RANGE_ALL};
    if (args->set[KVCTL_PREFIX]) {
        ret_spec->kind = args->strings[KVCTL_PREFIX][0] ? KV_RANGE_PREFIX : KV_RANGE_ALL;
        ret_spec->start = kv_bytes_str(args->strings[KVCTL_PREFIX]);
        return KVCTL_OK;
    }
    if (args->set[KVCTL_FROM]) {
        ret_spec->kind = KV_RANGE_FROM;
        ret_spec->start = kv_bytes_str(args->strings[KVCTL_FROM]);
    }
    if (args->set[KVCTL_TO]) {
        ret_spec->kind = KV_RANGE_BETWEEN;
        ret_spec->end = kv_bytes_str(args->strings[KVCTL_TO]);
        if (!args->set[KVCTL_FROM]) {
            /* The least key there can be. */
            ret_spec->start = kv_bytes_of("\0", 1);
        }
    }
    return KVCTL_OK;
}

static int count_range(struct kvctl *kvctl, const struct kv_range_spec *spec)
{
    struct kv_get_options options = {
        .at_revision = kvctl->args.numbers[KVCTL_AT],
        .call = kvctl_call_options(kvctl),
    };
    struct kv_error error;
    uint64_t count;

    if (kv_count(kvctl->client, spec, &options, &count, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    fprintf(kvctl->out,
            kvctl->args.format == KVCTL_JSON ? "{\"count\":%" PRIu64 "}\n" : "%" PRIu64 "\n",
            count);
    return KVCTL_OK;
}

static void print_row(struct kvctl *kvctl, const struct kv_pair *pair, bool keys_only, bool first)
{
    switch (kvctl->args.format) {
    case KVCTL_TEXT:
        kvctl_print_escaped(kvctl->out, pair->key);
        if (!keys_only) {
            fputc('\t', kvctl->out);
            kvctl_print_text_value(kvctl->out, pair);
        }
        fputc('\n', kvctl->out);
        break;
    case KVCTL_JSON:
        fputs(first ? "{\"kvs\":[" : ",", kvctl->out);
        kvctl_print_json_pair(kvctl->out, pair, keys_only);
        break;
    case KVCTL_VALUE:
        if (keys_only) {
            kvctl_print_raw(kvctl->out, pair->key);
        } else {
            kvctl_print_raw(kvctl->out, pair->value);
        }
        fputc('\n', kvctl->out);
        break;
    }
}

static int list_range(struct kvctl *kvctl, const struct kv_range_spec *spec, bool keys_only)
{
    struct kv_range_options options = {
        .limit = (uint64_t)kvctl->args.numbers[KVCTL_LIMIT],
        .descending = kvctl->args.set[KVCTL_DESC],
        .keys_only = keys_only,
        .at_revision = kvctl->args.numbers[KVCTL_AT],
        .call = kvctl_call_options(kvctl),
    };
    struct kv_range_iterator *iterator;
    struct kv_error error;
    struct kv_pair pair;
    uint64_t count = 0;
    int status;

    if (kv_range(kvctl->client, spec, &options, &iterator, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    while ((status = kv_range_next(iterator, &pair, &error)) == 1) {
        print_row(kvctl, &pair, keys_only, count == 0);
        count++;
    }
    if (status == 0 && kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out,
                "%s],\"count\":%" PRIu64 ",\"revision\":%" PRId64 "}\n",
                count ? "" : "{\"kvs\":[",
                count,
                kv_range_revision(iterator));
    }
    kv_range_close(iterator);
    return status < 0 ? kvctl_fail(kvctl, &error) : KVCTL_OK;
}

int kvctl_run_range(struct kvctl *kvctl)
{
    struct kv_range_spec spec;
    int code = kvctl_select_range(kvctl, &kvctl->args, &spec);

    if (code != KVCTL_OK) {
        return code;
    }
    if (kvctl->args.set[KVCTL_COUNT_ONLY]) {
        return count_range(kvctl, &spec);
    }
    return list_range(kvctl, &spec, kvctl->args.set[KVCTL_KEYS_ONLY]);
}

int kvctl_run_ls(struct kvctl *kvctl)
{
    struct kv_range_spec spec;
    int code;

    if (kvctl->args.n_arguments == 1) {
        if (kvctl->args.set[KVCTL_PREFIX]) {
            return kvctl_usage(kvctl, "ls takes one prefix: PREFIX or --prefix PREFIX");
        }
        kvctl->args.set[KVCTL_PREFIX] = true;
        kvctl->args.strings[KVCTL_PREFIX] = kvctl->args.arguments[0];
    }
    code = kvctl_select_range(kvctl, &kvctl->args, &spec);
    if (code != KVCTL_OK) {
        return code;
    }
    return kvctl->args.set[KVCTL_COUNT_ONLY] ? count_range(kvctl, &spec)
                                             : list_range(kvctl, &spec, true);
}

int kvctl_range_message(struct kvctl_call *call, Kv__KeyRange **ret_range)
{
    static const Kv__KeyRange__Special specials[] = {
        [KV_RANGE_PREFIX] = KV__KEY_RANGE__SPECIAL__PREFIX,
        [KV_RANGE_FROM] = KV__KEY_RANGE__SPECIAL__FROM_KEY,
        [KV_RANGE_ALL] = KV__KEY_RANGE__SPECIAL__ALL,
    };
    Kv__KeyRange *range = kvctl_alloc(call, sizeof *range);
    struct kv_range_spec spec;
    int code = kvctl_select_range(call->kvctl, call->args, &spec);

    if (code != KVCTL_OK) {
        return code;
    }
    kv__key_range__init(range);
    range->special = specials[spec.kind];
    range->start = (ProtobufCBinaryData){spec.start.size, (uint8_t *)spec.start.data};
    range->end = (ProtobufCBinaryData){spec.end.size, (uint8_t *)spec.end.data};
    *ret_range = range;
    return KVCTL_OK;
}

int kvctl_fill_count(struct kvctl_call *call)
{
    Kv__Count *count = kvctl_begin(call, KV__REQUEST__COMMAND_COUNT);

    count->at_revision = call->args->numbers[KVCTL_AT];
    return kvctl_range_message(call, &count->range);
}

/* ---------------------------------------------------------------- del */

/* 1: a range, 0: keys, -1: neither or both, which is said. */
static int is_ranged(struct kvctl *kvctl, const struct kvctl_args *args)
{
    const bool *set = args->set;
    bool ranged = set[KVCTL_PREFIX] || set[KVCTL_FROM] || set[KVCTL_TO] || set[KVCTL_ALL];

    if (ranged == (args->n_arguments > 0)) {
        kvctl_usage(kvctl, "del wants either keys or one of --prefix, --from/--to and --all");
        return -1;
    }
    if (ranged && set[KVCTL_PREV]) {
        kvctl_usage(kvctl, "del --prev works with keys, not with a range");
        return -1;
    }
    return ranged;
}

int kvctl_fill_del(struct kvctl_call *call)
{
    Kv__Delete *command = kvctl_begin(call, KV__REQUEST__COMMAND_DELETE);

    switch (is_ranged(call->kvctl, call->args)) {
    case 0:
        command->keys = kvctl_words(call, 0, &command->n_keys);
        command->return_previous = call->args->set[KVCTL_PREV];
        return KVCTL_OK;
    case 1:
        command->n_ranges = 1;
        command->ranges = kvctl_alloc(call, sizeof *command->ranges);
        return kvctl_range_message(call, command->ranges);
    default:
        return KVCTL_USAGE;
    }
}

int kvctl_print_deleted(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__DeleteResult *result = reply->delete_;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fprintf(out, json ? "{\"deleted\":%" PRIu64 : "%" PRIu64 "\n", result->deleted);
    fputs(json && result->n_previous ? ",\"previous\":[" : "", out);
    for (size_t i = 0; i < result->n_previous; i++) {
        struct kv_pair pair = kvctl_pair(result->previous[i]);

        if (json) {
            fputs(i ? "," : "", out);
            kvctl_print_json_pair(out, &pair, false);
        } else {
            kvctl_print_escaped(out, pair.key);
            fputc('\t', out);
            kvctl_print_text_value(out, &pair);
            fputc('\n', out);
        }
    }
    if (json) {
        fputs(result->n_previous ? "]" : "", out);
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static int delete_range(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_range_spec spec;
    struct kv_error error;
    uint64_t deleted = 0;
    int code = kvctl_select_range(kvctl, &kvctl->args, &spec);
    int status;

    if (code != KVCTL_OK) {
        return code;
    }
    status = kv_delete_range(
        kvctl->client, &spec, kvctl->args.set[KVCTL_ATOMIC], &options, &deleted, &error);
    if (status == 0 || deleted > 0) {
        fprintf(kvctl->out,
                kvctl->args.format == KVCTL_JSON ? "{\"deleted\":%" PRIu64 "}\n" : "%" PRIu64 "\n",
                deleted);
    }
    return status < 0 ? kvctl_fail(kvctl, &error) : KVCTL_OK;
}

int kvctl_run_del(struct kvctl *kvctl)
{
    switch (is_ranged(kvctl, &kvctl->args)) {
    case 0:
        return kvctl_run_request(kvctl);
    case 1:
        /* In pieces, unless asked for otherwise. */
        return delete_range(kvctl);
    default:
        return KVCTL_USAGE;
    }
}
