/* Renewals of leases (data-model.md, Time): the leader gathers them, its own clients' and forwarded
 * ones, and logs those that wait in one entry at most twice a second, the first one at once. They
 * stand in front of everything else there, so that no entry ends a lease whose renewal waits: one
 * whose time reaches the deadline of any lease takes all that wait. */
#include "common/reached.h"
#include "server/node/node_internal.h"

bool kv_node_is_renewal(const struct kv_op *op)
{
    return op->request->command_case == KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE &&
           op->bytes.size <= KV_RENEWAL_REQUEST_BYTES_MAX;
}

/* The rest goes with the next entry, at once: until then the time stands where it ends none of
 * their leases. When that is long ago (the node was paused, or its log stood still) they end: an
 * entry of that time would end those early that it renews. */
static int64_t hold_time(const struct kv_node *node, int64_t time_ms)
{
    const int64_t before_ms = kv_machine_next_lease_due_ms(node->machine) - 1;
    const int64_t held_ms = before_ms > node->time_proposed_ms ? before_ms : node->time_proposed_ms;

    KV_REACHED("renewals-beyond-an-entry");
    return held_ms < time_ms && held_ms >= time_ms - KV_RENEWAL_HOLD_MS ? held_ms : time_ms;
}

uint32_t kv_node_renewals(const struct kv_node *node, int64_t *time_ms, size_t *ret_bytes)
{
    const bool ends_some = *time_ms >= kv_machine_next_lease_due_ms(node->machine);
    uint32_t n = 0;
    size_t bytes = 0;

    *ret_bytes = 0;
    if (*time_ms < node->renewed_ms + KV_RENEWAL_MS && !ends_some) {
        return 0;
    }
    if (ends_some && node->lists[KV_OP_RENEWAL].first) {
        KV_REACHED("renewal-at-the-last-moment");
    }
    for (const struct kv_op *op = node->lists[KV_OP_RENEWAL].first; op; op = op->next) {
        if (bytes + op->bytes.size > KV_RENEWAL_BYTES_MAX) {
            *time_ms = hold_time(node, *time_ms);
            break;
        }
        bytes += op->bytes.size;
        n++;
    }
    *ret_bytes = bytes;
    return n;
}

void kv_node_renewals_proposed(struct kv_node *node, int64_t time_ms)
{
    node->renewed_ms = time_ms - (node->lists[KV_OP_RENEWAL].first ? KV_RENEWAL_MS : 0);
}

static void move_renewals(struct kv_node *node, enum kv_op_state from, enum kv_op_state to)
{
    struct kv_op *op = node->lists[from].first;

    while (op) {
        struct kv_op *next = op->next;

        if (kv_node_is_renewal(op)) {
            kv_node_move(node, op, to);
        }
        op = next;
    }
}

void kv_node_renewals_lead(struct kv_node *node)
{
    move_renewals(node, KV_OP_QUEUED, KV_OP_RENEWAL);
}

void kv_node_renewals_follow(struct kv_node *node)
{
    move_renewals(node, KV_OP_RENEWAL, KV_OP_QUEUED);
}

int64_t kv_node_renewals_due_ms(const struct kv_node *node)
{
    return node->lists[KV_OP_RENEWAL].first ? node->renewed_ms + KV_RENEWAL_MS : INT64_MAX;
}
