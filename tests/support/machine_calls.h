/* Requests for tests of the machine's commands, made in an arena that outlives them. Texts are
 * borrowed. */
#ifndef KV_TESTS_SUPPORT_MACHINE_CALLS_H
#define KV_TESTS_SUPPORT_MACHINE_CALLS_H

#include "common/arena.h"
#include "proto/kv.pb-c.h"

#include <stdbool.h>

Kv__Request *call_put(struct kv_arena *arena, const char *key, const char *value);
Kv__Request *
call_put_bytes(struct kv_arena *arena, const char *key, const void *value, size_t size);
Kv__Request *call_append(struct kv_arena *arena, const char *key, const char *value);
Kv__Request *call_get(struct kv_arena *arena, const char *key, int64_t at_revision);
Kv__Request *call_getset(struct kv_arena *arena, const char *key, const char *value);
Kv__Request *call_getdel(struct kv_arena *arena, const char *key);
Kv__Request *
call_set_range(struct kv_arena *arena, const char *key, uint64_t offset, const char *value);
Kv__Request *call_delete(struct kv_arena *arena, const char *key, bool return_previous);
/* Of the keys that begin with the prefix. */
Kv__Request *call_delete_prefix(struct kv_arena *arena, const char *prefix);
Kv__Request *call_range(struct kv_arena *arena, const char *prefix, int64_t at_revision);
Kv__Request *call_count(struct kv_arena *arena, const char *prefix, int64_t at_revision);
Kv__Request *call_exists(struct kv_arena *arena, const char *key, int64_t at_revision);
Kv__Request *call_type(struct kv_arena *arena, const char *key, int64_t at_revision);
Kv__Request *call_rename(struct kv_arena *arena, const char *key, const char *to, bool if_absent);
Kv__Request *call_copy(struct kv_arena *arena, const char *key, const char *to, bool if_absent);
Kv__Request *call_touch(struct kv_arena *arena, const char *key);
Kv__Request *call_counter_add(struct kv_arena *arena, const char *key, int64_t delta);
Kv__Request *call_counter_get(struct kv_arena *arena, const char *key, int64_t at_revision);
Kv__Request *call_counter_set(struct kv_arena *arena, const char *key, int64_t value);
/* Fields f000... from `first` on, n of them, all with one value. */
Kv__Request *call_hash_set(
    struct kv_arena *arena, const char *key, unsigned first, unsigned n, const char *value);
Kv__Request *call_hash_delete(struct kv_arena *arena, const char *key, unsigned first, unsigned n);
Kv__Request *call_hash_get_all(struct kv_arena *arena, const char *key, int64_t at_revision);
Kv__Request *call_hash_add(struct kv_arena *arena, const char *key, unsigned field, int64_t delta);
Kv__Request *call_hash_len(struct kv_arena *arena, const char *key);
/* The numbers: rate, period_ms, burst, n. */
Kv__Request *call_acquire(struct kv_arena *arena, const char *key, const uint64_t numbers[4]);
/* Members f000... from `first` on, n of them. */
Kv__Request *call_set_add(struct kv_arena *arena, const char *key, unsigned first, unsigned n);
Kv__Request *call_set_remove(struct kv_arena *arena, const char *key, unsigned first, unsigned n);
Kv__Request *call_set_members(struct kv_arena *arena, const char *key);
/* Their scores descend. */
Kv__Request *call_zset_add(struct kv_arena *arena, const char *key, unsigned first, unsigned n);
Kv__Request *call_zset_pop(struct kv_arena *arena, const char *key, unsigned n);
Kv__Request *call_list_push(struct kv_arena *arena, const char *key, bool left, unsigned n);
Kv__Request *call_list_pop(struct kv_arena *arena, const char *key, bool left, unsigned n);
Kv__Request *call_list_range(struct kv_arena *arena, const char *key);
Kv__Request *call_compact(struct kv_arena *arena, int64_t revision);
Kv__Request *call_key_history(struct kv_arena *arena, const char *key, int64_t from, int64_t to);
Kv__Request *
call_put_ttl(struct kv_arena *arena, const char *key, const char *value, uint64_t ttl_ms);
Kv__Request *
call_put_lease(struct kv_arena *arena, const char *key, const char *value, int64_t lease_id);
Kv__Request *call_put_keep(struct kv_arena *arena, const char *key, const char *value);
Kv__Request *call_hash_set_ttl(
    struct kv_arena *arena, const char *key, unsigned first, unsigned n, uint64_t ttl_ms);
Kv__Request *call_expire(struct kv_arena *arena, const char *key, uint64_t ttl_ms);
Kv__Request *call_expire_lease(struct kv_arena *arena, const char *key, int64_t lease_id);
Kv__Request *call_persist(struct kv_arena *arena, const char *key);
Kv__Request *call_ttl(struct kv_arena *arena, const char *key);
Kv__Request *call_lease_grant(struct kv_arena *arena, int64_t lease_id, uint64_t ttl_ms);
Kv__Request *call_lease_revoke(struct kv_arena *arena, int64_t lease_id);
/* Of the leases first to first + n - 1. */
Kv__Request *call_lease_keep_alive(struct kv_arena *arena, int64_t first, unsigned n);
Kv__Request *call_lease_info(struct kv_arena *arena, int64_t lease_id, bool with_keys);
Kv__Request *call_lease_list(struct kv_arena *arena, int64_t after_id, uint64_t limit);
Kv__Request *call_config_set(struct kv_arena *arena, const char *name, uint64_t value);

/* Without compares and operations. */
Kv__Request *call_txn(struct kv_arena *arena);
/* Each returns the transaction. */
Kv__Request *call_then(struct kv_arena *arena, Kv__Request *txn, Kv__Request *operation);
Kv__Request *call_otherwise(struct kv_arena *arena, Kv__Request *txn, Kv__Request *operation);
Kv__Request *call_if(struct kv_arena *arena, Kv__Request *txn, Kv__Compare *compare);
/* Of one key; the operand is to be set. */
Kv__Compare *call_compare(struct kv_arena *arena, const char *key, Kv__Comparison comparison);

#endif
