/* Looks into the nodes after each event and tells the checkers what happened. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "proto/entry.h"
#include "raft/wal_internal.h"

#include <inttypes.h>
#include <string.h>

enum { BOUNDS_EVERY = 8, INDEX_EVERY = 64 }; /* events */

static uint64_t term_of(const void *arg, uint64_t index)
{
    const struct kv_replica *replica = arg;

    return kv_terms_of(&replica->terms, index);
}

/* ---------------------------------------------------------------- apply */

/* The fastest clock that there is runs at twice the rate, with its drift. */
static void check_time(struct sim_node *node, uint64_t index, struct kv_slice data)
{
    enum { FASTEST_PERCENT = 211, FIRST_MS = 1000 };
    uint64_t elapsed_ms = (node->sim->now_ns - node->sim->start_ns) / SIM_MS;
    struct kv_entry_reader reader;

    if (kv_entry_read_head(data, &reader) == 0) {
        checkers_cluster_time(&node->sim->checkers,
                              index,
                              (uint64_t)reader.cluster_time_ms,
                              elapsed_ms * FASTEST_PERCENT / 100 + FIRST_MS);
    }
}

static void
on_apply(void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data)
{
    struct kv_node *kv_node = arg;
    struct sim_node *node = kv_node->options.arg;
    struct checkers *checkers = &node->sim->checkers;
    int64_t time_ms = kv_machine_cluster_time_ms(kv_node->machine);

    checkers_applies(checkers, node->id, index, term, type, data);
    if (type == KV_ENTRY_COMMAND) {
        check_time(node, index, data);
    }
    lives_applied(&node->sim->lives, index, node->sim->now_ns);
    node->apply(arg, index, term, type, data);
    if (!kv_node->dead) {
        checkers_time_goes_on(
            checkers, node->id, time_ms, kv_machine_cluster_time_ms(kv_node->machine));
        checkers_state(checkers,
                       node->id,
                       index,
                       sim_node_state_hash(node),
                       kv_machine_revision(kv_node->machine));
    }
}

static void tell_recovery(struct sim_node *node)
{
    const struct kv_replica *replica = node->node->replica;
    const struct kv_wal_state *state = kv_wal_recovered(replica->wal);
    struct checked_recovery recovery = {
        .term = state->term,
        .vote = state->voted_for,
        .first_index = state->first_index,
        .last_index = state->last_index,
        .is_log_dropped = kv_wal_first_index(replica->wal) != state->first_index,
    };

    if (replica->restored_index > 0) {
        recovery.snapshot = (struct checked_snapshot){
            .index = replica->restored_index,
            .term = replica->restored_term,
            .state_hash = kv_machine_state_hash(node->node->machine),
            .revision = kv_machine_revision(node->node->machine),
        };
    }
    checkers_recovers(&node->sim->checkers, node->id, &recovery, term_of, replica);
}

static void watch_rest_of_log(struct sim_node *node)
{
    const struct kv_wal *wal = node->node->replica->wal;
    const uint8_t *data;
    uint64_t size = 0;

    if (wal->n_segments == 0) {
        return;
    }
    data = fake_disk_durable(node->disk, wal->segments[wal->n_segments - 1]->name, &size);
    if (data && wal->position < size) {
        checkers_rest_of_log(&node->sim->checkers,
                             node->id,
                             kv_slice_of(data + wal->position, (size_t)(size - wal->position)));
    }
}

void sim_watch_start(struct sim_node *node)
{
    struct kv_replica *replica = node->node->replica;

    node->replica_ops = *replica->options.ops;
    node->apply = node->replica_ops.apply;
    node->install = node->replica_ops.restore_install;
    node->replica_ops.apply = on_apply;
    node->replica_ops.restore_install = sim_snapshots_on_install;
    replica->options.ops = &node->replica_ops;
    node->last_role = KV_ROLE_STARTING;
    node->last_term = 0;
    node->n_places = 0;
    sim_snapshots_look(node);
    tell_recovery(node);
    watch_rest_of_log(node);
}

/* ---------------------------------------------------------------- turns */

static void check_bounds(struct sim_node *node)
{
    struct checkers *checkers = &node->sim->checkers;
    const struct kv_node *kv_node = node->node;
    const struct kv_replica *replica = kv_node->replica;

    checkers_bound(checkers, node->id, "requests", kv_node->n_ops, KV_NODE_REQUESTS_MAX + 1);
    checkers_bound(checkers,
                   node->id,
                   "bytes of requests",
                   kv_node->ops_bytes,
                   KV_NODE_REQUEST_BYTES_MAX + KV_REQUEST_BYTES_MAX);
    checkers_bound(checkers, node->id, "proposals", kv_node->n_proposals, KV_PROPOSALS_MAX);
    checkers_bound(
        checkers, node->id, "streams", kv_node->lists[KV_OP_STREAM].count, KV_NODE_STREAMS_MAX);
    checkers_bound(checkers,
                   node->id,
                   "bytes queued for the log",
                   replica->wal->queued_bytes,
                   KV_WAL_QUEUE_BYTES_MAX + 2 * KV_ENTRY_BYTES_MAX);
    checkers_bound(
        checkers, node->id, "writes not synced", replica->n_pending, KV_PENDING_WRITES_MAX);
    for (size_t i = 0; i < replica->n_peers; i++) {
        checkers_bound(checkers,
                       node->id,
                       "messages held back",
                       replica->peers[i].outbox.n_items,
                       KV_OUTBOX_ITEMS_MAX);
    }
}

static void watch_commits(struct sim_node *node, const struct kv_replica_status *status)
{
    struct checkers *checkers = &node->sim->checkers;
    struct checked_node *checked = &checkers->nodes[node->id];
    bool is_leader = status->role == KV_ROLE_LEADER;

    /* The core's own commit index may fall back to what is stored here while the disk is slow: then
     * nothing is new. */
    while (checked->committed < status->commit_index) {
        uint64_t index = ++checked->committed;

        checkers_commits(checkers,
                         node->id,
                         (struct checked_commit){.index = index,
                                                 .term = term_of(node->node->replica, index),
                                                 .known_in = status->term,
                                                 .is_leader = is_leader});
    }
}

/* What this leader has proposed itself and nobody has committed. */
static void watch_window(struct sim_node *node, const struct kv_replica_status *status)
{
    struct checkers *checkers = &node->sim->checkers;
    uint64_t known = checkers->nodes[node->id].committed;
    uint64_t former = node->node->replica->term_start;

    former = former > 0 ? former - 1 : 0;
    known = known > former ? known : former;
    if (status->role == KV_ROLE_LEADER && status->last_index > known) {
        checkers_bound(checkers,
                       node->id,
                       "entries proposed",
                       status->last_index - known,
                       KV_INFLIGHT_ENTRIES_MAX);
    }
}

/* It must wake up for an election, whether or not anything else happens. */
static void watch_timer(struct sim_node *node)
{
    const struct kv_node *kv_node = node->node;
    uint64_t now_ms = sim_node_now_ns(node) / SIM_MS;
    uint64_t election_ms = kv_replica_election_deadline_ms(kv_node->replica);

    election_ms = election_ms > now_ms ? election_ms : now_ms;
    /* Who serves no longer begins none. */
    if (!kv_node->dead && election_ms != UINT64_MAX && kv_node->timer_ms > election_ms + 1) {
        sim_fail(node->sim,
                 "node %u wakes up at %" PRIu64 " ms, its next election begins at %" PRIu64,
                 node->id,
                 kv_node->timer_ms,
                 election_ms);
    }
}

void sim_watch_turn(struct sim_node *node)
{
    static const char *const roles[] = {"starting", "follower", "candidate", "leader"};
    struct sim *sim = node->sim;
    struct kv_replica *replica = node->node->replica;
    const struct kv_replica_status *status = &node->node->replica_status; /* of the turn's end */

    if (!replica->started) {
        return;
    }
    if (node->node->unfit_index != 0 && !node->has_differed) {
        sim_fail(sim, "node %u serves no longer, though its state is that of all", node->id);
    }
    if (status->role != node->last_role || status->term != node->last_term) {
        sim_note(sim,
                 node->id,
                 "%s in term %" PRIu64 ", log %" PRIu64 ", commit %" PRIu64,
                 roles[status->role],
                 status->term,
                 status->last_index,
                 status->commit_index);
        if (status->role == KV_ROLE_LEADER) {
            checkers_leads(&sim->checkers, node->id, node->incarnation, status->term);
            checkers_leader_log(&sim->checkers,
                                node->id,
                                status->term,
                                replica->raft.trail.snapshot.index,
                                term_of,
                                replica);
            checkers_log_matching(&sim->checkers);
        }
        node->last_role = status->role;
        node->last_term = status->term;
    }
    watch_commits(node, status);
    watch_window(node, status);
    watch_timer(node);
    if (sim->counts.events % BOUNDS_EVERY == 0) {
        check_bounds(node);
    }
    if (sim->counts.events % INDEX_EVERY == 0) {
        kv_watch_index_check_invariants(&node->node->watches.index);
    }
}

/* ---------------------------------------------------------------- the log's files */

/* The log begins with this segment now. */
static void watch_release(struct sim_node *node, uint64_t number)
{
    const struct kv_wal *wal = node->node->replica->wal;

    for (size_t i = 0; i < wal->n_segments; i++) {
        const struct kv_wal_segment *segment = wal->segments[i];

        /* One that began before the boundary did so at an index that says nothing now. */
        if (segment->number == number && number > wal->boundary_number) {
            checkers_released(&node->sim->checkers, node->id, segment->first_index);
        }
    }
}

static void watch_record(struct sim_node *node, const struct kv_wal_record *record)
{
    struct checkers *checkers = &node->sim->checkers;

    checkers_synced_record(checkers, node->id);
    switch (record->type) {
    case KV_WAL_ENTRY:
        checkers_synced_entry(checkers, node->id, record->index, record->term);
        break;
    case KV_WAL_TRUNCATE:
        checkers_synced_truncation(checkers, node->id, record->index);
        break;
    case KV_WAL_VOTE:
        checkers_synced_vote(checkers, node->id, record->term, record->index);
        break;
    case KV_WAL_BOUNDARY:
        checkers_synced_boundary(checkers, node->id, record->index, record->term);
        break;
    case KV_WAL_SYNCED:
        watch_release(node, record->index);
        break;
    default:
        break;
    }
}

static void note_place(struct sim_node *node, const struct kv_wal_batch *batch)
{
    struct sim_place place = {.offset = batch->file_offset};

    memcpy(place.name, batch->segment->name, sizeof place.name);
    if (node->n_places == SIM_PLACES) {
        memmove(node->places, node->places + 1, (SIM_PLACES - 1) * sizeof place);
        node->n_places--;
    }
    node->places[node->n_places++] = place;
}

/* Reads what the batch should have put on the disk from what a power loss would leave there. */
static void watch_batch(struct sim_node *node, const struct kv_wal_batch *batch)
{
    uint64_t size = 0;
    uint64_t offset = batch->file_offset;
    uint64_t end = offset + batch->data.size;
    const uint8_t *data = fake_disk_durable(node->disk, batch->segment->name, &size);

    end = data && end < size ? end : data ? size : offset;
    while (offset < end) {
        struct kv_wal_record record;
        uint64_t taken = kv_wal_record_decode(kv_slice_of(data + offset, (size_t)(end - offset)),
                                              offset == 0 ? 0 : batch->segment->seed,
                                              &record);

        if (taken == 0) {
            break;
        }
        watch_record(node, &record);
        offset += taken;
    }
    note_place(node, batch);
}

static bool watch_intent(struct sim_node *node, const struct kv_wal_batch *batch)
{
    bool has_boundary = false;
    size_t offset = 0;

    while (offset < batch->data.size) {
        struct kv_wal_record record;
        uint64_t taken =
            kv_wal_record_decode(kv_slice_of(batch->data.data + offset, batch->data.size - offset),
                                 batch->file_offset + offset == 0 ? 0 : batch->segment->seed,
                                 &record);

        if (taken == 0) {
            break;
        }
        checkers_writes_record(&node->sim->checkers,
                               node->id,
                               node->incarnation,
                               record.sequence,
                               batch->file_offset + offset == 0 && record.index == 1);
        if (record.type == KV_WAL_TRUNCATE) {
            checkers_may_truncate(&node->sim->checkers, node->id, record.index);
        } else if (record.type == KV_WAL_BOUNDARY) {
            checkers_may_truncate(&node->sim->checkers, node->id, record.index + 1);
            has_boundary = true;
        }
        offset += taken;
    }
    return has_boundary;
}

bool sim_watch_job(struct sim_node *node, struct kv_job *job, bool before)
{
    const struct kv_wal_batch *batch = (struct kv_wal_batch *)job;

    if (before) {
        return watch_intent(node, batch);
    }
    if (batch->status == 0) {
        watch_batch(node, batch);
    }
    return false;
}

/* ---------------------------------------------------------------- messages */

static uint64_t read_varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t value = 0;

    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            break;
        }
    }
    return value;
}

/* What the node says of its own term and log (peer.proto: the fields' numbers); unpacking each
 * message would take longer than everything else that is done with it. */
void sim_watch_message(struct sim_node *node, struct kv_slice message)
{
    enum {
        HEAD_BYTES = 4,
        FIELDS = 8,
        REQUEST_VOTE = 1,
        VOTE_RESULT = 2,
        APPEND = 3,
        APPEND_RESULT = 4
    };
    const uint8_t *p = message.data + HEAD_BYTES;
    const uint8_t *end = message.data + message.size;
    uint64_t fields[FIELDS] = {0};
    uint64_t kind;

    if (message.size < HEAD_BYTES + 2 || (*p & 7) != 2) {
        return;
    }
    kind = *p++ >> 3;
    if (kind < REQUEST_VOTE || kind > APPEND_RESULT) {
        return;
    }
    read_varint(&p, end);
    while (p < end && (*p & 7) == 0 && *p >> 3 < FIELDS) {
        uint64_t field = *p++ >> 3;

        fields[field] = read_varint(&p, end);
    }
    /* A pre-vote asks about a term that nobody has yet. */
    if ((kind == REQUEST_VOTE && fields[7]) || (kind == VOTE_RESULT && fields[4])) {
        return;
    }
    checkers_tells_term(&node->sim->checkers, node->id, fields[2]);
    if (kind == APPEND_RESULT && fields[3] == 0) {
        checkers_tells_stored(&node->sim->checkers, node->id, fields[4]);
    }
}
