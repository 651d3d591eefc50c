#include "server/node/node.h"

#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVING_LAG_ENTRIES = 1024 };

uint64_t kv_node_now_ns(const struct kv_node *node)
{
    return node->env.clock.ops->now_ns(node->env.clock.clock);
}

struct kv_node_peer *kv_node_peer(struct kv_node *node, uint64_t id)
{
    for (size_t i = 0; i < node->n_peers; i++) {
        if (node->peers[i].id == id) {
            return &node->peers[i];
        }
    }
    return NULL;
}

const char *kv_node_client_address(struct kv_node *node, uint64_t id)
{
    const struct kv_node_peer *peer = kv_node_peer(node, id);

    if (id == node->options.node_id) {
        return node->options.client_address;
    }
    return peer ? peer->client_address : "";
}

void kv_node_die(struct kv_node *node, int status, const char *message)
{
    struct kv_error error;

    if (!node->dead) {
        node->dead = true;
        (void)!kv_error_set(&error, status, "%s", message);
        node->options.ops->fatal(node->options.arg, status == KV_CORRUPT ? 5 : 6, &error);
    }
}

static void on_fatal(void *arg, const struct kv_error *error)
{
    kv_node_die(arg, error->status, error->message);
}

static const char *role_name(enum kv_role role)
{
    static const char *const names[] = {
        [KV_ROLE_STARTING] = "unavailable",
        [KV_ROLE_FOLLOWER] = "follower",
        [KV_ROLE_CANDIDATE] = "candidate",
        [KV_ROLE_LEADER] = "leader",
    };

    return names[role];
}

static void on_changed(void *arg)
{
    struct kv_node *node = arg;

    kv_replica_status(node->replica, &node->replica_status);
    kv_node_clock_leads(node);
    kv_node_transfers_changed(node);
    node->read_retry_ms = 0;
    KV_LOG(INFO,
           "node",
           "role",
           "role=%s term=%" PRIu64 " leader=%" PRIu64,
           role_name(node->replica_status.role),
           node->replica_status.term,
           node->replica_status.leader_id);
    node->again = true;
    node->options.ops->changed(node->options.arg);
}

static void on_peer_connected(void *arg, uint64_t peer_id)
{
    struct kv_node *node = arg;

    KV_LOG(INFO, "node", "peer_connected", "peer=%" PRIu64, peer_id);
    node->again = true;
}

static void on_peer_disconnected(void *arg, uint64_t peer_id)
{
    struct kv_node *node = arg;

    KV_LOG(INFO, "node", "peer_disconnected", "peer=%" PRIu64, peer_id);
    kv_node_forward_lost(node, peer_id);
}

static void
on_peer_info(void *arg, uint64_t peer_id, const char *client_address, uint64_t machine_version)
{
    struct kv_node *node = arg;
    struct kv_node_peer *peer = kv_node_peer(node, peer_id);

    (void)machine_version;
    if (peer) {
        snprintf(peer->client_address, sizeof peer->client_address, "%s", client_address);
        node->options.ops->changed(node->options.arg);
    }
}

static int open_peers(struct kv_node *node)
{
    for (size_t i = 0; i < node->options.n_members; i++) {
        struct kv_node_peer *peer = &node->peers[node->n_peers];

        if (node->options.members[i].id == node->options.node_id) {
            continue;
        }
        peer->id = node->options.members[i].id;
        kv_buf_init(&peer->replies, KV_PEER_MESSAGE_BYTES_MAX);
        peer->reply_ids = malloc(KV_BATCH_COMMANDS_MAX * sizeof *peer->reply_ids);
        peer->reply_sizes = malloc(KV_BATCH_COMMANDS_MAX * sizeof *peer->reply_sizes);
        node->n_peers++;
        if (!peer->reply_ids || !peer->reply_sizes) {
            return KV_NO_MEMORY;
        }
    }
    return 0;
}

/* The node keeps its own copy of the members' list. */
static int copy_members(struct kv_node *node)
{
    size_t n = node->options.n_members;
    struct kv_node_member *members = calloc(n ? n : 1, sizeof *members);

    if (!members) {
        /* The caller's list is not ours to free. */
        node->options.members = NULL;
        node->options.n_members = 0;
        return KV_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(node->options.members[i].peer_address) + 1;
        char *address = malloc(size);

        members[i].id = node->options.members[i].id;
        members[i].peer_address = address;
        if (!address) {
            node->options.members = members;
            node->options.n_members = i;
            return KV_NO_MEMORY;
        }
        memcpy(address, node->options.members[i].peer_address, size);
    }
    node->options.members = members;
    return 0;
}

static int open_replica(struct kv_node *node, struct kv_error *ret_error)
{
    static const struct kv_replica_ops ops = {
        .apply = kv_node_apply,
        .truncated = kv_node_truncated,
        .changed = on_changed,
        .receive = kv_node_receive,
        .peer_connected = on_peer_connected,
        .peer_disconnected = on_peer_disconnected,
        .peer_info = on_peer_info,
        .state_bytes = kv_node_state_bytes,
        .snapshot_open = kv_node_snapshot_open,
        .snapshot_read = kv_node_snapshot_read,
        .snapshot_close = kv_node_snapshot_close,
        .restore_open = kv_node_restore_open,
        .restore_feed = kv_node_restore_feed,
        .restore_finish = kv_node_restore_finish,
        .restore_close = kv_node_restore_close,
        .restore_install = kv_node_restore_install,
        .snapshot_done = kv_node_snapshot_done,
        .fatal = on_fatal,
    };
    struct kv_replica_member members[KV_MEMBERS_MAX];
    struct kv_replica_options options = {
        .cluster_id = node->options.cluster_id,
        .node_id = node->options.node_id,
        .members = members,
        .n_members = node->options.n_members,
        .election_timeout_ms = node->options.election_timeout_ms ? node->options.election_timeout_ms
                                                                 : KV_ELECTION_TIMEOUT_MS,
        .heartbeat_ms =
            node->options.heartbeat_ms ? node->options.heartbeat_ms : KV_HEARTBEAT_TIMEOUT_MS,
        .wal_segment_bytes = node->options.wal_segment_bytes,
        .snapshot_log_bytes = node->options.snapshot_log_bytes,
        .snapshot_slice_bytes = node->options.snapshot_slice_bytes,
        .entry_cache_bytes = node->options.entry_cache_bytes,
        .env = &node->env,
        .ops = &ops,
        .arg = node,
    };

    for (size_t i = 0; i < options.n_members; i++) {
        members[i] = (struct kv_replica_member){node->options.members[i].id,
                                                node->options.members[i].peer_address};
    }
    return kv_replica_open(&options, &node->replica, ret_error);
}

int kv_node_open(const struct kv_node_options *options,
                 const struct kv_env *env,
                 struct kv_node **ret_node,
                 struct kv_error *ret_error)
{
    struct kv_node *node = calloc(1, sizeof *node);
    int status;

    KV_ASSERT(options->n_members <= KV_MEMBERS_MAX);
    if (!node) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the node");
    }
    node->options = *options;
    node->env = *env;
    node->timer_ms = UINT64_MAX;
    node->clock_wake_ms = UINT64_MAX;
    node->started_ns = kv_node_now_ns(node);
    kv_arena_init(&node->arena, KV_DECODED_BYTES_MAX);
    kv_watches_init(&node->watches);
    kv_topic_groups_init(&node->topics);
    kv_buf_init(&node->reply_buf, KV_REPLY_FRAME_BYTES_MAX + KV_MIB);
    node->forwards = calloc(KV_FORWARD_MAX, sizeof(struct kv_op *));
    node->forward_next = kv_env_random_u64(&node->env);
    status = copy_members(node);
    if (status == 0) {
        status = open_peers(node);
    }
    if (status == 0) {
        status = node->forwards ? kv_machine_open(&node->machine) : KV_NO_MEMORY;
    }
    if (status != 0) {
        status = kv_error_set(ret_error, status, "no memory for the node");
    } else {
        kv_machine_on_wake(node->machine, kv_node_woken, node);
        kv_machine_on_publish(node->machine, kv_topic_published, node);
        status = open_replica(node, ret_error);
    }
    if (status != 0) {
        kv_node_close(node);
        return status;
    }
    kv_replica_status(node->replica, &node->replica_status);
    *ret_node = node;
    return 0;
}

void kv_node_close(struct kv_node *node)
{
    if (!node) {
        return;
    }
    node->dead = true;
    for (int state = KV_OP_QUEUED; state < KV_OP_STATES; state++) {
        const bool is_begun =
            state == KV_OP_PROPOSED || state == KV_OP_FORWARDED || state == KV_OP_WAITING;

        while (node->lists[state].first) {
            kv_node_fail(node,
                         node->lists[state].first,
                         is_begun ? KV_OUTCOME_UNKNOWN : KV_SHUTTING_DOWN,
                         "the server is closing");
        }
    }
    kv_heaps_deinit(&node->subscriptions.heaps);
    kv_watches_deinit(&node->watches);
    kv_topic_groups_deinit(&node->topics);
    kv_replica_close(node->replica);
    for (size_t i = 0; i < node->n_proposals; i++) {
        free(node->proposals[(node->proposals_first + i) % KV_PROPOSALS_MAX].slots);
    }
    kv_machine_close(node->machine);
    kv_node_free_retired(node);
    for (size_t i = 0; i < node->n_peers; i++) {
        kv_buf_deinit(&node->peers[i].replies);
        free(node->peers[i].reply_ids);
        free(node->peers[i].reply_sizes);
    }
    for (size_t i = 0; i < node->options.n_members; i++) {
        free((void *)(uintptr_t)node->options.members[i].peer_address);
    }
    free((void *)(uintptr_t)node->options.members);
    free(node->forwards);
    kv_buf_deinit(&node->reply_buf);
    kv_arena_deinit(&node->arena);
    free(node);
}

/* 0, or why the op is not taken at all. */
static int admit(struct kv_node *node, struct kv_op *op)
{
    if (node->stopping || node->dead) {
        kv_node_fail(node, op, KV_SHUTTING_DOWN, "this server is shutting down: use another");
        return KV_SHUTTING_DOWN;
    }
    if (node->n_ops > KV_NODE_REQUESTS_MAX || node->ops_bytes > KV_NODE_REQUEST_BYTES_MAX) {
        kv_node_fail(node,
                     op,
                     KV_BUSY,
                     "%zu requests of %zu bytes are waiting here (limits %u and %llu)",
                     node->n_ops,
                     node->ops_bytes,
                     KV_NODE_REQUESTS_MAX,
                     KV_NODE_REQUEST_BYTES_MAX);
        return KV_BUSY;
    }
    if (node->unfit_index != 0 && op->cls != KV_COMMAND_NODE) {
        kv_node_fail_unfit(node, op);
        return KV_CORRUPT;
    }
    if (op->remote &&
        (op->cls != KV_COMMAND_WRITE || node->replica_status.role != KV_ROLE_LEADER)) {
        kv_node_fail(node,
                     op,
                     op->cls == KV_COMMAND_WRITE ? KV_NOT_LEADER : KV_INVALID,
                     "this node (%" PRIu64 ") does not lead",
                     node->options.node_id);
        return KV_NOT_LEADER;
    }
    return 0;
}

void kv_node_submit(struct kv_node *node, struct kv_op *op)
{
    op->state = KV_OP_NONE;
    op->next = op->prev = NULL;
    op->stream = NULL;
    op->subscription = NULL;
    node->n_ops++;
    node->ops_bytes += op->bytes.size;
    if (admit(node, op) != 0) {
        return;
    }
    switch (op->cls) {
    case KV_COMMAND_WRITE:
        kv_node_move(node, op, kv_node_is_renewal(op) ? KV_OP_RENEWAL : KV_OP_QUEUED);
        return;
    case KV_COMMAND_READ:
    case KV_COMMAND_STREAM:
        if (op->request->serializable) {
            kv_node_serve_read(node, op);
        } else {
            kv_node_move(node, op, KV_OP_READ);
        }
        return;
    case KV_COMMAND_SUBSCRIBE:
        kv_subscription_submit(node, op);
        return;
    default:
        /* Validation has refused what is none, or not supported. */
        KV_ASSERT(op->cls == KV_COMMAND_NODE);
        kv_node_admin(node, op);
        return;
    }
}

void kv_node_stop(struct kv_node *node)
{
    static const enum kv_op_state not_begun[] = {KV_OP_QUEUED,
                                                 KV_OP_RENEWAL,
                                                 KV_OP_READ,
                                                 KV_OP_ASKED,
                                                 KV_OP_INDEXED,
                                                 KV_OP_STREAM,
                                                 KV_OP_TRANSFER,
                                                 KV_OP_SNAPSHOT,
                                                 KV_OP_BEHIND,
                                                 KV_OP_NO_CREDIT,
                                                 KV_OP_NO_ROOM,
                                                 KV_OP_FUTURE,
                                                 KV_OP_LIVE};

    if (node->stopping) {
        return;
    }
    node->stopping = true;
    kv_replica_quiesce(node->replica);
    node->stop_deadline_ms = kv_node_now_ns(node) / 1000000 + KV_TRANSFER_TIMEOUT_MS;
    if (node->replica_status.role == KV_ROLE_LEADER) {
        int status = kv_replica_transfer(node->replica, 0);

        KV_LOG(INFO, "node", "hand_over", "status=%s", kv_status_name(status));
    }
    kv_node_fail_waiting(node, "this server is shutting down while the pop waits");
    for (size_t i = 0; i < sizeof not_begun / sizeof not_begun[0]; i++) {
        while (node->lists[not_begun[i]].first) {
            kv_node_fail(node,
                         node->lists[not_begun[i]].first,
                         KV_SHUTTING_DOWN,
                         "this server is shutting down; nothing was done: use another");
        }
    }
    node->again = true;
    node->options.ops->changed(node->options.arg);
}

/* Stopped when another leads and every write that was under way has its answer, or when that takes
 * too long. */
static void check_stopped(struct kv_node *node)
{
    const struct kv_replica_status *status = &node->replica_status;
    bool has_peers = node->n_peers > 0;
    bool handed_over = !has_peers || status->role != KV_ROLE_LEADER;
    bool late = kv_node_now_ns(node) / 1000000 >= node->stop_deadline_ms;

    if (!node->stopping || node->stop_told) {
        return;
    }
    if (late || (handed_over && node->n_ops == 0 && status->idle &&
                 (status->leader_id != 0 || !has_peers))) {
        node->stop_told = true;
        KV_REACHED("stopped");
        node->options.ops->stopped(node->options.arg);
    }
}

static void arm_timer(struct kv_node *node)
{
    uint64_t deadline = kv_replica_deadline_ms(node->replica);

    if (node->again || node->stopping) {
        deadline = node->again ? 0 : kv_node_now_ns(node) / 1000000 + 1;
    }
    if (node->n_ops > 0 && node->expire_ms < deadline) {
        deadline = node->expire_ms;
    }
    if (kv_subscriptions_wake_ms(node) < deadline) {
        deadline = kv_subscriptions_wake_ms(node);
    }
    if (node->led_term != 0 && node->clock_wake_ms < deadline) {
        deadline = node->clock_wake_ms;
    }
    if (deadline != node->timer_ms) {
        node->timer_ms = deadline;
        node->env.clock.ops->set_timer(node->env.clock.clock, deadline);
    }
}

/* Memory that nobody can see any more is freed in small pieces, in idle turns, too; and a snapshot
 * that holds too much of it is given up. */
static void tend_machine(struct kv_node *node)
{
    uint64_t most = node->options.snapshot_pin_bytes ? node->options.snapshot_pin_bytes
                                                     : (uint64_t)KV_PIN_BYTES_MAX;
    struct kv_machine_stats stats;

    if (node->n_ops == 0 && kv_machine_reclaim(node->machine)) {
        node->again = true;
    }
    if (node->n_views > 0) {
        kv_machine_stats(node->machine, &stats);
        if (stats.unreclaimed_bytes > most) {
            kv_replica_give_up_snapshot(node->replica);
        }
    }
}

/* 2 ms is what no operation is meant to exceed. */
const uint64_t kv_turn_bounds_ns[KV_TURN_BUCKETS] = {
    50000,
    100000,
    250000,
    500000,
    1000000,
    2000000,
    5000000,
    10000000,
    25000000,
    100000000,
    1000000000,
};

static void note_turn(struct kv_node *node, uint64_t spent_ns)
{
    size_t bucket = 0;

    while (bucket < KV_TURN_BUCKETS && spent_ns > kv_turn_bounds_ns[bucket]) {
        bucket++;
    }
    node->turns.counts[bucket]++;
    node->turns.sum_ns += spent_ns;
    if (spent_ns > node->turn_ns_max) {
        node->turn_ns_max = spent_ns;
    }
}

void kv_node_turn(struct kv_node *node)
{
    uint64_t begin_ns = kv_node_now_ns(node);

    if (node->dead) {
        return;
    }
    node->again = false;
    kv_replica_status(node->replica, &node->replica_status);
    kv_node_clock_leads(node);
    if (node->replica_status.role == KV_ROLE_LEADER) {
        kv_node_bootstrap_turn(node);
        kv_node_propose(node);
        kv_node_clock_turn(node);
    } else {
        kv_node_renewals_follow(node);
        kv_node_forward(node);
    }
    kv_node_start_reads(node);
    if (kv_replica_turn(node->replica)) {
        node->again = true;
    }
    kv_node_serve_reads(node);
    kv_node_serve_streams(node);
    kv_subscriptions_turn(node);
    kv_node_expire(node);
    kv_node_flush_replies(node);
    tend_machine(node);
    kv_replica_status(node->replica, &node->replica_status);
    check_stopped(node);
    arm_timer(node);
    note_turn(node, kv_node_now_ns(node) - begin_ns);
}

void kv_node_on_timer(struct kv_node *node)
{
    node->timer_ms = UINT64_MAX;
    if (!node->dead) {
        kv_replica_on_time(node->replica);
    }
}

static bool is_serving(const struct kv_node *node)
{
    const struct kv_replica_status *status = &node->replica_status;

    /* A follower without room learns of no new entries; one that fetches a snapshot, or is about
     * to, lacks so many that they are not in its log. */
    return !node->stopping && !node->dead && node->unfit_index == 0 && status->leader_id != 0 &&
           (status->role == KV_ROLE_LEADER || status->room != KV_ROOM_NONE) &&
           status->applied_index + SERVING_LAG_ENTRIES >= status->cluster_commit_index &&
           status->applied_index > 0 && status->fetch_index == 0 &&
           (status->role == KV_ROLE_LEADER ||
            kv_replica_is_connected(node->replica, status->leader_id));
}

/* This node's disk, or as the leader sees it those of a majority. */
static bool is_short(const struct kv_replica_status *status)
{
    return status->room != KV_ROOM_ENOUGH || (status->role == KV_ROLE_LEADER && !status->has_room);
}

static void fill_replica_status(struct kv_node *node, struct kv_node_status *ret_status)
{
    const struct kv_replica_status *status = &node->replica_status;

    ret_status->leader_id = status->leader_id;
    snprintf(ret_status->leader_address,
             sizeof ret_status->leader_address,
             "%s",
             kv_node_client_address(node, status->leader_id));
    snprintf(ret_status->role, sizeof ret_status->role, "%s", role_name(status->role));
    ret_status->serving = is_serving(node);
    snprintf(ret_status->state,
             sizeof ret_status->state,
             "%s",
             node->stopping                     ? "stopping"
             : node->unfit_index != 0           ? "corrupt"
             : is_short(status)                 ? "no-space"
             : ret_status->serving              ? "serving"
             : status->role == KV_ROLE_STARTING ? "starting"
             : status->leader_id == 0           ? "no-leader"
                                                : "starting");
    ret_status->term = status->term;
    ret_status->commit_index = status->commit_index;
    ret_status->applied_index = status->applied_index;
    ret_status->last_index = status->last_index;
    ret_status->elections = status->elections;
    ret_status->confirm_rounds = status->confirm_rounds;
    ret_status->wal_bytes = status->wal.disk_bytes;
    ret_status->snapshot_index = status->snapshot_index;
    ret_status->snapshot_bytes = status->snapshot_bytes;
    ret_status->snapshots_taken = status->snapshots_taken;
    ret_status->snapshots_installed = status->snapshots_installed;
    ret_status->snapshot_fetch_index = status->fetch_index;
    ret_status->snapshot_fetch_bytes = status->fetch_bytes;
    ret_status->wal_syncs = status->wal.syncs;
    ret_status->wal_sync_ns_total = status->wal.sync_ns_total;
    ret_status->wal_sync_ns_max = status->wal.sync_ns_max;
}

void kv_node_status_get(struct kv_node *node, struct kv_node_status *ret_status)
{
    struct kv_machine_stats stats;

    memset(ret_status, 0, sizeof *ret_status);
    kv_replica_status(node->replica, &node->replica_status);
    kv_machine_stats(node->machine, &stats);
    fill_replica_status(node, ret_status);
    ret_status->cluster_id = node->options.cluster_id;
    ret_status->node_id = node->options.node_id;
    ret_status->revision = kv_machine_revision(node->machine);
    ret_status->oldest_revision = kv_machine_oldest_revision(node->machine);
    ret_status->cluster_time_ms = kv_machine_cluster_time_ms(node->machine);
    ret_status->keys = stats.keys;
    ret_status->data_bytes = stats.data_bytes;
    ret_status->history_bytes = stats.history_bytes;
    ret_status->used_bytes = stats.used_bytes;
    ret_status->history_versions = stats.versions;
    ret_status->sessions = stats.sessions;
    ret_status->session_bytes = stats.session_bytes;
    ret_status->waiters = stats.waiters;
    ret_status->leases = stats.leases;
    ret_status->expiring = stats.expiring;
    ret_status->leased = stats.leased;
    ret_status->lateness = stats.lateness;
    ret_status->topics = stats.topics;
    ret_status->topic_messages = stats.topic_messages;
    ret_status->topic_bytes = stats.topic_bytes;
    ret_status->topic_subscriptions = node->topics.n_subscriptions;
    ret_status->topic_patterns = node->topics.n_patterns;
    ret_status->topic_deliveries = node->topics.messages;
    ret_status->topic_gaps = node->topics.gaps;
    ret_status->unreclaimed_bytes = stats.unreclaimed_bytes;
    ret_status->entries_proposed = node->entries_proposed;
    ret_status->commands_proposed = node->commands_proposed;
    ret_status->commands_applied = node->commands_applied;
    ret_status->reads_served = node->reads_served;
    ret_status->forwarded = node->forwarded;
    ret_status->requests_waiting = node->n_ops;
    ret_status->request_bytes_waiting = node->ops_bytes;
    ret_status->streams = node->lists[KV_OP_STREAM].count;
    ret_status->subscriptions = node->subscriptions.n;
    ret_status->subscription_bytes = kv_subscriptions_bytes(node);
    ret_status->subscriptions_behind = node->lists[KV_OP_BEHIND].count +
                                       node->lists[KV_OP_NO_CREDIT].count +
                                       node->lists[KV_OP_NO_ROOM].count;
    ret_status->subscription_items = node->subscriptions.items;
    ret_status->subscriptions_lost = node->subscriptions.lost;
    ret_status->subscriptions_crowded = node->subscriptions.crowded;
    ret_status->watches = node->watches.n;
    ret_status->watch_events = node->watches.events;
    ret_status->turn_ns_max = node->turn_ns_max;
    ret_status->turns = node->turns;
    ret_status->uptime_ms = (kv_node_now_ns(node) - node->started_ns) / 1000000;
    ret_status->settings = *kv_machine_settings_of(node->machine);
}

void kv_node_forget_longest_turn(struct kv_node *node)
{
    node->turn_ns_max = 0;
}
