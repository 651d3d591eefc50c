#include "raft/confirm.h"

#include "common/assert.h"

void kv_read_queue_push(struct kv_read_queue *queue, struct kv_read *read)
{
    read->next = NULL;
    if (queue->last) {
        queue->last->next = read;
    } else {
        queue->first = read;
    }
    queue->last = read;
    queue->count++;
}

void kv_read_queue_finish(struct kv_read_queue *queue, int status, uint64_t index)
{
    struct kv_read *read = queue->first;

    /* done() may queue new reads. */
    *queue = (struct kv_read_queue){0};
    while (read) {
        struct kv_read *next = read->next;

        read->next = NULL;
        read->index = index;
        read->done(read, status);
        read = next;
    }
}

void kv_confirm_start(struct kv_confirm *confirm,
                      uint64_t term,
                      uint64_t commit_index,
                      uint64_t now_ms)
{
    KV_ASSERT(!confirm->under_way);
    KV_ASSERT(confirm->asking.first == NULL);
    confirm->asking = confirm->waiting;
    confirm->waiting = (struct kv_read_queue){0};
    confirm->term = term;
    confirm->round++;
    confirm->index = commit_index;
    confirm->started_ms = now_ms;
    confirm->acks = 0;
    confirm->under_way = true;
}

bool kv_confirm_ack(struct kv_confirm *confirm, uint64_t term, uint64_t round, unsigned position)
{
    if (!confirm->under_way || term != confirm->term || round != confirm->round) {
        return false;
    }
    KV_ASSERT(position < 64);
    confirm->acks |= UINT64_C(1) << position;
    return true;
}

bool kv_confirm_has_majority(const struct kv_confirm *confirm, unsigned n_voters)
{
    return confirm->under_way && (unsigned)__builtin_popcountll(confirm->acks) > n_voters / 2;
}

void kv_confirm_finish(struct kv_confirm *confirm)
{
    KV_ASSERT(confirm->under_way);
    confirm->under_way = false;
    kv_read_queue_finish(&confirm->asking, 0, confirm->index);
}

void kv_confirm_fail(struct kv_confirm *confirm)
{
    struct kv_read_queue waiting = confirm->waiting;

    confirm->under_way = false;
    confirm->waiting = (struct kv_read_queue){0};
    kv_read_queue_finish(&confirm->asking, KV_NO_LEADER, 0);
    kv_read_queue_finish(&waiting, KV_NO_LEADER, 0);
}
