#include "raft/wakeup.h"

#include "common/assert.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The bytes first, then the flag: who finds the flag set has sent before fn is called; who finds it
 * clear writes anew. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct kv_wakeup *wakeup = (struct kv_wakeup *)poll;
    uint64_t count;

    (void)events;
    if (status < 0) {
        return;
    }
    while (read(wakeup->fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
    (void)atomic_exchange(&wakeup->is_sent, false);
    wakeup->fn(wakeup->arg);
}

int kv_wakeup_init(struct kv_wakeup *wakeup, uv_loop_t *loop, void (*fn)(void *arg), void *arg)
{
    wakeup->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wakeup->fn = fn;
    wakeup->arg = arg;
    atomic_init(&wakeup->is_sent, false);
    if (wakeup->fd < 0) {
        return KV_NO_MEMORY;
    }
    if (uv_poll_init(loop, &wakeup->poll, wakeup->fd) != 0) {
        close(wakeup->fd);
        wakeup->fd = -1;
        return KV_IO;
    }
    wakeup->poll.data = arg;
    KV_ASSERT(uv_poll_start(&wakeup->poll, UV_READABLE, on_readable) == 0);
    return 0;
}

void kv_wakeup_send(struct kv_wakeup *wakeup)
{
    const uint64_t one = 1;

    if (atomic_exchange(&wakeup->is_sent, true)) {
        return;
    }
    while (write(wakeup->fd, &one, sizeof one) < 0) {
        KV_ASSERT(errno == EINTR);
    }
}

void kv_wakeup_close(struct kv_wakeup *wakeup, uv_close_cb closed)
{
    uv_close((uv_handle_t *)&wakeup->poll, closed);
    /* The loop has let go of it. */
    close(wakeup->fd);
    wakeup->fd = -1;
}
