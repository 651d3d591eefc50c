#include "raft/outbox.h"

#include "common/assert.h"
#include "common/reached.h"
#include "raft/peer_codec.h"
#include "raft/replica_internal.h"

#include <stdlib.h>
#include <string.h>

struct kv_outbox_item {
    struct kv_outbox_item *next;
    uint64_t gate_sequence;
    bool is_append;
    bool sent_some;
    bool is_repeated; /* a probe from where the peer stood before: one piece is enough */
    struct raft_append_entries append; /* entries not used; prev moves on as pieces are sent */
    uint64_t last_index;
    size_t size;
    uint8_t head[];
};

enum pump { PUMP_DONE, PUMP_BLOCKED };

void kv_outbox_init(struct kv_outbox *outbox, struct kv_replica *replica, uint64_t peer_id)
{
    *outbox = (struct kv_outbox){.replica = replica, .peer_id = peer_id};
}

void kv_outbox_clear(struct kv_outbox *outbox)
{
    for (int cls = 0; cls < 2; cls++) {
        struct kv_outbox_item *item = outbox->queues[cls].first;

        while (item) {
            struct kv_outbox_item *next = item->next;

            free(item);
            item = next;
        }
        outbox->queues[cls].first = outbox->queues[cls].last = NULL;
    }
    outbox->n_items = 0;
}

void kv_outbox_deinit(struct kv_outbox *outbox)
{
    kv_outbox_clear(outbox);
    if (outbox->reading) {
        kv_wal_read_deinit(&outbox->read); /* its worker has ended */
    }
}

static bool gate_is_open(const struct kv_outbox *outbox, uint64_t gate_sequence)
{
    return outbox->replica->synced_sequence >= gate_sequence;
}

static void push(struct kv_outbox *outbox, enum kv_net_class cls, struct kv_outbox_item *item)
{
    item->next = NULL;
    if (outbox->queues[cls].last) {
        outbox->queues[cls].last->next = item;
    } else {
        outbox->queues[cls].first = item;
    }
    outbox->queues[cls].last = item;
    outbox->n_items++;
}

static void pop(struct kv_outbox *outbox, enum kv_net_class cls)
{
    struct kv_outbox_item *item = outbox->queues[cls].first;

    outbox->queues[cls].first = item->next;
    if (!item->next) {
        outbox->queues[cls].last = NULL;
    }
    outbox->n_items--;
    free(item);
}

/* A message that the network does not take is lost: raft's own repetition covers that. */
static int net_send(struct kv_outbox *outbox,
                    enum kv_net_class cls,
                    struct kv_slice head,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    const struct kv_net *net = &outbox->replica->env.net;

    return net->ops->send(net->net, outbox->peer_id, cls, head, bulk, n_bulk);
}

void kv_outbox_send(struct kv_outbox *outbox, enum kv_net_class cls, struct kv_slice head)
{
    uint64_t gate = outbox->replica->gate_sequence;
    struct kv_outbox_item *item;

    if (!outbox->queues[cls].first && gate_is_open(outbox, gate)) {
        (void)net_send(outbox, cls, head, NULL, 0);
        return;
    }
    if (outbox->n_items >= KV_OUTBOX_ITEMS_MAX) {
        return;
    }
    item = malloc(sizeof *item + head.size);
    if (!item) {
        return;
    }
    *item = (struct kv_outbox_item){.gate_sequence = gate, .size = head.size};
    KV_REACHED("term-gate-waits");
    memcpy(item->head, head.data, head.size);
    push(outbox, cls, item);
}

/* Sends entries (n may be 0) that follow item->append.prev_log_index, and moves prev behind them.
 */
static int send_piece(struct kv_outbox *outbox,
                      struct kv_outbox_item *item,
                      const struct kv_wal_entry *entries,
                      unsigned n_entries)
{
    struct kv_replica *r = outbox->replica;
    struct kv_slice bulk[KV_APPEND_ENTRIES_MAX];
    int status;

    for (unsigned i = 0; i < n_entries; i++) {
        bulk[i] = entries[i].data;
    }
    kv_buf_clear(&r->buf);
    status = kv_peer_encode_append(&r->buf, &item->append, entries, n_entries);
    if (status == 0) {
        status = net_send(
            outbox, KV_NET_ORDERED, kv_slice_of(r->buf.data, r->buf.size), bulk, n_entries);
    }
    if (n_entries > 0) {
        item->append.prev_log_index += n_entries;
        item->append.prev_log_term = entries[n_entries - 1].term;
    }
    item->sent_some = true;
    return status;
}

/* How many of the entries from `first` on are cached and fit one message. */
static unsigned
gather(const struct kv_replica *r, uint64_t first, uint64_t last, struct kv_wal_entry *ret_entries)
{
    size_t bytes = 0;
    unsigned n = 0;

    for (uint64_t i = first; i <= last && n < KV_APPEND_ENTRIES_MAX; i++) {
        const struct kv_cached_entry *entry = kv_entry_cache_get(&r->cache, i);

        if (!entry || (n > 0 && bytes + entry->data.size > KV_APPEND_BYTES_MAX)) {
            break;
        }
        bytes += entry->data.size;
        ret_entries[n++] = (struct kv_wal_entry){entry->term, entry->type, entry->data};
    }
    return n;
}

/* Leadership may have come and gone while the log was read, or a snapshot have released what was:
 * same index and term is the same entry. */
static bool still_current(const struct kv_replica *r, const struct kv_wal_read *read)
{
    for (size_t i = 0; i < read->n_entries; i++) {
        if (kv_terms_of(&r->terms, read->first_index + i) != read->entries[i].term) {
            return false;
        }
    }
    return read->n_entries > 0;
}

static void on_read(struct kv_wal_read *read, int status)
{
    struct kv_outbox *outbox = read->arg;
    struct kv_replica *r = outbox->replica;
    struct kv_outbox_item *item = outbox->queues[KV_NET_ORDERED].first;

    outbox->reading = false;
    if (status != 0 && status != KV_NOT_FOUND) {
        kv_replica_die(r,
                       status,
                       "entries from index %llu on cannot be read back from the log: %s",
                       (unsigned long long)read->first_index,
                       kv_status_text(status));
    } else if (item && item->is_append && item->append.prev_log_index + 1 == read->first_index) {
        size_t n =
            read->n_entries < KV_APPEND_ENTRIES_MAX ? read->n_entries : KV_APPEND_ENTRIES_MAX;

        if (status != 0 || !still_current(r, read) ||
            send_piece(outbox, item, read->entries, (unsigned)n) != 0 || item->is_repeated) {
            pop(outbox, KV_NET_ORDERED);
        }
    }
    kv_wal_read_deinit(read);
    kv_outbox_pump(outbox);
}

static void start_read(struct kv_outbox *outbox, uint64_t first, uint64_t last)
{
    KV_REACHED("outbox-read-back");
    outbox->reading = true;
    outbox->read = (struct kv_wal_read){
        .first_index = first,
        .last_index =
            last - first < KV_APPEND_ENTRIES_MAX ? last : first + KV_APPEND_ENTRIES_MAX - 1,
        .max_bytes = KV_APPEND_BYTES_MAX,
        .done = on_read,
        .arg = outbox,
    };
    kv_wal_read(outbox->replica->wal, &outbox->read);
}

/* Sends as much of the item as can be sent now. */
static enum pump pump_append(struct kv_outbox *outbox, struct kv_outbox_item *item)
{
    struct kv_replica *r = outbox->replica;
    struct kv_wal_entry entries[KV_APPEND_ENTRIES_MAX];

    /* The log may be cut as soon as another leads: what was meant for our term is void then. */
    if (!outbox->connected || !kv_replica_is_leader(r) ||
        item->append.term != raft_current_term(&r->raft)) {
        return PUMP_DONE;
    }
    while (item->append.prev_log_index < item->last_index || !item->sent_some) {
        uint64_t first = item->append.prev_log_index + 1;
        unsigned n = gather(r, first, item->last_index, entries);

        if (n == 0 && first <= item->last_index) {
            if (!outbox->reading) {
                start_read(outbox, first, item->last_index);
            }
            return PUMP_BLOCKED;
        }
        if (send_piece(outbox, item, entries, n) != 0 || item->is_repeated) {
            return PUMP_DONE;
        }
    }
    return PUMP_DONE;
}

void kv_outbox_send_append(struct kv_outbox *outbox, const struct raft_append_entries *append)
{
    struct kv_outbox_item *item;

    if (!outbox->connected || outbox->n_items >= KV_OUTBOX_ITEMS_MAX) {
        return;
    }
    item = malloc(sizeof *item);
    if (!item) {
        return;
    }
    *item = (struct kv_outbox_item){
        .gate_sequence = outbox->replica->gate_sequence,
        .is_append = true,
        .is_repeated = append->n_entries > 0 && append->prev_log_index == outbox->last_prev_index,
        .append = *append,
        .last_index = append->prev_log_index + append->n_entries,
    };
    if (append->n_entries > 0) {
        outbox->last_prev_index = append->prev_log_index;
    }
    push(outbox, KV_NET_ORDERED, item);
    kv_outbox_pump(outbox);
}

void kv_outbox_pump(struct kv_outbox *outbox)
{
    for (int cls = 0; cls < 2; cls++) {
        struct kv_outbox_item *item;

        while ((item = outbox->queues[cls].first) && gate_is_open(outbox, item->gate_sequence)) {
            if (!item->is_append) {
                (void)net_send(outbox, cls, kv_slice_of(item->head, item->size), NULL, 0);
            } else if (pump_append(outbox, item) == PUMP_BLOCKED) {
                break;
            }
            pop(outbox, cls);
        }
    }
}
