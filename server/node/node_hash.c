/* Do all members hold the same state? Each notes its state hash at the same indexes and tells the
 * leader, which compares (design: "Same log, same state"). Who differs from a majority stops
 * serving: an answer from a state that has gone another way is worse than none. */
#include "server/node/node_internal.h"

#include "common/log.h"

#include <inttypes.h>

/* The note of an index; a new one takes the place of the oldest. NULL: older than all. */
static struct kv_hash_note *note_of(struct kv_node *node, uint64_t index)
{
    struct kv_hash_note *oldest = &node->hashes[0];

    for (size_t i = 0; i < KV_STATE_HASH_NOTES; i++) {
        if (node->hashes[i].index == index) {
            return &node->hashes[i];
        }
        if (node->hashes[i].index < oldest->index) {
            oldest = &node->hashes[i];
        }
    }
    if (oldest->index > index) {
        return NULL;
    }
    *oldest = (struct kv_hash_note){.index = index};
    return oldest;
}

void kv_node_become_unfit(struct kv_node *node, uint64_t index, uint64_t hash)
{
    if (node->unfit_index != 0) {
        return;
    }
    node->unfit_index = index;
    KV_LOG(ERROR,
           "node",
           "state_differs",
           "index=%" PRIu64 " hash=%016" PRIx64 " majority=%016" PRIx64
           " next=\"serves no longer; keep the files, replace this member (docs/operations)\"",
           index,
           kv_machine_state_hash(node->machine),
           hash);
    kv_replica_become_unfit(node->replica);
    if (node->replica_status.role == KV_ROLE_LEADER) {
        (void)!kv_replica_transfer(node->replica, 0);
    }
    kv_node_fail_all_unfit(node);
    node->options.ops->changed(node->options.arg);
}

static void send_verdict(struct kv_node *node, uint64_t to_id, uint64_t index, uint64_t hash)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__StateVerdict verdict = KV__STATE_VERDICT__INIT;

    verdict.index = index;
    verdict.hash = hash;
    message.body_case = KV__PEER_MESSAGE__BODY_STATE_VERDICT;
    message.state_verdict = &verdict;
    /* Lost, it is sent again after the next note. */
    (void)!kv_replica_send(node->replica, to_id, KV_NET_URGENT, &message, NULL, 0);
}

static unsigned count(const struct kv_hash_note *note, uint64_t hash)
{
    unsigned n = note->own == hash;

    for (size_t i = 0; i < note->n_peers; i++) {
        n += note->peers[i].hash == hash;
    }
    return n;
}

/* On the leader, once its own hash is known. */
static void judge(struct kv_node *node, const struct kv_hash_note *note)
{
    unsigned majority = (unsigned)node->options.n_members / 2 + 1;
    uint64_t right = note->own;

    if (!note->has_own || count(note, note->own) == note->n_peers + 1) {
        return;
    }
    for (size_t i = 0; i < note->n_peers && count(note, right) < majority; i++) {
        right = note->peers[i].hash;
    }
    if (count(note, right) < majority) {
        /* Nobody knows who is right: nothing more may be built on it. */
        if (note->n_peers + 1 == node->options.n_members) {
            kv_node_become_unfit(node, note->index, right);
        }
        return;
    }
    for (size_t i = 0; i < note->n_peers; i++) {
        if (note->peers[i].hash != right) {
            KV_LOG(ERROR,
                   "node",
                   "member_differs",
                   "member=%" PRIu64 " index=%" PRIu64,
                   note->peers[i].id,
                   note->index);
            kv_replica_note_unfit(node->replica, note->peers[i].id);
            send_verdict(node, note->peers[i].id, note->index, right);
        }
    }
    if (note->own != right) {
        kv_node_become_unfit(node, note->index, right);
    }
}

void kv_node_note_hash(struct kv_node *node, uint64_t index, bool tell)
{
    struct kv_hash_note *note = note_of(node, index);
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__StateHash hash = KV__STATE_HASH__INIT;
    uint64_t leader_id = node->replica_status.leader_id;

    if (!note) {
        return;
    }
    note->own = kv_machine_state_hash(node->machine);
    note->has_own = true;
    if (leader_id == node->options.node_id) {
        judge(node, note);
    } else if (tell && leader_id != 0) {
        hash.index = index;
        hash.hash = note->own;
        message.body_case = KV__PEER_MESSAGE__BODY_STATE_HASH;
        message.state_hash = &hash;
        (void)!kv_replica_send(node->replica, leader_id, KV_NET_URGENT, &message, NULL, 0);
    }
}

void kv_node_receive_hash(struct kv_node *node, uint64_t from_id, const Kv__StateHash *hash)
{
    struct kv_hash_note *note = note_of(node, hash->index);

    if (!note || hash->index == 0) {
        return;
    }
    for (size_t i = 0; i < note->n_peers; i++) {
        if (note->peers[i].id == from_id) {
            return;
        }
    }
    if (note->n_peers < KV_MEMBERS_MAX) {
        note->peers[note->n_peers++] = (struct kv_peer_hash){from_id, hash->hash};
        judge(node, note);
    }
}

void kv_node_receive_verdict(struct kv_node *node, const Kv__StateVerdict *verdict)
{
    const struct kv_hash_note *note = note_of(node, verdict->index);

    if (note && note->has_own && note->own != verdict->hash) {
        kv_node_become_unfit(node, verdict->index, verdict->hash);
    }
}
