/* Queues: lists of their own, to which values that are like no other are pushed at one end and
 * popped at the other, also by pops that wait until there is one. queues.c judges what came out. */
#include "tests/sim/sim.h"

#include "client/session_internal.h"
#include "common/assert.h"
#include "tests/sim/queues.h"

#include <inttypes.h>
#include <string.h>

enum { PUSHED_MAX = 3, NAME_BYTES = 24, WAIT_MAX_MS = 4000, GIVE_UP_PERMILLE = 30 };

static uint64_t pick(struct sim *sim, uint64_t below)
{
    return sim_random(sim, SIM_RANDOM_QUEUES, below);
}

static void *allocate(struct kv_arena *arena, size_t size)
{
    void *memory = kv_arena_alloc(arena, size);

    KV_ASSERT(memory);
    memset(memory, 0, size);
    return memory;
}

static ProtobufCBinaryData any_queue(struct sim *sim, struct kv_arena *arena)
{
    char *text = allocate(arena, NAME_BYTES);
    int size =
        snprintf(text, NAME_BYTES, QUEUES_PREFIX "%u", (unsigned)pick(sim, sim->profile.queues));

    return (ProtobufCBinaryData){(size_t)size, (uint8_t *)text};
}

static void draft_push(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    struct sim *sim = client->sim;
    Kv__ListPush *push = allocate(arena, sizeof *push);

    kv__list_push__init(push);
    push->key = any_queue(sim, arena);
    push->end = KV__LIST_END__LIST_RIGHT;
    push->n_elements = 1 + pick(sim, PUSHED_MAX);
    push->elements = allocate(arena, push->n_elements * sizeof *push->elements);
    for (size_t i = 0; i < push->n_elements; i++) {
        char *text = allocate(arena, NAME_BYTES);
        int size = snprintf(text, NAME_BYTES, "%u.%" PRIu64, client->id, client->n_pushed++);

        push->elements[i] = (ProtobufCBinaryData){(size_t)size, (uint8_t *)text};
    }
    request->command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request->list_push = push;
}

static void draft_pop(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    struct sim *sim = client->sim;
    Kv__ListPop *pop = allocate(arena, sizeof *pop);

    kv__list_pop__init(pop);
    pop->key = any_queue(sim, arena);
    pop->end = KV__LIST_END__LIST_LEFT;
    if (pick(sim, 4) > 0) {
        pop->block_ms = 1 + pick(sim, WAIT_MAX_MS);
    } else {
        pop->count = pick(sim, PUSHED_MAX + 1);
    }
    request->command_case = KV__REQUEST__COMMAND_LIST_POP;
    request->list_pop = pop;
}

/* The pop under this handle, while it has no end and has a stamp. */
static const struct kv_request *waiting_pop(const struct sim_client *client)
{
    const struct kv_session *session = client->session;

    for (size_t i = 0; i < session->n_slots; i++) {
        const struct kv_request *request = session->slots[i];

        if (request && request->handle == client->waiting_id && request->sequence > 0) {
            return request;
        }
    }
    return NULL;
}

static bool draft_cancel(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    const struct kv_request *pop = waiting_pop(client);
    Kv__SessionCancel *cancel = allocate(arena, sizeof *cancel);

    if (!pop) {
        return false;
    }
    kv__session_cancel__init(cancel);
    cancel->session_id = pop->session_id;
    cancel->sequence = pop->sequence;
    request->command_case = KV__REQUEST__COMMAND_SESSION_CANCEL;
    request->session_cancel = cancel;
    return true;
}

bool sim_queue_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    uint64_t throw = pick(client->sim, 20);

    if (throw == 0) {
        return draft_cancel(client, arena, request);
    }
    (throw < 10 ? draft_push : draft_pop)(client, arena, request);
    return true;
}

void sim_queue_give_up(struct sim_client *client)
{
    struct sim *sim = client->sim;

    if (client->waiting_id != 0 && sim_chance(sim, SIM_RANDOM_QUEUES, GIVE_UP_PERMILLE)) {
        kv_session_cancel(client->session, sim->now_ns, client->waiting_id);
        client->waiting_id = 0;
    }
}
