/* The way of a write: all that wait in this turn become one log entry; what is committed is applied
 * and answered. */
#include "common/assert.h"
#include "common/reached.h"
#include "proto/entry.h"
#include "server/node/node_internal.h"

#include <inttypes.h>
#include <raft.h>
#include <stdlib.h>

enum { REQUEST_OVERHEAD_BYTES = 8 };

/* What the next entry is made of: renewals come first (machine.h, kv_machine_begin). */
struct batch {
    int64_t time_ms;
    uint32_t n_renewals;
    uint32_t n_queued;
    size_t bytes;
};

static uint32_t size_of_batch(const struct batch *batch)
{
    return batch->n_renewals + batch->n_queued;
}

/* with_queued: not only what the time itself demands. */
static void choose_batch(struct kv_node *node, bool with_queued, struct batch *ret_batch)
{
    const int64_t now_ms = kv_node_cluster_time_ms(node);
    struct batch batch = {.time_ms = now_ms};
    size_t renewal_bytes;

    batch.n_renewals = kv_node_renewals(node, &batch.time_ms, &renewal_bytes);
    /* Whatever else counts its time from the entry's waits for one of now. */
    with_queued = with_queued && batch.time_ms == now_ms;
    for (struct kv_op *op = with_queued ? node->lists[KV_OP_QUEUED].first : NULL;
         op && batch.n_queued < KV_BATCH_COMMANDS_MAX;
         op = op->next) {
        size_t more = op->bytes.size + REQUEST_OVERHEAD_BYTES;

        if (batch.n_queued + batch.n_renewals > 0 && batch.bytes + more > KV_BATCH_BYTES_MAX) {
            break;
        }
        batch.bytes += more;
        batch.n_queued++;
    }
    batch.bytes += renewal_bytes + (size_t)batch.n_renewals * REQUEST_OVERHEAD_BYTES;
    *ret_batch = batch;
}

static size_t write_requests(uint8_t *p, const struct kv_op *op, uint32_t n)
{
    size_t size = 0;

    for (uint32_t i = 0; i < n; i++, op = op->next) {
        size += kv_entry_write_request(p + size, op->bytes);
    }
    return size;
}

/* Returns raft_malloc memory or NULL. */
static uint8_t *encode_batch(struct kv_node *node, const struct batch *batch, size_t *ret_size)
{
    uint8_t *data = raft_malloc(kv_entry_size_max(batch->bytes, size_of_batch(batch)));
    size_t size;

    if (!data) {
        return NULL;
    }
    size = kv_entry_write_head(data, KV_MACHINE_VERSION, batch->time_ms);
    size += write_requests(data + size, node->lists[KV_OP_RENEWAL].first, batch->n_renewals);
    size += write_requests(data + size, node->lists[KV_OP_QUEUED].first, batch->n_queued);
    *ret_size = size;
    return data;
}

static void fill_proposal(struct kv_node *node, uint32_t n_renewals, struct kv_proposal *proposal)
{
    for (uint32_t i = 0; i < proposal->n_slots; i++) {
        struct kv_op *op = node->lists[i < n_renewals ? KV_OP_RENEWAL : KV_OP_QUEUED].first;

        proposal->slots[i] = op;
        kv_node_move(node, op, KV_OP_PROPOSED);
        op->index = proposal->index;
        op->slot = i;
    }
}

/* Hands an entry (raft_malloc memory, taken) with the first renewals and queued writes to the log.
 * False: not now; they stay where they are. */
static bool propose_entry(struct kv_node *node,
                          uint8_t *data,
                          size_t size,
                          uint32_t n_renewals,
                          struct kv_proposal *proposal)
{
    if (kv_replica_propose(node->replica, data, size, &proposal->index, &proposal->term) != 0) {
        free(proposal->slots);
        return false;
    }
    fill_proposal(node, n_renewals, proposal);
    node->proposals[(node->proposals_first + node->n_proposals++) % KV_PROPOSALS_MAX] = *proposal;
    node->entries_proposed++;
    node->commands_proposed += proposal->n_slots;
    return true;
}

bool kv_node_propose_own(struct kv_node *node, struct kv_slice request)
{
    const size_t bytes = request.size + REQUEST_OVERHEAD_BYTES;
    struct kv_proposal proposal = {0};
    size_t size;
    uint8_t *data;

    if (node->n_proposals == KV_PROPOSALS_MAX || !kv_replica_can_propose(node->replica, bytes)) {
        return false;
    }
    data = raft_malloc(kv_entry_size_max(bytes, 1));
    if (!data) {
        return false;
    }
    size = kv_entry_write_head(data, KV_MACHINE_VERSION, kv_node_cluster_time_ms(node));
    size += kv_entry_write_request(data + size, request);
    return propose_entry(node, data, size, 0, &proposal);
}

/* False: not now. */
static bool propose_batch(struct kv_node *node, const struct batch *batch)
{
    struct kv_proposal proposal = {.n_slots = size_of_batch(batch)};
    size_t size;
    uint8_t *data;

    if (node->n_proposals == KV_PROPOSALS_MAX ||
        !kv_replica_can_propose(node->replica, batch->bytes)) {
        return false;
    }
    /* Without memory they wait on, until their deadlines. */
    proposal.slots = malloc((proposal.n_slots + 1) * sizeof *proposal.slots);
    data = proposal.slots ? encode_batch(node, batch, &size) : NULL;
    if (!data) {
        free(proposal.slots);
        return false;
    }
    if (!propose_entry(node, data, size, batch->n_renewals, &proposal)) {
        return false;
    }
    node->time_proposed_ms = batch->time_ms;
    if (batch->n_renewals > 0) {
        kv_node_renewals_proposed(node, batch->time_ms);
    }
    return true;
}

static struct kv_proposal *newest_proposal(struct kv_node *node)
{
    return &node->proposals[(node->proposals_first + node->n_proposals - 1) % KV_PROPOSALS_MAX];
}

bool kv_node_propose_time(struct kv_node *node)
{
    struct batch batch;

    choose_batch(node, false, &batch);
    if (!propose_batch(node, &batch)) {
        return false;
    }
    node->expiring_index = newest_proposal(node)->index;
    return true;
}

/* False when nothing more can be proposed now. */
static bool propose_some(struct kv_node *node)
{
    struct batch batch;

    choose_batch(node, true, &batch);
    return size_of_batch(&batch) > 0 && propose_batch(node, &batch);
}

/* Whose disk it is, and what goes on. */
static void fail_for_room(struct kv_node *node, struct kv_op *op)
{
    const struct kv_replica_status *status = &node->replica_status;
    const char *what = status->can_write ? "reads and deletes go on" : "reads go on";

    if (status->room != KV_ROOM_ENOUGH) {
        kv_node_fail(node,
                     op,
                     KV_NO_SPACE,
                     "the disk of node %" PRIu64 " (%s) is at its reserve: make room there; %s",
                     node->options.node_id,
                     node->env.disk.name,
                     what);
    } else {
        kv_node_fail(
            node,
            op,
            KV_NO_SPACE,
            "the disks of a majority of the nodes are at their reserve: make room there; %s",
            what);
    }
}

/* Short of disk: what grows is refused before it is proposed, all else goes on while it can. */
static void refuse_for_room(struct kv_node *node, enum kv_op_state state)
{
    struct kv_op *op = node->lists[state].first;

    while (op) {
        struct kv_op *next = op->next;

        if (!node->replica_status.can_write || kv_command_grows(op->request)) {
            KV_REACHED("no-space");
            fail_for_room(node, op);
        }
        op = next;
    }
}

void kv_node_propose(struct kv_node *node)
{
    if (!node->replica_status.has_room || !node->replica_status.can_write) {
        refuse_for_room(node, KV_OP_QUEUED);
        refuse_for_room(node, KV_OP_RENEWAL);
    }
    while ((node->lists[KV_OP_QUEUED].first || node->lists[KV_OP_RENEWAL].first) &&
           propose_some(node)) {
    }
}

/* Ends what is left of a proposal that will not be applied as ours. */
static void drop_proposal(struct kv_node *node, struct kv_proposal *proposal)
{
    for (uint32_t i = 0; i < proposal->n_slots; i++) {
        struct kv_op *op = proposal->slots[i];

        if (op) {
            kv_node_fail(node,
                         op,
                         KV_OUTCOME_UNKNOWN,
                         "leadership was lost after the write was proposed: it may or may not have "
                         "been done");
        }
    }
    free(proposal->slots);
    proposal->slots = NULL;
}

void kv_node_truncated(void *arg, uint64_t first_index)
{
    struct kv_node *node = arg;

    while (node->n_proposals > 0) {
        struct kv_proposal *last = newest_proposal(node);

        if (last->index < first_index) {
            return;
        }
        KV_REACHED("proposal-truncated");
        drop_proposal(node, last);
        node->n_proposals--;
    }
}

struct reply_target {
    struct kv_node *node;
    struct kv_op *op;
};

static void on_reply(void *arg, Kv__Reply *reply)
{
    struct reply_target *target = arg;

    kv_node_finish(target->node, target->op, reply);
}

void kv_node_woken(void *arg, void *tag, Kv__Reply *reply)
{
    kv_node_finish(arg, tag, reply);
}

void kv_node_fail_waiting(struct kv_node *node, const char *why)
{
    while (node->lists[KV_OP_WAITING].first) {
        kv_node_fail(node,
                     node->lists[KV_OP_WAITING].first,
                     KV_OUTCOME_UNKNOWN,
                     "%s: it may or may not have been done",
                     why);
    }
}

/* The newest try is told; the one before came by a connection that its client has left. */
static void make_wait(struct kv_node *node, struct kv_op *op)
{
    struct kv_op *before = kv_machine_tag_waiter(node->machine, op->request->session, NULL);

    if (before) {
        kv_node_fail(node, before, KV_OUTCOME_UNKNOWN, "another try of the same request waits");
    }
    kv_node_move(node, op, KV_OP_WAITING);
    kv_node_extend_deadline(op);
    (void)kv_machine_tag_waiter(node->machine, op->request->session, op);
}

/* The proposal of this entry, if it is one of ours, at the front of the queue; the caller removes
 * it. Entries are applied in order, and those that others took the place of have gone before. */
static bool
find_proposal(struct kv_node *node, uint64_t index, uint64_t term, struct kv_proposal *ret_proposal)
{
    const struct kv_proposal *first = &node->proposals[node->proposals_first];

    if (node->n_proposals == 0 || first->index > index) {
        return false;
    }
    KV_ASSERT(first->index == index && first->term == term);
    *ret_proposal = *first;
    return true;
}

static void *alloc_or_abort(void *arg, size_t size)
{
    (void)arg;
    return kv_machine_alloc(size ? size : 1);
}

static void free_memory(void *arg, void *memory)
{
    (void)arg;
    free(memory);
}

/* The arena is too small, or the request is malformed. The latter changes nothing on any node; the
 * former must not make this one differ, nor may a lack of memory. */
static void execute_unbounded(struct kv_node *node, struct kv_slice bytes)
{
    ProtobufCAllocator allocator = {alloc_or_abort, free_memory, NULL};
    Kv__Request *request = kv__request__unpack(&allocator, bytes.size, bytes.data);

    if (request) {
        kv_machine_execute(node->machine, request, NULL, NULL);
        kv__request__free_unpacked(request, &allocator);
    }
}

/* True: the op waits on, and is none of its proposal any more. */
static bool execute(struct kv_node *node, struct kv_op *op, struct kv_slice bytes)
{
    struct reply_target target = {node, op};
    ProtobufCAllocator allocator;
    const Kv__Request *request;

    node->commands_applied++;
    if (op) {
        if (kv_machine_execute(node->machine, op->request, on_reply, &target)) {
            return false;
        }
        make_wait(node, op);
        return true;
    }
    kv_arena_reset(&node->arena);
    kv_arena_protobuf_allocator(&node->arena, &allocator);
    request = kv__request__unpack(&allocator, bytes.size, bytes.data);
    if (request) {
        kv_machine_execute(node->machine, request, NULL, NULL);
    } else {
        execute_unbounded(node, bytes);
    }
    return false;
}

static void apply_command(struct kv_node *node,
                          uint64_t index,
                          struct kv_proposal *proposal,
                          struct kv_slice data)
{
    const int64_t revision = kv_machine_revision(node->machine);
    struct kv_entry_reader reader;
    struct kv_slice request;

    /* Malformed entries change nothing, on every node alike. */
    if (kv_entry_read_head(data, &reader) != 0) {
        return;
    }
    if (kv_machine_begin(node->machine, index, reader.machine_version, reader.cluster_time_ms) !=
        0) {
        kv_node_die(node,
                    KV_UNSUPPORTED,
                    "the cluster's commands are of a newer version than this server knows: upgrade "
                    "this node");
        return;
    }
    for (uint32_t i = 0; kv_entry_read_request(&reader, &request) == 1; i++) {
        struct kv_op *op = proposal && i < proposal->n_slots ? proposal->slots[i] : NULL;

        if (execute(node, op, request)) {
            proposal->slots[i] = NULL;
        }
    }
    kv_machine_pass_time(node->machine);
    kv_machine_serve_rest(node->machine);
    kv_watch_note(node, revision);
    kv_machine_end(node->machine);
    kv_node_clock_applied(node);
}

static bool is_compared_at(const struct kv_node *node, uint64_t index)
{
    uint64_t every = node->options.state_hash_entries;

    return index % (every ? every : KV_STATE_HASH_ENTRIES) == 0;
}

void kv_node_apply(
    void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data)
{
    struct kv_node *node = arg;
    struct kv_proposal proposal;
    bool ours;

    if (node->dead) {
        return;
    }
    ours = find_proposal(node, index, term, &proposal);
    if (type == KV_ENTRY_COMMAND) {
        apply_command(node, index, ours ? &proposal : NULL, data);
    }
    if (ours) {
        drop_proposal(node, &proposal);
        node->proposals_first = (node->proposals_first + 1) % KV_PROPOSALS_MAX;
        node->n_proposals--;
    }
    if (is_compared_at(node, index) && !node->dead) {
        kv_node_note_hash(node, index, true);
    }
}
