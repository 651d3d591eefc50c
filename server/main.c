/* kvd: arguments, wiring, exit codes. */
#define _GNU_SOURCE
#include "common/assert.h"
#include "common/log.h"
#include "raft/disk_posix.h"
#include "raft/transport.h"
#include "raft/worker.h"
#include "server/net/http.h"
#include "server/net/server.h"
#include "server/node/config.h"
#include "server/node/inspect.h"
#include "server/node/node.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* Also in kv_config_print_help and docs/operations. */
enum exit_code {
    EXIT_STOPPED = 0,
    EXIT_USAGE = 1,
    EXIT_CANNOT_START = 2,
    EXIT_DATA_IN_USE = 3,
    EXIT_WRONG_DATA = 4,
    EXIT_CORRUPT = 5,
    EXIT_FAULT = 6,
};

enum { PUBLISH_INTERVAL_MS = 20, DESCRIPTORS_RESERVED = 256 };

struct app {
    struct kv_config config;
    uv_loop_t loop;
    struct kv_disk_posix *disk;
    struct kv_worker_thread *log_worker;
    struct kv_worker_thread *file_worker;
    struct kv_worker_thread *snapshot_worker;
    struct kv_transport *transport;
    struct kv_server *server;
    struct kv_http *http;
    struct kv_node *node;
    uv_timer_t timer;
    uv_check_t check;
    uv_idle_t turn_due; /* active: a turn is due, so the loop must not wait */
    uv_signal_t sigterm;
    uv_signal_t sigint;
    uint64_t random;
    unsigned http_connections;
    char client_address[280];
    uint64_t published_ms;
    bool publish_due;
    bool stopping;       /* told to */
    bool node_stopped;   /* nothing is under way */
    bool server_stopped; /* the clients have gone */
    bool storage_failed; /* at the start */
    bool has_started;    /* consensus: the data directory was read, and written to */
    bool was_serving;
};

/* ---------------------------------------------------------------- clock, timer, randomness */

static uint64_t now_ns(void)
{
    return uv_hrtime();
}

static uint64_t clock_now_ns(void *arg)
{
    (void)arg;
    return now_ns();
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

/* The turn itself comes behind what the sockets have for us, at the end of this iteration. */
static void on_timer(uv_timer_t *timer)
{
    struct app *app = timer->data;

    kv_node_on_timer(app->node);
    uv_idle_start(&app->turn_due, on_idle);
}

static void clock_set_timer(void *arg, uint64_t deadline_ms)
{
    struct app *app = arg;
    uint64_t now_ms = now_ns() / 1000000;

    if (deadline_ms == UINT64_MAX) {
        uv_timer_stop(&app->timer);
        return;
    }
    /* libuv's own time may lag behind within a turn. */
    uv_update_time(&app->loop);
    uv_timer_start(&app->timer, on_timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
}

static uint64_t clock_random(void *arg)
{
    struct app *app = arg;

    app->random ^= app->random >> 12;
    app->random ^= app->random << 25;
    app->random ^= app->random >> 27;
    return app->random * UINT64_C(2685821657736338717) >> 16;
}

static const struct kv_clock_ops clock_ops = {clock_now_ns, clock_set_timer, clock_random};

/* ---------------------------------------------------------------- what the node tells */

static void on_reply(void *arg, struct kv_op *op, const Kv__Reply *reply)
{
    struct app *app = arg;

    /* The network threads know a new setting before its client hears of it. */
    app->publish_due =
        app->publish_due || op->request->command_case == KV__REQUEST__COMMAND_CONFIG_SET;
    kv_server_on_reply(app->server, op, reply);
}

static void on_reply_packed(void *arg, struct kv_op *op, struct kv_slice reply)
{
    kv_server_on_reply_packed(((struct app *)arg)->server, op, reply);
}

static size_t on_stream_item(void *arg, struct kv_op *op, const Kv__StreamItem *item)
{
    return kv_server_on_stream_item(((struct app *)arg)->server, op, item);
}

static size_t on_stream_shared(void *arg, struct kv_op *op, struct kv_shared *item)
{
    return kv_server_on_stream_shared(((struct app *)arg)->server, op, item);
}

static bool stream_has_room(void *arg, struct kv_op *op)
{
    return kv_server_stream_has_room(((struct app *)arg)->server, op);
}

/* For who reads that storage failed at the start: what a start wants of it. */
static void explain_data_dir(const struct app *app)
{
    struct kv_disk disk = kv_disk_posix_disk(app->disk);
    int64_t free_bytes = disk.ops->free_bytes(disk.disk);

    fprintf(stderr,
            "kvd: %s and all in it must be readable and writable by user %ld, and a first start "
            "takes %" PRIu64 " MiB there (--wal-segment-size), of which %" PRId64
            " MiB are free: mend that, or choose another --data-dir\n",
            disk.name,
            (long)getuid(),
            (uint64_t)(app->config.wal_segment_bytes / KV_MIB),
            free_bytes < 0 ? 0 : free_bytes / (int64_t)KV_MIB);
}

/* Nothing may be written or answered after a fault: the process ends here. */
static void on_fatal(void *arg, int exit_code, const struct kv_error *error)
{
    struct app *app = arg;

    if (!app->has_started && exit_code == EXIT_FAULT) {
        fprintf(stderr, "kvd: %s\n", error->message);
        if (error->status == KV_IO) {
            explain_data_dir(app);
        }
        _exit(EXIT_CANNOT_START);
    }
    KV_LOG(ERROR, "kvd", "fatal", "exit_code=%d error=\"%s\"", exit_code, error->message);
    _exit(exit_code);
}

static void on_stopped(void *arg)
{
    ((struct app *)arg)->node_stopped = true;
}

static void get_status(struct app *app, struct kv_node_status *ret_status)
{
    kv_node_status_get(app->node, ret_status);
    app->has_started = app->has_started || strcmp(ret_status->role, "unavailable") != 0;
}

static void note_serving(struct app *app, const struct kv_node_status *status)
{
    if (status->serving && !app->was_serving) {
        app->was_serving = true;
        sd_notify(0, "READY=1");
        KV_LOG(INFO,
               "kvd",
               "serving",
               "role=%s term=%" PRIu64 " revision=%" PRId64,
               status->role,
               status->term,
               status->revision);
    }
}

/* Tells the network threads, and the clients when they had better go elsewhere. */
static void publish(struct app *app)
{
    struct kv_node_status status;

    get_status(app, &status);
    app->publish_due = false;
    app->published_ms = uv_now(&app->loop);
    kv_server_publish(app->server, &status);
    note_serving(app, &status);
    if (app->stopping && status.leader_id != 0 && status.leader_id != app->config.node_id) {
        kv_server_leave(app->server, status.leader_address);
    }
}

static void on_changed(void *arg)
{
    ((struct app *)arg)->publish_due = true;
}

static void on_status(void *arg, Kv__StatusResult *status)
{
    kv_server_fill_status(((struct app *)arg)->server, status);
}

static bool get_http_status(void *arg, bool scrape, struct kv_node_status *ret_status)
{
    struct app *app = arg;

    if (!app->node) {
        return false;
    }
    get_status(app, ret_status);
    if (scrape) {
        kv_node_forget_longest_turn(app->node);
    }
    return true;
}

static const struct kv_node_ops node_ops = {
    .reply = on_reply,
    .reply_packed = on_reply_packed,
    .stream_item = on_stream_item,
    .stream_shared = on_stream_shared,
    .stream_has_room = stream_has_room,
    .fatal = on_fatal,
    .stopped = on_stopped,
    .changed = on_changed,
    .clients = on_status,
};

/* ---------------------------------------------------------------- the loop */

static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;

    if (app->stopping) {
        KV_LOG(WARN, "kvd", "stopped_at_once", "signal=%d", number);
        _exit(EXIT_STOPPED);
    }
    app->stopping = true;
    KV_LOG(INFO, "kvd", "stopping", "signal=%d", number);
    sd_notify(0, "STOPPING=1");
    kv_node_stop(app->node);
}

static void on_server_stopped(void *arg)
{
    struct app *app = arg;

    app->server_stopped = true;
    uv_stop(&app->loop);
}

/* The end of each turn of the loop. */
static void on_check(uv_check_t *check)
{
    struct app *app = check->data;

    uv_idle_stop(&app->turn_due);
    kv_server_gather(app->server);
    kv_node_turn(app->node);
    /* What changes without a notice, as a setting by another node's client, is soon told too. */
    if (app->publish_due || uv_now(&app->loop) - app->published_ms >= PUBLISH_INTERVAL_MS) {
        publish(app);
    }
    kv_server_flush(app->server);
    if (app->node_stopped) {
        app->node_stopped = false;
        kv_server_stop(app->server, on_server_stopped, app);
    }
}

static int start_loop(struct app *app)
{
    int rv = uv_loop_init(&app->loop);

    if (rv != 0) {
        return rv;
    }
    uv_timer_init(&app->loop, &app->timer);
    uv_check_init(&app->loop, &app->check);
    uv_idle_init(&app->loop, &app->turn_due);
    uv_signal_init(&app->loop, &app->sigterm);
    uv_signal_init(&app->loop, &app->sigint);
    app->timer.data = app->check.data = app->sigterm.data = app->sigint.data = app;
    return 0;
}

/* ---------------------------------------------------------------- wiring */

static int exit_code_of(int status)
{
    switch (status) {
    case KV_IN_USE:
        return EXIT_DATA_IN_USE;
    case KV_WRONG_NODE:
        return EXIT_WRONG_DATA;
    case KV_CORRUPT:
        return EXIT_CORRUPT;
    case KV_INVALID:
        return EXIT_USAGE;
    default:
        return EXIT_CANNOT_START;
    }
}

static int open_ports(struct app *app, struct kv_error *ret_error)
{
    const struct kv_config *config = &app->config;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = (unsigned)config->net_threads;
    int status;

    if (threads == 0) {
        threads = cores >= 8 ? 4 : cores >= 4 ? (unsigned)cores / 2 : cores > 2 ? 1 : 0;
    }
    status = kv_server_open(
        &(struct kv_server_options){
            .loop = &app->loop,
            .listen = config->listen_client,
            .n_threads = threads,
            .max_connections = (unsigned)config->max_connections,
            .version = KVD_VERSION,
            .now_ns = now_ns,
        },
        &app->server,
        ret_error);
    if (status == 0 && config->listen_http[0]) {
        status = kv_http_open(&(struct kv_http_options){.loop = &app->loop,
                                                        .listen = config->listen_http,
                                                        .version = KVD_VERSION,
                                                        .server = app->server,
                                                        .get_status = get_http_status,
                                                        .arg = app,
                                                        .max_connections = app->http_connections},
                              &app->http,
                              ret_error);
    }
    return status;
}

/* Where clients find us: as told, or where we listen, unless that is every address. */
static void choose_client_address(struct app *app)
{
    const char *listen = app->config.listen_client;
    const char *colon = strrchr(listen, ':');

    if (app->config.advertise_client[0]) {
        snprintf(app->client_address,
                 sizeof app->client_address,
                 "%.279s",
                 app->config.advertise_client);
    } else if (!kv_config_is_wildcard(listen)) {
        snprintf(app->client_address,
                 sizeof app->client_address,
                 "%.*s:%d",
                 (int)(colon - listen),
                 listen,
                 kv_server_port(app->server));
    }
}

static int open_transport(struct app *app, struct kv_error *ret_error)
{
    return kv_transport_open(
        &(struct kv_transport_options){
            .loop = &app->loop,
            .cluster_id = app->config.cluster_id,
            .node_id = app->config.node_id,
            .listen = app->config.listen_peer,
            .client_address = app->client_address,
            .machine_version = KV_MACHINE_VERSION,
            .compress = app->config.peer_compression,
            .bulk_bytes_per_s = app->config.snapshot_bytes_per_s,
            .random = clock_random,
            .random_arg = app,
        },
        &app->transport,
        ret_error);
}

static int open_node(struct app *app, struct kv_error *ret_error)
{
    struct kv_env env = {
        .disk = kv_disk_posix_disk(app->disk),
        .log_worker = kv_worker_of(app->log_worker),
        .file_worker = kv_worker_of(app->file_worker),
        .snapshot_worker = kv_worker_of(app->snapshot_worker),
        .net = kv_transport_net(app->transport),
        .clock = {&clock_ops, app},
    };
    struct kv_node_member members[KV_MEMBERS_MAX];
    struct kv_node_options options = {
        .cluster_id = app->config.cluster_id,
        .node_id = app->config.node_id,
        .members = members,
        .n_members = app->config.n_members,
        .client_address = app->client_address,
        .version = KVD_VERSION,
        .election_timeout_ms = (unsigned)app->config.election_timeout_ms,
        .heartbeat_ms = (unsigned)app->config.heartbeat_ms,
        .wal_segment_bytes = app->config.wal_segment_bytes,
        .snapshot_log_bytes = app->config.snapshot_log_bytes,
        .max_data_bytes = app->config.max_data_bytes,
        .ops = &node_ops,
        .arg = app,
    };

    for (size_t i = 0; i < app->config.n_members; i++) {
        members[i] =
            (struct kv_node_member){app->config.members[i].id, app->config.members[i].address};
    }
    return kv_node_open(&options, &env, &app->node, ret_error);
}

/* For tests and scripts that let the system choose ports. */
static int write_ports(const struct app *app, struct kv_error *ret_error)
{
    char path[KV_CONFIG_TEXT_BYTES + 8];
    FILE *file;
    bool failed;

    KV_LOG(INFO,
           "kvd",
           "listening",
           "client=%d peer=%d http=%d",
           kv_server_port(app->server),
           kv_transport_port(app->transport),
           app->http ? kv_http_port(app->http) : 0);
    if (!app->config.ports_file[0]) {
        return 0;
    }
    snprintf(path, sizeof path, "%s.tmp", app->config.ports_file);
    file = fopen(path, "we");
    failed = !file || fprintf(file,
                              "client=%d peer=%d http=%d\n",
                              kv_server_port(app->server),
                              kv_transport_port(app->transport),
                              app->http ? kv_http_port(app->http) : 0) < 0;
    failed = (file && fclose(file) != 0) || failed;
    if (failed || rename(path, app->config.ports_file) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot write ports-file %.300s: %s",
                            app->config.ports_file,
                            strerror(errno));
    }
    return 0;
}

/* Everything up to serving; the exit code in case of an error. */
static int start(struct app *app, struct kv_error *ret_error)
{
    int status;

    if (start_loop(app) != 0) {
        (void)!kv_error_set(ret_error, KV_IO, "cannot make the event loop");
        return EXIT_CANNOT_START;
    }
    status = kv_disk_posix_open(app->config.data_dir, &app->disk, ret_error);
    if (status != 0) {
        return EXIT_CANNOT_START;
    }
    if (open_ports(app, ret_error) != 0) {
        return EXIT_CANNOT_START;
    }
    choose_client_address(app);
    if (open_transport(app, ret_error) != 0) {
        return EXIT_CANNOT_START;
    }
    if (kv_worker_start(&app->loop, "log", &app->log_worker) != 0 ||
        kv_worker_start(&app->loop, "file", &app->file_worker) != 0 ||
        kv_worker_start(&app->loop, "snapshot", &app->snapshot_worker) != 0) {
        (void)!kv_error_set(ret_error, KV_IO, "cannot start the worker threads");
        return EXIT_CANNOT_START;
    }
    status = open_node(app, ret_error);
    if (status != 0) {
        app->storage_failed = status == KV_IO;
        return exit_code_of(status);
    }
    publish(app);
    if (kv_server_start(app->server, app->node, ret_error) != 0 ||
        write_ports(app, ret_error) != 0) {
        return EXIT_CANNOT_START;
    }
    uv_check_start(&app->check, on_check);
    uv_signal_start(&app->sigterm, on_signal, SIGTERM);
    uv_signal_start(&app->sigint, on_signal, SIGINT);
    kv_node_turn(app->node);
    return EXIT_STOPPED;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* An orderly end: the clients have gone; then peers are told, then files are closed. */
static void stop(struct app *app)
{
    kv_http_close(app->http);
    uv_check_stop(&app->check);
    kv_transport_close(app->transport, NULL, NULL);
    kv_worker_stop(app->log_worker);
    kv_worker_stop(app->file_worker);
    kv_worker_stop(app->snapshot_worker);
    kv_node_close(app->node);
    app->node = NULL;
    uv_walk(&app->loop, close_handle, NULL);
    uv_run(&app->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&app->loop);
    kv_server_free(app->server);
    kv_disk_posix_close(app->disk);
}

/* As many descriptors as the system allows; no more connections than that leaves room for. */
static void raise_descriptor_limit(struct app *app)
{
    struct rlimit limit;
    uint64_t reserved;

    app->http_connections = KV_HTTP_CONNECTIONS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max / 8 < KV_HTTP_CONNECTIONS_MAX) {
        app->http_connections = (unsigned)(limit.rlim_max / 8) + 1;
    }
    reserved = DESCRIPTORS_RESERVED + app->http_connections;
    if (limit.rlim_max != RLIM_INFINITY &&
        limit.rlim_max < app->config.max_connections + reserved) {
        uint64_t possible =
            limit.rlim_max > 2 * reserved ? limit.rlim_max - reserved : limit.rlim_max / 2;

        KV_LOG(WARN,
               "kvd",
               "few_descriptors",
               "limit=%" PRIu64 " max_connections=%" PRIu64 " lowered_to=%" PRIu64,
               (uint64_t)limit.rlim_max,
               app->config.max_connections,
               possible);
        app->config.max_connections = possible;
    }
}

static void prepare_process(struct app *app)
{
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit(app);
    if (getrandom(&app->random, sizeof app->random, 0) != (ssize_t)sizeof app->random ||
        app->random == 0) {
        app->random = now_ns() | 1;
    }
}

static void warn(void *arg, const char *warning)
{
    (void)arg;
    KV_LOG(WARN, "config", "unwise", "warning=\"%s\"", warning);
}

/* -1: go on. */
static int only_tell(const struct kv_config *config, enum kv_config_action action)
{
    switch (action) {
    case KV_CONFIG_HELP:
        kv_config_print_help(stdout);
        return EXIT_STOPPED;
    case KV_CONFIG_VERSION:
        printf("kvd %s\n", KVD_VERSION);
        return EXIT_STOPPED;
    case KV_CONFIG_CHECK:
        kv_config_print(config, stdout);
        kv_config_warn(config, warn, NULL);
        return EXIT_STOPPED;
    case KV_CONFIG_RUN:
        break;
    }
    return -1;
}

int main(int argc, char **argv)
{
    static struct app app;
    struct kv_error error = {0};
    enum kv_config_action action;
    int code;

    if (argc > 1 && strcmp(argv[1], "inspect") == 0) {
        return kv_inspect_main(argc - 2, argv + 2);
    }
    if (kv_config_load(argc, argv, environ, &app.config, &action, &error) != 0) {
        fprintf(stderr, "kvd: %s\n", error.message);
        return EXIT_USAGE;
    }
    code = only_tell(&app.config, action);
    if (code >= 0) {
        return code;
    }
    kv_log_set_level(app.config.level);
    kv_config_warn(&app.config, warn, NULL);
    prepare_process(&app);
    code = start(&app, &error);
    if (code != EXIT_STOPPED) {
        fprintf(stderr, "kvd: %s\n", error.message);
        if (app.storage_failed) {
            explain_data_dir(&app);
        }
        /* Threads may be running; there is nothing to save. */
        fflush(NULL);
        _exit(code);
    }
    uv_run(&app.loop, UV_RUN_DEFAULT);
    stop(&app);
    KV_LOG(INFO, "kvd", "stopped", "exit_code=%d", EXIT_STOPPED);
    return EXIT_STOPPED;
}
