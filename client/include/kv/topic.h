/* Topics: messages to whoever listens, in one total order. A subscription is kept going by libkv as
 * a watch is (kv/watch.h): each retained message exactly once, in order, across reconnects; what
 * was not retained long enough is told as a gap. Conventions (status, threads, memory, retries):
 * kv/client.h. */
#ifndef KV_TOPIC_H
#define KV_TOPIC_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Appends a message to a topic (1..4096 bytes), which begins with its first one; *ret_revision (may
 * be NULL) is the message's. KV_BUSY: too many topics (setting topic-limit); KV_TOO_LARGE (setting
 * value-limit); KV_INVALID. */
int kv_publish(struct kv_client *client,
               struct kv_bytes topic,
               struct kv_bytes payload,
               const struct kv_call_options *options,
               int64_t *ret_revision,
               struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_topic_info {
    struct kv_bytes topic;
    uint64_t subscribers; /* on the node that answers; patterns that match count */
    uint64_t messages;    /* retained */
    uint64_t bytes;
    int64_t newest_revision;
};
struct kv_topic_list {
    size_t n_topics;
    struct kv_topic_info *topics;
    bool more; /* go on behind the last one */
    void *memory;
};
/* Topics that begin with prefix, behind cursor (empty: from the first); limit 0: what one reply
 * holds. */
int kv_topic_list(struct kv_client *client,
                  struct kv_bytes prefix,
                  struct kv_bytes cursor,
                  uint64_t limit,
                  const struct kv_call_options *options,
                  struct kv_topic_list *ret_list,
                  struct kv_error *ret_error) KV_MUST_CHECK;
void kv_topic_list_free(struct kv_topic_list *list);

/* ---------------------------------------------------------------- subscriptions */

struct kv_message {
    struct kv_bytes topic;
    struct kv_bytes payload;
    int64_t revision;
};
/* Messages in revision order; those of one revision in the order in which they were published. */
struct kv_message_batch {
    int64_t
        revision;  /* all up to here was told, with these; with `fragment`: up to the one before */
    bool fragment; /* the next batch goes on with the revision of the last message */
    int64_t gap_from;  /* not 0: messages of gap_from..gap_to may be missing: they were dropped */
    int64_t gap_to;    /* before they could be told. They come before those of this batch */
    size_t n_messages; /* 0: a gap, or progress only (progress_ms) */
    struct kv_message *messages;
};
/* Takes NULL. */
void kv_message_batch_free(struct kv_message_batch *batch);

struct kv_subscribe_options {
    struct kv_bytes topic;
    bool pattern; /* topic is a glob: * any bytes, ? one byte, [a-z] [!a-z] one of a set, \ takes
                   * the next one as it is */
    int64_t start_revision; /* first one that is told; 0: what comes from now on */
    uint64_t last;          /* instead: the last n messages (of all topics of the pattern together)
                             * first */
    unsigned progress_ms;   /* these as of kv_watch_options */
    unsigned require_leader_ms;
    uint64_t queue_bytes;
};

struct kv_subscription;

/* As kv_watch_open. KV_INVALID: also both start_revision and last. */
int kv_subscribe(struct kv_client *client,
                 const struct kv_subscribe_options *options,
                 struct kv_subscription **ret_subscription,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* As kv_watch_started. */
int kv_subscription_started(struct kv_subscription *subscription,
                            unsigned timeout_ms,
                            int64_t *ret_revision,
                            struct kv_error *ret_error) KV_MUST_CHECK;
/* As kv_watch_next, but for KV_COMPACTED, which is a gap here. */
int kv_subscription_next(struct kv_subscription *subscription,
                         unsigned timeout_ms,
                         struct kv_message_batch **ret_batch,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* As of watches. */
int64_t kv_subscription_position(struct kv_subscription *subscription);
void kv_subscription_stop(struct kv_subscription *subscription);
void kv_subscription_close(struct kv_subscription *subscription);

#ifdef __cplusplus
}
#endif

#endif
