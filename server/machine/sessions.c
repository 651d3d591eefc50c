/* The table of sessions: by id, by age, and by deadline. */
#include "server/machine/sessions.h"

#include "common/assert.h"
#include "common/limits.h"
#include "server/machine/machine.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SLOTS_FIRST = 8, RING_FIRST = 8 };
/* What each counts besides the bytes of its answer. */
enum { SESSION_BYTES = 128, REPLY_BYTES = 48 };

_Static_assert((KV_SESSION_WINDOW & (KV_SESSION_WINDOW - 1)) == 0, "a ring's size is a power of 2");

static void *alloc_zeroed(size_t n, size_t size)
{
    void *memory = kv_machine_alloc(n * size);

    memset(memory, 0, n * size);
    return memory;
}

_Static_assert(offsetof(struct kv_sessions_one, due) == 0, "an item of the heap is its session");

void kv_sessions_init(struct kv_sessions *sessions)
{
    *sessions = (struct kv_sessions){0};
}

static void free_one(struct kv_sessions_one *one)
{
    for (size_t i = 0; i < one->ring_size; i++) {
        free(one->ring[i]);
    }
    free(one->ring);
    free(one);
}

void kv_sessions_deinit(struct kv_sessions *sessions)
{
    struct kv_sessions_one *next;

    for (struct kv_sessions_one *one = sessions->first; one; one = next) {
        next = one->next;
        free_one(one);
    }
    free(sessions->slots);
    kv_heap_deinit(&sessions->heap);
}

/* ---------------------------------------------------------------- hashes */

static uint64_t hash_of(const struct kv_sessions_one *one)
{
    const uint64_t content[] = {one->id,
                                one->ttl_ms,
                                (uint64_t)one->due.deadline_ms,
                                one->ordered,
                                one->acknowledged_through,
                                one->replies_hash};

    return XXH3_64bits(content, sizeof content);
}

static uint64_t hash_of_reply(uint64_t sequence, const struct kv_sessions_reply *reply)
{
    const uint64_t head[] = {
        sequence, reply->command_hash, (uint64_t)reply->revision, reply->code, reply->size};

    return XXH3_64bits_withSeed(reply->bytes, reply->size, XXH3_64bits(head, sizeof head));
}

/* After a change of its content. */
static void changed(struct kv_sessions *sessions, struct kv_sessions_one *one)
{
    uint64_t hash = hash_of(one);

    sessions->hash += hash - one->hash;
    one->hash = hash;
}

uint64_t kv_sessions_hash(const struct kv_sessions *sessions)
{
    return sessions->last_id == 0
               ? 0
               : sessions->hash + XXH3_64bits(&sessions->last_id, sizeof sessions->last_id);
}

/* ---------------------------------------------------------------- by id */

static size_t slot_of(const struct kv_sessions *sessions, uint64_t id)
{
    return (size_t)(id & (sessions->n_slots - 1));
}

struct kv_sessions_one *kv_sessions_find(const struct kv_sessions *sessions, uint64_t id)
{
    struct kv_sessions_one *one = NULL;

    if (sessions->n > 0) {
        one = sessions->slots[slot_of(sessions, id)];
    }
    while (one && one->id != id) {
        one = one->same_slot;
    }
    return one;
}

static void put_in_slot(struct kv_sessions *sessions, struct kv_sessions_one *one)
{
    struct kv_sessions_one **slot = &sessions->slots[slot_of(sessions, one->id)];

    one->same_slot = *slot;
    *slot = one;
}

static void take_from_slot(struct kv_sessions *sessions, const struct kv_sessions_one *one)
{
    struct kv_sessions_one **link = &sessions->slots[slot_of(sessions, one->id)];

    while (*link != one) {
        link = &(*link)->same_slot;
    }
    *link = one->same_slot;
}

static void grow_slots(struct kv_sessions *sessions)
{
    if (sessions->n < sessions->n_slots) {
        return;
    }
    free(sessions->slots);
    sessions->n_slots = sessions->n_slots ? 2 * sessions->n_slots : SLOTS_FIRST;
    sessions->slots = alloc_zeroed(sessions->n_slots, sizeof(struct kv_sessions_one *));
    for (struct kv_sessions_one *one = sessions->first; one; one = one->next) {
        put_in_slot(sessions, one);
    }
}

/* ---------------------------------------------------------------- by deadline */

int64_t kv_sessions_next_due_ms(const struct kv_sessions *sessions)
{
    const struct kv_heap_item *first = kv_heap_first(&sessions->heap);

    return first ? first->deadline_ms : INT64_MAX;
}

void kv_sessions_renew(struct kv_sessions *sessions, struct kv_sessions_one *one, int64_t now_ms)
{
    int64_t deadline_ms =
        now_ms < INT64_MAX - (int64_t)one->ttl_ms ? now_ms + (int64_t)one->ttl_ms : INT64_MAX - 1;

    /* Once an entry, however many writes of the session it holds. */
    if (deadline_ms != one->due.deadline_ms) {
        kv_heap_move(&sessions->heap, &one->due, deadline_ms);
        changed(sessions, one);
    }
}

void kv_sessions_expire(struct kv_sessions *sessions, int64_t now_ms)
{
    size_t pieces = 0;

    while (pieces < KV_SESSION_EXPIRE_PIECES && kv_sessions_next_due_ms(sessions) <= now_ms) {
        struct kv_sessions_one *one =
            (struct kv_sessions_one *)(void *)kv_heap_first(&sessions->heap);

        pieces += 1 + one->n_replies;
        kv_sessions_remove(sessions, one);
    }
}

/* ---------------------------------------------------------------- sessions */

struct kv_sessions_one *kv_sessions_add(
    struct kv_sessions *sessions, uint64_t id, uint64_t ttl_ms, int64_t deadline_ms, bool ordered)
{
    struct kv_sessions_one *one = alloc_zeroed(1, sizeof *one);

    KV_ASSERT(id > (sessions->last ? sessions->last->id : 0));
    one->id = id;
    one->ttl_ms = ttl_ms;
    one->due = (struct kv_heap_item){.deadline_ms = deadline_ms, .number = id};
    one->ordered = ordered;
    one->prev = sessions->last;
    grow_slots(sessions);
    put_in_slot(sessions, one);
    if (sessions->last) {
        sessions->last->next = one;
    } else {
        sessions->first = one;
    }
    sessions->last = one;
    kv_heap_add(&sessions->heap, &one->due);
    sessions->n++;
    sessions->bytes += SESSION_BYTES;
    changed(sessions, one);
    return one;
}

void kv_sessions_remove(struct kv_sessions *sessions, struct kv_sessions_one *one)
{
    if (sessions->ended) {
        sessions->ended(sessions->ended_arg, one->id);
    }
    take_from_slot(sessions, one);
    kv_heap_remove(&sessions->heap, &one->due);
    if (one->prev) {
        one->prev->next = one->next;
    } else {
        sessions->first = one->next;
    }
    if (one->next) {
        one->next->prev = one->prev;
    } else {
        sessions->last = one->prev;
    }
    sessions->n--;
    sessions->hash -= one->hash;
    sessions->reply_bytes -= one->reply_bytes;
    sessions->bytes -= SESSION_BYTES + one->n_replies * REPLY_BYTES + one->reply_bytes;
    free_one(one);
}

/* ---------------------------------------------------------------- answers */

static struct kv_sessions_reply **place_of(const struct kv_sessions_one *one, uint64_t sequence)
{
    return &one->ring[sequence & (one->ring_size - 1)];
}

const struct kv_sessions_reply *kv_sessions_reply_of(const struct kv_sessions_one *one,
                                                     uint64_t sequence)
{
    return sequence > one->acknowledged_through && sequence <= one->newest
               ? *place_of(one, sequence)
               : NULL;
}

static void forget(struct kv_sessions *sessions, struct kv_sessions_one *one, uint64_t sequence)
{
    struct kv_sessions_reply **place = place_of(one, sequence);

    if (*place) {
        one->n_replies--;
        one->reply_bytes -= (*place)->size;
        one->replies_hash -= (*place)->hash;
        sessions->reply_bytes -= (*place)->size;
        sessions->bytes -= REPLY_BYTES + (uint64_t)(*place)->size;
        free(*place);
        *place = NULL;
    }
}

void kv_sessions_acknowledge(struct kv_sessions *sessions,
                             struct kv_sessions_one *one,
                             uint64_t through)
{
    if (through <= one->acknowledged_through) {
        return;
    }
    for (uint64_t i = one->acknowledged_through + 1; i <= one->newest && i <= through; i++) {
        forget(sessions, one, i);
    }
    one->acknowledged_through = through;
    one->newest = one->newest > through ? one->newest : through;
    changed(sessions, one);
}

bool kv_sessions_has_room(const struct kv_sessions *sessions,
                          const struct kv_sessions_one *one,
                          size_t size)
{
    return size <= KV_SESSION_REPLY_BYTES_MAX - one->reply_bytes &&
           size <= KV_SESSIONS_REPLY_BYTES_MAX - sessions->reply_bytes;
}

struct kv_sessions_reply *kv_sessions_reply_new(size_t size)
{
    struct kv_sessions_reply *reply = kv_machine_alloc(sizeof *reply + size);

    reply->size = (uint32_t)size;
    return reply;
}

/* Room for sequences up to this one. */
static void grow_ring(struct kv_sessions_one *one, uint64_t sequence)
{
    uint64_t span = sequence - one->acknowledged_through;
    size_t size = one->ring_size ? one->ring_size : RING_FIRST;
    struct kv_sessions_one grown = *one;

    KV_ASSERT(span <= KV_SESSION_WINDOW);
    while (size < span) {
        size *= 2;
    }
    if (size == one->ring_size) {
        return;
    }
    grown.ring_size = size;
    grown.ring = alloc_zeroed(size, sizeof(struct kv_sessions_reply *));
    for (uint64_t i = one->acknowledged_through + 1; i <= one->newest; i++) {
        *place_of(&grown, i) = *place_of(one, i);
    }
    free(one->ring);
    *one = grown;
}

void kv_sessions_record(struct kv_sessions *sessions,
                        struct kv_sessions_one *one,
                        uint64_t sequence,
                        struct kv_sessions_reply *reply)
{
    KV_ASSERT(sequence > one->acknowledged_through);
    grow_ring(one, sequence);
    KV_ASSERT(!*place_of(one, sequence));
    *place_of(one, sequence) = reply;
    one->newest = sequence > one->newest ? sequence : one->newest;
    reply->hash = hash_of_reply(sequence, reply);
    one->n_replies++;
    one->reply_bytes += reply->size;
    one->replies_hash += reply->hash;
    sessions->reply_bytes += reply->size;
    sessions->bytes += REPLY_BYTES + (uint64_t)reply->size;
    changed(sessions, one);
}

/* ---------------------------------------------------------------- invariants */

static void check_one(const struct kv_sessions_one *one)
{
    uint64_t bytes = 0;
    uint64_t hash = 0;
    size_t n = 0;

    KV_ASSERT(one->newest >= one->acknowledged_through &&
              one->newest - one->acknowledged_through <= KV_SESSION_WINDOW);
    for (uint64_t i = one->acknowledged_through + 1; i <= one->newest; i++) {
        const struct kv_sessions_reply *reply = kv_sessions_reply_of(one, i);

        KV_ASSERT(reply || !one->ordered);
        if (reply) {
            KV_ASSERT(reply->hash == hash_of_reply(i, reply));
            bytes += reply->size;
            hash += reply->hash;
            n++;
        }
    }
    KV_ASSERT(n == one->n_replies && bytes == one->reply_bytes && hash == one->replies_hash);
    KV_ASSERT(bytes <= KV_SESSION_REPLY_BYTES_MAX && one->hash == hash_of(one));
}

void kv_sessions_check_invariants(const struct kv_sessions *sessions)
{
    uint64_t reply_bytes = 0;
    uint64_t bytes = 0;
    uint64_t hash = 0;
    uint64_t id = 0;
    size_t n = 0;

    for (const struct kv_sessions_one *one = sessions->first; one; one = one->next) {
        check_one(one);
        KV_ASSERT(one->id > id && one->id <= sessions->last_id);
        KV_ASSERT(kv_sessions_find(sessions, one->id) == one);
        KV_ASSERT(sessions->heap.items[one->due.at] == &one->due && one->due.number == one->id);
        id = one->id;
        reply_bytes += one->reply_bytes;
        bytes += SESSION_BYTES + one->n_replies * REPLY_BYTES + one->reply_bytes;
        hash += one->hash;
        n++;
    }
    kv_heap_check_invariants(&sessions->heap);
    KV_ASSERT(n == sessions->n && n == sessions->heap.n && reply_bytes == sessions->reply_bytes);
    KV_ASSERT(bytes == sessions->bytes && hash == sessions->hash);
}
