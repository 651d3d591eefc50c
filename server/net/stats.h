/* Counters of the client side. Each thread has its own, which only it changes; any thread may read
 * them, one by one. */
#ifndef KV_NET_STATS_H
#define KV_NET_STATS_H

#include "common/status.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Commands by their field number in kv.proto's Request, whose last one is 289; higher ones share
 * number 0. */
enum { KV_STATS_COMMANDS = 320, KV_STATS_CODES = 64, KV_STATS_BUCKETS = 14 };

/* Upper bounds of the latency classes, in ns; what is slower is counted in the total alone. */
extern const uint64_t kv_stats_bounds_ns[KV_STATS_BUCKETS];

struct kv_command_stats {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t buckets[KV_STATS_BUCKETS];
};

struct kv_net_stats {
    struct kv_command_stats commands[KV_STATS_COMMANDS];
    _Atomic uint64_t codes[KV_STATS_CODES]; /* answers by wire code */
    _Atomic uint64_t requests;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;  /* connections: strangers, over the limit, broken protocol */
    _Atomic uint64_t too_slow; /* connections: closed since the client did not read */
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t connections; /* open now */
    _Atomic uint64_t buffered_bytes;
};

/* By the owning thread alone: no locked instruction is needed. */
static inline void kv_stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
void kv_stats_answered(struct kv_net_stats *stats, unsigned command, uint64_t took_ns);
void kv_stats_code(struct kv_net_stats *stats, unsigned code);

/* A plain sum of several, for who shows them. */
struct kv_stats_command_total {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t buckets[KV_STATS_BUCKETS];
};
struct kv_stats_total {
    struct kv_stats_command_total commands[KV_STATS_COMMANDS];
    uint64_t codes[KV_STATS_CODES];
    uint64_t requests, accepted, refused, too_slow, received_bytes, sent_bytes, connections,
        buffered_bytes;
    uint64_t answer_bytes;   /* on their way from the core */
    uint64_t resident_bytes; /* of the process */
};
void kv_stats_sum(struct kv_stats_total *total, const struct kv_net_stats *stats);

/* "put"; "other" for a number that is no command. Static. */
const char *kv_stats_command_name(unsigned command);

#endif
