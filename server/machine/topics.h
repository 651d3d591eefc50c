/* Topics: the messages that were published and are retained.
 *
 * All messages are in one tree, by (revision, number in it): the total order of the log, and of
 * age. The names are in another one, each with the place of the newest message that retention has
 * dropped of it. Snapshots pin both. Beside them each topic has a ring of its messages, which is
 * made of the tree when a snapshot is loaded.
 *
 * What retention drops is decided by the log: by count and bytes behind each command that
 * published, a bounded number in an entry, by age when an entry begins. A topic without messages is
 * gone; of all that went, the newest message that was dropped is known (the floor). */
#ifndef KV_MACHINE_TOPICS_H
#define KV_MACHINE_TOPICS_H

#include "server/machine/machine.h"
#include "server/machine/tree.h"

struct kv_topic {
    struct kv_record *record;    /* in the tree of names */
    struct kv_record **messages; /* ring, oldest first */
    size_t capacity, first, n;
    uint64_t bytes;
    uint64_t loss; /* the number of its newest loss; 0: none that the floor does not tell */
    /* By the command being executed. */
    struct kv_topic *next_changed;
    size_t n_new;
    size_t n_excess; /* what goes when it succeeds */
    uint64_t excess_bytes;
};

struct kv_topics {
    struct kv_tree names;    /* key: name; value: TOPIC_* below */
    struct kv_tree messages; /* key: revision and number, 8 bytes each, big endian, then the name */
    struct kv_topic_position floor;
    uint64_t bytes; /* of all messages, by content */
    uint64_t hash;  /* of messages, and of names with what was dropped; without the floor */
    /* Losses are numbered as they come; topics by that of their newest one. Not of the state. */
    uint64_t losses;
    struct kv_tree by_loss;
    /* What publications may drop in this entry besides what each may. */
    uint64_t drops_left;
    uint64_t drops_per_entry; /* tests lower it */
    uint64_t n_drawn;         /* from drops_left, by the command being executed */
    struct kv_topic *changed; /* by the command being executed */
    int64_t new_revision;
    uint64_t n_new;
    uint64_t excess_bytes;
    kv_machine_publish_fn publish;
    void *publish_arg;
};

enum { KV_MESSAGE_KEY_BYTES = 16, KV_MESSAGE_BYTES = 40 };

/* A message counts its name, its payload and what it takes besides. */
static inline uint64_t kv_message_cost(const struct kv_record *record)
{
    return KV_MESSAGE_BYTES + record->key_size - KV_MESSAGE_KEY_BYTES +
           (uint64_t)record->value_size;
}
static inline struct kv_topic_position kv_message_position(const struct kv_record *record)
{
    return (struct kv_topic_position){(int64_t)kv_get_u64_be(record->bytes),
                                      kv_get_u64_be(record->bytes + 8)};
}
static inline struct kv_slice kv_message_topic(const struct kv_record *record)
{
    return kv_slice_of(record->bytes + KV_MESSAGE_KEY_BYTES,
                       record->key_size - (size_t)KV_MESSAGE_KEY_BYTES);
}
/* Cluster time of its publication. */
static inline int64_t kv_message_time_ms(const struct kv_record *record)
{
    return record->create_revision;
}
/* Of the tree of names: the newest message that was dropped of the topic. */
struct kv_topic_position kv_topic_dropped(const struct kv_record *record);

void kv_topics_init(struct kv_topics *topics);
void kv_topics_deinit(struct kv_topics *topics);
/* NULL: not there. */
struct kv_topic *kv_topics_find(const struct kv_topics *topics, struct kv_slice name);
struct kv_topic *kv_topic_of(const struct kv_record *name);
/* There is none of this name. */
struct kv_topic *
kv_topics_add(struct kv_topics *topics, struct kv_slice name, struct kv_topic_position dropped);
/* Behind all other messages. */
void kv_topics_append(struct kv_topics *topics,
                      struct kv_topic *topic,
                      struct kv_topic_position position,
                      int64_t time_ms,
                      struct kv_slice payload);
/* The message of the command being executed, at the revision that it makes. */
void kv_topics_publish(struct kv_topics *topics,
                       struct kv_topic *topic,
                       int64_t revision,
                       int64_t time_ms,
                       struct kv_slice payload,
                       const struct kv_machine_settings *settings);
/* The command has succeeded: its messages are told, what is too much goes. */
void kv_topics_commit(struct kv_topics *topics);
/* It has failed: its messages never were. */
void kv_topics_undo(struct kv_topics *topics);
void kv_topics_begin_entry(struct kv_topics *topics);
/* Ends what is too old, a bounded number. */
void kv_topics_expire(struct kv_topics *topics, int64_t now_ms, uint64_t age_ms);
/* When there is something to end; INT64_MAX: never. */
int64_t kv_topics_next_due_ms(const struct kv_topics *topics, uint64_t age_ms);
uint64_t kv_topics_hash(const struct kv_topics *topics);
static inline bool kv_topics_were_used(const struct kv_topics *topics)
{
    return topics->floor.revision != 0 || kv_tree_count(&topics->names) != 0;
}
/* Asserts T1 to T4, and T10. */
void kv_topics_check_invariants(const struct kv_topics *topics, int64_t revision);

#endif
