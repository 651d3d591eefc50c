/* Inside libkv: events and messages as they travel from a stream to the program. A piece is one
 * block of memory with all that it holds, so that free() takes it back. */
#ifndef KV_CLIENT_PIECES_H
#define KV_CLIENT_PIECES_H

#include "common/status.h"
#include "proto/kv.pb-c.h"

#include <kv/topic.h>
#include <kv/watch.h>

struct kv_piece {
    struct kv_piece *next;
    size_t bytes; /* of the block */
    union {
        struct kv_event_batch events;
        struct kv_message_batch messages;
    } batch;
};

/* What a stream item says, whichever kind of stream. */
struct kv_item_view {
    const Kv__WatchEvents *watch; /* one of the two */
    const Kv__TopicMessages *topic;
    size_t n; /* events or messages */
    int64_t revision;
    bool fragment; /* the next item goes on with the last one's revision */
};
/* False: it is of another kind, or malformed. */
bool kv_item_view(const Kv__StreamItem *item, bool topic, struct kv_item_view *ret_view);
/* Revision of event or message i. */
int64_t kv_item_revision_of(const struct kv_item_view *view, size_t i);

/* Copies events or messages first..end-1; NULL: no memory. Without any (first = end): only what is
 * around them. */
struct kv_piece *kv_piece_make(
    const struct kv_item_view *view, size_t first, size_t end, int64_t revision, bool fragment);
/* The last of those held is complete after all. */
void kv_piece_complete(struct kv_piece *piece, bool topic, int64_t revision);
size_t kv_piece_count(const struct kv_piece *piece, bool topic);

#endif
