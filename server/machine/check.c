/* Invariants of the whole machine, for tests: M1 to M10, M13 to M18, C1 to C3 of collections, T1 to
 * T4 of topics. */
#include "common/assert.h"
#include "server/machine/deadlines.h"
#include "server/machine/zset_index.h"

#include <string.h>

static void check_versions(const struct kv_machine *machine, const struct kv_record *record)
{
    KV_ASSERT(record->mod_revision <= machine->revision);
    for (; record->older; record = record->older) {
        KV_ASSERT(record->older->mod_revision <= record->mod_revision);
    }
}

/* C1: the record's sums are those of the live elements. Returns how many of a sorted set there are.
 */
static uint64_t check_large(const struct kv_machine *machine, const struct kv_record *record)
{
    const struct kv_large large = kv_record_large(record);
    struct kv_large sums = {.id = large.id};
    struct kv_tree_cursor cursor;
    uint8_t prefix[KV_COLLECTION_ID_BYTES];

    KV_ASSERT(large.id <= machine->last_collection_id && large.count > 0);
    kv_put_u64_be(prefix, large.id);
    kv_tree_seek(&machine->elements, kv_slice_of(prefix, sizeof prefix), &cursor);
    for (const struct kv_record *element; (element = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        if (memcmp(element->bytes, prefix, sizeof prefix) != 0) {
            break;
        }
        KV_ASSERT(element->is_element && element->type == record->type);
        KV_ASSERT(element->tombstone || kv_deadlines_have(machine, element));
        check_versions(machine, element);
        if (!element->tombstone) {
            sums.count++;
            sums.bytes += kv_record_cost(element);
            sums.hash += kv_record_hash(element);
            KV_ASSERT(record->type != KV_TYPE_ZSET || kv_zset_index_has(machine, element));
        }
    }
    KV_ASSERT(memcmp(&sums, &large, sizeof sums) == 0);
    return record->type == KV_TYPE_ZSET ? large.count : 0;
}

/* M16: who waits belongs to a session that has no answer for it, and no list is there for him but
 * one that is noted. */
static void check_waiters(const struct kv_machine *machine)
{
    for (const struct kv_waiter *waiter = machine->waiters.oldest; waiter; waiter = waiter->newer) {
        const struct kv_sessions_one *one =
            kv_sessions_find(&machine->sessions, waiter->session_id);
        const struct kv_record *record = kv_keyspace_get(machine, kv_waiter_key(waiter));

        KV_ASSERT(one && waiter->sequence > one->acknowledged_through &&
                  !kv_sessions_reply_of(one, waiter->sequence));
        KV_ASSERT(!record || record->type != KV_TYPE_LIST ||
                  kv_waiters_is_noted(&machine->waiters, kv_waiter_key(waiter)));
    }
}

/* M17, M18: the indexes hold each live record that ends, and its lease is there; a hash's earliest
 * deadline is that of its fields. */
static void check_life(const struct kv_machine *machine,
                       const struct kv_record *record,
                       uint64_t *n_due,
                       uint64_t *n_leased)
{
    const struct kv_life life = kv_record_life(record);
    struct kv_slice field;
    int64_t fields_due_ms = 0;

    KV_ASSERT(kv_deadlines_have(machine, record));
    KV_ASSERT(life.expires_at_ms == 0 || life.lease_id == 0);
    KV_ASSERT(life.lease_id == 0 || kv_leases_find(&machine->leases, life.lease_id));
    if (record->is_large && record->type == KV_TYPE_HASH) {
        (void)kv_fields_first(machine, kv_record_large(record).id, &fields_due_ms, &field);
    }
    KV_ASSERT(fields_due_ms == life.fields_due_ms);
    *n_due += record->has_expiry || record->has_fields;
    *n_leased += record->has_lease;
}

void kv_machine_check_invariants(const struct kv_machine *machine)
{
    struct kv_tree_cursor cursor;
    uint64_t data_bytes = 0;
    uint64_t members = 0;
    uint64_t hash = 0;
    uint64_t n_due = 0, n_leased = 0;

    kv_tree_check_invariants(&machine->tree);
    kv_tree_check_invariants(&machine->elements);
    kv_tree_check_invariants(&machine->scores);
    kv_history_check_invariants(&machine->history, machine->revision);
    kv_sessions_check_invariants(&machine->sessions);
    kv_waiters_check_invariants(&machine->waiters);
    kv_topics_check_invariants(&machine->topics, machine->revision);
    check_waiters(machine);
    kv_leases_check_invariants(&machine->leases);
    kv_tree_check_invariants(&machine->deadlines);
    kv_tree_check_invariants(&machine->fields);
    kv_tree_check_invariants(&machine->lease_keys);
    kv_tree_seek(&machine->tree, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *record; (record = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        check_versions(machine, record);
        if (record->tombstone) {
            continue;
        }
        check_life(machine, record, &n_due, &n_leased);
        data_bytes += kv_record_data_bytes(record);
        hash += kv_record_hash(record);
        if (record->is_large) {
            members += check_large(machine, record);
        } else if (kv_type_is_collection((enum kv_type)record->type)) {
            /* C2 */
            KV_ASSERT(kv_packed_is_sound(&(struct kv_packed){.type = (enum kv_type)record->type,
                                                             .data = kv_record_value(record).data,
                                                             .size = record->value_size}));
        }
    }
    KV_ASSERT(n_due == kv_tree_count(&machine->deadlines));
    KV_ASSERT(n_leased == kv_tree_count(&machine->lease_keys));
    KV_ASSERT(data_bytes == machine->data_bytes);
    KV_ASSERT(hash == machine->state_hash);
    /* C3: the index holds each live member once; what ended and waits to be freed is in it, too. */
    KV_ASSERT(kv_tree_count(&machine->scores) >= members);
}
