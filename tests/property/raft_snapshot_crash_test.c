/* The power is cut at every call of a writer, of a receiver and of a removal, and whatever part of
 * the unsynced bytes and names is kept: then there is the old state, or the complete new file,
 * never one that is half; what was reported done is there; and all of it can be done again. The
 * same with a disk that is full at any point, a sync that fails, and a process that is killed. A
 * failing run is printed. */
#include "raft/snapshot_file.h"
#include "tests/support/fake_disk.h"
#include "tests/support/snapshot_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OLD "snap/000000000000000a-0000000000000001"
#define NEW "snap/0000000000000014-0000000000000002"

/* So large that there are syncs in between. */
enum {
    SEEDS = 8,
    BLOCKS = 6,
    BLOCK_BYTES = 450000,
    SENT_BLOCKS = 12,
    SENT_BLOCK_BYTES = 1 << 20,
    PIECE_BYTES = 3000000,
};
_Static_assert(BLOCKS *BLOCK_BYTES > 2 * KV_SNAPSHOT_SYNC_BYTES, "a writer syncs in between");
_Static_assert(SENT_BLOCKS *SENT_BLOCK_BYTES > KV_SNAPSHOT_PART_SYNC_BYTES + PIECE_BYTES,
               "a receiver syncs in between");

static const char *scene; /* NULL: it came to its end */
static uint64_t present_seed, present_call;
static uint8_t *noise;
static struct fake_disk *sender;
static struct kv_snapshot_descriptor sent;

static void begin(const char *name)
{
    if (scene) {
        print_error("failed: %s, seed %llu, call %llu\n",
                    scene,
                    (unsigned long long)present_seed,
                    (unsigned long long)present_call);
    }
    scene = name;
}

static struct kv_snapshot_meta meta_of(uint64_t index, uint64_t term)
{
    return (struct kv_snapshot_meta){.cluster_id = 7,
                                     .node_id = 1,
                                     .index = index,
                                     .term = term,
                                     .configuration_index = 1,
                                     .configuration = kv_slice_str("members")};
}

static int write_one(struct fake_disk *disk,
                     uint64_t index,
                     uint64_t term,
                     size_t n_blocks,
                     size_t block_bytes,
                     struct kv_snapshot_descriptor *ret_descriptor)
{
    struct kv_snapshot_meta meta = meta_of(index, term);
    struct kv_snapshot_writer *writer;
    struct kv_error error;
    int status = kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error);

    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < n_blocks && status == 0; i++) {
        status =
            kv_snapshot_writer_append(writer, kv_slice_of(noise + i * 1000, block_bytes), &error);
    }
    if (status == 0) {
        status = kv_snapshot_writer_finish(writer, ret_descriptor, &error);
    }
    kv_snapshot_writer_close(writer);
    return status;
}

static int receive(struct fake_disk *disk)
{
    struct kv_snapshot_receiver *receiver;
    struct kv_error error;
    struct kv_buf piece;
    int status = kv_snapshot_receiver_open(fake_disk_ops(disk), &sent, &receiver, &error);

    if (status != 0) {
        return status;
    }
    kv_buf_init(&piece, PIECE_BYTES);
    while (status == 0 && kv_snapshot_receiver_offset(receiver) < sent.size_bytes) {
        uint64_t offset = kv_snapshot_receiver_offset(receiver);

        kv_buf_clear(&piece);
        assert_int_equal(
            kv_snapshot_piece_read(fake_disk_ops(sender), NEW, offset, PIECE_BYTES, &piece, &error),
            0);
        status =
            kv_snapshot_receiver_add(receiver, offset, kv_slice_of(piece.data, piece.size), &error);
    }
    if (status == 0) {
        status = snapshot_rig_finish(receiver, 7, &error);
    }
    kv_snapshot_receiver_close(receiver);
    kv_buf_deinit(&piece);
    return status;
}

/* A disk with the older snapshot on it. */
static struct fake_disk *make_disk(uint64_t seed)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = fake_disk_new(seed);

    assert_int_equal(write_one(disk, 10, 1, 1, BLOCK_BYTES, &descriptor), 0);
    return disk;
}

static bool is_sound(struct fake_disk *disk, const char *path)
{
    struct kv_snapshot_descriptor descriptor;
    struct kv_error error;

    return kv_snapshot_verify(fake_disk_ops(disk), path, 7, &descriptor, &error) == 0;
}

/* As a start would look at it: whatever has a final name is whole. Is the new one there? */
static bool judge(struct fake_disk *disk, bool must_be_there)
{
    struct kv_snapshot_id ids[8];
    struct kv_error error;
    char names[16][128];
    size_t n = 0, n_names;
    bool is_there;

    assert_int_equal(kv_snapshot_list(fake_disk_ops(disk), ids, 8, &n, &error), 0);
    is_there = n == 2;
    assert_true(n == 1 || n == 2);
    assert_int_equal(ids[n - 1].index, 10);
    assert_true(is_sound(disk, OLD));
    if (is_there) {
        assert_int_equal(ids[0].index, 20);
        assert_true(is_sound(disk, NEW));
        assert_true(ids[0].size_bytes >= BLOCKS * BLOCK_BYTES);
    }
    assert_true(is_there || !must_be_there);
    n_names = fake_disk_list(disk, "snap", names, 16);
    for (size_t i = 0; i < n_names; i++) {
        assert_null(strstr(names[i], ".tmp"));
    }
    return is_there;
}

typedef int (*action_fn)(struct fake_disk *disk);

static int write_new(struct fake_disk *disk)
{
    struct kv_snapshot_descriptor descriptor;

    return write_one(disk, 20, 2, BLOCKS, BLOCK_BYTES, &descriptor);
}

struct counts {
    unsigned n_old, n_new, n_done;
};

/* After the cut, once more until it is done, and then the power may go: it stays. */
static void go_on(struct fake_disk *disk, action_fn action)
{
    int status = action(disk);

    assert_true(status == 0 || status == KV_EXISTS);
    fake_disk_crash(disk);
    assert_true(judge(disk, true));
}

static bool cut_once(action_fn action, bool is_killed, struct counts *counts)
{
    struct fake_disk *disk = make_disk(present_seed);
    bool was_cut;
    int status;

    fake_disk_cut_at(disk, present_call);
    status = action(disk);
    was_cut = fake_disk_is_cut(disk);
    assert_true(was_cut || status == 0);
    if (is_killed) {
        fake_disk_cut_at(disk, 0);
        fake_disk_close_all(disk);
    } else {
        fake_disk_crash(disk);
    }
    counts->n_done += status == 0;
    if (judge(disk, status == 0)) {
        counts->n_new++;
        if (is_killed) {
            /* A start that has seen it may build on it. */
            fake_disk_crash(disk);
            assert_true(judge(disk, true));
        }
    } else {
        counts->n_old++;
    }
    if ((present_call + present_seed) % 4 == 0) {
        go_on(disk, action);
    }
    fake_disk_free(disk);
    return was_cut;
}

static void cut_everywhere(const char *name, action_fn action)
{
    struct counts counts = {0};

    begin(name);
    for (present_seed = 1; present_seed <= SEEDS; present_seed++) {
        bool is_killed = present_seed % 4 == 0;

        present_call = 1;
        while (cut_once(action, is_killed, &counts)) {
            present_call++;
        }
        assert_true(present_call > 10);
    }
    print_message("%s: %u old, %u new, %u done\n", name, counts.n_old, counts.n_new, counts.n_done);
    /* A run that never came to these proves nothing. */
    assert_true(counts.n_old > SEEDS && counts.n_new > counts.n_done && counts.n_done >= SEEDS);
    scene = NULL;
}

static void a_cut_writer_leaves_old_or_new(void **state)
{
    (void)state;
    cut_everywhere("writer", write_new);
}

static void a_cut_receiver_leaves_old_or_new(void **state)
{
    (void)state;
    cut_everywhere("receiver", receive);
}

/* Cut again and again in one transfer: it ends, having gone on from what was synced. */
static void a_receiver_cut_often_comes_to_an_end(void **state)
{
    unsigned n_resumed = 0;

    (void)state;
    begin("receiver, cut often");
    for (present_seed = 1; present_seed <= SEEDS; present_seed++) {
        struct fake_disk *disk = make_disk(present_seed);
        int status = KV_IO;

        for (present_call = 4; status != 0; present_call++) {
            struct kv_snapshot_receiver *receiver;
            struct kv_error error;

            status = kv_snapshot_receiver_open(fake_disk_ops(disk), &sent, &receiver, &error);
            if (status == KV_EXISTS) {
                break;
            }
            assert_int_equal(status, 0);
            n_resumed += kv_snapshot_receiver_offset(receiver) > 0;
            kv_snapshot_receiver_close(receiver);
            fake_disk_cut_at(disk, present_call);
            status = receive(disk);
            fake_disk_crash(disk);
            judge(disk, status == 0);
        }
        assert_true(judge(disk, true));
        fake_disk_free(disk);
    }
    print_message("%u resumed\n", n_resumed);
    assert_true(n_resumed > SEEDS / 2);
    scene = NULL;
}

/* Room for a little more each time. */
static void a_full_disk_leaves_the_old(const char *name, action_fn action, uint64_t step_bytes)
{
    unsigned n_refused = 0;
    int status = KV_NO_SPACE;

    begin(name);
    present_seed = 1;
    for (uint64_t more = 0; status != 0; more += step_bytes) {
        struct fake_disk *disk = make_disk(present_seed);
        char names[8][128];

        present_call = more;
        fake_disk_set_size(disk, BLOCK_BYTES + 200 + more);
        status = action(disk);
        assert_true(status == 0 || status == KV_NO_SPACE);
        if (status != 0) {
            assert_int_equal(fake_disk_list(disk, "snap", names, 8), 1);
            n_refused++;
        }
        assert_true(judge(disk, status == 0) == (status == 0));
        fake_disk_set_size(disk, 0);
        if (n_refused % 4 == 0) {
            go_on(disk, action);
        }
        fake_disk_free(disk);
    }
    assert_true(n_refused > 20);
    scene = NULL;
}

static void a_writer_without_room_leaves_nothing(void **state)
{
    (void)state;
    a_full_disk_leaves_the_old("writer, full disk", write_new, BLOCKS * BLOCK_BYTES / 25);
}

static void a_receiver_without_room_leaves_nothing(void **state)
{
    (void)state;
    a_full_disk_leaves_the_old("receiver, full disk", receive, sent.size_bytes / 25);
}

/* What fails once, is given up: nothing that a failed sync may have lost is believed later. */
static void a_failed_sync_leaves_the_old(void **state)
{
    static const action_fn actions[] = {write_new, receive};

    (void)state;
    begin("failed sync");
    for (present_seed = 1; present_seed <= SEEDS; present_seed++) {
        for (size_t i = 0; i < 2; i++) {
            struct fake_disk *disk = make_disk(present_seed);

            fake_disk_fail_syncs(disk, EIO);
            assert_int_equal(actions[i](disk), KV_IO);
            fake_disk_fail_syncs(disk, 0);
            assert_false(judge(disk, false));
            fake_disk_crash(disk);
            assert_false(judge(disk, false));
            go_on(disk, actions[i]);
            fake_disk_free(disk);
        }
    }
    scene = NULL;
}

/* The judge can complain: a rename without a sync before it leaves half files. */
static int write_carelessly(struct fake_disk *disk)
{
    const struct kv_disk *ops = fake_disk_ops(disk);
    uint64_t size;
    uint8_t *data = fake_disk_data(sender, NEW, &size);
    struct kv_file *file;
    int status = ops->ops->open(ops->disk, NEW, KV_DISK_WRITE | KV_DISK_CREATE, &file);

    if (status == 0) {
        status = ops->ops->pwrite(ops->disk, file, data, (size_t)size, 0);
        ops->ops->close(ops->disk, file);
    }
    return status == 0 ? ops->ops->sync_dir(ops->disk, "snap") : KV_IO;
}

static void a_careless_writer_is_found_out(void **state)
{
    unsigned n_half = 0, n_whole = 0;

    (void)state;
    for (present_seed = 1; present_seed <= 4 * SEEDS; present_seed++) {
        struct fake_disk *disk = make_disk(present_seed);
        uint64_t size;

        assert_int_equal(write_carelessly(disk), 0);
        fake_disk_crash(disk);
        assert_non_null(fake_disk_data(disk, NEW, &size));
        if (is_sound(disk, NEW)) {
            n_whole++;
        } else {
            n_half++;
        }
        fake_disk_free(disk);
    }
    assert_true(n_half > 0 && n_whole > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_writer_leaves_old_or_new),
        cmocka_unit_test(a_cut_receiver_leaves_old_or_new),
        cmocka_unit_test(a_receiver_cut_often_comes_to_an_end),
        cmocka_unit_test(a_writer_without_room_leaves_nothing),
        cmocka_unit_test(a_receiver_without_room_leaves_nothing),
        cmocka_unit_test(a_failed_sync_leaves_the_old),
        cmocka_unit_test(a_careless_writer_is_found_out),
    };
    uint64_t x = 1;
    int n_failed;

    noise = malloc(SENT_BLOCKS * 1000 + SENT_BLOCK_BYTES);
    if (!noise) {
        return 1;
    }
    for (size_t i = 0; i < SENT_BLOCKS * 1000 + SENT_BLOCK_BYTES; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        noise[i] = (uint8_t)(x >> 56);
    }
    sender = fake_disk_new(99);
    if (write_one(sender, 20, 2, SENT_BLOCKS, SENT_BLOCK_BYTES, &sent) != 0) {
        return 1;
    }
    n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    begin(NULL);
    fake_disk_free(sender);
    free(noise);
    return n_failed;
}
