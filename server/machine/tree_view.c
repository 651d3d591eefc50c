/* Looking: find, count, rank, cursors, pins' checks. Nothing here changes a tree. */
#include "common/assert.h"
#include "server/machine/tree_internal.h"

struct kv_record *kv_tree_find(const struct kv_tree *tree, struct kv_slice key)
{
    const struct kv_tree_node *node = tree->root;
    bool equal;
    unsigned at;

    while (!node->is_leaf) {
        node = node->children[kv_tree_child_position(node, key)].node;
    }
    at = kv_tree_leaf_position(node, key, &equal);
    return equal ? node->slots[at].record : NULL;
}

/* The leaf itself is not touched: how deep it lies tells the first one. */
void kv_tree_prefetch(const struct kv_tree *tree, struct kv_slice key)
{
    const struct kv_tree_node *node = tree->root;
    unsigned levels = 0;

    while (!node->is_leaf) {
        node = node->children[0].node;
        levels++;
    }
    node = tree->root;
    while (levels-- > 0) {
        node = node->children[kv_tree_child_position(node, key)].node;
    }
    for (size_t at = 0; at < sizeof *node; at += 64) {
        __builtin_prefetch((const char *)node + at);
    }
}

uint64_t kv_tree_count(const struct kv_tree *tree)
{
    return kv_tree_live_count(tree->root);
}

/* Where the count of a leaf tells that nothing in it is dead, its records need not be looked at:
 * they are scattered in memory. */
uint64_t kv_tree_rank(const struct kv_tree *tree, struct kv_slice key)
{
    const struct kv_tree_node *node = tree->root;
    uint64_t live = 0; /* in the node; of the root not known */
    uint64_t rank = 0;
    bool equal;
    unsigned at;

    while (!node->is_leaf) {
        at = kv_tree_child_position(node, key);
        for (unsigned i = 0; i < at; i++) {
            rank += node->children[i].live;
        }
        live = node->children[at].live;
        node = node->children[at].node;
    }
    at = kv_tree_leaf_position(node, key, &equal);
    if (live == node->n) {
        return rank + at;
    }
    return rank + at - kv_tree_dead_before(node, at);
}

struct kv_record *kv_tree_nth(const struct kv_tree *tree, uint64_t n)
{
    const struct kv_tree_node *node = tree->root;
    uint64_t live = 0;

    while (!node->is_leaf) {
        unsigned i = 0;

        while (i < node->n && n >= node->children[i].live) {
            n -= node->children[i].live;
            i++;
        }
        if (i == node->n) {
            return NULL;
        }
        live = node->children[i].live;
        node = node->children[i].node;
    }
    if (live == node->n && n < live) {
        return node->slots[n].record;
    }
    for (unsigned i = 0; i < node->n; i++) {
        if (!kv_tree_slot_is_dead(node, i) && n-- == 0) {
            return node->slots[i].record;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- cursors */

static void go_down(struct kv_tree_cursor *cursor, const struct kv_tree_node *node, bool to_last)
{
    for (;;) {
        KV_ASSERT(cursor->depth < KV_TREE_DEPTH_MAX);
        cursor->path[cursor->depth].node = node;
        cursor->path[cursor->depth].at = to_last && node->n > 0 ? node->n - 1 : 0;
        cursor->depth++;
        if (node->is_leaf) {
            return;
        }
        node = node->children[cursor->path[cursor->depth - 1].at].node;
    }
}

struct kv_record *kv_tree_cursor_get(const struct kv_tree_cursor *cursor)
{
    if (cursor->depth == 0) {
        return NULL;
    }
    return cursor->path[cursor->depth - 1].node->slots[cursor->path[cursor->depth - 1].at].record;
}

/* The present position is no slot of its leaf: on to the next leaf, or to the end. */
static void step_up(struct kv_tree_cursor *cursor, bool forward)
{
    while (--cursor->depth > 0) {
        const struct kv_tree_node *node = cursor->path[cursor->depth - 1].node;
        unsigned at = cursor->path[cursor->depth - 1].at;

        if (forward ? at + 1 < node->n : at > 0) {
            at = forward ? at + 1 : at - 1;
            cursor->path[cursor->depth - 1].at = at;
            go_down(cursor, node->children[at].node, !forward);
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
            if (node->children[*at].live > 0) {
                go_down(cursor, node->children[*at].node, !forward);
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

        while (kv_tree_slot_is_dead(leaf, *at) && (forward ? *at + 1 < leaf->n : *at > 0)) {
            *at = forward ? *at + 1 : *at - 1;
        }
        if (!kv_tree_slot_is_dead(leaf, *at)) {
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
        __builtin_prefetch(leaf->slots[at].record);
    }
}

/* To the first slot at or behind the key, which may lie one beyond its leaf's end. */
static void
seek_slot(const struct kv_tree *tree, struct kv_slice key, struct kv_tree_cursor *cursor)
{
    const struct kv_tree_node *node = tree->root;
    bool equal;

    cursor->depth = 0;
    for (;;) {
        cursor->path[cursor->depth].node = node;
        if (node->is_leaf) {
            cursor->path[cursor->depth++].at = kv_tree_leaf_position(node, key, &equal);
            return;
        }
        cursor->path[cursor->depth].at = kv_tree_child_position(node, key);
        node = node->children[cursor->path[cursor->depth++].at].node;
    }
}

void kv_tree_seek(const struct kv_tree *tree,
                  struct kv_slice key,
                  struct kv_tree_cursor *ret_cursor)
{
    seek_slot(tree, key, ret_cursor);
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
        seek_slot(tree, key, ret_cursor);
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
    if (node->is_leaf) {
        for (unsigned i = 0; i < node->n; i++) {
            struct kv_slice key = kv_record_key(node->slots[i].record);

            KV_ASSERT(kv_tree_slot_is_dead(node, i) == node->slots[i].record->tombstone);
            KV_ASSERT(node->slots[i].prefix == kv_tree_prefix(key, node->skip));
            KV_ASSERT(kv_tree_common_length(kv_tree_key_in(node), key, UINT16_MAX) >= node->skip);
            KV_ASSERT(i == 0 ||
                      kv_slice_compare(kv_record_key(node->slots[i - 1].record), key) < 0);
            KV_ASSERT(!has_low || kv_slice_compare(low, key) <= 0);
            KV_ASSERT(!has_high || kv_slice_compare(key, high) < 0);
        }
        return 1;
    }
    for (unsigned i = 0; i < node->n; i++) {
        const struct separator *mine = node->children[i].separator;
        const struct separator *next = i + 1 < node->n ? node->children[i + 1].separator : NULL;
        unsigned below;

        KV_ASSERT((i == 0) == !mine);
        KV_ASSERT(!mine || node->children[i].prefix ==
                               kv_tree_prefix(kv_tree_separator_key(mine), node->skip));
        KV_ASSERT(!mine || kv_tree_common_length(kv_tree_key_in(node),
                                                 kv_tree_separator_key(mine),
                                                 UINT16_MAX) >= node->skip);
        KV_ASSERT(node->children[i].live == kv_tree_live_count(node->children[i].node));
        below = check_node(node->children[i].node,
                           mine ? kv_tree_separator_key(mine) : low,
                           mine || has_low,
                           next ? kv_tree_separator_key(next) : high,
                           next || has_high,
                           false);
        KV_ASSERT(depth == 0 || depth == below);
        depth = below;
    }
    return depth + 1;
}

void kv_tree_check_invariants(const struct kv_tree *tree)
{
    (void)check_node(tree->root, kv_slice_of(NULL, 0), false, kv_slice_of(NULL, 0), false, true);
}
