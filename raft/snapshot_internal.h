/* What the files of snapshots share: snapshot_file.c (names, writer), snapshot_read.c,
 * snapshot_receive.c. */
#ifndef KV_RAFT_SNAPSHOT_INTERNAL_H
#define KV_RAFT_SNAPSHOT_INTERNAL_H

#include "raft/snapshot_file.h"

/* errnum is negative, as kv_disk gives it; returns KV_NO_SPACE, KV_NO_MEMORY or KV_IO. */
int kv_snapshot_io_error(const struct kv_disk *disk,
                         int errnum,
                         const char *what,
                         const char *path,
                         struct kv_error *ret_error);
int kv_snapshot_no_memory(struct kv_error *ret_error);

/* Makes snap/, on disk. */
int kv_snapshot_make_directory(const struct kv_disk *disk, struct kv_error *ret_error);
/* KV_EXISTS when there is a complete one. */
int kv_snapshot_check_absent(const struct kv_disk *disk,
                             uint64_t index,
                             uint64_t term,
                             struct kv_error *ret_error);
/* Gives a file that is synced its final name, and syncs that; after a failure neither is left. */
int kv_snapshot_place(const struct kv_disk *disk,
                      const char *from,
                      uint64_t index,
                      uint64_t term,
                      struct kv_error *ret_error);

/* Names in snap/. */
struct kv_snapshot_listing {
    enum kv_snapshot_state state; /* which are wanted */
    struct kv_snapshot_id *ids;   /* newest first */
    size_t max;                   /* of them; older ones are left out */
    size_t n;
};
int kv_snapshot_list_names(const struct kv_disk *disk,
                           struct kv_snapshot_listing *listing,
                           struct kv_error *ret_error);

/* Reads the first size_bytes of the file as if they were all of it; 0: the whole file. */
int kv_snapshot_reader_open_front(const struct kv_disk *disk,
                                  const char *path,
                                  uint64_t cluster_id,
                                  uint64_t size_bytes,
                                  struct kv_snapshot_reader **ret_reader,
                                  struct kv_error *ret_error);

#endif
