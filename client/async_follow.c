/* Watches, subscriptions and held leases on a loop: kv/async.h over follow.h and keeper.h. */
#include "client/driver_uv.h"
#include "client/follow.h"
#include "client/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct kv_async_follow {
    struct kv_async *async;
    struct kv_follow *follow;
    struct kv_async_watch_fns watch; /* one of the two */
    struct kv_async_subscribe_fns subscribe;
};

struct kv_async_lease {
    struct kv_async *async;
    struct kv_kept *kept;
};

/* ---------------------------------------------------------------- streams */

static void on_piece(void *arg, struct kv_piece *piece)
{
    struct kv_async_follow *follow = arg;

    if (follow->watch.batch) {
        follow->watch.batch(follow->watch.arg, &piece->batch.events);
    } else {
        follow->subscribe.batch(follow->subscribe.arg, &piece->batch.messages);
    }
    free(piece);
}

static void on_progress(void *arg, int64_t revision, bool told)
{
    struct kv_async_follow *follow = arg;

    if (!told) {
        return;
    }
    if (follow->watch.batch) {
        follow->watch.batch(follow->watch.arg, &(struct kv_event_batch){.revision = revision});
    } else {
        follow->subscribe.batch(follow->subscribe.arg,
                                &(struct kv_message_batch){.revision = revision});
    }
}

static void on_started(void *arg, int64_t revision)
{
    struct kv_async_follow *follow = arg;

    if (follow->watch.started) {
        follow->watch.started(follow->watch.arg, revision);
    } else if (follow->subscribe.started) {
        follow->subscribe.started(follow->subscribe.arg, revision);
    }
}

static void
on_trouble(void *arg, bool goes_on, int64_t oldest_revision, const struct kv_error *error)
{
    struct kv_async_follow *follow = arg;

    (void)goes_on;
    if (follow->watch.trouble) {
        follow->watch.trouble(follow->watch.arg, error->status, oldest_revision, error);
    } else {
        follow->subscribe.trouble(follow->subscribe.arg, error->status, oldest_revision, error);
    }
}

/* Takes the follow, whatever comes of it. */
static int open_follow(struct kv_async_follow *follow,
                       const struct kv_watch_options *watch,
                       const struct kv_subscribe_options *subscribe,
                       struct kv_async_follow **ret_follow,
                       struct kv_error *ret_error)
{
    const struct kv_follow_fns fns = {on_piece, on_progress, on_started, on_trouble, follow};
    struct kv_session *session = kv_async_enter(follow->async);
    int status;

    if (!session) {
        free(follow);
        return kv_error_set(ret_error, KV_CLOSED, "the client is being closed");
    }
    status =
        kv_follow_open(session, uv_hrtime(), watch, subscribe, &fns, &follow->follow, ret_error);
    kv_async_leave(follow->async);
    if (status < 0) {
        free(follow);
        return status;
    }
    *ret_follow = follow;
    return 0;
}

int kv_async_watch(struct kv_async *async,
                   const struct kv_watch_options *options,
                   const struct kv_async_watch_fns *fns,
                   struct kv_async_follow **ret_follow,
                   struct kv_error *ret_error)
{
    struct kv_async_follow *follow = calloc(1, sizeof *follow);

    if (!follow) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    follow->async = async;
    follow->watch = *fns;
    return open_follow(follow, options, NULL, ret_follow, ret_error);
}

int kv_async_subscribe(struct kv_async *async,
                       const struct kv_subscribe_options *options,
                       const struct kv_async_subscribe_fns *fns,
                       struct kv_async_follow **ret_follow,
                       struct kv_error *ret_error)
{
    struct kv_async_follow *follow = calloc(1, sizeof *follow);

    if (!follow) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    follow->async = async;
    follow->subscribe = *fns;
    return open_follow(follow, NULL, options, ret_follow, ret_error);
}

void kv_async_follow_pause(struct kv_async_follow *follow, bool pause)
{
    if (kv_async_enter(follow->async)) {
        kv_follow_pause(follow->follow, uv_hrtime(), pause);
        kv_async_leave(follow->async);
    }
}

int64_t kv_async_follow_position(const struct kv_async_follow *follow)
{
    return kv_follow_position(follow->follow);
}

void kv_async_follow_close(struct kv_async_follow *follow)
{
    if (!follow) {
        return;
    }
    if (kv_async_enter(follow->async)) {
        kv_follow_close(follow->follow, uv_hrtime());
        kv_async_leave(follow->async);
    } else {
        /* From a callback of the close itself: the session is there until it is over. */
        kv_follow_close(follow->follow, uv_hrtime());
    }
    free(follow);
}

/* ---------------------------------------------------------------- leases */

int kv_async_lease_keep(struct kv_async *async,
                        const struct kv_async_lease_options *options,
                        struct kv_async_lease **ret_lease,
                        struct kv_error *ret_error)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t age_ns =
        options->granted_age_ms < now_ns / 1000000 ? options->granted_age_ms * 1000000 : now_ns;
    struct kv_kept_options kept = {
        .lease_id = options->lease_id,
        .ttl_ms = options->ttl_ms,
        .margin_ms = options->margin_ms,
        .granted_ns = now_ns - age_ns,
        .fn = options->fn,
        .arg = options->arg,
    };
    struct kv_async_lease *lease = malloc(sizeof *lease);
    struct kv_session *session;
    int status;

    if (!lease) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    lease->async = async;
    session = kv_async_enter(async);
    if (!session) {
        free(lease);
        return kv_error_set(ret_error, KV_CLOSED, "the client is being closed");
    }
    status = kv_kept_open(session, now_ns, &kept, &lease->kept, ret_error);
    kv_async_leave(async);
    if (status < 0) {
        free(lease);
        return status;
    }
    *ret_lease = lease;
    return 0;
}

enum kv_lease_state kv_async_lease_state(const struct kv_async_lease *lease)
{
    return kv_kept_state(lease->kept, uv_hrtime());
}

void kv_async_lease_close(struct kv_async_lease *lease)
{
    if (lease) {
        kv_kept_close(lease->kept);
        free(lease);
    }
}
