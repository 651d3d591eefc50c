/* Wakes a loop from another thread, as uv_async does, with two differences that count where every
 * write passes several threads: one that wakes never makes the woken spin until its own call has
 * returned, and who is woken already costs no system call. */
#ifndef KV_RAFT_WAKEUP_H
#define KV_RAFT_WAKEUP_H

#include "common/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

/* Embedded, at one place from init until its loop has seen the close. */
struct kv_wakeup {
    uv_poll_t poll;
    int fd;              /* -1: never initialised, or closed */
    atomic_bool is_sent; /* the loop has not yet begun to call fn */
    void (*fn)(void *arg);
    void *arg;
};

/* On the loop's thread. fn is called there, once or more after each send; what was written before
 * the send is seen by it. KV_NO_MEMORY, KV_IO. */
int kv_wakeup_init(struct kv_wakeup *wakeup, uv_loop_t *loop, void (*fn)(void *arg), void *arg)
    KV_MUST_CHECK;

/* On any thread, but not beside or after kv_wakeup_close. */
void kv_wakeup_send(struct kv_wakeup *wakeup);

/* On the loop's thread. closed (may be NULL) is called by the loop when the memory is free again;
 * its handle's data is arg. */
void kv_wakeup_close(struct kv_wakeup *wakeup, uv_close_cb closed);

#endif
