#include "server/node/topic_group.h"

#include "common/limits.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BUCKETS_MIN = 64 };

void kv_topic_groups_init(struct kv_topic_groups *groups)
{
    *groups = (struct kv_topic_groups){0};
    kv_buf_init(&groups->scratch, KV_TOPIC_ITEM_BYTES_MAX);
}

void kv_topic_groups_deinit(struct kv_topic_groups *groups)
{
    free(groups->buckets);
    kv_buf_deinit(&groups->scratch);
}

int kv_topic_keep(struct kv_topic_groups *groups,
                  struct kv_topic_subscription *sub,
                  struct kv_slice topic)
{
    sub->topic = malloc(topic.size + 1);
    if (!sub->topic) {
        return KV_NO_MEMORY;
    }
    memcpy(sub->topic, topic.data, topic.size);
    sub->topic_size = topic.size;
    groups->bytes += topic.size;
    return 0;
}

void kv_topic_forget(struct kv_topic_groups *groups, struct kv_topic_subscription *sub)
{
    groups->bytes -= sub->topic_size;
    free(sub->topic);
    sub->topic = NULL;
    sub->topic_size = 0;
}

static uint64_t hash_of(struct kv_slice topic, bool is_pattern)
{
    return XXH3_64bits_withSeed(topic.data, topic.size, is_pattern);
}

static struct kv_topic_group **bucket_of(const struct kv_topic_groups *groups, uint64_t hash)
{
    return &groups->buckets[hash & (groups->n_buckets - 1)];
}

struct kv_topic_group *
kv_topic_group_find(const struct kv_topic_groups *groups, struct kv_slice topic, bool is_pattern)
{
    const uint64_t hash = hash_of(topic, is_pattern);
    struct kv_topic_group *group = groups->n_buckets ? *bucket_of(groups, hash) : NULL;

    while (group && (group->hash != hash || (group->glob != NULL) != is_pattern ||
                     !kv_slice_equal(kv_slice_of(group->topic, group->topic_size), topic))) {
        group = group->next;
    }
    return group;
}

static int grow(struct kv_topic_groups *groups)
{
    const size_t n_buckets = groups->n_buckets ? 2 * groups->n_buckets : BUCKETS_MIN;
    struct kv_topic_groups grown = {.n_buckets = n_buckets};

    if (groups->n < groups->n_buckets) {
        return 0;
    }
    grown.buckets = calloc(n_buckets, sizeof(struct kv_topic_group *));
    if (!grown.buckets) {
        return KV_NO_MEMORY;
    }
    for (size_t i = 0; i < groups->n_buckets; i++) {
        struct kv_topic_group *group = groups->buckets[i];

        while (group) {
            struct kv_topic_group *next = group->next;

            group->next = *bucket_of(&grown, group->hash);
            *bucket_of(&grown, group->hash) = group;
            group = next;
        }
    }
    free(groups->buckets);
    groups->buckets = grown.buckets;
    groups->n_buckets = n_buckets;
    return 0;
}

static void free_group(struct kv_topic_group *group)
{
    kv_buf_deinit(&group->pending);
    free(group->glob);
    free(group);
}

static int make_group(const struct kv_topic_subscription *sub,
                      struct kv_topic_group **ret_group,
                      struct kv_error *ret_error)
{
    const struct kv_slice topic = kv_slice_of(sub->topic, sub->topic_size);
    struct kv_topic_group *group =
        calloc(1, offsetof(struct kv_topic_group, topic) + sub->topic_size);
    int status = 0;

    if (!group) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a subscription");
    }
    kv_buf_init(&group->pending, KV_TOPIC_ITEM_BYTES_MAX);
    group->hash = hash_of(topic, sub->is_pattern);
    group->topic_size = sub->topic_size;
    memcpy(group->topic, sub->topic, sub->topic_size);
    if (sub->is_pattern) {
        group->glob = malloc(sizeof *group->glob);
        status = group->glob ? kv_glob_compile(topic, group->glob, ret_error)
                             : kv_error_set(ret_error, KV_BUSY, "no memory for a pattern");
    }
    if (status != 0) {
        free_group(group);
        return status;
    }
    *ret_group = group;
    return 0;
}

static int add_group(struct kv_topic_groups *groups,
                     const struct kv_topic_subscription *sub,
                     struct kv_topic_group **ret_group,
                     struct kv_error *ret_error)
{
    struct kv_topic_group *group = NULL;
    int status;

    if (sub->is_pattern && groups->n_patterns >= KV_NODE_PATTERNS_MAX) {
        return kv_error_set(ret_error,
                            KV_BUSY,
                            "this node has %u different patterns of topics (limit %u): use another",
                            KV_NODE_PATTERNS_MAX,
                            KV_NODE_PATTERNS_MAX);
    }
    if (grow(groups) != 0) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a subscription");
    }
    status = make_group(sub, &group, ret_error);
    if (status != 0) {
        return status;
    }
    group->next = *bucket_of(groups, group->hash);
    *bucket_of(groups, group->hash) = group;
    groups->n++;
    groups->bytes += group->topic_size;
    if (group->glob) {
        group->next_pattern = groups->patterns;
        groups->patterns = group;
        groups->n_patterns++;
    }
    *ret_group = group;
    return 0;
}

int kv_topic_group_join(struct kv_topic_groups *groups,
                        struct kv_topic_subscription *sub,
                        struct kv_error *ret_error)
{
    struct kv_topic_group *group =
        kv_topic_group_find(groups, kv_slice_of(sub->topic, sub->topic_size), sub->is_pattern);
    int status = group ? 0 : add_group(groups, sub, &group, ret_error);

    if (status == 0) {
        kv_topic_forget(groups, sub);
        sub->group = group;
        group->n_subscriptions++;
        groups->n_subscriptions++;
    }
    return status;
}

static void remove_group(struct kv_topic_groups *groups, struct kv_topic_group *group)
{
    struct kv_topic_group **link = bucket_of(groups, group->hash);

    while (*link != group) {
        link = &(*link)->next;
    }
    *link = group->next;
    groups->n--;
    groups->bytes -= group->topic_size;
    if (group->glob) {
        for (link = &groups->patterns; *link != group; link = &(*link)->next_pattern) {
        }
        *link = group->next_pattern;
        groups->n_patterns--;
    }
    if (group->is_dirty) {
        for (link = &groups->dirty; *link != group; link = &(*link)->next_dirty) {
        }
        *link = group->next_dirty;
    }
    free_group(group);
}

void kv_topic_group_leave(struct kv_topic_groups *groups, struct kv_topic_subscription *sub)
{
    struct kv_topic_group *group = sub->group;

    if (!group) {
        return;
    }
    sub->group = NULL;
    groups->n_subscriptions--;
    if (--group->n_subscriptions == 0) {
        remove_group(groups, group);
    }
}
