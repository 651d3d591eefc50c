#include "server/machine/topics.h"

#include "common/assert.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The value of a name: the topic (a pointer, of no concern to others), then what was dropped. */
enum { VALUE_DROPPED = sizeof(struct kv_topic *), VALUE_BYTES = VALUE_DROPPED + 16 };
enum { RING_MIN = 8 };

static uint8_t *value_of(struct kv_record *name)
{
    return name->bytes + name->key_size;
}

struct kv_topic *kv_topic_of(const struct kv_record *name)
{
    struct kv_topic *topic;

    memcpy(&topic, kv_record_value(name).data, sizeof topic);
    return topic;
}

struct kv_topic_position kv_topic_dropped(const struct kv_record *record)
{
    const uint8_t *p = kv_record_value(record).data + VALUE_DROPPED;

    return (struct kv_topic_position){(int64_t)kv_get_u64(p), kv_get_u64(p + 8)};
}

void kv_topics_init(struct kv_topics *topics)
{
    *topics = (struct kv_topics){.drops_per_entry = KV_TOPIC_DROPS_PER_ENTRY};
    kv_tree_init(&topics->names);
    kv_tree_init(&topics->messages);
    kv_tree_init(&topics->by_loss);
}

static void free_topic(struct kv_topic *topic)
{
    free(topic->messages);
    free(topic);
}

void kv_topics_deinit(struct kv_topics *topics)
{
    struct kv_tree_cursor cursor;

    kv_tree_seek(&topics->names, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *name; (name = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        free_topic(kv_topic_of(name));
    }
    kv_tree_deinit(&topics->names);
    kv_tree_deinit(&topics->messages);
    kv_tree_deinit(&topics->by_loss);
}

struct kv_topic *kv_topics_find(const struct kv_topics *topics, struct kv_slice name)
{
    const struct kv_record *record = kv_tree_find(&topics->names, name);

    return record ? kv_topic_of(record) : NULL;
}

/* ---------------------------------------------------------------- losses */

static struct kv_slice key_of_loss(uint64_t loss, uint8_t memory[8])
{
    kv_put_u64_be(memory, loss);
    return kv_slice_of(memory, 8);
}

/* Its newest loss is no longer one to be found; what told of it, or NULL. */
static struct kv_record *take_loss(struct kv_topics *topics, struct kv_topic *topic)
{
    uint8_t key[8];
    struct kv_record *record = NULL;

    if (topic->loss != 0) {
        record = kv_tree_remove(&topics->by_loss, key_of_loss(topic->loss, key));
        KV_ASSERT(record);
        topic->loss = 0;
    }
    return record;
}

static void note_loss(struct kv_topics *topics, struct kv_topic *topic)
{
    struct kv_record *record = take_loss(topics, topic);
    uint8_t key[8];
    bool appended;

    topic->loss = ++topics->losses;
    if (!record) {
        record = kv_record_new(key_of_loss(topic->loss, key), sizeof topic);
        memcpy(value_of(record), &topic, sizeof topic);
    }
    kv_put_u64_be(record->bytes, topic->loss);
    appended = kv_tree_append(&topics->by_loss, record);
    KV_ASSERT(appended);
}

/* ---------------------------------------------------------------- names */

static uint64_t hash_of_position(struct kv_topic_position position)
{
    const uint64_t numbers[2] = {(uint64_t)position.revision, position.number};

    return XXH3_64bits(numbers, sizeof numbers);
}

static uint64_t hash_of_name(const struct kv_record *name)
{
    return XXH3_64bits_withSeed(
        name->bytes, name->key_size, hash_of_position(kv_topic_dropped(name)));
}

uint64_t kv_topics_hash(const struct kv_topics *topics)
{
    return topics->hash + (topics->floor.revision ? hash_of_position(topics->floor) : 0);
}

struct kv_topic *
kv_topics_add(struct kv_topics *topics, struct kv_slice name, struct kv_topic_position dropped)
{
    struct kv_topic *topic = kv_machine_alloc(sizeof *topic);
    struct kv_record *record = kv_record_new(name, VALUE_BYTES);
    struct kv_record *former;

    *topic = (struct kv_topic){.record = record};
    memcpy(value_of(record), &topic, sizeof topic);
    kv_put_u64(value_of(record) + VALUE_DROPPED, (uint64_t)dropped.revision);
    kv_put_u64(value_of(record) + VALUE_DROPPED + 8, dropped.number);
    former = kv_tree_put(&topics->names, record);
    KV_ASSERT(!former);
    topics->hash += hash_of_name(record);
    if (kv_topic_position_compare(topics->floor, dropped) < 0) {
        note_loss(topics, topic);
    }
    return topic;
}

/* The record may be under the eyes of a snapshot's reader: then it is replaced. */
static void
set_dropped(struct kv_topics *topics, struct kv_topic *topic, struct kv_topic_position dropped)
{
    struct kv_record *record = topic->record;

    topics->hash -= hash_of_name(record);
    if (topics->names.newest_pin != 0) {
        struct kv_record *former = record;

        record = kv_record_new(kv_record_key(former), VALUE_BYTES);
        memcpy(value_of(record), &topic, sizeof topic);
        topic->record = record;
        former = kv_tree_put(&topics->names, record);
        kv_tree_retire_record(&topics->names, former);
    }
    kv_put_u64(value_of(record) + VALUE_DROPPED, (uint64_t)dropped.revision);
    kv_put_u64(value_of(record) + VALUE_DROPPED + 8, dropped.number);
    topics->hash += hash_of_name(record);
}

static void remove_topic(struct kv_topics *topics, struct kv_topic *topic)
{
    struct kv_record *record = topic->record;
    struct kv_record *found;

    KV_ASSERT(topic->n == 0);
    kv_record_free(take_loss(topics, topic));
    topics->hash -= hash_of_name(record);
    found = kv_tree_remove(&topics->names, kv_record_key(record));
    KV_ASSERT(found == record);
    kv_tree_retire_record(&topics->names, record);
    free_topic(topic);
}

/* ---------------------------------------------------------------- messages */

static void resize_ring(struct kv_topic *topic, size_t capacity)
{
    struct kv_record **messages = kv_machine_alloc(capacity * sizeof(struct kv_record *));

    for (size_t i = 0; i < topic->n; i++) {
        messages[i] = topic->messages[(topic->first + i) % topic->capacity];
    }
    free(topic->messages);
    topic->messages = messages;
    topic->capacity = capacity;
    topic->first = 0;
}

void kv_topics_append(struct kv_topics *topics,
                      struct kv_topic *topic,
                      struct kv_topic_position position,
                      int64_t time_ms,
                      struct kv_slice payload)
{
    struct kv_slice name = kv_record_key(topic->record);
    uint8_t key[KV_MESSAGE_KEY_BYTES + KV_KEY_BYTES_MAX];
    struct kv_record *record;
    bool appended;

    kv_put_u64_be(key, (uint64_t)position.revision);
    kv_put_u64_be(key + 8, position.number);
    memcpy(key + KV_MESSAGE_KEY_BYTES, name.data, name.size);
    record = kv_record_new(kv_slice_of(key, KV_MESSAGE_KEY_BYTES + name.size), payload.size);
    record->mod_revision = position.revision;
    record->create_revision = time_ms;
    if (payload.size > 0) {
        memcpy(record->bytes + record->key_size, payload.data, payload.size);
    }
    appended = kv_tree_append(&topics->messages, record);
    KV_ASSERT(appended);
    if (topic->n == topic->capacity) {
        resize_ring(topic, topic->capacity ? 2 * topic->capacity : RING_MIN);
    }
    topic->messages[(topic->first + topic->n++) % topic->capacity] = record;
    topic->bytes += kv_message_cost(record);
    topics->bytes += kv_message_cost(record);
    topics->hash += kv_record_hash(record);
}

static void uncount(struct kv_topics *topics, struct kv_topic *topic, struct kv_record *record)
{
    struct kv_record *found = kv_tree_remove(&topics->messages, kv_record_key(record));

    KV_ASSERT(found == record);
    topic->n--;
    topic->bytes -= kv_message_cost(record);
    topics->bytes -= kv_message_cost(record);
    topics->hash -= kv_record_hash(record);
}

/* The n oldest messages of the topic go; with the last one the topic. */
static void drop_oldest(struct kv_topics *topics, struct kv_topic *topic, size_t n)
{
    struct kv_topic_position dropped = {0, 0};

    for (; n > 0; n--) {
        struct kv_record *record = topic->messages[topic->first];

        dropped = kv_message_position(record);
        topic->first = (topic->first + 1) % topic->capacity;
        uncount(topics, topic, record);
        kv_tree_retire_record(&topics->messages, record);
    }
    if (topic->n == 0) {
        topics->losses++;
        if (kv_topic_position_compare(topics->floor, dropped) < 0) {
            topics->floor = dropped;
        }
        remove_topic(topics, topic);
        return;
    }
    set_dropped(topics, topic, dropped);
    note_loss(topics, topic);
    if (topic->capacity > RING_MIN && topic->n < topic->capacity / 4) {
        resize_ring(topic, topic->capacity / 2);
    }
}

/* ---------------------------------------------------------------- the command */

static bool has_excess(const struct kv_topic *topic, const struct kv_machine_settings *settings)
{
    const size_t n = topic->n - topic->n_excess;

    /* The newest message stays, however large. */
    return n > 1 && (n > settings->topic_messages ||
                     topic->bytes - topic->excess_bytes > settings->topic_bytes);
}

/* One more of a publication, which has so many already. */
static bool may_drop(struct kv_topics *topics, unsigned n)
{
    if (n < KV_TOPIC_DROPS_PER_PUBLISH) {
        return true;
    }
    if (topics->drops_left == 0) {
        return false;
    }
    topics->drops_left--;
    topics->n_drawn++;
    return true;
}

void kv_topics_begin_entry(struct kv_topics *topics)
{
    topics->drops_left = topics->drops_per_entry;
}

void kv_topics_publish(struct kv_topics *topics,
                       struct kv_topic *topic,
                       int64_t revision,
                       int64_t time_ms,
                       struct kv_slice payload,
                       const struct kv_machine_settings *settings)
{
    const struct kv_topic_position position = {revision, topics->n_new++};
    uint64_t cost;

    if (topic->n_new++ == 0) {
        topic->next_changed = topics->changed;
        topics->changed = topic;
    }
    topics->new_revision = revision;
    kv_topics_append(topics, topic, position, time_ms, payload);
    for (unsigned i = 0; has_excess(topic, settings) && may_drop(topics, i); i++) {
        cost = kv_message_cost(topic->messages[(topic->first + topic->n_excess) % topic->capacity]);
        topic->n_excess++;
        topic->excess_bytes += cost;
        topics->excess_bytes += cost;
    }
}

static void tell(const struct kv_topics *topics)
{
    struct kv_tree_cursor cursor;
    struct kv_record *record;
    uint8_t revision[8];

    kv_put_u64_be(revision, (uint64_t)topics->new_revision);
    kv_tree_seek(&topics->messages, kv_slice_of(revision, sizeof revision), &cursor);
    while ((record = kv_tree_cursor_get(&cursor))) {
        const struct kv_topic_message message = {
            kv_message_position(record), kv_message_topic(record), kv_record_value(record)};

        kv_tree_next(&cursor);
        topics->publish(topics->publish_arg, &message, !kv_tree_cursor_get(&cursor));
    }
}

static struct kv_topic *take_changed(struct kv_topics *topics)
{
    struct kv_topic *topic = topics->changed;

    if (topic) {
        topics->changed = topic->next_changed;
    }
    return topic;
}

void kv_topics_commit(struct kv_topics *topics)
{
    struct kv_topic *topic;

    if (topics->changed && topics->publish) {
        tell(topics);
    }
    while ((topic = take_changed(topics))) {
        const size_t n_excess = topic->n_excess;

        topic->n_new = topic->n_excess = 0;
        topic->excess_bytes = 0;
        if (n_excess > 0) {
            drop_oldest(topics, topic, n_excess);
        }
    }
    topics->n_new = topics->n_drawn = 0;
    topics->excess_bytes = 0;
}

void kv_topics_undo(struct kv_topics *topics)
{
    struct kv_topic *topic;

    while ((topic = take_changed(topics))) {
        for (; topic->n_new > 0; topic->n_new--) {
            struct kv_record *record =
                topic->messages[(topic->first + topic->n - 1) % topic->capacity];

            uncount(topics, topic, record);
            /* No pin has seen it. */
            kv_record_free(record);
        }
        topic->n_excess = 0;
        topic->excess_bytes = 0;
        if (topic->n == 0) {
            remove_topic(topics, topic);
        }
    }
    topics->drops_left += topics->n_drawn;
    topics->n_new = topics->n_drawn = 0;
    topics->excess_bytes = 0;
}

/* ---------------------------------------------------------------- age */

static const struct kv_record *oldest_of(const struct kv_topics *topics)
{
    struct kv_tree_cursor cursor;

    kv_tree_seek(&topics->messages, kv_slice_of(NULL, 0), &cursor);
    return kv_tree_cursor_get(&cursor);
}

/* Those that end within one step end together. */
static int64_t due_of(const struct kv_record *record, uint64_t age_ms)
{
    const int64_t due_ms = kv_message_time_ms(record) + (int64_t)age_ms;

    return (due_ms / KV_TOPIC_AGE_STEP_MS + 1) * KV_TOPIC_AGE_STEP_MS;
}

int64_t kv_topics_next_due_ms(const struct kv_topics *topics, uint64_t age_ms)
{
    const struct kv_record *oldest = oldest_of(topics);

    return oldest ? due_of(oldest, age_ms) : INT64_MAX;
}

void kv_topics_expire(struct kv_topics *topics, int64_t now_ms, uint64_t age_ms)
{
    const struct kv_record *oldest = oldest_of(topics);

    for (unsigned i = 0; i < KV_TOPIC_EXPIRE_MAX && oldest && due_of(oldest, age_ms) <= now_ms;
         i++) {
        /* It is the oldest of its topic, too. */
        drop_oldest(topics, kv_topics_find(topics, kv_message_topic(oldest)), 1);
        oldest = oldest_of(topics);
    }
}

/* ---------------------------------------------------------------- checks */

/* T10: what a topic has lost beyond the floor is found by its number. */
static void check_loss(const struct kv_topics *topics, const struct kv_topic *topic)
{
    const struct kv_record *record;
    uint8_t key[8];

    KV_ASSERT(topic->loss <= topics->losses);
    if (topic->loss == 0) {
        KV_ASSERT(kv_topic_position_compare(kv_topic_dropped(topic->record), topics->floor) <= 0);
        return;
    }
    record = kv_tree_find(&topics->by_loss, key_of_loss(topic->loss, key));
    KV_ASSERT(record && kv_topic_of(record) == topic);
}

/* T1: a topic has messages, its ring holds them in order, and they are behind what was dropped. */
static uint64_t check_topic(const struct kv_topics *topics, const struct kv_record *name)
{
    const struct kv_topic *topic = kv_topic_of(name);
    struct kv_topic_position before = kv_topic_dropped(name);
    uint64_t bytes = 0;
    uint64_t hash = hash_of_name(name);

    KV_ASSERT(topic->record == name && topic->n > 0 && topic->n <= topic->capacity);
    for (size_t i = 0; i < topic->n; i++) {
        const struct kv_record *record = topic->messages[(topic->first + i) % topic->capacity];

        KV_ASSERT(kv_tree_find(&topics->messages, kv_record_key(record)) == record);
        KV_ASSERT(kv_slice_equal(kv_message_topic(record), kv_record_key(name)));
        KV_ASSERT(kv_topic_position_compare(before, kv_message_position(record)) < 0);
        before = kv_message_position(record);
        bytes += kv_message_cost(record);
        hash += kv_record_hash(record);
    }
    KV_ASSERT(bytes == topic->bytes);
    check_loss(topics, topic);
    return hash;
}

void kv_topics_check_invariants(const struct kv_topics *topics, int64_t revision)
{
    struct kv_tree_cursor cursor;
    int64_t time_ms = 0;
    uint64_t n = 0, bytes = 0, hash = 0, n_lost = 0;

    kv_tree_check_invariants(&topics->names);
    kv_tree_check_invariants(&topics->messages);
    kv_tree_check_invariants(&topics->by_loss);
    /* T2: between two commands nothing is half done. */
    KV_ASSERT(!topics->changed && topics->n_new == 0 && topics->excess_bytes == 0);
    KV_ASSERT(topics->floor.revision <= revision);
    kv_tree_seek(&topics->names, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *name; (name = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        hash += check_topic(topics, name);
        n += kv_topic_of(name)->n;
        n_lost += kv_topic_of(name)->loss != 0;
        bytes += kv_topic_of(name)->bytes;
    }
    /* T3: no message is without a topic; sums are those of what is there. */
    KV_ASSERT(n == kv_tree_count(&topics->messages) && bytes == topics->bytes &&
              hash == topics->hash);
    KV_ASSERT(n_lost == kv_tree_count(&topics->by_loss) && topics->n_drawn == 0);
    /* T4: the order of the log is that of age. */
    kv_tree_seek(&topics->messages, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *record; (record = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        KV_ASSERT(record->mod_revision <= revision && kv_message_time_ms(record) >= time_ms);
        time_ms = kv_message_time_ms(record);
    }
}
