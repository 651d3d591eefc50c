/* kv/lock.h: the queue of a lock. Who waits watches the one entry before it that matters (of a
 * semaphore: all), so that a release wakes one waiter; when it is gone, the queue is read again,
 * since it may have given up rather than had its turn. */
#include "client/lock.h"

#include <inttypes.h>
#include <kv/lock.h>
#include <kv/txn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kv_lock {
    struct kv_entry entry;
    enum kv_lock_mode mode;
    unsigned permits;
    bool (*stop)(void *arg);
    void *arg;
};

/* What the queue looks like from one's own place. */
struct outlook {
    bool listed;         /* our own entry is there */
    size_t n_before;     /* entries that we wait for */
    int64_t last_token;  /* of the last of them */
    char last_key[4096]; /* a key's bound */
    size_t last_key_size;
    int64_t revision; /* that was read */
};

static const char kinds_of_mode[] = {'x', 'r', 's'};
/* Whom each mode waits for. */
static const char *const awaited[] = {"xr", "x", "s"};

/* ---------------------------------------------------------------- looking */

static void
note_entry(const struct kv_lock *lock, const struct kv_pair *pair, struct outlook *outlook)
{
    if (pair->create_revision == lock->entry.token) {
        outlook->listed |= pair->key.size == lock->entry.key_size &&
                           memcmp(pair->key.data, lock->entry.key, pair->key.size) == 0;
        return;
    }
    if (!kv_entry_is(pair->key, lock->entry.prefix_size, awaited[lock->mode])) {
        return;
    }
    outlook->n_before++;
    if (pair->create_revision > outlook->last_token && pair->key.size <= sizeof outlook->last_key) {
        outlook->last_token = pair->create_revision;
        outlook->last_key_size = pair->key.size;
        memcpy(outlook->last_key, pair->key.data, pair->key.size);
    }
}

static int look(struct kv_client *client,
                const struct kv_lock *lock,
                const struct kv_wait *wait,
                struct outlook *ret_outlook,
                struct kv_error *ret_error)
{
    struct kv_range_spec range = kv_entry_range(&lock->entry);
    struct kv_range_options options = {
        .keys_only = true, .max_create_revision = lock->entry.token, .call = kv_wait_call(wait)};
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(client, &range, &options, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    *ret_outlook = (struct outlook){0};
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        note_entry(lock, &pair, ret_outlook);
    }
    ret_outlook->revision = kv_range_revision(iterator);
    kv_range_close(iterator);
    return status;
}

static bool is_our_turn(const struct kv_lock *lock, const struct outlook *outlook)
{
    return outlook->n_before < (lock->mode == KV_LOCK_PERMIT ? lock->permits : 1);
}

/* ---------------------------------------------------------------- waiting */

static int lost_place(struct kv_error *ret_error)
{
    return kv_error_set(
        ret_error, KV_NOT_FOUND, "its lease ended, or its entry was deleted, while it waited");
}

static int wait_for_change(struct kv_client *client,
                           const struct kv_lock *lock,
                           const struct outlook *outlook,
                           const struct kv_wait *wait,
                           struct kv_error *ret_error)
{
    struct kv_wait_for what = {.revision = outlook->revision, .lease = lock->entry.lease};

    if (lock->mode == KV_LOCK_PERMIT) {
        what.range = kv_entry_range(&lock->entry);
    } else {
        what.range = (struct kv_range_spec){
            .kind = KV_RANGE_KEY, .start = kv_bytes_of(outlook->last_key, outlook->last_key_size)};
    }
    return kv_wait_event(client, wait, &what, ret_error);
}

/* One look, and what follows from it. 1: it is ours; 0: look again. */
static int step(struct kv_client *client,
                struct kv_lock *lock,
                bool no_wait,
                const struct kv_wait *wait,
                struct kv_error *ret_error)
{
    struct outlook outlook;
    enum kv_lease_state state;
    int status = look(client, lock, wait, &outlook, ret_error);

    if (status < 0) {
        return kv_wait_is_passing(status) ? kv_wait_again(wait, lock->entry.lease, ret_error)
                                          : status;
    }
    state = kv_lease_state(lock->entry.lease);
    if (!outlook.listed || state == KV_LEASE_LOST) {
        return lost_place(ret_error);
    }
    if (!is_our_turn(lock, &outlook)) {
        if (no_wait) {
            return kv_error_set(ret_error, KV_CONDITION_FAILED, "somebody else holds it");
        }
        return wait_for_change(client, lock, &outlook, wait, ret_error);
    }
    if (state == KV_LEASE_HELD) {
        return 1;
    }
    /* Our turn, by a lease that may be over. */
    return kv_wait_again(wait, lock->entry.lease, ret_error);
}

/* ---------------------------------------------------------------- acquire and release */

static int check(const struct kv_lock_options *options, struct kv_error *error)
{
    if ((unsigned)options->mode > KV_LOCK_PERMIT) {
        return kv_error_set(error, KV_INVALID, "unknown mode %d of lock", (int)options->mode);
    }
    if (options->mode == KV_LOCK_PERMIT &&
        (options->permits == 0 || options->permits > KV_LOCK_PERMITS_MAX)) {
        return kv_error_set(error,
                            KV_INVALID,
                            "a semaphore has 1 to %d permits, not %u",
                            KV_LOCK_PERMITS_MAX,
                            options->permits);
    }
    return kv_entry_check_name(options->name, "lock", error);
}

static int join_queue(struct kv_client *client,
                      struct kv_lock *lock,
                      const struct kv_lock_options *options,
                      const struct kv_wait *wait,
                      struct kv_error *ret_error)
{
    struct kv_put_options put = {.condition = KV_PUT_IF_ABSENT,
                                 .call = kv_wait_call(wait),
                                 .lease_id = kv_lease_id(lock->entry.lease)};
    struct kv_put_result result;
    int status =
        kv_put(client, kv_entry_key(&lock->entry), options->value, &put, &result, ret_error);

    if (status == 0) {
        lock->entry.token = result.revision;
    }
    return status;
}

/* What the error says is completed when others go on waiting for us. */
static void give_up(struct kv_lock *lock, uint64_t ttl_ms, struct kv_error *error)
{
    size_t used = error ? strlen(error->message) : 0;

    if (kv_lock_release(lock) < 0 && error) {
        snprintf(error->message + used,
                 sizeof error->message - used,
                 "; the cluster does not answer: its place in the queue is free when its lease has "
                 "ended, in %" PRIu64 " ms at most",
                 ttl_ms);
    }
}

int kv_lock_acquire(struct kv_client *client,
                    const struct kv_lock_options *options,
                    struct kv_lock **ret_lock,
                    struct kv_error *ret_error)
{
    struct kv_lease_options lease = {
        .ttl_ms = options->ttl_ms ? options->ttl_ms : KV_LOCK_TTL_DEFAULT_MS,
        .margin_ms = options->margin_ms,
        .fn = options->fn,
        .arg = options->arg,
    };
    struct kv_wait wait = kv_wait_begin(options->timeout_ms, options->stop, options->arg);
    struct kv_lock *lock;
    int status = check(options, ret_error);

    if (status < 0) {
        return status;
    }
    lock = calloc(1, sizeof *lock);
    if (!lock) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    lock->mode = options->mode;
    lock->permits = options->permits;
    lock->stop = options->stop;
    lock->arg = options->arg;
    lease.call = kv_wait_call(&wait);
    status = kv_entry_open(
        client, options->name, kinds_of_mode[lock->mode], &lease, &lock->entry, ret_error);
    if (status < 0) {
        free(lock);
        return kv_wait_outcome(&wait, status, ret_error);
    }
    status = join_queue(client, lock, options, &wait, ret_error);
    while (status == 0) {
        status = step(client, lock, options->no_wait, &wait, ret_error);
    }
    if (status < 0) {
        status = kv_wait_outcome(&wait, status, ret_error);
        give_up(lock, lease.ttl_ms, ret_error);
        return status;
    }
    *ret_lock = lock;
    return 0;
}

int kv_lock_release(struct kv_lock *lock)
{
    int status = 0;

    if (lock) {
        status = kv_entry_close(&lock->entry, lock->stop, lock->arg);
        free(lock);
    }
    return status;
}

/* ---------------------------------------------------------------- asking */

int64_t kv_lock_token(const struct kv_lock *lock)
{
    return lock->entry.token;
}

struct kv_bytes kv_lock_key(const struct kv_lock *lock)
{
    return kv_entry_key(&lock->entry);
}

int64_t kv_lock_lease_id(const struct kv_lock *lock)
{
    return kv_lease_id(lock->entry.lease);
}

enum kv_lease_state kv_lock_state(const struct kv_lock *lock)
{
    return kv_lease_state(lock->entry.lease);
}

uint64_t kv_lock_left_ms(const struct kv_lock *lock)
{
    return kv_lease_left_ms(lock->entry.lease);
}

enum kv_lease_state
kv_lock_wait(struct kv_lock *lock, enum kv_lease_state seen, unsigned timeout_ms)
{
    return kv_lease_wait(lock->entry.lease, seen, timeout_ms);
}

void kv_lock_guard(const struct kv_lock *lock, struct kv_txn *txn)
{
    kv_lock_guard_by(txn, kv_lock_key(lock), lock->entry.token);
}

void kv_lock_guard_by(struct kv_txn *txn, struct kv_bytes key, int64_t token)
{
    struct kv_compare compare = {
        .key = key, .what = KV_COMPARE_CREATE_REVISION, .comparison = KV_EQUAL, .number = token};

    kv_txn_compare(txn, &compare);
}
