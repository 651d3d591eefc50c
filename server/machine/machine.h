/* The state machine: committed commands in, replies and events out. Pure: no clock, randomness,
 * file, socket or thread; the same entries give the same state and the same replies on every node.
 *
 * Single writer: all functions run on the core's thread unless they say otherwise. Replies are
 * built in protobuf-c structs that borrow the machine's memory and live only during the callback.
 *
 * Way of an entry: kv_machine_begin, kv_machine_execute for each of its requests in order,
 * kv_machine_end. Reads are answered only between end and begin. */
#ifndef KV_MACHINE_MACHINE_H
#define KV_MACHINE_MACHINE_H

#include "common/bytes.h"
#include "common/status.h"
#include "proto/kv.pb-c.h"

#define KV_MACHINE_VERSION 1u

struct kv_machine;

/* Replicated settings (data-model.md): part of the state, changed by ConfigSet only. */
struct kv_machine_settings {
    uint64_t value_bytes;
    uint64_t work_elements;
    uint64_t reply_bytes;
    uint64_t history_age_ms;
    uint64_t history_bytes;
    uint64_t data_bytes; /* live data and history together; 0: no limit */
    uint64_t sessions;
    uint64_t session_ttl_min_ms;
    uint64_t session_ttl_max_ms;
    uint64_t ttl_max_ms;
    uint64_t leases;
    uint64_t lease_ttl_min_ms;
    uint64_t lease_ttl_max_ms;
    uint64_t topics;
    uint64_t topic_messages; /* retention, of each topic */
    uint64_t topic_bytes;
    uint64_t topic_age_ms;
};
/* The loosest that there can be: what they refuse is refused whatever the state's are. */
const struct kv_machine_settings *kv_machine_settings_loosest(void);

int kv_machine_open(struct kv_machine **ret_machine) KV_MUST_CHECK;
/* Takes NULL. On any thread, once nobody else has the machine and no view of it is open: a million
 * keys take about a tenth of a second. */
void kv_machine_close(struct kv_machine *machine);

/* What kind of command a request is: where it must go. */
enum kv_command_class {
    KV_COMMAND_NONE,        /* no command set: INVALID */
    KV_COMMAND_UNSUPPORTED, /* known to the protocol, not to this server */
    KV_COMMAND_WRITE,       /* through the log */
    KV_COMMAND_READ,        /* kv_machine_read */
    KV_COMMAND_STREAM,      /* kv_machine_range_piece until its end */
    KV_COMMAND_SUBSCRIBE,   /* a stream that goes on until somebody ends it */
    KV_COMMAND_NODE,        /* answered by the node: status, members, transfer */
};
/* Answered by stream items. */
static inline bool kv_command_is_stream(enum kv_command_class cls)
{
    return cls == KV_COMMAND_STREAM || cls == KV_COMMAND_SUBSCRIBE;
}
/* Pure; any thread. */
enum kv_command_class kv_command_classify(const Kv__Request *request);

/* Does the command make the store larger? Those are refused first when room is short. Pure; any
 * thread. */
bool kv_command_grows(const Kv__Request *request);

/* Checks all that can be told without the state: key and value sizes, ranges, option combinations,
 * enums. settings may be older than the state's: apply checks what depends on them again. Pure; any
 * thread. 0, KV_INVALID, KV_TOO_LARGE, KV_UNSUPPORTED; message names field, value and limit. */
int kv_command_validate(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error) KV_MUST_CHECK;

/* Memory for what must not fail, since skipping it would make this node differ: aborts the process
 * without. Freed by free(). */
void *kv_machine_alloc(size_t size);

typedef void (*kv_machine_reply_fn)(void *arg, Kv__Reply *reply);
/* tag: as given to kv_machine_tag_waiter(). */
typedef void (*kv_machine_wake_fn)(void *arg, void *tag, Kv__Reply *reply);

/* index must be the last one's successor or later. Moves the clock (never back), then ends sessions
 * and waits that are due. Keys, fields and leases end before the first request that is no
 * LeaseKeepAlive, or at the end of the entry: renewals come in front of them.
 * KV_UNSUPPORTED: machine_version is newer than ours; the node must stop before applying. */
int kv_machine_begin(struct kv_machine *machine,
                     uint64_t index,
                     uint32_t machine_version,
                     int64_t cluster_time_ms) KV_MUST_CHECK;
/* Runs one write. fn may be NULL (a follower does not need the reply) and may free the request;
 * reply->id is request->id. A request that is no valid write gives an error reply and changes
 * nothing. Out of memory aborts the process (skipping would diverge). False: it is a pop that waits
 * for an element, and fn was not called; the reply comes with a later entry, see
 * kv_machine_on_wake(). */
bool kv_machine_execute(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg);
/* Gets the replies of what waited and has a tag, during begin and execute. reply->id is 0. */
void kv_machine_on_wake(struct kv_machine *machine, kv_machine_wake_fn fn, void *arg);
/* Whom to tell of the sequence that waits; NULL: nobody. Not of the state: another machine made of
 * it has no tags. Returns who was to be told so far. */
void *kv_machine_tag_waiter(struct kv_machine *machine, const Kv__SessionStamp *stamp, void *tag);
/* What is due ends now, if no request of this entry has made it; for who wants to see all that the
 * entry has done while its history is there. */
void kv_machine_pass_time(struct kv_machine *machine);
/* Likewise, behind the requests of the entry: pops that wait for what is there get it, if its
 * commands have not come to them. A bounded number. */
void kv_machine_serve_rest(struct kv_machine *machine);
/* Likewise; then history over its retention goes; what it held is freed in bounded steps. */
void kv_machine_end(struct kv_machine *machine);
/* One more such step, for idle times; it changes nothing that can be read. True: there is more. */
bool kv_machine_reclaim(struct kv_machine *machine);

/* Answers a command of class READ from the current state. */
void kv_machine_read(struct kv_machine *machine,
                     const Kv__Request *request,
                     kv_machine_reply_fn fn,
                     void *arg);

/* A streamed range: state between two pieces; holds no pin, reads at a fixed revision.
 * Zero-initialise. */
struct kv_range_stream {
    bool started;
    int64_t revision;  /* of all pieces */
    uint64_t returned; /* keys so far */
    size_t position_size;
    uint8_t position[4097]; /* next key (or last key returned when descending) */
};
/* Gives the next piece of at most max_bytes (at least one key). Returns 1 when more follow, 0 after
 * the last, or a negative status (KV_COMPACTED, KV_INVALID ...): then fn is not called and
 * *ret_error and ret_hint (may be NULL) say why. The RangeResult borrows the machine's memory. */
typedef void (*kv_machine_piece_fn)(void *arg, Kv__RangeResult *result, int64_t revision);
int kv_machine_range_piece(struct kv_machine *machine,
                           const Kv__Range *range,
                           struct kv_range_stream *stream,
                           size_t max_bytes,
                           kv_machine_piece_fn fn,
                           void *arg,
                           struct kv_error *ret_error) KV_MUST_CHECK;

/* --- topics, for those who subscribe --- */
struct kv_glob;
/* Of a message: those of one revision are numbered from 0 in the order of their publication. */
struct kv_topic_position {
    int64_t revision;
    uint64_t number;
};
struct kv_topic_message {
    struct kv_topic_position position;
    struct kv_slice topic; /* borrowed for the call */
    struct kv_slice payload;
};
/* One topic, or all that match a pattern. Borrowed. */
struct kv_topic_query {
    struct kv_slice topic;
    const struct kv_glob *glob; /* NULL: the topic of that name */
};
typedef void (*kv_topic_message_fn)(void *arg, const struct kv_topic_message *message);
/* Gets every message when it is published, in order, before retention can drop it; last: of its
 * revision. During execute; fn may be NULL. */
typedef void (*kv_machine_publish_fn)(void *arg, const struct kv_topic_message *message, bool last);
void kv_machine_on_publish(struct kv_machine *machine, kv_machine_publish_fn fn, void *arg);
/* Gives messages at and behind *position in order, of at most max_bytes (names and payloads; one at
 * least), and looks at a bounded number. Moves the position behind them: a number that is not 0
 * means that its revision was begun and may have more. 1: more may follow; 0: that was all there
 * is, the position is behind the newest revision, or where it was if that lies further on. */
int kv_machine_topics_read(const struct kv_machine *machine,
                           const struct kv_topic_query *query,
                           struct kv_topic_position *position,
                           size_t max_bytes,
                           kv_topic_message_fn fn,
                           void *arg);
/* Looks for where the last messages of a query begin. Start with both positions behind the newest
 * revision, left is how many are wanted. */
struct kv_topic_search {
    struct kv_topic_position looked; /* from here on all were looked at */
    struct kv_topic_position found;  /* where those that match begin */
    uint64_t left;
};
/* 1: call again, a bounded number was looked at; 0: found. */
int kv_machine_topics_search(const struct kv_machine *machine,
                             const struct kv_topic_query *query,
                             struct kv_topic_search *search);
/* Looks for what retention has dropped of a query at or behind a position. Losses are numbered by
 * the machine at hand: of another one all are to be looked at, from zeros on. */
struct kv_topic_losses {
    uint64_t seen;                   /* up to this number all were looked at */
    uint64_t top, at;                /* those from `at` to `top` are, too; at 0: none */
    struct kv_topic_position newest; /* the newest place that was found */
};
/* 1: call again, a bounded number was looked at; 0: all of now were. Then `newest` is, unless it
 * lies before the position, the newest place of which messages may be lost. Exact for topics that
 * are there; of those that are gone only the newest message of all of them is known. */
int kv_machine_topics_losses(const struct kv_machine *machine,
                             const struct kv_topic_query *query,
                             struct kv_topic_position position,
                             struct kv_topic_losses *losses);
/* The number of the newest loss. Not of the state. */
uint64_t kv_machine_topics_newest_loss(const struct kv_machine *machine);
static inline int kv_topic_position_compare(struct kv_topic_position a, struct kv_topic_position b)
{
    if (a.revision != b.revision) {
        return a.revision < b.revision ? -1 : 1;
    }
    return a.number < b.number ? -1 : a.number > b.number;
}

int64_t kv_machine_revision(const struct kv_machine *machine);
int64_t kv_machine_oldest_revision(const struct kv_machine *machine); /* oldest that can be read */
/* Cluster time at which an entry has something to do, even an empty one: the earliest deadline, or
 * now, when there are elements for pops that wait. INT64_MAX: none. */
int64_t kv_machine_next_due_ms(const struct kv_machine *machine);
/* The earliest deadline of a lease; INT64_MAX: none. Renewals that wait go into an entry of that
 * time.
 */
int64_t kv_machine_next_lease_due_ms(const struct kv_machine *machine);
int64_t kv_machine_cluster_time_ms(const struct kv_machine *machine);
uint64_t kv_machine_applied_index(const struct kv_machine *machine);
const struct kv_machine_settings *kv_machine_settings_of(const struct kv_machine *machine);

/* How long after its deadline each piece ended, by the times of the entries; since the start. */
#define KV_LATENESS_BUCKETS 10
extern const int64_t kv_lateness_bounds_ms[KV_LATENESS_BUCKETS];
struct kv_lateness {
    uint64_t counts[KV_LATENESS_BUCKETS + 1]; /* up to each bound, above the one before; above */
    uint64_t sum_ms;
};

struct kv_machine_stats {
    uint64_t keys;
    uint64_t data_bytes;    /* keys and values, live */
    uint64_t history_bytes; /* superseded versions, tombstones and events that reads can see */
    uint64_t versions;      /* superseded values that reads can see */
    uint64_t used_bytes;    /* what counts against the data limit */
    uint64_t sessions;
    uint64_t session_bytes;      /* sessions and the answers that they keep */
    uint64_t waiters;            /* pops that wait */
    uint64_t leases;             /* also those that ended and still have keys */
    uint64_t expiring;           /* keys with a time of their own, or with fields that have one */
    uint64_t leased;             /* keys that belong to a lease */
    struct kv_lateness lateness; /* not of the state */
    uint64_t topics;
    uint64_t topic_messages; /* retained, of all topics */
    uint64_t topic_bytes;
    /* Not of the state: memory that is held for open views, or waits for its turn to be freed. */
    uint64_t unreclaimed_bytes;
};
void kv_machine_stats(const struct kv_machine *machine, struct kv_machine_stats *ret_stats);

/* Sum of the hashes of all live records and sessions: equal on all nodes at the same index. */
uint64_t kv_machine_state_hash(const struct kv_machine *machine);
/* Asserts every invariant (docs/internals.md, M*); for tests. */
void kv_machine_check_invariants(const struct kv_machine *machine);

#endif
