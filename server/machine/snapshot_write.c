/* A view: what the machine was at one moment, and its items in order. */
#include "server/machine/snapshot.h"

#include "common/assert.h"
#include "server/machine/collection.h"
#include "server/machine/snapshot_format.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Each record is a miss of the cache: fetched some ahead. */
enum { RECORDS_AHEAD = 8 };

enum step {
    STEP_HEAD,
    STEP_SETTINGS,
    STEP_MARKS,
    STEP_SESSIONS,
    STEP_SESSION,
    STEP_WAITERS,
    STEP_WAITER,
    STEP_LEASES,
    STEP_TOPICS,
    STEP_TOPIC,
    STEP_MESSAGE,
    STEP_BASE,
    STEP_ELEMENTS,
    STEP_CHANGES,
    STEP_END,
    STEP_DONE
};

struct kv_machine_view {
    struct kv_tree_pin pin;
    struct kv_tree_pin elements;
    struct kv_tree_pin topics; /* names */
    struct kv_tree_pin messages;
    struct kv_topic_position topics_floor;
    uint64_t topics_bytes;
    struct kv_machine_settings settings;
    int64_t revision;
    int64_t oldest_revision;
    int64_t cluster_time_ms;
    uint64_t applied_index;
    uint64_t last_collection_id;
    struct kv_history_mark *marks;
    size_t n_marks;
    struct kv_sessions_copy sessions;
    struct kv_waiters_copy waiters;
    struct kv_buf leases;
    /* Where the reader is; the reader's alone. */
    enum step step;
    size_t at; /* setting, mark or lease */
    size_t session_at, session_next;
    size_t waiter_at, waiter_next;
    struct kv_tree_cursor cursor; /* of names, messages, keys, then of elements */
    uint64_t *ids; /* of the large collections of the base; sorted for their elements */
    size_t n_ids, ids_capacity, id_at;
    struct kv_history_reader events;
    struct kv_snapshot_totals totals; /* of the state from the start, the rest as it goes */
    XXH3_state_t *hash;
};

/* The next item, not yet written. */
struct item {
    enum kv_item_kind kind;
    uint8_t type;
    size_t fixed_size;
    struct kv_slice key;
    struct kv_slice value;
    size_t life_size;
    uint8_t life[KV_ITEM_LIFE_BYTES_MAX];
    uint8_t fixed[KV_ITEM_FIXED_BYTES_MAX];
    uint8_t marks[KV_ITEM_MARKS_MAX * KV_ITEM_MARK_BYTES];
};

static void free_view(struct kv_machine_view *view)
{
    free(view->marks);
    free(view->ids);
    kv_sessions_copy_deinit(&view->sessions);
    kv_waiters_copy_deinit(&view->waiters);
    kv_buf_deinit(&view->leases);
    (void)XXH3_freeState(view->hash);
    free(view);
}

int kv_machine_view_open(struct kv_machine *machine, struct kv_machine_view **ret_view)
{
    struct kv_machine_view *view = malloc(sizeof *view);

    if (!view) {
        return KV_NO_MEMORY;
    }
    *view = (struct kv_machine_view){
        .settings = machine->settings,
        .revision = machine->revision,
        .oldest_revision = machine->history.oldest_revision,
        .cluster_time_ms = machine->cluster_time_ms,
        .applied_index = machine->applied_index,
        .last_collection_id = machine->last_collection_id,
        .n_marks = machine->history.n_marks,
        .topics_floor = machine->topics.floor,
        .topics_bytes = machine->topics.bytes,
        .totals = {.keys = kv_tree_count(&machine->tree),
                   .data_bytes = machine->data_bytes,
                   .history_bytes = machine->history.bytes,
                   .versions = machine->history.versions,
                   .state_hash = kv_machine_state_hash(machine)},
    };
    view->marks = malloc((view->n_marks + 1) * sizeof *view->marks);
    view->hash = XXH3_createState();
    if (!view->marks || !view->hash || XXH3_64bits_reset(view->hash) != XXH_OK ||
        kv_sessions_copy(&machine->sessions, &view->sessions) != 0 ||
        kv_waiters_copy(&machine->waiters, &view->waiters) != 0 ||
        kv_leases_copy(&machine->leases, &view->leases) != 0) {
        free_view(view);
        return KV_NO_MEMORY;
    }
    kv_history_copy_marks(&machine->history, view->marks);
    kv_history_read(&machine->history, &view->events);
    kv_tree_pin(&machine->tree, &view->pin);
    kv_tree_pin(&machine->elements, &view->elements);
    kv_tree_pin(&machine->topics.names, &view->topics);
    kv_tree_pin(&machine->topics.messages, &view->messages);
    *ret_view = view;
    return 0;
}

void kv_machine_view_close(struct kv_machine *machine, struct kv_machine_view *view)
{
    if (!view) {
        return;
    }
    kv_tree_unpin(&machine->tree, &view->pin);
    kv_tree_unpin(&machine->elements, &view->elements);
    kv_tree_unpin(&machine->topics.names, &view->topics);
    kv_tree_unpin(&machine->topics.messages, &view->messages);
    free_view(view);
}

static void put_fixed(struct item *item, uint64_t number)
{
    KV_ASSERT(item->fixed_size + 8 <= sizeof item->fixed);
    kv_put_u64(item->fixed + item->fixed_size, number);
    item->fixed_size += 8;
}

static bool head_item(const struct kv_machine_view *view, struct item *item)
{
    if (view->at > 0) {
        return false;
    }
    item->kind = KV_ITEM_HEAD;
    put_fixed(item, KV_SNAPSHOT_FORMAT | (uint64_t)KV_MACHINE_VERSION << 32);
    put_fixed(item, (uint64_t)view->revision);
    put_fixed(item, (uint64_t)view->oldest_revision);
    put_fixed(item, (uint64_t)view->cluster_time_ms);
    put_fixed(item, view->applied_index);
    put_fixed(item, view->last_collection_id);
    return true;
}

static bool setting_item(const struct kv_machine_view *view, struct item *item)
{
    const char *name;
    uint64_t value;

    if (!kv_settings_at(&view->settings, view->at, &name, &value)) {
        return false;
    }
    item->kind = KV_ITEM_SETTING;
    item->key = kv_slice_str(name);
    put_fixed(item, value);
    return true;
}

static size_t marks_of_item(const struct kv_machine_view *view)
{
    size_t left = view->n_marks - view->at;

    return left < KV_ITEM_MARKS_MAX ? left : KV_ITEM_MARKS_MAX;
}

static bool marks_item(const struct kv_machine_view *view, struct item *item)
{
    size_t n = marks_of_item(view);

    for (size_t i = 0; i < n; i++) {
        const struct kv_history_mark *mark = &view->marks[view->at + i];

        kv_put_u64(item->marks + i * KV_ITEM_MARK_BYTES, (uint64_t)mark->revision);
        kv_put_u64(item->marks + i * KV_ITEM_MARK_BYTES + 8, (uint64_t)mark->time_ms);
    }
    item->kind = KV_ITEM_MARKS;
    item->value = kv_slice_of(item->marks, n * KV_ITEM_MARK_BYTES);
    return n > 0;
}

static bool sessions_item(const struct kv_machine_view *view, struct item *item)
{
    if (view->at > 0 || view->sessions.last_id == 0) {
        return false;
    }
    item->kind = KV_ITEM_SESSIONS;
    put_fixed(item, view->sessions.last_id);
    put_fixed(item, view->sessions.n);
    put_fixed(item, view->sessions.bytes);
    return true;
}

static bool session_item(struct kv_machine_view *view, struct item *item)
{
    item->kind = KV_ITEM_SESSION;
    view->session_next = view->session_at;
    return kv_sessions_copy_next(&view->sessions, &view->session_next, &item->value);
}

static bool waiters_item(const struct kv_machine_view *view, struct item *item)
{
    if (view->at > 0 || view->waiters.last_number == 0) {
        return false;
    }
    item->kind = KV_ITEM_WAITERS;
    put_fixed(item, view->waiters.last_number);
    put_fixed(item, view->waiters.n);
    return true;
}

static bool waiter_item(struct kv_machine_view *view, struct item *item)
{
    item->kind = KV_ITEM_WAITER;
    view->waiter_next = view->waiter_at;
    return kv_waiters_copy_next(&view->waiters, &view->waiter_next, &item->value);
}

static bool topics_item(const struct kv_machine_view *view, struct item *item)
{
    const uint64_t n = kv_tree_count(&view->topics.view);

    if (view->at > 0 || (n == 0 && view->topics_floor.revision == 0)) {
        return false;
    }
    item->kind = KV_ITEM_TOPICS;
    put_fixed(item, (uint64_t)view->topics_floor.revision);
    put_fixed(item, view->topics_floor.number);
    put_fixed(item, n);
    put_fixed(item, kv_tree_count(&view->messages.view));
    put_fixed(item, view->topics_bytes);
    return true;
}

/* The topic itself is the core's: only its name and what was dropped may be looked at. */
static bool topic_item(struct kv_machine_view *view, struct item *item)
{
    const struct kv_record *name = kv_tree_cursor_get(&view->cursor);

    if (!name) {
        return false;
    }
    item->kind = KV_ITEM_TOPIC;
    item->key = kv_record_key(name);
    put_fixed(item, (uint64_t)kv_topic_dropped(name).revision);
    put_fixed(item, kv_topic_dropped(name).number);
    return true;
}

static bool message_item(struct kv_machine_view *view, struct item *item)
{
    const struct kv_record *record = kv_tree_cursor_get(&view->cursor);

    if (!record) {
        return false;
    }
    kv_tree_cursor_prefetch(&view->cursor, RECORDS_AHEAD);
    item->kind = KV_ITEM_MESSAGE;
    item->key = kv_message_topic(record);
    item->value = kv_record_value(record);
    put_fixed(item, (uint64_t)kv_message_position(record).revision);
    put_fixed(item, kv_message_position(record).number);
    put_fixed(item, (uint64_t)kv_message_time_ms(record));
    return true;
}

static size_t leases_of_item(const struct kv_machine_view *view)
{
    size_t left = view->leases.size / KV_LEASE_BODY_BYTES - view->at;

    return left < KV_ITEM_LEASES_MAX ? left : KV_ITEM_LEASES_MAX;
}

static bool leases_item(const struct kv_machine_view *view, struct item *item)
{
    const size_t n = leases_of_item(view);

    item->kind = KV_ITEM_LEASES;
    item->value =
        kv_slice_of(view->leases.data + view->at * KV_LEASE_BODY_BYTES, n * KV_LEASE_BODY_BYTES);
    return n > 0;
}

/* The record's value, and its life behind it. */
static void set_value(struct item *item, const struct kv_record *record)
{
    const size_t size = kv_record_life_bytes(record);

    item->value = kv_record_value(record);
    if (size > 0) {
        memcpy(item->life, item->value.data + item->value.size, size);
        item->life[size] = (uint8_t)((record->has_expiry ? KV_ITEM_LIFE_EXPIRY : 0) |
                                     (record->has_lease ? KV_ITEM_LIFE_LEASE : 0) |
                                     (record->has_fields ? KV_ITEM_LIFE_FIELDS : 0));
        item->life_size = size + 1;
        item->type |= KV_ITEM_HAS_LIFE;
    }
}

static bool base_item(struct kv_machine_view *view, struct item *item)
{
    const struct kv_record *newest;
    const struct kv_record *record = NULL;

    while ((newest = kv_tree_cursor_get(&view->cursor))) {
        kv_tree_cursor_prefetch(&view->cursor, RECORDS_AHEAD);
        record = kv_record_at(newest, view->oldest_revision);
        if (record) {
            break;
        }
        kv_tree_next(&view->cursor);
    }
    if (!record) {
        return false;
    }
    item->kind = KV_ITEM_BASE;
    item->type = (uint8_t)(record->type | (record->is_large ? KV_ITEM_IS_LARGE : 0));
    item->key = kv_record_key(record);
    set_value(item, record);
    put_fixed(item, (uint64_t)record->mod_revision);
    put_fixed(item, (uint64_t)record->create_revision);
    put_fixed(item, record->version);
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Before a key is written that may be a large collection's. */
static int reserve_id(struct kv_machine_view *view)
{
    size_t capacity = view->ids_capacity ? 2 * view->ids_capacity : 64;
    uint64_t *ids;

    if (view->n_ids < view->ids_capacity) {
        return 0;
    }
    ids = realloc(view->ids, capacity * sizeof *ids);
    if (!ids) {
        return KV_NO_MEMORY;
    }
    view->ids = ids;
    view->ids_capacity = capacity;
    return 0;
}

static void note_id(struct kv_machine_view *view)
{
    const struct kv_record *record =
        kv_record_at(kv_tree_cursor_get(&view->cursor), view->oldest_revision);

    if (record->is_large) {
        view->ids[view->n_ids++] = kv_record_large(record).id;
    }
}

static void seek_elements(struct kv_machine_view *view)
{
    uint8_t prefix[KV_COLLECTION_ID_BYTES];

    if (view->id_at < view->n_ids) {
        kv_put_u64_be(prefix, view->ids[view->id_at]);
        kv_tree_seek(&view->elements.view, kv_slice_of(prefix, sizeof prefix), &view->cursor);
    }
}

static void begin_elements(struct kv_machine_view *view)
{
    if (view->n_ids > 0) {
        qsort(view->ids, view->n_ids, sizeof *view->ids, compare_ids);
    }
    seek_elements(view);
}

static bool element_item(struct kv_machine_view *view, struct item *item)
{
    while (view->id_at < view->n_ids) {
        const struct kv_record *newest = kv_tree_cursor_get(&view->cursor);
        const struct kv_record *record;

        if (!newest || kv_get_u64_be(newest->bytes) != view->ids[view->id_at]) {
            view->id_at++;
            seek_elements(view);
            continue;
        }
        kv_tree_cursor_prefetch(&view->cursor, RECORDS_AHEAD);
        record = kv_record_at(newest, view->oldest_revision);
        if (record) {
            item->kind = KV_ITEM_ELEMENT;
            item->type = record->type;
            item->key = kv_record_key(record);
            set_value(item, record);
            put_fixed(item, (uint64_t)record->mod_revision);
            return true;
        }
        kv_tree_next(&view->cursor);
    }
    return false;
}

static uint8_t flags_of_change(const struct kv_record *record)
{
    const bool drops = record->is_element ? record->tombstone : record->drops;

    return (uint8_t)((record->is_large ? KV_ITEM_IS_LARGE : 0) | (drops ? KV_ITEM_DROPS : 0) |
                     (record->expired ? KV_ITEM_EXPIRED : 0));
}

static bool change_item(struct kv_machine_view *view, struct item *item)
{
    const struct kv_record *record;

    /* Events whose memory was not reclaimed yet count no more. */
    while ((record = kv_history_reader_get(&view->events)) &&
           record->mod_revision <= view->oldest_revision) {
        kv_history_reader_next(&view->events);
    }
    if (!record) {
        return false;
    }
    item->kind = record->is_element ? KV_ITEM_ELEMENT_CHANGE : KV_ITEM_CHANGE;
    item->type = (uint8_t)(record->type | flags_of_change(record));
    item->key = kv_record_key(record);
    set_value(item, record);
    put_fixed(item, (uint64_t)record->mod_revision);
    return true;
}

static bool end_item(const struct kv_machine_view *view, struct item *item)
{
    const struct kv_snapshot_totals *totals = &view->totals;

    if (view->at > 0) {
        return false;
    }
    item->kind = KV_ITEM_END;
    put_fixed(item, view->n_marks);
    put_fixed(item, totals->base);
    put_fixed(item, totals->elements);
    put_fixed(item, totals->changes);
    put_fixed(item, totals->keys);
    put_fixed(item, totals->data_bytes);
    put_fixed(item, totals->history_bytes);
    put_fixed(item, totals->versions);
    put_fixed(item, totals->state_hash);
    put_fixed(item, XXH3_64bits_digest(view->hash));
    return true;
}

/* The step's next item; false: it has no more. */
static bool next_item(struct kv_machine_view *view, struct item *item)
{
    item->type = 0;
    item->fixed_size = 0;
    item->life_size = 0;
    item->key = kv_slice_of(NULL, 0);
    item->value = kv_slice_of(NULL, 0);
    switch (view->step) {
    case STEP_HEAD:
        return head_item(view, item);
    case STEP_SETTINGS:
        return setting_item(view, item);
    case STEP_MARKS:
        return marks_item(view, item);
    case STEP_SESSIONS:
        return sessions_item(view, item);
    case STEP_SESSION:
        return session_item(view, item);
    case STEP_WAITERS:
        return waiters_item(view, item);
    case STEP_WAITER:
        return waiter_item(view, item);
    case STEP_LEASES:
        return leases_item(view, item);
    case STEP_TOPICS:
        return topics_item(view, item);
    case STEP_TOPIC:
        return topic_item(view, item);
    case STEP_MESSAGE:
        return message_item(view, item);
    case STEP_BASE:
        return base_item(view, item);
    case STEP_ELEMENTS:
        return element_item(view, item);
    case STEP_CHANGES:
        return change_item(view, item);
    case STEP_END:
        return end_item(view, item);
    case STEP_DONE:
        break;
    }
    return false;
}

/* Behind the item that was written. */
static void advance(struct kv_machine_view *view)
{
    switch (view->step) {
    case STEP_MARKS:
        view->at += marks_of_item(view);
        return;
    case STEP_SESSION:
        view->session_at = view->session_next;
        return;
    case STEP_WAITER:
        view->waiter_at = view->waiter_next;
        return;
    case STEP_LEASES:
        view->at += leases_of_item(view);
        return;
    case STEP_TOPIC:
    case STEP_MESSAGE:
        kv_tree_next(&view->cursor);
        return;
    case STEP_BASE:
        view->totals.base++;
        note_id(view);
        kv_tree_next(&view->cursor);
        return;
    case STEP_ELEMENTS:
        view->totals.elements++;
        kv_tree_next(&view->cursor);
        return;
    case STEP_CHANGES:
        view->totals.changes++;
        kv_history_reader_next(&view->events);
        return;
    default:
        view->at++;
        return;
    }
}

static size_t item_size(const struct item *item)
{
    return KV_ITEM_HEAD_BYTES + item->fixed_size + item->key.size + item->value.size +
           item->life_size;
}

static int append_item(struct kv_buf *buf, const struct item *item)
{
    size_t size = item_size(item);
    uint8_t *p = kv_buf_reserve(buf, size);

    if (!p) {
        return KV_NO_MEMORY;
    }
    p[0] = (uint8_t)item->kind;
    p[1] = item->type;
    kv_put_u16(p + 2, (uint16_t)item->key.size);
    kv_put_u32(p + 4, (uint32_t)(size - KV_ITEM_HEAD_BYTES));
    p += KV_ITEM_HEAD_BYTES;
    memcpy(p, item->fixed, item->fixed_size);
    p += item->fixed_size;
    if (item->key.size > 0) {
        memcpy(p, item->key.data, item->key.size);
    }
    if (item->value.size > 0) {
        memcpy(p + item->key.size, item->value.data, item->value.size);
    }
    memcpy(p + item->key.size + item->value.size, item->life, item->life_size);
    buf->size += size;
    return 0;
}

/* Takes what the buffer holds behind *hashed into the hash. */
static void hash_behind(struct kv_machine_view *view, const struct kv_buf *buf, size_t *hashed)
{
    if (buf->size > *hashed) {
        (void)XXH3_64bits_update(view->hash, buf->data + *hashed, buf->size - *hashed);
    }
    *hashed = buf->size;
}

static void begin_step(struct kv_machine_view *view, enum step step)
{
    view->step = step;
    view->at = 0;
    if (step == STEP_TOPIC) {
        kv_tree_seek(&view->topics.view, kv_slice_of(NULL, 0), &view->cursor);
    } else if (step == STEP_MESSAGE) {
        kv_tree_seek(&view->messages.view, kv_slice_of(NULL, 0), &view->cursor);
    } else if (step == STEP_BASE) {
        kv_tree_seek(&view->pin.view, kv_slice_of(NULL, 0), &view->cursor);
    } else if (step == STEP_ELEMENTS) {
        begin_elements(view);
    }
}

int kv_machine_view_read(struct kv_machine_view *view, struct kv_buf *buf, size_t max_bytes)
{
    size_t hashed = buf->size;
    bool any = false;
    struct item item;
    int status = 0;

    while (view->step != STEP_DONE) {
        /* The last item tells the hash of all before it. */
        if (view->step == STEP_END) {
            hash_behind(view, buf, &hashed);
        }
        if (!next_item(view, &item)) {
            begin_step(view, view->step + 1);
            continue;
        }
        status = reserve_id(view);
        if (status != 0) {
            break;
        }
        if (any && (buf->size >= max_bytes || item_size(&item) > max_bytes - buf->size)) {
            status = 1;
            break;
        }
        status = append_item(buf, &item);
        if (status != 0) {
            break;
        }
        advance(view);
        any = true;
    }
    hash_behind(view, buf, &hashed);
    return status;
}
