#include "server/machine/events.h"

#include "common/assert.h"
#include "server/machine/events_internal.h"

#include <string.h>

/* An item is below a frame with this to spare. */
#define EVENT_BYTES_MAX (KV_REPLY_FRAME_BYTES_MAX - 64 * KV_KIB)
_Static_assert(KV_VALUE_BYTES_MAX + 64 * KV_KIB < EVENT_BYTES_MAX,
               "an event with a largest value fits without the previous one");

void kv_event_query_of(const Kv__Watch *watch,
                       uint8_t memory[KV_EVENT_QUERY_MEMORY_BYTES],
                       struct kv_event_query *ret_query)
{
    struct kv_bounds bounds;

    _Static_assert(sizeof bounds.end_memory == KV_EVENT_QUERY_MEMORY_BYTES, "an end fits");
    kv_bounds_of(watch->range, &bounds);
    *ret_query = (struct kv_event_query){
        .start = bounds.start,
        .end = bounds.end,
        .has_end = bounds.has_end,
        .is_key =
            watch->range->special == KV__KEY_RANGE__SPECIAL__NONE && watch->range->end.len == 0,
        .with_previous = watch->with_previous,
        .keys_only = watch->keys_only,
    };
    if (bounds.end.data == bounds.end_memory) {
        memcpy(memory, bounds.end_memory, bounds.end.size);
        ret_query->end.data = memory;
    }
    for (size_t i = 0; i < watch->n_kinds; i++) {
        ret_query->kinds |= (uint8_t)(1u << watch->kinds[i]);
    }
    for (size_t i = 0; i < watch->n_types; i++) {
        ret_query->types |= (uint16_t)(1u << watch->types[i]);
    }
    ret_query->kinds = ret_query->kinds ? ret_query->kinds : UINT8_MAX;
    ret_query->types = ret_query->types ? ret_query->types : UINT16_MAX;
}

const struct kv_record *kv_event_before(const struct kv_record *record)
{
    const int64_t revision = record->mod_revision;

    do {
        record = record->older;
    } while (record && record->mod_revision == revision);
    return record && !record->tombstone ? record : NULL;
}

/* False: the record is no event. */
static bool
make_event(const struct kv_record *record, uint64_t sequence, struct kv_event *ret_event)
{
    if (record->is_element || record->superseded) {
        return false;
    }
    ret_event->before = kv_event_before(record);
    if (record->tombstone && !ret_event->before) {
        return false;
    }
    ret_event->revision = record->mod_revision;
    ret_event->key = kv_record_key(record);
    ret_event->record = record;
    ret_event->sequence = sequence;
    ret_event->type = record->tombstone ? ret_event->before->type : record->type;
    ret_event->kind = !record->tombstone ? KV__EVENT_KIND__EVENT_PUT
                      : record->expired  ? KV__EVENT_KIND__EVENT_EXPIRE
                                         : KV__EVENT_KIND__EVENT_DELETE;
    return true;
}

static bool is_inside(struct kv_slice key, const struct kv_event_query *query)
{
    if (query->is_key) {
        return kv_slice_equal(key, query->start);
    }
    return kv_slice_compare(key, query->start) >= 0 &&
           (!query->has_end || kv_slice_compare(key, query->end) < 0);
}

bool kv_event_passes(const struct kv_event *event, const struct kv_event_query *query)
{
    return (query->kinds >> event->kind & 1) && (query->types >> event->type & 1);
}

void kv_machine_each_event(struct kv_machine *machine,
                           int64_t from_revision,
                           void (*fn)(void *arg, const struct kv_event *event),
                           void *arg)
{
    const uint64_t end = kv_history_end_sequence(&machine->history);
    struct kv_event event;

    for (uint64_t at = kv_history_find(&machine->history, from_revision); at < end; at++) {
        if (make_event(kv_history_at(&machine->history, at), at, &event)) {
            fn(arg, &event);
        }
    }
}

/* ---------------------------------------------------------------- packing */

static void fill_event(const struct kv_event *event,
                       const struct kv_event_query *form,
                       struct kv_event_builder *builder)
{
    kv__event__init(&builder->event);
    builder->event.kind = event->kind;
    builder->event.kv = &builder->kv;
    if (event->record->tombstone) {
        kv__key_value__init(&builder->kv);
        builder->kv.key =
            (ProtobufCBinaryData){event->key.size, (uint8_t *)(uintptr_t)event->key.data};
        builder->kv.mod_revision = event->revision;
    } else {
        kv_key_value_fill(&builder->kv, event->record, form->keys_only);
    }
    if (form->with_previous && event->before) {
        kv_key_value_fill(&builder->previous, event->before, form->keys_only);
        builder->event.previous = &builder->previous;
    }
}

static void append(const Kv__Event *event, struct kv_buf *buf)
{
    const size_t size = kv__event__get_packed_size(event);
    uint8_t *p = kv_buf_reserve(buf, size + KV_EVENT_HEAD_BYTES_MAX);
    size_t at = 0;

    if (!p) {
        kv_assert_failed("memory for an event", __FILE__, __LINE__);
    }
    p[at++] = KV_EVENT_TAG;
    for (size_t rest = size;; rest >>= 7) {
        p[at++] = (uint8_t)((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0));
        if (rest < 0x80) {
            break;
        }
    }
    kv__event__pack(event, p + at);
    buf->size += at + size;
}

bool kv_event_pack(struct kv_machine *machine,
                   const struct kv_event *event,
                   const struct kv_event_query *form,
                   struct kv_event_room *room,
                   struct kv_buf *buf)
{
    struct kv_event_builder builder = {.machine = machine};
    bool is_whole = true;

    kv_arena_reset(&machine->arena);
    kv_machine_reset_scratch(machine);
    fill_event(event, form, &builder);
    if (room->elements > 0) {
        builder.event.previous = NULL;
    }
    if (!form->keys_only && !event->record->tombstone &&
        kv_type_is_collection((enum kv_type)event->record->type)) {
        is_whole = kv_event_add_elements(&builder, event, room);
    }
    if (builder.event.previous &&
        builder.kv.value.len + builder.previous.value.len > EVENT_BYTES_MAX) {
        builder.previous.value = (ProtobufCBinaryData){0, NULL};
    }
    append(&builder.event, buf);
    return is_whole;
}

/* ---------------------------------------------------------------- reading the past */

/* Appends one event unless it makes the piece too large. *ret_whole: all of its elements are
 * there. */
static bool add_event(struct kv_machine *machine,
                      const struct kv_event *event,
                      const struct kv_event_query *query,
                      struct kv_event_position *position,
                      struct kv_event_piece *piece,
                      struct kv_buf *buf,
                      bool *ret_whole)
{
    const size_t size = buf->size;
    struct kv_event_room room = {
        .bytes = size < piece->max_bytes ? piece->max_bytes - size : 0,
        .records = piece->max_records,
        .elements = position->elements,
    };

    if (piece->n_events > 0 && size >= piece->max_bytes) {
        return false;
    }
    *ret_whole = kv_event_pack(machine, event, query, &room, buf);
    if (piece->n_events > 0 && buf->size > piece->max_bytes) {
        buf->size = size;
        return false;
    }
    piece->n_events++;
    position->elements = *ret_whole ? 0 : room.elements;
    position->in_fragment = true;
    return true;
}

/* Looks at one record. False: the piece ends before it, or within. */
static bool read_record(struct kv_machine *machine,
                        uint64_t at,
                        const struct kv_event_query *query,
                        struct kv_event_position *position,
                        struct kv_event_piece *piece,
                        struct kv_buf *buf)
{
    const struct kv_record *record = kv_history_at(&machine->history, at);
    struct kv_event event;
    bool is_whole = true;

    if (is_inside(kv_record_key(record), query) && make_event(record, at, &event) &&
        kv_event_passes(&event, query) &&
        (!add_event(machine, &event, query, position, piece, buf, &is_whole) || !is_whole)) {
        return false;
    }
    position->records++;
    return true;
}

void kv_machine_read_events(struct kv_machine *machine,
                            const struct kv_event_query *query,
                            struct kv_event_position *position,
                            struct kv_event_piece *piece,
                            struct kv_buf *buf)
{
    const struct kv_history *history = &machine->history;
    const uint64_t end = kv_history_end_sequence(history);
    uint64_t at = kv_history_find(history, position->revision) + position->records;
    uint64_t looked = 0;

    KV_ASSERT(position->revision > history->oldest_revision ||
              history->oldest_revision == KV_REVISION_FIRST);
    piece->n_events = 0;
    piece->more = false;
    for (; at < end; at++) {
        const int64_t revision = kv_history_at(history, at)->mod_revision;

        if (revision > piece->to_revision) {
            break;
        }
        if (revision != position->revision) {
            *position = (struct kv_event_position){.revision = revision};
        }
        if (looked++ == piece->max_records ||
            !read_record(machine, at, query, position, piece, buf)) {
            piece->more = true;
            break;
        }
    }
    if (!piece->more) {
        *position = (struct kv_event_position){.revision = piece->to_revision + 1};
    }
    piece->revision = position->revision - 1;
    piece->more_fragments = position->in_fragment;
}
