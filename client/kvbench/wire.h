/* Protobuf bytes, read field by field. */
#ifndef KVBENCH_WIRE_H
#define KVBENCH_WIRE_H

#include "common/bytes.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static inline uint64_t wire_varint(struct kv_slice *rest)
{
    uint64_t value = 0;

    for (unsigned shift = 0; rest->size > 0 && shift < 64; shift += 7) {
        uint8_t byte = *rest->data;

        *rest = kv_slice_of(rest->data + 1, rest->size - 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            break;
        }
    }
    return value;
}

/* One field: its number, and its bytes or its value. */
struct wire_field {
    uint64_t number;
    uint64_t value;
    struct kv_slice bytes;
};

/* False: nothing more, or no kind of field that is known here. */
static inline bool wire_next(struct kv_slice *rest, struct wire_field *ret_field)
{
    uint64_t tag;
    size_t size = 0;

    if (rest->size == 0) {
        return false;
    }
    tag = wire_varint(rest);
    *ret_field = (struct wire_field){.number = tag >> 3};
    switch (tag & 7) {
    case WIRE_VARINT:
        ret_field->value = wire_varint(rest);
        return true;
    case WIRE_BYTES:
        size = (size_t)wire_varint(rest);
        break;
    case WIRE_FIXED64:
        size = 8;
        break;
    case WIRE_FIXED32:
        size = 4;
        break;
    default:
        return false;
    }
    if (size > rest->size) {
        return false;
    }
    ret_field->bytes = kv_slice_of(rest->data, size);
    *rest = kv_slice_of(rest->data + size, rest->size - size);
    return true;
}

/* The first field of that number. */
static inline bool wire_find(struct kv_slice rest, uint64_t number, struct wire_field *ret_field)
{
    while (wire_next(&rest, ret_field)) {
        if (ret_field->number == number) {
            return true;
        }
    }
    return false;
}

#endif
