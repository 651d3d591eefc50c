/* Snapshots as they lie on disk (docs/internals.md, "Snapshot files"). Pure: bytes only. */
#ifndef KV_RAFT_SNAPSHOT_FORMAT_H
#define KV_RAFT_SNAPSHOT_FORMAT_H

#include "common/bytes.h"
#include "common/limits.h"

#include <stdbool.h>

/* Head, then the configuration's bytes. Offset and what:
 *
 *   0 "kvdsnap1"                         32 index
 *   8 format version                     40 term
 *  12 size of the configuration          48 index of the configuration
 *  16 cluster                            56 CRC32C of the configuration's bytes
 *  24 node that made it                  60 CRC32C of the 60 bytes before
 *
 * Magic, version and the last checksum stand there in every version, so that a newer one is told
 * from a damaged one. The last checksum begins those of the blocks: a block of another snapshot is
 * none of this one. */
#define KV_SNAPSHOT_HEAD_BYTES 64u
#define KV_SNAPSHOT_FORMAT_VERSION 1u

struct kv_snapshot_head {
    uint32_t format_version;
    uint32_t configuration_bytes;
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t index;
    uint64_t term;
    uint64_t configuration_index;
    uint32_t configuration_crc;
    uint32_t crc; /* not read by encode */
};

/* Returns the crc. */
uint32_t kv_snapshot_head_encode(uint8_t p[KV_SNAPSHOT_HEAD_BYTES],
                                 const struct kv_snapshot_head *head);
/* NULL, or what is wrong. A newer version is decoded as far as the version: the rest may be
 * different there. */
const char *kv_snapshot_head_decode(const uint8_t p[KV_SNAPSHOT_HEAD_BYTES],
                                    struct kv_snapshot_head *ret_head);

/* A block's header, then its bytes; the last is the trailer, then the hash:
 *
 *                block                            trailer
 *   0 CRC32C of the 28 bytes behind it         the same
 *   4 kind: 1 as it is, 2 lz4                  3
 *   8 number, from 1                           number of blocks
 *  16 bytes in the file, 20 bytes when raw     16 raw bytes of all blocks
 *  24 CRC32C of the bytes in the file          zero
 *  28 zero                                     zero
 *  32 the bytes                                XXH3 (64 bits) of all bytes before it */
#define KV_SNAPSHOT_BLOCK_HEADER_BYTES 32u
#define KV_SNAPSHOT_TRAILER_BYTES (KV_SNAPSHOT_BLOCK_HEADER_BYTES + 8u)

enum kv_snapshot_block_kind {
    KV_SNAPSHOT_RAW = 1,
    KV_SNAPSHOT_LZ4 = 2,
    KV_SNAPSHOT_TRAILER = 3,
};

struct kv_snapshot_block {
    enum kv_snapshot_block_kind kind;
    uint64_t number; /* trailer: of blocks */
    uint32_t stored_bytes;
    uint32_t raw_bytes;
    uint32_t crc;
    uint64_t total_raw_bytes; /* trailer */
};

void kv_snapshot_block_encode(uint8_t p[KV_SNAPSHOT_BLOCK_HEADER_BYTES],
                              const struct kv_snapshot_block *block,
                              uint32_t seed);
/* NULL, or what is wrong; the sizes of a sound one are within KV_SNAPSHOT_BLOCK_BYTES_MAX. */
const char *kv_snapshot_block_decode(const uint8_t p[KV_SNAPSHOT_BLOCK_HEADER_BYTES],
                                     uint32_t seed,
                                     struct kv_snapshot_block *ret_block);

/* "snap/<index>-<term>", both in hexadecimal of 16 digits; ".tmp" behind it while it is written,
 * ".part" while it is received. */
#define KV_SNAPSHOT_NAME_BYTES 64u
enum kv_snapshot_state {
    KV_SNAPSHOT_COMPLETE,
    KV_SNAPSHOT_UNFINISHED,
    KV_SNAPSHOT_PARTIAL,
};
void kv_snapshot_name(char name[KV_SNAPSHOT_NAME_BYTES],
                      uint64_t index,
                      uint64_t term,
                      enum kv_snapshot_state state);
/* The name without "snap/"; KV_INVALID: not of a snapshot. */
int kv_snapshot_name_parse(const char *name,
                           uint64_t *ret_index,
                           uint64_t *ret_term,
                           enum kv_snapshot_state *ret_state) KV_MUST_CHECK;

/* No index or term comes near it: sums do not overflow. */
#define KV_SNAPSHOT_NUMBER_MAX (UINT64_C(1) << 62)
/* Can there be a snapshot of these? */
bool kv_snapshot_is_possible(uint64_t index, uint64_t term, uint64_t configuration_index);

#endif
