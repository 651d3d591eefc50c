/* The few messages of etcd's rpc.proto that kvbench sends and reads, as bytes. */
#ifndef KVBENCH_TARGET_ETCD_WIRE_H
#define KVBENCH_TARGET_ETCD_WIRE_H

#include "common/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum { ETCD_WIRE_HEAD_BYTES = 5 };

/* Make *out a message (of a renewal, several) behind the five bytes that gRPC puts before it. */
int etcd_wire_put(struct kv_buf *out, struct kv_slice key, struct kv_slice value);
int etcd_wire_range(struct kv_buf *out, struct kv_slice key, bool serializable);
/* Puts the value if the key was last changed at that revision (0: is absent), else reads it. */
int etcd_wire_swap(struct kv_buf *out,
                   struct kv_slice key,
                   int64_t mod_revision,
                   struct kv_slice value);

int etcd_wire_lease_grant(struct kv_buf *out, int64_t lease, uint64_t ttl_ms);
int etcd_wire_lease_renew(struct kv_buf *out, const int64_t *leases, size_t n_leases);
/* The same, but appends. range_end "": the key alone. */
int etcd_wire_watch(struct kv_buf *out,
                    struct kv_slice key,
                    struct kv_slice range_end,
                    int64_t from_revision,
                    int64_t watch_id);

struct etcd_wire_current {
    int64_t mod_revision; /* 0: there is no such key */
    struct kv_slice value;
};
/* What a RangeResponse says of its one key. Both take the bytes with gRPC's five before them. */
struct etcd_wire_current etcd_wire_read_range(struct kv_slice response);
/* Whether a swap was done; else what is there instead. */
bool etcd_wire_read_swap(struct kv_slice response, struct etcd_wire_current *ret_current);

#endif
