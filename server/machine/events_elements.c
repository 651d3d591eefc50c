/* Which elements of a collection a revision changed: of an inline one by comparing the two packed
 * values, of a large one by the records of its elements. */
#include "server/machine/events_internal.h"

#include "server/machine/collection.h"
#include "server/machine/command.h"

/* Of an element on the wire besides its bytes, at most. */
enum { ELEMENT_OVERHEAD_BYTES = 24 };

static ProtobufCBinaryData proto_of(struct kv_slice bytes)
{
    return (ProtobufCBinaryData){bytes.size, (uint8_t *)(uintptr_t)bytes.data};
}

static void add_field(struct kv_event_builder *builder, const struct kv_element *element)
{
    const struct kv_slice name = element->name;
    const struct kv_slice value = element->value;
    Kv__Event *event = &builder->event;
    Kv__HashField *field = kv_reply_alloc(builder->machine, sizeof *field);

    kv__hash_field__init(field);
    field->name = proto_of(name);
    field->value = proto_of(value);
    field->ttl_ms = element->expires_at_ms == 0
                        ? 0
                        : (uint64_t)kv_remaining_ms(builder->machine, element->expires_at_ms);
    event->fields = kv_reply_grow(builder->machine,
                                  event->fields,
                                  event->n_fields,
                                  &builder->fields_capacity,
                                  sizeof(Kv__HashField *));
    event->fields[event->n_fields++] = field;
    builder->bytes += ELEMENT_OVERHEAD_BYTES + name.size + value.size;
}

static void add_member(struct kv_event_builder *builder, struct kv_slice name, double score)
{
    Kv__Event *event = &builder->event;
    Kv__ZSetMember *member = kv_reply_alloc(builder->machine, sizeof *member);

    kv__zset_member__init(member);
    member->member = proto_of(name);
    member->score = score;
    event->members = kv_reply_grow(builder->machine,
                                   event->members,
                                   event->n_members,
                                   &builder->members_capacity,
                                   sizeof(Kv__ZSetMember *));
    event->members[event->n_members++] = member;
    builder->bytes += ELEMENT_OVERHEAD_BYTES + name.size;
}

static void add_element(struct kv_event_builder *builder, struct kv_slice bytes)
{
    Kv__Event *event = &builder->event;

    event->elements = kv_reply_grow(builder->machine,
                                    event->elements,
                                    event->n_elements,
                                    &builder->elements_capacity,
                                    sizeof *event->elements);
    event->elements[event->n_elements++] = proto_of(bytes);
    builder->bytes += ELEMENT_OVERHEAD_BYTES + bytes.size;
}

static void add_removed(struct kv_event_builder *builder, struct kv_slice bytes)
{
    Kv__Event *event = &builder->event;

    event->removed = kv_reply_grow(builder->machine,
                                   event->removed,
                                   event->n_removed,
                                   &builder->removed_capacity,
                                   sizeof *event->removed);
    event->removed[event->n_removed++] = proto_of(bytes);
    builder->bytes += ELEMENT_OVERHEAD_BYTES + bytes.size;
}

static void
add_new(struct kv_event_builder *builder, enum kv_type type, const struct kv_element *element)
{
    switch (type) {
    case KV_TYPE_HASH:
        add_field(builder, element);
        return;
    case KV_TYPE_ZSET:
        add_member(builder, element->name, element->score);
        return;
    default:
        add_element(builder, element->name);
    }
}

/* ---------------------------------------------------------------- inline */

/* A packed value, taken apart. */
struct parts {
    size_t n;
    struct kv_element elements[KV_INLINE_ELEMENTS_MAX];
};

static void take_apart(const struct kv_record *record, struct parts *ret_parts)
{
    struct kv_packed packed = {0};
    size_t at = kv_packed_first();

    ret_parts->n = 0;
    if (!record) {
        return;
    }
    packed.type = (enum kv_type)record->type;
    packed.data = kv_record_value(record).data;
    packed.size = record->value_size;
    while (ret_parts->n < kv_packed_count(&packed)) {
        at = kv_packed_get(&packed, at, &ret_parts->elements[ret_parts->n++]);
    }
}

static bool is_same(const struct kv_element *a, const struct kv_element *b)
{
    return kv_slice_equal(a->name, b->name) && kv_slice_equal(a->value, b->value) &&
           a->score == b->score;
}

static const struct kv_element *find_name(const struct parts *parts, struct kv_slice name)
{
    for (size_t i = 0; i < parts->n; i++) {
        if (kv_slice_equal(parts->elements[i].name, name)) {
            return &parts->elements[i];
        }
    }
    return NULL;
}

/* By name: at most 128 each. */
static void compare_named(struct kv_event_builder *builder,
                          enum kv_type type,
                          const struct parts *old,
                          const struct parts *new)
{
    for (size_t i = 0; i < new->n; i++) {
        const struct kv_element *was = find_name(old, new->elements[i].name);

        if (!was || !is_same(was, &new->elements[i])) {
            add_new(builder, type, &new->elements[i]);
        }
    }
    for (size_t i = 0; i < old->n; i++) {
        if (!find_name(new, old->elements[i].name)) {
            add_removed(builder, old->elements[i].name);
        }
    }
}

/* What lies between the beginning and the end that both have. */
static void
compare_lists(struct kv_event_builder *builder, const struct parts *old, const struct parts *new)
{
    size_t front = 0;
    size_t back = 0;

    while (front < old->n &&
           front < new->n &&is_same(&old->elements[front], &new->elements[front])) {
        front++;
    }
    while (back < old->n - front &&
           back < new->n - front &&is_same(&old->elements[old->n - 1 - back],
                                           &new->elements[new->n - 1 - back])) {
        back++;
    }
    for (size_t i = front; i < new->n - back; i++) {
        add_element(builder, new->elements[i].name);
    }
    for (size_t i = front; i < old->n - back; i++) {
        add_removed(builder, old->elements[i].name);
    }
}

/* ---------------------------------------------------------------- large */

/* What the revision made of one element of a large collection. */
static void add_change(struct kv_event_builder *builder, const struct kv_record *record)
{
    const bool is_list = record->type == KV_TYPE_LIST;
    const struct kv_record *was = kv_event_before(record);
    const struct kv_slice value = kv_record_value(record);
    struct kv_element element = {.name = kv_element_name(record),
                                 .value = value,
                                 .expires_at_ms = kv_record_life(record).expires_at_ms};

    if (is_list && was) {
        if (!record->tombstone && kv_slice_equal(kv_record_value(was), value)) {
            return;
        }
        add_removed(builder, kv_record_value(was));
    } else if (record->tombstone && was) {
        add_removed(builder, element.name);
    }
    if (record->tombstone) {
        return;
    }
    if (is_list) {
        element.name = value;
    } else if (record->type == KV_TYPE_ZSET) {
        element.score = kv_score_of_bits(kv_get_u64(value.data));
        if (was && kv_slice_equal(kv_record_value(was), value)) {
            return;
        }
    } else if (record->type == KV_TYPE_SET && was) {
        return;
    }
    add_new(builder, (enum kv_type)record->type, &element);
}

/* Records of a revision that may be of one collection's elements, in order. */
struct walk {
    const struct kv_elements_index *index; /* NULL: one after the other */
    uint64_t offset;
};

static struct walk
begin_walk(struct kv_machine *machine, const struct kv_event *event, uint64_t first, uint64_t from)
{
    struct walk walk = {.offset = from};

    if (event->sequence - first > machine->elements_direct) {
        walk.index = kv_elements_index_of(machine, first, event->revision);
        walk.offset = kv_elements_index_begin(walk.index, kv_record_large(event->record).id, from);
    }
    return walk;
}

static void walk_on(struct walk *walk)
{
    walk->offset =
        walk->index ? kv_elements_index_next(walk->index, walk->offset) : walk->offset + 1;
}

/* The records of elements stand before the key's, in the same revision. */
static bool add_large(struct kv_event_builder *builder,
                      const struct kv_event *event,
                      struct kv_event_room *room)
{
    const struct kv_history *history = &builder->machine->history;
    const uint64_t id = kv_record_large(event->record).id;
    const uint64_t first = kv_history_find(history, event->revision);
    const uint64_t end = event->sequence - first;
    struct walk walk = begin_walk(builder->machine, event, first, room->elements);

    for (uint64_t n = 0; walk.offset < end; walk_on(&walk), n++) {
        const struct kv_record *record = kv_history_at(history, first + walk.offset);

        if (n == room->records || (builder->bytes > 0 && builder->bytes >= room->bytes)) {
            room->elements = walk.offset;
            return false;
        }
        if (record->is_element && !record->superseded && kv_get_u64_be(record->bytes) == id) {
            add_change(builder, record);
        }
    }
    return true;
}

bool kv_event_add_elements(struct kv_event_builder *builder,
                           const struct kv_event *event,
                           struct kv_event_room *room)
{
    const struct kv_record *new = event->record;
    const struct kv_record *old = event->before;
    const enum kv_type type = (enum kv_type) new->type;
    struct parts old_parts, new_parts;

    if (new->is_large && old &&
        old->is_large &&kv_record_large(old).id == kv_record_large(new).id) {
        return add_large(builder, event, room);
    }
    builder->event.replaced = new->is_large || (old && (old->type != new->type || old->is_large));
    if (builder->event.replaced) {
        return true;
    }
    take_apart(old, &old_parts);
    take_apart(new, &new_parts);
    if (type == KV_TYPE_LIST) {
        compare_lists(builder, &old_parts, &new_parts);
    } else {
        compare_named(builder, type, &old_parts, &new_parts);
    }
    return true;
}
