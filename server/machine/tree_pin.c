/* Pins, and what is freed only after them. */
#include "server/machine/tree.h"

#include "common/assert.h"
#include "server/machine/tree_internal.h"

#include <stdlib.h>

enum { CHUNK_ENTRIES = 340 };

enum retired_kind { RETIRED_NODE, RETIRED_RECORD, RETIRED_OLDER, RETIRED_MEMORY };

struct retired {
    void *what;
    uint64_t epoch; /* seen by pins up to this one */
    uint32_t kind;
    uint32_t size_bytes;
};

struct kv_tree_retired {
    struct kv_tree_retired *next;
    unsigned first; /* those before it are done */
    unsigned n;
    struct retired entries[CHUNK_ENTRIES];
};

void kv_tree_pin(struct kv_tree *tree, struct kv_tree_pin *pin)
{
    pin->view = *tree;
    pin->epoch = tree->epoch;
    pin->next = tree->pins;
    tree->pins = pin;
    tree->newest_pin = tree->epoch++;
}

void kv_tree_unpin(struct kv_tree *tree, struct kv_tree_pin *pin)
{
    struct kv_tree_pin **link = &tree->pins;

    while (*link != pin) {
        link = &(*link)->next;
    }
    *link = pin->next;
    tree->newest_pin = tree->pins ? tree->pins->epoch : 0;
}

static void free_retired(struct kv_tree *tree, const struct retired *retired)
{
    struct kv_record *record = retired->what;

    switch ((enum retired_kind)retired->kind) {
    case RETIRED_NODE:
        kv_tree_free_node(tree, retired->what);
        return;
    case RETIRED_RECORD:
        kv_record_free(record);
        return;
    case RETIRED_OLDER:
        kv_record_free(record->older);
        record->older = NULL;
        return;
    case RETIRED_MEMORY:
        free(retired->what);
        return;
    }
}

/* Nothing that waits is overtaken: a record may be named by an entry before its own. */
static void retire(struct kv_tree *tree, enum retired_kind kind, void *what, size_t size_bytes)
{
    const struct retired retired = {what, tree->newest_pin, kind, (uint32_t)size_bytes};
    struct kv_tree_retired *chunk = tree->retired_last;

    if (tree->newest_pin == 0 && !chunk) {
        free_retired(tree, &retired);
        return;
    }
    if (!chunk || chunk->n == CHUNK_ENTRIES) {
        chunk = kv_machine_alloc(sizeof *chunk);
        chunk->next = NULL;
        chunk->first = chunk->n = 0;
        if (tree->retired_last) {
            tree->retired_last->next = chunk;
        } else {
            tree->retired_first = chunk;
        }
        tree->retired_last = chunk;
    }
    chunk->entries[chunk->n++] = retired;
    tree->retired_bytes += size_bytes;
    tree->retired_new++;
}

void kv_tree_retire_node(struct kv_tree *tree, struct kv_tree_node *node)
{
    retire(tree, RETIRED_NODE, node, kv_tree_is_leaf(node) ? LEAF_BYTES : sizeof *node);
}

void kv_tree_retire_record(struct kv_tree *tree, struct kv_record *record)
{
    retire(tree, RETIRED_RECORD, record, kv_record_cost(record));
}

void kv_tree_retire_older(struct kv_tree *tree, struct kv_record *record)
{
    retire(tree, RETIRED_OLDER, record, kv_record_cost(record->older));
}

void kv_tree_retire_memory(struct kv_tree *tree, void *memory, size_t size_bytes)
{
    retire(tree, RETIRED_MEMORY, memory, size_bytes);
}

/* Pins up to an entry's epoch see it. An entry that comes later may have a smaller one, when the
 * newest pin went in between; then no pin is left between the two, and they become free together.
 */
bool kv_tree_reclaim(struct kv_tree *tree, size_t n)
{
    uint64_t oldest_pin = UINT64_MAX;
    struct kv_tree_retired *chunk;

    for (const struct kv_tree_pin *pin = tree->pins; pin; pin = pin->next) {
        oldest_pin = pin->epoch < oldest_pin ? pin->epoch : oldest_pin;
    }
    n += 2 * tree->retired_new;
    tree->retired_new = 0;
    while ((chunk = tree->retired_first) && chunk->entries[chunk->first].epoch < oldest_pin) {
        const struct retired *retired = &chunk->entries[chunk->first];

        if (n-- == 0) {
            return true;
        }
        free_retired(tree, retired);
        tree->retired_bytes -= retired->size_bytes;
        if (++chunk->first == chunk->n) {
            tree->retired_first = chunk->next;
            if (!chunk->next) {
                tree->retired_last = NULL;
            }
            free(chunk);
        }
    }
    return false;
}
