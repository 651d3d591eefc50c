/* kvctl's commands on keys of any type, and on their past. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>
#include <kv/keys.h>

int kvctl_fill_exists(struct kvctl_call *call)
{
    Kv__Exists *command = kvctl_begin(call, KV__REQUEST__COMMAND_EXISTS);

    command->keys = kvctl_words(call, 0, &command->n_keys);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

int kvctl_print_exists(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__ExistsResult *result = reply->exists;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fputs(json ? "[" : "", out);
    for (size_t i = 0; i < result->n_present; i++) {
        ProtobufCBinaryData key = kvctl_word(call, i);

        if (json) {
            fputs(i ? ",{" : "{", out);
            kvctl_print_json_bytes(out, "key", kv_bytes_of(key.data, key.len));
            fprintf(out, ",\"exists\":%s}", result->present[i] ? "true" : "false");
        } else {
            kvctl_print_escaped(out, kv_bytes_of(key.data, key.len));
            fprintf(out, "\t%s\n", result->present[i] ? "yes" : "no");
        }
    }
    fputs(json ? "]\n" : "", out);
    return result->count == call->args->n_arguments ? KVCTL_OK : KVCTL_NOT_MET;
}

int kvctl_fill_type(struct kvctl_call *call)
{
    Kv__TypeOf *command = kvctl_begin(call, KV__REQUEST__COMMAND_TYPE);

    command->key = kvctl_word(call, 0);
    command->at_revision = call->args->numbers[KVCTL_AT];
    return KVCTL_OK;
}

int kvctl_print_type(struct kvctl_call *call, const Kv__Reply *reply)
{
    const char *name = kv_type_name((enum kv_type)reply->type->type);

    if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out, "{\"type\":\"%s\"", name);
        kvctl_show_end(call, reply);
    } else {
        fprintf(call->kvctl->out, "%s\n", name);
    }
    return KVCTL_OK;
}

int kvctl_fill_rename(struct kvctl_call *call)
{
    Kv__Rename *command = kvctl_begin(call, KV__REQUEST__COMMAND_RENAME);

    command->key = kvctl_word(call, 0);
    command->to = kvctl_word(call, 1);
    command->if_absent = call->args->set[KVCTL_NX];
    return KVCTL_OK;
}

int kvctl_fill_copy(struct kvctl_call *call)
{
    Kv__Copy *command = kvctl_begin(call, KV__REQUEST__COMMAND_COPY);

    command->key = kvctl_word(call, 0);
    command->to = kvctl_word(call, 1);
    command->if_absent = call->args->set[KVCTL_NX];
    return KVCTL_OK;
}

int kvctl_fill_touch(struct kvctl_call *call)
{
    Kv__Touch *command = kvctl_begin(call, KV__REQUEST__COMMAND_TOUCH);

    command->keys = kvctl_words(call, 0, &command->n_keys);
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- the past */

int kvctl_fill_history(struct kvctl_call *call)
{
    Kv__KeyHistory *command = kvctl_begin(call, KV__REQUEST__COMMAND_KEY_HISTORY);

    command->key = kvctl_word(call, 0);
    command->from_revision = call->args->numbers[KVCTL_FROM_REVISION];
    command->to_revision = call->args->numbers[KVCTL_TO_REVISION];
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    command->descending = call->args->set[KVCTL_DESC];
    return KVCTL_OK;
}

static void show_version_json(FILE *out, const Kv__KeyVersion *version)
{
    struct kv_pair pair = kvctl_pair(version->kv);

    if (version->deleted) {
        fprintf(out, "{\"deleted\":true,\"mod_revision\":%" PRId64 "}", pair.mod_revision);
    } else {
        kvctl_print_json_pair(out, &pair, false);
    }
}

static void show_version(struct kvctl_call *call, const Kv__KeyVersion *version)
{
    const Kv__KeyValue *kv = version->kv;
    struct kv_pair pair = kvctl_pair(kv);
    FILE *out = call->kvctl->out;

    if (call->args->format == KVCTL_VALUE) {
        kvctl_print_raw(out, kv_bytes_of(kv->value.data, kv->value.len));
        fputc('\n', out);
        return;
    }
    fprintf(out, "%" PRId64 "\t", kv->mod_revision);
    if (version->deleted) {
        fputs("(deleted)\n", out);
        return;
    }
    fprintf(out, "%" PRId64 "\t%s\t", kv->version, kv_type_name(pair.type));
    kvctl_print_text_value(out, &pair);
    fputc('\n', out);
}

int kvctl_print_history(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__KeyHistoryResult *result = reply->key_history;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fputs(json ? "{\"versions\":[" : "", out);
    for (size_t i = 0; i < result->n_versions; i++) {
        if (!result->versions[i]->kv) {
            continue;
        }
        if (json) {
            fputs(i ? "," : "", out);
            show_version_json(out, result->versions[i]);
        } else {
            show_version(call, result->versions[i]);
        }
    }
    if (json) {
        fprintf(out, "],\"more\":%s", result->more ? "true" : "false");
        kvctl_show_end(call, reply);
    } else if (result->more && !call->args->set[KVCTL_LIMIT]) {
        fputs("kvctl: there is more: use --from-rev or --to-rev\n", call->kvctl->err);
    }
    return KVCTL_OK;
}

int kvctl_fill_compact(struct kvctl_call *call)
{
    Kv__Compact *command = kvctl_begin(call, KV__REQUEST__COMMAND_COMPACT);

    return kvctl_integer(call, 0, "REVISION", &command->revision);
}

int kvctl_print_compact(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out, "{\"oldest_revision\":%" PRId64, reply->compact->oldest_revision);
        kvctl_show_end(call, reply);
    } else {
        fprintf(call->kvctl->out, "%" PRId64 "\n", reply->compact->oldest_revision);
    }
    return KVCTL_OK;
}
