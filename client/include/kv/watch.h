/* Watches: what happens to keys, as one ordered stream. Conventions (status, threads, memory):
 * kv/client.h.
 *
 * libkv keeps a watch going: it is resumed after a lost connection, at whichever node, behind the
 * last revision that came in full; the program sees each event exactly once, in revision order.
 *
 *     struct kv_watch_options options = {.range = {KV_RANGE_PREFIX, kv_bytes_str("config/")}};
 *     struct kv_event_batch *batch;
 *
 *     status = kv_watch_open(client, &options, &watch, &error);
 *     while ((status = kv_watch_next(watch, 1000, &batch, &error)) >= 0) {
 *         for (size_t i = 0; status == 1 && i < batch->n_events; i++) {
 *             use(&batch->events[i]);
 *         }
 *         kv_event_batch_free(status == 1 ? batch : NULL);
 *     }
 *     kv_watch_close(watch);
 *
 * To read a state and then all that changes it: read (kv_range gives the revision that it read),
 * then watch from that revision + 1. */
#ifndef KV_WATCH_H
#define KV_WATCH_H

#include <kv/client.h>
#include <kv/hash.h>
#include <kv/zset.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers as in kv.proto. */
enum kv_event_kind {
    KV_EVENT_PUT = 0,    /* created or changed */
    KV_EVENT_DELETE = 1, /* deleted, renamed away, or its lease was revoked */
    KV_EVENT_EXPIRE = 2, /* its time, or its lease's, was over */
};
/* "put", "delete", "expire"; "?" for a number that is none. */
const char *kv_event_kind_name(enum kv_event_kind kind);

/* What one revision did to one key. */
struct kv_event {
    enum kv_event_kind kind;
    struct kv_pair pair; /* as it is now; of a deleted one only key and mod_revision, which is that
                          * of the deletion. Do not free it */
    const struct kv_pair *previous; /* with_previous: what was there before; NULL: nothing */
    bool replaced; /* the collection was written anew: what it held before is gone */
    /* Of a collection: what has changed in it, as it is now. */
    size_t n_fields;
    const struct kv_field *fields; /* of a hash: set */
    size_t n_elements;
    const struct kv_bytes *elements; /* added to a list (or set in it), members to a set */
    size_t n_members;
    const struct kv_scored *members; /* of a sorted set: new, or with a new score */
    size_t n_removed;
    const struct kv_bytes *removed; /* fields, elements or members that went */
};

/* Events in revision order, of one revision or of several. */
struct kv_event_batch {
    int64_t revision; /* all events up to here were told, with these; with `fragment`: up to the one
                       * before */
    bool fragment;    /* the next batch goes on with the revision of the last event */
    size_t n_events;  /* 0: progress only (progress_ms) */
    struct kv_event *events;
};
/* Takes NULL. */
void kv_event_batch_free(struct kv_event_batch *batch);

struct kv_watch_options {
    struct kv_range_spec range;
    int64_t start_revision; /* first one that is told; 0: what comes from now on; in the future:
                             * waits for it */
    unsigned kinds;         /* 1u << enum kv_event_kind, together; 0: all */
    unsigned types; /* 1u << enum kv_type, of the key after the change, or before a deletion;
                     * 0: all */
    bool with_previous;
    bool keys_only;             /* events without values, previous values and elements */
    unsigned progress_ms;       /* a batch without events comes when nothing else came for so long:
                                 * 100 or more; 0: none come */
    unsigned require_leader_ms; /* KV_NO_LEADER is told when no node with a leader was reached for
                                 * so long: 100 or more; 0: it is waited for in silence */
    uint64_t queue_bytes;       /* that wait in memory for the program, then the server waits; 0:
                                 * 4 MiB; at most 256 MiB. A revision that is larger comes in
                                 * fragments */
};

struct kv_watch;

/* Begins a watch; does not wait for it (kv_watch_started does). KV_INVALID: the message names the
 * option; KV_NO_MEMORY; KV_BUSY: the client has 65536 requests and streams. The client must outlive
 * the watch. */
int kv_watch_open(struct kv_client *client,
                  const struct kv_watch_options *options,
                  struct kv_watch **ret_watch,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* Waits at most timeout_ms until a server watches; *ret_revision (may be NULL): the revision before
 * the first that is told. 0; KV_DEADLINE: not yet; the error of kv_watch_next when it has ended. */
int kv_watch_started(struct kv_watch *watch,
                     unsigned timeout_ms,
                     int64_t *ret_revision,
                     struct kv_error *ret_error) KV_MUST_CHECK;

/* 1: *ret_batch is the caller's, to be freed with kv_event_batch_free; 0: nothing came within
 * timeout_ms (0: does not wait). Several threads may call it: each batch goes to one of them.
 * Negative, and final unless said: KV_COMPACTED: what comes next is not kept any more, ret_error
 * names the oldest revision that is (kv_watch_oldest): read the state anew and watch from there.
 * KV_NO_LEADER (require_leader_ms): the watch goes on, call again. KV_CLOSED: kv_watch_stop was
 * called. KV_INVALID (an empty range, a key over 4096 bytes), KV_PERMISSION: the server refuses it.
 * KV_INTERNAL: the server's stream had a gap or a duplicate. KV_NO_MEMORY. */
int kv_watch_next(struct kv_watch *watch,
                  unsigned timeout_ms,
                  struct kv_event_batch **ret_batch,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* The revision up to which kv_watch_next has given out all events: a program that keeps it can
 * watch from it + 1 later. Before the first batch: the revision before the first that is told, 0
 * when that is not known yet. */
int64_t kv_watch_position(struct kv_watch *watch);
/* After KV_COMPACTED: the oldest revision that can be watched from; 0 otherwise. */
int64_t kv_watch_oldest(struct kv_watch *watch);

/* From any thread: the watch ends, kv_watch_next returns KV_CLOSED, in those that wait in it too.
 */
void kv_watch_stop(struct kv_watch *watch);
/* Stops and forgets it; no other call on it may be under way. Takes NULL. */
void kv_watch_close(struct kv_watch *watch);

#ifdef __cplusplus
}
#endif

#endif
