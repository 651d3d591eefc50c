/* The content of a log entry (log.proto, Entry), written and read without copying the requests. */
#ifndef KV_PROTO_ENTRY_H
#define KV_PROTO_ENTRY_H

#include "common/bytes.h"
#include "common/status.h"

/* Bytes that an entry of these requests takes at most. */
size_t kv_entry_size_max(size_t requests_bytes, size_t n_requests);
/* Writes the head; returns its size (at most 32). */
size_t kv_entry_write_head(uint8_t *p, uint32_t machine_version, int64_t cluster_time_ms);
/* Writes one request behind; returns the size written (at most 8 + request.size). */
size_t kv_entry_write_request(uint8_t *p, struct kv_slice request);

struct kv_entry_reader {
    uint32_t machine_version;
    int64_t cluster_time_ms;
    struct kv_slice rest;
};
/* KV_INVALID when malformed. */
int kv_entry_read_head(struct kv_slice entry, struct kv_entry_reader *ret_reader) KV_MUST_CHECK;
/* 1: *ret_request is the next; 0: the end; KV_INVALID. */
int kv_entry_read_request(struct kv_entry_reader *reader,
                          struct kv_slice *ret_request) KV_MUST_CHECK;

#endif
