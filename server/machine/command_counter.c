/* Counters: signed 64-bit numbers. */
#include "server/machine/command.h"

#include <inttypes.h>

int kv_validate_counter_add(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__CounterAdd *command = request->counter_add;

    (void)settings;
    if (command->min && command->max && command->min->value > command->max->value) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the least value %" PRId64 " is above the greatest, %" PRId64,
                            command->min->value,
                            command->max->value);
    }
    return kv_check_key(command->key, ret_error);
}

int kv_validate_counter_get(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->counter_get->key, ret_error);
}

int kv_validate_counter_set(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->counter_set->key, ret_error);
}

/* *ret_record is NULL when the key is absent. */
static int get_counter(struct kv_machine *machine,
                       struct kv_slice key,
                       int64_t revision,
                       const struct kv_record **ret_record,
                       struct kv_answer *answer)
{
    const struct kv_record *record;
    int status = kv_keyspace_check_revision(machine, revision, answer);

    if (status != 0) {
        return status;
    }
    record = kv_keyspace_get_at(machine, key, revision);
    if (record && record->type != KV_TYPE_COUNTER) {
        return kv_wrong_type(answer, record, KV_TYPE_COUNTER);
    }
    *ret_record = record;
    return 0;
}

static int64_t value_of(const struct kv_record *record)
{
    return (int64_t)kv_get_u64(kv_record_value(record).data);
}

static void put_counter(struct kv_machine *machine,
                        struct kv_slice key,
                        int64_t value,
                        const struct kv_life *life)
{
    struct kv_record *record = kv_keyspace_begin_living(machine, key, KV_TYPE_COUNTER, 8, life);

    kv_put_u64(record->bytes + key.size, (uint64_t)value);
    kv_keyspace_commit(machine, record);
}

static void answer_counter(struct kv_answer *answer, int64_t value)
{
    kv__counter_result__init(&answer->result.counter);
    answer->result.counter.value = value;
}

int kv_run_counter_add(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__CounterAdd *command = request->counter_add;
    struct kv_slice key = kv_slice_of_proto(command->key);
    const struct kv_record *record = NULL;
    int status = get_counter(machine, key, 0, &record, answer);
    struct kv_life life;
    int64_t before, value;

    if (status == 0) {
        status = kv_check_ttl(machine, command->ttl_ms, answer);
    }
    if (status != 0) {
        return status;
    }
    life = kv_record_life(record);
    if (!record) {
        life.expires_at_ms = kv_ttl_end_ms(machine, command->ttl_ms);
    }
    before = record ? value_of(record) : command->initial;
    if (__builtin_add_overflow(before, command->delta, &value)) {
        return kv_error_set(&answer->error,
                            KV_OVERFLOW,
                            "%" PRId64 " plus %" PRId64 " is beyond 64 bits",
                            before,
                            command->delta);
    }
    if ((command->min && value < command->min->value) ||
        (command->max && value > command->max->value)) {
        return kv_error_set(&answer->error,
                            KV_OUT_OF_BOUNDS,
                            "%" PRId64 " plus %" PRId64 " is %s the bound",
                            before,
                            command->delta,
                            command->min && value < command->min->value ? "below" : "above");
    }
    if (!record || value != before) {
        put_counter(machine, key, value, &life);
    }
    answer_counter(answer, value);
    KV_ANSWER(answer, COUNTER_ADD, counter_add, counter);
    return 0;
}

int kv_run_counter_get(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__CounterGet *command = request->counter_get;
    const struct kv_record *record = NULL;
    int status = get_counter(
        machine, kv_slice_of_proto(command->key), command->at_revision, &record, answer);

    if (status != 0) {
        return status;
    }
    if (!record) {
        return kv_error_set(&answer->error, KV_NOT_FOUND, "the key does not exist");
    }
    answer_counter(answer, value_of(record));
    KV_ANSWER(answer, COUNTER_GET, counter_get, counter);
    return 0;
}

int kv_run_counter_set(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__CounterSet *command = request->counter_set;
    struct kv_slice key = kv_slice_of_proto(command->key);
    const struct kv_record *record = NULL;
    int status = get_counter(machine, key, 0, &record, answer);

    if (status != 0) {
        return status;
    }
    if (!record || value_of(record) != command->value) {
        const struct kv_life life = kv_record_life(record);

        put_counter(machine, key, command->value, &life);
    }
    answer_counter(answer, command->value);
    KV_ANSWER(answer, COUNTER_SET, counter_set, counter);
    return 0;
}
