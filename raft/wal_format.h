/* Records and segments of the log as they lie on disk (docs/internals.md, "Log"). Pure: bytes only.
 */
#ifndef KV_RAFT_WAL_FORMAT_H
#define KV_RAFT_WAL_FORMAT_H

#include "common/bytes.h"
#include "common/limits.h"

#include <stdbool.h>

/* Record: this header, the body, zeros up to the next multiple of 8. Offset and what:
 *
 *   0 CRC32C of the header behind it     16 sequence
 *   4 body size                          24 index
 *   8 type                               32 term
 *   9 zero                               40 synced_through
 *  10 entry type                         48 CRC32C of body and padding
 *  12 link: CRC of the record before     52 zero
 *
 * Both checksums begin with the segment's seed, so that bytes of another segment, or such as a
 * client made up, are none of its records. The sequence counts records and is never used again, so
 * that what a recycled segment held before is never taken for new. synced_through is the sequence
 * of the newest record known to be synced when this one was written. */
#define KV_WAL_RECORD_HEADER_BYTES 56u

enum kv_wal_record_type {
    KV_WAL_ENTRY = 1,
    KV_WAL_VOTE = 2,     /* term = term, index = voted for */
    KV_WAL_TRUNCATE = 3, /* index = first that goes */
    KV_WAL_BOUNDARY = 4, /* index, term of the snapshot that the log starts behind */
    KV_WAL_SYNCED = 5,  /* closes the window in which rot looks like a torn write; index = number of
                           the oldest segment that belongs to the log */
    KV_WAL_SEGMENT = 6, /* first of a segment; index = its first entry; seed 0 */
    KV_WAL_NEXT = 7,    /* last of a segment; index = number of the next, term = its file's size */
};

struct kv_wal_record {
    enum kv_wal_record_type type;
    uint16_t entry_type;
    uint32_t crc; /* of the header: what the next one links to */
    uint32_t link;
    uint64_t sequence;
    uint64_t index;
    uint64_t term;
    uint64_t synced_through;
    struct kv_slice body;
};

/* Bytes on disk of a record with such a body. */
static inline uint64_t kv_wal_record_size(uint64_t body_size)
{
    return (KV_WAL_RECORD_HEADER_BYTES + body_size + 7) & ~(uint64_t)7;
}

/* Writes it at p (kv_wal_record_size bytes); returns its crc. record->crc is not read. */
uint32_t kv_wal_record_encode(uint8_t *p, const struct kv_wal_record *record, uint32_t seed);
/* Reads one from the front of bytes; its size, or 0 when there is no whole and sound one. The body
 * borrows bytes. */
uint64_t
kv_wal_record_decode(struct kv_slice bytes, uint32_t seed, struct kv_wal_record *ret_record);
/* The header alone, whatever became of the body (ret_record's body is empty). */
bool kv_wal_record_peek(struct kv_slice bytes, uint32_t seed, struct kv_wal_record *ret_record);
/* What a sound header at p says of the record's size. */
uint64_t kv_wal_record_announced_size(const uint8_t p[KV_WAL_RECORD_HEADER_BYTES]);

/* Body of a KV_WAL_SEGMENT record: all that older segments may take with them when they are
 * recycled, and whose the log is. */
struct kv_wal_segment_head {
    uint32_t format_version;
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t number;
    uint64_t oldest_number; /* of the segments that belong to the log */
    uint64_t term;
    uint64_t voted_for;
    uint64_t boundary_index;
    uint64_t boundary_term;
    uint64_t segment_bytes; /* of the file */
    uint64_t log_seed;
};
#define KV_WAL_SEGMENT_HEAD_BYTES 88u
#define KV_WAL_FORMAT_VERSION 1u

void kv_wal_segment_head_encode(uint8_t p[KV_WAL_SEGMENT_HEAD_BYTES],
                                const struct kv_wal_segment_head *head);
/* KV_INVALID: not of that size. */
int kv_wal_segment_head_decode(struct kv_slice body,
                               struct kv_wal_segment_head *ret_head) KV_MUST_CHECK;
/* What the checksums of the segment's records (but the first) begin with. */
uint32_t kv_wal_segment_seed(uint64_t log_seed, uint64_t number);

/* "wal/<first index>-<number>", both in hexadecimal of 16 digits, the number from 1. */
#define KV_WAL_NAME_BYTES 64u
void kv_wal_segment_name(char name[KV_WAL_NAME_BYTES], uint64_t first_index, uint64_t number);
/* The name without "wal/"; KV_INVALID: not of a segment. */
int kv_wal_segment_name_parse(const char *name,
                              uint64_t *ret_first_index,
                              uint64_t *ret_number) KV_MUST_CHECK;

#endif
