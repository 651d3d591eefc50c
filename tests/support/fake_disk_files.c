/* What tests do to the files of a disk in memory, as if by hand. */
#include "common/assert.h"
#include "tests/support/fake_disk_internal.h"

#include <stdlib.h>
#include <string.h>

uint8_t *fake_disk_data(struct fake_disk *disk, const char *path, uint64_t *ret_size)
{
    struct name *name = fake_disk_find(disk->names, disk->n_names, path);

    if (!name || !name->inode) {
        return NULL;
    }
    *ret_size = name->inode->size;
    return name->inode->data;
}

/* What the process sees is what is on disk. */
static void make_durable(struct inode *inode)
{
    if (inode->capacity > 0) {
        memcpy(inode->durable, inode->data, inode->capacity);
    }
    inode->durable_size = inode->size;
}

void fake_disk_resize(struct fake_disk *disk, const char *path, uint64_t size)
{
    struct name *name = fake_disk_find(disk->names, disk->n_names, path);

    KV_ASSERT(name && name->inode);
    fake_disk_resize_inode(name->inode, size);
    make_durable(name->inode);
}

void fake_disk_put(struct fake_disk *disk, const char *path, const void *data, uint64_t size)
{
    struct inode *inode = calloc(1, sizeof *inode);

    KV_ASSERT(inode && !fake_disk_find(disk->names, disk->n_names, path));
    fake_disk_resize_inode(inode, size);
    if (size > 0) {
        memcpy(inode->data, data, size);
    }
    make_durable(inode);
    fake_disk_add_name(disk->names, &disk->n_names, path, inode, false);
    fake_disk_add_name(disk->durable, &disk->n_durable, path, inode, false);
}

void fake_disk_remove(struct fake_disk *disk, const char *path)
{
    struct name *name = fake_disk_find(disk->names, disk->n_names, path);

    KV_ASSERT(name);
    fake_disk_remove_name(disk->names, &disk->n_names, name);
    name = fake_disk_find(disk->durable, disk->n_durable, path);
    KV_ASSERT(name);
    fake_disk_remove_name(disk->durable, &disk->n_durable, name);
}

size_t fake_disk_list(struct fake_disk *disk, const char *directory, char names[][128], size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < disk->n_names && n < max; i++) {
        if (fake_disk_is_in(directory, disk->names[i].path)) {
            memcpy(names[n++], disk->names[i].path, PATH_BYTES);
        }
    }
    return n;
}

const uint8_t *fake_disk_durable(struct fake_disk *disk, const char *path, uint64_t *ret_size)
{
    struct name *name = fake_disk_find(disk->durable, disk->n_durable, path);

    if (!name || !name->inode) {
        return NULL;
    }
    *ret_size = name->inode->durable_size;
    return name->inode->durable;
}

void fake_disk_flip(struct fake_disk *disk, const char *path, uint64_t offset, unsigned bit)
{
    struct name *name = fake_disk_find(disk->durable, disk->n_durable, path);

    KV_ASSERT(name && name->inode && offset < name->inode->durable_size);
    name->inode->durable[offset] ^= (uint8_t)(1u << bit);
    name->inode->data[offset] ^= (uint8_t)(1u << bit);
}

struct fake_disk *fake_disk_copy(const struct fake_disk *disk)
{
    struct fake_disk *copy = fake_disk_new(disk->random);

    for (size_t i = 0; i < disk->n_names; i++) {
        const struct name *name = &disk->names[i];

        if (name->inode) {
            fake_disk_put(copy, name->path, name->inode->data, name->inode->size);
        } else {
            fake_disk_add_name(copy->names, &copy->n_names, name->path, NULL, true);
            fake_disk_add_name(copy->durable, &copy->n_durable, name->path, NULL, true);
        }
    }
    return copy;
}
