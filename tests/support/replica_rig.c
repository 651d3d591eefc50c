#include "tests/support/replica_rig.h"

#include "common/assert.h"
#include "raft/peer_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELECTION_MS = 1000, HEARTBEAT_MS = 100, CLUSTER_ID = 77, RESULT_VERSION = 2 };

/* ---------------------------------------------------------------- env */

static void submit(void *arg, struct kv_job *job)
{
    struct replica_rig_worker *worker = arg;

    job->next = NULL;
    if (worker->last) {
        worker->last->next = job;
    } else {
        worker->first = job;
    }
    worker->last = job;
}

static const struct kv_worker_ops worker_ops = {submit};

static bool run_job(struct replica_rig *rig, struct replica_rig_worker *worker)
{
    struct kv_job *job = worker->first;

    if (!job) {
        return false;
    }
    worker->first = job->next;
    if (!worker->first) {
        worker->last = NULL;
    }
    job->run(job);
    job->done(job);
    kv_replica_turn(rig->replica);
    return true;
}

static uint64_t now_ns(void *arg)
{
    return ((struct replica_rig *)arg)->now_ns;
}

static void set_timer(void *arg, uint64_t deadline_ms)
{
    ((struct replica_rig *)arg)->timer_ms = deadline_ms;
}

static uint64_t next_random(void *arg)
{
    struct replica_rig *rig = arg;

    rig->random = rig->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return rig->random >> 34;
}

static const struct kv_clock_ops clock_ops = {now_ns, set_timer, next_random};

static int net_start(void *arg, const struct kv_net_handler *handler)
{
    ((struct replica_rig *)arg)->handler = *handler;
    return 0;
}

static int net_add_peer(void *arg, uint64_t peer_id, const char *address)
{
    (void)arg;
    (void)peer_id;
    (void)address;
    return 0;
}

static void net_remove_peer(void *arg, uint64_t peer_id)
{
    (void)arg;
    (void)peer_id;
}

static int net_send(void *arg,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    struct kv_slice head,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    struct replica_rig *rig = arg;
    Kv__PeerMessage *message = kv__peer_message__unpack(NULL, head.size - 4, head.data + 4);

    (void)cls;
    (void)bulk;
    (void)n_bulk;
    KV_ASSERT(message && rig->n_sent < REPLICA_RIG_MESSAGES_MAX);
    rig->sent[rig->n_sent++] = (struct replica_rig_message){peer_id, message};
    return 0;
}

static const struct kv_net_ops net_ops = {net_start, net_add_peer, net_remove_peer, net_send};

/* ---------------------------------------------------------------- the owner */

static void
on_apply(void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data)
{
    struct replica_rig *rig = arg;

    (void)type;
    (void)data;
    KV_ASSERT(index == rig->n_applied + 1);
    KV_ASSERT(index < sizeof rig->applied / sizeof rig->applied[0]);
    rig->applied[index] = term;
    rig->n_applied = index;
    rig->now_ns += rig->apply_ns;
}

static void on_truncated(void *arg, uint64_t first_index)
{
    struct replica_rig *rig = arg;

    KV_ASSERT(first_index > rig->n_applied || first_index == 1);
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void
on_message(void *arg, uint64_t from_id, const Kv__PeerMessage *message, struct kv_slice bulk)
{
    (void)arg;
    (void)from_id;
    (void)message;
    (void)bulk;
}

static void on_peer(void *arg, uint64_t peer_id)
{
    (void)arg;
    (void)peer_id;
}

static void
on_peer_info(void *arg, uint64_t peer_id, const char *client_address, uint64_t machine_version)
{
    (void)arg;
    (void)peer_id;
    (void)client_address;
    (void)machine_version;
}

static uint64_t state_bytes(void *arg)
{
    (void)arg;
    return 0;
}

static void *snapshot_open(void *arg)
{
    return arg;
}

static int snapshot_read(void *snapshot, struct kv_buf *buf, size_t max_bytes)
{
    (void)snapshot;
    (void)max_bytes;
    return kv_buf_append(buf, "state", 5);
}

static void snapshot_close(void *arg, void *snapshot)
{
    (void)arg;
    (void)snapshot;
}

static void *restore_open(void)
{
    return malloc(1);
}

static int restore_feed(void *restore, struct kv_slice piece, struct kv_error *ret_error)
{
    (void)restore;
    (void)piece;
    (void)ret_error;
    return 0;
}

static int restore_finish(void *restore, struct kv_error *ret_error)
{
    (void)restore;
    (void)ret_error;
    return 0;
}

static void restore_close(void *restore)
{
    free(restore);
}

static void restore_install(void *arg, void *restore, uint64_t index)
{
    ((struct replica_rig *)arg)->n_applied = index;
    free(restore);
}

static void snapshot_done(
    void *arg, int status, uint64_t index, uint64_t size_bytes, const struct kv_error *error)
{
    (void)arg;
    (void)status;
    (void)index;
    (void)size_bytes;
    (void)error;
}

static void on_fatal(void *arg, const struct kv_error *error)
{
    struct replica_rig *rig = arg;

    rig->n_fatal++;
    rig->error = *error;
}

static const struct kv_replica_ops replica_ops = {
    .apply = on_apply,
    .truncated = on_truncated,
    .changed = on_nothing,
    .receive = on_message,
    .peer_connected = on_peer,
    .peer_disconnected = on_peer,
    .peer_info = on_peer_info,
    .state_bytes = state_bytes,
    .snapshot_open = snapshot_open,
    .snapshot_read = snapshot_read,
    .snapshot_close = snapshot_close,
    .restore_open = restore_open,
    .restore_feed = restore_feed,
    .restore_finish = restore_finish,
    .restore_close = restore_close,
    .restore_install = restore_install,
    .snapshot_done = snapshot_done,
    .fatal = on_fatal,
};

/* ---------------------------------------------------------------- life */

void replica_rig_init(struct replica_rig *rig, size_t n_members)
{
    KV_ASSERT(n_members <= REPLICA_RIG_MEMBERS_MAX);
    *rig = (struct replica_rig){
        .n_members = n_members,
        .disk = fake_disk_new(1),
        .now_ns = UINT64_C(1000000000000),
        .random = 1,
        .first_member = 1,
    };
}

void replica_rig_deinit(struct replica_rig *rig)
{
    if (rig->replica) {
        replica_rig_kill(rig);
    }
    replica_rig_forget(rig);
    fake_disk_free(rig->disk);
}

int replica_rig_open(struct replica_rig *rig)
{
    static const char *const addresses[REPLICA_RIG_MEMBERS_MAX] = {
        "node1:4701", "node2:4701", "node3:4701", "node4:4701", "node5:4701"};
    struct kv_replica_member members[REPLICA_RIG_MEMBERS_MAX];
    int status;
    struct kv_replica_options options = {
        .cluster_id = CLUSTER_ID,
        .node_id = 1,
        .members = members,
        .n_members = rig->n_members,
        .election_timeout_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .wal_segment_bytes = rig->wal_segment_bytes ? rig->wal_segment_bytes : KV_MIB,
        .snapshot_log_bytes = rig->snapshot_log_bytes,
        .env = &rig->env,
        .ops = &replica_ops,
        .arg = rig,
    };

    for (size_t i = 0; i < rig->n_members; i++) {
        members[i] = (struct kv_replica_member){rig->first_member + i, addresses[i]};
    }
    rig->env = (struct kv_env){
        .disk = *fake_disk_ops(rig->disk),
        .log_worker = {&worker_ops, &rig->log_worker},
        .file_worker = {&worker_ops, &rig->other_worker},
        .snapshot_worker = {&worker_ops, &rig->other_worker},
        .net = {&net_ops, rig},
        .clock = {&clock_ops, rig},
    };
    status = kv_replica_open(&options, &rig->replica, &rig->error);
    for (size_t i = 1; status == 0 && i < rig->n_members; i++) {
        rig->handler.connected(rig->handler.arg, members[i].id);
    }
    if (status != 0) {
        fake_disk_close_all(rig->disk);
        return status;
    }
    kv_replica_turn(rig->replica);
    return 0;
}

void replica_rig_start(struct replica_rig *rig)
{
    if (replica_rig_open(rig) != 0) {
        fprintf(stderr, "the replica does not start: %s\n", rig->error.message);
        KV_ASSERT(!"the replica does not start");
    }
}

void replica_rig_kill(struct replica_rig *rig)
{
    rig->log_worker = rig->other_worker = (struct replica_rig_worker){0};
    kv_replica_close(rig->replica);
    rig->replica = NULL;
    rig->n_applied = 0;
    fake_disk_close_all(rig->disk);
}

bool replica_rig_sync(struct replica_rig *rig)
{
    return run_job(rig, &rig->log_worker);
}

bool replica_rig_work(struct replica_rig *rig)
{
    return run_job(rig, &rig->other_worker);
}

void replica_rig_settle(struct replica_rig *rig)
{
    while (replica_rig_work(rig) || replica_rig_sync(rig)) {
    }
    if (rig->n_fatal > 0) {
        fprintf(stderr, "the replica ends: %s\n", rig->error.message);
    }
}

void replica_rig_wait(struct replica_rig *rig, uint64_t ms)
{
    rig->now_ns += ms * 1000000;
    kv_replica_on_time(rig->replica);
    kv_replica_turn(rig->replica);
}

/* ---------------------------------------------------------------- messages */

static void receive(struct replica_rig *rig, uint64_t from_id, const struct kv_buf *bytes)
{
    rig->handler.receive(rig->handler.arg, from_id, bytes->data, bytes->size);
    kv_replica_turn(rig->replica);
}

void replica_rig_receive(struct replica_rig *rig,
                         uint64_t from_id,
                         const struct raft_message *message)
{
    struct kv_buf bytes;

    kv_buf_init(&bytes, KV_MIB);
    KV_ASSERT(kv_peer_encode_raft(&bytes, message) == 0);
    receive(rig, from_id, &bytes);
    kv_buf_deinit(&bytes);
}

void replica_rig_append(struct replica_rig *rig,
                        uint64_t from_id,
                        const struct raft_append_entries *append,
                        const struct kv_wal_entry *entries,
                        unsigned n_entries)
{
    struct kv_buf bytes;

    kv_buf_init(&bytes, KV_MIB);
    KV_ASSERT(kv_peer_encode_append(&bytes, append, entries, n_entries) == 0);
    for (unsigned i = 0; i < n_entries; i++) {
        KV_ASSERT(kv_buf_append(&bytes, entries[i].data.data, entries[i].data.size) == 0);
    }
    receive(rig, from_id, &bytes);
    kv_buf_deinit(&bytes);
}

void replica_rig_receive_other(struct replica_rig *rig,
                               uint64_t from_id,
                               const Kv__PeerMessage *message,
                               struct kv_slice bulk)
{
    struct kv_buf bytes;

    kv_buf_init(&bytes, 2 * KV_MIB);
    KV_ASSERT(kv_peer_encode(&bytes, message) == 0);
    KV_ASSERT(kv_buf_append(&bytes, bulk.data, bulk.size) == 0);
    receive(rig, from_id, &bytes);
    kv_buf_deinit(&bytes);
}

/* So many peers that it has a majority grant what it has asked for. */
static void grant_vote(struct replica_rig *rig, bool pre_vote)
{
    const Kv__PeerMessage *asked = replica_rig_sent(rig, 2, KV__PEER_MESSAGE__BODY_REQUEST_VOTE);
    struct raft_message answer = {.type = RAFT_REQUEST_VOTE_RESULT};

    KV_ASSERT(asked && asked->request_vote->pre_vote == pre_vote);
    answer.request_vote_result = (struct raft_request_vote_result){
        .version = RESULT_VERSION,
        .term = asked->request_vote->term,
        .vote_granted = true,
        .pre_vote = pre_vote,
    };
    replica_rig_forget(rig);
    for (uint64_t id = 2; id <= rig->n_members / 2 + 1; id++) {
        replica_rig_receive(rig, id, &answer);
    }
}

void replica_rig_offer_snapshot(struct replica_rig *rig,
                                uint64_t from_id,
                                uint64_t term,
                                const struct kv_snapshot_descriptor *descriptor,
                                struct kv_slice configuration)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__InstallSnapshot offer = KV__INSTALL_SNAPSHOT__INIT;

    offer.term = term;
    offer.last_index = descriptor->index;
    offer.last_term = descriptor->term;
    offer.configuration_index = descriptor->configuration_index;
    offer.configuration.data = (uint8_t *)(uintptr_t)configuration.data;
    offer.configuration.len = configuration.size;
    offer.size_bytes = descriptor->size_bytes;
    offer.hash = descriptor->hash;
    message.body_case = KV__PEER_MESSAGE__BODY_INSTALL_SNAPSHOT;
    message.install_snapshot = &offer;
    replica_rig_receive_other(rig, from_id, &message, kv_slice_of(NULL, 0));
}

void replica_rig_send_piece(struct replica_rig *rig,
                            uint64_t from_id,
                            const struct kv_snapshot_descriptor *descriptor,
                            uint64_t offset,
                            struct kv_slice bytes)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__SnapshotPiece piece = KV__SNAPSHOT_PIECE__INIT;

    piece.last_index = descriptor->index;
    piece.last_term = descriptor->term;
    piece.offset = offset;
    message.body_case = KV__PEER_MESSAGE__BODY_SNAPSHOT_PIECE;
    message.snapshot_piece = &piece;
    replica_rig_receive_other(rig, from_id, &message, bytes);
}

void replica_rig_lead(struct replica_rig *rig)
{
    replica_rig_wait(rig, 2 * ELECTION_MS);
    grant_vote(rig, true);
    replica_rig_settle(rig);
    grant_vote(rig, false);
    KV_ASSERT(kv_replica_is_leader(rig->replica));
    replica_rig_settle(rig);
}

void replica_rig_answer_append(struct replica_rig *rig,
                               uint64_t from_id,
                               raft_index rejected,
                               raft_index last_log_index)
{
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES_RESULT};

    message.append_entries_result = (struct raft_append_entries_result){
        .version = 2,
        .term = raft_current_term(&rig->replica->raft),
        .rejected = rejected,
        .last_log_index = last_log_index,
        .features = 1,
        .capacity = KV_ROOM_ENOUGH,
    };
    replica_rig_receive(rig, from_id, &message);
}

int replica_rig_propose(struct replica_rig *rig)
{
    uint64_t index;
    uint64_t term;
    void *data = raft_malloc(8);
    int status;

    memset(data, 'x', 8);
    status = kv_replica_propose(rig->replica, data, 8, &index, &term);
    kv_replica_turn(rig->replica);
    return status;
}

const Kv__PeerMessage *
replica_rig_sent(const struct replica_rig *rig, uint64_t to_id, Kv__PeerMessage__BodyCase body)
{
    for (size_t i = rig->n_sent; i > 0; i--) {
        if (rig->sent[i - 1].to_id == to_id && rig->sent[i - 1].message->body_case == body) {
            return rig->sent[i - 1].message;
        }
    }
    return NULL;
}

void replica_rig_forget(struct replica_rig *rig)
{
    for (size_t i = 0; i < rig->n_sent; i++) {
        kv__peer_message__free_unpacked(rig->sent[i].message, NULL);
    }
    rig->n_sent = 0;
}
