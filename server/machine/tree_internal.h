/* Nodes of the counted tree, and how keys are found in one. */
#ifndef KV_MACHINE_TREE_INTERNAL_H
#define KV_MACHINE_TREE_INTERNAL_H

#include "server/machine/tree.h"

enum { LEAF_SLOTS = 62, INNER_CHILDREN = 62 };

/* Keys that sit together begin alike: what tells them apart stands behind the bytes that all keys
 * of a node share. */
struct slot {
    uint64_t
        prefix; /* bytes of the key from the node's skip on, big endian: compares like memcmp */
    struct kv_record *record;
};

/* Least key of a child; several versions of an inner node may share one. */
struct separator {
    uint32_t references;
    uint32_t size;
    uint8_t bytes[];
};

struct child {
    uint64_t prefix;             /* of the separator, as in a slot */
    struct separator *separator; /* of the first child: not used, NULL */
    struct kv_tree_node *node;
    uint64_t live;
};

struct kv_tree_node {
    uint64_t born;
    uint32_t n;
    uint16_t skip;
    bool is_leaf;
    union {
        struct slot slots[LEAF_SLOTS];
        struct child *children; /* INNER_CHILDREN of them */
    };
};

/* tree_node.c */
/* Eight bytes of the key from `skip` on, big endian: they compare like memcmp. */
uint64_t kv_tree_prefix(struct kv_slice key, size_t skip);
/* Length of what two keys have in common at their beginning, at most `limit`. */
size_t kv_tree_common_length(struct kv_slice a, struct kv_slice b, size_t limit);
struct kv_slice kv_tree_separator_key(const struct separator *separator);
/* Any key of the node: they all share its first `skip` bytes. */
struct kv_slice kv_tree_key_in(const struct kv_tree_node *node);
/* Looks anew at what the keys have in common, and sets the prefixes. */
void kv_tree_find_skip(struct kv_tree_node *node);
/* Before the key comes into the node. */
void kv_tree_admit_key(struct kv_tree_node *node, struct kv_slice key);
/* First slot whose key is at or behind `key`; *ret_equal: it is that key. */
unsigned
kv_tree_leaf_position(const struct kv_tree_node *leaf, struct kv_slice key, bool *ret_equal);
/* The child that the key belongs to. */
unsigned kv_tree_child_position(const struct kv_tree_node *node, struct kv_slice key);
uint64_t kv_tree_live_count(const struct kv_tree_node *node);

/* tree.c */
void kv_tree_free_node(struct kv_tree *tree, struct kv_tree_node *node);
/* tree_pin.c */
void kv_tree_retire_node(struct kv_tree *tree, struct kv_tree_node *node);

#endif
