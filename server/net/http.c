#include "server/net/http.h"

#include "common/assert.h"
#include "common/limits.h"
#include "server/net/listen.h"
#include "server/net/pages.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { PAGE_BYTES_MAX = 256 * 1024, WAIT_MS = 1000 };

struct kv_http {
    struct kv_http_options options;
    struct MHD_Daemon *daemon;
    uv_async_t wanted; /* http thread -> core: fill `status` */
    uv_mutex_t lock;   /* of all below */
    uv_cond_t filled;
    uint64_t asked, answered;
    bool scrape;
    bool closed;
    bool has_status;
    struct kv_node_status status;
    int port;
};

/* ---------------------------------------------------------------- the core's state */

static void on_wanted(uv_async_t *async)
{
    struct kv_http *http = async->data;

    uv_mutex_lock(&http->lock);
    http->has_status = http->options.get_status(http->options.arg, http->scrape, &http->status);
    http->scrape = false;
    http->answered = http->asked;
    uv_cond_broadcast(&http->filled);
    uv_mutex_unlock(&http->lock);
}

/* The kernel's count costs nothing; asking the allocator walks all that it holds. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long all;
    unsigned long long resident = 0;

    if (file) {
        if (fscanf(file, "%llu %llu", &all, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* NULL, or why there is no status. */
static const char *get_status(struct kv_http *http, bool scrape, struct kv_node_status *ret_status)
{
    uint64_t deadline_ns = uv_hrtime() + (uint64_t)http->options.wait_ms * 1000000;
    const char *problem = NULL;
    uint64_t ticket;

    uv_mutex_lock(&http->lock);
    ticket = ++http->asked;
    http->scrape = http->scrape || scrape;
    if (!http->closed) {
        uv_async_send(&http->wanted);
    }
    while (http->answered < ticket && !http->closed) {
        uint64_t now_ns = uv_hrtime();

        if (now_ns >= deadline_ns ||
            uv_cond_timedwait(&http->filled, &http->lock, deadline_ns - now_ns) == UV_ETIMEDOUT) {
            break;
        }
    }
    if (http->closed) {
        problem = "stopping: this node is shutting down\n";
    } else if (http->answered < ticket) {
        problem = "busy: the node does not answer; it is starting, or overloaded\n";
    } else if (!http->has_status) {
        problem = "starting: this node reads its log\n";
    } else {
        *ret_status = http->status;
    }
    uv_mutex_unlock(&http->lock);
    return problem;
}

/* ---------------------------------------------------------------- pages */

static void add_text(struct kv_buf *page, const char *text)
{
    /* An empty page in a lack of memory still has its status code. */
    (void)!kv_buf_append(page, text, strlen(text));
}

static unsigned
build_health(struct kv_buf *page, const struct kv_node_status *status, bool ready_only)
{
    const char *why = kv_page_unhealthy(status);
    bool ready = status->leader_id != 0 && strcmp(status->state, "starting") != 0 &&
                 strcmp(status->state, "stopping") != 0;

    if (*why == '\0' || (ready_only && ready)) {
        add_text(page, ready_only ? "ready\n" : "serving\n");
        return MHD_HTTP_OK;
    }
    add_text(page, why);
    add_text(page, "\n");
    return MHD_HTTP_SERVICE_UNAVAILABLE;
}

/* Fills the page; its status code. */
static unsigned
build(struct kv_http *http, const char *url, struct kv_buf *page, const char **ret_type)
{
    bool is_metrics = strcmp(url, "/metrics") == 0;
    bool is_status = strcmp(url, "/status") == 0;
    bool is_ready = strcmp(url, "/ready") == 0;
    struct kv_node_status status;
    struct kv_stats_total stats;
    const char *problem;
    int rv = 0;

    if (strcmp(url, "/livez") == 0) {
        add_text(page, "alive\n");
        return MHD_HTTP_OK;
    }
    if (!is_metrics && !is_status && !is_ready && strcmp(url, "/health") != 0) {
        add_text(page, "not found: there are /metrics, /health, /ready, /livez and /status\n");
        return MHD_HTTP_NOT_FOUND;
    }
    problem = get_status(http, is_metrics, &status);
    if (problem) {
        add_text(page, problem);
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    kv_server_stats(http->options.server, &stats);
    if (is_metrics) {
        *ret_type = "text/plain; version=0.0.4; charset=utf-8";
        stats.resident_bytes = resident_bytes();
        rv = kv_page_metrics(page, &status, &stats, http->options.version);
    } else if (is_status) {
        *ret_type = "application/json";
        rv = kv_page_status(page, &status, &stats, http->options.version);
    } else {
        return build_health(page, &status, is_ready);
    }
    return rv == 0 ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static bool has_body(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return (length && strcmp(length, "0") != 0) ||
           MHD_lookup_connection_value(
               connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
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
    static int seen;
    struct kv_http *http = arg;
    const char *type = "text/plain; charset=utf-8";
    bool is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    bool refused = !is_get || has_body(connection);
    unsigned code;
    struct MHD_Response *response;
    enum MHD_Result result;
    struct kv_buf page;

    (void)version;
    (void)upload;
    (void)upload_size;
    /* The first call comes with the header alone. An answer then spares us the body, however large,
     * and ends the connection. */
    if (*state == NULL && !refused) {
        *state = &seen;
        return MHD_YES;
    }
    kv_buf_init(&page, PAGE_BYTES_MAX);
    if (refused) {
        code = is_get ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_METHOD_NOT_ALLOWED;
        add_text(&page, "this port is read only: use GET, without a body\n");
    } else {
        code = build(http, url, &page, &type);
    }
    response = MHD_create_response_from_buffer(page.size, page.data, MHD_RESPMEM_MUST_COPY);
    kv_buf_deinit(&page);
    if (!response) {
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (refused) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

/* ---------------------------------------------------------------- life */

static void free_http(struct kv_http *http)
{
    uv_mutex_destroy(&http->lock);
    uv_cond_destroy(&http->filled);
    free(http);
}

static void on_closed(uv_handle_t *handle)
{
    free_http(handle->data);
}

static int start_daemon(struct kv_http *http, struct kv_error *ret_error)
{
    int fd;
    int status =
        kv_listen_bind(http->options.listen, "http", "http-listen", 1, &fd, &http->port, ret_error);

    if (status != 0) {
        return status;
    }
    http->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO,
                                    0,
                                    NULL,
                                    NULL,
                                    on_request,
                                    http,
                                    MHD_OPTION_LISTEN_SOCKET,
                                    fd,
                                    MHD_OPTION_CONNECTION_LIMIT,
                                    http->options.max_connections,
                                    MHD_OPTION_CONNECTION_TIMEOUT,
                                    (unsigned)KV_HTTP_TIMEOUT_S,
                                    MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                    (size_t)KV_HTTP_CONNECTION_BYTES,
                                    MHD_OPTION_END);
    if (!http->daemon) {
        close(fd);
        return kv_error_set(
            ret_error, KV_IO, "cannot serve http on %.100s: no thread", http->options.listen);
    }
    return 0;
}

int kv_http_open(const struct kv_http_options *options,
                 struct kv_http **ret_http,
                 struct kv_error *ret_error)
{
    struct kv_http *http = calloc(1, sizeof *http);
    int status;

    if (!http) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for http");
    }
    http->options = *options;
    http->options.wait_ms = options->wait_ms ? options->wait_ms : WAIT_MS;
    http->options.max_connections =
        options->max_connections ? options->max_connections : KV_HTTP_CONNECTIONS_MAX;
    uv_mutex_init(&http->lock);
    uv_cond_init(&http->filled);
    if (uv_async_init(options->loop, &http->wanted, on_wanted) != 0) {
        free_http(http);
        return kv_error_set(ret_error, KV_IO, "cannot make a wake-up for http");
    }
    http->wanted.data = http;
    status = start_daemon(http, ret_error);
    if (status != 0) {
        kv_http_close(http);
        return status;
    }
    *ret_http = http;
    return 0;
}

void kv_http_close(struct kv_http *http)
{
    if (!http) {
        return;
    }
    /* A request that waits for the core ends now; none asks it again. */
    uv_mutex_lock(&http->lock);
    http->closed = true;
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
