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

static struct kv_tree_node *new_node(struct kv_tree *tree, bool is_leaf)
{
    struct kv_tree_node *node;

    if (is_leaf) {
        node = kv_machine_alloc(sizeof *node);
    } else {
        node = kv_machine_alloc(offsetof(struct kv_tree_node, slots) + sizeof(struct child *));
        node->children = kv_machine_alloc(INNER_CHILDREN * sizeof(struct child));
    }
    node->born = tree->epoch;
    node->n = 0;
    node->skip = 0;
    node->dead = 0;
    node->is_leaf = is_leaf;
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
    if (!node->is_leaf) {
        for (unsigned i = 0; i < node->n; i++) {
            release_separator(node->children[i].separator);
        }
        free(node->children);
    }
    free(node);
    tree->n_nodes--;
}

static void drop_node(struct kv_tree *tree, struct kv_tree_node *node)
{
    if (node->born > tree->newest_pin) {
        kv_tree_free_node(tree, node);
    } else {
        kv_tree_retire_node(tree, node);
    }
}

/* The node itself, or a copy that may be changed. */
static struct kv_tree_node *own(struct kv_tree *tree, struct kv_tree_node *node)
{
    struct kv_tree_node *copy;

    if (node->born > tree->newest_pin) {
        return node;
    }
    copy = new_node(tree, node->is_leaf);
    copy->n = node->n;
    copy->skip = node->skip;
    copy->dead = node->dead;
    memcpy(copy->common, node->common, sizeof copy->common);
    if (node->is_leaf) {
        memcpy(copy->slots, node->slots, node->n * sizeof node->slots[0]);
    } else {
        memcpy(copy->children, node->children, node->n * sizeof node->children[0]);
        for (unsigned i = 0; i < node->n; i++) {
            if (node->children[i].separator) {
                node->children[i].separator->references++;
            }
        }
    }
    kv_tree_retire_node(tree, node);
    return copy;
}

void kv_tree_init(struct kv_tree *tree)
{
    *tree = (struct kv_tree){.epoch = 1};
    tree->root = new_node(tree, true);
}

static void free_subtree(struct kv_tree *tree, struct kv_tree_node *node)
{
    if (!node->is_leaf) {
        for (unsigned i = 0; i < node->n; i++) {
            free_subtree(tree, node->children[i].node);
        }
    } else {
        for (unsigned i = 0; i < node->n; i++) {
            struct kv_record *record = node->slots[i].record;

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
    while (!node->is_leaf) {
        unsigned at = key ? kv_tree_child_position(node, *key) : node->n - 1;

        KV_ASSERT(ret_path->depth + 1 < KV_TREE_DEPTH_MAX);
        ret_path->steps[ret_path->depth].node = node;
        ret_path->steps[ret_path->depth++].at = at;
        node->children[at].node = own(tree, node->children[at].node);
        node = node->children[at].node;
    }
    ret_path->steps[ret_path->depth++].node = node;
}

static void add_live(struct path *path, int64_t more)
{
    for (unsigned i = 0; more != 0 && i + 1 < path->depth; i++) {
        path->steps[i].node->children[path->steps[i].at].live += (uint64_t)more;
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
    memmove(
        node->children + at + 1, node->children + at, (node->n - at) * sizeof node->children[0]);
    node->children[at] = (struct child){prefix, separator, child, kv_tree_live_count(child)};
    node->n++;
}

/* Moves the upper part of a full node into a new one, from `keep` on; *ret_separator is its least
 * key. */
static struct kv_tree_node *split_node(struct kv_tree *tree,
                                       struct kv_tree_node *node,
                                       unsigned keep,
                                       struct separator **ret_separator)
{
    struct kv_tree_node *right = new_node(tree, node->is_leaf);

    right->n = node->n - keep;
    if (node->is_leaf) {
        memcpy(right->slots, node->slots + keep, right->n * sizeof node->slots[0]);
        right->dead = node->dead >> keep;
        node->dead &= (UINT64_C(1) << keep) - 1;
        *ret_separator = new_separator(kv_record_key(right->slots[0].record));
    } else {
        memcpy(right->children, node->children + keep, right->n * sizeof node->children[0]);
        *ret_separator = right->children[0].separator;
        right->children[0].separator = NULL;
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

        parent->children[at].live = kv_tree_live_count(parent->children[at].node);
        if (parent->n == INNER_CHILDREN) {
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
        struct kv_tree_node *root = new_node(tree, false);

        insert_child(root, 0, tree->root, NULL);
        insert_child(root, 1, right, separator);
        tree->root = root;
    }
}

static void set_dead(struct kv_tree_node *leaf, unsigned at, bool is_dead)
{
    leaf->dead = (leaf->dead & ~(UINT64_C(1) << at)) | (uint64_t)is_dead << at;
}

static void insert_slot(struct kv_tree_node *leaf, unsigned at, struct slot slot)
{
    kv_tree_admit_key(leaf, kv_record_key(slot.record));
    slot.prefix = kv_tree_prefix(kv_record_key(slot.record), leaf->skip);
    memmove(leaf->slots + at + 1, leaf->slots + at, (leaf->n - at) * sizeof leaf->slots[0]);
    leaf->slots[at] = slot;
    leaf->n++;
    leaf->dead = (leaf->dead >> at << at << 1) | (leaf->dead & ((UINT64_C(1) << at) - 1));
    set_dead(leaf, at, slot.record->tombstone);
}

/* Puts a record with a new key at position `at` of the path's leaf. */
static void
insert_record(struct kv_tree *tree, struct path *path, unsigned at, struct kv_record *record)
{
    struct kv_tree_node *leaf = path->steps[path->depth - 1].node;
    struct slot slot = {0, record};
    struct kv_tree_node *right;
    struct separator *separator;

    add_live(path, !record->tombstone);
    if (leaf->n < LEAF_SLOTS) {
        insert_slot(leaf, at, slot);
        return;
    }
    /* Keys that come in order fill their leaves whole. */
    if (at == leaf->n) {
        right = new_node(tree, true);
        insert_slot(right, 0, slot);
        separator = new_separator(kv_record_key(record));
    } else {
        right = split_node(tree, leaf, leaf->n / 2, &separator);
        if (at <= leaf->n) {
            insert_slot(leaf, at, slot);
        } else {
            insert_slot(right, at - leaf->n, slot);
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
    former = leaf->slots[at].record;
    leaf->slots[at].record = record;
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
    if (leaf->n > 0 && kv_slice_compare(kv_record_key(leaf->slots[leaf->n - 1].record),
                                        kv_record_key(record)) >= 0) {
        return false;
    }
    insert_record(tree, &path, leaf->n, record);
    return true;
}

/* Takes child `at` out of an inner node. */
static void remove_child(struct kv_tree_node *node, unsigned at)
{
    release_separator(node->children[at].separator);
    memmove(node->children + at,
            node->children + at + 1,
            (node->n - at - 1) * sizeof node->children[0]);
    node->n--;
    if (at == 0 && node->n > 0) {
        release_separator(node->children[0].separator);
        node->children[0].separator = NULL;
    }
}

/* Moves everything of child at + 1 into child at, when they fit one node with room to spare. */
static bool merge_children(struct kv_tree *tree, struct kv_tree_node *parent, unsigned at)
{
    struct kv_tree_node *left = parent->children[at].node;
    struct kv_tree_node *right = parent->children[at + 1].node;
    unsigned room = (left->is_leaf ? LEAF_SLOTS : INNER_CHILDREN) * 3 / 4;

    if (left->n + right->n > room) {
        return false;
    }
    left = parent->children[at].node = own(tree, left);
    right = parent->children[at + 1].node = own(tree, right);
    if (left->is_leaf) {
        memcpy(left->slots + left->n, right->slots, right->n * sizeof left->slots[0]);
        left->dead |= right->dead << left->n;
    } else {
        memcpy(left->children + left->n, right->children, right->n * sizeof left->children[0]);
        left->children[left->n].separator = parent->children[at + 1].separator;
        left->children[left->n].separator->references++;
    }
    left->n += right->n;
    kv_tree_find_skip(left);
    right->n = 0; /* its separators moved along */
    parent->children[at].live += parent->children[at + 1].live;
    remove_child(parent, at + 1);
    drop_node(tree, right);
    return true;
}

/* After a removal: empty nodes go, small ones join a neighbour, a root with one child gives way to
 * it. */
static void tidy(struct kv_tree *tree, struct path *path)
{
    for (unsigned level = path->depth - 1; level > 0; level--) {
        struct kv_tree_node *node = path->steps[level].node;
        struct kv_tree_node *parent = path->steps[level - 1].node;
        unsigned at = path->steps[level - 1].at;

        if (node->n == 0) {
            remove_child(parent, at);
            drop_node(tree, node);
        } else if (node->n < (node->is_leaf ? LEAF_SLOTS : INNER_CHILDREN) / 4) {
            if (at + 1 < parent->n) {
                (void)merge_children(tree, parent, at);
            } else if (at > 0) {
                (void)merge_children(tree, parent, at - 1);
            }
        }
    }
    while (!tree->root->is_leaf && tree->root->n <= 1) {
        struct kv_tree_node *root = tree->root;

        tree->root = root->n == 1 ? root->children[0].node : new_node(tree, true);
        drop_node(tree, root);
    }
}

struct kv_record *kv_tree_remove(struct kv_tree *tree, struct kv_slice key)
{
    struct kv_record *record;
    struct kv_tree_node *leaf;
    struct path path;
    unsigned at;
    bool equal;

    if (!kv_tree_find(tree, key)) {
        return NULL;
    }
    descend_owned(tree, &key, &path);
    leaf = path.steps[path.depth - 1].node;
    at = kv_tree_leaf_position(leaf, key, &equal);
    record = leaf->slots[at].record;
    memmove(leaf->slots + at, leaf->slots + at + 1, (leaf->n - at - 1) * sizeof leaf->slots[0]);
    leaf->dead = (leaf->dead & ((UINT64_C(1) << at) - 1)) | leaf->dead >> at >> 1 << at;
    leaf->n--;
    add_live(&path, -(int64_t)!record->tombstone);
    tidy(tree, &path);
    return record;
}
