/* Commands about the node itself: status, members, handing over leadership. */
#include "common/assert.h"
#include "common/reached.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <stdlib.h>

static void answer_status(struct kv_node *node, struct kv_op *op)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__StatusResult result = KV__STATUS_RESULT__INIT;
    struct kv_node_status status;

    kv_node_status_get(node, &status);
    result.cluster_id = status.cluster_id;
    result.node_id = status.node_id;
    result.version = (char *)(uintptr_t)node->options.version;
    result.role = status.role;
    result.state = status.state;
    result.leader_id = status.leader_id;
    result.leader_address = status.leader_address;
    result.term = status.term;
    result.commit_index = status.commit_index;
    result.applied_index = status.applied_index;
    result.last_index = status.last_index;
    result.revision = status.revision;
    result.oldest_revision = status.oldest_revision;
    result.keys = status.keys;
    result.data_bytes = status.data_bytes;
    result.history_bytes = status.history_bytes;
    result.sessions = status.sessions;
    result.leases = status.leases;
    result.leased_keys = status.leased;
    result.expiring_keys = status.expiring;
    result.session_bytes = status.session_bytes;
    result.topics = status.topics;
    result.topic_messages = status.topic_messages;
    result.topic_bytes = status.topic_bytes;
    result.topic_subscriptions = status.topic_subscriptions;
    result.watches = status.watches;
    result.subscription_bytes = status.subscription_bytes;
    result.watches_behind = status.subscriptions_behind;
    result.data_limit_bytes = status.settings.data_bytes;
    result.used_bytes = status.used_bytes;
    result.cluster_time_ms = status.cluster_time_ms;
    result.machine_version = KV_MACHINE_VERSION;
    result.uptime_ms = status.uptime_ms;
    result.wal_bytes = status.wal_bytes;
    result.snapshot_index = status.snapshot_index;
    result.snapshot_bytes = status.snapshot_bytes;
    result.snapshot_fetch_index = status.snapshot_fetch_index;
    result.snapshot_fetch_bytes = status.snapshot_fetch_bytes;
    if (node->options.ops->clients) {
        node->options.ops->clients(node->options.arg, &result);
    }
    reply.result_case = KV__REPLY__RESULT_STATUS;
    reply.status = &result;
    reply.revision = status.revision;
    kv_node_finish(node, op, &reply);
}

static void answer_members(struct kv_node *node, struct kv_op *op)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__MemberListResult result = KV__MEMBER_LIST_RESULT__INIT;
    Kv__Member members[KV_MEMBERS_MAX];
    Kv__Member *pointers[KV_MEMBERS_MAX];

    for (size_t i = 0; i < node->options.n_members; i++) {
        const struct kv_node_member *member = &node->options.members[i];

        kv__member__init(&members[i]);
        members[i].node_id = member->id;
        members[i].peer_address = (char *)(uintptr_t)member->peer_address;
        members[i].client_address = (char *)(uintptr_t)kv_node_client_address(node, member->id);
        members[i].role = (char *)(uintptr_t) "voter";
        members[i].leader = member->id == node->replica_status.leader_id;
        members[i].reachable = kv_replica_is_connected(node->replica, member->id);
        members[i].match_index = kv_replica_match_index(node->replica, member->id);
        pointers[i] = &members[i];
    }
    result.n_members = node->options.n_members;
    result.members = pointers;
    reply.result_case = KV__REPLY__RESULT_MEMBER_LIST;
    reply.member_list = &result;
    reply.revision = kv_machine_revision(node->machine);
    kv_node_finish(node, op, &reply);
}

static void start_transfer(struct kv_node *node, struct kv_op *op)
{
    uint64_t to_id = op->request->leader_transfer->node_id;
    Kv__Reply reply = KV__REPLY__INIT;
    int status;

    if (to_id == node->options.node_id && node->replica_status.role == KV_ROLE_LEADER) {
        kv_node_finish(node, op, &reply);
        return;
    }
    status = kv_replica_transfer(node->replica, to_id);
    switch (status) {
    case 0:
        KV_REACHED("transfer");
        kv_node_move(node, op, KV_OP_TRANSFER);
        return;
    case KV_NOT_LEADER:
        kv_node_fail(node, op, status, "only the leader can hand over");
        return;
    case KV_BUSY:
        kv_node_fail(node, op, status, "leadership is being handed over already");
        return;
    default:
        kv_node_fail(node,
                     op,
                     KV_NOT_FOUND,
                     to_id ? "node %" PRIu64 " is not a voter that is connected"
                           : "no other voter is connected",
                     to_id);
        return;
    }
}

void kv_node_transfers_changed(struct kv_node *node)
{
    struct kv_op *op;

    if (node->replica_status.role == KV_ROLE_LEADER || node->replica_status.leader_id == 0) {
        return;
    }
    while ((op = node->lists[KV_OP_TRANSFER].first)) {
        Kv__Reply reply = KV__REPLY__INIT;

        kv_node_finish(node, op, &reply);
    }
}

static void start_snapshot(struct kv_node *node, struct kv_op *op)
{
    int status;

    /* The answer may come at once. */
    kv_node_move(node, op, KV_OP_SNAPSHOT);
    status = kv_replica_take_snapshot(node->replica);
    if (status == 0) {
        node->again = true;
    } else if (status == KV_BUSY) {
        kv_node_fail(node,
                     op,
                     status,
                     "a snapshot is being installed, or the last try has failed just now: see the "
                     "log of node %" PRIu64,
                     node->options.node_id);
    } else {
        kv_node_fail(node, op, status, "this node has applied nothing yet");
    }
}

void kv_node_admin(struct kv_node *node, struct kv_op *op)
{
    switch (op->request->command_case) {
    case KV__REQUEST__COMMAND_STATUS:
        answer_status(node, op);
        return;
    case KV__REQUEST__COMMAND_MEMBER_LIST:
        answer_members(node, op);
        return;
    case KV__REQUEST__COMMAND_LEADER_TRANSFER:
        start_transfer(node, op);
        return;
    default:
        KV_ASSERT(op->request->command_case == KV__REQUEST__COMMAND_SNAPSHOT_NOW);
        start_snapshot(node, op);
        return;
    }
}
