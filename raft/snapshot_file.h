/* Snapshot files: writing, reading, receiving them in pieces, and which there are. What is in the
 * blocks is none of their business. Format and promises: docs/internals.md, "Snapshot files".
 *
 * All of it is synchronous and may run on any one thread; `disk` is borrowed until the close. A
 * failure is never fatal here: the file that failed is given up and removed, what was there before
 * is untouched. KV_NO_SPACE: the disk is full, try again when there is room. KV_IO names path and
 * errno; after a sync that failed the file is never synced again. KV_NO_MEMORY everywhere. */
#ifndef KV_RAFT_SNAPSHOT_FILE_H
#define KV_RAFT_SNAPSHOT_FILE_H

#include "common/bytes.h"
#include "common/status.h"
#include "raft/env.h"
#include "raft/snapshot_format.h"

struct kv_snapshot_meta {
    uint64_t cluster_id;
    uint64_t node_id; /* that made it */
    uint64_t index;
    uint64_t term;
    uint64_t configuration_index;
    struct kv_slice configuration; /* encoded, as in a CHANGE entry */
    bool replaces; /* a file of its name, which was refused or could not be read, in one step */
};

/* What a peer is told of one before it fetches it. */
struct kv_snapshot_descriptor {
    uint64_t index;
    uint64_t term;
    uint64_t configuration_index;
    uint64_t size_bytes; /* of the file */
    uint64_t hash;       /* XXH3 of the file up to the hash in its trailer */
};

/* ------------------------------------------------------------------ writer */
struct kv_snapshot_writer;

/* Begins a file under a temporary name; snap/ is made when it is not there. Copies the meta.
 * KV_EXISTS: there is a complete one of that index and term. */
int kv_snapshot_writer_open(const struct kv_disk *disk,
                            const struct kv_snapshot_meta *meta,
                            struct kv_snapshot_writer **ret_writer,
                            struct kv_error *ret_error) KV_MUST_CHECK;
/* One block, best of KV_SNAPSHOT_BLOCK_BYTES. KV_TOO_LARGE: over KV_SNAPSHOT_BLOCK_BYTES_MAX. No
 * bytes make no block. After a failure all further calls fail. */
int kv_snapshot_writer_append(struct kv_snapshot_writer *writer,
                              struct kv_slice raw,
                              struct kv_error *ret_error) KV_MUST_CHECK;
/* Trailer, sync, rename, sync of the directory. From then on it is there, or not at all. */
int kv_snapshot_writer_finish(struct kv_snapshot_writer *writer,
                              struct kv_snapshot_descriptor *ret_descriptor,
                              struct kv_error *ret_error) KV_MUST_CHECK;
/* Removes what is unfinished. Takes NULL. */
void kv_snapshot_writer_close(struct kv_snapshot_writer *writer);
/* Bytes in the file so far. */
uint64_t kv_snapshot_writer_bytes(const struct kv_snapshot_writer *writer);

/* ------------------------------------------------------------------ reader */
struct kv_snapshot_reader;

/* Checks the head, and that the file's name (if it is one of a snapshot) fits. cluster_id 0: of any
 * cluster. KV_NOT_FOUND: no such file; KV_CORRUPT: names file, offset and what; KV_WRONG_NODE: of
 * another cluster, or of a newer format. */
int kv_snapshot_reader_open(const struct kv_disk *disk,
                            const char *path,
                            uint64_t cluster_id,
                            struct kv_snapshot_reader **ret_reader,
                            struct kv_error *ret_error) KV_MUST_CHECK;
/* Borrowed from the reader. */
const struct kv_snapshot_meta *kv_snapshot_reader_meta(const struct kv_snapshot_reader *reader);
/* 1: *raw holds the next block alone; its bound must be KV_SNAPSHOT_BLOCK_BYTES_MAX at least. 0:
 * the end, and totals and hash fit, and nothing stands behind it: only then is what the blocks
 * before said to be believed. KV_CORRUPT, KV_IO: what the blocks before said must be forgotten. */
int kv_snapshot_reader_next(struct kv_snapshot_reader *reader,
                            struct kv_buf *raw,
                            struct kv_error *ret_error) KV_MUST_CHECK;
/* How far it has come: blocks and bytes in the file. */
uint64_t kv_snapshot_reader_blocks(const struct kv_snapshot_reader *reader);
uint64_t kv_snapshot_reader_offset(const struct kv_snapshot_reader *reader);
/* Once the end is reached. */
struct kv_snapshot_descriptor kv_snapshot_descriptor_of(const struct kv_snapshot_reader *reader);
/* Takes NULL. */
void kv_snapshot_reader_close(struct kv_snapshot_reader *reader);

/* Reads all of it; as reader_open and reader_next. */
int kv_snapshot_verify(const struct kv_disk *disk,
                       const char *path,
                       uint64_t cluster_id,
                       struct kv_snapshot_descriptor *ret_descriptor,
                       struct kv_error *ret_error) KV_MUST_CHECK;

/* ------------------------------------------------------------------ transfer */
/* Appends bytes of the file as they are, fewer at its end. KV_NOT_FOUND: it was removed meanwhile;
 * KV_INVALID: it ends before that offset; KV_TOO_LARGE: does not fit the buffer. */
int kv_snapshot_piece_read(const struct kv_disk *disk,
                           const char *path,
                           uint64_t offset,
                           size_t size,
                           struct kv_buf *buf,
                           struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_snapshot_receiver;

/* Goes on with what an earlier receiver of the same descriptor had synced; parts of any other are
 * removed. KV_EXISTS: there is a complete one of that index and term; KV_INVALID: a descriptor of
 * nothing that can be. */
int kv_snapshot_receiver_open(const struct kv_disk *disk,
                              const struct kv_snapshot_descriptor *descriptor,
                              struct kv_snapshot_receiver **ret_receiver,
                              struct kv_error *ret_error) KV_MUST_CHECK;
/* Where the next piece begins. */
uint64_t kv_snapshot_receiver_offset(const struct kv_snapshot_receiver *receiver);
/* KV_INVALID: not the next piece, or longer than the descriptor says; nothing changed. Anything
 * else: the part is given up. */
int kv_snapshot_receiver_add(struct kv_snapshot_receiver *receiver,
                             uint64_t offset,
                             struct kv_slice piece,
                             struct kv_error *ret_error) KV_MUST_CHECK;
/* All pieces are there: reads the part as if it were the file. Errors of kv_snapshot_reader_open;
 * KV_CORRUPT: pieces are missing. */
int kv_snapshot_receiver_read(const struct kv_snapshot_receiver *receiver,
                              uint64_t cluster_id,
                              struct kv_snapshot_reader **ret_reader,
                              struct kv_error *ret_error) KV_MUST_CHECK;
/* What was read is not sound: removes the part. */
void kv_snapshot_receiver_reject(struct kv_snapshot_receiver *receiver);
/* The reader has come to its end. Its hash must be as the descriptor says: then sync, rename, sync
 * of the directory. Otherwise the part is removed: KV_CORRUPT. */
int kv_snapshot_receiver_finish(struct kv_snapshot_receiver *receiver,
                                const struct kv_snapshot_reader *reader,
                                struct kv_error *ret_error) KV_MUST_CHECK;
/* Keeps a part that did not fail. Takes NULL. */
void kv_snapshot_receiver_close(struct kv_snapshot_receiver *receiver);

/* ------------------------------------------------------------------ which there are */
struct kv_snapshot_id {
    uint64_t index;
    uint64_t term;
    uint64_t size_bytes;
};

/* The complete ones, newest first, at most `max`: not yet checked, but surely on disk. Makes snap/,
 * removes what writers left behind, keeps parts. Call it while no writer is open. */
int kv_snapshot_list(const struct kv_disk *disk,
                     struct kv_snapshot_id *ids,
                     size_t max,
                     size_t *ret_n,
                     struct kv_error *ret_error) KV_MUST_CHECK;
/* It may be gone already. */
int kv_snapshot_remove(const struct kv_disk *disk,
                       uint64_t index,
                       uint64_t term,
                       struct kv_error *ret_error) KV_MUST_CHECK;

#endif
