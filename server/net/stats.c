#include "server/net/stats.h"

#include "proto/kv.pb-c.h"

const uint64_t kv_stats_bounds_ns[KV_STATS_BUCKETS] = {
    100000,
    250000,
    500000,
    1000000,
    2500000,
    5000000,
    10000000,
    25000000,
    50000000,
    100000000,
    250000000,
    500000000,
    1000000000,
    5000000000,
};

void kv_stats_answered(struct kv_net_stats *stats, unsigned command, uint64_t took_ns)
{
    struct kv_command_stats *of = &stats->commands[command < KV_STATS_COMMANDS ? command : 0];

    kv_stats_add(&of->count, 1);
    kv_stats_add(&of->sum_ns, took_ns);
    for (size_t i = 0; i < KV_STATS_BUCKETS; i++) {
        if (took_ns <= kv_stats_bounds_ns[i]) {
            kv_stats_add(&of->buckets[i], 1);
            return;
        }
    }
}

void kv_stats_code(struct kv_net_stats *stats, unsigned code)
{
    kv_stats_add(&stats->codes[code < KV_STATS_CODES ? code : KV_STATS_CODES - 1], 1);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void kv_stats_sum(struct kv_stats_total *total, const struct kv_net_stats *stats)
{
    for (size_t i = 0; i < KV_STATS_COMMANDS; i++) {
        total->commands[i].count += get(&stats->commands[i].count);
        total->commands[i].sum_ns += get(&stats->commands[i].sum_ns);
        for (size_t k = 0; k < KV_STATS_BUCKETS; k++) {
            total->commands[i].buckets[k] += get(&stats->commands[i].buckets[k]);
        }
    }
    for (size_t i = 0; i < KV_STATS_CODES; i++) {
        total->codes[i] += get(&stats->codes[i]);
    }
    total->requests += get(&stats->requests);
    total->accepted += get(&stats->accepted);
    total->refused += get(&stats->refused);
    total->too_slow += get(&stats->too_slow);
    total->received_bytes += get(&stats->received_bytes);
    total->sent_bytes += get(&stats->sent_bytes);
    total->connections += get(&stats->connections);
    total->buffered_bytes += get(&stats->buffered_bytes);
}

const char *kv_stats_command_name(unsigned command)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(&kv__request__descriptor, command);

    return field && field->quantifier_offset != 0 && command >= 16 ? field->name : "other";
}
