/* Every byte of a small log flipped, every file cut, extended, removed, copied, swapped: either
 * what was written comes back, or a clean prefix of it where the harm looks like a torn write, or
 * the log is refused by file and offset; never something else. */
#include "tests/support/wal_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SEGMENT_BYTES = 4096, FILES_MAX = 16 };

/* What was found, in short. */
struct found {
    int status;
    struct kv_wal_state state;
    uint64_t ids[256];
    struct kv_error error;
};

static int visit(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    struct found *found = arg;

    assert_true(index < 256);
    assert_true(wal_rig_check(entry->data, &found->ids[index]));
    return 0;
}

static struct found recover(struct fake_disk *disk)
{
    struct wal_rig rig;
    struct found found = {0};

    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    found.status = wal_rig_open(&rig);
    if (found.status == 0) {
        found.state = *kv_wal_recovered(rig.wal);
        assert_int_equal(kv_wal_visit(rig.wal,
                                      found.state.first_index,
                                      found.state.last_index,
                                      visit,
                                      &found,
                                      &rig.error),
                         0);
    }
    found.error = rig.error;
    wal_rig_close(&rig);
    return found;
}

/* A log of some segments with votes, truncations and entries of many sizes. Each write is its own
 * group. is_idle: an idle second follows. */
static struct fake_disk *make_log(bool is_idle)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct wal_rig rig;

    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    kv_wal_write_vote(rig.wal, 1, 3);
    wal_rig_sync(&rig);
    for (uint64_t i = 1; i <= 40; i++) {
        wal_rig_append(&rig, 1 + i / 20, i, 8 + (i * 37) % 500);
        if (i == 15 || i == 30) {
            struct kv_wal_entry entry = {2, 1, {(const uint8_t *)"\x63\0\0\0\0\0\0\0", 8}};

            wal_rig_sync(&rig);
            kv_wal_write_vote(rig.wal, 1 + i / 15, 2);
            kv_wal_write_entries(rig.wal, kv_wal_last_index(rig.wal) - 1, &entry, 1);
        }
        wal_rig_sync(&rig);
    }
    if (is_idle) {
        kv_wal_tick(rig.wal, 1000);
        kv_wal_tick(rig.wal, 3000);
        wal_rig_sync(&rig);
    }
    assert_int_equal(rig.synced, kv_wal_synced_sequence(rig.wal));
    wal_rig_close(&rig);
    return disk;
}

/* The segments' paths in order; their number. */
static size_t segments_of(struct fake_disk *disk, char paths[FILES_MAX][128])
{
    char names[FILES_MAX][128];
    size_t n_names = fake_disk_list(disk, "wal", names, FILES_MAX);
    size_t n = 0;

    for (size_t i = 0; i < n_names; i++) {
        if (strlen(names[i]) == strlen("wal/") + 33) {
            memcpy(paths[n++], names[i], 128);
        }
    }
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && strcmp(paths[j], paths[j - 1]) < 0; j--) {
            char other[128];

            memcpy(other, paths[j], 128);
            memcpy(paths[j], paths[j - 1], 128);
            memcpy(paths[j - 1], other, 128);
        }
    }
    return n;
}

static bool same(const struct found *a, const struct found *b)
{
    return a->status == 0 && b->status == 0 && a->state.term == b->state.term &&
           a->state.voted_for == b->state.voted_for &&
           a->state.first_index == b->state.first_index &&
           a->state.last_index == b->state.last_index && memcmp(a->ids, b->ids, sizeof a->ids) == 0;
}

/* Refused by its name, with an offset and what to do. */
static void assert_names(const struct found *found, const char *path)
{
    assert_int_equal(found->status, KV_CORRUPT);
    if (path && !strstr(found->error.message, path)) {
        print_error("%s: %s\n", path, found->error.message);
        fail();
    }
    assert_non_null(strstr(found->error.message, "offset"));
    assert_non_null(strstr(found->error.message, "index"));
    assert_non_null(strstr(found->error.message, "replace this member"));
}

/* Two starts must say the same, and a refused one must leave the files alone. */
static struct found recover_twice(struct fake_disk *disk)
{
    struct found found = recover(disk);
    struct found again = recover(disk);

    assert_int_equal(found.status, again.status);
    if (found.status == 0) {
        assert_true(same(&found, &again));
        assert_int_equal(again.state.torn_bytes, 0);
    } else {
        assert_string_equal(found.error.message, again.error.message);
    }
    return found;
}

/* is_idle: nothing may be lost. Otherwise the last group may, as if it were torn. */
static void flip_every_byte(bool is_idle)
{
    struct fake_disk *sound = make_log(is_idle);
    struct found whole = recover(sound);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);
    unsigned n_refused = 0, n_whole = 0, n_torn = 0;

    assert_int_equal(whole.status, 0);
    assert_true(n >= 3);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t offset = 0; offset < SEGMENT_BYTES; offset++) {
            struct fake_disk *disk = fake_disk_copy(sound);
            uint64_t size;
            uint8_t *data = fake_disk_data(disk, paths[i], &size);
            struct found found;

            data[offset] ^= (uint8_t)(1 << offset % 8);
            found = recover(disk);
            if (found.status != 0) {
                /* The end of a segment vouches for the next one's head, and so on. */
                assert_names(&found, "wal/");
                n_refused++;
            } else if (same(&found, &whole)) {
                n_whole++;
                assert_int_equal(i, n - 1);
            } else {
                n_torn++;
                assert_false(is_idle);
                assert_int_equal(i, n - 1);
                assert_true(found.state.torn_bytes > 0);
                assert_int_equal(found.state.last_index, whole.state.last_index - 1);
                assert_memory_equal(found.ids, whole.ids, whole.state.last_index * 8);
            }
            fake_disk_free(disk);
        }
    }
    print_message("%u refused, %u whole, %u as torn\n", n_refused, n_whole, n_torn);
    assert_true(n_refused > (n - 1) * SEGMENT_BYTES);
    assert_true(is_idle || n_torn > 0);
    fake_disk_free(sound);
}

static void a_flipped_byte_is_refused(void **state)
{
    (void)state;
    flip_every_byte(true);
}

static void a_flipped_byte_of_the_last_group_looks_torn(void **state)
{
    (void)state;
    flip_every_byte(false);
}

static void a_refused_log_is_left_alone(void **state)
{
    struct fake_disk *disk = make_log(true);
    char paths[FILES_MAX][128];
    uint64_t n_changes, size;

    (void)state;
    assert_true(segments_of(disk, paths) >= 3);
    fake_disk_data(disk, paths[1], &size)[200] ^= 4;
    n_changes = fake_disk_n_changes(disk);
    recover_twice(disk);
    /* Only wal's own directory entry is synced. */
    assert_int_equal(fake_disk_n_changes(disk), n_changes + 2);
    fake_disk_free(disk);
}

static void a_cut_or_extended_segment_is_refused(void **state)
{
    struct fake_disk *sound = make_log(true);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        for (uint64_t size = 0; size <= SEGMENT_BYTES + 8; size++) {
            struct fake_disk *disk;
            struct found found;

            if (size == SEGMENT_BYTES) {
                continue;
            }
            disk = fake_disk_copy(sound);
            fake_disk_resize(disk, paths[i], size);
            found = recover(disk);
            assert_names(&found, paths[i]);
            fake_disk_free(disk);
        }
    }
    fake_disk_free(sound);
}

static void a_missing_segment_is_refused(void **state)
{
    struct fake_disk *sound = make_log(true);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct fake_disk *disk = fake_disk_copy(sound);
        struct found found;

        fake_disk_remove(disk, paths[i]);
        found = recover_twice(disk);
        assert_names(&found, strrchr(paths[i], '-'));
        assert_non_null(strstr(found.error.message, "missing"));
        fake_disk_free(disk);
    }
    fake_disk_free(sound);
}

/* A copy under another number or first index, beside the others or over one. */
static void a_duplicated_segment_is_refused(void **state)
{
    struct fake_disk *sound = make_log(true);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);

    (void)state;
    for (size_t from = 0; from < n; from++) {
        for (uint64_t to = 1; to <= n + 2; to++) {
            struct fake_disk *disk = fake_disk_copy(sound);
            struct found found;
            uint64_t size;
            const uint8_t *data = fake_disk_data(disk, paths[from], &size);
            char name[64];

            snprintf(name, sizeof name, "wal/%016x-%016llx", 77, (unsigned long long)to);
            fake_disk_put(disk, name, data, size);
            found = recover_twice(disk);
            assert_names(&found, "wal");
            fake_disk_free(disk);
        }
    }
    fake_disk_free(sound);
}

static void swapped_segments_are_refused(void **state)
{
    struct fake_disk *sound = make_log(true);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            struct fake_disk *disk = fake_disk_copy(sound);
            uint64_t size;
            uint8_t *a = fake_disk_data(disk, paths[i], &size);
            uint8_t *b = fake_disk_data(disk, paths[j], &size);
            struct found found;

            for (uint64_t k = 0; k < SEGMENT_BYTES; k++) {
                uint8_t byte = a[k];

                a[k] = b[k];
                b[k] = byte;
            }
            found = recover_twice(disk);
            assert_names(&found, "wal/");
            fake_disk_free(disk);
        }
    }
    fake_disk_free(sound);
}

/* Where the last byte of the last segment stands that is not zero. */
static uint64_t end_of(struct fake_disk *disk, const char *path)
{
    uint64_t size;
    const uint8_t *data = fake_disk_data(disk, path, &size);

    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    return size;
}

/* A block of one place at another, of another segment, or of zeros, as a disk may mix them up. Only
 * if no whole record stands behind it, that looks like a torn write. */
static void a_misplaced_block_is_refused(void **state)
{
    enum { BLOCK = 512, RECORD = 56 };
    struct fake_disk *sound = make_log(true);
    struct found whole = recover(sound);
    char paths[FILES_MAX][128];
    size_t n = segments_of(sound, paths);
    uint64_t end = end_of(sound, paths[n - 1]);
    unsigned n_refused = 0;

    (void)state;
    for (size_t block = 0; block < n * SEGMENT_BYTES / BLOCK; block++) {
        for (size_t source = 0; source <= n * SEGMENT_BYTES / BLOCK; source++) {
            struct fake_disk *disk = fake_disk_copy(sound);
            uint64_t size;
            uint8_t *to = fake_disk_data(disk, paths[block * BLOCK / SEGMENT_BYTES], &size) +
                          block * BLOCK % SEGMENT_BYTES;
            static const uint8_t zeros[BLOCK];
            const uint8_t *from = zeros;
            struct found found;

            if (source < n * SEGMENT_BYTES / BLOCK) {
                from = fake_disk_data(disk, paths[source * BLOCK / SEGMENT_BYTES], &size) +
                       source * BLOCK % SEGMENT_BYTES;
            }
            memmove(to, from, BLOCK);
            found = recover(disk);
            if (found.status != 0) {
                assert_names(&found, "wal/");
                n_refused++;
            } else if (!same(&found, &whole)) {
                assert_true((block + 1) * BLOCK + RECORD > (n - 1) * SEGMENT_BYTES + end);
                assert_true(found.state.last_index < whole.state.last_index);
                assert_memory_equal(found.ids, whole.ids, (found.state.last_index + 1) * 8);
            }
            fake_disk_free(disk);
        }
    }
    assert_true(n_refused > n * SEGMENT_BYTES / BLOCK);
    fake_disk_free(sound);
}

/* What clients write looks like records of a torn group: it vouches for nothing. */
static void forged_records_vouch_for_nothing(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct wal_rig rig;
    uint8_t forged[1024];
    struct kv_wal_entry entry = {1, 1, {forged, sizeof forged}};
    char paths[FILES_MAX][128];
    uint8_t *data;
    uint64_t size;

    (void)state;
    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    wal_rig_append(&rig, 1, 1, 100);
    wal_rig_sync(&rig);
    /* The bytes of the log itself, as one may read them in the file. */
    assert_int_equal(segments_of(disk, paths), 1);
    data = fake_disk_data(disk, paths[0], &size);
    memcpy(forged, data, sizeof forged);
    kv_wal_write_entries(rig.wal, 2, &entry, 1);
    wal_rig_sync(&rig);
    wal_rig_close(&rig);
    for (uint64_t offset = 0; offset + 8 < size; offset += 8) {
        if (memcmp(data + offset, forged, 56) == 0 && offset > 0) {
            data[offset - 50] ^= 1; /* in the header of the entry that holds the copy */
        }
    }
    assert_int_equal(recover(disk).status, 0);
    fake_disk_free(disk);
}

static void another_nodes_log_is_refused(void **state)
{
    struct fake_disk *disk = make_log(true);
    struct wal_rig rig;

    (void)state;
    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    rig.options.node_id = 4;
    assert_int_equal(wal_rig_open(&rig), KV_WRONG_NODE);
    assert_non_null(strstr(rig.error.message, "node 3 of cluster 77"));
    assert_non_null(strstr(rig.error.message, "node 4 of cluster 77"));
    rig.options.node_id = 3;
    rig.options.cluster_id = 78;
    assert_int_equal(wal_rig_open(&rig), KV_WRONG_NODE);
    rig.options.cluster_id = 77;
    assert_int_equal(wal_rig_open(&rig), 0);
    wal_rig_close(&rig);
    fake_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_byte_is_refused),
        cmocka_unit_test(a_flipped_byte_of_the_last_group_looks_torn),
        cmocka_unit_test(a_refused_log_is_left_alone),
        cmocka_unit_test(a_cut_or_extended_segment_is_refused),
        cmocka_unit_test(a_missing_segment_is_refused),
        cmocka_unit_test(a_duplicated_segment_is_refused),
        cmocka_unit_test(swapped_segments_are_refused),
        cmocka_unit_test(a_misplaced_block_is_refused),
        cmocka_unit_test(forged_records_vouch_for_nothing),
        cmocka_unit_test(another_nodes_log_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
