/* A disk in memory whose unsynced writes may be lost, kept or torn at a crash, by sectors of 512
 * bytes and in any order. Names made, renamed or removed are lost as well unless their directory
 * was synced. */
#ifndef KV_TESTS_SUPPORT_FAKE_DISK_H
#define KV_TESTS_SUPPORT_FAKE_DISK_H

#include "raft/env.h"

struct fake_disk;

struct fake_disk *fake_disk_new(uint64_t seed);
void fake_disk_free(struct fake_disk *disk);
const struct kv_disk *fake_disk_ops(struct fake_disk *disk);

/* Power loss: each unsynced sector and name change survives or not, by chance. Open files are
 * forgotten. */
void fake_disk_crash(struct fake_disk *disk);
/* The process ends; everything written stays. */
void fake_disk_close_all(struct fake_disk *disk);

/* From now on: calls that write fail with this errno; 0: none. */
void fake_disk_fail_writes(struct fake_disk *disk, int errnum);
void fake_disk_fail_syncs(struct fake_disk *disk, int errnum);
/* The whole disk has this many bytes; 0: no bound. */
void fake_disk_set_size(struct fake_disk *disk, uint64_t bytes);

/* For tests that damage files: content by path (NULL: no such file), and the names in a directory.
 */
uint8_t *fake_disk_data(struct fake_disk *disk, const char *path, uint64_t *ret_size);
void fake_disk_resize(struct fake_disk *disk, const char *path, uint64_t size);
size_t fake_disk_list(struct fake_disk *disk, const char *directory, char names[][128], size_t max);
/* A copy with everything synced. */
struct fake_disk *fake_disk_copy(const struct fake_disk *disk);

#endif
