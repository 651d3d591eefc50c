/* Elections: one of several candidates leads. The queue of candidates is that of an exclusive lock
 * (kv/lock.h), and the value of each entry is what the candidate wants others to know: an address,
 * say. Conventions: kv/client.h. */
#ifndef KV_ELECTION_H
#define KV_ELECTION_H

#include <kv/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_election;

/* Waits until this candidate leads. Of the options, mode and permits are not used. Errors as of
 * kv_lock_acquire; no_wait: KV_CONDITION_FAILED when somebody leads. */
int kv_election_campaign(struct kv_client *client,
                         const struct kv_lock_options *options,
                         struct kv_election **ret_election,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* The lock behind it: token, state, guard. Lives as long as the election. */
struct kv_lock *kv_election_lock(struct kv_election *election);
/* Leads on with another value. KV_CONDITION_FAILED: it does not lead any more. */
int kv_election_proclaim(struct kv_election *election,
                         struct kv_bytes value,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* The next candidate leads; as of kv_lock_release. Takes NULL. */
int kv_election_resign(struct kv_election *election);

struct kv_leader {
    bool present; /* somebody leads; otherwise only revision is set */
    struct kv_bytes value;
    struct kv_bytes key; /* of its entry */
    int64_t token;       /* its create revision */
    int64_t revision;    /* of the store when this was so */
    void *memory;        /* libkv's own */
};
void kv_leader_free(struct kv_leader *leader);
/* Who leads now. */
int kv_election_leader(struct kv_client *client,
                       struct kv_bytes name,
                       const struct kv_call_options *options,
                       struct kv_leader *ret_leader,
                       struct kv_error *ret_error) KV_MUST_CHECK;

/* The leaders one after the other, first the present one; those that led for less than it takes to
 * look may be left out. One thread at a time. The client must outlive it. options: of the reads of
 * kv_election_observe_next; copied, may be NULL. */
struct kv_election_observer;
int kv_election_observe(struct kv_client *client,
                        struct kv_bytes name,
                        const struct kv_call_options *options,
                        struct kv_election_observer **ret_observer,
                        struct kv_error *ret_error) KV_MUST_CHECK;
/* 1: *ret_leader is another one than before, or has another value, or nobody leads any more; to be
 * freed. 0: nothing new within timeout_ms. Negative: as of kv_watch_next; what passes (no leader of
 * the cluster, say) may be tried again. */
int kv_election_observe_next(struct kv_election_observer *observer,
                             unsigned timeout_ms,
                             struct kv_leader *ret_leader,
                             struct kv_error *ret_error) KV_MUST_CHECK;
/* Takes NULL. */
void kv_election_observe_close(struct kv_election_observer *observer);

#ifdef __cplusplus
}
#endif

#endif
