#include "server/node/watch_index.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* No end is behind all ends. */
static int compare_ends(const struct kv_event_query *a, const struct kv_event_query *b)
{
    if (!a->has_end || !b->has_end) {
        return compare_numbers(!a->has_end, !b->has_end);
    }
    return kv_slice_compare(a->end, b->end);
}

static uint64_t filters(const struct kv_event_query *query)
{
    return (uint64_t)query->kinds << 32 | (uint64_t)query->types << 8 |
           (uint64_t)query->with_previous << 1 | (uint64_t)query->keys_only;
}

/* Any order by start. */
static int compare(const struct kv_event_query *a, const struct kv_event_query *b)
{
    int order = kv_slice_compare(a->start, b->start);

    order = order ? order : compare_ends(a, b);
    return order ? order : compare_numbers(filters(a), filters(b));
}

static bool is_behind_end(const struct kv_event_query *query, struct kv_slice key)
{
    return query->has_end && kv_slice_compare(key, query->end) >= 0;
}

void kv_watch_index_deinit(struct kv_watch_index *index)
{
    free(index->buckets);
    *index = (struct kv_watch_index){0};
}

/* ---------------------------------------------------------------- single keys */

static struct kv_watch_group **bucket(const struct kv_watch_index *index, struct kv_slice key)
{
    return &index->buckets[XXH3_64bits(key.data, key.size) & (index->n_buckets - 1)];
}

/* Without memory the chains only grow longer. */
static void grow_table(struct kv_watch_index *index)
{
    struct kv_watch_index larger = {.n_buckets = index->n_buckets ? 2 * index->n_buckets : 16};

    larger.buckets = calloc(larger.n_buckets, sizeof(struct kv_watch_group *));
    if (!larger.buckets) {
        return;
    }
    for (size_t i = 0; i < index->n_buckets; i++) {
        for (struct kv_watch_group *group = index->buckets[i], *next; group; group = next) {
            struct kv_watch_group **place = bucket(&larger, group->query.start);

            next = group->at.chain;
            group->at.chain = *place;
            *place = group;
        }
    }
    free(index->buckets);
    index->buckets = larger.buckets;
    index->n_buckets = larger.n_buckets;
}

static void remove_key(struct kv_watch_index *index, struct kv_watch_group *group)
{
    struct kv_watch_group **link = bucket(index, group->query.start);

    while (*link != group) {
        link = &(*link)->at.chain;
    }
    *link = group->at.chain;
    index->n_keys--;
}

/* ---------------------------------------------------------------- ranges */

static void update_max(struct kv_watch_group *group)
{
    const struct kv_watch_group *children[] = {group->at.tree.left, group->at.tree.right};

    group->at.tree.max = group;
    for (size_t i = 0; i < 2; i++) {
        if (children[i] &&
            compare_ends(&children[i]->at.tree.max->query, &group->at.tree.max->query) > 0) {
            group->at.tree.max = children[i]->at.tree.max;
        }
    }
}

static struct kv_watch_group **link_to(struct kv_watch_index *index, struct kv_watch_group *group)
{
    struct kv_watch_group *parent = group->at.tree.parent;

    if (!parent) {
        return &index->root;
    }
    return parent->at.tree.left == group ? &parent->at.tree.left : &parent->at.tree.right;
}

/* Exchanges a node and its parent. */
static void rotate_up(struct kv_watch_index *index, struct kv_watch_group *group)
{
    struct kv_watch_group *parent = group->at.tree.parent;
    struct kv_watch_group **link = link_to(index, parent);
    struct kv_watch_group *moved;

    if (parent->at.tree.left == group) {
        moved = group->at.tree.right;
        parent->at.tree.left = moved;
        group->at.tree.right = parent;
    } else {
        moved = group->at.tree.left;
        parent->at.tree.right = moved;
        group->at.tree.left = parent;
    }
    if (moved) {
        moved->at.tree.parent = parent;
    }
    group->at.tree.parent = parent->at.tree.parent;
    parent->at.tree.parent = group;
    *link = group;
    update_max(parent);
    update_max(group);
}

static void update_up(struct kv_watch_group *group)
{
    for (; group; group = group->at.tree.parent) {
        update_max(group);
    }
}

static void insert_range(struct kv_watch_index *index, struct kv_watch_group *group)
{
    struct kv_watch_group **link = &index->root;
    struct kv_watch_group *parent = NULL;

    while (*link) {
        parent = *link;
        link = compare(&group->query, &parent->query) < 0 ? &parent->at.tree.left
                                                          : &parent->at.tree.right;
    }
    *link = group;
    group->at.tree.parent = parent;
    index->random = XXH3_64bits(&index->random, sizeof index->random) + 1;
    group->at.tree.priority = index->random;
    update_up(group);
    while (group->at.tree.parent &&
           group->at.tree.parent->at.tree.priority < group->at.tree.priority) {
        rotate_up(index, group);
    }
    index->n_ranges++;
}

static void remove_range(struct kv_watch_index *index, struct kv_watch_group *group)
{
    struct kv_watch_group *parent;

    while (group->at.tree.left || group->at.tree.right) {
        struct kv_watch_group *left = group->at.tree.left;
        struct kv_watch_group *right = group->at.tree.right;
        const bool is_left = !right || (left && left->at.tree.priority > right->at.tree.priority);

        rotate_up(index, is_left ? left : right);
    }
    parent = group->at.tree.parent;
    *link_to(index, group) = NULL;
    update_up(parent);
    index->n_ranges--;
}

/* Where the walk of match_ranges() comes from. */
enum from { FROM_ABOVE, FROM_LEFT, FROM_RIGHT };

static enum from climb(const struct kv_watch_group **group)
{
    const struct kv_watch_group *child = *group;

    *group = child->at.tree.parent;
    return *group && (*group)->at.tree.left == child ? FROM_LEFT : FROM_RIGHT;
}

/* In order, without subtrees that end before the key or begin behind it. */
static void match_ranges(const struct kv_watch_index *index,
                         struct kv_slice key,
                         void (*fn)(void *arg, struct kv_watch_group *group),
                         void *arg)
{
    const struct kv_watch_group *group = index->root;
    enum from from = FROM_ABOVE;

    while (group) {
        const struct kv_watch_group *next = NULL;

        if (from == FROM_ABOVE && !is_behind_end(&group->at.tree.max->query, key)) {
            next = group->at.tree.left;
            from = FROM_LEFT;
        } else if (from == FROM_ABOVE) {
            from = FROM_RIGHT;
        }
        if (!next && from == FROM_LEFT) {
            from = FROM_RIGHT;
            if (kv_slice_compare(group->query.start, key) <= 0) {
                if (!is_behind_end(&group->query, key)) {
                    fn(arg, (struct kv_watch_group *)(uintptr_t)group);
                }
                next = group->at.tree.right;
            }
        }
        if (next) {
            group = next;
            from = FROM_ABOVE;
        } else {
            from = climb(&group);
        }
    }
}

/* ---------------------------------------------------------------- both */

struct kv_watch_group *kv_watch_index_find(const struct kv_watch_index *index,
                                           const struct kv_event_query *query)
{
    struct kv_watch_group *group = query->is_key ? NULL : index->root;

    if (query->is_key && index->n_buckets > 0) {
        group = *bucket(index, query->start);
        while (group && compare(&group->query, query) != 0) {
            group = group->at.chain;
        }
        return group;
    }
    while (group) {
        const int order = compare(query, &group->query);

        if (order == 0) {
            return group;
        }
        group = order < 0 ? group->at.tree.left : group->at.tree.right;
    }
    return NULL;
}

static size_t range_bytes(const struct kv_event_query *query)
{
    return query->start.size + (query->has_end ? query->end.size : 0);
}

struct kv_watch_group *kv_watch_index_add(struct kv_watch_index *index,
                                          const struct kv_event_query *query)
{
    const size_t end_size = query->has_end ? query->end.size : 0;
    struct kv_watch_group *group = calloc(1, sizeof *group + range_bytes(query));

    if (query->is_key && index->n_keys >= index->n_buckets) {
        grow_table(index);
    }
    if (!group || (query->is_key && index->n_buckets == 0)) {
        free(group);
        return NULL;
    }
    group->query = *query;
    group->query.start.data = group->memory;
    group->query.end.data = group->memory + query->start.size;
    if (query->start.size > 0) {
        memcpy(group->memory, query->start.data, query->start.size);
    }
    if (end_size > 0) {
        memcpy(group->memory + query->start.size, query->end.data, end_size);
    }
    if (query->is_key) {
        struct kv_watch_group **place = bucket(index, query->start);

        group->at.chain = *place;
        *place = group;
        index->n_keys++;
    } else {
        insert_range(index, group);
    }
    index->bytes += range_bytes(query);
    return group;
}

void kv_watch_index_remove(struct kv_watch_index *index, struct kv_watch_group *group)
{
    index->bytes -= range_bytes(&group->query);
    if (group->query.is_key) {
        remove_key(index, group);
    } else {
        remove_range(index, group);
    }
    free(group);
}

void kv_watch_index_match(const struct kv_watch_index *index,
                          struct kv_slice key,
                          void (*fn)(void *arg, struct kv_watch_group *group),
                          void *arg)
{
    if (index->n_keys > 0) {
        for (struct kv_watch_group *group = *bucket(index, key); group; group = group->at.chain) {
            if (kv_slice_equal(group->query.start, key)) {
                fn(arg, group);
            }
        }
    }
    match_ranges(index, key, fn, arg);
}

static size_t check_range(const struct kv_watch_group *group)
{
    const struct kv_watch_group *left = group->at.tree.left;
    const struct kv_watch_group *right = group->at.tree.right;
    const struct kv_watch_group *max = group->at.tree.max;

    KV_ASSERT(!left ||
              (left->at.tree.parent == group && left->at.tree.priority <= group->at.tree.priority &&
               compare(&left->query, &group->query) < 0));
    KV_ASSERT(!right || (right->at.tree.parent == group &&
                         right->at.tree.priority <= group->at.tree.priority &&
                         compare(&group->query, &right->query) < 0));
    KV_ASSERT(compare_ends(&max->query, &group->query) >= 0);
    KV_ASSERT(!left || compare_ends(&max->query, &left->at.tree.max->query) >= 0);
    KV_ASSERT(!right || compare_ends(&max->query, &right->at.tree.max->query) >= 0);
    /* Of equal ends it may be any. */
    KV_ASSERT(compare_ends(&max->query, &group->query) == 0 ||
              (left && compare_ends(&max->query, &left->at.tree.max->query) == 0) ||
              (right && compare_ends(&max->query, &right->at.tree.max->query) == 0));
    return 1;
}

void kv_watch_index_check_invariants(const struct kv_watch_index *index)
{
    const struct kv_watch_group *group = index->root;
    enum from from = FROM_ABOVE;
    size_t n = 0;

    while (group) {
        const struct kv_watch_group *next = NULL;

        if (from == FROM_ABOVE) {
            n += check_range(group);
            next = group->at.tree.left;
            from = FROM_LEFT;
        }
        if (!next && from == FROM_LEFT) {
            next = group->at.tree.right;
            from = FROM_RIGHT;
        }
        if (next) {
            group = next;
            from = FROM_ABOVE;
        } else {
            from = climb(&group);
        }
    }
    KV_ASSERT(n == index->n_ranges);
}
