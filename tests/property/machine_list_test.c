/* Random commands on lists against arrays, with the state of every revision kept: small and large
 * forms, reads at revisions, failed commands, snapshots, forgotten history. */
#include "common/limits.h"
#include "server/machine/list.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 3, LENGTH_MAX = 700, STEPS = 600, REVISIONS_MAX = STEPS + 2, TEXT_BYTES = 2600 };

/* Elements are numbers here: what number 0 to n_values stands for, see text_of(). */
struct model_list {
    unsigned n;
    uint16_t elements[LENGTH_MAX];
};
static struct model_list states[REVISIONS_MAX][KEYS];
static int64_t revision;
static struct machine_rig rig;
static unsigned n_values;   /* of this run: few make equal elements */
static unsigned length_max; /* of this run: short lists stay small */

static unsigned below(unsigned n)
{
    return (unsigned)machine_rig_random(&rig, n);
}

static ProtobufCBinaryData key_bytes(unsigned key)
{
    static const char *const texts[KEYS] = {"list/a", "list/b", "list/c"};

    return machine_rig_bytes(texts[key]);
}

/* The empty one, some short ones, and a few that fit no small list. */
static ProtobufCBinaryData text_of(unsigned value)
{
    static char texts[1000][24];
    static uint8_t longest[TEXT_BYTES];

    if (value == 0) {
        return (ProtobufCBinaryData){0};
    }
    if (value % 97 == 96) {
        memset(longest, 'x', sizeof longest);
        return (ProtobufCBinaryData){TEXT_BYTES - value, longest};
    }
    snprintf(texts[value], sizeof texts[value], "%0*u", (int)(4 + value % 19), value);
    return machine_rig_bytes(texts[value]);
}

static bool is_value(ProtobufCBinaryData bytes, unsigned value)
{
    ProtobufCBinaryData text = text_of(value);

    return bytes.len == text.len && (text.len == 0 || memcmp(bytes.data, text.data, text.len) == 0);
}

static struct model_list *list_of(unsigned key)
{
    return &states[revision][key];
}

static struct model_list *next_state(unsigned key)
{
    memcpy(states[revision + 1], states[revision], sizeof states[0]);
    return &states[revision + 1][key];
}

static void model_insert(struct model_list *list, unsigned at, unsigned value)
{
    assert_true(at <= list->n && list->n < LENGTH_MAX);
    memmove(
        &list->elements[at + 1], &list->elements[at], (list->n - at) * sizeof list->elements[0]);
    list->elements[at] = (uint16_t)value;
    list->n++;
}

static unsigned model_cut(struct model_list *list, unsigned at)
{
    unsigned value = list->elements[at];

    assert_true(at < list->n);
    list->n--;
    memmove(
        &list->elements[at], &list->elements[at + 1], (list->n - at) * sizeof list->elements[0]);
    return value;
}

/* The write's reply has this code, and the revision is what the model says. */
static Kv__Reply *write_list(Kv__Request *request, Kv__Code code, bool changes)
{
    uint64_t hash = kv_machine_state_hash(rig.machine);
    Kv__Reply *reply = machine_rig_write(&rig, request);

    if (reply->code != code) {
        print_error("code %d, not %d: %s\n", (int)reply->code, (int)code, reply->message);
    }
    assert_int_equal(reply->code, code);
    revision += changes;
    assert_int_equal(reply->revision, revision);
    assert_true(changes || hash == kv_machine_state_hash(rig.machine));
    return reply;
}

static void push(void)
{
    unsigned key = below(KEYS);
    unsigned n = 1 + below(below(6) ? 4 : 90);
    struct model_list *list = next_state(key);
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData elements[90];
    Kv__Reply *reply;
    bool done;

    n = list->n + n > length_max ? length_max - list->n : n;
    if (n == 0) {
        return;
    }
    command.if_present = below(3) == 0;
    command.end = below(2) ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    done = list->n > 0 || !command.if_present;
    for (unsigned i = 0; i < n; i++) {
        unsigned value = below(n_values);

        elements[i] = text_of(value);
        if (done) {
            model_insert(list, command.end == KV__LIST_END__LIST_LEFT ? 0 : list->n, value);
        }
    }
    command.key = key_bytes(key);
    command.n_elements = n;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    reply = write_list(&request, KV__CODE__OK, done);
    assert_int_equal(reply->list_push->count, list->n);
    kv__reply__free_unpacked(reply, NULL);
}

static void pop(void)
{
    unsigned key = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListPop command = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    unsigned n;

    command.key = key_bytes(key);
    command.end = below(2) ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    command.count = below(below(6) ? 3 : 120);
    n = command.count ? (unsigned)command.count : 1;
    n = n < list->n ? n : list->n;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    reply = write_list(&request, KV__CODE__OK, n > 0);
    assert_int_equal(reply->list_pop->n_elements, n);
    for (unsigned i = 0; i < n; i++) {
        bool left = command.end == KV__LIST_END__LIST_LEFT;

        assert_true(
            is_value(reply->list_pop->elements[i], model_cut(list, left ? 0 : list->n - 1)));
    }
    kv__reply__free_unpacked(reply, NULL);
}

/* An index of the list, sometimes just outside. */
static int64_t random_index(const struct model_list *list)
{
    return (int64_t)below(2 * list->n + 4) - (int64_t)list->n - 2;
}

static bool resolve(const struct model_list *list, int64_t index, unsigned *ret_at)
{
    int64_t at = index < 0 ? index + (int64_t)list->n : index;

    *ret_at = (unsigned)at;
    return at >= 0 && at < (int64_t)list->n;
}

static void set(void)
{
    unsigned key = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListSet command = KV__LIST_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned value = below(n_values);
    unsigned at;
    bool inside;

    command.key = key_bytes(key);
    command.index = random_index(list);
    command.element = text_of(value);
    inside = resolve(list, command.index, &at);
    if (inside) {
        list->elements[at] = (uint16_t)value;
    }
    request.command_case = KV__REQUEST__COMMAND_LIST_SET;
    request.list_set = &command;
    kv__reply__free_unpacked(
        write_list(&request, inside ? KV__CODE__OK : KV__CODE__OUT_OF_BOUNDS, inside), NULL);
}

static void insert(void)
{
    unsigned key = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListInsert command = KV__LIST_INSERT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned pivot = list->n > 0 && below(8) ? list->elements[below(list->n)] : below(n_values);
    unsigned value = below(n_values);
    unsigned at = 0;
    Kv__Reply *reply;
    bool found;

    if (list->n >= length_max) {
        return;
    }
    while (at < list->n && list->elements[at] != pivot) {
        at++;
    }
    found = at < list->n;
    command.key = key_bytes(key);
    command.pivot = text_of(pivot);
    command.element = text_of(value);
    command.after = below(2);
    if (found) {
        model_insert(list, at + (command.after != 0), value);
    }
    request.command_case = KV__REQUEST__COMMAND_LIST_INSERT;
    request.list_insert = &command;
    reply = write_list(&request, found ? KV__CODE__OK : KV__CODE__NOT_FOUND, found);
    assert_true(!found || reply->list_insert->count == list->n);
    kv__reply__free_unpacked(reply, NULL);
}

static void remove_equal(void)
{
    unsigned key = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListRemove command = KV__LIST_REMOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned value = list->n > 0 ? list->elements[below(list->n)] : below(n_values);
    unsigned removed = 0;
    unsigned limit;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.element = text_of(value);
    command.count = (int64_t)below(7) - 3;
    limit = command.count == 0 ? LENGTH_MAX : (unsigned)llabs(command.count);
    if (command.count >= 0) {
        for (unsigned i = 0; i < list->n && removed < limit;) {
            bool equal = list->elements[i] == value;

            removed += equal;
            equal ? (void)model_cut(list, i) : (void)i++;
        }
    } else {
        for (unsigned i = list->n; i > 0 && removed < limit; i--) {
            if (list->elements[i - 1] == value) {
                removed++;
                (void)model_cut(list, i - 1);
            }
        }
    }
    request.command_case = KV__REQUEST__COMMAND_LIST_REMOVE;
    request.list_remove = &command;
    reply = write_list(&request, KV__CODE__OK, removed > 0);
    assert_int_equal(reply->list_remove->count, removed);
    kv__reply__free_unpacked(reply, NULL);
}

/* first..last of the model as [*ret_from, *ret_to). */
static void clamp(const struct model_list *list,
                  int64_t first,
                  int64_t last,
                  unsigned *ret_from,
                  unsigned *ret_to)
{
    int64_t n = (int64_t)list->n;

    *ret_from = *ret_to = 0;
    for (int64_t i = 0; i < n; i++) {
        bool behind = first < 0 ? i - n >= first : i >= first;
        bool before = last < 0 ? i - n <= last : i <= last;

        if (behind && before) {
            *ret_from = *ret_to == 0 ? (unsigned)i : *ret_from;
            *ret_to = (unsigned)i + 1;
        }
    }
}

static void trim(void)
{
    unsigned key = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListTrim command = KV__LIST_TRIM__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned from, to;
    Kv__Reply *reply;
    bool changes;

    command.key = key_bytes(key);
    command.first = below(12) ? (int64_t)below(3) : random_index(list);
    command.last = below(12) ? -1 - (int64_t)below(3) : random_index(list);
    clamp(list, command.first, command.last, &from, &to);
    changes = to - from < list->n;
    memmove(list->elements, &list->elements[from], (to - from) * sizeof list->elements[0]);
    list->n = to - from;
    request.command_case = KV__REQUEST__COMMAND_LIST_TRIM;
    request.list_trim = &command;
    reply = write_list(&request, KV__CODE__OK, changes);
    assert_int_equal(reply->list_trim->count, list->n);
    kv__reply__free_unpacked(reply, NULL);
}

static void move(void)
{
    unsigned key = below(KEYS);
    unsigned to = below(KEYS);
    struct model_list *list = next_state(key);
    Kv__ListMove command = KV__LIST_MOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool found = list->n > 0;
    bool changes = found;
    unsigned value = 0;
    Kv__Reply *reply;

    if (list_of(to)->n >= length_max) {
        return;
    }
    command.key = key_bytes(key);
    command.to = key_bytes(to);
    command.from = below(2) ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    command.to_end = below(2) ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    if (found) {
        changes = key != to || (command.from != command.to_end && list->n > 1);
        value = model_cut(list, command.from == KV__LIST_END__LIST_LEFT ? 0 : list->n - 1);
        list = &states[revision + 1][to];
        model_insert(list, command.to_end == KV__LIST_END__LIST_LEFT ? 0 : list->n, value);
    }
    request.command_case = KV__REQUEST__COMMAND_LIST_MOVE;
    request.list_move = &command;
    reply = write_list(&request, found ? KV__CODE__OK : KV__CODE__NOT_FOUND, changes);
    assert_true(!found || is_value(reply->list_move->elements[0], value));
    kv__reply__free_unpacked(reply, NULL);
}

/* Some other key holds no list: nothing happens to either. */
static void move_to_string(void)
{
    unsigned key = below(KEYS);
    Kv__ListMove command = KV__LIST_MOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = key_bytes(key);
    command.to = machine_rig_bytes("text");
    request.command_case = KV__REQUEST__COMMAND_LIST_MOVE;
    request.list_move = &command;
    kv__reply__free_unpacked(
        write_list(
            &request, list_of(key)->n > 0 ? KV__CODE__WRONG_TYPE : KV__CODE__NOT_FOUND, false),
        NULL);
}

static void drop(void)
{
    unsigned key = below(KEYS);
    ProtobufCBinaryData name = key_bytes(key);
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool changes = list_of(key)->n > 0;

    next_state(key)->n = 0;
    command.n_keys = 1;
    command.keys = &name;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    kv__reply__free_unpacked(write_list(&request, KV__CODE__OK, changes), NULL);
}

static void check_range(unsigned key, const struct model_list *list, int64_t at, bool whole)
{
    Kv__ListRange command = KV__LIST_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned from, to;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.first = whole ? 0 : random_index(list);
    command.last = whole ? -1 : random_index(list);
    command.at_revision = at;
    clamp(list, command.first, command.last, &from, &to);
    request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
    request.list_range = &command;
    reply = machine_rig_read(&rig, &request);
    if (at > 0 && at < kv_machine_oldest_revision(rig.machine)) {
        assert_int_equal(reply->code, KV__CODE__COMPACTED);
    } else {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->list_range->n_elements, to - from);
        for (unsigned i = from; i < to; i++) {
            assert_true(is_value(reply->list_range->elements[i - from], list->elements[i]));
        }
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_index(unsigned key, const struct model_list *list, int64_t at)
{
    Kv__ListIndex command = KV__LIST_INDEX__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    unsigned place;

    command.key = key_bytes(key);
    command.index = random_index(list);
    command.at_revision = at;
    request.command_case = KV__REQUEST__COMMAND_LIST_INDEX;
    request.list_index = &command;
    reply = machine_rig_read(&rig, &request);
    if (at > 0 && at < kv_machine_oldest_revision(rig.machine)) {
        assert_int_equal(reply->code, KV__CODE__COMPACTED);
    } else if (!resolve(list, command.index, &place)) {
        assert_int_equal(reply->code, KV__CODE__OUT_OF_BOUNDS);
    } else {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->list_index->n_elements, 1);
        assert_true(is_value(reply->list_index->elements[0], list->elements[place]));
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_length(unsigned key)
{
    Kv__ListLen command = KV__LIST_LEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    request.command_case = KV__REQUEST__COMMAND_LIST_LEN;
    request.list_len = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->list_len->count, list_of(key)->n);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_state(int64_t at)
{
    for (unsigned key = 0; key < KEYS; key++) {
        check_range(key, &states[at][key], at, true);
        check_range(key, &states[at][key], at, false);
        check_index(key, &states[at][key], at);
    }
}

static void check_now(void)
{
    for (unsigned key = 0; key < KEYS; key++) {
        check_range(key, list_of(key), 0, true);
        check_range(key, list_of(key), 0, false);
        check_index(key, list_of(key), 0);
        check_length(key);
    }
}

static void step(void)
{
    static void (*const commands[])(void) = {
        push, push, push, pop, set, insert, insert, remove_equal, trim, move, move, move_to_string};

    if (below(60) == 0) {
        drop();
    } else {
        commands[below(sizeof commands / sizeof commands[0])]();
    }
}

static void put_string(void)
{
    Kv__Put command = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = machine_rig_bytes("text");
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static unsigned n_large, n_small; /* lists met in each form */

static void count_forms(void)
{
    for (unsigned key = 0; key < KEYS; key++) {
        ProtobufCBinaryData name = key_bytes(key);
        const struct kv_record *record = kv_keyspace_get(rig.machine, kv_slice_of_proto(name));

        n_large += record && record->is_large;
        n_small += record && !record->is_large;
    }
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    put_string();
    revision = kv_machine_revision(rig.machine);
    memset(states[revision], 0, sizeof states[0]);
    n_values = seed % 3 == 0 ? 6 : seed % 3 == 1 ? 60 : 300;
    length_max = seed % 4 == 0 ? 20 : seed % 4 == 1 ? 200 : LENGTH_MAX;
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        check_now();
        count_forms();
        /* The first state that the model knows is the second revision. */
        check_state(2 + (int64_t)machine_rig_random(&rig, (uint64_t)revision - 1));
        if (below(40) == 0) {
            machine_rig_reload(&rig);
        }
        if (seed % 2 == 0 && below(30) == 0) {
            machine_rig_pass_time(&rig, 400000);
        }
    }
    for (int64_t at = 2; at <= revision; at++) {
        check_state(at);
    }
    machine_rig_close(&rig);
}

static void lists_do_what_arrays_do(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
    assert_true(n_large > STEPS && n_small > STEPS);
}

/* ---------------------------------------------------------------- places between two elements */

static void push_one(const char *text, Kv__ListEnd end)
{
    ProtobufCBinaryData element = machine_rig_bytes(text);
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = key_bytes(0);
    command.end = end;
    command.n_elements = 1;
    command.elements = &element;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static Kv__Reply *insert_one(const char *pivot, const char *text, bool after)
{
    Kv__ListInsert command = KV__LIST_INSERT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = key_bytes(0);
    command.pivot = machine_rig_bytes(pivot);
    command.element = machine_rig_bytes(text);
    command.after = after;
    request.command_case = KV__REQUEST__COMMAND_LIST_INSERT;
    request.list_insert = &command;
    return machine_rig_write(&rig, &request);
}

static Kv__Reply *whole_list(void)
{
    Kv__ListRange command = KV__LIST_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = key_bytes(0);
    command.last = -1;
    request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
    request.list_range = &command;
    return machine_rig_read(&rig, &request);
}

static bool is_text(ProtobufCBinaryData bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

enum { INSERTED = 3000, AROUND = 200 };

static void open_large(void)
{
    machine_rig_open(&rig, 1);
    rig.checks = false;
    for (unsigned i = 0; i < AROUND; i++) {
        push_one("left", KV__LIST_END__LIST_LEFT);
    }
    push_one("pivot", KV__LIST_END__LIST_RIGHT);
    for (unsigned i = 0; i < AROUND; i++) {
        push_one("right", KV__LIST_END__LIST_RIGHT);
    }
}

/* Many between the same two: always before one element, or always behind the one before. */
static void numbers_between_two_do_not_run_out(void **state)
{
    char text[2][16] = {"pivot", ""};
    uint64_t versions[3] = {0};

    (void)state;
    for (unsigned mode = 0; mode < 3; mode++) {
        struct kv_machine_stats stats;
        Kv__Reply *reply;

        open_large();
        for (unsigned i = 0; i < INSERTED; i++) {
            const char *pivot = mode == 2 && i > 0 ? text[(i - 1) % 2] : "pivot";

            snprintf(text[i % 2], sizeof text[0], "%u", i);
            reply = insert_one(pivot, text[i % 2], mode > 0);
            assert_int_equal(reply->code, KV__CODE__OK);
            assert_int_equal(reply->list_insert->count, 2 * AROUND + 2 + i);
            kv__reply__free_unpacked(reply, NULL);
        }
        kv_machine_check_invariants(rig.machine);
        reply = whole_list();
        assert_int_equal(reply->list_range->n_elements, 2 * AROUND + 1 + INSERTED);
        for (unsigned i = 0; i < INSERTED; i++) {
            unsigned at = mode == 0   ? AROUND + i
                          : mode == 1 ? AROUND + INSERTED - i
                                      : AROUND + 1 + i;

            snprintf(text[0], sizeof text[0], "%u", i);
            assert_true(is_text(reply->list_range->elements[at], text[0]));
        }
        kv__reply__free_unpacked(reply, NULL);
        kv_machine_stats(rig.machine, &stats);
        versions[mode] = stats.versions;
        machine_rig_reload(&rig);
        machine_rig_close(&rig);
    }
    /* Each insertion moves a few of the others, not all. */
    for (unsigned mode = 0; mode < 3; mode++) {
        printf("%.1f versions per insertion\n", (double)versions[mode] / INSERTED);
        assert_true(versions[mode] < UINT64_C(60) * INSERTED);
    }
}

/* As no client can within a lifetime: the ends of the numbers are near. */
static void put_at_ends(void)
{
    static const uint64_t positions[2] = {3, UINT64_MAX - 3};
    struct kv_collection list;
    struct kv_answer answer;

    assert_int_equal(
        kv_machine_begin(rig.machine, ++rig.log_index, KV_MACHINE_VERSION, rig.cluster_time_ms), 0);
    kv_answer_init(&answer);
    assert_int_equal(
        kv_collection_open(
            rig.machine, kv_slice_of_proto(key_bytes(0)), KV_TYPE_LIST, 0, &answer, &list),
        0);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t name[8];

        kv_put_u64_be(name, positions[i]);
        (void)kv_element_put(&list, kv_slice_of(name, sizeof name), kv_slice_str("end"));
    }
    kv_collection_commit(&list);
    rig.machine->changed = false;
    rig.machine->entry_changed = true;
    rig.machine->revision++;
    kv_machine_end(rig.machine);
}

static void numbers_at_the_ends_do_not_run_out(void **state)
{
    Kv__Reply *reply;

    (void)state;
    open_large();
    put_at_ends();
    for (unsigned i = 0; i < INSERTED; i++) {
        push_one("first", KV__LIST_END__LIST_LEFT);
        push_one("last", KV__LIST_END__LIST_RIGHT);
    }
    kv_machine_check_invariants(rig.machine);
    reply = whole_list();
    assert_int_equal(reply->list_range->n_elements, 2 * (AROUND + INSERTED) + 3);
    for (unsigned i = 0; i < INSERTED; i++) {
        size_t n = reply->list_range->n_elements;

        assert_true(is_text(reply->list_range->elements[i], "first"));
        assert_true(is_text(reply->list_range->elements[n - 1 - i], "last"));
    }
    assert_true(is_text(reply->list_range->elements[INSERTED], "end"));
    assert_true(is_text(reply->list_range->elements[INSERTED + 1], "left"));
    kv__reply__free_unpacked(reply, NULL);
    machine_rig_reload(&rig);
    machine_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_do_what_arrays_do),
        cmocka_unit_test(numbers_between_two_do_not_run_out),
        cmocka_unit_test(numbers_at_the_ends_do_not_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
