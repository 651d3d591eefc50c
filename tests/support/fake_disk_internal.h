/* What the files of the disk in memory share: fake_disk.c (calls, crashes), fake_disk_files.c (what
 * tests do to files). */
#ifndef KV_TESTS_SUPPORT_FAKE_DISK_INTERNAL_H
#define KV_TESTS_SUPPORT_FAKE_DISK_INTERNAL_H

#include "tests/support/fake_disk.h"

enum { SECTOR_BYTES = 512, FILES_MAX = 512, PATH_BYTES = 128 };

/* What a file holds; names point at it. */
struct inode {
    unsigned references; /* names and open files */
    uint8_t *data;       /* as the process sees it */
    uint8_t *durable;    /* as a power loss leaves it at least */
    uint64_t size, durable_size, capacity;
    uint8_t *dirty;                  /* a byte per sector */
    uint64_t first_dirty, end_dirty; /* sectors: all dirty ones are between */
};

struct name {
    char path[PATH_BYTES];
    struct inode *inode; /* NULL: a directory */
    bool is_directory;
};

enum change_kind { CHANGE_CREATE, CHANGE_MKDIR, CHANGE_UNLINK, CHANGE_RENAME };

/* Of names, since their directory was synced. */
struct change {
    enum change_kind kind;
    char path[PATH_BYTES];
    char to[PATH_BYTES];
    struct inode *inode;
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
    struct change *changes;
    size_t n_changes;
    size_t changes_capacity;
    struct kv_file *open_files;
    int write_error, sync_error, read_error;
    char bad_directory[PATH_BYTES]; /* "": none */
    bool bad_reads_alone;
    unsigned bad_permille;
    uint64_t n_calls;
    uint64_t cut_at; /* n_calls then; 0: never */
    bool is_cut;
    uint64_t size_max;
    bool locked;
};

struct name *fake_disk_find(struct name *names, size_t n, const char *path);
void fake_disk_add_name(
    struct name *names, size_t *n, const char *path, struct inode *inode, bool is_directory);
void fake_disk_remove_name(struct name *names, size_t *n, struct name *name);
/* Is the name directly in the directory ("." is the top)? */
bool fake_disk_is_in(const char *directory, const char *path);
void fake_disk_resize_inode(struct inode *inode, uint64_t size);

#endif
