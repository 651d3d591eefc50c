/* What subscriptions of topics are told (topic.h): of the past pieces from the machine, then what
 * is published as it comes. */
#include "common/assert.h"
#include "common/reached.h"
#include "server/node/node_internal.h"
#include "server/node/topic_group.h"

#include <stdlib.h>
#include <string.h>

/* Field numbers, with their wire types. */
enum {
    TAG_MESSAGE = 1 << 3 | 2,
    TAG_GAP_FROM = 2 << 3,
    TAG_GAP_TO = 3 << 3,
    FIELD_REVISION = 4,
    TAG_TOPIC = 1 << 3 | 2,
    TAG_PAYLOAD = 2 << 3 | 2,
    TAG_MESSAGE_REVISION = 3 << 3,
};
enum { NUMBER_BYTES_MAX = 10, MESSAGE_OVERHEAD_BYTES = 6 * NUMBER_BYTES_MAX };

static const struct kv_subscription_kind topic_kind;

static struct kv_topic_subscription *topic_of(struct kv_subscription *sub)
{
    return (struct kv_topic_subscription *)sub;
}

/* ---------------------------------------------------------------- packing */

static size_t number_size(uint64_t number)
{
    size_t n = 1;

    while (number >= 0x80) {
        number >>= 7;
        n++;
    }
    return n;
}

static uint8_t *put_number(uint8_t *p, uint8_t tag, uint64_t number)
{
    *p++ = tag;
    for (; number >= 0x80; number >>= 7) {
        *p++ = (uint8_t)(number | 0x80);
    }
    *p++ = (uint8_t)number;
    return p;
}

static uint8_t *put_bytes(uint8_t *p, uint8_t tag, struct kv_slice bytes)
{
    p = put_number(p, tag, bytes.size);
    if (bytes.size > 0) {
        memcpy(p, bytes.data, bytes.size);
    }
    return p + bytes.size;
}

static size_t bytes_size(struct kv_slice bytes)
{
    return 1 + number_size(bytes.size) + bytes.size;
}

/* One of an item's messages. False: no memory. */
static bool put_message(struct kv_buf *buf, const struct kv_topic_message *message)
{
    const size_t size = bytes_size(message->topic) + bytes_size(message->payload) + 1 +
                        number_size((uint64_t)message->position.revision);
    uint8_t *p = kv_buf_reserve(buf, size + MESSAGE_OVERHEAD_BYTES);
    uint8_t *begin = p;

    if (!p) {
        return false;
    }
    p = put_number(p, TAG_MESSAGE, size);
    p = put_bytes(p, TAG_TOPIC, message->topic);
    p = put_bytes(p, TAG_PAYLOAD, message->payload);
    p = put_number(p, TAG_MESSAGE_REVISION, (uint64_t)message->position.revision);
    buf->size += (size_t)(p - begin);
    return true;
}

static bool put_gap(struct kv_buf *buf, int64_t from, int64_t to)
{
    uint8_t *p = kv_buf_reserve(buf, 2 + 2 * NUMBER_BYTES_MAX);
    uint8_t *begin = p;

    if (!p) {
        return false;
    }
    p = put_number(p, TAG_GAP_FROM, (uint64_t)from);
    p = put_number(p, TAG_GAP_TO, (uint64_t)to);
    buf->size += (size_t)(p - begin);
    return true;
}

static void die_without_memory(struct kv_node *node)
{
    kv_node_die(node, KV_NO_MEMORY, "no memory for the messages of topics");
}

/* ---------------------------------------------------------------- what comes */

static void set_dirty(struct kv_topic_groups *groups, struct kv_topic_group *group)
{
    if (!group->is_dirty) {
        group->is_dirty = true;
        group->next_dirty = groups->dirty;
        groups->dirty = group;
    }
}

/* Who can take nothing falls behind, to where what is pending begins. */
static void
miss(struct kv_node *node, struct kv_topic_subscription *sub, struct kv_topic_position first)
{
    sub->number = sub->in_fragment ? first.number : 0;
    kv_subscription_fall_behind(node, &sub->common, first.revision);
}

/* There may be many groups that rest. */
static void forget_pending(struct kv_topic_group *group)
{
    kv_buf_deinit(&group->pending);
    kv_buf_init(&group->pending, KV_TOPIC_ITEM_BYTES_MAX);
    group->n_pending = 0;
}

/* Gives what is pending to those who are live. All of its revisions is there, or more of the last
 * one follows. */
static void
flush_group(struct kv_node *node, struct kv_topic_group *group, int64_t revision, bool more)
{
    struct kv_topic_subscription *sub = group->live;
    struct kv_shared *item = NULL;

    if (group->n_pending > 0 && sub) {
        item = kv_subscription_item(node,
                                    &topic_kind,
                                    more ? revision - 1 : revision,
                                    more,
                                    kv_slice_of(group->pending.data, group->pending.size));
    }
    while (item && sub) {
        struct kv_topic_subscription *next = sub->next_live;

        if (kv_subscription_may_send(node, &sub->common)) {
            kv_subscription_send(node, &sub->common, item, more ? revision : revision + 1);
            sub->in_fragment = more;
            node->topics.messages += group->n_pending;
        } else {
            miss(node, sub, group->pending_first);
        }
        sub = next;
    }
    kv_shared_release(item);
    forget_pending(group);
}

/* What is pending for the live ones, or this, is too much for the turn: they read it. */
static void leave_behind(struct kv_node *node,
                         struct kv_topic_group *group,
                         const struct kv_topic_message *message)
{
    const struct kv_topic_position first =
        group->n_pending > 0 ? group->pending_first : message->position;

    KV_REACHED("topic-left-behind");
    node->subscriptions.crowded++;
    while (group->live) {
        miss(node, group->live, first);
    }
    forget_pending(group);
}

static void add_pending(struct kv_node *node,
                        struct kv_topic_group *group,
                        const struct kv_topic_message *message)
{
    const size_t size = message->topic.size + message->payload.size + MESSAGE_OVERHEAD_BYTES;

    if (node->subscriptions.live_bytes + size > KV_NODE_LIVE_BYTES_MAX) {
        leave_behind(node, group, message);
        return;
    }
    node->subscriptions.live_bytes += size;
    if (group->n_pending > 0 && group->pending.size + size > KV_STREAM_PIECE_BYTES) {
        flush_group(node,
                    group,
                    group->pending_revision,
                    group->pending_revision == message->position.revision);
    }
    if (group->n_pending++ == 0) {
        group->pending_first = message->position;
        set_dirty(&node->topics, group);
    }
    group->pending_revision = message->position.revision;
    if (!put_message(&group->pending, message)) {
        die_without_memory(node);
    }
}

void kv_topic_published(void *arg, const struct kv_topic_message *message, bool last)
{
    struct kv_node *node = arg;
    struct kv_topic_groups *groups = &node->topics;
    struct kv_topic_group *group;

    (void)last;
    if (groups->n == 0) {
        return;
    }
    group = kv_topic_group_find(groups, message->topic, false);
    if (group && group->live) {
        add_pending(node, group, message);
    }
    for (group = groups->patterns; group; group = group->next_pattern) {
        if (!group->live) {
            continue;
        }
        if (groups->match_work >= KV_NODE_MATCH_WORK_MAX) {
            leave_behind(node, group, message);
        } else if (kv_glob_match(group->glob, message->topic, &groups->match_work)) {
            add_pending(node, group, message);
        }
    }
}

void kv_topic_flush(struct kv_node *node)
{
    struct kv_topic_group *group;

    node->topics.match_work = 0;
    while ((group = node->topics.dirty)) {
        node->topics.dirty = group->next_dirty;
        group->is_dirty = false;
        flush_group(node, group, kv_machine_revision(node->machine), false);
    }
}

void kv_topic_restarted(struct kv_node *node)
{
    node->topics.n_installs++;
}

/* ---------------------------------------------------------------- the past */

struct piece {
    struct kv_node *node;
    size_t n_messages;
};

static void on_message(void *arg, const struct kv_topic_message *message)
{
    struct piece *piece = arg;

    piece->n_messages++;
    if (!put_message(&piece->node->topics.scratch, message)) {
        die_without_memory(piece->node);
    }
}

/* What retention has dropped behind the position, and was not told yet. False: it is not known yet,
 * a turn looks at a bounded number. */
static bool
look_for_gap(struct kv_node *node, struct kv_topic_subscription *sub, struct kv_topic_position from)
{
    const struct kv_topic_query query = kv_topic_group_query(sub->group);
    struct kv_topic_position newest;
    int64_t gap_from = from.revision;

    if (sub->n_installs != node->topics.n_installs) {
        sub->losses = (struct kv_topic_losses){0};
        sub->n_installs = node->topics.n_installs;
    }
    if (kv_machine_topics_losses(node->machine, &query, from, &sub->losses) != 0) {
        return false;
    }
    newest = sub->losses.newest;
    sub->losses.newest = (struct kv_topic_position){0, 0};
    if (kv_topic_position_compare(newest, from) < 0 ||
        kv_topic_position_compare(newest, sub->gap_told) <= 0) {
        return true;
    }
    if (sub->gap_told.revision >= gap_from) {
        gap_from =
            sub->gap_told.revision < newest.revision ? sub->gap_told.revision + 1 : newest.revision;
    }
    KV_REACHED("topic-gap");
    sub->gap_told = newest;
    node->topics.gaps++;
    if (!put_gap(&node->topics.scratch, gap_from, newest.revision)) {
        die_without_memory(node);
    }
    return true;
}

static void send_piece(struct kv_node *node,
                       struct kv_topic_subscription *sub,
                       struct kv_topic_position position)
{
    const bool more = position.number > 0;
    struct kv_shared *item =
        kv_subscription_item(node,
                             &topic_kind,
                             position.revision - 1,
                             more,
                             kv_slice_of(node->topics.scratch.data, node->topics.scratch.size));

    if (item) {
        kv_subscription_send(node, &sub->common, item, position.revision);
        sub->in_fragment = more;
        kv_shared_release(item);
    }
}

/* Looks for the place of the last messages; when it is found, that is where the stream begins. */
static void search(struct kv_node *node, struct kv_topic_subscription *sub)
{
    const struct kv_topic_query query = kv_topic_group_query(sub->group);

    if (kv_machine_topics_search(node->machine, &query, &sub->search) == 0) {
        sub->is_searching = false;
        kv_buf_clear(&node->topics.scratch);
        send_piece(node, sub, (struct kv_topic_position){sub->search.found.revision, 0});
        sub->number = sub->search.found.number;
    }
}

static int catch_up(struct kv_node *node, struct kv_subscription *common)
{
    struct kv_topic_subscription *sub = topic_of(common);
    const struct kv_topic_query query = kv_topic_group_query(sub->group);
    struct kv_topic_position position = {common->next_revision, sub->number};
    const uint64_t credit = common->op->credit;
    struct piece piece = {node, 0};
    int more;

    if (sub->is_searching) {
        search(node, sub);
        return 1;
    }
    kv_buf_clear(&node->topics.scratch);
    if (!look_for_gap(node, sub, position)) {
        return 1;
    }
    more = kv_machine_topics_read(node->machine,
                                  &query,
                                  &position,
                                  credit < KV_STREAM_PIECE_BYTES ? credit : KV_STREAM_PIECE_BYTES,
                                  on_message,
                                  &piece);
    node->topics.messages += piece.n_messages;
    /* What was begun is ended, even when nothing more of it was there. */
    if (node->topics.scratch.size > 0 || (sub->in_fragment && position.number == 0)) {
        send_piece(node, sub, position);
    }
    common->next_revision = position.revision;
    sub->number = position.number;
    return more;
}

/* ---------------------------------------------------------------- life */

static int begin(struct kv_node *node, struct kv_subscription *common, struct kv_error *ret_error)
{
    struct kv_topic_subscription *sub = topic_of(common);
    const int64_t revision = kv_machine_revision(node->machine);
    int status = kv_topic_group_join(&node->topics, sub, ret_error);

    if (status != 0) {
        return status;
    }
    common->next_revision = sub->start_revision > 0 ? sub->start_revision : revision + 1;
    /* All losses are behind it, or yet to be looked for. */
    sub->losses.seen = sub->start_revision > 0 ? 0 : kv_machine_topics_newest_loss(node->machine);
    sub->n_installs = node->topics.n_installs;
    if (sub->last > 0) {
        const struct kv_topic_position end = {revision + 1, 0};

        sub->is_searching = true;
        sub->search = (struct kv_topic_search){end, end, sub->last};
        sub->losses.seen = 0;
        /* Where it begins is told when it is found. */
        common->first_told = true;
    }
    return 0;
}

static void join(struct kv_node *node, struct kv_subscription *common)
{
    struct kv_topic_subscription *sub = topic_of(common);
    struct kv_topic_group *group = sub->group;

    (void)node;
    KV_ASSERT(group->n_pending == 0);
    sub->prev_live = NULL;
    sub->next_live = group->live;
    if (group->live) {
        group->live->prev_live = sub;
    }
    group->live = sub;
}

static void leave(struct kv_node *node, struct kv_subscription *common)
{
    struct kv_topic_subscription *sub = topic_of(common);

    (void)node;
    if (sub->next_live) {
        sub->next_live->prev_live = sub->prev_live;
    }
    if (sub->prev_live) {
        sub->prev_live->next_live = sub->next_live;
    } else {
        sub->group->live = sub->next_live;
    }
    sub->next_live = sub->prev_live = NULL;
}

static void free_sub(struct kv_node *node, struct kv_subscription *common)
{
    kv_topic_group_leave(&node->topics, topic_of(common));
    kv_topic_forget(&node->topics, topic_of(common));
    free(common);
}

static const struct kv_subscription_kind topic_kind = {
    .item_case = KV__STREAM_ITEM__ITEM_TOPIC,
    .revision_field = FIELD_REVISION,
    .begin = begin,
    .catch_up = catch_up,
    .join = join,
    .leave = leave,
    .free = free_sub,
};

struct kv_subscription *kv_topic_new(struct kv_node *node, struct kv_op *op)
{
    const Kv__Subscribe *command = op->request->subscribe;
    const struct kv_slice topic = kv_slice_of(command->topic.data, command->topic.len);
    struct kv_topic_subscription *sub = calloc(1, sizeof *sub);

    if (!sub || kv_topic_keep(&node->topics, sub, topic) != 0) {
        free(sub);
        return NULL;
    }
    kv_subscription_init(&sub->common, &topic_kind, op, command->progress_ms);
    sub->is_pattern = command->pattern;
    sub->last = command->last;
    sub->start_revision = command->start_revision;
    return &sub->common;
}

static size_t
count_subscribers(const struct kv_topic_groups *groups, struct kv_slice topic, uint64_t *work)
{
    const struct kv_topic_group *group = kv_topic_group_find(groups, topic, false);
    size_t n = group ? group->n_subscriptions : 0;

    for (group = groups->patterns; group; group = group->next_pattern) {
        if (kv_glob_match(group->glob, topic, work)) {
            n += group->n_subscriptions;
        }
    }
    return n;
}

void kv_topic_fill_list(struct kv_node *node, Kv__TopicListResult *list)
{
    uint64_t work = 0;

    /* It ends there, and its client asks for more. */
    for (size_t i = 0; i < list->n_topics; i++) {
        Kv__TopicInfo *info = list->topics[i];

        if (work >= KV_GLOB_WORK_MAX) {
            list->n_topics = i;
            list->more = true;
            return;
        }
        info->subscribers =
            count_subscribers(&node->topics, kv_slice_of(info->topic.data, info->topic.len), &work);
    }
}
