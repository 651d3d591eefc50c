#include "raft/wal_format.h"

#include "common/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint32_t kv_wal_record_encode(uint8_t *p, const struct kv_wal_record *record)
{
    uint64_t size = kv_wal_record_size(record->body.size);
    uint32_t crc;

    kv_put_u32(p + 4, (uint32_t)record->body.size);
    p[8] = (uint8_t)record->type;
    p[9] = 0;
    kv_put_u16(p + 10, record->entry_type);
    kv_put_u32(p + 12, record->link);
    kv_put_u64(p + 16, record->sequence);
    kv_put_u64(p + 24, record->index);
    kv_put_u64(p + 32, record->term);
    kv_put_u64(p + 40, record->synced_through);
    if (record->body.size > 0) {
        memcpy(p + KV_WAL_RECORD_HEADER_BYTES, record->body.data, record->body.size);
    }
    memset(p + KV_WAL_RECORD_HEADER_BYTES + record->body.size,
           0,
           (size_t)(size - KV_WAL_RECORD_HEADER_BYTES - record->body.size));
    crc = kv_crc32c(p + 4, (size_t)size - 4, 0);
    kv_put_u32(p, crc);
    return crc;
}

uint64_t kv_wal_record_decode(struct kv_slice bytes, struct kv_wal_record *ret_record)
{
    uint64_t body_size;
    uint64_t size;
    uint8_t type;

    if (bytes.size < KV_WAL_RECORD_HEADER_BYTES) {
        return 0;
    }
    body_size = kv_get_u32(bytes.data + 4);
    size = kv_wal_record_size((size_t)body_size);
    type = bytes.data[8];
    if (body_size > KV_ENTRY_BYTES_MAX || size > bytes.size || type < KV_WAL_ENTRY ||
        type > KV_WAL_NEXT ||
        kv_get_u32(bytes.data) != kv_crc32c(bytes.data + 4, (size_t)size - 4, 0)) {
        return 0;
    }
    *ret_record = (struct kv_wal_record){
        .type = (enum kv_wal_record_type)type,
        .entry_type = kv_get_u16(bytes.data + 10),
        .crc = kv_get_u32(bytes.data),
        .link = kv_get_u32(bytes.data + 12),
        .sequence = kv_get_u64(bytes.data + 16),
        .index = kv_get_u64(bytes.data + 24),
        .term = kv_get_u64(bytes.data + 32),
        .synced_through = kv_get_u64(bytes.data + 40),
        .body = {bytes.data + KV_WAL_RECORD_HEADER_BYTES, (size_t)body_size},
    };
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
    kv_put_u64(p + 32, head->term);
    kv_put_u64(p + 40, head->voted_for);
    kv_put_u64(p + 48, head->boundary_index);
    kv_put_u64(p + 56, head->boundary_term);
    kv_put_u64(p + 64, head->segment_bytes);
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
        .term = kv_get_u64(body.data + 32),
        .voted_for = kv_get_u64(body.data + 40),
        .boundary_index = kv_get_u64(body.data + 48),
        .boundary_term = kv_get_u64(body.data + 56),
        .segment_bytes = kv_get_u64(body.data + 64),
    };
    return 0;
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
    return strcmp(again + 4, name) == 0 ? 0 : KV_INVALID;
}
