/* Locks as a client makes them: a key that is created if it is absent, with a lease; its create
 * revision is the fencing token, by which each write is guarded. Holders are paused, cut off, and
 * outlive their leases like anybody else; they go on writing until they are told. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "common/reached.h"
#include "tests/sim/locks.h"

#include <inttypes.h>
#include <string.h>

enum { NAME_BYTES = 24, LOCKS = 2, FIRST_LEASE = 1000, TTL_MIN_MS = 1000, TTL_SPREAD_MS = 2000 };

struct locking {
    struct sim_client *client;
    struct kv_arena *arena;
    Kv__Request *request;
};

static uint64_t pick(const struct locking *locking, uint64_t below)
{
    return sim_random(locking->client->sim, SIM_RANDOM_LOCKS, below);
}

static void *make(const struct locking *locking, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = kv_arena_alloc(locking->arena, descriptor->sizeof_message);

    KV_ASSERT(message);
    protobuf_c_message_init(descriptor, message);
    return message;
}

static ProtobufCBinaryData name(const struct locking *locking, const char *prefix, unsigned number)
{
    char *text = kv_arena_alloc(locking->arena, NAME_BYTES);

    KV_ASSERT(text);
    return (ProtobufCBinaryData){(size_t)snprintf(text, NAME_BYTES, "%s%u", prefix, number),
                                 (uint8_t *)text};
}

/* One compare on the lock's key, one operation. */
static Kv__Compare *guard(const struct locking *locking, unsigned lock, Kv__Request **ret_operation)
{
    Kv__Txn *txn = make(locking, &kv__txn__descriptor);
    Kv__Compare *compare = make(locking, &kv__compare__descriptor);

    compare->range = make(locking, &kv__key_range__descriptor);
    compare->range->start = name(locking, LOCKS_PREFIX, lock);
    txn->n_compares = txn->n_then = 1;
    txn->compares = kv_arena_alloc(locking->arena, sizeof(Kv__Compare *));
    txn->then = kv_arena_alloc(locking->arena, sizeof(Kv__Request *));
    KV_ASSERT(txn->compares && txn->then);
    txn->compares[0] = compare;
    *ret_operation = txn->then[0] = make(locking, &kv__request__descriptor);
    locking->request->command_case = KV__REQUEST__COMMAND_TXN;
    locking->request->txn = txn;
    return compare;
}

static Kv__Put *put(const struct locking *locking, Kv__Request *operation)
{
    operation->command_case = KV__REQUEST__COMMAND_PUT;
    operation->put = make(locking, &kv__put__descriptor);
    operation->put->value = name(locking, "", locking->client->id);
    return operation->put;
}

static int64_t lease_of(const struct locking *locking)
{
    return FIRST_LEASE + locking->client->id;
}

static void draft_lease(const struct locking *locking)
{
    if (pick(locking, 2)) {
        Kv__LeaseGrant *grant = make(locking, &kv__lease_grant__descriptor);

        grant->lease_id = lease_of(locking);
        grant->ttl_ms = TTL_MIN_MS + pick(locking, TTL_SPREAD_MS);
        locking->request->command_case = KV__REQUEST__COMMAND_LEASE_GRANT;
        locking->request->lease_grant = grant;
    } else {
        Kv__LeaseKeepAlive *renewal = make(locking, &kv__lease_keep_alive__descriptor);

        renewal->n_lease_ids = 1;
        renewal->lease_ids = kv_arena_alloc(locking->arena, sizeof *renewal->lease_ids);
        KV_ASSERT(renewal->lease_ids);
        renewal->lease_ids[0] = lease_of(locking);
        locking->request->command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
        locking->request->lease_keep_alive = renewal;
    }
}

static void draft_taking(const struct locking *locking, unsigned lock)
{
    Kv__Request *operation;
    Kv__Compare *compare = guard(locking, lock, &operation);
    Kv__Put *command = put(locking, operation);

    compare->operand_case = KV__COMPARE__OPERAND_EXISTS;
    compare->exists = false;
    command->key = name(locking, LOCKS_PREFIX, lock);
    command->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
    command->lease_id = lease_of(locking);
}

static void draft_guarded(const struct locking *locking, unsigned lock, bool release)
{
    Kv__Request *operation;
    Kv__Compare *compare = guard(locking, lock, &operation);

    compare->operand_case = KV__COMPARE__OPERAND_CREATE_REVISION;
    compare->create_revision = locking->client->tokens[lock];
    if (release) {
        Kv__Delete *command = make(locking, &kv__delete__descriptor);

        command->n_keys = 1;
        command->keys = kv_arena_alloc(locking->arena, sizeof *command->keys);
        KV_ASSERT(command->keys);
        command->keys[0] = name(locking, LOCKS_PREFIX, lock);
        operation->command_case = KV__REQUEST__COMMAND_DELETE;
        operation->delete_ = command;
    } else {
        put(locking, operation)->key = name(locking, LOCKS_GUARDED_PREFIX, lock);
    }
}

void sim_locks_draft(struct sim_client *client, struct kv_arena *arena, Kv__Request *request)
{
    struct locking locking = {client, arena, request};
    unsigned lock = (unsigned)pick(&locking, LOCKS);

    _Static_assert(LOCKS == sizeof client->tokens / sizeof client->tokens[0], "one for each lock");
    if (pick(&locking, 10) < 3) {
        draft_lease(&locking);
    } else if (client->tokens[lock] == 0) {
        draft_taking(&locking, lock);
    } else {
        draft_guarded(&locking, lock, pick(&locking, 8) == 0);
    }
}

/* The lock that a key belongs to; LOCKS: none. */
static unsigned lock_of(ProtobufCBinaryData key)
{
    const size_t size = sizeof LOCKS_PREFIX - 1;
    bool is_lock = key.len == size + 1 && memcmp(key.data, LOCKS_PREFIX, size) == 0;

    return is_lock && key.data[size] - '0' < LOCKS ? (unsigned)(key.data[size] - '0') : LOCKS;
}

void sim_locks_ended(struct sim_client *client,
                     const struct history_call *call,
                     const Kv__Reply *reply)
{
    Kv__Request *request;
    unsigned lock = LOCKS;
    bool takes;

    if (call->status != 0 || !reply || reply->result_case != KV__REPLY__RESULT_TXN) {
        return;
    }
    request = kv__request__unpack(NULL, call->request.size, call->request.data);
    KV_ASSERT(request);
    if (request->txn->n_compares == 1) {
        lock = lock_of(request->txn->compares[0]->range->start);
        takes = request->txn->compares[0]->operand_case == KV__COMPARE__OPERAND_EXISTS;
    }
    if (lock < LOCKS && !takes && !reply->txn->succeeded) {
        KV_REACHED("former-holder-refused");
    }
    if (lock < LOCKS && takes && reply->txn->succeeded) {
        KV_REACHED("lock-taken");
        client->tokens[lock] = call->revision;
    } else if (lock < LOCKS && !takes &&
               request->txn->compares[0]->create_revision == client->tokens[lock] &&
               (!reply->txn->succeeded ||
                request->txn->then[0]->command_case == KV__REQUEST__COMMAND_DELETE)) {
        client->tokens[lock] = 0;
    }
    kv__request__free_unpacked(request, NULL);
}
