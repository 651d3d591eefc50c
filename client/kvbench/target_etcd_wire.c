#include "client/kvbench/target_etcd_wire.h"
#include "client/kvbench/wire.h"

#include <string.h>

enum { HEAD_BYTES = ETCD_WIRE_HEAD_BYTES, COMPARE_TARGET_MOD = 2 };

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
    int status = put_varint(out, field << 3 | WIRE_VARINT);

    return status ? status : put_varint(out, value);
}

static int put_bytes(struct kv_buf *out, unsigned field, struct kv_slice bytes)
{
    int status = put_varint(out, field << 3 | WIRE_BYTES);

    status = status ? status : put_varint(out, bytes.size);
    return status ? status : kv_buf_append(out, bytes.data, bytes.size);
}

/* Wraps what was appended since `begin` into a field, whose head goes before it. */
static int wrap(struct kv_buf *out, size_t begin, unsigned field)
{
    size_t size = out->size - begin;
    size_t end = out->size;
    int status = put_varint(out, field << 3 | WIRE_BYTES);
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

/* Appends the head; *ret_begin is where the message is. */
static int append_head(struct kv_buf *out, size_t *ret_begin)
{
    static const uint8_t head[HEAD_BYTES];
    int status = kv_buf_append(out, head, sizeof head);

    *ret_begin = out->size;
    return status;
}

static int end_message_at(struct kv_buf *out, size_t begin, int status)
{
    size_t size = out->size - begin;

    for (size_t i = 0; status == 0 && i < 4; i++) {
        out->data[begin - 4 + i] = (uint8_t)(size >> (24 - 8 * i));
    }
    return status;
}

static int begin_message(struct kv_buf *out)
{
    size_t begin;

    kv_buf_clear(out);
    return append_head(out, &begin);
}

static int end_message(struct kv_buf *out, int status)
{
    return end_message_at(out, HEAD_BYTES, status);
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

/* LeaseGrantRequest{TTL=1 (seconds), ID=2}. */
int etcd_wire_lease_grant(struct kv_buf *out, int64_t lease, uint64_t ttl_ms)
{
    int status = begin_message(out);

    status = status ? status : put_number(out, 1, (ttl_ms + 999) / 1000);
    status = status ? status : put_number(out, 2, (uint64_t)lease);
    return end_message(out, status);
}

/* LeaseKeepAliveRequest{ID=1}, one message for each lease. */
int etcd_wire_lease_renew(struct kv_buf *out, const int64_t *leases, size_t n_leases)
{
    int status = 0;

    kv_buf_clear(out);
    for (size_t i = 0; i < n_leases && status == 0; i++) {
        size_t begin;

        status = append_head(out, &begin);
        status = status ? status : put_number(out, 1, (uint64_t)leases[i]);
        status = end_message_at(out, begin, status);
    }
    return status;
}

/* WatchRequest{create_request=1}; of WatchCreateRequest key=1, range_end=2, start_revision=3,
 * watch_id=7. */
int etcd_wire_watch(struct kv_buf *out,
                    struct kv_slice key,
                    struct kv_slice range_end,
                    int64_t from_revision,
                    int64_t watch_id)
{
    size_t begin;
    int status = append_head(out, &begin);

    status = status ? status : put_bytes(out, 1, key);
    if (status == 0 && range_end.size > 0) {
        status = put_bytes(out, 2, range_end);
    }
    status = status ? status : put_number(out, 3, (uint64_t)from_revision);
    status = status ? status : put_number(out, 7, (uint64_t)watch_id);
    status = status ? status : wrap(out, begin, 1);
    return end_message_at(out, begin, status);
}

/* ---------------------------------------------------------------- read */

static struct kv_slice without_head(struct kv_slice response)
{
    size_t head = response.size < HEAD_BYTES ? response.size : HEAD_BYTES;

    return kv_slice_of(response.data + head, response.size - head);
}

/* RangeResponse{kvs=2}; of KeyValue mod_revision=3, value=5. */
static struct etcd_wire_current read_current(struct kv_slice range)
{
    struct etcd_wire_current current = {0};
    struct wire_field pair;
    struct wire_field field;

    if (wire_find(range, 2, &pair)) {
        while (wire_next(&pair.bytes, &field)) {
            if (field.number == 3) {
                current.mod_revision = (int64_t)field.value;
            } else if (field.number == 5) {
                current.value = field.bytes;
            }
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
    struct wire_field field;
    struct wire_field range;

    if (wire_find(message, 2, &field) && field.value == 1) {
        return true;
    }
    *ret_current = (struct etcd_wire_current){0};
    if (wire_find(message, 3, &field) && wire_find(field.bytes, 1, &range)) {
        *ret_current = read_current(range.bytes);
    }
    return false;
}
