/* Receiving a snapshot in pieces. The part is the file as it will be, and behind it, at the next
 * page, a note of what it is to be and how much of it is on disk. The note is written after the
 * sync that it speaks of, so that it never says too much; one that is lost or torn costs a restart
 * of the transfer. */
#include "raft/snapshot_file.h"

#include "common/assert.h"
#include "common/crc32c.h"
#include "raft/snapshot_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* "kvdpart1" | the descriptor's five numbers | synced bytes | u32 crc of all before | u32 zero */
enum { NOTE_BYTES = 64, NOTE_CRC_OFFSET = 56, NOTE_ALIGNMENT = 4096 };
static const char magic[8] = {'k', 'v', 'd', 'p', 'a', 'r', 't', '1'};

/* A head without configuration, and a trailer. */
#define SIZE_MIN (KV_SNAPSHOT_HEAD_BYTES + KV_SNAPSHOT_TRAILER_BYTES)

struct kv_snapshot_receiver {
    const struct kv_disk *disk;
    struct kv_snapshot_descriptor descriptor;
    struct kv_file *file; /* NULL once it is finished or given up */
    uint64_t offset;
    uint64_t synced_offset;
    char name[KV_SNAPSHOT_NAME_BYTES];
};

static uint64_t note_offset(const struct kv_snapshot_receiver *receiver)
{
    return (receiver->descriptor.size_bytes + NOTE_ALIGNMENT - 1) & ~(uint64_t)(NOTE_ALIGNMENT - 1);
}

static void encode_note(const struct kv_snapshot_receiver *receiver, uint8_t p[NOTE_BYTES])
{
    const struct kv_snapshot_descriptor *descriptor = &receiver->descriptor;

    memcpy(p, magic, sizeof magic);
    kv_put_u64(p + 8, descriptor->index);
    kv_put_u64(p + 16, descriptor->term);
    kv_put_u64(p + 24, descriptor->configuration_index);
    kv_put_u64(p + 32, descriptor->size_bytes);
    kv_put_u64(p + 40, descriptor->hash);
    kv_put_u64(p + 48, receiver->synced_offset);
    kv_put_u32(p + NOTE_CRC_OFFSET, kv_crc32c(p, NOTE_CRC_OFFSET, 0));
    kv_put_u32(p + NOTE_CRC_OFFSET + 4, 0);
}

static void close_file(struct kv_snapshot_receiver *receiver)
{
    if (receiver->file) {
        receiver->disk->ops->close(receiver->disk->disk, receiver->file);
        receiver->file = NULL;
    }
}

static void give_up(struct kv_snapshot_receiver *receiver)
{
    close_file(receiver);
    (void)receiver->disk->ops->unlink(receiver->disk->disk, receiver->name);
}

static int fail_io(struct kv_snapshot_receiver *receiver,
                   int errnum,
                   const char *what,
                   struct kv_error *ret_error)
{
    give_up(receiver);
    return kv_snapshot_io_error(receiver->disk, errnum, what, receiver->name, ret_error);
}

/* ---------------------------------------------------------------- open */

/* Only one part at a time is of use. */
static int remove_other_parts(struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    struct kv_snapshot_id ids[KV_SNAPSHOT_FILES_MAX];
    struct kv_snapshot_listing listing = {KV_SNAPSHOT_PARTIAL, ids, KV_SNAPSHOT_FILES_MAX, 0};
    const struct kv_disk *disk = receiver->disk;
    int status = kv_snapshot_list_names(disk, &listing, ret_error);

    for (size_t i = 0; i < listing.n && status == 0; i++) {
        char name[KV_SNAPSHOT_NAME_BYTES];

        kv_snapshot_name(name, ids[i].index, ids[i].term, KV_SNAPSHOT_PARTIAL);
        if (strcmp(name, receiver->name) != 0) {
            status = disk->ops->unlink(disk->disk, name);
            status =
                status == 0 ? 0 : kv_snapshot_io_error(disk, status, "remove", name, ret_error);
        }
    }
    return status;
}

/* Goes on with the part that is there, if its note fits; otherwise receiver->file stays NULL. */
static void resume(struct kv_snapshot_receiver *receiver)
{
    const struct kv_disk *disk = receiver->disk;
    uint8_t note[NOTE_BYTES], expected[NOTE_BYTES];
    uint64_t synced;

    if (disk->ops->open(disk->disk, receiver->name, KV_DISK_WRITE, &receiver->file) != 0) {
        receiver->file = NULL;
        return;
    }
    if (disk->ops->size(disk->disk, receiver->file) !=
            (int64_t)(note_offset(receiver) + NOTE_BYTES) ||
        disk->ops->pread(disk->disk, receiver->file, note, NOTE_BYTES, note_offset(receiver)) !=
            NOTE_BYTES) {
        close_file(receiver);
        return;
    }
    synced = kv_get_u64(note + 48);
    receiver->synced_offset = synced;
    encode_note(receiver, expected);
    if (memcmp(note, expected, NOTE_BYTES) != 0 || synced > receiver->descriptor.size_bytes) {
        receiver->synced_offset = 0;
        close_file(receiver);
        return;
    }
    receiver->offset = synced;
}

static int write_note(struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    const struct kv_disk *disk = receiver->disk;
    uint8_t note[NOTE_BYTES];
    int status;

    encode_note(receiver, note);
    status = disk->ops->pwrite(disk->disk, receiver->file, note, NOTE_BYTES, note_offset(receiver));
    return status == 0 ? 0 : fail_io(receiver, status, "write", ret_error);
}

static int create(struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    const struct kv_disk *disk = receiver->disk;
    int64_t free_bytes;
    int status = disk->ops->unlink(disk->disk, receiver->name);

    if (status != 0 && status != -ENOENT) {
        return kv_snapshot_io_error(disk, status, "remove", receiver->name, ret_error);
    }
    free_bytes = disk->ops->free_bytes(disk->disk);
    if (free_bytes >= 0 && (uint64_t)free_bytes < note_offset(receiver) + NOTE_BYTES) {
        return kv_error_set(ret_error,
                            KV_NO_SPACE,
                            "no room in %s for a snapshot of %" PRIu64 " bytes: %" PRId64
                            " are free",
                            disk->name,
                            receiver->descriptor.size_bytes,
                            free_bytes);
    }
    status = disk->ops->open(disk->disk,
                             receiver->name,
                             KV_DISK_WRITE | KV_DISK_CREATE | KV_DISK_EXCLUSIVE,
                             &receiver->file);
    if (status != 0) {
        return kv_snapshot_io_error(disk, status, "create", receiver->name, ret_error);
    }
    status = write_note(receiver, ret_error);
    if (status != 0) {
        return status;
    }
    status = disk->ops->sync_dir(disk->disk, "snap");
    return status == 0 ? 0 : fail_io(receiver, status, "sync the name of", ret_error);
}

static int open_part(struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    const struct kv_snapshot_descriptor *descriptor = &receiver->descriptor;
    int status = kv_snapshot_make_directory(receiver->disk, ret_error);

    if (status == 0) {
        status = kv_snapshot_check_absent(
            receiver->disk, descriptor->index, descriptor->term, ret_error);
    }
    if (status == 0) {
        status = remove_other_parts(receiver, ret_error);
    }
    if (status == 0) {
        resume(receiver);
    }
    if (status == 0 && !receiver->file) {
        status = create(receiver, ret_error);
    }
    return status;
}

int kv_snapshot_receiver_open(const struct kv_disk *disk,
                              const struct kv_snapshot_descriptor *descriptor,
                              struct kv_snapshot_receiver **ret_receiver,
                              struct kv_error *ret_error)
{
    struct kv_snapshot_receiver *receiver;
    int status;

    if (!kv_snapshot_is_possible(
            descriptor->index, descriptor->term, descriptor->configuration_index) ||
        descriptor->size_bytes < SIZE_MIN || descriptor->size_bytes > KV_SNAPSHOT_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a snapshot of index %" PRIu64 ", term %" PRIu64 " and %" PRIu64
                            " bytes cannot be",
                            descriptor->index,
                            descriptor->term,
                            descriptor->size_bytes);
    }
    receiver = calloc(1, sizeof *receiver);
    if (!receiver) {
        return kv_snapshot_no_memory(ret_error);
    }
    receiver->disk = disk;
    receiver->descriptor = *descriptor;
    kv_snapshot_name(receiver->name, descriptor->index, descriptor->term, KV_SNAPSHOT_PARTIAL);
    status = open_part(receiver, ret_error);
    if (status != 0) {
        kv_snapshot_receiver_close(receiver);
        return status;
    }
    *ret_receiver = receiver;
    return 0;
}

void kv_snapshot_receiver_close(struct kv_snapshot_receiver *receiver)
{
    if (!receiver) {
        return;
    }
    close_file(receiver);
    free(receiver);
}

uint64_t kv_snapshot_receiver_offset(const struct kv_snapshot_receiver *receiver)
{
    return receiver->offset;
}

/* ---------------------------------------------------------------- pieces */

/* What is checked at the end is what the disk has, and memory is left to others meanwhile: pages
 * that are given back serve the next pieces, which costs a fraction of fresh ones. */
static void forget_from(const struct kv_snapshot_receiver *receiver, uint64_t offset)
{
    const struct kv_disk *disk = receiver->disk;

    if (receiver->file && disk->ops->forget) {
        disk->ops->forget(disk->disk, receiver->file, offset, receiver->synced_offset - offset);
    }
}

static int given_up(const struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    return kv_error_set(ret_error,
                        KV_IO,
                        "%s/%s was finished or given up before",
                        receiver->disk->name,
                        receiver->name);
}

static int sync_part(struct kv_snapshot_receiver *receiver, struct kv_error *ret_error)
{
    const struct kv_disk *disk = receiver->disk;
    int status = disk->ops->datasync(disk->disk, receiver->file);

    if (status != 0) {
        return fail_io(receiver, status, "sync", ret_error);
    }
    receiver->synced_offset = receiver->offset;
    return write_note(receiver, ret_error);
}

int kv_snapshot_receiver_add(struct kv_snapshot_receiver *receiver,
                             uint64_t offset,
                             struct kv_slice piece,
                             struct kv_error *ret_error)
{
    const struct kv_disk *disk = receiver->disk;
    int status;

    if (!receiver->file) {
        return given_up(receiver, ret_error);
    }
    if (offset != receiver->offset) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a piece at offset %" PRIu64 ", the next one begins at %" PRIu64,
                            offset,
                            receiver->offset);
    }
    if (piece.size > receiver->descriptor.size_bytes - offset) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a piece of %zu bytes at offset %" PRIu64 " goes beyond the %" PRIu64
                            " bytes that were announced",
                            piece.size,
                            offset,
                            receiver->descriptor.size_bytes);
    }
    if (piece.size == 0) {
        return 0;
    }
    status = disk->ops->pwrite(disk->disk, receiver->file, piece.data, piece.size, offset);
    if (status != 0) {
        return fail_io(receiver, status, "write", ret_error);
    }
    receiver->offset += piece.size;
    if (receiver->offset - receiver->synced_offset >= KV_SNAPSHOT_PART_SYNC_BYTES ||
        receiver->offset == receiver->descriptor.size_bytes) {
        uint64_t former = receiver->synced_offset;

        status = sync_part(receiver, ret_error);
        forget_from(receiver, former);
    }
    return status;
}

/* ---------------------------------------------------------------- finish */

int kv_snapshot_receiver_read(const struct kv_snapshot_receiver *receiver,
                              uint64_t cluster_id,
                              struct kv_snapshot_reader **ret_reader,
                              struct kv_error *ret_error)
{
    uint64_t size_bytes = receiver->descriptor.size_bytes;

    if (!receiver->file) {
        return given_up(receiver, ret_error);
    }
    if (receiver->offset != size_bytes) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the snapshot's sender ended at %" PRIu64 " of the %" PRIu64
                            " bytes that it announced",
                            receiver->offset,
                            size_bytes);
    }
    return kv_snapshot_reader_open_front(
        receiver->disk, receiver->name, cluster_id, size_bytes, ret_reader, ret_error);
}

void kv_snapshot_receiver_reject(struct kv_snapshot_receiver *receiver)
{
    if (receiver->file) {
        give_up(receiver);
    }
}

static int check_found(const struct kv_snapshot_receiver *receiver,
                       const struct kv_snapshot_descriptor *found,
                       struct kv_error *ret_error)
{
    const struct kv_snapshot_descriptor *wanted = &receiver->descriptor;
    const char *wrong = NULL;

    if (found->hash != wanted->hash) {
        wrong = "hash";
    } else if (found->configuration_index != wanted->configuration_index) {
        wrong = "configuration index";
    }
    return wrong ? kv_error_set(ret_error,
                                KV_CORRUPT,
                                "the received snapshot of index %" PRIu64
                                " has another %s than was announced",
                                wanted->index,
                                wrong)
                 : 0;
}

int kv_snapshot_receiver_finish(struct kv_snapshot_receiver *receiver,
                                const struct kv_snapshot_reader *reader,
                                struct kv_error *ret_error)
{
    const struct kv_disk *disk = receiver->disk;
    const struct kv_snapshot_descriptor *descriptor = &receiver->descriptor;
    const struct kv_snapshot_descriptor found = kv_snapshot_descriptor_of(reader);
    int status;

    KV_ASSERT(receiver->file); /* kv_snapshot_receiver_read had it */
    status = check_found(receiver, &found, ret_error);
    if (status != 0) {
        give_up(receiver);
        return status;
    }
    status = disk->ops->truncate(disk->disk, receiver->file, descriptor->size_bytes);
    if (status == 0) {
        status = disk->ops->sync(disk->disk, receiver->file);
    }
    if (status != 0) {
        return fail_io(receiver, status, "sync", ret_error);
    }
    close_file(receiver);
    return kv_snapshot_place(disk, receiver->name, descriptor->index, descriptor->term, ret_error);
}
