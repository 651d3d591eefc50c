/* What no option can check alone, and what is derived from several. */
#include "server/node/config_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int invalid_address(const char *option, const char *address, struct kv_error *ret_error)
{
    return kv_error_set(
        ret_error, KV_INVALID, "%s: \"%.80s\" is no address: want HOST:PORT", option, address);
}

/* HOST:PORT with a port of 0 to 65535. */
static bool is_address(const char *address, bool needs_host)
{
    const char *colon = strrchr(address, ':');
    char *end;
    unsigned long port;

    if (!colon || colon[1] == '\0' || (needs_host && colon == address)) {
        return false;
    }
    port = strtoul(colon + 1, &end, 10);
    return *end == '\0' && port <= 65535;
}

static int
parse_member(struct kv_config *config, const char *text, size_t size, struct kv_error *ret_error)
{
    struct kv_config_member *member = &config->members[config->n_members];
    char copy[320];
    char *equals;
    char *end;

    if (config->n_members == KV_MEMBERS_MAX) {
        return kv_error_set(ret_error, KV_INVALID, "members: more than %u members", KV_MEMBERS_MAX);
    }
    if (size >= sizeof copy) {
        return kv_error_set(
            ret_error, KV_INVALID, "members: a member is longer than %zu bytes", sizeof copy - 1);
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    equals = strchr(copy, '=');
    member->id = strtoull(copy, &end, 10);
    if (!equals || end != equals || member->id == 0 ||
        strlen(equals + 1) >= sizeof member->address || !is_address(equals + 1, true)) {
        return kv_error_set(
            ret_error, KV_INVALID, "members: \"%.80s\" is no member: want ID=HOST:PORT,...", copy);
    }
    memcpy(member->address, equals + 1, strlen(equals + 1) + 1);
    for (size_t i = 0; i < config->n_members; i++) {
        if (config->members[i].id == member->id) {
            return kv_error_set(
                ret_error, KV_INVALID, "members: node %" PRIu64 " is named twice", member->id);
        }
        if (strcmp(config->members[i].address, member->address) == 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "members: nodes %" PRIu64 " and %" PRIu64 " have one address, %s",
                                config->members[i].id,
                                member->id,
                                member->address);
        }
    }
    config->n_members++;
    return 0;
}

static int parse_cluster(struct kv_config *config, struct kv_error *ret_error)
{
    const char *p = config->members_text;
    int status = 0;

    config->n_members = 0;
    if (*p == '\0') {
        config->members[0].id = config->node_id;
        snprintf(config->members[0].address, sizeof config->members[0].address, "127.0.0.1:0");
        config->n_members = 1;
        return 0;
    }
    while (*p && status == 0) {
        size_t size = strcspn(p, ",");

        status = parse_member(config, p, size, ret_error);
        p += size + (p[size] == ',');
    }
    for (size_t i = 0; i < config->n_members && status == 0; i++) {
        if (config->members[i].id == config->node_id) {
            return 0;
        }
    }
    return status ? status
                  : kv_error_set(ret_error,
                                 KV_INVALID,
                                 "node-id %" PRIu64 " is not among the members \"%.200s\"",
                                 config->node_id,
                                 config->members_text);
}

static int check_addresses(struct kv_config *config, struct kv_error *ret_error)
{
    if (!is_address(config->listen_client, false)) {
        return invalid_address("client-listen", config->listen_client, ret_error);
    }
    if (!is_address(config->listen_peer, false)) {
        return invalid_address("peer-listen", config->listen_peer, ret_error);
    }
    if (config->listen_http[0] && !is_address(config->listen_http, false)) {
        return invalid_address("http-listen", config->listen_http, ret_error);
    }
    if (config->advertise_client[0] && !is_address(config->advertise_client, true)) {
        return invalid_address("client-address", config->advertise_client, ret_error);
    }
    if (strncmp(config->advertise_client, "0.0.0.0:", 8) == 0 ||
        strncmp(config->advertise_client, "[::]:", 5) == 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "client-address: nobody can connect to %s: name this host",
                            config->advertise_client);
    }
    return 0;
}

int kv_config_check(struct kv_config *config, struct kv_error *ret_error)
{
    int status = check_addresses(config, ret_error);

    if (status == 0) {
        status = parse_cluster(config, ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (config->heartbeat_ms * 3 > config->election_timeout_ms) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "heartbeat-interval %" PRIu64
                            "ms is more than a third of election-timeout %" PRIu64
                            "ms: two lost heartbeats would start an election",
                            config->heartbeat_ms,
                            config->election_timeout_ms);
    }
    if (config->cluster[0] == '\0' || config->data_dir[0] == '\0') {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s is empty",
                            config->data_dir[0] == '\0' ? "data-dir" : "cluster");
    }
    if (kv_log_level_parse(config->log_level, &config->level) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "log-level is debug, info, warn, error or off, not \"%.40s\"",
                            config->log_level);
    }
    /* Never 0, and the same on every node. */
    config->cluster_id = XXH3_64bits(config->cluster, strlen(config->cluster)) >> 1 | 1;
    return 0;
}
