#define _GNU_SOURCE /* F_OFD_GETLK */
#include "server/node/inspect.h"

#include "raft/disk_posix.h"
#include "raft/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_SOUND = 0, EXIT_UNUSABLE = 2, EXIT_FOREIGN = 4, EXIT_DAMAGED = 5 };

static const char usage[] =
    "Usage: kvd inspect wal|snapshot PATH\n\n"
    "Prints what a log or snapshots hold, and checks them: heads, cluster and node, terms and "
    "votes,\n"
    "ranges of indexes, configurations, counts, and the first damage with its offset.\n"
    "PATH is a data directory, or one segment (wal/...) or snapshot (snap/...) of it.\n\n"
    "Nothing is changed and no lock is taken: it may be done while the node runs, and what a "
    "start\n"
    "would mend (a torn end) is left as it is.\n\n"
    "Exit codes: 0 sound; 2 usage, or it cannot be read; 4 a newer format, or of another cluster;\n"
    "5 damaged.\n";

/* Does a process hold the directory's lock? Asked without taking it. */
static bool is_running(const char *directory)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool is_locked = false;
    int fd = -1;
    int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory_fd >= 0) {
        fd = openat(directory_fd, "LOCK", O_RDONLY | O_CLOEXEC);
        close(directory_fd);
    }
    if (fd >= 0) {
        is_locked = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
        close(fd);
    }
    return is_locked;
}

static void print_line(void *arg, const char *line)
{
    fprintf(arg, "%s\n", line);
}

static int exit_code_of(int status)
{
    switch (status) {
    case 0:
        return EXIT_SOUND;
    case KV_CORRUPT:
        return EXIT_DAMAGED;
    case KV_WRONG_NODE:
        return EXIT_FOREIGN;
    default:
        return EXIT_UNUSABLE;
    }
}

/* file: NULL, or the one file in the directory to look at. */
static int inspect(bool is_wal, const char *directory, const char *file, struct kv_error *ret_error)
{
    struct kv_disk_posix *posix;
    struct kv_disk disk;
    struct kv_inspect how = {.disk = &disk, .print = print_line, .arg = stdout};
    int status = kv_disk_posix_open(directory, &posix, ret_error);

    if (status != 0) {
        return status;
    }
    disk = kv_disk_posix_disk(posix);
    how.is_running = is_running(directory);
    if (how.is_running) {
        printf("a node is running on %s: it goes on writing meanwhile\n", directory);
    }
    if (is_wal) {
        status =
            file ? kv_inspect_wal_segment(&how, file, ret_error) : kv_inspect_wal(&how, ret_error);
    } else {
        status = file ? kv_inspect_snapshot(&how, file, ret_error)
                      : kv_inspect_snapshots(&how, ret_error);
    }
    kv_disk_posix_close(posix);
    return status;
}

/* A file is looked at from the directory that it lies in. */
static int inspect_path(bool is_wal, const char *path, struct kv_error *ret_error)
{
    struct stat what;
    char *copy, *slash;
    int status;

    if (stat(path, &what) != 0) {
        return kv_error_set(
            ret_error, KV_NOT_FOUND, "cannot look at %.400s: %s", path, strerror(errno));
    }
    if (S_ISDIR(what.st_mode)) {
        return inspect(is_wal, path, NULL, ret_error);
    }
    copy = strdup(path);
    if (!copy) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    slash = strrchr(copy, '/');
    if (!slash) {
        status = inspect(is_wal, ".", copy, ret_error);
    } else {
        *slash = 0;
        status = inspect(is_wal, slash == copy ? "/" : copy, slash + 1, ret_error);
    }
    free(copy);
    return status;
}

int kv_inspect_main(int argc, char *const *argv)
{
    struct kv_error error = {0};
    bool is_wal;
    int status;

    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        fputs(usage, stdout);
        return EXIT_SOUND;
    }
    is_wal = argc == 2 && strcmp(argv[0], "wal") == 0;
    if (argc != 2 || (!is_wal && strcmp(argv[0], "snapshot") != 0)) {
        fputs(usage, stderr);
        return EXIT_UNUSABLE;
    }
    status = inspect_path(is_wal, argv[1], &error);
    if (status != 0) {
        fflush(stdout);
        fprintf(stderr, "kvd inspect: %s\n", error.message);
    }
    return exit_code_of(status);
}
