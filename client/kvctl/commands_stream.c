/* kvctl's commands on topics and streams: publish and topics are here; what stays and prints is in
 * watch.c and subscribe.c. */
#include "client/kvctl/kvctl.h"

#include <inttypes.h>

#define B KVCTL_BIT

static int fill_publish(struct kvctl_call *call)
{
    Kv__Publish *command = kvctl_begin(call, KV__REQUEST__COMMAND_PUBLISH);

    command->topic = kvctl_word(call, 0);
    return kvctl_value(call, 1, &command->payload);
}

static int print_publish(struct kvctl_call *call, const Kv__Reply *reply)
{
    if (call->args->format == KVCTL_JSON) {
        fprintf(call->kvctl->out, "{\"revision\":%" PRId64 "}\n", reply->publish->revision);
    } else if (call->args->format == KVCTL_TEXT) {
        fprintf(call->kvctl->out, "OK, revision %" PRId64 "\n", reply->publish->revision);
    }
    return KVCTL_OK;
}

static int fill_topics(struct kvctl_call *call)
{
    Kv__TopicList *command = kvctl_begin(call, KV__REQUEST__COMMAND_TOPIC_LIST);

    if (call->args->n_arguments > 0) {
        command->prefix = kvctl_word(call, 0);
    }
    command->limit = (uint64_t)call->args->numbers[KVCTL_LIMIT];
    return kvctl_cursor(call, &command->cursor);
}

static int print_topics(struct kvctl_call *call, const Kv__Reply *reply)
{
    const Kv__TopicListResult *result = reply->topic_list;
    bool json = call->args->format == KVCTL_JSON;
    FILE *out = call->kvctl->out;

    fputs(json ? "{\"topics\":[" : "", out);
    for (size_t i = 0; i < result->n_topics; i++) {
        const Kv__TopicInfo *topic = result->topics[i];

        fputs(json ? (i ? ",{" : "{") : "", out);
        kvctl_show_bytes(call, "topic", kv_bytes_of(topic->topic.data, topic->topic.len));
        if (json) {
            fprintf(out,
                    ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"subscribers\":%" PRIu64
                    ",\"newest_revision\":%" PRId64 "}",
                    topic->messages,
                    topic->bytes,
                    topic->subscribers,
                    topic->newest_revision);
        } else if (call->args->format == KVCTL_TEXT) {
            fprintf(out,
                    "\t%" PRIu64 " messages, %" PRIu64 " bytes, %" PRIu64
                    " subscribers here, newest at revision %" PRId64 "\n",
                    topic->messages,
                    topic->bytes,
                    topic->subscribers,
                    topic->newest_revision);
        } else {
            fputc('\n', out);
        }
    }
    fputs(json ? "]" : "", out);
    if (result->more && result->n_topics > 0) {
        kvctl_show_more(call, &result->topics[result->n_topics - 1]->topic);
    }
    if (json) {
        kvctl_show_end(call, reply);
    }
    return KVCTL_OK;
}

static const struct kvctl_command stream_commands[] = {
    {.name = "watch",
     .arguments = "KEY",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_IS_PREFIX) | B(KVCTL_ALL) | B(KVCTL_START_REVISION) | B(KVCTL_PREV) |
                B(KVCTL_KINDS) | B(KVCTL_EXEC) | B(KVCTL_COUNT) | B(KVCTL_KEYS_ONLY),
     .stays = true,
     .summary = "print what happens to a key, or to all that begin with it, as it happens",
     .details =
         "Text: revision, kind (put, delete, expire), key, value; of a collection what changed in "
         "it. Each event is told once, in\norder, also when nodes or connections are lost. With "
         "--rev it begins at that revision, if that is still kept\n(else COMPACTED). --exec runs "
         "a command for each event, one after the other: it finds KV_EVENT_KIND, _KEY, _VALUE,\n"
         "_REVISION, _TYPE, _VERSION and (with --prev) _PREVIOUS in its environment where they fit "
         "there, and all of it as JSON on\nits standard input. Ends with ctrl-C (exit code 130), "
         "or after --count events (0).",
     .example = "kvctl watch config/ --prefix",
     .run = kvctl_run_watch},
    {.name = "publish",
     .arguments = "TOPIC PAYLOAD",
     .min_arguments = 2,
     .max_arguments = 2,
     .writes = true,
     .summary = "append a message to a topic",
     .details = "PAYLOAD is the text itself, - for standard input, @FILE for a file's content, "
                "@@TEXT for @TEXT.\nPrints the revision of the message.",
     .example = "kvctl publish chat/general \"hello, all\"",
     .fill = fill_publish,
     .print = print_publish},
    {.name = "subscribe",
     .arguments = "[TOPIC]",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_PATTERN) | B(KVCTL_LAST) | B(KVCTL_START_REVISION) | B(KVCTL_COUNT),
     .stays = true,
     .summary = "print the messages of a topic, or of all that match a pattern, as they come",
     .details = "Text: revision, topic, payload. --last begins with messages that are kept, --rev "
                "with those of that revision. What\nwas not kept long enough is said on standard "
                "error, in JSON as {\"gap_from\":..,\"gap_to\":..}. Ends with ctrl-C\n(exit code "
                "130), or after --count messages (0).",
     .example = "kvctl subscribe --pattern \"chat/*\" --last 10",
     .run = kvctl_run_subscribe},
    {.name = "topics",
     .arguments = "[PREFIX]",
     .min_arguments = 0,
     .max_arguments = 1,
     .options = B(KVCTL_LIMIT) | B(KVCTL_CURSOR),
     .summary = "list topics and what is kept of them",
     .details = "Subscribers are those on the node that answers.",
     .example = "kvctl topics chat/",
     .fill = fill_topics,
     .print = print_topics},
};
const struct kvctl_group kvctl_stream_group = {"streams: watches and topics",
                                               stream_commands,
                                               sizeof stream_commands / sizeof stream_commands[0]};
