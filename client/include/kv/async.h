/* libkv without blocking, on a libuv loop of yours.
 *
 * Threads: everything runs on the loop's thread: call from there only, callbacks come there. Many
 * requests may be under way at the same time on one kv_async (they are pipelined on one
 * connection); many kv_async may share a loop. The process should ignore SIGPIPE. Retries,
 * deadlines and errors as of kv/client.h. */
#ifndef KV_ASYNC_H
#define KV_ASYNC_H

#include <kv/client.h>
#include <kv/lease.h>
#include <kv/topic.h>
#include <kv/watch.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
struct Kv__StreamItem;
struct kv_async;

/* The end of a request. status: 0 or negative; reply: what the server answered, NULL when none did
 * (then error->message says which endpoints were tried); error: code and text, empty when status is
 * 0. All borrowed for the call. New requests may be made and kv_async_close called from here. */
typedef void (*kv_async_fn)(void *arg,
                            int status,
                            const struct Kv__Reply *reply,
                            const struct kv_error *error);
/* One item of a stream that is not its last answer, or its last with content. Borrowed for the
 * call; the server's credit for it is renewed afterwards. */
typedef void (*kv_async_item_fn)(void *arg, const struct Kv__StreamItem *item);

/* KV_INVALID, KV_NO_MEMORY. Connects with the first request. */
int kv_async_open(struct uv_loop_s *loop,
                  const struct kv_client_options *options,
                  struct kv_async **ret_async,
                  struct kv_error *ret_error) KV_MUST_CHECK;
/* Ends what is under way with KV_CLOSED or KV_OUTCOME_UNKNOWN (the callbacks come from here, or
 * right after the callback in which this is called); closed(arg) comes from the loop when nothing
 * of the client is left on it. closed may be NULL. Takes NULL. The loop does not end before. */
void kv_async_close(struct kv_async *async, void (*closed)(void *arg), void *arg);

/* Sends a request; it is packed at once, so it need not live longer than the call. fn is called
 * once, never before this returns. *ret_id (may be NULL) is for kv_async_cancel. KV_BUSY: 65536
 * requests or 256 MiB wait already; KV_TOO_LARGE: over the 16 MiB of a frame; KV_INVALID;
 * KV_NO_MEMORY: then fn is not called. */
int kv_async_call(struct kv_async *async,
                  const struct Kv__Request *request,
                  const struct kv_call_options *options,
                  kv_async_fn fn,
                  void *arg,
                  uint64_t *ret_id) KV_MUST_CHECK;

/* The same for a request that is answered as a stream (Range with stream = true; its credit is set
 * by libkv). Items come in order; fn ends it, its reply has code, message, hint and revision only.
 * A lost connection before the first item is retried, after it the stream ends with
 * KV_OUTCOME_UNKNOWN: begin again behind the last key at the items' revision. */
int kv_async_stream(struct kv_async *async,
                    const struct Kv__Request *request,
                    const struct kv_call_options *options,
                    kv_async_item_fn item_fn,
                    kv_async_fn fn,
                    void *arg,
                    uint64_t *ret_id) KV_MUST_CHECK;

/* The caller waits no longer: fn is called before this returns, and the server is told. KV_CLOSED:
 * it was a read, or nothing was done, nor will be; KV_OUTCOME_UNKNOWN: a write may have been done,
 * or still be. Unknown ids are ignored. */
void kv_async_cancel(struct kv_async *async, uint64_t id);

/* ---------------------------------------------------------------- watches, subscriptions */

/* A stream that is kept going across reconnects, as of kv/watch.h and kv/topic.h. Its callbacks
 * come from the loop, never from inside the call that opens it; in them any call of this file may
 * be made, kv_async_follow_close of the same stream too. */
struct kv_async_follow;

/* Something other than events: status KV_NO_LEADER: as of require_leader_ms, it goes on; any other:
 * it has ended, and only kv_async_follow_close is left to do. oldest_revision: with KV_COMPACTED,
 * the first that can be watched from. */
typedef void (*kv_async_trouble_fn)(void *arg,
                                    int status,
                                    int64_t oldest_revision,
                                    const struct kv_error *error);

struct kv_async_watch_fns {
    /* Borrowed for the call. */
    void (*batch)(void *arg, const struct kv_event_batch *batch);
    /* May be NULL: a server watches; for the first time only. revision: the one before the first
     * that is told. */
    void (*started)(void *arg, int64_t revision);
    kv_async_trouble_fn trouble;
    void *arg;
};
/* options->queue_bytes bounds what is kept of a revision until it is complete; beyond it comes in
 * fragments. Errors as of kv_watch_open, and KV_CLOSED. */
int kv_async_watch(struct kv_async *async,
                   const struct kv_watch_options *options,
                   const struct kv_async_watch_fns *fns,
                   struct kv_async_follow **ret_follow,
                   struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_async_subscribe_fns {
    void (*batch)(void *arg, const struct kv_message_batch *batch);
    void (*started)(void *arg, int64_t revision);
    kv_async_trouble_fn trouble;
    void *arg;
};
int kv_async_subscribe(struct kv_async *async,
                       const struct kv_subscribe_options *options,
                       const struct kv_async_subscribe_fns *fns,
                       struct kv_async_follow **ret_follow,
                       struct kv_error *ret_error) KV_MUST_CHECK;

/* pause: the server is allowed no more until it is resumed; what it was allowed before (1 MiB)
 * still comes. */
void kv_async_follow_pause(struct kv_async_follow *follow, bool pause);
/* All up to this revision was told; as kv_watch_position. */
int64_t kv_async_follow_position(const struct kv_async_follow *follow);
/* Ends and forgets it; no callback follows. Takes NULL. To be done before kv_async_close. */
void kv_async_follow_close(struct kv_async_follow *follow);

/* ---------------------------------------------------------------- held leases */

struct kv_async_lease;

struct kv_async_lease_options {
    int64_t lease_id; /* of a lease that was granted (LeaseGrant) */
    uint64_t ttl_ms;
    uint64_t margin_ms;      /* as of kv_lease_options */
    uint64_t granted_age_ms; /* so long ago the grant, or the last renewal, was SENT, or longer */
    kv_lease_fn fn;          /* from the loop; kv_async_lease_close may be called in it */
    void *arg;
};
/* Keeps a lease alive. KV_INVALID: margin, ttl or id; KV_BUSY: over 100000; KV_NO_MEMORY;
 * KV_CLOSED. */
int kv_async_lease_keep(struct kv_async *async,
                        const struct kv_async_lease_options *options,
                        struct kv_async_lease **ret_lease,
                        struct kv_error *ret_error) KV_MUST_CHECK;
enum kv_lease_state kv_async_lease_state(const struct kv_async_lease *lease);
/* Ends the keeping, not the lease. Takes NULL. To be done before kv_async_close. */
void kv_async_lease_close(struct kv_async_lease *lease);

/* ---------------------------------------------------------------- state */

/* Requests that have no answer yet. */
size_t kv_async_pending(const struct kv_async *async);
/* The endpoint that is used now, "host:port"; "" without one. Borrowed until the next turn. */
const char *kv_async_endpoint(const struct kv_async *async);

#ifdef __cplusplus
}
#endif

#endif
