#include "proto/frame.h"

#include <lz4.h>
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

enum { RAW_SIZE_BYTES = 4, KIND_MAX = KV_FRAME_CREDIT };

/* What strangers send first; the header's length field then reads as one of these. */
static const struct {
    const char *start;
    const char *text;
} strangers[] = {
    {"GET ", "this is HTTP"},
    {"POST", "this is HTTP"},
    {"PUT ", "this is HTTP"},
    {"HEAD", "this is HTTP"},
    {"PRI ", "this is HTTP/2"},
    {"OPTI", "this is HTTP"},
    {"DELE", "this is HTTP"},
    {"\x16\x03", "this is TLS"},
    {"*1\r\n", "this is RESP (redis)"},
    {"PING", "this is RESP (redis)"},
    {"SSH-", "this is SSH"},
};

/* NULL: nothing that we know. */
static const char *recognise(struct kv_slice input)
{
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        size_t size = strlen(strangers[i].start);

        if (input.size >= size && memcmp(input.data, strangers[i].start, size) == 0) {
            return strangers[i].text;
        }
    }
    if (input.size >= 2 && input.data[0] == '*' && input.data[1] >= '0' && input.data[1] <= '9') {
        return "this is RESP (redis)";
    }
    return NULL;
}

int64_t kv_frame_peek(struct kv_slice input,
                      size_t max_body,
                      struct kv_frame *ret_frame,
                      struct kv_error *ret_error)
{
    const char *stranger;
    size_t length;
    bool malformed;

    if (input.size < KV_FRAME_HEADER_BYTES) {
        return 0;
    }
    length = kv_get_u32(input.data);
    malformed = input.data[4] == 0 || input.data[4] > KIND_MAX ||
                (input.data[5] & ~KV_FRAME_FLAG_LZ4) != 0 || kv_get_u16(input.data + 6) != 0;
    /* Only what cannot be a frame: the length of a good one may read like any stranger's start (790
     * bytes like TLS). */
    stranger = malformed || length > max_body ? recognise(input) : NULL;
    if (stranger) {
        return kv_error_set(ret_error, KV_INVALID, "%s, not a frame of kvd's protocol", stranger);
    }
    if (malformed) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "not a frame of kvd's protocol (kind %u, flags %u, zero field %u)",
                            input.data[4],
                            input.data[5],
                            kv_get_u16(input.data + 6));
    }
    if (length > max_body) {
        return kv_error_set(
            ret_error, KV_TOO_LARGE, "frame of %zu bytes, the limit is %zu", length, max_body);
    }
    if (input.size - KV_FRAME_HEADER_BYTES < length) {
        return 0;
    }
    *ret_frame = (struct kv_frame){
        .kind = input.data[4],
        .flags = input.data[5],
        .body = {input.data + KV_FRAME_HEADER_BYTES, length},
    };
    return (int64_t)(KV_FRAME_HEADER_BYTES + length);
}

void kv_frame_write_header(uint8_t header[KV_FRAME_HEADER_BYTES],
                           enum kv_frame_kind kind,
                           uint8_t flags,
                           size_t body_size)
{
    kv_put_u32(header, (uint32_t)body_size);
    header[4] = (uint8_t)kind;
    header[5] = flags;
    kv_put_u16(header + 6, 0);
}

/* Compresses the body at p in place when that saves at least an eighth; returns the new size. */
static size_t compress_body(uint8_t *p, size_t size, uint8_t *ret_flags)
{
    size_t target = size - size / 8;
    char *compressed = malloc(RAW_SIZE_BYTES + target);
    int result;

    *ret_flags = 0;
    if (!compressed) {
        return size;
    }
    result = LZ4_compress_default(
        (const char *)p, compressed, (int)size, (int)(target - RAW_SIZE_BYTES));
    if (result > 0) {
        kv_put_u32(p, (uint32_t)size);
        memcpy(p + RAW_SIZE_BYTES, compressed, (size_t)result);
        *ret_flags = KV_FRAME_FLAG_LZ4;
        size = RAW_SIZE_BYTES + (size_t)result;
    }
    free(compressed);
    return size;
}

/* The body of `size` bytes stands behind the header's place at p. */
static void
finish_frame(struct kv_buf *buf, uint8_t *p, enum kv_frame_kind kind, size_t size, bool lz4)
{
    uint8_t flags = 0;

    if (lz4 && size > KV_LZ4_MIN_BYTES) {
        size = compress_body(p + KV_FRAME_HEADER_BYTES, size, &flags);
    }
    kv_frame_write_header(p, kind, flags, size);
    buf->size += KV_FRAME_HEADER_BYTES + size;
}

int kv_frame_append(struct kv_buf *buf,
                    enum kv_frame_kind kind,
                    const struct ProtobufCMessage *message,
                    bool lz4)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *p;

    if (size > UINT32_MAX || size + KV_FRAME_HEADER_BYTES > buf->max_size - buf->size) {
        return KV_TOO_LARGE;
    }
    p = kv_buf_reserve(buf, KV_FRAME_HEADER_BYTES + size);
    if (!p) {
        return KV_NO_MEMORY;
    }
    protobuf_c_message_pack(message, p + KV_FRAME_HEADER_BYTES);
    finish_frame(buf, p, kind, size, lz4);
    return 0;
}

int kv_frame_append_parts(struct kv_buf *buf,
                          enum kv_frame_kind kind,
                          struct kv_slice first,
                          struct kv_slice second,
                          bool lz4)
{
    const size_t size = first.size + second.size;
    uint8_t *p;

    if (size > UINT32_MAX || size + KV_FRAME_HEADER_BYTES > buf->max_size - buf->size) {
        return KV_TOO_LARGE;
    }
    p = kv_buf_reserve(buf, KV_FRAME_HEADER_BYTES + size);
    if (!p) {
        return KV_NO_MEMORY;
    }
    if (first.size > 0) {
        memcpy(p + KV_FRAME_HEADER_BYTES, first.data, first.size);
    }
    if (second.size > 0) {
        memcpy(p + KV_FRAME_HEADER_BYTES + first.size, second.data, second.size);
    }
    finish_frame(buf, p, kind, size, lz4);
    return 0;
}

int kv_frame_append_packed(struct kv_buf *buf,
                           enum kv_frame_kind kind,
                           struct kv_slice body,
                           bool lz4)
{
    return kv_frame_append_parts(buf, kind, body, kv_slice_of(NULL, 0), lz4);
}

int kv_frame_decompress(struct kv_slice body, size_t max_raw, uint8_t **ret_raw, size_t *ret_size)
{
    size_t raw_size;
    uint8_t *raw;
    int result;

    if (body.size < RAW_SIZE_BYTES) {
        return KV_INVALID;
    }
    raw_size = kv_get_u32(body.data);
    if (raw_size > max_raw) {
        return KV_TOO_LARGE;
    }
    raw = malloc(raw_size ? raw_size : 1);
    if (!raw) {
        return KV_NO_MEMORY;
    }
    result = LZ4_decompress_safe((const char *)body.data + RAW_SIZE_BYTES,
                                 (char *)raw,
                                 (int)(body.size - RAW_SIZE_BYTES),
                                 (int)raw_size);
    if (result < 0 || (size_t)result != raw_size) {
        free(raw);
        return KV_INVALID;
    }
    *ret_raw = raw;
    *ret_size = raw_size;
    return 0;
}
