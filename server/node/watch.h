/* The hub of watches: matches what an entry changed against those that are live, packs each event
 * once, and hands it to all that want it. Those that are behind read the history by themselves.
 * Why it is done this way: docs/adr/0012. */
#ifndef KV_NODE_WATCH_H
#define KV_NODE_WATCH_H

#include "server/node/subscription.h"
#include "server/node/watch_index.h"

struct kv_watch {
    struct kv_subscription sub; /* first */
    struct kv_watch_group *group;
    struct kv_watch *next, *prev;      /* of the group's live ones */
    struct kv_event_position position; /* of one that is behind; its revision is next_revision */
};

/* A piece of the history as one watch was given it. Watches of a group that fell behind together
 * are at the same place, and get the same, be it in a later turn. */
struct kv_watch_piece {
    struct kv_watch_group *group; /* NULL: none */
    struct kv_event_position from, to;
    size_t max_bytes;
    struct kv_event_piece read;
    struct kv_shared *item; /* NULL: nothing to tell */
};

/* With or without previous values, with or without values. */
enum { KV_WATCH_FORMS = 4 };

struct kv_watches {
    struct kv_watch_index index;
    size_t n;
    struct kv_watch_pending *touched; /* groups that something happened to in this turn */
    struct kv_watch_pending *spare;
    size_t n_spare;
    struct kv_buf forms[KV_WATCH_FORMS]; /* the event at hand, packed when somebody wants it so */
    bool is_packed[KV_WATCH_FORMS];
    bool is_whole[KV_WATCH_FORMS];
    struct kv_buf piece; /* of one that is behind */
    struct kv_watch_piece shared;
    uint64_t events; /* told, ever: each once for each watch */
};

void kv_watches_init(struct kv_watches *watches);
void kv_watches_deinit(struct kv_watches *watches);
/* Of a request that is valid; NULL: no memory. */
struct kv_subscription *kv_watch_new(struct kv_node *node, struct kv_op *op);
/* At the end of each entry, before history may go: takes note of its events. */
void kv_watch_note(struct kv_node *node, int64_t revision_before);
/* Gives what was noted. */
void kv_watch_flush(struct kv_node *node);
/* Another state takes the place of the present one: what was read of the past is read anew. */
void kv_watch_forget_piece(struct kv_node *node);

#endif
