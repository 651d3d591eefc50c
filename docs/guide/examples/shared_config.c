/* A service that takes its configuration from config/ and reloads it on each change. Start it as
 * often as you like, under different names: all of them share what is there. config_watch.py does
 * the same with the protocol alone.
 *
 *     shared_config ENDPOINTS NAME
 *
 * Read everything, then follow from the revision behind it: nothing falls between. Whatever nodes
 * and connections do, each change comes once and in order, and all that one transaction changed
 * comes together. */
#include <inttypes.h>
#include <kv/kv.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "config/"
enum { SETTINGS_MAX = 100, TEXT_BYTES = 200, WAIT_MS = 200 };

struct config {
    size_t n_settings;
    struct setting {
        char key[TEXT_BYTES];
        char value[TEXT_BYTES];
    } settings[SETTINGS_MAX];
};
static struct config current;
static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

static void copy(char text[TEXT_BYTES], struct kv_bytes bytes)
{
    snprintf(text, TEXT_BYTES, "%.*s", (int)bytes.size, (const char *)bytes.data);
}

/* The settings are sorted by key. value: NULL: there is none any more. */
static void set(struct config *config, struct kv_bytes name, const struct kv_bytes *value)
{
    struct setting *setting = config->settings;
    struct setting *end = setting + config->n_settings;
    char key[TEXT_BYTES];

    copy(key, name);
    while (setting < end && strcmp(setting->key, key) < 0) {
        setting++;
    }
    if (setting < end && strcmp(setting->key, key) == 0) {
        if (value) {
            copy(setting->value, *value);
        } else {
            memmove(setting, setting + 1, (size_t)(end - setting - 1) * sizeof *setting);
            config->n_settings--;
        }
    } else if (value && config->n_settings < SETTINGS_MAX) {
        memmove(setting + 1, setting, (size_t)(end - setting) * sizeof *setting);
        copy(setting->key, name);
        copy(setting->value, *value);
        config->n_settings++;
    }
}

/* Where a service would open its log anew, resize its pool, and so on. */
static void reload(const char *name, int64_t revision)
{
    printf("%s %" PRId64 ":", name, revision);
    for (size_t i = 0; i < current.n_settings; i++) {
        printf(" %s=%s", current.settings[i].key + strlen(PREFIX), current.settings[i].value);
    }
    printf("\n");
    fflush(stdout);
}

/* All of one revision, or the present configuration stays. */
static int read_all(struct kv_client *client, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_range_spec range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_str(PREFIX)};
    static struct config fresh;
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(client, &range, NULL, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    fresh.n_settings = 0;
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        set(&fresh, pair.key, &pair.value);
    }
    if (status == 0) {
        current = fresh;
        *ret_revision = kv_range_revision(iterator);
    }
    kv_range_close(iterator);
    return status;
}

/* A reload for each revision: what one transaction changed takes effect together. */
static void apply(const char *name, const struct kv_event_batch *batch)
{
    for (size_t i = 0; i < batch->n_events; i++) {
        const struct kv_event *event = &batch->events[i];
        int64_t revision = event->pair.mod_revision;

        set(&current, event->pair.key, event->kind == KV_EVENT_PUT ? &event->pair.value : NULL);
        /* A fragment goes on with its last revision in the next batch. */
        if (i + 1 < batch->n_events ? batch->events[i + 1].pair.mod_revision != revision
                                    : !batch->fragment) {
            reload(name, revision);
        }
    }
}

static int
follow(struct kv_client *client, const char *name, int64_t revision, struct kv_error *ret_error)
{
    struct kv_watch_options options = {
        .range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_str(PREFIX)},
        .start_revision = revision + 1,
    };
    struct kv_event_batch *batch;
    struct kv_watch *watch;
    int status = kv_watch_open(client, &options, &watch, ret_error);

    if (status < 0) {
        return status;
    }
    while (!ended && (status = kv_watch_next(watch, WAIT_MS, &batch, ret_error)) >= 0) {
        if (status == 1) {
            apply(name, batch);
            kv_event_batch_free(batch);
        }
    }
    kv_watch_close(watch);
    return status;
}

/* Will it be better later? KV_COMPACTED: away for longer than the history goes back. */
static bool passes(int status)
{
    enum kv_retry retry = kv_status_retry(status);

    return retry == KV_RETRY_LATER || retry == KV_RETRY_ELSEWHERE || retry == KV_RETRY_UNKNOWN ||
           status == KV_COMPACTED;
}

static int run(struct kv_client *client, const char *name, struct kv_error *ret_error)
{
    while (!ended) {
        int64_t revision;
        int status = read_all(client, &revision, ret_error);

        if (status == 0) {
            reload(name, revision);
            status = follow(client, name, revision, ret_error);
        }
        if (status < 0 && !passes(status)) {
            return status;
        }
        if (status < 0) {
            fprintf(stderr, "%s: read anew: %s\n", name, ret_error->message);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
        status = run(client, argc > 2 ? argv[2] : "service", &error);
        kv_client_close(client);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return status < 0;
}
