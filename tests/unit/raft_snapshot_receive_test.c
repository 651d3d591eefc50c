/* Transfers of snapshots in pieces: the same file arrives, whatever happens in between, or nothing
 * does and the reason is named. */
#include "tests/support/snapshot_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NAME "snap/0000000000000064-0000000000000003"
#define PART NAME ".part"

static const struct kv_snapshot_meta meta = {
    .cluster_id = 77,
    .node_id = 2,
    .index = 100,
    .term = 3,
    .configuration_index = 9,
    .configuration = {(const uint8_t *)"configuration", 13},
};

struct transfer {
    struct fake_disk *from;
    struct fake_disk *to;
    struct kv_snapshot_descriptor descriptor;
    struct kv_snapshot_receiver *receiver;
    struct kv_buf piece;
    struct kv_error error;
};

/* 12 MB, so that the receiver syncs in between. */
static void transfer_init(struct transfer *transfer)
{
    uint8_t *noise = malloc(3 * KV_MIB);
    struct kv_slice blocks[4];

    assert_non_null(noise);
    snapshot_rig_fill(noise, 3 * KV_MIB, 5);
    for (size_t i = 0; i < 4; i++) {
        blocks[i] = kv_slice_of(noise, 3 * KV_MIB);
    }
    *transfer = (struct transfer){.from = fake_disk_new(1), .to = fake_disk_new(2)};
    transfer->descriptor = snapshot_rig_write(transfer->from, &meta, blocks, 4);
    kv_buf_init(&transfer->piece, KV_SNAPSHOT_PIECE_BYTES);
    free(noise);
}

static void transfer_deinit(struct transfer *transfer)
{
    kv_snapshot_receiver_close(transfer->receiver);
    kv_buf_deinit(&transfer->piece);
    fake_disk_free(transfer->from);
    fake_disk_free(transfer->to);
}

static int open_receiver(struct transfer *transfer)
{
    kv_snapshot_receiver_close(transfer->receiver);
    transfer->receiver = NULL;
    return kv_snapshot_receiver_open(
        fake_disk_ops(transfer->to), &transfer->descriptor, &transfer->receiver, &transfer->error);
}

/* Sends pieces up to `end`; the first status that is not 0. */
static int send_until(struct transfer *transfer, uint64_t end)
{
    int status = 0;

    while (status == 0 && kv_snapshot_receiver_offset(transfer->receiver) < end) {
        uint64_t offset = kv_snapshot_receiver_offset(transfer->receiver);
        uint64_t left = end - offset;

        kv_buf_clear(&transfer->piece);
        assert_int_equal(
            kv_snapshot_piece_read(
                fake_disk_ops(transfer->from),
                NAME,
                offset,
                (size_t)(left < KV_SNAPSHOT_PIECE_BYTES ? left : KV_SNAPSHOT_PIECE_BYTES),
                &transfer->piece,
                &transfer->error),
            0);
        status = kv_snapshot_receiver_add(transfer->receiver,
                                          offset,
                                          kv_slice_of(transfer->piece.data, transfer->piece.size),
                                          &transfer->error);
    }
    return status;
}

static int finish(struct transfer *transfer)
{
    return snapshot_rig_finish(transfer->receiver, 77, &transfer->error);
}

static void assert_same_file(struct transfer *transfer)
{
    uint64_t size, size_to;
    uint8_t *data = fake_disk_data(transfer->from, NAME, &size);
    uint8_t *data_to = fake_disk_data(transfer->to, NAME, &size_to);

    assert_non_null(data_to);
    assert_int_equal(size, size_to);
    assert_memory_equal(data, data_to, size);
    assert_false(snapshot_rig_is_there(transfer->to, PART));
}

static void a_transfer_gives_the_same_file(void **state)
{
    struct transfer transfer;

    (void)state;
    transfer_init(&transfer);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver), 0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_int_equal(finish(&transfer), 0);
    assert_same_file(&transfer);
    assert_int_equal(finish(&transfer), KV_IO);
    transfer_deinit(&transfer);
}

static void a_transfer_goes_on_where_it_was_synced(void **state)
{
    struct transfer transfer;

    (void)state;
    transfer_init(&transfer);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, KV_SNAPSHOT_PART_SYNC_BYTES + 1000), 0);
    fake_disk_close_all(transfer.to);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver), KV_SNAPSHOT_PART_SYNC_BYTES);
    assert_int_equal(send_until(&transfer, 9 * KV_MIB), 0);
    /* Asked for by another descriptor: from the start. */
    fake_disk_crash(transfer.to);
    transfer.descriptor.hash ^= 1;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver), 0);
    transfer.descriptor.hash ^= 1;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver),
                     transfer.descriptor.size_bytes);
    assert_int_equal(finish(&transfer), 0);
    assert_same_file(&transfer);
    transfer_deinit(&transfer);
}

static void a_part_with_a_damaged_note_is_begun_anew(void **state)
{
    struct transfer transfer;
    uint64_t size;
    uint8_t *part;

    (void)state;
    transfer_init(&transfer);
    for (uint64_t i = 0; i < 64; i += 7) {
        assert_int_equal(open_receiver(&transfer), 0);
        assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver), 0);
        assert_int_equal(send_until(&transfer, 5 * KV_MIB), 0);
        kv_snapshot_receiver_close(transfer.receiver);
        transfer.receiver = NULL;
        part = fake_disk_data(transfer.to, PART, &size);
        part[size - 64 + i] ^= 4;
    }
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(kv_snapshot_receiver_offset(transfer.receiver), 0);
    fake_disk_resize(transfer.to, PART, 100);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_int_equal(finish(&transfer), 0);
    assert_same_file(&transfer);
    transfer_deinit(&transfer);
}

static void pieces_come_in_order(void **state)
{
    struct transfer transfer;
    struct kv_slice piece = kv_slice_str("something");

    (void)state;
    transfer_init(&transfer);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, 3 * KV_MIB), 0);
    assert_int_equal(
        kv_snapshot_receiver_add(transfer.receiver, 3 * KV_MIB + 1, piece, &transfer.error),
        KV_INVALID);
    assert_int_equal(
        kv_snapshot_receiver_add(transfer.receiver, 2 * KV_MIB, piece, &transfer.error),
        KV_INVALID);
    assert_int_equal(
        kv_snapshot_receiver_add(transfer.receiver, UINT64_MAX, piece, &transfer.error),
        KV_INVALID);
    assert_int_equal(kv_snapshot_receiver_add(
                         transfer.receiver, 3 * KV_MIB, kv_slice_of(NULL, 0), &transfer.error),
                     0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes - 1), 0);
    assert_int_equal(kv_snapshot_receiver_add(transfer.receiver,
                                              transfer.descriptor.size_bytes - 1,
                                              kv_slice_of("ab", 2),
                                              &transfer.error),
                     KV_INVALID);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_int_equal(finish(&transfer), 0);
    assert_same_file(&transfer);
    transfer_deinit(&transfer);
}

/* Refused by a reason that contains the word, and nothing is left. */
static void assert_refused(struct transfer *transfer, int expected, const char *word)
{
    assert_int_equal(finish(transfer), expected);
    if (!strstr(transfer->error.message, word)) {
        print_error("%s\n", transfer->error.message);
        fail();
    }
    assert_false(snapshot_rig_is_there(transfer->to, PART) ||
                 snapshot_rig_is_there(transfer->to, NAME));
}

static void a_descriptor_that_lies_is_found_out(void **state)
{
    struct transfer transfer;
    struct kv_snapshot_descriptor truth;

    (void)state;
    transfer_init(&transfer);
    truth = transfer.descriptor;
    transfer.descriptor.hash++;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, truth.size_bytes), 0);
    assert_refused(&transfer, KV_CORRUPT, "hash");

    transfer.descriptor = truth;
    transfer.descriptor.configuration_index++;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, truth.size_bytes), 0);
    assert_refused(&transfer, KV_CORRUPT, "configuration");

    transfer.descriptor = truth;
    transfer.descriptor.size_bytes += 5;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, truth.size_bytes), 0);
    assert_refused(&transfer, KV_CORRUPT, "ended at");

    transfer.descriptor.size_bytes = truth.size_bytes - 5;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, truth.size_bytes - 5), 0);
    assert_refused(&transfer, KV_CORRUPT, "cut");

    transfer.descriptor = truth;
    transfer.descriptor.term++;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, truth.size_bytes), 0);
    assert_refused(&transfer, KV_CORRUPT, "another index or term");
    transfer_deinit(&transfer);
}

static void a_transfer_of_another_cluster_or_with_damage_is_refused(void **state)
{
    struct transfer transfer;
    uint64_t size;

    (void)state;
    transfer_init(&transfer);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_int_equal(snapshot_rig_finish(transfer.receiver, 5, &transfer.error), KV_WRONG_NODE);
    assert_false(snapshot_rig_is_there(transfer.to, PART) ||
                 snapshot_rig_is_there(transfer.to, NAME));
    assert_int_equal(open_receiver(&transfer), 0);
    fake_disk_data(transfer.from, NAME, &size)[6 * KV_MIB] ^= 1;
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    assert_refused(&transfer, KV_CORRUPT, "offset");
    transfer_deinit(&transfer);
}

static void a_descriptor_of_what_cannot_be_is_refused(void **state)
{
    struct transfer transfer;
    struct kv_snapshot_descriptor truth;

    (void)state;
    transfer_init(&transfer);
    truth = transfer.descriptor;
    transfer.descriptor.size_bytes = KV_SNAPSHOT_BYTES_MAX + 1;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer.descriptor.size_bytes = 103;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer.descriptor = truth;
    transfer.descriptor.index = 0;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer.descriptor.index = UINT64_MAX;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer.descriptor = truth;
    transfer.descriptor.term = 0;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer.descriptor = truth;
    transfer.descriptor.configuration_index = truth.index + 1;
    assert_int_equal(open_receiver(&transfer), KV_INVALID);
    transfer_deinit(&transfer);
}

static void only_one_part_is_kept(void **state)
{
    struct transfer transfer;

    (void)state;
    transfer_init(&transfer);
    assert_int_equal(open_receiver(&transfer), 0);
    transfer.descriptor.index = 120;
    assert_int_equal(open_receiver(&transfer), 0);
    assert_false(snapshot_rig_is_there(transfer.to, PART));
    assert_true(snapshot_rig_is_there(transfer.to, "snap/0000000000000078-0000000000000003.part"));
    transfer_deinit(&transfer);
}

static void a_full_disk_ends_a_transfer(void **state)
{
    struct transfer transfer;

    (void)state;
    transfer_init(&transfer);
    fake_disk_set_size(transfer.to, 8 * KV_MIB);
    assert_int_equal(open_receiver(&transfer), KV_NO_SPACE);
    assert_false(snapshot_rig_is_there(transfer.to, PART));
    fake_disk_set_size(transfer.to, 0);
    assert_int_equal(open_receiver(&transfer), 0);
    fake_disk_fail_writes(transfer.to, ENOSPC);
    assert_int_equal(send_until(&transfer, KV_MIB), KV_NO_SPACE);
    assert_false(snapshot_rig_is_there(transfer.to, PART));
    fake_disk_fail_writes(transfer.to, 0);
    assert_int_equal(send_until(&transfer, KV_MIB), KV_IO);
    assert_int_equal(finish(&transfer), KV_IO);
    assert_int_equal(open_receiver(&transfer), 0);
    assert_int_equal(send_until(&transfer, transfer.descriptor.size_bytes), 0);
    fake_disk_fail_syncs(transfer.to, EIO);
    assert_int_equal(finish(&transfer), KV_IO);
    fake_disk_fail_syncs(transfer.to, 0);
    assert_false(snapshot_rig_is_there(transfer.to, PART) ||
                 snapshot_rig_is_there(transfer.to, NAME));
    transfer_deinit(&transfer);
}

static void pieces_are_bounded(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_slice block = kv_slice_str("a block");
    struct kv_snapshot_descriptor descriptor = snapshot_rig_write(disk, &meta, &block, 1);
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 1000);
    assert_int_equal(kv_snapshot_piece_read(fake_disk_ops(disk), NAME, 0, 1001, &buf, &error),
                     KV_TOO_LARGE);
    assert_int_equal(kv_snapshot_piece_read(
                         fake_disk_ops(disk), NAME, descriptor.size_bytes - 7, 100, &buf, &error),
                     0);
    assert_int_equal(buf.size, 7);
    assert_int_equal(
        kv_snapshot_piece_read(fake_disk_ops(disk), NAME, descriptor.size_bytes, 100, &buf, &error),
        KV_INVALID);
    assert_int_equal(kv_snapshot_piece_read(fake_disk_ops(disk), "snap/none", 0, 100, &buf, &error),
                     KV_NOT_FOUND);
    assert_int_equal(buf.size, 7);
    kv_buf_deinit(&buf);
    fake_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transfer_gives_the_same_file),
        cmocka_unit_test(a_transfer_goes_on_where_it_was_synced),
        cmocka_unit_test(a_part_with_a_damaged_note_is_begun_anew),
        cmocka_unit_test(pieces_come_in_order),
        cmocka_unit_test(a_descriptor_that_lies_is_found_out),
        cmocka_unit_test(a_transfer_of_another_cluster_or_with_damage_is_refused),
        cmocka_unit_test(a_descriptor_of_what_cannot_be_is_refused),
        cmocka_unit_test(only_one_part_is_kept),
        cmocka_unit_test(a_full_disk_ends_a_transfer),
        cmocka_unit_test(pieces_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
