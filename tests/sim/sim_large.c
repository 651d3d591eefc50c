/* Commands that have more for a stream at one revision than an item holds: several large values, or
 * messages, in one transaction. So live streams fall behind within a revision, and go on in
 * fragments; and more waits for a leader than one entry takes. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <inttypes.h>
#include <string.h>

enum { TOGETHER_MAX = 8, NAME_BYTES = 24, HEAD_BYTES = 32, KEYS = 4, TOPICS = 4 };
#define BYTES_MAX (20 * KV_KIB)

struct making {
    struct sim_client *client;
    struct kv_arena *arena;
};

static uint64_t pick(const struct making *making, uint64_t below)
{
    return sim_random(making->client->sim, SIM_RANDOM_RARE, below);
}

static void *allocate(const struct making *making, size_t size)
{
    void *memory = kv_arena_alloc(making->arena, size);

    KV_ASSERT(memory);
    return memory;
}

static void *make(const struct making *making, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = allocate(making, descriptor->sizeof_message);

    protobuf_c_message_init(descriptor, message);
    return message;
}

static ProtobufCBinaryData name(const struct making *making, const char *prefix, unsigned n)
{
    char *text = allocate(making, NAME_BYTES);

    return (ProtobufCBinaryData){
        (size_t)snprintf(text, NAME_BYTES, "%s%u", prefix, (unsigned)pick(making, n)),
        (uint8_t *)text};
}

/* Like no other by its head; now and then one that fills an item alone. */
static ProtobufCBinaryData bytes(const struct making *making)
{
    size_t size = HEAD_BYTES + pick(making, pick(making, 20) ? BYTES_MAX : 4 * BYTES_MAX);
    char *text = allocate(making, size);

    memset(text, 'a' + (int)pick(making, 26), size);
    snprintf(text, HEAD_BYTES, "%u.%" PRIu64, making->client->id, making->client->n_published++);
    return (ProtobufCBinaryData){size, (uint8_t *)text};
}

static void make_operation(const struct making *making, bool is_message, Kv__Request *operation)
{
    if (is_message) {
        operation->command_case = KV__REQUEST__COMMAND_PUBLISH;
        operation->publish = make(making, &kv__publish__descriptor);
        operation->publish->topic = name(making, "t/", TOPICS);
        operation->publish->payload = bytes(making);
    } else {
        operation->command_case = KV__REQUEST__COMMAND_PUT;
        operation->put = make(making, &kv__put__descriptor);
        operation->put->key = name(making, "a/large/", KEYS);
        operation->put->value = bytes(making);
        operation->put->return_previous = pick(making, 3) == 0;
    }
}

void sim_large_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    const struct making making = {client, arena};
    const bool is_message = client->sim->profile.topics_percent > 0 && pick(&making, 2);
    Kv__Txn *txn = make(&making, &kv__txn__descriptor);

    txn->n_then = 1 + pick(&making, TOGETHER_MAX);
    txn->then = allocate(&making, txn->n_then * sizeof(Kv__Request *));
    for (size_t i = 0; i < txn->n_then; i++) {
        txn->then[i] = make(&making, &kv__request__descriptor);
        make_operation(&making, is_message, txn->then[i]);
    }
    request->command_case = KV__REQUEST__COMMAND_TXN;
    request->txn = txn;
}
