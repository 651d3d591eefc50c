/* Locks: mutual exclusion among programs. Mutex, reader-writer lock and semaphore are one thing
 * here, in three modes. They are made of keys and leases alone; docs/guide/coordination.md says
 * how, so that programs in other languages can take part. Conventions (status, threads, memory,
 * retries): kv/client.h.
 *
 * Who wants a lock puts a key under its name, bound to a lease of its own: NAME/x-ID (exclusive),
 * NAME/r-ID (shared) or NAME/s-ID (permit), ID being the lease's id in 16 hexadecimal digits. The
 * order of the keys' create revisions is the queue: nobody overtakes, and writers are not starved
 * by readers. What a crashed program leaves goes with its lease.
 *
 *     status = kv_lock_acquire(client, &(struct kv_lock_options){.name = name}, &lock, &error);
 *     ...
 *     kv_txn_begin(client, &txn, &error);
 *     kv_lock_guard(lock, txn);         // nothing happens unless the lock is still ours
 *     kv_txn_put(txn, key, value);
 *     kv_txn_commit(txn, NULL, &result, &error);     // result.succeeded
 *     ...
 *     kv_lock_release(lock);
 *
 * A program may be paused for longer than its lease lives, and then go on without knowing: that is
 * what the fencing token is for. It grows from holder to holder (shared holders have one each).
 * What is kept in this cluster is written with kv_lock_guard; another store must refuse tokens that
 * are lower than the highest it has seen. */
#ifndef KV_LOCK_H
#define KV_LOCK_H

#include <kv/client.h>
#include <kv/lease.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_txn;
struct kv_lock;

enum {
    KV_LOCK_NAME_BYTES_MAX = 4077, /* a key has 4096, of which an entry takes 19 */
    KV_LOCK_PERMITS_MAX = 4096,    /* who waits reads the entries of so many holders */
    KV_LOCK_TTL_DEFAULT_MS = 10000,
};

enum kv_lock_mode {
    KV_LOCK_EXCLUSIVE = 0, /* alone; the writer of a reader-writer lock */
    KV_LOCK_SHARED,        /* together with others that share; waits for earlier exclusive ones */
    KV_LOCK_PERMIT,        /* one of `permits` (a semaphore); apart from the two above */
};

struct kv_lock_options {
    struct kv_bytes name; /* 1..KV_LOCK_NAME_BYTES_MAX bytes */
    enum kv_lock_mode mode;
    unsigned permits;        /* of KV_LOCK_PERMIT, 1..KV_LOCK_PERMITS_MAX; the same for all that use
                              * the name */
    struct kv_bytes value;   /* of the entry's key: who holds it, for people */
    uint64_t ttl_ms;         /* after a crash others wait so long; 0: KV_LOCK_TTL_DEFAULT_MS */
    uint64_t margin_ms;      /* as of kv_lease_options */
    bool no_wait;            /* KV_CONDITION_FAILED when somebody holds it */
    uint64_t timeout_ms;     /* KV_DEADLINE after so long; 0: waits */
    bool (*stop)(void *arg); /* asked several times a second while it waits, as of kv_call_options,
                              * also by kv_lock_release; true: KV_CLOSED. May be NULL */
    kv_lease_fn fn; /* told when the lock is in doubt, or lost, as of kv_lease_options; may be NULL:
                     * ask with kv_lock_state */
    void *arg;      /* of both; as long as the lock */
};
/* Waits for its turn. The client must outlive the lock, and have a session (not no_session).
 * KV_CONDITION_FAILED, KV_DEADLINE, KV_CLOSED: as said above, and the place in the queue is given
 * up. KV_NOT_FOUND: the lease ended, or the entry was deleted, while it waited. KV_INVALID: the
 * message names the option. Otherwise as of kv_lease_hold and kv_put. */
int kv_lock_acquire(struct kv_client *client,
                    const struct kv_lock_options *options,
                    struct kv_lock **ret_lock,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* Gives it up, and frees it whatever comes of that. 0: others may have it. Negative: the cluster
 * has not said so in time (5 s, or the ttl when that is less; half a second more once `stop` says
 * true), and others have it when the lease has ended by itself: KV_DEADLINE or KV_OUTCOME_UNKNOWN
 * (it may have ended already), or what stood in the way of asking (KV_CLOSED, KV_NO_LEADER,
 * KV_BUSY, KV_CORRUPT). Takes NULL. */
int kv_lock_release(struct kv_lock *lock);

/* The fencing token: the create revision of the entry's key. */
int64_t kv_lock_token(const struct kv_lock *lock);
/* The entry's key; lives as long as the lock. */
struct kv_bytes kv_lock_key(const struct kv_lock *lock);
int64_t kv_lock_lease_id(const struct kv_lock *lock);
/* Is it still ours? As of kv_lease_state, kv_lease_left_ms, kv_lease_wait. */
enum kv_lease_state kv_lock_state(const struct kv_lock *lock);
uint64_t kv_lock_left_ms(const struct kv_lock *lock);
enum kv_lease_state
kv_lock_wait(struct kv_lock *lock, enum kv_lease_state seen, unsigned timeout_ms);

/* Adds the compare that is true only while the lock is held: `then` runs under it, or not at all.
 */
void kv_lock_guard(const struct kv_lock *lock, struct kv_txn *txn);
/* The same for who knows the key and the token alone. */
void kv_lock_guard_by(struct kv_txn *txn, struct kv_bytes key, int64_t token);

#ifdef __cplusplus
}
#endif

#endif
