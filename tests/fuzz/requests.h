/* What the targets share that run requests: the checks of one request's bytes and of a reply. */
#ifndef KV_FUZZ_REQUESTS_H
#define KV_FUZZ_REQUESTS_H

#include "common/assert.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"
#include "server/machine/machine.h"

#include <stdlib.h>
#include <string.h>

enum {
    FUZZ_STORE_BYTES_MAX = 32 * 1024 * 1024,
    FUZZ_PACKED_BYTES_MAX = 1024 * 1024, /* larger replies are not packed: they only cost time */
};

/* A few commands make gigabytes, by offsets into strings; that is no fault. */
static inline bool fuzz_is_full(const struct kv_machine *machine)
{
    struct kv_machine_stats stats;

    kv_machine_stats(machine, &stats);
    return stats.data_bytes + stats.history_bytes > FUZZ_STORE_BYTES_MAX;
}

/* What an arena would give out: rounded, and nothing comes back. */
static void *fuzz_counted_alloc(void *total, size_t size)
{
    *(size_t *)total += (size + 15) & ~(size_t)15;
    return malloc(size ? size : 1);
}

static void fuzz_counted_free(void *total, void *memory)
{
    (void)total;
    free(memory);
}

static inline uint8_t *fuzz_pack(const Kv__Request *request, size_t *ret_size)
{
    uint8_t *bytes;

    *ret_size = kv__request__get_packed_size(request);
    bytes = malloc(*ret_size + 1);
    KV_ASSERT(bytes && kv__request__pack(request, bytes) == *ret_size);
    return bytes;
}

/* The unpacked form takes at most what the scan foresees. */
static inline void fuzz_check_foreseen(struct kv_slice bytes, size_t total)
{
    enum { ROUNDING_BYTES = 16 };
    struct kv_error error;
    bool unknown;

    /* Empty bytes have no field at which it would tell. */
    KV_ASSERT(bytes.size == 0 ||
              kv_proto_scan(
                  &kv__request__descriptor, bytes, total - ROUNDING_BYTES - 1, &unknown, &error) ==
                  KV_TOO_LARGE);
}

/* Bytes that the scan let pass: what is foreseen suffices, and packing the unpacked request gives
 * bytes that mean the same. */
static inline void fuzz_check_request_bytes(struct kv_slice bytes)
{
    size_t total = 0;
    size_t size;
    size_t size_again;
    uint8_t *packed;
    uint8_t *packed_again;
    struct kv_error error;
    bool unknown;
    bool unknown_again;
    ProtobufCAllocator allocator = {fuzz_counted_alloc, fuzz_counted_free, &total};
    Kv__Request *request = kv__request__unpack(&allocator, bytes.size, bytes.data);

    fuzz_check_foreseen(bytes, total);
    if (!request) {
        return;
    }
    packed = fuzz_pack(request, &size);
    kv__request__free_unpacked(request, &allocator);
    KV_ASSERT(kv_proto_scan(&kv__request__descriptor, bytes, SIZE_MAX, &unknown, &error) == 0 &&
              kv_proto_scan(&kv__request__descriptor,
                            kv_slice_of(packed, size),
                            SIZE_MAX,
                            &unknown_again,
                            &error) == 0);
    /* A part may have been overwritten by a later one, but nothing unknown can appear. */
    KV_ASSERT(unknown || !unknown_again);
    request = kv__request__unpack(NULL, size, packed);
    KV_ASSERT(request);
    packed_again = fuzz_pack(request, &size_again);
    KV_ASSERT(size == size_again && memcmp(packed, packed_again, size) == 0);
    kv__request__free_unpacked(request, NULL);
    free(packed_again);
    free(packed);
}

/* A client can unpack it. */
static inline void fuzz_check_packed_reply(const Kv__Reply *reply)
{
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed;
    struct kv_error error;
    bool unknown = true;

    if (size > FUZZ_PACKED_BYTES_MAX) {
        return;
    }
    packed = malloc(size + 1);
    KV_ASSERT(packed && kv__reply__pack(reply, packed) == size);
    KV_ASSERT(kv_proto_scan(&kv__reply__descriptor,
                            kv_slice_of(packed, size),
                            KV_DECODED_BYTES_MAX,
                            &unknown,
                            &error) == 0);
    KV_ASSERT(!unknown);
    free(packed);
}

/* A reply to the request: with its id, and a code that clients know. */
static inline void fuzz_check_reply(const Kv__Request *request, const Kv__Reply *reply)
{
    KV_ASSERT(reply->id == request->id && reply->revision >= KV_REVISION_FIRST);
    KV_ASSERT(strcmp(kv_status_name((int)reply->code), "?") != 0);
    KV_ASSERT((reply->code == KV__CODE__OK) == (reply->message[0] == '\0'));
    fuzz_check_packed_reply(reply);
}

#endif
