/* What a queue must do, told without the log: each value that was pushed is given to one pop or is
 * still there, and values leave in the order in which they came. */
#ifndef KV_TESTS_SIM_QUEUES_H
#define KV_TESTS_SIM_QUEUES_H

#include "tests/sim/calls.h"
#include "tests/sim/checkers.h"

/* Keys of queues: pushed to on the right, popped from on the left, touched by nothing else. */
#define QUEUES_PREFIX "b/q/"

enum queue_fact_kind {
    QUEUE_PUSHED, /* a value */
    QUEUE_POPPED, /* a value was given to somebody who knows it */
    QUEUE_LEFT,   /* a value is there at the end */
    QUEUE_MISSED, /* a pop may have taken `count` values, and its client does not know which */
};

struct queue_fact {
    enum queue_fact_kind kind;
    struct kv_slice key, value;
    int64_t revision; /* 0: not known */
    bool refused;     /* of a push: nothing was done */
    size_t place;     /* within the push or pop, or from the left of what is left */
    uint64_t count;
};

/* Sorts the facts. */
void queues_judge(struct checkers *checkers, struct queue_fact *facts, size_t n);
/* The calls of a history and the state that the log has led to. */
void queues_check(const struct history *history,
                  struct kv_machine *machine,
                  struct checkers *checkers);

#endif
