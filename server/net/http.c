#include "server/net/http.h"

#include "common/assert.h"
#include "raft/transport.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    PAGE_BYTES_MAX = 64 * 1024,
    CONNECTIONS_MAX = 64,
    TIMEOUT_S = 10,
    SNAPSHOT_WAIT_NS = 1000000000
};

struct kv_http {
    struct kv_http_options options;
    struct MHD_Daemon *daemon;
    uv_async_t wanted; /* http thread -> core: fill `status` */
    uv_mutex_t lock;
    uv_cond_t filled;
    uint64_t asked, answered; /* under lock */
    struct kv_node *node;     /* core */
    struct kv_node_status status;
    int port;
};

struct page {
    char *text;
    size_t size;
};

static void add(struct page *page, const char *format, ...) KV_PRINTF(2, 3);

static void add(struct page *page, const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(page->text + page->size, PAGE_BYTES_MAX - page->size, format, arguments);
    va_end(arguments);
    if (n > 0 && (size_t)n < PAGE_BYTES_MAX - page->size) {
        page->size += (size_t)n;
    }
}

/* ---------------------------------------------------------------- the core's state */

static void on_wanted(uv_async_t *async)
{
    struct kv_http *http = async->data;

    uv_mutex_lock(&http->lock);
    if (http->node) {
        kv_node_status_get(http->node, &http->status);
    }
    http->answered = http->asked;
    uv_cond_broadcast(&http->filled);
    uv_mutex_unlock(&http->lock);
}

/* False: the core does not answer; it hangs, or ends. */
static bool get_status(struct kv_http *http, struct kv_node_status *ret_status)
{
    uint64_t ticket;
    bool fresh;

    uv_mutex_lock(&http->lock);
    ticket = ++http->asked;
    uv_async_send(&http->wanted);
    while (http->answered < ticket &&
           uv_cond_timedwait(&http->filled, &http->lock, SNAPSHOT_WAIT_NS) == 0) {
    }
    fresh = http->answered >= ticket;
    *ret_status = http->status;
    uv_mutex_unlock(&http->lock);
    return fresh;
}

/* ---------------------------------------------------------------- pages */

static void
metric(struct page *page, const char *name, const char *type, const char *help, double value)
{
    add(page,
        "# HELP kvd_%s %s\n# TYPE kvd_%s %s\nkvd_%s %.17g\n",
        name,
        help,
        name,
        type,
        name,
        value);
}

enum scale { SCALE_1, SCALE_NS, SCALE_MS };

/* Metrics that are one field of the node's status. */
static const struct {
    const char *name;
    const char *type;
    const char *help;
    size_t offset; /* of a 64-bit number in struct kv_node_status */
    enum scale scale;
} node_metrics[] = {
    {"raft_term", "gauge", "Current term.", offsetof(struct kv_node_status, term), SCALE_1},
    {"raft_commit_index",
     "gauge",
     "Newest committed entry.",
     offsetof(struct kv_node_status, commit_index),
     SCALE_1},
    {"raft_applied_index",
     "gauge",
     "Newest applied entry.",
     offsetof(struct kv_node_status, applied_index),
     SCALE_1},
    {"raft_elections_total",
     "counter",
     "Elections that this node started.",
     offsetof(struct kv_node_status, elections),
     SCALE_1},
    {"raft_confirm_rounds_total",
     "counter",
     "Rounds that confirmed reads.",
     offsetof(struct kv_node_status, confirm_rounds),
     SCALE_1},
    {"revision",
     "gauge",
     "Revision of the store.",
     offsetof(struct kv_node_status, revision),
     SCALE_1},
    {"oldest_revision",
     "gauge",
     "Oldest revision that can be read.",
     offsetof(struct kv_node_status, oldest_revision),
     SCALE_1},
    {"keys", "gauge", "Live keys.", offsetof(struct kv_node_status, keys), SCALE_1},
    {"history_bytes",
     "gauge",
     "Bytes of replaced versions and events.",
     offsetof(struct kv_node_status, history_bytes),
     SCALE_1},
    {"allocated_bytes",
     "gauge",
     "Memory allocated by the process.",
     offsetof(struct kv_node_status, allocated_bytes),
     SCALE_1},
    {"wal_bytes",
     "gauge",
     "Size of the log's files.",
     offsetof(struct kv_node_status, wal_bytes),
     SCALE_1},
    {"wal_syncs_total",
     "counter",
     "Group commits.",
     offsetof(struct kv_node_status, wal_syncs),
     SCALE_1},
    {"entries_proposed_total",
     "counter",
     "Log entries proposed by this node.",
     offsetof(struct kv_node_status, entries_proposed),
     SCALE_1},
    {"commands_proposed_total",
     "counter",
     "Commands in those.",
     offsetof(struct kv_node_status, commands_proposed),
     SCALE_1},
    {"commands_applied_total",
     "counter",
     "Commands applied.",
     offsetof(struct kv_node_status, commands_applied),
     SCALE_1},
    {"commands_forwarded_total",
     "counter",
     "Commands sent on to the leader.",
     offsetof(struct kv_node_status, forwarded),
     SCALE_1},
    {"reads_total",
     "counter",
     "Reads answered.",
     offsetof(struct kv_node_status, reads_served),
     SCALE_1},
    {"requests_waiting",
     "gauge",
     "Requests under way in the core.",
     offsetof(struct kv_node_status, requests_waiting),
     SCALE_1},
    {"streams", "gauge", "Streams under way.", offsetof(struct kv_node_status, streams), SCALE_1},
    {"core_turn_max_seconds",
     "gauge",
     "Longest turn of the core since the last scrape.",
     offsetof(struct kv_node_status, turn_ns_max),
     SCALE_NS},
};

static void add_node_metrics(struct page *page, const struct kv_node_status *status)
{
    static const double divisors[] = {[SCALE_1] = 1, [SCALE_NS] = 1e9, [SCALE_MS] = 1e3};

    metric(page, "leader", "gauge", "1 when this node leads.", strcmp(status->role, "leader") == 0);
    metric(page, "serving", "gauge", "1 when linearizable reads are served.", status->serving);
    for (size_t i = 0; i < sizeof node_metrics / sizeof node_metrics[0]; i++) {
        uint64_t value;

        memcpy(&value, (const char *)status + node_metrics[i].offset, sizeof value);
        metric(page,
               node_metrics[i].name,
               node_metrics[i].type,
               node_metrics[i].help,
               (double)value / divisors[node_metrics[i].scale]);
    }
}

static void add_server_metrics(struct page *page, const struct kv_server *server)
{
    struct kv_server_stats stats;

    kv_server_stats(server, &stats);
    metric(page, "connections", "gauge", "Clients connected.", (double)stats.connections);
    metric(
        page, "connections_total", "counter", "Clients accepted.", (double)stats.connections_total);
    metric(page,
           "connections_refused_total",
           "counter",
           "Strangers, and clients over the limit.",
           (double)stats.refused);
    metric(
        page, "requests_total", "counter", "Requests handed to the core.", (double)stats.requests);
    metric(page, "replies_total", "counter", "Answers given.", (double)stats.replies);
    metric(page, "received_bytes_total", "counter", "Bytes from clients.", (double)stats.bytes_in);
    metric(page, "sent_bytes_total", "counter", "Bytes to clients.", (double)stats.bytes_out);
}

static void
add_status(struct page *page, const struct kv_http *http, const struct kv_node_status *status)
{
    struct kv_server_stats stats;

    kv_server_stats(http->options.server, &stats);
    /* No field holds anything that JSON would escape: numbers, role names, addresses that were
     * checked. */
    add(page,
        "{\"version\":\"%s\",\"cluster_id\":\"%" PRIu64 "\",\"node_id\":%" PRIu64
        ",\"role\":\"%s\",\"state\":\"%s\","
        "\"serving\":%s,\"leader_id\":%" PRIu64 ",\"leader_address\":\"%s\",\"term\":%" PRIu64
        ",\"commit_index\":%" PRIu64 ",\"applied_index\":%" PRIu64 ",\"last_index\":%" PRIu64
        ",\"revision\":%" PRId64 ",\"oldest_revision\":%" PRId64 ",\"keys\":%" PRIu64
        ",\"data_bytes\":%" PRIu64 ",\"wal_bytes\":%" PRIu64 ",\"connections\":%" PRIu64
        ",\"uptime_ms\":%" PRIu64 "}\n",
        http->options.version,
        status->cluster_id,
        status->node_id,
        status->role,
        status->state,
        status->serving ? "true" : "false",
        status->leader_id,
        status->leader_address,
        status->term,
        status->commit_index,
        status->applied_index,
        status->last_index,
        status->revision,
        status->oldest_revision,
        status->keys,
        status->data_bytes,
        status->wal_bytes,
        stats.connections,
        status->uptime_ms);
}

/* Fills the page; its status code. */
static unsigned
build(struct kv_http *http, const char *url, struct page *page, const char **ret_type)
{
    struct kv_node_status status;
    bool fresh;

    *ret_type = "text/plain; charset=utf-8";
    if (strcmp(url, "/livez") == 0) {
        add(page, "alive\n");
        return MHD_HTTP_OK;
    }
    if (strcmp(url, "/metrics") != 0 && strcmp(url, "/health") != 0 && strcmp(url, "/ready") != 0 &&
        strcmp(url, "/status") != 0) {
        add(page, "not found: there are /metrics, /health, /ready, /livez, /status\n");
        return MHD_HTTP_NOT_FOUND;
    }
    fresh = get_status(http, &status);
    if (!fresh) {
        add(page, "the node does not answer\n");
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (strcmp(url, "/metrics") == 0) {
        *ret_type = "text/plain; version=0.0.4; charset=utf-8";
        add_node_metrics(page, &status);
        add_server_metrics(page, http->options.server);
        return MHD_HTTP_OK;
    }
    if (strcmp(url, "/status") == 0) {
        *ret_type = "application/json";
        add_status(page, http, &status);
        return MHD_HTTP_OK;
    }
    add(page, "%s\n", status.serving ? "serving" : status.state);
    return status.serving ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static enum MHD_Result on_request(void *arg,
                                  struct MHD_Connection *connection,
                                  const char *url,
                                  const char *method,
                                  const char *version,
                                  const char *upload,
                                  size_t *upload_size,
                                  void **state)
{
    struct kv_http *http = arg;
    struct page page = {malloc(PAGE_BYTES_MAX), 0};
    struct MHD_Response *response;
    const char *type = "text/plain; charset=utf-8";
    unsigned code = MHD_HTTP_METHOD_NOT_ALLOWED;
    enum MHD_Result result;

    (void)version;
    (void)upload;
    (void)state;
    *upload_size = 0;
    if (!page.text) {
        return MHD_NO;
    }
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        code = build(http, url, &page, &type);
    } else {
        add(&page, "this port is read only: use GET\n");
    }
    response = MHD_create_response_from_buffer(page.size, page.text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(page.text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

/* ---------------------------------------------------------------- life */

static int
resolve(const char *address, struct sockaddr_storage *ret_address, struct kv_error *ret_error)
{
    struct addrinfo hints = {
        .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[256];
    char port[8];
    int rv;

    if (kv_address_split(address, host, port) != 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "\"%s\" is no address for http: want host:port", address);
    }
    rv = getaddrinfo(host[0] ? host : "0.0.0.0", port, &hints, &found);
    if (rv != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot resolve %s, to listen on for http: %s",
                            address,
                            gai_strerror(rv));
    }
    memcpy(ret_address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static int start_daemon(struct kv_http *http, struct kv_error *ret_error)
{
    struct sockaddr_storage address;
    const union MHD_DaemonInfo *info;
    int status = resolve(http->options.listen, &address, ret_error);

    if (status != 0) {
        return status;
    }
    errno = 0;
    http->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO,
                                    0,
                                    NULL,
                                    NULL,
                                    on_request,
                                    http,
                                    MHD_OPTION_SOCK_ADDR,
                                    (struct sockaddr *)&address,
                                    MHD_OPTION_CONNECTION_LIMIT,
                                    (unsigned)CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_TIMEOUT,
                                    (unsigned)TIMEOUT_S,
                                    MHD_OPTION_END);
    if (!http->daemon) {
        return kv_error_set(
            ret_error,
            errno == EADDRINUSE ? KV_IN_USE : KV_IO,
            "cannot listen for http on %s: %s; choose another --http-listen, or none (\"\")",
            http->options.listen,
            errno ? strerror(errno) : "the port is taken, or not ours to use");
    }
    info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    http->port = info ? info->port : 0;
    return 0;
}

int kv_http_open(const struct kv_http_options *options,
                 struct kv_http **ret_http,
                 struct kv_error *ret_error)
{
    struct kv_http *http = calloc(1, sizeof *http);
    int status;

    if (!http) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    http->options = *options;
    uv_mutex_init(&http->lock);
    uv_cond_init(&http->filled);
    KV_ASSERT(uv_async_init(options->loop, &http->wanted, on_wanted) == 0);
    http->wanted.data = http;
    status = start_daemon(http, ret_error);
    if (status != 0) {
        kv_http_close(http);
        return status;
    }
    *ret_http = http;
    return 0;
}

void kv_http_set_node(struct kv_http *http, struct kv_node *node)
{
    uv_mutex_lock(&http->lock);
    http->node = node;
    uv_mutex_unlock(&http->lock);
}

static void on_closed(uv_handle_t *handle)
{
    struct kv_http *http = handle->data;

    uv_cond_destroy(&http->filled);
    uv_mutex_destroy(&http->lock);
    free(http);
}

void kv_http_close(struct kv_http *http)
{
    if (!http) {
        return;
    }
    /* A request that waits for the core gets what there is. */
    uv_mutex_lock(&http->lock);
    http->node = NULL;
    http->answered = UINT64_MAX;
    uv_cond_broadcast(&http->filled);
    uv_mutex_unlock(&http->lock);
    if (http->daemon) {
        MHD_stop_daemon(http->daemon);
    }
    uv_close((uv_handle_t *)&http->wanted, on_closed);
}

int kv_http_port(const struct kv_http *http)
{
    return http->port;
}
