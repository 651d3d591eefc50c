#include "tests/support/machine_calls.h"

#include "common/assert.h"

#include <stdio.h>
#include <string.h>

static void *allocate(struct kv_arena *arena, size_t size)
{
    void *memory = kv_arena_alloc(arena, size);

    KV_ASSERT(memory);
    return memory;
}

/* A request and its empty command. */
#define CALL(arena, NAME, field, Type, type)                 \
    Kv__Request *request = allocate(arena, sizeof *request); \
    Kv__##Type *command = allocate(arena, sizeof *command);  \
    kv__request__init(request);                              \
    kv__##type##__init(command);                             \
    request->command_case = KV__REQUEST__COMMAND_##NAME;     \
    request->field = command

static ProtobufCBinaryData text_bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

static Kv__KeyRange *new_prefix(struct kv_arena *arena, const char *prefix)
{
    Kv__KeyRange *range = allocate(arena, sizeof *range);

    kv__key_range__init(range);
    range->start = text_bytes(prefix);
    range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
    return range;
}

static ProtobufCBinaryData *new_key(struct kv_arena *arena, const char *key)
{
    ProtobufCBinaryData *keys = allocate(arena, sizeof *keys);

    *keys = text_bytes(key);
    return keys;
}

Kv__Request *call_put_bytes(struct kv_arena *arena, const char *key, const void *value, size_t size)
{
    CALL(arena, PUT, put, Put, put);
    command->key = text_bytes(key);
    command->value = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)value};
    return request;
}

Kv__Request *call_put(struct kv_arena *arena, const char *key, const char *value)
{
    return call_put_bytes(arena, key, value, strlen(value));
}

Kv__Request *call_append(struct kv_arena *arena, const char *key, const char *value)
{
    CALL(arena, APPEND, append, Append, append);
    command->key = text_bytes(key);
    command->value = text_bytes(value);
    return request;
}

Kv__Request *call_get(struct kv_arena *arena, const char *key, int64_t at_revision)
{
    CALL(arena, GET, get, Get, get);
    command->key = text_bytes(key);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_getset(struct kv_arena *arena, const char *key, const char *value)
{
    CALL(arena, GETSET, getset, GetSet, get_set);
    command->key = text_bytes(key);
    command->value = text_bytes(value);
    return request;
}

Kv__Request *call_getdel(struct kv_arena *arena, const char *key)
{
    CALL(arena, GETDEL, getdel, GetDel, get_del);
    command->key = text_bytes(key);
    return request;
}

Kv__Request *
call_set_range(struct kv_arena *arena, const char *key, uint64_t offset, const char *value)
{
    CALL(arena, SET_RANGE, set_range, SetRange, set_range);
    command->key = text_bytes(key);
    command->offset = offset;
    command->value = text_bytes(value);
    return request;
}

Kv__Request *call_delete(struct kv_arena *arena, const char *key, bool return_previous)
{
    CALL(arena, DELETE, delete_, Delete, delete);
    command->n_keys = 1;
    command->keys = new_key(arena, key);
    command->return_previous = return_previous;
    return request;
}

Kv__Request *call_delete_prefix(struct kv_arena *arena, const char *prefix)
{
    CALL(arena, DELETE, delete_, Delete, delete);
    command->n_ranges = 1;
    command->ranges = allocate(arena, sizeof(Kv__KeyRange *));
    command->ranges[0] = new_prefix(arena, prefix);
    return request;
}

Kv__Request *call_range(struct kv_arena *arena, const char *prefix, int64_t at_revision)
{
    CALL(arena, RANGE, range, Range, range);
    command->range = new_prefix(arena, prefix);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_count(struct kv_arena *arena, const char *prefix, int64_t at_revision)
{
    CALL(arena, COUNT, count, Count, count);
    command->range = new_prefix(arena, prefix);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_exists(struct kv_arena *arena, const char *key, int64_t at_revision)
{
    CALL(arena, EXISTS, exists, Exists, exists);
    command->n_keys = 1;
    command->keys = new_key(arena, key);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_type(struct kv_arena *arena, const char *key, int64_t at_revision)
{
    CALL(arena, TYPE, type, TypeOf, type_of);
    command->key = text_bytes(key);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_rename(struct kv_arena *arena, const char *key, const char *to, bool if_absent)
{
    CALL(arena, RENAME, rename, Rename, rename);
    command->key = text_bytes(key);
    command->to = text_bytes(to);
    command->if_absent = if_absent;
    return request;
}

Kv__Request *call_copy(struct kv_arena *arena, const char *key, const char *to, bool if_absent)
{
    CALL(arena, COPY, copy, Copy, copy);
    command->key = text_bytes(key);
    command->to = text_bytes(to);
    command->if_absent = if_absent;
    return request;
}

Kv__Request *call_touch(struct kv_arena *arena, const char *key)
{
    CALL(arena, TOUCH, touch, Touch, touch);
    command->n_keys = 1;
    command->keys = new_key(arena, key);
    return request;
}

Kv__Request *call_counter_add(struct kv_arena *arena, const char *key, int64_t delta)
{
    CALL(arena, COUNTER_ADD, counter_add, CounterAdd, counter_add);
    command->key = text_bytes(key);
    command->delta = delta;
    return request;
}

Kv__Request *call_counter_get(struct kv_arena *arena, const char *key, int64_t at_revision)
{
    CALL(arena, COUNTER_GET, counter_get, CounterGet, counter_get);
    command->key = text_bytes(key);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_counter_set(struct kv_arena *arena, const char *key, int64_t value)
{
    CALL(arena, COUNTER_SET, counter_set, CounterSet, counter_set);
    command->key = text_bytes(key);
    command->value = value;
    return request;
}

static ProtobufCBinaryData field_name(struct kv_arena *arena, unsigned field)
{
    char *text = allocate(arena, 16);

    (void)snprintf(text, 16, "f%03u", field);
    return text_bytes(text);
}

Kv__Request *call_hash_set(
    struct kv_arena *arena, const char *key, unsigned first, unsigned n, const char *value)
{
    CALL(arena, HASH_SET, hash_set, HashSet, hash_set);
    command->key = text_bytes(key);
    command->n_fields = n;
    command->fields = allocate(arena, (n + 1) * sizeof(Kv__HashField *));
    for (unsigned i = 0; i < n; i++) {
        command->fields[i] = allocate(arena, sizeof(Kv__HashField));
        kv__hash_field__init(command->fields[i]);
        command->fields[i]->name = field_name(arena, first + i);
        command->fields[i]->value = text_bytes(value);
    }
    return request;
}

Kv__Request *call_hash_delete(struct kv_arena *arena, const char *key, unsigned first, unsigned n)
{
    CALL(arena, HASH_DELETE, hash_delete, HashDelete, hash_delete);
    command->key = text_bytes(key);
    command->n_fields = n;
    command->fields = allocate(arena, (n + 1) * sizeof *command->fields);
    for (unsigned i = 0; i < n; i++) {
        command->fields[i] = field_name(arena, first + i);
    }
    return request;
}

Kv__Request *call_hash_get_all(struct kv_arena *arena, const char *key, int64_t at_revision)
{
    CALL(arena, HASH_GET_ALL, hash_get_all, HashGetAll, hash_get_all);
    command->key = text_bytes(key);
    command->at_revision = at_revision;
    return request;
}

Kv__Request *call_hash_add(struct kv_arena *arena, const char *key, unsigned field, int64_t delta)
{
    CALL(arena, HASH_ADD, hash_add, HashAdd, hash_add);
    command->key = text_bytes(key);
    command->field = field_name(arena, field);
    command->delta = delta;
    return request;
}

Kv__Request *call_hash_len(struct kv_arena *arena, const char *key)
{
    CALL(arena, HASH_LEN, hash_len, HashLen, hash_len);
    command->key = text_bytes(key);
    return request;
}

Kv__Request *call_acquire(struct kv_arena *arena, const char *key, const uint64_t numbers[4])
{
    CALL(arena, LIMITER_ACQUIRE, limiter_acquire, LimiterAcquire, limiter_acquire);
    command->key = text_bytes(key);
    command->rate = numbers[0];
    command->period_ms = numbers[1];
    command->burst = numbers[2];
    command->n = numbers[3];
    return request;
}

static ProtobufCBinaryData *new_names(struct kv_arena *arena, unsigned first, unsigned n)
{
    ProtobufCBinaryData *names = allocate(arena, (n + 1) * sizeof *names);

    for (unsigned i = 0; i < n; i++) {
        names[i] = field_name(arena, first + i);
    }
    return names;
}

Kv__Request *call_set_add(struct kv_arena *arena, const char *key, unsigned first, unsigned n)
{
    CALL(arena, SET_ADD, set_add, SetAdd, set_add);
    command->key = text_bytes(key);
    command->n_members = n;
    command->members = new_names(arena, first, n);
    return request;
}

Kv__Request *call_set_remove(struct kv_arena *arena, const char *key, unsigned first, unsigned n)
{
    CALL(arena, SET_REMOVE, set_remove, SetRemove, set_remove);
    command->key = text_bytes(key);
    command->n_members = n;
    command->members = new_names(arena, first, n);
    return request;
}

Kv__Request *call_set_members(struct kv_arena *arena, const char *key)
{
    CALL(arena, SET_MEMBERS, set_members, SetMembers, set_members);
    command->key = text_bytes(key);
    return request;
}

Kv__Request *call_zset_add(struct kv_arena *arena, const char *key, unsigned first, unsigned n)
{
    CALL(arena, ZSET_ADD, zset_add, ZSetAdd, zset_add);
    command->key = text_bytes(key);
    command->n_members = n;
    command->members = allocate(arena, (n + 1) * sizeof(Kv__ZSetMember *));
    for (unsigned i = 0; i < n; i++) {
        command->members[i] = allocate(arena, sizeof(Kv__ZSetMember));
        kv__zset_member__init(command->members[i]);
        command->members[i]->member = field_name(arena, first + i);
        command->members[i]->score = (double)(n - i) / 4;
    }
    return request;
}

Kv__Request *call_zset_pop(struct kv_arena *arena, const char *key, unsigned n)
{
    CALL(arena, ZSET_POP, zset_pop, ZSetPop, zset_pop);
    command->key = text_bytes(key);
    command->count = n;
    return request;
}

Kv__Request *call_list_push(struct kv_arena *arena, const char *key, bool left, unsigned n)
{
    CALL(arena, LIST_PUSH, list_push, ListPush, list_push);
    command->key = text_bytes(key);
    command->end = left ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    command->n_elements = n;
    command->elements = new_names(arena, 0, n);
    return request;
}

Kv__Request *call_list_pop(struct kv_arena *arena, const char *key, bool left, unsigned n)
{
    CALL(arena, LIST_POP, list_pop, ListPop, list_pop);
    command->key = text_bytes(key);
    command->end = left ? KV__LIST_END__LIST_LEFT : KV__LIST_END__LIST_RIGHT;
    command->count = n;
    return request;
}

Kv__Request *call_list_range(struct kv_arena *arena, const char *key)
{
    CALL(arena, LIST_RANGE, list_range, ListRange, list_range);
    command->key = text_bytes(key);
    command->last = -1;
    return request;
}

Kv__Request *call_compact(struct kv_arena *arena, int64_t revision)
{
    CALL(arena, COMPACT, compact, Compact, compact);
    command->revision = revision;
    return request;
}

Kv__Request *call_key_history(struct kv_arena *arena, const char *key, int64_t from, int64_t to)
{
    CALL(arena, KEY_HISTORY, key_history, KeyHistory, key_history);
    command->key = text_bytes(key);
    command->from_revision = from;
    command->to_revision = to;
    return request;
}

Kv__Request *call_config_set(struct kv_arena *arena, const char *name, uint64_t value)
{
    CALL(arena, CONFIG_SET, config_set, ConfigSet, config_set);
    command->name = (char *)(uintptr_t)name;
    command->value = value;
    return request;
}

Kv__Request *call_txn(struct kv_arena *arena)
{
    CALL(arena, TXN, txn, Txn, txn);
    return request;
}

/* A list that grows by one; what it was stays in the arena. */
static void *list_grow(struct kv_arena *arena, void *list, size_t n)
{
    void **larger = list;

    if ((n & (n - 1)) == 0) {
        larger = allocate(arena, (n ? 2 * n : 1) * sizeof(void *));
        if (n > 0) {
            memcpy(larger, list, n * sizeof(void *));
        }
    }
    return larger;
}

Kv__Request *call_then(struct kv_arena *arena, Kv__Request *txn, Kv__Request *operation)
{
    txn->txn->then = list_grow(arena, txn->txn->then, txn->txn->n_then);
    txn->txn->then[txn->txn->n_then++] = operation;
    return txn;
}

Kv__Request *call_otherwise(struct kv_arena *arena, Kv__Request *txn, Kv__Request *operation)
{
    txn->txn->otherwise = list_grow(arena, txn->txn->otherwise, txn->txn->n_otherwise);
    txn->txn->otherwise[txn->txn->n_otherwise++] = operation;
    return txn;
}

Kv__Request *call_if(struct kv_arena *arena, Kv__Request *txn, Kv__Compare *compare)
{
    txn->txn->compares = list_grow(arena, txn->txn->compares, txn->txn->n_compares);
    txn->txn->compares[txn->txn->n_compares++] = compare;
    return txn;
}

Kv__Compare *call_compare(struct kv_arena *arena, const char *key, Kv__Comparison comparison)
{
    Kv__Compare *compare = allocate(arena, sizeof *compare);

    kv__compare__init(compare);
    compare->range = allocate(arena, sizeof *compare->range);
    kv__key_range__init(compare->range);
    compare->range->start = text_bytes(key);
    compare->comparison = comparison;
    return compare;
}

Kv__Request *
call_put_ttl(struct kv_arena *arena, const char *key, const char *value, uint64_t ttl_ms)
{
    Kv__Request *request = call_put(arena, key, value);

    request->put->expiry_case = KV__PUT__EXPIRY_TTL_MS;
    request->put->ttl_ms = ttl_ms;
    return request;
}

Kv__Request *
call_put_lease(struct kv_arena *arena, const char *key, const char *value, int64_t lease_id)
{
    Kv__Request *request = call_put(arena, key, value);

    request->put->expiry_case = KV__PUT__EXPIRY_LEASE_ID;
    request->put->lease_id = lease_id;
    return request;
}

Kv__Request *call_put_keep(struct kv_arena *arena, const char *key, const char *value)
{
    Kv__Request *request = call_put(arena, key, value);

    request->put->expiry_case = KV__PUT__EXPIRY_KEEP;
    request->put->keep = true;
    return request;
}

Kv__Request *call_hash_set_ttl(
    struct kv_arena *arena, const char *key, unsigned first, unsigned n, uint64_t ttl_ms)
{
    Kv__Request *request = call_hash_set(arena, key, first, n, "value");

    for (unsigned i = 0; i < n; i++) {
        request->hash_set->fields[i]->ttl_ms = ttl_ms;
    }
    return request;
}

Kv__Request *call_expire(struct kv_arena *arena, const char *key, uint64_t ttl_ms)
{
    CALL(arena, EXPIRE, expire, Expire, expire);
    command->key = text_bytes(key);
    command->expiry_case = KV__EXPIRE__EXPIRY_TTL_MS;
    command->ttl_ms = ttl_ms;
    return request;
}

Kv__Request *call_expire_lease(struct kv_arena *arena, const char *key, int64_t lease_id)
{
    CALL(arena, EXPIRE, expire, Expire, expire);
    command->key = text_bytes(key);
    command->expiry_case = KV__EXPIRE__EXPIRY_LEASE_ID;
    command->lease_id = lease_id;
    return request;
}

Kv__Request *call_persist(struct kv_arena *arena, const char *key)
{
    CALL(arena, PERSIST, persist, Persist, persist);
    command->key = text_bytes(key);
    return request;
}

Kv__Request *call_ttl(struct kv_arena *arena, const char *key)
{
    CALL(arena, TTL, ttl, Ttl, ttl);
    command->key = text_bytes(key);
    return request;
}

Kv__Request *call_lease_grant(struct kv_arena *arena, int64_t lease_id, uint64_t ttl_ms)
{
    CALL(arena, LEASE_GRANT, lease_grant, LeaseGrant, lease_grant);
    command->lease_id = lease_id;
    command->ttl_ms = ttl_ms;
    return request;
}

Kv__Request *call_lease_revoke(struct kv_arena *arena, int64_t lease_id)
{
    CALL(arena, LEASE_REVOKE, lease_revoke, LeaseRevoke, lease_revoke);
    command->lease_id = lease_id;
    return request;
}

Kv__Request *call_lease_keep_alive(struct kv_arena *arena, int64_t first, unsigned n)
{
    CALL(arena, LEASE_KEEP_ALIVE, lease_keep_alive, LeaseKeepAlive, lease_keep_alive);
    command->n_lease_ids = n;
    command->lease_ids = allocate(arena, (n + 1) * sizeof(int64_t));
    for (unsigned i = 0; i < n; i++) {
        command->lease_ids[i] = first + i;
    }
    return request;
}

Kv__Request *call_lease_info(struct kv_arena *arena, int64_t lease_id, bool with_keys)
{
    CALL(arena, LEASE_INFO, lease_info, LeaseInfo, lease_info);
    command->lease_id = lease_id;
    command->with_keys = with_keys;
    return request;
}

Kv__Request *call_lease_list(struct kv_arena *arena, int64_t after_id, uint64_t limit)
{
    CALL(arena, LEASE_LIST, lease_list, LeaseList, lease_list);
    command->after_id = after_id;
    command->limit = limit;
    return request;
}
