/* What inspection tells of logs and snapshots, sound, torn and damaged, and that it changes
 * nothing: no file, no name, not even by a sync. */
#include "raft/inspect.h"
#include "raft/meta.h"
#include "raft/snapshot_file.h"
#include "raft/wal_format.h"
#include "tests/support/wal_rig.h"

#include <raft.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEGMENT_BYTES = 4096, TEXT_BYTES = 1 << 20 };
#define SEGMENT_1 "wal/0000000000000001-0000000000000001"
#define SNAPSHOT "snap/0000000000000064-0000000000000003"

static char text[TEXT_BYTES];
static struct kv_error error;

static void note_line(void *arg, const char *line)
{
    size_t used = strlen(text);

    (void)arg;
    assert_true(used + strlen(line) + 2 < TEXT_BYTES);
    snprintf(text + used, TEXT_BYTES - used, "%s\n", line);
}

typedef int (*inspect_fn)(const struct kv_inspect *inspect, struct kv_error *ret_error);

/* path NULL: of the directory. */
static int inspect(struct fake_disk *disk,
                   inspect_fn fn,
                   int (*file_fn)(const struct kv_inspect *, const char *, struct kv_error *),
                   const char *path)
{
    struct kv_inspect how = {.disk = fake_disk_ops(disk), .print = note_line};
    uint64_t n_changes = fake_disk_n_changes(disk);
    int status;

    text[0] = 0;
    memset(&error, 0, sizeof error);
    status = path ? file_fn(&how, path, &error) : fn(&how, &error);
    assert_int_equal(fake_disk_n_changes(disk), n_changes);
    return status;
}

static int inspect_wal(struct fake_disk *disk, const char *path)
{
    return inspect(disk, kv_inspect_wal, kv_inspect_wal_segment, path);
}

static int inspect_snapshot(struct fake_disk *disk, const char *path)
{
    return inspect(disk, kv_inspect_snapshots, kv_inspect_snapshot, path);
}

static void assert_says(const char *words)
{
    if (!strstr(text, words) && !strstr(error.message, words)) {
        print_error("wanted: %s\n%s%s\n", words, text, error.message);
        fail();
    }
}

static struct raft_buffer make_configuration(void)
{
    struct raft_configuration configuration;
    struct raft_buffer buffer;

    raft_configuration_init(&configuration);
    assert_int_equal(raft_configuration_add(&configuration, 1, "host1:4701", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&configuration, 2, "host2:4701", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_encode(&configuration, &buffer), 0);
    raft_configuration_close(&configuration);
    return buffer;
}

/* Some segments with one configuration, as wal_rig's node writes them. */
static struct fake_disk *make_log(struct kv_slice configuration)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_wal_entry change = {1, RAFT_CHANGE, configuration};
    struct wal_rig rig;
    struct kv_meta meta;

    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    kv_wal_write_vote(rig.wal, 1, 2);
    kv_wal_write_entries(rig.wal, 1, &change, 1);
    wal_rig_sync(&rig);
    for (uint64_t i = 2; i <= 40; i++) {
        wal_rig_append(&rig, 1 + i / 20, i, 300);
        wal_rig_sync(&rig);
    }
    meta = (struct kv_meta){rig.options.cluster_id, rig.options.node_id, KV_FORMAT_VERSION};
    wal_rig_close(&rig);
    assert_int_equal(kv_meta_write(fake_disk_ops(disk), &meta, &error), 0);
    return disk;
}

static struct fake_disk *make_sound_log(void)
{
    struct raft_buffer buffer = make_configuration();
    struct fake_disk *disk = make_log(kv_slice_of(buffer.base, buffer.len));

    raft_free(buffer.base);
    return disk;
}

/* The newest segment's name. */
static void last_segment(struct fake_disk *disk, char name[128])
{
    char names[32][128];
    size_t n = fake_disk_list(disk, "wal", names, 32);

    name[0] = 0;
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) == strlen(SEGMENT_1) && strcmp(names[i], name) > 0) {
            memcpy(name, names[i], 128);
        }
    }
}

static void a_sound_log_is_told(void **state)
{
    struct fake_disk *disk = make_sound_log();

    (void)state;
    assert_int_equal(inspect_wal(disk, NULL), 0);
    assert_says("meta: cluster ");
    assert_says("segment disk/" SEGMENT_1);
    assert_says("configuration at index 1, term 1");
    assert_says("member 1 at host1:4701, voter");
    assert_says("member 2 at host2:4701, standby");
    assert_says("entries 1 to ");
    assert_says("segment 2 follows");
    assert_says("log: term 1, vote for 2, entries 1 to 40, behind index 0 of term 0");
    assert_says("\nsound\n");
    assert_null(strstr(text, "torn"));
    assert_int_equal(inspect_wal(disk, SEGMENT_1), 0);
    assert_says("sound, as far as one segment can tell");
    fake_disk_free(disk);
}

static void a_torn_end_is_left_as_it_is(void **state)
{
    struct fake_disk *disk = make_sound_log();
    char name[128];
    uint64_t size, at;
    uint8_t *data;

    (void)state;
    last_segment(disk, name);
    data = fake_disk_data(disk, name, &size);
    at = size;
    while (data[at - 1] == 0) {
        at--;
    }
    data[at - 1] ^= 1;
    assert_int_equal(inspect_wal(disk, NULL), 0);
    assert_says("torn: the last ");
    assert_says("left as they are");
    assert_says("entries 1 to 39");
    assert_int_equal(inspect_wal(disk, name), 0);
    assert_says("torn write");
    fake_disk_free(disk);
}

static void damage_is_named_by_its_place(void **state)
{
    struct fake_disk *disk = make_sound_log();
    uint64_t size;

    (void)state;
    fake_disk_data(disk, SEGMENT_1, &size)[1000] ^= 1;
    assert_int_equal(inspect_wal(disk, NULL), KV_CORRUPT);
    assert_says(SEGMENT_1 " at offset ");
    assert_says("segment disk/wal/");
    assert_int_equal(inspect_wal(disk, SEGMENT_1), KV_CORRUPT);
    assert_says("a record that was on disk is not readable");
    fake_disk_data(disk, SEGMENT_1, &size)[1000] ^= 1;
    assert_int_equal(inspect_wal(disk, NULL), 0);
    fake_disk_data(disk, SEGMENT_1, &size)[60] ^= 1;
    assert_int_equal(inspect_wal(disk, SEGMENT_1), KV_CORRUPT);
    assert_says("offset 0: its head is not readable");
    fake_disk_data(disk, SEGMENT_1, &size)[60] ^= 1;
    fake_disk_resize(disk, SEGMENT_1, SEGMENT_BYTES + 8);
    assert_int_equal(inspect_wal(disk, SEGMENT_1), KV_CORRUPT);
    assert_says("cut or extended");
    fake_disk_remove(disk, SEGMENT_1);
    assert_int_equal(inspect_wal(disk, NULL), KV_CORRUPT);
    assert_says("missing");
    fake_disk_free(disk);
}

/* Every byte of the first segment: no crash, and never a change. */
static void every_flipped_byte_is_told(void **state)
{
    struct fake_disk *disk = make_sound_log();
    uint64_t size;
    uint8_t *data = fake_disk_data(disk, SEGMENT_1, &size);

    (void)state;
    for (uint64_t i = 0; i < size; i++) {
        data[i] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(inspect_wal(disk, NULL), KV_CORRUPT);
        data[i] ^= (uint8_t)(1 << i % 8);
    }
    fake_disk_free(disk);
}

static void a_malformed_configuration_is_damage(void **state)
{
    enum { USED_BYTES = 9 + 2 * (8 + sizeof "host1:4701" + 1) };
    struct raft_buffer buffer = make_configuration();

    (void)state;
    /* The last bytes are padding. */
    assert_int_equal(buffer.len, USED_BYTES + 7);
    for (size_t size = 0; size < USED_BYTES; size++) {
        struct fake_disk *disk = make_log(kv_slice_of(buffer.base, size));

        assert_int_equal(inspect_wal(disk, NULL), KV_CORRUPT);
        assert_says("the configuration in this entry is malformed");
        assert_says("entries 1 to 40");
        fake_disk_free(disk);
    }
    raft_free(buffer.base);
}

static void what_is_not_there_is_said(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct fake_disk *log = make_sound_log();
    char names[32][128];
    size_t n = fake_disk_list(log, "wal", names, 32);
    uint64_t size;

    (void)state;
    assert_int_equal(inspect_wal(disk, NULL), KV_NOT_FOUND);
    assert_says("there is no disk/wal");
    assert_int_equal(inspect_wal(disk, "wal/x"), KV_NOT_FOUND);
    assert_int_equal(inspect_snapshot(disk, NULL), 0);
    assert_says("no snapshots");
    assert_int_equal(inspect_snapshot(disk, "snap/x"), KV_NOT_FOUND);
    /* A log without meta is a start that was cut off; meta without a log has lost it. */
    fake_disk_remove(log, "meta");
    assert_int_equal(inspect_wal(log, NULL), 0);
    fake_disk_free(log);
    log = make_sound_log();
    for (size_t i = 0; i < n; i++) {
        fake_disk_remove(log, names[i]);
    }
    assert_int_equal(inspect_wal(log, NULL), KV_CORRUPT);
    assert_says("is gone");
    fake_disk_data(log, "meta", &size)[9] ^= 1;
    assert_int_equal(inspect_wal(log, NULL), KV_CORRUPT);
    assert_says("meta is damaged");
    fake_disk_free(log);
    fake_disk_free(disk);
}

static void write_snapshot(struct fake_disk *disk, uint64_t index, struct kv_slice configuration)
{
    struct kv_snapshot_meta meta = {
        .cluster_id = 1,
        .node_id = 2,
        .index = index,
        .term = 3,
        .configuration_index = 9,
        .configuration = configuration,
    };
    struct kv_snapshot_descriptor descriptor;
    struct kv_snapshot_writer *writer;

    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, kv_slice_str("block one"), &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, kv_slice_str("block two"), &error), 0);
    assert_int_equal(kv_snapshot_writer_finish(writer, &descriptor, &error), 0);
    kv_snapshot_writer_close(writer);
}

static void snapshots_are_told(void **state)
{
    struct raft_buffer buffer = make_configuration();
    struct fake_disk *disk = fake_disk_new(1);
    uint64_t size;

    (void)state;
    write_snapshot(disk, 50, kv_slice_of(buffer.base, buffer.len));
    write_snapshot(disk, 100, kv_slice_of(buffer.base, buffer.len));
    fake_disk_put(disk, "snap/0000000000000999-0000000000000001.part", "x", 1);
    fake_disk_put(disk, "snap/0000000000000999-0000000000000001.tmp", "x", 1);
    assert_int_equal(inspect_snapshot(disk, NULL), 0);
    assert_says("state at index 100, term 3");
    assert_says("state at index 50, term 3");
    assert_says("member 2 at host2:4701, standby");
    assert_says("2 sound blocks, 18 bytes raw");
    assert_says(".part: a transfer");
    assert_says(".tmp: being written");
    assert_int_equal(inspect_snapshot(disk, SNAPSHOT), 0);
    assert_says("  sound\n");
    fake_disk_data(disk, SNAPSHOT, &size)[size - 1] ^= 1;
    assert_int_equal(inspect_snapshot(disk, SNAPSHOT), KV_CORRUPT);
    assert_says("2 sound blocks, 18 bytes raw");
    assert_says("the hash of all of it is wrong");
    assert_int_equal(inspect_snapshot(disk, NULL), KV_CORRUPT);
    assert_says("state at index 50, term 3");
    assert_says("the hash of all of it is wrong");
    fake_disk_free(disk);
    raft_free(buffer.base);
}

static void a_snapshot_of_another_cluster_is_told(void **state)
{
    struct raft_buffer buffer = make_configuration();
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_meta meta = {5, 1, KV_FORMAT_VERSION};

    (void)state;
    write_snapshot(disk, 100, kv_slice_of(buffer.base, buffer.len));
    assert_int_equal(kv_meta_write(fake_disk_ops(disk), &meta, &error), 0);
    assert_int_equal(inspect_snapshot(disk, NULL), KV_WRONG_NODE);
    assert_says("of cluster 1");
    assert_int_equal(inspect_snapshot(disk, SNAPSHOT), 0);
    fake_disk_free(disk);
    disk = fake_disk_new(1);
    write_snapshot(disk, 100, kv_slice_of(buffer.base, 11));
    assert_int_equal(inspect_snapshot(disk, NULL), KV_CORRUPT);
    assert_says("its configuration is malformed");
    fake_disk_free(disk);
    raft_free(buffer.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_log_is_told),
        cmocka_unit_test(a_torn_end_is_left_as_it_is),
        cmocka_unit_test(damage_is_named_by_its_place),
        cmocka_unit_test(every_flipped_byte_is_told),
        cmocka_unit_test(a_malformed_configuration_is_damage),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(snapshots_are_told),
        cmocka_unit_test(a_snapshot_of_another_cluster_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
