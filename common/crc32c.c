#include "common/crc32c.h"

#include <isa-l/crc.h>

/* isa-l takes at most INT_MAX bytes a call, and does neither of the usual inversions. */
enum { PIECE_BYTES = 1 << 30 };

uint32_t kv_crc32c(const void *data, size_t size, uint32_t seed)
{
    const unsigned char *bytes = data;
    uint32_t crc = ~seed;

    while (size > 0) {
        size_t piece = size < PIECE_BYTES ? size : PIECE_BYTES;

        /* isa-l's parameter lacks the const; it only reads. */
        crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)piece, crc);
        bytes += piece;
        size -= piece;
    }
    return ~crc;
}
