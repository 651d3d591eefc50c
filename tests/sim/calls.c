#include "tests/sim/calls.h"

#include "common/assert.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ARENA_BYTES_MAX (1024 * KV_MIB)

void history_init(struct history *history)
{
    *history = (struct history){0};
    kv_arena_init(&history->arena, ARENA_BYTES_MAX);
}

void history_deinit(struct history *history)
{
    for (unsigned i = 0; i < HISTORY_CLIENTS_MAX; i++) {
        free(history->tries[i].calls);
    }
    free(history->calls);
    kv_arena_deinit(&history->arena);
}

static struct kv_slice pack(struct history *history, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data = kv_arena_alloc(&history->arena, size + 1);

    KV_ASSERT(data);
    protobuf_c_message_pack(message, data);
    return kv_slice_of(data, size);
}

size_t history_call(struct history *history,
                    unsigned client,
                    uint64_t now_ns,
                    const Kv__Request *request,
                    bool repeatable)
{
    struct history_call *call;

    if (history->n_calls == history->capacity) {
        history->capacity = history->capacity ? history->capacity * 2 : 1024;
        history->calls = realloc(history->calls, history->capacity * sizeof *call);
        KV_ASSERT(history->calls);
    }
    call = &history->calls[history->n_calls];
    *call = (struct history_call){
        .client = client,
        .cls = kv_command_classify(request),
        .serializable = request->serializable,
        .repeatable = repeatable,
        .renews = request->command_case == KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE,
        .called_ns = now_ns,
        .recorded = SIZE_MAX,
    };
    call->request = pack(history, &request->base);
    return history->n_calls++;
}

uint64_t history_hash_pairs(uint64_t hash, const Kv__RangeResult *result)
{
    for (size_t i = 0; i < result->n_kvs; i++) {
        const Kv__KeyValue *kv = result->kvs[i];
        const int64_t numbers[] = {kv->create_revision, kv->mod_revision, kv->version};

        hash = XXH3_64bits_withSeed(kv->key.data, kv->key.len, hash);
        hash = XXH3_64bits_withSeed(kv->value.data, kv->value.len, hash);
        hash = XXH3_64bits_withSeed(numbers, sizeof numbers, hash);
    }
    return hash;
}

void history_item(struct history *history, size_t number, const Kv__StreamItem *item)
{
    struct history_call *call = &history->calls[number];

    if (item->item_case == KV__STREAM_ITEM__ITEM_RANGE) {
        call->stream_revision = item->range->revision;
        call->stream_keys += item->range->n_kvs;
        call->stream_hash = history_hash_pairs(call->stream_hash, item->range);
    }
}

void history_return(
    struct history *history, size_t number, uint64_t now_ns, int status, const Kv__Reply *reply)
{
    struct history_call *call = &history->calls[number];

    KV_ASSERT(!call->has_returned);
    call->has_returned = true;
    call->returned_ns = now_ns;
    call->status = status;
    if (reply) {
        call->has_reply = true;
        call->reply_id = reply->id;
        call->revision = reply->revision;
        call->reply = pack(history, &reply->base);
    }
}

static uint64_t try_number(uint64_t wire_id)
{
    return (wire_id & ((UINT64_C(1) << HISTORY_ID_CLIENT_SHIFT) - 1)) >> HISTORY_ID_SLOT_BITS;
}

void history_try(struct history *history, unsigned client, uint64_t wire_id, size_t call)
{
    struct history_tries *tries = &history->tries[client];
    uint64_t number = try_number(wire_id);

    KV_ASSERT(wire_id >> HISTORY_ID_CLIENT_SHIFT == client);
    if (number >= tries->capacity) {
        size_t former = tries->capacity;

        while (number >= tries->capacity) {
            tries->capacity = tries->capacity ? tries->capacity * 2 : 256;
        }
        tries->calls = realloc(tries->calls, tries->capacity * sizeof *tries->calls);
        KV_ASSERT(tries->calls);
        memset(tries->calls + former, 0, (tries->capacity - former) * sizeof *tries->calls);
    }
    tries->calls[number] = (uint32_t)call + 1;
    tries->n = number >= tries->n ? number + 1 : tries->n;
}

struct history_call *history_find(struct history *history, uint64_t wire_id)
{
    uint64_t client = wire_id >> HISTORY_ID_CLIENT_SHIFT;
    uint64_t number = try_number(wire_id);

    if (client >= HISTORY_CLIENTS_MAX || number >= history->tries[client].n ||
        history->tries[client].calls[number] == 0) {
        return NULL;
    }
    return &history->calls[history->tries[client].calls[number] - 1];
}
