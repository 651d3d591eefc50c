/* libraft's encoding of a configuration, read from bytes that may be cut or made up. */
#ifndef KV_RAFT_CONFIGURATION_H
#define KV_RAFT_CONFIGURATION_H

#include "common/bytes.h"
#include "common/status.h"

struct raft_configuration;

/* As raft_configuration_decode, which by itself reads behind the end of bytes that are cut, takes
 * some of those for whole, and leaves what must not be closed when it fails. KV_CORRUPT: malformed;
 * KV_NO_MEMORY; *ret_configuration needs no close then. */
int kv_configuration_decode(struct kv_slice bytes,
                            struct raft_configuration *ret_configuration) KV_MUST_CHECK;

#endif
