#include "tests/sim/differ.h"

#include "server/machine/machine_internal.h"

void differ_by(struct kv_machine *machine, uint64_t hash_error)
{
    machine->state_hash += hash_error;
}
