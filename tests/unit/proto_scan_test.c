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
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
