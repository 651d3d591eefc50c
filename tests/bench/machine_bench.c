/* The machine alone on one core: rates of commands, memory of a million keys, longest turn,
 * snapshots. Figures for people; nothing is asserted.
 *
 *   machine_bench [keys [value_bytes]]
 *   machine_bench types [members]        commands of the other types, memory of small collections
 *   machine_bench time [keys]            keys that end, leases
 */
#define _GNU_SOURCE
#include "server/machine/snapshot.h"

#include "common/assert.h"
#include "common/limits.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COMMANDS_PER_ENTRY = 256, KEY_BYTES = 16 };

struct bench {
    struct kv_machine *machine;
    uint64_t index;
    int64_t time_ms;
    uint64_t random;
    size_t keys;
    size_t value_bytes;
    uint8_t *value;
    double longest_end_ms; /* of kv_machine_end */
    uint64_t found;
};

/* Time of the processor, so that what else runs on the machine counts less. */
static double now_s(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(struct bench *bench)
{
    bench->random ^= bench->random << 13;
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return bench->random;
}

static void begin_entry(struct bench *bench)
{
    bench->time_ms++;
    KV_ASSERT(
        kv_machine_begin(bench->machine, ++bench->index, KV_MACHINE_VERSION, bench->time_ms) == 0);
}

static void end_entry(struct bench *bench)
{
    double start = now_s();
    double took_ms;

    kv_machine_end(bench->machine);
    took_ms = (now_s() - start) * 1e3;
    if (took_ms > bench->longest_end_ms) {
        bench->longest_end_ms = took_ms;
    }
}

static void expect_ok(void *arg, Kv__Reply *reply)
{
    struct bench *bench = arg;

    KV_ASSERT(reply->code == KV__CODE__OK);
    bench->found++;
}

/* "key-" and twelve digits. */
static void format_key(uint8_t key[KEY_BYTES], uint64_t number)
{
    memcpy(key, "key-", 4);
    for (int i = KEY_BYTES - 1; i >= 4; i--) {
        key[i] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

static void report(struct bench *bench, const char *name, size_t commands, double start)
{
    double took = now_s() - start;
    struct kv_machine_stats stats;

    kv_machine_stats(bench->machine, &stats);
    printf("%-28s %9.0f/s  keys %8" PRIu64 "  versions %8" PRIu64
           "  history %4.0f MiB  allocated %5.0f MiB  longest end %.2f ms\n",
           name,
           (double)commands / took,
           stats.keys,
           stats.versions,
           (double)stats.history_bytes / 1048576,
           (double)mallinfo2().uordblks / 1048576 + (double)mallinfo2().hblkhd / 1048576,
           bench->longest_end_ms);
    bench->longest_end_ms = 0;
}

/* Puts of all keys: in order, or each one once in an order that looks random. */
static void bench_put(struct bench *bench, const char *name, bool shuffled)
{
    double start = now_s();
    uint8_t key[KEY_BYTES];
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    put.key = (ProtobufCBinaryData){KEY_BYTES, key};
    put.value = (ProtobufCBinaryData){bench->value_bytes, bench->value};
    for (size_t i = 0; i < bench->keys; i++) {
        if (i % COMMANDS_PER_ENTRY == 0) {
            begin_entry(bench);
        }
        /* A large prime that divides no usual number of keys: a permutation. */
        format_key(key, shuffled ? i * UINT64_C(2654435761) % bench->keys : i);
        kv_machine_execute(bench->machine, &request, expect_ok, bench);
        if ((i + 1) % COMMANDS_PER_ENTRY == 0 || i + 1 == bench->keys) {
            end_entry(bench);
        }
    }
    report(bench, name, bench->keys, start);
}

static void note_session(void *arg, Kv__Reply *reply)
{
    KV_ASSERT(reply->code == KV__CODE__OK);
    *(uint64_t *)arg = reply->session_open->session_id;
}

/* The same puts by clients with sessions, each with some under way. */
static void bench_put_once(struct bench *bench)
{
    enum { CLIENTS = 64, UNDER_WAY = 16 };
    uint64_t sessions[CLIENTS];
    uint8_t key[KEY_BYTES];
    double start;
    Kv__Put put = KV__PUT__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    begin_entry(bench);
    for (size_t i = 0; i < CLIENTS; i++) {
        kv_machine_execute(bench->machine, &request, note_session, &sessions[i]);
    }
    end_entry(bench);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    request.session = &stamp;
    put.key = (ProtobufCBinaryData){KEY_BYTES, key};
    put.value = (ProtobufCBinaryData){bench->value_bytes, bench->value};
    start = now_s();
    for (size_t i = 0; i < bench->keys; i++) {
        if (i % COMMANDS_PER_ENTRY == 0) {
            begin_entry(bench);
        }
        format_key(key, i * UINT64_C(2654435761) % bench->keys);
        stamp.session_id = sessions[i % CLIENTS];
        stamp.sequence = i / CLIENTS + 1;
        stamp.acknowledged_through = stamp.sequence > UNDER_WAY ? stamp.sequence - UNDER_WAY : 0;
        kv_machine_execute(bench->machine, &request, expect_ok, bench);
        if ((i + 1) % COMMANDS_PER_ENTRY == 0 || i + 1 == bench->keys) {
            end_entry(bench);
        }
    }
    report(bench, "put again, exactly once", bench->keys, start);
}

static void bench_get(struct bench *bench)
{
    double start = now_s();
    uint8_t key[KEY_BYTES];
    Kv__Get get = KV__GET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    get.key = (ProtobufCBinaryData){KEY_BYTES, key};
    for (size_t i = 0; i < bench->keys; i++) {
        format_key(key, next_random(bench) % bench->keys);
        kv_machine_read(bench->machine, &request, expect_ok, bench);
    }
    report(bench, "get at random", bench->keys, start);
}

static void bench_count(struct bench *bench)
{
    double start = now_s();
    uint8_t key[KEY_BYTES];
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__Count count = KV__COUNT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_COUNT;
    request.count = &count;
    count.range = &range;
    range.special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
    range.start = (ProtobufCBinaryData){KEY_BYTES, key};
    for (size_t i = 0; i < bench->keys; i++) {
        format_key(key, next_random(bench) % bench->keys);
        kv_machine_read(bench->machine, &request, expect_ok, bench);
    }
    report(bench, "count from a key", bench->keys, start);
}

static void on_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    struct bench *bench = arg;

    (void)revision;
    bench->found += result->n_kvs;
}

static void bench_stream(struct bench *bench, const char *name, int64_t at_revision)
{
    double start = now_s();
    Kv__KeyRange all = KV__KEY_RANGE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    struct kv_range_stream stream = {0};
    struct kv_error error;
    int status = 1;

    all.special = KV__KEY_RANGE__SPECIAL__ALL;
    range.range = &all;
    range.stream = true;
    range.at_revision = at_revision;
    bench->found = 0;
    while (status == 1) {
        status =
            kv_machine_range_piece(bench->machine, &range, &stream, 65536, on_piece, bench, &error);
    }
    KV_ASSERT(status == 0);
    report(bench, name, bench->found, start);
}

static void bench_delete(struct bench *bench)
{
    double start = now_s();
    uint8_t key[KEY_BYTES];
    ProtobufCBinaryData keys[1] = {{KEY_BYTES, key}};
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    command.n_keys = 1;
    command.keys = keys;
    for (size_t i = 0; i < bench->keys; i++) {
        if (i % COMMANDS_PER_ENTRY == 0) {
            begin_entry(bench);
        }
        format_key(key, i * UINT64_C(2654435761) % bench->keys);
        kv_machine_execute(bench->machine, &request, expect_ok, bench);
        if ((i + 1) % COMMANDS_PER_ENTRY == 0 || i + 1 == bench->keys) {
            end_entry(bench);
        }
    }
    report(bench, "delete at random", bench->keys, start);
}

/* Time passes, and nothing of the history is left: entries until its memory is free. */
static void bench_compaction(struct bench *bench)
{
    double start = now_s();
    size_t entries = 0;

    bench->time_ms += 3600000;
    do {
        begin_entry(bench);
        end_entry(bench);
        entries++;
    } while (kv_machine_reclaim(bench->machine));
    report(bench, "entries until compacted", entries, start);
}

static struct kv_machine *bench_load(const struct bench *bench, struct kv_slice blocks)
{
    struct kv_machine_loader *loader;
    struct kv_machine *loaded;
    struct kv_error error;
    double start = now_s();
    double took;

    KV_ASSERT(kv_machine_loader_open(&loader) == 0);
    KV_ASSERT(kv_machine_loader_feed(loader, blocks, &error) == 0);
    KV_ASSERT(kv_machine_loader_finish(loader, &loaded, &error) == 0);
    kv_machine_loader_close(loader);
    took = now_s() - start;
    KV_ASSERT(kv_machine_state_hash(loaded) == kv_machine_state_hash(bench->machine));
    printf("%-28s %9.0f/s  %.3f s\n", "  snapshot loaded", (double)bench->keys / took, took);
    return loaded;
}

/* Written in blocks into memory, as the snapshot thread does, and loaded from there. */
static void bench_snapshot(const struct bench *bench, const char *name)
{
    struct kv_machine_view *view;
    struct kv_machine *loaded;
    struct kv_buf bytes;
    double start, opened, took;
    int status = 1;

    /* Touched before, so that the kernel's work on fresh pages is not counted here. */
    kv_buf_init(&bytes, SIZE_MAX / 4);
    KV_ASSERT(kv_buf_reserve(&bytes, bench->keys * (bench->value_bytes + 64) * 2 + KV_MIB));
    memset(bytes.data, 0, bytes.capacity);
    start = now_s();
    KV_ASSERT(kv_machine_view_open(bench->machine, &view) == 0);
    opened = now_s() - start;
    while (status == 1) {
        status = kv_machine_view_read(view, &bytes, bytes.size + 256 * KV_KIB);
    }
    KV_ASSERT(status == 0);
    took = now_s() - start;
    kv_machine_view_close(bench->machine, view);
    printf("%-28s %9.0f/s  %.3f s  %.0f MiB  opened in %.3f ms\n",
           name,
           (double)bench->keys / took,
           took,
           (double)bytes.size / 1048576,
           opened * 1e3);
    loaded = bench_load(bench, kv_slice_of(bytes.data, bytes.size));
    kv_buf_deinit(&bytes);
    start = now_s();
    kv_machine_close(loaded);
    printf("%-28s %9.0f/s  %.3f s\n",
           "  closed",
           (double)bench->keys / (now_s() - start),
           now_s() - start);
}

/* ---------------------------------------------------------------- other types */

/* n commands, each made by `next` out of its number; writes in entries. */
static void bench_commands(struct bench *bench,
                           const char *name,
                           size_t n,
                           Kv__Request *request,
                           void (*next)(struct bench *bench, Kv__Request *request, size_t i))
{
    const bool is_read = kv_command_classify(request) == KV_COMMAND_READ;
    double start = now_s();

    for (size_t i = 0; i < n; i++) {
        next(bench, request, i);
        if (is_read) {
            kv_machine_read(bench->machine, request, expect_ok, bench);
            continue;
        }
        if (i % COMMANDS_PER_ENTRY == 0) {
            begin_entry(bench);
        }
        kv_machine_execute(bench->machine, request, expect_ok, bench);
        if ((i + 1) % COMMANDS_PER_ENTRY == 0 || i + 1 == n) {
            end_entry(bench);
        }
    }
    if (name) {
        report(bench, name, n, start);
    }
}

/* The number in a key of KEY_BYTES. */
static void next_key(struct bench *bench, ProtobufCBinaryData key, uint64_t n)
{
    format_key(key.data, next_random(bench) % n);
}

enum { BENCH_COUNTERS = 100000, BENCH_HASHES = 100000, BENCH_FIELDS = 10 };

static void next_counter(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)i;
    next_key(bench, request->counter_add->key, BENCH_COUNTERS);
}

static void bench_counters(struct bench *bench)
{
    uint8_t key[KEY_BYTES];
    Kv__CounterAdd add = KV__COUNTER_ADD__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_COUNTER_ADD;
    request.counter_add = &add;
    add.key = (ProtobufCBinaryData){KEY_BYTES, key};
    add.delta = 1;
    bench_commands(bench, "counter add", bench->keys, &request, next_counter);
}

static void next_field(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)i;
    next_key(bench, request->hash_set->key, BENCH_HASHES);
    request->hash_set->fields[0]->name.data[6] = (uint8_t)('0' + next_random(bench) % BENCH_FIELDS);
}

static void bench_hashes(struct bench *bench)
{
    uint8_t key[KEY_BYTES];
    uint8_t name[] = "field-0", value[] = "0123456789";
    Kv__HashField field = KV__HASH_FIELD__INIT;
    Kv__HashField *fields[1] = {&field};
    Kv__HashSet set = KV__HASH_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_HASH_SET;
    request.hash_set = &set;
    set.key = (ProtobufCBinaryData){KEY_BYTES, key};
    set.n_fields = 1;
    set.fields = fields;
    field.name = (ProtobufCBinaryData){sizeof name - 1, name};
    field.value = (ProtobufCBinaryData){sizeof value - 1, value};
    bench_commands(bench, NULL, bench->keys, &request, next_field);
    bench_commands(bench, "hash set, 10 fields each", bench->keys, &request, next_field);
}

/* Each member once, in an order that looks random. */
static void next_new_member(struct bench *bench, Kv__Request *request, size_t i)
{
    Kv__ZSetMember *member = request->zset_add->members[0];

    format_key(member->member.data, i * UINT64_C(2654435761) % bench->keys);
    member->score = (double)(next_random(bench) % 1000000);
}

static void next_member(struct bench *bench, Kv__Request *request, size_t i)
{
    Kv__ZSetMember *member = request->zset_add->members[0];

    (void)i;
    next_key(bench, member->member, bench->keys);
    member->score = (double)(next_random(bench) % 1000000);
}

static void next_rank(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)i;
    next_key(bench, request->zset_rank->member, bench->keys);
}

static void bench_zset(struct bench *bench)
{
    uint8_t name[KEY_BYTES];
    Kv__ZSetMember member = KV__ZSET_MEMBER__INIT;
    Kv__ZSetMember *members[1] = {&member};
    Kv__ZSetAdd add = KV__ZSET_ADD__INIT;
    Kv__ZSetRank rank = KV__ZSET_RANK__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_ZSET_ADD;
    request.zset_add = &add;
    add.key = rank.key = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "zset"};
    add.n_members = 1;
    add.members = members;
    member.member = rank.member = (ProtobufCBinaryData){KEY_BYTES, name};
    bench_commands(bench, "zset add, new members", bench->keys, &request, next_new_member);
    bench_commands(bench, "zset add, new scores", bench->keys, &request, next_member);
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANK;
    request.zset_rank = &rank;
    bench_commands(bench, "zset rank", bench->keys, &request, next_rank);
}

/* ---------------------------------------------------------------- memory of small collections */

enum { COLLECTIONS = 10000, ELEMENTS_MAX = 100, ELEMENT_BYTES = 13 };

/* The elements of a small collection: "member:" and six digits; scores with a fraction. The same
 * as tests/bench/redis-memory puts into redis. */
struct small {
    uint8_t key[KEY_BYTES];
    uint8_t names[ELEMENTS_MAX][ELEMENT_BYTES + 1];
    ProtobufCBinaryData bytes[ELEMENTS_MAX];
    Kv__HashField fields[ELEMENTS_MAX], *field_pointers[ELEMENTS_MAX];
    Kv__ZSetMember members[ELEMENTS_MAX], *member_pointers[ELEMENTS_MAX];
    Kv__HashSet hash_set;
    Kv__ListPush list_push;
    Kv__SetAdd set_add;
    Kv__ZSetAdd zset_add;
};

static void fill_small(struct small *small, unsigned n)
{
    const ProtobufCBinaryData key = {KEY_BYTES, small->key};

    kv__hash_set__init(&small->hash_set);
    kv__list_push__init(&small->list_push);
    kv__set_add__init(&small->set_add);
    kv__zset_add__init(&small->zset_add);
    small->hash_set.key = small->set_add.key = small->zset_add.key = key;
    small->hash_set.n_fields = small->set_add.n_members = small->zset_add.n_members = n;
    small->hash_set.fields = small->field_pointers;
    small->list_push.key = key;
    small->list_push.n_elements = n;
    small->list_push.elements = small->set_add.members = small->bytes;
    small->zset_add.members = small->member_pointers;
    for (unsigned i = 0; i < n; i++) {
        snprintf((char *)small->names[i], sizeof small->names[i], "member:%06u", i);
        small->bytes[i] = (ProtobufCBinaryData){ELEMENT_BYTES, small->names[i]};
        kv__hash_field__init(&small->fields[i]);
        small->fields[i].name = small->fields[i].value = small->bytes[i];
        small->field_pointers[i] = &small->fields[i];
        kv__zset_member__init(&small->members[i]);
        small->members[i].member = small->bytes[i];
        small->members[i].score = 1000.5 + i;
        small->member_pointers[i] = &small->members[i];
    }
}

static void next_small(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)bench;
    format_key(request->set_add->key.data, i); /* the key is the first field of all of them */
}

static void
bench_memory(struct bench *bench, const char *name, Kv__Request__CommandCase command, unsigned n)
{
    static struct small small;
    Kv__Request request = KV__REQUEST__INIT;
    double before, after;

    fill_small(&small, n);
    request.command_case = command;
    if (command == KV__REQUEST__COMMAND_HASH_SET) {
        request.hash_set = &small.hash_set;
    } else if (command == KV__REQUEST__COMMAND_LIST_PUSH) {
        request.list_push = &small.list_push;
    } else if (command == KV__REQUEST__COMMAND_SET_ADD) {
        request.set_add = &small.set_add;
    } else {
        request.zset_add = &small.zset_add;
    }
    KV_ASSERT(kv_machine_open(&bench->machine) == 0);
    bench->index = 0;
    before = (double)mallinfo2().uordblks + (double)mallinfo2().hblkhd;
    bench_commands(bench, NULL, COLLECTIONS, &request, next_small);
    bench->time_ms += 3600000;
    do {
        begin_entry(bench);
        end_entry(bench);
    } while (kv_machine_reclaim(bench->machine));
    after = (double)mallinfo2().uordblks + (double)mallinfo2().hblkhd;
    printf("%-28s %9.1f bytes per entry, %.0f per key\n",
           name,
           (after - before) / COLLECTIONS / n,
           (after - before) / COLLECTIONS);
    kv_machine_close(bench->machine);
}

static void run_types(struct bench *bench)
{
    static void (*const benches[])(struct bench *
                                   bench) = {bench_counters, bench_hashes, bench_zset};

    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        KV_ASSERT(kv_machine_open(&bench->machine) == 0);
        bench->index = 0;
        benches[i](bench);
        kv_machine_close(bench->machine);
    }
    bench_memory(bench, "memory, hash of 10", KV__REQUEST__COMMAND_HASH_SET, 10);
    bench_memory(bench, "memory, zset of 50", KV__REQUEST__COMMAND_ZSET_ADD, 50);
    bench_memory(bench, "memory, set of 100", KV__REQUEST__COMMAND_SET_ADD, 100);
    bench_memory(bench, "memory, list of 100", KV__REQUEST__COMMAND_LIST_PUSH, 100);
}

/* Commands on one list, each an element of 16 bytes; `pops` after as many pushes. */
static void
bench_push_pop(struct bench *bench, const char *name, size_t pushes, size_t pops, size_t lists)
{
    double start = now_s();
    uint8_t key[KEY_BYTES], element[KEY_BYTES];
    ProtobufCBinaryData elements[1] = {{KEY_BYTES, element}};
    Kv__ListPush push = KV__LIST_PUSH__INIT;
    Kv__ListPop pop = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    push.key = pop.key = (ProtobufCBinaryData){KEY_BYTES, key};
    push.end = KV__LIST_END__LIST_RIGHT;
    push.n_elements = 1;
    push.elements = elements;
    for (size_t i = 0; i < pushes + pops; i++) {
        /* Alternating while there are both. */
        bool pushing = pops == 0 || (pushes > 0 && i % 2 == 0);

        if (i % COMMANDS_PER_ENTRY == 0) {
            begin_entry(bench);
        }
        format_key(key, i / 2 % lists);
        format_key(element, i);
        request.command_case =
            pushing ? KV__REQUEST__COMMAND_LIST_PUSH : KV__REQUEST__COMMAND_LIST_POP;
        request.list_push = &push;
        if (!pushing) {
            request.list_pop = &pop;
        }
        kv_machine_execute(bench->machine, &request, expect_ok, bench);
        if ((i + 1) % COMMANDS_PER_ENTRY == 0 || i + 1 == pushes + pops) {
            end_entry(bench);
        }
    }
    report(bench, name, pushes + pops, start);
}

static void bench_list_reads(struct bench *bench, const char *name, size_t length)
{
    double start = now_s();
    uint8_t key[KEY_BYTES];
    Kv__ListIndex index = KV__LIST_INDEX__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_LIST_INDEX;
    request.list_index = &index;
    index.key = (ProtobufCBinaryData){KEY_BYTES, key};
    format_key(key, 0);
    for (size_t i = 0; i < bench->keys; i++) {
        index.index = (int64_t)(next_random(bench) % length);
        kv_machine_read(bench->machine, &request, expect_ok, bench);
    }
    report(bench, name, bench->keys, start);
}

static void run_lists(struct bench *bench)
{
    KV_ASSERT(kv_machine_open(&bench->machine) == 0);
    bench->index = 0;
    bench_push_pop(bench, "push to 20000 lists of 50", 1000000, 0, 20000);
    bench_push_pop(bench, "push and pop, 20000 of 50", 500000, 500000, 20000);
    bench_list_reads(bench, "index of a list of 50", 50);
    kv_machine_close(bench->machine);
    KV_ASSERT(kv_machine_open(&bench->machine) == 0);
    bench->index = 0;
    bench_push_pop(bench, "push to one list", bench->keys, 0, 1);
    bench_push_pop(bench, "push and pop at one list", bench->keys, bench->keys, 1);
    bench_list_reads(bench, "index of one list", bench->keys);
    bench_push_pop(bench, "pop from one list", 0, bench->keys, 1);
    bench_compaction(bench);
    kv_machine_close(bench->machine);
}

static void run(struct bench *bench, bool shuffled)
{
    KV_ASSERT(kv_machine_open(&bench->machine) == 0);
    bench->index = 0;
    bench_put(bench, shuffled ? "put new at random" : "put new in order", shuffled);
    bench_snapshot(bench, "snapshot of new keys");
    bench_put(bench, "put again at random", true);
    bench_put_once(bench);
    bench_snapshot(bench, "snapshot with history");
    bench_get(bench);
    bench_count(bench);
    bench_stream(bench, "stream", 0);
    bench_stream(bench, "stream at a past revision", kv_machine_revision(bench->machine) - 1);
    bench_delete(bench);
    bench_compaction(bench);
    kv_machine_close(bench->machine);
}

/* ---------------------------------------------------------------- time */

enum { BENCH_LEASES = 100000, BENCH_TTL_MS = 10000000 };

static void next_ttl_put(struct bench *bench, Kv__Request *request, size_t i)
{
    /* A large prime that divides no usual number of keys: a permutation. */
    format_key(request->put->key.data, i * UINT64_C(2654435761) % bench->keys);
}

/* All keys get a time, then it has come for all of them. */
static void bench_expiry(struct bench *bench)
{
    uint8_t key[KEY_BYTES];
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    double start;

    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    put.key = (ProtobufCBinaryData){KEY_BYTES, key};
    put.value = (ProtobufCBinaryData){bench->value_bytes, bench->value};
    put.expiry_case = KV__PUT__EXPIRY_TTL_MS;
    put.ttl_ms = BENCH_TTL_MS;
    bench_commands(bench, "put with ttl, new keys", bench->keys, &request, next_ttl_put);
    bench_commands(bench, "put with ttl, again", bench->keys, &request, next_ttl_put);
    start = now_s();
    bench->time_ms += BENCH_TTL_MS;
    for (uint64_t left = bench->keys; left > 0;) {
        struct kv_machine_stats stats;

        begin_entry(bench);
        end_entry(bench);
        kv_machine_stats(bench->machine, &stats);
        left = stats.keys;
    }
    report(bench, "keys that end", bench->keys, start);
}

static void next_grant(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)bench;
    request->lease_grant->lease_id = (int64_t)i + 1;
}

static void next_leases(struct bench *bench, Kv__Request *request, size_t i)
{
    (void)i;
    for (size_t k = 0; k < request->lease_keep_alive->n_lease_ids; k++) {
        request->lease_keep_alive->lease_ids[k] = (int64_t)(1 + next_random(bench) % BENCH_LEASES);
    }
}

static void bench_leases(struct bench *bench)
{
    static int64_t ids[KV_LEASE_KEEP_ALIVE_MAX];
    Kv__LeaseGrant grant = KV__LEASE_GRANT__INIT;
    Kv__LeaseKeepAlive renew = KV__LEASE_KEEP_ALIVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    double start;

    request.command_case = KV__REQUEST__COMMAND_LEASE_GRANT;
    request.lease_grant = &grant;
    grant.ttl_ms = 1000000;
    bench_commands(bench, "leases granted", BENCH_LEASES, &request, next_grant);
    request.command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    request.lease_keep_alive = &renew;
    renew.lease_ids = ids;
    renew.n_lease_ids = 1;
    bench_commands(bench, "renewals of one", 10 * BENCH_LEASES, &request, next_leases);
    renew.n_lease_ids = KV_LEASE_KEEP_ALIVE_MAX;
    start = now_s();
    bench_commands(bench, NULL, 256, &request, next_leases);
    report(bench, "renewals of 4096", 256 * (size_t)KV_LEASE_KEEP_ALIVE_MAX, start);
}

static void run_time(struct bench *bench)
{
    KV_ASSERT(kv_machine_open(&bench->machine) == 0);
    bench_leases(bench);
    bench_expiry(bench);
    kv_machine_close(bench->machine);
}

int main(int argc, char **argv)
{
    const bool types = argc > 1 && strcmp(argv[1], "types") == 0;
    const bool time = argc > 1 && strcmp(argv[1], "time") == 0;
    const int first = types || time ? 2 : 1;
    struct bench bench = {
        .random = 88172645463325252u,
        .keys = argc > first ? strtoul(argv[first], NULL, 10) : 1000000,
        .value_bytes = argc > first + 1 ? strtoul(argv[first + 1], NULL, 10) : 256,
    };

    bench.value = calloc(1, bench.value_bytes + 1);
    KV_ASSERT(bench.value && bench.keys > 0);
    if (types) {
        run_types(&bench);
        run_lists(&bench);
    } else if (time) {
        run_time(&bench);
    } else {
        run(&bench, false);
        run(&bench, true);
    }
    free(bench.value);
    return 0;
}
