/* A disk in memory whose unsynced writes may be lost, kept or torn at a crash, by sectors of 512
 * bytes and in any order. Names that were made, renamed or removed since their directory was synced
 * are lost as well, the newest first. All chance comes from the seed. */
#ifndef KV_TESTS_SUPPORT_FAKE_DISK_H
#define KV_TESTS_SUPPORT_FAKE_DISK_H

#include "raft/env.h"

struct fake_disk;

struct fake_disk *fake_disk_new(uint64_t seed);
void fake_disk_free(struct fake_disk *disk);
const struct kv_disk *fake_disk_ops(struct fake_disk *disk);

/* Power loss: each unsynced sector and name change survives or not, by chance. Open files are
 * forgotten (closing them does nothing), the lock is free. Ends a cut. */
void fake_disk_crash(struct fake_disk *disk);
/* The process is killed: open files and the lock go, everything written stays, unsynced. */
void fake_disk_close_all(struct fake_disk *disk);

/* The power goes at the n-th call from now that changes something (1: the next): that one may do a
 * part of its work, it and all later calls fail with EIO until fake_disk_crash. 0: no cut any more;
 * with fake_disk_close_all, the process was killed there and the power stays. */
void fake_disk_cut_at(struct fake_disk *disk, uint64_t n_calls);
bool fake_disk_is_cut(const struct fake_disk *disk);
/* Calls that changed something so far. */
uint64_t fake_disk_n_changes(const struct fake_disk *disk);

/* From now on such calls fail with this errno; 0: none. What a failed sync should have written
 * counts as clean: as on Linux, a later sync does not bring it to the disk. */
void fake_disk_fail_writes(struct fake_disk *disk, int errnum);
void fake_disk_fail_syncs(struct fake_disk *disk, int errnum);
void fake_disk_fail_reads(struct fake_disk *disk, int errnum);
/* A part of the disk is bad: of the calls for the directory and its files (or of those alone that
 * read) so many of 1000 fail with EIO, by chance. NULL: it is well again. */
void fake_disk_fail_at(struct fake_disk *disk,
                       const char *directory,
                       bool reads_alone,
                       unsigned permille);
/* The whole disk has this many bytes; 0: no bound. */
void fake_disk_set_size(struct fake_disk *disk, uint64_t bytes);

/* For tests that damage files: the content as the process sees it (NULL: no such file; bytes
 * changed there are as they were after a crash), files cut, made or removed as if by hand and
 * synced, and the names in a directory, with it. */
uint8_t *fake_disk_data(struct fake_disk *disk, const char *path, uint64_t *ret_size);
void fake_disk_resize(struct fake_disk *disk, const char *path, uint64_t size);
void fake_disk_put(struct fake_disk *disk, const char *path, const void *data, uint64_t size);
void fake_disk_remove(struct fake_disk *disk, const char *path);
size_t fake_disk_list(struct fake_disk *disk, const char *directory, char names[][128], size_t max);
/* What a power loss leaves of the file at least; NULL: no such file is left for certain. */
const uint8_t *fake_disk_durable(struct fake_disk *disk, const char *path, uint64_t *ret_size);
/* A bit of what was synced changes, for the process, too. */
void fake_disk_flip(struct fake_disk *disk, const char *path, uint64_t offset, unsigned bit);
uint64_t fake_disk_used(const struct fake_disk *disk);
/* A copy with everything synced. */
struct fake_disk *fake_disk_copy(const struct fake_disk *disk);

#endif
