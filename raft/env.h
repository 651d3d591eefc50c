/* The outside world of a node: disk, worker, network, clock, randomness. The core of the node
 * (raft/, machine, server/node) reaches all five through these tables only, so that the simulator
 * runs the very same code.
 *
 * Everything runs on the core's thread except what a kv_job's run() does. */
#ifndef KV_RAFT_ENV_H
#define KV_RAFT_ENV_H

#include "common/bytes.h"
#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------ disk
 * Synchronous file calls, made at start on the core's thread and later only inside kv_job.run. All
 * paths are relative to the node's data directory ("wal/0000...", "meta"). Every function returns 0
 * (or a count) or a negative errno, the one place where these cross a module border. */
struct kv_file;

struct kv_disk_ops {
    /* KV_DISK_* flags below. */
    int (*open)(void *disk, const char *path, unsigned flags, struct kv_file **ret_file);
    void (*close)(void *disk, struct kv_file *file);
    /* Whole or error; at end of file a short count. */
    int64_t (*pread)(void *disk, struct kv_file *file, void *data, size_t size, uint64_t offset);
    int (*pwrite)(void *disk, struct kv_file *file, const void *data, size_t size, uint64_t offset);
    int (*datasync)(void *disk, struct kv_file *file);
    int (*sync)(void *disk, struct kv_file *file); /* metadata too */
    int (*truncate)(void *disk, struct kv_file *file, uint64_t size);
    int64_t (*size)(void *disk, struct kv_file *file);
    int (*rename)(void *disk, const char *from, const char *to);
    int (*unlink)(void *disk, const char *path);
    int (*mkdir)(void *disk, const char *path); /* 0 if it is there */
    int (*sync_dir)(void *disk, const char *path);
    /* Calls fn for each name in the directory, in no order; "." and ".." left out. */
    int (*list)(void *disk, const char *path, void (*fn)(void *arg, const char *name), void *arg);
    /* Free bytes of the file system. */
    int64_t (*free_bytes)(void *disk);
    /* Exclusive lock on a file, held until the disk is closed: -EWOULDBLOCK if another process has
     * it. */
    int (*lock)(void *disk, const char *path);
    /* These bytes are on disk and will not be read soon: memory need not hold them. NULL: it may
     * as well. */
    void (*forget)(void *disk, struct kv_file *file, uint64_t offset, uint64_t size);
    /* Monotonic, for statistics alone; NULL: they stay 0. */
    uint64_t (*now_ns)(void *disk);
};
enum {
    KV_DISK_READ = 0,
    KV_DISK_WRITE = 1,
    KV_DISK_CREATE = 2,
    KV_DISK_EXCLUSIVE = 4,
    /* No more is read than is asked for: large pieces that are read ahead are in the way of who
     * waits for the same disk. */
    KV_DISK_NO_AHEAD = 8,
};

struct kv_disk {
    const struct kv_disk_ops *ops;
    void *disk;
    const char *name; /* for messages: the data directory's path */
};

/* ------------------------------------------------------------------ worker
 * Runs jobs one after the other away from the core (the log thread); done() is called on the core.
 */
struct kv_job {
    void (*run)(struct kv_job *job);  /* on the worker: may use the disk, nothing of the core's */
    void (*done)(struct kv_job *job); /* on the core */
    struct kv_job *next;              /* the worker's */
};

struct kv_worker_ops {
    void (*submit)(void *worker, struct kv_job *job); /* borrows until done() */
};
struct kv_worker {
    const struct kv_worker_ops *ops;
    void *worker;
};

/* ------------------------------------------------------------------ network
 * Whole messages to peers, in order per peer and connection, or not at all. The receiving side is a
 * struct kv_net_handler that the node hands over at start. */
enum kv_net_class {
    KV_NET_ORDERED, /* AppendEntries, forwarded commands: in order */
    KV_NET_URGENT,  /* votes, confirms, read-index: may pass between fragments of ordered ones */
    KV_NET_BULK,    /* pieces of snapshots: on a connection of their own, throttled, in order among
                       themselves; each may be lost without the others */
};

struct kv_net_handler {
    void *arg;
    /* message is borrowed for the call. */
    void (*receive)(void *arg, uint64_t from_id, const uint8_t *message, size_t size);
    /* The outgoing connection to a peer is usable, or was lost (everything not delivered is gone).
     * refused: nobody listens there or the peer closed it, as when its process ended; a hint, never
     * a proof. */
    void (*connected)(void *arg, uint64_t peer_id);
    void (*disconnected)(void *arg, uint64_t peer_id, bool reset);
    /* What the peer said in its hello. */
    void (*peer_info)(void *arg,
                      uint64_t peer_id,
                      const char *client_address,
                      uint64_t machine_version);
};

struct kv_net_ops {
    int (*start)(void *net, const struct kv_net_handler *handler);
    /* Declares a peer (id, host:port); the network connects and reconnects by itself. */
    int (*add_peer)(void *net, uint64_t peer_id, const char *address);
    void (*remove_peer)(void *net, uint64_t peer_id);
    /* Copies head and bulk (bulk may be empty); bounded: KV_BUSY when the peer's queue is full,
     * KV_CLOSED when not connected. Both mean that the message is gone. */
    int (*send)(void *net,
                uint64_t peer_id,
                enum kv_net_class cls,
                struct kv_slice head,
                const struct kv_slice *bulk,
                size_t n_bulk);
};
struct kv_net {
    const struct kv_net_ops *ops;
    void *net;
};

/* ------------------------------------------------------------------ clock, timer, randomness */
struct kv_clock_ops {
    uint64_t (*now_ns)(void *clock); /* monotonic, never back; the only clock of the core */
    /* One timer: the node's kv_node_on_timer() is called at or after deadline_ms (now_ns / 1e6); a
     * new call replaces the former; UINT64_MAX: none. */
    void (*set_timer)(void *clock, uint64_t deadline_ms);
    uint64_t (*random)(void *clock);
};
struct kv_clock {
    const struct kv_clock_ops *ops;
    void *clock;
};

struct kv_env {
    struct kv_disk disk;
    struct kv_worker log_worker; /* group commit: pwrite and datasync */
    struct kv_worker
        file_worker; /* slower things: zero-filling segments, reading old entries back */
    struct kv_worker snapshot_worker; /* writes, reads and loads snapshots */
    struct kv_net net;
    struct kv_clock clock;
};

#endif
