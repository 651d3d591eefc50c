#define _GNU_SOURCE
#include "client/kvbench/conn.h"
#include "client/kvbench/support.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUF_BYTES_MAX = 256 * 1024 * 1024, READ_BYTES = 256 * 1024 };

static int connect_to(const char *endpoint)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    const char *colon = strrchr(endpoint, ':');
    char host[256];
    int yes = 1;
    int fd;

    if (!colon || (size_t)(colon - endpoint) >= sizeof host) {
        bench_fail("\"%s\" is no endpoint: want host:port", endpoint);
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - endpoint), endpoint);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        bench_fail("cannot resolve %s", endpoint);
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
        bench_fail("cannot connect to %s: %s", endpoint, strerror(errno));
    }
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void want(struct bench_conn *conn, bool writable, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = conn};

    conn->writable_wanted = writable;
    if (epoll_ctl(conn->epoll, how, conn->fd, &event) < 0) {
        bench_fail("epoll: %s", strerror(errno));
    }
}

void conn_flush(struct bench_conn *conn)
{
    while (conn->sent < conn->out.size) {
        ssize_t n = send(conn->fd,
                         conn->out.data + conn->sent,
                         conn->out.size - conn->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            if (!conn->writable_wanted) {
                want(conn, true, EPOLL_CTL_MOD);
            }
            return;
        }
        if (n < 0) {
            bench_fail("connection %u: %s", conn->number, strerror(errno));
        }
        conn->sent += (size_t)n;
    }
    kv_buf_clear(&conn->out);
    conn->sent = 0;
    if (conn->writable_wanted) {
        want(conn, false, EPOLL_CTL_MOD);
    }
}

static bool read_some(struct bench_conn *conn, int flags)
{
    uint8_t *p = kv_buf_reserve(&conn->in, READ_BYTES);
    ssize_t n;

    if (!p) {
        bench_fail("out of memory");
    }
    n = recv(conn->fd, p, READ_BYTES, flags);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        bench_fail(
            "connection %u: %s", conn->number, n == 0 ? "closed by the server" : strerror(errno));
    }
    conn->in.size += (size_t)n;
    return true;
}

void conn_serve(struct bench_conn *conn, uint32_t events, completed_fn completed)
{
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && read_some(conn, MSG_DONTWAIT) &&
        conn->target->parse(conn, completed) != 0) {
        bench_fail("connection %u: %s", conn->number, conn->error);
    }
    conn_flush(conn);
}

static void nothing_completed(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    (void)slot;
    (void)ok;
    (void)text;
    bench_fail("connection %u: an answer before any question", conn->number);
}

static void send_all(struct bench_conn *conn, const char *endpoint)
{
    while (conn->sent < conn->out.size) {
        ssize_t n =
            send(conn->fd, conn->out.data + conn->sent, conn->out.size - conn->sent, MSG_NOSIGNAL);

        if (n < 0) {
            bench_fail("%s: %s", endpoint, strerror(errno));
        }
        conn->sent += (size_t)n;
    }
    kv_buf_clear(&conn->out);
    conn->sent = 0;
}

static void
begin(struct bench_conn *conn, const struct options *options, unsigned depth, const char *endpoint)
{
    conn->target = options->target;
    conn->serializable = options->serializable;
    conn->in_session = options->session;
    conn->depth = depth;
    conn->fd = connect_to(endpoint);
    kv_buf_init(&conn->in, BUF_BYTES_MAX);
    kv_buf_init(&conn->out, BUF_BYTES_MAX);
    conn->started_ns = bench_alloc(depth, sizeof *conn->started_ns);
    if (conn->target->open(conn) != 0) {
        bench_fail("out of memory");
    }
    send_all(conn, endpoint);
    while (!conn->ready) {
        (void)read_some(conn, 0);
        if (conn->target->parse(conn, nothing_completed) != 0) {
            bench_fail("%s: %s", endpoint, conn->error);
        }
        send_all(conn, endpoint);
    }
}

void conn_close(struct bench_conn *conn)
{
    conn->target->close(conn);
    close(conn->fd);
    kv_buf_deinit(&conn->in);
    kv_buf_deinit(&conn->out);
    free(conn->started_ns);
    memset(conn, 0, sizeof *conn);
}

void conn_open(struct bench_conn *conn,
               const struct options *options,
               unsigned number,
               unsigned depth,
               int epoll)
{
    const char *endpoint = options->endpoints[number % options->n_endpoints];
    char leader[280];

    conn->number = number;
    begin(conn, options, depth, endpoint);
    if (!options->spread && conn->leader[0] && strcmp(conn->leader, endpoint) != 0) {
        memcpy(leader, conn->leader, sizeof leader);
        conn_close(conn);
        conn->number = number;
        begin(conn, options, depth, leader);
    }
    conn->epoll = epoll;
    want(conn, false, EPOLL_CTL_ADD);
}

int conn_epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0) {
        bench_fail("epoll: %s", strerror(errno));
    }
    return epoll;
}

int conn_wait(int epoll, struct epoll_event *events, int max_events, double wait_ns)
{
    struct timespec wait = {0};

    if (wait_ns > 0) {
        wait.tv_sec = (time_t)(wait_ns / 1e9);
        wait.tv_nsec = (long)(wait_ns - (double)wait.tv_sec * 1e9);
    }
    return epoll_pwait2(epoll, events, max_events, &wait, NULL);
}
