#include "tests/support/fake_disk_internal.h"

#include "common/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

struct name *fake_disk_find(struct name *names, size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i].path, path) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

void fake_disk_add_name(
    struct name *names, size_t *n, const char *path, struct inode *inode, bool is_directory)
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

void fake_disk_remove_name(struct name *names, size_t *n, struct name *name)
{
    release(name->inode);
    memmove(name, name + 1, (size_t)(names + *n - name - 1) * sizeof *name);
    --*n;
}

bool fake_disk_is_in(const char *directory, const char *path)
{
    size_t size = strlen(directory);

    if (strcmp(directory, ".") == 0) {
        return !strchr(path, '/');
    }
    return strncmp(path, directory, size) == 0 && path[size] == '/' &&
           !strchr(path + size + 1, '/');
}

static void note_change(struct fake_disk *disk,
                        enum change_kind kind,
                        const char *path,
                        const char *to,
                        struct inode *inode)
{
    struct change *change;

    if (disk->n_changes == disk->changes_capacity) {
        disk->changes_capacity = disk->changes_capacity ? disk->changes_capacity * 2 : 16;
        disk->changes = realloc(disk->changes, disk->changes_capacity * sizeof *change);
        KV_ASSERT(disk->changes);
    }
    change = &disk->changes[disk->n_changes++];
    *change = (struct change){.kind = kind, .inode = inode};
    snprintf(change->path, sizeof change->path, "%s", path);
    snprintf(change->to, sizeof change->to, "%s", to);
    if (inode) {
        inode->references++;
    }
}

/* What the durable names become when the change reaches the disk. */
static void apply_change(struct fake_disk *disk, const struct change *change)
{
    struct name *name = fake_disk_find(disk->durable, disk->n_durable, change->path);

    switch (change->kind) {
    case CHANGE_CREATE:
    case CHANGE_MKDIR:
        fake_disk_add_name(disk->durable,
                           &disk->n_durable,
                           change->path,
                           change->inode,
                           change->kind == CHANGE_MKDIR);
        break;
    case CHANGE_UNLINK:
        fake_disk_remove_name(disk->durable, &disk->n_durable, name);
        break;
    case CHANGE_RENAME:
        name = fake_disk_find(disk->durable, disk->n_durable, change->to);
        if (name) {
            fake_disk_remove_name(disk->durable, &disk->n_durable, name);
        }
        name = fake_disk_find(disk->durable, disk->n_durable, change->path);
        snprintf(name->path, PATH_BYTES, "%s", change->to);
        break;
    }
}

/* The first n changes of the directory reach the disk, the others are forgotten. */
static void end_changes(struct fake_disk *disk, const char *directory, size_t n)
{
    size_t n_left = 0;

    for (size_t i = 0; i < disk->n_changes; i++) {
        struct change *change = &disk->changes[i];

        if (!fake_disk_is_in(directory, change->path)) {
            disk->changes[n_left++] = *change;
            continue;
        }
        if (n > 0) {
            apply_change(disk, change);
            n--;
        }
        release(change->inode);
    }
    disk->n_changes = n_left;
}

/* Counts a call that changes something; its errno, or 0. */
static int begin_change(struct fake_disk *disk, int error)
{
    disk->n_calls++;
    if (disk->cut_at && disk->n_calls >= disk->cut_at) {
        disk->is_cut = true;
    }
    return disk->is_cut ? -EIO : -error;
}

/* What a call for the path fails with: what all such calls do, or since it strikes a bad part. */
static int error_at(struct fake_disk *disk, int error_of_all, const char *path, bool is_read)
{
    const char *directory = disk->bad_directory;

    if (error_of_all || !directory[0] || (disk->bad_reads_alone && !is_read) ||
        (strcmp(path, directory) != 0 && !fake_disk_is_in(directory, path))) {
        return error_of_all;
    }
    return next_random(disk) % 1000 < disk->bad_permille ? EIO : 0;
}

static int
error_in(struct fake_disk *disk, int error_of_all, const struct kv_file *file, bool is_read)
{
    for (size_t i = 0; disk->bad_directory[0] && i < disk->n_names; i++) {
        if (disk->names[i].inode == file->inode) {
            return error_at(disk, error_of_all, disk->names[i].path, is_read);
        }
    }
    return error_of_all;
}

void fake_disk_resize_inode(struct inode *inode, uint64_t size)
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
    if (size < inode->size) {
        memset(inode->data + size, 0, inode->size - size);
    }
    inode->size = size;
}

static void mark_dirty(struct inode *inode, uint64_t offset, uint64_t size)
{
    uint64_t first = offset / SECTOR_BYTES;
    uint64_t end = (offset + size + SECTOR_BYTES - 1) / SECTOR_BYTES;

    if (inode->first_dirty == inode->end_dirty) {
        inode->first_dirty = first;
        inode->end_dirty = end;
    }
    inode->first_dirty = first < inode->first_dirty ? first : inode->first_dirty;
    inode->end_dirty = end > inode->end_dirty ? end : inode->end_dirty;
    memset(inode->dirty + first, 1, end - first);
}

static int disk_open(void *arg, const char *path, unsigned flags, struct kv_file **ret_file)
{
    struct fake_disk *disk = arg;
    struct name *name = fake_disk_find(disk->names, disk->n_names, path);
    struct kv_file *file;

    if (!name && !(flags & KV_DISK_CREATE)) {
        return -ENOENT;
    }
    if (name && (flags & KV_DISK_EXCLUSIVE)) {
        return -EEXIST;
    }
    if (disk->is_cut || error_at(disk, 0, path, true) != 0) {
        return -EIO;
    }
    if (!name) {
        struct inode *inode;
        int status = begin_change(disk, disk->write_error);

        if (status != 0) {
            return status;
        }
        inode = calloc(1, sizeof *inode);
        KV_ASSERT(inode);
        note_change(disk, CHANGE_CREATE, path, "", inode);
        fake_disk_add_name(disk->names, &disk->n_names, path, inode, false);
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
    struct fake_disk *disk = arg;
    uint64_t left = offset < file->inode->size ? file->inode->size - offset : 0;
    int error = error_in(disk, disk->read_error, file, true);

    if (error) {
        return -error;
    }
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
    bool was_cut = disk->is_cut;
    int status = begin_change(disk, error_in(disk, disk->write_error, file, false));

    if (status != 0 && disk->is_cut && !was_cut && size > 0) {
        size = next_random(disk) % size; /* the power goes in the middle */
    } else if (status != 0) {
        return status;
    }
    if (offset + size > inode->size) {
        if (disk->size_max && used_bytes(disk) + offset + size - inode->size > disk->size_max) {
            return -ENOSPC;
        }
        fake_disk_resize_inode(inode, offset + size);
    }
    if (size > 0) {
        memcpy(inode->data + offset, data, size);
        mark_dirty(inode, offset, size);
    }
    return status;
}

/* Every dirty sector that chance (or `all`) chooses goes to the disk; none is dirty any more. */
static void write_back(struct fake_disk *disk, struct inode *inode, unsigned percent)
{
    for (uint64_t sector = inode->first_dirty; sector < inode->end_dirty; sector++) {
        if (inode->dirty[sector] && (percent == 100 || next_random(disk) % 100 < percent)) {
            memcpy(inode->durable + sector * SECTOR_BYTES,
                   inode->data + sector * SECTOR_BYTES,
                   SECTOR_BYTES);
        }
        inode->dirty[sector] = 0;
    }
    inode->first_dirty = inode->end_dirty = 0;
}

static int disk_sync(void *arg, struct kv_file *file)
{
    struct fake_disk *disk = arg;
    bool was_cut = disk->is_cut;
    int status = begin_change(disk, error_in(disk, disk->sync_error, file, false));

    if (status == 0) {
        write_back(disk, file->inode, 100);
        file->inode->durable_size = file->inode->size;
    } else if (!was_cut && !disk->is_cut) {
        write_back(disk, file->inode, 50);
    }
    return status;
}

static int disk_truncate(void *arg, struct kv_file *file, uint64_t size)
{
    struct fake_disk *disk = arg;
    int status = begin_change(disk, error_in(disk, disk->write_error, file, false));

    if (status == 0 && disk->size_max && size > file->inode->size &&
        used_bytes(disk) + size - file->inode->size > disk->size_max) {
        status = -ENOSPC;
    }
    if (status == 0) {
        fake_disk_resize_inode(file->inode, size);
    }
    return status;
}

static int64_t disk_size(void *arg, struct kv_file *file)
{
    int error = error_in(arg, 0, file, true);

    return error ? -error : (int64_t)file->inode->size;
}

/* Memory may let go of what is on the disk; here it must be. */
static void disk_forget(void *arg, struct kv_file *file, uint64_t offset, uint64_t size)
{
    const struct inode *inode = file->inode;

    (void)arg;
    KV_ASSERT(offset + size <= inode->size);
    for (uint64_t sector = offset / SECTOR_BYTES; sector < (offset + size) / SECTOR_BYTES;
         sector++) {
        KV_ASSERT(!inode->dirty[sector]);
    }
}

static int disk_rename(void *arg, const char *from, const char *to)
{
    struct fake_disk *disk = arg;
    struct name *target = fake_disk_find(disk->names, disk->n_names, to);
    int status = begin_change(disk, error_at(disk, disk->write_error, from, false));

    if (status != 0) {
        return status;
    }
    if (!fake_disk_find(disk->names, disk->n_names, from)) {
        return -ENOENT;
    }
    if (target) {
        fake_disk_remove_name(disk->names, &disk->n_names, target);
    }
    snprintf(fake_disk_find(disk->names, disk->n_names, from)->path, PATH_BYTES, "%s", to);
    note_change(disk, CHANGE_RENAME, from, to, NULL);
    return 0;
}

static int disk_unlink(void *arg, const char *path)
{
    struct fake_disk *disk = arg;
    struct name *name = fake_disk_find(disk->names, disk->n_names, path);
    int status;

    if (!name) {
        return disk->is_cut ? -EIO : -ENOENT;
    }
    /* Works on a full disk. */
    status = begin_change(
        disk, error_at(disk, disk->write_error == ENOSPC ? 0 : disk->write_error, path, false));
    if (status == 0) {
        fake_disk_remove_name(disk->names, &disk->n_names, name);
        note_change(disk, CHANGE_UNLINK, path, "", NULL);
    }
    return status;
}

static int disk_mkdir(void *arg, const char *path)
{
    struct fake_disk *disk = arg;
    int status;

    if (fake_disk_find(disk->names, disk->n_names, path)) {
        return disk->is_cut ? -EIO : 0;
    }
    status = begin_change(disk, disk->write_error);
    if (status == 0) {
        fake_disk_add_name(disk->names, &disk->n_names, path, NULL, true);
        note_change(disk, CHANGE_MKDIR, path, "", NULL);
    }
    return status;
}

static int disk_sync_dir(void *arg, const char *path)
{
    struct fake_disk *disk = arg;
    int status = begin_change(disk, error_at(disk, disk->sync_error, path, false));

    if (strcmp(path, ".") != 0 && !fake_disk_find(disk->names, disk->n_names, path)) {
        return -ENOENT;
    }
    if (status == 0) {
        end_changes(disk, path, SIZE_MAX);
    }
    return status;
}

static int
disk_list(void *arg, const char *path, void (*fn)(void *arg, const char *name), void *fn_arg)
{
    struct fake_disk *disk = arg;
    size_t skip = strcmp(path, ".") == 0 ? 0 : strlen(path) + 1;
    int error = error_at(disk, 0, path, true);

    if (skip > 0 && !fake_disk_find(disk->names, disk->n_names, path)) {
        return -ENOENT;
    }
    if (error) {
        return -error;
    }
    for (size_t i = 0; i < disk->n_names; i++) {
        if (fake_disk_is_in(path, disk->names[i].path)) {
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
    if (disk->write_error || disk->is_cut) {
        return disk->is_cut ? -EIO : -disk->write_error;
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
    .forget = disk_forget,
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
        fake_disk_remove_name(disk->names, &disk->n_names, &disk->names[0]);
    }
    while (disk->n_durable > 0) {
        fake_disk_remove_name(disk->durable, &disk->n_durable, &disk->durable[0]);
    }
    for (size_t i = 0; i < disk->n_changes; i++) {
        release(disk->changes[i].inode);
    }
    free(disk->changes);
    free(disk);
}

const struct kv_disk *fake_disk_ops(struct fake_disk *disk)
{
    return &disk->disk;
}

/* Keeps a random part of what was not synced. */
static void tear(struct fake_disk *disk, struct inode *inode)
{
    static const unsigned percents[] = {0, 100, 50, 90};
    unsigned percent = percents[next_random(disk) % 4];

    if (inode->durable_size != inode->size && next_random(disk) % 100 < percent) {
        inode->durable_size = inode->size;
    }
    write_back(disk, inode, percent);
    memcpy(inode->data, inode->durable, inode->capacity);
    inode->size = inode->durable_size;
    memset(inode->data + inode->size, 0, inode->capacity - inode->size);
    memcpy(inode->durable, inode->data, inode->capacity);
}

static size_t count_changes(const struct fake_disk *disk, const char *directory)
{
    size_t n = 0;

    for (size_t i = 0; i < disk->n_changes; i++) {
        n += fake_disk_is_in(directory, disk->changes[i].path);
    }
    return n;
}

/* The oldest of the changes of names made it to the disk by themselves: none, all, or some. */
static void tear_names(struct fake_disk *disk, const char *directory)
{
    size_t n = count_changes(disk, directory);
    uint64_t mood = next_random(disk) % 3;

    end_changes(disk, directory, mood == 0 ? 0 : mood == 1 ? n : next_random(disk) % (n + 1));
}

void fake_disk_crash(struct fake_disk *disk)
{
    fake_disk_close_all(disk);
    disk->is_cut = false;
    disk->cut_at = 0;
    tear_names(disk, ".");
    while (disk->n_changes > 0) {
        char directory[PATH_BYTES];

        snprintf(directory, sizeof directory, "%s", disk->changes[0].path);
        *strrchr(directory, '/') = 0;
        tear_names(disk, directory);
    }
    while (disk->n_names > 0) {
        fake_disk_remove_name(disk->names, &disk->n_names, &disk->names[0]);
    }
    for (size_t i = disk->n_durable; i-- > 0;) {
        char *slash = strrchr(disk->durable[i].path, '/');
        char directory[PATH_BYTES] = ".";

        if (slash) {
            snprintf(directory, sizeof directory, "%s", disk->durable[i].path);
            *strrchr(directory, '/') = 0;
        }
        /* What was in a lost directory is lost. */
        if (slash && !fake_disk_find(disk->durable, disk->n_durable, directory)) {
            fake_disk_remove_name(disk->durable, &disk->n_durable, &disk->durable[i]);
        }
    }
    for (size_t i = 0; i < disk->n_durable; i++) {
        const struct name *name = &disk->durable[i];

        fake_disk_add_name(
            disk->names, &disk->n_names, name->path, name->inode, name->is_directory);
        if (name->inode && name->inode->capacity > 0) {
            tear(disk, name->inode);
        }
    }
}

void fake_disk_cut_at(struct fake_disk *disk, uint64_t n_calls)
{
    disk->cut_at = n_calls ? disk->n_calls + n_calls : 0;
    disk->is_cut = disk->is_cut && n_calls;
}

bool fake_disk_is_cut(const struct fake_disk *disk)
{
    return disk->is_cut;
}

uint64_t fake_disk_n_changes(const struct fake_disk *disk)
{
    return disk->n_calls;
}

void fake_disk_fail_writes(struct fake_disk *disk, int errnum)
{
    disk->write_error = errnum;
}

void fake_disk_fail_syncs(struct fake_disk *disk, int errnum)
{
    disk->sync_error = errnum;
}

void fake_disk_fail_reads(struct fake_disk *disk, int errnum)
{
    disk->read_error = errnum;
}

void fake_disk_fail_at(struct fake_disk *disk,
                       const char *directory,
                       bool reads_alone,
                       unsigned permille)
{
    snprintf(disk->bad_directory, sizeof disk->bad_directory, "%s", directory ? directory : "");
    disk->bad_reads_alone = reads_alone;
    disk->bad_permille = permille;
}

void fake_disk_set_size(struct fake_disk *disk, uint64_t bytes)
{
    disk->size_max = bytes;
}

uint64_t fake_disk_used(const struct fake_disk *disk)
{
    return used_bytes(disk);
}
