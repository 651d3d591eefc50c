/* The table of waiters: by session, by key, and by deadline. */
#include "server/machine/waiters.h"

#include "common/assert.h"
#include "server/machine/machine.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Tables of this size from the first waiter on: 64 KiB. */
enum { SLOTS = 4096 };
/* What one counts besides its key. */
enum { WAITER_BYTES = 160 };

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "slots are found by a mask");

static void *alloc_zeroed(size_t n, size_t size)
{
    void *memory = kv_machine_alloc(n * size);

    memset(memory, 0, n * size);
    return memory;
}

_Static_assert(offsetof(struct kv_waiter, due) == 0, "an item of the heap is its waiter");
_Static_assert(offsetof(struct kv_waiters_queue, ready) == 0, "an item of the heap is its queue");

void kv_waiters_init(struct kv_waiters *waiters)
{
    *waiters = (struct kv_waiters){0};
}

void kv_waiters_deinit(struct kv_waiters *waiters)
{
    while (waiters->newest) {
        kv_waiters_remove(waiters, waiters->newest);
    }
    free(waiters->sessions);
    free(waiters->queues);
    kv_heap_deinit(&waiters->heap);
    kv_heap_deinit(&waiters->ready);
}

static uint64_t hash_of(const struct kv_waiter *waiter)
{
    const uint64_t content[] = {waiter->due.number,
                                waiter->session_id,
                                waiter->sequence,
                                waiter->command_hash,
                                (uint64_t)waiter->due.deadline_ms,
                                waiter->last_end};

    return XXH3_64bits_withSeed(
        waiter->queue->key, waiter->queue->key_size, XXH3_64bits(content, sizeof content));
}

uint64_t kv_waiters_hash(const struct kv_waiters *waiters)
{
    return waiters->last_number == 0
               ? 0
               : waiters->hash +
                     XXH3_64bits_withSeed(&waiters->last_number, sizeof waiters->last_number, 1);
}

/* ---------------------------------------------------------------- by session */

static struct kv_waiter **session_slot(const struct kv_waiters *waiters, uint64_t session_id)
{
    return &waiters->sessions[session_id & (SLOTS - 1)];
}

struct kv_waiter *
kv_waiters_find(const struct kv_waiters *waiters, uint64_t session_id, uint64_t sequence)
{
    struct kv_waiter *waiter = waiters->n > 0 ? *session_slot(waiters, session_id) : NULL;

    while (waiter && (waiter->session_id != session_id || waiter->sequence != sequence)) {
        waiter = waiter->same_slot;
    }
    return waiter;
}

struct kv_waiter *kv_waiters_of_session(const struct kv_waiters *waiters, uint64_t session_id)
{
    struct kv_waiter *waiter = waiters->n > 0 ? *session_slot(waiters, session_id) : NULL;

    while (waiter && waiter->session_id != session_id) {
        waiter = waiter->same_slot;
    }
    return waiter;
}

/* ---------------------------------------------------------------- by key */

static struct kv_waiters_queue **key_slot(const struct kv_waiters *waiters, struct kv_slice key)
{
    return &waiters->queues[XXH3_64bits(key.data, key.size) & (SLOTS - 1)];
}

static struct kv_waiters_queue *find_queue(const struct kv_waiters *waiters, struct kv_slice key)
{
    struct kv_waiters_queue *queue = *key_slot(waiters, key);

    while (queue && !kv_slice_equal(kv_slice_of(queue->key, queue->key_size), key)) {
        queue = queue->same_slot;
    }
    return queue;
}

static struct kv_waiters_queue *add_queue(struct kv_waiters *waiters, struct kv_slice key)
{
    struct kv_waiters_queue **slot = key_slot(waiters, key);
    struct kv_waiters_queue *queue = alloc_zeroed(1, sizeof *queue + key.size);

    queue->key_size = key.size;
    memcpy(queue->key, key.data, key.size);
    queue->same_slot = *slot;
    *slot = queue;
    return queue;
}

static void take_from_ready(struct kv_waiters *waiters, struct kv_waiters_queue *queue)
{
    if (queue->is_ready) {
        kv_heap_remove(&waiters->ready, &queue->ready);
        queue->is_ready = false;
    }
}

static void add_to_ready(struct kv_waiters *waiters, struct kv_waiters_queue *queue)
{
    queue->ready.number = queue->first->due.number;
    kv_heap_add(&waiters->ready, &queue->ready);
    queue->is_ready = true;
}

static void remove_queue(struct kv_waiters *waiters, struct kv_waiters_queue *queue)
{
    struct kv_waiters_queue **link = key_slot(waiters, kv_slice_of(queue->key, queue->key_size));

    take_from_ready(waiters, queue);
    while (*link != queue) {
        link = &(*link)->same_slot;
    }
    *link = queue->same_slot;
    free(queue);
}

void kv_waiters_note(struct kv_waiters *waiters, struct kv_slice key)
{
    struct kv_waiters_queue *queue = waiters->n > 0 ? find_queue(waiters, key) : NULL;

    if (queue && !queue->is_ready) {
        add_to_ready(waiters, queue);
    }
}

bool kv_waiters_is_noted(const struct kv_waiters *waiters, struct kv_slice key)
{
    const struct kv_waiters_queue *queue = waiters->n > 0 ? find_queue(waiters, key) : NULL;

    return queue && queue->is_ready;
}

static struct kv_waiters_queue *first_ready(const struct kv_waiters *waiters)
{
    return (struct kv_waiters_queue *)(void *)kv_heap_first(&waiters->ready);
}

struct kv_waiter *kv_waiters_ready(const struct kv_waiters *waiters)
{
    const struct kv_waiters_queue *queue = first_ready(waiters);

    return queue ? queue->first : NULL;
}

void kv_waiters_unready(struct kv_waiters *waiters, struct kv_waiter *waiter)
{
    take_from_ready(waiters, waiter->queue);
}

void kv_waiters_forget_ready(struct kv_waiters *waiters)
{
    struct kv_waiters_queue *queue;

    while ((queue = first_ready(waiters))) {
        take_from_ready(waiters, queue);
    }
}

/* ---------------------------------------------------------------- by deadline */

struct kv_waiter *kv_waiters_next_due(const struct kv_waiters *waiters)
{
    return (struct kv_waiter *)(void *)kv_heap_first(&waiters->heap);
}

/* ---------------------------------------------------------------- adding and removing */

static void alloc_tables(struct kv_waiters *waiters)
{
    if (!waiters->queues) {
        waiters->sessions = alloc_zeroed(SLOTS, sizeof(struct kv_waiter *));
        waiters->queues = alloc_zeroed(SLOTS, sizeof(struct kv_waiters_queue *));
    }
}

struct kv_waiter *kv_waiters_add(struct kv_waiters *waiters,
                                 const struct kv_waiter *like,
                                 uint64_t number,
                                 struct kv_slice key)
{
    struct kv_waiter *waiter = kv_machine_alloc(sizeof *waiter);
    struct kv_waiters_queue *queue;
    struct kv_waiter **slot;

    KV_ASSERT(!kv_waiters_is_full(waiters) && number > waiters->last_number);
    alloc_tables(waiters);
    *waiter = *like;
    queue = find_queue(waiters, key);
    queue = queue ? queue : add_queue(waiters, key);
    waiter->due.number = waiters->last_number = number;
    waiter->queue = queue;
    waiter->next = NULL;
    waiter->prev = queue->last;
    if (queue->last) {
        queue->last->next = waiter;
    } else {
        queue->first = waiter;
    }
    queue->last = waiter;
    waiter->newer = NULL;
    waiter->older = waiters->newest;
    if (waiters->newest) {
        waiters->newest->newer = waiter;
    } else {
        waiters->oldest = waiter;
    }
    waiters->newest = waiter;
    slot = session_slot(waiters, waiter->session_id);
    waiter->same_slot = *slot;
    *slot = waiter;
    kv_heap_add(&waiters->heap, &waiter->due);
    waiters->n++;
    waiter->hash = hash_of(waiter);
    waiters->hash += waiter->hash;
    waiters->bytes += WAITER_BYTES + key.size;
    return waiter;
}

static void take_from_all(struct kv_waiters *waiters, struct kv_waiter *waiter)
{
    if (waiter->older) {
        waiter->older->newer = waiter->newer;
    } else {
        waiters->oldest = waiter->newer;
    }
    if (waiter->newer) {
        waiter->newer->older = waiter->older;
    } else {
        waiters->newest = waiter->older;
    }
}

void kv_waiters_remove(struct kv_waiters *waiters, struct kv_waiter *waiter)
{
    struct kv_waiters_queue *queue = waiter->queue;
    const bool moves = queue->is_ready && queue->first == waiter;
    struct kv_waiter **link = session_slot(waiters, waiter->session_id);

    while (*link != waiter) {
        link = &(*link)->same_slot;
    }
    *link = waiter->same_slot;
    take_from_all(waiters, waiter);
    kv_heap_remove(&waiters->heap, &waiter->due);
    waiters->n--;
    waiters->hash -= waiter->hash;
    waiters->bytes -= WAITER_BYTES + queue->key_size;
    if (waiter->prev) {
        waiter->prev->next = waiter->next;
    } else {
        queue->first = waiter->next;
    }
    if (waiter->next) {
        waiter->next->prev = waiter->prev;
    } else {
        queue->last = waiter->prev;
    }
    if (moves) {
        take_from_ready(waiters, queue);
    }
    if (!queue->first) {
        remove_queue(waiters, queue);
    } else if (moves) {
        add_to_ready(waiters, queue);
    }
    free(waiter);
}

/* ---------------------------------------------------------------- invariants */

static size_t check_queue(const struct kv_waiters *waiters, const struct kv_waiters_queue *queue)
{
    uint64_t number = 0;
    size_t n = 0;

    KV_ASSERT(queue->first &&
              (!queue->is_ready || queue->ready.number == queue->first->due.number));
    for (const struct kv_waiter *waiter = queue->first; waiter; waiter = waiter->next) {
        KV_ASSERT(waiter->queue == queue && waiter->due.number > number);
        KV_ASSERT(waiter->next ? waiter->next->prev == waiter : queue->last == waiter);
        KV_ASSERT(kv_waiters_find(waiters, waiter->session_id, waiter->sequence) == waiter);
        number = waiter->due.number;
        n++;
    }
    return n;
}

void kv_waiters_check_invariants(const struct kv_waiters *waiters)
{
    uint64_t hash = 0, bytes = 0;
    size_t n = 0, n_ready = 0;

    KV_ASSERT(waiters->n <= KV_WAITERS_MAX);
    kv_heap_check_invariants(&waiters->heap);
    kv_heap_check_invariants(&waiters->ready);
    KV_ASSERT(waiters->heap.n == waiters->n);
    for (const struct kv_waiter *waiter = waiters->oldest; waiter; waiter = waiter->newer) {
        KV_ASSERT(waiter->due.number <= waiters->last_number);
        KV_ASSERT(waiter->hash == hash_of(waiter));
        hash += waiter->hash;
        bytes += WAITER_BYTES + waiter->queue->key_size;
    }
    for (size_t i = 0; waiters->queues && i < SLOTS; i++) {
        for (const struct kv_waiters_queue *queue = waiters->queues[i]; queue;
             queue = queue->same_slot) {
            n += check_queue(waiters, queue);
            n_ready += queue->is_ready;
        }
    }
    KV_ASSERT(n_ready == waiters->ready.n);
    KV_ASSERT(n == waiters->n && hash == waiters->hash && bytes == waiters->bytes);
}
