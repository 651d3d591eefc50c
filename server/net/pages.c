#include "server/net/pages.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Appends formatted text; the first failure sticks in *status. */
static void add(struct kv_buf *page, int *status, const char *format, ...) KV_PRINTF(3, 4);

static void add(struct kv_buf *page, int *status, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (*status == 0) {
        *status =
            n < 0 || (size_t)n >= sizeof text ? KV_TOO_LARGE : kv_buf_append(page, text, (size_t)n);
    }
}

/* ---------------------------------------------------------------- metrics */

struct metric {
    const char *name; /* without "kvd_" */
    const char *type;
    const char *help;
    double value;
};

static void add_head(struct kv_buf *page, int *status, const struct metric *metric)
{
    add(page,
        status,
        "# HELP kvd_%s %s\n# TYPE kvd_%s %s\n",
        metric->name,
        metric->help,
        metric->name,
        metric->type);
}

static void add_metrics(struct kv_buf *page, int *status, const struct metric *metrics, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add_head(page, status, &metrics[i]);
        add(page, status, "kvd_%s %.17g\n", metrics[i].name, metrics[i].value);
    }
}

static void add_consensus(struct kv_buf *page, int *ret, const struct kv_node_status *status)
{
    const struct metric metrics[] = {
        {"leader", "gauge", "1 when this node leads.", strcmp(status->role, "leader") == 0},
        {"serving", "gauge", "1 when linearizable reads are served.", status->serving},
        {"raft_term", "gauge", "Current term.", (double)status->term},
        {"raft_commit_index", "gauge", "Newest committed entry.", (double)status->commit_index},
        {"raft_applied_index", "gauge", "Newest applied entry.", (double)status->applied_index},
        {"raft_last_index", "gauge", "Newest entry of the log.", (double)status->last_index},
        {"raft_elections_total",
         "counter",
         "Elections that this node started.",
         (double)status->elections},
        {"raft_confirm_rounds_total",
         "counter",
         "Rounds that confirmed reads.",
         (double)status->confirm_rounds},
        {"wal_bytes", "gauge", "Size of the log's files.", (double)status->wal_bytes},
        {"wal_syncs_total", "counter", "Group commits.", (double)status->wal_syncs},
        {"wal_sync_seconds_total",
         "counter",
         "Time spent in group commits.",
         (double)status->wal_sync_ns_total / 1e9},
        {"wal_sync_max_seconds",
         "gauge",
         "Longest group commit since the start.",
         (double)status->wal_sync_ns_max / 1e9},
        {"entries_proposed_total",
         "counter",
         "Log entries proposed by this node.",
         (double)status->entries_proposed},
        {"commands_proposed_total",
         "counter",
         "Commands in those entries.",
         (double)status->commands_proposed},
        {"commands_applied_total",
         "counter",
         "Commands applied.",
         (double)status->commands_applied},
        {"commands_forwarded_total",
         "counter",
         "Commands sent on to the leader.",
         (double)status->forwarded},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
}

static void add_topics(struct kv_buf *page, int *ret, const struct kv_node_status *status)
{
    const struct metric metrics[] = {
        {"topics", "gauge", "Topics with messages.", (double)status->topics},
        {"topic_messages",
         "gauge",
         "Messages retained, of all topics.",
         (double)status->topic_messages},
        {"topic_bytes", "gauge", "Bytes of these messages.", (double)status->topic_bytes},
        {"topic_subscriptions",
         "gauge",
         "Subscriptions of topics on this node.",
         (double)status->topic_subscriptions},
        {"topic_patterns",
         "gauge",
         "Different patterns among them.",
         (double)status->topic_patterns},
        {"topic_deliveries_total",
         "counter",
         "Messages given to subscriptions, each of them counted.",
         (double)status->topic_deliveries},
        {"topic_gaps_total",
         "counter",
         "Losses by retention that subscriptions were told of.",
         (double)status->topic_gaps},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
}

static void add_store(struct kv_buf *page, int *ret, const struct kv_node_status *status)
{
    const struct metric metrics[] = {
        {"revision", "gauge", "Revision of the store.", (double)status->revision},
        {"oldest_revision",
         "gauge",
         "Oldest revision that can be read.",
         (double)status->oldest_revision},
        {"keys", "gauge", "Live keys.", (double)status->keys},
        {"data_bytes", "gauge", "Bytes of live keys and values.", (double)status->data_bytes},
        {"history_bytes",
         "gauge",
         "Bytes of replaced versions and events.",
         (double)status->history_bytes},
        {"history_versions",
         "gauge",
         "Replaced versions that can be read.",
         (double)status->history_versions},
        {"sessions", "gauge", "Open sessions.", (double)status->sessions},
        {"session_bytes",
         "gauge",
         "Bytes of the sessions and the answers that they keep.",
         (double)status->session_bytes},
        {"pops_waiting", "gauge", "Pops that wait for an element.", (double)status->waiters},
        {"unreclaimed_bytes",
         "gauge",
         "Memory of what is gone: held for a snapshot or a stream, or not yet freed.",
         (double)status->unreclaimed_bytes},
        {"used_bytes",
         "gauge",
         "Bytes of data and history that count against the data limit.",
         (double)status->used_bytes},
        {"data_limit_bytes",
         "gauge",
         "Setting data-limit; 0: none.",
         (double)status->settings.data_bytes},
        {"snapshot_index",
         "gauge",
         "Index of the newest snapshot on disk.",
         (double)status->snapshot_index},
        {"snapshot_bytes", "gauge", "Size of its file.", (double)status->snapshot_bytes},
        {"snapshots_taken_total", "counter", "Own snapshots.", (double)status->snapshots_taken},
        {"snapshots_installed_total",
         "counter",
         "Snapshots that came from a leader.",
         (double)status->snapshots_installed},
        {"snapshot_fetched_bytes",
         "gauge",
         "Of the snapshot that is being fetched from the leader, what is here.",
         (double)status->snapshot_fetch_bytes},
        {"reads_total", "counter", "Reads answered by the store.", (double)status->reads_served},
        {"requests_waiting",
         "gauge",
         "Requests under way in the core.",
         (double)status->requests_waiting},
        {"requests_waiting_bytes",
         "gauge",
         "Bytes of those requests.",
         (double)status->request_bytes_waiting},
        {"streams", "gauge", "Streams under way.", (double)status->streams},
        {"core_turn_max_seconds",
         "gauge",
         "Longest turn of the core since the last scrape.",
         (double)status->turn_ns_max / 1e9},
        {"uptime_seconds", "gauge", "Time since the start.", (double)status->uptime_ms / 1e3},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
}

static void add_subscriptions(struct kv_buf *page, int *ret, const struct kv_node_status *status)
{
    const struct metric metrics[] = {
        {"watches", "gauge", "Watches of this node's clients.", (double)status->watches},
        {"watch_events_total",
         "counter",
         "Events told, each once for each watch.",
         (double)status->watch_events},
        {"subscriptions",
         "gauge",
         "Watches and subscriptions to topics.",
         (double)status->subscriptions},
        {"subscription_bytes",
         "gauge",
         "Bytes of the ranges, topics and patterns that they ask for.",
         (double)status->subscription_bytes},
        {"subscriptions_behind",
         "gauge",
         "Those of them that have not been told all: they catch up, or their client does not read.",
         (double)status->subscriptions_behind},
        {"subscriptions_compacted_total",
         "counter",
         "Those that ended since the history that they needed was compacted.",
         (double)status->subscriptions_lost},
        {"subscriptions_crowded_total",
         "counter",
         "Times that one turn had too much for live ones: they read it.",
         (double)status->subscriptions_crowded},
        {"subscription_items_total",
         "counter",
         "Items given to them.",
         (double)status->subscription_items},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
}

/* counts[i]: up to bounds[i], above the one before; one more: above all. */
static void add_histogram(struct kv_buf *page,
                          int *ret,
                          const struct metric *metric,
                          const double *bounds,
                          const uint64_t *counts,
                          size_t n)
{
    uint64_t sum = 0;

    add_head(page, ret, metric);
    for (size_t i = 0; i < n; i++) {
        sum += counts[i];
        add(page, ret, "kvd_%s_bucket{le=\"%g\"} %" PRIu64 "\n", metric->name, bounds[i], sum);
    }
    sum += counts[n];
    add(page,
        ret,
        "kvd_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nkvd_%s_sum %.9g\nkvd_%s_count %" PRIu64 "\n",
        metric->name,
        sum,
        metric->name,
        metric->value,
        metric->name,
        sum);
}

static void add_turns(struct kv_buf *page, int *ret, const struct kv_node_turns *turns)
{
    const struct metric metric = {"core_turn_seconds",
                                  "histogram",
                                  "Turns of the core: everybody waits while one lasts.",
                                  (double)turns->sum_ns / 1e9};
    double bounds[KV_TURN_BUCKETS];

    for (size_t i = 0; i < KV_TURN_BUCKETS; i++) {
        bounds[i] = (double)kv_turn_bounds_ns[i] / 1e9;
    }
    add_histogram(page, ret, &metric, bounds, turns->counts, KV_TURN_BUCKETS);
}

static void add_lateness(struct kv_buf *page, int *ret, const struct kv_lateness *lateness)
{
    const struct metric metric = {
        "expiry_lateness_seconds",
        "histogram",
        "How long after their deadlines keys and fields ended, by the time in the log.",
        (double)lateness->sum_ms / 1e3};
    double bounds[KV_LATENESS_BUCKETS];

    for (size_t i = 0; i < KV_LATENESS_BUCKETS; i++) {
        bounds[i] = (double)kv_lateness_bounds_ms[i] / 1e3;
    }
    add_histogram(page, ret, &metric, bounds, lateness->counts, KV_LATENESS_BUCKETS);
}

static void add_time(struct kv_buf *page, int *ret, const struct kv_node_status *status)
{
    const struct metric metrics[] = {
        {"leases",
         "gauge",
         "Leases, also ended ones that still have keys.",
         (double)status->leases},
        {"leased_keys", "gauge", "Keys that belong to a lease.", (double)status->leased},
        {"expiring_keys",
         "gauge",
         "Keys with a ttl of their own, or with fields that have one.",
         (double)status->expiring},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
    add_lateness(page, ret, &status->lateness);
}

static void add_clients(struct kv_buf *page, int *ret, const struct kv_stats_total *stats)
{
    const struct metric metrics[] = {
        {"connections", "gauge", "Clients connected.", (double)stats->connections},
        {"connections_accepted_total", "counter", "Clients accepted.", (double)stats->accepted},
        {"connections_refused_total",
         "counter",
         "Strangers, broken protocol, and clients over the limit.",
         (double)stats->refused},
        {"connections_too_slow_total",
         "counter",
         "Clients closed since they did not read.",
         (double)stats->too_slow},
        {"requests_total", "counter", "Requests received.", (double)stats->requests},
        {"received_bytes_total", "counter", "Bytes from clients.", (double)stats->received_bytes},
        {"sent_bytes_total", "counter", "Bytes to clients.", (double)stats->sent_bytes},
        {"connection_buffer_bytes",
         "gauge",
         "Memory of the connections' buffers.",
         (double)stats->buffered_bytes},
        {"resident_bytes",
         "gauge",
         "Memory of the process, as the kernel counts it.",
         (double)stats->resident_bytes},
        {"answers_waiting_bytes",
         "gauge",
         "Bytes of answers on their way to the connections.",
         (double)stats->answer_bytes},
    };

    add_metrics(page, ret, metrics, sizeof metrics / sizeof metrics[0]);
}

static void add_replies(struct kv_buf *page, int *ret, const struct kv_stats_total *stats)
{
    static const unsigned codes[] = {
#define CODE(name, value, retry, text) value,
        KV_STATUS_MAP(CODE)
#undef CODE
    };

    add_head(page,
             ret,
             &(struct metric){"replies_total", "counter", "Final answers given, by code.", 0});
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        /* Those above are never on the wire. */
        if (codes[i] < KV_STATS_CODES) {
            add(page,
                ret,
                "kvd_replies_total{code=\"%s\"} %" PRIu64 "\n",
                kv_status_name((int)codes[i]),
                stats->codes[codes[i]]);
        }
    }
}

static void add_latency(struct kv_buf *page, int *ret, const struct kv_stats_total *stats)
{
    static const char name[] = "kvd_request_duration_seconds";

    add_head(page,
             ret,
             &(struct metric){"request_duration_seconds",
                              "histogram",
                              "From a request's arrival to its final answer, by command.",
                              0});
    for (unsigned i = 0; i < KV_STATS_COMMANDS; i++) {
        const struct kv_stats_command_total *command = &stats->commands[i];
        const char *label = kv_stats_command_name(i);
        uint64_t sum = 0;

        /* Numbers between the commands have no name; 0 gathers what is unknown. */
        if (i != 0 && strcmp(label, "other") == 0) {
            continue;
        }
        for (size_t k = 0; k < KV_STATS_BUCKETS; k++) {
            sum += command->buckets[k];
            add(page,
                ret,
                "%s_bucket{command=\"%s\",le=\"%g\"} %" PRIu64 "\n",
                name,
                label,
                (double)kv_stats_bounds_ns[k] / 1e9,
                sum);
        }
        /* Counted one by one while others count: the classes may be ahead of the total. */
        sum = sum > command->count ? sum : command->count;
        add(page,
            ret,
            "%s_bucket{command=\"%s\",le=\"+Inf\"} %" PRIu64 "\n%s_sum{command=\"%s\"} %.9g\n"
            "%s_count{command=\"%s\"} %" PRIu64 "\n",
            name,
            label,
            sum,
            name,
            label,
            (double)command->sum_ns / 1e9,
            name,
            label,
            sum);
    }
}

int kv_page_metrics(struct kv_buf *page,
                    const struct kv_node_status *status,
                    const struct kv_stats_total *stats,
                    const char *version)
{
    int ret = 0;

    add_head(page, &ret, &(struct metric){"build_info", "gauge", "1, with what runs here.", 1});
    add(page,
        &ret,
        "kvd_build_info{version=\"%s\",node_id=\"%" PRIu64 "\"} 1\n",
        version,
        status->node_id);
    add_consensus(page, &ret, status);
    add_store(page, &ret, status);
    add_topics(page, &ret, status);
    add_subscriptions(page, &ret, status);
    add_turns(page, &ret, &status->turns);
    add_time(page, &ret, status);
    add_clients(page, &ret, stats);
    add_replies(page, &ret, stats);
    add_latency(page, &ret, stats);
    return ret;
}

/* ---------------------------------------------------------------- status */

/* A string in quotes as JSON has it. */
static void add_string(struct kv_buf *page, int *status, const char *name, const char *text)
{
    add(page, status, "\"%s\":\"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            add(page, status, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            add(page, status, "\\u%04x", c);
        } else {
            add(page, status, "%c", c);
        }
    }
    add(page, status, "\",");
}

static void add_number(struct kv_buf *page, int *status, const char *name, uint64_t value)
{
    add(page, status, "\"%s\":%" PRIu64 ",", name, value);
}

int kv_page_status(struct kv_buf *page,
                   const struct kv_node_status *status,
                   const struct kv_stats_total *stats,
                   const char *version)
{
    int ret = 0;

    add(page, &ret, "{");
    add_string(page, &ret, "version", version);
    /* Readers of JSON keep 53 bits of a number. */
    add(page, &ret, "\"cluster_id\":\"%" PRIu64 "\",", status->cluster_id);
    add_number(page, &ret, "node_id", status->node_id);
    add_string(page, &ret, "role", status->role);
    add_string(page, &ret, "state", status->state);
    add(page, &ret, "\"serving\":%s,", status->serving ? "true" : "false");
    add_number(page, &ret, "leader_id", status->leader_id);
    add_string(page, &ret, "leader_address", status->leader_address);
    add_number(page, &ret, "term", status->term);
    add_number(page, &ret, "commit_index", status->commit_index);
    add_number(page, &ret, "applied_index", status->applied_index);
    add_number(page, &ret, "last_index", status->last_index);
    add_number(page, &ret, "revision", (uint64_t)status->revision);
    add_number(page, &ret, "oldest_revision", (uint64_t)status->oldest_revision);
    add_number(page, &ret, "cluster_time_ms", (uint64_t)status->cluster_time_ms);
    add_number(page, &ret, "keys", status->keys);
    add_number(page, &ret, "data_bytes", status->data_bytes);
    add_number(page, &ret, "history_bytes", status->history_bytes);
    add_number(page, &ret, "history_versions", status->history_versions);
    add_number(page, &ret, "sessions", status->sessions);
    add_number(page, &ret, "session_bytes", status->session_bytes);
    add_number(page, &ret, "topics", status->topics);
    add_number(page, &ret, "topic_messages", status->topic_messages);
    add_number(page, &ret, "topic_bytes", status->topic_bytes);
    add_number(page, &ret, "topic_subscriptions", status->topic_subscriptions);
    add_number(page, &ret, "topic_deliveries", status->topic_deliveries);
    add_number(page, &ret, "topic_gaps", status->topic_gaps);
    add_number(page, &ret, "watches", status->watches);
    add_number(page, &ret, "subscription_bytes", status->subscription_bytes);
    add_number(page, &ret, "subscriptions_behind", status->subscriptions_behind);
    add_number(page, &ret, "used_bytes", status->used_bytes);
    add_number(page, &ret, "data_limit_bytes", status->settings.data_bytes);
    add_number(page, &ret, "wal_bytes", status->wal_bytes);
    add_number(page, &ret, "snapshot_index", status->snapshot_index);
    add_number(page, &ret, "snapshot_bytes", status->snapshot_bytes);
    add_number(page, &ret, "snapshots_taken", status->snapshots_taken);
    add_number(page, &ret, "snapshots_installed", status->snapshots_installed);
    add_number(page, &ret, "snapshot_fetch_index", status->snapshot_fetch_index);
    add_number(page, &ret, "snapshot_fetch_bytes", status->snapshot_fetch_bytes);
    add_number(page, &ret, "connections", stats->connections);
    add(page, &ret, "\"uptime_ms\":%" PRIu64 "}\n", status->uptime_ms);
    return ret;
}

const char *kv_page_unhealthy(const struct kv_node_status *status)
{
    if (status->serving) {
        return "";
    }
    if (strcmp(status->state, "stopping") == 0) {
        return "stopping: this node is shutting down";
    }
    if (status->leader_id == 0) {
        return "no-leader: no majority of the nodes is reachable, or an election is under way";
    }
    return "starting: this node is catching up, or has no connection to the leader";
}
