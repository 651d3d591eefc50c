/* Giving memory back in bounded steps: history that no read can see, elements of collections that
 * ended, and what pins held. Nothing here changes an answer. */
#include "common/assert.h"
#include "server/machine/collection.h"
#include "server/machine/machine_internal.h"

#include <stdlib.h>

void kv_dropped_deinit(struct kv_dropped *dropped)
{
    free(dropped->ids);
    *dropped = (struct kv_dropped){0};
}

static void push_dropped(struct kv_dropped *dropped, uint64_t id)
{
    if (dropped->n == dropped->capacity) {
        size_t capacity = dropped->capacity ? dropped->capacity * 2 : 4;
        uint64_t *ids = kv_machine_alloc(capacity * sizeof *ids);

        for (size_t i = 0; i < dropped->n; i++) {
            ids[i] = dropped->ids[(dropped->first + i) % dropped->capacity];
        }
        free(dropped->ids);
        dropped->ids = ids;
        dropped->capacity = capacity;
        dropped->first = 0;
    }
    dropped->ids[(dropped->first + dropped->n++) % dropped->capacity] = id;
}

/* Frees what only reads before this event's revision could see. Pins that were taken before see it,
 * too; one that is taken from now on looks at no `older` of this record (M11). */
static void reclaim_event(struct kv_machine *machine, struct kv_record *record)
{
    struct kv_tree *tree = record->is_element ? &machine->elements : &machine->tree;

    if (record->drops) {
        push_dropped(&machine->dropped, kv_record_large(record->older).id);
    }
    if (record->older) {
        kv_tree_retire_older(tree, record);
    }
    if (record->tombstone && kv_tree_remove_record(tree, record)) {
        kv_tree_retire_record(tree, record);
    }
}

static bool reclaim_history(struct kv_machine *machine, size_t n)
{
    n += 2 * machine->history.n_noted;
    machine->history.n_noted = 0;
    for (; n > 0; n--) {
        struct kv_record *record = kv_history_take_dead(&machine->history, &machine->tree);

        if (!record) {
            return false;
        }
        reclaim_event(machine, record);
    }
    return true;
}

/* Elements of the collection that ended longest ago. Its events are gone, since they lie before
 * that of its end: nobody but the tree knows its records. */
static bool reclaim_elements(struct kv_machine *machine, size_t n)
{
    struct kv_dropped *dropped = &machine->dropped;

    for (; n > 0 && dropped->n > 0; n--) {
        if (!kv_collection_reclaim_one(machine, dropped->ids[dropped->first])) {
            dropped->first = (dropped->first + 1) % dropped->capacity;
            dropped->n--;
        }
    }
    return dropped->n > 0;
}

bool kv_machine_reclaim(struct kv_machine *machine)
{
    const size_t n = machine->reclaim_per_entry;
    bool history = reclaim_history(machine, n);
    bool elements = reclaim_elements(machine, n);
    bool tree = kv_tree_reclaim(&machine->tree, n);
    bool retired = kv_tree_reclaim(&machine->elements, n);
    bool names = kv_tree_reclaim(&machine->topics.names, n);
    bool messages = kv_tree_reclaim(&machine->topics.messages, n);

    return history || elements || tree || retired || names || messages;
}
