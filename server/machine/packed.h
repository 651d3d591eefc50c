/* The inline form of a small collection: its elements behind each other in the value of the key's
 * record. A byte with their number, then each of them as the type has it:
 *
 *   hash   name size, name, value size, value; by ascending name
 *   set    member size, member; ascending
 *   zset   member size, member, 8 bytes of score; by (score, member)
 *   list   size, bytes; in order
 *
 * A size is one byte below 128, else two: the low seven bits with bit 7 set, then the rest. */
#ifndef KV_MACHINE_PACKED_H
#define KV_MACHINE_PACKED_H

#include "common/limits.h"
#include "server/machine/record.h"

#include <stdbool.h>
#include <stddef.h>

struct kv_element {
    struct kv_slice name;  /* field, member, or a list's element */
    struct kv_slice value; /* of a hash field */
    double score;          /* of a sorted set's member */
    int64_t expires_at_ms; /* of a hash field in the large form; 0: never */
};

struct kv_packed {
    enum kv_type type;
    const uint8_t *data; /* borrows the record's value, or `memory` once it was edited */
    size_t size;         /* 0: nothing there yet */
    uint8_t *memory;     /* KV_INLINE_BYTES_MAX of them, borrowed; NULL: not edited */
};

/* Number of elements. */
static inline unsigned kv_packed_count(const struct kv_packed *packed)
{
    return packed->size > 0 ? packed->data[0] : 0;
}

/* Position of the first element. */
static inline size_t kv_packed_first(void)
{
    return 1;
}

/* The element at a position; returns the position behind it, 0: there is none. */
size_t kv_packed_get(const struct kv_packed *packed, size_t at, struct kv_element *ret_element);
/* Position of the n-th element, or behind the last; there are at least n. */
size_t kv_packed_nth(const struct kv_packed *packed, unsigned n);
/* Replaces the bytes [at, end) by the element, NULL: by nothing; at == end inserts. The packed must
 * have memory. False: it would be too large for the inline form, and nothing was done. */
bool kv_packed_splice(struct kv_packed *packed,
                      size_t at,
                      size_t end,
                      const struct kv_element *element) KV_MUST_CHECK;
/* Bytes that no machine made are refused: sizes, counts and order as the type wants them. */
bool kv_packed_is_sound(const struct kv_packed *packed);

/* A number whose order as big endian bytes is that of the scores; the score must not be NaN. */
uint64_t kv_score_order(double score);
double kv_score_of_order(uint64_t order);
uint64_t kv_score_bits(double score);
double kv_score_of_bits(uint64_t bits);

#endif
