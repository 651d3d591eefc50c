/* struct kv_disk over a real directory. Calls may come from several threads, each file from one at
 * a time (reads from any). */
#ifndef KV_RAFT_DISK_POSIX_H
#define KV_RAFT_DISK_POSIX_H

#include "raft/env.h"

struct kv_disk_posix;

/* Makes the directory when it is not there (not its parents). KV_IO: names path and errno. */
int kv_disk_posix_open(const char *path,
                       struct kv_disk_posix **ret_disk,
                       struct kv_error *ret_error) KV_MUST_CHECK;
/* Releases the lock. Takes NULL. */
void kv_disk_posix_close(struct kv_disk_posix *disk);
struct kv_disk kv_disk_posix_disk(struct kv_disk_posix *disk);

#endif
