#include "tests/sim/shape.h"

#include "server/machine/machine_internal.h"

enum { TREE_SLOTS = 8, RECLAIM_PIECES = 8 };

void shape_machine(struct kv_machine *machine)
{
    struct kv_tree *const trees[] = {&machine->tree,
                                     &machine->elements,
                                     &machine->scores,
                                     &machine->deadlines,
                                     &machine->fields,
                                     &machine->lease_keys,
                                     &machine->leases.by_id,
                                     &machine->topics.names,
                                     &machine->topics.messages};

    for (size_t i = 0; i < sizeof trees / sizeof trees[0]; i++) {
        trees[i]->slots = TREE_SLOTS;
    }
    machine->reclaim_per_entry = RECLAIM_PIECES;
}

void shape_history(struct kv_machine *machine, size_t marks)
{
    if (marks > 0) {
        machine->history.marks_max = marks;
    }
}
