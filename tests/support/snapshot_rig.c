#include "tests/support/snapshot_rig.h"

#include "common/assert.h"

void snapshot_rig_fill(uint8_t *p, size_t size, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

    for (size_t i = 0; i < size; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        p[i] = (uint8_t)(x * UINT64_C(2685821657736338717) >> 56);
    }
}

struct kv_snapshot_descriptor snapshot_rig_write(struct fake_disk *disk,
                                                 const struct kv_snapshot_meta *meta,
                                                 const struct kv_slice *blocks,
                                                 size_t n_blocks)
{
    struct kv_snapshot_descriptor descriptor = {0};
    struct kv_snapshot_writer *writer;
    struct kv_error error;

    KV_ASSERT(kv_snapshot_writer_open(fake_disk_ops(disk), meta, &writer, &error) == 0);
    for (size_t i = 0; i < n_blocks; i++) {
        KV_ASSERT(kv_snapshot_writer_append(writer, blocks[i], &error) == 0);
    }
    KV_ASSERT(kv_snapshot_writer_finish(writer, &descriptor, &error) == 0);
    kv_snapshot_writer_close(writer);
    return descriptor;
}

bool snapshot_rig_is_there(struct fake_disk *disk, const char *path)
{
    uint64_t size;

    return fake_disk_data(disk, path, &size) != NULL;
}

int snapshot_rig_finish(struct kv_snapshot_receiver *receiver,
                        uint64_t cluster_id,
                        struct kv_error *ret_error)
{
    struct kv_snapshot_reader *reader = NULL;
    struct kv_buf raw;
    int status = kv_snapshot_receiver_read(receiver, cluster_id, &reader, ret_error);

    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    status = status == 0 ? 1 : status;
    while (status == 1) {
        status = kv_snapshot_reader_next(reader, &raw, ret_error);
    }
    if (status == 0) {
        status = kv_snapshot_receiver_finish(receiver, reader, ret_error);
    } else if (status == KV_CORRUPT || status == KV_WRONG_NODE) {
        kv_snapshot_receiver_reject(receiver);
    }
    kv_snapshot_reader_close(reader);
    kv_buf_deinit(&raw);
    return status;
}
