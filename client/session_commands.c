/* Which commands change nothing. */
#include "client/session.h"

/* A transaction within one, and so on; the servers take four. */
enum { TXN_DEPTH_MAX = 8 };

static bool is_repeatable(const Kv__Request *request, unsigned depth);

static bool are_repeatable(Kv__Request *const *operations, size_t n, unsigned depth)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_repeatable(operations[i], depth + 1)) {
            return false;
        }
    }
    return true;
}

static bool is_repeatable(const Kv__Request *request, unsigned depth)
{
    switch (request->command_case) {
    case KV__REQUEST__COMMAND_GET:
    case KV__REQUEST__COMMAND_STRLEN:
    case KV__REQUEST__COMMAND_GET_RANGE:
    case KV__REQUEST__COMMAND_EXISTS:
    case KV__REQUEST__COMMAND_COUNT:
    case KV__REQUEST__COMMAND_RANGE:
    case KV__REQUEST__COMMAND_TYPE:
    case KV__REQUEST__COMMAND_TTL:
    case KV__REQUEST__COMMAND_KEY_HISTORY:
    case KV__REQUEST__COMMAND_CONFIG_LIST:
    case KV__REQUEST__COMMAND_CONFIG_GET:
    case KV__REQUEST__COMMAND_STATUS:
    case KV__REQUEST__COMMAND_MEMBER_LIST:
    case KV__REQUEST__COMMAND_LEADER_TRANSFER:
    case KV__REQUEST__COMMAND_COUNTER_GET:
    case KV__REQUEST__COMMAND_HASH_GET:
    case KV__REQUEST__COMMAND_HASH_GET_ALL:
    case KV__REQUEST__COMMAND_HASH_EXISTS:
    case KV__REQUEST__COMMAND_HASH_LEN:
    case KV__REQUEST__COMMAND_HASH_SCAN:
    case KV__REQUEST__COMMAND_LIST_RANGE:
    case KV__REQUEST__COMMAND_LIST_INDEX:
    case KV__REQUEST__COMMAND_LIST_LEN:
    case KV__REQUEST__COMMAND_SET_HAS:
    case KV__REQUEST__COMMAND_SET_MEMBERS:
    case KV__REQUEST__COMMAND_SET_LEN:
    case KV__REQUEST__COMMAND_SET_RANDOM:
    case KV__REQUEST__COMMAND_ZSET_SCORE:
    case KV__REQUEST__COMMAND_ZSET_RANK:
    case KV__REQUEST__COMMAND_ZSET_RANGE:
    case KV__REQUEST__COMMAND_ZSET_COUNT:
    case KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE:
    case KV__REQUEST__COMMAND_LEASE_INFO:
    case KV__REQUEST__COMMAND_LEASE_LIST:
    case KV__REQUEST__COMMAND_WATCH:
    case KV__REQUEST__COMMAND_SUBSCRIBE:
    case KV__REQUEST__COMMAND_TOPIC_LIST:
    case KV__REQUEST__COMMAND_BACKUP:
    case KV__REQUEST__COMMAND_SNAPSHOT_NOW:
        return true;
    case KV__REQUEST__COMMAND_SET_COMBINE:
        return request->set_combine->store.len == 0;
    case KV__REQUEST__COMMAND_ZSET_COMBINE:
        return request->zset_combine->store.len == 0;
    case KV__REQUEST__COMMAND_TXN:
        return depth < TXN_DEPTH_MAX &&
               are_repeatable(request->txn->then, request->txn->n_then, depth) &&
               are_repeatable(request->txn->otherwise, request->txn->n_otherwise, depth);
    default:
        return false;
    }
}

bool kv_session_is_repeatable(const Kv__Request *request)
{
    return is_repeatable(request, 0);
}
