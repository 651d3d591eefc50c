#include "server/machine/packed.h"

#include "common/assert.h"

#include <math.h>
#include <string.h>

uint64_t kv_score_bits(double score)
{
    uint64_t bits;

    memcpy(&bits, &score, sizeof bits);
    return bits;
}

double kv_score_of_bits(uint64_t bits)
{
    double score;

    memcpy(&score, &bits, sizeof score);
    return score;
}

/* IEEE 754: positive numbers ascend with their bits, negative ones descend. */
uint64_t kv_score_order(double score)
{
    uint64_t bits = kv_score_bits(score + 0.0); /* -0 becomes 0 */

    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

double kv_score_of_order(uint64_t order)
{
    return kv_score_of_bits(order >> 63 ? order & ~(UINT64_C(1) << 63) : ~order);
}

static bool has_value(enum kv_type type)
{
    return type == KV_TYPE_HASH;
}

static size_t size_bytes(size_t size)
{
    return size < 128 ? 1 : 2;
}

static uint8_t *put_sized(uint8_t *p, struct kv_slice bytes)
{
    if (bytes.size < 128) {
        *p++ = (uint8_t)bytes.size;
    } else {
        *p++ = (uint8_t)(bytes.size & 0x7f) | 0x80;
        *p++ = (uint8_t)(bytes.size >> 7);
    }
    if (bytes.size > 0) {
        memcpy(p, bytes.data, bytes.size);
    }
    return p + bytes.size;
}

/* Sized bytes at a position; returns the position behind them, 0: they are not there as a whole. */
static size_t get_sized(const struct kv_packed *packed, size_t at, struct kv_slice *ret_bytes)
{
    size_t size;

    if (at >= packed->size) {
        return 0;
    }
    size = packed->data[at++];
    if (size >= 128) {
        if (at >= packed->size) {
            return 0;
        }
        size = (size & 0x7f) | (size_t)packed->data[at++] << 7;
    }
    if (size > packed->size - at) {
        return 0;
    }
    *ret_bytes = kv_slice_of(packed->data + at, size);
    return at + size;
}

size_t kv_packed_get(const struct kv_packed *packed, size_t at, struct kv_element *ret_element)
{
    at = get_sized(packed, at, &ret_element->name);
    ret_element->value = kv_slice_of(NULL, 0);
    ret_element->score = 0;
    ret_element->expires_at_ms = 0;
    if (at > 0 && has_value(packed->type)) {
        return get_sized(packed, at, &ret_element->value);
    }
    if (at > 0 && packed->type == KV_TYPE_ZSET) {
        if (packed->size - at < 8) {
            return 0;
        }
        ret_element->score = kv_score_of_bits(kv_get_u64(packed->data + at));
        return at + 8;
    }
    return at;
}

size_t kv_packed_nth(const struct kv_packed *packed, unsigned n)
{
    size_t at = kv_packed_first();
    struct kv_element element;

    for (unsigned i = 0; i < n; i++) {
        at = kv_packed_get(packed, at, &element);
        KV_ASSERT(at > 0);
    }
    return at;
}

static size_t element_size(enum kv_type type, const struct kv_element *element)
{
    return size_bytes(element->name.size) + element->name.size +
           (has_value(type) ? size_bytes(element->value.size) + element->value.size : 0) +
           (type == KV_TYPE_ZSET ? 8 : 0);
}

/* Bytes for the memory of the packed itself must not move under the element: it lies elsewhere. */
bool kv_packed_splice(struct kv_packed *packed,
                      size_t at,
                      size_t end,
                      const struct kv_element *element)
{
    const size_t size = packed->size > 0 ? packed->size : 1;
    const size_t more = element ? element_size(packed->type, element) : 0;
    const unsigned n = kv_packed_count(packed) + (element != NULL) - (end > at);
    uint8_t *p;

    KV_ASSERT(packed->memory && at >= 1 && at <= end && end <= size);
    if (n > KV_INLINE_ELEMENTS_MAX || size - (end - at) + more > KV_INLINE_BYTES_MAX) {
        return false;
    }
    if (packed->data != packed->memory) {
        if (packed->size > 0) {
            memcpy(packed->memory, packed->data, packed->size);
        }
        packed->data = packed->memory;
    }
    p = packed->memory + at;
    memmove(p + more, packed->memory + end, size - end);
    if (element) {
        p = put_sized(p, element->name);
        if (has_value(packed->type)) {
            p = put_sized(p, element->value);
        }
        if (packed->type == KV_TYPE_ZSET) {
            kv_put_u64(p, kv_score_bits(element->score));
        }
    }
    packed->size = size - (end - at) + more;
    packed->memory[0] = (uint8_t)n;
    return true;
}

/* Does b come behind a? */
static bool ascends(enum kv_type type, const struct kv_element *a, const struct kv_element *b)
{
    if (type == KV_TYPE_LIST) {
        return true;
    }
    if (type == KV_TYPE_ZSET && kv_score_order(a->score) != kv_score_order(b->score)) {
        return kv_score_order(a->score) < kv_score_order(b->score);
    }
    return kv_slice_compare(a->name, b->name) < 0;
}

static bool is_sound_element(enum kv_type type, const struct kv_element *element)
{
    if (type == KV_TYPE_LIST) {
        return true;
    }
    if (type == KV_TYPE_ZSET &&
        (isnan(element->score) || (element->score == 0 && signbit(element->score)))) {
        return false;
    }
    return element->name.size > 0 && element->name.size <= KV_KEY_BYTES_MAX;
}

bool kv_packed_is_sound(const struct kv_packed *packed)
{
    struct kv_element before = {0};
    struct kv_element element;
    size_t at = kv_packed_first();

    if (packed->size == 0 || packed->size > KV_INLINE_BYTES_MAX || packed->data[0] == 0 ||
        packed->data[0] > KV_INLINE_ELEMENTS_MAX) {
        return false;
    }
    for (unsigned i = 0; i < packed->data[0]; i++) {
        at = kv_packed_get(packed, at, &element);
        if (at == 0 || !is_sound_element(packed->type, &element) ||
            (i > 0 && !ascends(packed->type, &before, &element))) {
            return false;
        }
        before = element;
    }
    return at == packed->size;
}
