/* Union, intersection and difference of sets. At any time one of them is open. */
#include "server/machine/command.h"
#include "server/machine/map.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a member on the wire besides itself, at most. */
enum { MEMBER_OVERHEAD_BYTES = 8 };
/* Of a member's record: header, number of the set. */
enum { RECORD_OVERHEAD_BYTES = 48 };

/* Members, borrowed from records that stay until the end of the entry. */
struct members {
    struct kv_machine *machine;
    int64_t revision;
    ProtobufCBinaryData *items;
    size_t n, capacity;
};

int kv_validate_set_combine(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__SetCombine *command = request->set_combine;

    (void)settings;
    return kv_check_sources(&(struct kv_sources){.combination = command->combination,
                                                 .keys = command->keys,
                                                 .n_keys = command->n_keys,
                                                 .store = command->store},
                            ret_error);
}

static int open_set(const struct members *members,
                    ProtobufCBinaryData key,
                    struct kv_answer *answer,
                    struct kv_collection *ret_set)
{
    return kv_collection_open(
        members->machine, kv_slice_of_proto(key), KV_TYPE_SET, members->revision, answer, ret_set);
}

static ProtobufCBinaryData bytes_of(struct kv_slice slice)
{
    return (ProtobufCBinaryData){slice.size, (uint8_t *)(uintptr_t)slice.data};
}

/* All members of a set behind those that are there. */
static int append(struct members *members, ProtobufCBinaryData key, struct kv_answer *answer)
{
    struct kv_collection set;
    struct kv_map_cursor cursor;
    struct kv_element element;
    int status = open_set(members, key, answer, &set);

    if (status != 0) {
        return status;
    }
    kv_map_seek(&set, kv_slice_of(NULL, 0), &cursor);
    while (status == 0 && kv_map_next(&cursor, &element)) {
        status = kv_machine_work(members->machine, cursor.n_visited, answer);
        cursor.n_visited = 0;
        members->items = kv_reply_grow(members->machine,
                                       members->items,
                                       members->n,
                                       &members->capacity,
                                       sizeof *members->items);
        members->items[members->n++] = bytes_of(element.name);
    }
    return status;
}

/* Keeps those that are in the set, or those that are not. */
static int
filter(struct members *members, ProtobufCBinaryData key, bool is_in, struct kv_answer *answer)
{
    struct kv_collection set;
    struct kv_slice value;
    size_t kept = 0;
    int status = open_set(members, key, answer, &set);

    if (status == 0) {
        status = kv_machine_work(members->machine, members->n, answer);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < members->n; i++) {
        if (kv_map_find(&set, kv_slice_of_proto(members->items[i]), &value) == is_in) {
            members->items[kept++] = members->items[i];
        }
    }
    members->n = kept;
    return 0;
}

static int compare(const void *a, const void *b)
{
    return kv_slice_compare(kv_slice_of_proto(*(const ProtobufCBinaryData *)a),
                            kv_slice_of_proto(*(const ProtobufCBinaryData *)b));
}

static int unite(struct members *members, const Kv__SetCombine *command, struct kv_answer *answer)
{
    size_t kept = 0;
    int status = 0;

    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        status = append(members, command->keys[i], answer);
    }
    if (status != 0 || members->n == 0) {
        return status;
    }
    qsort(members->items, members->n, sizeof *members->items, compare);
    for (size_t i = 0; i < members->n; i++) {
        if (kept == 0 || compare(&members->items[kept - 1], &members->items[i]) != 0) {
            members->items[kept++] = members->items[i];
        }
    }
    members->n = kept;
    return 0;
}

/* The set with the fewest members; all keys are looked at, so that a wrong type is always told. */
static int find_least(const struct members *members,
                      const Kv__SetCombine *command,
                      struct kv_answer *answer,
                      size_t *ret_least)
{
    uint64_t fewest = UINT64_MAX;

    for (size_t i = 0; i < command->n_keys; i++) {
        struct kv_collection set;
        int status = open_set(members, command->keys[i], answer, &set);

        if (status != 0) {
            return status;
        }
        if (kv_collection_count(&set) < fewest) {
            fewest = kv_collection_count(&set);
            *ret_least = i;
        }
    }
    return 0;
}

/* An intersection begins with the smallest set, a difference with the first. */
static int narrow(struct members *members, const Kv__SetCombine *command, struct kv_answer *answer)
{
    const bool is_in = command->combination == KV__COMBINATION__COMBINE_INTERSECTION;
    size_t least = 0;
    size_t base;
    int status = find_least(members, command, answer, &least);

    base = is_in ? least : 0;
    if (status == 0) {
        status = append(members, command->keys[base], answer);
    }
    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        if (i != base) {
            status = filter(members, command->keys[i], is_in, answer);
        }
    }
    return status;
}

static int store(struct members *members, ProtobufCBinaryData key, struct kv_answer *answer)
{
    struct kv_collection set;
    uint64_t bytes = 0;
    int status = kv_machine_work(members->machine, members->n, answer);

    for (size_t i = 0; i < members->n; i++) {
        bytes += members->items[i].len + RECORD_OVERHEAD_BYTES;
    }
    if (status == 0) {
        status = kv_machine_check_written(members->machine, bytes, answer);
    }
    if (status != 0) {
        return status;
    }
    kv_collection_create(members->machine, kv_slice_of_proto(key), KV_TYPE_SET, &set);
    for (size_t i = 0; i < members->n; i++) {
        (void)kv_map_put(&set, kv_slice_of_proto(members->items[i]), kv_slice_of(NULL, 0));
    }
    kv_collection_commit(&set);
    answer->result.elements.stored = members->n;
    return 0;
}

static int give(const struct members *members, struct kv_answer *answer)
{
    Kv__ElementsResult *result = &answer->result.elements;
    uint64_t bytes = 0;

    for (size_t i = 0; i < members->n; i++) {
        bytes += members->items[i].len + MEMBER_OVERHEAD_BYTES;
    }
    if (bytes > kv_reply_room(members->machine)) {
        return kv_reply_too_large(members->machine, answer, "store it, and read that in pieces");
    }
    result->n_elements = members->n;
    result->elements = members->items;
    return 0;
}

int kv_run_set_combine(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__SetCombine *command = request->set_combine;
    struct members members = {.machine = machine, .revision = command->at_revision};
    int status = kv_machine_work(machine, command->n_keys, answer);

    kv__elements_result__init(&answer->result.elements);
    if (status == 0) {
        status = command->combination == KV__COMBINATION__COMBINE_UNION
                     ? unite(&members, command, answer)
                     : narrow(&members, command, answer);
    }
    if (status == 0) {
        status = command->store.len > 0 ? store(&members, command->store, answer)
                                        : give(&members, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, SET_COMBINE, set_combine, elements);
    }
    return status;
}
