/* What a machine's state does not depend on, chosen so that little data makes much happen. */
#ifndef KV_TESTS_SIM_SHAPE_H
#define KV_TESTS_SIM_SHAPE_H

struct kv_machine;

/* A hundred keys make a tree of several levels, and memory comes back slowly. No answer of the
 * machine may depend on it: nodes with such machines and with others run in one cluster. */
void shape_machine(struct kv_machine *machine);

#endif
