/* Whole files, read and replaced. */
#define _GNU_SOURCE /* mkostemp, realpath */
#include "client/kvctl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 * 1024 };

int kvctl_file_read(const char *path, struct kv_buf *buf, struct kv_error *ret_error)
{
    bool input = strcmp(path, "-") == 0;
    FILE *file = input ? stdin : fopen(path, "rbe");
    size_t size = 1;
    int status = 0;

    if (!file) {
        return kv_error_set(
            ret_error, errno == ENOENT ? KV_NOT_FOUND : KV_IO, "%.300s: %s", path, strerror(errno));
    }
    while (size > 0 && status == 0) {
        uint8_t *p = kv_buf_reserve(buf, PIECE_BYTES);

        if (!p) {
            status = kv_error_set(
                ret_error, KV_TOO_LARGE, "%.300s has more than %zu bytes", path, buf->max_size);
            break;
        }
        size = fread(p, 1, PIECE_BYTES, file);
        buf->size += size;
    }
    if (status == 0 && ferror(file)) {
        status = kv_error_set(ret_error, KV_IO, "reading %.300s: %s", path, strerror(errno));
    }
    if (!input) {
        fclose(file);
    }
    return status;
}

static int fail(struct kvctl_new_file *file, const char *what, struct kv_error *ret_error)
{
    int number = errno;

    kvctl_new_file_drop(file);
    return kv_error_set(ret_error, KV_IO, "%s %.300s: %s", what, file->target, strerror(number));
}

/* Its directory, that of the target. */
static int name_file(struct kvctl_new_file *file, const char *target, struct kv_error *ret_error)
{
    char resolved[PATH_MAX];
    const char *slash;
    int length;

    snprintf(
        file->target, sizeof file->target, "%s", realpath(target, resolved) ? resolved : target);
    slash = strrchr(file->target, '/');
    length = slash ? (int)(slash - file->target) + 1 : 0;
    if (strlen(target) + 16 > sizeof file->path ||
        snprintf(file->path,
                 sizeof file->path,
                 "%.*s.%s.XXXXXX",
                 length,
                 file->target,
                 file->target + length) >= (int)sizeof file->path) {
        file->path[0] = '\0';
        return kv_error_set(ret_error, KV_IO, "the name %.100s... is too long", target);
    }
    return 0;
}

static bool write_all(int fd, struct kv_bytes content)
{
    const char *p = content.data;
    size_t done = 0;

    while (done < content.size) {
        ssize_t size = write(fd, p + done, content.size - done);

        if (size < 0 && errno != EINTR) {
            return false;
        }
        done += size > 0 ? (size_t)size : 0;
    }
    return fsync(fd) == 0;
}

/* It can only be read by setting it. */
static mode_t present_umask(void)
{
    mode_t mask = umask(077);

    umask(mask);
    return mask;
}

int kvctl_new_file_write(struct kvctl_new_file *file,
                         const char *target,
                         struct kv_bytes content,
                         unsigned mode,
                         bool enforce,
                         struct kv_error *ret_error)
{
    struct stat old;
    bool is_there;
    int status = name_file(file, target, ret_error);
    int fd;

    if (status < 0) {
        return status;
    }
    is_there = stat(file->target, &old) == 0;
    if (is_there && !S_ISREG(old.st_mode)) {
        file->path[0] = '\0';
        return kv_error_set(ret_error,
                            KV_IO,
                            "%.300s is no regular file, and is not replaced by one",
                            file->target);
    }
    fd = mkostemp(file->path, O_CLOEXEC);
    if (fd < 0) {
        file->path[0] = '\0';
        return fail(file, "making a file beside", ret_error);
    }
    if (is_there) {
        mode = enforce ? mode : old.st_mode & 07777;
        /* Only root may give files away; for others the file is theirs anyway. */
        if ((old.st_uid != geteuid() || old.st_gid != getegid()) &&
            fchown(fd, old.st_uid, old.st_gid) != 0 && geteuid() == 0) {
            close(fd);
            return fail(file, "giving its owner to", ret_error);
        }
    } else if (!enforce) {
        mode &= ~present_umask();
    }
    if (fchmod(fd, (mode_t)mode) != 0 || !write_all(fd, content)) {
        close(fd);
        return fail(file, "writing a file beside", ret_error);
    }
    close(fd);
    return 0;
}

int kvctl_new_file_commit(struct kvctl_new_file *file, struct kv_error *ret_error)
{
    char *slash;
    int fd;

    if (rename(file->path, file->target) != 0) {
        return fail(file, "replacing", ret_error);
    }
    /* The directory knows the new name after this; `path` is free to hold its own. */
    slash = strrchr(file->path, '/');
    if (slash) {
        slash[slash == file->path] = '\0';
    } else {
        strcpy(file->path, ".");
    }
    fd = open(file->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file->path[0] = '\0';
    if (fd < 0 || fsync(fd) != 0) {
        int number = errno;

        if (fd >= 0) {
            close(fd);
        }
        errno = number;
        return fail(file, "syncing the directory of", ret_error);
    }
    close(fd);
    return 0;
}

void kvctl_new_file_drop(struct kvctl_new_file *file)
{
    if (file->path[0]) {
        unlink(file->path);
        file->path[0] = '\0';
    }
}
