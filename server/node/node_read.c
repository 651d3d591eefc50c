/* Reads: all of a turn share one request for a read index and are answered when it is applied.
 * Streams give their pieces within their credit, a bounded amount in each turn. */
#include "common/assert.h"
#include "server/node/node_internal.h"

#include <stdlib.h>

/* What one stream may give in one turn before the others have theirs. */
enum { STREAM_PIECES_PER_TURN = 4 };

/* Between two requests for an index when nobody could tell it. */
enum { READ_RETRY_MS = 20 };

static void on_read_reply(void *arg, Kv__Reply *reply)
{
    struct kv_op *op = ((void **)arg)[1];

    if (reply->result_case == KV__REPLY__RESULT_TOPIC_LIST) {
        kv_topic_fill_list(((void **)arg)[0], reply->topic_list);
    }
    kv_node_finish(((void **)arg)[0], op, reply);
}

void kv_node_serve_read(struct kv_node *node, struct kv_op *op)
{
    void *target[2] = {node, op};

    if (op->cls == KV_COMMAND_SUBSCRIBE) {
        kv_subscription_begin(node, op);
        return;
    }
    node->reads_served++;
    if (op->cls == KV_COMMAND_STREAM) {
        op->stream = calloc(1, sizeof *op->stream);
        if (!op->stream || node->lists[KV_OP_STREAM].count >= KV_NODE_STREAMS_MAX) {
            kv_node_fail(node, op, KV_BUSY, "too many streams (limit %u)", KV_NODE_STREAMS_MAX);
            return;
        }
        op->credit += op->request->range->credit;
        if (op->credit > KV_STREAM_CREDIT_MAX) {
            op->credit = KV_STREAM_CREDIT_MAX;
        }
        kv_node_move(node, op, KV_OP_STREAM);
        return;
    }
    kv_machine_read(node->machine, op->request, on_read_reply, target);
}

/* The index is known, or nobody could tell it: then the reads ask again, until their deadlines. */
static void on_index(struct kv_read *read, int status)
{
    struct kv_read_batch *batch = read->arg;
    struct kv_node *node = batch->node;
    struct kv_op *op = node->lists[KV_OP_ASKED].first;

    /* op->index holds the batch's number until the index is known. */
    while (op) {
        struct kv_op *next = op->next;

        if (op->index == batch->number) {
            op->index = read->index;
            kv_node_move(node, op, status == 0 ? KV_OP_INDEXED : KV_OP_READ);
        }
        op = next;
    }
    node->n_read_batches--;
    node->again = node->again || status == 0;
    if (status != 0) {
        node->read_retry_ms = kv_node_now_ns(node) / 1000000 + READ_RETRY_MS;
    }
    free(batch);
}

void kv_node_start_reads(struct kv_node *node)
{
    struct kv_read_batch *batch;

    if (!node->lists[KV_OP_READ].first || node->replica_status.leader_id == 0 ||
        kv_node_now_ns(node) / 1000000 < node->read_retry_ms) {
        return;
    }
    batch = calloc(1, sizeof *batch);
    if (!batch) {
        return;
    }
    batch->node = node;
    batch->number = ++node->read_batch_number;
    batch->read.done = on_index;
    batch->read.arg = batch;
    if (kv_replica_read(node->replica, &batch->read) != 0) {
        free(batch);
        return;
    }
    node->n_read_batches++;
    while (node->lists[KV_OP_READ].first) {
        struct kv_op *op = node->lists[KV_OP_READ].first;

        op->index = batch->number;
        kv_node_move(node, op, KV_OP_ASKED);
    }
}

void kv_node_serve_reads(struct kv_node *node)
{
    struct kv_replica_status status;
    struct kv_op *op = node->lists[KV_OP_INDEXED].first;

    if (!op) {
        return;
    }
    kv_replica_status(node->replica, &status);
    while (op) {
        struct kv_op *next = op->next;

        if (op->index <= status.applied_index) {
            kv_node_serve_read(node, op);
        }
        op = next;
    }
}

struct piece_target {
    struct kv_node *node;
    struct kv_op *op;
    size_t taken;
    bool end;
};

static void on_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct piece_target *target = arg;
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    struct kv_node *node = target->node;

    item.id = target->op->request->id;
    item.item_case = KV__STREAM_ITEM__ITEM_RANGE;
    item.range = result;
    item.revision = revision;
    /* Whether it is the last is known only afterwards: the end is an item of its own. */
    target->taken = node->options.ops->stream_item(node->options.arg, target->op, &item);
}

static void end_stream(struct kv_node *node, struct kv_op *op)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    item.id = op->request->id;
    item.end = true;
    item.revision = op->stream->revision;
    kv_node_release(node, op);
    node->options.ops->stream_item(node->options.arg, op, &item);
}

/* True when there is more to give at once. */
static bool serve_stream(struct kv_node *node, struct kv_op *op)
{
    for (int i = 0; i < STREAM_PIECES_PER_TURN; i++) {
        struct piece_target target = {node, op, 0, false};
        size_t bytes = op->credit < KV_STREAM_PIECE_BYTES ? op->credit : KV_STREAM_PIECE_BYTES;
        struct kv_error error;
        int status;

        if (op->credit == 0) {
            return false;
        }
        status = kv_machine_range_piece(
            node->machine, op->request->range, op->stream, bytes, on_piece, &target, &error);
        op->credit -= target.taken < op->credit ? target.taken : op->credit;
        if (status < 0) {
            kv_node_fail(node, op, status, "%s", error.message);
            return false;
        }
        if (status == 0) {
            end_stream(node, op);
            return false;
        }
    }
    return op->credit > 0;
}

void kv_node_serve_streams(struct kv_node *node)
{
    struct kv_op *op = node->lists[KV_OP_STREAM].first;

    while (op) {
        struct kv_op *next = op->next;

        if (serve_stream(node, op)) {
            node->again = true;
        }
        op = next;
    }
}

void kv_node_credit(struct kv_node *node, struct kv_op *op, uint64_t bytes)
{
    op->credit =
        bytes < KV_STREAM_CREDIT_MAX - op->credit ? op->credit + bytes : KV_STREAM_CREDIT_MAX;
    if (op->subscription) {
        kv_subscription_credit(node, op);
    }
}
