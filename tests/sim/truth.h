/* What happened, revision by revision, found by comparing the states that the committed log leads
 * to: no event log of the machine's is asked. What streams tell is judged by this (follow.h). */
#ifndef KV_TESTS_SIM_TRUTH_H
#define KV_TESTS_SIM_TRUTH_H

#include "common/arena.h"
#include "server/machine/machine.h"

/* An element of a collection: field and value, member and score, or a list's element as the name.
 */
struct true_element {
    struct kv_slice name, value;
    double score;
};

/* Elements by name; those of a list, too. */
struct true_content {
    struct true_element *elements;
    size_t n;
};

/* What one revision did to one key. */
struct true_event {
    int64_t revision;
    struct kv_slice key;
    const Kv__KeyValue *before;             /* NULL: it was not there */
    const Kv__KeyValue *after;              /* NULL: it is gone */
    const struct true_content *was, *holds; /* of collections; NULL: not known */
    bool by_time; /* its time, or its lease's, was over; not a command's doing */
};

struct true_key {
    struct kv_slice key;
    const Kv__KeyValue *kv;
    const struct true_content *content;
};

struct truth {
    struct true_event *events; /* by revision, then key */
    size_t n_events, events_capacity;
    struct true_key *keys; /* as of the revision, in order */
    size_t n_keys, keys_capacity;
    int64_t revision;
    int64_t oldest; /* that could be read at last */
    struct kv_arena arena;
};

void truth_init(struct truth *truth);
void truth_deinit(struct truth *truth);
/* Adds what has happened since the last look; by_time: no command has run since then. */
void truth_look(struct truth *truth, struct kv_machine *machine, bool by_time);

#endif
