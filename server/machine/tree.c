/* Invariants, checked by kv_tree_check_invariants:
 * M1 keys of a leaf ascend; all keys under a child lie between the separators at its sides.
 * M2 a node's live count is the sum of its children's, a leaf's the number of its records that are
 * no tombstones. M3 all leaves are at the same depth. M4 no node is empty but the root of an empty
 * tree. M5 the first `skip` bytes of a node's keys are the same; a prefix is the 8 bytes behind.
 */
#include "server/machine/tree.h"

#include "common/assert.h"
#include "server/machine/tree_internal.h"

#include <stdlib.h>
#include <string.h>

/* The way from the root to a leaf. */
struct path {
    struct {
        struct kv_tree_node *node;
        unsigned at;
    } steps[KV_TREE_DEPTH_MAX];
    unsigned depth;
};

/* ---------------------------------------------------------------- nodes and their memory */

static struct kv_tree_node *new_node(struct kv_tree *tree, unsigned height)
{
    struct kv_tree_node *node = kv_machine_alloc(height == 0 ? LEAF_BYTES : sizeof *node);

    node->born = tree->epoch;
    node->n = 0;
    node->skip = 0;
    node->dead = 0;
    node->height = (uint8_t)height;
    tree->n_nodes++;
    return node;
}

static struct separator *new_separator(struct kv_slice key)
{
    struct separator *separator = kv_machine_alloc(sizeof *separator + key.size);

    separator->references = 1;
    separator->size = (uint32_t)key.size;
    memcpy(separator->bytes, key.data, key.size);
    return separator;
}

static void release_separator(struct separator *separator)
{
    if (separator && --separator->references == 0) {
        free(separator);
    }
}

void kv_tree_free_node(struct kv_tree *tree, struct kv_tree_node *node)
{
    if (!kv_tree_is_leaf(node)) {
        for (unsigned i = 0; i < node->n; i++) {
            release_separator(node->separators[i]);
        }
    }
    free(node);
    tree->n_nodes--;
}

/* Copies n records or children with their prefixes; the separators are then of both. */
static void copy_entries(struct kv_tree_node *to,
                         unsigned to_at,
                         const struct kv_tree_node *from,
                         unsigned from_at,
                         unsigned n)
{
    memmove(to->prefixes + to_at, from->prefixes + from_at, n * sizeof to->prefixes[0]);
    if (kv_tree_is_leaf(to)) {
        memmove(to->records + to_at, from->records + from_at, n * sizeof to->records[0]);
        return;
    }
    memmove(to->nodes + to_at, from->nodes + from_at, n * sizeof to->nodes[0]);
    memmove(to->separators + to_at, from->separators + from_at, n * sizeof to->separators[0]);
    memmove(to->live + to_at, from->live + from_at, n * sizeof to->live[0]);
}

/* The node itself, or a copy that may be changed. */
static struct kv_tree_node *own(struct kv_tree *tree, struct kv_tree_node *node)
{
    struct kv_tree_node *copy;

    if (node->born > tree->newest_pin) {
        return node;
    }
    copy = new_node(tree, node->height);
    copy->n = node->n;
    copy->skip = node->skip;
    copy->dead = node->dead;
    memcpy(copy->common, node->common, sizeof copy->common);
    copy_entries(copy, 0, node, 0, node->n);
    if (!kv_tree_is_leaf(node)) {
        for (unsigned i = 1; i < node->n; i++) {
            node->separators[i]->references++;
        }
    }
    kv_tree_retire_node(tree, node);
    return copy;
}

void kv_tree_init(struct kv_tree *tree)
{
    *tree = (struct kv_tree){.epoch = 1, .slots = LEAF_SLOTS};
    tree->root = new_node(tree, 0);
}

static void free_subtree(struct kv_tree *tree, struct kv_tree_node *node)
{
    if (!kv_tree_is_leaf(node)) {
        for (unsigned i = 0; i < node->n; i++) {
            free_subtree(tree, node->nodes[i]);
        }
    } else {
        for (unsigned i = 0; i < node->n; i++) {
            struct kv_record *record = node->records[i];

            while (record) {
                struct kv_record *older = record->older;

                kv_record_free(record);
                record = older;
            }
        }
    }
    kv_tree_free_node(tree, node);
}

void kv_tree_deinit(struct kv_tree *tree)
{
    KV_ASSERT(!tree->pins);
    while (kv_tree_reclaim(tree, SIZE_MAX / 2)) {
    }
    if (tree->root) {
        free_subtree(tree, tree->root);
    }
    tree->root = NULL;
    KV_ASSERT(!tree->retired_first && tree->n_nodes == 0);
}

/* ---------------------------------------------------------------- changing */

/* Walks to the key's leaf, without a key to the last one; every node on the way may be changed
 * afterwards. */
static void descend_owned(struct kv_tree *tree, const struct kv_slice *key, struct path *ret_path)
{
    struct kv_tree_node *node = tree->root = own(tree, tree->root);

    ret_path->depth = 0;
    while (!kv_tree_is_leaf(node)) {
        unsigned at = key ? kv_tree_child_position(node, *key) : node->n - 1;

        KV_ASSERT(ret_path->depth + 1 < KV_TREE_DEPTH_MAX);
        ret_path->steps[ret_path->depth].node = node;
        ret_path->steps[ret_path->depth++].at = at;
        node->nodes[at] = own(tree, kv_tree_step_down(node, at));
        node = node->nodes[at];
    }
    ret_path->steps[ret_path->depth++].node = node;
}

static void add_live(struct path *path, int64_t more)
{
    for (unsigned i = 0; more != 0 && i + 1 < path->depth; i++) {
        path->steps[i].node->live[path->steps[i].at] += (uint64_t)more;
    }
}

/* Puts a child at position `at` of an inner node that has room. */
static void insert_child(struct kv_tree_node *node,
                         unsigned at,
                         struct kv_tree_node *child,
                         struct separator *separator)
{
    uint64_t prefix = 0;

    if (separator) {
        kv_tree_admit_key(node, kv_tree_separator_key(separator));
        prefix = kv_tree_prefix(kv_tree_separator_key(separator), node->skip);
    }
    copy_entries(node, at + 1, node, at, node->n - at);
    node->prefixes[at] = prefix;
    node->separators[at] = separator;
    node->nodes[at] = child;
    node->live[at] = kv_tree_live_count(child);
    node->n++;
}

/* Moves the upper part of a full node into a new one, from `keep` on; *ret_separator is its least
 * key. */
static struct kv_tree_node *split_node(struct kv_tree *tree,
                                       struct kv_tree_node *node,
                                       unsigned keep,
                                       struct separator **ret_separator)
{
    struct kv_tree_node *right = new_node(tree, node->height);

    right->n = node->n - keep;
    copy_entries(right, 0, node, keep, right->n);
    if (kv_tree_is_leaf(node)) {
        right->dead = node->dead >> keep;
        node->dead &= (UINT64_C(1) << keep) - 1;
        *ret_separator = new_separator(kv_record_key(right->records[0]));
    } else {
        *ret_separator = right->separators[0];
        right->separators[0] = NULL;
    }
    node->n = keep;
    kv_tree_find_skip(node);
    kv_tree_find_skip(right);
    return right;
}

/* Hangs the new right sibling of path level `level` into its parent, splitting upwards as needed.
 */
static void hang_sibling(struct kv_tree *tree,
                         struct path *path,
                         unsigned level,
                         struct kv_tree_node *right,
                         struct separator *separator)
{
    while (level > 0) {
        struct kv_tree_node *parent = path->steps[level - 1].node;
        unsigned at = path->steps[level - 1].at;
        struct kv_tree_node *target = parent;
        struct kv_tree_node *upper = NULL;
        struct separator *upper_separator = NULL;

        parent->live[at] = kv_tree_live_count(parent->nodes[at]);
        if (parent->n >= tree->slots) {
            unsigned keep = at + 1 == parent->n ? parent->n - 1 : parent->n / 2;

            upper = split_node(tree, parent, keep, &upper_separator);
            if (at >= keep) {
                target = upper;
                at -= keep;
            }
        }
        insert_child(target, at + 1, right, separator);
        if (!upper) {
            return;
        }
        right = upper;
        separator = upper_separator;
        level--;
    }
    {
        struct kv_tree_node *root = new_node(tree, tree->root->height + 1u);

        insert_child(root, 0, tree->root, NULL);
        insert_child(root, 1, right, separator);
        tree->root = root;
    }
}

static void set_dead(struct kv_tree_node *leaf, unsigned at, bool is_dead)
{
    leaf->dead = (leaf->dead & ~(UINT64_C(1) << at)) | (uint64_t)is_dead << at;
}

static void put_into_leaf(struct kv_tree_node *leaf, unsigned at, struct kv_record *record)
{
    kv_tree_admit_key(leaf, kv_record_key(record));
    copy_entries(leaf, at + 1, leaf, at, leaf->n - at);
    leaf->prefixes[at] = kv_tree_prefix(kv_record_key(record), leaf->skip);
    leaf->records[at] = record;
    leaf->n++;
    leaf->dead = (leaf->dead >> at << at << 1) | (leaf->dead & ((UINT64_C(1) << at) - 1));
    set_dead(leaf, at, record->tombstone);
}

/* Puts a record with a new key at position `at` of the path's leaf. */
static void
insert_record(struct kv_tree *tree, struct path *path, unsigned at, struct kv_record *record)
{
    struct kv_tree_node *leaf = path->steps[path->depth - 1].node;
    struct kv_tree_node *right;
    struct separator *separator;

    add_live(path, !record->tombstone);
    if (leaf->n < tree->slots) {
        put_into_leaf(leaf, at, record);
        return;
    }
    /* Keys that come in order fill their leaves whole. */
    if (at == leaf->n) {
        right = new_node(tree, 0);
        put_into_leaf(right, 0, record);
        separator = new_separator(kv_record_key(record));
    } else {
        right = split_node(tree, leaf, leaf->n / 2, &separator);
        if (at <= leaf->n) {
            put_into_leaf(leaf, at, record);
        } else {
            put_into_leaf(right, at - leaf->n, record);
        }
    }
    hang_sibling(tree, path, path->depth - 1, right, separator);
}

struct kv_record *kv_tree_put(struct kv_tree *tree, struct kv_record *record)
{
    struct kv_slice key = kv_record_key(record);
    struct kv_record *former;
    struct kv_tree_node *leaf;
    struct path path;
    unsigned at;
    bool equal;

    descend_owned(tree, &key, &path);
    leaf = path.steps[path.depth - 1].node;
    at = kv_tree_leaf_position(leaf, key, &equal);
    if (!equal) {
        insert_record(tree, &path, at, record);
        return NULL;
    }
    former = leaf->records[at];
    leaf->records[at] = record;
    set_dead(leaf, at, record->tombstone);
    add_live(&path, (int64_t)former->tombstone - (int64_t)record->tombstone);
    return former;
}

bool kv_tree_append(struct kv_tree *tree, struct kv_record *record)
{
    struct kv_tree_node *leaf;
    struct path path;

    descend_owned(tree, NULL, &path);
    leaf = path.steps[path.depth - 1].node;
    if (leaf->n > 0 &&
        kv_slice_compare(kv_record_key(leaf->records[leaf->n - 1]), kv_record_key(record)) >= 0) {
        return false;
    }
    insert_record(tree, &path, leaf->n, record);
    return true;
}

/* Takes child `at` out of an inner node. */
static void remove_child(struct kv_tree_node *node, unsigned at)
{
    release_separator(node->separators[at]);
    copy_entries(node, at, node, at + 1, node->n - at - 1);
    node->n--;
    if (at == 0 && node->n > 0) {
        release_separator(node->separators[0]);
        node->separators[0] = NULL;
    }
}

/* Moves everything of child at + 1 into child at, when they fit one node with room to spare. */
static bool merge_children(struct kv_tree *tree, struct kv_tree_node *parent, unsigned at)
{
    struct kv_tree_node *left = parent->nodes[at];
    struct kv_tree_node *right = parent->nodes[at + 1];

    if (left->n + right->n > tree->slots * 3 / 4) {
        return false;
    }
    left = parent->nodes[at] = own(tree, left);
    right = parent->nodes[at + 1] = own(tree, right);
    copy_entries(left, left->n, right, 0, right->n);
    if (kv_tree_is_leaf(left)) {
        left->dead |= right->dead << left->n;
    } else {
        left->separators[left->n] = parent->separators[at + 1];
        left->separators[left->n]->references++;
    }
    left->n += right->n;
    kv_tree_find_skip(left);
    right->n = 0; /* its separators moved along */
    parent->live[at] += parent->live[at + 1];
    remove_child(parent, at + 1);
    kv_tree_free_node(tree, right);
    return true;
}

/* After a removal: empty nodes go, small ones join a neighbour, a root with one child gives way to
 * it. All that are freed are owned: they were on the path, or are made so here. */
static void tidy(struct kv_tree *tree, struct path *path)
{
    for (unsigned level = path->depth - 1; level > 0; level--) {
        struct kv_tree_node *node = path->steps[level].node;
        struct kv_tree_node *parent = path->steps[level - 1].node;
        unsigned at = path->steps[level - 1].at;

        if (node->n == 0) {
            remove_child(parent, at);
            kv_tree_free_node(tree, node);
        } else if (node->n < tree->slots / 4) {
            if (at + 1 < parent->n) {
                (void)merge_children(tree, parent, at);
            } else if (at > 0) {
                (void)merge_children(tree, parent, at - 1);
            }
        }
    }
    while (!kv_tree_is_leaf(tree->root) && tree->root->n <= 1) {
        struct kv_tree_node *root = tree->root;

        tree->root = root->n == 1 ? own(tree, root->nodes[0]) : new_node(tree, 0);
        kv_tree_free_node(tree, root);
    }
}

/* Takes the key's record out, if it is this one (NULL: whichever). */
static struct kv_record *
remove_record(struct kv_tree *tree, struct kv_slice key, const struct kv_record *only)
{
    struct kv_record *record;
    struct kv_tree_node *leaf;
    struct path path;
    unsigned at;
    bool equal;

    /* Under a pin the way there is copied: not for nothing. */
    if (tree->newest_pin != 0) {
        record = kv_tree_find(tree, key);
        if (!record || (only && record != only)) {
            return NULL;
        }
    }
    descend_owned(tree, &key, &path);
    leaf = path.steps[path.depth - 1].node;
    at = kv_tree_leaf_position(leaf, key, &equal);
    if (!equal || (only && leaf->records[at] != only)) {
        return NULL;
    }
    record = leaf->records[at];
    copy_entries(leaf, at, leaf, at + 1, leaf->n - at - 1);
    leaf->dead = (leaf->dead & ((UINT64_C(1) << at) - 1)) | leaf->dead >> at >> 1 << at;
    leaf->n--;
    add_live(&path, -(int64_t)!record->tombstone);
    tidy(tree, &path);
    return record;
}

struct kv_record *kv_tree_remove(struct kv_tree *tree, struct kv_slice key)
{
    return remove_record(tree, key, NULL);
}

bool kv_tree_remove_record(struct kv_tree *tree, const struct kv_record *record)
{
    return remove_record(tree, kv_record_key(record), record) != NULL;
}
