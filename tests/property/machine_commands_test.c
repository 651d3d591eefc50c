/* Random commands against a naive model in plain arrays, with the model's state of every revision
 * kept, so that reads at a revision are checked for all of them. Two runs of three forget history,
 * by age, size and few marks, as the model says. KV_SEED replays one run. */
#include "server/machine/machine.h"

#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 24, VALUE_MAX = 40, STEPS = 600, REVISIONS_MAX = STEPS + 2 };

struct model_record {
    bool live;
    char value[VALUE_MAX * 4];
    size_t size;
    int64_t create, mod, version;
};

/* The whole state, once per revision. */
static struct model_record states[REVISIONS_MAX][KEYS];
static int64_t revision;
static uint64_t random_state;
static struct kv_machine *machine;
static uint64_t log_index;
static int64_t cluster_time_ms;

/* What the model keeps of its history. */
static struct {
    bool forgets; /* is this a run that forgets at all? */
    int64_t oldest;
    uint64_t age_ms, bytes;
    struct {
        int64_t revision, time_ms;
    } marks[REVISIONS_MAX];
    size_t n_marks, marks_max;
} kept;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

/* Keys share long prefixes, so that a slot's eight bytes do not decide. */
static ProtobufCBinaryData key_bytes(unsigned key)
{
    static char texts[KEYS][32];

    snprintf(texts[key], sizeof texts[key], "prefix/%c/%02u", 'a' + (int)(key % 3), key);
    return (ProtobufCBinaryData){strlen(texts[key]), (uint8_t *)texts[key]};
}

/* Keys in the order of their bytes. */
static int compare_keys(const void *a, const void *b)
{
    ProtobufCBinaryData x = key_bytes(*(const unsigned *)a);
    ProtobufCBinaryData y = key_bytes(*(const unsigned *)b);

    return kv_slice_compare(kv_slice_of(x.data, x.len), kv_slice_of(y.data, y.len));
}

static unsigned order[KEYS];

static struct model_record *now(unsigned key)
{
    return &states[revision][key];
}

/* The state that the next revision will have, when something changes. */
static struct model_record *next_state(void)
{
    memcpy(states[revision + 1], states[revision], sizeof states[0]);
    return states[revision + 1];
}

static void model_set(struct model_record *record, const void *value, size_t size)
{
    record->create = record->live ? record->create : revision + 1;
    record->version = record->live ? record->version + 1 : 1;
    record->live = true;
    record->mod = revision + 1;
    memcpy(record->value, value, size);
    record->size = size;
}

struct captured {
    Kv__Reply *reply;
};

static void capture(void *arg, Kv__Reply *reply)
{
    struct captured *captured = arg;
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed = malloc(size + 1);

    kv__reply__pack(reply, packed);
    captured->reply = kv__reply__unpack(NULL, size, packed);
    free(packed);
}

static Kv__Reply *write_command(Kv__Request *request)
{
    struct captured captured = {NULL};

    assert_int_equal(kv_command_classify(request), KV_COMMAND_WRITE);
    log_index++;
    cluster_time_ms += (int64_t)(rnd(4) ? rnd(3) : rnd(250));
    assert_int_equal(kv_machine_begin(machine, log_index, KV_MACHINE_VERSION, cluster_time_ms), 0);
    kv_machine_execute(machine, request, capture, &captured);
    kv_machine_end(machine);
    return captured.reply;
}

static Kv__Reply *read_command(Kv__Request *request)
{
    struct captured captured = {NULL};

    kv_machine_read(machine, request, capture, &captured);
    return captured.reply;
}

static void
check_key_value(const Kv__KeyValue *kv, const struct model_record *record, bool keys_only)
{
    assert_non_null(kv);
    assert_true(record->live);
    assert_int_equal(kv->mod_revision, record->mod);
    assert_int_equal(kv->create_revision, record->create);
    assert_int_equal(kv->version, record->version);
    if (!keys_only) {
        assert_int_equal(kv->value.len, record->size);
        assert_memory_equal(kv->value.data, record->value, record->size);
    }
}

static void random_value(char *value, size_t *ret_size)
{
    *ret_size = rnd(VALUE_MAX);
    for (size_t i = 0; i < *ret_size; i++) {
        value[i] = (char)('a' + rnd(3));
    }
}

/* Values that the events of revisions behind `from` replaced, and what these events cost. */
static uint64_t model_cost(int64_t from, uint64_t *ret_versions)
{
    uint64_t bytes = 0;

    *ret_versions = 0;
    for (int64_t r = from + 1; r <= revision; r++) {
        for (unsigned i = 0; i < KEYS; i++) {
            const struct model_record *before = &states[r - 1][i];
            const struct model_record *after = &states[r][i];

            if (before->live && (!after->live || after->mod == r)) {
                bytes += 40 + key_bytes(i).len + before->size;
                ++*ret_versions;
            }
            bytes += after->live && after->mod == r ? 16 : 0;
            bytes += before->live && !after->live ? 16 + 40 + key_bytes(i).len : 0;
        }
    }
    return bytes;
}

static void model_mark(void)
{
    if (kept.n_marks > 1 && cluster_time_ms - kept.marks[kept.n_marks - 1].time_ms < 100) {
        kept.marks[kept.n_marks - 1].revision = revision;
        return;
    }
    if (kept.n_marks == kept.marks_max) {
        size_t n = 0;

        for (size_t i = 0; i < kept.n_marks; i++) {
            if (i % 2 || i + 1 == kept.n_marks) {
                kept.marks[n++] = kept.marks[i];
            }
        }
        kept.n_marks = n;
    }
    kept.marks[kept.n_marks].revision = revision;
    kept.marks[kept.n_marks++].time_ms = cluster_time_ms;
}

/* The end of an entry: the same history is left as the model keeps. */
static void check_history(bool changes)
{
    struct kv_machine_stats stats;
    uint64_t versions;

    if (changes) {
        model_mark();
    }
    while (kept.n_marks > 0 && (cluster_time_ms > kept.marks[0].time_ms + (int64_t)kept.age_ms ||
                                model_cost(kept.oldest, &versions) > kept.bytes)) {
        kept.oldest = kept.marks[0].revision;
        memmove(kept.marks, kept.marks + 1, --kept.n_marks * sizeof kept.marks[0]);
    }
    kv_machine_stats(machine, &stats);
    assert_int_equal(kv_machine_oldest_revision(machine), kept.oldest);
    assert_int_equal(stats.history_bytes, model_cost(kept.oldest, &versions));
    assert_int_equal(stats.versions, versions);
}

static void finish_write(bool changes, Kv__Reply *reply)
{
    revision += changes;
    check_history(changes);
    assert_int_equal(kv_machine_revision(machine), revision);
    assert_int_equal(reply->revision, revision);
    if (!changes) {
        memset(states[revision + 1], 0, sizeof states[0]);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static bool
condition_holds(const Kv__Put *put, const struct model_record *record, Kv__Code *ret_code)
{
    *ret_code = KV__CODE__CONDITION_FAILED;
    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        *ret_code = KV__CODE__EXISTS;
        return !put->if_absent || !record->live;
    case KV__PUT__CONDITION_IF_PRESENT:
        *ret_code = KV__CODE__NOT_FOUND;
        return !put->if_present || record->live;
    case KV__PUT__CONDITION_IF_MOD_REVISION:
        return put->if_mod_revision == (record->live ? record->mod : 0);
    case KV__PUT__CONDITION_IF_VALUE:
        return record->live && record->size == put->if_value.len &&
               memcmp(record->value, put->if_value.data, record->size) == 0;
    default:
        return true;
    }
}

static void step_put(void)
{
    unsigned key = (unsigned)rnd(KEYS);
    struct model_record before = *now(key);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    char value[VALUE_MAX];
    size_t size;
    Kv__Code code;
    Kv__Reply *reply;
    bool holds;

    random_value(value, &size);
    put.key = key_bytes(key);
    put.value = (ProtobufCBinaryData){size, (uint8_t *)value};
    put.return_previous = rnd(2) != 0;
    put.condition_case = (Kv__Put__ConditionCase[]){KV__PUT__CONDITION__NOT_SET,
                                                    KV__PUT__CONDITION_IF_ABSENT,
                                                    KV__PUT__CONDITION_IF_PRESENT,
                                                    KV__PUT__CONDITION_IF_MOD_REVISION,
                                                    KV__PUT__CONDITION_IF_VALUE}[rnd(5)];
    if (put.condition_case == KV__PUT__CONDITION_IF_MOD_REVISION) {
        put.if_mod_revision = rnd(2) ? before.mod : (int64_t)rnd(10);
    } else if (put.condition_case == KV__PUT__CONDITION_IF_VALUE) {
        put.if_value =
            rnd(2) ? put.value : (ProtobufCBinaryData){before.size, (uint8_t *)before.value};
    } else if (put.condition_case != KV__PUT__CONDITION__NOT_SET) {
        put.if_absent = rnd(4) != 0;
    }
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    holds = condition_holds(&put, &before, &code);
    if (holds) {
        model_set(&next_state()[key], value, size);
    }
    reply = write_command(&request);
    assert_int_equal(reply->code, holds ? KV__CODE__OK : code);
    if (put.return_previous && before.live) {
        check_key_value(reply->put->previous, &before, false);
    } else if (reply->result_case == KV__REPLY__RESULT_PUT) {
        assert_null(reply->put->previous);
    }
    finish_write(holds, reply);
}

static void step_append(void)
{
    unsigned key = (unsigned)rnd(KEYS);
    struct model_record before = *now(key);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Append append = KV__APPEND__INIT;
    char value[VALUE_MAX * 5];
    size_t size;
    Kv__Reply *reply;
    bool changes;

    if (before.size > VALUE_MAX * 2) {
        return;
    }
    memcpy(value, before.value, before.size);
    random_value(value + (before.live ? before.size : 0), &size);
    append.key = key_bytes(key);
    append.value = (ProtobufCBinaryData){size, (uint8_t *)value + (before.live ? before.size : 0)};
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append;
    changes = size > 0 || !before.live;
    size += before.live ? before.size : 0;
    if (changes) {
        model_set(&next_state()[key], value, size);
    }
    reply = write_command(&request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->append->length, size);
    finish_write(changes, reply);
}

static void step_set_range(void)
{
    unsigned key = (unsigned)rnd(KEYS);
    struct model_record before = *now(key);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SetRange set_range = KV__SET_RANGE__INIT;
    char value[VALUE_MAX * 4] = {0};
    char piece[VALUE_MAX];
    size_t size;
    size_t offset = rnd(VALUE_MAX);
    size_t whole = before.live ? before.size : 0;
    Kv__Reply *reply;

    random_value(piece, &size);
    set_range.key = key_bytes(key);
    set_range.offset = offset;
    set_range.value = (ProtobufCBinaryData){size, (uint8_t *)piece};
    request.command_case = KV__REQUEST__COMMAND_SET_RANGE;
    request.set_range = &set_range;
    if (size > 0) {
        memcpy(value, before.value, whole);
        memcpy(value + offset, piece, size);
        whole = whole > offset + size ? whole : offset + size;
        model_set(&next_state()[key], value, whole);
    }
    reply = write_command(&request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->set_range->length, whole);
    finish_write(size > 0, reply);
}

static void step_get_del(void)
{
    unsigned key = (unsigned)rnd(KEYS);
    struct model_record before = *now(key);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__Reply *reply;

    getdel.key = key_bytes(key);
    request.command_case = KV__REQUEST__COMMAND_GETDEL;
    request.getdel = &getdel;
    if (before.live) {
        next_state()[key].live = false;
    }
    reply = write_command(&request);
    assert_int_equal(reply->code, before.live ? KV__CODE__OK : KV__CODE__NOT_FOUND);
    if (before.live) {
        check_key_value(reply->getdel->kv, &before, false);
    }
    finish_write(before.live, reply);
}

/* A random KeyRange, and which keys it covers. */
static void random_range(Kv__KeyRange *range, bool covered[KEYS])
{
    ProtobufCBinaryData start = key_bytes(order[rnd(KEYS)]);
    ProtobufCBinaryData end = key_bytes(order[rnd(KEYS)]);

    if (kv_slice_compare(kv_slice_of(start.data, start.len), kv_slice_of(end.data, end.len)) > 0) {
        ProtobufCBinaryData swap = start;

        start = end;
        end = swap;
    }
    kv__key_range__init(range);
    range->special = (Kv__KeyRange__Special)rnd(4);
    range->start =
        range->special == KV__KEY_RANGE__SPECIAL__ALL ? (ProtobufCBinaryData){0, NULL} : start;
    if (range->special == KV__KEY_RANGE__SPECIAL__PREFIX) {
        range->start.len = rnd(start.len + 1);
    }
    if (range->special == KV__KEY_RANGE__SPECIAL__NONE && rnd(2)) {
        range->end = end;
    }
    for (unsigned i = 0; i < KEYS; i++) {
        ProtobufCBinaryData key = key_bytes(i);
        struct kv_slice slice = {key.data, key.len};
        struct kv_slice from = {range->start.data, range->start.len};

        switch (range->special) {
        case KV__KEY_RANGE__SPECIAL__ALL:
            covered[i] = true;
            break;
        case KV__KEY_RANGE__SPECIAL__PREFIX:
            covered[i] = key.len >= from.size &&
                         memcmp(key.data, from.data ? from.data : key.data, from.size) == 0;
            break;
        case KV__KEY_RANGE__SPECIAL__FROM_KEY:
            covered[i] = kv_slice_compare(slice, from) >= 0;
            break;
        default:
            covered[i] =
                range->end.len == 0
                    ? kv_slice_equal(slice, from)
                    : kv_slice_compare(slice, from) >= 0 &&
                          kv_slice_compare(slice, kv_slice_of(range->end.data, range->end.len)) < 0;
            break;
        }
    }
}

static void step_delete(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Delete command = KV__DELETE__INIT;
    ProtobufCBinaryData keys[3] = {key_bytes((unsigned)rnd(KEYS)),
                                   key_bytes((unsigned)rnd(KEYS)),
                                   key_bytes((unsigned)rnd(KEYS))};
    Kv__KeyRange range;
    Kv__KeyRange *ranges[1] = {&range};
    bool covered[KEYS] = {false};
    struct model_record *next = next_state();
    uint64_t deleted = 0;
    Kv__Reply *reply;

    command.n_keys = rnd(4);
    command.keys = keys;
    if (command.n_keys == 0 || rnd(6) == 0) {
        random_range(&range, covered);
        command.n_ranges = 1;
        command.ranges = ranges;
    }
    command.return_previous = rnd(2) != 0;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    for (unsigned i = 0; i < KEYS; i++) {
        for (size_t k = 0; k < command.n_keys; k++) {
            covered[i] = covered[i] || (keys[k].len == key_bytes(i).len &&
                                        memcmp(keys[k].data, key_bytes(i).data, keys[k].len) == 0);
        }
        if (covered[i] && next[i].live) {
            next[i].live = false;
            deleted++;
        }
    }
    reply = write_command(&request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->delete_->deleted, deleted);
    assert_int_equal(reply->delete_->n_previous, command.return_previous ? deleted : 0);
    finish_write(deleted > 0, reply);
}

static void set_setting(const char *name, uint64_t value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    Kv__Reply *reply;

    command.name = (char *)(uintptr_t)name;
    command.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    reply = write_command(&request);
    assert_int_equal(reply->code, KV__CODE__OK);
    finish_write(false, reply);
}

static void step_retention(void)
{
    if (!kept.forgets || rnd(4)) {
        return;
    }
    if (rnd(2)) {
        kept.age_ms = rnd(5) ? 200 + rnd(10000) : 0;
        set_setting("history-age", kept.age_ms);
    } else {
        kept.bytes = rnd(5) ? rnd(20000) : 0;
        set_setting("history-bytes", kept.bytes);
    }
}

/* A read before the oldest revision is refused, and told which that is. */
static bool is_compacted(int64_t at, const Kv__Reply *reply)
{
    if (at == 0 || at >= kept.oldest) {
        return false;
    }
    assert_int_equal(reply->code, KV__CODE__COMPACTED);
    assert_int_equal(reply->hint->oldest_revision, kept.oldest);
    return true;
}

static void check_get(void)
{
    unsigned key = (unsigned)rnd(KEYS);
    int64_t at = 1 + (int64_t)rnd((uint64_t)revision);
    const struct model_record *record;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get get = KV__GET__INIT;
    Kv__Reply *reply;

    get.key = key_bytes(key);
    get.at_revision = rnd(3) ? at : 0;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    record = &states[get.at_revision ? get.at_revision : revision][key];
    reply = read_command(&request);
    if (!is_compacted(get.at_revision, reply)) {
        assert_int_equal(reply->code, record->live ? KV__CODE__OK : KV__CODE__NOT_FOUND);
        if (record->live) {
            check_key_value(reply->get->kv, record, false);
        }
    }
    kv__reply__free_unpacked(reply, NULL);
}

/* Which keys a range command must find, in its order. */
static size_t
expected_keys(const Kv__Range *command, const bool covered[KEYS], int64_t at, unsigned found[KEYS])
{
    size_t n = 0;

    for (unsigned i = 0; i < KEYS; i++) {
        unsigned key = order[command->descending ? KEYS - 1 - i : i];
        const struct model_record *record = &states[at][key];

        if (covered[key] && record->live &&
            (!command->min_mod_revision || record->mod >= command->min_mod_revision) &&
            (!command->max_mod_revision || record->mod <= command->max_mod_revision) &&
            (!command->min_create_revision || record->create >= command->min_create_revision) &&
            (!command->max_create_revision || record->create <= command->max_create_revision)) {
            found[n++] = key;
        }
    }
    return n;
}

static void random_range_command(Kv__Range *command, Kv__KeyRange *range, bool covered[KEYS])
{
    kv__range__init(command);
    random_range(range, covered);
    command->range = range;
    command->descending = rnd(2) != 0;
    command->keys_only = rnd(2) != 0;
    command->at_revision = rnd(2) ? 1 + (int64_t)rnd((uint64_t)revision) : 0;
    if (rnd(3) == 0) {
        command->min_mod_revision = (int64_t)rnd((uint64_t)revision);
        command->max_create_revision = 1 + (int64_t)rnd((uint64_t)revision);
    }
    if (rnd(3) == 0) {
        command->max_mod_revision =
            command->min_mod_revision + 1 + (int64_t)rnd((uint64_t)revision);
        command->min_create_revision = rnd(2) && command->max_create_revision ? 1 : 0;
    }
}

/* Reads page by page by cursor, and compares with the model. */
static void check_range(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range command;
    Kv__KeyRange range;
    bool covered[KEYS];
    unsigned expected[KEYS];
    uint8_t cursor[64];
    size_t n;
    size_t at = 0;
    bool more = true;

    random_range_command(&command, &range, covered);
    command.limit = rnd(2) ? 1 + rnd(5) : 0;
    n = expected_keys(
        &command, covered, command.at_revision ? command.at_revision : revision, expected);
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &command;
    while (more) {
        Kv__Reply *reply = read_command(&request);

        if (is_compacted(command.at_revision, reply)) {
            kv__reply__free_unpacked(reply, NULL);
            return;
        }
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->range->revision,
                         command.at_revision ? command.at_revision : revision);
        for (size_t i = 0; i < reply->range->n_kvs; i++) {
            ProtobufCBinaryData key = key_bytes(expected[at < n ? at : 0]);

            assert_true(at < n);
            assert_int_equal(reply->range->kvs[i]->key.len, key.len);
            assert_memory_equal(reply->range->kvs[i]->key.data, key.data, key.len);
            check_key_value(reply->range->kvs[i],
                            &states[reply->range->revision][expected[at]],
                            command.keys_only);
            at++;
        }
        more = reply->range->more;
        if (more) {
            memcpy(cursor, reply->range->cursor.data, reply->range->cursor.len);
            command.cursor = (ProtobufCBinaryData){reply->range->cursor.len, cursor};
        }
        kv__reply__free_unpacked(reply, NULL);
    }
    assert_int_equal(at, n);
}

struct piece_check {
    const unsigned *expected;
    size_t n;
    size_t at;
    bool keys_only;
};

static void on_piece(void *arg, Kv__RangeResult *result, int64_t at_revision)
{
    struct piece_check *check = arg;

    for (size_t i = 0; i < result->n_kvs; i++) {
        assert_true(check->at < check->n);
        check_key_value(
            result->kvs[i], &states[at_revision][check->expected[check->at]], check->keys_only);
        check->at++;
    }
}

/* Writes go on between the pieces of a stream; it stays at its revision. */
static void check_stream(void)
{
    Kv__Range command;
    Kv__KeyRange range;
    bool covered[KEYS];
    unsigned expected[KEYS];
    struct kv_range_stream stream = {0};
    struct piece_check check = {.expected = expected};
    struct kv_error error;
    int status = 1;

    random_range_command(&command, &range, covered);
    command.stream = true;
    check.n = expected_keys(
        &command, covered, command.at_revision ? command.at_revision : revision, expected);
    check.keys_only = command.keys_only;
    while (status == 1) {
        status =
            kv_machine_range_piece(machine, &command, &stream, rnd(400), on_piece, &check, &error);
        if (revision < REVISIONS_MAX - 2) {
            step_put();
        }
    }
    if (status == KV_COMPACTED) {
        assert_true((stream.started ? stream.revision : command.at_revision) < kept.oldest);
        return;
    }
    assert_int_equal(status, 0);
    assert_int_equal(check.at, check.n);
}

static void check_counts(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Count command = KV__COUNT__INIT;
    Kv__KeyRange range;
    bool covered[KEYS];
    int64_t at;
    uint64_t n = 0;
    Kv__Reply *reply;

    random_range(&range, covered);
    command.range = &range;
    command.at_revision = rnd(2) ? 1 + (int64_t)rnd((uint64_t)revision) : 0;
    at = command.at_revision ? command.at_revision : revision;
    for (unsigned i = 0; i < KEYS; i++) {
        n += covered[i] && states[at][i].live;
    }
    request.command_case = KV__REQUEST__COMMAND_COUNT;
    request.count = &command;
    reply = read_command(&request);
    if (!is_compacted(command.at_revision, reply)) {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->count->count, n);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void run(uint64_t seed)
{
    static void (*const steps[])(void) = {step_put,
                                          step_put,
                                          step_append,
                                          step_set_range,
                                          step_get_del,
                                          step_delete,
                                          step_retention,
                                          check_get,
                                          check_get,
                                          check_range,
                                          check_range,
                                          check_stream,
                                          check_counts};

    print_message("seed %llu\n", (unsigned long long)seed);
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    memset(states, 0, sizeof states);
    revision = 1;
    log_index = 0;
    cluster_time_ms = 0;
    assert_int_equal(kv_machine_open(&machine), 0);
    memset(&kept, 0, sizeof kept);
    kept.oldest = revision;
    kept.age_ms = machine->settings.history_age_ms;
    kept.bytes = machine->settings.history_bytes;
    kept.forgets = seed % 3 != 0;
    kept.marks_max = machine->history.marks_max;
    if (kept.forgets && seed % 2) {
        kept.marks_max = machine->history.marks_max = 2 + rnd(9);
    }
    for (int i = 0; i < STEPS && revision < REVISIONS_MAX - 4; i++) {
        steps[rnd(sizeof steps / sizeof steps[0])]();
        if (i % 50 == 0) {
            kv_machine_check_invariants(machine);
        }
    }
    kv_machine_check_invariants(machine);
    kv_machine_close(machine);
}

static void commands_answer_as_the_model(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(60);

    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        order[i] = i;
    }
    qsort(order, KEYS, sizeof order[0], compare_keys);
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands_answer_as_the_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
