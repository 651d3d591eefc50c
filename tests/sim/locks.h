/* Mutual exclusion by fencing tokens, told by what clients were answered: whoever took the lock got
 * its create revision as the token, and guards each write by it. */
#ifndef KV_TESTS_SIM_LOCKS_H
#define KV_TESTS_SIM_LOCKS_H

#include "tests/sim/calls.h"
#include "tests/sim/checkers.h"

/* Keys of locks: created by who takes them, if absent; and what they guard. */
#define LOCKS_PREFIX "b/k/"
#define LOCKS_GUARDED_PREFIX "b/g/"

enum lock_act { LOCK_TAKEN, LOCK_WROTE };

struct lock_fact {
    enum lock_act act;
    unsigned client;
    int64_t token;
    int64_t revision;                /* of a write; of a lock that is taken: the token */
    uint64_t called_ns, returned_ns; /* in true time */
};

/* Of one lock. Sorts the facts. No token is given twice; who asks after another has got the lock
 * gets a greater one; a write that was accepted comes before the next token. */
void locks_judge(struct checkers *checkers, struct lock_fact *facts, size_t n);
void locks_check(const struct history *history, struct checkers *checkers);

#endif
