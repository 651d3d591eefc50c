/* What the files of the transport share. */
#ifndef KV_RAFT_TRANSPORT_INTERNAL_H
#define KV_RAFT_TRANSPORT_INTERNAL_H

#include "common/limits.h"
#include "raft/transport.h"
#include "raft/transport_frame.h"

#include <uv.h>

enum kv_peer_conn_state {
    KV_PEER_CONN_IDLE,
    KV_PEER_CONN_RESOLVING,
    KV_PEER_CONN_CONNECTING,
    KV_PEER_CONN_HELLO,
    KV_PEER_CONN_READY
};

/* A socket with its buffers: dialed or accepted. Freed when its handle is closed. */
struct kv_peer_conn {
    struct kv_transport *transport;
    uv_tcp_t tcp;
    struct kv_peer_link *link; /* of the peer, once known; NULL: a stranger so far */
    bool accepted;
    bool closing;
    enum kv_peer_conn_state state;
    struct kv_buf in;
    struct kv_peer_assembly assemblies[2]; /* by class; accepted ones only */
    struct kv_buf urgent;                  /* frames to be sent; whole ones only */
    struct kv_buf ordered;
    size_t ordered_sent;
    struct kv_buf writing; /* what a uv_write under way still owns */
    uv_write_t write;
    bool write_under_way;
    uint64_t last_received_ms, last_sent_ms, opened_ms;
    uv_connect_t connect;
    char remote[64];
    struct kv_peer_conn *next;
};

/* A peer that we know by id. */
struct kv_peer_link {
    struct kv_transport *transport;
    uint64_t id;
    char address[280];
    struct kv_peer_conn *out; /* we dialed */
    struct kv_peer_conn *in;  /* it dialed */
    bool connected;           /* told to the handler */
    bool resolving;
    uv_getaddrinfo_t resolver;
    uint64_t retry_ms; /* when to dial again; 0: now */
    uint64_t backoff_ms;
    bool removed;
    char last_error[160];
    struct kv_transport_peer_stats stats;
    struct kv_peer_link *next;
};

struct kv_transport {
    struct kv_transport_options options;
    char client_address[280];
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_prepare_t prepare; /* flushes once per loop iteration */
    uv_timer_t timer;     /* pings, time-outs, dialing */
    struct kv_net_handler handler;
    bool started;
    bool closing;
    struct kv_peer_link *links;
    struct kv_peer_conn *conns;
    size_t n_accepted;
    size_t n_handles; /* that keep the transport alive */
    int port;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    char last_refusal[200];
    struct kv_buf scratch;
};

/* transport_conn.c */
struct kv_peer_conn *kv_peer_conn_new(struct kv_transport *transport, bool accepted);
/* reset: the other side closed or refused, as a process that ended does. */
void kv_peer_conn_close(struct kv_peer_conn *conn, bool reset);
int kv_peer_conn_start_reading(struct kv_peer_conn *conn) KV_MUST_CHECK;
void kv_peer_conn_flush(struct kv_peer_conn *conn);
int kv_peer_conn_send_hello(struct kv_peer_conn *conn) KV_MUST_CHECK;

/* transport.c */
uint64_t kv_transport_now_ms(const struct kv_transport *transport);
struct kv_peer_link *kv_transport_link(const struct kv_transport *transport, uint64_t id);
void kv_transport_link_lost(struct kv_peer_link *link, bool reset);
void kv_transport_handle_closed(struct kv_transport *transport);
void kv_transport_refuse(struct kv_transport *transport, const char *remote, const char *reason);

/* transport_dial.c */
void kv_peer_link_dial(struct kv_peer_link *link);
void kv_peer_link_failed(struct kv_peer_link *link, const char *reason);

#endif
