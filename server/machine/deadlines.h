/* Which key ends when, and which with which lease: indexes beside the trees of keys and elements.
 * They have no history and are functions of the live records, so a state that is loaded makes them
 * anew, and a command that is taken back brings them back by the records it takes out and in.
 *
 *   deadlines    (deadline, key): one of each key that has one, the earlier of its own and its
 *                fields'
 *   fields       (number of the large hash, deadline, field)
 *   lease_keys   (lease, key)
 *
 * Numbers are 8 bytes, big endian. A hash that ended leaves its fields in the index until its
 * elements are freed; nobody looks for them, since only its key's record tells its number. */
#ifndef KV_MACHINE_DEADLINES_H
#define KV_MACHINE_DEADLINES_H

#include "server/machine/collection.h"

/* A live record of a key or an element is there from now on, or no longer. */
void kv_deadlines_add(struct kv_machine *machine, const struct kv_record *record);
void kv_deadlines_remove(struct kv_machine *machine, const struct kv_record *record);
/* Does the record have anything to do with them? */
static inline bool kv_has_life(const struct kv_record *record)
{
    return record->has_expiry || record->has_lease || record->has_fields;
}

/* The least (deadline, key); false: there is none. The key borrows until the index changes. */
bool kv_deadlines_first(const struct kv_machine *machine,
                        int64_t *ret_due_ms,
                        struct kv_slice *ret_key);
/* The least deadline of the large hash's fields, and whose it is; false: none has any. */
bool kv_fields_first(const struct kv_machine *machine,
                     uint64_t id,
                     int64_t *ret_due_ms,
                     struct kv_slice *ret_field);
/* The lease's first key behind `after` (empty: of all); false: there is none. */
bool kv_lease_keys_next(const struct kv_machine *machine,
                        int64_t lease_id,
                        struct kv_slice after,
                        struct kv_slice *ret_key);
uint64_t kv_lease_keys_count(const struct kv_machine *machine, int64_t lease_id);
/* Are the record's entries there? For tests. */
bool kv_deadlines_have(const struct kv_machine *machine, const struct kv_record *record);

#endif
