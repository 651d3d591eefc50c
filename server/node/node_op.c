/* Ops: lists by state, the ways to end, deadlines. */
#include "common/assert.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPIRE_INTERVAL_MS = 20 };

static void unlink_op(struct kv_node *node, struct kv_op *op)
{
    struct kv_op_list *list = &node->lists[op->state];

    if (op->state == KV_OP_NONE) {
        return;
    }
    if (op->prev) {
        op->prev->next = op->next;
    } else {
        list->first = op->next;
    }
    if (op->next) {
        op->next->prev = op->prev;
    } else {
        list->last = op->prev;
    }
    op->next = op->prev = NULL;
    list->count--;
}

void kv_node_move(struct kv_node *node, struct kv_op *op, enum kv_op_state state)
{
    struct kv_op_list *list = &node->lists[state];

    unlink_op(node, op);
    op->state = (uint8_t)state;
    if (state == KV_OP_NONE) {
        return;
    }
    op->prev = list->last;
    op->next = NULL;
    if (list->last) {
        list->last->next = op;
    } else {
        list->first = op;
    }
    list->last = op;
    list->count++;
}

/* Takes the op out of whatever else points at it. */
static void forget_places(struct kv_node *node, struct kv_op *op)
{
    if (op->state == KV_OP_FORWARDED) {
        node->forwards[op->index % KV_FORWARD_MAX] = NULL;
    }
    if (op->state == KV_OP_WAITING) {
        (void)kv_machine_tag_waiter(node->machine, op->request->session, NULL);
    }
    if (op->state == KV_OP_PROPOSED) {
        for (size_t i = 0; i < node->n_proposals; i++) {
            struct kv_proposal *proposal =
                &node->proposals[(node->proposals_first + i) % KV_PROPOSALS_MAX];

            if (proposal->index == op->index) {
                proposal->slots[op->slot] = NULL;
                return;
            }
        }
    }
}

void kv_node_release(struct kv_node *node, struct kv_op *op)
{
    forget_places(node, op);
    if (op->subscription) {
        kv_subscription_free(node, op);
    }
    kv_node_move(node, op, KV_OP_NONE);
    free(op->stream);
    op->stream = NULL;
    KV_ASSERT(node->n_ops > 0 && node->ops_bytes >= op->bytes.size);
    node->n_ops--;
    node->ops_bytes -= op->bytes.size;
}

void kv_node_finish_packed(struct kv_node *node, struct kv_op *op, struct kv_slice reply)
{
    kv_node_release(node, op);
    if (op->remote) {
        kv_node_remote_reply(node, op, reply);
    } else {
        node->options.ops->reply_packed(node->options.arg, op, reply);
    }
}

void kv_node_finish(struct kv_node *node, struct kv_op *op, Kv__Reply *reply)
{
    size_t size;
    uint8_t *p;

    reply->id = op->request->id;
    if (!op->remote) {
        kv_node_release(node, op);
        node->options.ops->reply(node->options.arg, op, reply);
        return;
    }
    size = kv__reply__get_packed_size(reply);
    kv_buf_clear(&node->reply_buf);
    p = kv_buf_reserve(&node->reply_buf, size);
    if (!p) {
        /* An empty reply would read as OK: the other node's client waits out its deadline. */
        kv_node_release(node, op);
        kv_node_remote_end(node, op);
        return;
    }
    kv__reply__pack(reply, p);
    node->reply_buf.size = size;
    kv_node_finish_packed(node, op, kv_slice_of(node->reply_buf.data, node->reply_buf.size));
}

static void fill_hint(struct kv_node *node, int status, Kv__Hint *hint)
{
    uint64_t leader = node->replica_status.leader_id;

    if (kv_status_retry(status) == KV_RETRY_ELSEWHERE ||
        kv_status_retry(status) == KV_RETRY_LATER) {
        hint->leader_id = leader;
        hint->leader_address = (char *)(uintptr_t)kv_node_client_address(node, leader);
    }
    if (status == KV_COMPACTED) {
        hint->oldest_revision = kv_machine_oldest_revision(node->machine);
    }
}

static void
fail_with(struct kv_node *node, struct kv_op *op, int status, Kv__Hint *hint, char *message)
{
    fill_hint(node, status, hint);
    if (kv_command_is_stream(op->cls)) {
        Kv__StreamItem item = KV__STREAM_ITEM__INIT;

        item.id = op->request->id;
        item.end = true;
        item.code = (Kv__Code)-status;
        item.message = message;
        item.hint = hint;
        item.revision = kv_machine_revision(node->machine);
        kv_node_release(node, op);
        node->options.ops->stream_item(node->options.arg, op, &item);
    } else {
        Kv__Reply reply = KV__REPLY__INIT;

        reply.code = (Kv__Code)-status;
        reply.message = message;
        reply.hint = hint;
        reply.revision = kv_machine_revision(node->machine);
        kv_node_finish(node, op, &reply);
    }
}

void kv_node_fail(struct kv_node *node, struct kv_op *op, int status, const char *format, ...)
{
    Kv__Hint hint = KV__HINT__INIT;
    char message[KV_ERROR_MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fail_with(node, op, status, &hint, message);
}

void kv_node_fail_limit(struct kv_node *node,
                        struct kv_op *op,
                        const struct kv_node_limit *limit,
                        const char *format,
                        ...)
{
    Kv__Hint hint = KV__HINT__INIT;
    char message[KV_ERROR_MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    hint.limit = (char *)(uintptr_t)limit->name;
    hint.limit_value = limit->value;
    fail_with(node, op, KV_BUSY, &hint, message);
}

/* Says what is known of an op whose time is over, or whose client has gone. */
static void give_up(struct kv_node *node, struct kv_op *op)
{
    switch ((enum kv_op_state)op->state) {
    case KV_OP_PROPOSED:
    case KV_OP_FORWARDED:
        kv_node_fail(node,
                     op,
                     KV_DEADLINE,
                     "no majority has confirmed the write in time; it may still be done");
        return;
    case KV_OP_WAITING:
        kv_node_fail(node, op, KV_DEADLINE, "the pop still waits; it may yet be done");
        return;
    case KV_OP_TRANSFER:
        kv_node_fail(node, op, KV_DEADLINE, "nobody has taken over leadership in time");
        return;
    case KV_OP_SNAPSHOT:
        kv_node_fail(
            node, op, KV_DEADLINE, "the snapshot is not written in time; it goes on being written");
        return;
    case KV_OP_STREAM:
        kv_node_fail(node, op, KV_DEADLINE, "the stream's deadline has passed before its end");
        return;
    case KV_OP_QUEUED:
    case KV_OP_RENEWAL:
    case KV_OP_READ:
    case KV_OP_ASKED:
    case KV_OP_INDEXED:
    case KV_OP_NONE:
    case KV_OP_BEHIND:
    case KV_OP_NO_CREDIT:
    case KV_OP_NO_ROOM:
    case KV_OP_FUTURE:
    case KV_OP_LIVE:
    case KV_OP_STATES:
        break;
    }
    if (node->replica_status.leader_id == 0) {
        kv_node_fail(node,
                     op,
                     KV_NO_LEADER,
                     "no leader within the deadline: a majority of the nodes must be up; nothing "
                     "was done");
    } else {
        kv_node_fail(node,
                     op,
                     op->state == KV_OP_QUEUED || op->state == KV_OP_RENEWAL ? KV_BUSY
                                                                             : KV_NO_LEADER,
                     "not served within the deadline; nothing was done");
    }
}

/* A cancelled op wants no more than its final answer. */
static void end_cancelled(struct kv_node *node, struct kv_op *op)
{
    if (op->state == KV_OP_PROPOSED || op->state == KV_OP_FORWARDED || op->state == KV_OP_WAITING) {
        kv_node_fail(node, op, KV_DEADLINE, "canceled while under way; it may still be done");
    } else if (kv_command_is_stream(op->cls)) {
        Kv__StreamItem item = KV__STREAM_ITEM__INIT;

        item.id = op->request->id;
        item.end = true;
        kv_node_release(node, op);
        node->options.ops->stream_item(node->options.arg, op, &item);
    } else {
        Kv__Reply reply = KV__REPLY__INIT;

        kv_node_finish(node, op, &reply);
    }
}

/* The last word of a client that leaves: it is carried out, though nobody waits for it. */
static bool is_farewell(const struct kv_op *op)
{
    return op->request->command_case == KV__REQUEST__COMMAND_SESSION_CLOSE;
}

void kv_node_cancel(struct kv_node *node, struct kv_op *op)
{
    if (op->state != KV_OP_NONE && !is_farewell(op)) {
        end_cancelled(node, op);
    }
}

void kv_node_fail_unfit(struct kv_node *node, struct kv_op *op)
{
    /* The node that it came from is none the worse: another leads soon. */
    if (op->remote) {
        kv_node_fail(node, op, KV_NO_LEADER, "the leader hands over; nothing was done");
        return;
    }
    kv_node_fail(node,
                 op,
                 KV_CORRUPT,
                 "the state of this node differs from the other nodes' at index %" PRIu64
                 ": it serves no longer; keep its files and replace it, use another node",
                 node->unfit_index);
}

void kv_node_fail_all_unfit(struct kv_node *node)
{
    for (int state = KV_OP_QUEUED; state < KV_OP_STATES; state++) {
        struct kv_op *op = node->lists[state].first;

        while (op) {
            struct kv_op *next = op->next;

            if (state == KV_OP_PROPOSED || state == KV_OP_WAITING) {
                kv_node_fail(
                    node,
                    op,
                    KV_OUTCOME_UNKNOWN,
                    "the state of this node differs from the other nodes': what it would "
                    "answer is not to be trusted; the write may or may not have been done");
            } else if (state != KV_OP_FORWARDED) {
                kv_node_fail_unfit(node, op);
            }
            op = next;
        }
    }
}

void kv_node_extend_deadline(struct kv_op *op)
{
    if (op->request->command_case == KV__REQUEST__COMMAND_LIST_POP) {
        op->deadline_ns += op->request->list_pop->block_ms * 1000000;
    }
}

void kv_node_expire(struct kv_node *node)
{
    uint64_t now_ns = kv_node_now_ns(node);

    if (now_ns / 1000000 < node->expire_ms) {
        return;
    }
    node->expire_ms = now_ns / 1000000 + EXPIRE_INTERVAL_MS;
    for (int state = KV_OP_QUEUED; state < KV_OP_BEGUN; state++) {
        struct kv_op *op = node->lists[state].first;

        while (op) {
            struct kv_op *next = op->next;

            if (now_ns >= op->deadline_ns) {
                give_up(node, op);
            }
            op = next;
        }
    }
}
