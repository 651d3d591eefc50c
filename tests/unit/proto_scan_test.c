#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static int scan(const void *bytes, size_t size, size_t max_decoded, bool *ret_unknown)
{
    struct kv_error error = {.message = ""};
    int status = kv_proto_scan(
        &kv__request__descriptor, kv_slice_of(bytes, size), max_decoded, ret_unknown, &error);

    assert_true((status < 0) == (error.message[0] != '\0'));
    return status;
}

/* A packed Delete with many keys and a range. */
static uint8_t *make_request(size_t n_keys, size_t *ret_size)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete command = KV__DELETE__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__KeyRange *ranges[] = {&range};
    uint8_t *bytes;

    range.start = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    command.n_keys = n_keys;
    command.keys = calloc(n_keys, sizeof *command.keys);
    command.n_ranges = 1;
    command.ranges = ranges;
    request.id = 1;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    *ret_size = kv__request__get_packed_size(&request);
    bytes = malloc(*ret_size);
    assert_non_null(bytes);
    kv__request__pack(&request, bytes);
    free(command.keys);
    return bytes;
}

static void test_good(void **state)
{
    bool unknown = true;
    size_t size;
    uint8_t *bytes = make_request(10, &size);

    (void)state;
    assert_int_equal(scan(bytes, size, KV_MIB, &unknown), 0);
    assert_false(unknown);
    free(bytes);
    assert_int_equal(scan("", 0, KV_MIB, &unknown), 0);
}

/* What the scan lets pass, protobuf-c unpacks or refuses, and takes no more than was foreseen. */
static void test_every_cut_and_flip(void **state)
{
    size_t size;
    uint8_t *bytes = make_request(3, &size);

    (void)state;
    for (size_t at = 0; at < size; at++) {
        for (unsigned flip = 0; flip < 256; flip++) {
            bool unknown;

            bytes[at] ^= (uint8_t)flip;
            if (scan(bytes, flip ? size : at, KV_MIB, &unknown) == 0) {
                kv__request__free_unpacked(kv__request__unpack(NULL, flip ? size : at, bytes),
                                           NULL);
            }
            bytes[at] ^= (uint8_t)flip;
        }
    }
    free(bytes);
}

/* A get within `depth` transactions; returns the scan's status. */
static int scan_nested(unsigned depth)
{
    uint8_t bytes[256];
    uint8_t *p = bytes + sizeof bytes;
    bool unknown;

    /* From the inside out: Request{get{}}, then Request{txn{then: ...}} around it. */
    *--p = 0;
    *--p = 0x01;
    *--p = 0x8a;
    for (unsigned i = 0; i < depth; i++) {
        size_t size = (size_t)(bytes + sizeof bytes - p);

        *--p = (uint8_t)size;
        *--p = 2 << 3 | 2;
        *--p = (uint8_t)(size + 2);
        *--p = 224 << 3 >> 7;
        *--p = (224 << 3 & 0x7f) | 0x80 | 2;
    }
    return scan(p, (size_t)(bytes + sizeof bytes - p), KV_MIB, &unknown);
}

static void test_nesting(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth < 12; depth++) {
        assert_int_equal(scan_nested(depth),
                         2 + 2 * depth <= KV_NESTING_DEPTH_MAX ? 0 : KV_INVALID);
    }
}

static void test_unknown_fields(void **state)
{
    bool unknown = false;

    (void)state;
    assert_int_equal(scan("\xf8\xff\xff\xff\x0f\x01", 6, KV_MIB, &unknown), 0);
    assert_true(unknown);
    unknown = false;
    /* within Delete: field 15 */
    assert_int_equal(scan("\x82\x02\x02\x78\x01", 5, KV_MIB, &unknown), 0);
    assert_true(unknown);
}

static void test_many_small_elements_are_too_large(void **state)
{
    bool unknown;
    size_t size;
    uint8_t *bytes = make_request(100000, &size);

    (void)state;
    /* Two bytes each on the wire, many times that in memory. */
    assert_true(size < 210000);
    assert_int_equal(scan(bytes, size, KV_MIB, &unknown), KV_TOO_LARGE);
    assert_int_equal(scan(bytes, size, 64 * KV_MIB, &unknown), 0);
    free(bytes);
}

static void *counted_alloc(void *total, size_t size)
{
    *(size_t *)total += (size + 15) & ~(size_t)15;
    return malloc(size ? size : 1);
}

static void counted_free(void *total, void *memory)
{
    (void)total;
    free(memory);
}

/* As an arena counts: rounded, and nothing comes back. */
static void check_foreseen(const uint8_t *bytes, size_t size)
{
    size_t total = 0;
    ProtobufCAllocator allocator = {counted_alloc, counted_free, &total};
    Kv__Request *request = kv__request__unpack(&allocator, size, bytes);
    bool unknown;

    assert_non_null(request);
    kv__request__free_unpacked(request, &allocator);
    assert_int_equal(scan(bytes, size, total - 17, &unknown), KV_TOO_LARGE);
}

/* Also what protobuf-c needs for itself while it unpacks: for each field, known or not. */
static void test_memory_is_foreseen(void **state)
{
    static const char *const fields[] = {"\x10\x01", "\x78\x01", "\x7a\x01z", "\x22\x02\x08\x01"};
    size_t size;
    uint8_t *bytes = make_request(1000, &size);

    (void)state;
    check_foreseen(bytes, size);
    free(bytes);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        uint8_t repeated[4 * 100];

        size = 0;
        for (size_t n = 1; n <= 100; n++) {
            memcpy(repeated + size, fields[i], strlen(fields[i]));
            size += strlen(fields[i]);
            check_foreseen(repeated, size);
        }
    }
}

/* As many small keys as a server puts into one reply (command_range.c counts 96 bytes for each). */
static void test_the_longest_range_passes(void **state)
{
    enum { N = KV_REPLY_FRAME_BYTES_MAX / 100 };
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__RangeResult range = KV__RANGE_RESULT__INIT;
    Kv__KeyValue kv = KV__KEY_VALUE__INIT;
    bool unknown;
    uint8_t *bytes;
    size_t size;

    (void)state;
    kv.key = (ProtobufCBinaryData){7, (uint8_t *)"k000001"};
    kv.value = (ProtobufCBinaryData){1, (uint8_t *)"v"};
    kv.type = KV__TYPE__TYPE_STRING;
    kv.create_revision = kv.mod_revision = kv.version = 1;
    range.n_kvs = N;
    range.kvs = calloc(N, sizeof *range.kvs);
    assert_non_null(range.kvs);
    for (size_t i = 0; i < N; i++) {
        range.kvs[i] = &kv;
    }
    reply.result_case = KV__REPLY__RESULT_RANGE;
    reply.range = &range;
    size = kv__reply__get_packed_size(&reply);
    bytes = malloc(size);
    assert_non_null(bytes);
    kv__reply__pack(&reply, bytes);
    assert_int_equal(
        kv_proto_scan(
            &kv__reply__descriptor, kv_slice_of(bytes, size), KV_DECODED_BYTES_MAX, &unknown, NULL),
        0);
    free(bytes);
    free(range.kvs);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"\x00\x01", 2},                                          /* field 0 */
        {"\x08", 1},                                              /* tag without value */
        {"\x0b", 1},                                              /* a group */
        {"\x0a\x01x", 3},                                         /* id as bytes */
        {"\x82\x02\x05xx", 5},                                    /* longer than there is */
        {"\x82\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* much longer */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* endless varint */
    };
    bool unknown;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(scan(cases[i].bytes, cases[i].size, KV_MIB, &unknown), KV_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_every_cut_and_flip),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_many_small_elements_are_too_large),
        cmocka_unit_test(test_memory_is_foreseen),
        cmocka_unit_test(test_the_longest_range_passes),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
