/* What the files of the machine share. */
#ifndef KV_MACHINE_MACHINE_INTERNAL_H
#define KV_MACHINE_MACHINE_INTERNAL_H

#include "common/arena.h"
#include "common/limits.h"
#include "server/machine/history.h"
#include "server/machine/leases.h"
#include "server/machine/machine.h"
#include "server/machine/sessions.h"
#include "server/machine/topics.h"
#include "server/machine/tree.h"
#include "server/machine/waiters.h"

#include <xxhash.h>

/* Large collections that no read can see any more, in the order in which they go. A ring. */
struct kv_dropped {
    uint64_t *ids;
    size_t capacity, first, n;
};

struct kv_elements_index;

struct kv_machine {
    struct kv_tree tree;     /* keys */
    struct kv_tree elements; /* of large collections (collection.h) */
    struct kv_tree scores; /* of large sorted sets by score: made of the elements, has no history */
    /* By time and by lease (deadlines.h): made of the live records, have no history. */
    struct kv_tree deadlines;
    struct kv_tree fields;
    struct kv_tree lease_keys;
    struct kv_leases leases;
    struct kv_history history;
    struct kv_sessions sessions;
    struct kv_waiters waiters;
    struct kv_topics topics;
    kv_machine_wake_fn wake; /* may be NULL */
    void *wake_arg;
    struct kv_machine_settings settings;
    int64_t revision;
    int64_t cluster_time_ms;
    uint64_t applied_index;
    uint64_t last_collection_id;
    uint64_t data_bytes; /* keys, values and elements, live */
    uint64_t state_hash;
    bool changed; /* by the command being executed */
    bool entry_changed;
    bool expired;            /* this entry has ended what is due */
    int64_t expired_ms;      /* the deadlines that had passed then: leases up to it are dead */
    size_t expire_per_entry; /* tests lower it */
    struct kv_lateness lateness;
    size_t serve_per_command; /* tests lower it */
    bool served_rest;       /* this entry has served what its commands, or earlier entries, left */
    bool is_first_entry;    /* the one being applied, of all */
    uint64_t work;          /* elements that this command has touched */
    uint64_t passed;        /* versions that it passed over, not yet counted as work */
    bool reading;           /* outside the log: an answer may differ from other nodes' */
    uint64_t random_reads;  /* so that each chooses anew */
    uint64_t written_bytes; /* of the versions that it has made */
    uint64_t operation;     /* number of the running operation within its entry, from 0 */
    size_t reclaim_per_entry; /* tests lower it */
    struct kv_dropped dropped;
    XXH3_state_t *command_hash; /* scratch */
    struct kv_arena arena;      /* for the reply being built */
    /* Scratch for replies of several keys, in the arena. */
    Kv__KeyValue *kvs;
    Kv__KeyValue **kv_pointers;
    size_t kvs_capacity;
    struct kv_record **records;
    size_t records_capacity;
    /* For readers of events (events_index.c); NULL: none was needed. */
    struct kv_elements_index *elements_index;
    uint64_t elements_direct; /* so many records are looked at without it; tests lower it */
};
enum { KV_ELEMENTS_DIRECT = 64 };
void kv_elements_index_free(struct kv_elements_index *index); /* takes NULL */

/* What may be needed to undo a command. */
struct kv_savepoint {
    struct kv_history_point history;
    struct kv_machine_settings settings;
    uint64_t last_collection_id;
    uint64_t data_bytes;
    uint64_t state_hash;
};

/* What a command answers with; filled by its handler, borrows the machine's memory. */
struct kv_answer {
    Kv__Reply reply;
    Kv__Hint hint;
    struct kv_error error;
    union {
        Kv__PutResult put;
        Kv__GetResult get;
        Kv__AppendResult append;
        Kv__StrLenResult strlen;
        Kv__GetRangeResult get_range;
        Kv__DeleteResult delete_;
        Kv__ExistsResult exists;
        Kv__CountResult count;
        Kv__RangeResult range;
        Kv__TypeResult type;
        Kv__DoneResult done;
        Kv__ConfigListResult config_list;
        Kv__ConfigGetResult config_get;
        Kv__ConfigSetResult config_set;
        Kv__CounterResult counter;
        Kv__HashGetResult hash_get;
        Kv__HashFieldsResult hash_fields;
        Kv__PresentResult present;
        Kv__ElementsResult elements;
        Kv__ZSetAddResult zset_add;
        Kv__ZSetScoreResult zset_score;
        Kv__ZSetRankResult zset_rank;
        Kv__ZSetMembersResult zset_members;
        Kv__LimiterResult limiter;
        Kv__TxnResult txn;
        Kv__CompactResult compact;
        Kv__SessionOpenResult session_open;
        Kv__KeyHistoryResult key_history;
        Kv__TtlResult ttl;
        Kv__LeaseResult lease;
        Kv__LeaseKeepAliveResult lease_keep_alive;
        Kv__LeaseInfoResult lease_info;
        Kv__LeaseListResult lease_list;
        Kv__PublishResult publish;
        Kv__TopicListResult topic_list;
    } result;
    Kv__KeyValue kv;
    Kv__ConfigEntry entries[32];
    Kv__ConfigEntry *entry_pointers[32];
};

/* --- keyspace.c: records by key and revision, and changes --- */
static inline struct kv_slice kv_slice_of_proto(ProtobufCBinaryData data)
{
    return (struct kv_slice){data.data, data.len};
}
/* Live now, or NULL. */
struct kv_record *kv_keyspace_get(const struct kv_machine *machine, struct kv_slice key);
/* Live at the revision (0: now), or NULL. */
const struct kv_record *
kv_keyspace_get_at(struct kv_machine *machine, struct kv_slice key, int64_t revision);
/* Looks at no `older` of a record with mod_revision <= revision (M11). */
const struct kv_record *kv_record_at(const struct kv_record *newest, int64_t revision);
/* As kv_record_at() for a command: what it passes over becomes work with the next
 * kv_machine_work(). All nodes pass over the same, since nothing behind the oldest revision is. */
const struct kv_record *
kv_machine_record_at(struct kv_machine *machine, const struct kv_record *newest, int64_t revision);
/* A tombstone that no read can see, whether its memory is there still or not. */
static inline bool kv_keyspace_is_dead(const struct kv_machine *machine,
                                       const struct kv_record *record)
{
    return record->tombstone && record->mod_revision <= machine->history.oldest_revision;
}
/* 0, KV_INVALID, KV_COMPACTED or KV_FUTURE_REVISION with error and hint. */
int kv_keyspace_check_revision(const struct kv_machine *machine,
                               int64_t revision,
                               struct kv_answer *answer) KV_MUST_CHECK;
/* What is there now is what there was at the revision; within a transaction it is not. */
static inline bool kv_revision_is_now(const struct kv_machine *machine, int64_t revision)
{
    return revision == machine->revision && !machine->changed;
}
/* A new version of the key with room for the value, which the caller fills before
 * kv_keyspace_commit. */
struct kv_record *kv_keyspace_begin(struct kv_machine *machine,
                                    struct kv_slice key,
                                    enum kv_type type,
                                    size_t value_size);
/* As kv_keyspace_begin(), of a key that ends. */
struct kv_record *kv_keyspace_begin_living(struct kv_machine *machine,
                                           struct kv_slice key,
                                           enum kv_type type,
                                           size_t value_size,
                                           const struct kv_life *life);
/* The same value and, under the same key, the same elements of a large collection. */
struct kv_record *kv_keyspace_again(struct kv_machine *machine,
                                    const struct kv_record *record,
                                    struct kv_slice key,
                                    const struct kv_life *life);
void kv_keyspace_commit(struct kv_machine *machine, struct kv_record *record);
/* As kv_keyspace_delete(): its time was over. */
void kv_keyspace_expire(struct kv_machine *machine, struct kv_slice key);
void kv_keyspace_delete(struct kv_machine *machine, struct kv_slice key);
/* As commit, when a snapshot is loaded that says whether a large collection ended. */
void kv_keyspace_restore(struct kv_machine *machine, struct kv_record *record, bool drops);
/* The key's record gets another name: as commit and delete, but the large collection of the one
 * stays and is the other's now. */
void kv_keyspace_rename(struct kv_machine *machine,
                        const struct kv_record *record,
                        struct kv_slice to);
/* KV_WRONG_TYPE. */
int kv_wrong_type(struct kv_answer *answer,
                  const struct kv_record *record,
                  enum kv_type wanted) KV_MUST_CHECK;
/* Counts what the command touches, and what it passed over: KV_TOO_LARGE beyond the work limit. */
int kv_machine_work(struct kv_machine *machine, uint64_t n, struct kv_answer *answer) KV_MUST_CHECK;
/* KV_TOO_LARGE: the versions that the command has made, and `more` bytes, are over what one may
 * make. */
int kv_machine_check_written(const struct kv_machine *machine,
                             uint64_t more,
                             struct kv_answer *answer) KV_MUST_CHECK;
void kv_machine_reset_scratch(struct kv_machine *machine);
void kv_answer_init(struct kv_answer *answer);
/* Code, message and hint. */
void kv_answer_finish(struct kv_answer *answer, int status);
/* Memory for the reply, until the next command. */
void *kv_reply_alloc(struct kv_machine *machine, size_t size);
/* An array for the reply with room for one more than n: itself, or a larger copy. */
void *kv_reply_grow(
    struct kv_machine *machine, void *array, size_t n, size_t *capacity, size_t item_size);
/* What a reply may hold; a little less than the frame. */
uint64_t kv_reply_room(const struct kv_machine *machine);
/* KV_TOO_LARGE: the reply does not fit. */
int kv_reply_too_large(const struct kv_machine *machine,
                       struct kv_answer *answer,
                       const char *advice) KV_MUST_CHECK;
/* --- usage.c --- */
/* Of keys, values and elements with their overhead. */
uint64_t kv_machine_live_bytes(const struct kv_machine *machine);
/* What counts against the data limit: live data, sessions with their answers, history. */
uint64_t kv_machine_used_bytes(const struct kv_machine *machine);
/* What history may take. */
uint64_t kv_machine_history_room(const struct kv_machine *machine);
/* KV_NO_SPACE: a command has made the live data larger than before, and than the data limit. */
int kv_machine_check_space(const struct kv_machine *machine,
                           uint64_t live_before,
                           struct kv_answer *answer) KV_MUST_CHECK;
/* KV_NO_SPACE: what is there and so many bytes of something else are more than the data limit. */
int kv_machine_check_room(const struct kv_machine *machine,
                          uint64_t bytes,
                          struct kv_answer *answer) KV_MUST_CHECK;
/* --- expire.c --- */
/* Ends what is due, a bounded number of pieces, in the order of (deadline, key), once an entry. */
void kv_machine_expire(struct kv_machine *machine, size_t max_pieces);
/* --- savepoint.c --- */
void kv_machine_save(const struct kv_machine *machine, struct kv_savepoint *ret_savepoint);
/* Takes back all changes since; no entry ended and nothing was reclaimed in between. */
void kv_machine_restore(struct kv_machine *machine, const struct kv_savepoint *savepoint);
/* --- reclaim.c --- */
void kv_dropped_deinit(struct kv_dropped *dropped);
/* Fills metadata, and the value unless keys_only. */
void kv_key_value_fill(Kv__KeyValue *kv, const struct kv_record *record, bool keys_only);

/* Space of a KeyRange. */
struct kv_bounds {
    struct kv_slice start; /* inclusive */
    struct kv_slice end;   /* exclusive */
    bool has_end;
    uint8_t end_memory[KV_KEY_BYTES_MAX + 2]; /* a successor of the longest start */
};
void kv_bounds_of(const Kv__KeyRange *range, struct kv_bounds *ret_bounds);

/* Scratch arrays with room for n. */
void kv_machine_reserve_kvs(struct kv_machine *machine, size_t n);
void kv_machine_reserve_records(struct kv_machine *machine, size_t n);

/* --- settings.c --- */
void kv_settings_init(struct kv_machine_settings *settings);
/* Validates name and value. */
int kv_settings_check(const char *name, uint64_t value, struct kv_error *ret_error) KV_MUST_CHECK;
int kv_settings_check_name(const char *name, struct kv_error *ret_error) KV_MUST_CHECK;
/* Name and value of the i-th; false: there are not so many. */
bool kv_settings_at(const struct kv_machine_settings *settings,
                    size_t i,
                    const char **ret_name,
                    uint64_t *ret_value);
/* As kv_settings_check(), and sets it. */
int kv_settings_put(struct kv_machine_settings *settings,
                    const char *name,
                    uint64_t value,
                    struct kv_error *ret_error) KV_MUST_CHECK;

#endif
