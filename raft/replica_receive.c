/* What comes from peers: decoded, checked, guarded, and only then shown to the core. */
#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"
#include "raft/configuration.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <string.h>

/* Spread of the early elections after the leader's connection was reset, so that they seldom
 * collide. */
enum { EARLY_ELECTION_MIN_MS = 2, EARLY_ELECTION_SPREAD_MS = 40 };

static bool log_matches(const struct kv_replica *r, raft_index index, raft_term term)
{
    return index == 0 || kv_terms_of(&r->terms, index) == term;
}

/* Guard 5. */
static void commit_earlier_change(struct kv_replica *r,
                                  raft_index prev_index,
                                  raft_term prev_term,
                                  const struct raft_entry *first)
{
    raft_index uncommitted = r->raft.configuration_uncommitted_index;
    const struct kv_cached_entry *entry;
    struct raft_event event = {.type = RAFT_CONFIGURATION};

    if (!kv_guard_5_is_committed(
            uncommitted, prev_index, log_matches(r, prev_index, prev_term), first)) {
        return;
    }
    entry = kv_entry_cache_get(&r->cache, uncommitted);
    if (!entry) {
        return;
    }
    event.configuration.index = uncommitted;
    if (kv_configuration_decode(entry->data, &event.configuration.conf) != 0) {
        kv_replica_die(r, KV_CORRUPT, "the configuration at index %llu is malformed", uncommitted);
        return;
    }
    kv_replica_step_or_die(r, &event, "CONFIGURATION");
}

/* One piece of a received AppendEntries (guard 3): entries[from..from+n), in an allocation that the
 * core takes. */
static void step_piece(struct kv_replica *r,
                       const struct raft_message *message,
                       raft_index prev_index,
                       raft_term prev_term,
                       unsigned from,
                       unsigned n)
{
    struct raft_message piece = *message;
    struct raft_append_entries *append = &piece.append_entries;
    struct raft_event event = {.type = RAFT_RECEIVE};

    append->prev_log_index = prev_index;
    append->prev_log_term = prev_term;
    /* A late notice or resend that ends before what is committed here: the core would go back. */
    if (prev_index + n < raft_commit_index(&r->raft) &&
        append->leader_commit > raft_commit_index(&r->raft)) {
        append->leader_commit = raft_commit_index(&r->raft);
    }
    append->entries = n > 0 ? message->append_entries.entries + from : NULL;
    append->n_entries = n;
    event.receive.message = &piece;
    kv_replica_step_or_die(r, &event, "AppendEntries");
}

/* Gives the piece an allocation of its own. */
static int copy_batch(struct raft_entry *entries, unsigned n)
{
    size_t size = 0;
    uint8_t *memory;

    for (unsigned i = 0; i < n; i++) {
        size += entries[i].buf.len;
    }
    memory = raft_malloc(size ? size : 1);
    if (!memory) {
        return KV_NO_MEMORY;
    }
    for (unsigned i = 0, offset = 0; i < n; i++) {
        if (entries[i].buf.len > 0) {
            memcpy(memory + offset, entries[i].buf.base, entries[i].buf.len);
        }
        entries[i].buf.base = memory + offset;
        entries[i].batch = memory;
        offset += (unsigned)entries[i].buf.len;
    }
    return 0;
}

void kv_replica_note_commit(struct kv_replica *r, uint64_t index)
{
    r->told_commit = index > r->told_commit ? index : r->told_commit;
}

static void receive_append(struct kv_replica *r, struct raft_message *message)
{
    struct raft_append_entries *append = &message->append_entries;
    void *batch = append->n_entries > 0 ? append->entries[0].batch : NULL;
    raft_index prev_index = append->prev_log_index;
    raft_term prev_term = append->prev_log_term;
    unsigned from = kv_guard_2_clamp(r->raft.trail.snapshot.index,
                                     r->raft.trail.snapshot.term,
                                     r->raft.trail.offset,
                                     append->n_entries,
                                     &prev_index,
                                     &prev_term);
    bool shared =
        from == 0 && (append->n_entries == 0 ||
                      kv_guard_3_piece(append->entries, append->n_entries, 0) == append->n_entries);

    kv_replica_note_commit(r, append->leader_commit);
    if (shared) {
        if (append->n_entries > 0) {
            commit_earlier_change(r, prev_index, prev_term, &append->entries[0]);
        }
        step_piece(r, message, prev_index, prev_term, 0, append->n_entries);
        return;
    }
    if (from == append->n_entries) {
        step_piece(r, message, prev_index, prev_term, 0, 0);
    }
    while (from < append->n_entries && !r->dead) {
        unsigned n = kv_guard_3_piece(append->entries, append->n_entries, from);
        raft_term last_term = append->entries[from + n - 1].term;

        if (copy_batch(append->entries + from, n) != 0) {
            break;
        }
        commit_earlier_change(r, prev_index, prev_term, &append->entries[from]);
        step_piece(r, message, prev_index, prev_term, from, n);
        prev_index += n;
        prev_term = last_term;
        from += n;
    }
    raft_free(batch);
}

/* Entries of messages that are dropped. */
static void free_entries(const struct raft_message *message)
{
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
    }
}

static bool is_late(struct kv_replica *r, const struct raft_message *message)
{
    raft_index match;

    if (kv_guard_10_is_late(message, raft_state(&r->raft)) ||
        kv_guard_11_is_busy(message, r->raft.snapshot.installing)) {
        return true;
    }
    return message->type == RAFT_APPEND_ENTRIES_RESULT &&
           raft_match_index(&r->raft, message->server_id, &match) == 0 &&
           kv_guard_13_is_late(&message->append_entries_result, raft_current_term(&r->raft), match);
}

static void receive_raft(struct kv_replica *r, struct kv_peer *peer, struct raft_message *message)
{
    struct raft_message answer = {.type = RAFT_APPEND_ENTRIES_RESULT};
    struct raft_event event = {.type = RAFT_RECEIVE};
    const char *what;

    if (kv_guard_9_check(message, &what) != 0) {
        KV_LOG(WARN, "raft", "message_refused", "peer=%" PRIu64 " reason=\"%s\"", peer->id, what);
        free_entries(message);
        return;
    }
    if (kv_guard_1_is_stale(message, raft_current_term(&r->raft), &answer.append_entries_result)) {
        KV_REACHED("guard-1-stale-term");
        free_entries(message);
        kv_buf_clear(&r->buf);
        if (kv_peer_encode_raft(&r->buf, &answer) == 0) {
            kv_replica_send_buf(r, peer, KV_NET_URGENT);
        }
        return;
    }
    if (message->type == RAFT_APPEND_ENTRIES) {
        /* A full log queue: the leader will send again; answering nothing is flow control. */
        if (message->append_entries.n_entries > 0 && !kv_replica_log_takes(r)) {
            free_entries(message);
            return;
        }
        if (r->room == KV_ROOM_NONE && message->append_entries.n_entries > 0) {
            free_entries(message);
            kv_replica_refuse_entries(r, &message->append_entries);
        }
        /* Two leaders in one term cannot be; if the sender claims it the core must not see it. */
        if (raft_state(&r->raft) == RAFT_LEADER &&
            message->append_entries.term == raft_current_term(&r->raft)) {
            free_entries(message);
            kv_replica_die(r,
                           KV_CORRUPT,
                           "peer %" PRIu64 " claims to lead term %llu, which this node leads",
                           peer->id,
                           raft_current_term(&r->raft));
            return;
        }
        receive_append(r, message);
        return;
    }
    if (message->type == RAFT_APPEND_ENTRIES_RESULT &&
        message->append_entries_result.term == raft_current_term(&r->raft)) {
        kv_replica_note_room(peer, &message->append_entries_result);
    }
    /* Who may not lead is not made to. */
    if (is_late(r, message) || (message->type == RAFT_TIMEOUT_NOW && r->is_unfit)) {
        KV_REACHED("guard-10-13-late");
        return;
    }
    event.receive.message = message;
    kv_replica_step_or_die(r, &event, "a peer's message");
}

static void dispatch(struct kv_replica *r,
                     struct kv_peer *peer,
                     const Kv__PeerMessage *message,
                     struct kv_slice bulk)
{
    struct raft_message core_message;
    struct kv_error error;
    int status =
        kv_peer_to_raft(&r->arena, peer->id, peer->address, message, bulk, &core_message, &error);

    if (status < 0) {
        KV_LOG(WARN,
               "raft",
               "message_refused",
               "peer=%" PRIu64 " reason=\"%s\"",
               peer->id,
               error.message);
        return;
    }
    if (status == 1) {
        receive_raft(r, peer, &core_message);
        return;
    }
    switch (message->body_case) {
    case KV__PEER_MESSAGE__BODY_CONFIRM:
        kv_replica_receive_confirm(r, peer, message->confirm);
        break;
    case KV__PEER_MESSAGE__BODY_CONFIRM_RESULT:
        kv_replica_receive_confirm_result(r, peer->id, message->confirm_result);
        break;
    case KV__PEER_MESSAGE__BODY_READ_INDEX:
        kv_replica_receive_read_index(r, peer, message->read_index);
        break;
    case KV__PEER_MESSAGE__BODY_READ_INDEX_RESULT:
        kv_replica_receive_read_index_result(r, peer->id, message->read_index_result);
        break;
    case KV__PEER_MESSAGE__BODY_INSTALL_SNAPSHOT:
        kv_replica_receive_install(r, peer, message->install_snapshot);
        break;
    case KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH:
        kv_replica_receive_fetch(r, peer, message->snapshot_fetch);
        break;
    case KV__PEER_MESSAGE__BODY_SNAPSHOT_PIECE:
        kv_replica_receive_piece(r, peer, message->snapshot_piece, bulk);
        break;
    default:
        r->options.ops->receive(r->options.arg, peer->id, message, bulk);
        break;
    }
}

void kv_replica_on_receive(void *arg, uint64_t from_id, const uint8_t *bytes, size_t size)
{
    struct kv_replica *r = arg;
    struct kv_peer *peer = kv_replica_peer(r, from_id);
    Kv__PeerMessage *message;
    struct kv_slice bulk;
    struct kv_error error;

    KV_ASSERT(peer);
    if (!r->started || r->dead) {
        return;
    }
    kv_arena_reset(&r->arena);
    if (kv_peer_decode(&r->arena, kv_slice_of(bytes, size), &message, &bulk, &error) != 0) {
        KV_LOG(WARN,
               "raft",
               "message_refused",
               "peer=%" PRIu64 " reason=\"%s\"",
               from_id,
               error.message);
        return;
    }
    dispatch(r, peer, message, bulk);
}

void kv_replica_on_connected(void *arg, uint64_t peer_id)
{
    struct kv_replica *r = arg;
    struct kv_peer *peer = kv_replica_peer(r, peer_id);

    KV_ASSERT(peer);
    peer->outbox.connected = true;
    peer->told_commit = 0;
    peer->is_unfit = false; /* it may have been replaced: its hash will tell */
    r->options.ops->peer_connected(r->options.arg, peer_id);
}

/* The leader's process is probably gone: forget it, so that we neither wait out the whole election
 * timeout nor refuse others our vote. Pre-vote keeps a mistake harmless. */
static void leader_was_reset(struct kv_replica *r)
{
    raft_time now = kv_replica_now_ms(r);
    raft_time wait = EARLY_ELECTION_MIN_MS +
                     r->env.clock.ops->random(r->env.clock.clock) % EARLY_ELECTION_SPREAD_MS;
    raft_time randomized = r->raft.follower_state.randomized_election_timeout;

    KV_REACHED("leader-was-reset");
    r->raft.follower_state.current_leader.id = 0;
    if (now + wait < raft_timeout(&r->raft) && now + wait > randomized) {
        r->raft.election_timer_start = now + wait - randomized;
    }
    r->changed = true;
    r->last_leader = 0;
}

void kv_replica_on_disconnected(void *arg, uint64_t peer_id, bool reset)
{
    struct kv_replica *r = arg;
    struct kv_peer *peer = kv_replica_peer(r, peer_id);

    KV_ASSERT(peer);
    peer->outbox.connected = false;
    kv_outbox_clear(&peer->outbox);
    if (r->started && reset && raft_state(&r->raft) == RAFT_FOLLOWER &&
        r->raft.follower_state.current_leader.id == peer_id) {
        leader_was_reset(r);
    }
    kv_replica_reads_peer_lost(r, peer_id);
    r->options.ops->peer_disconnected(r->options.arg, peer_id);
}

void kv_replica_on_peer_info(void *arg,
                             uint64_t peer_id,
                             const char *client_address,
                             uint64_t machine_version)
{
    struct kv_replica *r = arg;

    r->options.ops->peer_info(r->options.arg, peer_id, client_address, machine_version);
}
