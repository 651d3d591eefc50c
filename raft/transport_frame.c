#include "raft/transport_frame.h"

#include "common/crc32c.h"

#include <lz4.h>
#include <string.h>

/* Below the minimum compression does not pay on a fast network; the sample tells cheaply whether it
 * will at all. */
enum {
    COMPRESS_MIN_BYTES = 16 * 1024,
    SAMPLE_BYTES = 4096,
    SAMPLE_GOOD_BYTES = SAMPLE_BYTES * 3 / 4
};

static void
write_frame(uint8_t *p, uint8_t kind, uint8_t flags, uint32_t raw_size, size_t body_size)
{
    kv_put_u32(p + 4, (uint32_t)body_size);
    p[8] = kind;
    p[9] = flags;
    kv_put_u16(p + 10, 0);
    kv_put_u32(p + 12, raw_size);
    kv_put_u32(p, kv_crc32c(p + 4, KV_PEER_FRAME_HEADER_BYTES - 4 + body_size, 0));
}

/* Copies the next `size` bytes of the pieces to p. */
static void copy_out(const struct kv_slice **piece, size_t *offset, uint8_t *p, size_t size)
{
    while (size > 0) {
        size_t left = (*piece)->size - *offset;
        size_t n = left < size ? left : size;

        if (n > 0) {
            memcpy(p, (*piece)->data + *offset, n);
        }
        p += n;
        size -= n;
        *offset += n;
        if (*offset == (*piece)->size) {
            ++*piece;
            *offset = 0;
        }
    }
}

static size_t frames_of(size_t message_bytes)
{
    return message_bytes == 0
               ? 1
               : (message_bytes + KV_PEER_FRAGMENT_BYTES - 1) / KV_PEER_FRAGMENT_BYTES;
}

size_t kv_peer_frames_bytes(size_t message_bytes)
{
    return message_bytes + frames_of(message_bytes) * KV_PEER_FRAME_HEADER_BYTES;
}

static int append_frames(struct kv_buf *buf,
                         uint8_t kind,
                         uint8_t flags,
                         uint32_t raw_size,
                         const struct kv_slice *pieces,
                         size_t total)
{
    size_t n_frames = frames_of(total);
    uint8_t *p = kv_buf_reserve(buf, kv_peer_frames_bytes(total));
    size_t offset = 0;

    if (!p) {
        return KV_TOO_LARGE;
    }
    for (size_t i = 0, left = total; i < n_frames; i++) {
        size_t body = left < KV_PEER_FRAGMENT_BYTES ? left : KV_PEER_FRAGMENT_BYTES;

        left -= body;
        copy_out(&pieces, &offset, p + KV_PEER_FRAME_HEADER_BYTES, body);
        write_frame(
            p, kind, (uint8_t)(flags | (left == 0 ? KV_PEER_FRAME_LAST : 0)), raw_size, body);
        p += KV_PEER_FRAME_HEADER_BYTES + body;
    }
    buf->size += kv_peer_frames_bytes(total);
    return 0;
}

/* Does the middle of the largest piece look compressible? */
static bool promises(const struct kv_slice *pieces, size_t n_pieces)
{
    const struct kv_slice *largest = &pieces[0];
    char out[SAMPLE_GOOD_BYTES];

    for (size_t i = 1; i < n_pieces; i++) {
        largest = pieces[i].size > largest->size ? &pieces[i] : largest;
    }
    if (largest->size < SAMPLE_BYTES) {
        return false;
    }
    return LZ4_compress_default((const char *)largest->data + (largest->size - SAMPLE_BYTES) / 2,
                                out,
                                SAMPLE_BYTES,
                                sizeof out) > 0;
}

/* 1: appended compressed; 0: it does not pay. */
static int append_compressed(
    struct kv_buf *buf, uint8_t kind, const struct kv_slice *pieces, size_t n_pieces, size_t total)
{
    struct kv_buf raw, packed;
    struct kv_slice piece;
    int size;
    int status = 0;

    kv_buf_init(&raw, total);
    kv_buf_init(&packed, total);
    for (size_t i = 0; i < n_pieces && status == 0; i++) {
        status = kv_buf_append(&raw, pieces[i].data, pieces[i].size);
    }
    if (status == 0 && kv_buf_reserve(&packed, total - total / 8)) {
        size = LZ4_compress_default(
            (const char *)raw.data, (char *)packed.data, (int)total, (int)(total - total / 8));
        piece = kv_slice_of(packed.data, (size_t)(size > 0 ? size : 0));
        status =
            size > 0 &&
            append_frames(buf, kind, KV_PEER_FRAME_LZ4, (uint32_t)total, &piece, piece.size) == 0;
    } else {
        status = 0;
    }
    kv_buf_deinit(&raw);
    kv_buf_deinit(&packed);
    return status;
}

int kv_peer_frame_append(struct kv_buf *buf,
                         enum kv_peer_frame_kind kind,
                         const struct kv_slice *pieces,
                         size_t n_pieces,
                         bool compress)
{
    size_t total = 0;

    for (size_t i = 0; i < n_pieces; i++) {
        total += pieces[i].size;
    }
    if (total > KV_PEER_MESSAGE_BYTES_MAX) {
        return KV_TOO_LARGE;
    }
    if (compress && total >= COMPRESS_MIN_BYTES && promises(pieces, n_pieces) &&
        append_compressed(buf, (uint8_t)kind, pieces, n_pieces, total) == 1) {
        return 0;
    }
    return append_frames(buf, (uint8_t)kind, 0, 0, pieces, total);
}

int64_t kv_peer_frame_peek(struct kv_slice input,
                           struct kv_peer_frame *ret_frame,
                           struct kv_error *ret_error)
{
    size_t body_size;

    if (input.size < KV_PEER_FRAME_HEADER_BYTES) {
        return 0;
    }
    body_size = kv_get_u32(input.data + 4);
    if (body_size > KV_PEER_FRAGMENT_BYTES || input.data[8] < KV_PEER_FRAME_ORDERED ||
        input.data[8] > KV_PEER_FRAME_BULK ||
        (input.data[9] & ~(KV_PEER_FRAME_LAST | KV_PEER_FRAME_LZ4)) != 0 ||
        kv_get_u16(input.data + 10) != 0 ||
        (kv_get_u32(input.data + 12) != 0) != ((input.data[9] & KV_PEER_FRAME_LZ4) != 0) ||
        kv_get_u32(input.data + 12) > KV_PEER_MESSAGE_BYTES_MAX) {
        return kv_error_set(ret_error, KV_INVALID, "not a frame of kvd's peer protocol");
    }
    if (input.size < KV_PEER_FRAME_HEADER_BYTES + body_size) {
        return 0;
    }
    if (kv_get_u32(input.data) !=
        kv_crc32c(input.data + 4, KV_PEER_FRAME_HEADER_BYTES - 4 + body_size, 0)) {
        return kv_error_set(ret_error, KV_INVALID, "a frame's checksum is wrong");
    }
    *ret_frame = (struct kv_peer_frame){
        .kind = input.data[8],
        .flags = input.data[9],
        .raw_size = kv_get_u32(input.data + 12),
        .body = {input.data + KV_PEER_FRAME_HEADER_BYTES, body_size},
    };
    return (int64_t)(KV_PEER_FRAME_HEADER_BYTES + body_size);
}

void kv_peer_assembly_init(struct kv_peer_assembly *assembly)
{
    kv_buf_init(&assembly->buf, KV_PEER_MESSAGE_BYTES_MAX);
    kv_buf_init(&assembly->raw, KV_PEER_MESSAGE_BYTES_MAX);
}

void kv_peer_assembly_deinit(struct kv_peer_assembly *assembly)
{
    kv_buf_deinit(&assembly->buf);
    kv_buf_deinit(&assembly->raw);
}

static int decompress(struct kv_peer_assembly *assembly,
                      uint32_t raw_size,
                      struct kv_slice packed,
                      struct kv_slice *ret_message,
                      struct kv_error *ret_error)
{
    uint8_t *p;
    int size;

    kv_buf_clear(&assembly->raw);
    p = kv_buf_reserve(&assembly->raw, raw_size);
    if (!p) {
        return kv_error_set(
            ret_error, KV_NO_MEMORY, "no memory for a message of %u bytes", raw_size);
    }
    size =
        LZ4_decompress_safe((const char *)packed.data, (char *)p, (int)packed.size, (int)raw_size);
    if (size < 0 || (uint32_t)size != raw_size) {
        return kv_error_set(ret_error, KV_INVALID, "a compressed message is malformed");
    }
    *ret_message = kv_slice_of(p, raw_size);
    return 1;
}

int kv_peer_assembly_add(struct kv_peer_assembly *assembly,
                         const struct kv_peer_frame *frame,
                         struct kv_slice *ret_message,
                         struct kv_error *ret_error)
{
    struct kv_slice message = frame->body;

    if (assembly->buf.size > 0 || !(frame->flags & KV_PEER_FRAME_LAST)) {
        if (frame->body.size == 0) {
            return kv_error_set(ret_error, KV_INVALID, "a fragment of a message is empty");
        }
        if (kv_buf_append(&assembly->buf, frame->body.data, frame->body.size) != 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "a message is larger than %llu bytes",
                                (unsigned long long)KV_PEER_MESSAGE_BYTES_MAX);
        }
        if (!(frame->flags & KV_PEER_FRAME_LAST)) {
            return 0;
        }
        message = kv_slice_of(assembly->buf.data, assembly->buf.size);
        kv_buf_clear(&assembly->buf); /* the bytes stay until the next call */
    }
    if (frame->flags & KV_PEER_FRAME_LZ4) {
        return decompress(assembly, frame->raw_size, message, ret_message, ret_error);
    }
    *ret_message = message;
    return 1;
}
