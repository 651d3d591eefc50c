/* What no option can check alone, and what is derived from several. */
#include "server/node/config_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What may stand in a host name or a numeric address; so no address needs quoting anywhere. */
static const char host_bytes[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]%";

/* The port of HOST:PORT, -1 when it is none. */
static long port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    long port;

    if (!colon || strlen(colon + 1) > 5 || colon[1] == '\0' ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        return -1;
    }
    port = strtol(colon + 1, NULL, 10);
    return port <= 65535 ? port : -1;
}

static size_t host_size(const char *address)
{
    const char *colon = strrchr(address, ':');

    return colon ? (size_t)(colon - address) : 0;
}

/* An address to listen on may have no host and any port; one to connect to needs both. */
static int
check_address(const char *option, const char *address, bool to_connect, struct kv_error *ret_error)
{
    size_t size = host_size(address);
    const char *colon = memchr(address, ':', size);

    if (port_of(address) < 0 || strspn(address, host_bytes) != strlen(address) ||
        size > KV_NAME_BYTES_MAX || (colon && address[0] != '[') || (to_connect && size == 0)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: \"%.80s\" is no address: want HOST:PORT, or [IPV6]:PORT",
                            option,
                            address);
    }
    if (to_connect && port_of(address) == 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: nobody can connect to port 0 of \"%.80s\"",
                            option,
                            address);
    }
    if (to_connect && kv_config_is_wildcard(address)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s: nobody can connect to \"%.80s\": name this host",
                            option,
                            address);
    }
    return 0;
}

bool kv_config_is_wildcard(const char *address)
{
    size_t size = host_size(address);

    return size == 0 || (size == 7 && strncmp(address, "0.0.0.0", size) == 0) ||
           (size == 4 && strncmp(address, "[::]", size) == 0);
}

static int
parse_member(struct kv_config *config, const char *text, size_t size, struct kv_error *ret_error)
{
    struct kv_config_member *member = &config->members[config->n_members];
    char copy[320];
    char *equals;
    char *end;
    int status;

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
    if (!equals || end != equals || copy[0] < '0' || copy[0] > '9' || member->id == 0 ||
        member->id > INT64_MAX || strlen(equals + 1) >= sizeof member->address) {
        return kv_error_set(
            ret_error, KV_INVALID, "members: \"%.80s\" is no member: want ID=HOST:PORT,...", copy);
    }
    status = check_address("members", equals + 1, true, ret_error);
    if (status != 0) {
        return status;
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

/* Two listeners on one port of one address. */
static bool is_same_place(const char *a, const char *b)
{
    return port_of(a) != 0 && port_of(a) == port_of(b) &&
           (kv_config_is_wildcard(a) || kv_config_is_wildcard(b) || strcmp(a, b) == 0);
}

static int check_addresses(const struct kv_config *config, struct kv_error *ret_error)
{
    const struct {
        const char *option;
        const char *address;
    } listeners[] = {
        {"client-listen", config->listen_client},
        {"peer-listen", config->listen_peer},
        {"http-listen", config->listen_http},
    };
    /* http may be left out. */
    size_t n = config->listen_http[0] ? 3 : 2;
    int status = 0;

    for (size_t i = 0; i < n && status == 0; i++) {
        status = check_address(listeners[i].option, listeners[i].address, false, ret_error);
        for (size_t k = 0; k < i && status == 0; k++) {
            if (is_same_place(listeners[i].address, listeners[k].address)) {
                status = kv_error_set(ret_error,
                                      KV_INVALID,
                                      "%s and %s cannot both be %.80s",
                                      listeners[k].option,
                                      listeners[i].option,
                                      listeners[i].address);
            }
        }
    }
    if (status == 0 && config->advertise_client[0]) {
        status = check_address("client-address", config->advertise_client, true, ret_error);
    }
    return status;
}

/* The others tell clients where this node is. */
static int check_advertised(const struct kv_config *config, struct kv_error *ret_error)
{
    if (config->n_members > 1 && !config->advertise_client[0] &&
        kv_config_is_wildcard(config->listen_client)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "client-address is wanted: clients of the other nodes are sent here, "
                            "and client-listen %.80s names no host",
                            config->listen_client);
    }
    return 0;
}

void kv_config_warn(const struct kv_config *config,
                    void (*fn)(void *arg, const char *warning),
                    void *arg)
{
    char text[256];

    if (config->n_members % 2 == 0) {
        snprintf(text,
                 sizeof text,
                 "a cluster of %zu nodes survives no more lost nodes than one of %zu",
                 config->n_members,
                 config->n_members - 1);
        fn(arg, text);
    }
    for (size_t i = 0; i < config->n_members && config->members_text[0]; i++) {
        const struct kv_config_member *member = &config->members[i];

        if (member->id == config->node_id && port_of(config->listen_peer) != 0 &&
            port_of(member->address) != port_of(config->listen_peer)) {
            snprintf(text,
                     sizeof text,
                     "the others dial this node at %.80s, but peer-listen is %.80s",
                     member->address,
                     config->listen_peer);
            fn(arg, text);
        }
    }
}

int kv_config_check(struct kv_config *config, struct kv_error *ret_error)
{
    int status = check_addresses(config, ret_error);

    if (status == 0) {
        status = parse_cluster(config, ret_error);
    }
    if (status == 0) {
        status = check_advertised(config, ret_error);
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
    config->cluster_id = config->given_cluster_id
                             ? config->given_cluster_id
                             : XXH3_64bits(config->cluster, strlen(config->cluster)) >> 1 | 1;
    return 0;
}
