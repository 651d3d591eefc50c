/* Snapshot files from any bytes: read to the end, or refused with a reason; a transfer of them ends
 * as the file itself would. Never a crash, and never two opinions.
 *
 * The first byte chooses what the rest is: the file as it is, or (odd) head, blocks and trailer
 * that are encoded well, whatever they say, so that the checks behind the checksums are reached. */
#include "raft/snapshot_file.h"
#include "tests/support/fake_disk.h"
#include "tests/support/snapshot_rig.h"

#include "common/crc32c.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The program is linked with kvraft alone. */
#include "tests/support/fake_disk.c"
#include "tests/support/fake_disk_files.c"
#include "tests/support/snapshot_rig.c"

enum { FILE_BYTES_MAX = 16384 };
#define NAME "snap/0000000000000014-0000000000000002"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* ---------------------------------------------------------------- input */

struct input {
    const uint8_t *data;
    size_t size;
};

static uint64_t take(struct input *input, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n && input->size > 0; i++) {
        value |= (uint64_t)*input->data << (8 * i);
        input->data++;
        input->size--;
    }
    return value;
}

/* Mostly the number itself, or one near it, or any. */
static uint64_t take_near(struct input *input, uint64_t near)
{
    uint64_t how = take(input, 1);

    return how < 200 ? near : how < 250 ? near + how % 16 - 8 : take(input, 8);
}

static size_t put_bytes(struct input *input, uint8_t *p, size_t size)
{
    size_t given = size < input->size ? size : input->size;

    memset(p, 'z', size);
    if (given > 0) {
        memcpy(p, input->data, given);
    }
    input->data += given;
    input->size -= given;
    return size;
}

static size_t put_head(struct input *input, uint8_t *file, uint32_t *ret_seed)
{
    uint8_t *configuration = file + KV_SNAPSHOT_HEAD_BYTES;
    size_t size = put_bytes(input, configuration, (size_t)take(input, 1) % 64);
    struct kv_snapshot_head head = {
        .format_version = (uint32_t)take_near(input, KV_SNAPSHOT_FORMAT_VERSION),
        .configuration_bytes = (uint32_t)take_near(input, size),
        .cluster_id = take_near(input, 7),
        .node_id = 1,
        .index = take_near(input, 20),
        .term = take_near(input, 2),
        .configuration_index = take_near(input, 1),
        .configuration_crc = (uint32_t)take_near(input, kv_crc32c(configuration, size, 0)),
    };

    *ret_seed = kv_snapshot_head_encode(file, &head);
    return KV_SNAPSHOT_HEAD_BYTES + size;
}

/* Head, blocks, trailer, and a hash that fits unless the input says otherwise. */
static size_t forge(struct input *input, uint8_t *file)
{
    uint32_t seed;
    size_t offset = put_head(input, file, &seed);
    uint64_t n_blocks = 0, total = 0, hash;
    struct kv_snapshot_block block;

    while (input->size > 8 && offset < FILE_BYTES_MAX - 1024) {
        uint8_t *p = file + offset;
        size_t size =
            put_bytes(input, p + KV_SNAPSHOT_BLOCK_HEADER_BYTES, (size_t)take(input, 2) % 512);

        block = (struct kv_snapshot_block){
            .kind = (enum kv_snapshot_block_kind)take_near(input, 1 + take(input, 1) % 2),
            .number = take_near(input, n_blocks + 1),
            .stored_bytes = (uint32_t)take_near(input, size),
            .raw_bytes = (uint32_t)take_near(input, size + take(input, 2)),
        };
        block.crc =
            (uint32_t)take_near(input, kv_crc32c(p + KV_SNAPSHOT_BLOCK_HEADER_BYTES, size, 0));
        kv_snapshot_block_encode(p, &block, seed);
        offset += KV_SNAPSHOT_BLOCK_HEADER_BYTES + size;
        n_blocks++;
        total += block.raw_bytes;
    }
    block = (struct kv_snapshot_block){
        .kind = KV_SNAPSHOT_TRAILER,
        .number = take_near(input, n_blocks),
        .total_raw_bytes = take_near(input, total),
    };
    kv_snapshot_block_encode(file + offset, &block, seed);
    offset += KV_SNAPSHOT_BLOCK_HEADER_BYTES;
    hash = XXH3_64bits(file, offset);
    kv_put_u64(file + offset, take_near(input, hash));
    return offset + 8 + put_bytes(input, file + offset + 8, (size_t)take(input, 1) % 8);
}

/* ---------------------------------------------------------------- what is done with it */

static bool is_refusal(int status)
{
    return status == KV_CORRUPT || status == KV_WRONG_NODE;
}

/* Sends the file in pieces to another disk, as one that its sender believes in. */
static void transfer(struct fake_disk *disk,
                     const struct kv_snapshot_descriptor *descriptor,
                     uint64_t piece_bytes,
                     int expected)
{
    struct fake_disk *to = fake_disk_new(2);
    struct kv_snapshot_receiver *receiver;
    struct kv_snapshot_descriptor found;
    struct kv_error error = {0};
    struct kv_buf piece;
    int status = kv_snapshot_receiver_open(fake_disk_ops(to), descriptor, &receiver, &error);

    check(status == 0 || status == KV_INVALID);
    kv_buf_init(&piece, FILE_BYTES_MAX);
    while (status == 0 && kv_snapshot_receiver_offset(receiver) < descriptor->size_bytes) {
        uint64_t offset = kv_snapshot_receiver_offset(receiver);

        kv_buf_clear(&piece);
        check(kv_snapshot_piece_read(
                  fake_disk_ops(disk), NAME, offset, (size_t)piece_bytes, &piece, &error) == 0);
        check(kv_snapshot_receiver_add(
                  receiver, offset, kv_slice_of(piece.data, piece.size), &error) == 0);
    }
    if (status == 0) {
        status = snapshot_rig_finish(receiver, 7, &error);
        check(status == expected && (status == 0 || error.message[0]));
        check((kv_snapshot_verify(fake_disk_ops(to), NAME, 7, &found, &error) == 0) ==
              (expected == 0));
        kv_snapshot_receiver_close(receiver);
    }
    kv_buf_deinit(&piece);
    fake_disk_free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_BYTES_MAX + 2048];
    struct fake_disk *disk = fake_disk_new(1);
    struct input input = {data, size};
    struct kv_snapshot_descriptor descriptor = {20, 2, 1, 0, 0};
    struct kv_error error = {0};
    bool is_forged = take(&input, 1) % 2 == 1;
    uint64_t piece_bytes = 1 + take(&input, 2) % FILE_BYTES_MAX;
    int status;

    (void)fake_disk_ops(disk)->ops->mkdir(disk, "snap");
    size = is_forged                     ? forge(&input, file)
           : input.size < FILE_BYTES_MAX ? put_bytes(&input, file, input.size)
                                         : put_bytes(&input, file, FILE_BYTES_MAX);
    fake_disk_put(disk, NAME, file, size);
    status = kv_snapshot_verify(fake_disk_ops(disk), NAME, 7, &descriptor, &error);
    check(status == 0 || (is_refusal(status) && error.message[0]));
    if (status == 0) {
        check(descriptor.size_bytes == size && descriptor.index == 20 && descriptor.term == 2);
    } else {
        descriptor.size_bytes = size;
    }
    transfer(disk, &descriptor, piece_bytes, status);
    fake_disk_free(disk);
    return 0;
}
