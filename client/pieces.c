/* From stream items to the batches of kv/watch.h and kv/topic.h: each in one block. First all
 * structs, then all bytes. */
#include "client/pieces.h"
#include "client/blocking.h"
#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

/* The block while it is filled. */
struct block {
    uint8_t *structs;
    uint8_t *bytes;
};

bool kv_item_view(const Kv__StreamItem *item, bool topic, struct kv_item_view *ret_view)
{
    struct kv_item_view view = {.fragment = item->more_fragments};

    if (topic && item->item_case == KV__STREAM_ITEM__ITEM_TOPIC) {
        view.topic = item->topic;
        view.n = item->topic->n_messages;
        view.revision = item->topic->revision;
    } else if (!topic && item->item_case == KV__STREAM_ITEM__ITEM_WATCH) {
        view.watch = item->watch;
        view.n = item->watch->n_events;
        view.revision = item->watch->revision;
        for (size_t i = 0; i < view.n; i++) {
            if (!item->watch->events[i]->kv) {
                return false;
            }
        }
    } else {
        return false;
    }
    *ret_view = view;
    return true;
}

int64_t kv_item_revision_of(const struct kv_item_view *view, size_t i)
{
    return view->topic ? view->topic->messages[i]->revision
                       : view->watch->events[i]->kv->mod_revision;
}

/* ---------------------------------------------------------------- sizes */

static size_t size_of_list(size_t n, const ProtobufCBinaryData *list)
{
    size_t size = n * sizeof(struct kv_bytes);

    for (size_t i = 0; i < n; i++) {
        size += list[i].len;
    }
    return size;
}

static size_t size_of_event(const Kv__Event *event)
{
    size_t size = sizeof(struct kv_event) + event->kv->key.len + event->kv->value.len;

    if (event->previous) {
        size += sizeof(struct kv_pair) + event->previous->key.len + event->previous->value.len;
    }
    for (size_t i = 0; i < event->n_fields; i++) {
        size += sizeof(struct kv_field) + event->fields[i]->name.len + event->fields[i]->value.len;
    }
    for (size_t i = 0; i < event->n_members; i++) {
        size += sizeof(struct kv_scored) + event->members[i]->member.len;
    }
    size += size_of_list(event->n_elements, event->elements);
    return size + size_of_list(event->n_removed, event->removed);
}

static size_t size_of(const struct kv_item_view *view, size_t first, size_t end)
{
    size_t size = sizeof(struct kv_piece);

    for (size_t i = first; i < end; i++) {
        size += view->topic ? sizeof(struct kv_message) + view->topic->messages[i]->topic.len +
                                  view->topic->messages[i]->payload.len
                            : size_of_event(view->watch->events[i]);
    }
    return size;
}

/* ---------------------------------------------------------------- copies */

/* Bytes are put from the end of the block downwards, structs upwards: they meet. */
static struct kv_bytes copy_bytes(struct block *block, ProtobufCBinaryData from)
{
    if (from.len == 0) {
        return (struct kv_bytes){0};
    }
    block->bytes -= from.len;
    memcpy(block->bytes, from.data, from.len);
    return (struct kv_bytes){block->bytes, from.len};
}

static void *take_structs(struct block *block, size_t n, size_t size)
{
    void *taken = block->structs;

    block->structs += n * size;
    return n > 0 ? taken : NULL;
}

static const struct kv_bytes *
copy_list(struct block *block, size_t n, const ProtobufCBinaryData *from)
{
    struct kv_bytes *list = take_structs(block, n, sizeof *list);

    for (size_t i = 0; i < n; i++) {
        list[i] = copy_bytes(block, from[i]);
    }
    return list;
}

static struct kv_pair copy_pair(struct block *block, const Kv__KeyValue *from)
{
    struct kv_pair pair = kv_pair_of_proto(from, from->mod_revision);

    pair.key = copy_bytes(block, from->key);
    pair.value = copy_bytes(block, from->value);
    return pair;
}

static void copy_event(struct block *block, const Kv__Event *from, struct kv_event *event)
{
    struct kv_field *fields = take_structs(block, from->n_fields, sizeof *fields);
    struct kv_scored *members = take_structs(block, from->n_members, sizeof *members);
    struct kv_pair *previous = NULL;

    if (from->previous) {
        previous = take_structs(block, 1, sizeof *previous);
        *previous = copy_pair(block, from->previous);
    }
    for (size_t i = 0; i < from->n_fields; i++) {
        fields[i] = (struct kv_field){
            .name = copy_bytes(block, from->fields[i]->name),
            .value = copy_bytes(block, from->fields[i]->value),
            .ttl_ms = from->fields[i]->ttl_ms,
            .present = true,
        };
    }
    for (size_t i = 0; i < from->n_members; i++) {
        members[i] = (struct kv_scored){
            .member = copy_bytes(block, from->members[i]->member),
            .score = from->members[i]->score,
            .present = true,
        };
    }
    *event = (struct kv_event){
        .kind = (enum kv_event_kind)from->kind,
        .pair = copy_pair(block, from->kv),
        .previous = previous,
        .replaced = from->replaced,
        .n_fields = from->n_fields,
        .fields = fields,
        .n_members = from->n_members,
        .members = members,
        .n_elements = from->n_elements,
        .elements = copy_list(block, from->n_elements, from->elements),
        .n_removed = from->n_removed,
        .removed = copy_list(block, from->n_removed, from->removed),
    };
}

static void copy_events(struct block *block,
                        const struct kv_item_view *view,
                        size_t first,
                        struct kv_event_batch *batch)
{
    batch->events = take_structs(block, batch->n_events, sizeof *batch->events);
    for (size_t i = 0; i < batch->n_events; i++) {
        copy_event(block, view->watch->events[first + i], &batch->events[i]);
    }
}

static void copy_messages(struct block *block,
                          const struct kv_item_view *view,
                          size_t first,
                          struct kv_message_batch *batch)
{
    batch->messages = take_structs(block, batch->n_messages, sizeof *batch->messages);
    for (size_t i = 0; i < batch->n_messages; i++) {
        const Kv__TopicMessage *from = view->topic->messages[first + i];

        batch->messages[i] = (struct kv_message){
            .topic = copy_bytes(block, from->topic),
            .payload = copy_bytes(block, from->payload),
            .revision = from->revision,
        };
    }
}

struct kv_piece *kv_piece_make(
    const struct kv_item_view *view, size_t first, size_t end, int64_t revision, bool fragment)
{
    size_t size = size_of(view, first, end);
    struct kv_piece *piece = malloc(size);
    struct block block = {(uint8_t *)(piece + 1), (uint8_t *)piece + size};

    if (!piece) {
        return NULL;
    }
    *piece = (struct kv_piece){.bytes = size};
    if (view->topic) {
        piece->batch.messages = (struct kv_message_batch){
            .revision = revision, .fragment = fragment, .n_messages = end - first};
        copy_messages(&block, view, first, &piece->batch.messages);
    } else {
        piece->batch.events = (struct kv_event_batch){
            .revision = revision, .fragment = fragment, .n_events = end - first};
        copy_events(&block, view, first, &piece->batch.events);
    }
    KV_ASSERT(block.structs == block.bytes);
    return piece;
}

void kv_piece_complete(struct kv_piece *piece, bool topic, int64_t revision)
{
    *(topic ? &piece->batch.messages.fragment : &piece->batch.events.fragment) = false;
    *(topic ? &piece->batch.messages.revision : &piece->batch.events.revision) = revision;
}

size_t kv_piece_count(const struct kv_piece *piece, bool topic)
{
    return topic ? piece->batch.messages.n_messages : piece->batch.events.n_events;
}

/* ---------------------------------------------------------------- what programs do with them */

void kv_event_batch_free(struct kv_event_batch *batch)
{
    if (batch) {
        free((char *)batch - offsetof(struct kv_piece, batch));
    }
}

void kv_message_batch_free(struct kv_message_batch *batch)
{
    if (batch) {
        free((char *)batch - offsetof(struct kv_piece, batch));
    }
}

const char *kv_event_kind_name(enum kv_event_kind kind)
{
    static const char *const names[] = {"put", "delete", "expire"};

    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}
