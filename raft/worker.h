/* struct kv_worker over a thread: jobs run there one after the other, done() is called on the libuv
 * loop. */
#ifndef KV_RAFT_WORKER_H
#define KV_RAFT_WORKER_H

#include "raft/env.h"

struct kv_worker_thread;
struct uv_loop_s;

/* name: of the thread, at most 15 characters. KV_NO_MEMORY: no thread or handle could be had. */
int kv_worker_start(struct uv_loop_s *loop,
                    const char *name,
                    struct kv_worker_thread **ret_worker) KV_MUST_CHECK;
struct kv_worker kv_worker_of(struct kv_worker_thread *worker);
/* Runs what is queued to its end, joins the thread and closes its handle; done() of jobs not yet
 * reported is not called. The loop must run once more to free the handle. Takes NULL. */
void kv_worker_stop(struct kv_worker_thread *worker);

#endif
