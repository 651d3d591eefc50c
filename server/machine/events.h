/* Events as watches tell them, made of the history (history.h): what one revision did to one key,
 * once, however many records it made on the way. Elements of a large collection that the revision
 * changed have records of their own before the key's.
 *
 * All functions run on the core's thread, between entries or at the end of one before
 * kv_machine_end(); what they give borrows the machine's memory until the next call. */
#ifndef KV_MACHINE_EVENTS_H
#define KV_MACHINE_EVENTS_H

#include "common/bytes.h"
#include "server/machine/machine.h"

struct kv_record;

/* What a watch wants. */
struct kv_event_query {
    struct kv_slice start; /* [start, end) */
    struct kv_slice end;
    bool has_end;
    bool is_key;    /* the one key `start` */
    uint8_t kinds;  /* bit 1 << EventKind */
    uint16_t types; /* bit 1 << Type */
    bool with_previous;
    bool keys_only;
};
/* Of a request that is valid; borrows its bytes, and memory for the end of a prefix. */
enum { KV_EVENT_QUERY_MEMORY_BYTES = 4098 };
void kv_event_query_of(const Kv__Watch *watch,
                       uint8_t memory[KV_EVENT_QUERY_MEMORY_BYTES],
                       struct kv_event_query *ret_query);

struct kv_event {
    int64_t revision;
    struct kv_slice key;
    Kv__EventKind kind;
    uint8_t type;                   /* after the change, or before a deletion */
    const struct kv_record *record; /* what the revision left */
    const struct kv_record *before; /* what was there before it; NULL: nothing */
    uint64_t sequence;              /* of the record in history */
};
bool kv_event_passes(const struct kv_event *event, const struct kv_event_query *query);

/* Gives all events of the revisions from this one on, in their order. */
void kv_machine_each_event(struct kv_machine *machine,
                           int64_t from_revision,
                           void (*fn)(void *arg, const struct kv_event *event),
                           void *arg);

/* How much of an event may be packed at once: elements of a large collection go in pieces. */
struct kv_event_room {
    size_t bytes;      /* at least one element comes nevertheless */
    uint64_t records;  /* looked at for elements */
    uint64_t elements; /* in, out: so many records of the revision are done */
};
/* Appends the event as a field of WatchEvents. False: there are more elements, from room->elements
 * on. Without memory the process ends. */
bool kv_event_pack(struct kv_machine *machine,
                   const struct kv_event *event,
                   const struct kv_event_query *form, /* with_previous, keys_only */
                   struct kv_event_room *room,
                   struct kv_buf *buf);

/* Where a reader of the past is: it may be within a revision. Good on every node. */
struct kv_event_position {
    int64_t revision;
    uint64_t records;  /* of it that are done */
    uint64_t elements; /* of the next one's, likewise */
    bool in_fragment;  /* events of the revision were given, and not yet all */
};
/* What one reading may do, and did. */
struct kv_event_piece {
    size_t max_bytes;     /* at least one event comes nevertheless */
    uint64_t max_records; /* looked at */
    int64_t to_revision;  /* the last one to give */
    size_t n_events;
    int64_t revision;    /* all up to here are given */
    bool more;           /* it stopped before to_revision's end */
    bool more_fragments; /* within a revision of which some are given */
};
/* Appends events to buf, from position on, which must lie behind the oldest revision. */
void kv_machine_read_events(struct kv_machine *machine,
                            const struct kv_event_query *query,
                            struct kv_event_position *position,
                            struct kv_event_piece *piece,
                            struct kv_buf *buf);

#endif
