/* Bytes: borrowed slices, and a growable buffer that cannot exist without a maximum.
 * Not thread safe. Sizes are in bytes. */
#ifndef KV_COMMON_BYTES_H
#define KV_COMMON_BYTES_H

#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes; data may be NULL when size is 0. */
struct kv_slice {
    const uint8_t *data;
    size_t size;
};

struct kv_slice kv_slice_of(const void *data, size_t size);
struct kv_slice kv_slice_str(const char *string);
/* memcmp order, the shorter first when one is a prefix of the other. */
int kv_slice_compare(struct kv_slice a, struct kv_slice b);
bool kv_slice_equal(struct kv_slice a, struct kv_slice b);

/* Growable bytes. data is owned by the buffer and moves when it grows. */
struct kv_buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t max_size;
};

void kv_buf_init(struct kv_buf *buf, size_t max_size);
void kv_buf_deinit(struct kv_buf *buf);
/* Keeps the memory. */
void kv_buf_clear(struct kv_buf *buf);
/* Makes room for `more` bytes behind size and returns where they go; does not change size.
 * NULL: KV_TOO_LARGE (over max_size) or no memory. */
uint8_t *kv_buf_reserve(struct kv_buf *buf, size_t more) KV_MUST_CHECK;
/* 0, -KV_TOO_LARGE's status (KV_TOO_LARGE) or KV_NO_MEMORY; unchanged on failure. */
int kv_buf_append(struct kv_buf *buf, const void *data, size_t size) KV_MUST_CHECK;
/* Drops the first `size` bytes. */
void kv_buf_consume(struct kv_buf *buf, size_t size);

/* Little-endian integers at any alignment. */
static inline void kv_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void kv_put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}
static inline void kv_put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}
/* Big endian: the bytes are in the order of the numbers. */
static inline void kv_put_u64_be(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (56 - 8 * i));
    }
}
static inline uint64_t kv_get_u64_be(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}
static inline uint16_t kv_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t kv_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t kv_get_u64(const uint8_t *p)
{
    return (uint64_t)kv_get_u32(p) | (uint64_t)kv_get_u32(p + 4) << 32;
}

#endif
