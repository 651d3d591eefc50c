/* be64toh */
#define _DEFAULT_SOURCE
#include "server/machine/tree_internal.h"

#include <endian.h>
#include <string.h>

uint64_t kv_tree_prefix(struct kv_slice key, size_t skip)
{
    uint64_t prefix = 0;

    if (key.size >= skip + sizeof prefix) {
        memcpy(&prefix, key.data + skip, sizeof prefix);
        return be64toh(prefix);
    }
    for (size_t i = skip; i < key.size; i++) {
        prefix |= (uint64_t)key.data[i] << (56 - 8 * (i - skip));
    }
    return prefix;
}

/* Length of what two keys have in common at their beginning, at most `limit`. */
size_t kv_tree_common_length(struct kv_slice a, struct kv_slice b, size_t limit)
{
    size_t n = 0;

    limit = a.size < limit ? a.size : limit;
    limit = b.size < limit ? b.size : limit;
    while (n < limit && a.data[n] == b.data[n]) {
        n++;
    }
    return n;
}

struct kv_slice kv_tree_separator_key(const struct separator *separator)
{
    return kv_slice_of(separator->bytes, separator->size);
}

/* Any key of the node: they all share its first `skip` bytes. */
struct kv_slice kv_tree_key_in(const struct kv_tree_node *node)
{
    return node->is_leaf ? kv_record_key(node->slots[0].record)
                         : kv_tree_separator_key(node->children[1].separator);
}

/* The `skip` bytes that all keys share. */
static const uint8_t *common_of(const struct kv_tree_node *node)
{
    return node->skip <= NODE_COMMON_BYTES ? node->common : kv_tree_key_in(node).data;
}

static void keep_common(struct kv_tree_node *node, struct kv_slice key, size_t skip)
{
    node->skip = (uint16_t)skip;
    if (skip > 0 && skip <= NODE_COMMON_BYTES) {
        memcpy(node->common, key.data, skip);
    }
}

/* Are all keys of the node behind the key (< 0) or before it (> 0) by their common bytes alone? 0:
 * look closer. */
static int compare_skipped(const struct kv_tree_node *node, struct kv_slice key)
{
    size_t n = key.size < node->skip ? key.size : node->skip;
    int order = n > 0 ? memcmp(key.data, common_of(node), n) : 0;

    return order != 0 ? order : key.size < node->skip ? -1 : 0;
}

/* Keys that the node has for comparing: all slots, or the separators of all children but the first.
 */
static bool has_keys(const struct kv_tree_node *node)
{
    return node->n > (node->is_leaf ? 0 : 1);
}

static void set_skip(struct kv_tree_node *node, size_t skip)
{
    keep_common(node, kv_tree_key_in(node), skip);
    if (node->is_leaf) {
        for (unsigned i = 0; i < node->n; i++) {
            node->slots[i].prefix = kv_tree_prefix(kv_record_key(node->slots[i].record), skip);
        }
    } else {
        for (unsigned i = 1; i < node->n; i++) {
            node->children[i].prefix =
                kv_tree_prefix(kv_tree_separator_key(node->children[i].separator), skip);
        }
    }
}

/* Looks anew at what the keys have in common: the first and the last tell for all. */
void kv_tree_find_skip(struct kv_tree_node *node)
{
    struct kv_slice last;

    if (!has_keys(node)) {
        node->skip = 0;
        return;
    }
    last = node->is_leaf ? kv_record_key(node->slots[node->n - 1].record)
                         : kv_tree_separator_key(node->children[node->n - 1].separator);
    set_skip(node, kv_tree_common_length(kv_tree_key_in(node), last, UINT16_MAX));
}

/* Before the key comes into the node. */
void kv_tree_admit_key(struct kv_tree_node *node, struct kv_slice key)
{
    size_t skip;

    if (!has_keys(node)) {
        keep_common(node, key, key.size);
        return;
    }
    skip = kv_tree_common_length(kv_tree_key_in(node), key, node->skip);
    if (skip < node->skip) {
        set_skip(node, skip);
    }
}

/* First slot whose key is at or behind `key`; *ret_equal: it is that key. What the keys have in
 * common is looked at last, in one of the records, which are scattered in memory: a key that is
 * there was compared as a whole. */
unsigned
kv_tree_leaf_position(const struct kv_tree_node *leaf, struct kv_slice key, bool *ret_equal)
{
    uint64_t prefix = key.size > leaf->skip ? kv_tree_prefix(key, leaf->skip) : 0;
    unsigned low = 0;
    unsigned high = leaf->n;
    int order;

    *ret_equal = false;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct slot *slot = &leaf->slots[middle];

        order = slot->prefix != prefix ? (slot->prefix < prefix ? -1 : 1)
                                       : kv_slice_compare(kv_record_key(slot->record), key);
        if (order == 0) {
            *ret_equal = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    order = leaf->n > 0 ? compare_skipped(leaf, key) : 0;
    return order == 0 ? low : order < 0 ? 0 : leaf->n;
}

/* The child that the key belongs to. */
unsigned kv_tree_child_position(const struct kv_tree_node *node, struct kv_slice key)
{
    int order = node->n > 1 ? compare_skipped(node, key) : 0;
    uint64_t prefix;
    unsigned low = 1;
    unsigned high = node->n;

    if (order != 0) {
        return order < 0 ? 0 : node->n - 1;
    }
    prefix = kv_tree_prefix(key, node->skip);
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct child *child = &node->children[middle];

        order = child->prefix != prefix
                    ? (child->prefix < prefix ? -1 : 1)
                    : kv_slice_compare(kv_tree_separator_key(child->separator), key);
        if (order <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

uint64_t kv_tree_live_count(const struct kv_tree_node *node)
{
    uint64_t live = 0;

    if (node->is_leaf) {
        live = node->n - kv_tree_dead_before(node, node->n);
    } else {
        for (unsigned i = 0; i < node->n; i++) {
            live += node->children[i].live;
        }
    }
    return live;
}

bool kv_tree_has_common(const struct kv_tree_node *node)
{
    return !has_keys(node) || node->skip > NODE_COMMON_BYTES ||
           memcmp(node->common, kv_tree_key_in(node).data, node->skip) == 0;
}
