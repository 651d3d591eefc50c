/* What subscribers read: messages from a position on, the place where the last ones begin, and what
 * retention has dropped. Nothing here changes the state. */
#include "common/assert.h"
#include "server/machine/glob.h"
#include "server/machine/machine_internal.h"

#include <string.h>

/* Messages of a query in order: the ring of one topic, or the tree of all. */
struct walk {
    const struct kv_topic_query *query;
    unsigned looks;
    uint64_t work;                /* of matching */
    const struct kv_topic *topic; /* NULL: none of that name, or a pattern */
    size_t at;                    /* in its ring */
    struct kv_tree_cursor cursor;
};

static const struct kv_record *ring_at(const struct kv_topic *topic, size_t i)
{
    return topic->messages[(topic->first + i) % topic->capacity];
}

/* The first of the topic's messages at or behind the position; n: there is none. */
static size_t find_in_ring(const struct kv_topic *topic, struct kv_topic_position position)
{
    size_t low = 0, high = topic->n;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (kv_topic_position_compare(kv_message_position(ring_at(topic, middle)), position) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct kv_slice key_of(struct kv_topic_position position, uint8_t *memory)
{
    kv_put_u64_be(memory, (uint64_t)position.revision);
    kv_put_u64_be(memory + 8, position.number);
    return kv_slice_of(memory, KV_MESSAGE_KEY_BYTES);
}

static void begin_walk(const struct kv_topics *topics,
                       const struct kv_topic_query *query,
                       struct kv_topic_position position,
                       struct walk *walk)
{
    uint8_t key[KV_MESSAGE_KEY_BYTES];

    *walk = (struct walk){.query = query};
    if (query->glob) {
        kv_tree_seek(&topics->messages, key_of(position, key), &walk->cursor);
        return;
    }
    walk->topic = kv_topics_find(topics, query->topic);
    if (walk->topic) {
        walk->at = find_in_ring(walk->topic, position);
    }
}

/* NULL: no more. What it gives need not match. */
static const struct kv_record *walk_get(const struct walk *walk)
{
    if (walk->query->glob) {
        return kv_tree_cursor_get(&walk->cursor);
    }
    return walk->topic && walk->at < walk->topic->n ? ring_at(walk->topic, walk->at) : NULL;
}

static void walk_next(struct walk *walk)
{
    if (walk->query->glob) {
        kv_tree_next(&walk->cursor);
    } else {
        walk->at++;
    }
}

static bool matches(struct walk *walk, struct kv_slice topic)
{
    walk->looks++;
    return !walk->query->glob || kv_glob_match(walk->query->glob, topic, &walk->work);
}

/* It has looked at as many as one call may. */
static bool is_tired(const struct walk *walk)
{
    return walk->looks >= KV_TOPIC_LOOKS_MAX || walk->work >= KV_GLOB_WORK_MAX;
}

void kv_machine_on_publish(struct kv_machine *machine, kv_machine_publish_fn fn, void *arg)
{
    machine->topics.publish = fn;
    machine->topics.publish_arg = arg;
}

uint64_t kv_machine_topics_newest_loss(const struct kv_machine *machine)
{
    return machine->topics.losses;
}

/* Of the record only what has been given of its revision decides whether that was begun. */
static struct kv_topic_position
resume_at(const struct kv_record *record, struct kv_topic_position start, int64_t given_revision)
{
    struct kv_topic_position position = kv_message_position(record);

    if (position.revision != given_revision &&
        (start.number == 0 || position.revision != start.revision)) {
        position.number = 0;
    }
    return position;
}

int kv_machine_topics_read(const struct kv_machine *machine,
                           const struct kv_topic_query *query,
                           struct kv_topic_position *position,
                           size_t max_bytes,
                           kv_topic_message_fn fn,
                           void *arg)
{
    const struct kv_topic_position start = *position;
    const struct kv_record *record;
    int64_t given_revision = 0;
    size_t given_bytes = 0;
    struct walk walk;

    if (start.revision > machine->revision) {
        return 0;
    }
    begin_walk(&machine->topics, query, start, &walk);
    for (; (record = walk_get(&walk)); walk_next(&walk)) {
        const struct kv_topic_message message = {
            kv_message_position(record), kv_message_topic(record), kv_record_value(record)};
        const size_t bytes = message.topic.size + message.payload.size;

        if (is_tired(&walk)) {
            break;
        }
        if (!matches(&walk, message.topic)) {
            continue;
        }
        if (given_bytes > 0 && bytes > max_bytes - given_bytes) {
            break;
        }
        fn(arg, &message);
        given_revision = message.position.revision;
        given_bytes += bytes < max_bytes ? bytes : max_bytes;
    }
    if (record) {
        *position = resume_at(record, start, given_revision);
        return 1;
    }
    *position = (struct kv_topic_position){machine->revision + 1, 0};
    return 0;
}

static int search_topic(const struct kv_topic *topic, struct kv_topic_search *search)
{
    const size_t end = topic ? find_in_ring(topic, search->looked) : 0;
    const size_t n = search->left < end ? (size_t)search->left : end;

    if (n > 0) {
        search->found = kv_message_position(ring_at(topic, end - n));
    }
    search->left = 0;
    return 0;
}

int kv_machine_topics_search(const struct kv_machine *machine,
                             const struct kv_topic_query *query,
                             struct kv_topic_search *search)
{
    uint8_t key[KV_MESSAGE_KEY_BYTES];
    const struct kv_record *record;
    struct walk walk = {.query = query};

    if (!query->glob) {
        return search_topic(kv_topics_find(&machine->topics, query->topic), search);
    }
    kv_tree_seek_before(&machine->topics.messages, key_of(search->looked, key), true, &walk.cursor);
    for (; search->left > 0 && (record = kv_tree_cursor_get(&walk.cursor));
         kv_tree_previous(&walk.cursor)) {
        if (is_tired(&walk)) {
            return 1;
        }
        search->looked = kv_message_position(record);
        if (matches(&walk, kv_message_topic(record))) {
            search->found = search->looked;
            search->left--;
        }
    }
    return 0;
}

static void take_newer(struct kv_topic_position *newest, struct kv_topic_position position)
{
    if (kv_topic_position_compare(*newest, position) < 0) {
        *newest = position;
    }
}

/* Newest first, so that what comes meanwhile is a search of its own, of what is new alone. False:
 * tired, losses->at says where it goes on. */
static bool look_at_losses(const struct kv_topics *topics,
                           struct kv_topic_position position,
                           struct kv_topic_losses *losses,
                           struct walk *walk)
{
    uint8_t key[8];
    const struct kv_record *record;

    kv_put_u64_be(key, losses->at);
    kv_tree_seek_before(&topics->by_loss, kv_slice_of(key, sizeof key), true, &walk->cursor);
    for (; (record = kv_tree_cursor_get(&walk->cursor)); kv_tree_previous(&walk->cursor)) {
        const struct kv_topic *topic = kv_topic_of(record);
        const struct kv_topic_position dropped = kv_topic_dropped(topic->record);

        if (topic->loss <= losses->seen) {
            break;
        }
        if (is_tired(walk)) {
            return false;
        }
        losses->at = topic->loss;
        if (kv_topic_position_compare(dropped, position) < 0) {
            walk->looks++;
        } else if (matches(walk, kv_record_key(topic->record))) {
            take_newer(&losses->newest, dropped);
        }
    }
    losses->seen = losses->top;
    losses->at = 0;
    return true;
}

int kv_machine_topics_losses(const struct kv_machine *machine,
                             const struct kv_topic_query *query,
                             struct kv_topic_position position,
                             struct kv_topic_losses *losses)
{
    const struct kv_topics *topics = &machine->topics;
    const struct kv_record *name;
    struct walk walk = {.query = query};

    if (!query->glob) {
        name = kv_tree_find(&topics->names, query->topic);
        take_newer(&losses->newest, name ? kv_topic_dropped(name) : topics->floor);
        losses->seen = topics->losses;
        return 0;
    }
    while (losses->at != 0 || losses->seen != topics->losses) {
        if (losses->at == 0) {
            losses->top = topics->losses;
            losses->at = losses->top + 1;
        }
        if (!look_at_losses(topics, position, losses, &walk)) {
            return 1;
        }
    }
    take_newer(&losses->newest, topics->floor);
    return 0;
}
