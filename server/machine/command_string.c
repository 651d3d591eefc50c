/* String commands of kv.proto. */
#include "server/machine/command.h"

#include <inttypes.h>
#include <string.h>

static int check_key_value(ProtobufCBinaryData key,
                           ProtobufCBinaryData value,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    int status = kv_check_key(key, ret_error);

    return status ? status : kv_check_value(value, settings, ret_error);
}

int kv_validate_put(const Kv__Request *request,
                    const struct kv_machine_settings *settings,
                    struct kv_error *ret_error)
{
    const Kv__Put *put = request->put;

    int status = 0;

    if (put->expiry_case == KV__PUT__EXPIRY_TTL_MS) {
        status = kv_check_ttl_given(put->ttl_ms, ret_error);
    } else if (put->expiry_case == KV__PUT__EXPIRY_LEASE_ID) {
        status = kv_check_lease_id(put->lease_id, ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (put->condition_case == KV__PUT__CONDITION_IF_MOD_REVISION && put->if_mod_revision < 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "if_mod_revision %" PRId64 " is negative", put->if_mod_revision);
    }
    return check_key_value(put->key, put->value, settings, ret_error);
}

int kv_validate_get(const Kv__Request *request,
                    const struct kv_machine_settings *settings,
                    struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->get->key, ret_error);
}

int kv_validate_append(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    return check_key_value(request->append->key, request->append->value, settings, ret_error);
}

int kv_validate_getset(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    return check_key_value(request->getset->key, request->getset->value, settings, ret_error);
}

int kv_validate_getdel(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->getdel->key, ret_error);
}

int kv_validate_strlen(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->strlen->key, ret_error);
}

int kv_validate_get_range(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->get_range->key, ret_error);
}

int kv_validate_set_range(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    return check_key_value(request->set_range->key, request->set_range->value, settings, ret_error);
}

/* The key's live record, when it is absent or a string. KV_WRONG_TYPE otherwise. */
static int get_string(struct kv_machine *machine,
                      struct kv_slice key,
                      int64_t revision,
                      const struct kv_record **ret_record,
                      struct kv_answer *answer)
{
    const struct kv_record *record = kv_keyspace_get_at(machine, key, revision);

    if (record && record->type != KV_TYPE_STRING) {
        return kv_wrong_type(answer, record, KV_TYPE_STRING);
    }
    *ret_record = record;
    return 0;
}

static int not_found(struct kv_answer *answer)
{
    return kv_error_set(&answer->error, KV_NOT_FOUND, "the key does not exist");
}

static int
check_value_size(const struct kv_machine *machine, uint64_t size, struct kv_answer *answer)
{
    if (size <= machine->settings.value_bytes) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "value-limit";
    answer->hint.limit_value = machine->settings.value_bytes;
    return kv_error_set(&answer->error,
                        KV_TOO_LARGE,
                        "the value would have %" PRIu64 " bytes, the limit is %" PRIu64
                        " (setting value-limit)",
                        size,
                        machine->settings.value_bytes);
}

static void put_string(struct kv_machine *machine,
                       struct kv_slice key,
                       struct kv_slice value,
                       const struct kv_life *life)
{
    struct kv_record *record =
        kv_keyspace_begin_living(machine, key, KV_TYPE_STRING, value.size, life);

    if (value.size > 0) {
        memcpy(record->bytes + key.size, value.data, value.size);
    }
    kv_keyspace_commit(machine, record);
}

/* What the put gives the key, whose present record is NULL when it is absent. */
static int life_of_put(struct kv_machine *machine,
                       const Kv__Put *put,
                       const struct kv_record *record,
                       struct kv_answer *answer,
                       struct kv_life *ret_life)
{
    struct kv_lease *lease;

    *ret_life = (struct kv_life){0};
    switch (put->expiry_case) {
    case KV__PUT__EXPIRY_TTL_MS:
        ret_life->expires_at_ms = kv_ttl_end_ms(machine, put->ttl_ms);
        return kv_check_ttl(machine, put->ttl_ms, answer);
    case KV__PUT__EXPIRY_LEASE_ID:
        ret_life->lease_id = put->lease_id;
        return kv_lease_find_live(machine, put->lease_id, &lease, &answer->error);
    case KV__PUT__EXPIRY_KEEP:
        if (put->keep) {
            *ret_life = kv_record_life(record);
            ret_life->fields_due_ms = 0;
        }
        return 0;
    default:
        return 0;
    }
}

static int
check_condition(const Kv__Put *put, const struct kv_record *record, struct kv_answer *answer)
{
    int64_t mod_revision = record ? record->mod_revision : 0;

    switch (put->condition_case) {
    case KV__PUT__CONDITION_IF_ABSENT:
        return put->if_absent && record ? kv_error_set(&answer->error, KV_EXISTS, "the key exists")
                                        : 0;
    case KV__PUT__CONDITION_IF_PRESENT:
        return put->if_present && !record ? not_found(answer) : 0;
    case KV__PUT__CONDITION_IF_MOD_REVISION:
        return mod_revision == put->if_mod_revision
                   ? 0
                   : kv_error_set(&answer->error,
                                  KV_CONDITION_FAILED,
                                  "the key's mod_revision is %" PRId64 ", not %" PRId64,
                                  mod_revision,
                                  put->if_mod_revision);
    case KV__PUT__CONDITION_IF_VALUE:
        if (record && record->type == KV_TYPE_STRING &&
            kv_slice_equal(kv_record_value(record), kv_slice_of_proto(put->if_value))) {
            return 0;
        }
        return kv_error_set(&answer->error,
                            KV_CONDITION_FAILED,
                            record ? "the key holds another value" : "the key does not exist");
    default:
        return 0;
    }
}

int kv_run_put(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Put *put = request->put;
    struct kv_slice key = kv_slice_of_proto(put->key);
    struct kv_record *record = kv_keyspace_get(machine, key);
    struct kv_life life;
    int status = check_value_size(machine, put->value.len, answer);

    if (status == 0) {
        status = life_of_put(machine, put, record, answer, &life);
    }
    if (status != 0) {
        return status;
    }
    kv__put_result__init(&answer->result.put);
    answer->reply.result_case = KV__REPLY__RESULT_PUT;
    answer->reply.put = &answer->result.put;
    if (put->return_previous && record) {
        kv_key_value_fill(&answer->kv, record, false);
        answer->result.put.previous = &answer->kv;
    }
    status = check_condition(put, record, answer);
    if (status != 0) {
        return status;
    }
    put_string(machine, key, kv_slice_of_proto(put->value), &life);
    answer->result.put.version = record ? (int64_t)record->version + 1 : 1;
    return 0;
}

static void answer_get(struct kv_answer *answer, const struct kv_record *record)
{
    kv__get_result__init(&answer->result.get);
    if (record) {
        kv_key_value_fill(&answer->kv, record, false);
        answer->result.get.kv = &answer->kv;
    }
}

int kv_run_get(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Get *get = request->get;
    const struct kv_record *record = NULL;
    int status = kv_keyspace_check_revision(machine, get->at_revision, answer);

    if (status == 0) {
        status =
            get_string(machine, kv_slice_of_proto(get->key), get->at_revision, &record, answer);
    }
    if (status != 0 || !record) {
        return status ? status : not_found(answer);
    }
    answer_get(answer, record);
    answer->reply.result_case = KV__REPLY__RESULT_GET;
    answer->reply.get = &answer->result.get;
    return 0;
}

static void answer_append(struct kv_answer *answer, Kv__Reply__ResultCase result, uint64_t length)
{
    kv__append_result__init(&answer->result.append);
    answer->result.append.length = length;
    answer->reply.result_case = result;
    answer->reply.append = &answer->result.append;
}

int kv_run_append(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Append *append = request->append;
    struct kv_slice key = kv_slice_of_proto(append->key);
    const struct kv_record *record = NULL;
    int status = get_string(machine, key, 0, &record, answer);
    size_t old_size = record ? record->value_size : 0;
    size_t size = old_size + append->value.len;

    if (status == 0) {
        status = check_value_size(machine, size, answer);
    }
    if (status != 0) {
        return status;
    }
    if (append->value.len > 0 || !record) {
        const struct kv_life life = kv_record_life(record);
        struct kv_record *next =
            kv_keyspace_begin_living(machine, key, KV_TYPE_STRING, size, &life);

        if (old_size > 0) {
            memcpy(next->bytes + key.size, kv_record_value(record).data, old_size);
        }
        if (append->value.len > 0) {
            memcpy(next->bytes + key.size + old_size, append->value.data, append->value.len);
        }
        kv_keyspace_commit(machine, next);
    }
    answer_append(answer, KV__REPLY__RESULT_APPEND, size);
    return 0;
}

int kv_run_getset(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__GetSet *getset = request->getset;
    struct kv_slice key = kv_slice_of_proto(getset->key);
    const struct kv_record *record = NULL;
    int status = get_string(machine, key, 0, &record, answer);

    if (status == 0) {
        status = check_value_size(machine, getset->value.len, answer);
    }
    if (status != 0) {
        return status;
    }
    /* The replaced record stays in the history at least until the reply is built. */
    answer_get(answer, record);
    answer->reply.result_case = KV__REPLY__RESULT_GETSET;
    answer->reply.getset = &answer->result.get;
    put_string(machine, key, kv_slice_of_proto(getset->value), &(struct kv_life){0});
    return 0;
}

int kv_run_getdel(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    struct kv_slice key = kv_slice_of_proto(request->getdel->key);
    const struct kv_record *record = NULL;
    int status = get_string(machine, key, 0, &record, answer);

    if (status != 0 || !record) {
        return status ? status : not_found(answer);
    }
    answer_get(answer, record);
    answer->reply.result_case = KV__REPLY__RESULT_GETDEL;
    answer->reply.getdel = &answer->result.get;
    kv_keyspace_delete(machine, key);
    return 0;
}

int kv_run_strlen(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__StrLen *command = request->strlen;
    const struct kv_record *record = NULL;
    int status = kv_keyspace_check_revision(machine, command->at_revision, answer);

    if (status == 0) {
        status = get_string(
            machine, kv_slice_of_proto(command->key), command->at_revision, &record, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__str_len_result__init(&answer->result.strlen);
    answer->result.strlen.length = record ? record->value_size : 0;
    answer->reply.result_case = KV__REPLY__RESULT_STRLEN;
    answer->reply.strlen = &answer->result.strlen;
    return 0;
}

int kv_run_get_range(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__GetRange *command = request->get_range;
    const struct kv_record *record = NULL;
    int status = kv_keyspace_check_revision(machine, command->at_revision, answer);
    uint64_t from, to;

    if (status == 0) {
        status = get_string(
            machine, kv_slice_of_proto(command->key), command->at_revision, &record, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__get_range_result__init(&answer->result.get_range);
    kv_clamp_range(record ? record->value_size : 0, command->first, command->last, &from, &to);
    if (record && to > from) {
        answer->result.get_range.value = (ProtobufCBinaryData){
            (size_t)(to - from), (uint8_t *)(uintptr_t)kv_record_value(record).data + from};
    }
    answer->reply.result_case = KV__REPLY__RESULT_GET_RANGE;
    answer->reply.get_range = &answer->result.get_range;
    return 0;
}

int kv_run_set_range(struct kv_machine *machine,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const Kv__SetRange *command = request->set_range;
    struct kv_slice key = kv_slice_of_proto(command->key);
    const struct kv_record *record = NULL;
    int status = get_string(machine, key, 0, &record, answer);
    uint64_t old_size = record ? record->value_size : 0;
    uint64_t end = command->offset + command->value.len;
    uint64_t size = end > old_size ? end : old_size;

    if (status != 0) {
        return status;
    }
    if (command->value.len == 0) {
        answer_append(answer, KV__REPLY__RESULT_SET_RANGE, old_size);
        return 0;
    }
    if (end < command->offset) {
        size = end = UINT64_MAX;
    }
    status = check_value_size(machine, size, answer);
    if (status == 0) {
        const struct kv_life life = kv_record_life(record);
        struct kv_record *next =
            kv_keyspace_begin_living(machine, key, KV_TYPE_STRING, (size_t)size, &life);
        uint8_t *value = next->bytes + key.size;

        memset(value, 0, (size_t)size);
        if (old_size > 0) {
            memcpy(value, kv_record_value(record).data, (size_t)old_size);
        }
        memcpy(value + command->offset, command->value.data, command->value.len);
        kv_keyspace_commit(machine, next);
        answer_append(answer, KV__REPLY__RESULT_SET_RANGE, size);
    }
    return status;
}
