/* Publish and TopicList; what can be told of Subscribe without the state. */
#include "server/machine/command.h"
#include "server/machine/glob.h"

#include <inttypes.h>
#include <string.h>

/* Of one topic of a list besides its name. */
enum { INFO_OVERHEAD_BYTES = 64 };

static int check_topic(ProtobufCBinaryData topic, struct kv_error *ret_error)
{
    if (topic.len == 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "the topic is empty: 1 to %u bytes", KV_KEY_BYTES_MAX);
    }
    if (topic.len > KV_KEY_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the topic has %zu bytes, the limit is %u",
                            topic.len,
                            KV_KEY_BYTES_MAX);
    }
    return 0;
}

int kv_validate_publish(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    const Kv__Publish *command = request->publish;
    int status = check_topic(command->topic, ret_error);

    if (status == 0 && command->payload.len > settings->value_bytes) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the payload has %zu bytes, the limit is %" PRIu64
                            " (setting value-limit)",
                            command->payload.len,
                            settings->value_bytes);
    }
    return status;
}

int kv_run_publish(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Publish *command = request->publish;
    struct kv_slice name = kv_slice_of_proto(command->topic);
    struct kv_topics *topics = &machine->topics;
    struct kv_topic *topic = kv_topics_find(topics, name);

    if (!topic && kv_tree_count(&topics->names) >= machine->settings.topics) {
        answer->hint.limit = (char *)(uintptr_t) "topic-limit";
        answer->hint.limit_value = machine->settings.topics;
        return kv_error_set(&answer->error,
                            KV_BUSY,
                            "there are %" PRIu64 " topics, the limit is %" PRIu64
                            " (setting topic-limit); those without messages go",
                            kv_tree_count(&topics->names),
                            machine->settings.topics);
    }
    if (!topic) {
        topic = kv_topics_add(topics, name, topics->floor);
    }
    kv_topics_publish(topics,
                      topic,
                      machine->revision + 1,
                      machine->cluster_time_ms,
                      kv_slice_of_proto(command->payload),
                      &machine->settings);
    machine->changed = true;
    kv__publish_result__init(&answer->result.publish);
    answer->result.publish.revision = machine->revision + 1;
    KV_ANSWER(answer, PUBLISH, publish, publish);
    return 0;
}

static int check_start(const Kv__Subscribe *command, struct kv_error *ret_error)
{
    if (command->start_revision < 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "revision %" PRId64 " is negative", command->start_revision);
    }
    if (command->start_revision > 0 && command->last > 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "a subscription begins at a revision or with the last messages, not "
                            "both: start_revision %" PRId64 ", last %" PRIu64,
                            command->start_revision,
                            command->last);
    }
    if (command->last > KV_TOPIC_LAST_MAX) {
        return kv_error_set(ret_error,
                            KV_OUT_OF_BOUNDS,
                            "the last %" PRIu64 " messages: at most %u",
                            command->last,
                            KV_TOPIC_LAST_MAX);
    }
    return kv_check_progress(command->progress_ms, ret_error);
}

int kv_validate_subscribe(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    const Kv__Subscribe *command = request->subscribe;
    int status = command->pattern
                     ? kv_glob_compile(kv_slice_of_proto(command->topic), NULL, ret_error)
                     : check_topic(command->topic, ret_error);

    (void)settings;
    return status == 0 ? check_start(command, ret_error) : status;
}

int kv_validate_topic_list(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    int status = kv_check_bound(request->topic_list->prefix, "the prefix", ret_error);

    (void)settings;
    return status == 0 ? kv_check_bound(request->topic_list->cursor, "the cursor", ret_error)
                       : status;
}

static Kv__TopicInfo *new_info(struct kv_machine *machine, const struct kv_record *name)
{
    const struct kv_topic *topic = kv_topic_of(name);
    Kv__TopicInfo *info = kv_reply_alloc(machine, sizeof *info);

    kv__topic_info__init(info);
    info->topic = (ProtobufCBinaryData){name->key_size, (uint8_t *)(uintptr_t)name->bytes};
    info->messages = topic->n;
    info->bytes = topic->bytes;
    info->newest_revision =
        topic->messages[(topic->first + topic->n - 1) % topic->capacity]->mod_revision;
    return info;
}

static bool has_prefix(const struct kv_record *name, struct kv_slice prefix)
{
    return name->key_size >= prefix.size &&
           (prefix.size == 0 || memcmp(name->bytes, prefix.data, prefix.size) == 0);
}

/* Subscribers are filled in by the node, which alone knows them. */
int kv_run_topic_list(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__TopicList *command = request->topic_list;
    const struct kv_slice prefix = kv_slice_of_proto(command->prefix);
    const struct kv_slice behind = kv_slice_of_proto(command->cursor);
    const uint64_t limit =
        command->limit && command->limit < KV_TOPIC_LIST_MAX ? command->limit : KV_TOPIC_LIST_MAX;
    Kv__TopicListResult *result = &answer->result.topic_list;
    uint64_t room = kv_reply_room(machine);
    struct kv_tree_cursor cursor;
    const struct kv_record *name;

    kv__topic_list_result__init(result);
    result->topics = kv_reply_alloc(machine, (size_t)limit * sizeof *result->topics);
    kv_tree_seek(
        &machine->topics.names, kv_slice_compare(behind, prefix) > 0 ? behind : prefix, &cursor);
    for (; (name = kv_tree_cursor_get(&cursor)) && has_prefix(name, prefix);
         kv_tree_next(&cursor)) {
        const uint64_t cost = kv_record_key(name).size + INFO_OVERHEAD_BYTES;

        if (behind.size > 0 && kv_slice_compare(kv_record_key(name), behind) <= 0) {
            continue;
        }
        if (result->n_topics == limit || cost > room) {
            result->more = true;
            break;
        }
        result->topics[result->n_topics++] = new_info(machine, name);
        room -= cost;
    }
    KV_ANSWER(answer, TOPIC_LIST, topic_list, topic_list);
    return 0;
}
