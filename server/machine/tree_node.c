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
    return kv_tree_is_leaf(node) ? kv_record_key(node->records[0])
                                 : kv_tree_separator_key(node->separators[1]);
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

/* Keys that the node has for comparing: of all records, or the separators of all children but the
 * first.
 */
static bool has_keys(const struct kv_tree_node *node)
{
    return node->n > (kv_tree_is_leaf(node) ? 0 : 1);
}

static void set_skip(struct kv_tree_node *node, size_t skip)
{
    keep_common(node, kv_tree_key_in(node), skip);
    if (kv_tree_is_leaf(node)) {
        for (unsigned i = 0; i < node->n; i++) {
            node->prefixes[i] = kv_tree_prefix(kv_record_key(node->records[i]), skip);
        }
    } else {
        for (unsigned i = 1; i < node->n; i++) {
            node->prefixes[i] = kv_tree_prefix(kv_tree_separator_key(node->separators[i]), skip);
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
    last = kv_tree_is_leaf(node) ? kv_record_key(node->records[node->n - 1])
                                 : kv_tree_separator_key(node->separators[node->n - 1]);
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

/* First of prefixes[low..n) that is not below `prefix`, without branches to guess. */
static unsigned lower_bound(const struct kv_tree_node *node, unsigned low, uint64_t prefix)
{
    unsigned left = node->n - low;

    while (left > 1) {
        unsigned half = left / 2;

        low += node->prefixes[low + half - 1] < prefix ? half : 0;
        left -= half;
    }
    return low + (left == 1 && node->prefixes[low] < prefix);
}

/* First record whose key is at or behind `key`; *ret_equal: it is that key. What the keys have in
 * common is looked at last, in one of the records, which are scattered in memory: a key that is
 * there was compared as a whole. */
unsigned
kv_tree_leaf_position(const struct kv_tree_node *leaf, struct kv_slice key, bool *ret_equal)
{
    uint64_t prefix = key.size > leaf->skip ? kv_tree_prefix(key, leaf->skip) : 0;
    unsigned low = lower_bound(leaf, 0, prefix);
    unsigned high = low;
    int order;

    *ret_equal = false;
    while (high < leaf->n && leaf->prefixes[high] == prefix) {
        high++;
    }
    while (low < high) {
        unsigned middle = (low + high) / 2;

        order = kv_slice_compare(kv_record_key(leaf->records[middle]), key);
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

unsigned kv_tree_leaf_position_of(const struct kv_tree_node *leaf, struct kv_slice key)
{
    uint64_t prefix = kv_tree_prefix(key, leaf->skip);
    unsigned at = lower_bound(leaf, 0, prefix);
    bool equal;

    if (at + 1 == leaf->n || leaf->prefixes[at + 1] != prefix) {
        return at;
    }
    return kv_tree_leaf_position(leaf, key, &equal);
}

/* The child that the key belongs to. */
unsigned kv_tree_child_position(const struct kv_tree_node *node, struct kv_slice key)
{
    int order = node->n > 1 ? compare_skipped(node, key) : 0;
    uint64_t prefix;
    unsigned low;
    unsigned high;

    if (order != 0) {
        return order < 0 ? 0 : node->n - 1;
    }
    prefix = kv_tree_prefix(key, node->skip);
    low = lower_bound(node, 1, prefix);
    high = low;
    while (high < node->n && node->prefixes[high] == prefix) {
        high++;
    }
    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (kv_slice_compare(kv_tree_separator_key(node->separators[middle]), key) <= 0) {
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

    if (kv_tree_is_leaf(node)) {
        live = node->n - kv_tree_dead_before(node, node->n);
    } else {
        for (unsigned i = 0; i < node->n; i++) {
            live += node->live[i];
        }
    }
    return live;
}

bool kv_tree_has_common(const struct kv_tree_node *node)
{
    return !has_keys(node) || node->skip > NODE_COMMON_BYTES ||
           memcmp(node->common, kv_tree_key_in(node).data, node->skip) == 0;
}
