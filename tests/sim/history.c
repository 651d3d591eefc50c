#include "tests/sim/history.h"

#include "common/assert.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>

int kv_history_open(size_t max_ops, size_t max_bytes, struct kv_history **ret_history)
{
    struct kv_history *history = calloc(1, sizeof *history);

    if (!history) {
        return KV_NO_MEMORY;
    }
    history->ops = calloc(max_ops, sizeof *history->ops);
    if (!history->ops) {
        free(history);
        return KV_NO_MEMORY;
    }
    history->max_ops = max_ops;
    kv_arena_init(&history->arena, max_bytes);
    *ret_history = history;
    return 0;
}

void kv_history_close(struct kv_history *history)
{
    if (!history) {
        return;
    }
    kv_arena_deinit(&history->arena);
    free(history->ops);
    free(history);
}

/* A copy in the arena, or NULL when there is no room: packed, and unpacked again. */
static void *copy_message(struct kv_history *history, const ProtobufCMessage *message)
{
    ProtobufCAllocator allocator;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size ? size : 1);
    void *copy;

    if (!packed) {
        return NULL;
    }
    protobuf_c_message_pack(message, packed);
    kv_arena_protobuf_allocator(&history->arena, &allocator);
    copy = protobuf_c_message_unpack(message->descriptor, &allocator, size, packed);
    free(packed);
    return copy;
}

int kv_history_begin(struct kv_history *history,
                     uint64_t client,
                     int64_t now_ns,
                     const Kv__Request *request,
                     size_t *ret_op)
{
    struct kv_history_op *op = &history->ops[history->n_ops];
    Kv__Request *copy;

    if (history->n_ops == history->max_ops) {
        return KV_TOO_LARGE;
    }
    copy = copy_message(history, &request->base);
    if (!copy) {
        return KV_TOO_LARGE;
    }
    *op = (struct kv_history_op){.client = client,
                                 .begin = ++history->n_events,
                                 .end = KV_HISTORY_NEVER,
                                 .begin_ns = now_ns,
                                 .request = copy};
    *ret_op = history->n_ops++;
    return 0;
}

int kv_history_item(struct kv_history *history, size_t op_number, const Kv__StreamItem *item)
{
    struct kv_history_op *op = &history->ops[op_number];
    struct kv_history_piece *piece;

    KV_ASSERT(op_number < history->n_ops && op->end == KV_HISTORY_NEVER);
    if (!item->range) {
        return 0;
    }
    piece = kv_arena_alloc(&history->arena, sizeof *piece);
    if (!piece) {
        return KV_TOO_LARGE;
    }
    piece->result = copy_message(history, &item->range->base);
    if (!piece->result) {
        return KV_TOO_LARGE;
    }
    piece->revision = item->revision;
    piece->next = NULL;
    if (op->last_piece) {
        op->last_piece->next = piece;
    } else {
        op->pieces = piece;
    }
    op->last_piece = piece;
    return 0;
}

int kv_history_end(struct kv_history *history,
                   size_t op_number,
                   int64_t now_ns,
                   uint64_t node,
                   int status,
                   const Kv__Reply *reply)
{
    struct kv_history_op *op = &history->ops[op_number];
    Kv__Reply *copy = NULL;

    KV_ASSERT(op_number < history->n_ops && op->end == KV_HISTORY_NEVER && status <= 0);
    if (reply) {
        copy = copy_message(history, &reply->base);
        if (!copy) {
            return KV_TOO_LARGE;
        }
    }
    op->reply = copy;
    op->node = node;
    op->status = status;
    op->end_ns = now_ns;
    op->end = ++history->n_events;
    return 0;
}

void kv_history_timely(struct kv_history *history, const int64_t *revisions, size_t n)
{
    history->timely = revisions;
    history->n_timely = n;
}

enum kv_outcome kv_history_outcome(const struct kv_history_op *op)
{
    if (op->end == KV_HISTORY_NEVER) {
        return KV_OUTCOME_OPEN;
    }
    if (op->request->command_case == KV__REQUEST__COMMAND_COUNTER_ADD &&
        (op->status == KV_OVERFLOW || op->status == KV_OUT_OF_BOUNDS)) {
        return KV_OUTCOME_ANSWERED;
    }
    switch (op->status) {
    case 0:
    case KV_NOT_FOUND:
    case KV_EXISTS:
    case KV_CONDITION_FAILED:
    case KV_FUTURE_REVISION:
        return KV_OUTCOME_ANSWERED;
    case KV_CLOSED: /* a client that is closed says so of what is under way, too */
        return KV_OUTCOME_OPEN;
    default:
        break;
    }
    switch (kv_status_retry(op->status)) {
    case KV_RETRY_NEVER:
    case KV_RETRY_LATER:
    case KV_RETRY_ELSEWHERE:
        return KV_OUTCOME_NOTHING;
    default:
        return KV_OUTCOME_OPEN;
    }
}

bool kv_history_is_write(const struct kv_history_op *op)
{
    switch (op->request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
    case KV__REQUEST__COMMAND_APPEND:
    case KV__REQUEST__COMMAND_GETSET:
    case KV__REQUEST__COMMAND_GETDEL:
    case KV__REQUEST__COMMAND_SET_RANGE:
    case KV__REQUEST__COMMAND_DELETE:
    case KV__REQUEST__COMMAND_COUNTER_ADD:
    case KV__REQUEST__COMMAND_COUNTER_SET:
    case KV__REQUEST__COMMAND_TXN:
        return true;
    default:
        return false;
    }
}

bool kv_history_is_foreign(const struct kv_history_op *op)
{
    return op->request->command_case == KV__REQUEST__COMMAND_TXN;
}
