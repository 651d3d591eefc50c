/* The typed calls on strings and keys: each fills a request and takes its result apart. */
#include "client/blocking.h"

#include <stdlib.h>
#include <string.h>

struct kv_bytes kv_bytes_of(const void *data, size_t size)
{
    return (struct kv_bytes){data, size};
}

struct kv_bytes kv_bytes_str(const char *string)
{
    return (struct kv_bytes){string, strlen(string)};
}

ProtobufCBinaryData kv_bytes_to_proto(struct kv_bytes bytes)
{
    return (ProtobufCBinaryData){.len = bytes.size, .data = (uint8_t *)bytes.data};
}

struct kv_pair kv_pair_of_proto(const Kv__KeyValue *kv, int64_t revision)
{
    return (struct kv_pair){
        .key = {kv->key.data, kv->key.len},
        .value = {kv->value.data, kv->value.len},
        .type = (enum kv_type)kv->type,
        .create_revision = kv->create_revision,
        .mod_revision = kv->mod_revision,
        .version = kv->version,
        .lease_id = kv->lease_id,
        .expires_at_ms = kv->expires_at_ms,
        .counter = kv->counter,
        .elements = kv->elements,
        .revision = revision,
    };
}

void kv_pair_free(struct kv_pair *pair)
{
    if (pair) {
        kv_reply_free(pair->memory);
        *pair = (struct kv_pair){0};
    }
}

int kv_missing_result(struct kv_error *ret_error)
{
    return kv_error_set(ret_error, KV_INTERNAL, "the server's reply has no result");
}

/* Sends; on success the reply has the wanted result. */
static int call(struct kv_client *client,
                const Kv__Request *request,
                const struct kv_call_options *options,
                Kv__Reply__ResultCase wanted,
                Kv__Reply **ret_reply,
                struct kv_error *ret_error)
{
    int status = kv_call(client, request, options, ret_reply, ret_error);

    if (status == 0 && (*ret_reply)->result_case != wanted) {
        kv_reply_free(*ret_reply);
        *ret_reply = NULL;
        status = kv_missing_result(ret_error);
    }
    return status;
}

static const struct kv_call_options *call_of(const struct kv_get_options *options)
{
    return options ? &options->call : NULL;
}

static int64_t at_of(const struct kv_get_options *options)
{
    return options ? options->at_revision : 0;
}

/* The pair takes the reply. kv may be NULL: there was nothing. */
static void take_pair(Kv__Reply *reply, const Kv__KeyValue *kv, struct kv_pair *ret_pair)
{
    *ret_pair = (struct kv_pair){.revision = reply->revision};
    if (kv) {
        *ret_pair = kv_pair_of_proto(kv, reply->revision);
    }
    ret_pair->memory = reply;
}

/* ---------------------------------------------------------------- strings */

static int
expiry_to_proto(const struct kv_put_options *options, Kv__Put *put, struct kv_error *ret_error)
{
    if ((options->ttl_ms != 0) + (options->lease_id != 0) + options->keep_expiry > 1) {
        return kv_error_set(
            ret_error, KV_INVALID, "of ttl_ms, lease_id and keep_expiry a put has one");
    }
    if (options->ttl_ms != 0) {
        put->expiry_case = KV__PUT__EXPIRY_TTL_MS;
        put->ttl_ms = options->ttl_ms;
    } else if (options->lease_id != 0) {
        put->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
        put->lease_id = options->lease_id;
    } else if (options->keep_expiry) {
        put->expiry_case = KV__PUT__EXPIRY_KEEP;
        put->keep = true;
    }
    return 0;
}

int kv_put_to_proto(const struct kv_put_options *options, Kv__Put *put, struct kv_error *ret_error)
{
    put->return_previous = options->return_previous;
    switch (options->condition) {
    case KV_PUT_ALWAYS:
        break;
    case KV_PUT_IF_ABSENT:
        put->condition_case = KV__PUT__CONDITION_IF_ABSENT;
        put->if_absent = true;
        break;
    case KV_PUT_IF_PRESENT:
        put->condition_case = KV__PUT__CONDITION_IF_PRESENT;
        put->if_present = true;
        break;
    case KV_PUT_IF_MOD_REVISION:
        put->condition_case = KV__PUT__CONDITION_IF_MOD_REVISION;
        put->if_mod_revision = options->mod_revision;
        break;
    case KV_PUT_IF_VALUE:
        put->condition_case = KV__PUT__CONDITION_IF_VALUE;
        put->if_value = kv_bytes_to_proto(options->expected);
        break;
    }
    return expiry_to_proto(options, put, ret_error);
}

int kv_put(struct kv_client *client,
           struct kv_bytes key,
           struct kv_bytes value,
           const struct kv_put_options *options,
           struct kv_put_result *ret_result,
           struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    struct kv_put_result result = {0};
    Kv__Reply *reply;
    int status;

    put.key = kv_bytes_to_proto(key);
    put.value = kv_bytes_to_proto(value);
    status = options ? kv_put_to_proto(options, &put, ret_error) : 0;
    if (status < 0) {
        return status;
    }
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    status = kv_call(client, &request, options ? &options->call : NULL, &reply, ret_error);
    if (!reply) {
        return status;
    }
    if (reply->result_case == KV__REPLY__RESULT_PUT) {
        result.revision = reply->revision;
        result.version = reply->put->version;
        result.had_previous = reply->put->previous != NULL;
        result.previous.revision = reply->revision;
        if (result.had_previous) {
            take_pair(reply, reply->put->previous, &result.previous);
            reply = NULL;
        }
    } else if (status == 0) {
        status = kv_missing_result(ret_error);
    }
    if (ret_result && (status == 0 || result.had_previous)) {
        *ret_result = result;
    } else {
        kv_pair_free(&result.previous);
    }
    kv_reply_free(reply);
    return status;
}

int kv_get(struct kv_client *client,
           struct kv_bytes key,
           const struct kv_get_options *options,
           struct kv_pair *ret_pair,
           struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get get = KV__GET__INIT;
    Kv__Reply *reply;
    int status;

    get.key = kv_bytes_to_proto(key);
    get.at_revision = at_of(options);
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    status = call(client, &request, call_of(options), KV__REPLY__RESULT_GET, &reply, ret_error);
    if (status == 0) {
        take_pair(reply, reply->get->kv, ret_pair);
    } else {
        kv_reply_free(reply);
    }
    return status;
}

int kv_append(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes value,
              const struct kv_call_options *options,
              uint64_t *ret_length,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Append append = KV__APPEND__INIT;
    Kv__Reply *reply;
    int status;

    append.key = kv_bytes_to_proto(key);
    append.value = kv_bytes_to_proto(value);
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append;
    status = call(client, &request, options, KV__REPLY__RESULT_APPEND, &reply, ret_error);
    if (status == 0 && ret_length) {
        *ret_length = reply->append->length;
    }
    kv_reply_free(reply);
    return status;
}

int kv_getset(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes value,
              const struct kv_call_options *options,
              struct kv_pair *ret_previous,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__GetSet getset = KV__GET_SET__INIT;
    Kv__Reply *reply;
    int status;

    getset.key = kv_bytes_to_proto(key);
    getset.value = kv_bytes_to_proto(value);
    request.command_case = KV__REQUEST__COMMAND_GETSET;
    request.getset = &getset;
    status = call(client, &request, options, KV__REPLY__RESULT_GETSET, &reply, ret_error);
    if (status == 0) {
        take_pair(reply, reply->getset->kv, ret_previous);
    } else {
        kv_reply_free(reply);
    }
    return status;
}

int kv_getdel(struct kv_client *client,
              struct kv_bytes key,
              const struct kv_call_options *options,
              struct kv_pair *ret_previous,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__Reply *reply;
    int status;

    getdel.key = kv_bytes_to_proto(key);
    request.command_case = KV__REQUEST__COMMAND_GETDEL;
    request.getdel = &getdel;
    status = call(client, &request, options, KV__REPLY__RESULT_GETDEL, &reply, ret_error);
    if (status == 0) {
        take_pair(reply, reply->getdel->kv, ret_previous);
    } else {
        kv_reply_free(reply);
    }
    return status;
}

int kv_strlen(struct kv_client *client,
              struct kv_bytes key,
              const struct kv_get_options *options,
              uint64_t *ret_length,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__StrLen command = KV__STR_LEN__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = at_of(options);
    request.command_case = KV__REQUEST__COMMAND_STRLEN;
    request.strlen = &command;
    status = call(client, &request, call_of(options), KV__REPLY__RESULT_STRLEN, &reply, ret_error);
    if (status == 0) {
        *ret_length = reply->strlen->length;
    }
    kv_reply_free(reply);
    return status;
}

int kv_get_range(struct kv_client *client,
                 struct kv_bytes key,
                 int64_t first,
                 int64_t last,
                 const struct kv_get_options *options,
                 struct kv_pair *ret_pair,
                 struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__GetRange command = KV__GET_RANGE__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.first = first;
    command.last = last;
    command.at_revision = at_of(options);
    request.command_case = KV__REQUEST__COMMAND_GET_RANGE;
    request.get_range = &command;
    status =
        call(client, &request, call_of(options), KV__REPLY__RESULT_GET_RANGE, &reply, ret_error);
    if (status == 0) {
        take_pair(reply, NULL, ret_pair);
        ret_pair->value = kv_bytes_of(reply->get_range->value.data, reply->get_range->value.len);
    } else {
        kv_reply_free(reply);
    }
    return status;
}

int kv_set_range(struct kv_client *client,
                 struct kv_bytes key,
                 uint64_t offset,
                 struct kv_bytes value,
                 const struct kv_call_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SetRange command = KV__SET_RANGE__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.offset = offset;
    command.value = kv_bytes_to_proto(value);
    request.command_case = KV__REQUEST__COMMAND_SET_RANGE;
    request.set_range = &command;
    status = call(client, &request, options, KV__REPLY__RESULT_SET_RANGE, &reply, ret_error);
    if (status == 0 && ret_length) {
        *ret_length = reply->set_range->length;
    }
    kv_reply_free(reply);
    return status;
}

/* ---------------------------------------------------------------- keys */

/* Borrows the keys' bytes; the array is the caller's to free. */
static ProtobufCBinaryData *keys_to_proto(const struct kv_bytes *keys, size_t n_keys)
{
    ProtobufCBinaryData *list = calloc(n_keys ? n_keys : 1, sizeof *list);

    for (size_t i = 0; list && i < n_keys; i++) {
        list[i] = kv_bytes_to_proto(keys[i]);
    }
    return list;
}

int kv_delete(struct kv_client *client,
              const struct kv_bytes *keys,
              size_t n_keys,
              const struct kv_call_options *options,
              uint64_t *ret_deleted,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Reply *reply;
    int status;

    command.n_keys = n_keys;
    command.keys = keys_to_proto(keys, n_keys);
    if (!command.keys) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    status = call(client, &request, options, KV__REPLY__RESULT_DELETE, &reply, ret_error);
    if (status == 0 && ret_deleted) {
        *ret_deleted = reply->delete_->deleted;
    }
    kv_reply_free(reply);
    free(command.keys);
    return status;
}

int kv_exists(struct kv_client *client,
              const struct kv_bytes *keys,
              size_t n_keys,
              const struct kv_get_options *options,
              bool *ret_present,
              uint64_t *ret_count,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Exists command = KV__EXISTS__INIT;
    Kv__Reply *reply;
    int status;

    command.n_keys = n_keys;
    command.keys = keys_to_proto(keys, n_keys);
    if (!command.keys) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    command.at_revision = at_of(options);
    request.command_case = KV__REQUEST__COMMAND_EXISTS;
    request.exists = &command;
    status = call(client, &request, call_of(options), KV__REPLY__RESULT_EXISTS, &reply, ret_error);
    if (status == 0 && reply->exists->n_present != n_keys) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        *ret_count = reply->exists->count;
        for (size_t i = 0; ret_present && i < n_keys; i++) {
            ret_present[i] = reply->exists->present[i];
        }
    }
    kv_reply_free(reply);
    free(command.keys);
    return status;
}
