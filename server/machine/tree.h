/* Counted B+tree of byte keys over immutable records, with pinned roots.
 *
 * Single writer. A reader that needs a stable view pins the root: nodes born after the newest pin
 * are changed in place, older ones are copied on write; what a pin can still see is freed after it
 * is gone, in bounded steps. Without pins nothing is copied.
 *
 * Each subtree keeps the count of its live records (those that are no tombstones), so that count,
 * rank and n-th are O(log n). A leaf holds 8 bytes of each key and the records' pointers. */
#ifndef KV_MACHINE_TREE_H
#define KV_MACHINE_TREE_H

#include "server/machine/record.h"

#include <stddef.h>

#define KV_TREE_DEPTH_MAX \
    12u /* 64^12 keys are never reached; splits keep every level at least half full */

struct kv_tree_node;
struct kv_tree_retired;

struct kv_tree {
    struct kv_tree_node *root;
    uint64_t epoch;      /* birth of nodes made now; grows with each pin */
    uint64_t newest_pin; /* 0: none */
    struct kv_tree_pin *pins;
    struct kv_tree_retired *retired_first; /* what waits to be freed, oldest first */
    struct kv_tree_retired *retired_last;
    uint64_t retired_bytes;
    size_t retired_new; /* since the last kv_tree_reclaim() */
    size_t n_nodes;
    unsigned slots; /* of a node: when they are full it is split; tests lower it, to 8 at least */
};

/* A stable view. Read it with kv_tree_view_*() or a cursor on `view`. */
struct kv_tree_pin {
    struct kv_tree view;
    uint64_t epoch;
    struct kv_tree_pin *next;
};

void kv_tree_init(struct kv_tree *tree);
/* Frees nodes, and every record through its `older` chain. No pin may be left. */
void kv_tree_deinit(struct kv_tree *tree);

struct kv_record *kv_tree_find(const struct kv_tree *tree, struct kv_slice key); /* NULL: none */
/* Puts the record in place of its key's; returns that, or NULL. */
struct kv_record *kv_tree_put(struct kv_tree *tree, struct kv_record *record);
/* Puts a record behind all others; false: its key is not behind them, and nothing was done. */
bool kv_tree_append(struct kv_tree *tree, struct kv_record *record) KV_MUST_CHECK;
/* Takes the key out; returns its record, or NULL. */
struct kv_record *kv_tree_remove(struct kv_tree *tree, struct kv_slice key);
/* Takes the record out; false: its key has another one, or none. */
bool kv_tree_remove_record(struct kv_tree *tree, const struct kv_record *record);

uint64_t kv_tree_count(const struct kv_tree *tree);
/* Live records with keys below. */
uint64_t kv_tree_rank(const struct kv_tree *tree, struct kv_slice key);
/* The same of a key that has a record, a little faster. */
uint64_t kv_tree_rank_of(const struct kv_tree *tree, struct kv_slice key);
/* The n-th live record from 0; there are so many. */
struct kv_record *kv_tree_nth(const struct kv_tree *tree, uint64_t n);

/* Walks records, tombstones too, in key order. Valid until the tree changes (a pin's view: until it
 * goes). */
struct kv_tree_cursor {
    struct {
        const struct kv_tree_node *node;
        unsigned at;
    } path[KV_TREE_DEPTH_MAX];
    unsigned depth; /* 0: at the end */
};
/* To the first record with a key at or behind `key`. */
void kv_tree_seek(const struct kv_tree *tree,
                  struct kv_slice key,
                  struct kv_tree_cursor *ret_cursor);
/* To the last record with a key below `key`; has_key false: the very last. */
void kv_tree_seek_before(const struct kv_tree *tree,
                         struct kv_slice key,
                         bool has_key,
                         struct kv_tree_cursor *ret_cursor);
/* NULL: beyond the end. */
struct kv_record *kv_tree_cursor_get(const struct kv_tree_cursor *cursor);
void kv_tree_next(struct kv_tree_cursor *cursor);
void kv_tree_previous(struct kv_tree_cursor *cursor);
/* From where it stands, itself included, on to the next live record, or back to the one before.
 * Subtrees without one are passed at once. */
void kv_tree_skip_dead(struct kv_tree_cursor *cursor, bool forward);
/* A hint to the processor: the key will be put soon. */
void kv_tree_prefetch(const struct kv_tree *tree, struct kv_slice key);
/* A hint to the processor: the record so many steps ahead is wanted soon. */
void kv_tree_cursor_prefetch(const struct kv_tree_cursor *cursor, unsigned ahead);

/* While a pin is held, any one other thread may read its view: the writer changes no byte that can
 * be reached from there. */
void kv_tree_pin(struct kv_tree *tree, struct kv_tree_pin *pin);
void kv_tree_unpin(struct kv_tree *tree, struct kv_tree_pin *pin);
/* These happen at once when nothing is pinned and nothing waits, otherwise in this order by
 * kv_tree_reclaim(), as soon as all pins of now are gone. */
void kv_tree_retire_record(struct kv_tree *tree, struct kv_record *record);
/* Frees the version that the record replaced, and forgets it. */
void kv_tree_retire_older(struct kv_tree *tree, struct kv_record *record);
/* malloc's. */
void kv_tree_retire_memory(struct kv_tree *tree, void *memory, size_t size_bytes);
/* Frees of what no pin can see some n pieces, more when much came since the last call. True: there
 * is more. */
bool kv_tree_reclaim(struct kv_tree *tree, size_t n);

/* Asserts M1 to M5. */
void kv_tree_check_invariants(const struct kv_tree *tree);

#endif
