/* The whole state as bytes, and back: a view of the machine is read piece by piece on another
 * thread while the core goes on, and a loader makes a machine of what was read.
 *
 * The loaded machine answers, and decides, as the saved one would have for ever after: reads at a
 * revision, the end of history, the state hash. Its own snapshot has the same bytes.
 *
 * The bytes are items (snapshot_format.h). They carry no checksum against torn files, which is the
 * store's concern, but a hash of all of them in the last item, so that none is believed that was
 * changed. */
#ifndef KV_MACHINE_SNAPSHOT_H
#define KV_MACHINE_SNAPSHOT_H

#include "server/machine/machine.h"

struct kv_machine_view;

/* Core thread, between two entries. Costs a copy of the history's marks (at most some MiB) and of
 * the sessions with the answers that they keep, nothing that grows with the keys. While it is open,
 * what is replaced stays in memory (kv_machine_stats.unreclaimed_bytes). KV_NO_MEMORY. */
int kv_machine_view_open(struct kv_machine *machine,
                         struct kv_machine_view **ret_view) KV_MUST_CHECK;
/* Core thread, when nobody reads it any more. Takes NULL. */
void kv_machine_view_close(struct kv_machine *machine, struct kv_machine_view *view);
/* Any one thread while the view is open. Appends whole items, one at least, until the next would
 * take the buffer over max_bytes. The buffer's maximum must leave room for max_bytes and
 * KV_SNAPSHOT_ITEM_BYTES_MAX more. 1: more follow, 0: that was the last, KV_NO_MEMORY: what was
 * appended is whole, call again. */
int kv_machine_view_read(struct kv_machine_view *view,
                         struct kv_buf *buf,
                         size_t max_bytes) KV_MUST_CHECK;

struct kv_machine_loader;

/* A loader is used by any one thread. KV_NO_MEMORY. */
int kv_machine_loader_open(struct kv_machine_loader **ret_loader) KV_MUST_CHECK;
/* Takes NULL, and frees what is half built. */
void kv_machine_loader_close(struct kv_machine_loader *loader);
/* Whole items as they were read, in any grouping; nothing about them is trusted. KV_CORRUPT: the
 * message names the item's number and what is wrong; KV_UNSUPPORTED: a newer version made it;
 * KV_NO_MEMORY for marks; records and nodes that find no memory end the process, as in apply. After
 * an error the loader can only be closed. */
int kv_machine_loader_feed(struct kv_machine_loader *loader,
                           struct kv_slice items,
                           struct kv_error *ret_error) KV_MUST_CHECK;
/* Hands the machine over when the stream was whole and what it says about itself is true: counts,
 * sizes, the hash of its bytes, and the state hash computed anew. KV_CORRUPT. */
int kv_machine_loader_finish(struct kv_machine_loader *loader,
                             struct kv_machine **ret_machine,
                             struct kv_error *ret_error) KV_MUST_CHECK;

#endif
