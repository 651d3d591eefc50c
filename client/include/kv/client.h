/* libkv: the client of kvd. Blocking calls; kv/async.h has the same without blocking.
 *
 * Status: every call returns 0 or a negative enum kv_status (kv/status.h) and then, when ret_error
 * is not NULL, fills a text that says what happened, at which endpoints, and why. Outputs are
 * untouched on failure unless a call says otherwise.
 *
 * Threads: a client may be used by any number of threads at the same time; requests of different
 * threads share one connection and are pipelined. kv_client_open and kv_client_close, the calls of
 * one kv_range_iterator, and everything after a fork need one thread. Do not use a client that was
 * opened before a fork in the child.
 *
 * Memory: what is passed in is borrowed for the call. Results own their memory until their free
 * function is called; free functions take NULL and zeroed structs.
 *
 * Limits: a key has 1..4096 bytes; a value at most what the cluster's setting value-limit says
 * (1 MiB unless changed); a request and a reply at most 16 MiB. Sizes are in bytes, times in
 * milliseconds.
 *
 * Retries (docs/guide/errors.md): until its deadline a request is sent again, maybe elsewhere.
 * Writes take effect once, however often they are sent: the client opens a session with its first
 * write, and the cluster knows which of the session's writes are done. KV_OUTCOME_UNKNOWN and
 * KV_DEADLINE remain for a write that has no answer when its time is over, or whose session ended
 * meanwhile (silence for its ttl). Without a session (kv_client_options.no_session) a write is sent
 * again only when it is certain that nothing was done, or with kv_call_options.repeatable. */
#ifndef KV_CLIENT_H
#define KV_CLIENT_H

#include <kv/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct Kv__Request;
struct Kv__Reply;
struct kv_client;

/* ---------------------------------------------------------------- open and close */

struct kv_client_options {
    /* "host:port,host:port": at most 16, port 4700 when missing, [::1]:4700 for IPv6 literals. They
     * are tried in this order; further ones are learned from the cluster. */
    const char *endpoints;
    const char *name;     /* for the server's log, at most 255 bytes; NULL: "libkv" */
    unsigned deadline_ms; /* of calls that name none; 0: 5000; at most 600000 */
    bool stay;            /* do not move to the leader while the present node serves (each node
                           * serves everything, a follower with one more hop) */
    bool impatient;  /* end a request as soon as no endpoint could be reached, rather than trying
                      * until its deadline */
    bool compress;   /* allow the server to compress large replies (lz4) */
    bool no_session; /* writes are not exactly-once; saves the round trip that opens a session */
    unsigned session_ttl_ms; /* silence after which the cluster forgets the session; an idle one is
                              * renewed before; 0: 60000 */
};

/* Does not wait for a connection: it is made by the first request. KV_INVALID (endpoints, name or
 * deadline: the message names which), KV_NO_MEMORY, KV_IO (no thread). */
int kv_client_open(const struct kv_client_options *options,
                   struct kv_client **ret_client,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* Ends what is under way with KV_CLOSED (a write that was sent: KV_OUTCOME_UNKNOWN), blocking calls
 * of other threads too, and waits for the client's thread. What makes one request after the other
 * (ranges by pieces, leases, locks, elections, barriers, watches) is ended before. Takes NULL. */
void kv_client_close(struct kv_client *client);

/* ---------------------------------------------------------------- common parts */

/* Borrowed bytes; data may be NULL when size is 0. */
struct kv_bytes {
    const void *data;
    size_t size;
};
struct kv_bytes kv_bytes_of(const void *data, size_t size);
struct kv_bytes kv_bytes_str(const char *string);

/* How a request is to be treated; NULL or zeros: the defaults. */
struct kv_call_options {
    unsigned deadline_ms; /* 0: the client's; at most 600000 */
    bool serializable;    /* reads: from the asked node's state; may be behind */
    bool repeatable; /* writes: the caller knows that doing it twice does no harm, so it is sent
                      * again when its outcome is unknown. Think of others who may write in
                      * between: a put that is repeated late undoes theirs. */
    /* Of blocking calls (kv_async_cancel is for the others): asked by the calling thread before
     * anything is sent, and then ten times a second. True: the call ends, with KV_CLOSED when it is
     * a read or nothing was done, else with KV_OUTCOME_UNKNOWN. What it looks at may be set by
     * another thread (an atomic) or a signal handler (a volatile sig_atomic_t). NULL: the call ends
     * by its answer or its deadline alone. */
    bool (*stop)(void *arg);
    void *stop_arg;
};

/* What a key holds (numbers as in kv.proto). */
enum kv_type {
    KV_TYPE_NONE = 0,
    KV_TYPE_STRING = 1,
    KV_TYPE_COUNTER = 2,
    KV_TYPE_HASH = 3,
    KV_TYPE_LIST = 4,
    KV_TYPE_SET = 5,
    KV_TYPE_ZSET = 6,
    KV_TYPE_LIMITER = 7,
};

/* A key with what is known of it. */
struct kv_pair {
    struct kv_bytes key;
    struct kv_bytes value; /* of a string; empty with keys_only */
    enum kv_type type;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version; /* 1 at creation, +1 per change */
    int64_t lease_id;
    int64_t expires_at_ms; /* cluster time; 0: never */
    int64_t counter;       /* value of a counter */
    uint64_t elements;     /* of a hash, list, set or sorted set: how many */
    int64_t revision;      /* of the store when this was answered */
    void *memory;          /* owns key and value; libkv's own */
};
void kv_pair_free(struct kv_pair *pair);

/* ---------------------------------------------------------------- strings */

enum kv_put_condition {
    KV_PUT_ALWAYS = 0,
    KV_PUT_IF_ABSENT,       /* else KV_EXISTS */
    KV_PUT_IF_PRESENT,      /* else KV_NOT_FOUND */
    KV_PUT_IF_MOD_REVISION, /* mod_revision; 0: absent; else KV_CONDITION_FAILED */
    KV_PUT_IF_VALUE,        /* expected; else KV_CONDITION_FAILED */
};

/* When the key ends; at most one of ttl_ms, lease_id and keep_expiry, none: it does not end by
 * itself, whatever it had before. */
struct kv_put_options {
    enum kv_put_condition condition;
    int64_t mod_revision;     /* of KV_PUT_IF_MOD_REVISION */
    struct kv_bytes expected; /* of KV_PUT_IF_VALUE */
    bool return_previous;
    uint64_t ttl_ms;  /* so long after the put, or a little later */
    int64_t lease_id; /* with this lease (kv/lease.h) */
    bool keep_expiry; /* with what it had before */
    struct kv_call_options call;
};
struct kv_put_result {
    int64_t revision; /* that the put made */
    int64_t version;  /* of the key now */
    bool had_previous;
    struct kv_pair previous; /* with return_previous; free it with kv_pair_free */
};
/* Sets a key to a string, whatever it held. options and ret_result may be NULL. With
 * return_previous *ret_result is filled too when the condition is not met: it holds what is there.
 * KV_EXISTS, KV_NOT_FOUND (also: no such lease), KV_CONDITION_FAILED (nothing changed),
 * KV_OUT_OF_BOUNDS (ttl_ms), KV_TOO_LARGE, KV_INVALID. */
int kv_put(struct kv_client *client,
           struct kv_bytes key,
           struct kv_bytes value,
           const struct kv_put_options *options,
           struct kv_put_result *ret_result,
           struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_get_options {
    int64_t at_revision; /* 0: now */
    struct kv_call_options call;
};
/* KV_NOT_FOUND, KV_WRONG_TYPE, KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_get(struct kv_client *client,
           struct kv_bytes key,
           const struct kv_get_options *options,
           struct kv_pair *ret_pair,
           struct kv_error *ret_error) KV_MUST_CHECK;

/* Appends to a string, creates it when absent; *ret_length (may be NULL) is its length now.
 * KV_WRONG_TYPE, KV_TOO_LARGE (the result would be over the value limit). */
int kv_append(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes value,
              const struct kv_call_options *options,
              uint64_t *ret_length,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Puts and gives what was there before; ret_previous->version is 0 when there was nothing.
 * KV_WRONG_TYPE. */
int kv_getset(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes value,
              const struct kv_call_options *options,
              struct kv_pair *ret_previous,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Deletes a string and gives what it was. KV_NOT_FOUND, KV_WRONG_TYPE. */
int kv_getdel(struct kv_client *client,
              struct kv_bytes key,
              const struct kv_call_options *options,
              struct kv_pair *ret_previous,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Length of a string, 0 when absent. KV_WRONG_TYPE. */
int kv_strlen(struct kv_client *client,
              struct kv_bytes key,
              const struct kv_get_options *options,
              uint64_t *ret_length,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Bytes first..last of a string, both included; negative ones count from the end (-1: last byte).
 * Absent or out of the string: an empty value. Only ret_pair->value and revision are filled.
 * KV_WRONG_TYPE. */
int kv_get_range(struct kv_client *client,
                 struct kv_bytes key,
                 int64_t first,
                 int64_t last,
                 const struct kv_get_options *options,
                 struct kv_pair *ret_pair,
                 struct kv_error *ret_error) KV_MUST_CHECK;

/* Overwrites from offset on; a gap or an absent key is filled with zero bytes; an empty value
 * changes nothing. *ret_length (may be NULL): length now. KV_WRONG_TYPE, KV_TOO_LARGE. */
int kv_set_range(struct kv_client *client,
                 struct kv_bytes key,
                 uint64_t offset,
                 struct kv_bytes value,
                 const struct kv_call_options *options,
                 uint64_t *ret_length,
                 struct kv_error *ret_error) KV_MUST_CHECK;

/* ---------------------------------------------------------------- keys and ranges */

enum kv_range_kind {
    KV_RANGE_BETWEEN = 0, /* start <= key < end */
    KV_RANGE_KEY,         /* the one key start */
    KV_RANGE_PREFIX,      /* all keys that begin with start */
    KV_RANGE_FROM,        /* all keys >= start */
    KV_RANGE_ALL,         /* every key */
};
struct kv_range_spec {
    enum kv_range_kind kind;
    struct kv_bytes start;
    struct kv_bytes end; /* exclusive */
};

/* Deletes keys; absent ones do not count. *ret_deleted may be NULL. */
int kv_delete(struct kv_client *client,
              const struct kv_bytes *keys,
              size_t n_keys,
              const struct kv_call_options *options,
              uint64_t *ret_deleted,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Deletes a range. atomic: all at one revision, KV_TOO_LARGE and nothing done beyond the cluster's
 * work limit; otherwise in pieces, each at a revision of its own, so that an error may come after
 * some pieces: *ret_deleted (may be NULL) is then set too. */
int kv_delete_range(struct kv_client *client,
                    const struct kv_range_spec *range,
                    bool atomic,
                    const struct kv_call_options *options,
                    uint64_t *ret_deleted,
                    struct kv_error *ret_error) KV_MUST_CHECK;

/* How many of the keys exist (one named twice counts twice); ret_present, n_keys long, may be NULL.
 */
int kv_exists(struct kv_client *client,
              const struct kv_bytes *keys,
              size_t n_keys,
              const struct kv_get_options *options,
              bool *ret_present,
              uint64_t *ret_count,
              struct kv_error *ret_error) KV_MUST_CHECK;

int kv_count(struct kv_client *client,
             const struct kv_range_spec *range,
             const struct kv_get_options *options,
             uint64_t *ret_count,
             struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_range_options {
    uint64_t limit; /* keys in all; 0: none */
    bool descending;
    bool keys_only;
    int64_t at_revision;      /* 0: now */
    int64_t min_mod_revision; /* inclusive, as the three below; 0: none */
    int64_t max_mod_revision;
    int64_t min_create_revision;
    int64_t max_create_revision;
    uint64_t page_keys; /* keys fetched at a time; 0: 1000 */
    struct kv_call_options call;
};
struct kv_range_iterator;
/* Begins to read a range in order. However large it is, all of it is of ONE revision (the first
 * page's). Asks nothing of the server yet. KV_INVALID, KV_NO_MEMORY. The client must outlive the
 * iterator. */
int kv_range(struct kv_client *client,
             const struct kv_range_spec *range,
             const struct kv_range_options *options,
             struct kv_range_iterator **ret_iterator,
             struct kv_error *ret_error) KV_MUST_CHECK;
/* 1: *ret_pair is the next one, borrowed until the next call on the iterator (do not free it);
 * 0: the end; negative: as of kv_get. KV_COMPACTED: reading took longer than the history is kept.
 */
int kv_range_next(struct kv_range_iterator *iterator,
                  struct kv_pair *ret_pair,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* The revision that is read; 0 before the first kv_range_next. */
int64_t kv_range_revision(const struct kv_range_iterator *iterator);
void kv_range_close(struct kv_range_iterator *iterator);

/* ---------------------------------------------------------------- settings and cluster */

struct kv_config_entry {
    const char *name;
    uint64_t value;
    uint64_t default_value;
    uint64_t min;
    uint64_t max;
    const char *unit;
    const char *help;
};
struct kv_config_list {
    size_t n_entries;
    struct kv_config_entry *entries;
    void *memory;
};
int kv_config_list(struct kv_client *client,
                   const struct kv_call_options *options,
                   struct kv_config_list *ret_list,
                   struct kv_error *ret_error) KV_MUST_CHECK;
void kv_config_list_free(struct kv_config_list *list);
/* KV_NOT_FOUND: no such setting. */
int kv_config_get(struct kv_client *client,
                  const char *name,
                  const struct kv_call_options *options,
                  uint64_t *ret_value,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* KV_NOT_FOUND, KV_OUT_OF_BOUNDS. *ret_previous may be NULL. */
int kv_config_set(struct kv_client *client,
                  const char *name,
                  uint64_t value,
                  const struct kv_call_options *options,
                  uint64_t *ret_previous,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* About the node that answers (use the option stay and one endpoint to choose which). */
struct kv_node_info {
    uint64_t cluster_id;
    uint64_t node_id;
    uint64_t leader_id;
    const char *leader_address;
    const char *version;
    const char *role;  /* leader follower candidate unavailable */
    const char *state; /* starting serving no-leader no-space corrupt stopping */
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t last_index;
    int64_t revision;
    int64_t oldest_revision;
    uint64_t keys;
    uint64_t data_bytes;
    uint64_t wal_bytes;
    uint64_t connections;
    uint64_t uptime_ms;
    int64_t cluster_time_ms;
    uint64_t machine_version;
    uint64_t snapshot_index; /* of the newest snapshot on disk; 0: none */
    uint64_t snapshot_bytes;
    uint64_t snapshot_fetch_index; /* of the one that is being fetched from the leader; 0: none */
    uint64_t snapshot_fetch_bytes; /* of it that are here */
    uint64_t history_bytes;        /* of replaced versions and events that can be read */
    uint64_t sessions;
    uint64_t session_bytes;            /* of them and the answers that they keep */
    uint64_t data_limit_bytes;         /* setting data-limit; 0: none */
    uint64_t used_bytes;               /* what counts against it */
    uint64_t leases;                   /* also those that have ended and still have keys */
    uint64_t topics;                   /* that have messages */
    uint64_t watches;                  /* there, and ... */
    uint64_t subscriptions;            /* ... subscriptions of topics; */
    uint64_t watches_behind;           /* of both: that have not been told all yet */
    uint64_t requests;                 /* of clients, answered there since its start */
    size_t n_latencies;                /* they by the time that they took: */
    const uint64_t *latency_bounds_us; /* up to these, n_latencies many, ... */
    const uint64_t *latency_counts;    /* ... and, one more, longer than the last */
    void *memory;
};
int kv_status(struct kv_client *client,
              const struct kv_call_options *options,
              struct kv_node_info *ret_info,
              struct kv_error *ret_error) KV_MUST_CHECK;
void kv_node_info_free(struct kv_node_info *info);

struct kv_member {
    uint64_t node_id;
    const char *peer_address;
    const char *client_address;
    const char *role; /* voter standby spare */
    bool leader;
    bool reachable;       /* as seen by the node that answers */
    uint64_t match_index; /* known on the leader; 0 elsewhere */
};
struct kv_member_list {
    size_t n_members;
    struct kv_member *members;
    void *memory;
};
int kv_member_list(struct kv_client *client,
                   const struct kv_call_options *options,
                   struct kv_member_list *ret_list,
                   struct kv_error *ret_error) KV_MUST_CHECK;
void kv_member_list_free(struct kv_member_list *list);

/* Asks the leader to hand over to node_id; 0: it chooses. */
int kv_leader_transfer(struct kv_client *client,
                       uint64_t node_id,
                       const struct kv_call_options *options,
                       struct kv_error *ret_error) KV_MUST_CHECK;

/* Makes the node that answers (open the client with its endpoint alone) write a snapshot of its
 * state, and waits for it. ret_index: the last entry of the log in it; ret_bytes: size of the file;
 * both may be NULL. KV_BUSY: one is being installed there, or the last try failed just now.
 * KV_DEADLINE: it goes on being written. */
int kv_snapshot_take(struct kv_client *client,
                     const struct kv_call_options *options,
                     uint64_t *ret_index,
                     uint64_t *ret_bytes,
                     struct kv_error *ret_error) KV_MUST_CHECK;

/* ---------------------------------------------------------------- any request */

/* Sends any request of kv.proto (kv/kv.pb-c.h) but streams (kv/async.h). id and deadline_ms of the
 * request are libkv's; the rest is sent as it is. When a server answered, *ret_reply (may be NULL)
 * is owned by the caller, whatever the status: free it with kv_reply_free. Otherwise it is NULL. */
int kv_call(struct kv_client *client,
            const struct Kv__Request *request,
            const struct kv_call_options *options,
            struct Kv__Reply **ret_reply,
            struct kv_error *ret_error) KV_MUST_CHECK;
void kv_reply_free(struct Kv__Reply *reply);

#ifdef __cplusplus
}
#endif

#endif
