/* Transactions: compares, and what to do when all of them are true, and when not. All of it at one
 * revision, or nothing; operations see what earlier ones of the same transaction wrote. At most
 * 4096 operations, nested four deep, 16 MiB. Conventions (status, threads, memory, retries):
 * kv/client.h.
 *
 *     struct kv_txn *txn;
 *     struct kv_txn_result result;
 *
 *     status = kv_txn_begin(client, &txn, &error);
 *     ...
 *     kv_txn_compare(txn, &(struct kv_compare){.key = from, .what = KV_COMPARE_COUNTER,
 *                                              .comparison = KV_GREATER_EQUAL, .number = 100});
 *     kv_txn_counter_add(txn, from, -100);
 *     kv_txn_counter_add(txn, to, 100);
 *     kv_txn_otherwise(txn);
 *     kv_txn_counter_get(txn, from);
 *     status = kv_txn_commit(txn, NULL, &result, &error);
 *     ...
 *     kv_txn_result_free(&result);
 *
 * The calls between begin and commit send nothing and copy what they are given. They do not fail:
 * what is wrong with one of them is what kv_txn_commit returns, and then nothing was sent. */
#ifndef KV_TXN_H
#define KV_TXN_H

#include <kv/client.h>
#include <kv/hash.h>
#include <kv/list.h>
#include <kv/zset.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_txn;

/* One thread at a time. KV_NO_MEMORY. */
int kv_txn_begin(struct kv_client *client,
                 struct kv_txn **ret_txn,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Forgets it. Takes NULL. */
void kv_txn_abort(struct kv_txn *txn);

enum kv_comparison {
    KV_EQUAL = 0,
    KV_NOT_EQUAL = 1,
    KV_LESS = 2,
    KV_LESS_EQUAL = 3,
    KV_GREATER = 4,
    KV_GREATER_EQUAL = 5,
};
/* What of the key is compared, and with which part of struct kv_compare. Of an absent key versions,
 * revisions and lease are 0, the type is KV_TYPE_NONE; compares of value, counter, field, member
 * and score are false. */
enum kv_compare_what {
    KV_COMPARE_EXISTS = 0,      /* KV_EQUAL: it exists; KV_NOT_EQUAL: it does not */
    KV_COMPARE_VALUE,           /* value */
    KV_COMPARE_VERSION,         /* number */
    KV_COMPARE_CREATE_REVISION, /* number */
    KV_COMPARE_MOD_REVISION,    /* number */
    KV_COMPARE_LEASE,           /* number */
    KV_COMPARE_TYPE,            /* number: an enum kv_type */
    KV_COMPARE_COUNTER,         /* number */
    KV_COMPARE_FIELD,           /* of a hash: name, value */
    KV_COMPARE_MEMBER,          /* of a set: name; KV_EQUAL: has it; KV_NOT_EQUAL: has it not */
    KV_COMPARE_SCORE,           /* of a sorted set: name, score */
};
struct kv_compare {
    struct kv_bytes key;
    const struct kv_range_spec
        *range; /* instead of key: true when it is of every key of the range */
    enum kv_compare_what what;
    enum kv_comparison comparison; /* is it (equal to, less than, ...) what follows? */
    struct kv_bytes name;          /* of a field or member */
    struct kv_bytes value;
    int64_t number;
    double score;
};
void kv_txn_compare(struct kv_txn *txn, const struct kv_compare *compare);

/* The operations that follow are for when all compares are true (this is how it begins; without
 * compares they always run) ... */
void kv_txn_then(struct kv_txn *txn);
/* ... or for when one is false. */
void kv_txn_otherwise(struct kv_txn *txn);

/* ---------------------------------------------------------------- operations */

/* Any request of kv.proto (kv/kv.pb-c.h) that has to do with keys, another transaction included; of
 * it only the command counts. */
void kv_txn_add(struct kv_txn *txn, const struct Kv__Request *operation);
/* The frequent ones; their results are in the replies (kv/kv.pb-c.h). */
void kv_txn_put(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value);
/* With a condition or an expiry (kv_put_options; its `call` does not count); a condition that is
 * not met fails the transaction. */
void kv_txn_put_with(struct kv_txn *txn,
                     struct kv_bytes key,
                     struct kv_bytes value,
                     const struct kv_put_options *options);
/* A message to a topic (kv/topic.h). */
void kv_txn_publish(struct kv_txn *txn, struct kv_bytes topic, struct kv_bytes payload);
void kv_txn_get(struct kv_txn *txn, struct kv_bytes key);
void kv_txn_delete(struct kv_txn *txn, struct kv_bytes key);
/* As kv_expire: KV_NOT_FOUND when there is no such key fails the transaction. */
void kv_txn_expire(struct kv_txn *txn, struct kv_bytes key, uint64_t ttl_ms);
void kv_txn_counter_add(struct kv_txn *txn, struct kv_bytes key, int64_t delta);
void kv_txn_counter_get(struct kv_txn *txn, struct kv_bytes key);
void kv_txn_hash_set(struct kv_txn *txn,
                     struct kv_bytes key,
                     const struct kv_field *fields,
                     size_t n_fields);
/* Adds to a field that holds a number, 0 when absent. */
void kv_txn_hash_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes name, int64_t delta);
void kv_txn_hash_delete(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes name);
void kv_txn_hash_get_all(struct kv_txn *txn, struct kv_bytes key);
void kv_txn_list_push(struct kv_txn *txn,
                      struct kv_bytes key,
                      enum kv_list_end end,
                      struct kv_bytes element);
void kv_txn_list_pop(struct kv_txn *txn, struct kv_bytes key, enum kv_list_end end);
/* Removes the elements that equal `element`. */
void kv_txn_list_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes element);
void kv_txn_set_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member);
void kv_txn_set_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member);
void kv_txn_zset_add(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member, double score);
void kv_txn_zset_remove(struct kv_txn *txn, struct kv_bytes key, struct kv_bytes member);

/* ---------------------------------------------------------------- commit */

struct kv_txn_result {
    bool succeeded;   /* all compares were true: `then` ran, else `otherwise` */
    int64_t revision; /* that it made, or, when it wrote nothing, at which it read */
    size_t n_replies; /* one per operation that ran, in their order */
    struct Kv__Reply *const *replies;
    unsigned failed_operation; /* when the commit fails with what one of them says: its index */
    void *memory;              /* libkv's own */
};
/* Sends it and ends it, whatever comes of it. options may be NULL. When an operation fails (wrong
 * type, overflow, not found, ...) nothing is applied, its code is the status, and of *ret_result
 * only failed_operation is set. KV_INVALID, KV_TOO_LARGE, KV_NO_MEMORY: a call before was wrong,
 * nothing was sent. */
int kv_txn_commit(struct kv_txn *txn,
                  const struct kv_call_options *options,
                  struct kv_txn_result *ret_result,
                  struct kv_error *ret_error) KV_MUST_CHECK;
void kv_txn_result_free(struct kv_txn_result *result);

#ifdef __cplusplus
}
#endif

#endif
