#include "client/kvbench/target_etcd_wire.h"

#include <string.h>

enum { HEAD_BYTES = 5, VARINT = 0, BYTES = 2, COMPARE_TARGET_MOD = 2 };

/* ---------------------------------------------------------------- write */

static int put_varint(struct kv_buf *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7) {
        bytes[n++] = (uint8_t)(value | 0x80);
    }
    bytes[n++] = (uint8_t)value;
    return kv_buf_append(out, bytes, n);
}

static int put_number(struct kv_buf *out, unsigned field, uint64_t value)
{
    int status = put_varint(out, field << 3 | VARINT);

    return status ? status : put_varint(out, value);
}

static int put_bytes(struct kv_buf *out, unsigned field, struct kv_slice bytes)
{
    int status = put_varint(out, field << 3 | BYTES);

    status = status ? status : put_varint(out, bytes.size);
    return status ? status : kv_buf_append(out, bytes.data, bytes.size);
}

/* Wraps what was appended since `begin` into a field, whose head goes before it. */
static int wrap(struct kv_buf *out, size_t begin, unsigned field)
{
    size_t size = out->size - begin;
    size_t end = out->size;
    int status = put_varint(out, field << 3 | BYTES);
    uint8_t head[16];
    size_t head_size;

    status = status ? status : put_varint(out, size);
    if (status == 0) {
        head_size = out->size - end;
        memcpy(head, out->data + end, head_size);
        memmove(out->data + begin + head_size, out->data + begin, size);
        memcpy(out->data + begin, head, head_size);
    }
    return status;
}

static int begin_message(struct kv_buf *out)
{
    static const uint8_t head[HEAD_BYTES];

    kv_buf_clear(out);
    return kv_buf_append(out, head, sizeof head);
}

static int end_message(struct kv_buf *out, int status)
{
    size_t size = out->size - HEAD_BYTES;

    if (status == 0) {
        for (size_t i = 0; i < 4; i++) {
            out->data[1 + i] = (uint8_t)(size >> (24 - 8 * i));
        }
    }
    return status;
}

int etcd_wire_put(struct kv_buf *out, struct kv_slice key, struct kv_slice value)
{
    int status = begin_message(out);

    status = status ? status : put_bytes(out, 1, key);
    status = status ? status : put_bytes(out, 2, value);
    return end_message(out, status);
}

int etcd_wire_range(struct kv_buf *out, struct kv_slice key, bool serializable)
{
    int status = begin_message(out);

    status = status ? status : put_bytes(out, 1, key);
    if (status == 0 && serializable) {
        status = put_number(out, 7, 1);
    }
    return end_message(out, status);
}

/* TxnRequest{compare=1, success=2, failure=3}; of Compare target=2, key=3, mod_revision=6 (result
 * EQUAL is 0); of RequestOp request_range=1, request_put=2. */
int etcd_wire_swap(struct kv_buf *out,
                   struct kv_slice key,
                   int64_t mod_revision,
                   struct kv_slice value)
{
    int status = begin_message(out);
    size_t begin = out->size;

    status = status ? status : put_number(out, 2, COMPARE_TARGET_MOD);
    status = status ? status : put_bytes(out, 3, key);
    status = status ? status : put_number(out, 6, (uint64_t)mod_revision);
    status = status ? status : wrap(out, begin, 1);
    begin = out->size;
    status = status ? status : put_bytes(out, 1, key);
    status = status ? status : put_bytes(out, 2, value);
    status = status ? status : wrap(out, begin, 2);
    status = status ? status : wrap(out, begin, 2);
    begin = out->size;
    status = status ? status : put_bytes(out, 1, key);
    status = status ? status : wrap(out, begin, 1);
    status = status ? status : wrap(out, begin, 3);
    return end_message(out, status);
}

/* ---------------------------------------------------------------- read */

static uint64_t take_varint(struct kv_slice *rest)
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

/* The first field of that number: its bytes or its value. Nothing else than those two kinds is in
 * the messages that are read here. */
static bool
find(struct kv_slice rest, unsigned field, struct kv_slice *ret_bytes, uint64_t *ret_value)
{
    while (rest.size > 0) {
        uint64_t tag = take_varint(&rest);
        uint64_t value = take_varint(&rest);
        struct kv_slice bytes = {0};

        if ((tag & 7) == BYTES) {
            size_t size = value < rest.size ? (size_t)value : rest.size;

            bytes = kv_slice_of(rest.data, size);
            rest = kv_slice_of(rest.data + size, rest.size - size);
        } else if ((tag & 7) != VARINT) {
            return false;
        }
        if (tag >> 3 == field) {
            *ret_bytes = bytes;
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static struct kv_slice without_head(struct kv_slice response)
{
    size_t head = response.size < HEAD_BYTES ? response.size : HEAD_BYTES;

    return kv_slice_of(response.data + head, response.size - head);
}

/* RangeResponse{kvs=2}; of KeyValue mod_revision=3, value=5. */
static struct etcd_wire_current read_current(struct kv_slice range)
{
    struct etcd_wire_current current = {0};
    struct kv_slice pair;
    struct kv_slice none;
    uint64_t number;

    if (find(range, 2, &pair, &number)) {
        if (find(pair, 3, &none, &number)) {
            current.mod_revision = (int64_t)number;
        }
        if (!find(pair, 5, &current.value, &number)) {
            current.value = (struct kv_slice){0};
        }
    }
    return current;
}

struct etcd_wire_current etcd_wire_read_range(struct kv_slice response)
{
    return read_current(without_head(response));
}

/* TxnResponse{succeeded=2, responses=3}; of ResponseOp response_range=1. */
bool etcd_wire_read_swap(struct kv_slice response, struct etcd_wire_current *ret_current)
{
    struct kv_slice message = without_head(response);
    struct kv_slice bytes;
    struct kv_slice range;
    uint64_t number;

    if (find(message, 2, &bytes, &number) && number == 1) {
        return true;
    }
    *ret_current = (struct etcd_wire_current){0};
    if (find(message, 3, &bytes, &number) && find(bytes, 1, &range, &number)) {
        *ret_current = read_current(range);
    }
    return false;
}
