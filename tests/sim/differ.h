/* A machine whose state is not what its log says. Apart, since the names inside the machine are
 * those of the simulator's model, too. */
#ifndef KV_TESTS_SIM_DIFFER_H
#define KV_TESTS_SIM_DIFFER_H

#include "server/machine/machine.h"

/* Its hash is too large by so much from now on. */
void differ_by(struct kv_machine *machine, uint64_t hash_error);

#endif
