/* The session of a connection to kvd: stamps, so that each write is done exactly once. Nothing is
 * sent twice here; what is measured is what the stamps cost. */
#ifndef KVBENCH_TARGET_KVD_SESSION_H
#define KVBENCH_TARGET_KVD_SESSION_H

#include "client/kvbench/target.h"
#include "proto/kv.pb-c.h"

/* Sequences that can be told apart: more than the server takes beyond what is acknowledged. */
enum { KVD_SESSION_RING = 2 * BENCH_DEPTH_MAX };

struct kvd_session {
    uint64_t id; /* 0: none */
    uint64_t next;
    uint64_t acknowledged; /* all up to here are answered */
    bool done[KVD_SESSION_RING];
    uint64_t sequences[BENCH_DEPTH_MAX]; /* per slot; 0: not stamped */
    Kv__SessionStamp stamp;              /* of the request that is being encoded */
};

/* Appends the request that opens one, with that id. */
int kvd_session_open(struct bench_conn *conn, uint64_t request_id);
/* Its reply. Negative: conn->error says why. */
int kvd_session_opened(struct bench_conn *conn, struct kvd_session *session, struct kv_slice body);
void kvd_session_stamp(struct kvd_session *session, unsigned slot, Kv__Request *request);
void kvd_session_answered(struct kvd_session *session, unsigned slot);

#endif
