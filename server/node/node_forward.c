/* Writes that arrive on a follower go to the leader, all of a turn in one message; its replies come
 * back the same way. A command is forwarded once and never from node to node: a leader that is none
 * any more says NOT_LEADER. */
#include "common/assert.h"
#include "common/reached.h"
#include "proto/frame.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    FORWARD_COMMANDS_MAX = 1024,
    FORWARD_BYTES_MAX = 4 * 1024 * 1024,
    REPLIES_BYTES_FLUSH = 1024 * 1024
};

/* ---------------------------------------------------------------- on the follower */

/* On to a free place of the table: a pop that waits may have one for minutes. */
static void skip_taken(struct kv_node *node)
{
    for (unsigned i = 0; i < KV_FORWARD_MAX; i++) {
        if (!node->forwards[node->forward_next % KV_FORWARD_MAX]) {
            return;
        }
        node->forward_next++;
    }
}

/* How many queued writes go into the next message. */
static uint32_t choose_forwards(struct kv_node *node)
{
    uint32_t n = 0;
    size_t bytes = 0;

    if (node->lists[KV_OP_QUEUED].first) {
        skip_taken(node);
    }
    for (struct kv_op *op = node->lists[KV_OP_QUEUED].first; op && n < FORWARD_COMMANDS_MAX;
         op = op->next) {
        if (node->forwards[(node->forward_next + n) % KV_FORWARD_MAX] ||
            (n > 0 && bytes + op->bytes.size > FORWARD_BYTES_MAX)) {
            break;
        }
        bytes += op->bytes.size;
        n++;
    }
    return n;
}

static uint32_t left_ms(uint64_t deadline_ns, uint64_t now_ns)
{
    return deadline_ns > now_ns ? (uint32_t)((deadline_ns - now_ns) / 1000000) + 1 : 1;
}

/* False: the network took nothing; they stay queued. */
static bool forward_batch(struct kv_node *node, uint64_t leader_id, uint32_t n)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__Forward forward = KV__FORWARD__INIT;
    uint32_t sizes[FORWARD_COMMANDS_MAX];
    uint32_t deadlines_ms[FORWARD_COMMANDS_MAX];
    struct kv_slice bulk[FORWARD_COMMANDS_MAX];
    struct kv_op *op = node->lists[KV_OP_QUEUED].first;
    uint64_t now_ns = kv_node_now_ns(node);

    for (uint32_t i = 0; i < n; i++, op = op->next) {
        sizes[i] = (uint32_t)op->bytes.size;
        deadlines_ms[i] = left_ms(op->deadline_ns, now_ns);
        bulk[i] = op->bytes;
    }
    forward.id = node->forward_next;
    forward.n_sizes = forward.n_deadlines_ms = n;
    forward.sizes = sizes;
    forward.deadlines_ms = deadlines_ms;
    message.body_case = KV__PEER_MESSAGE__BODY_FORWARD;
    message.forward = &forward;
    if (kv_replica_send(node->replica, leader_id, KV_NET_ORDERED, &message, bulk, n) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        op = node->lists[KV_OP_QUEUED].first;
        kv_node_move(node, op, KV_OP_FORWARDED);
        op->index = node->forward_next++;
        op->forwarded_to = leader_id;
        kv_node_extend_deadline(op);
        node->forwards[op->index % KV_FORWARD_MAX] = op;
    }
    node->forwarded += n;
    return true;
}

/* Those that came from another node while this one led, and were not proposed. */
static void fail_remote_ops(struct kv_node *node)
{
    struct kv_op *op = node->lists[KV_OP_QUEUED].first;

    while (op) {
        struct kv_op *next = op->next;

        if (op->remote) {
            kv_node_fail(node,
                         op,
                         KV_NOT_LEADER,
                         "node %" PRIu64 " leads no longer; nothing was done",
                         node->options.node_id);
        }
        op = next;
    }
}

void kv_node_forward(struct kv_node *node)
{
    uint64_t leader_id = node->replica_status.leader_id;
    uint32_t n;

    fail_remote_ops(node);
    if (leader_id == 0 || leader_id == node->options.node_id ||
        !kv_replica_is_connected(node->replica, leader_id)) {
        return;
    }
    while ((n = choose_forwards(node)) > 0 && forward_batch(node, leader_id, n)) {
    }
}

void kv_node_forward_lost(struct kv_node *node, uint64_t peer_id)
{
    struct kv_op *op = node->lists[KV_OP_FORWARDED].first;

    while (op) {
        struct kv_op *next = op->next;

        if (op->forwarded_to == peer_id) {
            KV_REACHED("forward-lost");
            kv_node_fail(node,
                         op,
                         KV_OUTCOME_UNKNOWN,
                         "the connection to the leader (node %" PRIu64
                         ") was lost after the write was sent to it: it may or may "
                         "not have been done",
                         peer_id);
        }
        op = next;
    }
}

static void
receive_replies(struct kv_node *node, const Kv__ForwardReply *replies, struct kv_slice bulk)
{
    size_t n = replies->n_ids < replies->n_sizes ? replies->n_ids : replies->n_sizes;

    for (size_t i = 0; i < n && replies->sizes[i] <= bulk.size; i++) {
        struct kv_op *op = node->forwards[replies->ids[i] % KV_FORWARD_MAX];

        /* It may have been given up meanwhile. */
        if (op && op->index == replies->ids[i]) {
            kv_node_finish_packed(node, op, kv_slice_of(bulk.data, replies->sizes[i]));
        }
        bulk.data += replies->sizes[i];
        bulk.size -= replies->sizes[i];
    }
}

/* ---------------------------------------------------------------- on the leader */

/* The commands of one message; lives until the last of them has its reply. */
struct remote_batch {
    struct kv_arena arena;
    uint64_t from_id;
    size_t n_left;
};

struct remote_op {
    struct kv_op op;
    struct remote_batch *batch;
    uint64_t forward_id;
};

static void flush_peer(struct kv_node *node, struct kv_node_peer *peer)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ForwardReply replies = KV__FORWARD_REPLY__INIT;
    const struct kv_slice bulk = {peer->replies.data, peer->replies.size};

    if (peer->n_replies == 0) {
        return;
    }
    replies.n_ids = replies.n_sizes = peer->n_replies;
    replies.ids = peer->reply_ids;
    replies.sizes = peer->reply_sizes;
    message.body_case = KV__PEER_MESSAGE__BODY_FORWARD_REPLY;
    message.forward_reply = &replies;
    /* When the connection is gone, the follower has told its clients so by itself. */
    (void)!kv_replica_send(node->replica, peer->id, KV_NET_ORDERED, &message, &bulk, 1);
    peer->n_replies = 0;
    kv_buf_clear(&peer->replies);
}

void kv_node_flush_replies(struct kv_node *node)
{
    for (size_t i = 0; i < node->n_peers; i++) {
        flush_peer(node, &node->peers[i]);
    }
}

static struct remote_batch *new_remote_batch(uint64_t from_id)
{
    struct remote_batch *batch = calloc(1, sizeof *batch);

    if (batch) {
        kv_arena_init(&batch->arena, 4 * KV_DECODED_BYTES_MAX);
        batch->from_id = from_id;
        batch->n_left = 1; /* ours, until all are submitted */
    }
    return batch;
}

static void release_remote_batch(struct remote_batch *batch)
{
    if (--batch->n_left == 0) {
        kv_arena_deinit(&batch->arena);
        free(batch);
    }
}

void kv_node_remote_end(struct kv_node *node, struct kv_op *op)
{
    struct remote_op *remote = op->remote;

    (void)node;
    release_remote_batch(remote->batch);
}

static void
add_reply(struct kv_node *node, uint64_t to_id, uint64_t forward_id, struct kv_slice reply)
{
    struct kv_node_peer *peer = kv_node_peer(node, to_id);

    if (peer->n_replies == FORWARD_COMMANDS_MAX || peer->replies.size > REPLIES_BYTES_FLUSH) {
        flush_peer(node, peer);
    }
    if (kv_buf_append(&peer->replies, reply.data, reply.size) == 0) {
        peer->reply_ids[peer->n_replies] = forward_id;
        peer->reply_sizes[peer->n_replies++] = (uint32_t)reply.size;
    }
}

void kv_node_remote_reply(struct kv_node *node, struct kv_op *op, struct kv_slice reply)
{
    struct remote_op *remote = op->remote;

    add_reply(node, remote->batch->from_id, remote->forward_id, reply);
    kv_node_remote_end(node, op);
}

/* A command that cannot even be read: the others of its message go on. */
static void refuse_remote(struct kv_node *node, uint64_t from_id, uint64_t forward_id)
{
    Kv__Reply reply = KV__REPLY__INIT;
    uint8_t packed[256];
    size_t size;

    reply.code = KV__CODE__BUSY;
    reply.message =
        (char *)(uintptr_t) "the leader could not read the command, or has no memory for it";
    size = kv__reply__get_packed_size(&reply);
    KV_ASSERT(size <= sizeof packed);
    kv__reply__pack(&reply, packed);
    add_reply(node, from_id, forward_id, kv_slice_of(packed, size));
}

/* Decodes a command into the batch's arena; NULL: it is not even a request. */
static struct remote_op *decode_remote(struct remote_batch *batch, struct kv_slice bytes)
{
    ProtobufCAllocator allocator;
    struct remote_op *remote;
    struct kv_error error;
    bool unknown;

    if (kv_proto_scan(&kv__request__descriptor, bytes, KV_DECODED_BYTES_MAX, &unknown, &error) !=
        0) {
        return NULL;
    }
    remote = kv_arena_alloc(&batch->arena, sizeof *remote);
    bytes.data = kv_arena_copy(&batch->arena, bytes.data, bytes.size);
    kv_arena_protobuf_allocator(&batch->arena, &allocator);
    if (!remote || !bytes.data) {
        return NULL;
    }
    memset(remote, 0, sizeof *remote);
    remote->batch = batch;
    remote->op.remote = remote;
    remote->op.bytes = bytes;
    remote->op.request = kv__request__unpack(&allocator, bytes.size, bytes.data);
    return remote->op.request ? remote : NULL;
}

static bool submit_remote(struct kv_node *node,
                          struct remote_batch *batch,
                          uint64_t forward_id,
                          struct kv_slice bytes,
                          uint32_t deadline_ms)
{
    struct remote_op *remote = decode_remote(batch, bytes);
    const Kv__Request *request = remote ? remote->op.request : NULL;
    struct remote_batch *own = NULL;

    /* A pop that waits for minutes must not hold the others' memory. */
    if (request && request->command_case == KV__REQUEST__COMMAND_LIST_POP &&
        request->list_pop->block_ms > 0) {
        own = new_remote_batch(batch->from_id);
        batch = own;
        remote = own ? decode_remote(own, bytes) : NULL;
    }
    if (!remote) {
        if (own) {
            release_remote_batch(own);
        }
        return false;
    }
    remote->forward_id = forward_id;
    remote->op.cls = kv_command_classify(remote->op.request);
    remote->op.deadline_ns = kv_node_now_ns(node) + (uint64_t)deadline_ms * 1000000;
    batch->n_left++;
    kv_node_submit(node, &remote->op);
    if (own) {
        release_remote_batch(own);
    }
    return true;
}

static void receive_commands(struct kv_node *node,
                             uint64_t from_id,
                             const Kv__Forward *forward,
                             struct kv_slice bulk)
{
    struct remote_batch *batch = new_remote_batch(from_id);
    size_t n =
        forward->n_sizes < forward->n_deadlines_ms ? forward->n_sizes : forward->n_deadlines_ms;

    if (!batch) {
        return;
    }
    for (size_t i = 0; i < n && forward->sizes[i] <= bulk.size; i++) {
        if (!submit_remote(node,
                           batch,
                           forward->id + i,
                           kv_slice_of(bulk.data, forward->sizes[i]),
                           forward->deadlines_ms[i])) {
            refuse_remote(node, from_id, forward->id + i);
        }
        bulk.data += forward->sizes[i];
        bulk.size -= forward->sizes[i];
    }
    release_remote_batch(batch);
}

void kv_node_receive(void *arg,
                     uint64_t from_id,
                     const Kv__PeerMessage *message,
                     struct kv_slice bulk)
{
    struct kv_node *node = arg;

    if (message->body_case == KV__PEER_MESSAGE__BODY_FORWARD) {
        receive_commands(node, from_id, message->forward, bulk);
    } else if (message->body_case == KV__PEER_MESSAGE__BODY_FORWARD_REPLY) {
        receive_replies(node, message->forward_reply, bulk);
    } else if (message->body_case == KV__PEER_MESSAGE__BODY_STATE_HASH) {
        kv_node_receive_hash(node, from_id, message->state_hash);
    } else if (message->body_case == KV__PEER_MESSAGE__BODY_STATE_VERDICT) {
        kv_node_receive_verdict(node, message->state_verdict);
    }
}
