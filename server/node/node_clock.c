/* Cluster time (data-model.md, Time): only the log knows it. The leader counts on from the last
 * logged time by its own monotonic clock, and writes it into each entry; when nothing else is
 * proposed, and the machine has something due, or any deadline at all for a second, it proposes an
 * empty one. A cluster without deadlines stays idle. */
#include "common/assert.h"
#include "server/node/node_internal.h"

/* After a proposal that was not taken: the log or the window is full. */
enum { RETRY_MS = 10 };

int64_t kv_node_cluster_time_ms(const struct kv_node *node)
{
    return node->time_base_ms + (int64_t)((kv_node_now_ns(node) - node->time_base_ns) / 1000000);
}

static void rebase(struct kv_node *node)
{
    node->time_base_ms = kv_machine_cluster_time_ms(node->machine);
    node->time_base_ns = kv_node_now_ns(node);
}

void kv_node_clock_leads(struct kv_node *node)
{
    uint64_t term = node->replica_status.role == KV_ROLE_LEADER ? node->replica_status.term : 0;

    if (term != 0 && term != node->led_term) {
        rebase(node);
        node->time_proposed_ms = node->time_base_ms;
        node->expiring_index = 0;
        node->renewed_ms = node->time_base_ms - KV_RENEWAL_MS;
        kv_node_renewals_lead(node);
    }
    node->led_term = term;
}

void kv_node_clock_applied(struct kv_node *node)
{
    /* Entries of former leaders that we had not applied when we began to lead. */
    if (node->led_term != 0 &&
        kv_machine_cluster_time_ms(node->machine) > kv_node_cluster_time_ms(node)) {
        rebase(node);
    }
}

/* When the next entry must be there, in cluster time. */
static int64_t next_entry_ms(const struct kv_node *node, int64_t due_ms)
{
    int64_t next_ms = node->time_proposed_ms + KV_TIME_LOG_MS;

    if (due_ms > node->time_proposed_ms) {
        return due_ms < next_ms ? due_ms : next_ms;
    }
    if (node->n_proposals == 0) {
        return due_ms;
    }
    /* An entry with that time is under way, or has left some. Those with commands end few, so that
     * their clients wait little; then one without is due, one at a time. */
    return kv_machine_cluster_time_ms(node->machine) >= due_ms &&
                   node->expiring_index <= kv_machine_applied_index(node->machine)
               ? due_ms
               : next_ms;
}

/* The monotonic time, in ms, at which the cluster time is reached. */
static uint64_t wake_ms(const struct kv_node *node, int64_t at_ms)
{
    return (node->time_base_ns + (uint64_t)(at_ms - node->time_base_ms) * 1000000 + 999999) /
           1000000;
}

/* Renewals that were due by now have not found room. */
static void wake_for_renewals(struct kv_node *node, int64_t now_ms)
{
    const int64_t due_ms = kv_node_renewals_due_ms(node);
    const int64_t at_ms = due_ms > now_ms ? due_ms : now_ms + RETRY_MS;

    if (due_ms != INT64_MAX && wake_ms(node, at_ms) < node->clock_wake_ms) {
        node->clock_wake_ms = wake_ms(node, at_ms);
    }
}

void kv_node_clock_turn(struct kv_node *node)
{
    int64_t due_ms = kv_machine_next_due_ms(node->machine);
    int64_t now_ms = kv_node_cluster_time_ms(node);
    int64_t at_ms;

    KV_ASSERT(node->led_term != 0);
    node->clock_wake_ms = UINT64_MAX;
    wake_for_renewals(node, now_ms);
    if (due_ms == INT64_MAX) {
        return;
    }
    at_ms = next_entry_ms(node, due_ms);
    if (now_ms >= at_ms) {
        if (kv_node_propose_time(node)) {
            at_ms = now_ms + KV_TIME_LOG_MS;
        } else {
            at_ms = now_ms + RETRY_MS;
        }
    }
    if (wake_ms(node, at_ms) < node->clock_wake_ms) {
        node->clock_wake_ms = wake_ms(node, at_ms);
    }
}
