#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct kv_slice of(const char *bytes, size_t size)
{
    return kv_slice_of(bytes, size);
}

static void test_header(void **state)
{
    uint8_t header[KV_FRAME_HEADER_BYTES];

    (void)state;
    kv_frame_write_header(header, KV_FRAME_GOODBYE, KV_FRAME_FLAG_LZ4, 0x01020304);
    assert_memory_equal(header, "\x04\x03\x02\x01\x06\x01\0\0", sizeof header);
}

static void test_append_and_peek(void **state)
{
    Kv__Cancel cancel = KV__CANCEL__INIT;
    struct kv_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    cancel.id = 300;
    assert_int_equal(kv_frame_append(&buf, KV_FRAME_CANCEL, &cancel.base, true), 0);
    assert_int_equal(buf.size, KV_FRAME_HEADER_BYTES + 3);
    for (size_t size = 0; size < buf.size; size++) {
        assert_int_equal(kv_frame_peek(kv_slice_of(buf.data, size), 3, &frame, &error), 0);
    }
    assert_int_equal(kv_frame_peek(kv_slice_of(buf.data, buf.size), 3, &frame, &error), 11);
    assert_int_equal(frame.kind, KV_FRAME_CANCEL);
    assert_int_equal(frame.flags, 0);
    assert_int_equal(frame.body.size, 3);
    assert_ptr_equal(frame.body.data, buf.data + KV_FRAME_HEADER_BYTES);
    assert_int_equal(kv_frame_peek(kv_slice_of(buf.data, buf.size), 2, &frame, &error),
                     KV_TOO_LARGE);
    kv_buf_deinit(&buf);
}

/* Lengths whose bytes read like TLS, RESP and others: they are frames all the same. */
static void test_every_length_is_a_frame(void **state)
{
    struct kv_frame frame;
    struct kv_error error;

    (void)state;
    for (size_t length = 0; length <= KV_REQUEST_BYTES_MAX; length += length < 70000 ? 1 : 997) {
        uint8_t header[KV_FRAME_HEADER_BYTES];

        kv_frame_write_header(header, KV_FRAME_REQUEST, 0, length);
        assert_int_equal(
            kv_frame_peek(kv_slice_of(header, sizeof header), KV_REQUEST_BYTES_MAX, &frame, &error),
            length == 0 ? (int)KV_FRAME_HEADER_BYTES : 0);
    }
}

static void expect_error(struct kv_slice input, int status, const char *text)
{
    struct kv_frame frame;
    struct kv_error error;

    assert_int_equal(kv_frame_peek(input, KV_REQUEST_BYTES_MAX, &frame, &error), status);
    if (!strstr(error.message, text)) {
        fail_msg("\"%s\" is not in \"%s\"", text, error.message);
    }
}

static void test_strangers(void **state)
{
    (void)state;
    expect_error(of("GET / HTTP/1.1\r\n", 16), KV_INVALID, "HTTP");
    expect_error(of("POST /x HTTP/1.1", 16), KV_INVALID, "HTTP");
    expect_error(of("PRI * HTTP/2.0\r\n", 16), KV_INVALID, "HTTP/2");
    expect_error(of("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", 10), KV_INVALID, "TLS");
    expect_error(of("*1\r\n$4\r\nPING\r\n", 14), KV_INVALID, "RESP");
    expect_error(of("*12\r\n$4\r\nPING\r\n", 15), KV_INVALID, "RESP");
    expect_error(of("PING\r\nPING\r\n", 12), KV_INVALID, "RESP");
    expect_error(of("SSH-2.0-OpenSSH", 15), KV_INVALID, "SSH");
}

static void test_wrong_headers(void **state)
{
    (void)state;
    expect_error(of("\0\0\0\0\0\0\0\0", 8), KV_INVALID, "kind 0");
    expect_error(of("\0\0\0\0\x09\0\0\0", 8), KV_INVALID, "kind 9");
    expect_error(of("\0\0\0\0\x01\x02\0\0", 8), KV_INVALID, "flags 2");
    expect_error(of("\0\0\0\0\x01\0\0\x01", 8), KV_INVALID, "zero field 256");
    expect_error(of("\xff\xff\xff\xff\x01\0\0\0", 8), KV_TOO_LARGE, "4294967295");
}

/* Packs a put of this value with lz4 allowed. */
static void append_put(struct kv_buf *buf, uint8_t *value, size_t size)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;

    put.value = (ProtobufCBinaryData){size, value};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    assert_int_equal(kv_frame_append(buf, KV_FRAME_REQUEST, &request.base, true), 0);
}

static void test_compression(void **state)
{
    static uint8_t value[4000];
    struct kv_frame frame;
    struct kv_error error;
    struct kv_buf buf;
    Kv__Request *request;
    uint8_t *raw;
    size_t size;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    append_put(&buf, value, KV_LZ4_MIN_BYTES / 2);
    assert_int_equal(buf.data[5], 0);
    kv_buf_clear(&buf);
    append_put(&buf, value, sizeof value);
    assert_int_equal(buf.data[5], KV_FRAME_FLAG_LZ4);
    assert_true(kv_frame_peek(kv_slice_of(buf.data, buf.size), KV_MIB, &frame, &error) > 0);
    assert_int_equal(kv_frame_decompress(frame.body, 100, &raw, &size), KV_TOO_LARGE);
    assert_int_equal(kv_frame_decompress(frame.body, KV_MIB, &raw, &size), 0);
    request = kv__request__unpack(NULL, size, raw);
    assert_non_null(request);
    assert_int_equal(request->put->value.len, sizeof value);
    kv__request__free_unpacked(request, NULL);
    free(raw);
    /* Cut, or with another raw size: refused. */
    for (size_t cut = 0; cut < frame.body.size; cut++) {
        assert_int_equal(
            kv_frame_decompress(kv_slice_of(frame.body.data, cut), KV_MIB, &raw, &size),
            KV_INVALID);
    }
    kv_put_u32(buf.data + KV_FRAME_HEADER_BYTES, sizeof value);
    assert_int_equal(kv_frame_decompress(frame.body, KV_MIB, &raw, &size), KV_INVALID);
    kv_buf_deinit(&buf);
}

static void test_what_does_not_shrink_stays_plain(void **state)
{
    static uint8_t value[4000];
    struct kv_buf buf;
    uint32_t x = 1;

    (void)state;
    for (size_t i = 0; i < sizeof value; i++) {
        x = x * 1664525 + 1013904223;
        value[i] = (uint8_t)(x >> 24);
    }
    kv_buf_init(&buf, KV_MIB);
    append_put(&buf, value, sizeof value);
    assert_int_equal(buf.data[5], 0);
    kv_buf_deinit(&buf);
}

static void test_too_large_leaves_the_buffer(void **state)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    static uint8_t value[200];
    struct kv_buf buf;

    (void)state;
    put.value = (ProtobufCBinaryData){sizeof value, value};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    kv_buf_init(&buf, 100);
    assert_int_equal(kv_frame_append(&buf, KV_FRAME_REQUEST, &request.base, false), KV_TOO_LARGE);
    assert_int_equal(buf.size, 0);
    kv_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_append_and_peek),
        cmocka_unit_test(test_every_length_is_a_frame),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_wrong_headers),
        cmocka_unit_test(test_compression),
        cmocka_unit_test(test_what_does_not_shrink_stays_plain),
        cmocka_unit_test(test_too_large_leaves_the_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
