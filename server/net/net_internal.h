/* What the files of the client side share. Fields are marked with the thread that may touch them.
 */
#ifndef KV_NET_NET_INTERNAL_H
#define KV_NET_NET_INTERNAL_H

#include "common/arena.h"
#include "common/limits.h"
#include "proto/frame.h"
#include "server/net/server.h"

#include <ck_ring.h>
#include <stdatomic.h>
#include <uv.h>

/* Batches under way in one direction; a full ring makes a thread read no further. */
#define KV_NET_RING_SLOTS 4096u
/* What one turn of a thread reads from one connection. */
#define KV_NET_READ_BYTES (256 * KV_KIB)
/* Memory of what one turn decodes. */
#define KV_NET_ARENA_BYTES (3 * KV_DECODED_BYTES_MAX)

struct kv_conn;
struct kv_net_thread;

/* All that one turn of a thread decoded: freed when the last of its requests is answered. */
struct kv_net_batch {
    struct kv_arena arena;
    struct kv_net_item *first;
    struct kv_net_item *last;
    atomic_size_t references;
    struct kv_net_thread *thread;
};

enum kv_net_item_type { KV_ITEM_REQUEST, KV_ITEM_CANCEL, KV_ITEM_CREDIT };

struct kv_net_request {
    struct kv_op op; /* the core's while it is under way */
    struct kv_conn *conn;
    struct kv_net_batch *batch;
    uint64_t id;
    bool is_stream;
    bool done;      /* thread: its final answer has been sent */
    bool core_done; /* core: the node has given its final answer */
};

/* One thing for the core to do, in order. */
struct kv_net_item {
    enum kv_net_item_type type;
    struct kv_net_request *request;
    uint64_t credit;
    struct kv_net_item *next;
};

/* Answers on their way to a thread. */
struct kv_net_answer {
    struct kv_net_request *request;
    size_t offset;
    size_t size;
    bool final;
};
struct kv_net_answers {
    struct kv_buf bytes; /* packed messages, one after the other */
    struct kv_net_answer *answers;
    size_t n_answers;
    size_t capacity;
};

/* Outstanding requests of a connection by id: open addressing. */
struct kv_id_table {
    struct kv_net_request **slots;
    size_t capacity; /* 0 or a power of two */
    size_t count;
};
struct kv_net_request *kv_id_table_find(const struct kv_id_table *table, uint64_t id);
int kv_id_table_add(struct kv_id_table *table, struct kv_net_request *request) KV_MUST_CHECK;
void kv_id_table_remove(struct kv_id_table *table, uint64_t id);
void kv_id_table_deinit(struct kv_id_table *table);

struct kv_conn {
    struct kv_net_thread *thread;
    uv_tcp_t tcp;
    bool hello_done;
    bool lz4;
    bool closing; /* close is under way, or done */
    bool closed;  /* the handle is gone; freed with the last request */
    bool reading;
    bool close_when_sent;
    bool dirty; /* has something to send; in the thread's list */
    uint64_t opened_ms;
    struct kv_buf in;
    struct kv_buf out;
    struct kv_buf writing;
    uv_write_t write;
    bool write_under_way;
    struct kv_id_table requests;
    struct kv_conn *next, *prev; /* all of the thread */
    struct kv_conn *next_dirty;
};

struct kv_net_thread {
    struct kv_server *server;
    unsigned number;
    uv_thread_t thread;
    int listen_fd;
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_async_t wake;      /* core -> thread */
    uv_prepare_t prepare; /* end of a turn */
    uv_timer_t timer;
    bool started;
    atomic_bool stop;
    struct kv_conn *conns;
    size_t n_conns;
    struct kv_conn *dirty;
    struct kv_net_batch *batch; /* being filled */
    bool stalled;               /* the ring to the core is full */
    ck_ring_t to_core;
    ck_ring_buffer_t *to_core_slots;
    ck_ring_t from_core;
    ck_ring_buffer_t *from_core_slots;
    struct kv_net_answers *filling; /* core: answers of this turn */
    struct kv_node_status status;   /* thread: copy for hellos and checks */
    unsigned status_version;
    char goodbye_address[280];
};

struct kv_server {
    struct kv_server_options options;
    struct kv_node *node;
    struct kv_net_thread *threads;
    unsigned n_threads;
    uv_async_t wake; /* threads -> core */
    int port;
    uv_mutex_t lock; /* of status */
    struct kv_node_status status;
    atomic_uint status_version;
    char leader_address[280];
    _Atomic uint64_t connections, connections_total, refused, requests, replies, bytes_in,
        bytes_out;
};

/* --- conn.c, on the thread --- */
void kv_conn_accept(struct kv_net_thread *thread, uv_stream_t *listener);
void kv_conn_close(struct kv_conn *conn);
/* Appends a frame to what is to be sent. */
void kv_conn_send(struct kv_conn *conn, enum kv_frame_kind kind, const ProtobufCMessage *message);
void kv_conn_send_packed(struct kv_conn *conn, enum kv_frame_kind kind, struct kv_slice body);
void kv_conn_goodbye(struct kv_conn *conn,
                     int status,
                     const char *message,
                     const char *leader_address);
void kv_conn_flush(struct kv_conn *conn);
/* A request of it has had its final answer. */
void kv_conn_request_done(struct kv_conn *conn, struct kv_net_request *request);
void kv_conn_resume(struct kv_conn *conn);

/* --- request.c, on the thread: from a frame to items of the batch --- */
/* 0, or a negative status with a message: the connection is closed with it. */
int kv_conn_receive_frame(struct kv_conn *conn,
                          const struct kv_frame *frame,
                          struct kv_error *ret_error) KV_MUST_CHECK;
void kv_conn_cancel_all(struct kv_conn *conn);

/* --- thread.c --- */
struct kv_net_batch *kv_net_thread_batch(struct kv_net_thread *thread); /* NULL: no memory */
void kv_net_thread_add(struct kv_net_thread *thread, struct kv_net_item *item);
void kv_net_batch_release(struct kv_net_batch *batch);
const struct kv_node_status *kv_net_thread_status(struct kv_net_thread *thread);
int kv_net_thread_start(struct kv_net_thread *thread, int fd) KV_MUST_CHECK;
void kv_net_thread_stop(struct kv_net_thread *thread); /* joins */

#endif
