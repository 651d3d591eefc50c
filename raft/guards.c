#include "raft/guards.h"

#include "common/reached.h"

#include "common/limits.h"
#include "raft/configuration.h"

/* What the core of 0.22.1 puts into its own results. */
enum { RESULT_VERSION = 2, FEATURE_CAPACITY = 1 };

bool kv_guard_1_is_stale(const struct raft_message *message,
                         raft_term current_term,
                         struct raft_append_entries_result *ret_result)
{
    raft_term term;

    if (message->type == RAFT_APPEND_ENTRIES) {
        term = message->append_entries.term;
    } else if (message->type == RAFT_INSTALL_SNAPSHOT) {
        term = message->install_snapshot.term;
    } else {
        return false;
    }
    if (term >= current_term) {
        return false;
    }
    *ret_result = (struct raft_append_entries_result){
        .version = RESULT_VERSION,
        .term = current_term,
        .rejected = 0,
        .last_log_index = 0,
        .features = FEATURE_CAPACITY,
        .capacity = 0,
    };
    return true;
}

unsigned kv_guard_2_clamp(raft_index snapshot_index,
                          raft_term snapshot_term,
                          raft_index trail_offset,
                          unsigned n_entries,
                          raft_index *prev_index,
                          raft_term *prev_term)
{
    raft_index before;

    if (snapshot_index == 0 || *prev_index >= snapshot_index || *prev_index > trail_offset) {
        return 0;
    }
    before = snapshot_index - *prev_index;
    *prev_index = snapshot_index;
    *prev_term = snapshot_term;
    return before < n_entries ? (unsigned)before : n_entries;
}

unsigned kv_guard_3_piece(const struct raft_entry *entries, unsigned n_entries, unsigned from)
{
    unsigned end = from + 1;

    while (end < n_entries && entries[end].type != RAFT_CHANGE) {
        end++;
    }
    return end - from;
}

raft_index kv_guard_4_persisted(raft_index first_index,
                                raft_index last_index,
                                uint64_t write_sequence,
                                uint64_t (*sequence_of)(const void *arg, raft_index index),
                                const void *arg,
                                raft_index last_stored)
{
    raft_index persisted = 0;

    for (raft_index i = first_index; i <= last_index && sequence_of(arg, i) == write_sequence;
         i++) {
        persisted = i;
    }
    return persisted > last_stored ? persisted : 0;
}

bool kv_guard_5_is_committed(raft_index uncommitted_index,
                             raft_index prev_index,
                             bool prev_matches,
                             const struct raft_entry *first_entry)
{
    return uncommitted_index != 0 && uncommitted_index <= prev_index && prev_matches &&
           first_entry->type == RAFT_CHANGE;
}

bool kv_guard_8_is_only_voter(const struct raft_configuration *configuration, raft_id id)
{
    unsigned voters = 0;
    bool self = false;

    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].role == RAFT_VOTER) {
            voters++;
            self = self || configuration->servers[i].id == id;
        }
    }
    return voters == 1 && self;
}

/* The core would read behind the end of one that is cut. */
static bool is_configuration(const struct raft_entry *entry)
{
    struct raft_configuration configuration;

    if (kv_configuration_decode(kv_slice_of(entry->buf.base, entry->buf.len), &configuration) !=
        0) {
        return false;
    }
    raft_configuration_close(&configuration);
    return true;
}

static int check_append_entries(const struct raft_append_entries *append, const char **ret_what)
{
    raft_term term = append->prev_log_term;

    if (append->prev_log_index > 0 && append->prev_log_term == 0) {
        *ret_what = "prev_log_term is 0";
        return KV_INVALID;
    }
    if (append->prev_log_index == 0 && append->prev_log_term != 0) {
        *ret_what = "prev_log_term without prev_log_index";
        return KV_INVALID;
    }
    if (append->prev_log_term > append->term) {
        *ret_what = "prev_log_term is above the term";
        return KV_INVALID;
    }
    if (append->n_entries > KV_APPEND_ENTRIES_MAX) {
        *ret_what = "too many entries";
        return KV_INVALID;
    }
    for (unsigned i = 0; i < append->n_entries; i++) {
        const struct raft_entry *entry = &append->entries[i];

        if (entry->term == 0 || entry->term < term || entry->term > append->term) {
            *ret_what = "terms of entries run back or beyond the leader's";
            return KV_INVALID;
        }
        if (entry->type != RAFT_COMMAND && entry->type != RAFT_BARRIER &&
            entry->type != RAFT_CHANGE) {
            *ret_what = "unknown entry type";
            return KV_INVALID;
        }
        if (entry->type == RAFT_CHANGE && !is_configuration(entry)) {
            *ret_what = "malformed configuration";
            return KV_INVALID;
        }
        if (entry->buf.len > KV_ENTRY_BYTES_MAX) {
            *ret_what = "entry too large";
            return KV_INVALID;
        }
        term = entry->term;
    }
    return 0;
}

int kv_guard_9_check(const struct raft_message *message, const char **ret_what)
{
    *ret_what = "term is 0";
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        if (message->append_entries.term == 0) {
            return KV_INVALID;
        }
        return check_append_entries(&message->append_entries, ret_what);
    case RAFT_APPEND_ENTRIES_RESULT:
        return message->append_entries_result.term == 0 ? KV_INVALID : 0;
    case RAFT_REQUEST_VOTE:
        if (message->request_vote.term == 0) {
            return KV_INVALID;
        }
        *ret_what = "candidate is not the sender";
        return message->request_vote.candidate_id == message->server_id ? 0 : KV_INVALID;
    case RAFT_REQUEST_VOTE_RESULT:
        return message->request_vote_result.term == 0 ? KV_INVALID : 0;
    case RAFT_TIMEOUT_NOW:
        return message->timeout_now.term == 0 ? KV_INVALID : 0;
    case RAFT_INSTALL_SNAPSHOT:
        *ret_what = "snapshots are not sent this way";
        return KV_INVALID;
    }
    *ret_what = "unknown message";
    return KV_INVALID;
}

bool kv_guard_10_is_late(const struct raft_message *message, int state)
{
    return message->type == RAFT_REQUEST_VOTE_RESULT && state != RAFT_CANDIDATE;
}

bool kv_guard_11_is_busy(const struct raft_message *message, bool installing)
{
    return message->type == RAFT_INSTALL_SNAPSHOT && installing;
}

void kv_guard_12_raise(struct raft_request_vote_result *result, raft_term current_term)
{
    if (result->pre_vote && !result->vote_granted && result->term < current_term) {
        KV_REACHED("guard-12-raise");
        result->term = current_term;
    }
}

bool kv_guard_13_is_late(const struct raft_append_entries_result *result,
                         raft_term current_term,
                         raft_index match_index)
{
    return result->rejected > 0 && result->term == current_term && result->rejected <= match_index;
}

void kv_guard_14_hint(struct raft_append_entries_result *result,
                      const struct kv_terms *terms,
                      raft_index commit_index)
{
    raft_index first = kv_terms_run_first(terms, result->rejected);
    raft_index hint;

    if (result->rejected == 0 || first == 0) {
        return;
    }
    hint = first - 1;
    if (hint < commit_index) {
        hint = commit_index;
    }
    if (hint < result->last_log_index) {
        KV_REACHED("guard-14-hint");
        result->last_log_index = hint;
    }
}

bool kv_guard_18_may_propose(unsigned inflight_entries,
                             uint64_t inflight_bytes,
                             uint64_t more_bytes)
{
    return inflight_entries < KV_INFLIGHT_ENTRIES_MAX &&
           inflight_bytes + more_bytes <= KV_INFLIGHT_BYTES_MAX;
}

raft_time kv_guard_20_deadline(raft_time timeout, raft_time told)
{
    return timeout > told ? timeout : told + 1;
}

raft_time kv_guard_21_contact_since(raft_time counted, raft_time now, raft_time heartbeat)
{
    raft_time window = 2 * heartbeat; /* the newest one may be under way */
    raft_time since = now > window ? now - window : 0;

    return since < counted ? since : counted;
}
