/* Waiters in a snapshot. Body of each (little endian): u64 number, session, sequence, hash of the
 * command, deadline, which end (0 or 1), key. */
#include "common/limits.h"
#include "server/machine/waiters.h"

#include <inttypes.h>
#include <string.h>

enum { BODY_FIXED = 48, LENGTH_BYTES = 4 };

int kv_waiters_copy(const struct kv_waiters *waiters, struct kv_waiters_copy *ret_copy)
{
    struct kv_waiters_copy copy = {.last_number = waiters->last_number, .n = waiters->n};
    size_t size = 0;
    uint8_t *p;

    for (const struct kv_waiter *waiter = waiters->oldest; waiter; waiter = waiter->newer) {
        size += (size_t)LENGTH_BYTES + BODY_FIXED + waiter->queue->key_size;
    }
    kv_buf_init(&copy.bodies, size + 1);
    p = size > 0 ? kv_buf_reserve(&copy.bodies, size) : NULL;
    if (size > 0 && !p) {
        return KV_NO_MEMORY;
    }
    for (const struct kv_waiter *waiter = waiters->oldest; waiter; waiter = waiter->newer) {
        struct kv_slice key = kv_waiter_key(waiter);

        kv_put_u32(p, (uint32_t)(BODY_FIXED + key.size));
        p += LENGTH_BYTES;
        kv_put_u64(p, waiter->due.number);
        kv_put_u64(p + 8, waiter->session_id);
        kv_put_u64(p + 16, waiter->sequence);
        kv_put_u64(p + 24, waiter->command_hash);
        kv_put_u64(p + 32, (uint64_t)waiter->due.deadline_ms);
        kv_put_u64(p + 40, waiter->last_end);
        memcpy(p + BODY_FIXED, key.data, key.size);
        p += BODY_FIXED + key.size;
    }
    copy.bodies.size = size;
    *ret_copy = copy;
    return 0;
}

bool kv_waiters_copy_next(const struct kv_waiters_copy *copy,
                          size_t *offset,
                          struct kv_slice *ret_body)
{
    if (*offset == copy->bodies.size) {
        return false;
    }
    *ret_body = kv_slice_of(copy->bodies.data + *offset + LENGTH_BYTES,
                            kv_get_u32(copy->bodies.data + *offset));
    *offset += LENGTH_BYTES + ret_body->size;
    return true;
}

void kv_waiters_copy_deinit(struct kv_waiters_copy *copy)
{
    kv_buf_deinit(&copy->bodies);
}

/* Is it a sequence of the session that has no answer? */
static bool may_wait(const struct kv_sessions *sessions, uint64_t session_id, uint64_t sequence)
{
    const struct kv_sessions_one *one = kv_sessions_find(sessions, session_id);

    return one && sequence > one->acknowledged_through &&
           sequence - one->acknowledged_through <= KV_SESSION_WINDOW &&
           !kv_sessions_reply_of(one, sequence);
}

int kv_waiters_restore(struct kv_waiters *waiters,
                       const struct kv_sessions *sessions,
                       struct kv_slice body,
                       int64_t now_ms,
                       struct kv_error *ret_error)
{
    const uint8_t *p = body.data;
    struct kv_waiter like = {0};
    uint64_t number, last_end;

    if (body.size <= BODY_FIXED || body.size > BODY_FIXED + KV_KEY_BYTES_MAX) {
        return kv_error_set(ret_error, KV_CORRUPT, "a waiter of %zu bytes", body.size);
    }
    number = kv_get_u64(p);
    like.session_id = kv_get_u64(p + 8);
    like.sequence = kv_get_u64(p + 16);
    like.command_hash = kv_get_u64(p + 24);
    like.due.deadline_ms = (int64_t)kv_get_u64(p + 32);
    last_end = kv_get_u64(p + 40);
    like.last_end = last_end != 0;
    if (number <= waiters->last_number || last_end > 1 || kv_waiters_is_full(waiters) ||
        like.due.deadline_ms < 0 || like.due.deadline_ms > now_ms + KV_DEADLINE_MAX_MS ||
        !may_wait(sessions, like.session_id, like.sequence) ||
        kv_waiters_find(waiters, like.session_id, like.sequence)) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "waiter %" PRIu64 " behind %" PRIu64 ", sequence %" PRIu64
                            " of session %" PRIu64 ", until %" PRId64 " at %" PRId64,
                            number,
                            waiters->last_number,
                            like.sequence,
                            like.session_id,
                            like.due.deadline_ms,
                            now_ms);
    }
    (void)kv_waiters_add(
        waiters, &like, number, kv_slice_of(p + BODY_FIXED, body.size - BODY_FIXED));
    return 0;
}
