/* The typed calls on sets. */
#include "client/typed.h"

#include <kv/set.h>
#include <stdlib.h>

int kv_set_add(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_bytes *members,
               size_t n_members,
               const struct kv_call_options *options,
               uint64_t *ret_added,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetAdd command = KV__SET_ADD__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = kv_typed_list(members, n_members);
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_SET_ADD, &command, ret_added);
    free(command.members);
    return status;
}

int kv_set_remove(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_bytes *members,
                  size_t n_members,
                  const struct kv_call_options *options,
                  uint64_t *ret_removed,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetRemove command = KV__SET_REMOVE__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = kv_typed_list(members, n_members);
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_SET_REMOVE, &command, ret_removed);
    free(command.members);
    return status;
}

int kv_set_has(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_bytes *members,
               size_t n_members,
               const struct kv_get_options *options,
               bool *ret_present,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    struct kv_typed_present present = {n_members, ret_present};
    Kv__SetHas command = KV__SET_HAS__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_members = n_members;
    command.members = kv_typed_list(members, n_members);
    command.at_revision = options ? options->at_revision : 0;
    if (!command.members) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_present(&typed, KV__REQUEST__COMMAND_SET_HAS, &command, &present);
    free(command.members);
    return status;
}

int kv_set_members(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_scan_options *options,
                   struct kv_elements *ret_members,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__SetMembers command = KV__SET_MEMBERS__INIT;

    command.key = kv_bytes_to_proto(key);
    if (options) {
        command.cursor = kv_bytes_to_proto(options->cursor);
        command.limit = options->limit;
        command.at_revision = options->at_revision;
    }
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_SET_MEMBERS, &command, ret_members);
}

int kv_set_len(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_get_options *options,
               uint64_t *ret_count,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__SetLen command = KV__SET_LEN__INIT;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = options ? options->at_revision : 0;
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_SET_LEN, &command, ret_count);
}

int kv_set_pop(struct kv_client *client,
               struct kv_bytes key,
               uint64_t count,
               const struct kv_call_options *options,
               struct kv_elements *ret_members,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetPop command = KV__SET_POP__INIT;

    command.key = kv_bytes_to_proto(key);
    command.count = count;
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_SET_POP, &command, ret_members);
}

int kv_set_random(struct kv_client *client,
                  struct kv_bytes key,
                  uint64_t count,
                  const struct kv_call_options *options,
                  struct kv_elements *ret_members,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetRandom command = KV__SET_RANDOM__INIT;

    command.key = kv_bytes_to_proto(key);
    command.count = count;
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_SET_RANDOM, &command, ret_members);
}

int kv_set_combine(struct kv_client *client,
                   enum kv_combination combination,
                   const struct kv_bytes *keys,
                   size_t n_keys,
                   const struct kv_call_options *options,
                   struct kv_elements *ret_members,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    int status;

    command.combination = (Kv__Combination)combination;
    command.n_keys = n_keys;
    command.keys = kv_typed_list(keys, n_keys);
    if (!command.keys) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_elements(&typed, KV__REQUEST__COMMAND_SET_COMBINE, &command, ret_members);
    free(command.keys);
    return status;
}

int kv_set_combine_store(struct kv_client *client,
                         enum kv_combination combination,
                         const struct kv_bytes *keys,
                         size_t n_keys,
                         struct kv_bytes store,
                         const struct kv_call_options *options,
                         uint64_t *ret_stored,
                         struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__Reply *reply;
    int status;

    /* Without a name this would be a read. */
    if (store.size == 0) {
        return kv_error_set(ret_error, KV_INVALID, "the key to store in is empty");
    }
    command.combination = (Kv__Combination)combination;
    command.n_keys = n_keys;
    command.keys = kv_typed_list(keys, n_keys);
    command.store = kv_bytes_to_proto(store);
    if (!command.keys) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_SET_COMBINE, &command, &reply);
    if (status == 0 && ret_stored) {
        *ret_stored = reply->set_combine->stored;
    }
    kv_reply_free(reply);
    free(command.keys);
    return status;
}
