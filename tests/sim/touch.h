/* A history taken apart by key: what each operation does to each key, and what its reply says of
 * it. Both checkers work on this. Also finds what is wrong with a reply by itself: keys outside of
 * the range, out of order, pieces of two revisions. */
#ifndef KV_TESTS_SIM_TOUCH_H
#define KV_TESTS_SIM_TOUCH_H

#include "tests/sim/check.h"
#include "tests/sim/model.h"

struct kv_op_info {
    size_t first; /* its touches */
    size_t count;
    enum kv_outcome outcome;
    bool is_write;
    bool changes;            /* it surely took a revision: that of its reply */
    bool may_change;         /* appends nothing: changes only an absent key */
    bool foreign;            /* makes a revision, or not; touches no key */
    bool at_revision;        /* a read of the past */
    int64_t state_revision;  /* of the state that it saw; of a change: that it made. 0: not told */
    int64_t answer_revision; /* of the store when it was answered; 0: not told */
    uint32_t key_from;       /* of a count: the keys of its range ... */
    uint32_t key_to;
    int64_t counted; /* ... and how many it told; -1: it is none */
};

struct kv_touches {
    const struct kv_history *history;
    struct kv_values values;
    struct kv_slice *keys; /* in order; a key's number is its place */
    size_t n_keys;
    struct kv_touch *touches; /* by operation */
    size_t n_touches;
    bool too_many; /* touches; the rest was left out */
    struct kv_op_info *infos;
    /* For building. */
    size_t capacity;
    size_t max_touches;
    struct kv_touch left_out;
    uint32_t *slots; /* keys by hash */
    size_t n_slots;
};

/* Complains into *report. Without memory the process ends. */
void kv_touches_init(struct kv_touches *touches,
                     const struct kv_history *history,
                     size_t max_touches,
                     struct kv_report *report);
void kv_touches_deinit(struct kv_touches *touches);

/* The filters of its range are none. */
bool kv_range_is_plain(const Kv__Range *range);

#endif
