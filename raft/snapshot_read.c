/* Reading snapshots: no byte of the file is trusted before its checksum fits, and nothing that the
 * blocks say before the end. */
#include "raft/snapshot_file.h"

#include "common/assert.h"
#include "common/crc32c.h"
#include "raft/snapshot_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct kv_snapshot_reader {
    const struct kv_disk *disk;
    char *path;
    struct kv_file *file;
    XXH3_state_t *hash_state;
    struct kv_buf stored; /* a compressed block as it is in the file */
    struct kv_snapshot_meta meta;
    uint8_t *configuration;
    uint32_t seed;
    bool is_read_once; /* memory need not hold what was read */
    uint64_t forgotten;
    uint64_t size;
    uint64_t offset;
    uint64_t n_blocks;
    uint64_t raw_bytes;
    uint64_t hash;
    int status; /* 1: there is more, 0: the end, negative: it failed */
};

static int damaged(const struct kv_snapshot_reader *reader,
                   uint64_t offset,
                   const char *what,
                   struct kv_error *ret_error)
{
    return kv_error_set(ret_error,
                        KV_CORRUPT,
                        "the snapshot is damaged: %s/%s at offset %" PRIu64 ": %s",
                        reader->disk->name,
                        reader->path,
                        offset,
                        what);
}

static int read_at(const struct kv_snapshot_reader *reader,
                   void *data,
                   size_t size,
                   uint64_t offset,
                   struct kv_error *ret_error)
{
    const struct kv_disk *disk = reader->disk;
    int64_t got;

    if (offset > reader->size || size > reader->size - offset) {
        return damaged(reader, offset, "the file ends too early: it was cut", ret_error);
    }
    got = disk->ops->pread(disk->disk, reader->file, data, size, offset);
    if (got < 0) {
        return kv_snapshot_io_error(disk, (int)got, "read", reader->path, ret_error);
    }
    return (size_t)got == size
               ? 0
               : damaged(reader, offset, "the file became shorter meanwhile", ret_error);
}

/* ---------------------------------------------------------------- head */

static int
open_file(struct kv_snapshot_reader *reader, uint64_t size_bytes, struct kv_error *ret_error)
{
    const struct kv_disk *disk = reader->disk;
    /* One that has just been received is read while logs on the same disk are written. */
    const bool is_received = size_bytes > 0;
    int status = disk->ops->open(disk->disk,
                                 reader->path,
                                 is_received ? KV_DISK_READ | KV_DISK_NO_AHEAD : KV_DISK_READ,
                                 &reader->file);
    int64_t size;

    if (status == -ENOENT) {
        return kv_error_set(
            ret_error, KV_NOT_FOUND, "%s/%s is not there", disk->name, reader->path);
    }
    if (status != 0) {
        return kv_snapshot_io_error(disk, status, "open", reader->path, ret_error);
    }
    size = disk->ops->size(disk->disk, reader->file);
    if (size < 0) {
        return kv_snapshot_io_error(disk, (int)size, "look at", reader->path, ret_error);
    }
    reader->size = (uint64_t)size;
    if (is_received && size_bytes < reader->size) {
        reader->size = size_bytes;
    }
    reader->is_read_once = is_received && disk->ops->forget;
    return 0;
}

/* Is it the file that its name says? */
static bool is_named(const struct kv_snapshot_reader *reader, const struct kv_snapshot_head *head)
{
    const char *slash = strrchr(reader->path, '/');
    enum kv_snapshot_state state;
    uint64_t index, term;

    return kv_snapshot_name_parse(slash ? slash + 1 : reader->path, &index, &term, &state) != 0 ||
           (head->index == index && head->term == term);
}

static int check_head(const struct kv_snapshot_reader *reader,
                      const struct kv_snapshot_head *head,
                      uint64_t cluster_id,
                      struct kv_error *ret_error)
{
    if (head->format_version > KV_SNAPSHOT_FORMAT_VERSION) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "the snapshot %s/%s is of format %" PRIu32
                            ", this server knows up to %u: upgrade the server",
                            reader->disk->name,
                            reader->path,
                            head->format_version,
                            KV_SNAPSHOT_FORMAT_VERSION);
    }
    if (cluster_id != 0 && head->cluster_id != cluster_id) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "the snapshot %s/%s is of cluster %" PRIu64
                            ", this node of cluster %" PRIu64,
                            reader->disk->name,
                            reader->path,
                            head->cluster_id,
                            cluster_id);
    }
    if (!is_named(reader, head)) {
        return damaged(
            reader, 32, "its head names another index or term: it was renamed", ret_error);
    }
    return 0;
}

static int read_configuration(struct kv_snapshot_reader *reader,
                              const struct kv_snapshot_head *head,
                              struct kv_error *ret_error)
{
    size_t size = head->configuration_bytes;
    int status;

    reader->configuration = malloc(size ? size : 1);
    if (!reader->configuration) {
        return kv_snapshot_no_memory(ret_error);
    }
    status = read_at(reader, reader->configuration, size, KV_SNAPSHOT_HEAD_BYTES, ret_error);
    if (status != 0) {
        return status;
    }
    if (kv_crc32c(reader->configuration, size, 0) != head->configuration_crc) {
        return damaged(reader,
                       KV_SNAPSHOT_HEAD_BYTES,
                       "the checksum of its configuration is wrong",
                       ret_error);
    }
    XXH3_64bits_update(reader->hash_state, reader->configuration, size);
    return 0;
}

static int
read_head(struct kv_snapshot_reader *reader, uint64_t cluster_id, struct kv_error *ret_error)
{
    uint8_t bytes[KV_SNAPSHOT_HEAD_BYTES];
    struct kv_snapshot_head head;
    const char *wrong;
    int status = read_at(reader, bytes, sizeof bytes, 0, ret_error);

    if (status != 0) {
        return status;
    }
    wrong = kv_snapshot_head_decode(bytes, &head);
    if (wrong) {
        return damaged(reader, 0, wrong, ret_error);
    }
    status = check_head(reader, &head, cluster_id, ret_error);
    if (status != 0) {
        return status;
    }
    XXH3_64bits_update(reader->hash_state, bytes, sizeof bytes);
    status = read_configuration(reader, &head, ret_error);
    if (status != 0) {
        return status;
    }
    reader->meta = (struct kv_snapshot_meta){
        .cluster_id = head.cluster_id,
        .node_id = head.node_id,
        .index = head.index,
        .term = head.term,
        .configuration_index = head.configuration_index,
        .configuration = {reader->configuration, head.configuration_bytes},
    };
    reader->seed = head.crc;
    reader->offset = KV_SNAPSHOT_HEAD_BYTES + head.configuration_bytes;
    reader->status = 1;
    return 0;
}

int kv_snapshot_reader_open_front(const struct kv_disk *disk,
                                  const char *path,
                                  uint64_t cluster_id,
                                  uint64_t size_bytes,
                                  struct kv_snapshot_reader **ret_reader,
                                  struct kv_error *ret_error)
{
    struct kv_snapshot_reader *reader = calloc(1, sizeof *reader);
    int status;

    if (!reader) {
        return kv_snapshot_no_memory(ret_error);
    }
    reader->disk = disk;
    kv_buf_init(&reader->stored, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    reader->path = strdup(path);
    reader->hash_state = XXH3_createState();
    if (!reader->path || !reader->hash_state) {
        status = kv_snapshot_no_memory(ret_error);
        goto out;
    }
    XXH3_64bits_reset(reader->hash_state);
    status = open_file(reader, size_bytes, ret_error);
    if (status == 0) {
        status = read_head(reader, cluster_id, ret_error);
    }
    if (status == 0) {
        *ret_reader = reader;
        return 0;
    }

out:
    kv_snapshot_reader_close(reader);
    return status;
}

int kv_snapshot_reader_open(const struct kv_disk *disk,
                            const char *path,
                            uint64_t cluster_id,
                            struct kv_snapshot_reader **ret_reader,
                            struct kv_error *ret_error)
{
    return kv_snapshot_reader_open_front(disk, path, cluster_id, 0, ret_reader, ret_error);
}

void kv_snapshot_reader_close(struct kv_snapshot_reader *reader)
{
    if (!reader) {
        return;
    }
    if (reader->file) {
        reader->disk->ops->close(reader->disk->disk, reader->file);
    }
    XXH3_freeState(reader->hash_state);
    kv_buf_deinit(&reader->stored);
    free(reader->configuration);
    free(reader->path);
    free(reader);
}

/* ---------------------------------------------------------------- blocks */

/* The trailer's header is at reader->offset. */
static int read_end(struct kv_snapshot_reader *reader,
                    const struct kv_snapshot_block *block,
                    struct kv_error *ret_error)
{
    uint64_t end = reader->offset + KV_SNAPSHOT_TRAILER_BYTES;
    uint8_t bytes[8];
    int status = read_at(
        reader, bytes, sizeof bytes, reader->offset + KV_SNAPSHOT_BLOCK_HEADER_BYTES, ret_error);

    if (status != 0) {
        return status;
    }
    reader->hash = XXH3_64bits_digest(reader->hash_state);
    if (block->number != reader->n_blocks || block->total_raw_bytes != reader->raw_bytes) {
        return damaged(reader, reader->offset, "its trailer counts other blocks", ret_error);
    }
    if (kv_get_u64(bytes) != reader->hash) {
        return damaged(reader, end - sizeof bytes, "the hash of all of it is wrong", ret_error);
    }
    if (end != reader->size) {
        return damaged(reader, end, "something stands behind its trailer", ret_error);
    }
    reader->offset = end;
    return 0;
}

/* Gives back what memory holds of the file before this offset. From its front on each time: the
 * system drops its pages in pieces whose size it chooses. */
static void forget(struct kv_snapshot_reader *reader, uint64_t offset)
{
    if (reader->is_read_once && offset - reader->forgotten >= KV_SNAPSHOT_SLICE_BYTES) {
        reader->disk->ops->forget(reader->disk->disk, reader->file, 0, offset);
        reader->forgotten = offset;
    }
}

/* The block's bytes into raw, which is empty. */
static int read_block(struct kv_snapshot_reader *reader,
                      const struct kv_snapshot_block *block,
                      struct kv_buf *raw,
                      struct kv_error *ret_error)
{
    uint64_t offset = reader->offset + KV_SNAPSHOT_BLOCK_HEADER_BYTES;
    bool is_packed = block->kind == KV_SNAPSHOT_LZ4;
    uint8_t *stored, *data;
    int status;

    /* Before memory is asked for. */
    if (block->stored_bytes > reader->size - offset) {
        return damaged(reader, reader->offset, "the file ends in a block: it was cut", ret_error);
    }
    data = kv_buf_reserve(raw, block->raw_bytes);
    kv_buf_clear(&reader->stored);
    stored = is_packed ? kv_buf_reserve(&reader->stored, block->stored_bytes) : data;
    if (!data || !stored) {
        return kv_snapshot_no_memory(ret_error);
    }
    status = read_at(reader, stored, block->stored_bytes, offset, ret_error);
    if (status != 0) {
        return status;
    }
    forget(reader, offset);
    if (kv_crc32c(stored, block->stored_bytes, 0) != block->crc) {
        return damaged(reader, reader->offset, "the checksum of a block is wrong", ret_error);
    }
    if (is_packed && LZ4_decompress_safe((const char *)stored,
                                         (char *)data,
                                         (int)block->stored_bytes,
                                         (int)block->raw_bytes) != (int)block->raw_bytes) {
        return damaged(
            reader, reader->offset, "a block does not unpack to what it says", ret_error);
    }
    XXH3_64bits_update(reader->hash_state, stored, block->stored_bytes);
    raw->size = block->raw_bytes;
    reader->raw_bytes += block->raw_bytes;
    reader->offset = offset + block->stored_bytes;
    return 1;
}

static int
read_next(struct kv_snapshot_reader *reader, struct kv_buf *raw, struct kv_error *ret_error)
{
    uint8_t bytes[KV_SNAPSHOT_BLOCK_HEADER_BYTES];
    struct kv_snapshot_block block;
    const char *wrong;
    int status = read_at(reader, bytes, sizeof bytes, reader->offset, ret_error);

    if (status != 0) {
        return status;
    }
    wrong = kv_snapshot_block_decode(bytes, reader->seed, &block);
    if (wrong) {
        return damaged(reader, reader->offset, wrong, ret_error);
    }
    XXH3_64bits_update(reader->hash_state, bytes, sizeof bytes);
    if (block.kind == KV_SNAPSHOT_TRAILER) {
        return read_end(reader, &block, ret_error);
    }
    if (block.number != reader->n_blocks + 1) {
        return damaged(
            reader, reader->offset, "a block is missing, doubled or misplaced", ret_error);
    }
    reader->n_blocks++;
    return read_block(reader, &block, raw, ret_error);
}

int kv_snapshot_reader_next(struct kv_snapshot_reader *reader,
                            struct kv_buf *raw,
                            struct kv_error *ret_error)
{
    KV_ASSERT(raw->max_size >= KV_SNAPSHOT_BLOCK_BYTES_MAX);
    kv_buf_clear(raw);
    if (reader->status == 1) {
        reader->status = read_next(reader, raw, ret_error);
    } else if (reader->status < 0) {
        return kv_error_set(ret_error,
                            reader->status,
                            "%s/%s could not be read to its end",
                            reader->disk->name,
                            reader->path);
    }
    return reader->status;
}

const struct kv_snapshot_meta *kv_snapshot_reader_meta(const struct kv_snapshot_reader *reader)
{
    return &reader->meta;
}

uint64_t kv_snapshot_reader_blocks(const struct kv_snapshot_reader *reader)
{
    return reader->n_blocks;
}

uint64_t kv_snapshot_reader_offset(const struct kv_snapshot_reader *reader)
{
    return reader->offset;
}

struct kv_snapshot_descriptor kv_snapshot_descriptor_of(const struct kv_snapshot_reader *reader)
{
    KV_ASSERT(reader->status == 0);
    return (struct kv_snapshot_descriptor){
        .index = reader->meta.index,
        .term = reader->meta.term,
        .configuration_index = reader->meta.configuration_index,
        .size_bytes = reader->size,
        .hash = reader->hash,
    };
}

/* ---------------------------------------------------------------- whole files, and pieces */

int kv_snapshot_verify(const struct kv_disk *disk,
                       const char *path,
                       uint64_t cluster_id,
                       struct kv_snapshot_descriptor *ret_descriptor,
                       struct kv_error *ret_error)
{
    struct kv_snapshot_reader *reader = NULL;
    struct kv_buf raw;
    int status;

    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    status = kv_snapshot_reader_open(disk, path, cluster_id, &reader, ret_error);
    if (status == 0) {
        do {
            status = kv_snapshot_reader_next(reader, &raw, ret_error);
        } while (status == 1);
    }
    if (status == 0) {
        *ret_descriptor = kv_snapshot_descriptor_of(reader);
    }
    kv_snapshot_reader_close(reader);
    kv_buf_deinit(&raw);
    return status;
}

int kv_snapshot_piece_read(const struct kv_disk *disk,
                           const char *path,
                           uint64_t offset,
                           size_t size,
                           struct kv_buf *buf,
                           struct kv_error *ret_error)
{
    struct kv_file *file;
    uint8_t *p;
    int64_t got;
    int status;

    if (size > buf->max_size - buf->size) {
        return kv_error_set(ret_error, KV_TOO_LARGE, "a piece of %zu bytes is too large", size);
    }
    p = kv_buf_reserve(buf, size);
    if (!p) {
        return kv_snapshot_no_memory(ret_error);
    }
    status = disk->ops->open(disk->disk, path, KV_DISK_READ, &file);
    if (status == -ENOENT) {
        return kv_error_set(ret_error, KV_NOT_FOUND, "%s/%s is not there", disk->name, path);
    }
    if (status != 0) {
        return kv_snapshot_io_error(disk, status, "open", path, ret_error);
    }
    got = disk->ops->pread(disk->disk, file, p, size, offset);
    disk->ops->close(disk->disk, file);
    if (got < 0) {
        return kv_snapshot_io_error(disk, (int)got, "read", path, ret_error);
    }
    if (got == 0 && size > 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "%s/%s ends before offset %" PRIu64, disk->name, path, offset);
    }
    buf->size += (size_t)got;
    return 0;
}
