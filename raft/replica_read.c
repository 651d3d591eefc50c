/* Read indexes: confirm rounds on the leader, requests to the leader elsewhere. */
#include "common/assert.h"
#include "common/reached.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <stdlib.h>

/* A round or request whose messages were lost is repeated after this long. */
enum { RESEND_MS = 100 };

/* A follower's reads, being confirmed here. */
struct remote_read {
    struct kv_read read;
    struct kv_replica *replica;
    uint64_t from_id;
    uint64_t id;
};

static unsigned count_voters(const struct kv_replica *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->raft.configuration.n; i++) {
        n += r->raft.configuration.servers[i].role == RAFT_VOTER;
    }
    return n;
}

static void
send_peer_message(struct kv_replica *r, struct kv_peer *peer, const Kv__PeerMessage *message)
{
    kv_buf_clear(&r->buf);
    if (kv_peer_encode(&r->buf, message) == 0) {
        kv_replica_send_buf(r, peer, KV_NET_URGENT);
    }
}

static void send_confirms(struct kv_replica *r)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__Confirm confirm = KV__CONFIRM__INIT;

    confirm.term = r->confirm.term;
    confirm.round = r->confirm.round;
    message.body_case = KV__PEER_MESSAGE__BODY_CONFIRM;
    message.confirm = &confirm;
    for (unsigned i = 0; i < r->raft.configuration.n; i++) {
        const struct raft_server *server = &r->raft.configuration.servers[i];
        struct kv_peer *peer = kv_replica_peer(r, server->id);

        if (server->role == RAFT_VOTER && peer && !(r->confirm.acks & UINT64_C(1) << i)) {
            send_peer_message(r, peer, &message);
        }
    }
}

static void finish_round_if_majority(struct kv_replica *r)
{
    if (kv_confirm_has_majority(&r->confirm, count_voters(r))) {
        kv_confirm_finish(&r->confirm);
    }
}

/* Counts ourselves, when we are a voter, or a peer. */
static void ack_from(struct kv_replica *r, uint64_t id, uint64_t term, uint64_t round)
{
    for (unsigned i = 0; i < r->raft.configuration.n; i++) {
        const struct raft_server *server = &r->raft.configuration.servers[i];

        if (server->id == id && server->role == RAFT_VOTER) {
            (void)kv_confirm_ack(&r->confirm, term, round, i);
        }
    }
}

static void start_round(struct kv_replica *r)
{
    uint64_t now = kv_replica_now_ms(r);

    kv_confirm_start(&r->confirm, raft_current_term(&r->raft), raft_commit_index(&r->raft), now);
    r->resent_ms = now;
    ack_from(r, r->options.node_id, r->confirm.term, r->confirm.round);
    send_confirms(r);
    finish_round_if_majority(r);
}

/* Asks the leader, or asks again: what was lost is not told to us. */
static void send_read_index(struct kv_replica *r, uint64_t now_ms)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ReadIndex request = KV__READ_INDEX__INIT;
    struct kv_peer *peer = kv_replica_peer(r, r->remote_leader_id);

    r->remote_sent_ms = now_ms;
    request.id = r->remote_id;
    message.body_case = KV__PEER_MESSAGE__BODY_READ_INDEX;
    message.read_index = &request;
    if (peer) {
        send_peer_message(r, peer, &message);
    }
}

static void start_read_index(struct kv_replica *r)
{
    r->remote_asking = r->remote_waiting;
    r->remote_waiting = (struct kv_read_queue){0};
    r->remote_id++;
    r->remote_leader_id = r->last_leader;
    r->remote_started_ms = kv_replica_now_ms(r);
    send_read_index(r, r->remote_started_ms);
}

void kv_replica_reads_turn(struct kv_replica *r)
{
    if (kv_replica_is_leader(r)) {
        /* Rounds of a single voter end at once and may queue more. */
        while (r->confirm.waiting.first && !r->confirm.under_way &&
               raft_commit_index(&r->raft) >= r->term_start) {
            start_round(r);
        }
    } else if (r->remote_waiting.first && !r->remote_asking.first &&
               kv_replica_is_connected(r, r->last_leader)) {
        start_read_index(r);
    }
}

static void fail_remote(struct kv_replica *r)
{
    struct kv_read_queue waiting = r->remote_waiting;

    KV_REACHED("read-index-lost");
    r->remote_waiting = (struct kv_read_queue){0};
    kv_read_queue_finish(&r->remote_asking, KV_NO_LEADER, 0);
    kv_read_queue_finish(&waiting, KV_NO_LEADER, 0);
}

void kv_replica_reads_role_changed(struct kv_replica *r)
{
    if (!kv_replica_is_leader(r)) {
        kv_confirm_fail(&r->confirm);
    }
    fail_remote(r);
}

void kv_replica_reads_peer_lost(struct kv_replica *r, uint64_t peer_id)
{
    if (r->remote_asking.first && r->remote_leader_id == peer_id) {
        fail_remote(r);
    }
}

static bool is_overdue(const struct kv_read_queue *queue, uint64_t now_ms)
{
    return queue->first && now_ms >= queue->first->queued_ms + KV_CONFIRM_TIMEOUT_MS;
}

void kv_replica_reads_on_time(struct kv_replica *r, uint64_t now_ms)
{
    if (r->confirm.under_way && now_ms >= r->confirm.started_ms + KV_CONFIRM_TIMEOUT_MS) {
        kv_confirm_fail(&r->confirm);
    } else if (r->confirm.under_way && now_ms >= r->resent_ms + RESEND_MS) {
        r->resent_ms = now_ms;
        send_confirms(r);
    }
    if (!r->confirm.under_way && is_overdue(&r->confirm.waiting, now_ms)) {
        kv_confirm_fail(&r->confirm);
    }
    if (is_overdue(&r->remote_waiting, now_ms) ||
        (r->remote_asking.first && now_ms >= r->remote_started_ms + KV_CONFIRM_TIMEOUT_MS)) {
        fail_remote(r);
    } else if (r->remote_asking.first && now_ms >= r->remote_sent_ms + RESEND_MS) {
        send_read_index(r, now_ms);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t kv_replica_reads_deadline_ms(const struct kv_replica *r)
{
    uint64_t deadline = UINT64_MAX;

    if (r->confirm.under_way) {
        deadline = r->resent_ms + RESEND_MS;
    } else if (r->confirm.waiting.first) {
        deadline = r->confirm.waiting.first->queued_ms + KV_CONFIRM_TIMEOUT_MS;
    }
    if (r->remote_asking.first) {
        deadline = least(deadline, r->remote_sent_ms + RESEND_MS);
    }
    if (r->remote_waiting.first) {
        deadline = least(deadline, r->remote_waiting.first->queued_ms + KV_CONFIRM_TIMEOUT_MS);
    }
    return deadline;
}

int kv_replica_read(struct kv_replica *r, struct kv_read *read)
{
    if (!r->started || r->dead) {
        return KV_NO_LEADER;
    }
    read->queued_ms = kv_replica_now_ms(r);
    if (r->confirm.waiting.count + r->remote_waiting.count >= KV_READS_MAX) {
        return KV_BUSY;
    }
    if (kv_replica_is_leader(r)) {
        kv_read_queue_push(&r->confirm.waiting, read);
    } else if (r->last_leader != 0) {
        kv_read_queue_push(&r->remote_waiting, read);
    } else {
        return KV_NO_LEADER;
    }
    return 0;
}

void kv_replica_receive_confirm(struct kv_replica *r,
                                struct kv_peer *peer,
                                const Kv__Confirm *confirm)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ConfirmResult result = KV__CONFIRM_RESULT__INIT;

    result.term = confirm->term;
    result.round = confirm->round;
    result.same_term = confirm->term == raft_current_term(&r->raft);
    message.body_case = KV__PEER_MESSAGE__BODY_CONFIRM_RESULT;
    message.confirm_result = &result;
    send_peer_message(r, peer, &message);
}

void kv_replica_receive_confirm_result(struct kv_replica *r,
                                       uint64_t from_id,
                                       const Kv__ConfirmResult *result)
{
    if (!result->same_term || !kv_replica_is_leader(r) ||
        result->term != raft_current_term(&r->raft)) {
        return;
    }
    ack_from(r, from_id, result->term, result->round);
    finish_round_if_majority(r);
}

static void send_read_index_result(
    struct kv_replica *r, uint64_t to_id, uint64_t id, int status, uint64_t index)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ReadIndexResult result = KV__READ_INDEX_RESULT__INIT;
    struct kv_peer *peer = kv_replica_peer(r, to_id);

    KV_ASSERT(peer);
    result.id = id;
    result.status = -status;
    result.index = index;
    message.body_case = KV__PEER_MESSAGE__BODY_READ_INDEX_RESULT;
    message.read_index_result = &result;
    /* What it waits for next. */
    kv_replica_tell_commit(r, peer);
    send_peer_message(r, peer, &message);
}

static void remote_read_done(struct kv_read *read, int status)
{
    struct remote_read *remote = read->arg;

    remote->replica->n_remote_reads--;
    send_read_index_result(remote->replica, remote->from_id, remote->id, status, read->index);
    free(remote);
}

void kv_replica_receive_read_index(struct kv_replica *r,
                                   struct kv_peer *peer,
                                   const Kv__ReadIndex *request)
{
    struct remote_read *remote = NULL;

    if (kv_replica_is_leader(r) && r->n_remote_reads < KV_READS_MAX) {
        remote = malloc(sizeof *remote);
    }
    if (!remote) {
        send_read_index_result(r, peer->id, request->id, KV_NO_LEADER, 0);
        return;
    }
    *remote = (struct remote_read){
        .read = {.done = remote_read_done, .queued_ms = kv_replica_now_ms(r)},
        .replica = r,
        .from_id = peer->id,
        .id = request->id,
    };
    remote->read.arg = remote;
    r->n_remote_reads++;
    kv_read_queue_push(&r->confirm.waiting, &remote->read);
}

void kv_replica_receive_read_index_result(struct kv_replica *r,
                                          uint64_t from_id,
                                          const Kv__ReadIndexResult *result)
{
    if (!r->remote_asking.first || result->id != r->remote_id || from_id != r->remote_leader_id) {
        return;
    }
    kv_read_queue_finish(&r->remote_asking, result->status == 0 ? 0 : KV_NO_LEADER, result->index);
}
