#include "raft/snapshot_format.h"

#include "common/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_CRC_OFFSET = 60 };
static const char magic[8] = {'k', 'v', 'd', 's', 'n', 'a', 'p', '1'};
static const char *const suffixes[] = {"", ".tmp", ".part"};

uint32_t kv_snapshot_head_encode(uint8_t p[KV_SNAPSHOT_HEAD_BYTES],
                                 const struct kv_snapshot_head *head)
{
    uint32_t crc;

    memcpy(p, magic, sizeof magic);
    kv_put_u32(p + 8, head->format_version);
    kv_put_u32(p + 12, head->configuration_bytes);
    kv_put_u64(p + 16, head->cluster_id);
    kv_put_u64(p + 24, head->node_id);
    kv_put_u64(p + 32, head->index);
    kv_put_u64(p + 40, head->term);
    kv_put_u64(p + 48, head->configuration_index);
    kv_put_u32(p + 56, head->configuration_crc);
    crc = kv_crc32c(p, HEAD_CRC_OFFSET, 0);
    kv_put_u32(p + HEAD_CRC_OFFSET, crc);
    return crc;
}

const char *kv_snapshot_head_decode(const uint8_t p[KV_SNAPSHOT_HEAD_BYTES],
                                    struct kv_snapshot_head *ret_head)
{
    if (memcmp(p, magic, sizeof magic) != 0) {
        return "it does not begin as a snapshot does";
    }
    if (kv_get_u32(p + HEAD_CRC_OFFSET) != kv_crc32c(p, HEAD_CRC_OFFSET, 0)) {
        return "the checksum of its head is wrong";
    }
    *ret_head = (struct kv_snapshot_head){
        .format_version = kv_get_u32(p + 8),
        .configuration_bytes = kv_get_u32(p + 12),
        .cluster_id = kv_get_u64(p + 16),
        .node_id = kv_get_u64(p + 24),
        .index = kv_get_u64(p + 32),
        .term = kv_get_u64(p + 40),
        .configuration_index = kv_get_u64(p + 48),
        .configuration_crc = kv_get_u32(p + 56),
        .crc = kv_get_u32(p + HEAD_CRC_OFFSET),
    };
    if (ret_head->format_version > KV_SNAPSHOT_FORMAT_VERSION) {
        return NULL;
    }
    if (!kv_snapshot_is_possible(ret_head->index, ret_head->term, ret_head->configuration_index) ||
        ret_head->configuration_bytes > KV_CONFIGURATION_BYTES_MAX) {
        return "its head says what cannot be";
    }
    return NULL;
}

void kv_snapshot_block_encode(uint8_t p[KV_SNAPSHOT_BLOCK_HEADER_BYTES],
                              const struct kv_snapshot_block *block,
                              uint32_t seed)
{
    kv_put_u32(p + 4, block->kind);
    kv_put_u64(p + 8, block->number);
    if (block->kind == KV_SNAPSHOT_TRAILER) {
        kv_put_u64(p + 16, block->total_raw_bytes);
        kv_put_u32(p + 24, 0);
    } else {
        kv_put_u32(p + 16, block->stored_bytes);
        kv_put_u32(p + 20, block->raw_bytes);
        kv_put_u32(p + 24, block->crc);
    }
    kv_put_u32(p + 28, 0);
    kv_put_u32(p, kv_crc32c(p + 4, KV_SNAPSHOT_BLOCK_HEADER_BYTES - 4, seed));
}

const char *kv_snapshot_block_decode(const uint8_t p[KV_SNAPSHOT_BLOCK_HEADER_BYTES],
                                     uint32_t seed,
                                     struct kv_snapshot_block *ret_block)
{
    uint32_t kind = kv_get_u32(p + 4);
    bool fits;

    if (kv_get_u32(p) != kv_crc32c(p + 4, KV_SNAPSHOT_BLOCK_HEADER_BYTES - 4, seed)) {
        return "the checksum of a block's header is wrong";
    }
    *ret_block = (struct kv_snapshot_block){
        .kind = (enum kv_snapshot_block_kind)kind,
        .number = kv_get_u64(p + 8),
    };
    if (kind == KV_SNAPSHOT_TRAILER) {
        ret_block->total_raw_bytes = kv_get_u64(p + 16);
        return kv_get_u64(p + 24) == 0 ? NULL : "its trailer says what cannot be";
    }
    ret_block->stored_bytes = kv_get_u32(p + 16);
    ret_block->raw_bytes = kv_get_u32(p + 20);
    ret_block->crc = kv_get_u32(p + 24);
    fits = kind == KV_SNAPSHOT_RAW   ? ret_block->stored_bytes == ret_block->raw_bytes
           : kind == KV_SNAPSHOT_LZ4 ? ret_block->stored_bytes < ret_block->raw_bytes
                                     : false;
    if (!fits || ret_block->stored_bytes == 0 ||
        ret_block->raw_bytes > KV_SNAPSHOT_BLOCK_BYTES_MAX || kv_get_u32(p + 28) != 0) {
        return "a block's header says what cannot be";
    }
    return NULL;
}

void kv_snapshot_name(char name[KV_SNAPSHOT_NAME_BYTES],
                      uint64_t index,
                      uint64_t term,
                      enum kv_snapshot_state state)
{
    snprintf(name,
             KV_SNAPSHOT_NAME_BYTES,
             "snap/%016" PRIx64 "-%016" PRIx64 "%s",
             index,
             term,
             suffixes[state]);
}

int kv_snapshot_name_parse(const char *name,
                           uint64_t *ret_index,
                           uint64_t *ret_term,
                           enum kv_snapshot_state *ret_state)
{
    char again[KV_SNAPSHOT_NAME_BYTES];

    if (strlen(name) < 33 || sscanf(name, "%16" SCNx64 "-%16" SCNx64, ret_index, ret_term) != 2) {
        return KV_INVALID;
    }
    for (unsigned state = 0; state < sizeof suffixes / sizeof suffixes[0]; state++) {
        kv_snapshot_name(again, *ret_index, *ret_term, (enum kv_snapshot_state)state);
        if (strcmp(again + strlen("snap/"), name) == 0) {
            *ret_state = (enum kv_snapshot_state)state;
            return 0;
        }
    }
    return KV_INVALID;
}

bool kv_snapshot_is_possible(uint64_t index, uint64_t term, uint64_t configuration_index)
{
    return index > 0 && index <= KV_SNAPSHOT_NUMBER_MAX && term > 0 &&
           term <= KV_SNAPSHOT_NUMBER_MAX && configuration_index <= index;
}
