/* Sets: members. What is combined of several: command_set_combine.c. */
#include "server/machine/command.h"

#include "common/assert.h"
#include "server/machine/map.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a member on the wire besides itself, at most. */
enum { MEMBER_OVERHEAD_BYTES = 8 };

/* ---------------------------------------------------------------- checks */

int kv_validate_set_add(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    const Kv__SetAdd *command = request->set_add;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->members, command->n_members, "member", true, ret_error);
}

int kv_validate_set_remove(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    const Kv__SetRemove *command = request->set_remove;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->members, command->n_members, "member", true, ret_error);
}

int kv_validate_set_has(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    const Kv__SetHas *command = request->set_has;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status
               ? status
               : kv_check_names(command->members, command->n_members, "member", false, ret_error);
}

int kv_validate_set_members(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    int status = kv_check_key(request->set_members->key, ret_error);

    (void)settings;
    return status ? status : kv_check_bound(request->set_members->cursor, "the cursor", ret_error);
}

int kv_validate_set_len(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->set_len->key, ret_error);
}

int kv_validate_set_pop(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->set_pop->key, ret_error);
}

int kv_validate_set_random(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->set_random->key, ret_error);
}

/* ---------------------------------------------------------------- helpers */

static int open_set(struct kv_machine *machine,
                    ProtobufCBinaryData key,
                    int64_t revision,
                    struct kv_answer *answer,
                    struct kv_collection *ret_set)
{
    return kv_collection_open(
        machine, kv_slice_of_proto(key), KV_TYPE_SET, revision, answer, ret_set);
}

static void answer_count(struct kv_answer *answer, uint64_t count)
{
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
}

static ProtobufCBinaryData bytes_of(struct kv_slice slice)
{
    return (ProtobufCBinaryData){slice.size, (uint8_t *)(uintptr_t)slice.data};
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Of a write, revision and number of the operation decide: all nodes choose alike. */
static uint64_t seed(struct kv_machine *machine)
{
    uint64_t state = (uint64_t)machine->revision;

    state = next_random(&state) ^ machine->operation;
    if (machine->reading) {
        state = next_random(&state) ^ machine->random_reads++;
    }
    return next_random(&state);
}

/* Notes the number in a table that has room; false: it is there already. Capacity is a power of
 * two. */
static bool note(uint64_t *table, size_t capacity, uint64_t number)
{
    size_t at = (size_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (capacity - 1);

    while (table[at] != 0 && table[at] != number + 1) {
        at = (at + 1) & (capacity - 1);
    }
    if (table[at] != 0) {
        return false;
    }
    table[at] = number + 1;
    return true;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* n different numbers below `count`, ascending: Floyd's algorithm, by which any n of them are as
 * likely as any others. */
static const uint64_t *choose(struct kv_machine *machine, uint64_t n, uint64_t count)
{
    uint64_t state = seed(machine);
    size_t capacity = 4;
    uint64_t *table, *chosen;

    while (capacity < 2 * n) {
        capacity *= 2;
    }
    table = kv_reply_alloc(machine, capacity * sizeof *table);
    memset(table, 0, capacity * sizeof *table);
    chosen = kv_reply_alloc(machine, n * sizeof *chosen);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t greatest = count - n + i;

        chosen[i] = next_random(&state) % (greatest + 1);
        if (!note(table, capacity, chosen[i])) {
            chosen[i] = greatest;
            (void)note(table, capacity, greatest);
        }
    }
    qsort(chosen, n, sizeof *chosen, compare_numbers);
    return chosen;
}

/* Members by chance as the result's elements, at most `count`. They stay where they are until the
 * end of the entry, also when they are taken out: as what the next version replaces. */
static int pick(struct kv_machine *machine,
                struct kv_collection *set,
                uint64_t count,
                struct kv_answer *answer)
{
    Kv__ElementsResult *result = &answer->result.elements;
    const uint64_t length = kv_collection_count(set);
    const uint64_t n = count == 0 ? 1 : count;
    uint64_t bytes = 0;
    const uint64_t *chosen;
    int status;

    kv__elements_result__init(result);
    result->n_elements = n < length ? n : length;
    status = kv_machine_work(machine, result->n_elements, answer);
    if (status != 0) {
        return status;
    }
    chosen = choose(machine, result->n_elements, length);
    result->elements = kv_reply_alloc(machine, result->n_elements * sizeof *result->elements);
    for (size_t i = 0; i < result->n_elements; i++) {
        struct kv_element element;

        kv_map_nth(set, chosen[i], &element);
        result->elements[i] = bytes_of(element.name);
        bytes += element.name.size + MEMBER_OVERHEAD_BYTES;
    }
    return bytes <= kv_reply_room(machine)
               ? 0
               : kv_reply_too_large(machine, answer, "ask for fewer members at once");
}

/* ---------------------------------------------------------------- changes */

int kv_run_set_add(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__SetAdd *command = request->set_add;
    struct kv_collection set;
    struct kv_slice value;
    uint64_t added = 0;
    int status = open_set(machine, command->key, 0, answer, &set);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < command->n_members; i++) {
        struct kv_slice member = kv_slice_of_proto(command->members[i]);

        /* What is there already is no change. */
        if (!kv_map_find(&set, member, &value)) {
            (void)kv_map_put(&set, member, kv_slice_of(NULL, 0));
            added++;
        }
    }
    kv_collection_commit(&set);
    answer_count(answer, added);
    KV_ANSWER(answer, SET_ADD, set_add, count);
    return 0;
}

int kv_run_set_remove(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__SetRemove *command = request->set_remove;
    struct kv_collection set;
    uint64_t removed = 0;
    int status = open_set(machine, command->key, 0, answer, &set);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < command->n_members; i++) {
        removed += kv_map_remove(&set, kv_slice_of_proto(command->members[i]));
    }
    kv_collection_commit(&set);
    answer_count(answer, removed);
    KV_ANSWER(answer, SET_REMOVE, set_remove, count);
    return 0;
}

int kv_run_set_pop(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__SetPop *command = request->set_pop;
    const Kv__ElementsResult *result = &answer->result.elements;
    struct kv_collection set;
    int status = open_set(machine, command->key, 0, answer, &set);

    if (status == 0) {
        status = pick(machine, &set, command->count, answer);
    }
    if (status != 0) {
        return status;
    }
    if (result->n_elements > 0 && result->n_elements == kv_collection_count(&set)) {
        kv_keyspace_delete(machine, kv_slice_of_proto(command->key));
    } else {
        for (size_t i = 0; i < result->n_elements; i++) {
            (void)kv_map_remove(&set, kv_slice_of_proto(result->elements[i]));
        }
        kv_collection_commit(&set);
    }
    KV_ANSWER(answer, SET_POP, set_pop, elements);
    return 0;
}

/* ---------------------------------------------------------------- reads */

int kv_run_set_has(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__SetHas *command = request->set_has;
    Kv__PresentResult *result = &answer->result.present;
    struct kv_collection set;
    struct kv_slice value;
    int status = open_set(machine, command->key, command->at_revision, answer, &set);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_members, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__present_result__init(result);
    result->n_present = command->n_members;
    result->present = kv_reply_alloc(machine, result->n_present * sizeof *result->present);
    for (size_t i = 0; i < command->n_members && status == 0; i++) {
        result->present[i] = kv_map_find(&set, kv_slice_of_proto(command->members[i]), &value);
        status = kv_machine_work(machine, 0, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, SET_HAS, set_has, present);
    }
    return status;
}

int kv_run_set_len(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__SetLen *command = request->set_len;
    struct kv_collection set;
    int status = open_set(machine, command->key, command->at_revision, answer, &set);

    if (status != 0) {
        return status;
    }
    answer_count(answer, kv_collection_count(&set));
    KV_ANSWER(answer, SET_LEN, set_len, count);
    return 0;
}

/* Gives members behind `after` as long as they fit; tells whether there are more. */
static int collect_members(struct kv_machine *machine,
                           struct kv_collection *set,
                           struct kv_slice after,
                           uint64_t limit,
                           struct kv_answer *answer)
{
    Kv__ElementsResult *result = &answer->result.elements;
    uint64_t room = kv_reply_room(machine);
    struct kv_map_cursor cursor;
    struct kv_element element;
    size_t capacity = 0;
    int status = 0;

    kv__elements_result__init(result);
    kv_map_seek(set, after, &cursor);
    while (status == 0 && kv_map_next(&cursor, &element)) {
        uint64_t cost = element.name.size + MEMBER_OVERHEAD_BYTES;

        if (after.size > 0 && kv_slice_equal(element.name, after)) {
            continue;
        }
        if (result->n_elements == limit || (result->n_elements > 0 && cost > room)) {
            result->more = true;
            result->cursor = result->elements[result->n_elements - 1];
            break;
        }
        status = kv_machine_work(machine, cursor.n_visited, answer);
        cursor.n_visited = 0;
        result->elements = kv_reply_grow(
            machine, result->elements, result->n_elements, &capacity, sizeof *result->elements);
        result->elements[result->n_elements++] = bytes_of(element.name);
        room -= cost < room ? cost : room;
    }
    return status;
}

int kv_run_set_members(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__SetMembers *command = request->set_members;
    uint64_t limit = command->limit ? command->limit : UINT64_MAX;
    struct kv_collection set;
    int status = open_set(machine, command->key, command->at_revision, answer, &set);

    if (limit > machine->settings.work_elements / 2) {
        limit = machine->settings.work_elements / 2;
    }
    if (status == 0) {
        status = collect_members(machine, &set, kv_slice_of_proto(command->cursor), limit, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, SET_MEMBERS, set_members, elements);
    }
    return status;
}

int kv_run_set_random(struct kv_machine *machine,
                      const Kv__Request *request,
                      struct kv_answer *answer)
{
    const Kv__SetRandom *command = request->set_random;
    struct kv_collection set;
    int status = open_set(machine, command->key, 0, answer, &set);

    if (status == 0) {
        status = pick(machine, &set, command->count, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, SET_RANDOM, set_random, elements);
    }
    return status;
}
