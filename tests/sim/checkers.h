/* What must hold in every run, checked while it goes on. Knows nothing of the simulator: facts go
 * in, the first contradiction is kept. Nodes are numbered from 1. */
#ifndef KV_TESTS_SIM_CHECKERS_H
#define KV_TESTS_SIM_CHECKERS_H

#include "common/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECKERS_NODES_MAX = 7, CHECKERS_SNAPSHOTS_MAX = 16 };

/* One index of the log that all nodes share. */
struct checked_entry {
    uint64_t commit_term; /* its term; 0: no node believes it to be committed */
    uint64_t known_in;    /* term of the node that was the first to know */
    uint64_t term;        /* 0: not applied anywhere yet */
    uint64_t hash;
    uint64_t state_hash;
    int64_t revision;
    bool has_state;
    uint8_t type;
    size_t offset, size; /* in checkers.bytes */
};

/* A snapshot that is complete, sound and has its name on a node's disk. */
struct checked_snapshot {
    uint64_t index, term;
    uint64_t state_hash;
    int64_t revision;
};

/* What a node's disk holds for certain: terms by index, its vote, and its snapshots. */
struct checked_disk {
    uint64_t *terms;      /* of index 1.. */
    uint64_t first_index; /* of the log; what is before was released or never there */
    uint64_t last_index;
    struct checked_snapshot snapshots[CHECKERS_SNAPSHOTS_MAX];
    size_t n_snapshots;
    uint64_t capacity;
    uint64_t term, voted_for;
    uint64_t doubt_from; /* 0: none; a truncation from here on may be on disk or not */
};

struct checked_node {
    struct checked_disk disk;
    uint64_t process;      /* that writes to its log */
    uint64_t last_record;  /* newest number of a record that it has written */
    uint64_t lost_records; /* numbers up to this one may have been lost by former processes */
    bool has_synced;       /* it has a record on the disk */
    bool was_full;         /* its disk: then it may keep the newest snapshot alone */
    uint64_t boundary;     /* the log began anew behind this index */
    uint64_t applied;
    uint64_t committed;
    int64_t revision;
};

/* Who led in a term: a node, and which of its processes. */
struct checked_leader {
    unsigned node;
    uint64_t process;
};

struct checkers {
    unsigned n_nodes;
    struct checked_node nodes[CHECKERS_NODES_MAX + 1];
    struct checked_entry *entries; /* of index 1.. */
    uint64_t n_entries, capacity;
    uint8_t *bytes; /* of the applied entries */
    size_t n_bytes, bytes_capacity;
    struct checked_leader *leaders; /* by term */
    uint64_t n_leaders;
    size_t history_marks; /* that machines keep at most, for shape_history(); 0: as many as ever */
    bool has_failed;
    char message[480];
};

void checkers_init(struct checkers *checkers, unsigned n_nodes);
void checkers_deinit(struct checkers *checkers);
void checkers_fail(struct checkers *checkers, const char *format, ...) KV_PRINTF(2, 3);
const struct checked_entry *checkers_entry(const struct checkers *checkers, uint64_t index);
struct kv_slice checkers_entry_bytes(const struct checkers *checkers, uint64_t index);

/* One leader per term: one process, too, since what an earlier one had is not all there. */
void checkers_leads(struct checkers *checkers, unsigned node, uint64_t process, uint64_t term);
/* The new leader's log holds all that was committed in former terms. A leader of a term that is
 * over already may be late. What its newest snapshot holds need not be in the log. */
void checkers_leader_log(struct checkers *checkers,
                         unsigned node,
                         uint64_t leader_term,
                         uint64_t snapshot_index,
                         uint64_t (*term_of)(const void *arg, uint64_t index),
                         const void *arg);
struct checked_commit {
    uint64_t index, term;
    uint64_t known_in; /* the node's own term */
    bool is_leader;
};
/* The node's commit index has moved over this entry: the same term on all nodes, for ever; of a
 * leader: synced on a majority. */
void checkers_commits(struct checkers *checkers, unsigned node, struct checked_commit commit);
/* In order, once, and the same bytes on all nodes. */
void checkers_applies(struct checkers *checkers,
                      unsigned node,
                      uint64_t index,
                      uint64_t term,
                      unsigned type,
                      struct kv_slice data);
/* After it: the same state on all nodes, revisions that do not run back. */
void checkers_state(struct checkers *checkers,
                    unsigned node,
                    uint64_t index,
                    uint64_t state_hash,
                    int64_t revision);

/* It takes the state of a snapshot instead of applying entries: it must be the state as of that
 * index, further than what it had, and on its disk. */
void checkers_installs(struct checkers *checkers,
                       unsigned node,
                       const struct checked_snapshot *snapshot);

/* What reached the node's disk. */
void checkers_synced_entry(struct checkers *checkers, unsigned node, uint64_t index, uint64_t term);
void checkers_synced_truncation(struct checkers *checkers, unsigned node, uint64_t index);
/* The log begins behind a snapshot now, which must be on the disk. */
void checkers_synced_boundary(struct checkers *checkers,
                              unsigned node,
                              uint64_t index,
                              uint64_t term);
/* What is before first_index is not in the log any more: a snapshot on the disk must hold it, and
 * where two are kept both of them, so that one may be lost. */
void checkers_released(struct checkers *checkers, unsigned node, uint64_t first_index);
/* The snapshots that are there: of committed entries, with the state that all had then. */
void checkers_snapshots(struct checkers *checkers,
                        unsigned node,
                        const struct checked_snapshot *snapshots,
                        size_t n);
/* A record is about to be written to a log: numbers that a crash may have lost are not used again.
 * What a process wrote of which nothing was ever on disk does not count: recovery cannot know of
 * it. is_new: the log begins, with nothing before it. */
void checkers_writes_record(
    struct checkers *checkers, unsigned node, uint64_t process, uint64_t number, bool is_new);
void checkers_synced_record(struct checkers *checkers, unsigned node);
/* A recovered log goes on here: nothing may be behind, on disk, that could be taken for records. */
void checkers_rest_of_log(struct checkers *checkers, unsigned node, struct kv_slice rest);
/* A part of a snapshot notes so many bytes as safe; durable: what a power loss would leave. */
void checkers_part(struct checkers *checkers,
                   unsigned node,
                   struct kv_slice noted,
                   struct kv_slice durable);
/* The cluster's time in an entry that is applied: it goes no faster than the fastest clock since
 * the beginning, whoever leads. */
void checkers_cluster_time(struct checkers *checkers,
                           uint64_t index,
                           uint64_t time_ms,
                           uint64_t max_ms);
/* What a node takes for it, before and after an entry. */
void checkers_time_goes_on(struct checkers *checkers,
                           unsigned node,
                           int64_t before_ms,
                           int64_t after_ms);
/* A write is about to begin that truncates. */
void checkers_may_truncate(struct checkers *checkers, unsigned node, uint64_t index);
void checkers_synced_vote(struct checkers *checkers, unsigned node, uint64_t term, uint64_t vote);
/* The node tells others of a term, or that its log is on disk up to an index. */
void checkers_tells_term(struct checkers *checkers, unsigned node, uint64_t term);
void checkers_tells_stored(struct checkers *checkers, unsigned node, uint64_t index);
struct checked_recovery {
    uint64_t term, vote;
    uint64_t first_index, last_index; /* of the log */
    struct checked_snapshot snapshot; /* that was loaded; index 0: none */
    bool is_log_dropped;              /* since it does not go on from the snapshot */
};
/* It has recovered its snapshot and log: nothing that was on disk is missing. From then on the disk
 * holds what was found. */
void checkers_recovers(struct checkers *checkers,
                       unsigned node,
                       const struct checked_recovery *recovery,
                       uint64_t (*term_of)(const void *arg, uint64_t index),
                       const void *arg);
/* Same index and term: all before is the same. Of the disks of all nodes. */
void checkers_log_matching(struct checkers *checkers);
void checkers_bound(
    struct checkers *checkers, unsigned node, const char *what, uint64_t value, uint64_t max);

#endif
