#define _GNU_SOURCE /* F_OFD_SETLK */
#include "raft/disk_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

struct kv_disk_posix {
    int directory;
    int lock;
    char *path;
};

struct kv_file {
    int fd;
};

static int result(int rv)
{
    return rv < 0 ? -errno : 0;
}

static int disk_open(void *arg, const char *path, unsigned flags, struct kv_file **ret_file)
{
    struct kv_disk_posix *disk = arg;
    struct kv_file *file = malloc(sizeof *file);
    int mode = flags & KV_DISK_WRITE ? O_RDWR : O_RDONLY;

    if (!file) {
        return -ENOMEM;
    }
    mode |= flags & KV_DISK_CREATE ? O_CREAT : 0;
    mode |= flags & KV_DISK_EXCLUSIVE ? O_EXCL : 0;
    file->fd = openat(disk->directory, path, mode | O_CLOEXEC, 0640);
    if (file->fd < 0) {
        free(file);
        return -errno;
    }
    if (flags & KV_DISK_NO_AHEAD) {
        (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
    }
    *ret_file = file;
    return 0;
}

static void disk_close(void *arg, struct kv_file *file)
{
    (void)arg;
    close(file->fd);
    free(file);
}

static int64_t disk_pread(void *arg, struct kv_file *file, void *data, size_t size, uint64_t offset)
{
    size_t done = 0;

    (void)arg;
    while (done < size) {
        ssize_t got = pread(file->fd, (char *)data + done, size - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int
disk_pwrite(void *arg, struct kv_file *file, const void *data, size_t size, uint64_t offset)
{
    size_t done = 0;

    (void)arg;
    while (done < size) {
        ssize_t put =
            pwrite(file->fd, (const char *)data + done, size - done, (off_t)(offset + done));

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return put < 0 ? -errno : -EIO;
        }
        done += (size_t)put;
    }
    return 0;
}

static int disk_datasync(void *arg, struct kv_file *file)
{
    (void)arg;
    return result(fdatasync(file->fd));
}

static void disk_forget(void *arg, struct kv_file *file, uint64_t offset, uint64_t size)
{
    (void)arg;
    (void)posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}

static int disk_sync(void *arg, struct kv_file *file)
{
    (void)arg;
    return result(fsync(file->fd));
}

static int disk_truncate(void *arg, struct kv_file *file, uint64_t size)
{
    (void)arg;
    return result(ftruncate(file->fd, (off_t)size));
}

static int64_t disk_size(void *arg, struct kv_file *file)
{
    struct stat status;

    (void)arg;
    return fstat(file->fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

static int disk_rename(void *arg, const char *from, const char *to)
{
    struct kv_disk_posix *disk = arg;

    return result(renameat(disk->directory, from, disk->directory, to));
}

static int disk_unlink(void *arg, const char *path)
{
    return result(unlinkat(((struct kv_disk_posix *)arg)->directory, path, 0));
}

static int disk_mkdir(void *arg, const char *path)
{
    if (mkdirat(((struct kv_disk_posix *)arg)->directory, path, 0750) < 0 && errno != EEXIST) {
        return -errno;
    }
    return 0;
}

static int disk_sync_dir(void *arg, const char *path)
{
    int fd =
        openat(((struct kv_disk_posix *)arg)->directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status;

    if (fd < 0) {
        return -errno;
    }
    status = result(fsync(fd));
    close(fd);
    return status;
}

static int
disk_list(void *arg, const char *path, void (*fn)(void *arg, const char *name), void *fn_arg)
{
    int fd =
        openat(((struct kv_disk_posix *)arg)->directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    DIR *directory;
    int status;

    if (fd < 0) {
        return -errno;
    }
    directory = fdopendir(fd);
    if (!directory) {
        status = -errno;
        close(fd);
        return status;
    }
    errno = 0;
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            fn(fn_arg, entry->d_name);
        }
        errno = 0;
    }
    status = -errno;
    closedir(directory);
    return status;
}

static int64_t disk_free_bytes(void *arg)
{
    struct statvfs status;

    if (fstatvfs(((struct kv_disk_posix *)arg)->directory, &status) < 0) {
        return -errno;
    }
    return (int64_t)((uint64_t)status.f_bavail * status.f_frsize);
}

/* For people who wonder who holds the lock; a full disk is no reason to refuse it. */
static void write_pid(int fd)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)size, 0) < 0) {
        return;
    }
}

/* A lock of the open file, not of the process: a second node in one process is kept out, too. */
static int disk_lock(void *arg, const char *path)
{
    struct kv_disk_posix *disk = arg;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(disk->directory, path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0) {
        return -errno;
    }
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        int status = errno == EACCES || errno == EAGAIN ? -EWOULDBLOCK : -errno;

        close(fd);
        return status;
    }
    write_pid(fd);
    disk->lock = fd;
    return 0;
}

static uint64_t disk_now_ns(void *arg)
{
    struct timespec now;

    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static const struct kv_disk_ops ops = {
    .open = disk_open,
    .close = disk_close,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .datasync = disk_datasync,
    .sync = disk_sync,
    .truncate = disk_truncate,
    .size = disk_size,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .mkdir = disk_mkdir,
    .sync_dir = disk_sync_dir,
    .list = disk_list,
    .free_bytes = disk_free_bytes,
    .lock = disk_lock,
    .forget = disk_forget,
    .now_ns = disk_now_ns,
};

static const char *advice(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return ": make its parent directory first";
    case ENOTDIR:
        return ": that is no directory; choose another --data-dir";
    case EACCES:
    case EPERM:
        return ": give it to the user that kvd runs as";
    case EROFS:
        return ": remount it writable, or choose another --data-dir";
    case ENOSPC:
    case EDQUOT:
        return ": make room, or choose another --data-dir";
    default:
        return "";
    }
}

static int path_error(struct kv_error *ret_error, const char *what, const char *path, int errnum)
{
    return kv_error_set(ret_error,
                        KV_IO,
                        "cannot %s the data directory %s: %s%s",
                        what,
                        path,
                        strerror(errnum),
                        advice(errnum));
}

/* A new directory's name must be on disk before anything in it counts. */
static int sync_parent(int directory)
{
    int fd = openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status;

    if (fd < 0) {
        return -errno;
    }
    status = result(fsync(fd));
    close(fd);
    return status;
}

int kv_disk_posix_open(const char *path,
                       struct kv_disk_posix **ret_disk,
                       struct kv_error *ret_error)
{
    struct kv_disk_posix *disk = calloc(1, sizeof *disk);
    bool is_new;
    int status;

    if (!disk) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    disk->lock = -1;
    disk->directory = -1;
    disk->path = strdup(path);
    if (!disk->path) {
        status = kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
        goto out;
    }
    is_new = mkdir(path, 0750) == 0;
    if (!is_new && errno != EEXIST) {
        status = path_error(ret_error, "make", path, errno);
        goto out;
    }
    disk->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->directory < 0) {
        status = path_error(ret_error, "open", path, errno);
        goto out;
    }
    status = is_new ? sync_parent(disk->directory) : 0;
    /* A parent that others own may be unreadable to us: then its keeper made it durable, or not. */
    if (status != 0 && status != -EACCES) {
        status = path_error(ret_error, "sync the parent of", path, -status);
        goto out;
    }
    *ret_disk = disk;
    return 0;

out:
    kv_disk_posix_close(disk);
    return status;
}

void kv_disk_posix_close(struct kv_disk_posix *disk)
{
    if (!disk) {
        return;
    }
    if (disk->lock >= 0) {
        close(disk->lock);
    }
    if (disk->directory >= 0) {
        close(disk->directory);
    }
    free(disk->path);
    free(disk);
}

struct kv_disk kv_disk_posix_disk(struct kv_disk_posix *disk)
{
    return (struct kv_disk){&ops, disk, disk->path};
}
