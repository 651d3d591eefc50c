/* Judges a history that a test of real processes recorded.
 *
 *     kv_check_history FILE        ("-": standard input)
 *
 * A line of FILE is one operation, as a JSON object:
 *
 *     client   number: who asked
 *     node     number: who answered (a node that was started anew has a new one); may be missing
 *     begin    ns of a clock that all clients share
 *     end      likewise; missing: there was no answer
 *     request  kv.Request of kv.proto, packed, in hexadecimal
 *     reply    kv.Reply, likewise; missing with a stream, or without an answer
 *     items    of a stream: kv.StreamItem, likewise, the last with its end
 *
 * Operations in any order. When an end and a begin have the same time, they overlap. Prints one
 * line of numbers and, if it is so, what is wrong. Exit code: 0 good, 1 bad, 2 wrong usage or an
 * unreadable file, 3 a limit was reached before it was decided. */
#include "tests/sim/check.h"

#include "common/assert.h"
#include "common/limits.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_BAD = 1, EXIT_USAGE = 2, EXIT_GAVE_UP = 3 };
#define HISTORY_BYTES_MAX (2048 * KV_MIB)

struct record {
    json_t *object;
    size_t op;
};

struct event {
    int64_t time_ns;
    bool is_end;
    size_t record;
};

struct records {
    struct record *list;
    size_t count;
    size_t capacity;
};

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The message, to be freed with protobuf-c; NULL: it is none. */
static void *decode(const json_t *hex, const ProtobufCMessageDescriptor *descriptor)
{
    const char *text = json_string_value(hex);
    size_t size = text ? strlen(text) / 2 : 0;
    uint8_t *bytes = malloc(size ? size : 1);
    void *message = NULL;

    KV_ASSERT(bytes);
    for (size_t i = 0; i < size; i++) {
        int high = digit(text[2 * i]);
        int low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            goto out;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (text && strlen(text) % 2 == 0) {
        message = protobuf_c_message_unpack(descriptor, NULL, size, bytes);
    }
out:
    free(bytes);
    return message;
}

static bool is_complete(const json_t *object)
{
    return json_is_integer(json_object_get(object, "client")) &&
           json_is_integer(json_object_get(object, "begin")) &&
           json_is_string(json_object_get(object, "request"));
}

/* 0, or the number of the bad line. */
static size_t read_records(FILE *file, struct records *records)
{
    char *line = NULL;
    size_t room = 0;
    size_t number = 0;
    size_t bad = 0;
    ssize_t size;

    while (bad == 0 && (size = getline(&line, &room, file)) > 0) {
        json_error_t error;
        json_t *object = json_loadb(line, (size_t)size, 0, &error);

        number++;
        if (records->count == records->capacity) {
            records->capacity = records->capacity ? 2 * records->capacity : 1024;
            records->list = realloc(records->list, records->capacity * sizeof *records->list);
            KV_ASSERT(records->list);
        }
        if (!object || !is_complete(object)) {
            json_decref(object);
            bad = number;
        } else {
            records->list[records->count++] = (struct record){.object = object};
        }
    }
    free(line);
    return bad;
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a;
    const struct event *y = b;

    if (x->time_ns != y->time_ns) {
        return x->time_ns < y->time_ns ? -1 : 1;
    }
    if (x->is_end != y->is_end) {
        return x->is_end ? 1 : -1;
    }
    return x->record < y->record ? -1 : x->record > y->record;
}

static struct event *sort_events(const struct records *records, size_t *ret_count)
{
    struct event *events = malloc((2 * records->count + 1) * sizeof *events);
    size_t n = 0;

    KV_ASSERT(events);
    for (size_t i = 0; i < records->count; i++) {
        const json_t *end = json_object_get(records->list[i].object, "end");

        events[n++] = (struct event){
            json_integer_value(json_object_get(records->list[i].object, "begin")), false, i};
        if (json_is_integer(end)) {
            events[n++] = (struct event){json_integer_value(end), true, i};
        }
    }
    qsort(events, n, sizeof *events, compare_events);
    *ret_count = n;
    return events;
}

static int begin_record(struct kv_history *history, struct record *record, int64_t time_ns)
{
    Kv__Request *request =
        decode(json_object_get(record->object, "request"), &kv__request__descriptor);
    int status = KV_INVALID;

    if (request) {
        status = kv_history_begin(
            history,
            (uint64_t)json_integer_value(json_object_get(record->object, "client")),
            time_ns,
            request,
            &record->op);
        kv__request__free_unpacked(request, NULL);
    }
    return status;
}

/* Gives the status that the last item ends with. */
static int add_items(struct kv_history *history, const struct record *record, int *ret_end)
{
    const json_t *items = json_object_get(record->object, "items");
    int status = 0;

    for (size_t i = 0; i < json_array_size(items) && status == 0; i++) {
        Kv__StreamItem *item = decode(json_array_get(items, i), &kv__stream_item__descriptor);

        if (!item) {
            return KV_INVALID;
        }
        *ret_end = -(int)item->code;
        status = kv_history_item(history, record->op, item);
        kv__stream_item__free_unpacked(item, NULL);
    }
    return status;
}

static int end_record(struct kv_history *history, const struct record *record, int64_t time_ns)
{
    const json_t *hex = json_object_get(record->object, "reply");
    Kv__Reply *reply = hex ? decode(hex, &kv__reply__descriptor) : NULL;
    int end = reply ? -(int)reply->code : 0;
    int status = KV_INVALID;

    if (!hex || reply) {
        status = add_items(history, record, &end);
    }
    if (status == 0) {
        status =
            kv_history_end(history,
                           record->op,
                           time_ns,
                           (uint64_t)json_integer_value(json_object_get(record->object, "node")),
                           end,
                           reply);
    }
    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
    return status;
}

/* Replays the records as if they happened now. */
static int fill(struct kv_history *history, struct records *records)
{
    size_t n = 0;
    struct event *events = sort_events(records, &n);
    int status = 0;

    for (size_t i = 0; i < n && status == 0; i++) {
        struct record *record = &records->list[events[i].record];

        status = events[i].is_end ? end_record(history, record, events[i].time_ns)
                                  : begin_record(history, record, events[i].time_ns);
        if (status != 0) {
            fprintf(stderr,
                    "kv_check_history: operation %zu: %s\n",
                    events[i].record + 1,
                    kv_status_text(status));
        }
    }
    free(events);
    return status;
}

static int judge(const struct kv_history *history)
{
    /* Whoever waits for a file's verdict can wait a little longer than the simulator. */
    static const struct kv_check_options options = {.steps_max = 50000000, .memo_max = 4u << 20};
    static struct kv_report report;

    kv_check_history(history, &options, &report);
    kv_report_print(&report, stdout);
    fputs(report.text, stdout);
    switch (report.verdict) {
    case KV_VERDICT_GOOD:
        return 0;
    case KV_VERDICT_GAVE_UP:
        return EXIT_GAVE_UP;
    default:
        return EXIT_BAD;
    }
}

int main(int argc, char **argv)
{
    FILE *file = NULL;
    struct records records = {0};
    struct kv_history *history = NULL;
    int code = EXIT_USAGE;
    size_t bad_line;

    if (argc != 2 || strcmp(argv[1], "--help") == 0) {
        fprintf(argc == 2 ? stdout : stderr, "Usage: kv_check_history FILE (\"-\": input)\n");
        return argc == 2 ? 0 : EXIT_USAGE;
    }
    file = strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "r");
    if (!file) {
        perror(argv[1]);
        goto out;
    }
    bad_line = read_records(file, &records);
    if (bad_line != 0) {
        fprintf(stderr, "kv_check_history: line %zu is no operation\n", bad_line);
        goto out;
    }
    if (kv_history_open(records.count + 1, HISTORY_BYTES_MAX, &history) == 0 &&
        fill(history, &records) == 0) {
        code = judge(history);
    }
out:
    kv_history_close(history);
    for (size_t i = 0; i < records.count; i++) {
        json_decref(records.list[i].object);
    }
    free(records.list);
    if (file && file != stdin) {
        fclose(file);
    }
    return code;
}
