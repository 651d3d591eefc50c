/* kvctl watch: events to lines, or to commands. */
#include "client/kvctl/stream.h"

#include <kv/keys.h>
#include <kv/watch.h>
#include <string.h>

/* ---------------------------------------------------------------- words */

static int parse_kinds(struct kvctl *kvctl, unsigned *ret_kinds)
{
    const char *text = kvctl->args.strings[KVCTL_KINDS];

    *ret_kinds = 0;
    while (text && *text) {
        size_t size = strcspn(text, ",");
        unsigned kind = KV_EVENT_PUT;

        while (kind <= KV_EVENT_EXPIRE && (strlen(kv_event_kind_name(kind)) != size ||
                                           strncmp(kv_event_kind_name(kind), text, size) != 0)) {
            kind++;
        }
        if (kind > KV_EVENT_EXPIRE) {
            return kvctl_usage(kvctl,
                               "watch: --kinds wants put, delete or expire, separated by commas, "
                               "not \"%.100s\"",
                               text);
        }
        *ret_kinds |= 1U << kind;
        text += size + (text[size] == ',');
    }
    if (kvctl->args.set[KVCTL_KINDS] && *ret_kinds == 0) {
        return kvctl_usage(kvctl, "watch: --kinds names no kind");
    }
    return KVCTL_OK;
}

static int make_options(struct kvctl *kvctl, struct kv_watch_options *ret_options)
{
    const struct kvctl_args *args = &kvctl->args;
    struct kv_watch_options options = {
        .start_revision = args->numbers[KVCTL_START_REVISION],
        .with_previous = args->set[KVCTL_PREV],
        .keys_only = args->set[KVCTL_KEYS_ONLY],
        .require_leader_ms = KVCTL_AWAY_MS,
    };
    int code = parse_kinds(kvctl, &options.kinds);

    if (code != KVCTL_OK) {
        return code;
    }
    if (args->set[KVCTL_ALL] == (args->n_arguments == 1) ||
        (args->set[KVCTL_ALL] && args->set[KVCTL_IS_PREFIX])) {
        return kvctl_usage(kvctl, "watch wants KEY, KEY --prefix, or --all");
    }
    if (args->set[KVCTL_ALL]) {
        options.range.kind = KV_RANGE_ALL;
    } else {
        options.range.start = kvctl_argument(kvctl, 0);
        options.range.kind = args->set[KVCTL_IS_PREFIX] ? KV_RANGE_PREFIX : KV_RANGE_KEY;
    }
    *ret_options = options;
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- commands */

static int exec_event(struct kvctl *kvctl, const struct kv_event *event)
{
    struct kvctl_variables variables;
    FILE *input = tmpfile();
    int code;

    if (!input) {
        fprintf(kvctl->err, "kvctl watch: no temporary file for the command's input\n");
        return KVCTL_LOCAL;
    }
    kvctl_variables_init(&variables);
    kvctl_variables_set(&variables, "KV_EVENT_KIND", kv_bytes_str(kv_event_kind_name(event->kind)));
    kvctl_variables_set(&variables, "KV_EVENT_KEY", event->pair.key);
    kvctl_variables_set_number(&variables, "KV_EVENT_REVISION", event->pair.mod_revision);
    if (event->kind == KV_EVENT_PUT) {
        kvctl_variables_set(&variables, "KV_EVENT_VALUE", event->pair.value);
        kvctl_variables_set(
            &variables, "KV_EVENT_TYPE", kv_bytes_str(kv_type_name(event->pair.type)));
        kvctl_variables_set_number(&variables, "KV_EVENT_VERSION", event->pair.version);
    }
    if (event->previous) {
        kvctl_variables_set(&variables, "KV_EVENT_PREVIOUS", event->previous->value);
    }
    kvctl_print_event(input, event, KVCTL_JSON);
    code = kvctl_exec(kvctl, kvctl->args.strings[KVCTL_EXEC], &variables, input);
    kvctl_variables_deinit(&variables);
    fclose(input);
    return code;
}

/* ---------------------------------------------------------------- the stream */

/* KVCTL_OK, or why it is over. *left: events until the end, of those of --count. */
static int tell(struct kvctl *kvctl, const struct kv_event_batch *batch, int64_t *left)
{
    int code = KVCTL_OK;

    for (size_t i = 0; i < batch->n_events && code == KVCTL_OK && *left > 0; i++) {
        if (kvctl->args.set[KVCTL_EXEC]) {
            code = exec_event(kvctl, &batch->events[i]);
        } else {
            kvctl_print_event(kvctl->out, &batch->events[i], kvctl->args.format);
        }
        --*left;
        if (kvctl_interrupted()) {
            return kvctl_interrupt_code();
        }
    }
    if (fflush(kvctl->out) != 0 || ferror(kvctl->out)) {
        /* Whoever read has gone. */
        return KVCTL_LOCAL;
    }
    return code;
}

static int follow(struct kvctl *kvctl, struct kv_watch *watch)
{
    int64_t left = kvctl->args.set[KVCTL_COUNT] ? kvctl->args.numbers[KVCTL_COUNT] : INT64_MAX;
    int code = KVCTL_OK;

    while (code == KVCTL_OK && left > 0) {
        struct kv_event_batch *batch;
        struct kv_error error;
        int status = kv_watch_next(watch, KVCTL_LOOK_MS, &batch, &error);

        if (status < 0) {
            code = kvctl_stream_trouble(kvctl, &error);
        } else if (status == 1) {
            code = tell(kvctl, batch, &left);
            kv_event_batch_free(batch);
        }
        if (code == KVCTL_OK && kvctl_interrupted()) {
            code = kvctl_interrupt_code();
        }
    }
    return code;
}

static int ask_started(void *watch, unsigned timeout_ms, struct kv_error *ret_error)
{
    return kv_watch_started(watch, timeout_ms, NULL, ret_error);
}

int kvctl_run_watch(struct kvctl *kvctl)
{
    struct kv_watch_options options;
    struct kv_watch *watch;
    struct kv_error error;
    int code = make_options(kvctl, &options);

    if (code != KVCTL_OK) {
        return code;
    }
    if (kv_watch_open(kvctl->client, &options, &watch, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    kvctl_interrupts_begin();
    code = kvctl_stream_wait_start(kvctl, ask_started, watch);
    if (code == KVCTL_OK) {
        code = follow(kvctl, watch);
    }
    kvctl_interrupts_end();
    kv_watch_close(watch);
    return code;
}
