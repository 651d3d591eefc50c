/* What a followed stream asks for, and whether what comes is in order. */
#include "client/follow_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- options */

static int check_times(unsigned progress_ms,
                       unsigned require_leader_ms,
                       uint64_t queue_bytes,
                       int64_t start_revision,
                       struct kv_error *ret_error)
{
    if (progress_ms != 0 && progress_ms < KV_CLIENT_PROGRESS_MIN_MS) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "progress_ms is %u, at least %u, or 0 for none",
                            progress_ms,
                            KV_CLIENT_PROGRESS_MIN_MS);
    }
    if (require_leader_ms != 0 && require_leader_ms < KV_CLIENT_PROGRESS_MIN_MS) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "require_leader_ms is %u, at least %u, or 0 to wait in silence",
                            require_leader_ms,
                            KV_CLIENT_PROGRESS_MIN_MS);
    }
    if (queue_bytes > KV_CLIENT_QUEUE_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "queue_bytes is %llu, at most %llu",
                            (unsigned long long)queue_bytes,
                            (unsigned long long)KV_CLIENT_QUEUE_BYTES_MAX);
    }
    if (start_revision < 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "start_revision is %lld: it must be positive, or 0 for now",
                            (long long)start_revision);
    }
    return 0;
}

static struct kv_follow *make(size_t bytes, struct kv_error *ret_error)
{
    struct kv_follow *follow = calloc(1, sizeof *follow + bytes);

    if (follow) {
        kv__request__init(&follow->request);
    } else {
        (void)kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    return follow;
}

static ProtobufCBinaryData keep(uint8_t **to, ProtobufCBinaryData from)
{
    ProtobufCBinaryData kept = {from.len, *to};

    if (from.len > 0) {
        memcpy(*to, from.data, from.len);
    }
    *to += from.len;
    return kept;
}

/* Often enough that what it resumes at is not compacted meanwhile. */
static unsigned asked_progress(unsigned wanted_ms)
{
    return wanted_ms != 0 && wanted_ms < KV_CLIENT_PROGRESS_MS ? wanted_ms : KV_CLIENT_PROGRESS_MS;
}

static int make_watch(const struct kv_watch_options *options,
                      struct kv_follow **ret_follow,
                      struct kv_error *ret_error)
{
    Kv__KeyRange range;
    struct kv_follow *follow;
    uint8_t *bytes;
    int status = kv_range_to_proto(&options->range, &range, ret_error);

    if (status == 0 && (options->kinds >> KV_FOLLOW_KINDS || options->types & 1u ||
                        options->types >> KV_FOLLOW_TYPES)) {
        status =
            kv_error_set(ret_error, KV_INVALID, "kinds or types of a watch name what there is not");
    }
    if (status < 0) {
        return status;
    }
    follow = make(range.start.len + range.end.len, ret_error);
    if (!follow) {
        return KV_NO_MEMORY;
    }
    bytes = follow->bytes;
    range.start = keep(&bytes, range.start);
    range.end = keep(&bytes, range.end);
    follow->range = range;
    kv__watch__init(&follow->watch);
    follow->watch.range = &follow->range;
    follow->watch.kinds = follow->kinds;
    follow->watch.types = follow->types;
    for (unsigned i = 0; i < KV_FOLLOW_KINDS; i++) {
        if (options->kinds & 1u << i) {
            follow->kinds[follow->watch.n_kinds++] = (Kv__EventKind)i;
        }
    }
    for (unsigned i = 1; i < KV_FOLLOW_TYPES; i++) {
        if (options->types & 1u << i) {
            follow->types[follow->watch.n_types++] = (Kv__Type)i;
        }
    }
    follow->watch.with_previous = options->with_previous;
    follow->watch.keys_only = options->keys_only;
    follow->watch.progress_ms = asked_progress(options->progress_ms);
    follow->watch.require_leader_ms = options->require_leader_ms;
    follow->request.command_case = KV__REQUEST__COMMAND_WATCH;
    follow->request.watch = &follow->watch;
    follow->bound = options->queue_bytes ? options->queue_bytes : KV_CLIENT_QUEUE_BYTES;
    follow->base = options->start_revision > 0 ? options->start_revision - 1 : -1;
    *ret_follow = follow;
    return 0;
}

static int make_subscription(const struct kv_subscribe_options *options,
                             struct kv_follow **ret_follow,
                             struct kv_error *ret_error)
{
    struct kv_follow *follow;
    uint8_t *bytes;

    if (options->start_revision > 0 && options->last > 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "start_revision and last are two ways to say the same: set one");
    }
    if (options->topic.size == 0 || options->topic.size > KV_KEY_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a topic of %zu bytes: it has 1 to %u",
                            options->topic.size,
                            KV_KEY_BYTES_MAX);
    }
    follow = make(options->topic.size, ret_error);
    if (!follow) {
        return KV_NO_MEMORY;
    }
    bytes = follow->bytes;
    follow->is_topic = true;
    kv__subscribe__init(&follow->subscribe);
    follow->subscribe.topic = keep(&bytes, kv_bytes_to_proto(options->topic));
    follow->subscribe.pattern = options->pattern;
    follow->subscribe.progress_ms = asked_progress(options->progress_ms);
    follow->subscribe.require_leader_ms = options->require_leader_ms;
    follow->last_wanted = options->last;
    follow->request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    follow->request.subscribe = &follow->subscribe;
    follow->bound = KV_CLIENT_MESSAGES_BYTES_MAX;
    follow->base = options->start_revision > 0 ? options->start_revision - 1 : -1;
    *ret_follow = follow;
    return 0;
}

int kv_follow_make(const struct kv_watch_options *watch,
                   const struct kv_subscribe_options *subscribe,
                   struct kv_follow **ret_follow,
                   struct kv_error *ret_error)
{
    unsigned progress_ms = watch ? watch->progress_ms : subscribe->progress_ms;
    unsigned require_leader_ms = watch ? watch->require_leader_ms : subscribe->require_leader_ms;
    int status = check_times(progress_ms,
                             require_leader_ms,
                             watch ? watch->queue_bytes : subscribe->queue_bytes,
                             watch ? watch->start_revision : subscribe->start_revision,
                             ret_error);

    if (status == 0) {
        status = watch ? make_watch(watch, ret_follow, ret_error)
                       : make_subscription(subscribe, ret_follow, ret_error);
    }
    if (status == 0) {
        (*ret_follow)->progress_ns = progress_ms * 1000000ULL;
        (*ret_follow)->require_leader_ns = require_leader_ms * 1000000ULL;
    }
    return status;
}

const Kv__Request *kv_follow_request(struct kv_follow *follow)
{
    int64_t start = follow->base < 0 ? 0 : follow->base + 1;

    follow->watch.start_revision = start;
    follow->subscribe.start_revision = start;
    follow->subscribe.last = start == 0 ? follow->last_wanted : 0;
    return &follow->request;
}

/* ---------------------------------------------------------------- order */

static int out_of_order(struct kv_error *error, const char *what, int64_t at, int64_t after)
{
    return kv_error_set(error,
                        KV_INTERNAL,
                        "the server's stream is not in order: %s revision %lld after %lld",
                        what,
                        (long long)at,
                        (long long)after);
}

int kv_follow_check(struct kv_follow *follow,
                    const struct kv_item_view *view,
                    struct kv_error *error)
{
    int64_t newest = follow->newest > follow->base ? follow->newest : follow->base + 1;

    if (view->revision < follow->base) {
        return out_of_order(error, "everything is sent up to", view->revision, follow->base);
    }
    for (size_t i = 0; i < view->n; i++) {
        int64_t revision = kv_item_revision_of(view, i);

        if (revision < newest) {
            return out_of_order(error, "something of", revision, newest);
        }
        if (newest > view->revision && revision > newest && (i > 0 || follow->newest > 0)) {
            return out_of_order(error, "a second incomplete one,", revision, newest);
        }
        newest = revision;
    }
    if (!view->fragment && view->n > 0 && newest > view->revision) {
        return out_of_order(error, "without more to come, something of", newest, view->revision);
    }
    if (view->fragment && (view->n == 0 || newest <= view->revision)) {
        return kv_error_set(error,
                            KV_INTERNAL,
                            "the server's stream says that more comes of revision %lld, which it "
                            "calls complete",
                            (long long)newest);
    }
    follow->newest = view->n > 0 ? newest : follow->newest;
    return 0;
}
