/* What subscribers read: messages from a position on, the place where the last ones begin, and what
 * retention has dropped. Nothing here changes the state. */
#include "common/assert.h"
#include "server/machine/glob.h"
#include "server/machine/machine_internal.h"

#include <string.h>

/* Messages of a query in order: the ring of one topic, or the tree of all. */
struct walk {
    const struct kv_topic_query *query;
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

    walk->query = query;
    walk->topic = NULL;
    walk->at = 0;
    walk->cursor.depth = 0;
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

static bool matches(const struct kv_topic_query *query, const struct kv_record *record)
{
    return !query->glob || kv_glob_matches(query->glob, kv_message_topic(record));
}

void kv_machine_on_publish(struct kv_machine *machine, kv_machine_publish_fn fn, void *arg)
{
    machine->topics.publish = fn;
    machine->topics.publish_arg = arg;
}

uint64_t kv_machine_topics_drops(const struct kv_machine *machine)
{
    return machine->topics.drops;
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
    for (unsigned looks = 0; (record = walk_get(&walk)); looks++, walk_next(&walk)) {
        const struct kv_topic_message message = {
            kv_message_position(record), kv_message_topic(record), kv_record_value(record)};
        const size_t bytes = message.topic.size + message.payload.size;

        if (looks >= KV_TOPIC_LOOKS_MAX) {
            break;
        }
        if (!matches(query, record)) {
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
    struct kv_tree_cursor cursor;

    if (!query->glob) {
        return search_topic(kv_topics_find(&machine->topics, query->topic), search);
    }
    kv_tree_seek_before(&machine->topics.messages, key_of(search->looked, key), true, &cursor);
    for (unsigned looks = 0; search->left > 0 && (record = kv_tree_cursor_get(&cursor));
         looks++, kv_tree_previous(&cursor)) {
        if (looks == KV_TOPIC_LOOKS_MAX) {
            return 1;
        }
        search->looked = kv_message_position(record);
        if (matches(query, record)) {
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

bool kv_machine_topics_gap(const struct kv_machine *machine,
                           const struct kv_topic_query *query,
                           struct kv_topic_position position,
                           struct kv_topic_position *ret_newest)
{
    const struct kv_topics *topics = &machine->topics;
    struct kv_topic_position newest = topics->floor;
    const struct kv_record *name;

    if (!query->glob) {
        name = kv_tree_find(&topics->names, query->topic);
        newest = name ? kv_topic_dropped(name) : newest;
    } else {
        struct kv_slice prefix = kv_slice_of(query->glob->prefix, query->glob->prefix_size);
        struct kv_tree_cursor cursor;

        kv_tree_seek(&topics->names, prefix, &cursor);
        for (; (name = kv_tree_cursor_get(&cursor)); kv_tree_next(&cursor)) {
            if (name->key_size < prefix.size ||
                (prefix.size > 0 && memcmp(name->bytes, prefix.data, prefix.size) != 0)) {
                break;
            }
            if (kv_topic_position_compare(kv_topic_dropped(name), position) >= 0 &&
                kv_glob_matches(query->glob, kv_record_key(name))) {
                take_newer(&newest, kv_topic_dropped(name));
            }
        }
    }
    if (kv_topic_position_compare(newest, position) < 0) {
        return false;
    }
    *ret_newest = newest;
    return true;
}
