/* Watches of several ranges, a thread each, that make one descriptor readable. What they tell is
 * only that there is something new: who follows reads all of it at one revision. */
#define _GNU_SOURCE /* eventfd */
#include "client/kvctl/follow.h"
#include "client/kvctl/stream.h"

#include <kv/watch.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    WAIT_MS = 60000, /* of one call: only bounds it */
};

struct follower {
    struct kvctl_follow *follow;
    struct kv_range_spec range;
    struct kv_watch *watch;
    pthread_t thread;
    bool running;
};
struct kvctl_follow {
    struct kv_client *client;
    const char *command;
    FILE *err;
    int fd;
    pthread_mutex_t lock; /* of what follows */
    bool closing;
    bool away;
    struct kv_error error; /* of the first watch that is over; status 0: none */
    size_t n_followers;
    struct follower followers[KVCTL_FOLLOW_RANGES_MAX];
};

static void tell(struct kvctl_follow *follow)
{
    uint64_t one = 1;

    /* It fails only when it is readable anyway. */
    if (write(follow->fd, &one, sizeof one) < 0) {
        return;
    }
}

static void say_away(struct kvctl_follow *follow, bool away, const char *why)
{
    pthread_mutex_lock(&follow->lock);
    if (follow->away != away) {
        follow->away = away;
        if (away) {
            fprintf(follow->err,
                    "kvctl %s: the cluster is away (%s): going on with what is known\n",
                    follow->command,
                    why);
        } else {
            fprintf(follow->err, "kvctl %s: the cluster is back\n", follow->command);
        }
        fflush(follow->err);
    }
    pthread_mutex_unlock(&follow->lock);
}

static int open_watch(struct follower *follower, int64_t start_revision, struct kv_error *ret_error)
{
    struct kv_watch_options options = {
        .range = follower->range,
        .start_revision = start_revision,
        .keys_only = true,
        /* So that it is known to be back, too. */
        .progress_ms = KVCTL_AWAY_MS,
        .require_leader_ms = KVCTL_AWAY_MS,
    };

    return kv_watch_open(follower->follow->client, &options, &follower->watch, ret_error);
}

/* What was missed is not kept any more: all is read anew, and followed from there. */
static int begin_anew(struct follower *follower, struct kv_error *ret_error)
{
    struct kvctl_follow *follow = follower->follow;
    struct kv_watch *old;
    int status;

    pthread_mutex_lock(&follow->lock);
    old = follower->watch;
    follower->watch = NULL;
    status = follow->closing ? KV_CLOSED : open_watch(follower, 0, ret_error);
    pthread_mutex_unlock(&follow->lock);
    kv_watch_close(old);
    if (status == 0) {
        status = kv_watch_started(follower->watch, WAIT_MS, NULL, ret_error);
        status = status == KV_DEADLINE ? 0 : status;
    }
    return status;
}

/* One call; 0 as long as it goes on. */
static int follow_once(struct follower *follower, struct kv_error *error)
{
    struct kvctl_follow *follow = follower->follow;
    struct kv_event_batch *batch;
    int status = kv_watch_next(follower->watch, WAIT_MS, &batch, error);

    if (status == 1) {
        say_away(follow, false, "");
        if (batch->n_events > 0) {
            tell(follow);
        }
        kv_event_batch_free(batch);
    } else if (status == KV_NO_LEADER) {
        say_away(follow, true, error->message);
    } else if (status == KV_COMPACTED) {
        status = begin_anew(follower, error);
        tell(follow);
        return status;
    }
    return status == KV_NO_LEADER || status >= 0 ? 0 : status;
}

static void *run(void *argument)
{
    struct follower *follower = argument;
    struct kvctl_follow *follow = follower->follow;
    struct kv_error error;
    int status;

    do {
        status = follow_once(follower, &error);
    } while (status == 0);
    pthread_mutex_lock(&follow->lock);
    if (!follow->closing && follow->error.status == 0) {
        follow->error = error;
    }
    pthread_mutex_unlock(&follow->lock);
    tell(follow);
    return NULL;
}

int kvctl_follow_open(struct kv_client *client,
                      const struct kv_range_spec *ranges,
                      size_t n_ranges,
                      int64_t revision,
                      const char *command,
                      FILE *err,
                      struct kvctl_follow **ret_follow,
                      struct kv_error *ret_error)
{
    struct kvctl_follow *follow = calloc(1, sizeof *follow);
    int status = 0;

    if (!follow) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    follow->client = client;
    follow->command = command;
    follow->err = err;
    pthread_mutex_init(&follow->lock, NULL);
    follow->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (follow->fd < 0) {
        status = kv_error_set(ret_error, KV_IO, "no descriptor for the watches is left");
    }
    for (size_t i = 0; i < n_ranges && status == 0; i++) {
        struct follower *follower = &follow->followers[follow->n_followers++];

        follower->follow = follow;
        follower->range = ranges[i];
        status = open_watch(follower, revision + 1, ret_error);
        if (status == 0 && pthread_create(&follower->thread, NULL, run, follower) != 0) {
            status = kv_error_set(ret_error, KV_IO, "no thread for a watch");
        }
        follower->running = status == 0;
    }
    if (status < 0) {
        kvctl_follow_close(follow);
        return status;
    }
    *ret_follow = follow;
    return 0;
}

int kvctl_follow_fd(const struct kvctl_follow *follow)
{
    return follow->fd;
}

int kvctl_follow_take(struct kvctl_follow *follow, struct kv_error *ret_error)
{
    uint64_t count;
    int status;

    if (read(follow->fd, &count, sizeof count) < 0) {
        count = 0; /* nothing new */
    }
    pthread_mutex_lock(&follow->lock);
    status = follow->error.status;
    if (status < 0) {
        *ret_error = follow->error;
    }
    pthread_mutex_unlock(&follow->lock);
    return status;
}

void kvctl_follow_close(struct kvctl_follow *follow)
{
    if (!follow) {
        return;
    }
    pthread_mutex_lock(&follow->lock);
    follow->closing = true;
    for (size_t i = 0; i < follow->n_followers; i++) {
        if (follow->followers[i].watch) {
            kv_watch_stop(follow->followers[i].watch);
        }
    }
    pthread_mutex_unlock(&follow->lock);
    for (size_t i = 0; i < follow->n_followers; i++) {
        if (follow->followers[i].running) {
            pthread_join(follow->followers[i].thread, NULL);
        }
        kv_watch_close(follow->followers[i].watch);
    }
    if (follow->fd >= 0) {
        close(follow->fd);
    }
    pthread_mutex_destroy(&follow->lock);
    free(follow);
}
