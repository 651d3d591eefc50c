/* Which watches want a key: those with the same range and filters are one group, and groups are
 * found by the key. Of single keys in a hash table, of ranges in a treap by start whose nodes know
 * the greatest end below them (an interval tree; Cormen et al., Introduction to Algorithms, 14.3).
 * A key that nobody wants costs a look into each. */
#ifndef KV_NODE_WATCH_INDEX_H
#define KV_NODE_WATCH_INDEX_H

#include "server/machine/events.h"

struct kv_watch;
struct kv_watch_pending;

struct kv_watch_group {
    struct kv_event_query query; /* its bytes are in `memory` */
    size_t n_watches;
    struct kv_watch *live;
    struct kv_watch_pending *pending; /* events that the live ones are to be told; NULL: none */
    union {
        struct kv_watch_group *chain; /* of one key: the next of the same bucket */
        struct {
            struct kv_watch_group *left, *right, *parent;
            const struct kv_watch_group *max; /* the one with the greatest end of this subtree */
            uint64_t priority;
        } tree;
    } at;
    uint8_t memory[];
};

/* Zero-initialise. */
struct kv_watch_index {
    struct kv_watch_group **buckets; /* a power of two, or none */
    size_t n_buckets;
    size_t n_keys;
    struct kv_watch_group *root;
    size_t n_ranges;
    uint64_t bytes; /* of all groups' starts and ends */
    uint64_t random;
};

void kv_watch_index_deinit(struct kv_watch_index *index); /* groups are not freed */
/* The group of exactly this query, or NULL. */
struct kv_watch_group *kv_watch_index_find(const struct kv_watch_index *index,
                                           const struct kv_event_query *query);
/* A new one, in the index; NULL: no memory. */
struct kv_watch_group *kv_watch_index_add(struct kv_watch_index *index,
                                          const struct kv_event_query *query);
/* Frees it. */
void kv_watch_index_remove(struct kv_watch_index *index, struct kv_watch_group *group);
/* Gives every group whose range holds the key; fn changes nothing of the index. */
void kv_watch_index_match(const struct kv_watch_index *index,
                          struct kv_slice key,
                          void (*fn)(void *arg, struct kv_watch_group *group),
                          void *arg);
/* Asserts the order, priorities and greatest ends; for tests. */
void kv_watch_index_check_invariants(const struct kv_watch_index *index);

#endif
