/* Inside libkv: what locks, elections and barriers share: entries (keys bound to a lease under a
 * name), and waiting with a timeout. */
#ifndef KV_CLIENT_LOCK_H
#define KV_CLIENT_LOCK_H

#include "client/blocking.h"

#include <kv/lease.h>
#include <kv/watch.h>

/* A node without a leader for so long knows nothing new: another one is asked. */
enum { KV_WAIT_LEADER_MS = 2000 };

/* A bounded wait. */
struct kv_wait {
    uint64_t until_ns; /* UINT64_MAX: no bound */
    bool (*stop)(void *arg);
    void *arg;
};
struct kv_wait kv_wait_begin(uint64_t timeout_ms, bool (*stop)(void *arg), void *arg);
/* 0, KV_DEADLINE or KV_CLOSED. */
int kv_wait_check(const struct kv_wait *wait, struct kv_error *ret_error);
/* How a wait ends whose call failed: KV_CLOSED or KV_DEADLINE when that was because it was stopped
 * or its time is over (the call may say less: that the outcome is unknown), else the call's status.
 */
int kv_wait_outcome(const struct kv_wait *wait, int status, struct kv_error *ret_error);
/* At most KV_WAIT_LOOK_MS, less when the time is over before. */
unsigned kv_wait_slice_ms(const struct kv_wait *wait);
/* Of a call within it: the deadline is what is left, at most what calls have as a rule. */
struct kv_call_options kv_wait_call(const struct kv_wait *wait);
/* Will it be otherwise if it is tried again? No leader, lost connections, a deadline. */
bool kv_wait_is_passing(int status);
/* Something that passes was in the way: waits a little, then as kv_wait_check. */
int kv_wait_again(const struct kv_wait *wait, struct kv_lease *lease, struct kv_error *ret_error);
/* Waits for a deletion or expiry (or with `all` any event) in the range behind the revision. 0:
 * look again, since it came, or the lease is lost, or the watch is over (the history is not kept so
 * long, say, or no room for it). Asks kv_wait_check at least once. */
struct kv_wait_for {
    struct kv_range_spec range;
    int64_t revision;
    bool all;
    struct kv_lease *lease;
};
int kv_wait_event(struct kv_client *client,
                  const struct kv_wait *wait,
                  const struct kv_wait_for *what,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* NAME/x-0123456789abcdef */
struct kv_entry {
    char *key; /* owned */
    size_t key_size;
    size_t prefix_size; /* NAME/ */
    struct kv_lease *lease;
    int64_t token;
};
enum { KV_ENTRY_BYTES = 19 }; /* behind the name */
/* KV_INVALID, said of `what`. */
int kv_entry_check_name(struct kv_bytes name, const char *what, struct kv_error *ret_error);
/* Holds a lease and makes the key's name. */
int kv_entry_open(struct kv_client *client,
                  struct kv_bytes name,
                  char kind,
                  const struct kv_lease_options *lease,
                  struct kv_entry *ret_entry,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* Gives the lease up and with it the key. What it returns is of kv_lease_end. */
int kv_entry_close(struct kv_entry *entry, bool (*stop)(void *arg), void *arg);
struct kv_bytes kv_entry_key(const struct kv_entry *entry);
/* All that begins with NAME/. */
struct kv_range_spec kv_entry_range(const struct kv_entry *entry);
/* Is it an entry of this name, of one of these kinds? */
bool kv_entry_is(struct kv_bytes key, size_t prefix_size, const char *kinds);

#endif
