/* kv/flags.h: the thread that keeps the copy up to date, and the questions to the copy. */
#include "client/flags.h"
#include "client/blocking.h"

#include <kv/watch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    PROGRESS_MS = 1000,      /* the age of a copy grows no further while the cluster answers */
    READ_DEADLINE_MS = 1000, /* also what kv_flags_close may wait for */
    AGAIN_MS = 500,          /* after a failure */
    LEADER_MS = 2000, /* a node without a leader for so long may not know of changes: it does not
                       * make the copy young */
};
#define PREFIX_DEFAULT "flags/"
#define NS_PER_MS 1000000ULL

struct kv_flags {
    struct kv_flags_copy copy;
    _Atomic uint64_t synced_ns; /* 0: never */
    struct kv_client *client;
    char *prefix;
    size_t prefix_size;
    uv_thread_t thread;
    uv_mutex_t mutex; /* guards what follows */
    uv_cond_t cond;   /* closing, or a first copy */
    bool closing;
    struct kv_watch *watch; /* that the thread is in */
    struct kv_flags_state state;
};

/* ---------------------------------------------------------------- the copy */

static void note_error(struct kv_flags *flags, const struct kv_error *error)
{
    uv_mutex_lock(&flags->mutex);
    flags->state.error = *error;
    uv_mutex_unlock(&flags->mutex);
}

/* The copy is complete up to this revision. table: NULL: as it was. */
static void
show(struct kv_flags *flags, struct kv_flags_table *table, size_t n_left_out, int64_t revision)
{
    uv_mutex_lock(&flags->mutex);
    flags->state.revision = revision;
    flags->state.error = (struct kv_error){0};
    if (table) {
        flags->state.n_flags = kv_flags_table_count(table, &flags->state.n_bad);
        flags->state.n_bad += n_left_out;
    }
    uv_mutex_unlock(&flags->mutex);
    if (table) {
        kv_flags_copy_replace(&flags->copy, table);
    }
    atomic_store(&flags->synced_ns, uv_hrtime());
    uv_mutex_lock(&flags->mutex);
    uv_cond_broadcast(&flags->cond);
    uv_mutex_unlock(&flags->mutex);
}

static struct kv_bytes name_of(const struct kv_flags *flags, struct kv_bytes key)
{
    return kv_bytes_of((const char *)key.data + flags->prefix_size, key.size - flags->prefix_size);
}

/* A table with what `table` has and room for more; frees `table`. */
static struct kv_flags_table *grow(struct kv_flags_table *table, size_t n_more, size_t name_bytes)
{
    struct kv_flags_table *larger =
        kv_flags_table_new(table->n_flags + n_more, table->names_used + name_bytes);

    if (larger) {
        kv_flags_table_copy(larger, table);
    }
    kv_flags_table_free(table);
    return larger;
}

/* ---------------------------------------------------------------- reading all */

struct reading {
    struct kv_flags_table *table; /* NULL: no memory */
    size_t n_room;
    size_t name_room;
    size_t n_left_out;
};

static void take_pair(struct kv_flags *flags, struct reading *reading, const struct kv_pair *pair)
{
    struct kv_bytes name = name_of(flags, pair->key);

    if (name.size == 0 || pair->type != KV_TYPE_STRING || !reading->table ||
        reading->table->n_flags == KV_FLAGS_MAX) {
        reading->n_left_out++;
        return;
    }
    if (reading->table->n_flags == reading->n_room ||
        reading->table->names_used + name.size > reading->name_room) {
        size_t n_more = reading->n_room;
        size_t bytes_more = reading->name_room + name.size;

        reading->table = grow(reading->table, n_more, bytes_more);
        if (!reading->table) {
            return;
        }
        reading->n_room = reading->table->n_flags + n_more;
        reading->name_room = reading->table->names_used + bytes_more;
    }
    kv_flags_table_put(reading->table, name, pair->value);
}

static int read_all(struct kv_flags *flags, int64_t *ret_revision, struct kv_error *ret_error)
{
    struct kv_range_spec range = {.kind = KV_RANGE_PREFIX,
                                  .start = kv_bytes_of(flags->prefix, flags->prefix_size)};
    struct kv_range_options options = {.call.deadline_ms = READ_DEADLINE_MS};
    struct reading reading = {.n_room = 64, .name_room = 4096};
    struct kv_range_iterator *iterator;
    struct kv_pair pair;
    int status = kv_range(flags->client, &range, &options, &iterator, ret_error);

    if (status < 0) {
        return status;
    }
    reading.table = kv_flags_table_new(reading.n_room, reading.name_room);
    while ((status = kv_range_next(iterator, &pair, ret_error)) == 1) {
        take_pair(flags, &reading, &pair);
    }
    *ret_revision = kv_range_revision(iterator);
    kv_range_close(iterator);
    if (status == 0 && !reading.table) {
        status = kv_error_set(ret_error, KV_NO_MEMORY, "out of memory for the flags");
    }
    if (status < 0) {
        kv_flags_table_free(reading.table);
        return status;
    }
    show(flags, reading.table, reading.n_left_out, *ret_revision);
    return 0;
}

/* ---------------------------------------------------------------- following */

static int
apply(struct kv_flags *flags, const struct kv_event_batch *batch, struct kv_error *ret_error)
{
    /* Only this thread replaces it. */
    const struct kv_flags_table *present = atomic_load(&flags->copy.table);
    struct kv_flags_table *table = NULL;
    size_t name_bytes = present->names_used;
    size_t n_left_out = 0;

    if (batch->n_events == 0) {
        show(flags, NULL, 0, batch->revision);
        return 0;
    }
    for (size_t i = 0; i < batch->n_events; i++) {
        name_bytes += batch->events[i].pair.key.size;
    }
    table = kv_flags_table_new(present->n_flags + batch->n_events, name_bytes);
    if (!table) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory for the flags");
    }
    kv_flags_table_copy(table, present);
    for (size_t i = 0; i < batch->n_events; i++) {
        const struct kv_event *event = &batch->events[i];
        struct kv_bytes name = name_of(flags, event->pair.key);

        if (event->kind != KV_EVENT_PUT || event->pair.type != KV_TYPE_STRING) {
            kv_flags_table_delete(table, name);
        } else if (name.size > 0 &&
                   (table->n_flags < KV_FLAGS_MAX || kv_flags_table_find(table, name))) {
            kv_flags_table_put(table, name, event->pair.value);
        } else {
            n_left_out++;
        }
    }
    show(flags, table, n_left_out, batch->revision);
    return 0;
}

/* Where kv_flags_close finds it. False: it is to end. */
static bool set_watch(struct kv_flags *flags, struct kv_watch *watch)
{
    bool closing;

    uv_mutex_lock(&flags->mutex);
    flags->watch = watch;
    closing = flags->closing;
    uv_mutex_unlock(&flags->mutex);
    return !closing;
}

/* Until it fails, or is to end. */
static void follow(struct kv_flags *flags, int64_t revision)
{
    struct kv_watch_options options = {
        .range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_of(flags->prefix, flags->prefix_size)},
        .start_revision = revision + 1,
        .progress_ms = PROGRESS_MS,
        .require_leader_ms = LEADER_MS,
    };
    struct kv_event_batch *batch;
    struct kv_watch *watch;
    struct kv_error error;
    int status = kv_watch_open(flags->client, &options, &watch, &error);

    if (status < 0) {
        note_error(flags, &error);
        return;
    }
    status = set_watch(flags, watch) ? 0 : KV_CLOSED;
    while (status >= 0) {
        status = kv_watch_next(watch, 10 * PROGRESS_MS, &batch, &error);
        if (status == 1) {
            status = apply(flags, batch, &error);
            kv_event_batch_free(batch);
        }
    }
    (void)set_watch(flags, NULL);
    kv_watch_close(watch);
    if (status != KV_CLOSED) {
        note_error(flags, &error);
    }
}

static void run(void *arg)
{
    struct kv_flags *flags = arg;
    bool closing = false;

    while (!closing) {
        struct kv_error error;
        int64_t revision;

        if (read_all(flags, &revision, &error) == 0) {
            follow(flags, revision);
        } else {
            note_error(flags, &error);
        }
        uv_mutex_lock(&flags->mutex);
        if (!flags->closing) {
            (void)uv_cond_timedwait(&flags->cond, &flags->mutex, AGAIN_MS * NS_PER_MS);
        }
        closing = flags->closing;
        uv_mutex_unlock(&flags->mutex);
    }
}

/* ---------------------------------------------------------------- open and close */

/* Signals are for the threads of the program, not for this one. */
static int start_thread(struct kv_flags *flags)
{
    sigset_t all;
    sigset_t before;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    status = uv_thread_create(&flags->thread, run, flags);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static void wait_for_first(struct kv_flags *flags, unsigned wait_ms)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t until_ns = now_ns + wait_ms * NS_PER_MS;

    uv_mutex_lock(&flags->mutex);
    while (atomic_load(&flags->synced_ns) == 0 && now_ns < until_ns) {
        (void)uv_cond_timedwait(&flags->cond, &flags->mutex, until_ns - now_ns);
        now_ns = uv_hrtime();
    }
    uv_mutex_unlock(&flags->mutex);
}

int kv_flags_open(struct kv_client *client,
                  const struct kv_flags_options *options,
                  struct kv_flags **ret_flags,
                  struct kv_error *ret_error)
{
    struct kv_bytes prefix =
        options->prefix.size > 0 ? options->prefix : kv_bytes_str(PREFIX_DEFAULT);
    /* Stripes have cache lines of their own. */
    struct kv_flags *flags = aligned_alloc(64, sizeof *flags);
    int status;

    if (flags) {
        memset(flags, 0, sizeof *flags);
        flags->prefix = malloc(prefix.size);
    }
    if (!flags || !flags->prefix || uv_mutex_init(&flags->mutex) < 0) {
        goto no_memory;
    }
    if (uv_cond_init(&flags->cond) < 0) {
        uv_mutex_destroy(&flags->mutex);
        goto no_memory;
    }
    flags->client = client;
    flags->prefix_size = prefix.size;
    memcpy(flags->prefix, prefix.data, prefix.size);
    status = start_thread(flags);
    if (status < 0) {
        uv_cond_destroy(&flags->cond);
        uv_mutex_destroy(&flags->mutex);
        free(flags->prefix);
        free(flags);
        return kv_error_set(ret_error, KV_IO, "no thread for flags: %s", uv_strerror(status));
    }
    wait_for_first(flags, options->wait_ms);
    *ret_flags = flags;
    return 0;
no_memory:
    if (flags) {
        free(flags->prefix);
    }
    free(flags);
    return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
}

void kv_flags_close(struct kv_flags *flags)
{
    if (!flags) {
        return;
    }
    uv_mutex_lock(&flags->mutex);
    flags->closing = true;
    if (flags->watch) {
        kv_watch_stop(flags->watch);
    }
    uv_cond_broadcast(&flags->cond);
    uv_mutex_unlock(&flags->mutex);
    uv_thread_join(&flags->thread);
    kv_flags_copy_replace(&flags->copy, NULL);
    uv_cond_destroy(&flags->cond);
    uv_mutex_destroy(&flags->mutex);
    free(flags->prefix);
    free(flags);
}

/* ---------------------------------------------------------------- questions */

bool kv_flags_get(struct kv_flags *flags, const char *name, struct kv_flag *ret_flag)
{
    struct kv_flags_reading reading = kv_flags_copy_begin(&flags->copy);
    const struct kv_flag *flag =
        reading.table ? kv_flags_table_find(reading.table, kv_bytes_str(name)) : NULL;
    bool found = flag != NULL;

    if (found) {
        *ret_flag = *flag;
    }
    kv_flags_copy_end(&flags->copy, &reading);
    return found;
}

bool kv_flags_check(struct kv_flags *flags, const char *name, struct kv_bytes id)
{
    struct kv_flag flag;

    return kv_flags_get(flags, name, &flag) && kv_flags_decide(&flag, kv_bytes_str(name), id);
}

uint64_t kv_flags_age_ms(struct kv_flags *flags)
{
    uint64_t synced_ns = atomic_load(&flags->synced_ns);

    return synced_ns ? (uv_hrtime() - synced_ns) / NS_PER_MS : UINT64_MAX;
}

void kv_flags_state(struct kv_flags *flags, struct kv_flags_state *ret_state)
{
    uv_mutex_lock(&flags->mutex);
    *ret_state = flags->state;
    uv_mutex_unlock(&flags->mutex);
    ret_state->age_ms = kv_flags_age_ms(flags);
}
