/* The session core on a libuv loop: sockets, names, timer. */
#include "client/driver_uv.h"
#include "common/assert.h"

#include <kv/async.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { READ_BYTES = 32 * 1024, KEEPALIVE_S = 30 };

/* One connection, from the look-up of its name until its handles are closed. */
struct link {
    struct kv_async *async; /* NULL: forgotten, only waits for its handles */
    unsigned endpoint;
    bool resolving;
    bool tcp_open;
    bool connected;
    bool writing;
    uv_getaddrinfo_t resolve;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct addrinfo *addresses;
    const struct addrinfo *next_address;
    struct kv_buf out; /* being written */
};

struct call {
    struct kv_async *async;
    kv_async_fn fn;
    kv_async_item_fn item_fn;
    void *arg;
};

struct kv_async {
    uv_loop_t *loop;
    struct kv_session *session;
    struct link *links[KV_CLIENT_ENDPOINTS_MAX];
    uv_timer_t timer;
    uv_prepare_t prepare;  /* active while the session has news */
    unsigned handles_open; /* of the two above */
    unsigned links_open;   /* forgotten ones too */
    unsigned depth;        /* inside the session */
    bool again;            /* there is news since on_prepare looked */
    bool closing;
    uint64_t armed_ns;
    uint8_t *read_buffer;
    void (*closed_fn)(void *arg);
    void *closed_arg;
};

static void finish_close(struct kv_async *async);
static void try_next_address(struct link *link, int status);

/* ---------------------------------------------------------------- links */

static void free_async_if_done(struct kv_async *async)
{
    if (!async->closing || async->session || async->handles_open > 0 || async->links_open > 0) {
        return;
    }
    free(async->read_buffer);
    if (async->closed_fn) {
        async->closed_fn(async->closed_arg);
    }
    free(async);
}

static void free_link_if_done(struct link *link, struct kv_async *async)
{
    if (link->resolving || link->tcp_open) {
        return;
    }
    uv_freeaddrinfo(link->addresses);
    kv_buf_deinit(&link->out);
    free(link);
    async->links_open--;
    free_async_if_done(async);
}

/* data of every handle is the kv_async, which outlives its links. */
static void on_link_closed(uv_handle_t *handle)
{
    struct link *link = (struct link *)((char *)handle - offsetof(struct link, tcp));

    link->tcp_open = false;
    free_link_if_done(link, handle->data);
}

static void forget_link(struct link *link)
{
    struct kv_async *async = link->async;

    async->links[link->endpoint] = NULL;
    link->async = NULL;
    if (link->resolving) {
        /* When it runs already, its callback comes in its time. */
        (void)uv_cancel((uv_req_t *)&link->resolve);
    }
    if (link->tcp_open) {
        uv_close((uv_handle_t *)&link->tcp, on_link_closed);
        return;
    }
    free_link_if_done(link, async);
}

/* ---------------------------------------------------------------- entering the session */

static void on_prepare(uv_prepare_t *prepare);

static void enter(struct kv_async *async)
{
    async->depth++;
}

/* What the session wants is carried out once before the loop polls, for all inputs of a turn. */
static void leave(struct kv_async *async)
{
    async->depth--;
    async->again = true;
    if (async->depth > 0) {
        return;
    }
    if (async->closing) {
        finish_close(async);
    } else {
        KV_ASSERT(uv_prepare_start(&async->prepare, on_prepare) == 0);
    }
}

struct kv_session *kv_async_enter(struct kv_async *async)
{
    if (async->closing) {
        return NULL;
    }
    enter(async);
    return async->session;
}

void kv_async_leave(struct kv_async *async)
{
    leave(async);
}

static void report_closed(struct link *link, const char *reason)
{
    struct kv_async *async = link->async;
    unsigned endpoint = link->endpoint;

    forget_link(link);
    enter(async);
    kv_session_on_closed(async->session, uv_hrtime(), endpoint, reason);
    leave(async);
}

/* ---------------------------------------------------------------- connecting */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct kv_async *async = handle->data;

    (void)suggested;
    if (!async->read_buffer) {
        async->read_buffer = malloc(READ_BYTES);
    }
    *ret_buf = uv_buf_init((char *)async->read_buffer, async->read_buffer ? READ_BYTES : 0);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct link *link = (struct link *)((char *)stream - offsetof(struct link, tcp));
    struct kv_async *async = link->async;

    if (!async || size == 0) {
        return;
    }
    if (size < 0) {
        report_closed(link,
                      size == UV_EOF ? "the server closed the connection" : uv_strerror((int)size));
        return;
    }
    enter(async);
    kv_session_on_bytes(
        async->session, uv_hrtime(), link->endpoint, kv_slice_of(buf->base, (size_t)size));
    leave(async);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct link *link = (struct link *)((char *)connect - offsetof(struct link, connect));
    struct kv_async *async = link->async;

    if (!async) {
        return;
    }
    if (status == 0) {
        status = uv_read_start((uv_stream_t *)&link->tcp, on_allocate, on_read);
    }
    if (status < 0) {
        try_next_address(link, status);
        return;
    }
    /* They only make it better. */
    (void)uv_tcp_nodelay(&link->tcp, 1);
    (void)uv_tcp_keepalive(&link->tcp, 1, KEEPALIVE_S);
    link->connected = true;
    enter(async);
    kv_session_on_connected(async->session, uv_hrtime(), link->endpoint);
    leave(async);
}

static void on_address_failed(uv_handle_t *handle)
{
    struct link *link = (struct link *)((char *)handle - offsetof(struct link, tcp));
    struct kv_async *async = handle->data;

    link->tcp_open = false;
    if (!link->async) {
        free_link_if_done(link, async);
        return;
    }
    try_next_address(link, 0);
}

static int connect_to(struct link *link, const struct sockaddr *address)
{
    struct kv_async *async = link->async;
    int status;

    status = uv_tcp_init(async->loop, &link->tcp);
    if (status < 0) {
        return status;
    }
    link->tcp.data = async;
    link->tcp_open = true;
    return uv_tcp_connect(&link->connect, &link->tcp, address, on_connected);
}

/* The present address did not work (status), or (0) the next one is to be tried. */
static void try_next_address(struct link *link, int status)
{
    const struct addrinfo *address = link->next_address;

    if (!address) {
        report_closed(link, uv_strerror(status < 0 ? status : UV_EAI_NONAME));
        return;
    }
    if (link->tcp_open) {
        uv_close((uv_handle_t *)&link->tcp, on_address_failed);
        return;
    }
    link->next_address = address->ai_next;
    status = connect_to(link, address->ai_addr);
    if (status < 0) {
        try_next_address(link, status);
    }
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *addresses)
{
    struct link *link = (struct link *)((char *)resolve - offsetof(struct link, resolve));

    link->resolving = false;
    link->addresses = addresses;
    if (!link->async) {
        free_link_if_done(link, resolve->data);
        return;
    }
    if (status < 0) {
        report_closed(link, uv_strerror(status));
        return;
    }
    link->next_address = addresses;
    try_next_address(link, 0);
}

/* Splits host:port; strips brackets. */
static void
split_address(const char *address, char host[KV_CLIENT_ADDRESS_BYTES], const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    int size = (int)(colon - address);

    if (address[0] == '[') {
        snprintf(host, KV_CLIENT_ADDRESS_BYTES, "%.*s", size - 2, address + 1);
    } else {
        snprintf(host, KV_CLIENT_ADDRESS_BYTES, "%.*s", size, address);
    }
    *ret_port = colon + 1;
}

static int begin_connect(struct link *link, const char *address)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char host[KV_CLIENT_ADDRESS_BYTES];
    struct sockaddr_storage literal;
    const char *port;
    int status;

    split_address(address, host, &port);
    /* Literals need no thread for a look-up. */
    if (uv_ip4_addr(host, atoi(port), (struct sockaddr_in *)&literal) == 0 ||
        uv_ip6_addr(host, atoi(port), (struct sockaddr_in6 *)&literal) == 0) {
        return connect_to(link, (const struct sockaddr *)&literal);
    }
    link->resolve.data = link->async;
    status = uv_getaddrinfo(link->async->loop, &link->resolve, on_resolved, host, port, &hints);
    link->resolving = status == 0;
    return status;
}

static void connect_endpoint(struct kv_async *async, unsigned endpoint, const char *address)
{
    struct link *link = calloc(1, sizeof *link);
    int status;

    if (!link) {
        enter(async);
        kv_session_on_closed(async->session, uv_hrtime(), endpoint, "out of memory");
        leave(async);
        return;
    }
    link->async = async;
    link->endpoint = endpoint;
    kv_buf_init(&link->out, KV_CLIENT_OUT_BYTES_MAX);
    async->links[endpoint] = link;
    async->links_open++;
    status = begin_connect(link, address);
    if (status < 0) {
        report_closed(link, uv_strerror(status));
    }
}

/* ---------------------------------------------------------------- writing, actions, timer */

static void on_written(uv_write_t *write, int status)
{
    struct link *link = (struct link *)((char *)write - offsetof(struct link, write));

    link->writing = false;
    kv_buf_clear(&link->out);
    if (!link->async) {
        return;
    }
    if (status < 0) {
        report_closed(link, uv_strerror(status));
        return;
    }
    KV_ASSERT(uv_prepare_start(&link->async->prepare, on_prepare) == 0);
}

static void write_link(struct kv_async *async, struct link *link)
{
    uv_buf_t buf;
    int status;

    if (!link || !link->connected || link->writing ||
        !kv_session_take_output(async->session, link->endpoint, &link->out)) {
        return;
    }
    buf = uv_buf_init((char *)link->out.data, (unsigned)link->out.size);
    link->writing = true;
    status = uv_write(&link->write, (uv_stream_t *)&link->tcp, &buf, 1, on_written);
    if (status < 0) {
        link->writing = false;
        report_closed(link, uv_strerror(status));
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct kv_async *async = timer->data;

    async->armed_ns = UINT64_MAX;
    enter(async);
    kv_session_on_timer(async->session, uv_hrtime());
    leave(async);
}

static void arm_timer(struct kv_async *async)
{
    uint64_t wake_ns = kv_session_wake_ns(async->session);
    uint64_t now_ns = uv_hrtime();
    uint64_t ms;

    if (wake_ns == async->armed_ns || wake_ns == UINT64_MAX) {
        return;
    }
    ms = wake_ns > now_ns ? (wake_ns - now_ns + 999999) / 1000000 : 0;
    async->armed_ns = wake_ns;
    uv_update_time(async->loop);
    KV_ASSERT(uv_timer_start(&async->timer, on_timer, ms, 0) == 0);
}

static void carry_out(struct kv_async *async)
{
    struct kv_session_action action;

    while (!async->closing && kv_session_next_action(async->session, &action)) {
        struct link *link = async->links[action.endpoint];

        if (action.kind == KV_SESSION_DISCONNECT && link) {
            forget_link(link);
        } else if (action.kind == KV_SESSION_CONNECT) {
            connect_endpoint(async, action.endpoint, action.address);
        }
    }
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX && !async->closing; i++) {
        write_link(async, async->links[i]);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct kv_async *async = prepare->data;

    uv_prepare_stop(prepare);
    async->depth++;
    do {
        async->again = false;
        carry_out(async);
    } while (async->again && !async->closing);
    async->depth--;
    if (async->closing) {
        finish_close(async);
        return;
    }
    arm_timer(async);
}

/* ---------------------------------------------------------------- open, close, calls */

int kv_async_open(struct uv_loop_s *loop,
                  const struct kv_client_options *options,
                  struct kv_async **ret_async,
                  struct kv_error *ret_error)
{
    struct kv_async *async = calloc(1, sizeof *async);
    uint64_t seed;
    int status;

    if (!async) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    /* Only the jitter of retries hangs on it. */
    seed = uv_hrtime() ^ (uintptr_t)async;
    status = kv_session_open(options, seed, &async->session, ret_error);
    if (status < 0) {
        free(async);
        return status;
    }
    async->loop = loop;
    async->armed_ns = UINT64_MAX;
    KV_ASSERT(uv_timer_init(loop, &async->timer) == 0);
    KV_ASSERT(uv_prepare_init(loop, &async->prepare) == 0);
    async->timer.data = async;
    async->prepare.data = async;
    async->handles_open = 2;
    *ret_async = async;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct kv_async *async = handle->data;

    async->handles_open--;
    free_async_if_done(async);
}

/* A last word where the socket takes it at once. */
static void say_farewell(struct kv_async *async)
{
    kv_session_farewell(async->session, uv_hrtime());
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        struct link *link = async->links[i];

        if (link && link->connected && !link->writing &&
            kv_session_take_output(async->session, i, &link->out)) {
            uv_buf_t buf = uv_buf_init((char *)link->out.data, (unsigned)link->out.size);

            (void)uv_try_write((uv_stream_t *)&link->tcp, &buf, 1);
        }
    }
}

static void finish_close(struct kv_async *async)
{
    struct kv_session *session = async->session;

    if (!session) {
        return;
    }
    async->depth++;
    say_farewell(async);
    kv_session_close(session);
    async->depth--;
    async->session = NULL;
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        if (async->links[i]) {
            forget_link(async->links[i]);
        }
    }
    uv_close((uv_handle_t *)&async->timer, on_handle_closed);
    uv_close((uv_handle_t *)&async->prepare, on_handle_closed);
}

void kv_async_close(struct kv_async *async, void (*closed)(void *arg), void *arg)
{
    if (!async || async->closing) {
        return;
    }
    async->closing = true;
    async->closed_fn = closed;
    async->closed_arg = arg;
    if (async->depth == 0) {
        finish_close(async);
    }
}

static void on_end(void *arg, const struct kv_session_answer *answer)
{
    struct call *call = arg;

    call->fn(call->arg, answer->status, answer->reply, answer->error);
    free(call);
}

static void on_item(void *arg, const Kv__StreamItem *item)
{
    struct call *call = arg;

    call->item_fn(call->arg, item);
}

int kv_async_stream(struct kv_async *async,
                    const struct Kv__Request *request,
                    const struct kv_call_options *options,
                    kv_async_item_fn item_fn,
                    kv_async_fn fn,
                    void *arg,
                    uint64_t *ret_id)
{
    struct call *call;
    int status;

    if (async->closing) {
        return KV_CLOSED;
    }
    call = malloc(sizeof *call);
    if (!call) {
        return KV_NO_MEMORY;
    }
    *call = (struct call){async, fn, item_fn, arg};
    enter(async);
    status = kv_session_submit(async->session,
                               uv_hrtime(),
                               request,
                               options,
                               item_fn ? on_item : NULL,
                               on_end,
                               call,
                               ret_id);
    leave(async);
    if (status < 0) {
        free(call);
    }
    return status;
}

int kv_async_call(struct kv_async *async,
                  const struct Kv__Request *request,
                  const struct kv_call_options *options,
                  kv_async_fn fn,
                  void *arg,
                  uint64_t *ret_id)
{
    return kv_async_stream(async, request, options, NULL, fn, arg, ret_id);
}

void kv_async_cancel(struct kv_async *async, uint64_t id)
{
    if (async->closing) {
        return;
    }
    enter(async);
    kv_session_cancel(async->session, uv_hrtime(), id);
    leave(async);
}

size_t kv_async_pending(const struct kv_async *async)
{
    return async->session ? kv_session_pending(async->session) : 0;
}

const char *kv_async_endpoint(const struct kv_async *async)
{
    return async->session ? kv_session_endpoint(async->session) : "";
}
