/* Snapshot files: what was written comes back, or the file is refused by name, offset and reason,
 * whatever byte of it was changed, cut, moved or added. */
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

static const struct kv_snapshot_meta meta = {
    .cluster_id = 77,
    .node_id = 2,
    .index = 100,
    .term = 3,
    .configuration_index = 9,
    .configuration = {(const uint8_t *)"configuration", 13},
};

static void fill_text(uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        p[i] = (uint8_t)("key-value"[i % 9] + i / 4096 % 3);
    }
}

/* Three blocks: text, random, small. */
static struct fake_disk *make_small(struct kv_snapshot_descriptor *ret_descriptor)
{
    static uint8_t text[2000], noise[1500];
    struct kv_slice blocks[3] = {{text, sizeof text}, {noise, sizeof noise}, {text, 5}};
    struct fake_disk *disk = fake_disk_new(1);

    fill_text(text, sizeof text);
    snapshot_rig_fill(noise, sizeof noise, 7);
    *ret_descriptor = snapshot_rig_write(disk, &meta, blocks, 3);
    return disk;
}

static int verify(struct fake_disk *disk, const char *path, struct kv_error *error)
{
    struct kv_snapshot_descriptor descriptor;

    memset(error, 0, sizeof *error);
    return kv_snapshot_verify(fake_disk_ops(disk), path, 77, &descriptor, error);
}

static void assert_damaged(struct fake_disk *disk, const char *path)
{
    struct kv_error error;

    assert_int_equal(verify(disk, path, &error), KV_CORRUPT);
    assert_non_null(strstr(error.message, path));
    assert_non_null(strstr(error.message, "offset"));
}

/* ---------------------------------------------------------------- round trips */

static void round_trip(const struct kv_slice *blocks, size_t n_blocks)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_snapshot_descriptor descriptor = snapshot_rig_write(disk, &meta, blocks, n_blocks);
    struct kv_snapshot_descriptor found;
    struct kv_snapshot_reader *reader;
    struct kv_error error;
    struct kv_buf raw;
    uint64_t size;

    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    assert_int_equal(kv_snapshot_reader_open(fake_disk_ops(disk), NAME, 77, &reader, &error), 0);
    assert_int_equal(kv_snapshot_reader_meta(reader)->cluster_id, 77);
    assert_int_equal(kv_snapshot_reader_meta(reader)->node_id, 2);
    assert_int_equal(kv_snapshot_reader_meta(reader)->index, 100);
    assert_int_equal(kv_snapshot_reader_meta(reader)->term, 3);
    assert_int_equal(kv_snapshot_reader_meta(reader)->configuration_index, 9);
    assert_true(kv_slice_equal(kv_snapshot_reader_meta(reader)->configuration, meta.configuration));
    for (size_t i = 0; i < n_blocks; i++) {
        assert_int_equal(kv_snapshot_reader_next(reader, &raw, &error), 1);
        assert_true(kv_slice_equal(kv_slice_of(raw.data, raw.size), blocks[i]));
    }
    assert_int_equal(kv_snapshot_reader_next(reader, &raw, &error), 0);
    assert_int_equal(kv_snapshot_reader_next(reader, &raw, &error), 0);
    assert_int_equal(kv_snapshot_reader_blocks(reader), n_blocks);
    found = kv_snapshot_descriptor_of(reader);
    assert_memory_equal(&found, &descriptor, sizeof found);
    assert_non_null(fake_disk_data(disk, NAME, &size));
    assert_int_equal(descriptor.size_bytes, size);
    assert_int_equal(kv_snapshot_reader_offset(reader), size);
    kv_snapshot_reader_close(reader);
    kv_buf_deinit(&raw);
    fake_disk_free(disk);
}

static void what_was_written_comes_back(void **state)
{
    uint8_t *big = malloc(KV_SNAPSHOT_BLOCK_BYTES_MAX);
    struct kv_slice blocks[4];

    (void)state;
    assert_non_null(big);
    round_trip(NULL, 0);
    blocks[0] = kv_slice_of("x", 1);
    round_trip(blocks, 1);
    fill_text(big, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    blocks[0] = kv_slice_of(big, KV_SNAPSHOT_BLOCK_BYTES);
    blocks[1] = kv_slice_of(big, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    blocks[2] = kv_slice_of(big, 1);
    blocks[3] = kv_slice_of(big, 1023);
    round_trip(blocks, 4);
    snapshot_rig_fill(big, KV_SNAPSHOT_BLOCK_BYTES_MAX, 1);
    round_trip(blocks, 4);
    free(big);
}

static void compression_pays(void **state)
{
    static uint8_t text[KV_SNAPSHOT_BLOCK_BYTES];
    struct kv_slice block = {text, sizeof text};
    struct fake_disk *disk = fake_disk_new(1);

    (void)state;
    fill_text(text, sizeof text);
    assert_true(snapshot_rig_write(disk, &meta, &block, 1).size_bytes < sizeof text / 10);
    fake_disk_free(disk);
    disk = fake_disk_new(1);
    snapshot_rig_fill(text, sizeof text, 3);
    assert_int_equal(snapshot_rig_write(disk, &meta, &block, 1).size_bytes,
                     sizeof text + 13 + KV_SNAPSHOT_HEAD_BYTES + KV_SNAPSHOT_BLOCK_HEADER_BYTES +
                         KV_SNAPSHOT_TRAILER_BYTES);
    fake_disk_free(disk);
}

static void a_block_has_a_bound_and_none_is_made_of_nothing(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    uint8_t *big = calloc(1, KV_SNAPSHOT_BLOCK_BYTES_MAX + 1);
    struct kv_snapshot_descriptor descriptor;
    struct kv_snapshot_writer *writer;
    struct kv_error error;
    uint64_t bytes;

    (void)state;
    assert_non_null(big);
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), 0);
    bytes = kv_snapshot_writer_bytes(writer);
    assert_int_equal(kv_snapshot_writer_append(writer, kv_slice_of(NULL, 0), &error), 0);
    assert_int_equal(kv_snapshot_writer_bytes(writer), bytes);
    assert_int_equal(kv_snapshot_writer_append(
                         writer, kv_slice_of(big, KV_SNAPSHOT_BLOCK_BYTES_MAX + 1), &error),
                     KV_TOO_LARGE);
    assert_int_equal(kv_snapshot_writer_finish(writer, &descriptor, &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, kv_slice_str("x"), &error), KV_IO);
    assert_int_equal(kv_snapshot_writer_finish(writer, &descriptor, &error), KV_IO);
    kv_snapshot_writer_close(writer);
    assert_int_equal(verify(disk, NAME, &error), 0);
    fake_disk_free(disk);
    free(big);
}

static void an_unfinished_one_is_removed(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_snapshot_writer *writer;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), 0);
    assert_true(snapshot_rig_is_there(disk, NAME ".tmp"));
    kv_snapshot_writer_close(writer);
    assert_false(snapshot_rig_is_there(disk, NAME ".tmp") || snapshot_rig_is_there(disk, NAME));
    kv_snapshot_writer_close(NULL);
    kv_snapshot_reader_close(NULL);
    kv_snapshot_receiver_close(NULL);
    fake_disk_free(disk);
}

static void one_that_is_there_is_not_written_again(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_snapshot_receiver *receiver;
    struct kv_snapshot_writer *writer;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error),
                     KV_EXISTS);
    assert_int_equal(kv_snapshot_receiver_open(fake_disk_ops(disk), &descriptor, &receiver, &error),
                     KV_EXISTS);
    assert_int_equal(verify(disk, NAME, &error), 0);
    fake_disk_free(disk);
}

/* ---------------------------------------------------------------- damage */

static void every_flipped_byte_is_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_error error;
    uint64_t size;
    uint8_t *data = fake_disk_data(disk, NAME, &size);

    (void)state;
    for (uint64_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            data[i] ^= (uint8_t)(1 << bit);
            assert_damaged(disk, NAME);
            data[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_int_equal(verify(disk, NAME, &error), 0);
    fake_disk_free(disk);
}

static void every_cut_and_every_addition_is_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    uint64_t size = descriptor.size_bytes;
    uint8_t *copy = malloc(size);

    (void)state;
    assert_non_null(copy);
    memcpy(copy, fake_disk_data(disk, NAME, &size), size);
    for (uint64_t i = 0; i < size; i++) {
        fake_disk_remove(disk, NAME);
        fake_disk_put(disk, NAME, copy, i);
        assert_damaged(disk, NAME);
    }
    fake_disk_remove(disk, NAME);
    fake_disk_put(disk, NAME, copy, size);
    for (uint64_t more = 1; more < 100; more++) {
        fake_disk_resize(disk, NAME, size + more);
        assert_damaged(disk, NAME);
    }
    free(copy);
    fake_disk_free(disk);
}

/* The whole file again behind it. */
static void a_second_file_behind_it_is_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    uint64_t size = descriptor.size_bytes;
    uint8_t *data;

    (void)state;
    fake_disk_resize(disk, NAME, 2 * size);
    data = fake_disk_data(disk, NAME, &size);
    memcpy(data + size / 2, data, size / 2);
    assert_damaged(disk, NAME);
    fake_disk_free(disk);
}

/* Offsets of four blocks of one size, and of the trailer. */
enum { EVEN_BLOCK = 500, EVEN_STRIDE = EVEN_BLOCK + KV_SNAPSHOT_BLOCK_HEADER_BYTES };
static struct fake_disk *make_even(uint64_t seed, const struct kv_snapshot_meta *m)
{
    static uint8_t noise[4][EVEN_BLOCK];
    struct kv_slice blocks[4];
    struct fake_disk *disk = fake_disk_new(1);

    for (size_t i = 0; i < 4; i++) {
        snapshot_rig_fill(noise[i], EVEN_BLOCK, seed + i);
        blocks[i] = kv_slice_of(noise[i], EVEN_BLOCK);
    }
    snapshot_rig_write(disk, m, blocks, 4);
    return disk;
}

static uint8_t *even_block(uint8_t *data, size_t i)
{
    return data + KV_SNAPSHOT_HEAD_BYTES + meta.configuration.size + i * EVEN_STRIDE;
}

static void misplaced_blocks_are_refused(void **state)
{
    struct fake_disk *disk = make_even(1, &meta);
    uint8_t one[EVEN_STRIDE];
    uint64_t size;
    uint8_t *data = fake_disk_data(disk, NAME, &size);

    (void)state;
    /* Swapped. */
    memcpy(one, even_block(data, 1), EVEN_STRIDE);
    memcpy(even_block(data, 1), even_block(data, 2), EVEN_STRIDE);
    memcpy(even_block(data, 2), one, EVEN_STRIDE);
    assert_damaged(disk, NAME);
    /* Doubled: the third twice, then the second twice. */
    memcpy(even_block(data, 2), even_block(data, 1), EVEN_STRIDE);
    assert_damaged(disk, NAME);
    memcpy(even_block(data, 1), one, EVEN_STRIDE);
    memcpy(even_block(data, 2), one, EVEN_STRIDE);
    assert_damaged(disk, NAME);
    fake_disk_free(disk);
}

static void missing_blocks_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct fake_disk *disk = make_even(1, &meta);
        uint64_t size;
        uint8_t *data = fake_disk_data(disk, NAME, &size);

        memmove(even_block(data, i),
                even_block(data, i + 1),
                (size_t)(data + size - even_block(data, i + 1)));
        fake_disk_resize(disk, NAME, size - EVEN_STRIDE);
        assert_damaged(disk, NAME);
        fake_disk_free(disk);
    }
}

/* A block with the same number of another snapshot is none of this one, even with a sound hash. */
static void blocks_of_another_snapshot_are_refused(void **state)
{
    struct kv_snapshot_meta other = meta;
    struct fake_disk *disk = make_even(1, &meta);
    struct fake_disk *other_disk;
    struct kv_error error;
    uint64_t size;

    (void)state;
    other.node_id = 3;
    other_disk = make_even(1, &other);
    memcpy(even_block(fake_disk_data(disk, NAME, &size), 0),
           even_block(fake_disk_data(other_disk, NAME, &size), 0),
           EVEN_STRIDE);
    assert_int_equal(verify(disk, NAME, &error), KV_CORRUPT);
    assert_non_null(strstr(error.message, "checksum of a block's header"));
    fake_disk_free(other_disk);
    fake_disk_free(disk);
}

/* ---------------------------------------------------------------- lies with sound checksums */

/* Encodes the block anew at its place. */
static void forge_block(uint8_t *data, size_t i, const struct kv_snapshot_block *block)
{
    struct kv_snapshot_head head;

    assert_null(kv_snapshot_head_decode(data, &head));
    kv_snapshot_block_encode(even_block(data, i), block, head.crc);
}

static void sizes_that_lie_are_refused(void **state)
{
    static const struct {
        enum kv_snapshot_block_kind kind;
        uint32_t stored, raw;
    } lies[] = {
        {KV_SNAPSHOT_RAW, EVEN_BLOCK, EVEN_BLOCK + 1},
        {KV_SNAPSHOT_RAW, EVEN_BLOCK + 1, EVEN_BLOCK},
        {KV_SNAPSHOT_RAW, EVEN_BLOCK + 1, EVEN_BLOCK + 1},
        {KV_SNAPSHOT_RAW, 0, 0},
        {KV_SNAPSHOT_RAW, UINT32_MAX, UINT32_MAX},
        {KV_SNAPSHOT_RAW, KV_SNAPSHOT_BLOCK_BYTES_MAX, KV_SNAPSHOT_BLOCK_BYTES_MAX},
        {KV_SNAPSHOT_LZ4, EVEN_BLOCK, EVEN_BLOCK},
        {KV_SNAPSHOT_LZ4, EVEN_BLOCK, EVEN_BLOCK + 1},
        {KV_SNAPSHOT_LZ4, EVEN_BLOCK, KV_SNAPSHOT_BLOCK_BYTES_MAX},
        {KV_SNAPSHOT_LZ4, EVEN_BLOCK, UINT32_MAX},
        {KV_SNAPSHOT_LZ4, 0, 100},
        {(enum kv_snapshot_block_kind)4, EVEN_BLOCK, EVEN_BLOCK},
        {(enum kv_snapshot_block_kind)0, EVEN_BLOCK, EVEN_BLOCK},
        {KV_SNAPSHOT_TRAILER, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct fake_disk *disk = make_even(1, &meta);
        uint64_t size;
        uint8_t *data = fake_disk_data(disk, NAME, &size);
        struct kv_snapshot_block block = {
            .kind = lies[i].kind,
            .number = 1,
            .stored_bytes = lies[i].stored,
            .raw_bytes = lies[i].raw,
            .crc = kv_get_u32(even_block(data, 0) + 24),
        };

        forge_block(data, 0, &block);
        assert_damaged(disk, NAME);
        fake_disk_free(disk);
    }
}

static void totals_that_lie_are_refused(void **state)
{
    (void)state;
    for (int lie = 0; lie < 2; lie++) {
        struct fake_disk *disk = make_even(1, &meta);
        uint64_t size;
        uint8_t *data = fake_disk_data(disk, NAME, &size);
        struct kv_snapshot_block trailer = {
            .kind = KV_SNAPSHOT_TRAILER,
            .number = 4 + (lie == 0),
            .total_raw_bytes = 4 * EVEN_BLOCK + (lie == 1),
        };
        struct kv_error error;

        forge_block(data, 4, &trailer);
        assert_int_equal(verify(disk, NAME, &error), KV_CORRUPT);
        assert_non_null(strstr(error.message, "counts other blocks"));
        fake_disk_free(disk);
    }
}

/* Encodes the head anew, as if it had been made so. */
static void forge_head(uint8_t *data, const struct kv_snapshot_head *head)
{
    kv_snapshot_head_encode(data, head);
}

static void heads_that_lie_are_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_snapshot_head sound, head;
    uint64_t size;
    uint8_t *data = fake_disk_data(disk, NAME, &size);
    struct kv_error error;

    (void)state;
    assert_null(kv_snapshot_head_decode(data, &sound));
    head = sound;
    head.configuration_bytes = KV_CONFIGURATION_BYTES_MAX + 1;
    forge_head(data, &head);
    assert_damaged(disk, NAME);
    head.configuration_bytes = KV_CONFIGURATION_BYTES_MAX;
    forge_head(data, &head);
    assert_damaged(disk, NAME);
    head = sound;
    head.configuration_index = 101;
    forge_head(data, &head);
    assert_damaged(disk, NAME);
    head = sound;
    head.index = 0;
    forge_head(data, &head);
    assert_damaged(disk, NAME);
    head = sound;
    head.index = 101;
    forge_head(data, &head);
    assert_int_equal(verify(disk, NAME, &error), KV_CORRUPT);
    assert_non_null(strstr(error.message, "renamed"));
    fake_disk_free(disk);
}

static void a_newer_format_is_told_from_damage(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_snapshot_head head;
    uint64_t size;
    uint8_t *data = fake_disk_data(disk, NAME, &size);
    struct kv_error error;

    (void)state;
    assert_null(kv_snapshot_head_decode(data, &head));
    head.format_version = KV_SNAPSHOT_FORMAT_VERSION + 1;
    head.configuration_bytes = UINT32_MAX;
    forge_head(data, &head);
    assert_int_equal(verify(disk, NAME, &error), KV_WRONG_NODE);
    assert_non_null(strstr(error.message, "upgrade"));
    fake_disk_free(disk);
}

static void another_cluster_is_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor, found;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_snapshot_verify(fake_disk_ops(disk), NAME, 78, &found, &error),
                     KV_WRONG_NODE);
    assert_non_null(strstr(error.message, "cluster 77"));
    assert_int_equal(kv_snapshot_verify(fake_disk_ops(disk), NAME, 0, &found, &error), 0);
    assert_int_equal(
        kv_snapshot_verify(
            fake_disk_ops(disk), "snap/0000000000000001-0000000000000001", 0, &found, &error),
        KV_NOT_FOUND);
    fake_disk_free(disk);
}

static void a_renamed_file_is_refused(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    const struct kv_disk *ops = fake_disk_ops(disk);
    const char *other = "snap/0000000000000065-0000000000000003";
    struct kv_error error;

    (void)state;
    assert_int_equal(ops->ops->rename(ops->disk, NAME, other), 0);
    assert_damaged(disk, other);
    /* A name that says nothing is no lie. */
    assert_int_equal(ops->ops->rename(ops->disk, other, "snap/backup"), 0);
    assert_int_equal(verify(disk, "snap/backup", &error), 0);
    fake_disk_free(disk);
}

static void names_are_parsed_strictly(void **state)
{
    static const char *const bad[] = {
        "",
        "0000000000000064-000000000000003",
        "0000000000000064-0000000000000003x",
        "0000000000000064-0000000000000003.tmpx",
        "0x00000000000064-0000000000000003",
        " 000000000000064-0000000000000003",
        "000000000000006A-0000000000000003",
        "0000000000000064_0000000000000003",
    };
    enum kv_snapshot_state kind;
    uint64_t index, term;
    char name[KV_SNAPSHOT_NAME_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(kv_snapshot_name_parse(bad[i], &index, &term, &kind), KV_INVALID);
    }
    for (int i = KV_SNAPSHOT_COMPLETE; i <= KV_SNAPSHOT_PARTIAL; i++) {
        kv_snapshot_name(name, 0xabc, UINT64_MAX, (enum kv_snapshot_state)i);
        assert_int_equal(kv_snapshot_name_parse(name + 5, &index, &term, &kind), 0);
        assert_true(index == 0xabc && term == UINT64_MAX && (int)kind == i);
    }
}

static void a_read_error_is_no_damage(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_snapshot_reader *reader;
    struct kv_error error;
    struct kv_buf raw;

    (void)state;
    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    assert_int_equal(kv_snapshot_reader_open(fake_disk_ops(disk), NAME, 0, &reader, &error), 0);
    fake_disk_fail_reads(disk, EIO);
    assert_int_equal(kv_snapshot_reader_next(reader, &raw, &error), KV_IO);
    fake_disk_fail_reads(disk, 0);
    /* What failed once is not gone on with. */
    assert_int_equal(kv_snapshot_reader_next(reader, &raw, &error), KV_IO);
    kv_snapshot_reader_close(reader);
    kv_buf_deinit(&raw);
    fake_disk_free(disk);
}

/* ---------------------------------------------------------------- a disk that fails */

/* None of it is damage, or a reason to write over what may be there. */
static void calls_that_fail_are_named(void **state)
{
    struct kv_snapshot_descriptor descriptor;
    struct fake_disk *disk = make_small(&descriptor);
    struct kv_snapshot_receiver *receiver = NULL;
    struct kv_snapshot_writer *writer = NULL;
    struct kv_error error;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, KV_SNAPSHOT_PIECE_BYTES);
    fake_disk_fail_at(disk, "snap", true, 1000);
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), KV_IO);
    assert_non_null(strstr(error.message, "cannot open disk/" NAME));
    assert_int_equal(kv_snapshot_piece_read(fake_disk_ops(disk), NAME, 0, 10, &buf, &error), KV_IO);
    assert_non_null(strstr(error.message, "cannot open disk/" NAME));
    fake_disk_fail_at(disk, NULL, false, 0);
    fake_disk_fail_reads(disk, EIO);
    assert_int_equal(kv_snapshot_piece_read(fake_disk_ops(disk), NAME, 0, 10, &buf, &error), KV_IO);
    assert_non_null(strstr(error.message, "cannot read disk/" NAME));
    fake_disk_fail_reads(disk, 0);
    descriptor.index++;
    fake_disk_put(disk, "snap/0000000000000065-0000000000000003.part", "", 0);
    fake_disk_fail_writes(disk, EIO);
    assert_int_equal(kv_snapshot_receiver_open(fake_disk_ops(disk), &descriptor, &receiver, &error),
                     KV_IO);
    assert_non_null(strstr(error.message, "cannot remove"));
    assert_int_equal(buf.size, 0);
    kv_buf_deinit(&buf);
    fake_disk_free(disk);
}

static void a_full_disk_leaves_nothing(void **state)
{
    static uint8_t noise[60000];
    struct kv_slice block = {noise, sizeof noise};
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_snapshot_writer *writer;
    struct kv_error error;

    (void)state;
    snapshot_rig_fill(noise, sizeof noise, 1);
    fake_disk_set_size(disk, 100000);
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, block, &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, block, &error), KV_NO_SPACE);
    assert_non_null(strstr(error.message, NAME));
    assert_false(snapshot_rig_is_there(disk, NAME ".tmp"));
    assert_int_equal(kv_snapshot_writer_append(writer, block, &error), KV_IO);
    kv_snapshot_writer_close(writer);
    assert_false(snapshot_rig_is_there(disk, NAME));
    /* It can be tried again. */
    fake_disk_set_size(disk, 0);
    snapshot_rig_write(disk, &meta, &block, 1);
    assert_int_equal(verify(disk, NAME, &error), 0);
    fake_disk_free(disk);
}

static void a_failed_sync_is_not_tried_again(void **state)
{
    struct kv_slice block = kv_slice_str("some bytes");
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_snapshot_descriptor descriptor;
    struct kv_snapshot_writer *writer;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_snapshot_writer_open(fake_disk_ops(disk), &meta, &writer, &error), 0);
    assert_int_equal(kv_snapshot_writer_append(writer, block, &error), 0);
    fake_disk_fail_syncs(disk, EIO);
    assert_int_equal(kv_snapshot_writer_finish(writer, &descriptor, &error), KV_IO);
    fake_disk_fail_syncs(disk, 0);
    assert_int_equal(kv_snapshot_writer_finish(writer, &descriptor, &error), KV_IO);
    kv_snapshot_writer_close(writer);
    assert_false(snapshot_rig_is_there(disk, NAME) || snapshot_rig_is_there(disk, NAME ".tmp"));
    fake_disk_free(disk);
}

/* ---------------------------------------------------------------- which there are */

static void write_index(struct fake_disk *disk, uint64_t index, uint64_t term)
{
    struct kv_snapshot_meta m = meta;

    m.index = index;
    m.term = term;
    snapshot_rig_write(disk, &m, NULL, 0);
}

static void the_list_is_newest_first(void **state)
{
    static const uint64_t order[] = {30, 200, 10, 90};
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_snapshot_id ids[8];
    struct kv_error error;
    size_t n = 99;

    (void)state;
    assert_int_equal(kv_snapshot_list(fake_disk_ops(disk), ids, 8, &n, &error), 0);
    assert_int_equal(n, 0);
    for (size_t i = 0; i < 4; i++) {
        write_index(disk, order[i], 2);
    }
    write_index(disk, 90, 4);
    fake_disk_put(disk, "snap/0000000000000999-0000000000000001.tmp", "x", 1);
    fake_disk_put(disk, "snap/0000000000000999-0000000000000001.part", "x", 1);
    fake_disk_put(disk, "snap/notes.txt", "x", 1);
    assert_int_equal(kv_snapshot_list(fake_disk_ops(disk), ids, 8, &n, &error), 0);
    assert_int_equal(n, 5);
    assert_true(ids[0].index == 200 && ids[1].index == 90 && ids[1].term == 4 &&
                ids[2].index == 90 && ids[2].term == 2 && ids[3].index == 30 && ids[4].index == 10);
    assert_int_equal(ids[0].size_bytes, KV_SNAPSHOT_HEAD_BYTES + 13 + KV_SNAPSHOT_TRAILER_BYTES);
    assert_false(snapshot_rig_is_there(disk, "snap/0000000000000999-0000000000000001.tmp"));
    assert_true(snapshot_rig_is_there(disk, "snap/0000000000000999-0000000000000001.part"));
    assert_true(snapshot_rig_is_there(disk, "snap/notes.txt"));
    assert_int_equal(kv_snapshot_list(fake_disk_ops(disk), ids, 2, &n, &error), 0);
    assert_true(n == 2 && ids[0].index == 200 && ids[1].term == 4);
    assert_int_equal(kv_snapshot_remove(fake_disk_ops(disk), 200, 2, &error), 0);
    assert_int_equal(kv_snapshot_remove(fake_disk_ops(disk), 200, 2, &error), 0);
    assert_int_equal(kv_snapshot_list(fake_disk_ops(disk), ids, 8, &n, &error), 0);
    assert_true(n == 4 && ids[0].index == 90);
    fake_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_comes_back),
        cmocka_unit_test(compression_pays),
        cmocka_unit_test(a_block_has_a_bound_and_none_is_made_of_nothing),
        cmocka_unit_test(an_unfinished_one_is_removed),
        cmocka_unit_test(one_that_is_there_is_not_written_again),
        cmocka_unit_test(every_flipped_byte_is_refused),
        cmocka_unit_test(every_cut_and_every_addition_is_refused),
        cmocka_unit_test(a_second_file_behind_it_is_refused),
        cmocka_unit_test(misplaced_blocks_are_refused),
        cmocka_unit_test(missing_blocks_are_refused),
        cmocka_unit_test(blocks_of_another_snapshot_are_refused),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(totals_that_lie_are_refused),
        cmocka_unit_test(heads_that_lie_are_refused),
        cmocka_unit_test(a_newer_format_is_told_from_damage),
        cmocka_unit_test(another_cluster_is_refused),
        cmocka_unit_test(a_renamed_file_is_refused),
        cmocka_unit_test(names_are_parsed_strictly),
        cmocka_unit_test(a_read_error_is_no_damage),
        cmocka_unit_test(calls_that_fail_are_named),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(a_failed_sync_is_not_tried_again),
        cmocka_unit_test(the_list_is_newest_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
