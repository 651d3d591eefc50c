/* kvctl subscribe: messages to lines. */
#include "client/kvctl/stream.h"

#include <inttypes.h>
#include <kv/topic.h>

static int make_options(struct kvctl *kvctl, struct kv_subscribe_options *ret_options)
{
    const struct kvctl_args *args = &kvctl->args;
    bool pattern = args->set[KVCTL_PATTERN];

    if (pattern == (args->n_arguments == 1)) {
        return kvctl_usage(kvctl, "subscribe wants TOPIC, or --pattern GLOB");
    }
    if (args->set[KVCTL_LAST] && args->set[KVCTL_START_REVISION]) {
        return kvctl_usage(kvctl, "subscribe takes one of --last and --rev");
    }
    *ret_options = (struct kv_subscribe_options){
        .topic = pattern ? kv_bytes_str(args->strings[KVCTL_PATTERN]) : kvctl_argument(kvctl, 0),
        .pattern = pattern,
        .start_revision = args->numbers[KVCTL_START_REVISION],
        .last = (uint64_t)args->numbers[KVCTL_LAST],
        .require_leader_ms = KVCTL_AWAY_MS,
    };
    return KVCTL_OK;
}

static void tell_gap(struct kvctl *kvctl, const struct kv_message_batch *batch)
{
    if (batch->gap_from == 0) {
        return;
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out,
                "{\"gap_from\":%" PRId64 ",\"gap_to\":%" PRId64 "}\n",
                batch->gap_from,
                batch->gap_to);
        return;
    }
    fprintf(kvctl->err,
            "kvctl subscribe: messages of revisions %" PRId64 " to %" PRId64
            " may be missing: they are not kept any more\n",
            batch->gap_from,
            batch->gap_to);
}

static int follow(struct kvctl *kvctl, struct kv_subscription *subscription)
{
    int64_t left = kvctl->args.set[KVCTL_COUNT] ? kvctl->args.numbers[KVCTL_COUNT] : INT64_MAX;

    while (left > 0) {
        struct kv_message_batch *batch;
        struct kv_error error;
        int status = kv_subscription_next(subscription, KVCTL_LOOK_MS, &batch, &error);

        int code = status < 0 ? kvctl_stream_trouble(kvctl, &error) : KVCTL_OK;

        if (code != KVCTL_OK) {
            return code;
        }
        if (status == 1) {
            tell_gap(kvctl, batch);
            for (size_t i = 0; i < batch->n_messages && left > 0; i++) {
                kvctl_print_message(kvctl->out, &batch->messages[i], kvctl->args.format);
                left--;
            }
            kv_message_batch_free(batch);
            if (fflush(kvctl->out) != 0 || ferror(kvctl->out)) {
                /* Whoever read has gone. */
                return KVCTL_LOCAL;
            }
        }
        if (kvctl_interrupted()) {
            return kvctl_interrupt_code();
        }
    }
    return KVCTL_OK;
}

static int ask_started(void *subscription, unsigned timeout_ms, struct kv_error *ret_error)
{
    return kv_subscription_started(subscription, timeout_ms, NULL, ret_error);
}

int kvctl_run_subscribe(struct kvctl *kvctl)
{
    struct kv_subscribe_options options;
    struct kv_subscription *subscription;
    struct kv_error error;
    int code = make_options(kvctl, &options);

    if (code != KVCTL_OK) {
        return code;
    }
    if (kv_subscribe(kvctl->client, &options, &subscription, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    kvctl_interrupts_begin();
    code = kvctl_stream_wait_start(kvctl, ask_started, subscription);
    if (code == KVCTL_OK) {
        code = follow(kvctl, subscription);
    }
    kvctl_interrupts_end();
    kv_subscription_close(subscription);
    return code;
}
