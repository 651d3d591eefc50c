/* Entries are what protobuf-c packs for Entry of log.proto. */
#include "proto/entry.h"
#include "proto/log.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { REQUEST_BYTES = 70000 };

static void check_equal(uint32_t version, int64_t time_ms, const size_t *sizes, size_t n)
{
    static uint8_t content[REQUEST_BYTES];
    ProtobufCBinaryData requests[4];
    Kv__Entry entry = KV__ENTRY__INIT;
    struct kv_entry_reader reader;
    struct kv_slice request;
    size_t total = 0;
    uint8_t *ours;
    uint8_t *theirs;
    size_t size;

    for (size_t i = 0; i < n; i++) {
        requests[i] = (ProtobufCBinaryData){sizes[i], content};
        total += sizes[i];
    }
    entry.machine_version = version;
    entry.cluster_time_ms = time_ms;
    entry.n_requests = n;
    entry.requests = requests;
    ours = malloc(kv_entry_size_max(total, n));
    theirs = malloc(kv__entry__get_packed_size(&entry) + 1);
    assert_non_null(ours);
    assert_non_null(theirs);
    size = kv_entry_write_head(ours, version, time_ms);
    assert_true(size <= 32);
    for (size_t i = 0; i < n; i++) {
        size_t more = kv_entry_write_request(ours + size, kv_slice_of(content, sizes[i]));

        assert_true(more <= 8 + sizes[i]);
        size += more;
    }
    assert_true(size <= kv_entry_size_max(total, n));
    assert_int_equal(kv__entry__pack(&entry, theirs), size);
    assert_memory_equal(ours, theirs, size);
    assert_int_equal(kv_entry_read_head(kv_slice_of(ours, size), &reader), 0);
    assert_int_equal(reader.machine_version, version);
    assert_int_equal(reader.cluster_time_ms, time_ms);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kv_entry_read_request(&reader, &request), 1);
        assert_int_equal(request.size, sizes[i]);
    }
    assert_int_equal(kv_entry_read_request(&reader, &request), 0);
    free(ours);
    free(theirs);
}

static void test_same_as_protobuf(void **state)
{
    static const size_t sizes[] = {0, 127, 128, REQUEST_BYTES};

    (void)state;
    check_equal(0, 0, sizes, 0);
    check_equal(1, 1, sizes, 4);
    check_equal(UINT32_MAX, INT64_MAX, sizes, 4);
    check_equal(1, -1, sizes + 3, 1);
}

static void test_every_cut_is_seen(void **state)
{
    uint8_t bytes[200];
    size_t size = kv_entry_write_head(bytes, 1, 1000);
    size_t head = size;
    struct kv_entry_reader reader;
    struct kv_slice request;

    (void)state;
    size += kv_entry_write_request(bytes + size, kv_slice_str("0123456789"));
    for (size_t cut = 1; cut < size; cut++) {
        int status = kv_entry_read_head(kv_slice_of(bytes, cut), &reader);

        if (cut <= head) {
            /* Between two fields a cut cannot be told from a shorter entry. */
            assert_true(status == 0 || status == KV_INVALID);
            continue;
        }
        assert_int_equal(status, 0);
        assert_int_equal(kv_entry_read_request(&reader, &request), KV_INVALID);
    }
}

static void test_malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } heads[] = {
        {"\x20\x01", 2},                                          /* unknown field */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* endless varint */
        {"\x08\xff\xff\xff\xff\x7f", 6},                          /* version over 32 bits */
        {"\x08", 1},
    };
    struct kv_entry_reader reader;
    struct kv_slice request;

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        assert_int_equal(kv_entry_read_head(kv_slice_of(heads[i].bytes, heads[i].size), &reader),
                         KV_INVALID);
    }
    /* A head's field behind a request; a length that is more than there is. */
    assert_int_equal(kv_entry_read_head(kv_slice_of("\x1a\x00\x08\x01", 4), &reader), 0);
    assert_int_equal(kv_entry_read_request(&reader, &request), 1);
    assert_int_equal(kv_entry_read_request(&reader, &request), KV_INVALID);
    assert_int_equal(
        kv_entry_read_head(kv_slice_of("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10), &reader),
        0);
    assert_int_equal(kv_entry_read_request(&reader, &request), KV_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_protobuf),
        cmocka_unit_test(test_every_cut_is_seen),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
