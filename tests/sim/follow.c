#include "tests/sim/follow.h"

#include "common/assert.h"
#include "common/reached.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- recording */

static void *packed_copy(struct kv_arena *arena, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size + 1);
    ProtobufCAllocator allocator;
    void *result;

    KV_ASSERT(packed);
    protobuf_c_message_pack(message, packed);
    kv_arena_protobuf_allocator(arena, &allocator);
    result = protobuf_c_message_unpack(message->descriptor, &allocator, size, packed);
    KV_ASSERT(result);
    free(packed);
    return result;
}

void followed_init(struct followed *followed,
                   unsigned client,
                   const Kv__Request *request,
                   int64_t known)
{
    *followed = (struct followed){.client = client, .known = known, .is_open = true};
    kv_arena_init(&followed->arena, SIZE_MAX);
    followed->request = packed_copy(&followed->arena, &request->base);
}

void followed_deinit(struct followed *followed)
{
    free(followed->items);
    kv_arena_deinit(&followed->arena);
}

void followed_item(struct followed *followed, const Kv__StreamItem *item)
{
    if (followed->n_items == followed->capacity) {
        followed->capacity = followed->capacity ? followed->capacity * 2 : 16;
        followed->items = realloc(followed->items, followed->capacity * sizeof(Kv__StreamItem *));
        KV_ASSERT(followed->items);
    }
    followed->items[followed->n_items++] = packed_copy(&followed->arena, &item->base);
}

void followed_end(struct followed *followed, int status, const Kv__Hint *hint)
{
    followed->is_open = false;
    followed->status = status;
    followed->oldest = hint ? hint->oldest_revision : 0;
}

int64_t followed_told(const struct followed *followed)
{
    const Kv__StreamItem *last =
        followed->n_items > 0 ? followed->items[followed->n_items - 1] : NULL;

    if (!last) {
        return -1;
    }
    return last->item_case == KV__STREAM_ITEM__ITEM_TOPIC   ? last->topic->revision
           : last->item_case == KV__STREAM_ITEM__ITEM_WATCH ? last->watch->revision
                                                            : -1;
}

/* ---------------------------------------------------------------- one event */

struct judging {
    const struct followed *followed;
    const Kv__Watch *watch;
    const struct truth *truth;
    struct checkers *checkers;
    const struct true_event **due;    /* what it asked for, from its beginning */
    bool *told;                       /* by place in due */
    size_t n_due, next;               /* the first that was not told */
    int64_t revision;                 /* everything up to here was told */
    bool in_fragments;                /* the item before was not the last of its revision */
    const struct true_event *expired; /* the newest that was taken by time */
    Kv__Event pending; /* may go on with the next item; kv: NULL when there is none */
    const struct true_event *pending_of;
    struct kv_arena arena;
};

static void KV_PRINTF(4, 5) complain(
    struct judging *judging, int64_t revision, struct kv_slice key, const char *format, ...)
{
    char what[160];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    checkers_fail(judging->checkers,
                  "a watch of client %u from revision %" PRId64 ": %s (revision %" PRId64
                  ", key \"%.*s\")",
                  judging->followed->client,
                  judging->watch->start_revision,
                  what,
                  revision,
                  (int)key.size,
                  (const char *)key.data);
}

static struct kv_slice slice_of(ProtobufCBinaryData bytes)
{
    return kv_slice_of(bytes.data, bytes.len);
}

static bool is_same(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    size_t size = protobuf_c_message_get_packed_size(a);
    uint8_t *first, *second;
    bool result;

    if (size != protobuf_c_message_get_packed_size(b)) {
        return false;
    }
    first = malloc(2 * size + 1);
    KV_ASSERT(first);
    second = first + size;
    protobuf_c_message_pack(a, first);
    protobuf_c_message_pack(b, second);
    result = size == 0 || memcmp(first, second, size) == 0;
    free(first);
    return result;
}

static Kv__EventKind kind_of(const struct true_event *event)
{
    return event->after     ? KV__EVENT_KIND__EVENT_PUT
           : event->by_time ? KV__EVENT_KIND__EVENT_EXPIRE
                            : KV__EVENT_KIND__EVENT_DELETE;
}

/* With or without its value. */
static bool is_pair(const Kv__KeyValue *told, const Kv__KeyValue *truth, bool keys_only)
{
    Kv__KeyValue expected = *truth;

    if (keys_only) {
        expected.value = (ProtobufCBinaryData){0};
    }
    return is_same(&told->base, &expected.base);
}

static bool is_gone(const Kv__KeyValue *told, const struct true_event *event)
{
    Kv__KeyValue expected = KV__KEY_VALUE__INIT;

    expected.key = told->key;
    expected.mod_revision = event->revision;
    return is_same(&told->base, &expected.base);
}

/* ---------------------------------------------------------------- elements */

static bool is_multiple(const struct true_event *event)
{
    return (event->before ? event->before : event->after)->type == KV__TYPE__TYPE_LIST;
}

static size_t find(const struct true_element *elements, size_t n, struct kv_slice name)
{
    for (size_t i = 0; i < n; i++) {
        if (kv_slice_equal(elements[i].name, name)) {
            return i;
        }
    }
    return n;
}

static void set(struct true_element *elements, size_t *n, struct true_element element, bool again)
{
    size_t place = again ? *n : find(elements, *n, element.name);

    elements[place] = element;
    *n += place == *n;
}

static bool take_away(struct true_element *elements, size_t *n, struct kv_slice name)
{
    size_t place = find(elements, *n, name);

    if (place == *n) {
        return false;
    }
    elements[place] = elements[--*n];
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct true_element *first = a;
    const struct true_element *second = b;
    int order = kv_slice_compare(first->name, second->name);

    return order ? order : kv_slice_compare(first->value, second->value);
}

static void
add_elements(struct true_element *elements, size_t *n, const Kv__Event *told, bool is_list)
{
    for (size_t i = 0; i < told->n_fields; i++) {
        set(elements,
            n,
            (struct true_element){.name = slice_of(told->fields[i]->name),
                                  .value = slice_of(told->fields[i]->value)},
            false);
    }
    for (size_t i = 0; i < told->n_elements; i++) {
        set(elements, n, (struct true_element){.name = slice_of(told->elements[i])}, is_list);
    }
    for (size_t i = 0; i < told->n_members; i++) {
        set(elements,
            n,
            (struct true_element){.name = slice_of(told->members[i]->member),
                                  .score = told->members[i]->score},
            false);
    }
}

static bool has_elements(const Kv__Event *told)
{
    return told->n_fields + told->n_elements + told->n_members + told->n_removed > 0;
}

/* What was there, changed as the event says, is what is there. What was written anew is not told
 * by its elements. */
static bool explains(const Kv__Event *told, const struct true_event *event)
{
    static const struct true_content nothing;
    const struct true_content *base = event->before ? event->was : &nothing;
    size_t most, n;
    struct true_element *elements;
    bool result = true;

    if (told->replaced || (event->before && event->before->type != event->after->type)) {
        return !has_elements(told);
    }
    if (!base || !event->holds) {
        return true; /* not known */
    }
    n = base->n;
    most = n + told->n_fields + told->n_elements + told->n_members + 1;
    elements = calloc(most, sizeof *elements);
    KV_ASSERT(elements);
    if (n > 0) {
        memcpy(elements, base->elements, n * sizeof *elements);
    }
    for (size_t i = 0; i < told->n_removed && result; i++) {
        result = take_away(elements, &n, slice_of(told->removed[i]));
    }
    add_elements(elements, &n, told, is_multiple(event));
    qsort(elements, n, sizeof *elements, by_name);
    result = result && n == event->holds->n;
    for (size_t i = 0; i < n && result; i++) {
        result = by_name(&elements[i], &event->holds->elements[i]) == 0 &&
                 memcmp(&elements[i].score, &event->holds->elements[i].score, sizeof(double)) == 0;
    }
    free(elements);
    return result;
}

static void
judge_event(struct judging *judging, const Kv__Event *told, const struct true_event *event)
{
    bool keys_only = judging->watch->keys_only;

    if (told->kind != kind_of(event)) {
        complain(judging, event->revision, event->key, "an event of another kind");
    } else if (event->after ? !is_pair(told->kv, event->after, keys_only)
                            : !is_gone(told->kv, event)) {
        complain(judging, event->revision, event->key, "an event with other values");
    } else if (judging->watch->with_previous && event->before
                   ? !told->previous || !is_pair(told->previous, event->before, keys_only)
                   : told->previous != NULL) {
        complain(judging, event->revision, event->key, "an event with another previous value");
    } else if (keys_only || !event->after ? has_elements(told) : !explains(told, event)) {
        complain(judging, event->revision, event->key, "an event with other elements");
    }
}

/* ---------------------------------------------------------------- events in pieces */

static void judge_pending(struct judging *judging)
{
    if (judging->pending_of) {
        judge_event(judging, &judging->pending, judging->pending_of);
        judging->pending_of = NULL;
    }
}

static void *joined(struct judging *judging,
                    const void *first,
                    size_t n_first,
                    const void *second,
                    size_t n,
                    size_t size)
{
    uint8_t *memory = kv_arena_alloc(&judging->arena, (n_first + n) * size + 1);

    KV_ASSERT(memory);
    if (n_first > 0) {
        memcpy(memory, first, n_first * size);
    }
    if (n > 0) {
        memcpy(memory + n_first * size, second, n * size);
    }
    return memory;
}
#define JOIN(judging, pending, told, list)           \
    ((pending)->list = joined(judging,               \
                              (pending)->list,       \
                              (pending)->n_##list,   \
                              (told)->list,          \
                              (told)->n_##list,      \
                              sizeof *(told)->list), \
     (pending)->n_##list += (told)->n_##list)

/* More elements of the event that the fragment before ended with. */
static bool goes_on(struct judging *judging, const Kv__Event *told)
{
    Kv__Event *pending = &judging->pending;

    if (!judging->pending_of || !is_same(&pending->kv->base, &told->kv->base) ||
        pending->kind != told->kind || told->previous) {
        return false;
    }
    JOIN(judging, pending, told, fields);
    JOIN(judging, pending, told, elements);
    JOIN(judging, pending, told, members);
    JOIN(judging, pending, told, removed);
    return true;
}

/* ---------------------------------------------------------------- streams */

static bool is_in_range(const Kv__KeyRange *range, struct kv_slice key)
{
    struct kv_slice start = slice_of(range->start);
    int order = kv_slice_compare(key, start);

    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__ALL:
        return true;
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        return order >= 0;
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        return start.size == 0 ||
               (key.size >= start.size && memcmp(key.data, start.data, start.size) == 0);
    default:
        return range->end.len > 0 ? order >= 0 && kv_slice_compare(key, slice_of(range->end)) < 0
                                  : order == 0;
    }
}

static bool is_asked_for(const Kv__Watch *watch, const struct true_event *event)
{
    Kv__Type type = (event->after ? event->after : event->before)->type;
    bool kind = watch->n_kinds == 0, fits = watch->n_types == 0;

    for (size_t i = 0; i < watch->n_kinds; i++) {
        kind = kind || watch->kinds[i] == kind_of(event);
    }
    for (size_t i = 0; i < watch->n_types; i++) {
        fits = fits || watch->types[i] == type;
    }
    return kind && fits && is_in_range(watch->range, event->key);
}

static void collect_due(struct judging *judging)
{
    const struct truth *truth = judging->truth;

    judging->due = malloc((truth->n_events + 1) * sizeof *judging->due);
    judging->told = calloc(truth->n_events + 1, sizeof *judging->told);
    KV_ASSERT(judging->due && judging->told);
    for (size_t i = 0; i < truth->n_events; i++) {
        if (truth->events[i].revision > judging->revision &&
            is_asked_for(judging->watch, &truth->events[i])) {
            judging->due[judging->n_due++] = &truth->events[i];
        }
    }
}

/* All that happened up to the revision must have been told. */
static void demand(struct judging *judging, int64_t revision, const char *what)
{
    while (judging->next < judging->n_due && judging->due[judging->next]->revision <= revision) {
        const struct true_event *event = judging->due[judging->next];

        if (!judging->told[judging->next]) {
            complain(judging, event->revision, event->key, "%s", what);
            return;
        }
        judging->next++;
    }
}

/* What ends together is told by (deadline, key); two leases, or a lease and a key, that end in the
 * same ms have no order. */
static void judge_order(struct judging *judging, const struct true_event *event)
{
    const struct true_event *last = judging->expired;

    if (!event->by_time || event->after) {
        return;
    }
    KV_REACHED("watch-expiry");
    if (last && last->revision == event->revision && event->deadline_ms > 0 &&
        last->deadline_ms > 0 &&
        (event->deadline_ms < last->deadline_ms ||
         (event->deadline_ms == last->deadline_ms &&
          event->before->lease_id == last->before->lease_id &&
          kv_slice_compare(event->key, last->key) < 0))) {
        complain(judging, event->revision, event->key, "what ended later was told sooner");
    }
    judging->expired = event;
}

static void take_event(struct judging *judging, const Kv__Event *told)
{
    int64_t revision = told->kv ? told->kv->mod_revision : 0;
    struct kv_slice key = told->kv ? slice_of(told->kv->key) : (struct kv_slice){0};
    size_t place;

    if (revision <= judging->revision) {
        complain(judging, revision, key, "an event of a revision that was told already");
        return;
    }
    demand(judging, revision - 1, "an event is missing");
    place = judging->next;
    while (place < judging->n_due && judging->due[place]->revision == revision &&
           !kv_slice_equal(judging->due[place]->key, key)) {
        place++;
    }
    if (place == judging->n_due || judging->due[place]->revision != revision) {
        complain(judging, revision, key, "an event that is none of this watch");
    } else if (judging->told[place]) {
        complain(judging, revision, key, "an event was told twice");
    } else {
        judging->told[place] = true;
        judging->pending = *told;
        judging->pending_of = judging->due[place];
        judge_order(judging, judging->due[place]);
    }
}

static void take_item(struct judging *judging, const Kv__StreamItem *item)
{
    const Kv__WatchEvents *events = item->watch;
    int64_t last = 0;

    for (size_t i = 0; i < events->n_events; i++) {
        int64_t revision = events->events[i]->kv ? events->events[i]->kv->mod_revision : 0;

        if (revision < last) {
            complain(judging, revision, (struct kv_slice){0}, "events run back");
        }
        last = revision;
        if (i == 0 && judging->in_fragments && goes_on(judging, events->events[i])) {
            continue;
        }
        judge_pending(judging);
        take_event(judging, events->events[i]);
    }
    if (item->more_fragments) {
        KV_REACHED("watch-fragment");
    }
    judging->in_fragments = item->more_fragments;
    if (!item->more_fragments) {
        judge_pending(judging);
    }
    if (events->revision < judging->revision) {
        complain(judging, events->revision, (struct kv_slice){0}, "progress runs back");
    } else if (events->revision > judging->truth->revision &&
               events->revision > judging->watch->start_revision - 1) {
        complain(judging, events->revision, (struct kv_slice){0}, "it tells of what never was");
    } else if (item->more_fragments ? events->revision >= last : events->revision < last) {
        complain(judging,
                 last,
                 (struct kv_slice){0},
                 item->more_fragments ? "a fragment says that it is whole"
                                      : "an event lies beyond the progress of its item");
    }
    demand(judging, events->revision, "progress overtakes an event");
    judging->revision = events->revision;
}

static void take_first(struct judging *judging, const Kv__StreamItem *item)
{
    const Kv__WatchEvents *events = item->watch;

    judging->revision = events->revision;
    if (events->n_events > 0 || item->more_fragments) {
        complain(judging, events->revision, (struct kv_slice){0}, "its first item has events");
    } else if (judging->watch->start_revision > 0
                   ? events->revision != judging->watch->start_revision - 1
                   : events->revision < judging->followed->known ||
                         events->revision > judging->truth->revision) {
        complain(judging,
                 events->revision,
                 (struct kv_slice){0},
                 "it begins elsewhere than it was told to (revision %" PRId64 " was known)",
                 judging->followed->known);
    }
    collect_due(judging);
}

/* Is what it would have told next gone for good? */
static void judge_compacted(struct judging *judging)
{
    const struct followed *followed = judging->followed;
    int64_t wanted = followed->n_items > 0 ? judging->revision + 1 : judging->watch->start_revision;

    if (followed->oldest < wanted || wanted == 0) {
        complain(judging,
                 wanted,
                 (struct kv_slice){0},
                 "it ended as compacted to %" PRId64 ", which it does not need",
                 followed->oldest);
    } else if (followed->oldest > judging->truth->oldest) {
        complain(judging,
                 followed->oldest,
                 (struct kv_slice){0},
                 "it ended as compacted, nothing was compacted so far");
    }
}

void followed_judge(const struct followed *followed,
                    const struct truth *truth,
                    struct checkers *checkers)
{
    struct judging judging = {.followed = followed,
                              .watch = followed->request->watch,
                              .truth = truth,
                              .checkers = checkers};

    if (followed->request->command_case == KV__REQUEST__COMMAND_SUBSCRIBE) {
        followed_judge_topics(followed, truth, checkers);
        return;
    }
    kv_arena_init(&judging.arena, SIZE_MAX);
    for (size_t i = 0; i < followed->n_items && !checkers->has_failed; i++) {
        const Kv__StreamItem *item = followed->items[i];

        if (item->item_case != KV__STREAM_ITEM__ITEM_WATCH) {
            complain(&judging, 0, (struct kv_slice){0}, "an item without events");
        } else if (i == 0) {
            take_first(&judging, item);
        } else {
            take_item(&judging, item);
        }
    }
    if (followed->status == KV_COMPACTED) {
        judge_compacted(&judging);
    } else if (followed->is_open) {
        demand(&judging, truth->revision, "an event has not come, though there was time");
    }
    free(judging.due);
    free(judging.told);
    kv_arena_deinit(&judging.arena);
}
