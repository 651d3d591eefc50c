/* What the files of the machine share. */
#ifndef KV_MACHINE_MACHINE_INTERNAL_H
#define KV_MACHINE_MACHINE_INTERNAL_H

#include "common/limits.h"
#include "server/machine/history.h"
#include "server/machine/machine.h"
#include "server/machine/sessions.h"
#include "server/machine/tree.h"

#include <xxhash.h>

struct kv_machine {
    struct kv_tree tree;
    struct kv_history history;
    struct kv_sessions sessions;
    struct kv_machine_settings settings;
    int64_t revision;
    int64_t cluster_time_ms;
    uint64_t applied_index;
    uint64_t data_bytes; /* keys and values, live */
    uint64_t state_hash;
    bool changed; /* by the command being executed */
    bool entry_changed;
    size_t reclaim_per_entry;   /* tests lower it */
    XXH3_state_t *command_hash; /* scratch */
    /* Scratch for replies of several keys. */
    Kv__KeyValue *kvs;
    Kv__KeyValue **kv_pointers;
    size_t kvs_capacity;
    struct kv_record **records;
    size_t records_capacity;
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
        Kv__ConfigListResult config_list;
        Kv__ConfigGetResult config_get;
        Kv__ConfigSetResult config_set;
        Kv__SessionOpenResult session_open;
    } result;
    Kv__KeyValue kv;
    Kv__ConfigEntry entries[16];
    Kv__ConfigEntry *entry_pointers[16];
};

/* One row per command of kv.proto that exists. */
struct kv_command {
    enum kv_command_class cls;
    /* 0 or a negative status with ret_error; may be NULL. */
    int (*validate)(const Kv__Request *request,
                    const struct kv_machine_settings *settings,
                    struct kv_error *ret_error);
    /* 0 or a negative status with answer->error; a write that fails must have changed nothing. */
    int (*run)(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
};
/* NULL: not there. */
const struct kv_command *kv_command_find(const Kv__Request *request);

/* --- machine.c --- */
/* Runs a command and gives its reply, whatever becomes of it. */
void kv_machine_answer(struct kv_machine *machine,
                       const Kv__Request *request,
                       enum kv_command_class cls,
                       kv_machine_reply_fn fn,
                       void *arg);

/* --- command_session.c --- */
/* What can be told of a stamp without the state. */
int kv_stamp_validate(const Kv__Request *request,
                      enum kv_command_class cls,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* A write with a stamp: runs it, or gives the answer of the time when it was run. */
void kv_execute_stamped(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg);

/* --- keyspace.c: records by key and revision, and changes --- */
static inline struct kv_slice kv_slice_of_proto(ProtobufCBinaryData data)
{
    return (struct kv_slice){data.data, data.len};
}
/* Live now, or NULL. */
struct kv_record *kv_keyspace_get(const struct kv_machine *machine, struct kv_slice key);
/* Live at the revision (0: now), or NULL. */
const struct kv_record *
kv_keyspace_get_at(const struct kv_machine *machine, struct kv_slice key, int64_t revision);
/* Looks at no `older` of a record with mod_revision <= revision (M11). */
const struct kv_record *kv_record_at(const struct kv_record *newest, int64_t revision);
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
/* A new version of the key with room for the value, which the caller fills before
 * kv_keyspace_commit. */
struct kv_record *kv_keyspace_begin(struct kv_machine *machine,
                                    struct kv_slice key,
                                    enum kv_type type,
                                    size_t value_size);
void kv_keyspace_commit(struct kv_machine *machine, struct kv_record *record);
void kv_keyspace_delete(struct kv_machine *machine, struct kv_slice key);
/* Fills metadata, and the value unless keys_only. */
void kv_key_value_fill(Kv__KeyValue *kv, const struct kv_record *record, bool keys_only);

/* Space of a KeyRange. */
struct kv_bounds {
    struct kv_slice start; /* inclusive */
    struct kv_slice end;   /* exclusive */
    bool has_end;
    uint8_t end_memory[KV_KEY_BYTES_MAX + 1];
};
void kv_bounds_of(const Kv__KeyRange *range, struct kv_bounds *ret_bounds);

/* Scratch arrays with room for n. */
void kv_machine_reserve_kvs(struct kv_machine *machine, size_t n);
void kv_machine_reserve_records(struct kv_machine *machine, size_t n);

/* --- handlers --- */
int kv_run_put(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_get(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_append(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_getset(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_getdel(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_strlen(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_get_range(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer);
int kv_run_set_range(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer);
int kv_run_delete(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_exists(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_count(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_range(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer);
int kv_run_config_list(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer);
int kv_run_config_get(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer);
int kv_run_config_set(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer);
int kv_run_session_open(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer);
int kv_run_session_renew(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);
int kv_run_session_close(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);

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
