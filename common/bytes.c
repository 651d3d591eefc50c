#include "common/bytes.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

struct kv_slice kv_slice_of(const void *data, size_t size)
{
    return (struct kv_slice){data, size};
}

struct kv_slice kv_slice_str(const char *string)
{
    return (struct kv_slice){(const uint8_t *)string, strlen(string)};
}

int kv_slice_compare(struct kv_slice a, struct kv_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.data, b.data, common) : 0;

    if (order != 0) {
        return order;
    }
    return a.size < b.size ? -1 : a.size > b.size;
}

bool kv_slice_equal(struct kv_slice a, struct kv_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void kv_buf_init(struct kv_buf *buf, size_t max_size)
{
    KV_ASSERT(max_size > 0);
    *buf = (struct kv_buf){.max_size = max_size};
}

void kv_buf_deinit(struct kv_buf *buf)
{
    free(buf->data);
    buf->data = NULL;
    buf->size = buf->capacity = 0;
}

void kv_buf_clear(struct kv_buf *buf)
{
    buf->size = 0;
}

/* 0, or why `more` bytes cannot be had. */
static int buf_grow(struct kv_buf *buf, size_t more)
{
    size_t capacity = buf->capacity ? buf->capacity : 256;
    uint8_t *data;

    KV_ASSERT(buf->max_size > 0);
    if (more > buf->max_size - buf->size) {
        return KV_TOO_LARGE;
    }
    if (buf->capacity - buf->size >= more) {
        return 0;
    }
    while (capacity - buf->size < more) {
        capacity *= 2;
    }
    if (capacity > buf->max_size) {
        capacity = buf->max_size;
    }
    data = realloc(buf->data, capacity);
    if (!data) {
        return KV_NO_MEMORY;
    }
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

uint8_t *kv_buf_reserve(struct kv_buf *buf, size_t more)
{
    if (buf_grow(buf, more ? more : 1) != 0) {
        return NULL;
    }
    return buf->data + buf->size;
}

int kv_buf_append(struct kv_buf *buf, const void *data, size_t size)
{
    int status = buf_grow(buf, size);

    if (status != 0) {
        return status;
    }
    if (size > 0) {
        memcpy(buf->data + buf->size, data, size);
    }
    buf->size += size;
    return 0;
}

void kv_buf_consume(struct kv_buf *buf, size_t size)
{
    KV_ASSERT(size <= buf->size);
    if (size > 0 && size < buf->size) {
        memmove(buf->data, buf->data + size, buf->size - size);
    }
    buf->size -= size;
}
