#include "server/machine/leases.h"

#include "common/assert.h"
#include "common/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { ID_BYTES = 8 };

_Static_assert(offsetof(struct kv_lease, item) == 0, "an item of the heap is its lease");

void kv_leases_init(struct kv_leases *leases)
{
    *leases = (struct kv_leases){0};
    kv_tree_init(&leases->by_id);
}

static struct kv_lease *lease_of(const struct kv_record *record)
{
    struct kv_lease *lease;

    memcpy(&lease, kv_record_value(record).data, sizeof lease);
    return lease;
}

void kv_leases_deinit(struct kv_leases *leases)
{
    for (size_t i = 0; i < leases->heap.n; i++) {
        free(leases->heap.items[i]);
    }
    kv_heap_deinit(&leases->heap);
    kv_tree_deinit(&leases->by_id);
}

struct kv_lease *kv_leases_find(const struct kv_leases *leases, int64_t id)
{
    uint8_t key[ID_BYTES];
    const struct kv_record *record;

    kv_put_u64_be(key, (uint64_t)id);
    record = kv_tree_find(&leases->by_id, kv_slice_of(key, sizeof key));
    return record ? lease_of(record) : NULL;
}

void kv_leases_seek(const struct kv_leases *leases, int64_t id, struct kv_tree_cursor *ret_cursor)
{
    uint8_t key[ID_BYTES];

    kv_put_u64_be(key, (uint64_t)id + 1);
    kv_tree_seek(&leases->by_id, kv_slice_of(key, sizeof key), ret_cursor);
}

struct kv_lease *kv_leases_at(const struct kv_tree_cursor *cursor)
{
    const struct kv_record *record = kv_tree_cursor_get(cursor);

    return record ? lease_of(record) : NULL;
}

struct kv_lease *kv_leases_next(const struct kv_leases *leases, int64_t id)
{
    struct kv_tree_cursor cursor;

    kv_leases_seek(leases, id, &cursor);
    return kv_leases_at(&cursor);
}

/* Its part of the hash is made anew. */
static void rehash(struct kv_leases *leases, struct kv_lease *lease)
{
    const uint64_t content[] = {
        lease->item.number, (uint64_t)lease->item.deadline_ms, lease->ttl_ms, lease->revoked};

    leases->hash -= lease->hash;
    lease->hash = XXH3_64bits(content, sizeof content);
    leases->hash += lease->hash;
}

struct kv_lease *kv_leases_add(
    struct kv_leases *leases, int64_t id, uint64_t ttl_ms, int64_t deadline_ms, bool revoked)
{
    struct kv_lease *lease = kv_machine_alloc(sizeof *lease);
    uint8_t key[ID_BYTES];
    struct kv_record *record, *former;

    *lease = (struct kv_lease){.item = {.deadline_ms = deadline_ms, .number = (uint64_t)id},
                               .ttl_ms = ttl_ms,
                               .revoked = revoked};
    kv_put_u64_be(key, (uint64_t)id);
    record = kv_record_new(kv_slice_of(key, sizeof key), sizeof lease);
    memcpy(record->bytes + sizeof key, &lease, sizeof lease);
    former = kv_tree_put(&leases->by_id, record);
    KV_ASSERT(!former);
    kv_heap_add(&leases->heap, &lease->item);
    rehash(leases, lease);
    return lease;
}

void kv_leases_remove(struct kv_leases *leases, struct kv_lease *lease)
{
    uint8_t key[ID_BYTES];
    struct kv_record *record;

    kv_put_u64_be(key, lease->item.number);
    record = kv_tree_remove(&leases->by_id, kv_slice_of(key, sizeof key));
    KV_ASSERT(record);
    kv_record_free(record);
    kv_heap_remove(&leases->heap, &lease->item);
    leases->hash -= lease->hash;
    free(lease);
}

static void move_deadline(struct kv_leases *leases, struct kv_lease *lease, int64_t deadline_ms)
{
    kv_heap_move(&leases->heap, &lease->item, deadline_ms);
    rehash(leases, lease);
}

void kv_leases_renew(struct kv_leases *leases, struct kv_lease *lease, int64_t now_ms)
{
    const int64_t deadline_ms = now_ms + (int64_t)lease->ttl_ms;

    if (deadline_ms != lease->item.deadline_ms) {
        move_deadline(leases, lease, deadline_ms);
    }
}

void kv_leases_revoke(struct kv_leases *leases, struct kv_lease *lease, int64_t now_ms)
{
    lease->revoked = true;
    move_deadline(leases, lease, now_ms);
}

void kv_leases_check_invariants(const struct kv_leases *leases)
{
    uint64_t hash = 0;
    size_t n = 0;

    kv_tree_check_invariants(&leases->by_id);
    kv_heap_check_invariants(&leases->heap);
    for (const struct kv_lease *lease = kv_leases_next(leases, 0); lease;
         lease = kv_leases_next(leases, kv_lease_id(lease))) {
        hash += lease->hash;
        n++;
        KV_ASSERT(leases->heap.items[lease->item.at] == &lease->item);
    }
    KV_ASSERT(n == leases->heap.n && hash == leases->hash);
}

/* ---------------------------------------------------------------- snapshot */

int kv_leases_copy(const struct kv_leases *leases, struct kv_buf *ret_bodies)
{
    const size_t size = leases->heap.n * KV_LEASE_BODY_BYTES;
    struct kv_tree_cursor cursor;
    uint8_t *p;

    kv_buf_init(ret_bodies, size + 1);
    p = kv_buf_reserve(ret_bodies, size + 1);
    if (!p) {
        return KV_NO_MEMORY;
    }
    kv_tree_seek(&leases->by_id, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *record; (record = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        const struct kv_lease *lease = lease_of(record);

        kv_put_u64(p, lease->item.number);
        kv_put_u64(p + 8, lease->ttl_ms);
        kv_put_u64(p + 16, (uint64_t)lease->item.deadline_ms);
        kv_put_u64(p + 24, lease->revoked);
        p += KV_LEASE_BODY_BYTES;
    }
    ret_bodies->size = size;
    return 0;
}

int kv_leases_restore(struct kv_leases *leases,
                      const uint8_t *body,
                      int64_t now_ms,
                      struct kv_error *ret_error)
{
    const uint64_t id = kv_get_u64(body);
    const uint64_t ttl_ms = kv_get_u64(body + 8);
    const int64_t deadline_ms = (int64_t)kv_get_u64(body + 16);
    const uint64_t revoked = kv_get_u64(body + 24);

    if (id == 0 || id > INT64_MAX || leases->heap.n >= KV_LEASES_MAX ||
        kv_leases_next(leases, (int64_t)id - 1) || ttl_ms == 0 || ttl_ms > KV_LEASE_TTL_MAX_MS ||
        deadline_ms < 0 || deadline_ms > now_ms + (int64_t)ttl_ms || revoked > 1 ||
        (revoked == 1 && deadline_ms > now_ms)) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "lease %" PRIu64 " of %" PRIu64 " ms until %" PRId64 " at %" PRId64,
                            id,
                            ttl_ms,
                            deadline_ms,
                            now_ms);
    }
    (void)kv_leases_add(leases, (int64_t)id, ttl_ms, deadline_ms, revoked == 1);
    return 0;
}
