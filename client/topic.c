/* The typed calls on topics; subscriptions are in streams.c. */
#include "client/typed.h"

#include <kv/topic.h>
#include <stdlib.h>

int kv_publish(struct kv_client *client,
               struct kv_bytes topic,
               struct kv_bytes payload,
               const struct kv_call_options *options,
               int64_t *ret_revision,
               struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__Publish command = KV__PUBLISH__INIT;
    Kv__Reply *reply;
    int status;

    command.topic = kv_bytes_to_proto(topic);
    command.payload = kv_bytes_to_proto(payload);
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_PUBLISH, &command, &reply);
    if (status == 0 && ret_revision) {
        *ret_revision = reply->publish->revision;
    }
    kv_reply_free(reply);
    return status;
}

int kv_topic_list(struct kv_client *client,
                  struct kv_bytes prefix,
                  struct kv_bytes cursor,
                  uint64_t limit,
                  const struct kv_call_options *options,
                  struct kv_topic_list *ret_list,
                  struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__TopicList command = KV__TOPIC_LIST__INIT;
    const Kv__TopicListResult *result;
    struct kv_topic_info *topics;
    Kv__Reply *reply;
    int status;

    command.prefix = kv_bytes_to_proto(prefix);
    command.cursor = kv_bytes_to_proto(cursor);
    command.limit = limit;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_TOPIC_LIST, &command, &reply);
    if (status < 0) {
        return status;
    }
    result = reply->topic_list;
    topics = calloc(result->n_topics + 1, sizeof *topics);
    if (!topics) {
        kv_reply_free(reply);
        return kv_typed_no_memory(&typed);
    }
    for (size_t i = 0; i < result->n_topics; i++) {
        const Kv__TopicInfo *info = result->topics[i];

        topics[i] = (struct kv_topic_info){
            .topic = {info->topic.data, info->topic.len},
            .subscribers = info->subscribers,
            .messages = info->messages,
            .bytes = info->bytes,
            .newest_revision = info->newest_revision,
        };
    }
    *ret_list = (struct kv_topic_list){
        .n_topics = result->n_topics,
        .topics = topics,
        .more = result->more,
        .memory = reply,
    };
    return 0;
}

void kv_topic_list_free(struct kv_topic_list *list)
{
    if (list) {
        kv_reply_free(list->memory);
        free(list->topics);
        *list = (struct kv_topic_list){0};
    }
}
