#include "tests/support/fake_disk.h"

#include "common/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR_BYTES = 512, FILES_MAX = 512, PATH_BYTES = 128 };

/* What a file holds; names point at it. */
struct inode {
    unsigned references; /* names and open files */
    uint8_t *data;       /* as the process sees it */
    uint8_t *durable;    /* as a power loss leaves it at least */
    uint64_t size, durable_size, capacity;
    uint8_t *dirty; /* a byte per sector */
};

struct name {
    char path[PATH_BYTES];
    struct inode *inode; /* NULL: a directory */
    bool is_directory;
};

struct kv_file {
    struct inode *inode;
    struct kv_file *next;
};

struct fake_disk {
    struct kv_disk disk;
    uint64_t random;
    struct name names[FILES_MAX]; /* as the process sees them */
    size_t n_names;
    struct name durable[FILES_MAX]; /* as synced directories have them */
    size_t n_durable;
    struct kv_file *open_files;
    int write_error, sync_error;
    uint64_t size_max;
    bool locked;
};

static uint64_t next_random(struct fake_disk *disk)
{
    disk->random ^= disk->random >> 12;
    disk->random ^= disk->random << 25;
    disk->random ^= disk->random >> 27;
    return disk->random * UINT64_C(2685821657736338717) >> 33;
}

static void release(struct inode *inode)
{
    if (inode && --inode->references == 0) {
        free(inode->data);
        free(inode->durable);
        free(inode->dirty);
        free(inode);
    }
}

static struct name *find(struct name *names, size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i].path, path) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

static void
add_name(struct name *names, size_t *n, const char *path, struct inode *inode, bool is_directory)
{
    struct name *name = &names[(*n)++];

    KV_ASSERT(*n <= FILES_MAX);
    snprintf(name->path, sizeof name->path, "%s", path);
    name->inode = inode;
    name->is_directory = is_directory;
    if (inode) {
        inode->references++;
    }
}

static void remove_name(struct name *names, size_t *n, struct name *name)
{
    release(name->inode);
    memmove(name, name + 1, (size_t)(names + *n - name - 1) * sizeof *name);
    --*n;
}

static void resize(struct inode *inode, uint64_t size)
{
    if (size > inode->capacity) {
        uint64_t capacity = inode->capacity ? inode->capacity : 4096;

        while (capacity < size) {
            capacity *= 2;
        }
        inode->data = realloc(inode->data, capacity);
        inode->durable = realloc(inode->durable, capacity);
        inode->dirty = realloc(inode->dirty, capacity / SECTOR_BYTES);
        KV_ASSERT(inode->data && inode->durable && inode->dirty);
        memset(inode->data + inode->capacity, 0, capacity - inode->capacity);
        memset(inode->durable + inode->capacity, 0, capacity - inode->capacity);
        memset(inode->dirty + inode->capacity / SECTOR_BYTES,
               0,
               (capacity - inode->capacity) / SECTOR_BYTES);
        inode->capacity = capacity;
    }
    inode->size = size;
}

static int disk_open(void *arg, const char *path, unsigned flags, struct kv_file **ret_file)
{
    struct fake_disk *disk = arg;
    struct name *name = find(disk->names, disk->n_names, path);
    struct kv_file *file;

    if (!name && !(flags & KV_DISK_CREATE)) {
        return -ENOENT;
    }
    if (name && (flags & KV_DISK_EXCLUSIVE)) {
        return -EEXIST;
    }
    if (!name && disk->write_error) {
        return -disk->write_error;
    }
    if (!name) {
        struct inode *inode = calloc(1, sizeof *inode);

        KV_ASSERT(inode);
        add_name(disk->names, &disk->n_names, path, inode, false);
        name = &disk->names[disk->n_names - 1];
    }
    file = calloc(1, sizeof *file);
    KV_ASSERT(file);
    file->inode = name->inode;
    file->inode->references++;
    file->next = disk->open_files;
    disk->open_files = file;
    *ret_file = file;
    return 0;
}

static void disk_close(void *arg, struct kv_file *file)
{
    struct fake_disk *disk = arg;
    struct kv_file **link = &disk->open_files;

    while (*link && *link != file) {
        link = &(*link)->next;
    }
    /* After a crash the process's files are gone already. */
    if (*link) {
        *link = file->next;
        release(file->inode);
        free(file);
    }
}

static int64_t disk_pread(void *arg, struct kv_file *file, void *data, size_t size, uint64_t offset)
{
    uint64_t left = offset < file->inode->size ? file->inode->size - offset : 0;

    (void)arg;
    size = size < left ? size : (size_t)left;
    if (size > 0) {
        memcpy(data, file->inode->data + offset, size);
    }
    return (int64_t)size;
}

static uint64_t used_bytes(const struct fake_disk *disk)
{
    uint64_t used = 0;

    for (size_t i = 0; i < disk->n_names; i++) {
        used += disk->names[i].inode ? disk->names[i].inode->size : 0;
    }
    return used;
}

static int
disk_pwrite(void *arg, struct kv_file *file, const void *data, size_t size, uint64_t offset)
{
    struct fake_disk *disk = arg;
    struct inode *inode = file->inode;

    if (disk->write_error) {
        return -disk->write_error;
    }
    if (offset + size > inode->size) {
        if (disk->size_max && used_bytes(disk) + offset + size - inode->size > disk->size_max) {
            return -ENOSPC;
        }
        resize(inode, offset + size);
    }
    if (size > 0) {
        memcpy(inode->data + offset, data, size);
        for (uint64_t sector = offset / SECTOR_BYTES; sector <= (offset + size - 1) / SECTOR_BYTES;
             sector++) {
            inode->dirty[sector] = 1;
        }
    }
    return 0;
}

static void make_durable(struct inode *inode)
{
    for (uint64_t sector = 0; sector * SECTOR_BYTES < inode->capacity; sector++) {
        if (inode->dirty[sector]) {
            memcpy(inode->durable + sector * SECTOR_BYTES,
                   inode->data + sector * SECTOR_BYTES,
                   SECTOR_BYTES);
            inode->dirty[sector] = 0;
        }
    }
    inode->durable_size = inode->size;
}

static int disk_sync(void *arg, struct kv_file *file)
{
    struct fake_disk *disk = arg;

    if (disk->sync_error) {
        return -disk->sync_error;
    }
    make_durable(file->inode);
    return 0;
}

static int disk_truncate(void *arg, struct kv_file *file, uint64_t size)
{
    (void)arg;
    resize(file->inode, size);
    return 0;
}

static int64_t disk_size(void *arg, struct kv_file *file)
{
    (void)arg;
    return (int64_t)file->inode->size;
}

static int disk_rename(void *arg, const char *from, const char *to)
{
    struct fake_disk *disk = arg;
    struct name *target = find(disk->names, disk->n_names, to);

    if (disk->write_error) {
        return -disk->write_error;
    }
    if (!find(disk->names, disk->n_names, from)) {
        return -ENOENT;
    }
    if (target) {
        remove_name(disk->names, &disk->n_names, target);
    }
    snprintf(find(disk->names, disk->n_names, from)->path, PATH_BYTES, "%s", to);
    return 0;
}

static int disk_unlink(void *arg, const char *path)
{
    struct fake_disk *disk = arg;
    struct name *name = find(disk->names, disk->n_names, path);

    if (!name) {
        return -ENOENT;
    }
    remove_name(disk->names, &disk->n_names, name);
    return 0;
}

static int disk_mkdir(void *arg, const char *path)
{
    struct fake_disk *disk = arg;

    if (!find(disk->names, disk->n_names, path)) {
        add_name(disk->names, &disk->n_names, path, NULL, true);
    }
    return 0;
}

/* Is the name directly in the directory ("." is the top)? */
static bool is_in(const char *directory, const char *path)
{
    size_t size = strlen(directory);

    if (strcmp(directory, ".") == 0) {
        return !strchr(path, '/');
    }
    return strncmp(path, directory, size) == 0 && path[size] == '/';
}

static void set_durable_names(struct fake_disk *disk, const char *directory)
{
    for (size_t i = disk->n_durable; i-- > 0;) {
        if (is_in(directory, disk->durable[i].path)) {
            remove_name(disk->durable, &disk->n_durable, &disk->durable[i]);
        }
    }
    for (size_t i = 0; i < disk->n_names; i++) {
        if (is_in(directory, disk->names[i].path)) {
            add_name(disk->durable,
                     &disk->n_durable,
                     disk->names[i].path,
                     disk->names[i].inode,
                     disk->names[i].is_directory);
        }
    }
}

static int disk_sync_dir(void *arg, const char *path)
{
    struct fake_disk *disk = arg;

    if (disk->sync_error) {
        return -disk->sync_error;
    }
    set_durable_names(disk, path);
    return 0;
}

static int
disk_list(void *arg, const char *path, void (*fn)(void *arg, const char *name), void *fn_arg)
{
    struct fake_disk *disk = arg;
    size_t skip = strcmp(path, ".") == 0 ? 0 : strlen(path) + 1;

    for (size_t i = 0; i < disk->n_names; i++) {
        if (is_in(path, disk->names[i].path)) {
            fn(fn_arg, disk->names[i].path + skip);
        }
    }
    return 0;
}

static int64_t disk_free_bytes(void *arg)
{
    struct fake_disk *disk = arg;
    uint64_t used = used_bytes(disk);

    if (disk->size_max == 0) {
        return INT64_MAX;
    }
    return used < disk->size_max ? (int64_t)(disk->size_max - used) : 0;
}

static int disk_lock(void *arg, const char *path)
{
    struct fake_disk *disk = arg;

    (void)path;
    if (disk->locked) {
        return -EWOULDBLOCK;
    }
    disk->locked = true;
    return 0;
}

static const struct kv_disk_ops ops = {
    .open = disk_open,
    .close = disk_close,
    .pread = disk_pread,
    .pwrite = disk_pwrite,
    .datasync = disk_sync,
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
};

struct fake_disk *fake_disk_new(uint64_t seed)
{
    struct fake_disk *disk = calloc(1, sizeof *disk);

    KV_ASSERT(disk);
    disk->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    disk->disk = (struct kv_disk){&ops, disk, "disk"};
    return disk;
}

void fake_disk_close_all(struct fake_disk *disk)
{
    while (disk->open_files) {
        disk_close(disk, disk->open_files);
    }
    disk->locked = false;
}

void fake_disk_free(struct fake_disk *disk)
{
    fake_disk_close_all(disk);
    while (disk->n_names > 0) {
        remove_name(disk->names, &disk->n_names, &disk->names[0]);
    }
    while (disk->n_durable > 0) {
        remove_name(disk->durable, &disk->n_durable, &disk->durable[0]);
    }
    free(disk);
}

const struct kv_disk *fake_disk_ops(struct fake_disk *disk)
{
    return &disk->disk;
}

/* Keeps a random part of what was not synced. */
static void tear(struct fake_disk *disk, struct inode *inode)
{
    uint64_t mood = next_random(disk) % 4; /* 0: all lost, 1: all kept, else by sector */

    if (inode->durable_size < inode->size && (mood == 1 || (mood > 1 && next_random(disk) % 2))) {
        inode->durable_size = inode->size;
    }
    for (uint64_t sector = 0; sector * SECTOR_BYTES < inode->capacity; sector++) {
        if (inode->dirty[sector] && (mood == 1 || (mood > 1 && next_random(disk) % 2))) {
            memcpy(inode->durable + sector * SECTOR_BYTES,
                   inode->data + sector * SECTOR_BYTES,
                   SECTOR_BYTES);
        }
        inode->dirty[sector] = 0;
    }
    memcpy(inode->data, inode->durable, inode->capacity);
    inode->size = inode->durable_size;
    memset(inode->data + inode->size, 0, inode->capacity - inode->size);
    memcpy(inode->durable, inode->data, inode->capacity);
}

void fake_disk_crash(struct fake_disk *disk)
{
    fake_disk_close_all(disk);
    if (next_random(disk) % 2) {
        /* All changes of names made it to the disk by themselves. */
        set_durable_names(disk, ".");
        for (size_t i = 0; i < disk->n_names; i++) {
            if (disk->names[i].is_directory) {
                set_durable_names(disk, disk->names[i].path);
            }
        }
    }
    while (disk->n_names > 0) {
        remove_name(disk->names, &disk->n_names, &disk->names[0]);
    }
    for (size_t i = 0; i < disk->n_durable; i++) {
        const struct name *name = &disk->durable[i];

        add_name(disk->names, &disk->n_names, name->path, name->inode, name->is_directory);
        if (name->inode && name->inode->capacity > 0) {
            tear(disk, name->inode);
        }
    }
}

void fake_disk_fail_writes(struct fake_disk *disk, int errnum)
{
    disk->write_error = errnum;
}

void fake_disk_fail_syncs(struct fake_disk *disk, int errnum)
{
    disk->sync_error = errnum;
}

void fake_disk_set_size(struct fake_disk *disk, uint64_t bytes)
{
    disk->size_max = bytes;
}

uint8_t *fake_disk_data(struct fake_disk *disk, const char *path, uint64_t *ret_size)
{
    struct name *name = find(disk->names, disk->n_names, path);

    if (!name || !name->inode) {
        return NULL;
    }
    *ret_size = name->inode->size;
    return name->inode->data;
}

void fake_disk_resize(struct fake_disk *disk, const char *path, uint64_t size)
{
    struct name *name = find(disk->names, disk->n_names, path);

    KV_ASSERT(name && name->inode);
    resize(name->inode, size);
}

size_t fake_disk_list(struct fake_disk *disk, const char *directory, char names[][128], size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < disk->n_names && n < max; i++) {
        if (is_in(directory, disk->names[i].path)) {
            memcpy(names[n++], disk->names[i].path, PATH_BYTES);
        }
    }
    return n;
}

struct fake_disk *fake_disk_copy(const struct fake_disk *disk)
{
    struct fake_disk *copy = fake_disk_new(disk->random);

    for (size_t i = 0; i < disk->n_names; i++) {
        const struct inode *from = disk->names[i].inode;
        struct inode *to = NULL;

        if (from) {
            to = calloc(1, sizeof *to);
            KV_ASSERT(to);
            resize(to, from->size);
            if (from->size > 0) {
                memcpy(to->data, from->data, from->size);
                memcpy(to->durable, from->data, from->size);
            }
            to->durable_size = from->size;
        }
        add_name(copy->names, &copy->n_names, disk->names[i].path, to, disk->names[i].is_directory);
        add_name(
            copy->durable, &copy->n_durable, disk->names[i].path, to, disk->names[i].is_directory);
    }
    return copy;
}
