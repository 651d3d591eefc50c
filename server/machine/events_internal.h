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

#endif
