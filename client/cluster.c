/* The typed calls on settings and the cluster. */
#include "client/blocking.h"

#include <stdlib.h>

int kv_config_list(struct kv_client *client,
                   const struct kv_call_options *options,
                   struct kv_config_list *ret_list,
                   struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigList command = KV__CONFIG_LIST__INIT;
    struct kv_config_entry *entries = NULL;
    Kv__Reply *reply;
    int status;

    request.command_case = KV__REQUEST__COMMAND_CONFIG_LIST;
    request.config_list = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_CONFIG_LIST) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        entries = calloc(reply->config_list->n_entries + 1, sizeof *entries);
        if (!entries) {
            status = kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
        }
    }
    if (status < 0) {
        kv_reply_free(reply);
        return status;
    }
    for (size_t i = 0; i < reply->config_list->n_entries; i++) {
        const Kv__ConfigEntry *entry = reply->config_list->entries[i];

        entries[i] = (struct kv_config_entry){
            .name = entry->name,
            .value = entry->value,
            .default_value = entry->default_value,
            .min = entry->min,
            .max = entry->max,
            .unit = entry->unit,
            .help = entry->help,
        };
    }
    *ret_list = (struct kv_config_list){reply->config_list->n_entries, entries, reply};
    return 0;
}

void kv_config_list_free(struct kv_config_list *list)
{
    if (list) {
        kv_reply_free(list->memory);
        free(list->entries);
        *list = (struct kv_config_list){0};
    }
}

int kv_config_get(struct kv_client *client,
                  const char *name,
                  const struct kv_call_options *options,
                  uint64_t *ret_value,
                  struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigGet command = KV__CONFIG_GET__INIT;
    Kv__Reply *reply;
    int status;

    command.name = (char *)name;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_GET;
    request.config_get = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 &&
        (reply->result_case != KV__REPLY__RESULT_CONFIG_GET || !reply->config_get->entry)) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        *ret_value = reply->config_get->entry->value;
    }
    kv_reply_free(reply);
    return status;
}

int kv_config_set(struct kv_client *client,
                  const char *name,
                  uint64_t value,
                  const struct kv_call_options *options,
                  uint64_t *ret_previous,
                  struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    Kv__Reply *reply;
    int status;

    command.name = (char *)name;
    command.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_CONFIG_SET) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0 && ret_previous) {
        *ret_previous = reply->config_set->previous;
    }
    kv_reply_free(reply);
    return status;
}

int kv_status(struct kv_client *client,
              const struct kv_call_options *options,
              struct kv_node_info *ret_info,
              struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Status command = KV__STATUS__INIT;
    const Kv__StatusResult *result;
    Kv__Reply *reply;
    int status;

    request.command_case = KV__REQUEST__COMMAND_STATUS;
    request.status = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_STATUS) {
        status = kv_missing_result(ret_error);
    }
    if (status < 0) {
        kv_reply_free(reply);
        return status;
    }
    result = reply->status;
    *ret_info = (struct kv_node_info){
        .cluster_id = result->cluster_id,
        .node_id = result->node_id,
        .leader_id = result->leader_id,
        .leader_address = result->leader_address,
        .version = result->version,
        .role = result->role,
        .state = result->state,
        .term = result->term,
        .commit_index = result->commit_index,
        .applied_index = result->applied_index,
        .last_index = result->last_index,
        .revision = result->revision,
        .oldest_revision = result->oldest_revision,
        .keys = result->keys,
        .data_bytes = result->data_bytes,
        .wal_bytes = result->wal_bytes,
        .connections = result->connections,
        .uptime_ms = result->uptime_ms,
        .cluster_time_ms = result->cluster_time_ms,
        .snapshot_index = reply->status->snapshot_index,
        .snapshot_bytes = reply->status->snapshot_bytes,
        .snapshot_fetch_index = reply->status->snapshot_fetch_index,
        .snapshot_fetch_bytes = reply->status->snapshot_fetch_bytes,
        .history_bytes = reply->status->history_bytes,
        .data_limit_bytes = result->data_limit_bytes,
        .used_bytes = result->used_bytes,
        .leases = result->leases,
        .topics = result->topics,
        .sessions = reply->status->sessions,
        .session_bytes = reply->status->session_bytes,
        .watches = result->watches,
        .subscriptions = result->topic_subscriptions,
        .watches_behind = result->watches_behind,
        .requests = result->requests,
        .machine_version = result->machine_version,
        .memory = reply,
    };
    if (result->n_latency_counts == result->n_latency_bounds_us + 1) {
        ret_info->n_latencies = result->n_latency_bounds_us;
        ret_info->latency_bounds_us = result->latency_bounds_us;
        ret_info->latency_counts = result->latency_counts;
    }
    return 0;
}

void kv_node_info_free(struct kv_node_info *info)
{
    if (info) {
        kv_reply_free(info->memory);
        *info = (struct kv_node_info){0};
    }
}

int kv_member_list(struct kv_client *client,
                   const struct kv_call_options *options,
                   struct kv_member_list *ret_list,
                   struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__MemberList command = KV__MEMBER_LIST__INIT;
    struct kv_member *members = NULL;
    Kv__Reply *reply;
    int status;

    request.command_case = KV__REQUEST__COMMAND_MEMBER_LIST;
    request.member_list = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_MEMBER_LIST) {
        status = kv_missing_result(ret_error);
    }
    if (status == 0) {
        members = calloc(reply->member_list->n_members + 1, sizeof *members);
        if (!members) {
            status = kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
        }
    }
    if (status < 0) {
        kv_reply_free(reply);
        return status;
    }
    for (size_t i = 0; i < reply->member_list->n_members; i++) {
        const Kv__Member *member = reply->member_list->members[i];

        members[i] = (struct kv_member){
            .node_id = member->node_id,
            .peer_address = member->peer_address,
            .client_address = member->client_address,
            .role = member->role,
            .leader = member->leader,
            .reachable = member->reachable,
            .match_index = member->match_index,
        };
    }
    *ret_list = (struct kv_member_list){reply->member_list->n_members, members, reply};
    return 0;
}

void kv_member_list_free(struct kv_member_list *list)
{
    if (list) {
        kv_reply_free(list->memory);
        free(list->members);
        *list = (struct kv_member_list){0};
    }
}

int kv_snapshot_take(struct kv_client *client,
                     const struct kv_call_options *options,
                     uint64_t *ret_index,
                     uint64_t *ret_bytes,
                     struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SnapshotNow command = KV__SNAPSHOT_NOW__INIT;
    Kv__Reply *reply;
    int status;

    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &command;
    status = kv_call(client, &request, options, &reply, ret_error);
    if (status == 0 && reply->result_case != KV__REPLY__RESULT_SNAPSHOT_NOW) {
        status = kv_error_set(ret_error, KV_INTERNAL, "the server answered something else");
    }
    if (status == 0) {
        if (ret_index) {
            *ret_index = reply->snapshot_now->index;
        }
        if (ret_bytes) {
            *ret_bytes = reply->snapshot_now->bytes;
        }
    }
    kv_reply_free(reply);
    return status;
}

int kv_leader_transfer(struct kv_client *client,
                       uint64_t node_id,
                       const struct kv_call_options *options,
                       struct kv_error *ret_error)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__LeaderTransfer command = KV__LEADER_TRANSFER__INIT;

    command.node_id = node_id;
    request.command_case = KV__REQUEST__COMMAND_LEADER_TRANSFER;
    request.leader_transfer = &command;
    return kv_call(client, &request, options, NULL, ret_error);
}
