#include "client/follow.h"
#include "client/follow_internal.h"

#include <stdlib.h>
#include <string.h>

enum { LIVED_MS = 1000, RETRY_MIN_MS = 20, RETRY_MAX_MS = 1000 };

static void submit(struct kv_follow *follow);

/* ---------------------------------------------------------------- ends */

/* Callbacks may close it: it goes when the outermost call is over. */
static void enter(struct kv_follow *follow)
{
    follow->depth++;
}

static void leave(struct kv_follow *follow)
{
    follow->depth--;
    if (follow->depth == 0 && follow->closed) {
        free(follow);
    }
}

static void drop_held(struct kv_follow *follow)
{
    while (follow->held_first) {
        struct kv_piece *piece = follow->held_first;

        follow->held_first = piece->next;
        free(piece);
    }
    follow->held_last = NULL;
    follow->held_bytes = 0;
}

static void stop(struct kv_follow *follow, uint64_t now_ns)
{
    uint64_t id = follow->request_id;

    follow->ended = true;
    follow->request_id = 0;
    kv_session_timer_stop(follow->session, &follow->timer);
    drop_held(follow);
    if (id != 0) {
        kv_session_cancel(follow->session, now_ns, id);
    }
}

static void fail(struct kv_follow *follow, int64_t oldest_revision, const struct kv_error *error)
{
    stop(follow, kv_session_now_ns(follow->session));
    follow->fns.trouble(follow->fns.arg, false, oldest_revision, error);
}

/* ---------------------------------------------------------------- trying again */

static void arm(struct kv_follow *follow)
{
    uint64_t at_ns = follow->retry_at_ns;

    if (!follow->begun && follow->require_leader_ns > 0 && !follow->told_no_leader &&
        follow->outage_ns + follow->require_leader_ns < at_ns) {
        at_ns = follow->outage_ns + follow->require_leader_ns;
    }
    if (at_ns == UINT64_MAX) {
        kv_session_timer_stop(follow->session, &follow->timer);
    } else {
        kv_session_timer_set(follow->session, &follow->timer, at_ns);
    }
}

static void on_timer(void *arg, uint64_t now_ns)
{
    struct kv_follow *follow = arg;
    struct kv_error error;

    enter(follow);
    if (now_ns >= follow->retry_at_ns) {
        follow->retry_at_ns = UINT64_MAX;
        submit(follow);
    }
    if (!follow->ended && !follow->begun && follow->require_leader_ns > 0 &&
        !follow->told_no_leader && now_ns >= follow->outage_ns + follow->require_leader_ns) {
        follow->told_no_leader = true;
        (void)kv_error_set(&error,
                           KV_NO_LEADER,
                           "no node with a leader was reached for %llu ms: %s",
                           (unsigned long long)(follow->require_leader_ns / 1000000),
                           follow->last.message[0] ? follow->last.message : "no answer yet");
        follow->fns.trouble(follow->fns.arg, true, 0, &error);
    }
    if (!follow->ended) {
        arm(follow);
    }
    leave(follow);
}

/* Whether it is to be asked for again after this end. */
static bool goes_on(const struct kv_follow *follow, int status)
{
    switch (kv_status_retry(status)) {
    case KV_RETRY_NEVER:
        return false;
    case KV_RETRY_FATAL:
        return follow->ever_begun;
    case KV_RETRY_LATER:
        /* Too many watches is for people to know; who has one waits for a place elsewhere. */
        if (status == KV_BUSY || status == KV_NO_MEMORY) {
            return follow->ever_begun;
        }
        return status != KV_CLOSED || follow->ever_begun ||
               !kv_session_is_impatient(follow->session);
    default:
        return true;
    }
}

static void on_end(void *arg, const struct kv_session_answer *answer)
{
    struct kv_follow *follow = arg;
    uint64_t now_ns = kv_session_now_ns(follow->session);
    const Kv__Hint *hint = answer->reply ? answer->reply->hint : NULL;
    bool lived = follow->begun && now_ns - follow->begun_ns >= LIVED_MS * 1000000ULL;

    if (follow->ended) {
        return;
    }
    enter(follow);
    follow->request_id = 0;
    follow->last = *answer->error;
    drop_held(follow);
    if (!goes_on(follow, answer->status)) {
        fail(follow, hint ? hint->oldest_revision : 0, answer->error);
        leave(follow);
        return;
    }
    if (follow->begun) {
        follow->begun = false;
        follow->outage_ns = now_ns;
        follow->told_no_leader = false;
    }
    /* At once, but for one that ends again and again. */
    follow->failures = lived ? 0 : follow->failures + 1;
    if (follow->failures <= 1) {
        submit(follow);
    } else {
        follow->retry_at_ns =
            now_ns +
            kv_session_backoff_ns(follow->session, follow->failures, RETRY_MIN_MS, RETRY_MAX_MS);
    }
    if (!follow->ended) {
        arm(follow);
    }
    leave(follow);
}

/* ---------------------------------------------------------------- items */

static void deliver(struct kv_follow *follow, struct kv_piece *piece)
{
    if (follow->ended) {
        free(piece);
        return;
    }
    follow->told_ns = kv_session_now_ns(follow->session);
    follow->fns.piece(follow->fns.arg, piece);
}

static void deliver_held(struct kv_follow *follow)
{
    while (follow->held_first) {
        struct kv_piece *piece = follow->held_first;

        follow->held_first = piece->next;
        deliver(follow, piece);
    }
    follow->held_last = NULL;
    follow->held_bytes = 0;
}

static void hold(struct kv_follow *follow, struct kv_piece *piece)
{
    *(follow->held_last ? &follow->held_last->next : &follow->held_first) = piece;
    follow->held_last = piece;
    follow->held_bytes += piece->bytes;
}

/* The item's events of complete revisions, from `first` on. */
static int
take_complete(struct kv_follow *follow, const struct kv_item_view *view, size_t first, size_t end)
{
    bool gap = view->topic && view->topic->gap_from != 0;
    bool held = follow->held_first && follow->held_revision <= view->revision;
    bool handed = follow->handed > 0 && follow->handed_revision <= view->revision;
    bool told = first < end || gap || (handed && !held);
    struct kv_piece *piece = NULL;

    if (told) {
        piece = kv_piece_make(view, first, end, view->revision, false);
        if (!piece) {
            return KV_NO_MEMORY;
        }
        if (gap) {
            piece->batch.messages.gap_from = view->topic->gap_from;
            piece->batch.messages.gap_to = view->topic->gap_to;
        }
    }
    follow->base = view->revision;
    if (handed) {
        follow->handed = 0;
    }
    if (held) {
        if (!piece) {
            kv_piece_complete(follow->held_last, follow->is_topic, view->revision);
        }
        deliver_held(follow);
    }
    if (piece) {
        deliver(follow, piece);
    }
    return 0;
}

/* The item's events of a revision of which more comes. */
static int take_fragment(struct kv_follow *follow, const struct kv_item_view *view, size_t first)
{
    int64_t revision = kv_item_revision_of(view, view->n - 1);
    struct kv_piece *piece;

    if (first >= view->n) {
        return 0;
    }
    piece = kv_piece_make(view, first, view->n, view->revision, true);
    if (!piece) {
        return KV_NO_MEMORY;
    }
    hold(follow, piece);
    follow->held_revision = revision;
    if (follow->handed == 0 && follow->held_bytes <= follow->bound) {
        return 0;
    }
    follow->handed_revision = revision;
    for (const struct kv_piece *held = follow->held_first; held; held = held->next) {
        follow->handed += kv_piece_count(held, follow->is_topic);
    }
    deliver_held(follow);
    return 0;
}

/* Leaves out what was told before the stream was lost. */
static int skip(struct kv_follow *follow,
                const struct kv_item_view *view,
                size_t *ret_first,
                struct kv_error *error)
{
    size_t i = 0;

    if (view->topic && view->topic->gap_to >= follow->handed_revision) {
        follow->skip = 0;
    }
    while (follow->skip > 0 && i < view->n &&
           kv_item_revision_of(view, i) == follow->handed_revision) {
        follow->skip--;
        i++;
    }
    if (follow->skip > 0 && (i < view->n || view->revision >= follow->handed_revision)) {
        return kv_error_set(error,
                            KV_INTERNAL,
                            "revision %lld has fewer events than were told of it before",
                            (long long)follow->handed_revision);
    }
    *ret_first = i;
    return 0;
}

static int begin(struct kv_follow *follow, const struct kv_item_view *view, struct kv_error *error)
{
    follow->begun = true;
    follow->begun_ns = kv_session_now_ns(follow->session);
    arm(follow);
    if (follow->base < 0) {
        follow->base = view->n > 0 ? kv_item_revision_of(view, 0) - 1 : view->revision;
    } else if (view->n == 0 && view->revision > follow->base &&
               !(view->topic && view->topic->gap_from != 0)) {
        return kv_error_set(error,
                            KV_INTERNAL,
                            "the stream begins behind revision %lld, asked for was what follows "
                            "%lld",
                            (long long)view->revision,
                            (long long)follow->base);
    }
    if (!follow->ever_begun) {
        follow->ever_begun = true;
        follow->fns.started(follow->fns.arg, follow->base);
    }
    return 0;
}

static int take_item(struct kv_follow *follow, const Kv__StreamItem *item, struct kv_error *error)
{
    struct kv_item_view view;
    size_t complete = 0;
    size_t first = 0;
    bool empty;
    int status;

    if (!kv_item_view(item, follow->is_topic, &view)) {
        return kv_error_set(error, KV_INTERNAL, "an item that is not of this stream");
    }
    status = follow->begun ? 0 : begin(follow, &view, error);
    if (status == 0 && !follow->ended) {
        status = kv_follow_check(follow, &view, error);
    }
    if (status == 0 && !follow->ended) {
        status = skip(follow, &view, &first, error);
    }
    if (status < 0 || follow->ended) {
        return status;
    }
    while (complete < view.n && kv_item_revision_of(&view, complete) <= view.revision) {
        complete++;
    }
    empty = view.n == 0 && !follow->held_first && follow->handed == 0 &&
            !(view.topic && view.topic->gap_from != 0);
    status = take_complete(follow, &view, first < complete ? first : complete, complete);
    if (status == 0 && complete < view.n && !follow->ended) {
        status = take_fragment(follow, &view, first > complete ? first : complete);
    }
    if (status < 0) {
        return kv_error_set(error, status, "out of memory for what came");
    }
    if (empty && !follow->ended) {
        uint64_t now_ns = kv_session_now_ns(follow->session);
        bool told = follow->progress_ns > 0 && now_ns - follow->told_ns >= follow->progress_ns;

        follow->told_ns = told ? now_ns : follow->told_ns;
        follow->fns.progress(follow->fns.arg, view.revision, told);
    }
    return 0;
}

static void on_item(void *arg, const Kv__StreamItem *item)
{
    struct kv_follow *follow = arg;
    struct kv_error error;

    enter(follow);
    if (!follow->ended && take_item(follow, item, &error) < 0 && !follow->ended) {
        fail(follow, 0, &error);
    }
    leave(follow);
}

/* ---------------------------------------------------------------- asking */

static void submit(struct kv_follow *follow)
{
    uint64_t now_ns = kv_session_now_ns(follow->session);
    int status;

    follow->newest = 0;
    follow->skip = follow->handed;
    follow->retry_at_ns = UINT64_MAX;
    status = kv_session_submit(follow->session,
                               now_ns,
                               kv_follow_request(follow),
                               NULL,
                               on_item,
                               on_end,
                               follow,
                               &follow->request_id);
    if (status == KV_BUSY || status == KV_NO_MEMORY) {
        follow->retry_at_ns = now_ns + RETRY_MAX_MS * 1000000ULL;
    } else if (status < 0) {
        (void)kv_error_set(&follow->last, status, "%s", kv_status_text(status));
        fail(follow, 0, &follow->last);
    } else {
        kv_session_hold(follow->session, now_ns, follow->request_id, follow->paused);
    }
}

int kv_follow_open(struct kv_session *session,
                   uint64_t now_ns,
                   const struct kv_watch_options *watch,
                   const struct kv_subscribe_options *subscribe,
                   const struct kv_follow_fns *fns,
                   struct kv_follow **ret_follow,
                   struct kv_error *ret_error)
{
    struct kv_follow *follow;
    int status = kv_follow_make(watch, subscribe, &follow, ret_error);

    if (status < 0) {
        return status;
    }
    follow->session = session;
    follow->fns = *fns;
    follow->timer.fn = on_timer;
    follow->timer.arg = follow;
    follow->retry_at_ns = UINT64_MAX;
    follow->outage_ns = now_ns;
    follow->told_ns = now_ns;
    status = kv_session_submit(session,
                               now_ns,
                               kv_follow_request(follow),
                               NULL,
                               on_item,
                               on_end,
                               follow,
                               &follow->request_id);
    if (status < 0) {
        free(follow);
        return kv_error_set(
            ret_error, status, "the stream cannot be begun: %s", kv_status_text(status));
    }
    arm(follow);
    *ret_follow = follow;
    return 0;
}

void kv_follow_close(struct kv_follow *follow, uint64_t now_ns)
{
    if (!follow) {
        return;
    }
    enter(follow);
    stop(follow, now_ns);
    follow->closed = true;
    leave(follow);
}

void kv_follow_pause(struct kv_follow *follow, uint64_t now_ns, bool pause)
{
    follow->paused = pause;
    if (follow->request_id != 0) {
        kv_session_hold(follow->session, now_ns, follow->request_id, pause);
    }
}

int64_t kv_follow_position(const struct kv_follow *follow)
{
    return follow->base < 0 ? 0 : follow->base;
}
