/* Sorted sets: members with scores. Inline by (score, member); a large one's members are elements,
 * and the index of scores is kept in step with them (zset_index.h).
 *
 * A score is never NaN, and never -0: who puts one sees to the first. */
#ifndef KV_MACHINE_ZSET_H
#define KV_MACHINE_ZSET_H

#include "server/machine/collection.h"

struct kv_zset_member {
    struct kv_slice member;
    double score;
};

/* False: the member is not there. */
bool kv_zset_find(struct kv_collection *zset, struct kv_slice member, double *ret_score);
/* True: the member is new. Its bytes lie outside of the set. */
bool kv_zset_put(struct kv_collection *zset, struct kv_slice member, double score);
/* True: it was there. */
bool kv_zset_remove(struct kv_collection *zset, struct kv_slice member);

/* All members at the set's revision, in no order to rely on; borrowed from records that stay until
 * the end of the entry. A large set's are counted as work. */
int kv_zset_collect(struct kv_collection *zset,
                    struct kv_answer *answer,
                    struct kv_zset_member **ret_members) KV_MUST_CHECK;
/* Sorts by (score, member), or by member. */
void kv_zset_sort(struct kv_zset_member *members, uint64_t n, bool by_member);

/* The members in one of the two orders, at positions from 0 to n: of a large set of now the trees
 * themselves, else an array. Valid until something is changed. */
struct kv_zset_view {
    struct kv_collection *zset;
    bool by_member;
    uint64_t n;
    const struct kv_zset_member *members; /* NULL: the tree of this order */
    const struct kv_tree *tree;
    uint64_t n_before; /* live records of the tree that lie before the set's */
};
int kv_zset_view_open(struct kv_collection *zset,
                      bool by_member,
                      struct kv_answer *answer,
                      struct kv_zset_view *ret_view) KV_MUST_CHECK;
/* How many come before the first at or behind (order of the score, member); by member, the order is
 * not looked at. */
uint64_t kv_zset_view_rank(const struct kv_zset_view *view, uint64_t order, struct kv_slice member);
/* The same of a member that is there, with its score. */
uint64_t
kv_zset_view_rank_of(const struct kv_zset_view *view, uint64_t order, struct kv_slice member);

struct kv_zset_cursor {
    const struct kv_zset_view *view;
    uint64_t at; /* of the array */
    bool descending;
    struct kv_tree_cursor tree;
};
/* To a position below n. */
void kv_zset_seek(const struct kv_zset_view *view,
                  uint64_t position,
                  bool descending,
                  struct kv_zset_cursor *ret_cursor);
/* Gives the one it stands at, and goes on; not beyond either end. The member's bytes are as safe as
 * those of kv_zset_collect(). */
void kv_zset_next(struct kv_zset_cursor *cursor, struct kv_zset_member *ret_member);

#endif
