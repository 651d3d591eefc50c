/* The whole history against the naive model, by revision: every change is carried out at the
 * revision that its reply told, every other answer must be what the model gives at the revision it
 * tells, on all keys at once. The store is empty when the history begins.
 *
 * - Each revision is made once; one that was told before a request was sent is not beyond what that
 *   request sees, and below what it makes.
 * - A revision that no answered write made (a gap) was made by a write of unknown outcome, sent
 *   before anybody was told of the revision. Which one is inferred from what was seen of it; where
 *   that does not decide, the keys in question are unknown until the next look at them or change.
 * - Serializable reads do not go back for one client at one node.
 *
 * Needs no search: linear in operations and touches, and gaps times open writes. */
#ifndef KV_TESTS_SIM_REPLAY_H
#define KV_TESTS_SIM_REPLAY_H

#include "tests/sim/touch.h"

struct kv_replay {
    struct kv_touches *touches;
    const struct kv_history *history;
    struct kv_report *report;
    struct kv_key_state *states; /* by key, at the revision that is looked at */
    int64_t newest;              /* highest revision that was told */
    size_t *makers;              /* by revision: 1 + the answered write that made it; 0: a gap */
    size_t *may_makers;          /* 1 + an append of nothing: a maker if the key was absent */
    bool *may_foreign; /* by revision: an answered write on unknown keys is a maker, or not */
    size_t *may_next;  /* by operation: 1 + the next such one of the revision */
    uint64_t *told;    /* by revision: when it, or a later one, was first told */
    size_t *tellers;   /* 1 + the operation that was */
    size_t *open;      /* writes of unknown outcome, in order */
    size_t n_open;
    int64_t *used_at;             /* by place in open: the revision that it made; 0: not known */
    const struct kv_touch **seen; /* by revision: a pair that says it was changed then, or NULL */
};

/* Stops at the first complaint. */
void kv_replay_check(struct kv_touches *touches, struct kv_report *report);

/* --- replay_gaps.c --- */
/* Gathers the evidence; false: it contradicts itself (complained). */
bool kv_replay_gather(struct kv_replay *replay);
/* Each gap has a write of its own that may have made it; else complains. */
bool kv_replay_match_gaps(struct kv_replay *replay);
/* Carries out what is known of the gap. */
bool kv_replay_gap(struct kv_replay *replay, int64_t revision);
/* An answered append of nothing, or a write on unknown keys, may have made the revision, or any
 * open write. */
void kv_replay_doubt(struct kv_replay *replay, int64_t revision);

#endif
