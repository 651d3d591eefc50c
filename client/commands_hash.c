/* The typed calls on hashes. */
#include "client/typed.h"

#include <kv/hash.h>
#include <stdlib.h>

static const struct kv_call_options *call_of(const struct kv_get_options *options)
{
    return options ? &options->call : NULL;
}

static int64_t at_of(const struct kv_get_options *options)
{
    return options ? options->at_revision : 0;
}

void kv_fields_free(struct kv_fields *fields)
{
    if (fields) {
        kv_reply_free(fields->memory);
        free(fields->fields);
        *fields = (struct kv_fields){0};
    }
}

/* The messages and the array of pointers to them, one block; the caller frees it. */
static Kv__HashField **fields_to_proto(const struct kv_field *fields, size_t n_fields)
{
    Kv__HashField **list = calloc(1, n_fields * (sizeof **list + sizeof *list) + 1);
    Kv__HashField *messages = (Kv__HashField *)(list + n_fields);

    for (size_t i = 0; list && i < n_fields; i++) {
        kv__hash_field__init(&messages[i]);
        messages[i].name = kv_bytes_to_proto(fields[i].name);
        messages[i].value = kv_bytes_to_proto(fields[i].value);
        messages[i].ttl_ms = fields[i].ttl_ms;
        list[i] = &messages[i];
    }
    return list;
}

int kv_hash_set(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_field *fields,
                size_t n_fields,
                bool if_absent,
                const struct kv_call_options *options,
                uint64_t *ret_added,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__HashSet command = KV__HASH_SET__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_fields = n_fields;
    command.fields = fields_to_proto(fields, n_fields);
    command.if_absent = if_absent;
    if (!command.fields) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_HASH_SET, &command, ret_added);
    free(command.fields);
    return status;
}

/* The names are those asked for, the values the reply's, which the result takes. */
static int take_values(const struct kv_typed *typed,
                       const struct kv_bytes *names,
                       size_t n_names,
                       Kv__Reply *reply,
                       struct kv_fields *ret_fields)
{
    const Kv__HashGetResult *result = reply->hash_get;
    struct kv_field *fields;

    if (result->n_present != n_names || result->n_values != n_names) {
        kv_reply_free(reply);
        return kv_missing_result(typed->error);
    }
    fields = calloc(n_names + 1, sizeof *fields);
    if (!fields) {
        kv_reply_free(reply);
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < n_names; i++) {
        fields[i] = (struct kv_field){
            .name = names[i],
            .value = kv_bytes_of(result->values[i].data, result->values[i].len),
            .present = result->present[i],
        };
    }
    *ret_fields = (struct kv_fields){
        .n_fields = n_names,
        .fields = fields,
        .revision = reply->revision,
        .memory = reply,
    };
    return 0;
}

int kv_hash_get(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_bytes *names,
                size_t n_names,
                const struct kv_get_options *options,
                struct kv_fields *ret_fields,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__HashGet command = KV__HASH_GET__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_fields = n_names;
    command.fields = kv_typed_list(names, n_names);
    command.at_revision = at_of(options);
    if (!command.fields) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_HASH_GET, &command, &reply);
    free(command.fields);
    return status < 0 ? status : take_values(&typed, names, n_names, reply, ret_fields);
}

/* Of kv_hash_get_all and kv_hash_scan. */
static int call_for_fields(const struct kv_typed *typed,
                           Kv__Request__CommandCase number,
                           void *message,
                           struct kv_fields *ret_fields)
{
    const Kv__HashFieldsResult *result;
    struct kv_field *fields;
    Kv__Reply *reply;
    int status = kv_typed_call(typed, number, message, &reply);

    if (status < 0) {
        return status;
    }
    result = reply->hash_scan;
    fields = calloc(result->n_fields + 1, sizeof *fields);
    if (!fields) {
        kv_reply_free(reply);
        return kv_typed_no_memory(typed);
    }
    for (size_t i = 0; i < result->n_fields; i++) {
        const Kv__HashField *field = result->fields[i];

        fields[i] = (struct kv_field){
            .name = kv_bytes_of(field->name.data, field->name.len),
            .value = kv_bytes_of(field->value.data, field->value.len),
            .ttl_ms = field->ttl_ms,
            .present = true,
        };
    }
    *ret_fields = (struct kv_fields){
        .n_fields = result->n_fields,
        .fields = fields,
        .more = result->more,
        .cursor = kv_bytes_of(result->cursor.data, result->cursor.len),
        .revision = reply->revision,
        .memory = reply,
    };
    return 0;
}

int kv_hash_get_all(struct kv_client *client,
                    struct kv_bytes key,
                    const struct kv_get_options *options,
                    struct kv_fields *ret_fields,
                    struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__HashGetAll command = KV__HASH_GET_ALL__INIT;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = at_of(options);
    return call_for_fields(&typed, KV__REQUEST__COMMAND_HASH_GET_ALL, &command, ret_fields);
}

int kv_hash_scan(struct kv_client *client,
                 struct kv_bytes key,
                 const struct kv_scan_options *options,
                 struct kv_fields *ret_fields,
                 struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__HashScan command = KV__HASH_SCAN__INIT;

    command.key = kv_bytes_to_proto(key);
    if (options) {
        command.cursor = kv_bytes_to_proto(options->cursor);
        command.limit = options->limit;
        command.at_revision = options->at_revision;
    }
    return call_for_fields(&typed, KV__REQUEST__COMMAND_HASH_SCAN, &command, ret_fields);
}

int kv_hash_delete(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *names,
                   size_t n_names,
                   const struct kv_call_options *options,
                   uint64_t *ret_deleted,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__HashDelete command = KV__HASH_DELETE__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_fields = n_names;
    command.fields = kv_typed_list(names, n_names);
    if (!command.fields) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_count(&typed, KV__REQUEST__COMMAND_HASH_DELETE, &command, ret_deleted);
    free(command.fields);
    return status;
}

int kv_hash_exists(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_bytes *names,
                   size_t n_names,
                   const struct kv_get_options *options,
                   bool *ret_present,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    struct kv_typed_present present = {n_names, ret_present};
    Kv__HashExists command = KV__HASH_EXISTS__INIT;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.n_fields = n_names;
    command.fields = kv_typed_list(names, n_names);
    command.at_revision = at_of(options);
    if (!command.fields) {
        return kv_typed_no_memory(&typed);
    }
    status = kv_typed_present(&typed, KV__REQUEST__COMMAND_HASH_EXISTS, &command, &present);
    free(command.fields);
    return status;
}

int kv_hash_len(struct kv_client *client,
                struct kv_bytes key,
                const struct kv_get_options *options,
                uint64_t *ret_count,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, call_of(options), ret_error};
    Kv__HashLen command = KV__HASH_LEN__INIT;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = at_of(options);
    return kv_typed_count(&typed, KV__REQUEST__COMMAND_HASH_LEN, &command, ret_count);
}

int kv_hash_add(struct kv_client *client,
                struct kv_bytes key,
                struct kv_bytes name,
                int64_t delta,
                const struct kv_call_options *options,
                int64_t *ret_value,
                struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__HashAdd command = KV__HASH_ADD__INIT;

    command.key = kv_bytes_to_proto(key);
    command.field = kv_bytes_to_proto(name);
    command.delta = delta;
    return kv_typed_counter(&typed, KV__REQUEST__COMMAND_HASH_ADD, &command, ret_value);
}
