/* Nodes of the counted tree, and how keys are found in one. */
#ifndef KV_MACHINE_TREE_INTERNAL_H
#define KV_MACHINE_TREE_INTERNAL_H

#include "server/machine/tree.h"

/* A collection's number, a score and the beginning of most names fit in what a node keeps of its
 * keys' common bytes: then a search looks into no key for them. */
enum { LEAF_SLOTS = 62, INNER_CHILDREN = 62, NODE_COMMON_BYTES = 24 };

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

_Static_assert(LEAF_SLOTS < 64, "a leaf's tombstones fit a word");

struct kv_tree_node {
    uint64_t born;
    uint32_t n;
    uint16_t skip;
    bool is_leaf;
    uint8_t common[NODE_COMMON_BYTES]; /* what the keys share, when it is no longer than this */
    uint64_t dead;                     /* of a leaf: bit i is set when slot i is a tombstone */
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
/* M5: what a node keeps of its keys' common bytes are those. */
bool kv_tree_has_common(const struct kv_tree_node *node);
uint64_t kv_tree_live_count(const struct kv_tree_node *node);

static inline bool kv_tree_slot_is_dead(const struct kv_tree_node *leaf, unsigned at)
{
    return leaf->dead >> at & 1;
}
/* Tombstones among the first n slots. */
static inline unsigned kv_tree_dead_before(const struct kv_tree_node *leaf, unsigned n)
{
    return (unsigned)__builtin_popcountll(leaf->dead & ((UINT64_C(1) << n) - 1));
}

/* tree.c */
void kv_tree_free_node(struct kv_tree *tree, struct kv_tree_node *node);
/* tree_pin.c */
void kv_tree_retire_node(struct kv_tree *tree, struct kv_tree_node *node);

#endif
