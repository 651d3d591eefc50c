/* Snapshots for tests: written in one go, with bytes that do not compress. */
#ifndef KV_TESTS_SUPPORT_SNAPSHOT_RIG_H
#define KV_TESTS_SUPPORT_SNAPSHOT_RIG_H

#include "raft/snapshot_file.h"
#include "tests/support/fake_disk.h"

/* Bytes that lz4 can make nothing of. */
void snapshot_rig_fill(uint8_t *p, size_t size, uint64_t seed);
/* Writes a snapshot of these blocks; asserts that it works. */
struct kv_snapshot_descriptor snapshot_rig_write(struct fake_disk *disk,
                                                 const struct kv_snapshot_meta *meta,
                                                 const struct kv_slice *blocks,
                                                 size_t n_blocks);
/* All pieces were added: checks what was received, as an install does, and gives it its name. */
int snapshot_rig_finish(struct kv_snapshot_receiver *receiver,
                        uint64_t cluster_id,
                        struct kv_error *ret_error) KV_MUST_CHECK;
bool snapshot_rig_is_there(struct fake_disk *disk, const char *path);

#endif
