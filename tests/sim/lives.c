#include "tests/sim/lives.h"

#include "common/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)

void lives_init(struct lives *lives)
{
    *lives = (struct lives){.fastest_ppm = 1000000};
}

void lives_deinit(struct lives *lives)
{
    free(lives->applied_ns);
}

void lives_applied(struct lives *lives, uint64_t index, uint64_t now_ns)
{
    if (index > lives->capacity) {
        size_t former = lives->capacity;

        lives->capacity = index * 2;
        lives->applied_ns = realloc(lives->applied_ns, lives->capacity * sizeof *lives->applied_ns);
        KV_ASSERT(lives->applied_ns);
        memset(
            lives->applied_ns + former, 0, (lives->capacity - former) * sizeof *lives->applied_ns);
    }
    lives->n_applied = index > lives->n_applied ? index : lives->n_applied;
    if (lives->applied_ns[index - 1] == 0) {
        lives->applied_ns[index - 1] = now_ns;
    }
}

/* ---------------------------------------------------------------- promises */

/* Until when what a client asked for must live. */
struct promise {
    int64_t lease_id;    /* 0: a key's own time */
    struct kv_slice key; /* of that */
    int64_t revision;    /* that set it; 0: of a lease */
    uint64_t asked_ns;
    uint64_t told_ns; /* from then on it is known to live */
    uint64_t until_ns;
};

/* A client that was told of a lease that there is none; or that has revoked it. */
struct denial {
    int64_t lease_id;
    uint64_t asked_ns, told_ns; /* UINT64_MAX: it may yet be done */
};

struct weighing {
    const struct lives *lives;
    struct checkers *checkers;
    struct promise *promises;
    size_t n_promises, promises_capacity;
    struct denial *denials;
    size_t n_denials, denials_capacity;
    struct denial *revocations; /* that may have been carried out */
    size_t n_revocations, revocations_capacity;
    struct kv_arena arena;
};

static void *grow(void *memory, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity) {
        return memory;
    }
    *capacity = *capacity ? *capacity * 2 : 64;
    memory = realloc(memory, *capacity * size);
    KV_ASSERT(memory);
    return memory;
}

/* Time is logged in whole ms. */
static uint64_t end_of(const struct weighing *weighing, uint64_t from_ns, uint64_t ttl_ms)
{
    uint64_t ttl_ns = ttl_ms > 2 ? (ttl_ms - 2) * NS_PER_MS : 0;

    return from_ns + (uint64_t)((double)ttl_ns * 1e6 / (double)weighing->lives->fastest_ppm);
}

static void promise_lease(struct weighing *weighing,
                          const struct history_call *call,
                          int64_t id,
                          uint64_t ttl_ms)
{
    weighing->promises = grow(weighing->promises,
                              &weighing->promises_capacity,
                              weighing->n_promises,
                              sizeof *weighing->promises);
    weighing->promises[weighing->n_promises++] =
        (struct promise){.lease_id = id,
                         .asked_ns = call->called_ns,
                         .told_ns = call->returned_ns,
                         .until_ns = end_of(weighing, call->called_ns, ttl_ms)};
}

static void promise_key(struct weighing *weighing,
                        const struct history_call *call,
                        ProtobufCBinaryData key,
                        uint64_t ttl_ms)
{
    uint8_t *copy = kv_arena_copy(&weighing->arena, key.data, key.len);

    KV_ASSERT(copy);
    promise_lease(weighing, call, 0, ttl_ms);
    weighing->promises[weighing->n_promises - 1].key = kv_slice_of(copy, key.len);
    weighing->promises[weighing->n_promises - 1].revision = call->revision;
}

static void
deny(struct denial **list, size_t *n, size_t *capacity, const struct history_call *call, int64_t id)
{
    *list = grow(*list, capacity, *n, sizeof **list);
    (*list)[(*n)++] = (struct denial){
        id,
        call->called_ns,
        kv_status_retry(call->status) == KV_RETRY_UNKNOWN ? UINT64_MAX : call->returned_ns};
}
#define DENY(weighing, list, call, id) \
    deny(&(weighing)->list, &(weighing)->n_##list, &(weighing)->list##_capacity, call, id)

static void gather_renewal(struct weighing *weighing,
                           const struct history_call *call,
                           const Kv__LeaseKeepAlive *asked,
                           const Kv__Reply *reply)
{
    if (call->status == KV_NOT_FOUND && asked->n_lease_ids == 1) {
        DENY(weighing, denials, call, asked->lease_ids[0]);
    }
    if (call->status != 0 || reply->result_case != KV__REPLY__RESULT_LEASE_KEEP_ALIVE) {
        return;
    }
    for (size_t i = 0; i < reply->lease_keep_alive->n_leases; i++) {
        const Kv__LeaseResult *lease = reply->lease_keep_alive->leases[i];

        if (lease->ttl_ms > 0) {
            promise_lease(weighing, call, lease->lease_id, lease->ttl_ms);
        } else {
            DENY(weighing, denials, call, lease->lease_id);
        }
    }
}

static void gather(struct weighing *weighing,
                   const struct history_call *call,
                   const Kv__Request *request,
                   const Kv__Reply *reply)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_LEASE_GRANT:
        if (call->status == 0 && reply->result_case == KV__REPLY__RESULT_LEASE_GRANT) {
            promise_lease(weighing, call, reply->lease_grant->lease_id, reply->lease_grant->ttl_ms);
        }
        break;
    case KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE:
        if (reply) {
            gather_renewal(weighing, call, request->lease_keep_alive, reply);
        }
        break;
    case KV__REQUEST__COMMAND_LEASE_REVOKE:
        DENY(weighing, revocations, call, request->lease_revoke->lease_id);
        break;
    case KV__REQUEST__COMMAND_PUT:
        if (call->status == 0 && request->put->expiry_case == KV__PUT__EXPIRY_TTL_MS) {
            promise_key(weighing, call, request->put->key, request->put->ttl_ms);
        }
        break;
    case KV__REQUEST__COMMAND_EXPIRE:
        if (call->status == 0 && request->expire->expiry_case == KV__EXPIRE__EXPIRY_TTL_MS) {
            promise_key(weighing, call, request->expire->key, request->expire->ttl_ms);
        }
        break;
    default:
        break;
    }
}

static void gather_all(struct weighing *weighing, const struct history *history)
{
    for (size_t i = 0; i < history->n_calls; i++) {
        const struct history_call *call = &history->calls[i];
        Kv__Request *request;
        Kv__Reply *reply;

        if (call->cls != KV_COMMAND_WRITE || call->internal || !call->has_returned) {
            continue;
        }
        request = kv__request__unpack(NULL, call->request.size, call->request.data);
        reply =
            call->has_reply ? kv__reply__unpack(NULL, call->reply.size, call->reply.data) : NULL;
        KV_ASSERT(request);
        gather(weighing, call, request, reply);
        kv__request__free_unpacked(request, NULL);
        if (reply) {
            kv__reply__free_unpacked(reply, NULL);
        }
    }
}

/* ---------------------------------------------------------------- weighing */

/* Was it perhaps taken back by then? */
static bool
may_be_revoked(const struct weighing *weighing, const struct promise *promise, uint64_t by_ns)
{
    for (size_t i = 0; i < weighing->n_revocations; i++) {
        const struct denial *revocation = &weighing->revocations[i];

        if (revocation->lease_id == promise->lease_id && revocation->asked_ns <= by_ns &&
            revocation->told_ns >= promise->asked_ns) {
            return true;
        }
    }
    return false;
}

static void weigh_denial(struct weighing *weighing, const struct denial *denial)
{
    for (size_t i = 0; i < weighing->n_promises; i++) {
        const struct promise *promise = &weighing->promises[i];

        if (promise->lease_id == denial->lease_id && promise->told_ns <= denial->asked_ns &&
            denial->told_ns < promise->until_ns &&
            !may_be_revoked(weighing, promise, denial->told_ns)) {
            checkers_fail(weighing->checkers,
                          "lease %" PRId64 " was said to have ended %" PRIu64
                          " us before the time that its last renewal gave it",
                          denial->lease_id,
                          (promise->until_ns - denial->told_ns) / 1000);
            return;
        }
    }
}

/* A key that time has taken. */
static void weigh_end(struct weighing *weighing, const struct true_event *event)
{
    uint64_t end_ns = event->index <= weighing->lives->n_applied
                          ? weighing->lives->applied_ns[event->index - 1]
                          : 0;

    for (size_t i = 0; i < weighing->n_promises && end_ns > 0; i++) {
        const struct promise *promise = &weighing->promises[i];
        bool is_its =
            promise->lease_id != 0
                ? promise->lease_id == event->before->lease_id && promise->told_ns <= end_ns
                : event->before->lease_id == 0 &&
                      promise->revision == event->before->mod_revision &&
                      kv_slice_equal(promise->key, event->key);

        if (is_its && end_ns < promise->until_ns && !may_be_revoked(weighing, promise, end_ns)) {
            checkers_fail(weighing->checkers,
                          "the key \"%.*s\" %s%.0" PRId64 " ended %" PRIu64
                          " us before its time, at entry %" PRIu64,
                          (int)event->key.size,
                          (const char *)event->key.data,
                          promise->lease_id ? "of lease " : "",
                          promise->lease_id,
                          (promise->until_ns - end_ns) / 1000,
                          event->index);
            return;
        }
    }
}

void lives_check(const struct lives *lives,
                 const struct history *history,
                 const struct truth *truth,
                 struct checkers *checkers)
{
    struct weighing weighing = {.lives = lives, .checkers = checkers};

    kv_arena_init(&weighing.arena, SIZE_MAX);
    gather_all(&weighing, history);
    for (size_t i = 0; i < weighing.n_denials; i++) {
        weigh_denial(&weighing, &weighing.denials[i]);
    }
    for (size_t i = 0; i < truth->n_events; i++) {
        if (truth->events[i].by_time && !truth->events[i].after) {
            weigh_end(&weighing, &truth->events[i]);
        }
    }
    free(weighing.promises);
    free(weighing.denials);
    free(weighing.revocations);
    kv_arena_deinit(&weighing.arena);
}
