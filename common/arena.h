/* Arena: memory for one batch of decoding, freed as a whole. Not thread safe; may move between
 * threads. Also serves protobuf-c as allocator (its free does nothing). */
#ifndef KV_COMMON_ARENA_H
#define KV_COMMON_ARENA_H

#include "common/status.h"

#include <stddef.h>
#include <stdint.h>

struct kv_arena_chunk;

struct kv_arena {
    struct kv_arena_chunk *chunks; /* newest first */
    uint8_t *next;
    uint8_t *end;
    size_t used_bytes; /* all chunks together */
    size_t max_bytes;
    size_t chunk_bytes; /* a chunk has no less */
};

void kv_arena_init(struct kv_arena *arena, size_t max_bytes);
/* For little that stays long. */
void kv_arena_init_small(struct kv_arena *arena, size_t max_bytes, size_t chunk_bytes);
void kv_arena_deinit(struct kv_arena *arena);
/* Forgets everything, keeps one chunk. */
void kv_arena_reset(struct kv_arena *arena);
/* 16-byte aligned; NULL when over max_bytes or without memory. */
void *kv_arena_alloc(struct kv_arena *arena, size_t size) KV_MUST_CHECK;
void *kv_arena_copy(struct kv_arena *arena, const void *data, size_t size) KV_MUST_CHECK;

/* An allocator for protobuf-c's unpack; *ret_allocator borrows the arena. */
struct ProtobufCAllocator;
void kv_arena_protobuf_allocator(struct kv_arena *arena, struct ProtobufCAllocator *ret_allocator);

#endif
