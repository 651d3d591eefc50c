/* Hashes: fields with values under one key. A field's name has 1..4096 bytes; a value at most the
 * cluster's value-limit. Conventions (status, threads, memory, retries): kv/client.h. Every call:
 * KV_WRONG_TYPE when the key holds something else. A hash without fields does not exist. */
#ifndef KV_HASH_H
#define KV_HASH_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_field {
    struct kv_bytes name;
    struct kv_bytes value;
    uint64_t
        ttl_ms;   /* of this field alone; 0: it does not end by itself. In results: what remains */
    bool present; /* results of kv_hash_get: false when there is no such field */
};
struct kv_fields {
    size_t n_fields;
    struct kv_field *fields;
    bool more;              /* there is more than one reply holds: go on with the cursor */
    struct kv_bytes cursor; /* empty unless more */
    int64_t revision;       /* of the store when this was answered */
    void *memory;           /* libkv's own */
};
void kv_fields_free(struct kv_fields *fields);

/* Sets fields, all at one revision. if_absent: only if none of them exists, else KV_EXISTS.
 * *ret_added (may be NULL): how many are new. KV_INVALID: a field is named twice. KV_TOO_LARGE. */
int kv_hash_set(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_field *fields,
                size_t n_fields,
                bool if_absent,
                const struct kv_call_options *options,
                uint64_t *ret_added,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* The values of these fields, in the order asked; their names are those that were passed in, and
 * borrowed from there. An absent hash has none of them. KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_hash_get(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_bytes *names,
                size_t n_names,
                const struct kv_get_options *options,
                struct kv_fields *ret_fields,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* All fields, in the order of their names; none when absent. KV_TOO_LARGE: they do not fit one
 * reply, use kv_hash_scan. KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_hash_get_all(struct kv_client *client,
                    struct kv_bytes key,
                    const struct kv_get_options *options,
                    struct kv_fields *ret_fields,
                    struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_scan_options {
    struct kv_bytes cursor; /* from a former result; empty: from the start */
    uint64_t limit;         /* elements; 0: what one reply holds */
    int64_t at_revision;    /* 0: now. Pieces of one scan: pass the first piece's revision */
    struct kv_call_options call;
};
/* Some fields, in the order of their names. */
int kv_hash_scan(struct kv_client *client,
                 struct kv_bytes key,
                 const struct kv_scan_options *options,
                 struct kv_fields *ret_fields,
                 struct kv_error *ret_error) KV_MUST_CHECK;

/* *ret_deleted (may be NULL): how many of them were there. */
int kv_hash_delete(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *names,
                   size_t n_names,
                   const struct kv_call_options *options,
                   uint64_t *ret_deleted,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* ret_present: n_names long. */
int kv_hash_exists(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *names,
                   size_t n_names,
                   const struct kv_get_options *options,
                   bool *ret_present,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Fields of the hash; 0 when absent. */
int kv_hash_len(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_get_options *options,
                uint64_t *ret_count,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* Adds to a field that holds a number, 0 when absent; *ret_value (may be NULL) is it afterwards.
 * KV_OVERFLOW; KV_WRONG_TYPE also when the field holds bytes that kv_hash_set wrote. */
int kv_hash_add(struct kv_client *client,
                struct kv_bytes key,
                struct kv_bytes name,
                int64_t delta,
                const struct kv_call_options *options,
                int64_t *ret_value,
                struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
