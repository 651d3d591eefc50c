#include "raft/transport_internal.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Shared by the loop and the thread until one of them sees that the other has let go. */
struct kv_peer_lookup {
    pthread_mutex_t lock;
    uv_async_t *done; /* NULL: nobody waits any more */
    bool ended;
    int error;
    struct addrinfo *found;
    char host[256];
    char port[8];
};

static void lookup_free(struct kv_peer_lookup *lookup)
{
    if (lookup->found) {
        freeaddrinfo(lookup->found);
    }
    pthread_mutex_destroy(&lookup->lock);
    free(lookup);
}

static void *run(void *arg)
{
    struct kv_peer_lookup *lookup = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(lookup->host, lookup->port, &hints, &found);
    bool abandoned;

    pthread_mutex_lock(&lookup->lock);
    lookup->error = error;
    lookup->found = error == 0 ? found : NULL;
    lookup->ended = true;
    abandoned = !lookup->done;
    if (!abandoned) {
        (void)uv_async_send(lookup->done);
    }
    pthread_mutex_unlock(&lookup->lock);
    if (abandoned) {
        lookup_free(lookup);
    }
    return NULL;
}

int kv_peer_lookup_start(const char *host,
                         const char *port,
                         uv_async_t *done,
                         struct kv_peer_lookup **ret_lookup)
{
    struct kv_peer_lookup *lookup = calloc(1, sizeof *lookup);
    pthread_t thread;

    if (!lookup) {
        return KV_NO_MEMORY;
    }
    pthread_mutex_init(&lookup->lock, NULL);
    lookup->done = done;
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    snprintf(lookup->port, sizeof lookup->port, "%s", port);
    if (pthread_create(&thread, NULL, run, lookup) != 0) {
        lookup_free(lookup);
        return KV_NO_MEMORY;
    }
    pthread_detach(thread);
    *ret_lookup = lookup;
    return 0;
}

bool kv_peer_lookup_end(struct kv_peer_lookup *lookup, struct addrinfo **ret_found, int *ret_error)
{
    bool ended;

    pthread_mutex_lock(&lookup->lock);
    ended = lookup->ended;
    pthread_mutex_unlock(&lookup->lock);
    if (ended) {
        *ret_found = lookup->found;
        *ret_error = lookup->error;
        lookup->found = NULL;
        lookup_free(lookup);
    }
    return ended;
}

void kv_peer_lookup_abandon(struct kv_peer_lookup *lookup)
{
    bool ended;

    if (!lookup) {
        return;
    }
    pthread_mutex_lock(&lookup->lock);
    ended = lookup->ended;
    lookup->done = NULL;
    pthread_mutex_unlock(&lookup->lock);
    if (ended) {
        lookup_free(lookup);
    }
}
