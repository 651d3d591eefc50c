/* Followed streams against servers played by a test: what is asked of a server, and what a program
 * hears, as text. Of a test; includes client_play.h. */
#ifndef KV_TESTS_SUPPORT_FOLLOW_PLAY_H
#define KV_TESTS_SUPPORT_FOLLOW_PLAY_H

#include "tests/support/client_play.h"

#include "client/follow.h"

/* What the program hears: "<4>" started behind revision 4; "[a@5 b@5|5]" a batch with its events
 * and revision, with "+" behind it a fragment; "[gap 3-7|7]"; "(9)" progress that is told;
 * "!COMPACTED:8" the end, with the oldest revision; "?NO_LEADER" trouble that goes on. */
struct heard {
    char text[4096];
    struct kv_follow *follow;
    struct play *play;
    bool is_topic;
    bool close_inside;
};

static inline void hear(struct heard *heard, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline void hear(struct heard *heard, const char *format, ...)
{
    size_t used = strlen(heard->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(heard->text + used, sizeof heard->text - used, format, arguments);
    va_end(arguments);
}

static inline void close_if_asked(struct heard *heard)
{
    if (heard->close_inside) {
        kv_follow_close(heard->follow, heard->play->now_ns);
        heard->follow = NULL;
    }
}

static inline void heard_piece(void *arg, struct kv_piece *piece)
{
    const struct kv_event_batch *events = &piece->batch.events;
    const struct kv_message_batch *messages = &piece->batch.messages;
    struct heard *heard = arg;
    const char *gap = "";

    hear(heard, "[");
    if (heard->is_topic && messages->gap_from != 0) {
        hear(heard, "gap %lld-%lld", (long long)messages->gap_from, (long long)messages->gap_to);
        gap = " ";
    }
    for (size_t i = 0; i < (heard->is_topic ? messages->n_messages : events->n_events); i++) {
        struct kv_bytes name =
            heard->is_topic ? messages->messages[i].topic : events->events[i].pair.key;
        int64_t revision =
            heard->is_topic ? messages->messages[i].revision : events->events[i].pair.mod_revision;

        hear(heard,
             "%s%.*s@%lld",
             i ? " " : gap,
             (int)name.size,
             (const char *)name.data,
             (long long)revision);
    }
    hear(heard,
         "|%lld%s]",
         (long long)(heard->is_topic ? messages->revision : events->revision),
         (heard->is_topic ? messages->fragment : events->fragment) ? "+" : "");
    free(piece);
    close_if_asked(heard);
}

static inline void heard_progress(void *arg, int64_t revision, bool told)
{
    if (told) {
        hear(arg, "(%lld)", (long long)revision);
    }
}

static inline void heard_started(void *arg, int64_t revision)
{
    hear(arg, "<%lld>", (long long)revision);
}

static inline void
heard_trouble(void *arg, bool goes_on, int64_t oldest_revision, const struct kv_error *error)
{
    hear(arg, "%s%s", goes_on ? "?" : "!", kv_status_name(error->status));
    if (oldest_revision != 0) {
        hear(arg, ":%lld", (long long)oldest_revision);
    }
    close_if_asked(arg);
}

static inline struct kv_follow_fns heard_fns(struct heard *heard)
{
    return (struct kv_follow_fns){heard_piece, heard_progress, heard_started, heard_trouble, heard};
}

static inline void
watch_with(struct play *play, struct kv_watch_options options, struct heard *heard)
{
    struct kv_follow_fns fns = heard_fns(heard);
    struct kv_error error;

    options.range = (struct kv_range_spec){.kind = KV_RANGE_PREFIX, .start = kv_bytes_str("k/")};
    heard->play = play;
    assert_int_equal(
        kv_follow_open(play->session, play->now_ns, &options, NULL, &fns, &heard->follow, &error),
        0);
    drive(play);
}

static inline void watch_from(struct play *play, int64_t start_revision, struct heard *heard)
{
    watch_with(play, (struct kv_watch_options){.start_revision = start_revision}, heard);
}

static inline void
subscribe_with(struct play *play, struct kv_subscribe_options options, struct heard *heard)
{
    struct kv_follow_fns fns = heard_fns(heard);
    struct kv_error error;

    options.topic = kv_bytes_str("t*");
    options.pattern = true;
    heard->play = play;
    heard->is_topic = true;
    assert_int_equal(
        kv_follow_open(play->session, play->now_ns, NULL, &options, &fns, &heard->follow, &error),
        0);
    drive(play);
}

static inline void unfollow(struct heard *heard)
{
    kv_follow_close(heard->follow, heard->play->now_ns);
    heard->follow = NULL;
    drive(heard->play);
}

/* Checks what was heard since the last time. */
static inline void expect(struct heard *heard, const char *text)
{
    assert_string_equal(heard->text, text);
    heard->text[0] = '\0';
}

/* ---------------------------------------------------------------- the server's side */

struct asked {
    uint64_t id; /* 0: nothing was asked */
    int64_t start;
    uint64_t last;
    uint64_t progress_ms;
    unsigned cancels; /* before it */
    uint64_t probe;   /* id of the last question whether it lives, before it; 0: none */
    uint64_t credit;  /* given before it */
};

/* The next stream that is asked for, and what else came before it. */
static inline struct asked take_stream(struct play *play, unsigned endpoint)
{
    struct asked asked = {0};
    struct kv_buf body;
    uint8_t kind;

    kv_buf_init(&body, KV_REQUEST_BYTES_MAX);
    while (asked.id == 0 && (kind = take_frame(play, endpoint, &body)) != 0) {
        if (kind == KV_FRAME_CANCEL) {
            asked.cancels++;
        } else if (kind == KV_FRAME_CREDIT) {
            Kv__Credit *credit = kv__credit__unpack(NULL, body.size, body.data);

            assert_non_null(credit);
            asked.credit += credit->bytes;
            kv__credit__free_unpacked(credit, NULL);
        } else {
            Kv__Request *request = kv__request__unpack(NULL, body.size, body.data);

            assert_int_equal(kind, KV_FRAME_REQUEST);
            assert_non_null(request);
            if (request->command_case == KV__REQUEST__COMMAND_STATUS) {
                asked.probe = request->id;
                kv__request__free_unpacked(request, NULL);
                continue;
            }
            asked.id = request->id;
            assert_int_equal(request->deadline_ms, 0);
            if (request->command_case == KV__REQUEST__COMMAND_WATCH) {
                assert_int_equal(request->watch->credit, KV_CLIENT_STREAM_CREDIT_BYTES);
                asked.start = request->watch->start_revision;
                asked.progress_ms = request->watch->progress_ms;
            } else {
                assert_int_equal(request->command_case, KV__REQUEST__COMMAND_SUBSCRIBE);
                asked.start = request->subscribe->start_revision;
                asked.last = request->subscribe->last;
                asked.progress_ms = request->subscribe->progress_ms;
            }
            kv__request__free_unpacked(request, NULL);
        }
    }
    kv_buf_deinit(&body);
    return asked;
}

enum { PLAYED_EVENTS_MAX = 16 };

/* "name@revision name@revision"; each with so many bytes of value or payload. */
struct played_item {
    int64_t revision;
    bool more;
    const char *events;
    size_t value_bytes;
    int64_t gap_from;
    int64_t gap_to;
};

static inline size_t
parse_events(const struct played_item *item, Kv__KeyValue *kvs, char names[PLAYED_EVENTS_MAX][16])
{
    const char *text = item->events ? item->events : "";
    size_t n = 0;
    int used;
    long long revision;

    while (sscanf(text, " %15[^@ ]@%lld%n", names[n], &revision, &used) == 2) {
        kv__key_value__init(&kvs[n]);
        kvs[n].key = (ProtobufCBinaryData){strlen(names[n]), (uint8_t *)names[n]};
        kvs[n].mod_revision = revision;
        text += used;
        n++;
        assert_true(n < PLAYED_EVENTS_MAX);
    }
    return n;
}

static inline void
send_item(struct play *play, unsigned endpoint, uint64_t id, bool topic, struct played_item played)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    Kv__WatchEvents watch = KV__WATCH_EVENTS__INIT;
    Kv__TopicMessages topics = KV__TOPIC_MESSAGES__INIT;
    char names[PLAYED_EVENTS_MAX][16];
    Kv__KeyValue kvs[PLAYED_EVENTS_MAX];
    Kv__Event events[PLAYED_EVENTS_MAX];
    Kv__Event *event_list[PLAYED_EVENTS_MAX];
    Kv__TopicMessage messages[PLAYED_EVENTS_MAX];
    Kv__TopicMessage *message_list[PLAYED_EVENTS_MAX];
    uint8_t *value = calloc(1, played.value_bytes + 1);
    size_t n = parse_events(&played, kvs, names);

    assert_non_null(value);
    for (size_t i = 0; i < n; i++) {
        kv__event__init(&events[i]);
        kvs[i].value = (ProtobufCBinaryData){played.value_bytes, value};
        events[i].kv = &kvs[i];
        event_list[i] = &events[i];
        kv__topic_message__init(&messages[i]);
        messages[i].topic = kvs[i].key;
        messages[i].payload = kvs[i].value;
        messages[i].revision = kvs[i].mod_revision;
        message_list[i] = &messages[i];
    }
    watch.revision = topics.revision = played.revision;
    watch.n_events = topics.n_messages = n;
    watch.events = event_list;
    topics.messages = message_list;
    topics.gap_from = played.gap_from;
    topics.gap_to = played.gap_to;
    item.id = id;
    item.more_fragments = played.more;
    item.item_case = topic ? KV__STREAM_ITEM__ITEM_TOPIC : KV__STREAM_ITEM__ITEM_WATCH;
    if (topic) {
        item.topic = &topics;
    } else {
        item.watch = &watch;
    }
    answer_frame(play, endpoint, KV_FRAME_STREAM_ITEM, &item);
    free(value);
}

/* Events of whole revisions up to `revision`. */
static inline void
send_events(struct play *play, unsigned endpoint, uint64_t id, int64_t revision, const char *events)
{
    send_item(
        play, endpoint, id, false, (struct played_item){.revision = revision, .events = events});
}

/* Of the last of them more comes. */
static inline void send_fragment(
    struct play *play, unsigned endpoint, uint64_t id, int64_t revision, const char *events)
{
    send_item(play,
              endpoint,
              id,
              false,
              (struct played_item){.revision = revision, .more = true, .events = events});
}

static inline void
end_stream(struct play *play, unsigned endpoint, uint64_t id, Kv__Code code, int64_t oldest)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    Kv__Hint hint = KV__HINT__INIT;

    item.id = id;
    item.end = true;
    item.code = code;
    item.hint = &hint;
    hint.oldest_revision = oldest;
    answer_frame(play, endpoint, KV_FRAME_STREAM_ITEM, &item);
}

#endif
