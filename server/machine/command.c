/* The commands that exist: class, checks without the state, handler. */
#include "server/machine/machine_internal.h"

#include <inttypes.h>

static int check_key(ProtobufCBinaryData key, struct kv_error *ret_error)
{
    if (key.len == 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "the key is empty: 1 to %u bytes", KV_KEY_BYTES_MAX);
    }
    if (key.len > KV_KEY_BYTES_MAX) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the key has %zu bytes, the limit is %u",
                            key.len,
                            KV_KEY_BYTES_MAX);
    }
    return 0;
}

static int check_value(ProtobufCBinaryData value,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    if (value.len > settings->value_bytes) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "the value has %zu bytes, the limit is %" PRIu64
                            " (setting value-limit)",
                            value.len,
                            settings->value_bytes);
    }
    return 0;
}

static int check_key_value(ProtobufCBinaryData key,
                           ProtobufCBinaryData value,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    int status = check_key(key, ret_error);

    return status ? status : check_value(value, settings, ret_error);
}

static int check_bound(ProtobufCBinaryData bound, const char *what, struct kv_error *ret_error)
{
    /* One more than a key: the least successor of the largest. */
    if (bound.len > KV_KEY_BYTES_MAX + 1) {
        return kv_error_set(ret_error,
                            KV_TOO_LARGE,
                            "%s of the range has %zu bytes, the limit is %u",
                            what,
                            bound.len,
                            KV_KEY_BYTES_MAX);
    }
    return 0;
}

static int check_range(const Kv__KeyRange *range, struct kv_error *ret_error)
{
    int status;

    if (!range) {
        return kv_error_set(ret_error, KV_INVALID, "the range is missing");
    }
    status = check_bound(range->start, "the start", ret_error);
    if (status == 0) {
        status = check_bound(range->end, "the end", ret_error);
    }
    if (status != 0) {
        return status;
    }
    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__NONE:
        if (range->start.len == 0) {
            return kv_error_set(ret_error,
                                KV_INVALID,
                                "the range has no start: use prefix \"\" or ALL for every key");
        }
        if (range->end.len > 0 &&
            kv_slice_compare(kv_slice_of_proto(range->start), kv_slice_of_proto(range->end)) > 0) {
            return kv_error_set(ret_error, KV_INVALID, "the range ends before it starts");
        }
        return 0;
    case KV__KEY_RANGE__SPECIAL__PREFIX:
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        return range->end.len == 0
                   ? 0
                   : kv_error_set(ret_error, KV_INVALID, "a prefix or from-key range has no end");
    case KV__KEY_RANGE__SPECIAL__ALL:
        return range->start.len == 0 && range->end.len == 0
                   ? 0
                   : kv_error_set(
                         ret_error, KV_INVALID, "a range over ALL has neither start nor end");
    default:
        return kv_error_set(ret_error, KV_INVALID, "unknown special range %d", (int)range->special);
    }
}

static int validate_put(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    const Kv__Put *put = request->put;

    if (put->expiry_case == KV__PUT__EXPIRY_TTL_MS ||
        put->expiry_case == KV__PUT__EXPIRY_LEASE_ID) {
        return kv_error_set(
            ret_error, KV_UNSUPPORTED, "put with a ttl or lease is not supported yet");
    }
    if (put->condition_case == KV__PUT__CONDITION_IF_MOD_REVISION && put->if_mod_revision < 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "if_mod_revision %" PRId64 " is negative", put->if_mod_revision);
    }
    return check_key_value(put->key, put->value, settings, ret_error);
}

static int validate_get(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    (void)settings;
    return check_key(request->get->key, ret_error);
}

static int validate_append(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    return check_key_value(request->append->key, request->append->value, settings, ret_error);
}

static int validate_getset(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    return check_key_value(request->getset->key, request->getset->value, settings, ret_error);
}

static int validate_getdel(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return check_key(request->getdel->key, ret_error);
}

static int validate_strlen(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    (void)settings;
    return check_key(request->strlen->key, ret_error);
}

static int validate_get_range(const Kv__Request *request,
                              const struct kv_machine_settings *settings,
                              struct kv_error *ret_error)
{
    (void)settings;
    return check_key(request->get_range->key, ret_error);
}

static int validate_set_range(const Kv__Request *request,
                              const struct kv_machine_settings *settings,
                              struct kv_error *ret_error)
{
    return check_key_value(request->set_range->key, request->set_range->value, settings, ret_error);
}

static int validate_delete(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    const Kv__Delete *command = request->delete_;
    int status = 0;

    (void)settings;
    if (command->n_keys == 0 && command->n_ranges == 0) {
        return kv_error_set(ret_error, KV_INVALID, "delete names neither keys nor ranges");
    }
    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        status = check_key(command->keys[i], ret_error);
    }
    for (size_t i = 0; i < command->n_ranges && status == 0; i++) {
        status = check_range(command->ranges[i], ret_error);
    }
    return status;
}

static int validate_exists(const Kv__Request *request,
                           const struct kv_machine_settings *settings,
                           struct kv_error *ret_error)
{
    int status = 0;

    (void)settings;
    if (request->exists->n_keys == 0) {
        return kv_error_set(ret_error, KV_INVALID, "exists names no keys");
    }
    for (size_t i = 0; i < request->exists->n_keys && status == 0; i++) {
        status = check_key(request->exists->keys[i], ret_error);
    }
    return status;
}

static int validate_count(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    (void)settings;
    return check_range(request->count->range, ret_error);
}

static int check_filter(int64_t min, int64_t max, const char *what, struct kv_error *ret_error)
{
    if (min < 0 || max < 0 || (max != 0 && min > max)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "%s revisions from %" PRId64 " to %" PRId64 " are no range",
                            what,
                            min,
                            max);
    }
    return 0;
}

static int validate_range(const Kv__Request *request,
                          const struct kv_machine_settings *settings,
                          struct kv_error *ret_error)
{
    const Kv__Range *range = request->range;
    int status = check_range(range->range, ret_error);

    (void)settings;
    if (status == 0) {
        status = check_filter(range->min_mod_revision, range->max_mod_revision, "mod", ret_error);
    }
    if (status == 0) {
        status = check_filter(
            range->min_create_revision, range->max_create_revision, "create", ret_error);
    }
    if (status == 0) {
        status = check_bound(range->cursor, "the cursor", ret_error);
    }
    if (status == 0 && range->cursor.len > 0 && range->count_only) {
        return kv_error_set(ret_error, KV_INVALID, "count_only takes no cursor");
    }
    if (status == 0 && range->stream && range->count_only) {
        return kv_error_set(ret_error, KV_INVALID, "count_only is not streamed");
    }
    return status;
}

static int validate_config_get(const Kv__Request *request,
                               const struct kv_machine_settings *settings,
                               struct kv_error *ret_error)
{
    (void)settings;
    return kv_settings_check_name(request->config_get->name, ret_error);
}

static int validate_config_set(const Kv__Request *request,
                               const struct kv_machine_settings *settings,
                               struct kv_error *ret_error)
{
    (void)settings;
    return kv_settings_check(request->config_set->name, request->config_set->value, ret_error);
}

static const struct {
    Kv__Request__CommandCase command;
    struct kv_command row;
} commands[] = {
    {KV__REQUEST__COMMAND_PUT, {KV_COMMAND_WRITE, validate_put, kv_run_put}},
    {KV__REQUEST__COMMAND_GET, {KV_COMMAND_READ, validate_get, kv_run_get}},
    {KV__REQUEST__COMMAND_APPEND, {KV_COMMAND_WRITE, validate_append, kv_run_append}},
    {KV__REQUEST__COMMAND_GETSET, {KV_COMMAND_WRITE, validate_getset, kv_run_getset}},
    {KV__REQUEST__COMMAND_GETDEL, {KV_COMMAND_WRITE, validate_getdel, kv_run_getdel}},
    {KV__REQUEST__COMMAND_STRLEN, {KV_COMMAND_READ, validate_strlen, kv_run_strlen}},
    {KV__REQUEST__COMMAND_GET_RANGE, {KV_COMMAND_READ, validate_get_range, kv_run_get_range}},
    {KV__REQUEST__COMMAND_SET_RANGE, {KV_COMMAND_WRITE, validate_set_range, kv_run_set_range}},
    {KV__REQUEST__COMMAND_DELETE, {KV_COMMAND_WRITE, validate_delete, kv_run_delete}},
    {KV__REQUEST__COMMAND_EXISTS, {KV_COMMAND_READ, validate_exists, kv_run_exists}},
    {KV__REQUEST__COMMAND_COUNT, {KV_COMMAND_READ, validate_count, kv_run_count}},
    {KV__REQUEST__COMMAND_RANGE, {KV_COMMAND_READ, validate_range, kv_run_range}},
    {KV__REQUEST__COMMAND_CONFIG_LIST, {KV_COMMAND_READ, NULL, kv_run_config_list}},
    {KV__REQUEST__COMMAND_CONFIG_GET, {KV_COMMAND_READ, validate_config_get, kv_run_config_get}},
    {KV__REQUEST__COMMAND_CONFIG_SET, {KV_COMMAND_WRITE, validate_config_set, kv_run_config_set}},
    {KV__REQUEST__COMMAND_SESSION_OPEN, {KV_COMMAND_WRITE, NULL, kv_run_session_open}},
    {KV__REQUEST__COMMAND_SESSION_RENEW, {KV_COMMAND_WRITE, NULL, kv_run_session_renew}},
    {KV__REQUEST__COMMAND_SESSION_CLOSE, {KV_COMMAND_WRITE, NULL, kv_run_session_close}},
    {KV__REQUEST__COMMAND_STATUS, {KV_COMMAND_NODE, NULL, NULL}},
    {KV__REQUEST__COMMAND_MEMBER_LIST, {KV_COMMAND_NODE, NULL, NULL}},
    {KV__REQUEST__COMMAND_LEADER_TRANSFER, {KV_COMMAND_NODE, NULL, NULL}},
    {KV__REQUEST__COMMAND_SNAPSHOT_NOW, {KV_COMMAND_NODE, NULL, NULL}},
};

const struct kv_command *kv_command_find(const Kv__Request *request)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].command == request->command_case) {
            return &commands[i].row;
        }
    }
    return NULL;
}

enum kv_command_class kv_command_classify(const Kv__Request *request)
{
    const struct kv_command *command = kv_command_find(request);

    if (request->command_case == KV__REQUEST__COMMAND__NOT_SET) {
        return KV_COMMAND_NONE;
    }
    if (!command) {
        return KV_COMMAND_UNSUPPORTED;
    }
    if (request->command_case == KV__REQUEST__COMMAND_RANGE && request->range->stream) {
        return KV_COMMAND_STREAM;
    }
    return command->cls;
}

bool kv_command_grows(const Kv__Request *request)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_PUT:
    case KV__REQUEST__COMMAND_APPEND:
    case KV__REQUEST__COMMAND_GETSET:
    case KV__REQUEST__COMMAND_SET_RANGE:
        return true;
    default:
        return false;
    }
}

int kv_command_validate(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    const struct kv_command *command = kv_command_find(request);

    if (request->command_case == KV__REQUEST__COMMAND__NOT_SET) {
        return kv_error_set(ret_error, KV_INVALID, "the request names no command");
    }
    if (!command) {
        return kv_error_set(
            ret_error, KV_UNSUPPORTED, "this server does not support the command yet");
    }
    if (request->session) {
        int status = kv_stamp_validate(request, kv_command_classify(request), ret_error);

        if (status != 0) {
            return status;
        }
    }
    return command->validate ? command->validate(request, settings, ret_error) : 0;
}
