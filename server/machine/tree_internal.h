/* Nodes of the counted tree, and how keys are found in one. */
#ifndef KV_MACHINE_TREE_INTERNAL_H
#define KV_MACHINE_TREE_INTERNAL_H

#include "server/machine/tree.h"

/* A collection's number, a score and the beginning of most names fit in what a node keeps of its
 * keys' common bytes: then a search looks into no key for them. */
enum { LEAF_SLOTS = 62, INNER_CHILDREN = 62, NODE_COMMON_BYTES = 24 };

/* Least key of a child; several versions of an inner node may share one. */
struct separator {
    uint32_t references;
    uint32_t size;
    uint8_t bytes[];
};

_Static_assert(LEAF_SLOTS < 64, "a leaf's tombstones fit a word");
_Static_assert((int)LEAF_SLOTS == (int)INNER_CHILDREN, "nodes of both kinds hold as many prefixes");

/* What is looked through lies side by side: a search reads prefixes alone, a rank the counts.
 *
 * Keys that sit together begin alike: what tells them apart stands behind the bytes that all keys
 * of a node share. So a prefix is the 8 bytes of a key from the node's skip on, big endian: they
 * compare like memcmp. */
struct kv_tree_node {
    uint64_t born;
    uint32_t n;
    uint16_t skip;
    uint8_t height;                    /* 0: a leaf */
    uint8_t common[NODE_COMMON_BYTES]; /* what the keys share, when it is no longer than this */
    uint64_t dead;                     /* of a leaf: bit i is set when record i is a tombstone */
    uint64_t prefixes[LEAF_SLOTS];     /* of records, or separators (not of the first child) */
    union {
        struct kv_record *records[LEAF_SLOTS];
        struct {
            struct kv_tree_node *nodes[INNER_CHILDREN];
            struct separator *separators[INNER_CHILDREN]; /* NULL of the first child */
            uint64_t live[INNER_CHILDREN];
        };
    };
};
#define LEAF_BYTES \
    (offsetof(struct kv_tree_node, records) + sizeof(((struct kv_tree_node *)0)->records))

static inline bool kv_tree_is_leaf(const struct kv_tree_node *node)
{
    return node->height == 0;
}

/* The child, whose memory is fetched as a whole if it is a leaf: a search in it would wait for one
 * line after the other. */
static inline struct kv_tree_node *kv_tree_step_down(const struct kv_tree_node *node, unsigned at)
{
    struct kv_tree_node *child = node->nodes[at];

    if (node->height == 1) {
        for (size_t i = 0; i < LEAF_BYTES; i += 64) {
            __builtin_prefetch((const char *)child + i);
        }
    }
    return child;
}

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
/* First record whose key is at or behind `key`; *ret_equal: it is that key. */
unsigned
kv_tree_leaf_position(const struct kv_tree_node *leaf, struct kv_slice key, bool *ret_equal);
/* Of a key that is there: without a look at its record where prefixes tell. */
unsigned kv_tree_leaf_position_of(const struct kv_tree_node *leaf, struct kv_slice key);
/* The child that the key belongs to. */
unsigned kv_tree_child_position(const struct kv_tree_node *node, struct kv_slice key);
/* M5: what a node keeps of its keys' common bytes are those. */
bool kv_tree_has_common(const struct kv_tree_node *node);
uint64_t kv_tree_live_count(const struct kv_tree_node *node);

static inline bool kv_tree_is_dead(const struct kv_tree_node *leaf, unsigned at)
{
    return leaf->dead >> at & 1;
}
/* Tombstones among the first n records. */
static inline unsigned kv_tree_dead_before(const struct kv_tree_node *leaf, unsigned n)
{
    return (unsigned)__builtin_popcountll(leaf->dead & ((UINT64_C(1) << n) - 1));
}

/* tree.c */
void kv_tree_free_node(struct kv_tree *tree, struct kv_tree_node *node);
/* tree_pin.c */
void kv_tree_retire_node(struct kv_tree *tree, struct kv_tree_node *node);

#endif
