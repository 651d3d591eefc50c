/* The server's configuration: one table of options, from which flags (--name VALUE), environment
 * (KVD_NAME), the YAML file and the help come. Flags beat environment beat file beat defaults. */
#ifndef KV_NODE_CONFIG_H
#define KV_NODE_CONFIG_H

#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define KV_CONFIG_TEXT_BYTES 1024u

struct kv_config_member {
    uint64_t id;
    char address[280];
};

struct kv_config {
    /* As given, one field per row of the table. */
    uint64_t node_id;
    char cluster[KV_CONFIG_TEXT_BYTES];
    uint64_t given_cluster_id; /* 0: from the name */
    char members_text[4 * KV_CONFIG_TEXT_BYTES];
    char data_dir[KV_CONFIG_TEXT_BYTES];
    char listen_client[KV_CONFIG_TEXT_BYTES];
    char advertise_client[KV_CONFIG_TEXT_BYTES];
    char listen_peer[KV_CONFIG_TEXT_BYTES];
    char listen_http[KV_CONFIG_TEXT_BYTES];
    char ports_file[KV_CONFIG_TEXT_BYTES];
    uint64_t net_threads;
    uint64_t max_connections;
    uint64_t election_timeout_ms;
    uint64_t heartbeat_ms;
    uint64_t wal_segment_bytes;
    uint64_t snapshot_log_bytes;
    uint64_t snapshot_bytes_per_s; /* to each node */
    uint64_t max_data_bytes;       /* of a new cluster; 0: no limit */
    char log_level[KV_CONFIG_TEXT_BYTES];
    bool peer_compression;
    /* Derived. */
    struct kv_config_member members[KV_MEMBERS_MAX];
    size_t n_members;
    uint64_t cluster_id;
    enum kv_log_level level;
};

/* What kv_config_load found to do. */
enum kv_config_action { KV_CONFIG_RUN, KV_CONFIG_CHECK, KV_CONFIG_HELP, KV_CONFIG_VERSION };

/* Reads file, environment (`KEY=VALUE` strings, NULL-terminated) and flags, checks every value and
 * their combination. KV_INVALID: the message names option, place (file and line, variable, or
 * flag), and what would be right. */
int kv_config_load(int argc,
                   char *const *argv,
                   char *const *environment,
                   struct kv_config *ret_config,
                   enum kv_config_action *ret_action,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* What works, and is probably not what is meant: one call for each. */
void kv_config_warn(const struct kv_config *config,
                    void (*fn)(void *arg, const char *warning),
                    void *arg);
/* Whether a listening address means every address of the machine. */
bool kv_config_is_wildcard(const char *address);

/* The options as a table for people (--help), or as Markdown (docs/operations/configuration.md). */
void kv_config_print_help(FILE *out);
void kv_config_print_markdown(FILE *out);
/* The values in force, as a YAML file that gives the same. */
void kv_config_print(const struct kv_config *config, FILE *out);

#endif
