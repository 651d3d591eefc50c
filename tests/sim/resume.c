#include "tests/sim/resume.h"

#include "client/follow.h"
#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

enum { QUEUE_BYTES = 64 * 1024 };

struct resumed {
    struct followed *into;
    struct kv_follow *follow;
    bool is_topic;
};

static ProtobufCBinaryData proto(struct kv_bytes bytes)
{
    return (ProtobufCBinaryData){bytes.size, (uint8_t *)(uintptr_t)bytes.data};
}

static struct kv_bytes plain(ProtobufCBinaryData bytes)
{
    return (struct kv_bytes){bytes.data, bytes.len};
}

/* ---------------------------------------------------------------- what is told */

static void *allocate(struct kv_arena *arena, size_t size)
{
    void *memory = kv_arena_alloc(arena, size + 1);

    KV_ASSERT(memory);
    return memory;
}

static Kv__KeyValue *pair_of(struct kv_arena *arena, const struct kv_pair *pair)
{
    Kv__KeyValue *kv = allocate(arena, sizeof *kv);

    kv__key_value__init(kv);
    kv->key = proto(pair->key);
    kv->value = proto(pair->value);
    kv->type = (Kv__Type)pair->type;
    kv->create_revision = pair->create_revision;
    kv->mod_revision = pair->mod_revision;
    kv->version = pair->version;
    kv->lease_id = pair->lease_id;
    kv->expires_at_ms = pair->expires_at_ms;
    kv->counter = pair->counter;
    kv->elements = pair->elements;
    return kv;
}

static ProtobufCBinaryData *list_of(struct kv_arena *arena, const struct kv_bytes *bytes, size_t n)
{
    ProtobufCBinaryData *list = allocate(arena, n * sizeof *list);

    for (size_t i = 0; i < n; i++) {
        list[i] = proto(bytes[i]);
    }
    return list;
}

static void fill_elements(struct kv_arena *arena, Kv__Event *event, const struct kv_event *told)
{
    event->n_elements = told->n_elements;
    event->elements = list_of(arena, told->elements, told->n_elements);
    event->n_removed = told->n_removed;
    event->removed = list_of(arena, told->removed, told->n_removed);
    event->n_fields = told->n_fields;
    event->fields = allocate(arena, told->n_fields * sizeof(Kv__HashField *));
    for (size_t i = 0; i < told->n_fields; i++) {
        event->fields[i] = allocate(arena, sizeof(Kv__HashField));
        kv__hash_field__init(event->fields[i]);
        event->fields[i]->name = proto(told->fields[i].name);
        event->fields[i]->value = proto(told->fields[i].value);
    }
    event->n_members = told->n_members;
    event->members = allocate(arena, told->n_members * sizeof(Kv__ZSetMember *));
    for (size_t i = 0; i < told->n_members; i++) {
        event->members[i] = allocate(arena, sizeof(Kv__ZSetMember));
        kv__zset_member__init(event->members[i]);
        event->members[i]->member = proto(told->members[i].member);
        event->members[i]->score = told->members[i].score;
    }
}

static Kv__Event *event_of(struct kv_arena *arena, const struct kv_event *told)
{
    Kv__Event *event = allocate(arena, sizeof *event);

    kv__event__init(event);
    event->kind = (Kv__EventKind)told->kind;
    event->kv = pair_of(arena, &told->pair);
    event->previous = told->previous ? pair_of(arena, told->previous) : NULL;
    event->replaced = told->replaced;
    fill_elements(arena, event, told);
    return event;
}

static void tell(struct resumed *resumed,
                 Kv__WatchEvents *events,
                 Kv__TopicMessages *messages,
                 bool more_fragments)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    item.more_fragments = more_fragments;
    item.item_case = events ? KV__STREAM_ITEM__ITEM_WATCH : KV__STREAM_ITEM__ITEM_TOPIC;
    if (events) {
        item.watch = events;
    } else {
        item.topic = messages;
    }
    followed_item(resumed->into, &item);
}

static void tell_revision(struct resumed *resumed, int64_t revision)
{
    Kv__WatchEvents events = KV__WATCH_EVENTS__INIT;
    Kv__TopicMessages messages = KV__TOPIC_MESSAGES__INIT;

    events.revision = messages.revision = revision;
    tell(resumed, resumed->is_topic ? NULL : &events, &messages, false);
}

static void tell_events(struct resumed *resumed, const struct kv_event_batch *batch)
{
    Kv__WatchEvents events = KV__WATCH_EVENTS__INIT;
    struct kv_arena arena;

    kv_arena_init(&arena, SIZE_MAX);
    events.revision = batch->revision;
    events.n_events = batch->n_events;
    events.events = allocate(&arena, batch->n_events * sizeof(Kv__Event *));
    for (size_t i = 0; i < batch->n_events; i++) {
        events.events[i] = event_of(&arena, &batch->events[i]);
    }
    tell(resumed, &events, NULL, batch->fragment);
    kv_arena_deinit(&arena);
}

static void tell_messages(struct resumed *resumed, const struct kv_message_batch *batch)
{
    Kv__TopicMessages messages = KV__TOPIC_MESSAGES__INIT;
    struct kv_arena arena;

    kv_arena_init(&arena, SIZE_MAX);
    messages.revision = batch->revision;
    messages.gap_from = batch->gap_from;
    messages.gap_to = batch->gap_to;
    messages.n_messages = batch->n_messages;
    messages.messages = allocate(&arena, batch->n_messages * sizeof(Kv__TopicMessage *));
    for (size_t i = 0; i < batch->n_messages; i++) {
        messages.messages[i] = allocate(&arena, sizeof(Kv__TopicMessage));
        kv__topic_message__init(messages.messages[i]);
        messages.messages[i]->topic = proto(batch->messages[i].topic);
        messages.messages[i]->payload = proto(batch->messages[i].payload);
        messages.messages[i]->revision = batch->messages[i].revision;
    }
    tell(resumed, NULL, &messages, batch->fragment);
    kv_arena_deinit(&arena);
}

static void on_piece(void *arg, struct kv_piece *piece)
{
    struct resumed *resumed = arg;

    if (resumed->is_topic) {
        tell_messages(resumed, &piece->batch.messages);
    } else {
        tell_events(resumed, &piece->batch.events);
    }
    free(piece);
}

static void on_progress(void *arg, int64_t revision, bool told)
{
    (void)told;
    tell_revision(arg, revision);
}

static void on_started(void *arg, int64_t revision)
{
    tell_revision(arg, revision);
}

static void
on_trouble(void *arg, bool goes_on, int64_t oldest_revision, const struct kv_error *error)
{
    struct resumed *resumed = arg;
    Kv__Hint hint = KV__HINT__INIT;

    hint.oldest_revision = oldest_revision;
    if (!goes_on) {
        followed_end(resumed->into, error->status, &hint);
    }
}

/* ---------------------------------------------------------------- life */

static struct kv_range_spec range_of(const Kv__KeyRange *range)
{
    enum kv_range_kind kind = range->end.len > 0 ? KV_RANGE_BETWEEN : KV_RANGE_KEY;

    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        kind = KV_RANGE_PREFIX;
        break;
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        kind = KV_RANGE_FROM;
        break;
    case KV__KEY_RANGE__SPECIAL__ALL:
        kind = KV_RANGE_ALL;
        break;
    default:
        break;
    }
    return (struct kv_range_spec){kind, plain(range->start), plain(range->end)};
}

static struct kv_watch_options watch_of(const Kv__Watch *watch)
{
    struct kv_watch_options options = {
        .range = range_of(watch->range),
        .start_revision = watch->start_revision,
        .with_previous = watch->with_previous,
        .keys_only = watch->keys_only,
        .progress_ms = (unsigned)watch->progress_ms,
        .require_leader_ms = (unsigned)watch->require_leader_ms,
        .queue_bytes = QUEUE_BYTES,
    };

    for (size_t i = 0; i < watch->n_kinds; i++) {
        options.kinds |= 1u << watch->kinds[i];
    }
    for (size_t i = 0; i < watch->n_types; i++) {
        options.types |= 1u << watch->types[i];
    }
    return options;
}

static struct kv_subscribe_options subscribe_of(const Kv__Subscribe *subscribe)
{
    return (struct kv_subscribe_options){
        .topic = plain(subscribe->topic),
        .pattern = subscribe->pattern,
        .start_revision = subscribe->start_revision,
        .last = subscribe->last,
        .progress_ms = (unsigned)subscribe->progress_ms,
        .require_leader_ms = (unsigned)subscribe->require_leader_ms,
        .queue_bytes = QUEUE_BYTES,
    };
}

struct resumed *resumed_open(struct kv_session *session,
                             uint64_t now_ns,
                             const Kv__Request *request,
                             struct followed *into)
{
    bool is_topic = request->command_case == KV__REQUEST__COMMAND_SUBSCRIBE;
    struct kv_watch_options watch = {.progress_ms = 0};
    struct kv_subscribe_options subscribe = {.progress_ms = 0};
    struct resumed *resumed = calloc(1, sizeof *resumed);
    struct kv_follow_fns fns = {on_piece, on_progress, on_started, on_trouble, resumed};
    struct kv_error error;

    KV_ASSERT(resumed);
    resumed->into = into;
    resumed->is_topic = is_topic;
    if (is_topic) {
        subscribe = subscribe_of(request->subscribe);
    } else {
        watch = watch_of(request->watch);
    }
    KV_ASSERT(kv_follow_open(session,
                             now_ns,
                             is_topic ? NULL : &watch,
                             is_topic ? &subscribe : NULL,
                             &fns,
                             &resumed->follow,
                             &error) == 0);
    return resumed;
}

void resumed_pause(struct resumed *resumed, uint64_t now_ns, bool pause)
{
    kv_follow_pause(resumed->follow, now_ns, pause);
}

void resumed_close(struct resumed *resumed, uint64_t now_ns)
{
    if (resumed) {
        kv_follow_close(resumed->follow, now_ns);
        free(resumed);
    }
}
