/* A lease held by a program: kept alive on the client's thread, asked about from any. */
#include "client/blocking.h"
#include "client/driver_uv.h"
#include "client/keeper.h"
#include "common/assert.h"

#include <stdlib.h>
#include <uv.h>

struct kv_lease {
    struct kv_client *client;
    struct kv_kept *kept; /* of the client's thread */
    int64_t lease_id;
    uint64_t ttl_ms;
    uint64_t margin_ms;
    kv_lease_fn fn;
    void *arg;
    uint64_t granted_ns;
    int status; /* of being kept */
    struct kv_error *ret_error;

    uv_mutex_t mutex; /* guards what follows */
    uv_cond_t change;
    bool lost;
    uint64_t certain_until_ns;
};

/* ---------------------------------------------------------------- the client's thread */

static void on_renewed(void *arg, uint64_t certain_until_ns)
{
    struct kv_lease *lease = arg;

    uv_mutex_lock(&lease->mutex);
    lease->certain_until_ns = certain_until_ns;
    uv_cond_broadcast(&lease->change);
    uv_mutex_unlock(&lease->mutex);
}

static void on_state(void *arg, enum kv_lease_state state, const struct kv_error *why)
{
    struct kv_lease *lease = arg;

    uv_mutex_lock(&lease->mutex);
    lease->lost = state == KV_LEASE_LOST;
    uv_cond_broadcast(&lease->change);
    uv_mutex_unlock(&lease->mutex);
    if (lease->fn) {
        lease->fn(lease->arg, state, why);
    }
}

static void keep_on_thread(void *arg, struct kv_async *async)
{
    struct kv_lease *lease = arg;
    const struct kv_kept_options options = {
        .lease_id = lease->lease_id,
        .ttl_ms = lease->ttl_ms,
        .margin_ms = lease->margin_ms,
        .granted_ns = lease->granted_ns,
        .fn = on_state,
        .renewed = on_renewed,
        .arg = lease,
    };
    struct kv_session *session = kv_async_enter(async);

    /* The client is not closed while a lease of it is taken. */
    KV_ASSERT(session);
    lease->status = kv_kept_open(session, uv_hrtime(), &options, &lease->kept, lease->ret_error);
    if (lease->status == 0) {
        lease->certain_until_ns = kv_kept_certain_until_ns(lease->kept);
    }
    kv_async_leave(async);
}

static void close_on_thread(void *arg, struct kv_async *async)
{
    struct kv_lease *lease = arg;

    (void)async;
    kv_kept_close(lease->kept);
}

/* ---------------------------------------------------------------- the program's threads */

/* The lease is there in the cluster, with its ttl and the moment from which it counts. */
static int
obtain(struct kv_lease *lease, const struct kv_lease_options *options, struct kv_error *ret_error)
{
    /* Before it is sent: nothing later is safe. */
    lease->granted_ns = uv_hrtime();
    lease->lease_id = options->lease_id;
    if (options->existing) {
        return kv_lease_keep_alive(
            lease->client, &options->lease_id, 1, &options->call, &lease->ttl_ms, ret_error);
    }
    lease->ttl_ms = options->ttl_ms;
    return kv_lease_grant(lease->client,
                          options->lease_id,
                          options->ttl_ms,
                          &options->call,
                          &lease->lease_id,
                          ret_error);
}

static int
keep(struct kv_lease *lease, const struct kv_lease_options *options, struct kv_error *ret_error)
{
    uint64_t margin_ms = options->margin_ms;
    int status = obtain(lease, options, ret_error);

    if (status == 0 && lease->ttl_ms == 0) {
        status = kv_error_set(
            ret_error, KV_NOT_FOUND, "lease %lld has ended", (long long)lease->lease_id);
    }
    if (status == 0) {
        status = kv_kept_margin(lease->ttl_ms, &margin_ms, ret_error);
    }
    if (status < 0) {
        return status;
    }
    lease->margin_ms = margin_ms;
    lease->ret_error = ret_error;
    kv_client_do(lease->client, keep_on_thread, lease);
    return lease->status;
}

int kv_lease_hold(struct kv_client *client,
                  const struct kv_lease_options *options,
                  struct kv_lease **ret_lease,
                  struct kv_error *ret_error)
{
    uint64_t margin_ms = options->margin_ms;
    struct kv_lease *lease;
    int status = 0;

    /* Before there is a lease that nobody keeps. */
    if (!options->existing && options->ttl_ms > 0) {
        status = kv_kept_margin(options->ttl_ms, &margin_ms, ret_error);
    }
    if (status < 0) {
        return status;
    }
    lease = calloc(1, sizeof *lease);
    if (!lease || uv_mutex_init(&lease->mutex) < 0) {
        free(lease);
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    if (uv_cond_init(&lease->change) < 0) {
        uv_mutex_destroy(&lease->mutex);
        free(lease);
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    lease->client = client;
    lease->fn = options->fn;
    lease->arg = options->arg;
    status = keep(lease, options, ret_error);
    if (status < 0) {
        uv_cond_destroy(&lease->change);
        uv_mutex_destroy(&lease->mutex);
        free(lease);
        return status;
    }
    *ret_lease = lease;
    return 0;
}

/* `stop` of who gives the lease up, with the time that this is worth to those who wait for it. */
struct last_moment {
    bool (*stop)(void *arg);
    void *arg;
    uint64_t since_ns; /* 0: it says no yet */
};

static bool is_over(void *arg)
{
    struct last_moment *last = arg;

    if (last->since_ns == 0 && last->stop(last->arg)) {
        last->since_ns = uv_hrtime();
    }
    return last->since_ns != 0 &&
           uv_hrtime() - last->since_ns >= KV_WAIT_STOPPED_MS * UINT64_C(1000000);
}

int kv_lease_end(struct kv_lease *lease, bool revoke, bool (*stop)(void *arg), void *arg)
{
    struct kv_call_options options = {
        .deadline_ms = lease->ttl_ms < KV_DEADLINE_DEFAULT_MS ? (unsigned)lease->ttl_ms : 0};
    struct last_moment last = {.stop = stop, .arg = arg};
    int status = 0;

    kv_client_do(lease->client, close_on_thread, lease);
    if (stop) {
        options.stop = is_over;
        options.stop_arg = &last;
    }
    if (revoke && !lease->lost) {
        status = kv_lease_revoke(lease->client, lease->lease_id, &options, NULL, NULL);
    }
    uv_cond_destroy(&lease->change);
    uv_mutex_destroy(&lease->mutex);
    free(lease);
    return status == KV_NOT_FOUND ? 0 : status;
}

void kv_lease_close(struct kv_lease *lease, bool revoke)
{
    if (lease) {
        /* It ends by itself otherwise. */
        (void)kv_lease_end(lease, revoke, NULL, NULL);
    }
}

int64_t kv_lease_id(const struct kv_lease *lease)
{
    return lease->lease_id;
}

uint64_t kv_lease_ttl_ms(const struct kv_lease *lease)
{
    return lease->ttl_ms;
}

static enum kv_lease_state state_at(const struct kv_lease *lease, uint64_t now_ns)
{
    if (lease->lost) {
        return KV_LEASE_LOST;
    }
    return now_ns < lease->certain_until_ns ? KV_LEASE_HELD : KV_LEASE_IN_DOUBT;
}

enum kv_lease_state kv_lease_state(struct kv_lease *lease)
{
    enum kv_lease_state state;

    uv_mutex_lock(&lease->mutex);
    state = state_at(lease, uv_hrtime());
    uv_mutex_unlock(&lease->mutex);
    return state;
}

uint64_t kv_lease_left_ms(struct kv_lease *lease)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t left_ns = 0;

    uv_mutex_lock(&lease->mutex);
    if (state_at(lease, now_ns) == KV_LEASE_HELD) {
        left_ns = lease->certain_until_ns - now_ns;
    }
    uv_mutex_unlock(&lease->mutex);
    return left_ns / 1000000;
}

enum kv_lease_state
kv_lease_wait(struct kv_lease *lease, enum kv_lease_state seen, unsigned timeout_ms)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t until_ns = now_ns + timeout_ms * UINT64_C(1000000);
    enum kv_lease_state state;

    uv_mutex_lock(&lease->mutex);
    while ((state = state_at(lease, now_ns)) == seen && now_ns < until_ns) {
        uint64_t wait_ns = until_ns - now_ns;

        if (state == KV_LEASE_HELD && lease->certain_until_ns - now_ns < wait_ns) {
            wait_ns = lease->certain_until_ns - now_ns;
        }
        (void)uv_cond_timedwait(&lease->change, &lease->mutex, wait_ns);
        now_ns = uv_hrtime();
    }
    uv_mutex_unlock(&lease->mutex);
    return state;
}
