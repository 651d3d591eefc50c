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

static struct setting {
    char key[TEXT_BYTES];
    char value[TEXT_BYTES];
} settings[SETTINGS_MAX];
static size_t n_settings;
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
static void set(const struct kv_pair *pair, const struct kv_bytes *value)
{
    char key[TEXT_BYTES];
    size_t i = 0;

    copy(key, pair->key);
    while (i < n_settings && strcmp(settings[i].key, key) < 0) {
        i++;
    }
    if (i < n_settings && strcmp(settings[i].key, key) == 0) {
        if (value) {
            copy(settings[i].value, *value);
        } else {
            n_settings--;
            memmove(&settings[i], &settings[i + 1], (n_settings - i) * sizeof settings[0]);
        }
    } else if (value && n_settings < SETTINGS_MAX) {
        memmove(&settings[i + 1], &settings[i], (n_settings - i) * sizeof settings[0]);
        copy(settings[i].key, pair->key);
        copy(settings[i].value, *value);
        n_settings++;
    }
}

/* Where a service would open its log anew, resize its pool, and so on. */
static void reload(const char *name, int64_t revision)
{
    printf("%s %" PRId64 ":", name, revision);
    for (size_t i = 0; i < n_settings; i++) {
        printf(" %s=%s", settings[i].key + strlen(PREFIX), settings[i].value);
    }
    printf("\n");
    fflush(stdout);
}

static int read_all(struct kv_client *client, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_range_spec range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_str(PREFIX)};
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(client, &range, NULL, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    n_settings = 0;
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        set(&pair, &pair.value);
    }
    *ret_revision = kv_range_revision(iterator);
    kv_range_close(iterator);
    return status;
}

/* A reload for each revision: what one transaction changed takes effect together. */
static void apply(const char *name, const struct kv_event_batch *batch)
{
    for (size_t i = 0; i < batch->n_events; i++) {
        const struct kv_event *event = &batch->events[i];
        int64_t revision = event->pair.mod_revision;

        set(&event->pair, event->kind == KV_EVENT_PUT ? &event->pair.value : NULL);
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

static int run(struct kv_client *client, const char *name, struct kv_error *ret_error)
{
    int64_t revision;
    int status = 0;

    while (!ended && status >= 0) {
        status = read_all(client, &revision, ret_error);
        if (status == 0) {
            reload(name, revision);
            status = follow(client, name, revision, ret_error);
        }
        /* Away for longer than the history goes back: begin anew with what is there now. */
        if (status == KV_COMPACTED) {
            status = 0;
        }
    }
    return status < 0 ? status : 0;
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
