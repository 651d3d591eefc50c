/* What the files of the transport share. */
#ifndef KV_RAFT_TRANSPORT_INTERNAL_H
#define KV_RAFT_TRANSPORT_INTERNAL_H

#include "common/limits.h"
#include "raft/transport.h"
#include "raft/transport_frame.h"
#include "raft/transport_throttle.h"

#include <uv.h>

enum kv_peer_conn_state { KV_PEER_CONN_CONNECTING, KV_PEER_CONN_HELLO, KV_PEER_CONN_READY };

/* A socket with its buffers: dialed or accepted. Freed when its handle is closed. */
struct kv_peer_conn {
    struct kv_transport *transport;
    uv_tcp_t tcp;
    struct kv_peer_link *link; /* of the peer, once known; NULL: a stranger so far */
    bool accepted;
    bool is_bulk; /* once known: as the hello says */
    bool closing;
    enum kv_peer_conn_state state;
    struct kv_buf in;
    struct kv_peer_assembly assemblies[2]; /* urgent ones, others; accepted ones only */
    struct kv_buf urgent;                  /* frames to be sent; whole ones only */
    struct kv_buf ordered;                 /* or bulk, on a bulk connection */
    size_t ordered_sent;
    size_t queue_bytes_max; /* of urgent, ordered and writing */
    size_t n_messages;      /* in urgent and ordered */
    size_t n_urgent_messages;
    struct kv_buf writing; /* what a uv_write under way still owns */
    uv_write_t write;
    bool write_under_way;
    uint64_t opened_ms;
    uint64_t last_alive_ms; /* it sent something, or took something after its buffers were full */
    size_t unwritten_bytes; /* of the write under way, when last looked at */
    uint64_t last_busy_ms;  /* bulk: something was queued */
    uint64_t turn;          /* of the loop, when it was accepted */
    uv_connect_t connect;
    char remote[64];
    struct kv_peer_conn *next;
};

/* When to dial, and why it last failed. */
struct kv_peer_attempts {
    uint64_t retry_ms; /* not before; 0: now */
    uint64_t backoff_ms;
    unsigned n_failed; /* chooses among the addresses of a name */
    char last_error[160];
};

struct kv_peer_lookup;

/* A peer that we know by id. */
struct kv_peer_link {
    struct kv_transport *transport;
    uint64_t id;
    char address[280];
    struct kv_peer_conn *out; /* we dialed */
    struct kv_peer_conn *in;  /* it dialed */
    struct kv_peer_conn *bulk_out, *bulk_in;
    bool connected;                /* told to the handler */
    struct kv_peer_lookup *lookup; /* of the address, under way */
    struct kv_peer_attempts attempts, bulk_attempts;
    struct kv_peer_throttle throttle; /* of bulk_out */
    bool removed;
    struct kv_transport_peer_stats stats;
    struct kv_peer_link *next;
};

struct kv_transport_refusal {
    char text[200];
    uint64_t logged_ms;
};

struct kv_transport {
    struct kv_transport_options options;
    char client_address[280];
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_prepare_t prepare; /* flushes once per loop iteration */
    uv_timer_t timer;     /* pings, time-outs, dialing */
    uv_timer_t wake;      /* ends the loop's wait: something can go on */
    uv_async_t looked_up; /* a look-up has ended */
    uint64_t turn;        /* of the loop */
    struct kv_net_handler handler;
    bool started;
    bool closing;
    struct kv_peer_link *links;
    struct kv_peer_conn *conns;
    size_t n_accepted; /* not closing */
    bool accept_due;   /* a connection waits at the listener */
    size_t n_handles;  /* that keep the transport alive */
    int port;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    struct kv_transport_refusal refusals[8]; /* the latest different ones */
};

/* transport_conn.c */
struct kv_peer_conn *kv_peer_conn_new(struct kv_transport *transport, bool accepted);
/* reset: the other side closed or refused, as a process that ended does. */
void kv_peer_conn_close(struct kv_peer_conn *conn, bool reset);
int kv_peer_conn_start_reading(struct kv_peer_conn *conn) KV_MUST_CHECK;
void kv_peer_conn_flush(struct kv_peer_conn *conn);
int kv_peer_conn_send_hello(struct kv_peer_conn *conn) KV_MUST_CHECK;

size_t kv_peer_conn_queued(const struct kv_peer_conn *conn);

/* transport.c */
uint64_t kv_transport_now_ms(const struct kv_transport *transport);
void kv_transport_wake(struct kv_transport *transport, uint64_t delay_ms);
/* Something is to be dialed or answered: the timer looks often again. */
void kv_transport_tend_soon(struct kv_transport *transport);
struct kv_peer_link *kv_transport_link(const struct kv_transport *transport, uint64_t id);
void kv_transport_link_lost(struct kv_peer_link *link, bool reset);
void kv_transport_handle_closed(struct kv_transport *transport);
void kv_transport_refuse(struct kv_transport *transport, const char *remote, const char *reason);

/* transport_accept.c */
void kv_transport_on_connection(uv_stream_t *listener, int status);
/* Once a turn, after the sockets were read. */
void kv_transport_accept_due(struct kv_transport *transport);

/* transport_dial.c */
void kv_peer_link_dial(struct kv_peer_link *link);
/* The connection for bulk messages, dialed if there is none; NULL: not now. */
struct kv_peer_conn *kv_peer_link_bulk(struct kv_peer_link *link);
/* Of a dialed connection: notes and logs why, before it is closed. */
void kv_peer_conn_failed(struct kv_peer_conn *conn, const char *reason);
void kv_peer_link_on_looked_up(uv_async_t *async);
void kv_peer_attempts_reset(struct kv_peer_attempts *attempts);

/* transport_lookup.c */
struct addrinfo;
/* Names are resolved on a thread of their own, since some block for ten seconds and nobody may wait
 * for them. done is woken when it has ended; KV_NO_MEMORY. */
int kv_peer_lookup_start(const char *host,
                         const char *port,
                         uv_async_t *done,
                         struct kv_peer_lookup **ret_lookup) KV_MUST_CHECK;
/* False: still under way. True: it is freed; *ret_found is owned (freeaddrinfo) and NULL when it
 * failed, *ret_error says why, as from getaddrinfo. */
bool kv_peer_lookup_end(struct kv_peer_lookup *lookup,
                        struct addrinfo **ret_found,
                        int *ret_error) KV_MUST_CHECK;
/* Lets it end by itself; done is not woken any more. Takes NULL. */
void kv_peer_lookup_abandon(struct kv_peer_lookup *lookup);

#endif
