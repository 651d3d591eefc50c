/* What waits to be sent to one peer: messages held back by the term gate (they leave only when the
 * term and vote that they speak of are on disk), and AppendEntries whose entries must first be read
 * back from the log. Order is kept within each class (guard 19). In the usual case nothing waits
 * and messages pass straight through. */
#ifndef KV_RAFT_OUTBOX_H
#define KV_RAFT_OUTBOX_H

#include "common/bytes.h"
#include "raft/env.h"
#include "raft/wal.h"

#include <raft.h>

struct kv_replica;
struct kv_outbox_item;

/* AppendEntries per peer that may wait; the core probes again when one is dropped. */
#define KV_OUTBOX_ITEMS_MAX 256u

struct kv_outbox {
    struct kv_replica *replica;
    uint64_t peer_id;
    bool connected;
    struct {
        struct kv_outbox_item *first;
        struct kv_outbox_item *last;
    } queues[2]; /* by enum kv_net_class */
    size_t n_items;
    uint64_t last_prev_index; /* of the last AppendEntries with entries: the same again is a probe
                                 to a peer that took none */
    struct kv_wal_read read;  /* for the first item of the ordered queue */
    bool reading;
};

void kv_outbox_init(struct kv_outbox *outbox, struct kv_replica *replica, uint64_t peer_id);
void kv_outbox_deinit(struct kv_outbox *outbox);
/* Drops all that waits: the connection is gone, or leadership. A read under way finds nothing to
 * do. */
void kv_outbox_clear(struct kv_outbox *outbox);
/* Copies the head when it must wait. */
void kv_outbox_send(struct kv_outbox *outbox, enum kv_net_class cls, struct kv_slice head);
void kv_outbox_send_append(struct kv_outbox *outbox, const struct raft_append_entries *append);
/* The gate may have opened. */
void kv_outbox_pump(struct kv_outbox *outbox);

#endif
