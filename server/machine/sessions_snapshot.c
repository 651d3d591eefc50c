/* Sessions in a snapshot. Body of each (little endian): u64 id, ttl, deadline,
 * acknowledged_through, ordered (0 or 1); then its answers by ascending sequence: u64 sequence,
 * hash of the command, revision, u32 code, u32 size, and so many bytes. */
#include "common/limits.h"
#include "server/machine/sessions.h"

#include <inttypes.h>
#include <string.h>

enum { BODY_FIXED = 40, REPLY_FIXED = 32, LENGTH_BYTES = 4 };

_Static_assert(BODY_FIXED + (uint64_t)KV_SESSION_WINDOW * REPLY_FIXED + KV_SESSION_REPLY_BYTES_MAX <
                   KV_SNAPSHOT_ITEM_BYTES_MAX - 8,
               "the largest session is an item");

static size_t size_of(const struct kv_sessions_one *one)
{
    return BODY_FIXED + one->n_replies * REPLY_FIXED + (size_t)one->reply_bytes;
}

static uint8_t *write_one(uint8_t *p, const struct kv_sessions_one *one)
{
    kv_put_u64(p, one->id);
    kv_put_u64(p + 8, one->ttl_ms);
    kv_put_u64(p + 16, (uint64_t)one->due.deadline_ms);
    kv_put_u64(p + 24, one->acknowledged_through);
    kv_put_u64(p + 32, one->ordered);
    p += BODY_FIXED;
    for (uint64_t i = one->acknowledged_through + 1; i <= one->newest; i++) {
        const struct kv_sessions_reply *reply = kv_sessions_reply_of(one, i);

        if (!reply) {
            continue;
        }
        kv_put_u64(p, i);
        kv_put_u64(p + 8, reply->command_hash);
        kv_put_u64(p + 16, (uint64_t)reply->revision);
        kv_put_u32(p + 24, reply->code);
        kv_put_u32(p + 28, reply->size);
        memcpy(p + REPLY_FIXED, reply->bytes, reply->size);
        p += REPLY_FIXED + reply->size;
    }
    return p;
}

int kv_sessions_copy(const struct kv_sessions *sessions, struct kv_sessions_copy *ret_copy)
{
    struct kv_sessions_copy copy = {
        .last_id = sessions->last_id, .n = sessions->n, .bytes = sessions->bytes};
    size_t size = 0;
    uint8_t *p;

    for (const struct kv_sessions_one *one = sessions->first; one; one = one->next) {
        size += LENGTH_BYTES + size_of(one);
    }
    kv_buf_init(&copy.bodies, size + 1);
    if (size > 0) {
        p = kv_buf_reserve(&copy.bodies, size);
        if (!p) {
            return KV_NO_MEMORY;
        }
        for (const struct kv_sessions_one *one = sessions->first; one; one = one->next) {
            kv_put_u32(p, (uint32_t)size_of(one));
            p = write_one(p + LENGTH_BYTES, one);
        }
        copy.bodies.size = size;
    }
    *ret_copy = copy;
    return 0;
}

bool kv_sessions_copy_next(const struct kv_sessions_copy *copy,
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

void kv_sessions_copy_deinit(struct kv_sessions_copy *copy)
{
    kv_buf_deinit(&copy->bodies);
}

/* One answer at the front of rest, which is moved behind it. */
static int restore_reply(struct kv_sessions *sessions,
                         struct kv_sessions_one *one,
                         struct kv_slice *rest,
                         struct kv_error *ret_error)
{
    const uint8_t *p = rest->data;
    struct kv_sessions_reply *reply;
    uint64_t sequence;
    uint32_t size;

    if (rest->size < REPLY_FIXED || kv_get_u32(p + 28) > rest->size - REPLY_FIXED) {
        return kv_error_set(
            ret_error, KV_CORRUPT, "an answer of session %" PRIu64 " is cut", one->id);
    }
    sequence = kv_get_u64(p);
    size = kv_get_u32(p + 28);
    if (sequence <= one->newest || sequence > KV_SESSION_SEQUENCE_MAX ||
        sequence - one->acknowledged_through > KV_SESSION_WINDOW ||
        (one->ordered && sequence != one->newest + 1) ||
        !kv_sessions_has_room(sessions, one, size)) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "session %" PRIu64 " has an answer of %u bytes to %" PRIu64
                            " behind %" PRIu64,
                            one->id,
                            size,
                            sequence,
                            one->newest);
    }
    reply = kv_sessions_reply_new(size);
    reply->command_hash = kv_get_u64(p + 8);
    reply->revision = (int64_t)kv_get_u64(p + 16);
    reply->code = kv_get_u32(p + 24);
    memcpy(reply->bytes, p + REPLY_FIXED, size);
    kv_sessions_record(sessions, one, sequence, reply);
    *rest = kv_slice_of(p + REPLY_FIXED + size, rest->size - REPLY_FIXED - size);
    return 0;
}

int kv_sessions_restore(struct kv_sessions *sessions,
                        struct kv_slice body,
                        int64_t now_ms,
                        struct kv_error *ret_error)
{
    const uint8_t *p = body.data;
    struct kv_sessions_one *one;
    struct kv_slice rest;
    uint64_t id, ttl_ms, deadline_ms, through, ordered;
    int status = 0;

    if (body.size < BODY_FIXED) {
        return kv_error_set(ret_error, KV_CORRUPT, "a session of %zu bytes", body.size);
    }
    id = kv_get_u64(p);
    ttl_ms = kv_get_u64(p + 8);
    deadline_ms = kv_get_u64(p + 16);
    through = kv_get_u64(p + 24);
    ordered = kv_get_u64(p + 32);
    if (id == 0 || id > sessions->last_id || (sessions->last && id <= sessions->last->id) ||
        ttl_ms == 0 || ttl_ms > KV_SESSION_TTL_MAX_MS || deadline_ms > (uint64_t)now_ms + ttl_ms ||
        through > KV_SESSION_SEQUENCE_MAX || ordered > 1) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "session %" PRIu64 " of %" PRIu64 ", ttl %" PRIu64 " ms, until %" PRIu64
                            " at %" PRId64,
                            id,
                            sessions->last_id,
                            ttl_ms,
                            deadline_ms,
                            now_ms);
    }
    one = kv_sessions_add(sessions, id, ttl_ms, (int64_t)deadline_ms, ordered != 0);
    kv_sessions_acknowledge(sessions, one, through);
    rest = kv_slice_of(p + BODY_FIXED, body.size - BODY_FIXED);
    while (status == 0 && rest.size > 0) {
        status = restore_reply(sessions, one, &rest, ret_error);
    }
    return status;
}
