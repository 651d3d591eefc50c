/* Frames of the client protocol: eight bytes and a protobuf message (kv.proto). No I/O;
 * thread-free. */
#ifndef KV_PROTO_FRAME_H
#define KV_PROTO_FRAME_H

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"

enum kv_frame_kind {
    KV_FRAME_REQUEST = 1,
    KV_FRAME_REPLY = 2,
    KV_FRAME_STREAM_ITEM = 3,
    KV_FRAME_HELLO = 4,
    KV_FRAME_HELLO_REPLY = 5,
    KV_FRAME_GOODBYE = 6,
    KV_FRAME_CANCEL = 7,
    KV_FRAME_CREDIT = 8,
};
enum { KV_FRAME_FLAG_LZ4 = 1 };

struct kv_frame {
    uint8_t kind;
    uint8_t flags;
    struct kv_slice body; /* borrows the input */
};

/* Looks at the front of `input`. Returns the frame's whole size when it is all there, 0 when more
 * bytes are needed, or KV_INVALID (a wrong kind, flag or zero field: message says what it looks
 * like, e.g. HTTP, TLS, RESP) or KV_TOO_LARGE (length over max_body). */
int64_t kv_frame_peek(struct kv_slice input,
                      size_t max_body,
                      struct kv_frame *ret_frame,
                      struct kv_error *ret_error) KV_MUST_CHECK;

void kv_frame_write_header(uint8_t header[KV_FRAME_HEADER_BYTES],
                           enum kv_frame_kind kind,
                           uint8_t flags,
                           size_t body_size);

struct ProtobufCMessage;
/* Appends header and packed message; with lz4 allowed, large ones are compressed when that pays.
 * KV_TOO_LARGE, KV_NO_MEMORY: buf unchanged. */
int kv_frame_append(struct kv_buf *buf,
                    enum kv_frame_kind kind,
                    const struct ProtobufCMessage *message,
                    bool lz4) KV_MUST_CHECK;

/* As kv_frame_append, of a body that is packed already. */
int kv_frame_append_packed(struct kv_buf *buf,
                           enum kv_frame_kind kind,
                           struct kv_slice body,
                           bool lz4) KV_MUST_CHECK;

/* As kv_frame_append_packed, of a body in two parts. */
int kv_frame_append_parts(struct kv_buf *buf,
                          enum kv_frame_kind kind,
                          struct kv_slice first,
                          struct kv_slice second,
                          bool lz4) KV_MUST_CHECK;

/* For flag LZ4: the raw body into memory from malloc (caller frees *ret_raw). Caps the raw size. */
int kv_frame_decompress(struct kv_slice body, size_t max_raw, uint8_t **ret_raw, size_t *ret_size)
    KV_MUST_CHECK;

/* Scans protobuf bytes before unpacking: well-formed tags, nesting at most KV_NESTING_DEPTH_MAX
 * along the fields that `descriptor` knows as messages; bounds the number of fields so that the
 * unpacked size stays below max_decoded_bytes; *ret_unknown tells whether a field is not in the
 * descriptor. KV_INVALID or KV_TOO_LARGE. */
struct ProtobufCMessageDescriptor;
int kv_proto_scan(const struct ProtobufCMessageDescriptor *descriptor,
                  struct kv_slice bytes,
                  size_t max_decoded_bytes,
                  bool *ret_unknown,
                  struct kv_error *ret_error) KV_MUST_CHECK;

#endif
