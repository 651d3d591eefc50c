/* Events of random commands and transactions on all types, read in pieces of any size from any
 * revision, against what plain reads tell of the store before and after each revision. */
#include "common/limits.h"
#include "server/machine/events.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 6, STEPS = 300, REVISIONS = 2 * STEPS + 2, NAME_BYTES = 24, VALUE_BYTES = 40 };

static const char *const keys[KEYS] = {"a", "b", "ba", "c", "ca", "d"};

static struct machine_rig rig;
static struct kv_arena arena;

static unsigned rnd(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

/* ---------------------------------------------------------------- what reads tell */

struct element {
    char name[NAME_BYTES];
    char value[VALUE_BYTES];
};

/* Of one key at one revision; elements by name. */
struct content {
    bool exists, is_large;
    Kv__Type type;
    int64_t mod_revision, version;
    size_t value_size;
    size_t n;
    struct element *elements;
};

static struct content contents[REVISIONS][KEYS];
static bool has_expired[REVISIONS]; /* what went, went by time */
static int64_t newest;

static int compare_elements(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct element));
}

static void sort(struct element *elements, size_t n)
{
    if (n > 0) {
        qsort(elements, n, sizeof *elements, compare_elements);
    }
}

static void add(struct content *content, ProtobufCBinaryData name, const void *value, size_t size)
{
    struct element *element;

    content->elements = realloc(content->elements, (content->n + 1) * sizeof *content->elements);
    assert_non_null(content->elements);
    element = &content->elements[content->n++];
    memset(element, 0, sizeof *element);
    assert_true(name.len < NAME_BYTES && size < VALUE_BYTES);
    memcpy(element->name, name.data, name.len);
    if (size > 0) {
        memcpy(element->value, value, size);
    }
}

static Kv__Reply *read_ok(Kv__Request *request)
{
    Kv__Reply *reply = machine_rig_read(&rig, request);

    assert_int_equal(reply->code, KV__CODE__OK);
    return reply;
}

static Kv__Reply *read_zset(const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__ZSetSpan__Ranks ranks = KV__ZSET_SPAN__RANKS__INIT;

    ranks.last = -1;
    span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span.ranks = &ranks;
    range.key = machine_rig_bytes(key);
    range.span = &span;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &range;
    return read_ok(&request);
}

static void read_elements(const char *key, struct content *content)
{
    Kv__Reply *reply;

    switch (content->type) {
    case KV__TYPE__TYPE_HASH:
        reply = read_ok(call_hash_get_all(&arena, key, 0));
        for (size_t i = 0; i < reply->hash_get_all->n_fields; i++) {
            const Kv__HashField *field = reply->hash_get_all->fields[i];

            add(content, field->name, field->value.data, field->value.len);
        }
        break;
    case KV__TYPE__TYPE_SET:
        reply = read_ok(call_set_members(&arena, key));
        for (size_t i = 0; i < reply->set_members->n_elements; i++) {
            add(content, reply->set_members->elements[i], NULL, 0);
        }
        break;
    case KV__TYPE__TYPE_LIST:
        reply = read_ok(call_list_range(&arena, key));
        for (size_t i = 0; i < reply->list_range->n_elements; i++) {
            add(content, reply->list_range->elements[i], NULL, 0);
        }
        break;
    case KV__TYPE__TYPE_ZSET:
        reply = read_zset(key);
        for (size_t i = 0; i < reply->zset_range->n_members; i++) {
            const Kv__ZSetMember *member = reply->zset_range->members[i];

            add(content, member->member, &member->score, sizeof member->score);
        }
        break;
    default:
        return;
    }
    kv__reply__free_unpacked(reply, NULL);
    sort(content->elements, content->n);
}

static void note_key(unsigned number)
{
    struct content *content = &contents[newest][number];
    const struct kv_record *record = kv_keyspace_get(rig.machine, kv_slice_str(keys[number]));

    *content = (struct content){0};
    if (!record) {
        return;
    }
    content->exists = true;
    content->is_large = record->is_large;
    content->type = (Kv__Type)record->type;
    content->mod_revision = record->mod_revision;
    content->version = (int64_t)record->version;
    content->value_size = record->type == KV_TYPE_STRING ? record->value_size : 0;
    read_elements(keys[number], content);
}

static void forget_contents(void)
{
    for (size_t i = 0; i < REVISIONS; i++) {
        for (size_t k = 0; k < KEYS; k++) {
            free(contents[i][k].elements);
            contents[i][k] = (struct content){0};
        }
    }
}

static bool has_changed(int64_t revision, unsigned key)
{
    const struct content *old = &contents[revision - 1][key];
    const struct content *new = &contents[revision][key];

    return old->exists != new->exists || old->mod_revision != new->mod_revision;
}

/* ---------------------------------------------------------------- random writes */

static const char *any_key(void)
{
    return keys[rnd(KEYS)];
}

/* Some of the fields end by themselves. */
static Kv__Request *hash_set(const char *key, unsigned n)
{
    Kv__Request *request = call_hash_set(&arena, key, rnd(300), n, rnd(2) ? "x" : "y");

    if (rnd(4) == 0) {
        request->hash_set->fields[rnd(n)]->ttl_ms = 1 + rnd(200);
    }
    return request;
}

/* Most keys keep to one type, or nothing would become large. */
static Kv__Request *any_on_collection(void)
{
    const unsigned number = rnd(KEYS);
    const unsigned type = rnd(10) ? number % 4 : rnd(4);
    const char *key = keys[number];
    const unsigned n = rnd(3) ? 1 + rnd(4) : 100 + rnd(60);

    switch (2 * type + rnd(2)) {
    case 0:
        return call_set_add(&arena, key, rnd(300), n);
    case 1:
        return call_set_remove(&arena, key, rnd(300), 1 + rnd(60));
    case 2:
        return call_zset_add(&arena, key, rnd(300), n);
    case 3:
        return call_zset_pop(&arena, key, 1 + rnd(60));
    case 4:
        return call_list_push(&arena, key, rnd(2), n);
    case 5:
        return call_list_pop(&arena, key, rnd(2), 1 + rnd(60));
    case 6:
        return hash_set(key, n);
    default:
        return call_hash_delete(&arena, key, rnd(300), 1 + rnd(60));
    }
}

static Kv__Request *any_write(void)
{
    switch (rnd(40)) {
    case 0:
        return call_put(&arena, any_key(), rnd(2) ? "" : "a value");
    case 1:
        return call_counter_add(&arena, any_key(), (int64_t)rnd(100) - 50);
    case 2:
        return call_rename(&arena, any_key(), any_key(), rnd(2));
    case 3:
        return call_copy(&arena, any_key(), any_key(), rnd(2));
    case 4:
        return rnd(3) ? call_delete(&arena, any_key(), false)
                      : call_delete_prefix(&arena, any_key());
    case 5:
        return call_touch(&arena, any_key());
    case 6:
    case 7:
        return call_expire(&arena, any_key(), 1 + rnd(200));
    default:
        return any_on_collection();
    }
}

static void note_all(void)
{
    newest++;
    for (unsigned i = 0; i < KEYS; i++) {
        note_key(i);
    }
}

/* Whatever changes, changes since its time is over, all at one revision. */
static void pass_time(void)
{
    machine_rig_pass_time(&rig, rnd(60));
    assert_in_range(kv_machine_revision(rig.machine), newest, newest + 1);
    if (kv_machine_revision(rig.machine) > newest) {
        note_all();
        has_expired[newest] = true;
    }
}

/* Several changes of the same keys at one revision, more often than not. */
static void write_one(void)
{
    Kv__Request *request = any_write();
    Kv__Reply *reply;

    if (rnd(2)) {
        Kv__Request *txn = call_txn(&arena);

        for (unsigned n = 1 + rnd(6); n > 0; n--) {
            (void)call_then(&arena, txn, any_write());
        }
        request = txn;
    }
    reply = machine_rig_write(&rig, request);
    kv__reply__free_unpacked(reply, NULL);
    assert_in_range(kv_machine_revision(rig.machine), newest, newest + 1);
    if (kv_machine_revision(rig.machine) == newest) {
        return;
    }
    note_all();
}

/* ---------------------------------------------------------------- judging events */

struct wish {
    struct kv_event_query query;
    bool wants_key[KEYS];
};

static void any_wish(struct wish *ret_wish)
{
    static const char *const starts[] = {"", "a", "b", "c", "d"};
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__EventKind kinds[2] = {(Kv__EventKind)rnd(3), (Kv__EventKind)rnd(3)};
    Kv__Type types[2] = {(Kv__Type)(1 + rnd(6)), (Kv__Type)(1 + rnd(6))};
    static uint8_t memory[KV_EVENT_QUERY_MEMORY_BYTES];
    struct kv_bounds bounds;

    range.start = machine_rig_bytes(starts[rnd(5)]);
    range.special = range.start.len == 0 || rnd(2) ? KV__KEY_RANGE__SPECIAL__PREFIX
                                                   : KV__KEY_RANGE__SPECIAL__NONE;
    watch.range = &range;
    watch.n_kinds = rnd(4) ? 0 : 2;
    watch.kinds = kinds;
    watch.n_types = rnd(4) ? 0 : 2;
    watch.types = types;
    watch.with_previous = rnd(2);
    watch.keys_only = rnd(5) == 0;
    kv_event_query_of(&watch, memory, &ret_wish->query);
    kv_bounds_of(&range, &bounds);
    for (unsigned i = 0; i < KEYS; i++) {
        struct kv_slice key = kv_slice_str(keys[i]);

        ret_wish->wants_key[i] = kv_slice_compare(key, bounds.start) >= 0 &&
                                 (!bounds.has_end || kv_slice_compare(key, bounds.end) < 0);
    }
}

static unsigned kind_of(int64_t revision, unsigned key)
{
    return contents[revision][key].exists ? KV__EVENT_KIND__EVENT_PUT
           : has_expired[revision]        ? KV__EVENT_KIND__EVENT_EXPIRE
                                          : KV__EVENT_KIND__EVENT_DELETE;
}

static bool is_wanted(const struct wish *wish, int64_t revision, unsigned key)
{
    const struct content *new = &contents[revision][key];
    const Kv__Type type = new->exists ? new->type : contents[revision - 1][key].type;
    const unsigned kind = kind_of(revision, key);

    return has_changed(revision, key) && wish->wants_key[key] && (wish->query.kinds >> kind & 1) &&
           (wish->query.types >> type & 1);
}

static unsigned key_number(ProtobufCBinaryData key)
{
    for (unsigned i = 0; i < KEYS; i++) {
        if (strlen(keys[i]) == key.len && memcmp(keys[i], key.data, key.len) == 0) {
            return i;
        }
    }
    fail_msg("an event of a key that nobody wrote");
    return 0;
}

/* What the events of one key and revision, one or several pieces, name. */
struct changes {
    size_t n_events;
    bool replaced;
    struct content set;     /* elements as they are now */
    struct content removed; /* names */
};

static void gather(const Kv__Event *event, struct changes *changes)
{
    changes->n_events++;
    changes->replaced = changes->replaced || event->replaced;
    for (size_t i = 0; i < event->n_fields; i++) {
        add(&changes->set,
            event->fields[i]->name,
            event->fields[i]->value.data,
            event->fields[i]->value.len);
    }
    for (size_t i = 0; i < event->n_members; i++) {
        add(&changes->set,
            event->members[i]->member,
            &event->members[i]->score,
            sizeof event->members[i]->score);
    }
    for (size_t i = 0; i < event->n_elements; i++) {
        add(&changes->set, event->elements[i], NULL, 0);
    }
    for (size_t i = 0; i < event->n_removed; i++) {
        add(&changes->removed, event->removed[i], NULL, 0);
    }
}

/* Takes away one with this name; false: there is none. */
static bool take(struct content *content, const char *name)
{
    for (size_t i = 0; i < content->n; i++) {
        if (memcmp(content->elements[i].name, name, NAME_BYTES) == 0) {
            content->elements[i] = content->elements[--content->n];
            return true;
        }
    }
    return false;
}

static bool has_element(const struct content *content, const struct element *element)
{
    for (size_t i = 0; i < content->n; i++) {
        if (compare_elements(&content->elements[i], element) == 0) {
            return true;
        }
    }
    return false;
}

/* Each element is named once. Lists apart, what is named as new was not there so, and what is
 * there is not named as gone; a field may be set to what it was. */
static void
check_least(const struct content *old, const struct content *new, const struct changes *changes)
{
    if (new->type == KV__TYPE__TYPE_LIST) {
        return;
    }
    for (size_t i = 0; i < changes->set.n; i++) {
        const struct element *element = &changes->set.elements[i];

        assert_true(has_element(new, element));
        assert_false(new->type != KV__TYPE__TYPE_HASH && old->exists &&has_element(old, element));
        for (size_t k = 0; k < i; k++) {
            assert_memory_not_equal(
                changes->set.elements[k].name, element->name, sizeof element->name);
        }
    }
    for (size_t i = 0; i < changes->removed.n; i++) {
        for (size_t k = 0; k < new->n; k++) {
            assert_memory_not_equal(
                new->elements[k].name, changes->removed.elements[i].name, NAME_BYTES);
        }
    }
}

/* The old elements with the changes are the new ones. */
static void
check_changes(const struct content *old, const struct content *new, const struct changes *changes)
{
    struct content result = {0};
    const bool is_list = new->type == KV__TYPE__TYPE_LIST;

    for (size_t i = 0; old->exists && i < old->n; i++) {
        result.elements = realloc(result.elements, (result.n + 1) * sizeof *result.elements);
        assert_non_null(result.elements);
        result.elements[result.n++] = old->elements[i];
    }
    for (size_t i = 0; i < changes->removed.n; i++) {
        assert_true(take(&result, changes->removed.elements[i].name));
    }
    for (size_t i = 0; i < changes->set.n; i++) {
        const struct element *element = &changes->set.elements[i];

        if (!is_list) {
            (void)take(&result, element->name);
        }
        add(&result,
            machine_rig_bytes(element->name),
            element->value,
            new->type == KV__TYPE__TYPE_ZSET ? 8 : strlen(element->value));
    }
    sort(result.elements, result.n);
    assert_int_equal(result.n, new->n);
    if (new->n > 0) {
        assert_memory_equal(result.elements, new->elements, new->n * sizeof(struct element));
    }
    free(result.elements);
}

static void check_event(const struct wish *wish, const Kv__Event *event, bool is_first)
{
    const int64_t revision = event->kv->mod_revision;
    const unsigned key = key_number(event->kv->key);
    const struct content *old = &contents[revision - 1][key];
    const struct content *new = &contents[revision][key];

    assert_true(is_wanted(wish, revision, key));
    assert_int_equal(event->kind, kind_of(revision, key));
    assert_int_equal(event->kv->type, new->type);
    assert_int_equal(event->kv->version, new->version);
    assert_int_equal(event->kv->value.len, wish->query.keys_only ? 0 : new->value_size);
    assert_int_equal(event->previous != NULL, wish->query.with_previous && old->exists && is_first);
    if (event->previous) {
        assert_int_equal(event->previous->type, old->type);
        assert_int_equal(event->previous->mod_revision, old->mod_revision);
        assert_int_equal(event->previous->value.len, wish->query.keys_only ? 0 : old->value_size);
    }
}

static void
check_whole(const struct wish *wish, int64_t revision, unsigned key, const struct changes *changes)
{
    const struct content *old = &contents[revision - 1][key];
    const struct content *new = &contents[revision][key];

    if (wish->query.keys_only || !new->exists || changes->replaced ||
        !kv_type_is_collection((enum kv_type) new->type)) {
        assert_int_equal(changes->set.n + changes->removed.n, 0);
        /* Never when both are of one type and small. */
        assert_false(
            changes->replaced &&
            !(new->is_large || (old->exists && (old->is_large || old->type != new->type))));
    } else {
        check_least(old, new, changes);
        check_changes(old, new, changes);
    }
}

/* ---------------------------------------------------------------- reading */

/* Told so far, by revision and key. */
static struct changes told[REVISIONS][KEYS];

static void forget_told(void)
{
    for (size_t i = 0; i < REVISIONS; i++) {
        for (size_t k = 0; k < KEYS; k++) {
            free(told[i][k].set.elements);
            free(told[i][k].removed.elements);
        }
    }
    memset(told, 0, sizeof told);
}

static Kv__WatchEvents *unpack(const struct kv_buf *buf)
{
    Kv__WatchEvents *events = kv__watch_events__unpack(NULL, buf->size, buf->data);

    assert_non_null(events);
    return events;
}

/* Reads all from a revision on, now and then on a copy that came from a snapshot. */
static void read_all(const struct wish *wish, int64_t from)
{
    struct kv_event_position position = {.revision = from};
    struct kv_event_piece piece = {.more = true};
    struct kv_buf buf;
    int64_t complete = from - 1;

    kv_buf_init(&buf, 64 * KV_MIB);
    while (piece.more) {
        const bool was_in_fragment = position.in_fragment;
        Kv__WatchEvents *events;

        if (rnd(200) == 0) {
            machine_rig_reload(&rig);
        }
        piece = (struct kv_event_piece){.max_bytes = 1 + rnd(rnd(2) ? 100 : 3000),
                                        .max_records = 1 + rnd(rnd(2) ? 10 : 1000),
                                        .to_revision = newest};
        kv_buf_clear(&buf);
        kv_machine_read_events(rig.machine, &wish->query, &position, &piece, &buf);
        events = unpack(&buf);
        assert_int_equal(events->n_events, piece.n_events);
        assert_int_equal(piece.revision, position.revision - 1);
        for (size_t i = 0; i < events->n_events; i++) {
            const Kv__Event *event = events->events[i];
            const int64_t revision = event->kv->mod_revision;
            struct changes *changes = &told[revision][key_number(event->kv->key)];

            /* In order, and all of a revision together unless the piece says so. */
            assert_true(revision > complete);
            assert_true(revision <= piece.revision ||
                        (piece.more_fragments && revision == piece.revision + 1));
            assert_true(i == 0 || revision >= events->events[i - 1]->kv->mod_revision);
            check_event(wish, event, changes->n_events == 0);
            gather(event, changes);
        }
        assert_true(!was_in_fragment || piece.revision >= complete);
        complete = piece.revision;
        kv__watch_events__free_unpacked(events, NULL);
    }
    assert_int_equal(complete, newest);
    kv_buf_deinit(&buf);
}

static void check_reading(int64_t from)
{
    struct wish wish;

    any_wish(&wish);
    forget_told();
    read_all(&wish, from);
    for (int64_t revision = from; revision <= newest; revision++) {
        for (unsigned key = 0; key < KEYS; key++) {
            const struct changes *changes = &told[revision][key];

            assert_int_equal(changes->n_events > 0, is_wanted(&wish, revision, key));
            if (changes->n_events > 0) {
                check_whole(&wish, revision, key, changes);
            }
        }
    }
}

/* ---------------------------------------------------------------- live */

static size_t n_live;

static void on_live(void *arg, const struct kv_event *event)
{
    const int64_t *from = arg;
    const unsigned key =
        key_number((ProtobufCBinaryData){event->key.size, (uint8_t *)(uintptr_t)event->key.data});

    assert_true(event->revision >= *from && has_changed(event->revision, key));
    n_live++;
}

static void check_live(int64_t from)
{
    size_t n = 0;

    n_live = 0;
    kv_machine_each_event(rig.machine, from, on_live, &from);
    for (int64_t revision = from; revision <= newest; revision++) {
        for (unsigned key = 0; key < KEYS; key++) {
            n += has_changed(revision, key);
        }
    }
    assert_int_equal(n_live, n);
}

static void run_seed(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    rig.is_still = true;
    memset(has_expired, 0, sizeof has_expired);
    rig.machine->reclaim_per_entry = 1 + seed % 20;
    if (seed % 2 == 0) {
        rig.machine->elements_direct = 0;
    }
    kv_arena_init(&arena, 64 * KV_MIB);
    newest = kv_machine_revision(rig.machine);
    for (unsigned step = 0; step < STEPS; step++) {
        int64_t oldest = kv_machine_oldest_revision(rig.machine);

        write_one();
        if (rnd(8) == 0) {
            pass_time();
        }
        if (rnd(25) == 0) {
            machine_rig_expect(
                &rig,
                call_compact(&arena, oldest + (int64_t)rnd((unsigned)(newest - oldest + 1))),
                KV__CODE__OK);
        }
        oldest = kv_machine_oldest_revision(rig.machine);
        if (newest > oldest && rnd(3) == 0) {
            int64_t from = oldest + 1 + (int64_t)rnd((unsigned)(newest - oldest));

            check_live(from);
            check_reading(from);
        }
        kv_arena_reset(&arena);
    }
    forget_told();
    forget_contents();
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
}

static void events_are_what_changed(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(10);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_what_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
