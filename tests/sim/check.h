/* Judges a recorded history (history.h) by two independent ways:
 *
 * - linear.h: linearizability, key by key, by search (Wing, Gong; Lowe's memo). It believes times
 *   and replies, and takes revisions only as the order of the writes of a key.
 * - replay.h: the whole store, by revision. Each change is carried out at the revision that its
 *   reply told; every answer must be what the model gives at the revision of that answer.
 *
 * How the simulator uses it: kv_history_begin, _item, _end while it runs; after the faults it lets
 * a client read all keys from each node, serializable (so the nodes' last states are judged, too);
 * then kv_check_history. Not thread safe. */
#ifndef KV_TESTS_SIM_CHECK_H
#define KV_TESTS_SIM_CHECK_H

#include "tests/sim/history.h"

#include <stdio.h>

enum kv_verdict {
    KV_VERDICT_GOOD,
    KV_VERDICT_GAVE_UP, /* a limit was reached for some keys; nothing bad was found in the rest */
    KV_VERDICT_BAD,
};

struct kv_check_options { /* 0: the default */
    uint64_t steps_max;   /* of the search, per key */
    uint64_t memo_max;    /* states that the search remembers, per key */
    uint64_t touches_max; /* operations times the keys that each looks at */
};

#define KV_REPORT_TEXT_SIZE 16384u
struct kv_report {
    enum kv_verdict verdict;
    char text[KV_REPORT_TEXT_SIZE]; /* what is wrong, with the key; "" when nothing is */
    size_t length;
    char key[64]; /* of the first complaint, in quotes and shortened; "" none */
    uint64_t n_ops;
    uint64_t n_answered;
    uint64_t n_open;
    uint64_t n_keys;
    uint64_t n_touches;
    uint64_t n_revisions;
    uint64_t steps;     /* of the search, all keys */
    uint64_t memo_most; /* remembered states, of one key */
    uint64_t keys_given_up;
    uint64_t gaps;          /* revisions that no answered write made */
    uint64_t gaps_resolved; /* of those: it is known which write of unknown outcome did */
    uint64_t unsure;        /* looks at a key whose state was not known at that revision */
    bool replayed;          /* false: replies lack revisions, only the search was done */
};

void kv_check_history(const struct kv_history *history,
                      const struct kv_check_options *options,
                      struct kv_report *ret_report);
/* One line of numbers. */
void kv_report_print(const struct kv_report *report, FILE *file);

/* For the checkers. Adds a complaint about a key (NULL: none). */
void kv_report_bad(struct kv_report *report, const struct kv_slice *key, const char *format, ...)
    KV_PRINTF(3, 4);
/* Adds text to the last complaint. */
void kv_report_add(struct kv_report *report, const char *format, ...) KV_PRINTF(2, 3);
void kv_report_add_op(struct kv_report *report,
                      const struct kv_history *history,
                      const struct kv_history_op *op);

#endif
