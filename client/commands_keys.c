/* The typed calls on keys of any type, and on their past. */
#include "client/typed.h"

#include <kv/keys.h>
#include <stdlib.h>

const char *kv_type_name(enum kv_type type)
{
    static const char *const names[] = {
        "none", "string", "counter", "hash", "list", "set", "zset", "limiter"};

    return (unsigned)type < sizeof names / sizeof names[0] ? names[type] : "?";
}

int kv_type_of(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_get_options *options,
               enum kv_type *ret_type,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__TypeOf command = KV__TYPE_OF__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = options ? options->at_revision : 0;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_TYPE, &command, &reply);
    if (status == 0) {
        *ret_type = (enum kv_type)reply->type->type;
    }
    kv_reply_free(reply);
    return status;
}

int kv_rename(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes to,
              bool if_absent,
              const struct kv_call_options *options,
              struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Rename command = KV__RENAME__INIT;

    command.key = kv_bytes_to_proto(key);
    command.to = kv_bytes_to_proto(to);
    command.if_absent = if_absent;
    return kv_typed_done(&typed, KV__REQUEST__COMMAND_RENAME, &command);
}

int kv_copy(struct kv_client *client,
            struct kv_bytes key,
            struct kv_bytes to,
            bool if_absent,
            const struct kv_call_options *options,
            struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Copy command = KV__COPY__INIT;

    command.key = kv_bytes_to_proto(key);
    command.to = kv_bytes_to_proto(to);
    command.if_absent = if_absent;
    return kv_typed_done(&typed, KV__REQUEST__COMMAND_COPY, &command);
}

int kv_touch(struct kv_client *client,
             const struct kv_bytes *keys,
             size_t n_keys,
             const struct kv_call_options *options,
             uint64_t *ret_touched,
             struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Touch command = KV__TOUCH__INIT;
    int status;

    command.n_keys = n_keys;
    command.keys = kv_typed_list(keys, n_keys);
    if (!command.keys) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_TOUCH, &command, ret_touched);
    free(command.keys);
    return status;
}

/* ---------------------------------------------------------------- the past */

static int
take_history(const struct kv_typed *typed, Kv__Reply *reply, struct kv_history *ret_history)
{
    const Kv__KeyHistoryResult *result = reply->key_history;
    struct kv_version *versions = calloc(result->n_versions + 1, sizeof *versions);

    if (!versions) {
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < result->n_versions; i++) {
        const Kv__KeyVersion *version = result->versions[i];

        if (!version->kv) {
            free(versions);
            return kv_missing_result(typed->error);
        }
        versions[i].pair = kv_pair_of_proto(version->kv, reply->revision);
        versions[i].deleted = version->deleted;
    }
    *ret_history = (struct kv_history){
        .n_versions = result->n_versions,
        .versions = versions,
        .more = result->more,
        .revision = reply->revision,
        .memory = reply,
    };
    return 0;
}

int kv_key_history(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_history_options *options,
                   struct kv_history *ret_history,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__KeyHistory command = KV__KEY_HISTORY__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    if (options) {
        command.from_revision = options->from_revision;
        command.to_revision = options->to_revision;
        command.limit = options->limit;
        command.descending = options->descending;
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_KEY_HISTORY, &command, &reply);
    if (status == 0) {
        status = take_history(&typed, reply, ret_history);
    }
    if (status < 0) {
        kv_reply_free(reply);
    }
    return status;
}

void kv_history_free(struct kv_history *history)
{
    if (history) {
        kv_reply_free(history->memory);
        free(history->versions);
        *history = (struct kv_history){0};
    }
}

/* ---------------------------------------------------------------- how long it lives */

int kv_expire(struct kv_client *client,
              struct kv_bytes key,
              uint64_t ttl_ms,
              const struct kv_call_options *options,
              struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Expire command = KV__EXPIRE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
    command.ttl_ms = ttl_ms;
    return kv_typed_done(&typed, KV__REQUEST__COMMAND_EXPIRE, &command);
}

int kv_persist(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_call_options *options,
               bool *ret_done,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Persist command = KV__PERSIST__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_PERSIST, &command, &reply);
    if (status == 0 && ret_done) {
        *ret_done = reply->persist->done;
    }
    kv_reply_free(reply);
    return status;
}

int kv_ttl(struct kv_client *client,
           struct kv_bytes key,
           const struct kv_call_options *options,
           struct kv_ttl *ret_ttl,
           struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Ttl command = KV__TTL__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_TTL, &command, &reply);
    if (status == 0) {
        ret_ttl->remaining_ms = reply->ttl->remaining_ms;
        ret_ttl->lease_id = reply->ttl->lease_id;
    }
    kv_reply_free(reply);
    return status;
}

int kv_compact(struct kv_client *client,
               int64_t revision,
               const struct kv_call_options *options,
               int64_t *ret_oldest,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Compact command = KV__COMPACT__INIT;
    Kv__Reply *reply;
    int status;

    command.revision = revision;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_COMPACT, &command, &reply);
    if (status == 0 && ret_oldest) {
        *ret_oldest = reply->compact->oldest_revision;
    }
    kv_reply_free(reply);
    return status;
}
