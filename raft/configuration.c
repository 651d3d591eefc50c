#include "raft/configuration.h"

#include "common/limits.h"

#include <raft.h>
#include <string.h>

enum { ID_BYTES = 8, ROLE_BYTES = 1 };

/* A byte of version, the number of members, and of each its id, its address with the zero behind
 * it, and its role; then zeros. */
static bool is_whole(struct kv_slice bytes)
{
    size_t offset = 1 + ID_BYTES;
    uint64_t n;

    if (bytes.size < offset || bytes.size > KV_CONFIGURATION_BYTES_MAX) {
        return false;
    }
    n = kv_get_u64(bytes.data + 1);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *end;

        if (bytes.size - offset < ID_BYTES) {
            return false;
        }
        offset += ID_BYTES;
        end = memchr(bytes.data + offset, 0, bytes.size - offset);
        if (!end || (size_t)(bytes.data + bytes.size - end) < 1 + ROLE_BYTES) {
            return false;
        }
        offset = (size_t)(end - bytes.data) + 1 + ROLE_BYTES;
    }
    return true;
}

int kv_configuration_decode(struct kv_slice bytes, struct raft_configuration *ret_configuration)
{
    struct raft_configuration configuration;
    /* It is only read. */
    struct raft_buffer buffer = {(void *)(uintptr_t)bytes.data, bytes.size};
    int rv;

    if (!is_whole(bytes)) {
        return KV_CORRUPT;
    }
    raft_configuration_init(&configuration);
    rv = raft_configuration_decode(&buffer, &configuration);
    if (rv != 0) {
        return rv == RAFT_NOMEM ? KV_NO_MEMORY : KV_CORRUPT;
    }
    *ret_configuration = configuration;
    return 0;
}
