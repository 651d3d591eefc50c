/* Memory of what travels between the threads and the core, used again without malloc. */
#include "server/net/net_internal.h"

#include "common/assert.h"

#include <stdlib.h>

enum { SPARE_BATCHES_MAX = 16 };

struct kv_net_batch *kv_net_batch_make(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = calloc(1, sizeof *batch);

    if (batch) {
        kv_arena_init(&batch->arena, KV_NET_ARENA_BYTES);
        batch->thread = thread;
        atomic_init(&batch->references, 1);
    }
    return batch;
}

struct kv_net_batch *kv_net_batch_make_small(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = kv_net_batch_make(thread);

    if (batch) {
        kv_arena_init_small(&batch->arena, KV_NET_ARENA_BYTES, sizeof(struct kv_net_subscription));
        batch->is_small = true;
    }
    return batch;
}

struct kv_net_batch *kv_net_batch_new(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = thread->spare_batches;

    if (!batch) {
        return kv_net_batch_make(thread);
    }
    thread->spare_batches = batch->next;
    thread->n_spare_batches--;
    batch->next = NULL;
    atomic_init(&batch->references, 1);
    return batch;
}

static bool drop(struct kv_net_batch *batch)
{
    return atomic_fetch_sub_explicit(&batch->references, 1, memory_order_acq_rel) == 1;
}

static void free_batch(struct kv_net_batch *batch)
{
    kv_arena_deinit(&batch->arena);
    free(batch);
}

void kv_net_batch_release(struct kv_net_batch *batch)
{
    if (drop(batch)) {
        free_batch(batch);
    }
}

void kv_net_batch_recycle(struct kv_net_batch *batch)
{
    struct kv_net_thread *thread = batch->thread;

    if (!drop(batch)) {
        return;
    }
    if (batch->is_small || thread->n_spare_batches >= SPARE_BATCHES_MAX ||
        batch->arena.used_bytes > KV_NET_SPARE_BYTES) {
        free_batch(batch);
        return;
    }
    kv_arena_reset(&batch->arena);
    batch->first = batch->last = NULL;
    batch->next = thread->spare_batches;
    thread->spare_batches = batch;
    thread->n_spare_batches++;
}

void kv_net_batch_free_spare(struct kv_net_thread *thread)
{
    while (thread->spare_batches) {
        struct kv_net_batch *batch = thread->spare_batches;

        thread->spare_batches = batch->next;
        free_batch(batch);
    }
}

struct kv_net_answers *kv_net_answers_get(struct kv_net_thread *thread)
{
    struct kv_net_answers *answers = kv_ring_take(&thread->spare);

    if (answers) {
        return answers;
    }
    answers = calloc(1, sizeof *answers);
    KV_ASSERT(answers);
    kv_buf_init(&answers->bytes, SIZE_MAX / 2);
    return answers;
}

void kv_net_answers_free(struct kv_net_answers *answers)
{
    kv_buf_deinit(&answers->bytes);
    free(answers->answers);
    free(answers);
}

void kv_net_answers_recycle(struct kv_net_thread *thread, struct kv_net_answers *answers)
{
    bool is_small = answers->bytes.capacity <= KV_NET_SPARE_BYTES &&
                    answers->capacity * sizeof *answers->answers <= KV_NET_SPARE_BYTES;

    kv_buf_clear(&answers->bytes);
    answers->n_answers = 0;
    if (!is_small || !kv_ring_put(&thread->spare, answers)) {
        kv_net_answers_free(answers);
    }
}
