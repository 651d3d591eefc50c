/* Machines that came from a snapshot live on beside the one that was saved: the same further
 * commands give the same replies, history ends at the same revisions, reads at any revision find
 * the same. Views are read in small steps while the machine goes on. KV_SEED replays one run. */
#include "server/machine/snapshot.h"

#include "common/limits.h"
#include "server/machine/machine_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 40, STEPS = 500, MACHINES = 4, VIEWS = 3, COMMANDS_MAX = 4, VALUE_MAX = 60 };

/* A view that is being read, and what it must give. */
struct reading {
    struct kv_machine_view *view; /* NULL: free */
    struct kv_machine *of;
    struct kv_buf bytes;
    struct kv_buf golden; /* read at once when it was opened */
    bool ended;
};

struct entry {
    int64_t time_ms;
    size_t n;
    struct kv_buf commands[COMMANDS_MAX];
};

static struct kv_machine *machines[MACHINES]; /* [0] never was a snapshot; NULL: free */
static struct reading readings[VIEWS];
static struct entry entries[STEPS + 1]; /* by index */
static uint64_t log_index;
static int64_t time_ms;
static size_t marks_max;
static uint64_t random_state;
static struct kv_buf answers[MACHINES];
static uint64_t n_loaded, n_compacted;
static uint64_t n_expired;
static uint64_t opened; /* sessions, at most */

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

static void seed_random(uint64_t seed)
{
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

static ProtobufCBinaryData random_key(void)
{
    static char texts[KEYS][32];
    unsigned key = (unsigned)rnd(KEYS);

    snprintf(texts[key], sizeof texts[key], "prefix/%c/%02u", 'a' + (int)(key % 3), key);
    return (ProtobufCBinaryData){strlen(texts[key]), (uint8_t *)texts[key]};
}

static ProtobufCBinaryData random_value(void)
{
    static uint8_t value[VALUE_MAX];
    size_t size = rnd(VALUE_MAX);

    for (size_t i = 0; i < size; i++) {
        value[i] = (uint8_t)rnd(256);
    }
    return (ProtobufCBinaryData){size, value};
}

static void random_range(Kv__KeyRange *range)
{
    kv__key_range__init(range);
    range->special = (Kv__KeyRange__Special)rnd(4);
    range->start = random_key();
    range->end = random_key();
    if (range->special != KV__KEY_RANGE__SPECIAL__NONE) {
        range->end.len = 0;
    }
    if (range->special == KV__KEY_RANGE__SPECIAL__ALL) {
        range->start.len = 0;
    }
}

/* ---------------------------------------------------------------- commands */

static void on_reply(void *arg, Kv__Reply *reply)
{
    struct kv_buf *answer = arg;
    uint8_t *p = kv_buf_reserve(answer, kv__reply__get_packed_size(reply));

    assert_non_null(p);
    answer->size += kv__reply__pack(reply, p);
    n_compacted += reply->code == KV__CODE__COMPACTED;
    n_expired += reply->code == KV__CODE__SESSION_EXPIRED;
}

static void apply_entry(struct kv_machine *machine, uint64_t index, struct kv_buf *answer)
{
    const struct entry *entry = &entries[index];

    assert_int_equal(kv_machine_begin(machine, index, KV_MACHINE_VERSION, entry->time_ms), 0);
    for (size_t i = 0; i < entry->n; i++) {
        Kv__Request *request =
            kv__request__unpack(NULL, entry->commands[i].size, entry->commands[i].data);

        assert_non_null(request);
        kv_machine_execute(machine, request, on_reply, answer);
        kv__request__free_unpacked(request, NULL);
    }
    kv_machine_end(machine);
}

static void random_session(Kv__Request *request)
{
    static Kv__SessionOpen open;
    static Kv__SessionRenew renew;
    static Kv__SessionClose close;

    kv__session_open__init(&open);
    kv__session_renew__init(&renew);
    kv__session_close__init(&close);
    open.ttl_ms = rnd(5) ? 1000 + rnd(4000) : 0;
    open.ordered = rnd(3) == 0;
    renew.session_id = close.session_id = 1 + rnd(opened + 1);
    switch (rnd(6)) {
    case 0:
        request->command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
        request->session_close = &close;
        return;
    case 1:
    case 2:
        request->command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
        request->session_renew = &renew;
        return;
    default:
        opened++;
        request->command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
        request->session_open = &open;
        return;
    }
}

/* Sequences come in any order, some late, some too early. */
static void random_stamp(Kv__SessionStamp *stamp)
{
    uint64_t through = log_index / 8;

    kv__session_stamp__init(stamp);
    stamp->session_id = opened > 5 ? opened - rnd(6) : 1 + rnd(opened + 1);
    stamp->acknowledged_through = through > 6 ? through - rnd(7) : 0;
    stamp->sequence = stamp->acknowledged_through + rnd(12) + (rnd(50) ? 0 : KV_SESSION_WINDOW);
}

/* Again what was packed before, under another id. */
static bool repeat_write(struct kv_buf *packed)
{
    const struct entry *entry = &entries[log_index > 20 ? log_index - 1 - rnd(20) : 0];
    Kv__Request *request;

    if (entry->n == 0) {
        return false;
    }
    request = kv__request__unpack(NULL, entry->commands[0].size, entry->commands[0].data);
    assert_non_null(request);
    request->id = rnd(1000);
    kv_buf_init(packed, 1 << 16);
    assert_non_null(kv_buf_reserve(packed, kv__request__get_packed_size(request)));
    packed->size = kv__request__pack(request, packed->data);
    kv__request__free_unpacked(request, NULL);
    return true;
}

/* Alone, or some in one transaction with a write that fails now and then. */
static void random_publish(Kv__Request *request)
{
    enum { OPERATIONS = 3 };
    static Kv__Publish publishes[OPERATIONS];
    static Kv__Request operations[OPERATIONS + 1];
    static Kv__Request *pointers[OPERATIONS + 1];
    static uint8_t names[OPERATIONS], payloads[OPERATIONS][VALUE_MAX];
    static Kv__GetDel getdel;
    static Kv__Txn txn;

    for (int i = 0; i < OPERATIONS; i++) {
        ProtobufCBinaryData payload = random_value();

        kv__publish__init(&publishes[i]);
        names[i] = (uint8_t)('a' + rnd(5));
        memcpy(payloads[i], payload.data, payload.len);
        publishes[i].topic = (ProtobufCBinaryData){1, &names[i]};
        publishes[i].payload = (ProtobufCBinaryData){payload.len, payloads[i]};
        kv__request__init(&operations[i]);
        operations[i].command_case = KV__REQUEST__COMMAND_PUBLISH;
        operations[i].publish = &publishes[i];
        pointers[i] = &operations[i];
    }
    if (rnd(3)) {
        request->command_case = KV__REQUEST__COMMAND_PUBLISH;
        request->publish = &publishes[0];
        return;
    }
    kv__get_del__init(&getdel);
    getdel.key = random_key();
    kv__request__init(&operations[OPERATIONS]);
    operations[OPERATIONS].command_case = KV__REQUEST__COMMAND_GETDEL;
    operations[OPERATIONS].getdel = &getdel;
    pointers[OPERATIONS] = &operations[OPERATIONS];
    kv__txn__init(&txn);
    txn.n_then = OPERATIONS + rnd(2);
    txn.then = pointers;
    request->command_case = KV__REQUEST__COMMAND_TXN;
    request->txn = &txn;
}

static void random_setting(Kv__ConfigSet *config_set)
{
    switch (rnd(4)) {
    case 0:
        config_set->name = (char *)(uintptr_t) "topic-messages";
        config_set->value = 1 + rnd(12);
        return;
    case 1:
        config_set->name = (char *)(uintptr_t) "topic-age-ms";
        config_set->value = 1000 + rnd(9000);
        return;
    default:
        config_set->name = (char *)(uintptr_t)(rnd(2) ? "history-age" : "history-bytes");
        config_set->value = rnd(4) ? 500 + rnd(12000) : 0;
        return;
    }
}

static void random_write(struct kv_buf *packed)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp;
    Kv__Put put = KV__PUT__INIT;
    Kv__Append append = KV__APPEND__INIT;
    Kv__Delete delete_ = KV__DELETE__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__ConfigSet config_set = KV__CONFIG_SET__INIT;
    ProtobufCBinaryData key = random_key();
    Kv__KeyRange range;
    Kv__KeyRange *ranges[1] = {&range};
    uint64_t dice = rnd(100);

    if (rnd(10) == 0 && repeat_write(packed)) {
        return;
    }
    random_stamp(&stamp);
    request.session = rnd(2) ? &stamp : NULL;
    if (rnd(16) == 0) {
        request.session = NULL;
        random_session(&request);
    } else if (rnd(6) == 0) {
        random_publish(&request);
    } else if (dice < 60) {
        request.command_case = KV__REQUEST__COMMAND_PUT;
        request.put = &put;
        put.key = key;
        put.value = random_value();
        put.return_previous = rnd(2) != 0;
    } else if (dice < 70) {
        request.command_case = KV__REQUEST__COMMAND_APPEND;
        request.append = &append;
        append.key = key;
        append.value = random_value();
    } else if (dice < 84) {
        request.command_case = KV__REQUEST__COMMAND_GETDEL;
        request.getdel = &getdel;
        getdel.key = key;
    } else if (dice < 94) {
        request.command_case = KV__REQUEST__COMMAND_DELETE;
        request.delete_ = &delete_;
        random_range(&range);
        delete_.n_ranges = 1;
        delete_.ranges = ranges;
        delete_.return_previous = true;
    } else {
        request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
        request.config_set = &config_set;
        random_setting(&config_set);
    }
    kv_buf_init(packed, 1 << 16);
    assert_non_null(kv_buf_reserve(packed, kv__request__get_packed_size(&request)));
    packed->size = kv__request__pack(&request, packed->data);
}

/* All machines are in the same state, as far as numbers tell. */
static void compare_machines(void)
{
    struct kv_machine_stats first, other;

    kv_machine_stats(machines[0], &first);
    for (int i = 1; i < MACHINES; i++) {
        if (!machines[i]) {
            continue;
        }
        kv_machine_stats(machines[i], &other);
        first.unreclaimed_bytes = other.unreclaimed_bytes; /* memory, no state */
        assert_memory_equal(&first, &other, sizeof first);
        assert_int_equal(kv_machine_revision(machines[0]), kv_machine_revision(machines[i]));
        assert_int_equal(kv_machine_oldest_revision(machines[0]),
                         kv_machine_oldest_revision(machines[i]));
        assert_int_equal(kv_machine_state_hash(machines[0]), kv_machine_state_hash(machines[i]));
        assert_int_equal(kv_machine_applied_index(machines[0]),
                         kv_machine_applied_index(machines[i]));
        assert_int_equal(kv_machine_cluster_time_ms(machines[0]),
                         kv_machine_cluster_time_ms(machines[i]));
        assert_int_equal(answers[0].size, answers[i].size);
        if (answers[0].size > 0) {
            assert_memory_equal(answers[0].data, answers[i].data, answers[0].size);
        }
    }
}

static void clear_answers(void)
{
    for (int i = 0; i < MACHINES; i++) {
        kv_buf_clear(&answers[i]);
    }
}

static void step_write(void)
{
    struct entry *entry = &entries[++log_index];

    time_ms += (int64_t)(rnd(4) ? rnd(5) : rnd(300));
    entry->time_ms = time_ms;
    entry->n = 1 + rnd(COMMANDS_MAX);
    for (size_t i = 0; i < entry->n; i++) {
        random_write(&entry->commands[i]);
    }
    clear_answers();
    for (int i = 0; i < MACHINES; i++) {
        if (machines[i]) {
            apply_entry(machines[i], log_index, &answers[i]);
        }
    }
    compare_machines();
}

/* A range at a random revision, with limits, on all of them. */
static void step_read(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__KeyRange keys;

    random_range(&keys);
    range.range = &keys;
    range.descending = rnd(2) != 0;
    range.limit = rnd(2) ? 1 + rnd(10) : 0;
    range.at_revision = 0;
    if (rnd(4)) {
        int64_t oldest = kv_machine_oldest_revision(machines[0]);
        int64_t from = oldest > 3 ? oldest - 3 : 1;

        range.at_revision =
            from + (int64_t)rnd((uint64_t)(kv_machine_revision(machines[0]) - from) + 2);
    }
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    clear_answers();
    for (int i = 0; i < MACHINES; i++) {
        if (machines[i]) {
            kv_machine_read(machines[i], &request, on_reply, &answers[i]);
        }
    }
    compare_machines();
}

/* ---------------------------------------------------------------- snapshots */

static size_t first_item_size(struct kv_slice items)
{
    assert_true(items.size >= 8);
    return 8 + (size_t)kv_get_u32(items.data + 4);
}

/* Feeds whole items in random groups. 0, or the error of feed or finish. */
static int load(struct kv_slice items, struct kv_machine **ret_machine, struct kv_error *ret_error)
{
    struct kv_machine_loader *loader;
    int status = 0;

    assert_int_equal(kv_machine_loader_open(&loader), 0);
    while (items.size > 0 && status == 0) {
        size_t size = 0;

        do {
            struct kv_slice left = kv_slice_of(items.data + size, items.size - size);

            size = left.size < 8 || first_item_size(left) > left.size
                       ? items.size
                       : size + first_item_size(left);
        } while (size < items.size && rnd(5));
        status = kv_machine_loader_feed(loader, kv_slice_of(items.data, size), ret_error);
        items = kv_slice_of(items.data + size, items.size - size);
    }
    if (status == 0) {
        status = kv_machine_loader_finish(loader, ret_machine, ret_error);
    }
    kv_machine_loader_close(loader);
    return status;
}

static void read_all(struct kv_machine *machine, struct kv_buf *bytes)
{
    struct kv_machine_view *view;

    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    while (kv_machine_view_read(view, bytes, bytes->size + 1 + rnd(2000)) == 1) {
    }
    kv_machine_view_close(machine, view);
}

static void check_same_bytes(const struct kv_buf *a, const struct kv_buf *b)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static void step_open(void)
{
    struct reading *reading = &readings[rnd(VIEWS)];
    struct kv_machine *machine = machines[rnd(MACHINES)];

    if (reading->view || !machine) {
        return;
    }
    reading->of = machine;
    reading->ended = false;
    kv_buf_clear(&reading->bytes);
    kv_buf_clear(&reading->golden);
    read_all(machine, &reading->golden);
    assert_int_equal(kv_machine_view_open(machine, &reading->view), 0);
}

/* The loaded machine runs what it missed, and joins the others. */
static void join(struct kv_machine *machine)
{
    int slot = 1 + (int)rnd(MACHINES - 1);

    for (int i = 0; i < VIEWS; i++) {
        if (readings[i].view && readings[i].of == machines[slot]) {
            kv_machine_close(machine);
            return;
        }
    }
    machine->history.marks_max = marks_max;
    machine->reclaim_per_entry = rnd(4);
    for (uint64_t i = kv_machine_applied_index(machine) + 1; i <= log_index; i++) {
        kv_buf_clear(&answers[slot]);
        apply_entry(machine, i, &answers[slot]);
    }
    kv_machine_close(machines[slot]);
    machines[slot] = machine;
    clear_answers();
    compare_machines();
}

static void step_view(void)
{
    struct reading *reading = &readings[rnd(VIEWS)];
    struct kv_machine *machine;
    struct kv_buf again;
    struct kv_error error;
    int status;

    if (!reading->view) {
        return;
    }
    status = kv_machine_view_read(reading->view, &reading->bytes, reading->bytes.size + rnd(600));
    assert_in_range(status, 0, 1);
    if (status == 1 && rnd(30)) {
        return;
    }
    kv_machine_view_close(reading->of, reading->view);
    reading->view = NULL;
    if (status == 1) {
        return; /* given up */
    }
    check_same_bytes(&reading->bytes, &reading->golden);
    assert_int_equal(load(kv_slice_of(reading->bytes.data, reading->bytes.size), &machine, &error),
                     0);
    kv_machine_check_invariants(machine);
    kv_buf_init(&again, 1 << 26);
    read_all(machine, &again);
    check_same_bytes(&again, &reading->bytes);
    kv_buf_deinit(&again);
    n_loaded++;
    join(machine);
}

static void set_up(uint64_t seed)
{
    seed_random(seed);
    log_index = 0;
    time_ms = 0;
    opened = 0;
    marks_max = seed % 2 ? KV_HISTORY_MARKS_MAX : 2 + rnd(9);
    memset(machines, 0, sizeof machines);
    assert_int_equal(kv_machine_open(&machines[0]), 0);
    machines[0]->history.marks_max = marks_max;
    machines[0]->reclaim_per_entry = rnd(3);
    for (int i = 0; i < MACHINES; i++) {
        kv_buf_init(&answers[i], 1 << 26);
    }
    for (int i = 0; i < VIEWS; i++) {
        readings[i] = (struct reading){0};
        kv_buf_init(&readings[i].bytes, 1 << 26);
        kv_buf_init(&readings[i].golden, 1 << 26);
    }
}

static void tear_down(void)
{
    for (int i = 0; i < VIEWS; i++) {
        if (readings[i].view) {
            kv_machine_view_close(readings[i].of, readings[i].view);
        }
        kv_buf_deinit(&readings[i].bytes);
        kv_buf_deinit(&readings[i].golden);
    }
    for (int i = 0; i < MACHINES; i++) {
        kv_machine_close(machines[i]);
        kv_buf_deinit(&answers[i]);
    }
    for (uint64_t i = 1; i <= log_index; i++) {
        for (size_t k = 0; k < entries[i].n; k++) {
            kv_buf_deinit(&entries[i].commands[k]);
        }
    }
}

static void check_all_invariants(void)
{
    for (int i = 0; i < MACHINES; i++) {
        if (machines[i]) {
            kv_machine_check_invariants(machines[i]);
        }
    }
}

static void run(uint64_t seed)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    set_up(seed);
    while (log_index < STEPS) {
        switch (rnd(8)) {
        case 0:
            step_open();
            break;
        case 1:
        case 2:
        case 3:
            step_view();
            break;
        case 4:
            step_read();
            break;
        default:
            step_write();
            break;
        }
        if (rnd(40) == 0) {
            check_all_invariants();
        }
    }
    check_all_invariants();
    tear_down();
}

static void loaded_machines_go_on_alike(void **state)
{
    const char *text = getenv("KV_SEED");
    uint64_t first = text ? strtoull(text, NULL, 0) : 1;
    uint64_t last = text ? first : 60;

    (void)state;
    n_loaded = n_compacted = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        run(seed);
    }
    print_message("%llu loaded, %llu reads compacted\n",
                  (unsigned long long)n_loaded,
                  (unsigned long long)n_compacted);
    assert_true(n_loaded > last - first && n_compacted > 0 && n_expired > 0);
}

/* Negative control: a loaded machine that is not quite the same is seen. */
static void a_machine_that_differs_is_seen(void **state)
{
    struct kv_buf a, b;

    (void)state;
    set_up(4);
    while (log_index < 60 || machines[0]->history.n_marks == 0) {
        step_write();
    }
    kv_buf_init(&a, 1 << 26);
    kv_buf_init(&b, 1 << 26);
    read_all(machines[0], &a);
    machines[0]->history.marks[machines[0]->history.marks_first].time_ms--;
    read_all(machines[0], &b);
    assert_int_equal(a.size, b.size);
    assert_memory_not_equal(a.data, b.data, a.size);
    kv_buf_deinit(&a);
    kv_buf_deinit(&b);
    tear_down();
}

static void an_empty_machine_is_saved_too(void **state)
{
    struct kv_machine *machine;
    struct kv_error error;
    struct kv_buf bytes;

    (void)state;
    set_up(1);
    kv_buf_init(&bytes, 1 << 20);
    read_all(machines[0], &bytes);
    assert_int_equal(load(kv_slice_of(bytes.data, bytes.size), &machine, &error), 0);
    kv_buf_deinit(&bytes);
    join(machine);
    step_write();
    tear_down();
}

/* No memory for an item: nothing is lost, reading goes on. */
static void a_full_buffer_loses_nothing(void **state)
{
    struct kv_machine_view *view;
    struct kv_buf whole, pieces, small;
    unsigned refused = 0;
    int status = 1;

    (void)state;
    set_up(2);
    while (log_index < 100) {
        step_write();
    }
    kv_buf_init(&whole, 1 << 26);
    kv_buf_init(&pieces, 1 << 26);
    read_all(machines[0], &whole);
    assert_int_equal(kv_machine_view_open(machines[0], &view), 0);
    while (status != 0) {
        kv_buf_init(&small, 1 + rnd(3000));
        status = kv_machine_view_read(view, &small, 1000);
        refused += status == KV_NO_MEMORY;
        if (small.size > 0) {
            assert_int_equal(kv_buf_append(&pieces, small.data, small.size), 0);
        }
        kv_buf_deinit(&small);
    }
    kv_machine_view_close(machines[0], view);
    assert_true(refused > 0);
    check_same_bytes(&whole, &pieces);
    kv_buf_deinit(&whole);
    kv_buf_deinit(&pieces);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaded_machines_go_on_alike),
        cmocka_unit_test(a_machine_that_differs_is_seen),
        cmocka_unit_test(an_empty_machine_is_saved_too),
        cmocka_unit_test(a_full_buffer_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
