/* The configuration of `kvctl run`. A thread waits for changes, lets them settle, reads everything
 * anew at one revision, keeps it on disk, and hands it over when it is different. The cluster may
 * be away meanwhile: then it waits. */
#define _GNU_SOURCE /* eventfd */
#include "client/kvctl/service_config.h"
#include "client/kvctl/config.h"
#include "client/kvctl/file.h"
#include "client/kvctl/follow.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ARENA_BYTES_MAX ((size_t)64 * 1024 * 1024) /* an environment is at most 1 MiB */
enum {
    DEBOUNCE_DEFAULT_MS = 500,
    RETRY_MIN_MS = 250, /* while the cluster is away, doubled */
    RETRY_MAX_MS = 4000,
    CACHE_MODE = 0600, /* configurations hold secrets */
};

struct kvctl_config_source {
    struct kvctl *kvctl;
    struct kv_range_spec ranges[KVCTL_PREFIXES_MAX];
    size_t n_ranges;
    struct kvctl_follow *follow; /* NULL: not read from the cluster yet */
    int64_t revision;            /* that was read; 0: none yet */
    bool away;                   /* the cluster, and it was said */
    char *text;                  /* of the last one, as the cache has it */
    pthread_t thread;
    bool running;
    int stop_fd;
    int news_fd;
    pthread_mutex_t lock; /* of `news` */
    struct kvctl_config *news;
};

_Static_assert((int)KVCTL_PREFIXES_MAX <= (int)KVCTL_FOLLOW_RANGES_MAX, "each prefix is followed");

static struct kvctl_config *new_config(void)
{
    struct kvctl_config *config = calloc(1, sizeof *config);

    if (config) {
        kv_arena_init(&config->arena, ARENA_BYTES_MAX);
        config->document.arena = &config->arena;
    }
    return config;
}

void kvctl_config_free(struct kvctl_config *config)
{
    if (config) {
        kv_arena_deinit(&config->arena);
        free(config);
    }
}

/* ---------------------------------------------------------------- the cluster */

/* Each prefix that is not below another one. */
static void make_ranges(struct kvctl_config_source *source)
{
    const struct kvctl_args *args = &source->kvctl->args;

    for (size_t i = 0; i < args->n_prefixes; i++) {
        bool covered = false;

        for (size_t k = 0; k < args->n_prefixes; k++) {
            size_t size = strlen(args->prefixes[k]);
            bool below = strncmp(args->prefixes[i], args->prefixes[k], size) == 0;

            covered = covered || (below && k != i && (args->prefixes[i][size] || k < i));
        }
        if (!covered) {
            source->ranges[source->n_ranges++] = kvctl_prefix_spec(args->prefixes[i]);
        }
    }
}

static int read_cluster(struct kvctl_config_source *source,
                        struct kvctl_config **ret_config,
                        struct kv_error *ret_error)
{
    struct kvctl_source cluster = kvctl_source_of(source->kvctl);
    struct kvctl_config *config = new_config();
    int64_t revision = 0;
    int status;

    if (!config) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    cluster.no_content = true;
    status = kvctl_fetch_revision(&cluster, &revision, ret_error);
    for (size_t i = 0; i < source->n_ranges && status == 0; i++) {
        status = kvctl_fetch_range(
            &cluster, &source->ranges[i], revision, &config->document, NULL, ret_error);
    }
    if (status == 0) {
        status = kvctl_document_sort(&config->document, ret_error);
    }
    if (status < 0) {
        kvctl_config_free(config);
        return status;
    }
    source->revision = revision;
    *ret_config = config;
    return 0;
}

/* ---------------------------------------------------------------- the cache */

/* What a variable can hold; the content of collections was not read. */
static void keep_simple(struct kvctl_document *document)
{
    size_t n = 0;

    for (size_t i = 0; i < document->n_entries; i++) {
        const struct kvctl_entry *entry = &document->entries[i];

        if (entry->type == KV_TYPE_STRING || entry->type == KV_TYPE_COUNTER) {
            document->entries[n] = *entry;
            document->entries[n].ttl_ms = 0;
            document->entries[n++].lease_id = 0;
        }
    }
    document->n_entries = n;
}

/* The cache's text; the caller frees it. NULL: no memory. Two that are the same are the same
 * configuration. */
static char *make_text(const struct kvctl_document *document, struct kv_error *error)
{
    struct kv_arena arena;
    struct kvctl_document simple = {.arena = &arena};
    char *text = NULL;
    size_t size = 0;
    FILE *file;
    int status = KV_NO_MEMORY;

    kv_arena_init(&arena, ARENA_BYTES_MAX);
    simple.entries = kv_arena_copy(&arena,
                                   document->n_entries ? document->entries : (const void *)"",
                                   document->n_entries * sizeof document->entries[0]);
    simple.n_entries = document->n_entries;
    file = simple.entries ? open_memstream(&text, &size) : NULL;
    if (file) {
        keep_simple(&simple);
        status = kvctl_document_write(&simple, KVCTL_JSON_TEXT, file, error);
        status = fclose(file) == 0 ? status : KV_NO_MEMORY;
    }
    kv_arena_deinit(&arena);
    if (status < 0) {
        free(text);
        text = NULL;
        kv_error_set(error, KV_NO_MEMORY, "out of memory");
    }
    return text;
}

/* A cache that cannot be written is no reason to stop what runs. */
static void write_cache(struct kvctl_config_source *source, const char *text)
{
    const char *path = source->kvctl->args.strings[KVCTL_CACHE];
    struct kvctl_new_file file;
    struct kv_error error;
    int status = 0;

    if (path) {
        status = kvctl_new_file_write(&file, path, kv_bytes_str(text), CACHE_MODE, true, &error);
        if (status == 0) {
            status = kvctl_new_file_commit(&file, &error);
        }
    }
    if (status < 0) {
        fprintf(source->kvctl->err, "kvctl run: the cache is not kept: %s\n", error.message);
    }
}

static int
read_cache(const char *path, struct kvctl_config **ret_config, struct kv_error *ret_error)
{
    struct kvctl_config *config = new_config();
    struct kv_buf buf;
    int status;

    if (!config) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    kv_buf_init(&buf, ARENA_BYTES_MAX);
    status = kvctl_file_read(path, &buf, ret_error);
    if (status == 0) {
        status = kvctl_document_parse(
            &config->document, path, kv_bytes_of(buf.data, buf.size), ret_error);
    }
    kv_buf_deinit(&buf);
    if (status < 0) {
        kvctl_config_free(config);
        return status;
    }
    *ret_config = config;
    return 0;
}

/* ---------------------------------------------------------------- following */

/* Until the descriptor is readable, or the time is over; true: it is to stop. */
static bool wait_for(struct kvctl_config_source *source, int fd, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = source->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    while (poll(fds, fd >= 0 ? 2 : 1, timeout_ms) < 0) {
        /* a signal came */
    }
    return fds[0].revents != 0;
}

static void hand_over(struct kvctl_config_source *source, struct kvctl_config *config)
{
    uint64_t one = 1;
    struct kvctl_config *old;

    pthread_mutex_lock(&source->lock);
    old = source->news;
    source->news = config;
    pthread_mutex_unlock(&source->lock);
    kvctl_config_free(old);
    /* It fails only when it is readable anyway. */
    if (write(source->news_fd, &one, sizeof one) < 0) {
        return;
    }
}

/* Reads until it succeeds; true: it is to stop. */
static bool read_anew(struct kvctl_config_source *source, struct kvctl_config **ret_config)
{
    struct kv_error error;
    int pause_ms = RETRY_MIN_MS;

    while (read_cluster(source, ret_config, &error) < 0) {
        if (!source->away) {
            fprintf(source->kvctl->err,
                    "kvctl run: the cluster is away (%s): what runs goes on\n",
                    error.message);
            source->away = true;
        }
        if (wait_for(source, -1, pause_ms)) {
            return true;
        }
        pause_ms = 2 * pause_ms < RETRY_MAX_MS ? 2 * pause_ms : RETRY_MAX_MS;
    }
    if (source->away) {
        fprintf(source->kvctl->err, "kvctl run: the cluster is back\n");
        source->away = false;
    }
    return false;
}

static int follow(struct kvctl_config_source *source, struct kv_error *ret_error)
{
    return kvctl_follow_open(source->kvctl->client,
                             source->ranges,
                             source->n_ranges,
                             source->revision,
                             "run",
                             source->kvctl->err,
                             &source->follow,
                             ret_error);
}

/* What is different from the last one is kept and handed over; everything else is freed. */
static void offer(struct kvctl_config_source *source, struct kvctl_config *config)
{
    struct kv_error error;
    char *text = make_text(&config->document, &error);

    if (!text || strcmp(text, source->text) == 0) {
        free(text);
        kvctl_config_free(config);
        return;
    }
    write_cache(source, text);
    free(source->text);
    source->text = text;
    hand_over(source, config);
}

/* A pause after what must not be tried at once again. */
static bool rest(struct kvctl_config_source *source, const struct kv_error *error)
{
    fprintf(source->kvctl->err, "kvctl run: following the keys: %s\n", error->message);
    return wait_for(source, -1, RETRY_MAX_MS);
}

/* From the cluster's present state on. */
static bool begin(struct kvctl_config_source *source)
{
    struct kvctl_config *config;
    struct kv_error error;

    if (source->revision == 0) {
        if (read_anew(source, &config)) {
            return true;
        }
        offer(source, config);
    }
    return follow(source, &error) < 0 && rest(source, &error);
}

static bool go_on(struct kvctl_config_source *source)
{
    int64_t debounce_ms = source->kvctl->args.numbers[KVCTL_DEBOUNCE];
    struct kvctl_config *config;
    struct kv_error error;

    if (wait_for(source, kvctl_follow_fd(source->follow), -1) ||
        wait_for(source, -1, debounce_ms ? (int)debounce_ms : DEBOUNCE_DEFAULT_MS)) {
        return true;
    }
    if (kvctl_follow_take(source->follow, &error) < 0) {
        kvctl_follow_close(source->follow);
        source->follow = NULL;
        source->revision = 0;
        return rest(source, &error);
    }
    if (read_anew(source, &config)) {
        return true;
    }
    offer(source, config);
    return false;
}

static void *run(void *argument)
{
    struct kvctl_config_source *source = argument;
    bool stop = false;

    while (!stop) {
        stop = source->follow ? go_on(source) : begin(source);
    }
    return NULL;
}

/* ---------------------------------------------------------------- open and close */

/* The first one: of the cluster, else of the cache. */
static int read_first(struct kvctl_config_source *source, struct kvctl_config **ret_config)
{
    struct kvctl *kvctl = source->kvctl;
    const char *path = kvctl->args.strings[KVCTL_CACHE];
    struct kv_error error;
    struct kv_error away;
    int status = read_cluster(source, ret_config, &away);

    if (status < 0 && kvctl_exit_of(status, false) != KVCTL_UNAVAILABLE) {
        return kvctl_fail(kvctl, &away);
    }
    if (status < 0 && !path) {
        int code = kvctl_fail(kvctl, &away);

        fputs("kvctl run: with --cache FILE the last configuration would be kept for this\n",
              kvctl->err);
        return code;
    }
    if (status < 0 && read_cache(path, ret_config, &error) < 0) {
        int code = kvctl_fail(kvctl, &away);

        fprintf(kvctl->err, "kvctl run: there is no cache either: %s\n", error.message);
        return code;
    }
    source->away = status < 0;
    if (status < 0) {
        fprintf(
            kvctl->err,
            "kvctl run: the cluster is away (%s): starting with the configuration that %s kept\n",
            away.message,
            path);
    }
    source->text = make_text(&(*ret_config)->document, &error);
    if (!source->text) {
        kvctl_config_free(*ret_config);
        return kvctl_local_fault(kvctl, &error);
    }
    if (status == 0) {
        write_cache(source, source->text);
    }
    return KVCTL_OK;
}

static int start(struct kvctl_config_source *source)
{
    struct kv_error error;

    source->stop_fd = eventfd(0, EFD_CLOEXEC);
    source->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (source->stop_fd >= 0 && source->news_fd >= 0) {
        source->running = pthread_create(&source->thread, NULL, run, source) == 0;
    }
    if (!source->running) {
        kv_error_set(&error, KV_IO, "no descriptors or thread to follow the keys with");
        return kvctl_local_fault(source->kvctl, &error);
    }
    return KVCTL_OK;
}

int kvctl_config_open(struct kvctl *kvctl,
                      struct kvctl_config_source **ret_source,
                      struct kvctl_config **ret_config)
{
    struct kvctl_config_source *source = calloc(1, sizeof *source);
    struct kvctl_config *config;
    int code;

    if (!source) {
        return KVCTL_LOCAL;
    }
    source->kvctl = kvctl;
    source->stop_fd = source->news_fd = -1;
    pthread_mutex_init(&source->lock, NULL);
    make_ranges(source);
    code = read_first(source, &config);
    if (code == KVCTL_OK) {
        code = start(source);
        if (code != KVCTL_OK) {
            kvctl_config_free(config);
        }
    }
    if (code != KVCTL_OK) {
        kvctl_config_close(source);
        return code;
    }
    *ret_source = source;
    *ret_config = config;
    return KVCTL_OK;
}

int kvctl_config_fd(const struct kvctl_config_source *source)
{
    return source->news_fd;
}

struct kvctl_config *kvctl_config_take(struct kvctl_config_source *source)
{
    struct kvctl_config *config;
    uint64_t count;

    if (read(source->news_fd, &count, sizeof count) < 0) {
        return NULL; /* nothing new */
    }
    pthread_mutex_lock(&source->lock);
    config = source->news;
    source->news = NULL;
    pthread_mutex_unlock(&source->lock);
    return config;
}

void kvctl_config_close(struct kvctl_config_source *source)
{
    uint64_t one = 1;

    if (source->running && write(source->stop_fd, &one, sizeof one) == sizeof one) {
        pthread_join(source->thread, NULL);
    }
    kvctl_follow_close(source->follow);
    kvctl_config_free(source->news);
    free(source->text);
    if (source->stop_fd >= 0) {
        close(source->stop_fd);
    }
    if (source->news_fd >= 0) {
        close(source->news_fd);
    }
    pthread_mutex_destroy(&source->lock);
    free(source);
}
