/* From a frame's bytes to a validated request: what a network thread does before the core hears of
 * it. No connection, socket or clock; any thread. */
#ifndef KV_NET_DECODE_H
#define KV_NET_DECODE_H

#include "common/arena.h"
#include "proto/frame.h"
#include "server/machine/machine.h"

enum { KV_PROTOCOL_VERSION = 1 };

struct kv_decoded_request {
    const Kv__Request *request; /* in the arena */
    struct kv_slice bytes;      /* the same, as sent; in the arena */
    enum kv_command_class cls;
    /* 0: it may go to the core. Else the answer to give, with the limit that is exceeded, if any
     * (its name; "": none). */
    int status;
    struct kv_error error;
    const char *limit;
    uint64_t limit_value;
};

/* A request frame's body. 0: *ret_request is filled. Otherwise the connection must end with this:
 * KV_INVALID (malformed), KV_TOO_LARGE (its decoded form), KV_BUSY (no memory). */
int kv_decode_request(struct kv_arena *arena,
                      struct kv_slice body,
                      const struct kv_machine_settings *settings,
                      struct kv_decoded_request *ret_request,
                      struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_decoded_hello {
    bool lz4;
    char client_name[KV_NAME_BYTES_MAX + 1];
};
/* KV_INVALID: malformed, or another protocol version. */
int kv_decode_hello(struct kv_slice body,
                    struct kv_decoded_hello *ret_hello,
                    struct kv_error *ret_error) KV_MUST_CHECK;
int kv_decode_cancel(struct kv_slice body,
                     uint64_t *ret_id,
                     struct kv_error *ret_error) KV_MUST_CHECK;
int kv_decode_credit(struct kv_slice body,
                     uint64_t *ret_id,
                     uint64_t *ret_bytes,
                     struct kv_error *ret_error) KV_MUST_CHECK;

/* The body of a frame, inflated if need be: then *ret_raw is memory that the caller frees,
 * otherwise NULL. lz4: the client offered it. KV_INVALID, KV_TOO_LARGE, KV_BUSY. */
int kv_decode_body(const struct kv_frame *frame,
                   bool lz4,
                   struct kv_slice *ret_body,
                   uint8_t **ret_raw,
                   struct kv_error *ret_error) KV_MUST_CHECK;

#endif
