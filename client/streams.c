/* Blocking watches and subscriptions: the client's thread fills a bounded queue, the program's
 * threads take from it. When it is full the server is allowed no more, until half of it is taken.
 */
#include "client/blocking.h"
#include "client/driver_uv.h"
#include "client/follow.h"
#include "common/assert.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct kv_stream {
    struct kv_client *client;
    struct kv_follow *follow; /* of the client's thread; NULL: closed or never opened */
    struct kv_task resume;
    bool is_topic;
    bool has_progress;
    size_t bytes_max;

    uv_mutex_t mutex; /* guards what follows */
    uv_cond_t change;
    struct kv_piece *first;
    struct kv_piece *last;
    size_t bytes;
    bool paused;
    bool resuming; /* the task is posted */
    bool started;
    bool stopped;
    bool leaderless; /* to be told once */
    int64_t start;
    int64_t position;
    int64_t oldest;
    struct kv_error trouble;
    struct kv_error end; /* status 0: it goes on */
};

/* What programs see. */
struct kv_watch {
    struct kv_stream stream;
};
struct kv_subscription {
    struct kv_stream stream;
};

static int64_t *revision_of(const struct kv_stream *stream, struct kv_piece *piece)
{
    return stream->is_topic ? &piece->batch.messages.revision : &piece->batch.events.revision;
}

static bool is_fragment(const struct kv_stream *stream, const struct kv_piece *piece)
{
    return stream->is_topic ? piece->batch.messages.fragment : piece->batch.events.fragment;
}

/* ---------------------------------------------------------------- the client's thread */

static void push(struct kv_stream *stream, struct kv_piece *piece)
{
    *(stream->last ? &stream->last->next : &stream->first) = piece;
    stream->last = piece;
    stream->bytes += piece->bytes;
    uv_cond_signal(&stream->change);
}

static void on_piece(void *arg, struct kv_piece *piece)
{
    struct kv_stream *stream = arg;
    bool pause;

    uv_mutex_lock(&stream->mutex);
    piece->next = NULL;
    push(stream, piece);
    pause = !stream->paused && stream->bytes >= stream->bytes_max;
    stream->paused = stream->paused || pause;
    uv_mutex_unlock(&stream->mutex);
    if (pause) {
        kv_follow_pause(stream->follow, uv_hrtime(), true);
    }
}

static void on_progress(void *arg, int64_t revision, bool told)
{
    struct kv_stream *stream = arg;
    struct kv_piece *piece = NULL;

    uv_mutex_lock(&stream->mutex);
    if (told && stream->has_progress && !stream->first) {
        /* Without memory for it the next one tells as much. One is enough for who does not read. */
        piece = calloc(1, sizeof *piece);
    }
    if (piece) {
        piece->bytes = sizeof *piece;
        *revision_of(stream, piece) = revision;
        push(stream, piece);
    } else if (!stream->first) {
        stream->position = revision;
    } else if (!is_fragment(stream, stream->last)) {
        *revision_of(stream, stream->last) = revision;
    }
    uv_mutex_unlock(&stream->mutex);
}

static void on_started(void *arg, int64_t revision)
{
    struct kv_stream *stream = arg;

    uv_mutex_lock(&stream->mutex);
    stream->started = true;
    stream->start = revision;
    stream->position = revision;
    uv_cond_broadcast(&stream->change);
    uv_mutex_unlock(&stream->mutex);
}

static void
on_trouble(void *arg, bool goes_on, int64_t oldest_revision, const struct kv_error *error)
{
    struct kv_stream *stream = arg;

    uv_mutex_lock(&stream->mutex);
    if (goes_on) {
        stream->leaderless = true;
        stream->trouble = *error;
    } else {
        stream->end = *error;
        stream->oldest = oldest_revision;
    }
    uv_cond_broadcast(&stream->change);
    uv_mutex_unlock(&stream->mutex);
}

struct opening {
    struct kv_stream *stream;
    const struct kv_watch_options *watch; /* one of the two */
    const struct kv_subscribe_options *subscribe;
    struct kv_error *ret_error;
    int status;
};

static void open_on_thread(void *arg, struct kv_async *async)
{
    struct opening *opening = arg;
    const struct kv_follow_fns fns = {
        on_piece, on_progress, on_started, on_trouble, opening->stream};
    struct kv_session *session = kv_async_enter(async);

    /* The client is not closed while something of it is opened. */
    KV_ASSERT(session);
    opening->status = kv_follow_open(session,
                                     uv_hrtime(),
                                     opening->watch,
                                     opening->subscribe,
                                     &fns,
                                     &opening->stream->follow,
                                     opening->ret_error);
    kv_async_leave(async);
}

static void close_on_thread(void *arg, struct kv_async *async)
{
    struct kv_stream *stream = arg;

    KV_ASSERT(kv_async_enter(async));
    kv_follow_close(stream->follow, uv_hrtime());
    kv_async_leave(async);
}

static void resume_on_thread(struct kv_task *task, struct kv_async *async)
{
    struct kv_stream *stream =
        (struct kv_stream *)((char *)task - offsetof(struct kv_stream, resume));

    uv_mutex_lock(&stream->mutex);
    stream->resuming = false;
    stream->paused = false;
    uv_mutex_unlock(&stream->mutex);
    KV_ASSERT(kv_async_enter(async));
    kv_follow_pause(stream->follow, uv_hrtime(), false);
    kv_async_leave(async);
}

/* ---------------------------------------------------------------- the program's threads */

/* One of the options. */
static int stream_open(struct kv_stream *stream,
                       const struct kv_watch_options *watch,
                       const struct kv_subscribe_options *subscribe,
                       struct kv_error *ret_error)
{
    uint64_t queue_bytes = watch ? watch->queue_bytes : subscribe->queue_bytes;
    struct opening opening = {stream, watch, subscribe, ret_error, 0};

    stream->is_topic = !watch;
    stream->has_progress = (watch ? watch->progress_ms : subscribe->progress_ms) > 0;
    stream->bytes_max = queue_bytes ? (size_t)queue_bytes : (size_t)KV_CLIENT_QUEUE_BYTES;
    stream->resume.run = resume_on_thread;
    if (uv_mutex_init(&stream->mutex) < 0) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    if (uv_cond_init(&stream->change) < 0) {
        uv_mutex_destroy(&stream->mutex);
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    kv_client_do(stream->client, open_on_thread, &opening);
    if (opening.status < 0) {
        uv_cond_destroy(&stream->change);
        uv_mutex_destroy(&stream->mutex);
    }
    return opening.status;
}

/* Waits for a change until the moment; false: it is over. */
static bool wait_until(struct kv_stream *stream, uint64_t until_ns)
{
    uint64_t now_ns = uv_hrtime();

    if (now_ns >= until_ns) {
        return false;
    }
    (void)uv_cond_timedwait(&stream->change, &stream->mutex, until_ns - now_ns);
    return true;
}

static int said(const struct kv_error *error, struct kv_error *ret_error)
{
    if (ret_error) {
        *ret_error = *error;
    }
    return error->status;
}

static int ended(const struct kv_stream *stream, struct kv_error *ret_error)
{
    if (stream->stopped) {
        return kv_error_set(ret_error, KV_CLOSED, "it was stopped");
    }
    return said(&stream->end, ret_error);
}

static int stream_started(struct kv_stream *stream,
                          unsigned timeout_ms,
                          int64_t *ret_revision,
                          struct kv_error *ret_error)
{
    uint64_t until_ns = uv_hrtime() + timeout_ms * UINT64_C(1000000);
    int status;

    uv_mutex_lock(&stream->mutex);
    while (!stream->started && !stream->stopped && stream->end.status == 0 &&
           wait_until(stream, until_ns)) {
    }
    status = stream->started ? 0 : ended(stream, ret_error);
    if (!stream->started && status == 0) {
        status = kv_error_set(
            ret_error, KV_DEADLINE, "no server has begun it within %u ms yet", timeout_ms);
    }
    if (status == 0 && ret_revision) {
        *ret_revision = stream->start;
    }
    uv_mutex_unlock(&stream->mutex);
    return status;
}

static struct kv_piece *take(struct kv_stream *stream)
{
    struct kv_piece *piece = stream->first;

    stream->first = piece->next;
    stream->last = stream->first ? stream->last : NULL;
    stream->bytes -= piece->bytes;
    stream->position = *revision_of(stream, piece);
    if (stream->paused && !stream->resuming && stream->bytes <= stream->bytes_max / 2) {
        stream->resuming = true;
        kv_client_post(stream->client, &stream->resume);
    }
    if (stream->first) {
        /* Signals of two pieces may have woken one thread. */
        uv_cond_signal(&stream->change);
    }
    return piece;
}

/* 1, 0 or negative as of kv_watch_next. */
static int stream_next(struct kv_stream *stream,
                       unsigned timeout_ms,
                       struct kv_piece **ret_piece,
                       struct kv_error *ret_error)
{
    uint64_t until_ns = uv_hrtime() + timeout_ms * UINT64_C(1000000);
    int status;

    uv_mutex_lock(&stream->mutex);
    while (!stream->first && !stream->stopped && !stream->leaderless && stream->end.status == 0 &&
           wait_until(stream, until_ns)) {
    }
    if (stream->stopped) {
        status = ended(stream, ret_error);
    } else if (stream->first) {
        *ret_piece = take(stream);
        status = 1;
    } else if (stream->end.status < 0) {
        status = ended(stream, ret_error);
    } else if (stream->leaderless) {
        stream->leaderless = false;
        status = said(&stream->trouble, ret_error);
    } else {
        status = 0;
    }
    uv_mutex_unlock(&stream->mutex);
    return status;
}

static int64_t stream_position(struct kv_stream *stream)
{
    int64_t position;

    uv_mutex_lock(&stream->mutex);
    position = stream->position;
    uv_mutex_unlock(&stream->mutex);
    return position;
}

static void stream_stop(struct kv_stream *stream)
{
    uv_mutex_lock(&stream->mutex);
    stream->stopped = true;
    uv_cond_broadcast(&stream->change);
    uv_mutex_unlock(&stream->mutex);
}

static void stream_close(struct kv_stream *stream)
{
    /* Tasks run in order: the one that resumes, if any, before. */
    kv_client_do(stream->client, close_on_thread, stream);
    while (stream->first) {
        struct kv_piece *piece = stream->first;

        stream->first = piece->next;
        free(piece);
    }
    uv_cond_destroy(&stream->change);
    uv_mutex_destroy(&stream->mutex);
}

/* ---------------------------------------------------------------- watches */

int kv_watch_open(struct kv_client *client,
                  const struct kv_watch_options *options,
                  struct kv_watch **ret_watch,
                  struct kv_error *ret_error)
{
    struct kv_watch *watch = calloc(1, sizeof *watch);
    int status;

    if (!watch) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    watch->stream.client = client;
    status = stream_open(&watch->stream, options, NULL, ret_error);
    if (status < 0) {
        free(watch);
        return status;
    }
    *ret_watch = watch;
    return 0;
}

int kv_watch_started(struct kv_watch *watch,
                     unsigned timeout_ms,
                     int64_t *ret_revision,
                     struct kv_error *ret_error)
{
    return stream_started(&watch->stream, timeout_ms, ret_revision, ret_error);
}

int kv_watch_next(struct kv_watch *watch,
                  unsigned timeout_ms,
                  struct kv_event_batch **ret_batch,
                  struct kv_error *ret_error)
{
    struct kv_piece *piece;
    int status = stream_next(&watch->stream, timeout_ms, &piece, ret_error);

    if (status == 1) {
        *ret_batch = &piece->batch.events;
    }
    return status;
}

int64_t kv_watch_position(struct kv_watch *watch)
{
    return stream_position(&watch->stream);
}

int64_t kv_watch_oldest(struct kv_watch *watch)
{
    int64_t oldest;

    uv_mutex_lock(&watch->stream.mutex);
    oldest = watch->stream.oldest;
    uv_mutex_unlock(&watch->stream.mutex);
    return oldest;
}

void kv_watch_stop(struct kv_watch *watch)
{
    stream_stop(&watch->stream);
}

void kv_watch_close(struct kv_watch *watch)
{
    if (watch) {
        stream_close(&watch->stream);
        free(watch);
    }
}

/* ---------------------------------------------------------------- subscriptions */

int kv_subscribe(struct kv_client *client,
                 const struct kv_subscribe_options *options,
                 struct kv_subscription **ret_subscription,
                 struct kv_error *ret_error)
{
    struct kv_subscription *subscription = calloc(1, sizeof *subscription);
    int status;

    if (!subscription) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    subscription->stream.client = client;
    status = stream_open(&subscription->stream, NULL, options, ret_error);
    if (status < 0) {
        free(subscription);
        return status;
    }
    *ret_subscription = subscription;
    return 0;
}

int kv_subscription_started(struct kv_subscription *subscription,
                            unsigned timeout_ms,
                            int64_t *ret_revision,
                            struct kv_error *ret_error)
{
    return stream_started(&subscription->stream, timeout_ms, ret_revision, ret_error);
}

int kv_subscription_next(struct kv_subscription *subscription,
                         unsigned timeout_ms,
                         struct kv_message_batch **ret_batch,
                         struct kv_error *ret_error)
{
    struct kv_piece *piece;
    int status = stream_next(&subscription->stream, timeout_ms, &piece, ret_error);

    if (status == 1) {
        *ret_batch = &piece->batch.messages;
    }
    return status;
}

int64_t kv_subscription_position(struct kv_subscription *subscription)
{
    return stream_position(&subscription->stream);
}

void kv_subscription_stop(struct kv_subscription *subscription)
{
    stream_stop(&subscription->stream);
}

void kv_subscription_close(struct kv_subscription *subscription)
{
    if (subscription) {
        stream_close(&subscription->stream);
        free(subscription);
    }
}
