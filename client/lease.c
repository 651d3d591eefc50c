/* The typed calls on leases; held ones are in lease_hold.c. */
#include "client/typed.h"
#include "common/limits.h"

#include <kv/lease.h>
#include <stdlib.h>

int kv_lease_grant(struct kv_client *client,
                   int64_t lease_id,
                   uint64_t ttl_ms,
                   const struct kv_call_options *options,
                   int64_t *ret_lease_id,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__LeaseGrant command = KV__LEASE_GRANT__INIT;
    Kv__Reply *reply;
    int status;

    command.lease_id = lease_id;
    command.ttl_ms = ttl_ms;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_LEASE_GRANT, &command, &reply);
    if (status == 0) {
        *ret_lease_id = reply->lease_grant->lease_id;
    }
    kv_reply_free(reply);
    return status;
}

int kv_lease_revoke(struct kv_client *client,
                    int64_t lease_id,
                    const struct kv_call_options *options,
                    uint64_t *ret_keys,
                    struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__LeaseRevoke command = KV__LEASE_REVOKE__INIT;

    command.lease_id = lease_id;
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_LEASE_REVOKE, &command, ret_keys);
}

int kv_lease_keep_alive(struct kv_client *client,
                        const int64_t *lease_ids,
                        size_t n_leases,
                        const struct kv_call_options *options,
                        uint64_t *ret_ttls_ms,
                        struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__LeaseKeepAlive command = KV__LEASE_KEEP_ALIVE__INIT;
    const Kv__LeaseKeepAliveResult *result;
    Kv__Reply *reply;
    int status;

    if (n_leases == 0 || n_leases > KV_CLIENT_RENEWALS_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%zu leases to renew: one call takes 1 to %u",
                            n_leases,
                            KV_CLIENT_RENEWALS_MAX);
    }
    command.n_lease_ids = n_leases;
    command.lease_ids = (int64_t *)lease_ids;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE, &command, &reply);
    if (status < 0) {
        return status;
    }
    result = reply->lease_keep_alive;
    if (result->n_leases != n_leases) {
        status = kv_missing_result(ret_error);
    }
    for (size_t i = 0; status == 0 && ret_ttls_ms && i < n_leases; i++) {
        ret_ttls_ms[i] = result->leases[i]->ttl_ms;
    }
    kv_reply_free(reply);
    return status;
}

int kv_lease_info_of(struct kv_client *client,
                     int64_t lease_id,
                     const struct kv_lease_info_options *options,
                     struct kv_lease_info *ret_info,
                     struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__LeaseInfo command = KV__LEASE_INFO__INIT;
    const Kv__LeaseInfoResult *result;
    struct kv_bytes *keys;
    Kv__Reply *reply;
    int status;

    command.lease_id = lease_id;
    if (options) {
        command.with_keys = options->with_keys;
        command.cursor = kv_bytes_to_proto(options->cursor);
        command.limit = options->limit;
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_LEASE_INFO, &command, &reply);
    if (status < 0) {
        return status;
    }
    result = reply->lease_info;
    keys = calloc(result->n_keys + 1, sizeof *keys);
    if (!keys) {
        kv_reply_free(reply);
        return kv_typed_no_memory(&typed);
    }
    for (size_t i = 0; i < result->n_keys; i++) {
        keys[i] = kv_bytes_of(result->keys[i].data, result->keys[i].len);
    }
    *ret_info = (struct kv_lease_info){
        .lease_id = result->lease_id,
        .ttl_ms = result->ttl_ms,
        .remaining_ms = result->remaining_ms,
        .key_count = result->key_count,
        .n_keys = result->n_keys,
        .keys = keys,
        .more = result->more,
        .memory = reply,
    };
    return 0;
}

void kv_lease_info_free(struct kv_lease_info *info)
{
    if (info) {
        kv_reply_free(info->memory);
        free(info->keys);
        *info = (struct kv_lease_info){0};
    }
}

int kv_lease_list(struct kv_client *client,
                  int64_t after_id,
                  uint64_t limit,
                  const struct kv_call_options *options,
                  struct kv_lease_list *ret_list,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__LeaseList command = KV__LEASE_LIST__INIT;
    Kv__Reply *reply;
    int status;

    command.after_id = after_id;
    command.limit = limit;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_LEASE_LIST, &command, &reply);
    if (status == 0) {
        *ret_list = (struct kv_lease_list){
            .n_leases = reply->lease_list->n_lease_ids,
            .lease_ids = reply->lease_list->lease_ids,
            .more = reply->lease_list->more,
            .last_id = reply->lease_list->last_id,
            .memory = reply,
        };
    }
    return status;
}

void kv_lease_list_free(struct kv_lease_list *list)
{
    if (list) {
        kv_reply_free(list->memory);
        *list = (struct kv_lease_list){0};
    }
}

int kv_lease_attach(struct kv_client *client,
                    struct kv_bytes key,
                    int64_t lease_id,
                    const struct kv_call_options *options,
                    struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Expire command = KV__EXPIRE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.expiry_case = KV__EXPIRE__EXPIRY_LEASE_ID;
    command.lease_id = lease_id;
    return kv_typed_done(&typed, KV__REQUEST__COMMAND_EXPIRE, &command);
}
