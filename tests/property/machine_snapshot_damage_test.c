/* Damaged snapshots: cut anywhere, any byte changed, items lost, doubled, swapped: none is loaded,
 * and the message says what is wrong. Lies with a hash that fits may load, but then as a sound
 * machine. KV_SEED replays one run. */
#include "server/machine/snapshot.h"

#include "common/limits.h"
#include "server/machine/deadlines.h"
#include "server/machine/machine_internal.h"
#include "server/machine/snapshot_format.h"

#include "tests/support/machine_calls.h"
#include <pthread.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

enum { ITEMS_MAX = 512, END_BYTES = 88 };

static struct kv_machine *machine;
static struct kv_buf snapshot;
static size_t item_at[ITEMS_MAX + 1]; /* where each begins, and the end */
static size_t n_items;
static uint64_t random_state = 88172645463325252u;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

static void expect_ok(void *arg, Kv__Reply *reply)
{
    (void)arg;
    assert_int_equal(reply->code, KV__CODE__OK);
}

static void put(struct kv_machine *target, unsigned key, const char *value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put command = KV__PUT__INIT;
    char text[16];

    snprintf(text, sizeof text, "key-%05u", key);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    command.key = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    command.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    kv_machine_execute(target, &request, expect_ok, NULL);
}

static void delete_key(struct kv_machine *target, unsigned key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete command = KV__DELETE__INIT;
    char text[16];
    ProtobufCBinaryData keys[1] = {{9, (uint8_t *)text}};

    snprintf(text, sizeof text, "key-%05u", key);
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    command.n_keys = 1;
    command.keys = keys;
    kv_machine_execute(target, &request, expect_ok, NULL);
}

static void publish(struct kv_machine *target, unsigned topic)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Publish command = KV__PUBLISH__INIT;
    char text[] = {'t', (char)('0' + topic)};

    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    command.topic = (ProtobufCBinaryData){sizeof text, (uint8_t *)text};
    command.payload = command.topic;
    kv_machine_execute(target, &request, expect_ok, NULL);
}

static void begin(struct kv_machine *target, int64_t time_ms)
{
    assert_int_equal(
        kv_machine_begin(target, kv_machine_applied_index(target) + 1, KV_MACHINE_VERSION, time_ms),
        0);
}

static void read_view(struct kv_machine_view *view, struct kv_buf *bytes, size_t step)
{
    while (kv_machine_view_read(view, bytes, bytes->size + step) == 1) {
    }
}

static void execute(Kv__Request *request)
{
    kv_machine_execute(machine, request, expect_ok, NULL);
}

/* Leases, keys and fields that end; some end while the changes are made. Their names are behind the
 * others'. */
static void add_what_ends(unsigned i)
{
    struct kv_arena arena;

    kv_arena_init(&arena, KV_MIB);
    if (i == 3) {
        execute(call_lease_grant(&arena, 5, 100000000));
        execute(call_lease_grant(&arena, 9, 710000));
    }
    if (i == 5 || i == 45) {
        execute(call_put_ttl(&arena, "ttl", "v", 100000000));
        execute(call_put_lease(&arena, "x-leased", "v", 5));
        execute(call_hash_set_ttl(&arena, "y-hash", i, 3, 90000000));
        execute(call_hash_set(&arena, "y-hash", i + 3, 2, "v"));
        execute(call_expire(&arena, "y-hash", 80000000 + i));
    }
    if (i == 40) {
        execute(call_put_ttl(&arena, "z-short", "v", 500));
        execute(call_hash_set_ttl(&arena, "z-hash", 0, 2, 600));
    }
    kv_arena_deinit(&arena);
}

/* Keys of before the oldest revision, and changes, deletions and marks behind it; topics, of which
 * some are gone. */
static int set_up(void **state)
{
    struct kv_machine_view *view;

    (void)state;
    assert_int_equal(kv_machine_open(&machine), 0);
    for (int i = 0; i < 60; i++) {
        begin(machine, i < 30 ? i : 700000 + i * 100);
        put(machine, (unsigned)i % 20, i % 3 ? "value" : "another value, longer");
        if (i % 5 == 4) {
            delete_key(machine, (unsigned)i % 20);
        }
        if (i % 8 == 0) {
            publish(machine, (unsigned)i / 8);
            publish(machine, (unsigned)i / 16);
        }
        add_what_ends((unsigned)i);
        kv_machine_end(machine);
    }
    assert_in_range(kv_machine_oldest_revision(machine), 2, kv_machine_revision(machine) - 10);
    kv_buf_init(&snapshot, 1 << 20);
    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    read_view(view, &snapshot, 1);
    kv_machine_view_close(machine, view);
    n_items = 0;
    for (size_t at = 0; at < snapshot.size; at += 8 + kv_get_u32(snapshot.data + at + 4)) {
        assert_true(n_items < ITEMS_MAX);
        item_at[n_items++] = at;
    }
    item_at[n_items] = snapshot.size;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_machine_close(machine);
    kv_buf_deinit(&snapshot);
    return 0;
}

/* 0 and a machine, or why not. */
static int
load(const void *data, size_t size, struct kv_machine **ret_machine, struct kv_error *error)
{
    struct kv_machine_loader *loader;
    int status;

    error->message[0] = '\0';
    assert_int_equal(kv_machine_loader_open(&loader), 0);
    status = kv_machine_loader_feed(loader, kv_slice_of(data, size), error);
    if (status == 0) {
        status = kv_machine_loader_finish(loader, ret_machine, error);
    }
    kv_machine_loader_close(loader);
    return status;
}

static void expect_refused(const void *data, size_t size)
{
    struct kv_machine *loaded;
    struct kv_error error;
    int status = load(data, size, &loaded, &error);

    assert_true(status == KV_CORRUPT || status == KV_UNSUPPORTED);
    assert_true(strstr(error.message, "snapshot") != NULL);
}

static void expect_refused_as(const struct kv_buf *bytes, int expected, const char *words)
{
    struct kv_machine *loaded;
    struct kv_error error;

    assert_int_equal(load(bytes->data, bytes->size, &loaded, &error), expected);
    if (!strstr(error.message, words)) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
    }
}

static struct kv_buf copy_snapshot(void)
{
    struct kv_buf copy;

    kv_buf_init(&copy, 2 << 20);
    assert_int_equal(kv_buf_append(&copy, snapshot.data, snapshot.size), 0);
    return copy;
}

/* Negative control of all below. */
static void the_undamaged_one_is_loaded(void **state)
{
    struct kv_machine *loaded;
    struct kv_error error;

    (void)state;
    assert_int_equal(load(snapshot.data, snapshot.size, &loaded, &error), 0);
    kv_machine_check_invariants(loaded);
    assert_int_equal(kv_machine_state_hash(loaded), kv_machine_state_hash(machine));
    kv_machine_close(loaded);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    for (size_t size = 0; size < snapshot.size; size++) {
        /* Memory of that size, so that a sanitizer sees any read behind it. */
        uint8_t *cut = malloc(size + !size);

        memcpy(cut, snapshot.data, size);
        expect_refused(cut, size);
        free(cut);
    }
}

static void every_changed_byte_is_refused(void **state)
{
    struct kv_buf copy = copy_snapshot();

    (void)state;
    for (size_t at = 0; at < copy.size; at++) {
        uint8_t before = copy.data[at];

        for (unsigned bit = 0; bit < 8; bit++) {
            copy.data[at] = before ^ (uint8_t)(1u << bit);
            expect_refused(copy.data, copy.size);
        }
        copy.data[at] = (uint8_t)(before + 1 + rnd(255));
        expect_refused(copy.data, copy.size);
        copy.data[at] = before;
    }
    kv_buf_deinit(&copy);
}

static struct kv_slice item(size_t i)
{
    return kv_slice_of(snapshot.data + item_at[i], item_at[i + 1] - item_at[i]);
}

static void append_item(struct kv_buf *bytes, size_t i)
{
    assert_int_equal(kv_buf_append(bytes, item(i).data, item(i).size), 0);
}

static void lost_doubled_and_swapped_items_are_refused(void **state)
{
    struct kv_buf bytes;

    (void)state;
    kv_buf_init(&bytes, 1 << 20);
    for (size_t victim = 0; victim < n_items; victim++) {
        for (unsigned how = 0; how < 3; how++) {
            kv_buf_clear(&bytes);
            for (size_t i = 0; i < n_items; i++) {
                size_t take = how != 2 ? i : i == victim ? i + 1 : i == victim + 1 ? victim : i;

                if (how == 0 && i == victim) {
                    continue;
                }
                append_item(&bytes, take < n_items ? take : victim);
                if (how == 1 && i == victim) {
                    append_item(&bytes, i);
                }
            }
            if (bytes.size != snapshot.size || memcmp(bytes.data, snapshot.data, bytes.size) != 0) {
                expect_refused(bytes.data, bytes.size);
            }
        }
    }
    kv_buf_deinit(&bytes);
}

/* The hash in the last item fits again. */
static void seal(struct kv_buf *bytes)
{
    if (bytes->size >= END_BYTES) {
        kv_put_u64(bytes->data + bytes->size - 8,
                   XXH3_64bits(bytes->data, bytes->size - END_BYTES));
    }
}

static void what_a_newer_version_made_is_said_to_be(void **state)
{
    struct kv_buf bytes = copy_snapshot();

    (void)state;
    kv_put_u32(bytes.data + 8, 2);
    expect_refused_as(&bytes, KV_UNSUPPORTED, "item 1 of the snapshot: it was made by a newer");
    kv_put_u32(bytes.data + 8, 1);
    bytes.data[item_at[1]] = 40;
    expect_refused_as(&bytes, KV_UNSUPPORTED, "item 2 of the snapshot: kind 40 is not known");
    bytes.data[item_at[1]] = 2;
    bytes.data[item_at[1] + 16] = 'V';
    expect_refused_as(&bytes, KV_UNSUPPORTED, "setting \"Value-limit\" is not known here");
    kv_buf_deinit(&bytes);
}

static void lies_are_named(void **state)
{
    struct kv_buf bytes = copy_snapshot();
    size_t first_base = 0;

    (void)state;
    while (item(first_base).data[0] != 64) {
        first_base++;
    }
    kv_put_u32(bytes.data + item_at[first_base] + 4, UINT32_MAX);
    expect_refused_as(&bytes, KV_CORRUPT, "do not fit");
    memcpy(bytes.data, snapshot.data, snapshot.size);
    kv_put_u64(bytes.data + 16, UINT64_MAX);
    expect_refused_as(&bytes, KV_CORRUPT, "number 1 of the head");
    memcpy(bytes.data, snapshot.data, snapshot.size);
    bytes.data[item_at[first_base] + 8 + 24] = 'z';
    seal(&bytes);
    expect_refused_as(&bytes, KV_CORRUPT, "its key is not behind the one before");
    memcpy(bytes.data, snapshot.data, snapshot.size);
    bytes.data[item_at[first_base + 1] - 1] ^= 1;
    expect_refused_as(&bytes, KV_CORRUPT, "hash");
    memcpy(bytes.data, snapshot.data, snapshot.size);
    bytes.data[bytes.size - 16] ^= 1;
    expect_refused_as(&bytes, KV_CORRUPT, "the state's hash is");
    kv_buf_deinit(&bytes);
}

/* Says in the last item what the loader finds, until it believes it: the lie is in the rest. */
static void agree(struct kv_buf *bytes)
{
    static const struct {
        const char *words;
        size_t at; /* in the last item, from its end */
    } rows[] = {{"the changes are ", 56},
                {"the bytes of history are ", 32},
                {"the replaced values are ", 24}};
    struct kv_machine *loaded = NULL;
    struct kv_error error;

    for (size_t i = 0; i < 3; i++) {
        const char *words;

        seal(bytes);
        (void)load(bytes->data, bytes->size, &loaded, &error);
        words = loaded ? NULL : strstr(error.message, rows[i].words);
        if (words) {
            kv_put_u64(bytes->data + bytes->size - rows[i].at,
                       strtoull(words + strlen(rows[i].words), NULL, 10));
        }
    }
    kv_machine_close(loaded);
    seal(bytes);
}

/* The field that the key tells as the next to end is taken away behind the key's last change: a
 * machine would look for it for ever once its time has come. */
static void elements_that_no_key_tells_are_refused(void **state)
{
    const struct kv_record *record = kv_keyspace_get(machine, kv_slice_str("y-hash"));
    struct kv_buf bytes = copy_snapshot();
    const struct kv_slice end = item(n_items - 1);
    struct kv_slice field;
    int64_t due_ms;
    uint8_t *p;

    (void)state;
    assert_true(kv_fields_first(machine, kv_record_large(record).id, &due_ms, &field));
    bytes.size -= end.size;
    p = kv_buf_reserve(&bytes, 24 + field.size);
    p[0] = KV_ITEM_ELEMENT_CHANGE;
    p[1] = KV_TYPE_HASH | KV_ITEM_DROPS;
    kv_put_u16(p + 2, (uint16_t)(8 + field.size));
    kv_put_u32(p + 4, (uint32_t)(16 + field.size));
    kv_put_u64(p + 8, (uint64_t)kv_machine_revision(machine));
    kv_put_u64_be(p + 16, kv_record_large(record).id);
    memcpy(p + 24, field.data, field.size);
    bytes.size += 24 + field.size;
    assert_int_equal(kv_buf_append(&bytes, end.data, end.size), 0);
    agree(&bytes);
    expect_refused_as(&bytes, KV_CORRUPT, "behind the last change of their keys");
    kv_buf_deinit(&bytes);
}

/* Several random changes under a hash that fits: refused, or a machine whose invariants hold. */
static void sealed_lies_do_no_harm(void **state)
{
    const char *text = getenv("KV_SEED");
    uint64_t first = text ? strtoull(text, NULL, 0) : 1;
    uint64_t last = text ? first : 20000;
    unsigned loaded_ones = 0;

    (void)state;
    for (uint64_t seed = first; seed <= last; seed++) {
        struct kv_buf bytes = copy_snapshot();
        struct kv_machine *loaded;
        struct kv_error error;

        random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
        for (uint64_t n = 1 + rnd(4); n > 0; n--) {
            size_t at = rnd(2) ? rnd(bytes.size) : item_at[rnd(n_items)] + rnd(16);

            bytes.data[at] = rnd(2) ? (uint8_t)rnd(256) : (uint8_t[]){0, 1, 0x7f, 0xff}[rnd(4)];
        }
        if (rnd(4)) {
            seal(&bytes);
        }
        if (load(bytes.data, bytes.size, &loaded, &error) == 0) {
            kv_machine_check_invariants(loaded);
            kv_machine_close(loaded);
            loaded_ones++;
        } else {
            assert_true(strstr(error.message, "snapshot") != NULL);
        }
        kv_buf_deinit(&bytes);
    }
    assert_true(text || loaded_ones > 0);
}

static void what_comes_behind_the_end_is_refused(void **state)
{
    struct kv_machine_loader *loader;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_machine_loader_open(&loader), 0);
    assert_int_equal(
        kv_machine_loader_feed(loader, kv_slice_of(snapshot.data, snapshot.size), &error), 0);
    assert_int_equal(kv_machine_loader_feed(loader, item(n_items - 1), &error), KV_CORRUPT);
    kv_machine_loader_close(loader);
    kv_machine_loader_close(NULL);
    kv_machine_view_close(machine, NULL);
}

struct reading {
    struct kv_machine_view *view;
    struct kv_buf bytes;
};

static void *read_beside(void *arg)
{
    struct reading *reading = arg;

    read_view(reading->view, &reading->bytes, 500);
    return NULL;
}

/* The core changes, deletes and forgets while another thread reads: the thread sanitizer sees what
 * they share. */
static void a_thread_reads_while_the_core_goes_on(void **state)
{
    struct kv_machine_view *view;
    struct kv_buf golden;
    struct reading reading;
    pthread_t thread;

    (void)state;
    machine->settings.history_bytes = 20000;
    for (unsigned i = 0; i < 4000; i++) {
        begin(machine, 1000000 + i * 10);
        put(machine, (unsigned)rnd(1500), "a value to be replaced");
        kv_machine_end(machine);
    }
    kv_buf_init(&golden, 1 << 22);
    kv_buf_init(&reading.bytes, 1 << 22);
    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    read_view(view, &golden, 70000);
    kv_machine_view_close(machine, view);
    assert_int_equal(kv_machine_view_open(machine, &reading.view), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_beside, &reading), 0);
    for (unsigned i = 0; i < 4000; i++) {
        begin(machine, 1100000 + i * 10);
        put(machine, (unsigned)rnd(1500), "another value");
        put(machine, 2000, "a key that comes");
        delete_key(machine, 2000);
        kv_machine_end(machine);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    kv_machine_view_close(machine, reading.view);
    assert_int_equal(reading.bytes.size, golden.size);
    assert_memory_equal(reading.bytes.data, golden.data, golden.size);
    while (kv_machine_reclaim(machine)) {
    }
    kv_machine_check_invariants(machine);
    kv_buf_deinit(&golden);
    kv_buf_deinit(&reading.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_undamaged_one_is_loaded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_cut_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_changed_byte_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            lost_doubled_and_swapped_items_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_newer_version_made_is_said_to_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lies_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(elements_that_no_key_tells_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sealed_lies_do_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_comes_behind_the_end_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_thread_reads_while_the_core_goes_on, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
