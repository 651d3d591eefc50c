/* A watch or subscription that is kept going over the session core, without I/O: one ordered stream
 * across lost connections, whichever nodes serve it.
 *
 * What is told of a revision is told when all of it is here, and once: after a lost connection the
 * stream is asked for from the last complete revision + 1. A revision that is larger than the bound
 * is told in fragments as it comes; when the stream is lost within, as many of its events as were
 * told already are left out of what comes anew, since their order is the same on every node.
 *
 * Not thread safe; from the session's inputs' thread. Callbacks come from inside the session's
 * inputs, never from inside kv_follow_open; in them kv_follow_close may be called. */
#ifndef KV_CLIENT_FOLLOW_H
#define KV_CLIENT_FOLLOW_H

#include "client/pieces.h"
#include "client/session.h"

struct kv_follow;

struct kv_follow_fns {
    void (*piece)(void *arg, struct kv_piece *piece); /* takes it */
    /* Nothing came until this revision. told: the program wants to hear it (progress_ms). */
    void (*progress)(void *arg, int64_t revision, bool told);
    void (*started)(void *arg, int64_t revision); /* once: the revision before the first told */
    /* KV_NO_LEADER and goes_on: as of require_leader_ms; otherwise it has ended. */
    void (*trouble)(void *arg, bool goes_on, int64_t oldest_revision, const struct kv_error *error);
    void *arg;
};

/* options: one of the two; what they borrow is copied. Errors as of kv_watch_open. */
int kv_follow_open(struct kv_session *session,
                   uint64_t now_ns,
                   const struct kv_watch_options *watch,
                   const struct kv_subscribe_options *subscribe,
                   const struct kv_follow_fns *fns,
                   struct kv_follow **ret_follow,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* The session must still be there. Takes NULL. */
void kv_follow_close(struct kv_follow *follow, uint64_t now_ns);
/* The server is allowed no more; also after a reconnect. */
void kv_follow_pause(struct kv_follow *follow, uint64_t now_ns, bool pause);
/* Told completely up to here; 0: not known yet. */
int64_t kv_follow_position(const struct kv_follow *follow);

#endif
