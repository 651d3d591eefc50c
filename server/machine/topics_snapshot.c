/* Topics of a snapshot's items, none of which is believed. */
#include "server/machine/snapshot_load_internal.h"

#include <inttypes.h>

static struct kv_topic_position position_of(const struct kv_item *item)
{
    return (struct kv_topic_position){(int64_t)kv_item_number(item, 0), kv_item_number(item, 1)};
}

static bool is_sound(const struct kv_machine *machine, struct kv_topic_position position)
{
    return position.revision >= 0 && position.revision <= machine->revision &&
           position.number < KV_LOADER_NUMBER_MAX;
}

int kv_loader_topics(struct kv_machine_loader *loader,
                     const struct kv_item *item,
                     struct kv_error *ret_error)
{
    loader->machine->topics.floor = position_of(item);
    loader->said_topics = kv_item_number(item, 2);
    loader->said_messages = kv_item_number(item, 3);
    loader->said_topic_bytes = kv_item_number(item, 4);
    if (item->key.size + item->value.size > 0 || !is_sound(loader->machine, position_of(item)) ||
        !(loader->said_topics > 0 || position_of(item).revision > 0)) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "what is said of topics");
    }
    return 0;
}

int kv_loader_topic(struct kv_machine_loader *loader,
                    const struct kv_item *item,
                    struct kv_error *ret_error)
{
    struct kv_topics *topics = &loader->machine->topics;
    struct kv_tree_cursor last;
    const struct kv_record *before;

    kv_tree_seek_before(&topics->names, kv_slice_of(NULL, 0), false, &last);
    before = kv_tree_cursor_get(&last);
    if (item->key.size == 0 || item->key.size > KV_KEY_BYTES_MAX || item->value.size > 0 ||
        !is_sound(loader->machine, position_of(item)) ||
        kv_tree_count(&topics->names) >= loader->said_topics ||
        (before && kv_slice_compare(kv_record_key(before), item->key) >= 0)) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "topic %" PRIu64 " of %" PRIu64 ", its name has %zu bytes",
                                kv_tree_count(&topics->names) + 1,
                                loader->said_topics,
                                item->key.size);
    }
    (void)kv_topics_add(topics, item->key, position_of(item));
    return 0;
}

int kv_loader_message(struct kv_machine_loader *loader,
                      const struct kv_item *item,
                      struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_topics *topics = &machine->topics;
    struct kv_topic *topic = kv_topics_find(topics, item->key);
    struct kv_topic_position behind = {0, 0};
    const uint64_t time_ms = kv_item_number(item, 2);
    uint64_t behind_ms = 0;
    const struct kv_record *before;
    struct kv_tree_cursor last;

    kv_tree_seek_before(&topics->messages, kv_slice_of(NULL, 0), false, &last);
    before = kv_tree_cursor_get(&last);
    if (before) {
        behind = kv_message_position(before);
        behind_ms = (uint64_t)kv_message_time_ms(before);
    }
    if (!topic || item->value.size > KV_VALUE_BYTES_MAX || !is_sound(machine, position_of(item)) ||
        kv_topic_position_compare(behind, position_of(item)) >= 0 ||
        kv_topic_position_compare(kv_topic_dropped(topic->record), position_of(item)) >= 0 ||
        time_ms < behind_ms || time_ms > (uint64_t)machine->cluster_time_ms) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "message %" PRIu64 " of revision %" PRId64 " and time %" PRIu64
                                " behind revision %" PRId64 " and %" PRIu64,
                                position_of(item).number,
                                position_of(item).revision,
                                time_ms,
                                behind.revision,
                                behind_ms);
    }
    kv_topics_append(topics, topic, position_of(item), (int64_t)time_ms, item->value);
    return 0;
}

int kv_loader_finish_topics(const struct kv_machine_loader *loader, struct kv_error *ret_error)
{
    const struct kv_topics *topics = &loader->machine->topics;
    const uint64_t n_topics = kv_tree_count(&topics->names);
    const uint64_t n_messages = kv_tree_count(&topics->messages);
    struct kv_tree_cursor cursor;
    const struct kv_record *name;

    kv_tree_seek(&topics->names, kv_slice_of(NULL, 0), &cursor);
    while ((name = kv_tree_cursor_get(&cursor)) && kv_topic_of(name)->n > 0) {
        kv_tree_next(&cursor);
    }
    if (name || n_topics != loader->said_topics || n_messages != loader->said_messages ||
        topics->bytes != loader->said_topic_bytes) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the snapshot is damaged: it says that it has %" PRIu64
                            " topics with %" PRIu64 " messages of %" PRIu64
                            " bytes, it has %" PRIu64 " with %" PRIu64 " of %" PRIu64 "%s",
                            loader->said_topics,
                            loader->said_messages,
                            loader->said_topic_bytes,
                            n_topics,
                            n_messages,
                            topics->bytes,
                            name ? ", and one without messages" : "");
    }
    return 0;
}
