/* Feeds libraft's core and carries out what it asks for, in the order that raft.md gives: term and
 * vote, entries, messages, state and commit index, timer. */
#include "common/assert.h"
#include "common/reached.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <string.h>

static void update_term(struct kv_replica *r)
{
    r->gate_sequence =
        kv_wal_write_vote(r->wal, raft_current_term(&r->raft), raft_voted_for(&r->raft));
}

static void truncate_from(struct kv_replica *r, uint64_t index)
{
    if (index <= r->applied_index) {
        kv_replica_die(r,
                       KV_CORRUPT,
                       "the leader replaces entry %" PRIu64 ", which is applied here up to %" PRIu64
                       ": this node's log and the cluster's have diverged",
                       index,
                       r->applied_index);
        return;
    }
    KV_REACHED("truncation");
    kv_entry_cache_truncate(&r->cache, index);
    kv_terms_truncate(&r->terms, index);
    r->options.ops->truncated(r->options.arg, index);
}

/* Remembers what the write covers, until the log says that it is synced. */
static void
note_write(struct kv_replica *r, uint64_t sequence, uint64_t first_index, uint64_t last_index)
{
    /* kv_replica_can_propose and the receive path stop long before: each write is at least one
     * record. */
    KV_ASSERT(r->n_pending < KV_PENDING_WRITES_MAX);
    r->pending[(r->pending_first + r->n_pending) % KV_PENDING_WRITES_MAX] =
        (struct kv_pending_write){sequence, first_index, last_index};
    r->n_pending++;
}

/* Appends to cache and terms; false when memory is out (fatal: the core believes that they are
 * there). */
static bool cache_entries(struct kv_replica *r, const struct raft_update *update, uint64_t sequence)
{
    struct kv_entry_batch *batch = kv_entry_batch_new(update->entries.batch[0].batch);

    if (!batch) {
        raft_free(update->entries.batch[0].batch);
        return false;
    }
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *entry = &update->entries.batch[i];
        const struct kv_cached_entry cached = {
            .term = entry->term,
            .write_sequence = sequence,
            .data = {entry->buf.base, entry->buf.len},
            .batch = batch,
            .type = (uint16_t)entry->type,
        };

        if (kv_entry_cache_append(&r->cache, update->entries.index + i, &cached) != 0 ||
            kv_terms_append(&r->terms, update->entries.index + i, entry->term) != 0) {
            kv_entry_batch_release(batch);
            return false;
        }
    }
    kv_entry_batch_release(batch);
    return true;
}

static void update_entries(struct kv_replica *r, const struct raft_update *update)
{
    uint64_t first = update->entries.index;
    struct kv_wal_entry entries[KV_APPEND_ENTRIES_MAX];
    uint64_t sequence;

    KV_ASSERT(update->entries.n > 0 && update->entries.n <= KV_APPEND_ENTRIES_MAX);
    if (first <= r->cache.last_index) {
        truncate_from(r, first);
    }
    if (r->dead) {
        raft_free(update->entries.batch[0].batch);
        return;
    }
    KV_ASSERT(first == r->cache.last_index + 1);
    for (unsigned i = 0; i < update->entries.n; i++) {
        const struct raft_entry *entry = &update->entries.batch[i];

        entries[i] = (struct kv_wal_entry){
            entry->term, (uint16_t)entry->type, {entry->buf.base, entry->buf.len}};
    }
    sequence = kv_wal_write_entries(r->wal, first, entries, update->entries.n);
    note_write(r, sequence, first, first + update->entries.n - 1);
    if (!cache_entries(r, update, sequence)) {
        kv_replica_die(r, KV_NO_MEMORY, "no memory for new entries of the log");
    }
}

void kv_replica_send_buf(struct kv_replica *r, struct kv_peer *peer, enum kv_net_class cls)
{
    kv_outbox_send(&peer->outbox, cls, kv_slice_of(r->buf.data, r->buf.size));
}

void kv_replica_send_append(struct kv_replica *r,
                            struct kv_peer *peer,
                            const struct raft_append_entries *append)
{
    uint64_t last = append->prev_log_index + append->n_entries;
    uint64_t commit = append->leader_commit < last ? append->leader_commit : last;

    peer->appended_ms = kv_replica_now_ms(r);
    if (peer->told_commit < commit) {
        peer->told_commit = commit;
    }
    kv_outbox_send_append(&peer->outbox, append);
}

static void send_message(struct kv_replica *r, const struct raft_message *message)
{
    struct kv_peer *peer = kv_replica_peer(r, message->server_id);
    struct raft_message copy = *message;

    if (!peer) {
        return;
    }
    switch (copy.type) {
    case RAFT_APPEND_ENTRIES:
        kv_replica_send_append(r, peer, &copy.append_entries);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        kv_replica_send_install(r, peer, &copy.install_snapshot);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        kv_guard_14_hint(&copy.append_entries_result, &r->terms, raft_commit_index(&r->raft));
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        kv_guard_12_raise(&copy.request_vote_result, raft_current_term(&r->raft));
        break;
    default:
        break;
    }
    kv_buf_clear(&r->buf);
    if (kv_peer_encode_raft(&r->buf, &copy) == 0) {
        kv_replica_send_buf(r, peer, KV_NET_URGENT);
    }
}

static void leave_leadership(struct kv_replica *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        kv_outbox_pump(&r->peers[i].outbox); /* drops AppendEntries of the former term */
    }
}

static void update_state(struct kv_replica *r)
{
    int state = raft_state(&r->raft);

    if (state == RAFT_LEADER && r->last_state != RAFT_LEADER) {
        /* The core has put a barrier behind what it could not know to be committed; with nothing of
         * that kind all is committed already. Either way the last entry, once committed, proves our
         * term. */
        r->term_start = raft_last_index(&r->raft);
        for (size_t i = 0; i < r->n_peers; i++) {
            r->peers[i].told_commit = 0;
        }
    }
    if (state == RAFT_CANDIDATE && r->last_state != RAFT_CANDIDATE) {
        r->elections++;
    }
    if (state != RAFT_LEADER && r->last_state == RAFT_LEADER) {
        leave_leadership(r);
    }
    if (state != r->last_state) {
        kv_replica_reads_role_changed(r);
    }
    r->last_state = state;
}

static void note_change(struct kv_replica *r)
{
    raft_id leader = 0;
    const char *address;

    raft_leader(&r->raft, &leader, &address);
    if (leader != r->last_leader || raft_current_term(&r->raft) != r->last_term) {
        r->last_leader = leader;
        r->last_term = raft_current_term(&r->raft);
        r->changed = true;
    }
}

static void carry_out(struct kv_replica *r, const struct raft_update *update)
{
    if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        update_term(r);
    }
    if (update->flags & RAFT_UPDATE_ENTRIES) {
        update_entries(r, update);
    }
    if (update->flags & RAFT_UPDATE_SNAPSHOT) {
        kv_replica_install(r, update);
    }
    if (update->flags & RAFT_UPDATE_STATE) {
        update_state(r);
        r->changed = true;
    }
    if (update->flags & RAFT_UPDATE_MESSAGES) {
        for (unsigned i = 0; i < update->messages.n; i++) {
            send_message(r, &update->messages.batch[i]);
        }
    }
    note_change(r);
}

int kv_replica_step(struct kv_replica *r, struct raft_event *event)
{
    struct raft_update update;
    int rv;

    KV_ASSERT(r->raft_is_open);
    KV_ASSERT(!r->stepping);
    if (r->dead) {
        return RAFT_SHUTDOWN;
    }
    r->stepping = true;
    event->time = kv_replica_now_ms(r);
    event->capacity = (unsigned short)r->room;
    memset(&update, 0, sizeof update);
    rv = raft_step(&r->raft, event, &update);
    if (rv == 0) {
        carry_out(r, &update);
    }
    r->stepping = false;
    return rv;
}

void kv_replica_step_or_die(struct kv_replica *r, struct raft_event *event, const char *what)
{
    int rv = kv_replica_step(r, event);

    if (rv != 0 && !r->dead) {
        kv_replica_die(r, KV_INTERNAL, "consensus core refuses %s: %s", what, raft_strerror(rv));
    }
}

static uint64_t cached_sequence(const void *arg, raft_index index)
{
    const struct kv_replica *r = arg;
    const struct kv_cached_entry *entry = kv_entry_cache_get(&r->cache, index);

    return entry ? entry->write_sequence : 0;
}

static void report_persisted(struct kv_replica *r, const struct kv_pending_write *write)
{
    raft_index index = kv_guard_4_persisted(write->first_index,
                                            write->last_index,
                                            write->sequence,
                                            cached_sequence,
                                            r,
                                            r->raft.last_stored);
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};

    if (index == 0) {
        KV_REACHED("guard-4-overtaken");
        return;
    }
    event.persisted_entries.index = index;
    kv_replica_step_or_die(r, &event, "PERSISTED_ENTRIES");
}

void kv_replica_on_synced(void *arg, uint64_t sequence)
{
    struct kv_replica *r = arg;

    if (r->dead) {
        return;
    }
    r->synced_sequence = sequence;
    if (!r->started) {
        if (sequence >= r->start_sequence) {
            kv_replica_start_core(r);
        }
        return;
    }
    while (r->n_pending > 0 && r->pending[r->pending_first].sequence <= sequence && !r->dead) {
        struct kv_pending_write write = r->pending[r->pending_first];

        r->pending_first = (r->pending_first + 1) % KV_PENDING_WRITES_MAX;
        r->n_pending--;
        report_persisted(r, &write);
    }
    if (r->install_sequence != 0 && sequence >= r->install_sequence && !r->dead) {
        kv_replica_installed(r);
    }
    for (size_t i = 0; i < r->n_peers; i++) {
        kv_outbox_pump(&r->peers[i].outbox);
    }
}

void kv_replica_on_wal_failed(void *arg, const struct kv_error *error)
{
    kv_replica_die(arg, error->status, "%s", error->message);
}
