/* Negative controls of the judgement on streams: a truth that comes from a log, and streams that
 * tell it, or something else. */
#include "tests/sim/follow.h"

#include "server/machine/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* after the four above */
#include <cmocka.h>

static struct checkers checkers;
static struct truth truth;
static struct followed followed;
static struct kv_machine *machine;
static uint64_t applied;

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* ---------------------------------------------------------------- a truth */

static void execute(const Kv__Request *request)
{
    assert_int_equal(kv_machine_begin(machine, ++applied, KV_MACHINE_VERSION, 1000), 0);
    assert_true(kv_machine_execute(machine, request, NULL, NULL));
    truth_look(&truth, machine, false);
    kv_machine_end(machine);
}

static void put(const char *key, const char *value)
{
    Kv__Put command = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = bytes(key);
    command.value = bytes(value);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    execute(&request);
}

static void delete_all(void)
{
    Kv__Delete command = KV__DELETE__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__KeyRange *ranges[] = {&range};
    Kv__Request request = KV__REQUEST__INIT;

    range.special = KV__KEY_RANGE__SPECIAL__ALL;
    command.n_ranges = 1;
    command.ranges = ranges;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    execute(&request);
}

static void add(const char *key, const char *field, const char *value)
{
    Kv__HashSet command = KV__HASH_SET__INIT;
    Kv__HashField one = KV__HASH_FIELD__INIT;
    Kv__HashField *fields[] = {&one};
    Kv__Request request = KV__REQUEST__INIT;

    one.name = bytes(field);
    one.value = bytes(value);
    command.key = bytes(key);
    command.n_fields = 1;
    command.fields = fields;
    request.command_case = KV__REQUEST__COMMAND_HASH_SET;
    request.hash_set = &command;
    execute(&request);
}

/* Revisions 2 to 5: a is put, b is put, a is put again, both are gone. */
static void four_revisions(void)
{
    put("a", "1");
    put("b", "2");
    put("a", "3");
    delete_all();
}

/* ---------------------------------------------------------------- a stream */

struct telling {
    Kv__StreamItem item;
    Kv__WatchEvents events;
    Kv__Event event[4];
    Kv__KeyValue kv[4], previous[4];
    Kv__Event *list[4];
};

static void watch(int64_t start_revision, bool with_previous)
{
    Kv__Watch command = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    range.special = KV__KEY_RANGE__SPECIAL__ALL;
    command.range = &range;
    command.start_revision = start_revision;
    command.with_previous = with_previous;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &command;
    followed_init(&followed, 1, &request, 1);
}

static struct telling *tell(int64_t revision)
{
    static struct telling telling;

    kv__stream_item__init(&telling.item);
    kv__watch_events__init(&telling.events);
    telling.item.item_case = KV__STREAM_ITEM__ITEM_WATCH;
    telling.item.watch = &telling.events;
    telling.events.revision = revision;
    telling.events.events = telling.list;
    return &telling;
}

/* As it was: the event of this key and revision. */
static Kv__Event *truly(struct telling *telling, int64_t revision, const char *key)
{
    size_t n = telling->events.n_events++;
    Kv__Event *event = telling->list[n] = &telling->event[n];

    kv__event__init(event);
    kv__key_value__init(&telling->kv[n]);
    event->kv = &telling->kv[n];
    event->kv->key = bytes(key);
    event->kv->mod_revision = revision;
    for (size_t i = 0; i < truth.n_events; i++) {
        const struct true_event *true_event = &truth.events[i];

        if (true_event->revision != revision ||
            !kv_slice_equal(true_event->key, kv_slice_of(key, strlen(key)))) {
            continue;
        }
        if (true_event->after) {
            *event->kv = *true_event->after;
        }
        event->kind = true_event->after     ? KV__EVENT_KIND__EVENT_PUT
                      : true_event->by_time ? KV__EVENT_KIND__EVENT_EXPIRE
                                            : KV__EVENT_KIND__EVENT_DELETE;
    }
    return event;
}

static void say(struct telling *telling)
{
    followed_item(&followed, &telling->item);
}

static void say_event(int64_t revision, const char *key)
{
    struct telling *telling = tell(revision);

    truly(telling, revision, key);
    say(telling);
}

static void say_last(void)
{
    struct telling *telling = tell(5);

    truly(telling, 5, "b");
    truly(telling, 5, "a");
    say(telling);
}

static void complains(const char *of)
{
    followed_judge(&followed, &truth, &checkers);
    assert_true(checkers.has_failed);
    if (!strstr(checkers.message, of)) {
        fail_msg("it says: %s", checkers.message);
    }
}

static void is_content(void)
{
    followed_judge(&followed, &truth, &checkers);
    if (checkers.has_failed) {
        fail_msg("it says: %s", checkers.message);
    }
}

static int set_up(void **state)
{
    (void)state;
    applied = 0;
    checkers_init(&checkers, 1);
    truth_init(&truth);
    return kv_machine_open(&machine);
}

static int tear_down(void **state)
{
    (void)state;
    checkers_deinit(&checkers);
    truth_deinit(&truth);
    followed_deinit(&followed);
    kv_machine_close(machine);
    return 0;
}

/* ---------------------------------------------------------------- cases */

static void a_good_stream(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    say(tell(2));
    say_event(3, "b");
    say_event(4, "a");
    say_last();
    say(tell(5));
    is_content();
}

static void an_event_is_missing(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    say_event(4, "a");
    complains("an event is missing");
}

static void progress_overtakes(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say(tell(2));
    complains("progress overtakes an event");
}

static void an_event_comes_twice(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    say_event(2, "a");
    complains("of a revision that was told already");
}

static void an_event_comes_twice_in_an_item(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(5, false);
    say(tell(4));
    telling = tell(5);
    truly(telling, 5, "a");
    truly(telling, 5, "a");
    say(telling);
    complains("told twice");
}

static void half_a_revision(void **state)
{
    (void)state;
    four_revisions();
    watch(5, false);
    say(tell(4));
    say_event(5, "a");
    complains("progress overtakes an event");
}

static void half_a_revision_in_fragments(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(5, false);
    say(tell(4));
    telling = tell(4);
    telling->item.more_fragments = true;
    truly(telling, 5, "a");
    say(telling);
    say_event(5, "b");
    is_content();
}

static void a_fragment_that_claims_too_much(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    telling = tell(2);
    telling->item.more_fragments = true;
    truly(telling, 2, "a");
    say(telling);
    complains("a fragment says that it is whole");
}

static void an_event_beyond_its_item(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    telling = tell(1);
    truly(telling, 2, "a");
    say(telling);
    complains("beyond the progress of its item");
}

static void events_run_back(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    telling = tell(3);
    truly(telling, 3, "b");
    truly(telling, 2, "a");
    say(telling);
    complains("an event is missing");
}

static void progress_runs_back(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    say(tell(1));
    complains("progress runs back");
}

static void an_invented_event(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "b");
    complains("none of this watch");
}

static void progress_into_the_future(void **state)
{
    (void)state;
    four_revisions();
    watch(5, false);
    say(tell(4));
    say_last();
    say(tell(6));
    complains("what never was");
}

static void another_value(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    telling = tell(2);
    truly(telling, 2, "a")->kv->value = bytes("2");
    say(telling);
    complains("an event with other values");
}

static void another_kind(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(5, false);
    say(tell(4));
    telling = tell(5);
    truly(telling, 5, "a")->kind = KV__EVENT_KIND__EVENT_EXPIRE;
    truly(telling, 5, "b");
    say(telling);
    complains("an event of another kind");
}

static void no_previous_value(void **state)
{
    (void)state;
    four_revisions();
    watch(4, true);
    say(tell(3));
    say_event(4, "a");
    complains("another previous value");
}

static void a_previous_value_that_nobody_wants(void **state)
{
    struct telling *telling;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    telling = tell(2);
    kv__key_value__init(&telling->previous[0]);
    truly(telling, 2, "a")->previous = &telling->previous[0];
    say(telling);
    complains("another previous value");
}

static void begins_elsewhere(void **state)
{
    (void)state;
    four_revisions();
    watch(3, false);
    say(tell(3));
    complains("it begins elsewhere");
}

static void now_is_in_the_past(void **state)
{
    (void)state;
    four_revisions();
    watch(0, false);
    followed.known = 5;
    say(tell(4));
    complains("it begins elsewhere");
}

static void an_event_before_the_beginning(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say_event(2, "a");
    complains("its first item has events");
}

static void the_end_is_dropped(void **state)
{
    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    complains("an event has not come, though there was time");
}

static void an_end_that_is_not_due(void **state)
{
    Kv__Hint hint = KV__HINT__INIT;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    hint.oldest_revision = 2;
    followed_end(&followed, KV_COMPACTED, &hint);
    complains("which it does not need");
}

static void a_compaction_that_never_was(void **state)
{
    Kv__Hint hint = KV__HINT__INIT;

    (void)state;
    four_revisions();
    watch(2, false);
    say(tell(1));
    say_event(2, "a");
    hint.oldest_revision = 4;
    followed_end(&followed, KV_COMPACTED, &hint);
    complains("nothing was compacted so far");
}

static void say_field(const char *name, const char *value)
{
    struct telling *telling = tell(3);
    Kv__HashField field = KV__HASH_FIELD__INIT;
    Kv__HashField *fields[] = {&field};
    Kv__Event *event;

    add("h", "x", "1");
    add("h", "y", "2");
    watch(3, false);
    say(tell(2));
    telling = tell(3);
    event = truly(telling, 3, "h");
    field.name = bytes(name);
    field.value = bytes(value);
    event->n_fields = 1;
    event->fields = fields;
    say(telling);
}

static void a_field_is_told(void **state)
{
    (void)state;
    say_field("y", "2");
    is_content();
}

static void another_field_is_told(void **state)
{
    (void)state;
    say_field("y", "3");
    complains("an event with other elements");
}

static void a_field_is_not_told(void **state)
{
    (void)state;
    add("h", "x", "1");
    watch(2, false);
    say(tell(1));
    say_event(2, "h");
    complains("an event with other elements");
}

/* a and b end by time in one revision, a sooner. */
static void two_ends(const char *first, const char *second)
{
    struct telling *telling;

    four_revisions();
    for (size_t i = 0; i < truth.n_events; i++) {
        truth.events[i].by_time = truth.events[i].revision == 5;
        truth.events[i].deadline_ms = 10 + (int64_t)truth.events[i].key.data[0];
    }
    watch(5, false);
    say(tell(4));
    telling = tell(5);
    truly(telling, 5, first);
    truly(telling, 5, second);
    say(telling);
}

static void ends_in_their_order(void **state)
{
    (void)state;
    two_ends("a", "b");
    is_content();
}

static void ends_in_another_order(void **state)
{
    (void)state;
    two_ends("b", "a");
    complains("what ended later was told sooner");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_good_stream),
        WITH(an_event_is_missing),
        WITH(progress_overtakes),
        WITH(an_event_comes_twice),
        WITH(an_event_comes_twice_in_an_item),
        WITH(half_a_revision),
        WITH(half_a_revision_in_fragments),
        WITH(a_fragment_that_claims_too_much),
        WITH(an_event_beyond_its_item),
        WITH(events_run_back),
        WITH(progress_runs_back),
        WITH(an_invented_event),
        WITH(progress_into_the_future),
        WITH(another_value),
        WITH(another_kind),
        WITH(no_previous_value),
        WITH(a_previous_value_that_nobody_wants),
        WITH(begins_elsewhere),
        WITH(now_is_in_the_past),
        WITH(an_event_before_the_beginning),
        WITH(the_end_is_dropped),
        WITH(an_end_that_is_not_due),
        WITH(a_compaction_that_never_was),
        WITH(a_field_is_told),
        WITH(another_field_is_told),
        WITH(a_field_is_not_told),
        WITH(ends_in_their_order),
        WITH(ends_in_another_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
