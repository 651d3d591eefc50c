/* Several transports on loopback in one loop, what they hear and log, and raw sockets that speak
 * with them badly. Everything runs on one thread, so raw sockets never block: the loop is run until
 * something holds, and a test that waits in vain fails. */
#ifndef KV_TESTS_SUPPORT_TRANSPORT_RIG_H
#define KV_TESTS_SUPPORT_TRANSPORT_RIG_H

#include "common/bytes.h"
#include "raft/transport.h"
#include "raft/transport_frame.h"

#include <uv.h>

enum { RIG_NODES_MAX = 3, RIG_CLUSTER = 77, RIG_MESSAGES_MAX = 8192 };

struct rig_message {
    uint64_t from_id;
    size_t size;
    uint32_t number; /* its first four bytes */
};

/* One node's network. */
struct rig_node {
    struct kv_transport *transport; /* NULL: closed */
    struct kv_net net;
    uint64_t id;
    struct rig_message messages[RIG_MESSAGES_MAX];
    size_t n_messages;
    size_t n_connected, n_disconnected;
    bool last_reset;
    size_t n_infos;
    char client_address[280];
    uint64_t machine_version;
};

struct rig {
    uv_loop_t loop;
    struct rig_node nodes[RIG_NODES_MAX]; /* id - 1 */
    /* 0: the loop's clock. Otherwise the time of all, moved by advance_ms in each quiet turn. */
    uint64_t now_ms;
    uint64_t advance_ms;
    uint64_t bulk_bytes_per_s;
    char log[64 * 1024];
    size_t log_size;
};

/* One at a time. */
void rig_setup(struct rig *rig);
void rig_teardown(struct rig *rig);

/* port 0: any; returns it. */
int rig_open(struct rig *rig, uint64_t id, uint64_t cluster_id, int port);
/* Runs the loop until it is gone. */
void rig_close(struct rig *rig, uint64_t id);
/* Opens nodes 1 to n and makes everyone know everyone; waits until all are connected. */
void rig_connect_all(struct rig *rig, uint64_t n);
void rig_add_peer(struct rig *rig, uint64_t id, uint64_t peer_id, int port);
struct rig_node *rig_node(struct rig *rig, uint64_t id);
struct kv_transport_peer_stats rig_stats(struct rig *rig, uint64_t id, uint64_t peer_id);

/* A message that begins with number; its status. */
int rig_send(
    struct rig *rig, uint64_t id, uint64_t peer_id, enum kv_net_class cls, uint32_t number, size_t);

/* One turn of the loop, which does not wait long. */
void rig_turn(struct rig *rig);
#define rig_run_until(rig, condition)            \
    do {                                         \
        uint64_t rig_deadline = rig_patience();  \
        while (!(condition)) {                   \
            rig_turn(rig);                       \
            rig_check(rig_deadline, #condition); \
        }                                        \
    } while (0)
uint64_t rig_patience(void);
void rig_check(uint64_t deadline, const char *condition);

/* How often the log has text. */
size_t rig_logged(const struct rig *rig, const char *text);

/* ---- raw sockets, not blocking */
int rig_raw_connect(int port);
int rig_raw_listen(int *ret_port);
/* Runs the loop until somebody connects. */
int rig_raw_accept(struct rig *rig, int listener);
/* Runs the loop until all is taken; false: the other side has closed. */
bool rig_raw_send(struct rig *rig, int fd, const void *data, size_t size);
/* Runs the loop until a frame is there: its kind, and its body in buf; 0: the other side has
 * closed. */
int rig_raw_receive(struct rig *rig, int fd, struct kv_buf *buf);
/* 1: open, nothing to read; 0: closed by the other side. Reads what there is. */
bool rig_raw_is_open(int fd);
bool rig_raw_send_frame(
    struct rig *rig, int fd, enum kv_peer_frame_kind kind, const void *body, size_t size);

struct rig_hello {
    uint64_t cluster_id, node_id, to_node_id;
    unsigned protocol_version;
    bool bulk;
};
bool rig_raw_send_hello(struct rig *rig, int fd, struct rig_hello hello);
/* Receives the reply: was it accepted? reason: 200 bytes, or NULL. */
bool rig_raw_is_accepted(struct rig *rig, int fd, char *reason);
/* Accepts a dialing transport and its hello (*ret_bulk: what it said; may be NULL). */
int rig_raw_serve(struct rig *rig, int listener, uint64_t as_id, bool *ret_bulk);

#endif
