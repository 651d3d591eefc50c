/* Linearizability by search, key by key: there must be an order of the operations in which each has
 * its effect between its begin and its end and every reply is what the model gives. Wing and Gong,
 * "Testing and verifying concurrent objects" (1993), with Lowe's memo of (set of operations done,
 * state), "Testing for linearizability" (2017).
 *
 * Operations on several keys are taken apart: each part must fit its key (that they fit at one
 * moment is what replay.h checks). Writes of unknown outcome may be done at any time after they
 * began, once, or never. Serializable reads and reads at a revision have no moment; replay.h checks
 * them. The store is empty when the history begins.
 *
 * What keeps the search short and loses nothing: a look that fits and teaches nothing is taken at
 * once; the writes of a key whose revisions were told go in that order; a write of unknown outcome
 * goes only where it changes something and a revision is left for it.
 *
 * First all that told a revision must go in that order: an order that does is one, and is found
 * with hardly a choice. Only when there is none the search forgets the revisions of looks.
 *
 * Iterative; bounded in steps and memory. A set is remembered by a fingerprint of 128 bits, so the
 * memo takes 16 bytes a state; that two of a million states share one has a chance of 2^-89. */
#ifndef KV_TESTS_SIM_LINEAR_H
#define KV_TESTS_SIM_LINEAR_H

#include "tests/sim/touch.h"

/* Complains about each key that has no order: the fewest operations found that cannot be ordered.
 */
void kv_linear_check(struct kv_touches *touches,
                     const struct kv_check_options *options,
                     struct kv_report *report);

/* --- linear_search.c --- */

/* Events of one key in their order: 2 * touch for its begin, 2 * touch + 1 for its end. `touch`
 * counts within `touches`. Those of unknown outcome have no end. */
struct kv_linear_key {
    const struct kv_touch **touches;
    int64_t *revisions; /* of the change that it made; 0: none, or not told */
    int64_t *ranks;     /* place by told revision, changes before looks; 0: not told */
    size_t n_touches;
    uint32_t *events;
    size_t n_events;
};

/* A part of the events: what has ended before `from` is left out, and what was there then is
 * unknown (unless from is 0); what begins at `to` or later is left out, and what has not ended
 * then may be done or not. */
struct kv_linear_window {
    size_t from;
    size_t to;
    const bool *skip; /* by touch: looks to leave out; NULL: none */
    bool by_revision; /* all in the order of ranks; else only the sure changes */
};

enum kv_linear_result { KV_LINEAR_FITS, KV_LINEAR_FITS_NOT, KV_LINEAR_GAVE_UP };

struct kv_search;
struct kv_search *kv_search_open(struct kv_values *values,
                                 const int64_t *next_gap, /* by revision; NULL: not known */
                                 int64_t newest,
                                 uint64_t steps_max,
                                 uint64_t memo_max);
void kv_search_close(struct kv_search *search);
enum kv_linear_result kv_search_run(struct kv_search *search,
                                    const struct kv_linear_key *key,
                                    const struct kv_linear_window *window);
/* Of the last run. */
uint64_t kv_search_steps(const struct kv_search *search);
uint64_t kv_search_memo(const struct kv_search *search);
/* Where it got furthest: the operation that ended and fitted nowhere, and the state before it. */
const struct kv_touch *kv_search_stuck(const struct kv_search *search,
                                       struct kv_key_state *ret_state);

#endif
