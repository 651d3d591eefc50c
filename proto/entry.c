#include "proto/entry.h"

#include <string.h>

/* Tags of log.proto's Entry: field number << 3 | wire type. */
enum { TAG_MACHINE_VERSION = 1 << 3 | 0, TAG_CLUSTER_TIME = 2 << 3 | 0, TAG_REQUEST = 3 << 3 | 2 };
enum {
    VARINT_BYTES_MAX = 10,
    HEAD_BYTES_MAX = 2 + 2 * VARINT_BYTES_MAX,
    REQUEST_HEAD_BYTES_MAX = 1 + 5
};

static size_t write_varint(uint8_t *p, uint64_t value)
{
    size_t size = 0;

    while (value >= 0x80) {
        p[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    p[size++] = (uint8_t)value;
    return size;
}

/* Size of the varint, or 0 when malformed. */
static size_t read_varint(struct kv_slice bytes, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.size && i < VARINT_BYTES_MAX; i++) {
        value |= (uint64_t)(bytes.data[i] & 0x7f) << (7 * i);
        if (!(bytes.data[i] & 0x80)) {
            *ret_value = value;
            return i + 1;
        }
    }
    return 0;
}

size_t kv_entry_size_max(size_t requests_bytes, size_t n_requests)
{
    return HEAD_BYTES_MAX + requests_bytes + n_requests * REQUEST_HEAD_BYTES_MAX;
}

size_t kv_entry_write_head(uint8_t *p, uint32_t machine_version, int64_t cluster_time_ms)
{
    size_t size = 0;

    /* As proto3 packs: zero is left out. */
    if (machine_version != 0) {
        p[size++] = TAG_MACHINE_VERSION;
        size += write_varint(p + size, machine_version);
    }
    if (cluster_time_ms != 0) {
        p[size++] = TAG_CLUSTER_TIME;
        size += write_varint(p + size, (uint64_t)cluster_time_ms);
    }
    return size;
}

size_t kv_entry_write_request(uint8_t *p, struct kv_slice request)
{
    size_t size = 0;

    p[size++] = TAG_REQUEST;
    size += write_varint(p + size, request.size);
    if (request.size > 0) {
        memcpy(p + size, request.data, request.size);
    }
    return size + request.size;
}

static void skip(struct kv_slice *bytes, size_t size)
{
    bytes->data += size;
    bytes->size -= size;
}

int kv_entry_read_head(struct kv_slice entry, struct kv_entry_reader *ret_reader)
{
    struct kv_entry_reader reader = {.rest = entry};

    while (reader.rest.size > 0 && reader.rest.data[0] != TAG_REQUEST) {
        uint8_t tag = reader.rest.data[0];
        uint64_t value;
        size_t size = read_varint(kv_slice_of(reader.rest.data + 1, reader.rest.size - 1), &value);

        if (size == 0) {
            return KV_INVALID;
        }
        if (tag == TAG_MACHINE_VERSION && value <= UINT32_MAX) {
            reader.machine_version = (uint32_t)value;
        } else if (tag == TAG_CLUSTER_TIME) {
            reader.cluster_time_ms = (int64_t)value;
        } else {
            return KV_INVALID;
        }
        skip(&reader.rest, 1 + size);
    }
    *ret_reader = reader;
    return 0;
}

int kv_entry_read_request(struct kv_entry_reader *reader, struct kv_slice *ret_request)
{
    uint64_t length;
    size_t size;

    if (reader->rest.size == 0) {
        return 0;
    }
    if (reader->rest.data[0] != TAG_REQUEST) {
        return KV_INVALID;
    }
    size = read_varint(kv_slice_of(reader->rest.data + 1, reader->rest.size - 1), &length);
    if (size == 0 || length > reader->rest.size - 1 - size) {
        return KV_INVALID;
    }
    skip(&reader->rest, 1 + size);
    *ret_request = kv_slice_of(reader->rest.data, (size_t)length);
    skip(&reader->rest, (size_t)length);
    return 1;
}
