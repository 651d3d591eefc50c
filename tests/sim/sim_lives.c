/* Keys that end by themselves, and leases: granted, renewed by any client through any node,
 * revoked, or left to die. lives.c judges when they ended. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <inttypes.h>
#include <string.h>

enum {
    KEYS = 8,
    LEASES = 5,
    NAME_BYTES = 24,
    TTL_MAX_MS = 6000,
    RENEWED_MAX = 3,
    LEASE_TTL_MIN_MS = 1000,
    FULL = 160,
    FULL_KEYS = 200,
    MANY = 300,
    TOGETHER_MIN = 30,
    TOGETHER_SPREAD = 70
};

struct drafting {
    struct sim *sim;
    struct kv_arena *arena;
    Kv__Request *request;
};

static uint64_t pick(const struct drafting *drafting, uint64_t below)
{
    return sim_random(drafting->sim, SIM_RANDOM_LIVES, below);
}

static void *make(const struct drafting *drafting, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = kv_arena_alloc(drafting->arena, descriptor->sizeof_message);

    KV_ASSERT(message);
    protobuf_c_message_init(descriptor, message);
    return message;
}

static ProtobufCBinaryData numbered_key(const struct drafting *drafting, uint64_t number)
{
    char *text = kv_arena_alloc(drafting->arena, NAME_BYTES);

    KV_ASSERT(text);
    return (ProtobufCBinaryData){(size_t)snprintf(text, NAME_BYTES, "b/l/%u", (unsigned)number),
                                 (uint8_t *)text};
}

static ProtobufCBinaryData any_key(const struct drafting *drafting)
{
    return numbered_key(drafting, pick(drafting, KEYS));
}

/* Few, so that they meet; a long one now and then. */
static uint64_t any_ttl(const struct drafting *drafting)
{
    return pick(drafting, 4) ? 1 + pick(drafting, 1500) : 1 + pick(drafting, TTL_MAX_MS);
}

/* One of those that clients name, or that the cluster chose lately. */
static int64_t any_lease(const struct drafting *drafting)
{
    const struct sim *sim = drafting->sim;

    return sim->chosen_lease != 0 && pick(drafting, LEASES + 1) == 0
               ? sim->chosen_lease
               : 1 + (int64_t)pick(drafting, LEASES);
}

/* ---------------------------------------------------------------- leases */

static void draft_grant(const struct drafting *drafting)
{
    Kv__LeaseGrant *grant = make(drafting, &kv__lease_grant__descriptor);

    grant->lease_id = pick(drafting, 6) ? 1 + (int64_t)pick(drafting, LEASES) : 0;
    grant->ttl_ms = LEASE_TTL_MIN_MS + any_ttl(drafting);
    drafting->request->command_case = KV__REQUEST__COMMAND_LEASE_GRANT;
    drafting->request->lease_grant = grant;
}

static void draft_renewal(const struct drafting *drafting)
{
    Kv__LeaseKeepAlive *renewal = make(drafting, &kv__lease_keep_alive__descriptor);

    renewal->n_lease_ids = 1 + pick(drafting, RENEWED_MAX);
    renewal->lease_ids =
        kv_arena_alloc(drafting->arena, renewal->n_lease_ids * sizeof *renewal->lease_ids);
    KV_ASSERT(renewal->lease_ids);
    for (size_t i = 0; i < renewal->n_lease_ids; i++) {
        renewal->lease_ids[i] = any_lease(drafting);
    }
    drafting->request->command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    drafting->request->lease_keep_alive = renewal;
}

static void draft_revoke(const struct drafting *drafting)
{
    Kv__LeaseRevoke *revoke = make(drafting, &kv__lease_revoke__descriptor);

    revoke->lease_id = any_lease(drafting);
    drafting->request->command_case = KV__REQUEST__COMMAND_LEASE_REVOKE;
    drafting->request->lease_revoke = revoke;
}

/* ---------------------------------------------------------------- keys */

static void draft_put(const struct drafting *drafting)
{
    Kv__Put *put = make(drafting, &kv__put__descriptor);

    put->key = any_key(drafting);
    put->value = any_key(drafting);
    switch (pick(drafting, 6)) {
    case 0:
        put->expiry_case = KV__PUT__EXPIRY_KEEP;
        put->keep = true;
        break;
    case 1:
    case 2:
        put->expiry_case = KV__PUT__EXPIRY_TTL_MS;
        put->ttl_ms = any_ttl(drafting);
        break;
    case 3:
        break;
    default:
        put->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
        put->lease_id = any_lease(drafting);
        break;
    }
    drafting->request->command_case = KV__REQUEST__COMMAND_PUT;
    drafting->request->put = put;
}

/* The i-th command of a transaction: a put that keeps no time yet. */
static Kv__Put *add_put(const struct drafting *drafting, Kv__Txn *txn, size_t i)
{
    Kv__Put *put = make(drafting, &kv__put__descriptor);

    txn->then[i] = make(drafting, &kv__request__descriptor);
    txn->then[i]->command_case = KV__REQUEST__COMMAND_PUT;
    txn->then[i]->put = put;
    return put;
}

static Kv__Txn *make_txn(const struct drafting *drafting, size_t n)
{
    Kv__Txn *txn = make(drafting, &kv__txn__descriptor);

    txn->n_then = n;
    txn->then = kv_arena_alloc(drafting->arena, (n + 1) * sizeof *txn->then);
    KV_ASSERT(txn->then);
    drafting->request->command_case = KV__REQUEST__COMMAND_TXN;
    drafting->request->txn = txn;
    return txn;
}

/* More keys for one lease than one command may end, when that is set low; it may end with them. */
static void draft_full_lease(const struct drafting *drafting)
{
    Kv__Txn *txn = make_txn(drafting, FULL);
    const int64_t lease_id = any_lease(drafting);
    const uint64_t first = pick(drafting, FULL_KEYS);

    for (unsigned i = 0; i < FULL; i++) {
        Kv__Put *put = add_put(drafting, txn, i);

        put->key = numbered_key(drafting, KEYS + (first + i) % FULL_KEYS);
        put->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
        put->lease_id = lease_id;
    }
    if (pick(drafting, 2)) {
        Kv__LeaseRevoke *revoke = make(drafting, &kv__lease_revoke__descriptor);

        revoke->lease_id = lease_id;
        txn->then[FULL] = make(drafting, &kv__request__descriptor);
        txn->then[FULL]->command_case = KV__REQUEST__COMMAND_LEASE_REVOKE;
        txn->then[FULL]->lease_revoke = revoke;
        txn->n_then++;
    }
}

/* Keys that end at the same moment, more than one entry takes beside its commands. */
static void draft_together(const struct drafting *drafting)
{
    const unsigned first = (unsigned)pick(drafting, MANY);
    const uint64_t ttl_ms = any_ttl(drafting);
    const int64_t lease_id = pick(drafting, 2) ? any_lease(drafting) : 0;
    Kv__Txn *txn = make_txn(drafting, TOGETHER_MIN + pick(drafting, TOGETHER_SPREAD));

    for (size_t i = 0; i < txn->n_then; i++) {
        Kv__Put *put = add_put(drafting, txn, i);
        char *text = kv_arena_alloc(drafting->arena, NAME_BYTES);

        KV_ASSERT(text);
        put->key.data = (uint8_t *)text;
        put->key.len =
            (size_t)snprintf(text, NAME_BYTES, "b/l/m/%u", (first + (unsigned)i) % (unsigned)MANY);
        put->expiry_case = lease_id ? KV__PUT__EXPIRY_LEASE_ID : KV__PUT__EXPIRY_TTL_MS;
        if (lease_id) {
            put->lease_id = lease_id;
        } else {
            put->ttl_ms = ttl_ms;
        }
    }
}

static void draft_expire(const struct drafting *drafting)
{
    Kv__Expire *expire = make(drafting, &kv__expire__descriptor);

    expire->key = any_key(drafting);
    if (pick(drafting, 2)) {
        expire->expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
        expire->ttl_ms = any_ttl(drafting);
    } else {
        expire->expiry_case = KV__EXPIRE__EXPIRY_LEASE_ID;
        expire->lease_id = any_lease(drafting);
    }
    drafting->request->command_case = KV__REQUEST__COMMAND_EXPIRE;
    drafting->request->expire = expire;
}

static void draft_persist(const struct drafting *drafting)
{
    Kv__Persist *persist = make(drafting, &kv__persist__descriptor);

    persist->key = any_key(drafting);
    drafting->request->command_case = KV__REQUEST__COMMAND_PERSIST;
    drafting->request->persist = persist;
}

/* ---------------------------------------------------------------- reads */

static void draft_read(const struct drafting *drafting)
{
    Kv__Request *request = drafting->request;

    switch (pick(drafting, 4)) {
    case 0:
        request->command_case = KV__REQUEST__COMMAND_TTL;
        request->ttl = make(drafting, &kv__ttl__descriptor);
        request->ttl->key = any_key(drafting);
        break;
    case 1:
        request->command_case = KV__REQUEST__COMMAND_LEASE_INFO;
        request->lease_info = make(drafting, &kv__lease_info__descriptor);
        request->lease_info->lease_id = any_lease(drafting);
        request->lease_info->with_keys = pick(drafting, 2) > 0;
        request->lease_info->limit = pick(drafting, 4);
        if (pick(drafting, 3) == 0) {
            request->lease_info->cursor = any_key(drafting);
        }
        break;
    case 2:
        request->command_case = KV__REQUEST__COMMAND_LEASE_LIST;
        request->lease_list = make(drafting, &kv__lease_list__descriptor);
        request->lease_list->limit = pick(drafting, 4);
        request->lease_list->after_id = (int64_t)pick(drafting, 2);
        break;
    default:
        request->command_case = KV__REQUEST__COMMAND_GET;
        request->get = make(drafting, &kv__get__descriptor);
        request->get->key = any_key(drafting);
        break;
    }
}

void sim_lives_draft(struct sim *sim, struct kv_arena *arena, bool is_write, Kv__Request *request)
{
    struct drafting drafting = {sim, arena, request};
    uint64_t throw = pick(&drafting, 20);

    if (!is_write) {
        draft_read(&drafting);
    } else if (sim->profile.many_percent > 0 && pick(&drafting, 100) < sim->profile.many_percent) {
        draft_together(&drafting);
    } else if (throw < 3) {
        draft_grant(&drafting);
    } else if (throw < 4 && sim->profile.leases_are_full) {
        draft_full_lease(&drafting);
    } else if (throw < 10) {
        draft_renewal(&drafting);
    } else if (throw < 11 || (throw < 12 && sim->profile.leases_are_full)) {
        draft_revoke(&drafting);
    } else if (throw < 17) {
        draft_put(&drafting);
    } else if (throw < 19) {
        draft_expire(&drafting);
    } else {
        draft_persist(&drafting);
    }
    if (pick(&drafting, 100) < sim->profile.spoil_percent) {
        sim_spoil(sim, arena, request);
    }
}

bool sim_lives_are_over(const struct sim *sim)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        struct kv_machine_stats stats;

        if (!sim->nodes[i].is_up) {
            continue;
        }
        kv_machine_stats(sim->nodes[i].node->machine, &stats);
        if (stats.leases + stats.expiring + stats.leased > 0) {
            return false;
        }
    }
    return true;
}
