/* What happened, revision by revision, found by comparing the states that the committed log leads
 * to: no event log of the machine's is asked. What streams tell is judged by this (follow.h). */
#ifndef KV_TESTS_SIM_TRUTH_H
#define KV_TESTS_SIM_TRUTH_H

#include "common/arena.h"
#include "server/machine/machine.h"

struct checkers;

/* An element of a collection: field and value, member and score, or a list's element as the name.
 */
struct true_element {
    struct kv_slice name, value;
    double score;
    int64_t deadline_ms; /* of a field; 0: none */
};

/* Elements by name; those of a list, too. */
struct true_content {
    struct true_element *elements;
    size_t n;
};

/* What one revision did to one key. */
struct true_event {
    int64_t revision;
    uint64_t index; /* of the entry */
    struct kv_slice key;
    const Kv__KeyValue *before;             /* NULL: it was not there */
    const Kv__KeyValue *after;              /* NULL: it is gone */
    const struct true_content *was, *holds; /* of collections; NULL: not known */
    int64_t deadline_ms;                    /* of what ended by time */
    bool by_time;       /* its time, or its lease's, was over; not a command's doing */
    bool by_revocation; /* of its lease, by an earlier command: it had its turn now */
};

struct true_key {
    struct kv_slice key;
    const Kv__KeyValue *kv;
    const struct true_content *content;
};

struct true_lease {
    int64_t id, deadline_ms;
    uint64_t ttl_ms;
};

/* In the order of their publication. */
struct true_message {
    int64_t revision, time_ms;
    struct kv_slice topic, payload;
};

/* The narrowest that retention of topics ever was. */
struct true_retention {
    uint64_t messages, bytes, age_ms;
};

struct truth {
    bool times_alone;          /* only which revisions time alone has made is wanted */
    struct true_event *events; /* by revision, then key */
    size_t n_events, events_capacity;
    struct true_key *keys; /* as of the revision, in order */
    size_t n_keys, keys_capacity;
    struct true_lease *leases; /* that were ever granted */
    size_t n_leases, leases_capacity;
    struct true_message *messages;
    size_t n_messages, messages_capacity;
    struct true_retention retention;
    int64_t *timely; /* revisions that no command made */
    size_t n_timely, timely_capacity;
    uint64_t index;  /* of the entry that is looked at */
    int64_t time_ms; /* of the cluster, in it */
    int64_t revision;
    int64_t oldest; /* that could be read at last */
    struct kv_arena arena;
};

void truth_init(struct truth *truth);
void truth_deinit(struct truth *truth);
/* The entry has granted or renewed it; ttl_ms 0: revoked it. */
void truth_lease(struct truth *truth, int64_t id, uint64_t ttl_ms);
/* The command that has made the revision has published it. */
void truth_message(struct truth *truth, int64_t revision, const Kv__Publish *publish);
void truth_setting(struct truth *truth, const Kv__ConfigSet *set);
/* Retention may have dropped it by the end of the log. */
bool truth_may_drop(const struct truth *truth, const struct true_message *message);
/* 0: the key does not end by itself. */
int64_t truth_deadline_ms(const struct truth *truth, const Kv__KeyValue *kv);
/* What is due has ended before the entry's commands, or as much of it as one entry may, and nothing
 * else by time. */
void truth_check_time(const struct truth *truth, size_t max_pieces, struct checkers *checkers);
/* Adds what has happened since the last look; by_time: no command has run since then. */
void truth_look(struct truth *truth, struct kv_machine *machine, bool by_time);

#endif
