/* The side that lacks a snapshot (docs/internals.md, "Snapshots"). The leader's offer is kept; the
 * file is fetched from it in pieces, checked and loaded into a new state while the core knows
 * nothing; then the offer goes to the core, which asks for the install: an exchange of two pointers
 * and one record of the log. A crash at any point leaves the old state or the new one. */
#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"
#include "raft/configuration.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <string.h>

/* ---------------------------------------------------------------- life of a fetch */

static void close_load(struct kv_fetch *fetch)
{
    if (fetch->load.ops) {
        fetch->load.ops->restore_close(fetch->load.restore);
        fetch->load.restore = NULL;
        kv_snapshot_load_close(&fetch->load);
        fetch->load.ops = NULL;
    }
}

static void clear_fetch(struct kv_fetch *fetch)
{
    KV_ASSERT(!fetch->job_under_way);
    kv_snapshot_receiver_close(fetch->receiver);
    fetch->receiver = NULL;
    close_load(fetch);
    fetch->phase = KV_FETCH_NONE;
    fetch->is_cancelled = false;
    fetch->is_open = false;
    fetch->is_asking = false;
    fetch->n_pieces = 0;
}

static void
submit(struct kv_replica *r, void (*run)(struct kv_job *), void (*done)(struct kv_job *))
{
    struct kv_fetch *fetch = &r->fetch;

    fetch->job_under_way = true;
    fetch->job.run = run;
    fetch->job.done = done;
    r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &fetch->job);
}

/* A state that was loaded in vain takes long to free. */
static void run_discard(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;

    kv_snapshot_receiver_close(fetch->receiver);
    fetch->receiver = NULL;
    close_load(fetch);
}

static void discard_done(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;

    fetch->job_under_way = false;
    clear_fetch(fetch);
}

/* Ends a fetch. What was synced of a part is kept for the next try; a whole file that is not
 * installed is one too many. */
static void discard(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;

    if (fetch->phase >= KV_FETCH_LOADING) {
        kv_replica_doom_file(r, fetch->descriptor.index, fetch->descriptor.term);
    }
    fetch->is_cancelled = true;
    submit(r, run_discard, discard_done);
}

void kv_replica_fetch_cancel(struct kv_replica *r)
{
    if (r->fetch.job_under_way) {
        r->fetch.is_cancelled = true;
    } else if (r->fetch.phase != KV_FETCH_NONE) {
        discard(r);
    }
}

void kv_replica_fetch_deinit(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;

    fetch->job_under_way = false;
    clear_fetch(fetch);
    kv_buf_deinit(&fetch->configuration);
    for (size_t i = 0; i < KV_SNAPSHOT_PIECES_AHEAD; i++) {
        kv_buf_deinit(&fetch->pieces[i].data);
    }
}

static void log_failure(const struct kv_replica *r, const char *message)
{
    KV_REACHED("snapshot-fetch-failed");
    KV_LOG(WARN,
           "raft",
           "snapshot_not_fetched",
           "index=%" PRIu64 " from=%" PRIu64 " error=\"%s\" next=\"tried again in %d s\"",
           r->fetch.descriptor.index,
           r->fetch.from_id,
           message,
           KV_SNAPSHOT_RETRY_MS / 1000);
}

static void send_fetch(struct kv_replica *r, const Kv__SnapshotFetch *wanted)
{
    struct kv_fetch *fetch = &r->fetch;
    struct kv_peer *peer = kv_replica_peer(r, fetch->from_id);
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__SnapshotFetch body = *wanted;

    KV_ASSERT(peer);
    fetch->asked_ms = kv_replica_now_ms(r);
    body.last_index = fetch->descriptor.index;
    body.last_term = fetch->descriptor.term;
    message.body_case = KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH;
    message.snapshot_fetch = &body;
    kv_buf_clear(&r->buf);
    if (kv_peer_encode(&r->buf, &message) == 0) {
        kv_replica_send_buf(r, peer, KV_NET_URGENT);
    }
}

static void note_refused(struct kv_replica *r)
{
    r->fetch.refused =
        (struct kv_snapshot_id){r->fetch.descriptor.index, r->fetch.descriptor.term, 0};
}

/* Who sent it looks at its file, and drops it if that is where it rotted. */
static void refuse(struct kv_replica *r)
{
    Kv__SnapshotFetch refusal = KV__SNAPSHOT_FETCH__INIT;

    refusal.refused = true;
    send_fetch(r, &refusal);
    note_refused(r);
}

static void fetch_failed(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;

    log_failure(r, fetch->error.message);
    fetch->retry_ms = kv_replica_now_ms(r) + KV_SNAPSHOT_RETRY_MS;
    fetch->refused = (struct kv_snapshot_id){0};
    if (fetch->status == KV_CORRUPT) {
        refuse(r);
    }
    clear_fetch(fetch);
}

/* A job may be under way, and writes fetch->error. */
static void sender_failed(struct kv_replica *r, const struct kv_peer *peer, int status)
{
    struct kv_error error;

    (void)!kv_error_set(&error,
                        status,
                        "node %" PRIu64 " cannot send it any more (%s)",
                        peer->id,
                        kv_status_text(status));
    log_failure(r, error.message);
    r->fetch.retry_ms = kv_replica_now_ms(r) + KV_SNAPSHOT_RETRY_MS;
    note_refused(r);
    kv_replica_fetch_cancel(r);
}

/* ---------------------------------------------------------------- jobs of the snapshot worker */

/* Opens the part, or writes the oldest piece. */
static void run_write(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;

    if (!fetch->receiver) {
        fetch->status = kv_snapshot_receiver_open(
            &fetch->replica->env.disk, &fetch->descriptor, &fetch->receiver, &fetch->error);
    } else {
        const struct kv_fetched_piece *piece = &fetch->pieces[0];

        fetch->status = kv_snapshot_receiver_add(fetch->receiver,
                                                 piece->offset,
                                                 kv_slice_of(piece->data.data, piece->data.size),
                                                 &fetch->error);
    }
}

static int open_load(struct kv_fetch *fetch)
{
    const struct kv_snapshot_id id = {fetch->descriptor.index, fetch->descriptor.term, 0};
    int status =
        kv_snapshot_load_open(&fetch->load, fetch->replica, fetch->receiver, &id, &fetch->error);

    if (status != 0) {
        fetch->load.ops = NULL;
    }
    return status == 0 ? 1 : status;
}

/* Else it would be found, and refused, again and again. */
static void remove_unsound(struct kv_fetch *fetch)
{
    struct kv_error error;

    if (fetch->receiver) {
        kv_snapshot_receiver_reject(fetch->receiver);
    } else {
        (void)!kv_snapshot_remove(
            &fetch->replica->env.disk, fetch->descriptor.index, fetch->descriptor.term, &error);
    }
}

/* What was received is checked by being loaded, and has its final name once it is whole. */
static void run_load(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;

    fetch->status =
        fetch->load.ops ? kv_snapshot_load_some(&fetch->load, &fetch->error) : open_load(fetch);
    if (fetch->status == 0 && fetch->receiver) {
        fetch->status =
            kv_snapshot_receiver_finish(fetch->receiver, fetch->load.reader, &fetch->error);
    }
    if (fetch->status == KV_CORRUPT || (fetch->status == KV_WRONG_NODE && fetch->receiver)) {
        remove_unsound(fetch);
    }
    if (fetch->status != 1) {
        kv_snapshot_receiver_close(fetch->receiver);
        fetch->receiver = NULL;
    }
    if (fetch->status < 0) {
        close_load(fetch);
    }
}

static void give_offer_to_core(struct kv_replica *r);

static void load_done(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;
    struct kv_replica *r = fetch->replica;

    fetch->job_under_way = false;
    if (r->dead) {
        clear_fetch(fetch);
    } else if (fetch->is_cancelled) {
        discard(r);
    } else if (fetch->status < 0) {
        fetch_failed(r);
    } else if (fetch->status == 1) {
        submit(r, run_load, load_done);
    } else {
        /* As it is here: it may be one that was here before. */
        fetch->descriptor = kv_snapshot_descriptor_of(fetch->load.reader);
        fetch->phase = KV_FETCH_READY;
        fetch->heard_ms = kv_replica_now_ms(r);
        give_offer_to_core(r);
    }
}

static void write_done(struct kv_job *job);

static void write_next(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;

    if (fetch->job_under_way || fetch->phase != KV_FETCH_PIECES) {
        return;
    }
    if (!fetch->is_open || fetch->n_pieces > 0) {
        submit(r, run_write, write_done);
    } else if (fetch->written_offset == fetch->descriptor.size_bytes) {
        fetch->phase = KV_FETCH_LOADING;
        submit(r, run_load, load_done);
    }
}

static void ask(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;
    Kv__SnapshotFetch piece = KV__SNAPSHOT_FETCH__INIT;

    if (fetch->phase != KV_FETCH_PIECES || !fetch->is_open || fetch->is_asking ||
        fetch->n_pieces == KV_SNAPSHOT_PIECES_AHEAD ||
        fetch->next_offset == fetch->descriptor.size_bytes) {
        return;
    }
    fetch->is_asking = true;
    piece.offset = fetch->next_offset;
    piece.size = (uint32_t)kv_snapshot_slice_bytes(r, fetch->piece_bytes);
    send_fetch(r, &piece);
}

/* It did not come in time: lost, or the network is slow. There each piece that is asked for twice
 * also comes twice, so less is asked for, then less often: also by the next fetch, until it is
 * quick. */
static void ask_again(struct kv_fetch *fetch)
{
    KV_REACHED("snapshot-piece-asked-again");
    if (fetch->piece_bytes > KV_SNAPSHOT_PIECE_BYTES_MIN) {
        fetch->piece_bytes /= 2;
    } else if (fetch->patience_ms < KV_SNAPSHOT_FETCH_TIMEOUT_MAX_MS) {
        fetch->patience_ms *= 2;
    }
    fetch->is_asking = false;
}

/* One that comes soon after it was asked for shows that there is room for more. */
static void quicken(struct kv_fetch *fetch, uint64_t now_ms)
{
    if (now_ms - fetch->asked_ms >= KV_SNAPSHOT_FETCH_TIMEOUT_MS / 4) {
        return;
    }
    fetch->patience_ms = KV_SNAPSHOT_FETCH_TIMEOUT_MS;
    if (fetch->piece_bytes < KV_SNAPSHOT_PIECE_BYTES) {
        fetch->piece_bytes *= 2;
    }
}

/* Nothing more is wanted of the file for now, but of the log behind it: both are kept for whoever
 * fetches, so we ask for a byte now and then. Nobody waits for the answer. */
static void stay_in_mind(struct kv_replica *r, uint64_t now_ms)
{
    const struct kv_fetch *fetch = &r->fetch;
    Kv__SnapshotFetch a_byte = KV__SNAPSHOT_FETCH__INIT;

    if (!fetch->is_asking && now_ms >= fetch->asked_ms + KV_SNAPSHOT_FETCH_TIMEOUT_MS) {
        KV_REACHED("snapshot-stays-in-mind");
        a_byte.size = 1;
        send_fetch(r, &a_byte);
    }
}

static void write_done(struct kv_job *job)
{
    struct kv_fetch *fetch = (struct kv_fetch *)job;
    struct kv_replica *r = fetch->replica;

    fetch->job_under_way = false;
    if (r->dead) {
        clear_fetch(fetch);
        return;
    }
    if (fetch->is_cancelled) {
        discard(r);
        return;
    }
    if (fetch->status == KV_EXISTS) {
        /* Complete from an earlier life that did not come to the install. */
        KV_REACHED("snapshot-found-complete");
        fetch->written_offset = fetch->descriptor.size_bytes;
        fetch->phase = KV_FETCH_LOADING;
        submit(r, run_load, load_done);
        return;
    }
    if (fetch->status != 0) {
        fetch_failed(r);
        return;
    }
    fetch->written_offset = kv_snapshot_receiver_offset(fetch->receiver);
    if (fetch->is_open) {
        struct kv_fetched_piece written = fetch->pieces[0];

        fetch->n_pieces--;
        memmove(fetch->pieces, fetch->pieces + 1, fetch->n_pieces * sizeof fetch->pieces[0]);
        fetch->pieces[fetch->n_pieces] = written;
    } else {
        fetch->is_open = true;
        fetch->next_offset = fetch->written_offset;
        if (fetch->next_offset > 0) {
            KV_REACHED("snapshot-part-resumed");
        }
    }
    write_next(r);
    ask(r);
}

void kv_replica_receive_piece(struct kv_replica *r,
                              struct kv_peer *peer,
                              const Kv__SnapshotPiece *piece,
                              struct kv_slice bulk)
{
    struct kv_fetch *fetch = &r->fetch;
    struct kv_fetched_piece *place;

    if (fetch->phase != KV_FETCH_PIECES || !fetch->is_asking || fetch->from_id != peer->id ||
        piece->last_index != fetch->descriptor.index ||
        piece->last_term != fetch->descriptor.term || piece->offset != fetch->next_offset) {
        return;
    }
    if (piece->status != 0 || bulk.size == 0) {
        KV_REACHED("snapshot-fetch-refused");
        sender_failed(r, peer, piece->status != 0 ? -piece->status : KV_INVALID);
        return;
    }
    place = &fetch->pieces[fetch->n_pieces];
    kv_buf_clear(&place->data);
    place->offset = piece->offset;
    if (bulk.size > KV_SNAPSHOT_PIECE_BYTES ||
        kv_buf_append(&place->data, bulk.data, bulk.size) != 0) {
        return;
    }
    fetch->n_pieces++;
    fetch->is_asking = false;
    fetch->next_offset += bulk.size;
    fetch->heard_ms = kv_replica_now_ms(r);
    quicken(fetch, fetch->heard_ms);
    write_next(r);
    ask(r);
}

/* ---------------------------------------------------------------- offers */

/* Gives an InstallSnapshot to the core; what it wants is carried out from inside. */
static void step_install(struct kv_replica *r,
                         const struct kv_peer *peer,
                         uint64_t term,
                         const struct kv_snapshot_descriptor *descriptor,
                         struct kv_slice configuration)
{
    struct raft_message message = {
        .type = RAFT_INSTALL_SNAPSHOT,
        .server_id = peer->id,
        .server_address = peer->address,
    };
    struct raft_install_snapshot *install = &message.install_snapshot;
    struct raft_event event = {.type = RAFT_RECEIVE};
    struct raft_snapshot_metadata metadata;

    install->term = term;
    install->last_index = descriptor->index;
    install->last_term = descriptor->term;
    install->conf_index = descriptor->configuration_index;
    install->data.len = 1;
    install->data.base = raft_malloc(1);
    if (!install->data.base || kv_replica_metadata(descriptor->index,
                                                   descriptor->term,
                                                   descriptor->configuration_index,
                                                   configuration,
                                                   &metadata) != 0) {
        raft_free(install->data.base);
        kv_replica_die(r, KV_NO_MEMORY, "no memory to install a snapshot");
        return;
    }
    install->conf = metadata.configuration;
    event.receive.message = &message;
    kv_replica_step_or_die(r, &event, "InstallSnapshot");
}

static void give_offer_to_core(struct kv_replica *r)
{
    struct kv_fetch *fetch = &r->fetch;

    if (fetch->term < raft_current_term(&r->raft) || raft_state(&r->raft) == RAFT_LEADER) {
        return; /* the leader of today offers again, if it is still needed */
    }
    step_install(r,
                 kv_replica_peer(r, fetch->from_id),
                 fetch->term,
                 &fetch->descriptor,
                 kv_slice_of(fetch->configuration.data, fetch->configuration.size));
    /* The install has taken the state. Otherwise the core has all that is in it by now. */
    if (fetch->phase == KV_FETCH_READY) {
        discard(r);
    }
}

/* Is all that the snapshot holds here? */
static bool is_known(const struct kv_replica *r, uint64_t index, uint64_t term)
{
    return index <= r->raft.trail.snapshot.index || kv_terms_of(&r->terms, index) == term;
}

static struct kv_snapshot_descriptor descriptor_of(const Kv__InstallSnapshot *offer)
{
    return (struct kv_snapshot_descriptor){
        .index = offer->last_index,
        .term = offer->last_term,
        .configuration_index = offer->configuration_index,
        .size_bytes = offer->size_bytes,
        .hash = offer->hash,
    };
}

/* Begins a fetch of what is offered. */
static void start_fetch(struct kv_replica *r, uint64_t from_id, const Kv__InstallSnapshot *offer)
{
    struct kv_fetch *fetch = &r->fetch;

    kv_buf_clear(&fetch->configuration);
    if (kv_buf_append(&fetch->configuration, offer->configuration.data, offer->configuration.len) !=
        0) {
        return;
    }
    fetch->descriptor = descriptor_of(offer);
    fetch->from_id = from_id;
    fetch->term = offer->term;
    fetch->refused = (struct kv_snapshot_id){0};
    fetch->phase = KV_FETCH_PIECES;
    fetch->next_offset = fetch->written_offset = 0;
    fetch->heard_ms = kv_replica_now_ms(r);
    KV_LOG(INFO,
           "raft",
           "snapshot_fetch",
           "index=%" PRIu64 " bytes=%" PRIu64 " from=%" PRIu64,
           offer->last_index,
           offer->size_bytes,
           from_id);
    write_next(r);
}

/* NULL, or what is wrong with it. */
static const char *check_offer(const Kv__InstallSnapshot *offer)
{
    struct raft_configuration configuration;

    if (offer->term == 0 || offer->last_term > offer->term ||
        !kv_snapshot_is_possible(offer->last_index, offer->last_term, offer->configuration_index)) {
        return "numbers that cannot be";
    }
    if (offer->configuration.len == 0 || offer->configuration.len > KV_CONFIGURATION_BYTES_MAX) {
        return "a configuration of a wrong size";
    }
    if (kv_configuration_decode(kv_slice_of(offer->configuration.data, offer->configuration.len),
                                &configuration) != 0) {
        return "a malformed configuration";
    }
    raft_configuration_close(&configuration);
    return NULL;
}

/* An older leader learns our term (guard 1). True: it was one. */
static bool answer_stale(struct kv_replica *r, struct kv_peer *peer, uint64_t term)
{
    struct raft_message offered = {.type = RAFT_INSTALL_SNAPSHOT, .server_id = peer->id};
    struct raft_message answer = {.type = RAFT_APPEND_ENTRIES_RESULT};

    offered.install_snapshot.term = term;
    if (!kv_guard_1_is_stale(
            &offered, raft_current_term(&r->raft), &answer.append_entries_result)) {
        return false;
    }
    kv_buf_clear(&r->buf);
    if (kv_peer_encode_raft(&r->buf, &answer) == 0) {
        kv_replica_send_buf(r, peer, KV_NET_URGENT);
    }
    return true;
}

/* An offer while a fetch goes on. True: nothing more is to be done with it. */
static bool goes_on(struct kv_replica *r, uint64_t from_id, const Kv__InstallSnapshot *offer)
{
    struct kv_fetch *fetch = &r->fetch;
    bool is_same =
        offer->last_index == fetch->descriptor.index && offer->last_term == fetch->descriptor.term;

    if (is_same && (fetch->phase == KV_FETCH_READY || fetch->phase == KV_FETCH_LOADING)) {
        fetch->from_id = from_id;
        fetch->term = offer->term > fetch->term ? offer->term : fetch->term;
        if (fetch->phase == KV_FETCH_READY) {
            give_offer_to_core(r);
        }
        return true;
    }
    if (from_id == fetch->from_id) {
        /* It keeps what we fetch, and the log behind it, even when it has a newer one by now. */
        fetch->term = offer->term > fetch->term ? offer->term : fetch->term;
        return is_same || fetch->phase != KV_FETCH_READY;
    }
    return false;
}

/* After a failure not at once again, but for another one in place of one that was not sound. */
static bool may_fetch(struct kv_replica *r, const Kv__InstallSnapshot *offer)
{
    const struct kv_snapshot_id *refused = &r->fetch.refused;

    return kv_replica_now_ms(r) >= r->fetch.retry_ms ||
           (refused->index != 0 &&
            (offer->last_index != refused->index || offer->last_term != refused->term));
}

void kv_replica_receive_install(struct kv_replica *r,
                                struct kv_peer *peer,
                                const Kv__InstallSnapshot *offer)
{
    struct kv_fetch *fetch = &r->fetch;
    const char *wrong = check_offer(offer);

    if (wrong) {
        KV_LOG(WARN, "raft", "offer_refused", "peer=%" PRIu64 " reason=\"%s\"", peer->id, wrong);
        return;
    }
    if (answer_stale(r, peer, offer->term)) {
        return;
    }
    if (raft_state(&r->raft) == RAFT_LEADER && offer->term == raft_current_term(&r->raft)) {
        kv_replica_die(r,
                       KV_CORRUPT,
                       "peer %" PRIu64 " claims to lead term %" PRIu64 ", which this node leads",
                       peer->id,
                       offer->term);
        return;
    }
    kv_replica_note_commit(r, offer->last_index);
    /* Guard 11: one at a time. */
    if (r->raft.snapshot.installing || r->install_sequence != 0) {
        return;
    }
    if (is_known(r, offer->last_index, offer->last_term)) {
        const struct kv_snapshot_descriptor descriptor = descriptor_of(offer);

        KV_REACHED("snapshot-offer-known");
        /* The core tells the leader so. */
        step_install(r,
                     peer,
                     offer->term,
                     &descriptor,
                     kv_slice_of(offer->configuration.data, offer->configuration.len));
        return;
    }
    if (fetch->phase != KV_FETCH_NONE && !fetch->is_cancelled && goes_on(r, peer->id, offer)) {
        return;
    }
    if (fetch->phase != KV_FETCH_NONE) {
        KV_REACHED("snapshot-fetch-replaced");
        kv_replica_fetch_cancel(r);
    }
    if (fetch->phase == KV_FETCH_NONE && !r->is_quiescing && !r->take.under_way &&
        !kv_replica_removes_snapshots(r) && r->room == KV_ROOM_ENOUGH && may_fetch(r, offer)) {
        start_fetch(r, peer->id, offer);
    } else if (r->take.under_way) {
        /* What comes from the leader is newer; ours must not begin anew before the fetch has. */
        kv_replica_cancel_take(r);
    }
}

void kv_replica_fetch_on_time(struct kv_replica *r, uint64_t now_ms)
{
    struct kv_fetch *fetch = &r->fetch;

    if (fetch->phase == KV_FETCH_NONE || fetch->is_cancelled) {
        return;
    }
    /* The log has caught up, or nobody offers it any more. */
    if (is_known(r, fetch->descriptor.index, fetch->descriptor.term) ||
        (fetch->phase != KV_FETCH_LOADING &&
         now_ms >= fetch->heard_ms + KV_SNAPSHOT_FETCH_IDLE_MS)) {
        KV_REACHED("snapshot-fetch-given-up");
        kv_replica_fetch_cancel(r);
        return;
    }
    if (fetch->is_asking && now_ms >= fetch->asked_ms + fetch->patience_ms) {
        ask_again(fetch);
    }
    ask(r);
    stay_in_mind(r, now_ms);
}

/* ---------------------------------------------------------------- install */

/* The core has taken the offer: its log begins behind the snapshot now, and so do we. */
void kv_replica_install(struct kv_replica *r, const struct raft_update *update)
{
    struct kv_fetch *fetch = &r->fetch;
    const struct raft_snapshot_metadata *metadata = &update->snapshot.metadata;
    uint64_t index = metadata->index;

    KV_ASSERT(fetch->phase == KV_FETCH_READY && fetch->descriptor.index == index);
    KV_ASSERT(fetch->descriptor.term == metadata->term);
    raft_free(update->snapshot.chunk.base);
    raft_configuration_close((struct raft_configuration *)(uintptr_t)&metadata->configuration);
    if (index <= r->applied_index) {
        kv_replica_die(r,
                       KV_CORRUPT,
                       "the leader installs a snapshot at index %" PRIu64 ", but up to %" PRIu64
                       " is applied here: this node's log and the cluster's have diverged",
                       index,
                       r->applied_index);
        return;
    }
    KV_REACHED("snapshot-installed");
    KV_LOG(INFO,
           "raft",
           "snapshot_installed",
           "index=%" PRIu64 " term=%" PRIu64 " applied=%" PRIu64,
           index,
           fetch->descriptor.term,
           r->applied_index);
    kv_replica_apply_void(r);
    kv_entry_cache_deinit(&r->cache);
    kv_entry_cache_init(&r->cache, index);
    kv_terms_deinit(&r->terms);
    if (kv_terms_init(&r->terms, index, fetch->descriptor.term) != 0) {
        kv_replica_die(r, KV_NO_MEMORY, "no memory to install a snapshot");
        return;
    }
    r->options.ops->truncated(r->options.arg, 1);
    r->options.ops->restore_install(r->options.arg, fetch->load.restore, index);
    fetch->load.restore = NULL;
    r->applied_index = index;
    r->log_bytes = 0;
    r->snapshots_installed++;
    r->changed = true;
    kv_replica_note_configuration(
        r,
        fetch->descriptor.configuration_index,
        kv_slice_of(fetch->configuration.data, fetch->configuration.size));
    r->install_sequence = kv_wal_write_boundary(r->wal, index, fetch->descriptor.term);
    kv_replica_keep_snapshot(r,
                             &fetch->descriptor,
                             kv_slice_of(fetch->configuration.data, fetch->configuration.size),
                             true);
    clear_fetch(fetch);
}

void kv_replica_installed(struct kv_replica *r)
{
    const struct kv_kept_snapshot *kept = &r->kept[0];
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};

    r->install_sequence = 0;
    event.persisted_snapshot.last = true;
    if (kv_replica_metadata(kept->descriptor.index,
                            kept->descriptor.term,
                            kept->descriptor.configuration_index,
                            kv_slice_of(kept->configuration.data, kept->configuration.size),
                            &event.persisted_snapshot.metadata) != 0) {
        kv_replica_die(r, KV_NO_MEMORY, "no memory to install a snapshot");
        return;
    }
    kv_replica_step_or_die(r, &event, "PERSISTED_SNAPSHOT");
    kv_wal_release(r->wal, kept->descriptor.index);
}
