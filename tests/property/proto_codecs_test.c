/* Random frames, entries and requests: what is written is read back, from any cut of the stream;
 * what is damaged is refused or read as something within its bounds, never beyond. KV_SEED replays
 * one run. */
#include "proto/entry.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RUNS = 20000, PARTS_MAX = 8, BODY_MAX = 6000, STREAM_MAX = 1 << 20 };

static uint64_t random_state;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

static void for_all_seeds(void (*run)(void))
{
    const char *text = getenv("KV_SEED");
    uint64_t first = text ? strtoull(text, NULL, 0) : 1;
    uint64_t last = text ? first : RUNS;

    for (uint64_t seed = first; seed <= last; seed++) {
        random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
        run();
    }
}

/* Small ones mostly; bytes of few kinds, so that some compress. */
static size_t random_bytes(uint8_t *bytes, size_t max)
{
    size_t size = rnd(8) ? rnd(60) : rnd(max);
    uint64_t kinds = rnd(2) ? 256 : 3;

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)rnd(kinds);
    }
    return size;
}

/* A copy in memory of that size, so that a sanitizer sees a read beyond it. */
static struct kv_slice exact(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size + !size);

    assert_non_null(copy);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return kv_slice_of(copy, size);
}

static void drop(struct kv_slice slice)
{
    free((void *)(uintptr_t)slice.data);
}

static void assert_within(struct kv_slice part, struct kv_slice whole)
{
    assert_true(part.size == 0 ||
                (part.data >= whole.data && part.data + part.size <= whole.data + whole.size));
}

/* Some bytes become others, some bits turn. */
static void damage(uint8_t *bytes, size_t size)
{
    for (uint64_t n = 1 + rnd(4); n > 0 && size > 0; n--) {
        size_t at = rnd(3) ? rnd(size) : rnd(size < 16 ? size : 16);

        bytes[at] = (uint8_t)(rnd(2) ? rnd(256) : bytes[at] ^ 1u << rnd(8));
    }
}

/* ---------------------------------------------------------------- entries */

static size_t random_entry(uint8_t *entry, struct kv_slice parts[PARTS_MAX], size_t n)
{
    static uint8_t bodies[PARTS_MAX][BODY_MAX];
    size_t size =
        kv_entry_write_head(entry, (uint32_t)rnd(1u << 31), (int64_t)(rnd(1u << 31) << rnd(32)));
    size_t total = 0;

    for (size_t i = 0; i < n; i++) {
        parts[i] = kv_slice_of(bodies[i], random_bytes(bodies[i], BODY_MAX));
        size += kv_entry_write_request(entry + size, parts[i]);
        total += parts[i].size;
    }
    assert_true(size <= kv_entry_size_max(total, n));
    return size;
}

/* Reads what is there, at most to the end; the status of the last read. */
static int read_entry(struct kv_slice entry, struct kv_slice parts[PARTS_MAX], size_t *ret_n)
{
    struct kv_entry_reader reader;
    struct kv_slice request;
    size_t n = 0;
    int status = kv_entry_read_head(entry, &reader);

    *ret_n = 0;
    while (status == 0 && (status = kv_entry_read_request(&reader, &request)) == 1) {
        assert_within(request, entry);
        if (n < PARTS_MAX) {
            parts[n] = request;
        }
        *ret_n = ++n;
        assert_true(n <= entry.size);
        status = 0;
        if (reader.rest.size == 0) {
            break;
        }
    }
    return status;
}

static void run_entry(void)
{
    static uint8_t bytes[PARTS_MAX * (BODY_MAX + 8) + 32];
    struct kv_slice parts[PARTS_MAX];
    struct kv_slice read[PARTS_MAX];
    size_t n = rnd(PARTS_MAX + 1);
    size_t size = random_entry(bytes, parts, n);
    size_t n_read;
    struct kv_slice whole = exact(bytes, size);
    struct kv_slice cut = exact(bytes, rnd(size));

    assert_int_equal(read_entry(whole, read, &n_read), 0);
    assert_int_equal(n_read, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(kv_slice_equal(read[i], parts[i]));
    }
    assert_in_range(-read_entry(cut, read, &n_read), 0, -KV_INVALID);
    assert_true(n_read <= n);
    damage((uint8_t *)(uintptr_t)whole.data, whole.size);
    assert_in_range(-read_entry(whole, read, &n_read), 0, -KV_INVALID);
    drop(whole);
    drop(cut);
}

static void entries_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_entry);
}

/* ---------------------------------------------------------------- frames */

/* The frame at the front, its body as it was before it was compressed. */
static int64_t
read_frame(struct kv_slice input, uint8_t **ret_raw, struct kv_slice *ret_body, uint8_t *ret_kind)
{
    struct kv_frame frame;
    struct kv_error error;
    int64_t size = kv_frame_peek(input, BODY_MAX + 100, &frame, &error);
    size_t raw_size;

    *ret_raw = NULL;
    if (size <= 0) {
        assert_true(size == 0 || size == KV_INVALID || size == KV_TOO_LARGE);
        return size;
    }
    assert_true((uint64_t)size <= input.size);
    assert_within(frame.body, input);
    *ret_body = frame.body;
    *ret_kind = frame.kind;
    if (frame.flags & KV_FRAME_FLAG_LZ4) {
        int status = kv_frame_decompress(frame.body, BODY_MAX, ret_raw, &raw_size);

        if (status != 0) {
            return status;
        }
        assert_true(raw_size <= BODY_MAX);
        *ret_body = kv_slice_of(*ret_raw, raw_size);
    }
    return size;
}

static void
read_frames(struct kv_slice stream, const struct kv_slice *bodies, const uint8_t *kinds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct kv_slice body;
        uint8_t kind;
        uint8_t *raw;
        int64_t size = read_frame(stream, &raw, &body, &kind);
        struct kv_slice cut = exact(stream.data, rnd((uint64_t)size));
        struct kv_frame frame;
        struct kv_error error;

        assert_true(size > 0);
        assert_int_equal(kind, kinds[i]);
        assert_true(kv_slice_equal(body, bodies[i]));
        assert_int_equal(kv_frame_peek(cut, BODY_MAX + 100, &frame, &error), 0);
        stream = kv_slice_of(stream.data + size, stream.size - (size_t)size);
        free(raw);
        drop(cut);
    }
    assert_int_equal(stream.size, 0);
}

static void run_frames(void)
{
    static uint8_t memory[PARTS_MAX][BODY_MAX];
    struct kv_slice bodies[PARTS_MAX];
    uint8_t kinds[PARTS_MAX];
    size_t n = 1 + rnd(PARTS_MAX);
    struct kv_slice whole;
    struct kv_slice rest;
    struct kv_buf buf;

    kv_buf_init(&buf, STREAM_MAX);
    for (size_t i = 0; i < n; i++) {
        kinds[i] = (uint8_t)(1 + rnd(KV_FRAME_CREDIT));
        bodies[i] = kv_slice_of(memory[i], random_bytes(memory[i], BODY_MAX));
        assert_int_equal(
            kv_frame_append_packed(&buf, (enum kv_frame_kind)kinds[i], bodies[i], rnd(2) != 0), 0);
    }
    whole = exact(buf.data, buf.size);
    read_frames(whole, bodies, kinds, n);
    damage((uint8_t *)(uintptr_t)whole.data, whole.size);
    rest = whole;
    for (int64_t size = 1; size > 0 && rest.size > 0;) {
        struct kv_slice body;
        uint8_t kind;
        uint8_t *raw;

        size = read_frame(rest, &raw, &body, &kind);
        free(raw);
        if (size > 0) {
            rest = kv_slice_of(rest.data + size, rest.size - (size_t)size);
        }
    }
    drop(whole);
    kv_buf_deinit(&buf);
}

static void frames_come_back(void **state)
{
    (void)state;
    for_all_seeds(run_frames);
}

/* ---------------------------------------------------------------- scan */

/* Counts what unpacking takes, and what of it is kept. */
static size_t allocated_bytes;
static size_t kept_bytes;

static void *counting_alloc(void *arg, size_t size)
{
    max_align_t *memory = malloc(sizeof *memory + size);

    (void)arg;
    assert_non_null(memory);
    memcpy(memory, &size, sizeof size);
    allocated_bytes += size;
    kept_bytes += size;
    return memory + 1;
}

static void counting_free(void *arg, void *memory)
{
    size_t size;

    (void)arg;
    if (memory) {
        memcpy(&size, (max_align_t *)memory - 1, sizeof size);
        kept_bytes -= size;
        free((max_align_t *)memory - 1);
    }
}

static size_t random_request(uint8_t *packed)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__KeyRange keys = KV__KEY_RANGE__INIT;
    Kv__KeyRange *ranges[3] = {&keys, &keys, &keys};
    Kv__Delete delete_ = KV__DELETE__INIT;
    uint8_t bytes[2][200];
    ProtobufCBinaryData many[40];

    request.id = rnd(1u << 31);
    keys.start = (ProtobufCBinaryData){random_bytes(bytes[0], sizeof bytes[0]), bytes[0]};
    keys.end = (ProtobufCBinaryData){random_bytes(bytes[1], sizeof bytes[1]), bytes[1]};
    for (size_t i = 0; i < 40; i++) {
        many[i] = rnd(2) ? keys.start : keys.end;
    }
    switch (rnd(3)) {
    case 0:
        request.command_case = KV__REQUEST__COMMAND_PUT;
        request.put = &put;
        put.key = keys.start;
        put.value = keys.end;
        put.return_previous = rnd(2) != 0;
        break;
    case 1:
        request.command_case = KV__REQUEST__COMMAND_RANGE;
        request.range = &range;
        range.range = &keys;
        range.limit = rnd(1000);
        range.at_revision = (int64_t)rnd(1u << 31);
        break;
    default:
        request.command_case = KV__REQUEST__COMMAND_DELETE;
        request.delete_ = &delete_;
        delete_.n_keys = rnd(41);
        delete_.keys = many;
        delete_.n_ranges = rnd(4);
        delete_.ranges = ranges;
        break;
    }
    return kv__request__pack(&request, packed);
}

/* Bytes that pass the scan with a bound unpack, if at all, within that bound. */
static void check_scan(struct kv_slice bytes, bool must_pass)
{
    ProtobufCAllocator allocator = {counting_alloc, counting_free, NULL};
    size_t bound = rnd(2) ? KV_DECODED_BYTES_MAX : 200 + rnd(8000);
    struct kv_error error;
    bool unknown = false;
    int status = kv_proto_scan(&kv__request__descriptor, bytes, bound, &unknown, &error);
    Kv__Request *request;

    if (status != 0) {
        assert_true(status == KV_TOO_LARGE || (status == KV_INVALID && !must_pass));
        assert_true(bound != KV_DECODED_BYTES_MAX || !must_pass);
        return;
    }
    allocated_bytes = kept_bytes = 0;
    request = kv__request__unpack(&allocator, bytes.size, bytes.data);
    assert_true(request || !must_pass);
    assert_true(!must_pass || !unknown);
    assert_true(kept_bytes <= bound);
    /* Its table of a message's fields doubles as it grows, and is gone afterwards. */
    assert_true(allocated_bytes <= bound);
    if (request) {
        assert_true(unknown || request->base.n_unknown_fields == 0);
        kv__request__free_unpacked(request, &allocator);
    }
    assert_int_equal(kept_bytes, 0);
}

static void run_scan(void)
{
    static uint8_t packed[40 * 210 + 2000];
    size_t size = random_request(packed);
    struct kv_slice whole = exact(packed, size);
    struct kv_slice cut = exact(packed, rnd(size + 1));

    check_scan(whole, true);
    check_scan(cut, false);
    damage((uint8_t *)(uintptr_t)whole.data, whole.size);
    check_scan(whole, false);
    drop(whole);
    drop(cut);
}

static void what_passes_the_scan_unpacks_within_its_bound(void **state)
{
    (void)state;
    for_all_seeds(run_scan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back),
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(what_passes_the_scan_unpacks_within_its_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
