#include "tests/sim/truth.h"

#include "common/assert.h"
#include "common/limits.h"
#include "tests/sim/checkers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1024 * 1024 };

void truth_init(struct truth *truth)
{
    *truth = (struct truth){
        .revision = 1,
        .oldest = 1,
        .retention = {KV_TOPIC_MESSAGES_DEFAULT, KV_TOPIC_BYTES_DEFAULT, KV_TOPIC_AGE_DEFAULT_MS}};
    kv_arena_init(&truth->arena, SIZE_MAX);
}

void truth_deinit(struct truth *truth)
{
    free(truth->events);
    free(truth->keys);
    free(truth->leases);
    free(truth->timely);
    free(truth->messages);
    kv_arena_deinit(&truth->arena);
}

/* ---------------------------------------------------------------- memory */

static void *allocate(struct truth *truth, size_t size)
{
    void *memory = kv_arena_alloc(&truth->arena, size + 1);

    KV_ASSERT(memory);
    return memory;
}

static struct kv_slice copy(struct truth *truth, ProtobufCBinaryData bytes)
{
    uint8_t *data = allocate(truth, bytes.len);

    if (bytes.len > 0) {
        memcpy(data, bytes.data, bytes.len);
    }
    return kv_slice_of(data, bytes.len);
}

static const Kv__KeyValue *copy_pair(struct truth *truth, const Kv__KeyValue *kv)
{
    size_t size = kv__key_value__get_packed_size(kv);
    uint8_t *packed = malloc(size + 1);
    ProtobufCAllocator allocator;
    const Kv__KeyValue *result;

    KV_ASSERT(packed);
    kv__key_value__pack(kv, packed);
    kv_arena_protobuf_allocator(&truth->arena, &allocator);
    result = kv__key_value__unpack(&allocator, size, packed);
    KV_ASSERT(result);
    free(packed);
    return result;
}

static void *grow(void *memory, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity) {
        return memory;
    }
    *capacity = *capacity ? *capacity * 2 : 64;
    memory = realloc(memory, *capacity * size);
    KV_ASSERT(memory);
    return memory;
}

/* The first key that is not below. */
static size_t place_of(const struct truth *truth, struct kv_slice key)
{
    size_t from = 0, to = truth->n_keys;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (kv_slice_compare(truth->keys[middle].key, key) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static bool is_there(const struct truth *truth, size_t place, struct kv_slice key)
{
    return place < truth->n_keys && kv_slice_equal(truth->keys[place].key, key);
}

/* ---------------------------------------------------------------- contents */

struct reading {
    struct truth *truth;
    struct true_content *content;
};

static int by_name(const void *a, const void *b)
{
    const struct true_element *first = a;
    const struct true_element *second = b;
    int order = kv_slice_compare(first->name, second->name);

    return order ? order : kv_slice_compare(first->value, second->value);
}

static void start_content(struct reading *reading, size_t n)
{
    struct true_content *content = allocate(reading->truth, sizeof *content);

    content->n = n;
    content->elements = allocate(reading->truth, n * sizeof *content->elements);
    memset(content->elements, 0, n * sizeof *content->elements);
    reading->content = content;
}

static void read_names(struct reading *reading, const Kv__ElementsResult *result)
{
    start_content(reading, result->n_elements);
    for (size_t i = 0; i < result->n_elements; i++) {
        reading->content->elements[i].name = copy(reading->truth, result->elements[i]);
    }
}

static void read_fields(struct reading *reading, const Kv__HashFieldsResult *result)
{
    start_content(reading, result->n_fields);
    for (size_t i = 0; i < result->n_fields; i++) {
        reading->content->elements[i].name = copy(reading->truth, result->fields[i]->name);
        reading->content->elements[i].value = copy(reading->truth, result->fields[i]->value);
        if (result->fields[i]->ttl_ms > 0) {
            reading->content->elements[i].deadline_ms =
                reading->truth->time_ms + (int64_t)result->fields[i]->ttl_ms;
        }
    }
}

static void read_members(struct reading *reading, const Kv__ZSetMembersResult *result)
{
    start_content(reading, result->n_members);
    for (size_t i = 0; i < result->n_members; i++) {
        reading->content->elements[i].name = copy(reading->truth, result->members[i]->member);
        reading->content->elements[i].score = result->members[i]->score;
    }
}

/* What does not fit a reply at narrow limits is given in pieces. */
static bool is_part(const Kv__Reply *reply)
{
    return reply->result_case == KV__REPLY__RESULT_SET_MEMBERS  ? reply->set_members->more
           : reply->result_case == KV__REPLY__RESULT_ZSET_RANGE ? reply->zset_range->more
                                                                : false;
}

static void on_content(void *arg, Kv__Reply *reply)
{
    struct reading *reading = arg;

    switch (reply->result_case) {
    case KV__REPLY__RESULT_HASH_GET_ALL:
        read_fields(reading, reply->hash_get_all);
        break;
    case KV__REPLY__RESULT_LIST_RANGE:
        read_names(reading, reply->list_range);
        break;
    case KV__REPLY__RESULT_SET_MEMBERS:
        read_names(reading, reply->set_members);
        break;
    case KV__REPLY__RESULT_ZSET_RANGE:
        read_members(reading, reply->zset_range);
        break;
    default: /* refused, by a narrow limit */
        return;
    }
    if (is_part(reply)) {
        reading->content = NULL;
        return;
    }
    qsort(reading->content->elements, reading->content->n, sizeof(struct true_element), by_name);
}

/* NULL: it is no collection, or too large to be read. */
static const struct true_content *content_of(struct truth *truth,
                                             struct kv_machine *machine,
                                             const Kv__KeyValue *kv,
                                             int64_t at_revision)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__HashGetAll hash = KV__HASH_GET_ALL__INIT;
    Kv__ListRange list = KV__LIST_RANGE__INIT;
    Kv__SetMembers set = KV__SET_MEMBERS__INIT;
    Kv__ZSetRange zset = KV__ZSET_RANGE__INIT;
    struct reading reading = {truth, NULL};

    hash.key = list.key = set.key = zset.key = kv->key;
    hash.at_revision = list.at_revision = set.at_revision = zset.at_revision = at_revision;
    list.last = -1;
    switch (kv->type) {
    case KV__TYPE__TYPE_HASH:
        request.command_case = KV__REQUEST__COMMAND_HASH_GET_ALL;
        request.hash_get_all = &hash;
        break;
    case KV__TYPE__TYPE_LIST:
        request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
        request.list_range = &list;
        break;
    case KV__TYPE__TYPE_SET:
        request.command_case = KV__REQUEST__COMMAND_SET_MEMBERS;
        request.set_members = &set;
        break;
    case KV__TYPE__TYPE_ZSET:
        request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
        request.zset_range = &zset;
        break;
    default:
        return NULL;
    }
    kv_machine_read(machine, &request, on_content, &reading);
    return reading.content;
}

/* ---------------------------------------------------------------- time */

static struct true_lease *find_lease(const struct truth *truth, int64_t id)
{
    for (size_t i = 0; i < truth->n_leases; i++) {
        if (truth->leases[i].id == id) {
            return &truth->leases[i];
        }
    }
    return NULL;
}

void truth_lease(struct truth *truth, int64_t id, uint64_t ttl_ms)
{
    struct true_lease *lease = find_lease(truth, id);

    if (!lease) {
        truth->leases =
            grow(truth->leases, &truth->leases_capacity, truth->n_leases, sizeof *truth->leases);
        lease = &truth->leases[truth->n_leases++];
    }
    *lease = (struct true_lease){id, truth->time_ms + (int64_t)ttl_ms, ttl_ms};
}

int64_t truth_deadline_ms(const struct truth *truth, const Kv__KeyValue *kv)
{
    const struct true_lease *lease = kv->lease_id ? find_lease(truth, kv->lease_id) : NULL;

    return lease ? lease->deadline_ms : kv->expires_at_ms;
}

static bool is_over(const struct truth *truth, int64_t deadline_ms)
{
    return deadline_ms != 0 && deadline_ms < truth->time_ms;
}

static size_t count_over(const struct truth *truth, const struct true_content *content)
{
    size_t n = 0;

    for (size_t i = 0; i < content->n; i++) {
        n += is_over(truth, content->elements[i].deadline_ms);
    }
    return n;
}

static bool fields_are_over(const struct truth *truth, const struct true_content *content)
{
    return !content || count_over(truth, content) == content->n;
}

static const struct true_key *overdue(const struct truth *truth)
{
    for (size_t i = 0; i < truth->n_keys; i++) {
        const struct true_key *key = &truth->keys[i];

        if (is_over(truth, truth_deadline_ms(truth, key->kv)) ||
            (key->kv->type == KV__TYPE__TYPE_HASH && key->content &&
             count_over(truth, key->content) > 0)) {
            return key;
        }
    }
    return NULL;
}

/* Of this entry, before any of its commands? */
static bool is_due(const struct truth *truth, const struct true_event *event)
{
    return event->index == truth->index && (event->by_time || event->by_revocation);
}

/* It has ended about as much as an entry may: leases and fields of hashes count, too, and are no
 * events of their own. */
static bool has_ended_enough(const struct truth *truth, size_t max_pieces)
{
    size_t n = 0;

    for (size_t i = truth->n_events; i > 0; i--) {
        const struct true_event *event = &truth->events[i - 1];

        if (!is_due(truth, event)) {
            break;
        }
        n += event->before->type == KV__TYPE__TYPE_HASH ? max_pieces : 1;
    }
    return n >= max_pieces / 2;
}

void truth_check_time(const struct truth *truth, size_t max_pieces, struct checkers *checkers)
{
    const struct true_key *key = overdue(truth);

    if (key && !has_ended_enough(truth, max_pieces)) {
        checkers_fail(checkers,
                      "the key \"%.*s\" lives on at entry %" PRIu64
                      ", its time was over at %" PRId64 " ms",
                      (int)key->key.size,
                      (const char *)key->key.data,
                      truth->index,
                      truth_deadline_ms(truth, key->kv));
    }
    for (size_t i = truth->n_events; i > 0; i--) {
        const struct true_event *event = &truth->events[i - 1];

        if (!is_due(truth, event)) {
            break;
        }
        if (event->by_time && !event->after &&
            (event->deadline_ms == 0 || event->deadline_ms >= truth->time_ms) &&
            !(event->before->type == KV__TYPE__TYPE_HASH && fields_are_over(truth, event->was))) {
            checkers_fail(checkers,
                          "the key \"%.*s\" is taken by time at entry %" PRIu64 " of %" PRId64
                          " ms, it has until %" PRId64 " ms",
                          (int)event->key.size,
                          (const char *)event->key.data,
                          truth->index,
                          truth->time_ms,
                          event->deadline_ms);
        }
    }
}

/* ---------------------------------------------------------------- topics */

void truth_message(struct truth *truth, int64_t revision, const Kv__Publish *publish)
{
    truth->messages = grow(
        truth->messages, &truth->messages_capacity, truth->n_messages, sizeof *truth->messages);
    truth->messages[truth->n_messages++] = (struct true_message){
        revision, truth->time_ms, copy(truth, publish->topic), copy(truth, publish->payload)};
}

static void narrow(uint64_t *limit, uint64_t value)
{
    *limit = value < *limit ? value : *limit;
}

void truth_setting(struct truth *truth, const Kv__ConfigSet *set)
{
    if (strcmp(set->name, "topic-messages") == 0) {
        narrow(&truth->retention.messages, set->value);
    } else if (strcmp(set->name, "topic-bytes") == 0) {
        narrow(&truth->retention.bytes, set->value);
    } else if (strcmp(set->name, "topic-age-ms") == 0) {
        narrow(&truth->retention.age_ms, set->value);
    }
}

bool truth_may_drop(const struct truth *truth, const struct true_message *message)
{
    enum { OVERHEAD_BYTES = 64 }; /* of a message, at most */
    const struct true_message *end = truth->messages + truth->n_messages;
    uint64_t n = 0, bytes = 0;

    for (const struct true_message *one = message; one < end; one++) {
        if (kv_slice_equal(one->topic, message->topic)) {
            n++;
            bytes += one->topic.size + one->payload.size + OVERHEAD_BYTES;
        }
    }
    return n > truth->retention.messages || bytes > truth->retention.bytes ||
           truth->time_ms >= message->time_ms + (int64_t)truth->retention.age_ms;
}

/* ---------------------------------------------------------------- states */

struct look {
    struct truth *truth;
    struct kv_machine *machine;
    int64_t revision;
    int64_t at_revision; /* to ask for it; 0: it is the present one */
    bool by_time;
    size_t next;                  /* of a listing: our key that is next */
    const Kv__KeyValue **changed; /* copies: whoever gives them is asked again for what they hold */
    size_t n_changed, changed_capacity;
};

static bool is_revoked(const struct truth *truth, const Kv__KeyValue *kv)
{
    const struct true_lease *lease = kv->lease_id ? find_lease(truth, kv->lease_id) : NULL;

    return lease && lease->ttl_ms == 0;
}

static struct true_event *add_event(struct look *look, const struct true_key *before)
{
    struct truth *truth = look->truth;
    struct true_event *event;

    truth->events =
        grow(truth->events, &truth->events_capacity, truth->n_events, sizeof *truth->events);
    event = &truth->events[truth->n_events++];
    *event = (struct true_event){
        .revision = look->revision, .index = truth->index, .by_time = look->by_time};
    if (before) {
        event->key = before->key;
        event->before = before->kv;
        event->was = before->content;
        event->deadline_ms = truth_deadline_ms(truth, before->kv);
        event->by_revocation = look->by_time && is_revoked(truth, before->kv);
        event->by_time = look->by_time && !event->by_revocation;
    }
    return event;
}

static void put_key(struct look *look, const Kv__KeyValue *pair)
{
    struct truth *truth = look->truth;
    struct kv_slice key = kv_slice_of(pair->key.data, pair->key.len);
    size_t place = place_of(truth, key);
    bool was_there = is_there(truth, place, key);
    struct true_event *event = add_event(look, was_there ? &truth->keys[place] : NULL);
    struct true_key *held;

    event->after = pair;
    event->holds = content_of(truth, look->machine, pair, look->at_revision);
    event->key = kv_slice_of(event->after->key.data, event->after->key.len);
    if (!was_there) {
        truth->keys = grow(truth->keys, &truth->keys_capacity, truth->n_keys, sizeof *truth->keys);
        memmove(&truth->keys[place + 1],
                &truth->keys[place],
                (truth->n_keys - place) * sizeof *truth->keys);
        truth->n_keys++;
    }
    held = &truth->keys[place];
    *held = (struct true_key){event->key, event->after, event->holds};
}

static void on_changed(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct look *look = arg;

    (void)revision;
    for (size_t i = 0; i < result->n_kvs; i++) {
        look->changed = grow(
            look->changed, &look->changed_capacity, look->n_changed, sizeof(const Kv__KeyValue *));
        look->changed[look->n_changed++] = copy_pair(look->truth, result->kvs[i]);
    }
}

static void drop_key(struct look *look)
{
    struct truth *truth = look->truth;

    (void)add_event(look, &truth->keys[look->next]);
    truth->n_keys--;
    memmove(&truth->keys[look->next],
            &truth->keys[look->next + 1],
            (truth->n_keys - look->next) * sizeof *truth->keys);
}

/* Keys of ours that the listing passes over are gone. */
static void on_listed(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct look *look = arg;
    struct truth *truth = look->truth;

    (void)revision;
    for (size_t i = 0; i < result->n_kvs; i++) {
        struct kv_slice key = kv_slice_of(result->kvs[i]->key.data, result->kvs[i]->key.len);

        while (look->next < truth->n_keys &&
               kv_slice_compare(truth->keys[look->next].key, key) < 0) {
            drop_key(look);
        }
        KV_ASSERT(is_there(truth, look->next, key));
        look->next++;
    }
}

static void list(struct look *look, bool changed)
{
    Kv__KeyRange all = KV__KEY_RANGE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    struct kv_range_stream *stream = calloc(1, sizeof *stream);
    struct kv_error error;
    int status;

    KV_ASSERT(stream);
    all.special = KV__KEY_RANGE__SPECIAL__ALL;
    range.range = &all;
    range.at_revision = look->at_revision;
    range.min_mod_revision = changed ? look->revision : 0;
    range.keys_only = !changed;
    do {
        status = kv_machine_range_piece(look->machine,
                                        &range,
                                        stream,
                                        PIECE_BYTES,
                                        changed ? on_changed : on_listed,
                                        look,
                                        &error);
        KV_ASSERT(status >= 0);
    } while (status == 1);
    free(stream);
}

static uint64_t count_now(const struct kv_machine *machine)
{
    struct kv_machine_stats stats;

    kv_machine_stats(machine, &stats);
    return stats.keys;
}

static int by_key(const void *a, const void *b)
{
    return kv_slice_compare(((const struct true_event *)a)->key,
                            ((const struct true_event *)b)->key);
}

/* The present revision was made by no command. */
static void note_timely(struct truth *truth)
{
    truth->timely =
        grow(truth->timely, &truth->timely_capacity, truth->n_timely, sizeof *truth->timely);
    truth->timely[truth->n_timely++] = truth->revision;
}

void truth_look(struct truth *truth, struct kv_machine *machine, bool by_time)
{
    int64_t newest = kv_machine_revision(machine);

    while (truth->times_alone && truth->revision < newest) {
        truth->revision++;
        if (by_time) {
            note_timely(truth);
        }
    }
    while (truth->revision < newest) {
        struct look look = {
            .truth = truth,
            .machine = machine,
            .revision = truth->revision + 1,
            .at_revision = truth->revision + 1 < newest ? truth->revision + 1 : 0,
            .by_time = by_time,
        };
        size_t first = truth->n_events;

        list(&look, true);
        for (size_t i = 0; i < look.n_changed; i++) {
            put_key(&look, look.changed[i]);
        }
        free(look.changed);
        /* What is there now is counted at once; a former revision has to be listed. */
        if (look.at_revision != 0 || count_now(machine) != truth->n_keys) {
            list(&look, false);
            while (look.next < truth->n_keys) {
                drop_key(&look);
            }
        }
        if (truth->n_events > first) {
            qsort(truth->events + first, truth->n_events - first, sizeof *truth->events, by_key);
        }
        truth->revision++;
        if (by_time) {
            note_timely(truth);
        }
    }
    truth->oldest = kv_machine_oldest_revision(machine);
}
