/* What the files of the commands share: the table of commands, checks of requests, handlers. */
#ifndef KV_MACHINE_COMMAND_H
#define KV_MACHINE_COMMAND_H

#include "server/machine/machine_internal.h"

typedef int (*kv_validate_fn)(const Kv__Request *request,
                              const struct kv_machine_settings *settings,
                              struct kv_error *ret_error);
typedef int (*kv_run_fn)(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);

/* One row per command of kv.proto that exists. */
struct kv_command {
    Kv__Request__CommandCase command;
    enum kv_command_class cls;
    bool grows;              /* may make the store larger: refused first when room is short */
    bool in_txn;             /* may be an operation of a transaction */
    kv_validate_fn validate; /* 0 or a negative status with ret_error; may be NULL */
    /* 0 or a negative status with answer->error. What a write that fails has changed by then is
     * taken back by the caller. */
    kv_run_fn run;
};
/* NULL: not there. */
const struct kv_command *kv_command_find(const Kv__Request *request);
/* The row's class, but for commands that only read unless they are to store what they find, and
 * transactions, which are what their operations are. */
enum kv_command_class kv_command_class_of(const struct kv_command *command,
                                          const Kv__Request *request);

/* --- command_check.c: what can be told of a request without the state --- */
int kv_check_key(ProtobufCBinaryData key, struct kv_error *ret_error) KV_MUST_CHECK;
int kv_check_value(ProtobufCBinaryData value,
                   const struct kv_machine_settings *settings,
                   struct kv_error *ret_error) KV_MUST_CHECK;
int kv_check_range(const Kv__KeyRange *range, struct kv_error *ret_error) KV_MUST_CHECK;
int kv_check_bound(ProtobufCBinaryData bound,
                   const char *what,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* At least one, each 1..4096 bytes, none twice when `distinct`; `what` is "field" or "member". */
int kv_check_names(const ProtobufCBinaryData *names,
                   size_t n,
                   const char *what,
                   bool distinct,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* first..last, both included, negative ones from the end, as [*ret_from, *ret_to) of size. */
void kv_clamp_range(
    uint64_t size, int64_t first, int64_t last, uint64_t *ret_from, uint64_t *ret_to);
/* What a set or sorted set is made of. */
struct kv_sources {
    Kv__Combination combination;
    const ProtobufCBinaryData *keys;
    size_t n_keys;
    ProtobufCBinaryData store; /* empty: nowhere */
};
int kv_check_sources(const struct kv_sources *sources, struct kv_error *ret_error) KV_MUST_CHECK;

/* --- command_expiry.c --- */
/* What can be told of a ttl, or lease, that is asked for: KV_INVALID. */
int kv_check_ttl_given(uint64_t ttl_ms, struct kv_error *ret_error) KV_MUST_CHECK;
int kv_check_lease_id(int64_t lease_id, struct kv_error *ret_error) KV_MUST_CHECK;
/* KV_OUT_OF_BOUNDS: beyond the setting; 0 (none) is not. */
int kv_check_ttl(const struct kv_machine *machine,
                 uint64_t ttl_ms,
                 struct kv_answer *answer) KV_MUST_CHECK;
/* When something of this ttl ends; of 0: 0, never. */
int64_t kv_ttl_end_ms(const struct kv_machine *machine, uint64_t ttl_ms);
/* Until then; 1 at least. */
int64_t kv_remaining_ms(const struct kv_machine *machine, int64_t end_ms);

/* --- command_lease.c --- */
/* KV_NOT_FOUND: no such lease, or it has ended. */
int kv_lease_find_live(const struct kv_machine *machine,
                       int64_t lease_id,
                       struct kv_lease **ret_lease,
                       struct kv_error *ret_error) KV_MUST_CHECK;

/* --- validation and handlers, by type --- */
#define KV_DECLARE_COMMAND(name)                                       \
    int kv_validate_##name(const Kv__Request *request,                 \
                           const struct kv_machine_settings *settings, \
                           struct kv_error *ret_error);                \
    int kv_run_##name(                                                 \
        struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)

/* command_string.c */
KV_DECLARE_COMMAND(put);
KV_DECLARE_COMMAND(get);
KV_DECLARE_COMMAND(append);
KV_DECLARE_COMMAND(getset);
KV_DECLARE_COMMAND(getdel);
KV_DECLARE_COMMAND(strlen);
KV_DECLARE_COMMAND(get_range);
KV_DECLARE_COMMAND(set_range);
/* command_generic.c */
KV_DECLARE_COMMAND(delete);
KV_DECLARE_COMMAND(exists);
KV_DECLARE_COMMAND(count);
/* command_rename.c */
KV_DECLARE_COMMAND(type);
KV_DECLARE_COMMAND(rename);
KV_DECLARE_COMMAND(copy);
KV_DECLARE_COMMAND(touch);
/* command_expiry.c */
KV_DECLARE_COMMAND(expire);
KV_DECLARE_COMMAND(persist);
KV_DECLARE_COMMAND(ttl);
/* command_lease.c */
KV_DECLARE_COMMAND(lease_grant);
KV_DECLARE_COMMAND(lease_revoke);
KV_DECLARE_COMMAND(lease_keep_alive);
KV_DECLARE_COMMAND(lease_info);
KV_DECLARE_COMMAND(lease_list);
/* command_range.c */
KV_DECLARE_COMMAND(range);
/* command_counter.c */
KV_DECLARE_COMMAND(counter_add);
KV_DECLARE_COMMAND(counter_get);
KV_DECLARE_COMMAND(counter_set);
/* command_hash.c */
KV_DECLARE_COMMAND(hash_set);
KV_DECLARE_COMMAND(hash_get);
KV_DECLARE_COMMAND(hash_get_all);
KV_DECLARE_COMMAND(hash_delete);
KV_DECLARE_COMMAND(hash_exists);
KV_DECLARE_COMMAND(hash_len);
KV_DECLARE_COMMAND(hash_add);
KV_DECLARE_COMMAND(hash_scan);
/* command_list.c */
KV_DECLARE_COMMAND(list_push);
KV_DECLARE_COMMAND(list_pop);
KV_DECLARE_COMMAND(list_range);
KV_DECLARE_COMMAND(list_index);
KV_DECLARE_COMMAND(list_set);
KV_DECLARE_COMMAND(list_len);
KV_DECLARE_COMMAND(list_insert);
KV_DECLARE_COMMAND(list_remove);
KV_DECLARE_COMMAND(list_trim);
KV_DECLARE_COMMAND(list_move);
/* command_set.c, command_set_combine.c */
KV_DECLARE_COMMAND(set_add);
KV_DECLARE_COMMAND(set_remove);
KV_DECLARE_COMMAND(set_has);
KV_DECLARE_COMMAND(set_members);
KV_DECLARE_COMMAND(set_len);
KV_DECLARE_COMMAND(set_pop);
KV_DECLARE_COMMAND(set_random);
KV_DECLARE_COMMAND(set_combine);
/* command_zset.c, command_zset_range.c, command_zset_combine.c */
KV_DECLARE_COMMAND(zset_add);
KV_DECLARE_COMMAND(zset_remove);
KV_DECLARE_COMMAND(zset_score);
KV_DECLARE_COMMAND(zset_rank);
KV_DECLARE_COMMAND(zset_range);
KV_DECLARE_COMMAND(zset_count);
KV_DECLARE_COMMAND(zset_pop);
KV_DECLARE_COMMAND(zset_remove_range);
KV_DECLARE_COMMAND(zset_combine);
/* command_limiter.c */
KV_DECLARE_COMMAND(limiter_acquire);
/* Bytes that no machine made are refused. */
bool kv_limiter_is_sound(struct kv_slice value);
/* command_history.c */
KV_DECLARE_COMMAND(compact);
KV_DECLARE_COMMAND(key_history);
/* command_topic.c */
KV_DECLARE_COMMAND(publish);
KV_DECLARE_COMMAND(topic_list);
int kv_validate_subscribe(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error);
/* command_watch.c */
int kv_validate_watch(const Kv__Request *request,
                      const struct kv_machine_settings *settings,
                      struct kv_error *ret_error);
/* Of a watch or a subscription. */
int kv_check_progress(uint64_t progress_ms, struct kv_error *ret_error) KV_MUST_CHECK;
/* command_topic.c */
KV_DECLARE_COMMAND(publish);
KV_DECLARE_COMMAND(topic_list);
int kv_validate_subscribe(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error);
/* command_txn.c */
KV_DECLARE_COMMAND(txn);
/* Has either branch, at any depth, such a command? */
bool kv_txn_writes(const Kv__Txn *txn);
bool kv_txn_grows(const Kv__Txn *txn);
/* compare.c */
int kv_check_compare(const Kv__Compare *compare, struct kv_error *ret_error) KV_MUST_CHECK;
/* Of the state as it is now. KV_TOO_LARGE: the work limit. */
int kv_compare(struct kv_machine *machine,
               const Kv__Compare *compare,
               struct kv_answer *answer,
               bool *ret_holds) KV_MUST_CHECK;
/* settings.c */
KV_DECLARE_COMMAND(config_list);
KV_DECLARE_COMMAND(config_get);
KV_DECLARE_COMMAND(config_set);
/* command_session.c */
int kv_run_session_open(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer);
int kv_run_session_renew(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);
int kv_run_session_close(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);

/* The answer's result is this one. */
#define KV_ANSWER(answer, RESULT, field, member)               \
    ((answer)->reply.result_case = KV__REPLY__RESULT_##RESULT, \
     (answer)->reply.field = &(answer)->result.member)

/* --- machine.c --- */
/* Runs a command and gives its reply, whatever becomes of it. */
void kv_machine_answer(struct kv_machine *machine,
                       const Kv__Request *request,
                       enum kv_command_class cls,
                       kv_machine_reply_fn fn,
                       void *arg);

/* --- command_session.c --- */
int kv_run_session_open(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer);
int kv_run_session_renew(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);
int kv_run_session_close(struct kv_machine *machine,
                         const Kv__Request *request,
                         struct kv_answer *answer);
/* What can be told of a stamp without the state. */
int kv_stamp_validate(const Kv__Request *request,
                      enum kv_command_class cls,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* A write with a stamp: runs it, or gives the answer of the time when it was run. False: it waits.
 */
bool kv_execute_stamped(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg);
/* Keeps the answer of a sequence that is not done yet and not acknowledged. */
void kv_session_keep(struct kv_machine *machine,
                     struct kv_sessions_one *one,
                     uint64_t sequence,
                     uint64_t command_hash,
                     Kv__Reply *reply);
int kv_run_session_cancel(struct kv_machine *machine,
                          const Kv__Request *request,
                          struct kv_answer *answer);
/* KV_INVALID, KV_SESSION_EXPIRED. */
int kv_session_find_live(struct kv_machine *machine,
                         uint64_t id,
                         struct kv_sessions_one **ret_one,
                         struct kv_error *ret_error) KV_MUST_CHECK;

/* --- command_wait.c --- */
/* A pop that has to wait, of a sequence that is not done: 1: it waits, as a try before or from now
 * on; 0: it is to be run; else KV_INVALID, KV_BUSY. */
int kv_wait_start(struct kv_machine *machine,
                  const Kv__Request *request,
                  uint64_t command_hash,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* Gives elements to those that wait for keys which have become lists: a bounded number. */
void kv_wait_serve(struct kv_machine *machine);
/* Ends those whose deadline is reached, a bounded number. */
void kv_wait_expire(struct kv_machine *machine);
/* Ends those of the session up to the sequence that it has acknowledged: nobody wants them. */
void kv_wait_acknowledged(struct kv_machine *machine, const struct kv_sessions_one *one);
/* arg: the machine. */
void kv_wait_session_ended(void *arg, uint64_t session_id);

#endif
