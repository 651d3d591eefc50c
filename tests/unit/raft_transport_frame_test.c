/* Frames between nodes, without sockets: what is written is read back, and nothing else is. */
#include "common/crc32c.h"
#include "raft/transport_frame.h"
#include "raft/transport_throttle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { HEADER = KV_PEER_FRAME_HEADER_BYTES, FRAGMENT = KV_PEER_FRAGMENT_BYTES };

static const size_t message_max = KV_PEER_MESSAGE_BYTES_MAX;

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Bytes that nothing compresses. */
static uint8_t *noise(size_t size, uint32_t seed)
{
    uint8_t *data = malloc(size + 1);

    assert_non_null(data);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)next_random(&seed);
    }
    return data;
}

static void append(struct kv_buf *buf, enum kv_peer_frame_kind kind, struct kv_slice message)
{
    assert_int_equal(kv_peer_frame_append(buf, kind, &message, 1, false), 0);
}

static int64_t
peek(const struct kv_buf *buf, size_t offset, struct kv_peer_frame *frame, struct kv_error *error)
{
    return kv_peer_frame_peek(kv_slice_of(buf->data + offset, buf->size - offset), frame, error);
}

/* Puts the only message of buf together and compares; how many frames it was. */
static size_t expect_message(const struct kv_buf *buf, struct kv_slice expected)
{
    struct kv_peer_assembly assembly;
    struct kv_slice message;
    struct kv_error error;
    size_t offset = 0;
    size_t n_frames = 0;
    int status = 0;

    kv_peer_assembly_init(&assembly);
    while (offset < buf->size) {
        struct kv_peer_frame frame;
        int64_t size = peek(buf, offset, &frame, &error);

        assert_int_equal(status, 0);
        assert_true(size > 0);
        assert_true(frame.body.size <= FRAGMENT);
        status = kv_peer_assembly_add(&assembly, &frame, &message, &error);
        offset += (size_t)size;
        n_frames++;
    }
    assert_int_equal(status, 1);
    assert_int_equal(message.size, expected.size);
    assert_true(kv_slice_equal(message, expected));
    kv_peer_assembly_deinit(&assembly);
    return n_frames;
}

static void a_frame_is_what_the_header_says(void **state)
{
    static const uint8_t expected[] = {
        3, 0, 0, 0, KV_PEER_FRAME_URGENT, KV_PEER_FRAME_LAST, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
    struct kv_slice pieces[] = {{(const uint8_t *)"a", 1}, {NULL, 0}, {(const uint8_t *)"bc", 2}};
    struct kv_peer_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_URGENT, pieces, 3, false), 0);
    assert_int_equal(buf.size, 4 + sizeof expected);
    assert_int_equal(kv_peer_frames_bytes(3), buf.size);
    assert_memory_equal(buf.data + 4, expected, sizeof expected);
    assert_int_equal(kv_get_u32(buf.data), kv_crc32c(buf.data + 4, sizeof expected, 0));
    for (size_t size = 0; size < buf.size; size++) {
        assert_int_equal(kv_peer_frame_peek(kv_slice_of(buf.data, size), &frame, &error), 0);
    }
    assert_int_equal(peek(&buf, 0, &frame, &error), buf.size);
    assert_int_equal(frame.kind, KV_PEER_FRAME_URGENT);
    assert_int_equal(frame.flags, KV_PEER_FRAME_LAST);
    assert_int_equal(frame.raw_size, 0);
    assert_ptr_equal(frame.body.data, buf.data + HEADER);
    assert_int_equal(frame.body.size, 3);
    kv_buf_deinit(&buf);
}

static void a_flipped_bit_anywhere_is_no_frame(void **state)
{
    struct kv_peer_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 4 * KV_MIB);
    append(&buf, KV_PEER_FRAME_ORDERED, kv_slice_str("some bytes of an entry"));
    size_t size = buf.size;
    /* What follows may be taken for the body of a frame whose size was damaged. */
    uint8_t *rest = noise(FRAGMENT, 7);
    assert_int_equal(kv_buf_append(&buf, rest, FRAGMENT), 0);
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            buf.data[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(peek(&buf, 0, &frame, &error), KV_INVALID);
            assert_true(strlen(error.message) > 10);
            buf.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_int_equal(peek(&buf, 0, &frame, &error), size);
    free(rest);
    kv_buf_deinit(&buf);
}

/* Sets a field, mends the checksum: what is refused then is refused for the field. */
static void expect_refused(size_t at, uint8_t value, bool refused)
{
    struct kv_peer_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    kv_buf_init(&buf, KV_MIB);
    append(&buf, KV_PEER_FRAME_ORDERED, kv_slice_str("x"));
    buf.data[at] = value;
    kv_put_u32(buf.data, kv_crc32c(buf.data + 4, buf.size - 4, 0));
    assert_int_equal(peek(&buf, 0, &frame, &error), refused ? KV_INVALID : (int64_t)buf.size);
    kv_buf_deinit(&buf);
}

static void headers_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    expect_refused(8, KV_PEER_FRAME_ORDERED, false);
    expect_refused(8, KV_PEER_FRAME_BULK, false);
    expect_refused(8, 0, true);
    expect_refused(8, KV_PEER_FRAME_BULK + 1, true);
    expect_refused(8, 255, true);
    expect_refused(9, KV_PEER_FRAME_LAST, false);
    expect_refused(9, 4, true);
    expect_refused(9, 128, true);
    expect_refused(10, 1, true);
    expect_refused(11, 1, true);
    expect_refused(12, 1, true);                /* a raw size without lz4 */
    expect_refused(9, KV_PEER_FRAME_LZ4, true); /* lz4 without a raw size */
    expect_refused(6, 2, true);                 /* a body of 128 KiB */
    expect_refused(7, 255, true);               /* of 4 GB, by its header alone */
}

static void the_header_alone_tells_a_body_that_is_too_large(void **state)
{
    uint8_t header[HEADER] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, KV_PEER_FRAME_HELLO, 1};
    struct kv_peer_frame frame;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_peer_frame_peek(kv_slice_of(header, HEADER), &frame, &error), KV_INVALID);
    kv_put_u32(header + 4, FRAGMENT);
    assert_int_equal(kv_peer_frame_peek(kv_slice_of(header, HEADER), &frame, &error), 0);
    kv_put_u32(header + 4, FRAGMENT + 1);
    assert_int_equal(kv_peer_frame_peek(kv_slice_of(header, HEADER), &frame, &error), KV_INVALID);
}

static void messages_are_cut_and_put_together(void **state)
{
    static const struct {
        size_t size, n_frames;
    } cases[] = {{0, 1},
                 {1, 1},
                 {FRAGMENT - 1, 1},
                 {FRAGMENT, 1},
                 {FRAGMENT + 1, 2},
                 {2 * FRAGMENT, 2},
                 {KV_PEER_MESSAGE_BYTES_MAX - 1, KV_PEER_MESSAGE_BYTES_MAX / FRAGMENT},
                 {KV_PEER_MESSAGE_BYTES_MAX, KV_PEER_MESSAGE_BYTES_MAX / FRAGMENT}};
    uint8_t *data = noise(message_max, 1);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kv_slice message = {data, cases[i].size};
        size_t cut = cases[i].size / 3;
        struct kv_slice pieces[] = {{data, cut}, {data + cut, 0}, {data + cut, message.size - cut}};
        struct kv_buf buf;

        kv_buf_init(&buf, 2 * message_max);
        append(&buf, KV_PEER_FRAME_ORDERED, message);
        assert_int_equal(buf.size, kv_peer_frames_bytes(message.size));
        assert_int_equal(expect_message(&buf, message), cases[i].n_frames);
        kv_buf_clear(&buf);
        assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, pieces, 3, true), 0);
        assert_int_equal(expect_message(&buf, message), cases[i].n_frames);
        kv_buf_deinit(&buf);
    }
    free(data);
}

static void urgent_messages_pass_between_fragments(void **state)
{
    enum { SIZE = 3 * FRAGMENT + 5 };
    uint8_t *data = noise(SIZE, 3);
    struct kv_peer_assembly assemblies[2];
    struct kv_buf ordered, urgent;
    struct kv_peer_frame frame;
    struct kv_slice message;
    struct kv_error error;
    size_t offset = 0;

    (void)state;
    kv_peer_assembly_init(&assemblies[0]);
    kv_peer_assembly_init(&assemblies[1]);
    kv_buf_init(&ordered, KV_MIB);
    kv_buf_init(&urgent, KV_MIB);
    append(&ordered, KV_PEER_FRAME_ORDERED, kv_slice_of(data, SIZE));
    append(&urgent, KV_PEER_FRAME_URGENT, kv_slice_of(data, FRAGMENT + 1));
    for (int i = 0; i < 4; i++) {
        int64_t size = peek(&ordered, offset, &frame, &error);

        assert_true(size > 0);
        assert_int_equal(kv_peer_assembly_add(&assemblies[0], &frame, &message, &error), i == 3);
        offset += (size_t)size;
        if (i < 2) {
            struct kv_slice other;

            assert_true(peek(&urgent, i == 0 ? 0 : FRAGMENT + HEADER, &frame, &error) > 0);
            assert_int_equal(kv_peer_assembly_add(&assemblies[1], &frame, &other, &error), i);
            assert_true(i == 0 || kv_slice_equal(other, kv_slice_of(data, FRAGMENT + 1)));
        }
    }
    assert_true(kv_slice_equal(message, kv_slice_of(data, SIZE)));
    kv_buf_deinit(&ordered);
    kv_buf_deinit(&urgent);
    kv_peer_assembly_deinit(&assemblies[0]);
    kv_peer_assembly_deinit(&assemblies[1]);
    free(data);
}

/* Frames as of that message, compressed if that pays. */
static bool is_compressed(struct kv_slice message, bool compress)
{
    struct kv_peer_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    kv_buf_init(&buf, 2 * message_max);
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, &message, 1, compress), 0);
    (void)expect_message(&buf, message);
    assert_true(peek(&buf, 0, &frame, &error) > 0);
    bool compressed = frame.flags & KV_PEER_FRAME_LZ4;

    assert_int_equal(frame.raw_size, compressed ? message.size : 0);
    assert_true(compressed ? buf.size < message.size
                           : buf.size == kv_peer_frames_bytes(message.size));
    kv_buf_deinit(&buf);
    return compressed;
}

static void lz4_when_it_pays(void **state)
{
    enum { SIZE = 4 * 1024 * 1024 };
    uint8_t *text = calloc(1, SIZE);
    uint8_t *data = noise(SIZE, 5);

    (void)state;
    for (size_t i = 0; i < SIZE; i++) {
        text[i] = "the same words again and again "[i % 31];
    }
    assert_true(is_compressed(kv_slice_of(text, SIZE), true));
    assert_true(is_compressed(kv_slice_of(text, 16 * 1024), true));
    assert_false(is_compressed(kv_slice_of(text, SIZE), false));
    assert_false(is_compressed(kv_slice_of(text, 16 * 1024 - 1), true));
    assert_false(is_compressed(kv_slice_of(data, SIZE), true));
    /* The sample in the middle promises what the rest does not keep. */
    memcpy(data + SIZE / 2 - 8192, text, 16384);
    assert_false(is_compressed(kv_slice_of(data, SIZE), true));
    /* Half of it compresses: several frames of one block. */
    memcpy(data + SIZE / 4, text, SIZE / 2);
    assert_true(is_compressed(kv_slice_of(data, SIZE), true));
    free(text);
    free(data);
}

static void pieces_too_small_to_sample_are_left_alone(void **state)
{
    static const char zeros[1024];
    struct kv_slice pieces[32];
    struct kv_peer_frame frame;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    for (size_t i = 0; i < 32; i++) {
        pieces[i] = kv_slice_of(zeros, sizeof zeros);
    }
    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, pieces, 32, true), 0);
    assert_true(peek(&buf, 0, &frame, &error) > 0);
    assert_int_equal(frame.flags, KV_PEER_FRAME_LAST);
    kv_buf_deinit(&buf);
}

/* What a compressed message with another raw size gives. */
static int add_with_raw_size(uint32_t raw_size, struct kv_slice *ret_message)
{
    static uint8_t text[100000];
    struct kv_slice message = {text, sizeof text};
    struct kv_peer_assembly assembly;
    struct kv_peer_frame frame;
    struct kv_error error = {0};
    struct kv_buf buf;
    int status;

    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, &message, 1, true), 0);
    assert_true(peek(&buf, 0, &frame, &error) > 0);
    assert_true(frame.flags & KV_PEER_FRAME_LZ4);
    frame.raw_size = raw_size;
    kv_peer_assembly_init(&assembly);
    status = kv_peer_assembly_add(&assembly, &frame, ret_message, &error);
    assert_true(status == 1 || strlen(error.message) > 10);
    kv_peer_assembly_deinit(&assembly);
    kv_buf_deinit(&buf);
    return status;
}

static void a_lying_raw_size_is_refused(void **state)
{
    struct kv_slice message;

    (void)state;
    assert_int_equal(add_with_raw_size(100000, &message), 1);
    assert_int_equal(message.size, 100000);
    assert_int_equal(add_with_raw_size(99999, &message), KV_INVALID);
    assert_int_equal(add_with_raw_size(100001, &message), KV_INVALID);
    assert_int_equal(add_with_raw_size(1, &message), KV_INVALID);
    assert_int_equal(add_with_raw_size((uint32_t)message_max, &message), KV_INVALID);
}

static void a_raw_size_over_the_limit_is_no_frame(void **state)
{
    uint8_t header[HEADER + 1] = {0};
    struct kv_peer_frame frame;
    struct kv_error error;

    (void)state;
    kv_put_u32(header + 4, 1);
    header[8] = KV_PEER_FRAME_ORDERED;
    header[9] = KV_PEER_FRAME_LAST | KV_PEER_FRAME_LZ4;
    for (uint32_t more = 0; more < 2; more++) {
        kv_put_u32(header + 12, (uint32_t)message_max + more);
        kv_put_u32(header, kv_crc32c(header + 4, sizeof header - 4, 0));
        assert_int_equal(kv_peer_frame_peek(kv_slice_of(header, sizeof header), &frame, &error),
                         more ? KV_INVALID : (int64_t)sizeof header);
    }
}

static void what_is_no_lz4_is_refused(void **state)
{
    uint8_t *data = noise(1000, 9);
    struct kv_peer_frame frame = {
        KV_PEER_FRAME_ORDERED, KV_PEER_FRAME_LAST | KV_PEER_FRAME_LZ4, 20000, {data, 1000}};
    struct kv_peer_assembly assembly;
    struct kv_slice message;
    struct kv_error error;

    (void)state;
    kv_peer_assembly_init(&assembly);
    assert_int_equal(kv_peer_assembly_add(&assembly, &frame, &message, &error), KV_INVALID);
    kv_peer_assembly_deinit(&assembly);
    free(data);
}

static void messages_over_the_limit_are_neither_made_nor_taken(void **state)
{
    uint8_t *data = noise(message_max + 1, 2);
    struct kv_slice message = {data, message_max + 1};
    struct kv_peer_frame frame = {KV_PEER_FRAME_ORDERED, 0, 0, {data, FRAGMENT}};
    struct kv_peer_assembly assembly;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 2 * message_max);
    append(&buf, KV_PEER_FRAME_PING, (struct kv_slice){0});
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, &message, 1, false),
                     KV_TOO_LARGE);
    assert_int_equal(buf.size, HEADER);
    kv_buf_deinit(&buf);
    /* Nor by a buffer that has no room. */
    kv_buf_init(&buf, 2 * HEADER + 9);
    append(&buf, KV_PEER_FRAME_PING, (struct kv_slice){0});
    message.size = 10;
    assert_int_equal(kv_peer_frame_append(&buf, KV_PEER_FRAME_ORDERED, &message, 1, false),
                     KV_TOO_LARGE);
    assert_int_equal(buf.size, HEADER);
    kv_buf_deinit(&buf);

    kv_peer_assembly_init(&assembly);
    for (size_t i = 0; i < message_max / FRAGMENT; i++) {
        assert_int_equal(kv_peer_assembly_add(&assembly, &frame, &message, &error), 0);
    }
    frame.body.size = 1;
    frame.flags = KV_PEER_FRAME_LAST;
    assert_int_equal(kv_peer_assembly_add(&assembly, &frame, &message, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "20971520"));
    kv_peer_assembly_deinit(&assembly);
    free(data);
}

static void an_empty_fragment_is_refused(void **state)
{
    struct kv_peer_frame frame = {KV_PEER_FRAME_ORDERED, 0, 0, {NULL, 0}};
    struct kv_peer_assembly assembly;
    struct kv_slice message;
    struct kv_error error;

    (void)state;
    kv_peer_assembly_init(&assembly);
    assert_int_equal(kv_peer_assembly_add(&assembly, &frame, &message, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "empty"));
    kv_peer_assembly_deinit(&assembly);
}

/* ---------------------------------------------------------------- throttle */

enum { BURST = (int)KV_PEER_BULK_BURST_BYTES };

static void the_bucket_is_full_at_first_and_never_fuller(void **state)
{
    struct kv_peer_throttle throttle;

    (void)state;
    kv_peer_throttle_init(&throttle, 1000, 5000);
    assert_int_equal(kv_peer_throttle_available(&throttle, 5000), BURST);
    assert_int_equal(kv_peer_throttle_available(&throttle, 5000000000), BURST);
    kv_peer_throttle_take(&throttle, BURST + 100);
    assert_int_equal(kv_peer_throttle_available(&throttle, 5000000000), 0);
    assert_int_equal(kv_peer_throttle_wait_ms(&throttle), 101);
    assert_int_equal(kv_peer_throttle_available(&throttle, 5000000100), 0);
    assert_int_equal(kv_peer_throttle_wait_ms(&throttle), 1);
    assert_int_equal(kv_peer_throttle_available(&throttle, 5000000101), 1);
}

/* Taken as often as possible: never more than burst, rate and the frame taken ahead. */
static void the_rate_is_kept(void **state)
{
    static const uint64_t rates[] = {
        1, 7, 1000, 1500, 65552, KV_PEER_BULK_BYTES_PER_S_DEFAULT, KV_PEER_BULK_BYTES_PER_S_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        enum { FRAME = FRAGMENT + HEADER };
        struct kv_peer_throttle throttle;
        uint64_t now_ms = 100;
        uint64_t taken = 0;
        uint64_t waited = 0;

        kv_peer_throttle_init(&throttle, rates[i], now_ms);
        for (int n = 0; n < 1000; n++) {
            while (kv_peer_throttle_available(&throttle, now_ms) == 0) {
                now_ms += kv_peer_throttle_wait_ms(&throttle);
                waited++;
            }
            kv_peer_throttle_take(&throttle, FRAME);
            taken += FRAME;
            assert_true(taken <= BURST + FRAME +
                                     (uint64_t)((double)(now_ms - 100) * (double)rates[i] / 1000));
        }
        /* The wait that it names is long enough: at most one more is needed for rounding. */
        assert_true(waited <= 2000);
        /* And all that is given is in time. */
        assert_true((double)taken >= (double)(now_ms - 100 - 1) * (double)rates[i] / 1000 * 0.5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_what_the_header_says),
        cmocka_unit_test(a_flipped_bit_anywhere_is_no_frame),
        cmocka_unit_test(headers_that_make_no_sense_are_refused),
        cmocka_unit_test(the_header_alone_tells_a_body_that_is_too_large),
        cmocka_unit_test(messages_are_cut_and_put_together),
        cmocka_unit_test(urgent_messages_pass_between_fragments),
        cmocka_unit_test(lz4_when_it_pays),
        cmocka_unit_test(pieces_too_small_to_sample_are_left_alone),
        cmocka_unit_test(a_lying_raw_size_is_refused),
        cmocka_unit_test(a_raw_size_over_the_limit_is_no_frame),
        cmocka_unit_test(what_is_no_lz4_is_refused),
        cmocka_unit_test(messages_over_the_limit_are_neither_made_nor_taken),
        cmocka_unit_test(an_empty_fragment_is_refused),
        cmocka_unit_test(the_bucket_is_full_at_first_and_never_fuller),
        cmocka_unit_test(the_rate_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
