/* Identity of a data directory: LOCK and meta (cluster id, node id, format version; written once).
 * A second process, another node's or cluster's directory, or a newer format is refused by name. */
#ifndef KV_RAFT_META_H
#define KV_RAFT_META_H

#include "common/status.h"
#include "raft/env.h"

#define KV_FORMAT_VERSION 1u

struct kv_meta {
    uint64_t cluster_id;
    uint64_t node_id;
    uint32_t format_version;
};

/* Locks the directory and checks its meta against the node that wants to start; *ret_missing when
 * there is none yet. KV_IN_USE: another process has it; KV_WRONG_NODE: of another node, cluster or
 * newer format; KV_CORRUPT; KV_IO. */
int kv_meta_open(const struct kv_disk *disk,
                 const struct kv_meta *expected,
                 bool *ret_missing,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Reads it alone, without the lock and whatever node it is of; *ret_missing when there is none. A
 * newer format has its version and ids in the same places. KV_CORRUPT; KV_IO. */
int kv_meta_read(const struct kv_disk *disk,
                 struct kv_meta *ret_meta,
                 bool *ret_missing,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Writes it, synced with the directory: once, when the log's first records are on disk. So a
 * directory with meta but without a log has lost its log. */
int kv_meta_write(const struct kv_disk *disk,
                  const struct kv_meta *meta,
                  struct kv_error *ret_error) KV_MUST_CHECK;

#endif
