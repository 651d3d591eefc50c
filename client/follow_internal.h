/* Inside of a followed stream: follow.c (how it goes on) and follow_request.c (what is asked, and
 * whether what comes is in order). */
#ifndef KV_CLIENT_FOLLOW_INTERNAL_H
#define KV_CLIENT_FOLLOW_INTERNAL_H

#include "client/blocking.h"
#include "client/follow.h"

enum { KV_FOLLOW_KINDS = 3, KV_FOLLOW_TYPES = 8 };

struct kv_follow {
    struct kv_session *session;
    struct kv_follow_fns fns;
    bool is_topic;
    bool paused;
    bool ended;  /* nothing is told any more */
    bool closed; /* freed when depth is 0 */
    unsigned depth;

    /* What is asked. */
    Kv__Request request;
    Kv__Watch watch;
    Kv__KeyRange range;
    Kv__EventKind kinds[KV_FOLLOW_KINDS];
    Kv__Type types[KV_FOLLOW_TYPES];
    Kv__Subscribe subscribe;
    uint64_t last_wanted;
    uint64_t bound;       /* bytes of a revision that is held until it is complete */
    uint64_t progress_ns; /* the program's wish; 0: none */
    uint64_t require_leader_ns;

    /* Where it is. */
    int64_t base;                /* told completely up to here; -1: not known */
    int64_t newest;              /* revision of the newest event of this stream; 0: none yet */
    struct kv_piece *held_first; /* of a revision of which more comes */
    struct kv_piece *held_last;
    size_t held_bytes;
    int64_t held_revision;
    int64_t handed_revision; /* of which a part was told */
    uint64_t handed;         /* events of it that were told; 0: none */
    uint64_t skip;           /* of them still to come again */

    /* Its request. */
    uint64_t request_id; /* 0: none */
    bool begun;          /* it had an item */
    bool ever_begun;
    bool told_no_leader;
    uint64_t begun_ns;
    uint64_t outage_ns; /* since when none has begun */
    uint64_t told_ns;   /* when the program heard last */
    unsigned failures;  /* in a row */
    struct kv_error last;
    struct kv_session_timer timer;
    uint64_t retry_at_ns; /* UINT64_MAX: not waiting */

    uint8_t bytes[]; /* of range or topic */
};

/* Checks and copies the options. Errors as of kv_watch_open. */
int kv_follow_make(const struct kv_watch_options *watch,
                   const struct kv_subscribe_options *subscribe,
                   struct kv_follow **ret_follow,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* From where it is now. Borrowed. */
const Kv__Request *kv_follow_request(struct kv_follow *follow);
/* Is the item what can come next? KV_INTERNAL: it would be a loss, a duplicate, or out of order. */
int kv_follow_check(struct kv_follow *follow,
                    const struct kv_item_view *view,
                    struct kv_error *error) KV_MUST_CHECK;

#endif
