/* Subscriptions: streams that go on until somebody ends them (watches; topics). What is common to
 * them: how they begin, wait, fall behind and catch up, how they end. What they tell is the matter
 * of their kind.
 *
 * Life of one, by the state of its op:
 *
 *   READ, ASKED, INDEXED   waits for a read index, if it begins now
 *   BEHIND                 is given pieces of the past, one a turn, round robin
 *   NO_CREDIT, NO_ROOM     is behind, and nothing can be given: the client's credit is used up, or
 *                          its connection takes no more
 *   FUTURE                 its first revision is not reached
 *   LIVE                   has been told all up to the node's revision; its kind gives it what
 *                          comes
 *
 * Everything runs on the core's thread. See docs/internals.md, W1 and following. */
#ifndef KV_NODE_SUBSCRIPTION_H
#define KV_NODE_SUBSCRIPTION_H

#include "common/shared.h"
#include "server/node/node.h"

struct kv_subscription;

struct kv_subscription_kind {
    Kv__StreamItem__ItemCase item_case;
    uint8_t revision_field; /* of the item's message */
    bool needs_history;     /* it ends with COMPACTED when its next revision is not kept any more */
    /* It begins: sets next_revision. 0, or a negative status with an error. */
    int (*begin)(struct kv_node *node, struct kv_subscription *sub, struct kv_error *ret_error);
    /* Gives at most one item of what lies between next_revision and the node's revision. 1: there
     * may be more; 0: there is none, next_revision is behind the node's. */
    int (*catch_up)(struct kv_node *node, struct kv_subscription *sub);
    /* It is live from the revision behind the node's on; it is so no longer. */
    void (*join)(struct kv_node *node, struct kv_subscription *sub);
    void (*leave)(struct kv_node *node, struct kv_subscription *sub);
    /* Frees it; it is not live. */
    void (*free)(struct kv_node *node, struct kv_subscription *sub);
};

/* The heaps that it may be in, each by a number: */
enum kv_subscription_heap {
    KV_HEAP_TIMER,  /* when it is next looked at, ms: its deadline, or progress is due */
    KV_HEAP_LEADER, /* how long it goes without a leader, ms */
    KV_HEAP_FUTURE, /* its first revision, while it waits for that */
    KV_HEAP_LOST,   /* its next revision, while nothing can be given and it needs history */
    KV_HEAPS,
};
#define KV_HEAP_NOWHERE UINT32_MAX

/* The first member of what a kind makes of it. */
struct kv_subscription {
    const struct kv_subscription_kind *kind;
    struct kv_op *op;
    int64_t next_revision; /* first that is not told; of a live one: as of its last item or later */
    uint64_t told_ms;      /* when its last item was given */
    uint64_t deadline_ms;  /* UINT64_MAX: none */
    uint32_t progress_ms;
    uint32_t heap_at[KV_HEAPS];
    struct kv_subscription *next_waiting, *prev_waiting; /* of the listener's, for room */
    bool begun;
    bool first_told; /* the item that says where it begins */
    bool begins_now; /* so until that item is given, it may begin later as well */
};

struct kv_heap_entry {
    uint64_t key;
    struct kv_subscription *sub;
};
struct kv_subscription_heaps {
    struct kv_heap_entry *entries[KV_HEAPS];
    size_t n[KV_HEAPS];
    size_t capacity; /* of each */
};
/* Room for n in each; KV_NO_MEMORY. Nothing that is put in afterwards fails. */
int kv_heaps_reserve(struct kv_subscription_heaps *heaps, size_t n) KV_MUST_CHECK;
void kv_heaps_deinit(struct kv_subscription_heaps *heaps);
void kv_heaps_put(struct kv_subscription_heaps *heaps,
                  enum kv_subscription_heap heap,
                  struct kv_subscription *sub,
                  uint64_t key);
/* Nothing when it is not in. */
void kv_heaps_remove(struct kv_subscription_heaps *heaps,
                     enum kv_subscription_heap heap,
                     struct kv_subscription *sub);
/* The one with the least key; NULL: empty. */
const struct kv_heap_entry *kv_heaps_first(const struct kv_subscription_heaps *heaps,
                                           enum kv_subscription_heap heap);

/* Of the node. */
struct kv_subscriptions {
    struct kv_subscription_heaps heaps;
    size_t n;
    size_t n_begun;
    uint64_t leaderless_ms; /* since when; 0: there is a leader */
    uint64_t items;         /* given, ever */
    uint64_t lost;          /* ended by compaction, ever */
    uint64_t live_bytes;    /* packed for live ones in this turn */
    uint64_t crowded;       /* times that a turn had too much for live ones, ever */
};

/* What a kind is asked for at the beginning. Fills what is common. */
void kv_subscription_init(struct kv_subscription *sub,
                          const struct kv_subscription_kind *kind,
                          struct kv_op *op,
                          uint64_t progress_ms);

/* --- for the node --- */
/* A new op of class SUBSCRIBE. */
void kv_subscription_submit(struct kv_node *node, struct kv_op *op);
/* The read index that it waited for is applied. */
void kv_subscription_begin(struct kv_node *node, struct kv_op *op);
void kv_subscription_credit(struct kv_node *node, struct kv_op *op);
/* Its op ends. */
void kv_subscription_free(struct kv_node *node, struct kv_op *op);
/* Once a turn, behind all that was applied: gives what is due. */
void kv_subscriptions_turn(struct kv_node *node);
/* What they keep of their requests: ranges, topics and patterns, each once. */
uint64_t kv_subscriptions_bytes(const struct kv_node *node);
/* When the next turn is due for them, ms. */
uint64_t kv_subscriptions_wake_ms(const struct kv_node *node);
/* Before another state takes the place of the present one: what is live was told all of that, and
 * goes on as one that is behind. */
void kv_subscriptions_restart(struct kv_node *node);

/* --- for the kinds --- */
/* An item as packed, without its id: `fields` are those of its message but the revision. Without
 * memory the node ends: NULL. */
struct kv_shared *kv_subscription_item(struct kv_node *node,
                                       const struct kv_subscription_kind *kind,
                                       int64_t revision,
                                       bool more_fragments,
                                       struct kv_slice fields);
/* Credit and room for an item. When not, a live one has to fall behind. */
bool kv_subscription_may_send(struct kv_node *node, struct kv_subscription *sub);
/* next_revision is what comes behind the item. */
void kv_subscription_send(struct kv_node *node,
                          struct kv_subscription *sub,
                          struct kv_shared *item,
                          int64_t next_revision);
/* A live one becomes one that is behind; next_revision is the first that it was not told. */
void kv_subscription_fall_behind(struct kv_node *node,
                                 struct kv_subscription *sub,
                                 int64_t next_revision);

#endif
