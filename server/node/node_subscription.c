/* The common life of subscriptions (subscription.h). */
#include "server/node/subscription.h"

#include "common/assert.h"
#include "common/reached.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Field numbers of a StreamItem, and of a packed number. */
enum { FIELD_MORE_FRAGMENTS = 3, FIELD_REVISION = 6, NUMBER_BYTES_MAX = 10, HEAD_BYTES_MAX = 64 };

static uint64_t now_ms(const struct kv_node *node)
{
    return kv_node_now_ns(node) / 1000000;
}

/* ---------------------------------------------------------------- items */

static size_t put_number(uint8_t *p, uint64_t number)
{
    size_t n = 0;

    for (; number >= 0x80; number >>= 7) {
        p[n++] = (uint8_t)(number | 0x80);
    }
    p[n++] = (uint8_t)number;
    return n;
}

static size_t put_field(uint8_t *p, unsigned field, unsigned wire_type, uint64_t number)
{
    const size_t n = put_number(p, (uint64_t)field << 3 | wire_type);

    return n + put_number(p + n, number);
}

struct kv_shared *kv_subscription_item(struct kv_node *node,
                                       const struct kv_subscription_kind *kind,
                                       int64_t revision,
                                       bool more_fragments,
                                       struct kv_slice fields)
{
    uint8_t head[HEAD_BYTES_MAX];
    uint8_t inner[2 * NUMBER_BYTES_MAX];
    const size_t inner_size = put_field(inner, kind->revision_field, 0, (uint64_t)revision);
    struct kv_shared *item;
    size_t n = 0;

    if (more_fragments) {
        n += put_field(head, FIELD_MORE_FRAGMENTS, 0, 1);
    }
    n += put_field(head + n, FIELD_REVISION, 0, (uint64_t)revision);
    n += put_field(head + n, (unsigned)kind->item_case, 2, inner_size + fields.size);
    memcpy(head + n, inner, inner_size);
    n += inner_size;
    item = kv_shared_new(n + fields.size);
    if (!item) {
        kv_node_die(node, KV_NO_MEMORY, "no memory for an item of a stream");
        return NULL;
    }
    memcpy(item->data, head, n);
    if (fields.size > 0) {
        memcpy(item->data + n, fields.data, fields.size);
    }
    return item;
}

bool kv_subscription_may_send(struct kv_node *node, struct kv_subscription *sub)
{
    return sub->op->credit > 0 && node->options.ops->stream_has_room(node->options.arg, sub->op);
}

void kv_subscription_send(struct kv_node *node,
                          struct kv_subscription *sub,
                          struct kv_shared *item,
                          int64_t next_revision)
{
    const size_t taken = node->options.ops->stream_shared(node->options.arg, sub->op, item);

    sub->op->credit -= taken < sub->op->credit ? taken : sub->op->credit;
    sub->told_ms = now_ms(node);
    sub->next_revision = next_revision;
    sub->first_told = true;
    node->subscriptions.items++;
}

/* One that has no events: where it begins, or that nothing came. */
static void send_empty(struct kv_node *node, struct kv_subscription *sub, int64_t revision)
{
    struct kv_shared *item =
        kv_subscription_item(node, sub->kind, revision, false, kv_slice_of(NULL, 0));

    if (item) {
        kv_subscription_send(node, sub, item, revision + 1);
        kv_shared_release(item);
    }
}

/* ---------------------------------------------------------------- states */

static void wait_for_room(struct kv_subscription *sub)
{
    struct kv_listener *listener = sub->op->listener;

    sub->prev_waiting = NULL;
    sub->next_waiting = listener->waiting;
    if (listener->waiting) {
        listener->waiting->prev_waiting = sub;
    }
    listener->waiting = sub;
}

static void wait_no_longer(struct kv_subscription *sub)
{
    if (sub->next_waiting) {
        sub->next_waiting->prev_waiting = sub->prev_waiting;
    }
    if (sub->prev_waiting) {
        sub->prev_waiting->next_waiting = sub->next_waiting;
    } else {
        sub->op->listener->waiting = sub->next_waiting;
    }
}

/* Takes it out of where it waits. */
static void leave_place(struct kv_node *node, struct kv_subscription *sub)
{
    kv_heaps_remove(&node->subscriptions.heaps, KV_HEAP_FUTURE, sub);
    kv_heaps_remove(&node->subscriptions.heaps, KV_HEAP_LOST, sub);
    if (sub->op->state == KV_OP_NO_ROOM) {
        wait_no_longer(sub);
    }
    if (sub->op->state == KV_OP_LIVE) {
        sub->kind->leave(node, sub);
    }
}

static void become_behind(struct kv_node *node, struct kv_subscription *sub)
{
    leave_place(node, sub);
    kv_node_move(node, sub->op, KV_OP_BEHIND);
    node->again = true;
}

void kv_subscription_fall_behind(struct kv_node *node,
                                 struct kv_subscription *sub,
                                 int64_t next_revision)
{
    KV_ASSERT(sub->op->state == KV_OP_LIVE);
    KV_REACHED("stream-fell-behind");
    sub->next_revision = next_revision;
    become_behind(node, sub);
}

/* Nobody knows yet from where on it misses something. */
static bool may_begin_later(const struct kv_subscription *sub)
{
    return sub->begins_now && !sub->first_told;
}

/* Nothing can be given. */
static void block(struct kv_node *node, struct kv_subscription *sub)
{
    leave_place(node, sub);
    kv_node_move(node, sub->op, sub->op->credit == 0 ? KV_OP_NO_CREDIT : KV_OP_NO_ROOM);
    if (sub->op->state == KV_OP_NO_ROOM) {
        wait_for_room(sub);
    }
    if (sub->kind->needs_history && !may_begin_later(sub)) {
        kv_heaps_put(&node->subscriptions.heaps, KV_HEAP_LOST, sub, (uint64_t)sub->next_revision);
    }
}

/* The empty store's revision has no events: who begins with it misses none. */
static bool is_lost(const struct kv_node *node, int64_t next_revision)
{
    const int64_t oldest = kv_machine_oldest_revision(node->machine);

    return oldest > KV_REVISION_FIRST && next_revision <= oldest;
}

static void fail_lost(struct kv_node *node, struct kv_subscription *sub)
{
    KV_REACHED("stream-compacted");
    node->subscriptions.lost++;
    kv_node_fail(node,
                 sub->op,
                 KV_COMPACTED,
                 "revision %" PRId64 " is compacted, the oldest that can be read is %" PRId64
                 ": read what is there at that one, and watch from behind it",
                 sub->next_revision,
                 kv_machine_oldest_revision(node->machine));
}

/* ---------------------------------------------------------------- begin and end */

void kv_subscription_init(struct kv_subscription *sub,
                          const struct kv_subscription_kind *kind,
                          struct kv_op *op,
                          uint64_t progress_ms)
{
    *sub = (struct kv_subscription){
        .kind = kind,
        .op = op,
        .deadline_ms = op->deadline_ns == UINT64_MAX ? UINT64_MAX : op->deadline_ns / 1000000,
        .progress_ms = (uint32_t)progress_ms,
    };
    for (int i = 0; i < KV_HEAPS; i++) {
        sub->heap_at[i] = KV_HEAP_NOWHERE;
    }
}

/* When it is next to be looked at. */
static uint64_t due_ms(const struct kv_subscription *sub)
{
    const uint64_t progress_ms =
        sub->begun && sub->progress_ms ? sub->told_ms + sub->progress_ms : UINT64_MAX;

    return progress_ms < sub->deadline_ms ? progress_ms : sub->deadline_ms;
}

static void arm(struct kv_node *node, struct kv_subscription *sub)
{
    kv_heaps_remove(&node->subscriptions.heaps, KV_HEAP_TIMER, sub);
    if (due_ms(sub) != UINT64_MAX) {
        kv_heaps_put(&node->subscriptions.heaps, KV_HEAP_TIMER, sub, due_ms(sub));
    }
}

struct start {
    int64_t revision; /* 0: now */
    uint64_t credit;
    uint64_t require_leader_ms;
};

static struct kv_subscription *make(struct kv_node *node, struct kv_op *op, struct start *ret_start)
{
    const Kv__Watch *watch = op->request->watch;
    const Kv__Subscribe *subscribe = op->request->subscribe;

    if (op->request->command_case == KV__REQUEST__COMMAND_SUBSCRIBE) {
        *ret_start = (struct start){
            subscribe->start_revision, subscribe->credit, subscribe->require_leader_ms};
        return kv_topic_new(node, op);
    }
    *ret_start = (struct start){watch->start_revision, watch->credit, watch->require_leader_ms};
    return kv_watch_new(node, op);
}

static void fail_leaderless(struct kv_node *node, struct kv_op *op, uint64_t require_leader_ms)
{
    kv_node_fail(node,
                 op,
                 KV_NO_LEADER,
                 "no leader for %" PRIu64
                 " ms (require_leader_ms): a majority of the nodes must be "
                 "up",
                 require_leader_ms);
}

static bool is_leaderless(const struct kv_node *node, uint64_t at_ms, uint64_t require_leader_ms)
{
    uint64_t since_ms = node->subscriptions.leaderless_ms;

    return since_ms != 0 && at_ms - since_ms >= require_leader_ms;
}

uint64_t kv_subscriptions_bytes(const struct kv_node *node)
{
    return node->watches.index.bytes + node->topics.bytes;
}

static void fail_too_many(struct kv_node *node, struct kv_op *op)
{
    kv_node_fail_limit(node,
                       op,
                       &(struct kv_node_limit){"node-subscriptions", KV_NODE_SUBSCRIPTIONS_MAX},
                       "this node has %u watches and subscriptions (limit node-subscriptions): use "
                       "another",
                       KV_NODE_SUBSCRIPTIONS_MAX);
}

static void fail_too_long(struct kv_node *node, struct kv_op *op)
{
    kv_node_fail_limit(
        node,
        op,
        &(struct kv_node_limit){"node-subscription-bytes", KV_NODE_SUBSCRIPTION_BYTES_MAX},
        "the watches and subscriptions of this node ask for ranges, topics and patterns of %llu "
        "bytes together (limit node-subscription-bytes): use another node, or shorter ones",
        KV_NODE_SUBSCRIPTION_BYTES_MAX);
}

void kv_subscription_submit(struct kv_node *node, struct kv_op *op)
{
    struct kv_subscriptions *subs = &node->subscriptions;
    struct kv_subscription *sub;
    struct start start;

    if (subs->n >= KV_NODE_SUBSCRIPTIONS_MAX) {
        fail_too_many(node, op);
        return;
    }
    sub = kv_heaps_reserve(&subs->heaps, subs->n + 1) == 0 ? make(node, op, &start) : NULL;
    if (!sub) {
        kv_node_fail(node, op, KV_BUSY, "the server has no memory for a subscription");
        return;
    }
    op->subscription = sub;
    /* The submitter takes them back now: what was counted must not wait for the end. */
    node->ops_bytes -= op->bytes.size;
    op->bytes = kv_slice_of(NULL, 0);
    op->credit = start.credit < KV_STREAM_CREDIT_MAX ? start.credit : KV_STREAM_CREDIT_MAX;
    subs->n++;
    if (kv_subscriptions_bytes(node) > KV_NODE_SUBSCRIPTION_BYTES_MAX) {
        fail_too_long(node, op);
        return;
    }
    arm(node, sub);
    if (start.require_leader_ms > 0) {
        kv_heaps_put(&subs->heaps, KV_HEAP_LEADER, sub, start.require_leader_ms);
        /* Before it is told anything: that would look as if there were no news. */
        if (is_leaderless(node, now_ms(node), start.require_leader_ms)) {
            fail_leaderless(node, op, start.require_leader_ms);
            return;
        }
    }
    /* A revision that was seen elsewhere is waited for, so it needs no read index. */
    if (start.revision > 0 || op->request->serializable) {
        kv_subscription_begin(node, op);
    } else {
        kv_node_move(node, op, KV_OP_READ);
    }
}

void kv_subscription_begin(struct kv_node *node, struct kv_op *op)
{
    struct kv_subscription *sub = op->subscription;
    struct kv_error error;
    int status = sub->kind->begin(node, sub, &error);

    if (status != 0) {
        kv_node_fail(node, op, status, "%s", error.message);
        return;
    }
    /* From now on it is no request that somebody waits for. */
    sub->begun = true;
    node->subscriptions.n_begun++;
    node->n_ops--;
    sub->told_ms = now_ms(node);
    arm(node, sub);
    become_behind(node, sub);
}

void kv_subscription_free(struct kv_node *node, struct kv_op *op)
{
    struct kv_subscription *sub = op->subscription;

    leave_place(node, sub);
    kv_heaps_remove(&node->subscriptions.heaps, KV_HEAP_TIMER, sub);
    kv_heaps_remove(&node->subscriptions.heaps, KV_HEAP_LEADER, sub);
    node->subscriptions.n--;
    if (sub->begun) {
        /* As it was when the op came, for who counts it out. */
        node->subscriptions.n_begun--;
        node->n_ops++;
    }
    op->subscription = NULL;
    sub->kind->free(node, sub);
}

void kv_subscription_credit(struct kv_node *node, struct kv_op *op)
{
    if (op->state == KV_OP_NO_CREDIT && op->credit > 0) {
        become_behind(node, op->subscription);
    }
}

void kv_node_stream_room(struct kv_node *node, struct kv_listener *listener)
{
    while (listener->waiting) {
        become_behind(node, listener->waiting);
    }
}

void kv_subscriptions_restart(struct kv_node *node)
{
    const int64_t next_revision = kv_machine_revision(node->machine) + 1;

    kv_watch_forget_piece(node);
    while (node->lists[KV_OP_LIVE].first) {
        KV_REACHED("stream-over-install");
        kv_subscription_fall_behind(
            node, node->lists[KV_OP_LIVE].first->subscription, next_revision);
    }
}

/* ---------------------------------------------------------------- turns */

static void step(struct kv_node *node, struct kv_subscription *sub)
{
    const int64_t revision = kv_machine_revision(node->machine);
    int more = 1;

    if (may_begin_later(sub)) {
        sub->next_revision = revision + 1;
    }
    if (sub->kind->needs_history && is_lost(node, sub->next_revision)) {
        fail_lost(node, sub);
        return;
    }
    if (!kv_subscription_may_send(node, sub)) {
        block(node, sub);
        return;
    }
    if (!sub->first_told) {
        send_empty(node, sub, sub->next_revision - 1);
    } else if (sub->next_revision > revision + 1) {
        kv_node_move(node, sub->op, KV_OP_FUTURE);
        kv_heaps_put(&node->subscriptions.heaps, KV_HEAP_FUTURE, sub, (uint64_t)sub->next_revision);
        return;
    } else {
        more = sub->kind->catch_up(node, sub);
    }
    if (more == 0) {
        KV_REACHED("stream-joins");
        kv_node_move(node, sub->op, KV_OP_LIVE);
        sub->kind->join(node, sub);
    } else {
        kv_node_move(node, sub->op, KV_OP_BEHIND);
    }
}

static void serve_behind(struct kv_node *node)
{
    const uint64_t until_ns = kv_node_now_ns(node) + KV_CATCH_UP_TURN_NS;
    const struct kv_op_list *behind = &node->lists[KV_OP_BEHIND];
    const size_t steps_max = 2 * behind->count + KV_CATCH_UP_STEPS;

    for (size_t n = 0; behind->first && n < steps_max && !node->dead; n++) {
        step(node, behind->first->subscription);
        if (kv_node_now_ns(node) >= until_ns) {
            break;
        }
    }
    if (behind->first) {
        node->again = true;
    }
}

static void wake_future(struct kv_node *node)
{
    const uint64_t next_revision = (uint64_t)kv_machine_revision(node->machine) + 1;
    const struct kv_heap_entry *first;

    while ((first = kv_heaps_first(&node->subscriptions.heaps, KV_HEAP_FUTURE)) &&
           first->key <= next_revision) {
        KV_REACHED("stream-future");
        become_behind(node, first->sub);
    }
}

static void fail_all_lost(struct kv_node *node)
{
    const struct kv_heap_entry *first;

    while ((first = kv_heaps_first(&node->subscriptions.heaps, KV_HEAP_LOST)) &&
           is_lost(node, (int64_t)first->key)) {
        fail_lost(node, first->sub);
    }
}

static void note_leader(struct kv_node *node, uint64_t at_ms)
{
    struct kv_subscriptions *subs = &node->subscriptions;

    if (node->replica_status.leader_id != 0) {
        subs->leaderless_ms = 0;
    } else if (subs->leaderless_ms == 0) {
        subs->leaderless_ms = at_ms;
    }
}

static void fail_all_leaderless(struct kv_node *node, uint64_t at_ms)
{
    const struct kv_heap_entry *first;

    while ((first = kv_heaps_first(&node->subscriptions.heaps, KV_HEAP_LEADER)) &&
           is_leaderless(node, at_ms, first->key)) {
        fail_leaderless(node, first->sub->op, first->key);
    }
}

/* Progress, and deadlines. One that was told something meanwhile is looked at later. */
static void serve_timers(struct kv_node *node, uint64_t at_ms)
{
    const struct kv_heap_entry *first;

    while ((first = kv_heaps_first(&node->subscriptions.heaps, KV_HEAP_TIMER)) &&
           first->key <= at_ms) {
        struct kv_subscription *sub = first->sub;

        if (at_ms >= sub->deadline_ms) {
            kv_node_fail(
                node, sub->op, KV_DEADLINE, "the stream's deadline_ms has passed (0: no deadline)");
            continue;
        }
        if (sub->begun && at_ms >= sub->told_ms + sub->progress_ms) {
            if (sub->op->state == KV_OP_LIVE && kv_subscription_may_send(node, sub)) {
                send_empty(node, sub, kv_machine_revision(node->machine));
            }
            sub->told_ms = at_ms;
        }
        arm(node, sub);
    }
}

void kv_subscriptions_turn(struct kv_node *node)
{
    const uint64_t at_ms = now_ms(node);

    kv_watch_flush(node);
    kv_topic_flush(node);
    node->subscriptions.live_bytes = 0;
    note_leader(node, at_ms);
    if (node->subscriptions.n == 0 || node->unfit_index != 0) {
        return;
    }
    wake_future(node);
    fail_all_lost(node);
    serve_behind(node);
    fail_all_leaderless(node, at_ms);
    serve_timers(node, at_ms);
}

uint64_t kv_subscriptions_wake_ms(const struct kv_node *node)
{
    const struct kv_subscriptions *subs = &node->subscriptions;
    const struct kv_heap_entry *timer = kv_heaps_first(&subs->heaps, KV_HEAP_TIMER);
    const struct kv_heap_entry *leader = kv_heaps_first(&subs->heaps, KV_HEAP_LEADER);
    uint64_t wake_ms = timer ? timer->key : UINT64_MAX;

    if (leader && subs->leaderless_ms != 0 && subs->leaderless_ms + leader->key < wake_ms) {
        wake_ms = subs->leaderless_ms + leader->key;
    }
    return wake_ms;
}
