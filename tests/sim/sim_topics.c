/* What is published: messages that are like no other, on few topics, one or several at a revision,
 * and now and then another retention. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <inttypes.h>
#include <string.h>

enum { NAME_BYTES = 24, TOGETHER_MAX = 4, TOPICS = 4 };

static uint64_t pick(struct sim *sim, uint64_t below)
{
    return sim_random(sim, SIM_RANDOM_TOPICS, below);
}

static void *make(struct kv_arena *arena, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = kv_arena_alloc(arena, descriptor->sizeof_message);

    KV_ASSERT(message);
    protobuf_c_message_init(descriptor, message);
    return message;
}

static void publish(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    struct sim *sim = client->sim;
    Kv__Publish *publish = make(arena, &kv__publish__descriptor);
    char *topic = kv_arena_alloc(arena, NAME_BYTES);
    char *payload = kv_arena_alloc(arena, NAME_BYTES);

    KV_ASSERT(topic && payload);
    publish->topic.data = (uint8_t *)topic;
    publish->topic.len = (size_t)snprintf(
        topic, NAME_BYTES, "%c/%u", pick(sim, 5) ? 't' : 'u', (unsigned)pick(sim, TOPICS));
    publish->payload.data = (uint8_t *)payload;
    publish->payload.len =
        (size_t)snprintf(payload, NAME_BYTES, "%u.%" PRIu64, client->id, client->n_published++);
    request->command_case = KV__REQUEST__COMMAND_PUBLISH;
    request->publish = publish;
}

static void
publish_together(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    Kv__Txn *txn = make(arena, &kv__txn__descriptor);

    txn->n_then = 1 + pick(client->sim, TOGETHER_MAX);
    txn->then = kv_arena_alloc(arena, txn->n_then * sizeof(Kv__Request *));
    KV_ASSERT(txn->then);
    for (size_t i = 0; i < txn->n_then; i++) {
        txn->then[i] = make(arena, &kv__request__descriptor);
        publish(client, arena, txn->then[i]);
    }
    request->command_case = KV__REQUEST__COMMAND_TXN;
    request->txn = txn;
}

static void set_retention(struct sim *sim, struct kv_arena *arena, Kv__Request *request)
{
    static const struct {
        const char *name;
        uint64_t min, spread;
    } settings[] = {
        {"topic-messages", 1, 30}, {"topic-bytes", 1024, 2000}, {"topic-age-ms", 1000, 8000}};
    uint64_t i = pick(sim, sizeof settings / sizeof settings[0]);
    Kv__ConfigSet *set = make(arena, &kv__config_set__descriptor);

    set->name = (char *)(uintptr_t)settings[i].name;
    set->value = settings[i].min + pick(sim, settings[i].spread);
    request->command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request->config_set = set;
}

void sim_topics_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    uint64_t throw = pick(client->sim, 100);

    if (throw < 3) {
        set_retention(client->sim, arena, request);
    } else if (throw < 30) {
        publish_together(client, arena, request);
    } else {
        publish(client, arena, request);
    }
}
