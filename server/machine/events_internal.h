/* What events.c and events_elements.c share. */
#ifndef KV_MACHINE_EVENTS_INTERNAL_H
#define KV_MACHINE_EVENTS_INTERNAL_H

#include "server/machine/events.h"
#include "server/machine/machine_internal.h"

/* Field 2 of WatchEvents, and the bytes before an event at most: tag and size. */
enum { KV_EVENT_TAG = 2 << 3 | 2, KV_EVENT_HEAD_BYTES_MAX = 11 };

/* An event being made, in the arena of the machine. */
struct kv_event_builder {
    struct kv_machine *machine;
    Kv__Event event;
    Kv__KeyValue kv;
    Kv__KeyValue previous;
    size_t fields_capacity, elements_capacity, members_capacity, removed_capacity;
    size_t bytes; /* of elements so far, about */
};

/* What was there before the record's revision, or NULL. The revision must lie behind the oldest one
 * (M11). */
const struct kv_record *kv_event_before(const struct kv_record *record);
/* The elements of a collection that the event's revision changed. As kv_event_pack(). */
bool kv_event_add_elements(struct kv_event_builder *builder,
                           const struct kv_event *event,
                           struct kv_event_room *room);

/* --- events_index.c: of a revision with many records --- */
/* Those of one collection are found without passing over all others: an event of each of 4096 large
 * hashes that one transaction changes would look at the records of all. Made in one go, about
 * 20 ns a record, and kept until another revision's is asked for. first: sequence of the
 * revision's first record. */
const struct kv_elements_index *
kv_elements_index_of(struct kv_machine *machine, uint64_t first, int64_t revision);
/* Offsets in the revision of records that may be of elements of the collection, ascending; the
 * first at or behind `from`, and the one behind another. UINT64_MAX: there is none. */
uint64_t kv_elements_index_begin(const struct kv_elements_index *index, uint64_t id, uint64_t from);
uint64_t kv_elements_index_next(const struct kv_elements_index *index, uint64_t offset);

#endif
