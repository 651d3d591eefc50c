/* What is done while something is held: a command that runs, or waiting. */
#ifndef KV_KVCTL_HOLD_H
#define KV_KVCTL_HOLD_H

#include "client/kvctl/stream.h"

#include <kv/lock.h>

/* The options of a lock from those of the command; also says how it waits. */
struct kv_lock_options kvctl_lock_options(const struct kvctl *kvctl);
/* Prints why it was not acquired; KVCTL_NOT_MET when it is held by others. */
int kvctl_lock_failed(struct kvctl *kvctl, const struct kv_error *error);
/* Says when others have to wait although it was given up: what kv_lock_release returned. */
void kvctl_tell_release(struct kvctl *kvctl, int status);
/* Runs the words from the i-th on as a command with KV_FENCING_TOKEN, KV_LOCK_KEY and KV_LEASE_ID
 * in its environment; without words it waits for a signal. What is lost meanwhile ends the command.
 * Returns its exit code. */
int kvctl_hold(struct kvctl *kvctl, struct kv_lock *lock, size_t first_word);

#endif
