#include "server/machine/collection.h"

#include "common/assert.h"
#include "server/machine/deadlines.h"
#include "server/machine/zset_index.h"

#include <string.h>

/* ---------------------------------------------------------------- the whole */

static void start(struct kv_collection *collection, struct kv_machine *machine, enum kv_type type)
{
    collection->machine = machine;
    collection->type = type;
    collection->revision = 0;
    collection->record = NULL;
    collection->is_large = false;
    collection->changed = false;
    collection->expires = false;
    collection->life = (struct kv_life){0};
    collection->packed = (struct kv_packed){.type = type};
}

void kv_collection_create(struct kv_machine *machine,
                          struct kv_slice key,
                          enum kv_type type,
                          struct kv_collection *ret_collection)
{
    start(ret_collection, machine, type);
    ret_collection->key = key;
    ret_collection->changed = true;
}

int kv_collection_open(struct kv_machine *machine,
                       struct kv_slice key,
                       enum kv_type type,
                       int64_t revision,
                       struct kv_answer *answer,
                       struct kv_collection *ret_collection)
{
    const struct kv_record *record;
    int status = kv_keyspace_check_revision(machine, revision, answer);

    if (status != 0) {
        return status;
    }
    record = kv_keyspace_get_at(machine, key, revision);
    if (record && record->type != type) {
        return kv_wrong_type(answer, record, type);
    }
    start(ret_collection, machine, type);
    ret_collection->key = key;
    ret_collection->revision = kv_revision_is_now(machine, revision) ? 0 : revision;
    ret_collection->record = record;
    ret_collection->life = kv_record_life(record);
    if (record && record->is_large) {
        ret_collection->is_large = true;
        ret_collection->large = kv_record_large(record);
        kv_put_u64_be(ret_collection->element_key, ret_collection->large.id);
    } else if (record) {
        ret_collection->packed.data = kv_record_value(record).data;
        ret_collection->packed.size = record->value_size;
    }
    return 0;
}

uint64_t kv_collection_count(const struct kv_collection *collection)
{
    return collection->is_large ? collection->large.count : kv_packed_count(&collection->packed);
}

static void fill_large(const struct kv_large *large, uint8_t *p)
{
    kv_put_u64(p, large->id);
    kv_put_u64(p + 8, large->count);
    kv_put_u64(p + 16, large->bytes);
    kv_put_u64(p + 24, large->hash);
}

/* Large, and no record tells of it yet: then nobody would know that its elements are to be freed.
 */
static bool has_own_elements(const struct kv_collection *collection)
{
    const struct kv_record *record = collection->record;

    return collection->is_large &&
           !(record && record->is_large && kv_record_large(record).id == collection->large.id);
}

static void delete_key(struct kv_collection *collection)
{
    if (collection->expires) {
        kv_keyspace_expire(collection->machine, collection->key);
    } else {
        kv_keyspace_delete(collection->machine, collection->key);
    }
}

/* The earliest deadline of the fields; 0: none has any. */
static int64_t fields_due_ms(const struct kv_collection *collection)
{
    struct kv_slice field;
    int64_t due_ms;

    return collection->is_large && collection->type == KV_TYPE_HASH &&
                   kv_fields_first(collection->machine, collection->large.id, &due_ms, &field)
               ? due_ms
               : 0;
}

void kv_collection_commit(struct kv_collection *collection)
{
    struct kv_machine *machine = collection->machine;
    const struct kv_packed *packed = &collection->packed;
    size_t size = collection->is_large ? (size_t)KV_LARGE_BYTES : packed->size;
    struct kv_record *record;

    if (!collection->changed) {
        return;
    }
    collection->changed = false;
    if (kv_collection_count(collection) == 0) {
        /* No command makes a collection large and takes all out of it again. */
        KV_ASSERT(!has_own_elements(collection));
        if (kv_keyspace_get(machine, collection->key)) {
            delete_key(collection);
        }
        return;
    }
    collection->life.fields_due_ms = fields_due_ms(collection);
    record = kv_keyspace_begin_living(
        machine, collection->key, collection->type, size, &collection->life);
    record->is_large = collection->is_large;
    if (collection->is_large) {
        fill_large(&collection->large, record->bytes + collection->key.size);
    } else {
        memcpy(record->bytes + collection->key.size, packed->data, packed->size);
    }
    kv_keyspace_commit(machine, record);
}

void kv_collection_edit(struct kv_collection *collection)
{
    KV_ASSERT(collection->revision == 0 && !collection->is_large);
    if (!collection->packed.memory) {
        collection->packed.memory = kv_reply_alloc(collection->machine, KV_INLINE_BYTES_MAX);
    }
    collection->changed = true;
}

struct kv_packed kv_collection_enlarge(struct kv_collection *collection)
{
    struct kv_packed packed = collection->packed;

    KV_ASSERT(collection->revision == 0 && !collection->is_large);
    collection->is_large = true;
    collection->changed = true;
    collection->large = (struct kv_large){.id = ++collection->machine->last_collection_id};
    kv_put_u64_be(collection->element_key, collection->large.id);
    collection->packed = (struct kv_packed){.type = collection->type};
    return packed;
}

/* ---------------------------------------------------------------- elements */

struct kv_slice kv_element_key(struct kv_collection *collection, struct kv_slice name)
{
    KV_ASSERT(name.size <= KV_ELEMENT_KEY_BYTES_MAX - KV_COLLECTION_ID_BYTES);
    if (name.size > 0) {
        memcpy(collection->element_key + KV_COLLECTION_ID_BYTES, name.data, name.size);
    }
    return kv_slice_of(collection->element_key, KV_COLLECTION_ID_BYTES + name.size);
}

static const struct kv_record *at_revision(const struct kv_collection *collection,
                                           const struct kv_record *newest)
{
    if (collection->revision != 0) {
        return kv_machine_record_at(collection->machine, newest, collection->revision);
    }
    return newest && !newest->tombstone ? newest : NULL;
}

const struct kv_record *kv_element_find(struct kv_collection *collection, struct kv_slice name)
{
    return at_revision(
        collection, kv_tree_find(&collection->machine->elements, kv_element_key(collection, name)));
}

/* Puts the version in, and keeps the sums. Returns the live one that it replaced. */
static const struct kv_record *commit_element(struct kv_collection *collection,
                                              struct kv_record *record)
{
    struct kv_machine *machine = collection->machine;
    struct kv_record *older = kv_tree_put(&machine->elements, record);
    const bool was_live = older && !older->tombstone;

    record->older = older;
    kv_record_supersede(older, record);
    if (!record->tombstone) {
        collection->large.count++;
        collection->large.bytes += kv_record_cost(record);
        collection->large.hash += kv_record_hash(record);
    }
    if (was_live) {
        kv_deadlines_remove(machine, older);
        collection->large.count--;
        collection->large.bytes -= kv_record_cost(older);
        collection->large.hash -= kv_record_hash(older);
    }
    if (!record->tombstone) {
        kv_deadlines_add(machine, record);
    }
    kv_history_note(&machine->history, record);
    machine->written_bytes += kv_record_cost(record);
    collection->changed = true;
    /* The key's record follows with the commit; a command that fails before is taken back. */
    machine->changed = true;
    return was_live ? older : NULL;
}

static struct kv_record *new_element(struct kv_collection *collection,
                                     struct kv_slice name,
                                     size_t value_size,
                                     int64_t expires_at_ms)
{
    const struct kv_life life = {.expires_at_ms = expires_at_ms};
    struct kv_record *record =
        kv_record_new_living(kv_element_key(collection, name), value_size, &life);

    record->is_element = 1;
    record->type = collection->type & 0xf;
    record->mod_revision = collection->machine->revision + 1;
    return record;
}

const struct kv_record *
kv_element_put(struct kv_collection *collection, struct kv_slice name, struct kv_slice value)
{
    return kv_element_put_until(collection, name, value, 0);
}

const struct kv_record *kv_element_put_until(struct kv_collection *collection,
                                             struct kv_slice name,
                                             struct kv_slice value,
                                             int64_t expires_at_ms)
{
    struct kv_record *record = new_element(collection, name, value.size, expires_at_ms);

    if (value.size > 0) {
        memcpy(record->bytes + record->key_size, value.data, value.size);
    }
    return commit_element(collection, record);
}

const struct kv_record *kv_element_remove(struct kv_collection *collection, struct kv_slice name)
{
    struct kv_record *record;

    if (!kv_element_find(collection, name)) {
        return NULL;
    }
    record = new_element(collection, name, 0, 0);
    record->tombstone = 1;
    return commit_element(collection, record);
}

uint64_t kv_element_rank(struct kv_collection *collection, struct kv_slice name)
{
    const struct kv_tree *tree = &collection->machine->elements;
    uint64_t before = kv_tree_rank(tree, kv_element_key(collection, kv_slice_of(NULL, 0)));

    return kv_tree_rank(tree, kv_element_key(collection, name)) - before;
}

const struct kv_record *kv_element_nth(struct kv_collection *collection, uint64_t n)
{
    const struct kv_tree *tree = &collection->machine->elements;

    KV_ASSERT(n < collection->large.count);
    return kv_tree_nth(tree,
                       kv_tree_rank(tree, kv_element_key(collection, kv_slice_of(NULL, 0))) + n);
}

void kv_element_seek(struct kv_collection *collection,
                     struct kv_slice name,
                     struct kv_element_cursor *ret_cursor)
{
    ret_cursor->collection = collection;
    ret_cursor->descending = false;
    kv_tree_seek(
        &collection->machine->elements, kv_element_key(collection, name), &ret_cursor->tree);
}

void kv_element_seek_before(struct kv_collection *collection,
                            struct kv_slice name,
                            bool has_name,
                            struct kv_element_cursor *ret_cursor)
{
    uint8_t next_id[KV_COLLECTION_ID_BYTES];
    struct kv_slice end = kv_element_key(collection, name);

    if (!has_name) {
        kv_put_u64_be(next_id, collection->large.id + 1);
        end = kv_slice_of(next_id, sizeof next_id);
    }
    ret_cursor->collection = collection;
    ret_cursor->descending = true;
    kv_tree_seek_before(&collection->machine->elements, end, true, &ret_cursor->tree);
}

const struct kv_record *kv_element_next(struct kv_element_cursor *cursor, uint64_t *n_visited)
{
    const struct kv_collection *collection = cursor->collection;
    const struct kv_record *newest;

    for (;;) {
        const struct kv_record *record;

        if (collection->revision == 0) {
            kv_tree_skip_dead(&cursor->tree, !cursor->descending);
        }
        newest = kv_tree_cursor_get(&cursor->tree);
        if (!newest ||
            memcmp(newest->bytes, collection->element_key, KV_COLLECTION_ID_BYTES) != 0) {
            return NULL;
        }
        if (cursor->descending) {
            kv_tree_previous(&cursor->tree);
        } else {
            kv_tree_next(&cursor->tree);
        }
        /* How many of the dead are still there must decide nothing (M10). */
        if (n_visited && !kv_keyspace_is_dead(collection->machine, newest)) {
            (*n_visited)++;
        }
        record = at_revision(collection, newest);
        if (record) {
            return record;
        }
    }
}

/* ---------------------------------------------------------------- undo and the end */

void kv_collection_undo_index(struct kv_machine *machine, const struct kv_record *element)
{
    if (element->type != KV_TYPE_ZSET) {
        return;
    }
    if (!element->tombstone) {
        kv_zset_index_remove(machine, element);
    }
    if (element->older && !element->older->tombstone) {
        kv_zset_index_put(machine, element->older);
    }
}

bool kv_collection_reclaim_one(struct kv_machine *machine, uint64_t id)
{
    uint8_t prefix[KV_COLLECTION_ID_BYTES];
    struct kv_tree_cursor cursor;
    struct kv_record *record;

    kv_put_u64_be(prefix, id);
    kv_tree_seek(&machine->elements, kv_slice_of(prefix, sizeof prefix), &cursor);
    record = kv_tree_cursor_get(&cursor);
    if (!record || memcmp(record->bytes, prefix, sizeof prefix) != 0) {
        return false;
    }
    if (record->type == KV_TYPE_ZSET && !record->tombstone) {
        kv_zset_index_remove(machine, record);
    }
    if (!record->tombstone) {
        kv_deadlines_remove(machine, record);
    }
    (void)kv_tree_remove(&machine->elements, kv_record_key(record));
    kv_tree_retire_record(&machine->elements, record);
    return true;
}
