/* Logs and snapshots as text for an operator (kvd inspect). Files are opened for reading alone, no
 * lock is taken and nothing is changed, not even what a start would mend.
 *
 * Each returns 0 (sound), KV_CORRUPT (damaged: the message names the first place), KV_WRONG_NODE (a
 * newer format), KV_NOT_FOUND, KV_IO or KV_NO_MEMORY; what could be read is printed all the same.
 * Any thread; memory: one segment, or one block. */
#ifndef KV_RAFT_INSPECT_H
#define KV_RAFT_INSPECT_H

#include "raft/env.h"

struct kv_inspect {
    const struct kv_disk *disk; /* paths begin at the data directory, or where the file is */
    /* A node has the directory open: its end moves while we read, so what looks damaged is looked
     * at again. */
    bool is_running;
    void (*print)(void *arg, const char *line); /* without line end */
    void *arg;
};

/* Of a data directory: meta, each segment, and the verdict that a start would come to. */
int kv_inspect_wal(const struct kv_inspect *inspect, struct kv_error *ret_error) KV_MUST_CHECK;
/* One segment alone: a torn end is none of its damage. */
int kv_inspect_wal_segment(const struct kv_inspect *inspect,
                           const char *path,
                           struct kv_error *ret_error) KV_MUST_CHECK;
/* Of a data directory: all in snap/; the error is that of the newest that is not sound. */
int kv_inspect_snapshots(const struct kv_inspect *inspect,
                         struct kv_error *ret_error) KV_MUST_CHECK;
int kv_inspect_snapshot(const struct kv_inspect *inspect,
                        const char *path,
                        struct kv_error *ret_error) KV_MUST_CHECK;

#endif
