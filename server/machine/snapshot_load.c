/* A machine made of a snapshot's items, none of which is believed. */
#include "server/machine/snapshot.h"

#include "common/assert.h"
#include "server/machine/snapshot_load_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int kv_machine_loader_open(struct kv_machine_loader **ret_loader)
{
    struct kv_machine_loader *loader = calloc(1, sizeof *loader);
    int status = KV_NO_MEMORY;

    if (!loader) {
        return KV_NO_MEMORY;
    }
    loader->hash = XXH3_createState();
    if (loader->hash && XXH3_64bits_reset(loader->hash) == XXH_OK) {
        status = kv_machine_open(&loader->machine);
    }
    if (status != 0) {
        kv_machine_loader_close(loader);
        return status;
    }
    *ret_loader = loader;
    return 0;
}

void kv_machine_loader_close(struct kv_machine_loader *loader)
{
    if (!loader) {
        return;
    }
    kv_machine_close(loader->machine);
    (void)XXH3_freeState(loader->hash);
    free(loader->marks);
    free(loader->expected);
    kv_sums_deinit(&loader->sums);
    free(loader);
}

int kv_loader_refuse(const struct kv_machine_loader *loader,
                     int status,
                     struct kv_error *ret_error,
                     const char *format,
                     ...)
{
    char what[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return kv_error_set(
        ret_error, status, "item %" PRIu64 " of the snapshot: %s", loader->n_items, what);
}

static size_t fixed_size_of(enum kv_item_kind kind)
{
    switch (kind) {
    case KV_ITEM_HEAD:
        return KV_ITEM_HEAD_FIXED;
    case KV_ITEM_SETTING:
        return KV_ITEM_SETTING_FIXED;
    case KV_ITEM_BASE:
        return KV_ITEM_BASE_FIXED;
    case KV_ITEM_ELEMENT:
    case KV_ITEM_CHANGE:
    case KV_ITEM_ELEMENT_CHANGE:
        return KV_ITEM_CHANGE_FIXED;
    case KV_ITEM_END:
        return KV_ITEM_END_FIXED;
    case KV_ITEM_SESSIONS:
        return KV_ITEM_SESSIONS_FIXED;
    case KV_ITEM_WAITERS:
        return KV_ITEM_WAITERS_FIXED;
    case KV_ITEM_TOPICS:
        return KV_ITEM_TOPICS_FIXED;
    case KV_ITEM_TOPIC:
        return KV_ITEM_TOPIC_FIXED;
    case KV_ITEM_MESSAGE:
        return KV_ITEM_MESSAGE_FIXED;
    case KV_ITEM_MARKS:
    case KV_ITEM_SESSION:
    case KV_ITEM_WAITER:
    case KV_ITEM_LEASES:
        break;
    }
    return 0;
}

static bool is_known(unsigned kind)
{
    return kind == KV_ITEM_HEAD || kind == KV_ITEM_SETTING || kind == KV_ITEM_MARKS ||
           kind == KV_ITEM_SESSIONS || kind == KV_ITEM_SESSION || kind == KV_ITEM_WAITERS ||
           kind == KV_ITEM_WAITER || kind == KV_ITEM_LEASES || kind == KV_ITEM_TOPICS ||
           kind == KV_ITEM_TOPIC || kind == KV_ITEM_MESSAGE || kind == KV_ITEM_BASE ||
           kind == KV_ITEM_ELEMENT || kind == KV_ITEM_CHANGE || kind == KV_ITEM_ELEMENT_CHANGE ||
           kind == KV_ITEM_END;
}

/* Changes of keys and of elements are one log. */
static enum kv_item_kind phase_of(enum kv_item_kind kind)
{
    return kind == KV_ITEM_ELEMENT_CHANGE ? KV_ITEM_CHANGE : kind;
}

/* Items come by ascending kind, the head first; head and end are there once. */
static bool is_in_order(const struct kv_machine_loader *loader, enum kv_item_kind kind)
{
    if (loader->kind == 0 || kind == KV_ITEM_HEAD) {
        return loader->kind == 0 && kind == KV_ITEM_HEAD;
    }
    if ((kind == KV_ITEM_SESSIONS || kind == KV_ITEM_WAITERS || kind == KV_ITEM_TOPICS) &&
        loader->kind == kind) {
        return false;
    }
    return phase_of(kind) >= phase_of(loader->kind) && loader->kind != KV_ITEM_END;
}

/* Takes the first item apart; everything in it lies within `items`. */
static int split_item(const struct kv_machine_loader *loader,
                      struct kv_slice items,
                      struct kv_item *ret_item,
                      struct kv_error *ret_error)
{
    const uint8_t *p = items.data;
    size_t fixed_size;
    size_t key_size;
    size_t body_size;

    if (items.size < KV_ITEM_HEAD_BYTES) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "it is cut off in its head");
    }
    if (!is_known(p[0])) {
        return kv_loader_refuse(loader,
                                KV_UNSUPPORTED,
                                ret_error,
                                "kind %u is not known here: it was made by a newer version",
                                p[0]);
    }
    ret_item->kind = (enum kv_item_kind)p[0];
    ret_item->type = (enum kv_type)(p[1] & KV_ITEM_TYPE);
    ret_item->is_large = p[1] & KV_ITEM_IS_LARGE;
    ret_item->drops = p[1] & KV_ITEM_DROPS;
    ret_item->expired = p[1] & KV_ITEM_EXPIRED;
    key_size = kv_get_u16(p + 2);
    body_size = kv_get_u32(p + 4);
    fixed_size = fixed_size_of(ret_item->kind);
    if (!is_in_order(loader, ret_item->kind)) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "kind %d does not come behind kind %d",
                                ret_item->kind,
                                loader->kind);
    }
    if (body_size > items.size - KV_ITEM_HEAD_BYTES || fixed_size + key_size > body_size) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "%zu bytes with a key of %zu do not fit where %zu are",
                                body_size,
                                key_size,
                                items.size - KV_ITEM_HEAD_BYTES);
    }
    ret_item->size = KV_ITEM_HEAD_BYTES + body_size;
    ret_item->fixed = p + KV_ITEM_HEAD_BYTES;
    ret_item->key = kv_slice_of(ret_item->fixed + fixed_size, key_size);
    ret_item->value =
        kv_slice_of(ret_item->fixed + fixed_size + key_size, body_size - fixed_size - key_size);
    if (ret_item->expired && ret_item->kind != KV_ITEM_CHANGE) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "what is no change expires");
    }
    return p[1] & KV_ITEM_HAS_LIFE ? kv_loader_take_life(loader, ret_item, ret_error) : 0;
}

static int
load_head(struct kv_machine_loader *loader, const struct kv_item *item, struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    uint32_t format = kv_get_u32(item->fixed);
    uint32_t version = kv_get_u32(item->fixed + 4);

    if (format > KV_SNAPSHOT_FORMAT || version > KV_MACHINE_VERSION) {
        return kv_loader_refuse(
            loader,
            KV_UNSUPPORTED,
            ret_error,
            "it was made by a newer version: format %u and machine %u, here %u and %u",
            format,
            version,
            KV_SNAPSHOT_FORMAT,
            KV_MACHINE_VERSION);
    }
    for (unsigned i = 1; i <= 5; i++) {
        if (kv_item_number(item, i) > KV_LOADER_NUMBER_MAX) {
            return kv_loader_refuse(loader,
                                    KV_CORRUPT,
                                    ret_error,
                                    "number %u of the head is %" PRIu64,
                                    i,
                                    kv_item_number(item, i));
        }
    }
    machine->revision = (int64_t)kv_item_number(item, 1);
    machine->history.oldest_revision = (int64_t)kv_item_number(item, 2);
    machine->cluster_time_ms = (int64_t)kv_item_number(item, 3);
    machine->expired_ms = machine->cluster_time_ms - 1;
    machine->applied_index = kv_item_number(item, 4);
    machine->last_collection_id = kv_item_number(item, 5);
    loader->change_revision = machine->history.oldest_revision;
    if (format == 0 || version == 0 || machine->history.oldest_revision < KV_REVISION_FIRST ||
        machine->history.oldest_revision > machine->revision) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "format %u, machine %u, revision %" PRId64
                                ", oldest revision %" PRId64,
                                format,
                                version,
                                machine->revision,
                                machine->history.oldest_revision);
    }
    return 0;
}

static int load_setting(struct kv_machine_loader *loader,
                        const struct kv_item *item,
                        struct kv_error *ret_error)
{
    struct kv_error error;
    char name[64] = {0};
    int status;

    if (item->key.size == 0 || item->key.size >= sizeof name ||
        memchr(item->key.data, '\0', item->key.size)) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "a setting's name is damaged");
    }
    memcpy(name, item->key.data, item->key.size);
    status = kv_settings_put(&loader->machine->settings, name, kv_item_number(item, 0), &error);
    if (status == KV_NOT_FOUND) {
        return kv_loader_refuse(loader,
                                KV_UNSUPPORTED,
                                ret_error,
                                "setting \"%s\" is not known here: it was made by a newer version",
                                name);
    }
    return status == 0 ? 0 : kv_loader_refuse(loader, KV_CORRUPT, ret_error, "%s", error.message);
}

static int reserve_marks(struct kv_machine_loader *loader, size_t n)
{
    struct kv_history_mark *marks;

    if (n <= loader->marks_capacity) {
        return 0;
    }
    marks = realloc(loader->marks, 2 * n * sizeof *marks);
    if (!marks) {
        return KV_NO_MEMORY;
    }
    loader->marks = marks;
    loader->marks_capacity = 2 * n;
    return 0;
}

static int
load_marks(struct kv_machine_loader *loader, const struct kv_item *item, struct kv_error *ret_error)
{
    const struct kv_machine *machine = loader->machine;
    size_t n = item->value.size / KV_ITEM_MARK_BYTES;
    struct kv_history_mark before = {.revision = machine->history.oldest_revision};

    if (n == 0 || item->value.size % KV_ITEM_MARK_BYTES != 0 || item->key.size > 0 ||
        n > KV_HISTORY_MARKS_MAX - loader->read.marks) {
        return kv_loader_refuse(
            loader, KV_CORRUPT, ret_error, "%zu bytes of marks", item->value.size);
    }
    if (reserve_marks(loader, loader->read.marks + n) != 0) {
        return kv_loader_refuse(loader, KV_NO_MEMORY, ret_error, "no memory for %zu marks", n);
    }
    if (loader->read.marks > 0) {
        before = loader->marks[loader->read.marks - 1];
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = item->value.data + i * KV_ITEM_MARK_BYTES;
        struct kv_history_mark mark = {.revision = (int64_t)kv_get_u64(p),
                                       .time_ms = (int64_t)kv_get_u64(p + 8)};

        if (mark.revision <= before.revision || mark.revision > machine->revision ||
            mark.time_ms < before.time_ms || mark.time_ms > machine->cluster_time_ms) {
            return kv_loader_refuse(loader,
                                    KV_CORRUPT,
                                    ret_error,
                                    "a mark at revision %" PRId64 " and time %" PRId64
                                    " behind %" PRId64 " and %" PRId64,
                                    mark.revision,
                                    mark.time_ms,
                                    before.revision,
                                    before.time_ms);
        }
        loader->marks[loader->read.marks++] = before = mark;
    }
    return 0;
}

static int load_sessions(struct kv_machine_loader *loader,
                         const struct kv_item *item,
                         struct kv_error *ret_error)
{
    loader->machine->sessions.last_id = kv_item_number(item, 0);
    loader->said_sessions = kv_item_number(item, 1);
    loader->said_session_bytes = kv_item_number(item, 2);
    if (item->key.size + item->value.size > 0 || loader->machine->sessions.last_id == 0 ||
        loader->machine->sessions.last_id > KV_LOADER_NUMBER_MAX) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "the last id of a session");
    }
    return 0;
}

static int load_session(struct kv_machine_loader *loader,
                        const struct kv_item *item,
                        struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_error error;
    int status;

    if (item->key.size > 0) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "a session with a key");
    }
    status = kv_sessions_restore(&machine->sessions, item->value, machine->cluster_time_ms, &error);
    return status == 0 ? 0 : kv_loader_refuse(loader, status, ret_error, "%s", error.message);
}

static int load_waiters(struct kv_machine_loader *loader,
                        const struct kv_item *item,
                        struct kv_error *ret_error)
{
    loader->last_waiter = kv_item_number(item, 0);
    loader->said_waiters = kv_item_number(item, 1);
    if (item->key.size + item->value.size > 0 || loader->last_waiter == 0 ||
        loader->last_waiter > KV_LOADER_NUMBER_MAX) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "the last number of a waiter");
    }
    return 0;
}

static int load_waiter(struct kv_machine_loader *loader,
                       const struct kv_item *item,
                       struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_error error;
    int status;

    if (item->key.size > 0) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "a waiter with a key");
    }
    status = kv_waiters_restore(
        &machine->waiters, &machine->sessions, item->value, machine->cluster_time_ms, &error);
    return status == 0 ? 0 : kv_loader_refuse(loader, status, ret_error, "%s", error.message);
}

static int load_leases(struct kv_machine_loader *loader,
                       const struct kv_item *item,
                       struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_error error;
    int status = 0;

    if (item->key.size > 0 || item->value.size == 0 ||
        item->value.size % KV_LEASE_BODY_BYTES != 0) {
        return kv_loader_refuse(
            loader, KV_CORRUPT, ret_error, "%zu bytes of leases", item->value.size);
    }
    for (size_t at = 0; at < item->value.size && status == 0; at += KV_LEASE_BODY_BYTES) {
        status = kv_leases_restore(
            &machine->leases, item->value.data + at, machine->cluster_time_ms, &error);
    }
    return status == 0 ? 0 : kv_loader_refuse(loader, status, ret_error, "%s", error.message);
}

/* The numbers are those that were said; a list for which somebody waits is to be served. */
static int finish_waiters(struct kv_machine_loader *loader, struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_waiters *waiters = &machine->waiters;

    kv_waiters_forget_ready(waiters);
    if (waiters->n != loader->said_waiters || waiters->last_number > loader->last_waiter) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the snapshot is damaged: it says that %" PRIu64
                            " pops wait, it has %zu",
                            loader->said_waiters,
                            waiters->n);
    }
    waiters->last_number = loader->last_waiter;
    for (const struct kv_waiter *waiter = waiters->oldest; waiter; waiter = waiter->newer) {
        const struct kv_record *record = kv_keyspace_get(machine, kv_waiter_key(waiter));

        if (record && record->type == KV_TYPE_LIST) {
            kv_waiters_note(waiters, kv_waiter_key(waiter));
        }
    }
    return 0;
}

static int
load_end(struct kv_machine_loader *loader, const struct kv_item *item, struct kv_error *ret_error)
{
    struct kv_snapshot_totals *said = &loader->said;

    if (item->key.size + item->value.size > 0 || item->type != KV_TYPE_NONE || item->is_large ||
        item->drops) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "more than totals in the last item");
    }
    *said = (struct kv_snapshot_totals){kv_item_number(item, 0),
                                        kv_item_number(item, 1),
                                        kv_item_number(item, 2),
                                        kv_item_number(item, 3),
                                        kv_item_number(item, 4),
                                        kv_item_number(item, 5),
                                        kv_item_number(item, 6),
                                        kv_item_number(item, 7),
                                        kv_item_number(item, 8),
                                        kv_item_number(item, 9)};
    return 0;
}

static int
load_item(struct kv_machine_loader *loader, const struct kv_item *item, struct kv_error *ret_error)
{
    switch (item->kind) {
    case KV_ITEM_HEAD:
        return load_head(loader, item, ret_error);
    case KV_ITEM_SETTING:
        return load_setting(loader, item, ret_error);
    case KV_ITEM_MARKS:
        return load_marks(loader, item, ret_error);
    case KV_ITEM_SESSIONS:
        return load_sessions(loader, item, ret_error);
    case KV_ITEM_SESSION:
        return load_session(loader, item, ret_error);
    case KV_ITEM_WAITERS:
        return load_waiters(loader, item, ret_error);
    case KV_ITEM_WAITER:
        return load_waiter(loader, item, ret_error);
    case KV_ITEM_LEASES:
        return load_leases(loader, item, ret_error);
    case KV_ITEM_TOPICS:
        return kv_loader_topics(loader, item, ret_error);
    case KV_ITEM_TOPIC:
        return kv_loader_topic(loader, item, ret_error);
    case KV_ITEM_MESSAGE:
        return kv_loader_message(loader, item, ret_error);
    case KV_ITEM_BASE:
        return kv_loader_base(loader, item, ret_error);
    case KV_ITEM_ELEMENT:
        return kv_loader_element(loader, item, ret_error);
    case KV_ITEM_CHANGE:
        return kv_loader_change(loader, item, ret_error);
    case KV_ITEM_ELEMENT_CHANGE:
        return kv_loader_element_change(loader, item, ret_error);
    case KV_ITEM_END:
        return load_end(loader, item, ret_error);
    }
    return KV_INTERNAL;
}

/* The leaf that the next change goes to is fetched while this one is worked on: in the order of the
 * log each is a miss of the cache. */
static void prefetch_change(const struct kv_machine_loader *loader, struct kv_slice items)
{
    const size_t before_key = KV_ITEM_HEAD_BYTES + KV_ITEM_CHANGE_FIXED;

    if (items.size > before_key && phase_of((enum kv_item_kind)items.data[0]) == KV_ITEM_CHANGE) {
        const struct kv_machine *machine = loader->machine;
        size_t key_size = kv_get_u16(items.data + 2);

        if (key_size <= items.size - before_key) {
            kv_tree_prefetch(items.data[0] == KV_ITEM_CHANGE ? &machine->tree : &machine->elements,
                             kv_slice_of(items.data + before_key, key_size));
        }
    }
}

int kv_machine_loader_feed(struct kv_machine_loader *loader,
                           struct kv_slice items,
                           struct kv_error *ret_error)
{
    const uint8_t *hashed = items.data;
    int status = 0;

    KV_ASSERT(!loader->failed);
    while (items.size > 0 && status == 0) {
        struct kv_item item = {0};

        loader->n_items++;
        status = split_item(loader, items, &item, ret_error);
        if (status == 0 && item.kind == KV_ITEM_END) {
            (void)XXH3_64bits_update(loader->hash, hashed, (size_t)(items.data - hashed));
            hashed = items.data + item.size;
        }
        if (status == 0) {
            items = kv_slice_of(items.data + item.size, items.size - item.size);
            prefetch_change(loader, items);
            if (phase_of(item.kind) > KV_ITEM_ELEMENT &&
                phase_of(loader->kind) <= KV_ITEM_ELEMENT) {
                status = kv_loader_check_base(loader, ret_error);
            }
        }
        if (status == 0) {
            status = load_item(loader, &item, ret_error);
        }
        if (status == 0) {
            loader->kind = item.kind;
        }
    }
    loader->failed = status != 0;
    if (status == 0 && items.data > hashed) {
        (void)XXH3_64bits_update(loader->hash, hashed, (size_t)(items.data - hashed));
    }
    return status;
}

/* Are the totals those of what was read? */
static int check_totals(const struct kv_snapshot_totals *said,
                        const struct kv_snapshot_totals *is,
                        struct kv_error *ret_error)
{
    const struct {
        const char *what;
        uint64_t said, is;
    } rows[] = {
        {"the marks are", said->marks, is->marks},
        {"the base has keys", said->base, is->base},
        {"the elements of the base are", said->elements, is->elements},
        {"the changes are", said->changes, is->changes},
        {"the live keys are", said->keys, is->keys},
        {"the bytes of data are", said->data_bytes, is->data_bytes},
        {"the bytes of history are", said->history_bytes, is->history_bytes},
        {"the replaced values are", said->versions, is->versions},
        {"the state's hash is", said->state_hash, is->state_hash},
        {"the hash of the bytes is", said->stream_hash, is->stream_hash},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].said != rows[i].is) {
            return kv_error_set(ret_error,
                                KV_CORRUPT,
                                "the snapshot is damaged: %s %" PRIu64
                                ", its last item says %" PRIu64,
                                rows[i].what,
                                rows[i].is,
                                rows[i].said);
        }
    }
    return 0;
}

int kv_machine_loader_finish(struct kv_machine_loader *loader,
                             struct kv_machine **ret_machine,
                             struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_snapshot_totals *is = &loader->read;
    int64_t last;
    int status;

    KV_ASSERT(!loader->failed && machine);
    if (loader->kind != KV_ITEM_END) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "it is the last, but no end item");
    }
    kv_loader_take_marks(loader, INT64_MAX);
    last = is->marks > 0 ? loader->marks[is->marks - 1].revision : machine->history.oldest_revision;
    if (last != machine->revision) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the snapshot is damaged: its marks end at revision %" PRId64
                            ", its state is of %" PRId64,
                            last,
                            machine->revision);
    }
    if (loader->said_sessions != machine->sessions.n ||
        loader->said_session_bytes != machine->sessions.bytes) {
        return kv_error_set(ret_error,
                            KV_CORRUPT,
                            "the snapshot is damaged: it says that it has %" PRIu64
                            " sessions of %" PRIu64 " bytes, it has %zu of %" PRIu64,
                            loader->said_sessions,
                            loader->said_session_bytes,
                            machine->sessions.n,
                            machine->sessions.bytes);
    }
    status = finish_waiters(loader, ret_error);
    if (status == 0) {
        status = kv_loader_check_told(loader, ret_error);
    }
    if (status == 0) {
        status = kv_loader_check_leases(loader, ret_error);
    }
    if (status == 0) {
        status = kv_loader_finish_topics(loader, ret_error);
    }
    if (status != 0) {
        return status;
    }
    is->keys = kv_tree_count(&machine->tree);
    is->data_bytes = machine->data_bytes;
    is->history_bytes = machine->history.bytes;
    is->versions = machine->history.versions;
    is->state_hash = kv_machine_state_hash(machine);
    is->stream_hash = XXH3_64bits_digest(loader->hash);
    status = check_totals(&loader->said, is, ret_error);
    if (status != 0) {
        return status;
    }
    *ret_machine = machine;
    loader->machine = NULL;
    return 0;
}
