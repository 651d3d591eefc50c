#include "raft/wal_format.h"

#include "common/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BODY_CRC_OFFSET = 48 };

uint32_t kv_wal_record_encode(uint8_t *p, const struct kv_wal_record *record, uint32_t seed)
{
    size_t padded = (size_t)kv_wal_record_size(record->body.size) - KV_WAL_RECORD_HEADER_BYTES;
    uint8_t *body = p + KV_WAL_RECORD_HEADER_BYTES;
    uint32_t crc;

    if (record->body.size > 0) {
        memmove(body, record->body.data, record->body.size); /* it may be there already */
    }
    memset(body + record->body.size, 0, padded - record->body.size);
    kv_put_u32(p + 4, (uint32_t)record->body.size);
    p[8] = (uint8_t)record->type;
    p[9] = 0;
    kv_put_u16(p + 10, record->entry_type);
    kv_put_u32(p + 12, record->link);
    kv_put_u64(p + 16, record->sequence);
    kv_put_u64(p + 24, record->index);
    kv_put_u64(p + 32, record->term);
    kv_put_u64(p + 40, record->synced_through);
    kv_put_u32(p + BODY_CRC_OFFSET, kv_crc32c(body, padded, seed));
    kv_put_u32(p + 52, 0);
    crc = kv_crc32c(p + 4, KV_WAL_RECORD_HEADER_BYTES - 4, seed);
    kv_put_u32(p, crc);
    return crc;
}

uint64_t kv_wal_record_announced_size(const uint8_t p[KV_WAL_RECORD_HEADER_BYTES])
{
    return kv_wal_record_size(kv_get_u32(p + 4));
}

bool kv_wal_record_peek(struct kv_slice bytes, uint32_t seed, struct kv_wal_record *ret_record)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < KV_WAL_RECORD_HEADER_BYTES || p[8] < KV_WAL_ENTRY || p[8] > KV_WAL_NEXT ||
        kv_get_u32(p + 4) > KV_ENTRY_BYTES_MAX ||
        kv_get_u32(p) != kv_crc32c(p + 4, KV_WAL_RECORD_HEADER_BYTES - 4, seed)) {
        return false;
    }
    *ret_record = (struct kv_wal_record){
        .type = (enum kv_wal_record_type)p[8],
        .entry_type = kv_get_u16(p + 10),
        .crc = kv_get_u32(p),
        .link = kv_get_u32(p + 12),
        .sequence = kv_get_u64(p + 16),
        .index = kv_get_u64(p + 24),
        .term = kv_get_u64(p + 32),
        .synced_through = kv_get_u64(p + 40),
    };
    return true;
}

uint64_t
kv_wal_record_decode(struct kv_slice bytes, uint32_t seed, struct kv_wal_record *ret_record)
{
    const uint8_t *body = bytes.data + KV_WAL_RECORD_HEADER_BYTES;
    uint64_t size;

    if (!kv_wal_record_peek(bytes, seed, ret_record)) {
        return 0;
    }
    size = kv_wal_record_announced_size(bytes.data);
    if (size > bytes.size || kv_get_u32(bytes.data + BODY_CRC_OFFSET) !=
                                 kv_crc32c(body, (size_t)size - KV_WAL_RECORD_HEADER_BYTES, seed)) {
        return 0;
    }
    ret_record->body = kv_slice_of(body, kv_get_u32(bytes.data + 4));
    return size;
}

void kv_wal_segment_head_encode(uint8_t p[KV_WAL_SEGMENT_HEAD_BYTES],
                                const struct kv_wal_segment_head *head)
{
    kv_put_u32(p, head->format_version);
    kv_put_u32(p + 4, 0);
    kv_put_u64(p + 8, head->cluster_id);
    kv_put_u64(p + 16, head->node_id);
    kv_put_u64(p + 24, head->number);
    kv_put_u64(p + 32, head->oldest_number);
    kv_put_u64(p + 40, head->term);
    kv_put_u64(p + 48, head->voted_for);
    kv_put_u64(p + 56, head->boundary_index);
    kv_put_u64(p + 64, head->boundary_term);
    kv_put_u64(p + 72, head->segment_bytes);
    kv_put_u64(p + 80, head->log_seed);
}

int kv_wal_segment_head_decode(struct kv_slice body, struct kv_wal_segment_head *ret_head)
{
    if (body.size != KV_WAL_SEGMENT_HEAD_BYTES) {
        return KV_INVALID;
    }
    *ret_head = (struct kv_wal_segment_head){
        .format_version = kv_get_u32(body.data),
        .cluster_id = kv_get_u64(body.data + 8),
        .node_id = kv_get_u64(body.data + 16),
        .number = kv_get_u64(body.data + 24),
        .oldest_number = kv_get_u64(body.data + 32),
        .term = kv_get_u64(body.data + 40),
        .voted_for = kv_get_u64(body.data + 48),
        .boundary_index = kv_get_u64(body.data + 56),
        .boundary_term = kv_get_u64(body.data + 64),
        .segment_bytes = kv_get_u64(body.data + 72),
        .log_seed = kv_get_u64(body.data + 80),
    };
    return 0;
}

uint32_t kv_wal_segment_seed(uint64_t log_seed, uint64_t number)
{
    uint8_t bytes[16];

    kv_put_u64(bytes, log_seed);
    kv_put_u64(bytes + 8, number);
    return kv_crc32c(bytes, sizeof bytes, 0);
}

void kv_wal_segment_name(char name[KV_WAL_NAME_BYTES], uint64_t first_index, uint64_t number)
{
    snprintf(name, KV_WAL_NAME_BYTES, "wal/%016" PRIx64 "-%016" PRIx64, first_index, number);
}

int kv_wal_segment_name_parse(const char *name, uint64_t *ret_first_index, uint64_t *ret_number)
{
    char again[KV_WAL_NAME_BYTES];

    if (strlen(name) != 33 ||
        sscanf(name, "%16" SCNx64 "-%16" SCNx64, ret_first_index, ret_number) != 2) {
        return KV_INVALID;
    }
    kv_wal_segment_name(again, *ret_first_index, *ret_number);
    return strcmp(again + 4, name) == 0 && *ret_number > 0 ? 0 : KV_INVALID;
}
