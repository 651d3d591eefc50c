/* The judgement on subscriptions: every message of the topics that were asked for, in the order in
 * which the log has them, each once; what is missing was named as a gap, and may be gone by the
 * retention of topics. */
#include "tests/sim/follow.h"

#include "common/assert.h"
#include "common/limits.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct gap {
    int64_t from, to;
};

struct listening {
    const struct followed *followed;
    const Kv__Subscribe *subscribe;
    const struct truth *truth;
    struct checkers *checkers;
    const struct true_message **due; /* what it asked for, from its beginning */
    size_t n_due, next;
    bool begins_within; /* the last messages: of the first revision some may be left out */
    struct gap *gaps;
    size_t n_gaps;
    int64_t revision; /* everything up to here was told */
};

static void complain(struct listening *listening, int64_t revision, const char *what)
{
    checkers_fail(listening->checkers,
                  "a subscription of client %u to \"%.*s\" from revision %" PRId64
                  ": %s (revision %" PRId64 ")",
                  listening->followed->client,
                  (int)listening->subscribe->topic.len,
                  (const char *)listening->subscribe->topic.data,
                  listening->subscribe->start_revision,
                  what,
                  revision);
}

static bool matches(const Kv__Subscribe *subscribe, struct kv_slice topic)
{
    char pattern[256], name[KV_KEY_BYTES_MAX + 1];

    if (!subscribe->pattern) {
        return subscribe->topic.len == topic.size &&
               memcmp(subscribe->topic.data, topic.data, topic.size) == 0;
    }
    KV_ASSERT(subscribe->topic.len < sizeof pattern && topic.size < sizeof name);
    memcpy(pattern, subscribe->topic.data, subscribe->topic.len);
    pattern[subscribe->topic.len] = 0;
    memcpy(name, topic.data, topic.size);
    name[topic.size] = 0;
    return fnmatch(pattern, name, 0) == 0;
}

static void collect_due(struct listening *listening)
{
    const struct truth *truth = listening->truth;

    listening->due = malloc((truth->n_messages + 1) * sizeof *listening->due);
    KV_ASSERT(listening->due);
    for (size_t i = 0; i < truth->n_messages; i++) {
        if (truth->messages[i].revision > listening->revision &&
            matches(listening->subscribe, truth->messages[i].topic)) {
            listening->due[listening->n_due++] = &truth->messages[i];
        }
    }
}

static bool is_excused(const struct listening *listening, const struct true_message *message)
{
    bool is_named = false;

    for (size_t i = 0; i < listening->n_gaps && !is_named; i++) {
        is_named = listening->gaps[i].from <= message->revision &&
                   listening->gaps[i].to >= message->revision;
    }
    return (is_named && truth_may_drop(listening->truth, message)) ||
           (listening->begins_within && message->revision == listening->due[0]->revision);
}

/* Passes over what is missing with good reason. */
static void excuse(struct listening *listening, int64_t up_to)
{
    while (listening->next < listening->n_due &&
           listening->due[listening->next]->revision <= up_to &&
           is_excused(listening, listening->due[listening->next])) {
        listening->next++;
    }
}

static void demand(struct listening *listening, int64_t revision, const char *what)
{
    excuse(listening, revision);
    if (listening->next < listening->n_due &&
        listening->due[listening->next]->revision <= revision) {
        complain(listening, listening->due[listening->next]->revision, what);
    }
}

static bool is_same(const Kv__TopicMessage *told, const struct true_message *message)
{
    return told->revision == message->revision && told->topic.len == message->topic.size &&
           memcmp(told->topic.data, message->topic.data, message->topic.size) == 0 &&
           kv_slice_equal(kv_slice_of(told->payload.data, told->payload.len), message->payload);
}

static void take_message(struct listening *listening, const Kv__TopicMessage *told)
{
    while (listening->next < listening->n_due && !is_same(told, listening->due[listening->next]) &&
           is_excused(listening, listening->due[listening->next])) {
        listening->next++;
    }
    if (listening->next == listening->n_due || !is_same(told, listening->due[listening->next])) {
        complain(listening, told->revision, "another message than the next one");
        return;
    }
    listening->next++;
    listening->begins_within = false;
}

static void take_item(struct listening *listening, const Kv__StreamItem *item)
{
    const Kv__TopicMessages *topic = item->topic;
    int64_t last = 0;

    if (topic->gap_from > 0) {
        listening->gaps[listening->n_gaps++] = (struct gap){topic->gap_from, topic->gap_to};
    }
    for (size_t i = 0; i < topic->n_messages; i++) {
        take_message(listening, topic->messages[i]);
        last = topic->messages[i]->revision;
    }
    if (topic->revision < listening->revision) {
        complain(listening, topic->revision, "progress runs back");
    } else if (item->more_fragments ? topic->revision >= last && last > 0
                                    : topic->revision < last) {
        complain(listening, last, "its item is not of the revision that it says");
    } else if (topic->revision > listening->truth->revision &&
               topic->revision > listening->subscribe->start_revision - 1) {
        complain(listening, topic->revision, "it tells of what never was");
    }
    demand(listening, topic->revision, "progress overtakes a message");
    listening->revision = topic->revision;
}

/* The last messages, of those that retention has certainly left, are no more than were asked for;
 * of the first revision some may be left out. */
static bool begins_too_early(const struct listening *listening)
{
    const int64_t first = listening->n_due > 0 ? listening->due[0]->revision : 0;
    uint64_t n = 0;

    for (size_t i = 0; i < listening->n_due; i++) {
        n += listening->due[i]->revision > first &&
             listening->due[i]->revision <= listening->followed->known &&
             !truth_may_drop(listening->truth, listening->due[i]);
    }
    return n >= listening->subscribe->last;
}

static void take_first(struct listening *listening, const Kv__StreamItem *item)
{
    const Kv__Subscribe *subscribe = listening->subscribe;
    const Kv__TopicMessages *topic = item->topic;

    listening->revision = topic->revision;
    collect_due(listening);
    listening->begins_within = subscribe->last > 0 && listening->n_due > 0;
    if (topic->n_messages > 0) {
        complain(listening, topic->revision, "its first item has messages");
    } else if (subscribe->last > 0) {
        if (begins_too_early(listening)) {
            complain(listening, topic->revision, "it begins before the last messages");
        }
    } else if (subscribe->start_revision > 0 ? topic->revision != subscribe->start_revision - 1
                                             : topic->revision < listening->followed->known ||
                                                   topic->revision > listening->truth->revision) {
        complain(listening, topic->revision, "it begins elsewhere than it was told to");
    }
}

void followed_judge_topics(const struct followed *followed,
                           const struct truth *truth,
                           struct checkers *checkers)
{
    struct listening listening = {.followed = followed,
                                  .subscribe = followed->request->subscribe,
                                  .truth = truth,
                                  .checkers = checkers};

    listening.gaps = malloc((followed->n_items + 1) * sizeof *listening.gaps);
    KV_ASSERT(listening.gaps);
    for (size_t i = 0; i < followed->n_items && !checkers->has_failed; i++) {
        const Kv__StreamItem *item = followed->items[i];

        if (item->item_case != KV__STREAM_ITEM__ITEM_TOPIC) {
            complain(&listening, 0, "an item without messages");
        } else if (i == 0) {
            take_first(&listening, item);
        } else {
            take_item(&listening, item);
        }
    }
    if (followed->status == KV_COMPACTED) {
        complain(&listening, followed->oldest, "it ended as compacted");
    } else if (followed->is_open) {
        demand(&listening, truth->revision, "a message has not come, though there was time");
    }
    free(listening.due);
    free(listening.gaps);
}
