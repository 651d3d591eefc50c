/* kvctl's commands on settings and nodes. */
#include "client/kvctl/kvctl.h"
#include "client/session.h"

#include <inttypes.h>
#include <string.h>

/* ---------------------------------------------------------------- settings */

static void print_setting(struct kvctl *kvctl, const struct kv_config_entry *entry, bool first)
{
    FILE *out = kvctl->out;

    switch (kvctl->args.format) {
    case KVCTL_TEXT:
        fprintf(out,
                "%-16s %-12" PRIu64 " %s (default %" PRIu64 ", %" PRIu64 "..%" PRIu64 "): %s\n",
                entry->name,
                entry->value,
                entry->unit,
                entry->default_value,
                entry->min,
                entry->max,
                entry->help);
        break;
    case KVCTL_JSON:
        fputs(first ? "[{\"name\":" : ",{\"name\":", out);
        kvctl_print_json_string(out, entry->name);
        fprintf(out,
                ",\"value\":%" PRIu64 ",\"default\":%" PRIu64 ",\"min\":%" PRIu64
                ",\"max\":%" PRIu64 ",\"unit\":",
                entry->value,
                entry->default_value,
                entry->min,
                entry->max);
        kvctl_print_json_string(out, entry->unit);
        fputs(",\"help\":", out);
        kvctl_print_json_string(out, entry->help);
        fputc('}', out);
        break;
    case KVCTL_VALUE:
        fprintf(out, "%" PRIu64 "\n", entry->value);
        break;
    }
}

int kvctl_run_config_list(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_config_list list;
    struct kv_error error;

    if (kv_config_list(kvctl->client, &options, &list, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    for (size_t i = 0; i < list.n_entries; i++) {
        print_setting(kvctl, &list.entries[i], i == 0);
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fputs(list.n_entries ? "]\n" : "[]\n", kvctl->out);
    }
    kv_config_list_free(&list);
    return KVCTL_OK;
}

static void print_named(struct kvctl *kvctl, const char *name, uint64_t number)
{
    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(kvctl->out, "{\"%s\":%" PRIu64 "}\n", name, number);
    } else {
        fprintf(kvctl->out, "%" PRIu64 "\n", number);
    }
}

int kvctl_run_config_get(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    uint64_t value;

    if (kv_config_get(kvctl->client, kvctl->args.arguments[0], &options, &value, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    print_named(kvctl, "value", value);
    return KVCTL_OK;
}

int kvctl_run_config_set(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    const char *name = kvctl->args.arguments[0];
    struct kv_error error;
    uint64_t previous;
    int64_t value;

    if (!kvctl_parse_number(kvctl->args.arguments[1], 0, INT64_MAX, &value)) {
        return kvctl_usage(kvctl, "config set wants a number after the name");
    }
    if (kv_config_set(kvctl->client, name, (uint64_t)value, &options, &previous, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    if (kvctl->args.format == KVCTL_TEXT) {
        fprintf(kvctl->out, "OK, was %" PRIu64 "\n", previous);
    } else {
        print_named(kvctl, "previous", previous);
    }
    return KVCTL_OK;
}

/* ---------------------------------------------------------------- each endpoint by itself */

/* Prints what one endpoint said, or why it said nothing. */
typedef void (*endpoint_fn)(struct kvctl *kvctl,
                            const char *endpoint,
                            struct kv_client *client,
                            bool first,
                            int *exit_code);

static int for_each_endpoint(struct kvctl *kvctl, endpoint_fn fn)
{
    char addresses[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    struct kv_error error;
    size_t n_addresses;
    int exit_code = KVCTL_OK;

    if (kv_endpoints_parse(kvctl->endpoints, addresses, &n_addresses, &error) < 0) {
        return kvctl_usage(kvctl, "%s", error.message);
    }
    for (size_t i = 0; i < n_addresses; i++) {
        struct kv_client *client;
        int code = kvctl_open(kvctl, addresses[i], &client);

        if (code != KVCTL_OK) {
            return code;
        }
        fn(kvctl, addresses[i], client, i == 0, &exit_code);
        kv_client_close(client);
    }
    return exit_code;
}

static void print_endpoint_error(struct kvctl *kvctl, const char *endpoint, const char *message)
{
    if (kvctl->args.format == KVCTL_JSON) {
        fputs("{\"endpoint\":", kvctl->out);
        kvctl_print_json_string(kvctl->out, endpoint);
        fputs(",\"error\":", kvctl->out);
        kvctl_print_json_string(kvctl->out, message);
        fputc('}', kvctl->out);
    } else {
        fprintf(kvctl->out, "%s: %s\n", endpoint, message);
    }
}

static void print_info_json(FILE *out, const char *endpoint, const struct kv_node_info *info)
{
    fputs("{\"endpoint\":", out);
    kvctl_print_json_string(out, endpoint);
    fprintf(out,
            ",\"node_id\":%" PRIu64 ",\"cluster_id\":\"%016" PRIx64 "\",\"leader_id\":%" PRIu64
            ",\"leader_address\":",
            info->node_id,
            info->cluster_id,
            info->leader_id);
    kvctl_print_json_string(out, info->leader_address);
    fputs(",\"role\":", out);
    kvctl_print_json_string(out, info->role);
    fputs(",\"state\":", out);
    kvctl_print_json_string(out, info->state);
    fputs(",\"version\":", out);
    kvctl_print_json_string(out, info->version);
    fprintf(out,
            ",\"term\":%" PRIu64 ",\"commit_index\":%" PRIu64 ",\"applied_index\":%" PRIu64
            ",\"last_index\":%" PRIu64 ",\"revision\":%" PRId64 ",\"oldest_revision\":%" PRId64,
            info->term,
            info->commit_index,
            info->applied_index,
            info->last_index,
            info->revision,
            info->oldest_revision);
    fprintf(out,
            ",\"keys\":%" PRIu64 ",\"data_bytes\":%" PRIu64 ",\"wal_bytes\":%" PRIu64
            ",\"connections\":%" PRIu64 ",\"uptime_ms\":%" PRIu64 ",\"cluster_time_ms\":%" PRId64
            ",\"machine_version\":%" PRIu64 ",\"snapshot_index\":%" PRIu64
            ",\"snapshot_bytes\":%" PRIu64 ",\"snapshot_fetch_index\":%" PRIu64
            ",\"snapshot_fetch_bytes\":%" PRIu64 ",\"history_bytes\":%" PRIu64
            ",\"sessions\":%" PRIu64 ",\"session_bytes\":%" PRIu64,
            info->keys,
            info->data_bytes,
            info->wal_bytes,
            info->connections,
            info->uptime_ms,
            info->cluster_time_ms,
            info->machine_version,
            info->snapshot_index,
            info->snapshot_bytes,
            info->snapshot_fetch_index,
            info->snapshot_fetch_bytes,
            info->history_bytes,
            info->sessions,
            info->session_bytes);
    fprintf(out,
            ",\"used_bytes\":%" PRIu64 ",\"data_limit_bytes\":%" PRIu64 ",\"leases\":%" PRIu64
            ",\"topics\":%" PRIu64 ",\"watches\":%" PRIu64 ",\"subscriptions\":%" PRIu64
            ",\"watches_behind\":%" PRIu64 "}",
            info->used_bytes,
            info->data_limit_bytes,
            info->leases,
            info->topics,
            info->watches,
            info->subscriptions,
            info->watches_behind);
}

static void print_info(struct kvctl *kvctl, const char *endpoint, const struct kv_node_info *info)
{
    if (kvctl->args.format == KVCTL_JSON) {
        print_info_json(kvctl->out, endpoint, info);
        return;
    }
    fprintf(kvctl->out,
            "%s: node %" PRIu64 ", %s, %s, leader %" PRIu64 "%s%s, term %" PRIu64
            ", revision %" PRId64 ", %" PRIu64 " keys, applied %" PRIu64 " of %" PRIu64
            ", snapshot %" PRIu64,
            endpoint,
            info->node_id,
            info->role,
            info->state,
            info->leader_id,
            info->leader_address[0] ? " at " : "",
            info->leader_address,
            info->term,
            info->revision,
            info->keys,
            info->applied_index,
            info->last_index,
            info->snapshot_index);
    fprintf(kvctl->out, ", %" PRIu64, info->used_bytes);
    if (info->data_limit_bytes > 0) {
        fprintf(kvctl->out, " of %" PRIu64, info->data_limit_bytes);
    }
    fprintf(kvctl->out,
            " bytes used, %" PRIu64 " leases, %" PRIu64 " watches, %" PRIu64 " topics, up %" PRIu64
            " s, version %s\n",
            info->leases,
            info->watches,
            info->topics,
            info->uptime_ms / 1000,
            info->version);
}

static void status_of(
    struct kvctl *kvctl, const char *endpoint, struct kv_client *client, bool first, int *exit_code)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_node_info info;
    struct kv_error error;

    if (kvctl->args.format == KVCTL_JSON) {
        fputs(first ? "{\"nodes\":[" : ",", kvctl->out);
    }
    if (kv_status(client, &options, &info, &error) < 0) {
        print_endpoint_error(kvctl, endpoint, error.message);
        *exit_code = KVCTL_UNAVAILABLE;
        return;
    }
    print_info(kvctl, endpoint, &info);
    kv_node_info_free(&info);
}

int kvctl_run_status(struct kvctl *kvctl)
{
    int code = for_each_endpoint(kvctl, status_of);

    fputs(kvctl->args.format == KVCTL_JSON ? "]}\n" : "", kvctl->out);
    return code;
}

static void health_of(
    struct kvctl *kvctl, const char *endpoint, struct kv_client *client, bool first, int *exit_code)
{
    struct kv_get_options options = {.call = kvctl_call_options(kvctl)};
    struct kv_bytes key = kv_bytes_str("health");
    struct kv_error error;
    uint64_t count;

    if (kvctl->args.format == KVCTL_JSON) {
        fputs(first ? "{\"nodes\":[" : ",", kvctl->out);
    }
    /* Any read will do: that it is answered shows a majority. */
    if (kv_exists(client, &key, 1, &options, NULL, &count, &error) < 0) {
        print_endpoint_error(kvctl, endpoint, error.message);
        *exit_code = KVCTL_UNAVAILABLE;
        return;
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fputs("{\"endpoint\":", kvctl->out);
        kvctl_print_json_string(kvctl->out, endpoint);
        fputs(",\"healthy\":true}", kvctl->out);
    } else {
        fprintf(kvctl->out, "%s: healthy\n", endpoint);
    }
}

int kvctl_run_health(struct kvctl *kvctl)
{
    int code = for_each_endpoint(kvctl, health_of);

    fputs(kvctl->args.format == KVCTL_JSON ? "]}\n" : "", kvctl->out);
    return code;
}

/* ---------------------------------------------------------------- members */

static void print_member(struct kvctl *kvctl, const struct kv_member *member, bool first)
{
    FILE *out = kvctl->out;

    if (kvctl->args.format == KVCTL_JSON) {
        fprintf(out,
                "%s{\"node_id\":%" PRIu64 ",\"peer_address\":",
                first ? "[" : ",",
                member->node_id);
        kvctl_print_json_string(out, member->peer_address);
        fputs(",\"client_address\":", out);
        kvctl_print_json_string(out, member->client_address);
        fputs(",\"role\":", out);
        kvctl_print_json_string(out, member->role);
        fprintf(out,
                ",\"leader\":%s,\"reachable\":%s,\"match_index\":%" PRIu64 "}",
                member->leader ? "true" : "false",
                member->reachable ? "true" : "false",
                member->match_index);
        return;
    }
    fprintf(out,
            "node %" PRIu64 ": peer %s, client %s, %s%s%s\n",
            member->node_id,
            member->peer_address,
            member->client_address[0] ? member->client_address : "unknown",
            member->role,
            member->leader ? ", leader" : "",
            member->reachable ? "" : ", unreachable");
}

int kvctl_run_member_list(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_member_list list;
    struct kv_error error;

    if (kv_member_list(kvctl->client, &options, &list, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    for (size_t i = 0; i < list.n_members; i++) {
        print_member(kvctl, &list.members[i], i == 0);
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fputs(list.n_members ? "]\n" : "[]\n", kvctl->out);
    }
    kv_member_list_free(&list);
    return KVCTL_OK;
}

/* Writing a state of some GB takes a while. */
enum { SNAPSHOT_TIMEOUT_MS = 300000 };

static void take_snapshot_of(
    struct kvctl *kvctl, const char *endpoint, struct kv_client *client, bool first, int *exit_code)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    uint64_t index;
    uint64_t bytes;

    if (kvctl->args.numbers[KVCTL_TIMEOUT] == 0) {
        options.deadline_ms = SNAPSHOT_TIMEOUT_MS;
    }
    if (kvctl->args.format == KVCTL_JSON) {
        fputs(first ? "{\"nodes\":[" : ",", kvctl->out);
    }
    if (kv_snapshot_take(client, &options, &index, &bytes, &error) < 0) {
        print_endpoint_error(kvctl, endpoint, error.message);
        *exit_code = KVCTL_UNAVAILABLE;
    } else if (kvctl->args.format == KVCTL_JSON) {
        fputs("{\"endpoint\":", kvctl->out);
        kvctl_print_json_string(kvctl->out, endpoint);
        fprintf(kvctl->out, ",\"index\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", index, bytes);
    } else {
        fprintf(kvctl->out,
                "%s: snapshot at index %" PRIu64 ", %" PRIu64 " bytes\n",
                endpoint,
                index,
                bytes);
    }
}

int kvctl_run_snapshot_take(struct kvctl *kvctl)
{
    int code = for_each_endpoint(kvctl, take_snapshot_of);

    fputs(kvctl->args.format == KVCTL_JSON ? "]}\n" : "", kvctl->out);
    return code;
}

int kvctl_run_leader_transfer(struct kvctl *kvctl)
{
    struct kv_call_options options = kvctl_call_options(kvctl);
    struct kv_error error;
    int64_t node_id = 0;

    if (kvctl->args.n_arguments == 1 &&
        !kvctl_parse_number(kvctl->args.arguments[0], 1, INT64_MAX, &node_id)) {
        return kvctl_usage(kvctl, "leader transfer wants a node's id, a number from 1");
    }
    if (kv_leader_transfer(kvctl->client, (uint64_t)node_id, &options, &error) < 0) {
        return kvctl_fail(kvctl, &error);
    }
    fputs(kvctl->args.format == KVCTL_JSON ? "{\"done\":true}\n" : "OK\n", kvctl->out);
    return KVCTL_OK;
}
