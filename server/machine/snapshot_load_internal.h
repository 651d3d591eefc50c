/* What the files of the loader share: snapshot_load.c takes the items apart, snapshot_records.c
 * makes records of them. */
#ifndef KV_MACHINE_SNAPSHOT_LOAD_INTERNAL_H
#define KV_MACHINE_SNAPSHOT_LOAD_INTERNAL_H

#include "server/machine/machine_internal.h"
#include "server/machine/snapshot_format.h"
#include "server/machine/snapshot_sums.h"

#include <xxhash.h>

struct kv_expected_large {
    struct kv_large large;
    int64_t fields_due_ms;
};
/* Numbers that count on from here do not overflow in the machine's life. */
#define KV_LOADER_NUMBER_MAX (INT64_MAX / 2)

struct kv_machine_loader {
    struct kv_machine *machine;
    XXH3_state_t *hash;
    struct kv_history_mark *marks; /* revision and time only */
    size_t marks_at;               /* those before it are the machine's already */
    size_t marks_capacity;
    enum kv_item_kind kind; /* of the newest item; 0: none yet */
    uint64_t n_items;
    int64_t change_revision; /* of the newest change */
    uint64_t said_sessions, said_session_bytes;
    uint64_t said_waiters, last_waiter;
    uint64_t said_topics, said_messages, said_topic_bytes;
    struct kv_sums sums;                /* of the large collections that there were */
    size_t n_untold;                    /* of these */
    struct kv_expected_large *expected; /* those of the base, as their keys tell them */
    size_t n_expected, expected_capacity;
    struct kv_snapshot_totals read;
    struct kv_snapshot_totals said;
    bool failed;
};

struct kv_item {
    enum kv_item_kind kind;
    enum kv_type type;
    bool is_large;
    bool drops;
    bool expired;
    struct kv_life life;
    const uint8_t *fixed;
    struct kv_slice key;
    struct kv_slice value;
    size_t size;
};

static inline uint64_t kv_item_number(const struct kv_item *item, unsigned i)
{
    return kv_get_u64(item->fixed + (size_t)8 * i);
}

/* Returns the status; the message begins with the item's number. */
int kv_loader_refuse(const struct kv_machine_loader *loader,
                     int status,
                     struct kv_error *ret_error,
                     const char *format,
                     ...) KV_PRINTF(4, 5);
/* Takes the life off the end of the item's value; believes nothing. */
int kv_loader_take_life(const struct kv_machine_loader *loader,
                        struct kv_item *item,
                        struct kv_error *ret_error) KV_MUST_CHECK;
/* At the end: what elements there are, keys have told. */
int kv_loader_check_told(const struct kv_machine_loader *loader,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* At the end: keys of leases that there are. */
int kv_loader_check_leases(const struct kv_machine_loader *loader,
                           struct kv_error *ret_error) KV_MUST_CHECK;
/* Gives the machine the marks that lie before the revision. */
void kv_loader_take_marks(struct kv_machine_loader *loader, int64_t revision);
/* topics_snapshot.c: the three kinds of topics. */
int kv_loader_topics(struct kv_machine_loader *loader,
                     const struct kv_item *item,
                     struct kv_error *ret_error);
int kv_loader_topic(struct kv_machine_loader *loader,
                    const struct kv_item *item,
                    struct kv_error *ret_error);
int kv_loader_message(struct kv_machine_loader *loader,
                      const struct kv_item *item,
                      struct kv_error *ret_error);
/* Behind the last item: are all there that were said to be? */
int kv_loader_finish_topics(const struct kv_machine_loader *loader,
                            struct kv_error *ret_error) KV_MUST_CHECK;
int kv_loader_base(struct kv_machine_loader *loader,
                   const struct kv_item *item,
                   struct kv_error *ret_error);
int kv_loader_element(struct kv_machine_loader *loader,
                      const struct kv_item *item,
                      struct kv_error *ret_error);
/* Behind the last element of the base: are all there? */
int kv_loader_check_base(struct kv_machine_loader *loader, struct kv_error *ret_error);
int kv_loader_change(struct kv_machine_loader *loader,
                     const struct kv_item *item,
                     struct kv_error *ret_error);
int kv_loader_element_change(struct kv_machine_loader *loader,
                             const struct kv_item *item,
                             struct kv_error *ret_error);

#endif
