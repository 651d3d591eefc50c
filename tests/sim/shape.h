/* Sizes of a machine, chosen so that little data makes much happen. */
#ifndef KV_TESTS_SIM_SHAPE_H
#define KV_TESTS_SIM_SHAPE_H

#include <stddef.h>

struct kv_machine;

/* A hundred keys make a tree of several levels, and memory comes back slowly. No answer of the
 * machine may depend on it: nodes with such machines and with others run in one cluster. */
void shape_machine(struct kv_machine *machine);
/* So many marks say where its history can end; 0: as many as ever. It decides what is kept, so it
 * is the same of all machines of a run. */
void shape_history(struct kv_machine *machine, size_t marks);

#endif
