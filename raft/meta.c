#include "raft/meta.h"

#include "common/bytes.h"
#include "common/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* "kvdmeta1" | u32 format version | u32 zero | u64 cluster id | u64 node id | u32 crc of all before
 * | u32 zero */
enum { META_BYTES = 40, CRC_OFFSET = 32 };
static const char magic[8] = {'k', 'v', 'd', 'm', 'e', 't', 'a', '1'};

static int io_error(const struct kv_disk *disk,
                    int errnum,
                    const char *what,
                    const char *path,
                    struct kv_error *ret_error)
{
    const char *advice = "";

    if (errnum == -EACCES || errnum == -EPERM) {
        advice = ": give the directory and what is in it to the user that kvd runs as";
    } else if (errnum == -EROFS) {
        advice = ": remount it writable, or choose another --data-dir";
    } else if (errnum == -ENOSPC || errnum == -EDQUOT) {
        advice = ": make room, or choose another --data-dir";
    }
    return kv_error_set(ret_error,
                        KV_IO,
                        "cannot %s %s/%s: %s%s",
                        what,
                        disk->name,
                        path,
                        strerror(-errnum),
                        advice);
}

static void encode(uint8_t data[META_BYTES], const struct kv_meta *meta)
{
    memset(data, 0, META_BYTES);
    memcpy(data, magic, sizeof magic);
    kv_put_u32(data + 8, meta->format_version);
    kv_put_u64(data + 16, meta->cluster_id);
    kv_put_u64(data + 24, meta->node_id);
    kv_put_u32(data + CRC_OFFSET, kv_crc32c(data, CRC_OFFSET, 0));
}

int kv_meta_write(const struct kv_disk *disk,
                  const struct kv_meta *meta,
                  struct kv_error *ret_error)
{
    uint8_t data[META_BYTES];
    struct kv_file *file;
    int status;

    encode(data, meta);
    status = disk->ops->open(disk->disk, "meta.tmp", KV_DISK_WRITE | KV_DISK_CREATE, &file);
    if (status != 0) {
        return io_error(disk, status, "create", "meta.tmp", ret_error);
    }
    /* One left over from a crash may be longer. */
    status = disk->ops->truncate(disk->disk, file, 0);
    if (status == 0) {
        status = disk->ops->pwrite(disk->disk, file, data, sizeof data, 0);
    }
    if (status == 0) {
        status = disk->ops->sync(disk->disk, file);
    }
    disk->ops->close(disk->disk, file);
    if (status == 0) {
        status = disk->ops->rename(disk->disk, "meta.tmp", "meta");
    }
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, ".");
    }
    return status == 0 ? 0 : io_error(disk, status, "write", "meta", ret_error);
}

int kv_meta_read(const struct kv_disk *disk,
                 struct kv_meta *ret_meta,
                 bool *ret_missing,
                 struct kv_error *ret_error)
{
    uint8_t data[META_BYTES + 1];
    struct kv_file *file;
    int64_t size;
    int status = disk->ops->open(disk->disk, "meta", KV_DISK_READ, &file);

    *ret_missing = status == -ENOENT;
    if (status == -ENOENT) {
        return 0;
    }
    if (status != 0) {
        return io_error(disk, status, "open", "meta", ret_error);
    }
    size = disk->ops->pread(disk->disk, file, data, sizeof data, 0);
    disk->ops->close(disk->disk, file);
    if (size < 0) {
        return io_error(disk, (int)size, "read", "meta", ret_error);
    }
    if (size != META_BYTES || memcmp(data, magic, sizeof magic) != 0 ||
        kv_get_u32(data + CRC_OFFSET) != kv_crc32c(data, CRC_OFFSET, 0) ||
        kv_get_u32(data + CRC_OFFSET + 4) != 0) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "%s/meta is damaged: replace this member (docs/operations tells how)",
                            disk->name);
    }
    *ret_meta = (struct kv_meta){
        .format_version = kv_get_u32(data + 8),
        .cluster_id = kv_get_u64(data + 16),
        .node_id = kv_get_u64(data + 24),
    };
    return 0;
}

static int check_meta(const struct kv_disk *disk,
                      const struct kv_meta *meta,
                      const struct kv_meta *expected,
                      struct kv_error *ret_error)
{
    if (meta->format_version > expected->format_version) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "%s is of format %" PRIu32 ", this server knows up to %" PRIu32
                            ": upgrade the server",
                            disk->name,
                            meta->format_version,
                            expected->format_version);
    }
    if (meta->cluster_id != expected->cluster_id) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "%s belongs to cluster %" PRIu64 ", this node is of cluster %" PRIu64
                            ": use the right --data-dir or --cluster-id",
                            disk->name,
                            meta->cluster_id,
                            expected->cluster_id);
    }
    if (meta->node_id != expected->node_id) {
        return kv_error_set(ret_error,
                            KV_WRONG_NODE,
                            "%s belongs to node %" PRIu64 ", this is node %" PRIu64
                            ": use the right --data-dir or --node-id",
                            disk->name,
                            meta->node_id,
                            expected->node_id);
    }
    return 0;
}

/* The owner of the lock wrote its process id into it, if it could. */
static int in_use(const struct kv_disk *disk, struct kv_error *ret_error)
{
    char text[32] = {0};
    struct kv_file *file;
    long pid = 0;

    if (disk->ops->open(disk->disk, "LOCK", KV_DISK_READ, &file) == 0) {
        if (disk->ops->pread(disk->disk, file, text, sizeof text - 1, 0) > 0) {
            pid = strtol(text, NULL, 10);
        }
        disk->ops->close(disk->disk, file);
    }
    if (pid > 0) {
        return kv_error_set(ret_error,
                            KV_IN_USE,
                            "%s is in use by process %ld: stop that one, or choose another "
                            "--data-dir",
                            disk->name,
                            pid);
    }
    return kv_error_set(ret_error,
                        KV_IN_USE,
                        "%s is in use by another process: stop that one, or choose another "
                        "--data-dir",
                        disk->name);
}

int kv_meta_open(const struct kv_disk *disk,
                 const struct kv_meta *expected,
                 bool *ret_missing,
                 struct kv_error *ret_error)
{
    struct kv_meta meta;
    int status = disk->ops->lock(disk->disk, "LOCK");

    *ret_missing = false;
    if (status == -EWOULDBLOCK) {
        return in_use(disk, ret_error);
    }
    if (status != 0) {
        return io_error(disk, status, "lock", "LOCK", ret_error);
    }
    status = kv_meta_read(disk, &meta, ret_missing, ret_error);
    if (status != 0 || *ret_missing) {
        return status;
    }
    return check_meta(disk, &meta, expected, ret_error);
}
