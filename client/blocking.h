/* Inside libkv: what the typed calls share. */
#ifndef KV_CLIENT_BLOCKING_H
#define KV_CLIENT_BLOCKING_H

#include "proto/kv.pb-c.h"

#include <kv/async.h>
#include <kv/client.h>
#include <kv/lease.h>

/* Fills *ret_range, which borrows the specification's bytes. KV_INVALID. */
int kv_range_to_proto(const struct kv_range_spec *spec,
                      Kv__KeyRange *ret_range,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* Condition and expiry of a put; borrows. KV_INVALID. */
int kv_put_to_proto(const struct kv_put_options *options,
                    Kv__Put *put,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* Borrows. */
struct kv_pair kv_pair_of_proto(const Kv__KeyValue *kv, int64_t revision);
ProtobufCBinaryData kv_bytes_to_proto(struct kv_bytes bytes);
/* A reply of code OK without the result that its request has: KV_INTERNAL. */
int kv_missing_result(struct kv_error *ret_error);

/* How often who waits looks at its timeout and asks `stop`: a person takes it for at once. */
enum { KV_WAIT_LOOK_MS = 100 };
/* Who is to stop gives up what it has, and waits no longer than this for a cluster that is away. */
enum { KV_WAIT_STOPPED_MS = 500 };

/* kv_lease_close that waits only KV_WAIT_STOPPED_MS more once `stop` (may be NULL) says true. 0:
 * the lease is over; negative: it ends by itself. */
int kv_lease_end(struct kv_lease *lease, bool revoke, bool (*stop)(void *arg), void *arg);

/* Something that the client's own thread is to do. Whoever waits for it may take its memory away as
 * soon as run is called. */
struct kv_task {
    struct kv_task *next;
    void (*run)(struct kv_task *task, struct kv_async *async);
};
/* From any thread; in the order in which they are posted. False: the client is being closed, and
 * does not run it. */
bool kv_client_post(struct kv_client *client, struct kv_task *task);
/* Posts it and waits until fn has returned; not from the client's own thread. */
void kv_client_do(struct kv_client *client,
                  void (*fn)(void *arg, struct kv_async *async),
                  void *arg);

#endif
