/* Events and messages on paper: a line each. */
#include "client/kvctl/stream.h"

#include <inttypes.h>
#include <kv/topic.h>
#include <kv/watch.h>
#include <math.h>

/* ---------------------------------------------------------------- text */

static void print_changes(FILE *file, const struct kv_event *event)
{
    for (size_t i = 0; i < event->n_fields; i++) {
        fputc(' ', file);
        kvctl_print_escaped(file, event->fields[i].name);
        fputc('=', file);
        kvctl_print_escaped(file, event->fields[i].value);
    }
    for (size_t i = 0; i < event->n_elements; i++) {
        fputs(" +", file);
        kvctl_print_escaped(file, event->elements[i]);
    }
    for (size_t i = 0; i < event->n_members; i++) {
        fputc(' ', file);
        kvctl_print_escaped(file, event->members[i].member);
        fputc('=', file);
        kvctl_print_score(file, event->members[i].score);
    }
    for (size_t i = 0; i < event->n_removed; i++) {
        fputs(" -", file);
        kvctl_print_escaped(file, event->removed[i]);
    }
}

static void print_text(FILE *file, const struct kv_event *event)
{
    fprintf(file, "%" PRId64 "\t%s\t", event->pair.mod_revision, kv_event_kind_name(event->kind));
    kvctl_print_escaped(file, event->pair.key);
    if (event->kind == KV_EVENT_PUT) {
        fputc('\t', file);
        kvctl_print_text_value(file, &event->pair);
        print_changes(file, event);
    }
    if (event->previous) {
        fputs("\t(before: ", file);
        kvctl_print_text_value(file, event->previous);
        fputc(')', file);
    }
    fputc('\n', file);
}

/* ---------------------------------------------------------------- JSON */

static void print_json_list(FILE *file, const char *name, const struct kv_bytes *list, size_t n)
{
    if (n == 0) {
        return;
    }
    fprintf(file, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ",{" : "{", file);
        kvctl_print_json_bytes(file, "name", list[i]);
        fputc('}', file);
    }
    fputc(']', file);
}

static void print_json_fields(FILE *file, const struct kv_event *event)
{
    fputs(event->n_fields ? ",\"fields\":[" : "", file);
    for (size_t i = 0; i < event->n_fields; i++) {
        fputs(i ? ",{" : "{", file);
        kvctl_print_json_bytes(file, "name", event->fields[i].name);
        fputc(',', file);
        kvctl_print_json_bytes(file, "value", event->fields[i].value);
        fputc('}', file);
    }
    fputs(event->n_fields ? "]" : "", file);
}

static void print_json_members(FILE *file, const struct kv_event *event)
{
    fputs(event->n_members ? ",\"members\":[" : "", file);
    for (size_t i = 0; i < event->n_members; i++) {
        fputs(i ? ",{" : "{", file);
        kvctl_print_json_bytes(file, "member", event->members[i].member);
        fputs(isinf(event->members[i].score) ? ",\"score\":\"" : ",\"score\":", file);
        kvctl_print_score(file, event->members[i].score);
        fputs(isinf(event->members[i].score) ? "\"}" : "}", file);
    }
    fputs(event->n_members ? "]" : "", file);
}

static void print_json(FILE *file, const struct kv_event *event)
{
    fprintf(file,
            "{\"kind\":\"%s\",\"revision\":%" PRId64 ",",
            kv_event_kind_name(event->kind),
            event->pair.mod_revision);
    kvctl_print_json_bytes(file, "key", event->pair.key);
    if (event->kind == KV_EVENT_PUT) {
        fputs(",\"kv\":", file);
        kvctl_print_json_pair(file, &event->pair, false);
    }
    if (event->previous) {
        fputs(",\"previous\":", file);
        kvctl_print_json_pair(file, event->previous, false);
    }
    print_json_fields(file, event);
    print_json_list(file, "elements", event->elements, event->n_elements);
    print_json_members(file, event);
    print_json_list(file, "removed", event->removed, event->n_removed);
    fputs(event->replaced ? ",\"replaced\":true}\n" : "}\n", file);
}

void kvctl_print_event(FILE *file, const struct kv_event *event, enum kvctl_format format)
{
    switch (format) {
    case KVCTL_TEXT:
        print_text(file, event);
        break;
    case KVCTL_JSON:
        print_json(file, event);
        break;
    case KVCTL_VALUE:
        kvctl_print_raw(file, event->pair.value);
        fputc('\n', file);
        break;
    }
}

void kvctl_print_message(FILE *file, const struct kv_message *message, enum kvctl_format format)
{
    switch (format) {
    case KVCTL_TEXT:
        fprintf(file, "%" PRId64 "\t", message->revision);
        kvctl_print_escaped(file, message->topic);
        fputc('\t', file);
        kvctl_print_text(file, message->payload);
        fputc('\n', file);
        break;
    case KVCTL_JSON:
        fprintf(file, "{\"revision\":%" PRId64 ",", message->revision);
        kvctl_print_json_bytes(file, "topic", message->topic);
        fputc(',', file);
        kvctl_print_json_bytes(file, "payload", message->payload);
        fputs("}\n", file);
        break;
    case KVCTL_VALUE:
        kvctl_print_raw(file, message->payload);
        fputc('\n', file);
        break;
    }
}

int kvctl_stream_trouble(struct kvctl *kvctl, const struct kv_error *error)
{
    int code = kvctl_fail(kvctl, error);

    if (error->status != KV_NO_LEADER) {
        return code;
    }
    fprintf(kvctl->err, "kvctl %s: going on when there is one\n", kvctl->args.command->name);
    return KVCTL_OK;
}

int kvctl_stream_wait_start(struct kvctl *kvctl,
                            int (*started)(void *stream,
                                           unsigned timeout_ms,
                                           struct kv_error *ret_error),
                            void *stream)
{
    const unsigned deadline_ms = kvctl_call_options(kvctl).deadline_ms;
    unsigned left_ms = deadline_ms;
    struct kv_error error;
    int status;

    do {
        unsigned slice_ms = left_ms < KVCTL_LOOK_MS ? left_ms : KVCTL_LOOK_MS;

        status = started(stream, slice_ms, &error);
        if (kvctl_interrupted()) {
            return kvctl_interrupt_code();
        }
        left_ms -= slice_ms;
    } while (status == KV_DEADLINE && left_ms > 0);
    if (status == KV_DEADLINE) {
        status = kv_error_set(&error,
                              KV_DEADLINE,
                              "no server has begun it within %u ms (--timeout): a majority of the "
                              "nodes must be up",
                              deadline_ms);
    }
    return status < 0 ? kvctl_fail(kvctl, &error) : KVCTL_OK;
}
