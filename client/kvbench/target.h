/* What kvbench can load: kvd, etcd (gRPC) and redis (RESP). A target turns operations into bytes of
 * one connection and the bytes that come back into completed slots. */
#ifndef KVBENCH_TARGET_H
#define KVBENCH_TARGET_H

#include "common/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum operation {
    OPERATION_PUT,
    OPERATION_GET,
    OPERATION_COUNTER_ADD,
    OPERATION_HASH_SET,
    OPERATION_ZSET_ADD,
    OPERATION_ZSET_RANK,
    OPERATION_LIMITER,
    OPERATION_LIST_PUSH,
    OPERATION_LIST_POP,
    OPERATION_PUBLISH,
    OPERATION_LEASE_GRANT,
    OPERATION_LEASE_RENEW,
};

/* Operations under way on one connection. */
enum { BENCH_DEPTH_MAX = 1024 };

/* The limiters: so wide that each request is granted, and therefore written. */
enum { LIMITER_RATE = 1000000, LIMITER_PERIOD_MS = 1000, LIMITER_BURST = 1000000 };

/* One operation; what of it counts depends on which it is. */
struct bench_request {
    enum operation operation;
    struct kv_slice key;
    struct kv_slice element; /* field or member */
    struct kv_slice value;
    double score;
    uint64_t ttl_ms;       /* of a put or a lease; 0: none */
    const int64_t *leases; /* to grant (one) or to renew */
    size_t n_leases;
};

struct bench_conn;

/* Called for each completed operation. ok false: `text` says what the server answered. */
typedef void (*completed_fn)(struct bench_conn *conn, unsigned slot, bool ok, const char *text);

/* A stream of a connection; all of one connection have different numbers, which the connection's
 * hooks are told. */
struct bench_watch {
    unsigned number;
    struct kv_slice key; /* or topic */
    bool prefix;         /* all keys that begin with it */
    bool topic;
    int64_t from_revision; /* 0: from now */
};
/* Called while bytes are parsed. */
struct watch_hooks {
    void (*on_watching)(struct bench_conn *conn, unsigned number);
    void (*on_event)(struct bench_conn *conn, unsigned number, struct kv_slice value);
};

struct target {
    const char *name;
    unsigned operations; /* which it has: 1 << enum operation */
    /* Bytes to send first; state is the target's own memory for this connection. */
    int (*open)(struct bench_conn *conn);
    void (*close)(struct bench_conn *conn);
    /* Appends one operation to conn->out. The request is borrowed. */
    int (*encode)(struct bench_conn *conn, unsigned slot, const struct bench_request *request);
    /* Takes what is whole from conn->in. Negative: protocol error, conn->error says what. */
    int (*parse)(struct bench_conn *conn, completed_fn completed);
    /* Appends the beginning of a stream to conn->out; NULL: has none. */
    int (*watch)(struct bench_conn *conn, const struct bench_watch *watch);
    bool has_sessions;
};

struct bench_conn {
    const struct target *target;
    int fd;
    int epoll;
    bool ready; /* operations may be sent */
    bool serializable;
    bool in_session; /* each write is stamped */
    struct kv_buf in;
    struct kv_buf out;
    size_t sent;
    bool writable_wanted;
    void *state;
    unsigned depth;
    uint64_t *started_ns; /* per slot; 0: free */
    char leader[280];     /* kvd: where the server says that its leader is */
    char error[200];
    unsigned number;
    const struct watch_hooks *hooks;
    void *owner; /* of the hooks */
};

extern const struct target target_kvd;
extern const struct target target_redis;
extern const struct target target_etcd;

#endif
