/* Hashes: fields with values. */
#include "server/machine/command.h"
#include "server/machine/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a field on the wire besides name and value, at most. */
enum { FIELD_OVERHEAD_BYTES = 24, NUMBER_BYTES = 24 };

/* ---------------------------------------------------------------- checks */

/* The names of fields as an array of bytes. */
static int check_fields(const Kv__HashSet *command,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    ProtobufCBinaryData *names;
    int status = 0;

    for (size_t i = 0; i < command->n_fields && status == 0; i++) {
        status = kv_check_value(command->fields[i]->value, settings, ret_error);
    }
    if (status != 0) {
        return status;
    }
    names = kv_machine_alloc((command->n_fields + 1) * sizeof *names);
    for (size_t i = 0; i < command->n_fields; i++) {
        names[i] = command->fields[i]->name;
    }
    status = kv_check_names(names, command->n_fields, "field", true, ret_error);
    free(names);
    return status;
}

int kv_validate_hash_set(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    int status = kv_check_key(request->hash_set->key, ret_error);

    return status ? status : check_fields(request->hash_set, settings, ret_error);
}

int kv_validate_hash_get(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    const Kv__HashGet *command = request->hash_get;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->fields, command->n_fields, "field", false, ret_error);
}

int kv_validate_hash_get_all(const Kv__Request *request,
                             const struct kv_machine_settings *settings,
                             struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->hash_get_all->key, ret_error);
}

int kv_validate_hash_delete(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__HashDelete *command = request->hash_delete;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->fields, command->n_fields, "field", true, ret_error);
}

int kv_validate_hash_exists(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__HashExists *command = request->hash_exists;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status
                  : kv_check_names(command->fields, command->n_fields, "field", false, ret_error);
}

int kv_validate_hash_len(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->hash_len->key, ret_error);
}

int kv_validate_hash_add(const Kv__Request *request,
                         const struct kv_machine_settings *settings,
                         struct kv_error *ret_error)
{
    const Kv__HashAdd *command = request->hash_add;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    return status ? status : kv_check_names(&command->field, 1, "field", false, ret_error);
}

int kv_validate_hash_scan(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    int status = kv_check_key(request->hash_scan->key, ret_error);

    (void)settings;
    return status ? status : kv_check_bound(request->hash_scan->cursor, "the cursor", ret_error);
}

/* ---------------------------------------------------------------- changes */

static int open_hash(struct kv_machine *machine,
                     ProtobufCBinaryData key,
                     int64_t revision,
                     struct kv_answer *answer,
                     struct kv_collection *ret_hash)
{
    return kv_collection_open(
        machine, kv_slice_of_proto(key), KV_TYPE_HASH, revision, answer, ret_hash);
}

static void answer_count(struct kv_answer *answer, uint64_t count)
{
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
}

static int
check_ttls(const struct kv_machine *machine, const Kv__HashSet *command, struct kv_answer *answer)
{
    int status = 0;

    for (size_t i = 0; i < command->n_fields && status == 0; i++) {
        status = kv_check_ttl(machine, command->fields[i]->ttl_ms, answer);
    }
    return status;
}

static int
check_absent(struct kv_collection *hash, const Kv__HashSet *command, struct kv_answer *answer)
{
    struct kv_slice value;

    for (size_t i = 0; command->if_absent && i < command->n_fields; i++) {
        if (kv_map_find(hash, kv_slice_of_proto(command->fields[i]->name), &value)) {
            return kv_error_set(&answer->error, KV_EXISTS, "field %zu of the command exists", i);
        }
    }
    return 0;
}

int kv_run_hash_set(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__HashSet *command = request->hash_set;
    struct kv_collection hash;
    uint64_t added = 0;
    int status = open_hash(machine, command->key, 0, answer, &hash);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_fields, answer);
    }
    if (status == 0) {
        status = check_ttls(machine, command, answer);
    }
    if (status == 0) {
        status = check_absent(&hash, command, answer);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < command->n_fields; i++) {
        const Kv__HashField *field = command->fields[i];

        added += kv_map_put_until(&hash,
                                  kv_slice_of_proto(field->name),
                                  kv_slice_of_proto(field->value),
                                  kv_ttl_end_ms(machine, field->ttl_ms));
    }
    kv_collection_commit(&hash);
    answer_count(answer, added);
    KV_ANSWER(answer, HASH_SET, hash_set, count);
    return 0;
}

int kv_run_hash_delete(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__HashDelete *command = request->hash_delete;
    struct kv_collection hash;
    uint64_t removed = 0;
    int status = open_hash(machine, command->key, 0, answer, &hash);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_fields, answer);
    }
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < command->n_fields; i++) {
        removed += kv_map_remove(&hash, kv_slice_of_proto(command->fields[i]));
    }
    kv_collection_commit(&hash);
    answer_count(answer, removed);
    KV_ANSWER(answer, HASH_DELETE, hash_delete, count);
    return 0;
}

/* A decimal number of 64 bits as this machine writes it; anything else is bytes. */
static bool parse_number(struct kv_slice value, int64_t *ret_number)
{
    char text[NUMBER_BYTES];
    char canonical[NUMBER_BYTES];
    long long number;

    if (value.size == 0 || value.size >= sizeof text) {
        return false;
    }
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    errno = 0;
    number = strtoll(text, NULL, 10);
    (void)snprintf(canonical, sizeof canonical, "%lld", number);
    *ret_number = number;
    return errno == 0 && strcmp(text, canonical) == 0 && strlen(text) == value.size;
}

int kv_run_hash_add(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__HashAdd *command = request->hash_add;
    struct kv_slice name = kv_slice_of_proto(command->field);
    struct kv_slice value;
    struct kv_collection hash;
    char text[NUMBER_BYTES];
    int64_t number = 0;
    int status = open_hash(machine, command->key, 0, answer, &hash);

    if (status != 0) {
        return status;
    }
    if (kv_map_find(&hash, name, &value) && !parse_number(value, &number)) {
        return kv_error_set(&answer->error, KV_WRONG_TYPE, "the field holds no decimal number");
    }
    if (__builtin_add_overflow(number, command->delta, &number)) {
        return kv_error_set(&answer->error, KV_OVERFLOW, "the field would be beyond 64 bits");
    }
    (void)snprintf(text, sizeof text, "%" PRId64, number);
    (void)kv_map_put_until(&hash, name, kv_slice_str(text), kv_map_expires_at_ms(&hash, name));
    kv_collection_commit(&hash);
    kv__counter_result__init(&answer->result.counter);
    answer->result.counter.value = number;
    KV_ANSWER(answer, HASH_ADD, hash_add, counter);
    return 0;
}

/* ---------------------------------------------------------------- reads */

int kv_run_hash_get(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    const Kv__HashGet *command = request->hash_get;
    Kv__HashGetResult *result = &answer->result.hash_get;
    struct kv_collection hash;
    uint64_t bytes = 0;
    int status = open_hash(machine, command->key, command->at_revision, answer, &hash);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_fields, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__hash_get_result__init(result);
    result->n_present = result->n_values = command->n_fields;
    result->present = kv_reply_alloc(machine, result->n_present * sizeof *result->present);
    result->values = kv_reply_alloc(machine, result->n_values * sizeof *result->values);
    for (size_t i = 0; i < command->n_fields && status == 0; i++) {
        struct kv_slice value = {0};

        result->present[i] = kv_map_find(&hash, kv_slice_of_proto(command->fields[i]), &value);
        result->values[i] = (ProtobufCBinaryData){value.size, (uint8_t *)(uintptr_t)value.data};
        bytes += value.size + FIELD_OVERHEAD_BYTES;
        status = kv_machine_work(machine, 0, answer);
    }
    if (status != 0) {
        return status;
    }
    if (bytes > kv_reply_room(machine)) {
        return kv_reply_too_large(machine, answer, "ask for fewer fields at once");
    }
    KV_ANSWER(answer, HASH_GET, hash_get, hash_get);
    return 0;
}

int kv_run_hash_exists(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__HashExists *command = request->hash_exists;
    Kv__PresentResult *result = &answer->result.present;
    struct kv_collection hash;
    struct kv_slice value;
    int status = open_hash(machine, command->key, command->at_revision, answer, &hash);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_fields, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__present_result__init(result);
    result->n_present = command->n_fields;
    result->present = kv_reply_alloc(machine, result->n_present * sizeof *result->present);
    for (size_t i = 0; i < command->n_fields && status == 0; i++) {
        result->present[i] = kv_map_find(&hash, kv_slice_of_proto(command->fields[i]), &value);
        status = kv_machine_work(machine, 0, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, HASH_EXISTS, hash_exists, present);
    }
    return status;
}

int kv_run_hash_len(struct kv_machine *machine,
                    const Kv__Request *request,
                    struct kv_answer *answer)
{
    struct kv_collection hash;
    int status =
        open_hash(machine, request->hash_len->key, request->hash_len->at_revision, answer, &hash);

    if (status != 0) {
        return status;
    }
    answer_count(answer, kv_collection_count(&hash));
    KV_ANSWER(answer, HASH_LEN, hash_len, count);
    return 0;
}

static ProtobufCBinaryData bytes_of(struct kv_slice slice)
{
    return (ProtobufCBinaryData){slice.size, (uint8_t *)(uintptr_t)slice.data};
}

/* Gives fields behind the name `after` as long as they fit; tells whether there are more. */
static int collect_fields(struct kv_machine *machine,
                          struct kv_collection *hash,
                          struct kv_slice after,
                          uint64_t limit,
                          struct kv_answer *answer)
{
    Kv__HashFieldsResult *result = &answer->result.hash_fields;
    uint64_t room = kv_reply_room(machine);
    struct kv_map_cursor cursor;
    struct kv_element element;
    size_t capacity = 0;
    int status = 0;

    kv__hash_fields_result__init(result);
    kv_map_seek(hash, after, &cursor);
    while (kv_map_next(&cursor, &element)) {
        uint64_t cost = element.name.size + element.value.size + FIELD_OVERHEAD_BYTES;
        Kv__HashField *field;

        if (after.size > 0 && kv_slice_equal(element.name, after)) {
            continue;
        }
        if (result->n_fields == limit || (result->n_fields > 0 && cost > room)) {
            result->more = true;
            result->cursor = result->fields[result->n_fields - 1]->name;
            break;
        }
        status = kv_machine_work(machine, cursor.n_visited, answer);
        cursor.n_visited = 0;
        if (status != 0) {
            break;
        }
        field = kv_reply_alloc(machine, sizeof *field);
        kv__hash_field__init(field);
        field->name = bytes_of(element.name);
        field->value = bytes_of(element.value);
        field->ttl_ms = element.expires_at_ms == 0
                            ? 0
                            : (uint64_t)kv_remaining_ms(machine, element.expires_at_ms);
        result->fields = kv_reply_grow(
            machine, result->fields, result->n_fields, &capacity, sizeof(Kv__HashField *));
        result->fields[result->n_fields++] = field;
        room -= cost < room ? cost : room;
    }
    return status;
}

int kv_run_hash_get_all(struct kv_machine *machine,
                        const Kv__Request *request,
                        struct kv_answer *answer)
{
    const Kv__HashGetAll *command = request->hash_get_all;
    struct kv_collection hash;
    int status = open_hash(machine, command->key, command->at_revision, answer, &hash);

    if (status == 0) {
        status = collect_fields(machine, &hash, kv_slice_of(NULL, 0), UINT64_MAX, answer);
    }
    if (status == 0 && answer->result.hash_fields.more) {
        status = kv_reply_too_large(machine, answer, "scan the hash in pieces");
    }
    if (status == 0) {
        KV_ANSWER(answer, HASH_GET_ALL, hash_get_all, hash_fields);
    }
    return status;
}

int kv_run_hash_scan(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__HashScan *command = request->hash_scan;
    uint64_t limit = command->limit ? command->limit : UINT64_MAX;
    struct kv_collection hash;
    int status = open_hash(machine, command->key, command->at_revision, answer, &hash);

    if (limit > machine->settings.work_elements / 2) {
        limit = machine->settings.work_elements / 2;
    }
    if (status == 0) {
        status = collect_fields(machine, &hash, kv_slice_of_proto(command->cursor), limit, answer);
    }
    if (status == 0) {
        KV_ANSWER(answer, HASH_SCAN, hash_scan, hash_fields);
    }
    return status;
}
