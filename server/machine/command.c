/* The commands that exist. */
#include "server/machine/command.h"

static const struct kv_command commands[] = {
    {KV__REQUEST__COMMAND_PUT, KV_COMMAND_WRITE, true, true, kv_validate_put, kv_run_put},
    {KV__REQUEST__COMMAND_GET, KV_COMMAND_READ, false, true, kv_validate_get, kv_run_get},
    {KV__REQUEST__COMMAND_APPEND, KV_COMMAND_WRITE, true, true, kv_validate_append, kv_run_append},
    {KV__REQUEST__COMMAND_GETSET, KV_COMMAND_WRITE, true, true, kv_validate_getset, kv_run_getset},
    {KV__REQUEST__COMMAND_GETDEL, KV_COMMAND_WRITE, false, true, kv_validate_getdel, kv_run_getdel},
    {KV__REQUEST__COMMAND_STRLEN, KV_COMMAND_READ, false, true, kv_validate_strlen, kv_run_strlen},
    {KV__REQUEST__COMMAND_GET_RANGE,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_get_range,
     kv_run_get_range},
    {KV__REQUEST__COMMAND_SET_RANGE,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_set_range,
     kv_run_set_range},
    {KV__REQUEST__COMMAND_DELETE, KV_COMMAND_WRITE, false, true, kv_validate_delete, kv_run_delete},
    {KV__REQUEST__COMMAND_EXISTS, KV_COMMAND_READ, false, true, kv_validate_exists, kv_run_exists},
    {KV__REQUEST__COMMAND_COUNT, KV_COMMAND_READ, false, true, kv_validate_count, kv_run_count},
    {KV__REQUEST__COMMAND_RANGE, KV_COMMAND_READ, false, true, kv_validate_range, kv_run_range},
    {KV__REQUEST__COMMAND_TYPE, KV_COMMAND_READ, false, true, kv_validate_type, kv_run_type},
    {KV__REQUEST__COMMAND_RENAME, KV_COMMAND_WRITE, true, true, kv_validate_rename, kv_run_rename},
    {KV__REQUEST__COMMAND_COPY, KV_COMMAND_WRITE, true, true, kv_validate_copy, kv_run_copy},
    {KV__REQUEST__COMMAND_TOUCH, KV_COMMAND_WRITE, true, true, kv_validate_touch, kv_run_touch},
    {KV__REQUEST__COMMAND_COUNTER_ADD,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_counter_add,
     kv_run_counter_add},
    {KV__REQUEST__COMMAND_COUNTER_GET,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_counter_get,
     kv_run_counter_get},
    {KV__REQUEST__COMMAND_COUNTER_SET,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_counter_set,
     kv_run_counter_set},
    {KV__REQUEST__COMMAND_HASH_SET,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_hash_set,
     kv_run_hash_set},
    {KV__REQUEST__COMMAND_HASH_GET,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_hash_get,
     kv_run_hash_get},
    {KV__REQUEST__COMMAND_HASH_GET_ALL,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_hash_get_all,
     kv_run_hash_get_all},
    {KV__REQUEST__COMMAND_HASH_DELETE,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_hash_delete,
     kv_run_hash_delete},
    {KV__REQUEST__COMMAND_HASH_EXISTS,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_hash_exists,
     kv_run_hash_exists},
    {KV__REQUEST__COMMAND_HASH_LEN,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_hash_len,
     kv_run_hash_len},
    {KV__REQUEST__COMMAND_HASH_ADD,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_hash_add,
     kv_run_hash_add},
    {KV__REQUEST__COMMAND_HASH_SCAN,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_hash_scan,
     kv_run_hash_scan},
    {KV__REQUEST__COMMAND_LIMITER_ACQUIRE,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_limiter_acquire,
     kv_run_limiter_acquire},
    {KV__REQUEST__COMMAND_TXN, KV_COMMAND_WRITE, true, true, kv_validate_txn, kv_run_txn},
    {KV__REQUEST__COMMAND_COMPACT,
     KV_COMMAND_WRITE,
     false,
     false,
     kv_validate_compact,
     kv_run_compact},
    {KV__REQUEST__COMMAND_KEY_HISTORY,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_key_history,
     kv_run_key_history},
    {KV__REQUEST__COMMAND_CONFIG_LIST, KV_COMMAND_READ, false, false, NULL, kv_run_config_list},
    {KV__REQUEST__COMMAND_CONFIG_GET,
     KV_COMMAND_READ,
     false,
     false,
     kv_validate_config_get,
     kv_run_config_get},
    {KV__REQUEST__COMMAND_CONFIG_SET,
     KV_COMMAND_WRITE,
     false,
     false,
     kv_validate_config_set,
     kv_run_config_set},
    {KV__REQUEST__COMMAND_STATUS, KV_COMMAND_NODE, false, false, NULL, NULL},
    {KV__REQUEST__COMMAND_MEMBER_LIST, KV_COMMAND_NODE, false, false, NULL, NULL},
    {KV__REQUEST__COMMAND_LEADER_TRANSFER, KV_COMMAND_NODE, false, false, NULL, NULL},
    {KV__REQUEST__COMMAND_SNAPSHOT_NOW, KV_COMMAND_NODE, false, false, NULL, NULL},
};

const struct kv_command *kv_command_find(const Kv__Request *request)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].command == request->command_case) {
            return &commands[i];
        }
    }
    return NULL;
}

enum kv_command_class kv_command_class_of(const struct kv_command *command,
                                          const Kv__Request *request)
{
    if (command->command == KV__REQUEST__COMMAND_TXN && !kv_txn_writes(request->txn)) {
        return KV_COMMAND_READ;
    }
    return command->cls;
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
    return kv_command_class_of(command, request);
}

bool kv_command_grows(const Kv__Request *request)
{
    const struct kv_command *command = kv_command_find(request);

    if (request->command_case == KV__REQUEST__COMMAND_TXN) {
        return kv_txn_grows(request->txn);
    }
    return command && command->grows;
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
        return kv_error_set(ret_error, KV_UNSUPPORTED, "sessions are not supported yet");
    }
    return command->validate ? command->validate(request, settings, ret_error) : 0;
}
