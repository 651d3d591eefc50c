/* Frames between nodes, without I/O. A frame is a header of 16 bytes and a body of at most 64 KiB:
 *
 *   u32 crc32c of everything behind it | u32 body size | u8 kind | u8 flags | u16 zero |
 *   u32 raw size
 *
 * A message is one or more frames of its class, the last one flagged. A compressed message is an
 * lz4 block of `raw size` bytes, the same in each of its frames; otherwise raw size is 0. Messages
 * of the two classes may be interleaved frame by frame, frames of one class never are. */
#ifndef KV_RAFT_TRANSPORT_FRAME_H
#define KV_RAFT_TRANSPORT_FRAME_H

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"

#define KV_PEER_FRAME_HEADER_BYTES 16u

enum kv_peer_frame_kind {
    KV_PEER_FRAME_ORDERED = 1,
    KV_PEER_FRAME_URGENT = 2,
    KV_PEER_FRAME_HELLO = 3,
    KV_PEER_FRAME_HELLO_REPLY = 4,
    KV_PEER_FRAME_PING = 5,
    KV_PEER_FRAME_PONG = 6,
    KV_PEER_FRAME_BULK = 7, /* alone on connections whose hello says so */
};
enum { KV_PEER_FRAME_LAST = 1, KV_PEER_FRAME_LZ4 = 2 };

struct kv_peer_frame {
    uint8_t kind;
    uint8_t flags;
    uint32_t raw_size;
    struct kv_slice body;
};

/* Bytes that an uncompressed message takes as frames. */
size_t kv_peer_frames_bytes(size_t message_bytes);

/* Appends the frames of a message given in pieces. KV_TOO_LARGE (message, or buf's maximum),
 * KV_NO_MEMORY: buf is unchanged. compress: try lz4 when a sample promises something. */
int kv_peer_frame_append(struct kv_buf *buf,
                         enum kv_peer_frame_kind kind,
                         const struct kv_slice *pieces,
                         size_t n_pieces,
                         bool compress) KV_MUST_CHECK;

/* The frame at the front: its whole size, 0 when more bytes are needed, or KV_INVALID with a
 * reason. */
int64_t kv_peer_frame_peek(struct kv_slice input,
                           struct kv_peer_frame *ret_frame,
                           struct kv_error *ret_error) KV_MUST_CHECK;

/* Puts messages of one class together again. Zero-initialise with kv_peer_assembly_init. */
struct kv_peer_assembly {
    struct kv_buf buf;
    struct kv_buf raw;
};
void kv_peer_assembly_init(struct kv_peer_assembly *assembly);
void kv_peer_assembly_deinit(struct kv_peer_assembly *assembly);
/* 1: *ret_message is whole, borrowed until the next call (it may lie in the frame's own bytes); 0:
 * more frames are needed; KV_INVALID, KV_NO_MEMORY. */
int kv_peer_assembly_add(struct kv_peer_assembly *assembly,
                         const struct kv_peer_frame *frame,
                         struct kv_slice *ret_message,
                         struct kv_error *ret_error) KV_MUST_CHECK;

#endif
