/* Sorted sets: members with a score each, in the order of (score, member bytes). A score is a
 * double; infinite ones are allowed, NaN is KV_INVALID, -0 equals 0. Ranks count from 0; a negative
 * one from the end (-1: the last). Conventions (status, threads, memory, retries): kv/client.h.
 * Every call: KV_WRONG_TYPE when the key holds something else. A sorted set without members does
 * not exist. */
#ifndef KV_ZSET_H
#define KV_ZSET_H

#include <kv/client.h>
#include <kv/set.h> /* enum kv_combination */

#ifdef __cplusplus
extern "C" {
#endif

struct kv_scored {
    struct kv_bytes member;
    double score;
    bool present; /* results of kv_zset_score: false when there is no such member */
};
struct kv_scored_list {
    size_t n_members;
    struct kv_scored *members;
    bool more;        /* there is more than one reply holds: ask again with an offset */
    int64_t revision; /* of the store when this was answered */
    void *memory;     /* libkv's own */
};
void kv_scored_list_free(struct kv_scored_list *list);

struct kv_zset_add_options {
    bool if_absent;  /* only new members */
    bool if_present; /* only members that are there */
    bool if_greater; /* only where the score grows, and new members */
    bool if_less;    /* only where it falls, and new members */
    bool increment;  /* one member: add to its score (0 when absent) */
    struct kv_call_options call;
};
struct kv_zset_add_result {
    uint64_t added;
    uint64_t changed; /* the new ones too */
    double score;     /* with increment: afterwards */
};
/* Sets scores, all at one revision. options and ret_result may be NULL. KV_INVALID: NaN (of inf +
 * -inf too), a member named twice, options that exclude each other; increment with several. */
int kv_zset_add(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_scored *members,
                size_t n_members,
                const struct kv_zset_add_options *options,
                struct kv_zset_add_result *ret_result,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* *ret_removed (may be NULL): how many were there. */
int kv_zset_remove(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *members,
                   size_t n_members,
                   const struct kv_call_options *options,
                   uint64_t *ret_removed,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Scores in the order asked; the members are those that were passed in, and borrowed from there. */
int kv_zset_score(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_bytes *members,
                  size_t n_members,
                  const struct kv_get_options *options,
                  struct kv_scored_list *ret_scores,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* Place of a member, from 0: of the least score, or with descending of the greatest. ret_score may
 * be NULL. KV_NOT_FOUND: no such member. */
int kv_zset_rank(struct kv_client *client,
                 struct kv_bytes key,
                 struct kv_bytes member,
                 bool descending,
                 const struct kv_get_options *options,
                 uint64_t *ret_rank,
                 double *ret_score,
                 struct kv_error *ret_error) KV_MUST_CHECK;

enum kv_span_kind {
    KV_SPAN_ALL = 0,
    KV_SPAN_RANKS,   /* first..last, both included */
    KV_SPAN_SCORES,  /* min..max */
    KV_SPAN_MEMBERS, /* by their bytes: for sorted sets whose scores are all the same */
};
/* A part of a sorted set. */
struct kv_span {
    enum kv_span_kind kind;
    int64_t first;
    int64_t last;
    double min; /* -INFINITY and INFINITY: no bound */
    double max;
    bool min_exclusive;
    bool max_exclusive;
    struct kv_range_spec members;
};
struct kv_zset_range_options {
    bool descending; /* ranks and order from the greatest */
    uint64_t offset; /* left out at the beginning */
    uint64_t limit;  /* 0: none */
    int64_t at_revision;
    struct kv_call_options call;
};
/* KV_INVALID: min over max and the like. KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_zset_range(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_span *span,
                  const struct kv_zset_range_options *options,
                  struct kv_scored_list *ret_members,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* How many are in the span. */
int kv_zset_count(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_span *span,
                  const struct kv_get_options *options,
                  uint64_t *ret_count,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* Takes up to count members (0: one) with the least, or the greatest, scores. */
int kv_zset_pop(struct kv_client *client,
                struct kv_bytes key,
                bool greatest,
                uint64_t count,
                const struct kv_call_options *options,
                struct kv_scored_list *ret_members,
                struct kv_error *ret_error) KV_MUST_CHECK;

/* *ret_removed (may be NULL): how many went. */
int kv_zset_remove_range(struct kv_client *client,
                         struct kv_bytes key,
                         const struct kv_span *span,
                         const struct kv_call_options *options,
                         uint64_t *ret_removed,
                         struct kv_error *ret_error) KV_MUST_CHECK;

enum kv_aggregate {
    KV_AGGREGATE_SUM = 0,
    KV_AGGREGATE_MIN = 1,
    KV_AGGREGATE_MAX = 2,
};
struct kv_zset_combination {
    enum kv_combination combination;
    const struct kv_bytes *keys;
    size_t n_keys;
    const double *weights; /* n_keys long; scores are multiplied by them; NULL: 1 each */
    enum kv_aggregate aggregate;
};
/* Combines sorted sets; absent ones are empty. KV_TOO_LARGE: over the work limit, or one reply. */
int kv_zset_combine(struct kv_client *client,
                    const struct kv_zset_combination *combination,
                    const struct kv_call_options *options,
                    struct kv_scored_list *ret_members,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* The same, and the result replaces what `store` holds, whatever that is; an empty result deletes
 * it. *ret_stored (may be NULL): how many members it has. */
int kv_zset_combine_store(struct kv_client *client,
                          const struct kv_zset_combination *combination,
                          struct kv_bytes store,
                          const struct kv_call_options *options,
                          uint64_t *ret_stored,
                          struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
