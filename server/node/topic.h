/* Subscriptions of topics: what of a subscription's life (subscription.h) is theirs.
 *
 * Those of the same topic, or of the same pattern, are a group: what comes is packed once for all
 * of them that are live, the messages of a turn together. A group is found by its topic's name;
 * groups of patterns are tried one by one. Core thread. See docs/internals.md, T5 and following. */
#ifndef KV_NODE_TOPIC_H
#define KV_NODE_TOPIC_H

#include "server/node/subscription.h"

struct kv_topic_group;

/* Of the node. Zero-initialise. */
struct kv_topic_groups {
    struct kv_topic_group **buckets; /* by kind and name */
    size_t n_buckets;                /* a power of two, or 0 */
    size_t n;
    struct kv_topic_group *patterns;
    size_t n_patterns;
    struct kv_topic_group *dirty; /* they have something to give */
    struct kv_buf scratch;        /* of a piece of the past */
    size_t n_subscriptions;
    uint64_t bytes;      /* of the groups' topics, and of those that have not begun */
    uint64_t match_work; /* of patterns, in this turn */
    uint64_t n_installs; /* states that took the place of another */
    uint64_t messages;   /* told, once for each subscription of the live ones and of pieces */
    uint64_t gaps;       /* told of */
};
void kv_topic_groups_init(struct kv_topic_groups *groups);
/* All subscriptions have ended. */
void kv_topic_groups_deinit(struct kv_topic_groups *groups);

/* Of a Subscribe, whose bytes are copied; NULL: no memory. */
struct kv_subscription *kv_topic_new(struct kv_node *node, struct kv_op *op);
/* The machine's function for what is published; arg: the node. */
void kv_topic_published(void *arg, const struct kv_topic_message *message, bool last);
/* Behind all that was applied, and before another state takes this one's place. */
void kv_topic_flush(struct kv_node *node);
/* Another state has taken its place. */
void kv_topic_restarted(struct kv_node *node);
/* How many listen on this node, for a list that the machine has made. It becomes shorter where long
 * names meet many patterns. */
void kv_topic_fill_list(struct kv_node *node, Kv__TopicListResult *list);

#endif
