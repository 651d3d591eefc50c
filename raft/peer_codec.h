/* Messages between nodes (proto/peer.proto): u32 head size, packed PeerMessage, bulk. Encodes the
 * core's messages and decodes what a peer sent; everything from the wire is checked here or by
 * guard 9. */
#ifndef KV_RAFT_PEER_CODEC_H
#define KV_RAFT_PEER_CODEC_H

#include "common/arena.h"
#include "common/bytes.h"
#include "proto/peer.pb-c.h"

#include <raft.h>

/* Appends the size and the packed head to buf; the bulk follows it on the wire. */
int kv_peer_encode(struct kv_buf *buf, const Kv__PeerMessage *message) KV_MUST_CHECK;

/* A message of the core other than AppendEntries and InstallSnapshot. */
int kv_peer_encode_raft(struct kv_buf *buf, const struct raft_message *message) KV_MUST_CHECK;

struct kv_wal_entry;
struct kv_snapshot_descriptor;
/* An InstallSnapshot of the core, with what it says of the file. */
int kv_peer_encode_install(struct kv_buf *buf,
                           const struct raft_install_snapshot *install,
                           const struct kv_snapshot_descriptor *descriptor,
                           struct kv_slice configuration) KV_MUST_CHECK;

/* An AppendEntries; the entries' data is the bulk, in order. At most KV_APPEND_ENTRIES_MAX entries.
 */
int kv_peer_encode_append(struct kv_buf *buf,
                          const struct raft_append_entries *append,
                          const struct kv_wal_entry *entries,
                          unsigned n_entries) KV_MUST_CHECK;

/* Splits and unpacks into the arena. KV_INVALID with ret_error. *ret_message borrows arena and
 * bytes. */
int kv_peer_decode(struct kv_arena *arena,
                   struct kv_slice bytes,
                   Kv__PeerMessage **ret_message,
                   struct kv_slice *ret_bulk,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* The core's form of a message. AppendEntries: the entries array is in the arena, their data in one
 * raft_malloc allocation (entries[i].batch), or none without entries. Returns 1 when it is one of
 * the core's, 0 when it is another kind, KV_INVALID, KV_NO_MEMORY. */
int kv_peer_to_raft(struct kv_arena *arena,
                    uint64_t from_id,
                    const char *from_address,
                    const Kv__PeerMessage *message,
                    struct kv_slice bulk,
                    struct raft_message *ret_message,
                    struct kv_error *ret_error) KV_MUST_CHECK;

#endif
