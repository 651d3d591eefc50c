/* kvd's streams: what begins one, and what its items say. */
#ifndef KVBENCH_TARGET_KVD_STREAM_H
#define KVBENCH_TARGET_KVD_STREAM_H

#include "client/kvbench/target.h"

struct kvd_stream {
    bool begun;
    uint64_t taken; /* bytes since credit was given */
};
struct kvd_streams {
    struct kvd_stream *streams; /* by number */
    unsigned n;
};

void kvd_streams_deinit(struct kvd_streams *streams);
/* Appends the request. Its id: behind those of the connection's slots. */
int kvd_stream_begin(struct bench_conn *conn,
                     struct kvd_streams *streams,
                     const struct bench_watch *watch);
/* Takes one item, without unpacking it: who reads millions of events each second must not be the
 * limit. Negative: conn->error says why. */
int kvd_stream_item(struct bench_conn *conn, struct kvd_streams *streams, struct kv_slice body);
/* A reply to none of the slots: a stream that did not begin. Fills conn->error. */
int kvd_stream_refused(struct bench_conn *conn, struct kv_slice body);

#endif
