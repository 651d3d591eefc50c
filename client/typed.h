/* Inside libkv: from a command's message to its result, for the typed calls.
 *
 * A command and its result have the same number in kv.proto, and all results of one message share a
 * place in the union of Kv__Reply: so one reader serves all commands with the same result. */
#ifndef KV_CLIENT_TYPED_H
#define KV_CLIENT_TYPED_H

#include "client/blocking.h"

#include <kv/elements.h>

/* Where a typed call goes, and how. */
struct kv_typed {
    struct kv_client *client;
    const struct kv_call_options *options; /* may be NULL */
    struct kv_error *error;                /* may be NULL */
};

/* Sends the command `number` with its message. On success the reply has its result; the caller owns
 * it. On failure *ret_reply is NULL. */
int kv_typed_call(const struct kv_typed *typed,
                  Kv__Request__CommandCase number,
                  void *message,
                  Kv__Reply **ret_reply) KV_MUST_CHECK;
/* The same for results of one number or none. ret_... may be NULL. */
int kv_typed_count(const struct kv_typed *typed,
                   Kv__Request__CommandCase number,
                   void *message,
                   uint64_t *ret_count) KV_MUST_CHECK;
int kv_typed_counter(const struct kv_typed *typed,
                     Kv__Request__CommandCase number,
                     void *message,
                     int64_t *ret_value) KV_MUST_CHECK;
int kv_typed_done(const struct kv_typed *typed,
                  Kv__Request__CommandCase number,
                  void *message) KV_MUST_CHECK;
/* Results about each of the n things that were asked about. */
struct kv_typed_present {
    size_t n_asked;
    bool *ret_present;
};
int kv_typed_present(const struct kv_typed *typed,
                     Kv__Request__CommandCase number,
                     void *message,
                     const struct kv_typed_present *present) KV_MUST_CHECK;
int kv_typed_elements(const struct kv_typed *typed,
                      Kv__Request__CommandCase number,
                      void *message,
                      struct kv_elements *ret_elements) KV_MUST_CHECK;

int kv_typed_no_memory(const struct kv_typed *typed);
/* The bytes are borrowed, the array is the caller's to free; NULL: no memory. */
ProtobufCBinaryData *kv_typed_list(const struct kv_bytes *list, size_t n);

#endif
