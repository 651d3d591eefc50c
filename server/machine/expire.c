/* Time: what is due ends, in the order of (deadline, key), a bounded number of pieces an entry;
 * what is left comes with the next one. A piece is a key, or a field of a hash; of a hash that is
 * due, all fields that are go together. All that one entry ends has one revision.
 *
 * A ttl is a lower bound: cluster time is whole milliseconds, cut off, so what began within one is
 * whole only when the millisecond of its deadline has passed, too.
 *
 * A lease is dead when its deadline has passed, whether its keys have had their turn or not. */
#include "common/assert.h"
#include "common/reached.h"
#include "server/machine/deadlines.h"

const int64_t kv_lateness_bounds_ms[KV_LATENESS_BUCKETS] = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000};

static void note_lateness(struct kv_machine *machine, int64_t due_ms)
{
    const int64_t late_ms = machine->cluster_time_ms - due_ms;
    unsigned i = 0;

    while (i < KV_LATENESS_BUCKETS && late_ms > kv_lateness_bounds_ms[i]) {
        i++;
    }
    machine->lateness.counts[i]++;
    machine->lateness.sum_ms += (uint64_t)late_ms;
}

/* Ends fields of the hash that are due, at most n; returns how many. */
static size_t expire_fields(struct kv_machine *machine, struct kv_record *record, size_t n)
{
    struct kv_collection hash;
    struct kv_answer unused;
    struct kv_slice field;
    int64_t due_ms;
    size_t done = 0;
    int status =
        kv_collection_open(machine, kv_record_key(record), KV_TYPE_HASH, 0, &unused, &hash);

    KV_ASSERT(status == 0);
    while (done < n && kv_fields_first(machine, hash.large.id, &due_ms, &field) &&
           due_ms <= machine->expired_ms) {
        const struct kv_record *former = kv_element_remove(&hash, field);

        KV_ASSERT(former);
        note_lateness(machine, due_ms);
        done++;
    }
    hash.expires = true;
    kv_collection_commit(&hash);
    return done;
}

/* Ends the key, or fields of it. */
static size_t expire_key(struct kv_machine *machine, struct kv_slice key, size_t n)
{
    struct kv_record *record = kv_keyspace_get(machine, key);
    struct kv_life life;

    KV_ASSERT(record);
    life = kv_record_life(record);
    if (life.expires_at_ms == 0 || life.expires_at_ms > machine->expired_ms) {
        return expire_fields(machine, record, n);
    }
    note_lateness(machine, life.expires_at_ms);
    /* The index's key goes with this: the record's own stays. */
    kv_keyspace_expire(machine, kv_record_key(record));
    return 1;
}

/* Ends the next key of a dead lease, or the lease when it has none. */
static void expire_lease(struct kv_machine *machine, struct kv_lease *lease)
{
    struct kv_slice key;
    struct kv_record *record;

    if (!kv_lease_keys_next(machine, kv_lease_id(lease), kv_slice_of(NULL, 0), &key)) {
        kv_leases_remove(&machine->leases, lease);
        return;
    }
    record = kv_keyspace_get(machine, key);
    KV_ASSERT(record);
    if (lease->revoked) {
        kv_keyspace_delete(machine, kv_record_key(record));
    } else {
        note_lateness(machine, lease->item.deadline_ms);
        kv_keyspace_expire(machine, kv_record_key(record));
    }
}

void kv_machine_expire(struct kv_machine *machine, size_t max_pieces)
{
    const int64_t passed_ms = machine->cluster_time_ms - 1;
    size_t left = max_pieces < machine->expire_per_entry ? max_pieces : machine->expire_per_entry;

    if (machine->expired) {
        return;
    }
    machine->expired = true;
    machine->expired_ms = passed_ms;
    while (left > 0) {
        struct kv_lease *lease = kv_leases_first(&machine->leases);
        const int64_t lease_due_ms = lease ? lease->item.deadline_ms : INT64_MAX;
        int64_t key_due_ms = INT64_MAX;
        struct kv_slice key;

        (void)kv_deadlines_first(machine, &key_due_ms, &key);
        if (key_due_ms <= passed_ms && key_due_ms <= lease_due_ms) {
            left -= expire_key(machine, key, left);
        } else if (lease_due_ms <= passed_ms) {
            expire_lease(machine, lease);
            left--;
        } else {
            break;
        }
    }
    if (left == 0) {
        KV_REACHED("expiry-in-pieces");
    }
    if (machine->changed) {
        machine->revision++;
        machine->changed = false;
        machine->entry_changed = true;
    }
}
