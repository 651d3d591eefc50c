#include "common/arena.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES_MIN = 16 * 1024, ALIGNMENT = 16 };

struct kv_arena_chunk {
    struct kv_arena_chunk *older;
    size_t size;
    _Alignas(ALIGNMENT) uint8_t data[];
};

void kv_arena_init(struct kv_arena *arena, size_t max_bytes)
{
    kv_arena_init_small(arena, max_bytes, CHUNK_BYTES_MIN);
}

void kv_arena_init_small(struct kv_arena *arena, size_t max_bytes, size_t chunk_bytes)
{
    *arena = (struct kv_arena){.max_bytes = max_bytes, .chunk_bytes = chunk_bytes};
}

void kv_arena_deinit(struct kv_arena *arena)
{
    struct kv_arena_chunk *chunk = arena->chunks;

    while (chunk) {
        struct kv_arena_chunk *older = chunk->older;

        free(chunk);
        chunk = older;
    }
    kv_arena_init_small(arena, arena->max_bytes, arena->chunk_bytes);
}

void kv_arena_reset(struct kv_arena *arena)
{
    struct kv_arena_chunk *first = arena->chunks;

    if (!first) {
        return;
    }
    /* The oldest one has the usual size; larger ones are not worth keeping. */
    while (first->older) {
        struct kv_arena_chunk *older = first->older;

        free(first);
        first = older;
    }
    arena->chunks = first;
    arena->next = first->data;
    arena->end = first->data + first->size;
    arena->used_bytes = first->size;
}

void *kv_arena_alloc(struct kv_arena *arena, size_t size)
{
    struct kv_arena_chunk *chunk;
    size_t chunk_size;
    uint8_t *memory;

    if (size > arena->max_bytes) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (!arena->next || (size_t)(arena->end - arena->next) < size) {
        chunk_size = size > arena->chunk_bytes ? size : arena->chunk_bytes;
        if (chunk_size > arena->max_bytes - arena->used_bytes) {
            chunk_size = size;
        }
        if (chunk_size > arena->max_bytes - arena->used_bytes) {
            return NULL;
        }
        chunk = malloc(sizeof *chunk + chunk_size);
        if (!chunk) {
            return NULL;
        }
        chunk->size = chunk_size;
        chunk->older = arena->chunks;
        arena->chunks = chunk;
        arena->used_bytes += chunk_size;
        arena->next = chunk->data;
        arena->end = chunk->data + chunk_size;
    }
    memory = arena->next;
    arena->next += size;
    return memory;
}

void *kv_arena_copy(struct kv_arena *arena, const void *data, size_t size)
{
    void *copy = kv_arena_alloc(arena, size ? size : 1);

    if (copy && size) {
        memcpy(copy, data, size);
    }
    return copy;
}

static void *protobuf_alloc(void *arena, size_t size)
{
    return kv_arena_alloc(arena, size);
}

static void protobuf_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

void kv_arena_protobuf_allocator(struct kv_arena *arena, struct ProtobufCAllocator *ret_allocator)
{
    ret_allocator->alloc = protobuf_alloc;
    ret_allocator->free = protobuf_free;
    ret_allocator->allocator_data = arena;
}
