/* kvctl's commands on strings. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>

static void show_pair(struct kvctl_call *call, const Kv__KeyValue *kv)
{
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        struct kv_pair pair = kvctl_pair(kv);

        kvctl_print_json_pair(out, &pair, false);
        return;
    }
    if (call->args->format == KVCTL_TEXT) {
        struct kv_pair pair = kvctl_pair(kv);

        kvctl_print_text_value(out, &pair);
        fputc('\n', out);
        return;
    }
    kvctl_show_bytes(call, "value", kv_bytes_of(kv->value.data, kv->value.len));
}

/* A key's value, or nothing where there was none before: text escaped and a line, value exactly. */
int kvctl_print_pair(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__KeyValue *kv = reply->get->kv;

    if (kv) {
        show_pair(call, kv);
    }
    if (call->args->format == KVCTL_JSON) {
        fputs(kv ? "\n" : "null\n", call->kvctl->out);
    }
    return KVCTL_OK;
}

static void show_length(struct kvctl_call *call, uint64_t length)
{
    fprintf(call->kvctl->out,
            call->args->format == KVCTL_JSON ? "{\"length\":%" PRIu64 "}\n" : "%" PRIu64 "\n",
            length);
}

/* Of append and setrange. */
int kvctl_print_length(struct kvctl_call *call, const Kv__Reply *reply)
{
    show_length(call, reply->append->length);
    return KVCTL_OK;
}

int kvctl_print_strlen(struct kvctl_call *call, const Kv__Reply *reply)
{
    show_length(call, reply->strlen->length);
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- put */

static void set_condition(const struct kvctl_args *args, enum kvctl_option_id id, Kv__Put *put)
{
    switch (id) {
    case KVCTL_IF_ABSENT:
        put->condition_case = KV__PUT__CONDITION_IF_ABSENT;
        put->if_absent = true;
        break;
    case KVCTL_IF_PRESENT:
        put->condition_case = KV__PUT__CONDITION_IF_PRESENT;
        put->if_present = true;
        break;
    case KVCTL_IF_REV:
        put->condition_case = KV__PUT__CONDITION_IF_MOD_REVISION;
        put->if_mod_revision = args->numbers[KVCTL_IF_REV];
        break;
    default:
        put->condition_case = KV__PUT__CONDITION_IF_VALUE;
        put->if_value = (ProtobufCBinaryData){kv_bytes_str(args->strings[KVCTL_IF_VALUE]).size,
                                              (uint8_t *)args->strings[KVCTL_IF_VALUE]};
    }
}

/* False: more than one is given. */
static bool set_expiry(const struct kvctl_args *args, Kv__Put *put)
{
    if (args->set[KVCTL_TTL]) {
        put->expiry_case = KV__PUT__EXPIRY_TTL_MS;
        put->ttl_ms = (uint64_t)args->numbers[KVCTL_TTL];
    } else if (args->set[KVCTL_LEASE]) {
        put->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
        put->lease_id = args->numbers[KVCTL_LEASE];
    } else if (args->set[KVCTL_KEEP]) {
        put->expiry_case = KV__PUT__EXPIRY_KEEP;
        put->keep = true;
    }
    return args->set[KVCTL_TTL] + args->set[KVCTL_LEASE] + args->set[KVCTL_KEEP] <= 1;
}

int kvctl_fill_put(struct kvctl_call *call)
{
    static const enum kvctl_option_id conditions[] = {
        KVCTL_IF_ABSENT, KVCTL_IF_PRESENT, KVCTL_IF_REV, KVCTL_IF_VALUE};
    Kv__Put *put = kvctl_begin(call, KV__REQUEST__COMMAND_PUT);

    for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
        if (!call->args->set[conditions[i]]) {
            continue;
        }
        if (put->condition_case != KV__PUT__CONDITION__NOT_SET) {
            return kvctl_usage(
                call->kvctl, "put takes one of --if-absent, --if-present, --if-rev and --if-value");
        }
        set_condition(call->args, conditions[i], put);
    }
    if (!set_expiry(call->args, put)) {
        return kvctl_usage(call->kvctl, "put takes one of --ttl, --lease and --keep");
    }
    put->return_previous = call->args->set[KVCTL_PREV];
    put->key = kvctl_word(call, 0);
    return kvctl_value(call, 1, &put->value);
}

int kvctl_print_put(struct kvctl_call *call, const Kv__Reply *reply)
{
    bool done = reply->code == KV__CODE__OK;
    const Kv__PutResult *result = reply->put;
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_JSON) {
        /* A refusal without what is there has nothing to tell. */
        if (!done && !result->previous) {
            return KVCTL_OK;
        }
        fprintf(out, "{\"done\":%s", done ? "true" : "false");
        fprintf(out, ",\"revision\":%" PRId64, reply->revision);
        if (done) {
            fprintf(out, ",\"version\":%" PRId64, result->version);
        }
        if (result->previous) {
            fputs(",\"previous\":", out);
            show_pair(call, result->previous);
        }
        fputs("}\n", out);
        return KVCTL_OK;
    }
    if (done && call->args->format == KVCTL_TEXT) {
        fputs("OK", out);
        if (!call->nested) {
            fprintf(out, ", revision %" PRId64, reply->revision);
        }
        fputc('\n', out);
    }
    if (result->previous) {
        show_pair(call, result->previous);
    }
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- the others */

int kvctl_fill_get(struct kvctl_call *call)
{
    Kv__Get *get = kvctl_begin(call, KV__REQUEST__COMMAND_GET);

    get->key = kvctl_word(call, 0);
    get->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

int kvctl_fill_append(struct kvctl_call *call)
{
    Kv__Append *append = kvctl_begin(call, KV__REQUEST__COMMAND_APPEND);

    append->key = kvctl_word(call, 0);
    return kvctl_value(call, 1, &append->value);
}

int kvctl_fill_getset(struct kvctl_call *call)
{
    Kv__GetSet *getset = kvctl_begin(call, KV__REQUEST__COMMAND_GETSET);

    getset->key = kvctl_word(call, 0);
    return kvctl_value(call, 1, &getset->value);
}

int kvctl_fill_getdel(struct kvctl_call *call)
{
    Kv__GetDel *getdel = kvctl_begin(call, KV__REQUEST__COMMAND_GETDEL);

    getdel->key = kvctl_word(call, 0);
    return KVCTL_OK;
}

int kvctl_fill_strlen(struct kvctl_call *call)
{
    Kv__StrLen *command = kvctl_begin(call, KV__REQUEST__COMMAND_STRLEN);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

int kvctl_fill_getrange(struct kvctl_call *call)
{
    Kv__GetRange *range = kvctl_begin(call, KV__REQUEST__COMMAND_GET_RANGE);
    int code = kvctl_integer(call, 1, "FIRST", &range->first);

    if (code == KVCTL_OK) {
        code = kvctl_integer(call, 2, "LAST", &range->last);
    }
    range->key = kvctl_word(call, 0);
    range->at_revision = call->args->numbers[KVCTL_AT];
    return code;
}

int kvctl_print_part(struct kvctl_call *call, const Kv__Reply *reply)
{
    bool json = call->args->format == KVCTL_JSON;
    ProtobufCBinaryData value = reply->get_range->value;

    fputs(json ? "{" : "", call->kvctl->out);
    kvctl_show_bytes(call, "value", kv_bytes_of(value.data, value.len));
    fputs(json ? "}\n" : call->args->format == KVCTL_TEXT ? "\n" : "", call->kvctl->out);
    return KVCTL_OK;
}

int kvctl_fill_setrange(struct kvctl_call *call)
{
    Kv__SetRange *range = kvctl_begin(call, KV__REQUEST__COMMAND_SET_RANGE);
    int64_t offset = 0;

    if (!kvctl_parse_number(call->args->arguments[1], 0, INT64_MAX, &offset)) {
        return kvctl_usage(call->kvctl, "setrange wants a number after the key: OFFSET");
    }
    range->key = kvctl_word(call, 0);
    range->offset = (uint64_t)offset;
    return kvctl_value(call, 2, &range->value);
}
