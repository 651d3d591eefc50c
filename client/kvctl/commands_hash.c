/* kvctl's commands on hashes. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>

#define B KVCTL_BIT

static int fill_hset(struct kvctl_call *call)
{
    Kv__HashSet *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_SET);
    size_t n_words = call->args->n_arguments - 1;
    int code = KVCTL_OK;

    if (n_words % 2 != 0) {
        return kvctl_usage(call->kvctl, "hset wants a value after each field");
    }
    command->key = kvctl_word(call, 0);
    command->n_fields = n_words / 2;
    command->fields = kvctl_alloc(call, command->n_fields * sizeof *command->fields);
    command->if_absent = call->args->set[KVCTL_NX];
    for (size_t i = 0; i < command->n_fields && code == KVCTL_OK; i++) {
        Kv__HashField *field = kvctl_alloc(call, sizeof *field);

        kv__hash_field__init(field);
        field->name = kvctl_word(call, 1 + 2 * i);
        field->ttl_ms = (uint64_t)call->args->numbers[KVCTL_TTL];
        code = kvctl_value(call, 2 + 2 * i, &field->value);
        command->fields[i] = field;
    }
    return code;
}

static int fill_hget(struct kvctl_call *call)
{
    Kv__HashGet *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_GET);

    command->key = kvctl_word(call, 0);
    command->fields = kvctl_words(call, 1, &command->n_fields);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static bool complete(struct kvctl_call *call, const Kv__HashGetResult *result)
{
    size_t n_asked = call->args->n_arguments - 1;

    if (result->n_present == n_asked && result->n_values == n_asked) {
        return true;
    }
    fputs("kvctl: the server's reply has another number of fields\n", call->kvctl->err);
    return false;
}

static int print_hget(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__HashGetResult *result = reply->hash_get;
    bool json = call->args->format == KVCTL_JSON;

    if (!complete(call, result)) {
        return KVCTL_REFUSED;
    }
    if (!result->present[0]) {
        kvctl_show_nil(call);
        return KVCTL_NOT_MET;
    }
    fputs(json ? "{" : "", call->kvctl->out);
    kvctl_show_bytes(call, "value", kv_bytes_of(result->values[0].data, result->values[0].len));
    if (json) {
        kvctl_show_end(call, reply);
    } else if (call->args->format == KVCTL_TEXT) {
        fputc('\n', call->kvctl->out);
    }
    return KVCTL_OK;
}

struct shown_field {
    struct kv_bytes name;
    struct kv_bytes value;
    bool present;
    uint64_t ttl_ms; /* 0: it does not end by itself */
};

/* One field of several: name, tab, value; only the value with --output value. */
static void show_field(struct kvctl_call *call, const struct shown_field *field)
{
    FILE *out = call->kvctl->out;

    switch (call->args->format) {
    case KVCTL_JSON:
        fputc('{', out);
        kvctl_print_json_bytes(out, "name", field->name);
        fputc(',', out);
        if (field->present) {
            kvctl_print_json_bytes(out, "value", field->value);
        } else {
            fputs("\"value\":null", out);
        }
        if (field->ttl_ms > 0) {
            fprintf(out, ",\"ttl_ms\":%" PRIu64, field->ttl_ms);
        }
        fputc('}', out);
        return;
    case KVCTL_TEXT:
        kvctl_print_escaped(out, field->name);
        fputc('\t', out);
        break;
    case KVCTL_VALUE:
        break;
    }
    if (field->present) {
        kvctl_show_bytes(call, "value", field->value);
        fputc('\n', out);
    } else if (call->args->format == KVCTL_TEXT) {
        fputs("(nil)\n", out);
    } else {
        fputc('\n', out);
    }
}

static int print_hmget(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__HashGetResult *result = reply->hash_get;
    bool json = call->args->format == KVCTL_JSON;

    if (!complete(call, result)) {
        return KVCTL_REFUSED;
    }
    fputs(json ? "{\"fields\":[" : "", call->kvctl->out);
    for (size_t i = 0; i < result->n_values; i++) {
        ProtobufCBinaryData name = kvctl_word(call, 1 + i);

        fputs(json && i ? "," : "", call->kvctl->out);
        show_field(call,
                   &(struct shown_field){
                       .name = kv_bytes_of(name.data, name.len),
                       .value = kv_bytes_of(result->values[i].data, result->values[i].len),
                       .present = result->present[i],
                   });
    }
    if (json) {
        fputc(']', call->kvctl->out);
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static int fill_hgetall(struct kvctl_call *call)
{
    Kv__HashGetAll *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_GET_ALL);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_hscan(struct kvctl_call *call)
{
    Kv__HashScan *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_SCAN);

    command->key = kvctl_word(call, 0);
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    command->at_revision = call->args->numbers[KVCTL_AT];
    return kvctl_cursor(call, &command->cursor);
}

static int print_fields(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__HashFieldsResult *result = reply->hash_scan;
    bool json = call->args->format == KVCTL_JSON;

    fputs(json ? "{\"fields\":[" : "", call->kvctl->out);
    for (size_t i = 0; i < result->n_fields; i++) {
        const Kv__HashField *field = result->fields[i];

        fputs(json && i ? "," : "", call->kvctl->out);
        show_field(call,
                   &(struct shown_field){
                       .name = kv_bytes_of(field->name.data, field->name.len),
                       .value = kv_bytes_of(field->value.data, field->value.len),
                       .present = true,
                       .ttl_ms = field->ttl_ms,
                   });
    }
    fputs(json ? "]" : "", call->kvctl->out);
    if (result->more) {
        kvctl_show_more(call, &result->cursor);
    }
    if (json) {
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static int fill_hdel(struct kvctl_call *call)
{
    Kv__HashDelete *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_DELETE);

    command->key = kvctl_word(call, 0);
    command->fields = kvctl_words(call, 1, &command->n_fields);
    return KVCTL_OK;
}

static int fill_hexists(struct kvctl_call *call)
{
    Kv__HashExists *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_EXISTS);

    command->key = kvctl_word(call, 0);
    command->fields = kvctl_words(call, 1, &command->n_fields);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_hlen(struct kvctl_call *call)
{
    Kv__HashLen *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_LEN);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

static int fill_hincrby(struct kvctl_call *call)
{
    Kv__HashAdd *command = kvctl_begin(call, KV__REQUEST__COMMAND_HASH_ADD);

    command->key = kvctl_word(call, 0);
    command->field = kvctl_word(call, 1);
    return kvctl_integer(call, 2, "N", &command->delta);
}

/* ---------------------------------------------------------------- the table */

static const struct kvctl_command hash_commands[] = {
    {.name = "hset",
     .arguments = "KEY FIELD VALUE [FIELD VALUE]...",
     .min_arguments = 3,
     .max_arguments = -1,
     .options = B(KVCTL_NX) | B(KVCTL_TTL),
     .writes = true,
     .summary = "set fields of a hash",
     .details = "Prints how many are new. With --nx only if none of them is there (else exit code "
                "2).\nWith --ttl these fields end by themselves, without it they do not.\nVALUE is "
                "the text itself, - for standard input, @FILE for a file's content, "
                "@@TEXT for @TEXT.",
     .example = "kvctl hset user:42 name Ada city Paris",
     .fill = fill_hset,
     .print = kvctl_show_count},
    {.name = "hget",
     .arguments = "KEY FIELD",
     .min_arguments = 2,
     .max_arguments = 2,
     .options = B(KVCTL_AT),
     .summary = "print a field of a hash",
     .details = "(nil) and exit code 2 when it is not there.",
     .example = "kvctl hget user:42 name",
     .fill = fill_hget,
     .print = print_hget},
    {.name = "hmget",
     .arguments = "KEY FIELD...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_AT),
     .summary = "print some fields of a hash",
     .details = "Text: field, tab, value; (nil) where there is none.",
     .example = "kvctl hmget user:42 name city",
     .fill = fill_hget,
     .print = print_hmget},
    {.name = "hgetall",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_AT),
     .summary = "print all fields of a hash, in bytewise order",
     .details = "Text: field, tab, value. One that is too large for a reply: hscan.",
     .example = "kvctl hgetall user:42",
     .fill = fill_hgetall,
     .print = print_fields},
    {.name = "hscan",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_CURSOR) | B(KVCTL_LIMIT) | B(KVCTL_AT),
     .summary = "print fields of a hash in pieces",
     .details = "When there is more, says with which --cursor to go on (JSON: more, cursor); with "
                "--at REVISION\nall pieces are of one revision.",
     .example = "kvctl hscan user:42 --limit 100",
     .fill = fill_hscan,
     .print = print_fields},
    {.name = "hdel",
     .arguments = "KEY FIELD...",
     .min_arguments = 2,
     .max_arguments = -1,
     .writes = true,
     .summary = "delete fields of a hash",
     .details = "Prints how many were there.",
     .example = "kvctl hdel user:42 city",
     .fill = fill_hdel,
     .print = kvctl_show_count},
    {.name = "hexists",
     .arguments = "KEY FIELD...",
     .min_arguments = 2,
     .max_arguments = -1,
     .options = B(KVCTL_AT),
     .summary = "say which fields a hash has",
     .details = "Exit code 2 when one is missing.",
     .example = "kvctl hexists user:42 name",
     .fill = fill_hexists,
     .print = kvctl_show_present},
    {.name = "hlen",
     .arguments = "KEY",
     .min_arguments = 1,
     .max_arguments = 1,
     .options = B(KVCTL_AT),
     .summary = "count the fields of a hash",
     .example = "kvctl hlen user:42",
     .fill = fill_hlen,
     .print = kvctl_show_count},
    {.name = "hincrby",
     .arguments = "KEY FIELD N",
     .min_arguments = 3,
     .max_arguments = 3,
     .writes = true,
     .summary = "add to a field that holds a number, print it",
     .details = "A field that is not there begins at 0; one that hset wrote holds bytes, not a "
                "number.",
     .example = "kvctl hincrby user:42 logins 1",
     .fill = fill_hincrby,
     .print = kvctl_show_counter},
};
const struct kvctl_group kvctl_hash_group = {
    "hashes",
    hash_commands,
    sizeof hash_commands / sizeof hash_commands[0],
};
