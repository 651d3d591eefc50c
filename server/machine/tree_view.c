/* Looking: find, count, rank, cursors, pins' checks. Nothing here changes a tree. */
#include "common/assert.h"
#include "server/machine/tree_internal.h"

struct kv_record *kv_tree_find(const struct kv_tree *tree, struct kv_slice key)
{
    const struct kv_tree_node *node = tree->root;
    bool equal;
    unsigned at;

    while (!kv_tree_is_leaf(node)) {
        node = kv_tree_step_down(node, kv_tree_child_position(node, key));
    }
    at = kv_tree_leaf_position(node, key, &equal);
    return equal ? node->records[at] : NULL;
}

void kv_tree_prefetch(const struct kv_tree *tree, struct kv_slice key)
{
    const struct kv_tree_node *node = tree->root;

    while (node->height > 1) {
        node = node->nodes[kv_tree_child_position(node, key)];
    }
    if (node->height == 1) {
        (void)kv_tree_step_down(node, kv_tree_child_position(node, key));
    }
}

uint64_t kv_tree_count(const struct kv_tree *tree)
{
    return kv_tree_live_count(tree->root);
}

static uint64_t rank(const struct kv_tree *tree, struct kv_slice key, bool is_there)
{
    const struct kv_tree_node *node = tree->root;
    uint64_t before = 0;
    bool equal;
    unsigned at;

    while (!kv_tree_is_leaf(node)) {
        at = kv_tree_child_position(node, key);
        for (unsigned i = 0; i < at; i++) {
            before += node->live[i];
        }
        node = kv_tree_step_down(node, at);
    }
    at = is_there ? kv_tree_leaf_position_of(node, key) : kv_tree_leaf_position(node, key, &equal);
    return before + at - kv_tree_dead_before(node, at);
}

uint64_t kv_tree_rank(const struct kv_tree *tree, struct kv_slice key)
{
    return rank(tree, key, false);
}

uint64_t kv_tree_rank_of(const struct kv_tree *tree, struct kv_slice key)
{
    return rank(tree, key, true);
}

struct kv_record *kv_tree_nth(const struct kv_tree *tree, uint64_t n)
{
    const struct kv_tree_node *node = tree->root;
    uint64_t live = 0;

    while (!kv_tree_is_leaf(node)) {
        unsigned i = 0;

        while (n >= node->live[i]) {
            n -= node->live[i];
            i++;
            KV_ASSERT(i < node->n);
        }
        live = node->live[i];
        node = node->nodes[i];
    }
    if (live == node->n && n < live) {
        return node->records[n];
    }
    for (unsigned i = 0;; i++) {
        KV_ASSERT(i < node->n);
        if (!kv_tree_is_dead(node, i) && n-- == 0) {
            return node->records[i];
        }
    }
}

/* ---------------------------------------------------------------- cursors */

static void go_down(struct kv_tree_cursor *cursor, const struct kv_tree_node *node, bool to_last)
{
    for (;;) {
        KV_ASSERT(cursor->depth < KV_TREE_DEPTH_MAX);
        cursor->path[cursor->depth].node = node;
        cursor->path[cursor->depth].at = to_last && node->n > 0 ? node->n - 1 : 0;
        cursor->depth++;
        if (kv_tree_is_leaf(node)) {
            return;
        }
        node = node->nodes[cursor->path[cursor->depth - 1].at];
    }
}

struct kv_record *kv_tree_cursor_get(const struct kv_tree_cursor *cursor)
{
    if (cursor->depth == 0) {
        return NULL;
    }
    return cursor->path[cursor->depth - 1].node->records[cursor->path[cursor->depth - 1].at];
}

/* The present position is beyond its leaf: on to the next leaf, or to the end. */
static void step_up(struct kv_tree_cursor *cursor, bool forward)
{
    while (--cursor->depth > 0) {
        const struct kv_tree_node *node = cursor->path[cursor->depth - 1].node;
        unsigned at = cursor->path[cursor->depth - 1].at;

        if (forward ? at + 1 < node->n : at > 0) {
            at = forward ? at + 1 : at - 1;
            cursor->path[cursor->depth - 1].at = at;
            go_down(cursor, node->nodes[at], !forward);
            return;
        }
    }
}

/* To the nearest subtree beside the present ones that holds a live record. */
static void step_to_live(struct kv_tree_cursor *cursor, bool forward)
{
    while (--cursor->depth > 0) {
        const struct kv_tree_node *node = cursor->path[cursor->depth - 1].node;
        unsigned *at = &cursor->path[cursor->depth - 1].at;

        while (forward ? *at + 1 < node->n : *at > 0) {
            *at = forward ? *at + 1 : *at - 1;
            if (node->live[*at] > 0) {
                go_down(cursor, node->nodes[*at], !forward);
                return;
            }
        }
    }
}

void kv_tree_skip_dead(struct kv_tree_cursor *cursor, bool forward)
{
    while (cursor->depth > 0) {
        const struct kv_tree_node *leaf = cursor->path[cursor->depth - 1].node;
        unsigned *at = &cursor->path[cursor->depth - 1].at;

        while (kv_tree_is_dead(leaf, *at) && (forward ? *at + 1 < leaf->n : *at > 0)) {
            *at = forward ? *at + 1 : *at - 1;
        }
        if (!kv_tree_is_dead(leaf, *at)) {
            return;
        }
        step_to_live(cursor, forward);
    }
}

void kv_tree_next(struct kv_tree_cursor *cursor)
{
    if (cursor->depth > 0 &&
        ++cursor->path[cursor->depth - 1].at >= cursor->path[cursor->depth - 1].node->n) {
        step_up(cursor, true);
    }
}

void kv_tree_previous(struct kv_tree_cursor *cursor)
{
    if (cursor->depth > 0 && cursor->path[cursor->depth - 1].at-- == 0) {
        step_up(cursor, false);
    }
}

void kv_tree_cursor_prefetch(const struct kv_tree_cursor *cursor, unsigned ahead)
{
    const struct kv_tree_node *leaf = cursor->path[cursor->depth - 1].node;
    unsigned at = cursor->path[cursor->depth - 1].at + ahead;

    if (at < leaf->n) {
        __builtin_prefetch(leaf->records[at]);
    }
}

/* To the first record at or behind the key, which may lie one beyond its leaf's end. */
static void
seek_record(const struct kv_tree *tree, struct kv_slice key, struct kv_tree_cursor *cursor)
{
    const struct kv_tree_node *node = tree->root;
    bool equal;

    cursor->depth = 0;
    for (;;) {
        cursor->path[cursor->depth].node = node;
        if (kv_tree_is_leaf(node)) {
            cursor->path[cursor->depth++].at = kv_tree_leaf_position(node, key, &equal);
            return;
        }
        cursor->path[cursor->depth].at = kv_tree_child_position(node, key);
        node = kv_tree_step_down(node, cursor->path[cursor->depth++].at);
    }
}

void kv_tree_seek(const struct kv_tree *tree,
                  struct kv_slice key,
                  struct kv_tree_cursor *ret_cursor)
{
    seek_record(tree, key, ret_cursor);
    if (ret_cursor->path[ret_cursor->depth - 1].at >=
        ret_cursor->path[ret_cursor->depth - 1].node->n) {
        step_up(ret_cursor, true);
    }
}

void kv_tree_seek_before(const struct kv_tree *tree,
                         struct kv_slice key,
                         bool has_key,
                         struct kv_tree_cursor *ret_cursor)
{
    if (has_key) {
        seek_record(tree, key, ret_cursor);
        kv_tree_previous(ret_cursor);
        return;
    }
    ret_cursor->depth = 0;
    if (tree->root->n > 0) {
        go_down(ret_cursor, tree->root, true);
    }
}

/* ---------------------------------------------------------------- checks */

static unsigned check_node(const struct kv_tree_node *node,
                           struct kv_slice low,
                           bool has_low,
                           struct kv_slice high,
                           bool has_high,
                           bool is_root)
{
    unsigned depth = 0;

    KV_ASSERT(is_root || node->n > 0);
    KV_ASSERT(kv_tree_has_common(node));
    if (kv_tree_is_leaf(node)) {
        for (unsigned i = 0; i < node->n; i++) {
            struct kv_slice key = kv_record_key(node->records[i]);

            KV_ASSERT(kv_tree_is_dead(node, i) == node->records[i]->tombstone);
            KV_ASSERT(node->prefixes[i] == kv_tree_prefix(key, node->skip));
            KV_ASSERT(kv_tree_common_length(kv_tree_key_in(node), key, UINT16_MAX) >= node->skip);
            KV_ASSERT(i == 0 || kv_slice_compare(kv_record_key(node->records[i - 1]), key) < 0);
            KV_ASSERT(!has_low || kv_slice_compare(low, key) <= 0);
            KV_ASSERT(!has_high || kv_slice_compare(key, high) < 0);
        }
        return 1;
    }
    for (unsigned i = 0; i < node->n; i++) {
        const struct separator *mine = node->separators[i];
        const struct separator *next = i + 1 < node->n ? node->separators[i + 1] : NULL;
        unsigned below;

        KV_ASSERT((i == 0) == !mine);
        KV_ASSERT(!mine ||
                  node->prefixes[i] == kv_tree_prefix(kv_tree_separator_key(mine), node->skip));
        KV_ASSERT(!mine || kv_tree_common_length(kv_tree_key_in(node),
                                                 kv_tree_separator_key(mine),
                                                 UINT16_MAX) >= node->skip);
        KV_ASSERT(node->live[i] == kv_tree_live_count(node->nodes[i]));
        below = check_node(node->nodes[i],
                           mine ? kv_tree_separator_key(mine) : low,
                           mine || has_low,
                           next ? kv_tree_separator_key(next) : high,
                           next || has_high,
                           false);
        KV_ASSERT(node->nodes[i]->height + 1 == node->height);
        KV_ASSERT(depth == 0 || depth == below);
        depth = below;
    }
    return depth + 1;
}

void kv_tree_check_invariants(const struct kv_tree *tree)
{
    (void)check_node(tree->root, kv_slice_of(NULL, 0), false, kv_slice_of(NULL, 0), false, true);
}
