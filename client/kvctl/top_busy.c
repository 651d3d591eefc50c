/* Which prefixes are busy: a watch on everything, counted. What the node cannot tell in time it
 * leaves to catch-up, and we look again from now on when that is too far behind: it is a sample. */
#include "client/kvctl/top.h"

#include <stdlib.h>
#include <string.h>

/* What separates the parts of keys in practice. */
#define SEPARATORS "/:.|"

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037ULL; /* FNV-1a */

    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 1099511628211ULL;
    }
    return hash;
}

/* The key up to its first separator, that one included; one without a separator is itself. */
static void prefix_of(struct kv_bytes key, char text[KVCTL_TOP_PREFIX_BYTES])
{
    const char *bytes = key.data;
    size_t size = 0;
    size_t room = KVCTL_TOP_PREFIX_BYTES - 1;

    for (size_t i = 0; i < key.size && size < room; i++) {
        bool printable = bytes[i] >= 0x20 && bytes[i] < 0x7f;

        text[size++] = printable ? bytes[i] : '?';
        if (printable && strchr(SEPARATORS, bytes[i])) {
            break;
        }
    }
    text[size] = '\0';
}

void kvctl_top_busy_add(struct kvctl_top_busy *busy, struct kv_bytes key)
{
    struct kvctl_top_prefix prefix = {.changes = 1};

    busy->total++;
    prefix_of(key, prefix.text);
    prefix.hash = hash_of(prefix.text);
    for (size_t i = 0; i < busy->n_prefixes; i++) {
        if (busy->prefixes[i].hash == prefix.hash) {
            busy->prefixes[i].changes++;
            return;
        }
    }
    if (busy->n_prefixes == KVCTL_TOP_PREFIXES_MAX) {
        busy->others++;
        return;
    }
    busy->prefixes[busy->n_prefixes++] = prefix;
}

static int by_changes(const void *a, const void *b)
{
    const struct kvctl_top_prefix *left = a;
    const struct kvctl_top_prefix *right = b;

    if (left->changes != right->changes) {
        return left->changes < right->changes ? 1 : -1;
    }
    return strcmp(left->text, right->text);
}

void kvctl_top_busy_sort(struct kvctl_top_busy *busy)
{
    qsort(busy->prefixes, busy->n_prefixes, sizeof busy->prefixes[0], by_changes);
}

void kvctl_top_busy_clear(struct kvctl_top_busy *busy)
{
    busy->n_prefixes = 0;
    busy->others = 0;
    busy->total = 0;
}

void kvctl_top_busy_open(struct kvctl *kvctl, struct kvctl_top_busy *busy)
{
    struct kv_watch_options options = {.range.kind = KV_RANGE_ALL, .keys_only = true};
    struct kv_error error = {0};

    kvctl_top_busy_close(busy);
    if (kv_watch_open(kvctl->client, &options, &busy->watch, &error) < 0) {
        busy->watch = NULL;
    }
    snprintf(busy->error, sizeof busy->error, "%.150s", error.message);
}

void kvctl_top_busy_close(struct kvctl_top_busy *busy)
{
    kv_watch_close(busy->watch);
    busy->watch = NULL;
}

void kvctl_top_busy_count(struct kvctl_top_busy *busy, int64_t until_ms)
{
    int64_t now_ms = kvctl_now_ms();

    do {
        int64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
        unsigned slice_ms = left_ms < KVCTL_LOOK_MS ? (unsigned)left_ms : KVCTL_LOOK_MS;
        struct kv_event_batch *batch;
        struct kv_error error;
        int status = kv_watch_next(busy->watch, slice_ms, &batch, &error);

        if (status == 1) {
            for (size_t i = 0; i < batch->n_events; i++) {
                kvctl_top_busy_add(busy, batch->events[i].pair.key);
            }
            kv_event_batch_free(batch);
        } else if (status < 0) {
            snprintf(busy->error, sizeof busy->error, "%.150s", error.message);
            kvctl_top_busy_close(busy);
        }
        now_ms = kvctl_now_ms();
    } while (busy->watch && now_ms < until_ms && !kvctl_interrupted() && !kvctl_top_screen_quit());
}
