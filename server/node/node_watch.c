#include "common/assert.h"
#include "common/reached.h"
#include "server/node/node_internal.h"

#include <stdlib.h>

enum { SPARE_PENDING_MAX = 64 };
/* An item is below a frame with its head and id; a largest event alone always is. */
#define ITEM_BYTES_MAX (KV_REPLY_FRAME_BYTES_MAX - 4 * KV_KIB)

/* What the live watches of a group are to be told. */
struct kv_watch_pending {
    struct kv_watch_group *group;
    struct kv_watch_pending *next;
    struct kv_buf events;   /* packed fields of WatchEvents */
    size_t n_events;        /* of them */
    int64_t first_revision; /* of the first of them */
    int64_t last_revision;  /* of the last ... */
    size_t last_begin;      /* ... whose events begin here */
    size_t last_n_before;   /* and so many are before */
    int64_t lost_revision;  /* from this one on they read the history; 0: none */
};

void kv_watches_init(struct kv_watches *watches)
{
    for (int i = 0; i < KV_WATCH_FORMS; i++) {
        kv_buf_init(&watches->forms[i], 2 * KV_REPLY_FRAME_BYTES_MAX);
    }
    kv_buf_init(&watches->piece, 2 * KV_REPLY_FRAME_BYTES_MAX);
}

static void free_pending(struct kv_watch_pending *pending)
{
    while (pending) {
        struct kv_watch_pending *next = pending->next;

        kv_buf_deinit(&pending->events);
        free(pending);
        pending = next;
    }
}

static void drop_piece(struct kv_watch_piece *piece)
{
    kv_shared_release(piece->item);
    *piece = (struct kv_watch_piece){0};
}

void kv_watches_deinit(struct kv_watches *watches)
{
    /* A group whose last watch went while it had events. */
    for (struct kv_watch_pending *pending = watches->touched; pending; pending = pending->next) {
        kv_watch_index_remove(&watches->index, pending->group);
    }
    drop_piece(&watches->shared);
    free_pending(watches->touched);
    free_pending(watches->spare);
    for (int i = 0; i < KV_WATCH_FORMS; i++) {
        kv_buf_deinit(&watches->forms[i]);
    }
    kv_buf_deinit(&watches->piece);
    kv_watch_index_deinit(&watches->index);
}

/* ---------------------------------------------------------------- one watch */

static int begin(struct kv_node *node, struct kv_subscription *sub, struct kv_error *ret_error)
{
    struct kv_watch *watch = (struct kv_watch *)sub;

    (void)ret_error;
    if (sub->next_revision == 0) {
        sub->begins_now = true;
        sub->next_revision = kv_machine_revision(node->machine) + 1;
    }
    watch->position.revision = sub->next_revision;
    return 0;
}

static bool is_same_place(const struct kv_event_position *a, const struct kv_event_position *b)
{
    return a->revision == b->revision && a->records == b->records && a->elements == b->elements &&
           a->in_fragment == b->in_fragment;
}

static void remove_group(struct kv_node *node, struct kv_watch_group *group)
{
    if (node->watches.shared.group == group) {
        drop_piece(&node->watches.shared);
    }
    kv_watch_index_remove(&node->watches.index, group);
}

/* What comes behind the watch's position: read, or as the one before it got it. */
static const struct kv_watch_piece *read_piece(struct kv_node *node, const struct kv_watch *watch)
{
    struct kv_watches *watches = &node->watches;
    struct kv_watch_piece *piece = &watches->shared;
    const size_t credit = watch->sub.op->credit;
    const size_t max_bytes = credit < KV_CATCH_UP_BYTES ? credit : KV_CATCH_UP_BYTES;

    if (piece->group == watch->group && piece->max_bytes == max_bytes &&
        is_same_place(&piece->from, &watch->position) &&
        (piece->item || piece->read.to_revision == kv_machine_revision(node->machine))) {
        return piece;
    }
    drop_piece(piece);
    piece->group = watch->group;
    piece->from = piece->to = watch->position;
    piece->max_bytes = max_bytes;
    piece->read = (struct kv_event_piece){
        .max_bytes = max_bytes,
        .max_records = KV_CATCH_UP_RECORDS,
        .to_revision = kv_machine_revision(node->machine),
    };
    kv_buf_clear(&watches->piece);
    kv_machine_read_events(
        node->machine, &watch->group->query, &piece->to, &piece->read, &watches->piece);
    if (piece->read.n_events > 0 || (piece->from.in_fragment && !piece->read.more_fragments)) {
        piece->item = kv_subscription_item(node,
                                           watch->sub.kind,
                                           piece->read.revision,
                                           piece->read.more_fragments,
                                           kv_slice_of(watches->piece.data, watches->piece.size));
    }
    return piece;
}

static int catch_up(struct kv_node *node, struct kv_subscription *sub)
{
    struct kv_watch *watch = (struct kv_watch *)sub;
    const struct kv_watch_piece *piece;

    if (watch->position.revision != sub->next_revision) {
        watch->position = (struct kv_event_position){.revision = sub->next_revision};
    }
    piece = read_piece(node, watch);
    watch->position = piece->to;
    sub->next_revision = piece->to.revision;
    if (piece->item) {
        kv_subscription_send(node, sub, piece->item, sub->next_revision);
        node->watches.events += piece->read.n_events;
    }
    /* It may have been read when the revision was an earlier one. */
    return piece->read.more || piece->read.to_revision < kv_machine_revision(node->machine) ? 1 : 0;
}

void kv_watch_forget_piece(struct kv_node *node)
{
    drop_piece(&node->watches.shared);
}

static void join(struct kv_node *node, struct kv_subscription *sub)
{
    struct kv_watch *watch = (struct kv_watch *)sub;
    struct kv_watch_group *group = watch->group;

    (void)node;
    watch->prev = NULL;
    watch->next = group->live;
    if (group->live) {
        group->live->prev = watch;
    }
    group->live = watch;
}

static void leave(struct kv_node *node, struct kv_subscription *sub)
{
    struct kv_watch *watch = (struct kv_watch *)sub;

    (void)node;
    if (watch->prev) {
        watch->prev->next = watch->next;
    } else {
        watch->group->live = watch->next;
    }
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    watch->next = watch->prev = NULL;
}

static void free_watch(struct kv_node *node, struct kv_subscription *sub)
{
    struct kv_watch *watch = (struct kv_watch *)sub;
    struct kv_watch_group *group = watch->group;

    node->watches.n--;
    if (--group->n_watches == 0 && !group->pending) {
        remove_group(node, group);
    }
    free(watch);
}

static const struct kv_subscription_kind watch_kind = {
    .item_case = KV__STREAM_ITEM__ITEM_WATCH,
    .revision_field = 1,
    .needs_history = true,
    .begin = begin,
    .catch_up = catch_up,
    .join = join,
    .leave = leave,
    .free = free_watch,
};

struct kv_subscription *kv_watch_new(struct kv_node *node, struct kv_op *op)
{
    const Kv__Watch *request = op->request->watch;
    struct kv_watch_index *index = &node->watches.index;
    struct kv_watch *watch = calloc(1, sizeof *watch);
    uint8_t memory[KV_EVENT_QUERY_MEMORY_BYTES];
    struct kv_event_query query;

    if (!watch) {
        return NULL;
    }
    kv_event_query_of(request, memory, &query);
    watch->group = kv_watch_index_find(index, &query);
    if (!watch->group) {
        watch->group = kv_watch_index_add(index, &query);
    }
    if (!watch->group) {
        free(watch);
        return NULL;
    }
    watch->group->n_watches++;
    node->watches.n++;
    kv_subscription_init(&watch->sub, &watch_kind, op, request->progress_ms);
    watch->sub.next_revision = request->start_revision;
    return &watch->sub;
}

/* ---------------------------------------------------------------- what is live */

static struct kv_watch_pending *touch(struct kv_watches *watches, struct kv_watch_group *group)
{
    struct kv_watch_pending *pending = group->pending;

    if (pending) {
        return pending;
    }
    pending = watches->spare;
    if (pending) {
        watches->spare = pending->next;
        watches->n_spare--;
    } else {
        pending = kv_machine_alloc(sizeof *pending);
        kv_buf_init(&pending->events, SIZE_MAX / 2);
    }
    kv_buf_clear(&pending->events);
    pending->group = group;
    pending->n_events = 0;
    pending->first_revision = pending->last_revision = pending->lost_revision = 0;
    pending->last_begin = pending->last_n_before = 0;
    pending->next = watches->touched;
    watches->touched = pending;
    group->pending = pending;
    return pending;
}

/* Gives the live watches of the group an item with all that is pending; everything up to the
 * revision is told then. Who cannot take it falls behind. */
static void give(struct kv_node *node, struct kv_watch_pending *pending, int64_t revision)
{
    struct kv_shared *item;

    if (pending->n_events == 0) {
        return;
    }
    item = kv_subscription_item(node,
                                &watch_kind,
                                revision,
                                false,
                                kv_slice_of(pending->events.data, pending->events.size));
    if (!item) {
        return;
    }
    for (struct kv_watch *watch = pending->group->live, *next; watch; watch = next) {
        next = watch->next;
        if (kv_subscription_may_send(node, &watch->sub)) {
            kv_subscription_send(node, &watch->sub, item, revision + 1);
            node->watches.events += pending->n_events;
        } else {
            kv_subscription_fall_behind(node, &watch->sub, pending->first_revision);
        }
    }
    kv_shared_release(item);
    kv_buf_clear(&pending->events);
    pending->n_events = 0;
}

/* One revision has more for them than one item: they read it in fragments. */
static void lose(struct kv_watch_pending *pending, int64_t revision)
{
    pending->lost_revision = revision;
    if (pending->last_revision == revision) {
        pending->events.size = pending->last_begin;
        pending->n_events = pending->last_n_before;
    }
}

struct match {
    struct kv_node *node;
    const struct kv_event *event;
};

/* The event in the form that the group wants; false: it is too much for one item. */
static bool pack_form(const struct match *match,
                      const struct kv_event_query *query,
                      const struct kv_buf **ret_buf)
{
    struct kv_watches *watches = &match->node->watches;
    const int form = 2 * query->with_previous + query->keys_only;

    if (!watches->is_packed[form]) {
        struct kv_event_room room = {.bytes = KV_CATCH_UP_BYTES, .records = KV_CATCH_UP_RECORDS};

        kv_buf_clear(&watches->forms[form]);
        watches->is_whole[form] =
            kv_event_pack(match->node->machine, match->event, query, &room, &watches->forms[form]);
        watches->is_packed[form] = true;
    }
    *ret_buf = &watches->forms[form];
    return watches->is_whole[form];
}

/* A large event that many groups want, each of which gets a copy of it. */
static bool is_crowded(struct kv_node *node, size_t bytes)
{
    if (node->subscriptions.live_bytes + bytes <= KV_NODE_LIVE_BYTES_MAX) {
        return false;
    }
    KV_REACHED("watch-left-behind");
    node->subscriptions.crowded++;
    return true;
}

static void on_match(void *arg, struct kv_watch_group *group)
{
    const struct match *match = arg;
    const int64_t revision = match->event->revision;
    struct kv_watch_pending *pending;
    const struct kv_buf *packed;

    if (!group->live || !kv_event_passes(match->event, &group->query)) {
        return;
    }
    pending = touch(&match->node->watches, group);
    if (pending->lost_revision != 0) {
        return;
    }
    if (pending->n_events > 0 && pending->last_revision != revision &&
        pending->events.size >= KV_CATCH_UP_BYTES) {
        give(match->node, pending, revision - 1);
    }
    if (pending->n_events == 0) {
        pending->first_revision = revision;
    }
    if (pending->last_revision != revision) {
        pending->last_revision = revision;
        pending->last_begin = pending->events.size;
        pending->last_n_before = pending->n_events;
    }
    if ((pending->events.size > pending->last_begin &&
         pending->events.size - pending->last_begin >= KV_CATCH_UP_BYTES) ||
        !pack_form(match, &group->query, &packed) ||
        pending->events.size + packed->size > ITEM_BYTES_MAX ||
        is_crowded(match->node, packed->size) ||
        kv_buf_append(&pending->events, packed->data, packed->size) != 0) {
        lose(pending, revision);
        return;
    }
    match->node->subscriptions.live_bytes += packed->size;
    pending->n_events++;
}

static void on_event(void *arg, const struct kv_event *event)
{
    struct kv_node *node = arg;
    struct match match = {node, event};

    for (int i = 0; i < KV_WATCH_FORMS; i++) {
        node->watches.is_packed[i] = false;
    }
    kv_watch_index_match(&node->watches.index, event->key, on_match, &match);
}

void kv_watch_note(struct kv_node *node, int64_t revision_before)
{
    if (node->lists[KV_OP_LIVE].first && node->watches.n > 0 &&
        kv_machine_revision(node->machine) > revision_before) {
        kv_machine_each_event(node->machine, revision_before + 1, on_event, node);
    }
}

static void finish(struct kv_node *node, struct kv_watch_pending *pending)
{
    struct kv_watches *watches = &node->watches;
    struct kv_watch_group *group = pending->group;
    const int64_t lost = pending->lost_revision;

    give(node, pending, lost ? lost - 1 : kv_machine_revision(node->machine));
    while (lost && group->live) {
        kv_subscription_fall_behind(node, &group->live->sub, lost);
    }
    group->pending = NULL;
    if (group->n_watches == 0) {
        remove_group(node, group);
    }
    pending->next = NULL;
    if (watches->n_spare >= SPARE_PENDING_MAX || pending->events.capacity > 4 * KV_CATCH_UP_BYTES) {
        free_pending(pending);
        return;
    }
    pending->next = watches->spare;
    watches->spare = pending;
    watches->n_spare++;
}

void kv_watch_flush(struct kv_node *node)
{
    while (node->watches.touched) {
        struct kv_watch_pending *pending = node->watches.touched;

        node->watches.touched = pending->next;
        finish(node, pending);
    }
}
