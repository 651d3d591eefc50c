/* Taking back what a command has done: by the log of events, newest first. */
#include "common/assert.h"
#include "server/machine/collection.h"
#include "server/machine/machine_internal.h"

void kv_machine_save(const struct kv_machine *machine, struct kv_savepoint *ret_savepoint)
{
    kv_history_save(&machine->history, &ret_savepoint->history);
    ret_savepoint->settings = machine->settings;
    ret_savepoint->last_collection_id = machine->last_collection_id;
    ret_savepoint->data_bytes = machine->data_bytes;
    ret_savepoint->state_hash = machine->state_hash;
}

/* The record was made by the command: no pin has seen it. */
static void undo(void *arg, struct kv_record *record)
{
    struct kv_machine *machine = arg;
    struct kv_tree *tree = record->is_element ? &machine->elements : &machine->tree;
    struct kv_record *found;

    if (record->is_element) {
        kv_collection_undo_index(machine, record);
    }
    if (record->older) {
        found = kv_tree_put(tree, record->older);
    } else {
        found = kv_tree_remove(tree, kv_record_key(record));
    }
    KV_ASSERT(found == record);
    kv_record_free(record);
}

void kv_machine_restore(struct kv_machine *machine, const struct kv_savepoint *savepoint)
{
    kv_history_undo(&machine->history, &savepoint->history, undo, machine);
    machine->settings = savepoint->settings;
    machine->last_collection_id = savepoint->last_collection_id;
    machine->data_bytes = savepoint->data_bytes;
    machine->state_hash = savepoint->state_hash;
    kv_topics_undo(&machine->topics);
    machine->changed = false;
}
