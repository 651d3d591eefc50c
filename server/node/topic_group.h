/* Groups of subscriptions that ask for the same (topic.h). */
#ifndef KV_NODE_TOPIC_GROUP_H
#define KV_NODE_TOPIC_GROUP_H

#include "server/machine/glob.h"
#include "server/node/topic.h"

struct kv_topic_subscription {
    struct kv_subscription common; /* first */
    struct kv_topic_group *group;  /* NULL: it has not begun */
    struct kv_topic_subscription *next_live, *prev_live;
    /* Of its next revision, when a part of that was told: the next message's. */
    uint64_t number;
    bool in_fragment; /* an item said that more of its revision follows */
    bool is_searching;
    bool is_pattern;
    struct kv_topic_search search; /* for the place where the last messages begin */
    /* What was told of losses, and how far they were looked for. */
    struct kv_topic_position gap_told;
    struct kv_topic_losses losses;
    uint64_t n_installs;
    uint64_t last;
    int64_t start_revision;
    /* Until it begins; then its group has it. */
    size_t topic_size;
    uint8_t *topic;
};

struct kv_topic_group {
    struct kv_topic_group *next;         /* of its bucket */
    struct kv_topic_group *next_pattern; /* of all patterns, NULL of a topic */
    struct kv_topic_group *next_dirty;
    bool is_dirty;
    struct kv_glob *glob; /* NULL: one topic */
    size_t n_subscriptions;
    struct kv_topic_subscription *live;
    /* Messages as packed that the live ones are to get. */
    struct kv_buf pending;
    size_t n_pending;
    struct kv_topic_position pending_first;
    int64_t pending_revision; /* of the last one */
    uint64_t hash;
    size_t topic_size;
    uint8_t topic[];
};

/* NULL: there is none. */
struct kv_topic_group *
kv_topic_group_find(const struct kv_topic_groups *groups, struct kv_slice topic, bool is_pattern);
/* A copy of the topic that it waits with; KV_NO_MEMORY. */
int kv_topic_keep(struct kv_topic_groups *groups,
                  struct kv_topic_subscription *sub,
                  struct kv_slice topic) KV_MUST_CHECK;
void kv_topic_forget(struct kv_topic_groups *groups, struct kv_topic_subscription *sub);
/* That of the subscription's topic, or a new one; the subscription keeps its topic no longer.
 * KV_BUSY: too many patterns, no memory. */
int kv_topic_group_join(struct kv_topic_groups *groups,
                        struct kv_topic_subscription *sub,
                        struct kv_error *ret_error) KV_MUST_CHECK;
/* With its last subscription the group goes. */
void kv_topic_group_leave(struct kv_topic_groups *groups, struct kv_topic_subscription *sub);

static inline struct kv_topic_query kv_topic_group_query(const struct kv_topic_group *group)
{
    return (struct kv_topic_query){kv_slice_of(group->topic, group->topic_size), group->glob};
}

#endif
