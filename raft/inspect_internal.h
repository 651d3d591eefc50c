/* What inspect.c (meta, snapshots) and inspect_wal.c share. */
#ifndef KV_RAFT_INSPECT_INTERNAL_H
#define KV_RAFT_INSPECT_INTERNAL_H

#include "raft/inspect.h"
#include "raft/meta.h"

void kv_inspect_say(const struct kv_inspect *inspect, const char *format, ...) KV_PRINTF(2, 3);
/* Prints the meta of the directory. */
int kv_inspect_meta(const struct kv_inspect *inspect,
                    struct kv_meta *ret_meta,
                    bool *ret_missing,
                    struct kv_error *ret_error);
/* Prints the members, a line each. KV_CORRUPT: malformed (ret_error untouched); KV_NO_MEMORY. */
int kv_inspect_configuration(const struct kv_inspect *inspect, struct kv_slice configuration);

#endif
