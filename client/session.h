/* The core of libkv without I/O: endpoints, connections as state machines, requests with retries
 * and deadlines. Bytes, connection events and time go in; bytes, connect and close orders, and
 * answers come out. A driver (driver_uv.c, or a simulator) does the rest.
 *
 * After each call but the getters the driver must do three things, in any order: carry out
 * kv_session_next_action until there is none, write kv_session_take_output of every connection that
 * has any, and arm its timer for kv_session_wake_ns. Callbacks come from inside the inputs; in them
 * submit and cancel may be called, nothing else. Not thread safe. Times are ns of one monotonic
 * clock. */
#ifndef KV_CLIENT_SESSION_H
#define KV_CLIENT_SESSION_H

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"
#include "proto/kv.pb-c.h"

#include <kv/client.h>

struct kv_session;

/* The end of a request; borrowed for the call. */
struct kv_session_answer {
    int status;                   /* 0 or negative */
    const Kv__Reply *reply;       /* NULL: no server's final word */
    struct kv_slice packed;       /* the same as bytes */
    const struct kv_error *error; /* status and text */
};
typedef void (*kv_session_end_fn)(void *arg, const struct kv_session_answer *answer);
typedef void (*kv_session_item_fn)(void *arg, const Kv__StreamItem *item);

/* deadline_ms, name: validated. KV_INVALID, KV_NO_MEMORY. */
int kv_session_open(const struct kv_client_options *options,
                    uint64_t seed,
                    struct kv_session **ret_session,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* Ends all requests with KV_CLOSED (their callbacks may not submit any more). Takes NULL. */
void kv_session_close(struct kv_session *session);

/* Before the close, when there is time for a last word: the cluster's session of this client is
 * ended, so that nobody waits for its ttl. What is to be sent is then to be taken as ever. */
void kv_session_farewell(struct kv_session *session, uint64_t now_ns);

/* Packs and queues the request; its end comes later, never from inside. item_fn: for a stream, else
 * NULL. A watch or subscription is endless: it has no deadline; it ends, with KV_CLOSED, when its
 * connection is lost, or silent and does not answer. Errors as of kv_async_call.
 */
int kv_session_submit(struct kv_session *session,
                      uint64_t now_ns,
                      const Kv__Request *request,
                      const struct kv_call_options *options,
                      kv_session_item_fn item_fn,
                      kv_session_end_fn end_fn,
                      void *arg,
                      uint64_t *ret_id) KV_MUST_CHECK;
/* Ends the request and tells the server: with KV_CLOSED when it is a read, or nothing can have been
 * done, else with KV_OUTCOME_UNKNOWN. Unknown ids are ignored. */
void kv_session_cancel(struct kv_session *session, uint64_t now_ns, uint64_t id);

/* Keeps back (hold), or gives, the credit that a stream has used: the server sends nothing beyond.
 * A request that has ended is ignored. */
void kv_session_hold(struct kv_session *session, uint64_t now_ns, uint64_t id, bool hold);

/* Of the newest input; for what is called from inside. */
uint64_t kv_session_now_ns(const struct kv_session *session);
/* True: as soon as no endpoint can be reached, requests end. */
bool kv_session_is_impatient(const struct kv_session *session);

/* A moment when fn is called, once, from inside kv_session_on_timer; in it submit and cancel may be
 * called, and timers set and stopped. Embedded, zeroed; to be stopped before its memory goes. */
struct kv_session_timer {
    struct kv_session_timer *next;
    struct kv_session_timer *prev;
    bool set;
    uint64_t at_ns;
    void (*fn)(void *arg, uint64_t now_ns);
    void *arg;
};
void kv_session_timer_set(struct kv_session *session,
                          struct kv_session_timer *timer,
                          uint64_t at_ns);
void kv_session_timer_stop(struct kv_session *session, struct kv_session_timer *timer);
/* min_ms doubled per failure up to max_ms, of which a random part between half and all. */
uint64_t kv_session_backoff_ns(struct kv_session *session,
                               unsigned failures,
                               unsigned min_ms,
                               unsigned max_ms);

/* Inputs of the driver; `endpoint` is the number from the action. */
void kv_session_on_connected(struct kv_session *session, uint64_t now_ns, unsigned endpoint);
void kv_session_on_bytes(struct kv_session *session,
                         uint64_t now_ns,
                         unsigned endpoint,
                         struct kv_slice bytes);
/* It could not be connected, or was lost; the driver has closed it. */
void kv_session_on_closed(struct kv_session *session,
                          uint64_t now_ns,
                          unsigned endpoint,
                          const char *reason);
void kv_session_on_timer(struct kv_session *session, uint64_t now_ns);

enum kv_session_action_kind {
    KV_SESSION_CONNECT,    /* to address; answer with on_connected or on_closed */
    KV_SESSION_DISCONNECT, /* forget the connection at once; nothing more about it goes in */
};
struct kv_session_action {
    enum kv_session_action_kind kind;
    unsigned endpoint;   /* below KV_CLIENT_ENDPOINTS_MAX */
    const char *address; /* host:port; borrowed until the next call */
};
bool kv_session_next_action(struct kv_session *session, struct kv_session_action *ret_action);

/* Moves what is to be sent into `buf`, which must be empty (the memories are exchanged). From now
 * on it counts as sent. False: there is nothing. */
bool kv_session_take_output(struct kv_session *session, unsigned endpoint, struct kv_buf *buf);

/* When kv_session_on_timer is to be called; UINT64_MAX: not needed. */
uint64_t kv_session_wake_ns(const struct kv_session *session);
size_t kv_session_pending(const struct kv_session *session);
/* "host:port" of the connection in use; "" without one. */
const char *kv_session_endpoint(const struct kv_session *session);
unsigned kv_session_endpoint_count(const struct kv_session *session);

/* Reads, keepalives, LeaderTransfer and SnapshotNow: doing them twice does no harm, whoever else
 * writes in between. Puts and deletes are not among them: repeated late, they undo what others
 * wrote meanwhile. */
bool kv_session_is_repeatable(const Kv__Request *request);

/* Splits "host:port,..." (port 4700 when missing, brackets around IPv6) into addresses of the form
 * host:port. KV_INVALID names the part. Returns 0 and the count. */
#define KV_CLIENT_ADDRESS_BYTES (KV_NAME_BYTES_MAX + 8u) /* with colon, port, terminator */
int kv_endpoints_parse(const char *text,
                       char (*ret_addresses)[KV_CLIENT_ADDRESS_BYTES],
                       size_t *ret_count,
                       struct kv_error *ret_error) KV_MUST_CHECK;

#endif
