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
    {KV__REQUEST__COMMAND_LIST_PUSH,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_list_push,
     kv_run_list_push},
    {KV__REQUEST__COMMAND_LIST_POP,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_list_pop,
     kv_run_list_pop},
    {KV__REQUEST__COMMAND_LIST_RANGE,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_list_range,
     kv_run_list_range},
    {KV__REQUEST__COMMAND_LIST_INDEX,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_list_index,
     kv_run_list_index},
    {KV__REQUEST__COMMAND_LIST_SET,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_list_set,
     kv_run_list_set},
    {KV__REQUEST__COMMAND_LIST_LEN,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_list_len,
     kv_run_list_len},
    {KV__REQUEST__COMMAND_LIST_INSERT,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_list_insert,
     kv_run_list_insert},
    {KV__REQUEST__COMMAND_LIST_REMOVE,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_list_remove,
     kv_run_list_remove},
    {KV__REQUEST__COMMAND_LIST_TRIM,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_list_trim,
     kv_run_list_trim},
    {KV__REQUEST__COMMAND_LIST_MOVE,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_list_move,
     kv_run_list_move},
    {KV__REQUEST__COMMAND_SET_ADD,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_set_add,
     kv_run_set_add},
    {KV__REQUEST__COMMAND_SET_REMOVE,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_set_remove,
     kv_run_set_remove},
    {KV__REQUEST__COMMAND_SET_HAS,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_set_has,
     kv_run_set_has},
    {KV__REQUEST__COMMAND_SET_MEMBERS,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_set_members,
     kv_run_set_members},
    {KV__REQUEST__COMMAND_SET_LEN,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_set_len,
     kv_run_set_len},
    {KV__REQUEST__COMMAND_SET_POP,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_set_pop,
     kv_run_set_pop},
    {KV__REQUEST__COMMAND_SET_RANDOM,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_set_random,
     kv_run_set_random},
    {KV__REQUEST__COMMAND_SET_COMBINE,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_set_combine,
     kv_run_set_combine},
    {KV__REQUEST__COMMAND_ZSET_ADD,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_zset_add,
     kv_run_zset_add},
    {KV__REQUEST__COMMAND_ZSET_REMOVE,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_zset_remove,
     kv_run_zset_remove},
    {KV__REQUEST__COMMAND_ZSET_SCORE,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_zset_score,
     kv_run_zset_score},
    {KV__REQUEST__COMMAND_ZSET_RANK,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_zset_rank,
     kv_run_zset_rank},
    {KV__REQUEST__COMMAND_ZSET_RANGE,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_zset_range,
     kv_run_zset_range},
    {KV__REQUEST__COMMAND_ZSET_COUNT,
     KV_COMMAND_READ,
     false,
     true,
     kv_validate_zset_count,
     kv_run_zset_count},
    {KV__REQUEST__COMMAND_ZSET_POP,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_zset_pop,
     kv_run_zset_pop},
    {KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE,
     KV_COMMAND_WRITE,
     false,
     true,
     kv_validate_zset_remove_range,
     kv_run_zset_remove_range},
    {KV__REQUEST__COMMAND_ZSET_COMBINE,
     KV_COMMAND_WRITE,
     true,
     true,
     kv_validate_zset_combine,
     kv_run_zset_combine},
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
    {KV__REQUEST__COMMAND_SESSION_OPEN, KV_COMMAND_WRITE, false, false, NULL, kv_run_session_open},
    {KV__REQUEST__COMMAND_SESSION_RENEW,
     KV_COMMAND_WRITE,
     false,
     false,
     NULL,
     kv_run_session_renew},
    {KV__REQUEST__COMMAND_SESSION_CLOSE,
     KV_COMMAND_WRITE,
     false,
     false,
     NULL,
     kv_run_session_close},
    {KV__REQUEST__COMMAND_SESSION_CANCEL,
     KV_COMMAND_WRITE,
     false,
     false,
     NULL,
     kv_run_session_cancel},
    {KV__REQUEST__COMMAND_WATCH, KV_COMMAND_SUBSCRIBE, false, false, kv_validate_watch, NULL},
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
    if (request->command_case == KV__REQUEST__COMMAND_SET_COMBINE) {
        return request->set_combine->store.len > 0 ? KV_COMMAND_WRITE : KV_COMMAND_READ;
    }
    if (request->command_case == KV__REQUEST__COMMAND_ZSET_COMBINE) {
        return request->zset_combine->store.len > 0 ? KV_COMMAND_WRITE : KV_COMMAND_READ;
    }
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
        int status = kv_stamp_validate(request, kv_command_classify(request), ret_error);

        if (status != 0) {
            return status;
        }
    }
    if (request->command_case == KV__REQUEST__COMMAND_LIST_POP && request->list_pop->block_ms > 0 &&
        !request->session) {
        return kv_error_set(ret_error, KV_INVALID, "a pop that waits needs a session");
    }
    return command->validate ? command->validate(request, settings, ret_error) : 0;
}
