/* Negative controls of the judgement on topics. */
#include "tests/sim/follow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* after the four above */
#include <cmocka.h>

static struct checkers checkers;
static struct truth truth;

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

static struct followed followed;

static int set_up(void **state)
{
    (void)state;
    checkers_init(&checkers, 1);
    truth_init(&truth);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    checkers_deinit(&checkers);
    truth_deinit(&truth);
    followed_deinit(&followed);
    return 0;
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

/* Messages 1 to 4 of topic t, or u, at revisions 2, 3, 3 and 4. */
static void four_messages(void)
{
    static const char *const topics[] = {"t/a", "t/a", "u", "t/b"};
    static const char *const payloads[] = {"1", "2", "3", "4"};
    static const int64_t revisions[] = {2, 3, 3, 4};

    for (size_t i = 0; i < 4; i++) {
        Kv__Publish publish = KV__PUBLISH__INIT;

        publish.topic = bytes(topics[i]);
        publish.payload = bytes(payloads[i]);
        truth_message(&truth, revisions[i], &publish);
    }
    truth.revision = 4;
}

static void subscribe(const char *pattern, int64_t start_revision, uint64_t last)
{
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.topic = bytes(pattern);
    command.pattern = true;
    command.start_revision = start_revision;
    command.last = last;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &command;
    followed_init(&followed, 1, &request, 4);
}

/* The messages whose numbers are in the text, and a gap. */
static void hear(int64_t revision, const char *numbers, int64_t gap_from, int64_t gap_to)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    Kv__TopicMessages messages = KV__TOPIC_MESSAGES__INIT;
    Kv__TopicMessage list[4];
    Kv__TopicMessage *pointers[4];

    for (; *numbers; numbers++) {
        const struct true_message *truly = &truth.messages[*numbers - '1'];
        size_t n = messages.n_messages++;

        kv__topic_message__init(&list[n]);
        list[n].revision = truly->revision;
        list[n].topic =
            (ProtobufCBinaryData){truly->topic.size, (uint8_t *)(uintptr_t)truly->topic.data};
        list[n].payload =
            (ProtobufCBinaryData){truly->payload.size, (uint8_t *)(uintptr_t)truly->payload.data};
        pointers[n] = &list[n];
    }
    messages.messages = pointers;
    messages.gap_from = gap_from;
    messages.gap_to = gap_to;
    messages.revision = revision;
    item.item_case = KV__STREAM_ITEM__ITEM_TOPIC;
    item.topic = &messages;
    followed_item(&followed, &item);
}

static void messages_in_order(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(2, "1", 0, 0);
    hear(4, "234", 0, 0);
    is_content();
}

static void messages_of_a_pattern(void **state)
{
    (void)state;
    four_messages();
    subscribe("t/*", 3, 0);
    hear(2, "", 0, 0);
    hear(4, "24", 0, 0);
    is_content();
}

static void another_order_of_messages(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(3, "132", 0, 0);
    complains("another message than the next one");
}

static void a_message_comes_twice(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(2, "1", 0, 0);
    hear(3, "123", 0, 0);
    complains("another message than the next one");
}

static void a_message_is_lost_silently(void **state)
{
    (void)state;
    truth.retention.messages = 1;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(3, "23", 0, 0);
    complains("another message than the next one");
}

static void a_gap_is_named(void **state)
{
    (void)state;
    truth.retention.messages = 1;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(3, "23", 2, 2);
    hear(4, "4", 0, 0);
    is_content();
}

static void a_gap_that_retention_does_not_explain(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(3, "23", 2, 2);
    complains("another message than the next one");
}

static void progress_overtakes_a_message(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    hear(4, "123", 0, 0);
    complains("progress overtakes a message");
}

static void the_last_messages(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 0, 2);
    hear(2, "", 0, 0);
    hear(4, "34", 0, 0);
    is_content();
}

static void more_than_the_last_messages(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 0, 1);
    hear(1, "", 0, 0);
    complains("it begins before the last messages");
}

static void messages_do_not_come(void **state)
{
    (void)state;
    four_messages();
    subscribe("*", 2, 0);
    hear(1, "", 0, 0);
    complains("a message has not come, though there was time");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(messages_in_order),
        WITH(messages_of_a_pattern),
        WITH(another_order_of_messages),
        WITH(a_message_comes_twice),
        WITH(a_message_is_lost_silently),
        WITH(a_gap_is_named),
        WITH(a_gap_that_retention_does_not_explain),
        WITH(progress_overtakes_a_message),
        WITH(the_last_messages),
        WITH(more_than_the_last_messages),
        WITH(messages_do_not_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
