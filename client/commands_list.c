/* The typed calls on lists. */
#include "client/typed.h"
#include "common/limits.h"

#include <kv/list.h>
#include <stdlib.h>

static const struct kv_call_options *call_of(const struct kv_get_options *options)
{
    return options ? &options->call : NULL;
}

static int64_t at_of(const struct kv_get_options *options)
{
    return options ? options->at_revision : 0;
}

int kv_list_push(struct kv_client *client,
                 struct kv_bytes key,
                 enum kv_list_end end,
                 const struct kv_bytes *elements,
                 size_t n_elements,
                 const struct kv_push_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.end = (Kv__ListEnd)end;
    command.n_elements = n_elements;
    command.elements = kv_typed_list(elements, n_elements);
    command.if_present = options && options->if_present;
    if (!command.elements) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_LIST_PUSH, &command, ret_length);
    free(command.elements);
    return status;
}

int kv_list_pop(struct kv_client *client,
                struct kv_bytes key,
                enum kv_list_end end,
                const struct kv_pop_options *options,
                struct kv_elements *ret_elements,
                struct kv_error *ret_error)
{
    struct kv_call_options call = options ? options->call : (struct kv_call_options){0};
    struct kv_typed typed = {client, &call, ret_error};
    Kv__ListPop command = KV__LIST_POP__INIT;

    command.key = kv_bytes_to_proto(key);
    command.end = (Kv__ListEnd)end;
    if (options) {
        command.count = options->count;
        command.block_ms = options->block_ms;
    }
    if (command.block_ms > 0 && call.deadline_ms == 0) {
        uint64_t deadline_ms = command.block_ms + KV_DEADLINE_DEFAULT_MS;

        if (command.block_ms > KV_DEADLINE_MAX_MS) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "block_ms %llu is over the %u ms that a request may wait",
                                (unsigned long long)command.block_ms,
                                KV_DEADLINE_MAX_MS);
        }
        call.deadline_ms =
            deadline_ms > KV_DEADLINE_MAX_MS ? KV_DEADLINE_MAX_MS : (unsigned)deadline_ms;
    }
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_LIST_POP, &command, ret_elements);
}

int kv_list_range(struct kv_client *client,
                  struct kv_bytes key,
                  int64_t first,
                  int64_t last,
                  const struct kv_get_options *options,
                  struct kv_elements *ret_elements,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ListRange command = KV__LIST_RANGE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.first = first;
    command.last = last;
    command.at_revision = at_of(options);
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_LIST_RANGE, &command, ret_elements);
}

int kv_list_index(struct kv_client *client,
                  struct kv_bytes key,
                  int64_t index,
                  const struct kv_get_options *options,
                  struct kv_elements *ret_elements,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ListIndex command = KV__LIST_INDEX__INIT;

    command.key = kv_bytes_to_proto(key);
    command.index = index;
    command.at_revision = at_of(options);
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_LIST_INDEX, &command, ret_elements);
}

int kv_list_set(struct kv_client *client,
                struct kv_bytes key,
                int64_t index,
                struct kv_bytes element,
                const struct kv_call_options *options,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ListSet command = KV__LIST_SET__INIT;

    command.key = kv_bytes_to_proto(key);
    command.index = index;
    command.element = kv_bytes_to_proto(element);
    return kv_typed_done(&typed, KV__REQUEST__COMMAND_LIST_SET, &command);
}

int kv_list_len(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_get_options *options,
                uint64_t *ret_length,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__ListLen command = KV__LIST_LEN__INIT;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = at_of(options);
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_LIST_LEN, &command, ret_length);
}

int kv_list_insert(struct kv_client *client,
                   struct kv_bytes key,
                   bool after,
                   struct kv_bytes pivot,
                   struct kv_bytes element,
                   const struct kv_call_options *options,
                   uint64_t *ret_length,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ListInsert command = KV__LIST_INSERT__INIT;

    command.key = kv_bytes_to_proto(key);
    command.after = after;
    command.pivot = kv_bytes_to_proto(pivot);
    command.element = kv_bytes_to_proto(element);
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_LIST_INSERT, &command, ret_length);
}

int kv_list_remove(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t count,
                   struct kv_bytes element,
                   const struct kv_call_options *options,
                   uint64_t *ret_removed,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ListRemove command = KV__LIST_REMOVE__INIT;

    command.key = kv_bytes_to_proto(key);
    command.element = kv_bytes_to_proto(element);
    command.count = count;
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_LIST_REMOVE, &command, ret_removed);
}

int kv_list_trim(struct kv_client *client,
                 struct kv_bytes key,
                 int64_t first,
                 int64_t last,
                 const struct kv_call_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ListTrim command = KV__LIST_TRIM__INIT;

    command.key = kv_bytes_to_proto(key);
    command.first = first;
    command.last = last;
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_LIST_TRIM, &command, ret_length);
}

int kv_list_move(struct kv_client *client,
                 const struct kv_list_place *from,
                 const struct kv_list_place *to,
                 const struct kv_call_options *options,
                 struct kv_elements *ret_elements,
                 struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__ListMove command = KV__LIST_MOVE__INIT;

    command.key = kv_bytes_to_proto(from->key);
    command.from = (Kv__ListEnd)from->end;
    command.to = kv_bytes_to_proto(to->key);
    command.to_end = (Kv__ListEnd)to->end;
    return kv_typed_elements(&typed, KV__REQUEST__COMMAND_LIST_MOVE, &command, ret_elements);
}
