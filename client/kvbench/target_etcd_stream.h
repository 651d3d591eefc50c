/* etcd's Watch: one gRPC stream for all watchers of a connection, as its own client does. */
#ifndef KVBENCH_TARGET_ETCD_STREAM_H
#define KVBENCH_TARGET_ETCD_STREAM_H

#include "client/kvbench/target.h"

#include <nghttp2/nghttp2.h>

struct etcd_stream {
    int32_t id; /* of the HTTP/2 stream; 0: not begun */
    struct kv_buf out;
    size_t sent;
    struct kv_buf in;
};

void etcd_stream_init(struct etcd_stream *stream);
void etcd_stream_deinit(struct etcd_stream *stream);
/* Asks for a watch; headers: of the method. */
int etcd_stream_watch(struct etcd_stream *stream,
                      nghttp2_session *session,
                      const nghttp2_nv *headers,
                      size_t n_headers,
                      const struct bench_watch *watch);
/* Takes bytes of the stream. Negative: conn->error says why. */
int etcd_stream_take(struct bench_conn *conn, struct etcd_stream *stream, struct kv_slice bytes);

#endif
