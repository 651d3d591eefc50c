/* Names of snapshots, and the writer. */
#include "raft/snapshot_file.h"

#include "common/assert.h"
#include "common/crc32c.h"
#include "raft/snapshot_internal.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct kv_snapshot_writer {
    const struct kv_disk *disk;
    uint64_t index;
    uint64_t term;
    uint64_t configuration_index;
    struct kv_file *file; /* NULL once it is finished or given up */
    XXH3_state_t *hash;
    struct kv_buf buf; /* one block as it goes to the file */
    uint32_t seed;
    uint64_t offset;
    uint64_t synced_offset;
    uint64_t n_blocks;
    uint64_t raw_bytes;
    bool is_created; /* the temporary name is there */
    char name[KV_SNAPSHOT_NAME_BYTES];
};

int kv_snapshot_io_error(const struct kv_disk *disk,
                         int errnum,
                         const char *what,
                         const char *path,
                         struct kv_error *ret_error)
{
    int status = errnum == -ENOSPC || errnum == -EDQUOT ? KV_NO_SPACE
                 : errnum == -ENOMEM                    ? KV_NO_MEMORY
                                                        : KV_IO;

    return kv_error_set(
        ret_error, status, "cannot %s %s/%s: %s", what, disk->name, path, strerror(-errnum));
}

int kv_snapshot_no_memory(struct kv_error *ret_error)
{
    return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for a snapshot's blocks");
}

/* ---------------------------------------------------------------- names */

int kv_snapshot_make_directory(const struct kv_disk *disk, struct kv_error *ret_error)
{
    int status = disk->ops->mkdir(disk->disk, "snap");

    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, ".");
    }
    return status == 0 ? 0 : kv_snapshot_io_error(disk, status, "make", "snap", ret_error);
}

int kv_snapshot_check_absent(const struct kv_disk *disk,
                             uint64_t index,
                             uint64_t term,
                             struct kv_error *ret_error)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_file *file;
    int status;

    kv_snapshot_name(name, index, term, KV_SNAPSHOT_COMPLETE);
    status = disk->ops->open(disk->disk, name, KV_DISK_READ, &file);
    if (status == -ENOENT) {
        return 0;
    }
    if (status != 0) {
        return kv_snapshot_io_error(disk, status, "open", name, ret_error);
    }
    disk->ops->close(disk->disk, file);
    return kv_error_set(ret_error, KV_EXISTS, "%s/%s is there already", disk->name, name);
}

int kv_snapshot_place(const struct kv_disk *disk,
                      const char *from,
                      uint64_t index,
                      uint64_t term,
                      struct kv_error *ret_error)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    int status;

    kv_snapshot_name(name, index, term, KV_SNAPSHOT_COMPLETE);
    status = disk->ops->rename(disk->disk, from, name);
    if (status != 0) {
        (void)disk->ops->unlink(disk->disk, from);
        return kv_snapshot_io_error(disk, status, "rename", from, ret_error);
    }
    status = disk->ops->sync_dir(disk->disk, "snap");
    if (status != 0) {
        /* Later syncs may succeed without it being on disk: nobody shall build on it. */
        (void)disk->ops->unlink(disk->disk, name);
        return kv_snapshot_io_error(disk, status, "sync the name of", name, ret_error);
    }
    return 0;
}

static bool is_newer(const struct kv_snapshot_id *a, const struct kv_snapshot_id *b)
{
    return a->index != b->index ? a->index > b->index : a->term > b->term;
}

static void note_name(void *arg, const char *name)
{
    struct kv_snapshot_listing *listing = arg;
    struct kv_snapshot_id id = {0};
    enum kv_snapshot_state state;
    size_t at;

    if (kv_snapshot_name_parse(name, &id.index, &id.term, &state) != 0 || state != listing->state) {
        return;
    }
    at = listing->n;
    while (at > 0 && is_newer(&id, &listing->ids[at - 1])) {
        at--;
    }
    if (at == listing->max) {
        return;
    }
    if (listing->n < listing->max) {
        listing->n++;
    }
    memmove(
        &listing->ids[at + 1], &listing->ids[at], (listing->n - 1 - at) * sizeof listing->ids[0]);
    listing->ids[at] = id;
}

int kv_snapshot_list_names(const struct kv_disk *disk,
                           struct kv_snapshot_listing *listing,
                           struct kv_error *ret_error)
{
    int status;

    listing->n = 0;
    status = disk->ops->list(disk->disk, "snap", note_name, listing);
    return status == 0 ? 0 : kv_snapshot_io_error(disk, status, "list", "snap", ret_error);
}

static int remove_unfinished(const struct kv_disk *disk, struct kv_error *ret_error)
{
    struct kv_snapshot_id ids[KV_SNAPSHOT_FILES_MAX];
    struct kv_snapshot_listing listing = {KV_SNAPSHOT_UNFINISHED, ids, KV_SNAPSHOT_FILES_MAX, 0};
    int status = kv_snapshot_list_names(disk, &listing, ret_error);

    for (size_t i = 0; i < listing.n && status == 0; i++) {
        char name[KV_SNAPSHOT_NAME_BYTES];

        kv_snapshot_name(name, ids[i].index, ids[i].term, KV_SNAPSHOT_UNFINISHED);
        status = disk->ops->unlink(disk->disk, name);
        status = status == 0 ? 0 : kv_snapshot_io_error(disk, status, "remove", name, ret_error);
    }
    return status;
}

static int
find_size(const struct kv_disk *disk, struct kv_snapshot_id *id, struct kv_error *ret_error)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_file *file;
    int64_t size;

    kv_snapshot_name(name, id->index, id->term, KV_SNAPSHOT_COMPLETE);
    size = disk->ops->open(disk->disk, name, KV_DISK_READ, &file);
    if (size == 0) {
        size = disk->ops->size(disk->disk, file);
        disk->ops->close(disk->disk, file);
    }
    if (size < 0) {
        return kv_snapshot_io_error(disk, (int)size, "look at", name, ret_error);
    }
    id->size_bytes = (uint64_t)size;
    return 0;
}

int kv_snapshot_list(const struct kv_disk *disk,
                     struct kv_snapshot_id *ids,
                     size_t max,
                     size_t *ret_n,
                     struct kv_error *ret_error)
{
    struct kv_snapshot_listing listing = {KV_SNAPSHOT_COMPLETE, ids, max, 0};
    int status = kv_snapshot_make_directory(disk, ret_error);

    if (status == 0) {
        status = remove_unfinished(disk, ret_error);
    }
    if (status == 0) {
        /* A process that was killed behind a rename left a name that no disk has yet. */
        status = disk->ops->sync_dir(disk->disk, "snap");
        status = status == 0 ? 0 : kv_snapshot_io_error(disk, status, "sync", "snap", ret_error);
    }
    if (status == 0) {
        status = kv_snapshot_list_names(disk, &listing, ret_error);
    }
    for (size_t i = 0; i < listing.n && status == 0; i++) {
        status = find_size(disk, &ids[i], ret_error);
    }
    if (status == 0) {
        *ret_n = listing.n;
    }
    return status;
}

int kv_snapshot_remove(const struct kv_disk *disk,
                       uint64_t index,
                       uint64_t term,
                       struct kv_error *ret_error)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    int status;

    kv_snapshot_name(name, index, term, KV_SNAPSHOT_COMPLETE);
    status = disk->ops->unlink(disk->disk, name);
    if (status == -ENOENT) {
        return 0;
    }
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, "snap");
    }
    return status == 0 ? 0 : kv_snapshot_io_error(disk, status, "remove", name, ret_error);
}

/* ---------------------------------------------------------------- writer */

/* No further byte goes into the file. */
static void give_up(struct kv_snapshot_writer *writer)
{
    if (writer->file) {
        writer->disk->ops->close(writer->disk->disk, writer->file);
        writer->file = NULL;
    }
    if (writer->is_created) {
        (void)writer->disk->ops->unlink(writer->disk->disk, writer->name);
        writer->is_created = false;
    }
}

static int
fail_io(struct kv_snapshot_writer *writer, int errnum, const char *what, struct kv_error *ret_error)
{
    give_up(writer);
    return kv_snapshot_io_error(writer->disk, errnum, what, writer->name, ret_error);
}

/* Writes what is in the buffer, and empties it. */
static int write_buf(struct kv_snapshot_writer *writer, struct kv_error *ret_error)
{
    const struct kv_disk *disk = writer->disk;
    int status = disk->ops->pwrite(
        disk->disk, writer->file, writer->buf.data, writer->buf.size, writer->offset);

    if (status != 0) {
        return fail_io(writer, status, "write", ret_error);
    }
    writer->offset += writer->buf.size;
    kv_buf_clear(&writer->buf);
    if (writer->offset - writer->synced_offset >= KV_SNAPSHOT_SYNC_BYTES) {
        status = disk->ops->datasync(disk->disk, writer->file);
        writer->synced_offset = writer->offset;
    }
    return status == 0 ? 0 : fail_io(writer, status, "sync", ret_error);
}

static int write_head(struct kv_snapshot_writer *writer,
                      const struct kv_snapshot_meta *meta,
                      struct kv_error *ret_error)
{
    struct kv_slice configuration = meta->configuration;
    struct kv_snapshot_head head = {
        .format_version = KV_SNAPSHOT_FORMAT_VERSION,
        .configuration_bytes = (uint32_t)configuration.size,
        .cluster_id = meta->cluster_id,
        .node_id = meta->node_id,
        .index = meta->index,
        .term = meta->term,
        .configuration_index = meta->configuration_index,
        .configuration_crc = kv_crc32c(configuration.data, configuration.size, 0),
    };
    uint8_t *p = kv_buf_reserve(&writer->buf, KV_SNAPSHOT_HEAD_BYTES + configuration.size);

    if (!p) {
        return kv_snapshot_no_memory(ret_error);
    }
    writer->seed = kv_snapshot_head_encode(p, &head);
    if (configuration.size > 0) {
        memcpy(p + KV_SNAPSHOT_HEAD_BYTES, configuration.data, configuration.size);
    }
    writer->buf.size = KV_SNAPSHOT_HEAD_BYTES + configuration.size;
    XXH3_64bits_update(writer->hash, writer->buf.data, writer->buf.size);
    return write_buf(writer, ret_error);
}

static int create_file(struct kv_snapshot_writer *writer, bool replaces, struct kv_error *ret_error)
{
    const struct kv_disk *disk = writer->disk;
    int status = kv_snapshot_make_directory(disk, ret_error);

    if (status == 0 && !replaces) {
        status = kv_snapshot_check_absent(disk, writer->index, writer->term, ret_error);
    }
    if (status != 0) {
        return status;
    }
    status = disk->ops->unlink(disk->disk, writer->name);
    if (status == 0 || status == -ENOENT) {
        status = disk->ops->open(disk->disk,
                                 writer->name,
                                 KV_DISK_WRITE | KV_DISK_CREATE | KV_DISK_EXCLUSIVE,
                                 &writer->file);
    }
    if (status != 0) {
        return kv_snapshot_io_error(disk, status, "create", writer->name, ret_error);
    }
    writer->is_created = true;
    return 0;
}

int kv_snapshot_writer_open(const struct kv_disk *disk,
                            const struct kv_snapshot_meta *meta,
                            struct kv_snapshot_writer **ret_writer,
                            struct kv_error *ret_error)
{
    struct kv_snapshot_writer *writer = calloc(1, sizeof *writer);
    int status;

    KV_ASSERT(kv_snapshot_is_possible(meta->index, meta->term, meta->configuration_index) &&
              meta->configuration.size <= KV_CONFIGURATION_BYTES_MAX);
    if (!writer) {
        return kv_snapshot_no_memory(ret_error);
    }
    writer->disk = disk;
    writer->index = meta->index;
    writer->term = meta->term;
    writer->configuration_index = meta->configuration_index;
    kv_snapshot_name(writer->name, meta->index, meta->term, KV_SNAPSHOT_UNFINISHED);
    kv_buf_init(&writer->buf, KV_SNAPSHOT_BLOCK_HEADER_BYTES + KV_SNAPSHOT_BLOCK_BYTES_MAX);
    writer->hash = XXH3_createState();
    if (!writer->hash) {
        status = kv_snapshot_no_memory(ret_error);
        goto out;
    }
    XXH3_64bits_reset(writer->hash);
    status = create_file(writer, meta->replaces, ret_error);
    if (status == 0) {
        status = write_head(writer, meta, ret_error);
    }
    if (status == 0) {
        *ret_writer = writer;
        return 0;
    }

out:
    kv_snapshot_writer_close(writer);
    return status;
}

static int given_up(const struct kv_snapshot_writer *writer, struct kv_error *ret_error)
{
    return kv_error_set(ret_error,
                        KV_IO,
                        "%s/%s was finished or given up before",
                        writer->disk->name,
                        writer->name);
}

/* The block's bytes go to p, with lz4 if that saves at least an eighth. */
static void fill_block(uint8_t *p, struct kv_slice raw, struct kv_snapshot_block *block)
{
    int target = (int)(raw.size - raw.size / 8);
    int packed = 0;

    if (raw.size >= KV_LZ4_MIN_BYTES) {
        packed = LZ4_compress_default((const char *)raw.data, (char *)p, (int)raw.size, target);
    }
    if (packed > 0) {
        block->kind = KV_SNAPSHOT_LZ4;
        block->stored_bytes = (uint32_t)packed;
    } else {
        block->kind = KV_SNAPSHOT_RAW;
        block->stored_bytes = (uint32_t)raw.size;
        memcpy(p, raw.data, raw.size);
    }
    block->raw_bytes = (uint32_t)raw.size;
    block->crc = kv_crc32c(p, block->stored_bytes, 0);
}

int kv_snapshot_writer_append(struct kv_snapshot_writer *writer,
                              struct kv_slice raw,
                              struct kv_error *ret_error)
{
    struct kv_snapshot_block block;
    uint8_t *p;

    if (!writer->file) {
        return given_up(writer, ret_error);
    }
    if (raw.size == 0) {
        return 0;
    }
    if (raw.size > KV_SNAPSHOT_BLOCK_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "a block of %zu bytes, a snapshot's have at most %llu",
                            raw.size,
                            KV_SNAPSHOT_BLOCK_BYTES_MAX);
    }
    p = kv_buf_reserve(&writer->buf, KV_SNAPSHOT_BLOCK_HEADER_BYTES + raw.size);
    if (!p) {
        give_up(writer);
        return kv_snapshot_no_memory(ret_error);
    }
    block.number = ++writer->n_blocks;
    fill_block(p + KV_SNAPSHOT_BLOCK_HEADER_BYTES, raw, &block);
    kv_snapshot_block_encode(p, &block, writer->seed);
    writer->buf.size = KV_SNAPSHOT_BLOCK_HEADER_BYTES + block.stored_bytes;
    writer->raw_bytes += raw.size;
    XXH3_64bits_update(writer->hash, writer->buf.data, writer->buf.size);
    return write_buf(writer, ret_error);
}

static int
write_trailer(struct kv_snapshot_writer *writer, uint64_t *ret_hash, struct kv_error *ret_error)
{
    struct kv_snapshot_block block = {
        .kind = KV_SNAPSHOT_TRAILER,
        .number = writer->n_blocks,
        .total_raw_bytes = writer->raw_bytes,
    };
    /* There is room: the head took more. */
    uint8_t *p = kv_buf_reserve(&writer->buf, KV_SNAPSHOT_TRAILER_BYTES);
    const struct kv_disk *disk = writer->disk;
    int status;

    KV_ASSERT(p);
    kv_snapshot_block_encode(p, &block, writer->seed);
    XXH3_64bits_update(writer->hash, p, KV_SNAPSHOT_BLOCK_HEADER_BYTES);
    *ret_hash = XXH3_64bits_digest(writer->hash);
    kv_put_u64(p + KV_SNAPSHOT_BLOCK_HEADER_BYTES, *ret_hash);
    writer->buf.size = KV_SNAPSHOT_TRAILER_BYTES;
    status = write_buf(writer, ret_error);
    if (status != 0) {
        return status;
    }
    status = disk->ops->sync(disk->disk, writer->file);
    return status == 0 ? 0 : fail_io(writer, status, "sync", ret_error);
}

int kv_snapshot_writer_finish(struct kv_snapshot_writer *writer,
                              struct kv_snapshot_descriptor *ret_descriptor,
                              struct kv_error *ret_error)
{
    uint64_t hash;
    int status;

    if (!writer->file) {
        return given_up(writer, ret_error);
    }
    status = write_trailer(writer, &hash, ret_error);
    if (status != 0) {
        return status;
    }
    writer->disk->ops->close(writer->disk->disk, writer->file);
    writer->file = NULL;
    writer->is_created = false;
    status = kv_snapshot_place(writer->disk, writer->name, writer->index, writer->term, ret_error);
    if (status != 0) {
        return status;
    }
    *ret_descriptor = (struct kv_snapshot_descriptor){
        .index = writer->index,
        .term = writer->term,
        .configuration_index = writer->configuration_index,
        .size_bytes = writer->offset,
        .hash = hash,
    };
    return 0;
}

uint64_t kv_snapshot_writer_bytes(const struct kv_snapshot_writer *writer)
{
    return writer->offset;
}

void kv_snapshot_writer_close(struct kv_snapshot_writer *writer)
{
    if (!writer) {
        return;
    }
    give_up(writer);
    XXH3_freeState(writer->hash);
    kv_buf_deinit(&writer->buf);
    free(writer);
}
