/* Looks through protobuf bytes before they are unpacked: protobuf-c allocates what the sender asks
 * for, and recurses as deep as it is told. */
#include "proto/frame.h"

#include <protobuf-c/protobuf-c.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
/* Memory besides the content, as protobuf-c and an arena (which rounds to 16 and takes nothing
 * back) need it at most. */
enum {
    ELEMENT_OVERHEAD_BYTES = 32,  /* of bytes, a message, or twice of an unknown field */
    REPEATED_OVERHEAD_BYTES = 24, /* a place in an array, and the array's rounding */
    /* While it reads a message protobuf-c notes each of its fields: the first ones on the stack,
     * the rest in slabs, each twice as large as the one before. */
    NOTE_BYTES = 32,
    NOTES_ON_STACK = 16
};

struct level {
    const ProtobufCMessageDescriptor *descriptor;
    const uint8_t *end;
    size_t slab_notes;
    size_t notes_left;
};

struct scan {
    struct level levels[KV_NESTING_DEPTH_MAX];
    size_t depth;
    const uint8_t *p;
    size_t decoded_bytes;
    bool unknown;
    bool too_deep;
};

static bool read_varint(struct scan *scan, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70 && scan->p < end; shift += 7) {
        uint8_t byte = *scan->p++;

        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static unsigned expected_wire(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

/* Enters a message field, or counts and skips bytes. False: malformed. */
static bool take_bytes(struct scan *scan, const ProtobufCFieldDescriptor *field, const uint8_t *end)
{
    uint64_t length;

    if (!read_varint(scan, end, &length) || length > (uint64_t)(end - scan->p)) {
        return false;
    }
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessageDescriptor *descriptor = field->descriptor;

        if (scan->depth == KV_NESTING_DEPTH_MAX) {
            scan->too_deep = true;
            return false;
        }
        scan->levels[scan->depth++] =
            (struct level){descriptor, scan->p + length, NOTES_ON_STACK, NOTES_ON_STACK};
        scan->decoded_bytes += descriptor->sizeof_message + ELEMENT_OVERHEAD_BYTES;
        return true;
    }
    scan->p += length;
    /* A packed number of one byte becomes eight in memory. */
    scan->decoded_bytes +=
        ELEMENT_OVERHEAD_BYTES +
        (field && expected_wire(field) != WIRE_BYTES ? 8 * (size_t)length : (size_t)length);
    return true;
}

static void count_note(struct scan *scan, struct level *level)
{
    if (level->notes_left == 0) {
        level->slab_notes *= 2;
        level->notes_left = level->slab_notes;
        scan->decoded_bytes += level->slab_notes * NOTE_BYTES;
    }
    level->notes_left--;
}

/* One field of the innermost message. */
static bool take_field(struct scan *scan, struct level *level)
{
    const ProtobufCFieldDescriptor *field;
    uint64_t tag;
    uint64_t value;
    unsigned wire;
    size_t fixed;

    if (!read_varint(scan, level->end, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911) {
        return false;
    }
    wire = tag & 7;
    field = protobuf_c_message_descriptor_get_field(level->descriptor, (unsigned)(tag >> 3));
    count_note(scan, level);
    if (!field) {
        scan->unknown = true;
        /* protobuf-c keeps unknown fields. */
        scan->decoded_bytes += 2 * ELEMENT_OVERHEAD_BYTES;
    } else if (wire != expected_wire(field) &&
               !(wire == WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED)) {
        return false;
    } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        scan->decoded_bytes += REPEATED_OVERHEAD_BYTES;
    }
    switch (wire) {
    case WIRE_VARINT:
        return read_varint(scan, level->end, &value);
    case WIRE_BYTES:
        return take_bytes(scan, field, level->end);
    case WIRE_32:
    case WIRE_64:
        fixed = wire == WIRE_32 ? 4 : 8;
        if ((size_t)(level->end - scan->p) < fixed) {
            return false;
        }
        scan->p += fixed;
        return true;
    default:
        return false;
    }
}

int kv_proto_scan(const struct ProtobufCMessageDescriptor *descriptor,
                  struct kv_slice bytes,
                  size_t max_decoded_bytes,
                  bool *ret_unknown,
                  struct kv_error *ret_error)
{
    struct scan scan = {.depth = 1, .p = bytes.data, .decoded_bytes = descriptor->sizeof_message};

    scan.levels[0] =
        (struct level){descriptor, bytes.data + bytes.size, NOTES_ON_STACK, NOTES_ON_STACK};
    while (scan.depth > 0) {
        struct level *level = &scan.levels[scan.depth - 1];

        if (scan.p == level->end) {
            scan.depth--;
            continue;
        }
        if (!take_field(&scan, level)) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                scan.too_deep ? "%s nested too deep at byte %zu"
                                              : "malformed %s at byte %zu",
                                descriptor->short_name,
                                (size_t)(scan.p - bytes.data));
        }
        if (scan.decoded_bytes > max_decoded_bytes) {
            return kv_error_set(ret_error,
                                KV_TOO_LARGE,
                                "%s would take more than %zu bytes when decoded",
                                descriptor->short_name,
                                max_decoded_bytes);
        }
    }
    *ret_unknown = scan.unknown;
    return 0;
}
