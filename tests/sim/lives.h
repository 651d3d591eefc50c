/* When keys and leases may end, by the time that nobody in the simulation sees: not before the ttl
 * that a client was promised is over, counted from when it asked, on the fastest clock that any
 * node had. Works on what clients were told and on what the log did (truth.h). */
#ifndef KV_TESTS_SIM_LIVES_H
#define KV_TESTS_SIM_LIVES_H

#include "tests/sim/calls.h"
#include "tests/sim/checkers.h"
#include "tests/sim/truth.h"

struct lives {
    uint64_t *applied_ns; /* by index - 1: when the first node applied the entry; 0: none has */
    size_t n_applied, capacity;
    uint64_t fastest_ppm; /* local time per true time, of any node at any moment */
};

void lives_init(struct lives *lives);
void lives_deinit(struct lives *lives);
void lives_applied(struct lives *lives, uint64_t index, uint64_t now_ns);
void lives_check(const struct lives *lives,
                 const struct history *history,
                 const struct truth *truth,
                 struct checkers *checkers);

#endif
