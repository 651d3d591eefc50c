/* The guards around libraft's core: rules that raft_step() does not state but needs
 * (docs/internals.md, "Guards", gives what happens without each). Each is one small pure function
 * with its number; raft/replica_*.c calls them.
 *
 * Guards 6, 7 and 15 to 17 belong to changes of membership and come with those. Guard 18 (what is
 * proposed but not committed is bounded) is kv_guard_18_may_propose; guard 19 (order per peer and
 * connection, nothing older re-sent) is kept by the outbox and the transport; guard 20 has its
 * timer half here. Guard 21 lets a leader's pipelines be. */
#ifndef KV_RAFT_GUARDS_H
#define KV_RAFT_GUARDS_H

#include "common/status.h"
#include "raft/terms.h"

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

/* 1: an AppendEntries or InstallSnapshot of an older term never reaches the core. True: answer with
 * *ret_result instead, behind the term gate; last_log_index 0 acknowledges nothing. */
bool kv_guard_1_is_stale(const struct raft_message *message,
                         raft_term current_term,
                         struct raft_append_entries_result *ret_result);

/* 2: an AppendEntries that begins before our snapshot, where the trail knows nothing, is cut:
 * returns how many entries to drop and moves *prev_index, *prev_term to the snapshot. */
unsigned kv_guard_2_clamp(raft_index snapshot_index,
                          raft_term snapshot_term,
                          raft_index trail_offset,
                          unsigned n_entries,
                          raft_index *prev_index,
                          raft_term *prev_term);

/* 3: the core gets a CHANGE only as the first entry. Returns how many entries from `from` on go
 * together. */
unsigned kv_guard_3_piece(const struct raft_entry *entries, unsigned n_entries, unsigned from);

/* 4: what a finished write of the log vouches for. The write covered first_index..last_index;
 * sequence_of tells which write stored the entry that is current now (0: none). Returns the index
 * to report to the core, or 0. */
raft_index kv_guard_4_persisted(raft_index first_index,
                                raft_index last_index,
                                uint64_t write_sequence,
                                uint64_t (*sequence_of)(const void *arg, raft_index index),
                                const void *arg,
                                raft_index last_stored);

/* 5: a second CHANGE proves that the one before it is committed, once the log matches at prev.
 * True: tell the core so (CONFIGURATION) before it sees the second. */
bool kv_guard_5_is_committed(raft_index uncommitted_index,
                             raft_index prev_index,
                             bool prev_matches,
                             const struct raft_entry *first_entry);

/* 8: the only voter must start in a new term with a vote for itself. */
bool kv_guard_8_is_only_voter(const struct raft_configuration *configuration, raft_id id);

/* 9: sane numbers only. KV_INVALID with *ret_what naming the field. */
int kv_guard_9_check(const struct raft_message *message, const char **ret_what) KV_MUST_CHECK;

/* 10: true: drop this vote result, we are no candidate any more. */
bool kv_guard_10_is_late(const struct raft_message *message, int state);

/* 11: true: drop this InstallSnapshot, one is being installed. */
bool kv_guard_11_is_busy(const struct raft_message *message, bool installing);

/* 12: a pre-vote rejection carries our term if it is the higher. */
void kv_guard_12_raise(struct raft_request_vote_result *result, raft_term current_term);

/* 13: true: drop this rejection, the follower has acknowledged the index since. */
bool kv_guard_13_is_late(const struct raft_append_entries_result *result,
                         raft_term current_term,
                         raft_index match_index);

/* 14: our rejection skips the whole conflicting term, not below what is committed. */
void kv_guard_14_hint(struct raft_append_entries_result *result,
                      const struct kv_terms *terms,
                      raft_index commit_index);

/* 18: bound what is proposed and not committed. */
bool kv_guard_18_may_propose(unsigned inflight_entries,
                             uint64_t inflight_bytes,
                             uint64_t more_bytes);

/* 20: when the core was told the time and its timer lies before that still, look again in a
 * millisecond instead of spinning. told: when it was last told; not the present, since each turn of
 * the loop would put the timer off. */
raft_time kv_guard_20_deadline(raft_time timeout, raft_time told);

/* 21: since when an answer counts as contact, when a leader's core looks at its followers: their
 * heartbeats need not be in step, and what the core counted last belongs to whichever it was sent
 * to. counted: the core's own mark. */
raft_time kv_guard_21_contact_since(raft_time counted, raft_time now, raft_time heartbeat);

#endif
