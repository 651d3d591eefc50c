/* What the files of the client side share. Fields are marked with the thread that may touch them.
 */
#ifndef KV_NET_NET_INTERNAL_H
#define KV_NET_NET_INTERNAL_H

#include "common/arena.h"
#include "common/limits.h"
#include "proto/frame.h"
#include "raft/wakeup.h"
#include "server/net/decode.h"
#include "server/net/ring.h"
#include "server/net/server.h"

#include <stdatomic.h>
#include <uv.h>

/* Batches under way in one direction; a full ring makes a thread read no further. */
#define KV_NET_RING_SLOTS 4096u
/* Emptied memory on its way back to the core. */
#define KV_NET_SPARE_SLOTS 8u
/* Memory kept for another use is no larger than this. */
#define KV_NET_SPARE_BYTES (1 * KV_MIB)
#define KV_NET_THREADS_MAX 64u
/* What one read takes from a socket at most, beyond a frame that is under way. */
#define KV_NET_READ_BYTES (64 * KV_KIB)
/* Memory of what one batch decodes: begun anew beyond KV_NET_BATCH_BYTES, so one largest request is
 * all that comes on top. */
#define KV_NET_ARENA_BYTES (KV_NET_BATCH_BYTES + KV_REQUEST_BYTES_MAX + 2 * KV_DECODED_BYTES_MAX)

struct kv_conn;
struct kv_net_thread;

/* All that one turn of a thread decoded: recycled when the last of its requests is answered. */
struct kv_net_batch {
    struct kv_arena arena;
    struct kv_net_item *first;
    struct kv_net_item *last;
    atomic_size_t references; /* the filler's, then the core's; one of each request and item */
    struct kv_net_thread *thread;
    bool is_small;             /* no other use for it */
    struct kv_net_batch *next; /* of the thread's spare ones */
};

enum kv_net_item_type { KV_ITEM_REQUEST, KV_ITEM_CANCEL, KV_ITEM_CREDIT };

struct kv_net_request {
    struct kv_op op; /* the core's while it is under way; first, for the way back */
    struct kv_conn *conn;
    struct kv_net_batch *batch;
    uint64_t id;
    uint64_t arrived_ns;
    uint16_t command;
    bool is_stream;
    bool is_subscription;
    bool core_done; /* core: the node has given its final answer */
};

/* A subscription stays for days: it has a small batch of its own, and of what was decoded only this
 * much. */
struct kv_net_subscription {
    struct kv_net_request request; /* first */
    Kv__Request kept;              /* id and command */
};

/* One thing for the core to do, in order. */
struct kv_net_item {
    enum kv_net_item_type type;
    struct kv_net_request *request;
    const Kv__Request *kept; /* of a subscription: what is left when the core has taken it */
    uint64_t credit;
    struct kv_net_item *next;
};

/* Answers on their way to a thread. */
struct kv_net_answer {
    struct kv_net_request *request;
    struct kv_shared *shared; /* NULL: packed at offset */
    size_t offset;
    size_t size;
    uint8_t code;
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

/* Items of subscriptions between the core and the socket of a connection. */
struct kv_net_room {
    struct kv_listener listener; /* core */
    atomic_size_t references;    /* the connection's, and one while it is told */
    _Atomic uint64_t bytes;
    atomic_bool is_awaited; /* the core has more and waits for room */
    atomic_bool is_told;    /* it is among the server's rooms */
    struct kv_net_room *next_told;
};

struct kv_conn {
    struct kv_net_thread *thread;
    uv_tcp_t tcp;
    bool hello_done;
    bool lz4;
    bool told;      /* has had a goodbye; no second one */
    bool last_word; /* nothing more is read; ends when all is written and the client closes */
    bool lingering; /* all is written: waits for the client to close, for a while */
    bool closing;   /* close is under way, or done */
    bool closed;    /* the handle is gone; freed with the last request */
    bool reading;
    bool dirty; /* has something to send, or to read again; in the thread's list */
    uint64_t opened_ms;
    uint64_t read_ms;  /* last byte came */
    uint64_t ended_ms; /* last_word, or lingering, began */
    size_t read_bytes; /* what the next read takes */
    struct kv_buf in;
    size_t in_start; /* bytes of `in` that are done with */
    struct kv_buf out;
    struct kv_buf writing;
    size_t accounted_bytes;
    uv_write_t write;
    bool write_under_way;
    struct kv_id_table requests;
    size_t n_subscriptions; /* of these */
    struct kv_net_room *room;
    /* Of the bytes that it counts those of `out` ... */
    size_t out_stream_bytes;
    size_t writing_stream_bytes; /* ... and of `writing` */
    struct kv_conn *next, *prev; /* all of the thread */
    struct kv_conn *next_dirty;
};

struct kv_net_thread {
    struct kv_server *server;
    unsigned number;
    uv_thread_t thread;
    int listen_fd;   /* -1: libuv has it */
    uv_loop_t *loop; /* own_loop, or the core's: then there is no thread (docs/adr/0008) */
    uv_loop_t own_loop;
    uv_tcp_t listener;
    struct kv_wakeup wake; /* core -> thread */
    uv_prepare_t prepare;  /* end of a turn */
    uv_timer_t timer;
    bool loop_open;
    bool running;
    bool leaving;         /* thread: no new connections, all have had their goodbye */
    uint64_t stopping_ms; /* thread: when it was told to stop; 0: not yet */
    atomic_bool leave;    /* core -> thread */
    atomic_bool stop;     /* core -> thread */
    atomic_bool ended;    /* thread -> core: nothing is left but to join it */
    struct kv_conn *conns;
    /* First come, first flushed: the answer of a write does not wait for the events of it. */
    struct kv_conn *dirty;
    struct kv_conn **dirty_end;
    size_t n_lingering;
    bool accept_failed;         /* no memory for a connection: tried again */
    struct kv_net_batch *batch; /* being filled */
    struct kv_net_batch *spare_batches;
    unsigned n_spare_batches;
    bool stalled;    /* the ring to the core is full */
    bool gathering;  /* the core looks into it by itself */
    uint64_t now_ns; /* of this turn's reading */
    uint64_t log_second;
    unsigned logged; /* lines about refused clients in that second */
    struct kv_ring to_core;
    struct kv_ring from_core;
    struct kv_ring spare;           /* emptied kv_net_answers, back to the core */
    struct kv_net_answers *filling; /* core: answers of this turn */
    struct kv_node_status status;   /* thread: copy for hellos and checks */
    unsigned status_version;
    struct kv_net_stats stats; /* thread */
};

struct kv_server {
    struct kv_server_options options;
    struct kv_node *node;
    struct kv_net_thread *threads;
    unsigned n_threads;
    bool is_single;        /* one of them, on the core's loop */
    struct kv_wakeup wake; /* threads -> core */
    int port;
    uv_mutex_t lock; /* of status and goodbye_address */
    struct kv_node_status status;
    char goodbye_address[280];
    bool stopping;
    bool stopped;
    void (*stopped_cb)(void *arg);
    void *stopped_arg;
    atomic_uint status_version;
    _Atomic uint64_t connections;
    _Atomic(struct kv_net_room *) rooms; /* that are awaited and were made; told with the wake */
    _Atomic uint64_t answer_bytes;       /* packed, and not yet with their connections */
    /* What the newest status told, on the core. */
    uint64_t latency_counts[KV_STATS_BUCKETS + 1];
    uint64_t latency_bounds_us[KV_STATS_BUCKETS];
};

/* --- conn.c, on the thread --- */
void kv_conn_accept(struct kv_net_thread *thread);
void kv_conn_close(struct kv_conn *conn);
/* Appends a frame to what is to be sent. */
void kv_conn_send(struct kv_conn *conn, enum kv_frame_kind kind, const ProtobufCMessage *message);
void kv_conn_send_packed(struct kv_conn *conn, enum kv_frame_kind kind, struct kv_slice body);
/* A stream item without its id. */
void kv_conn_send_shared(struct kv_conn *conn, uint64_t id, const struct kv_shared *item);
/* Says why and where to go; the connection stays open until kv_conn_end. */
void kv_conn_goodbye(struct kv_conn *conn,
                     int status,
                     const char *message,
                     const char *leader_address);
/* Reads no more, writes what there is to write, lets the client close first for a while. */
void kv_conn_end(struct kv_conn *conn);
void kv_conn_flush(struct kv_conn *conn);
/* A request of it has had its final answer. */
void kv_conn_request_done(struct kv_conn *conn, struct kv_net_request *request);
void kv_conn_resume(struct kv_conn *conn);
/* Time-outs: of the hello, of a frame's rest, of lingering. May close it. */
void kv_conn_check_time(struct kv_conn *conn, uint64_t now_ms);
/* Frees what is left of a connection whose handle is closed and whose requests are all gone. */
void kv_conn_free_if_done(struct kv_conn *conn);

/* --- request.c, on the thread: from a frame to items of the batch --- */
/* 0, or a negative status with a message: the connection is closed with it. */
int kv_conn_receive_frame(struct kv_conn *conn,
                          const struct kv_frame *frame,
                          struct kv_error *ret_error) KV_MUST_CHECK;
void kv_conn_cancel_all(struct kv_conn *conn);
/* The id of a stream item as packed; returns its size. */
enum { KV_STREAM_ID_BYTES_MAX = 11 };
size_t kv_stream_id_pack(uint64_t id, uint8_t p[KV_STREAM_ID_BYTES_MAX]);

/* --- thread.c --- */
struct kv_net_batch *kv_net_thread_batch(struct kv_net_thread *thread); /* NULL: no memory */
/* One of its own for what will wait long, so that it holds no others' memory meanwhile; what was
 * decoded into the former one may be gone. Followed by kv_net_thread_send(). */
struct kv_net_batch *kv_net_thread_batch_alone(struct kv_net_thread *thread);
/* Hands over what there is: nothing joins it. */
void kv_net_thread_send(struct kv_net_thread *thread);
void kv_net_thread_add(struct kv_net_thread *thread, struct kv_net_item *item);
const struct kv_node_status *kv_net_thread_status(struct kv_net_thread *thread);
/* Time-outs are looked at more often for a while. */
void kv_net_thread_tick_fast(struct kv_net_thread *thread);
/* False: this second has had its lines already. */
bool kv_net_thread_may_log(struct kv_net_thread *thread);
/* Takes fd, also on failure. */
int kv_net_thread_start(struct kv_net_thread *thread, int fd) KV_MUST_CHECK;
/* Core: asks it to end its connections and then itself, which `ended` and the server's wake tell.
 */
void kv_net_thread_stop(struct kv_net_thread *thread);
void kv_net_thread_join(struct kv_net_thread *thread);
/* For one on the core's loop: hands over what was decoded; takes the answers in the ring. */
void kv_net_thread_gather(struct kv_net_thread *thread);
void kv_net_thread_deliver(struct kv_net_thread *thread);
/* Core: frees what never came through, and all memory of the thread. Of one stopped or never
 * started. */
void kv_net_thread_free(struct kv_net_thread *thread);

/* --- room.c --- */
struct kv_net_room *kv_net_room_new(void); /* NULL: no memory */
void kv_net_room_release(struct kv_net_room *room);
/* Core: not full; when it is, kv_node_stream_room() comes. */
bool kv_net_room_has(struct kv_net_room *room);
/* Thread: so many bytes are with the socket. */
void kv_net_room_make(struct kv_net_room *room, size_t bytes, struct kv_server *server);
/* Core: tells the node of those that were made. */
void kv_net_rooms_take(struct kv_server *server);

/* --- batch.c --- */
struct kv_net_batch *kv_net_batch_new(struct kv_net_thread *thread); /* thread; NULL: no memory */
/* As new, but never one that served before and may be large. */
struct kv_net_batch *kv_net_batch_make(struct kv_net_thread *thread);
/* For one subscription. */
struct kv_net_batch *kv_net_batch_make_small(struct kv_net_thread *thread);
/* Thread: the last reference gives it back to the spare ones. */
void kv_net_batch_recycle(struct kv_net_batch *batch);
/* Core. */
void kv_net_batch_release(struct kv_net_batch *batch);
void kv_net_batch_free_spare(struct kv_net_thread *thread);
/* Core: an empty one, of those that came back or new. */
struct kv_net_answers *kv_net_answers_get(struct kv_net_thread *thread);
/* Thread: back to the core, or freed. */
void kv_net_answers_recycle(struct kv_net_thread *thread, struct kv_net_answers *answers);
void kv_net_answers_free(struct kv_net_answers *answers);

#endif
