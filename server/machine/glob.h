/* Patterns of topics' names: * any bytes, ? one byte, [a-z] [!a-z] one of a set, \ takes the next
 * byte as it is, within a set too.
 *
 * All places of the pattern that the text may have come to are followed at once, as bits
 * (Baeza-Yates and Gonnet, "A new approach to text searching"; a star is a place that may stay), so
 * that a match takes time in proportion to the text, whatever the pattern. */
#ifndef KV_MACHINE_GLOB_H
#define KV_MACHINE_GLOB_H

#include "common/bytes.h"
#include "common/limits.h"

enum { KV_GLOB_WORDS = (KV_GLOB_PLACES_MAX + 64) / 64 };

/* 8 KiB: one for all that use the same pattern. */
struct kv_glob {
    size_t prefix_size; /* bytes that the text must begin with */
    size_t n_places;    /* what the rest has to pass: single bytes, ? and sets */
    size_t n_words;
    uint8_t prefix[KV_GLOB_BYTES_MAX];
    uint64_t stays[KV_GLOB_WORDS];       /* a star stands before this place */
    uint64_t passes[256][KV_GLOB_WORDS]; /* the byte leads from this place to the next */
};

/* KV_INVALID: too long, too many places, or malformed; the message says where. ret_glob may be
 * NULL, to check only. */
int kv_glob_compile(struct kv_slice pattern,
                    struct kv_glob *ret_glob,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* Adds to *work how many steps it took: a nanosecond each, about. */
bool kv_glob_match(const struct kv_glob *glob, struct kv_slice text, uint64_t *work);
static inline bool kv_glob_matches(const struct kv_glob *glob, struct kv_slice text)
{
    uint64_t work = 0;

    return kv_glob_match(glob, text, &work);
}

#endif
