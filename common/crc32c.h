/* CRC32C (Castagnoli) by hardware instruction (isa-l). Chainable: crc(b, crc(a, 0)) == crc(a||b,
 * 0). */
#ifndef KV_COMMON_CRC32C_H
#define KV_COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t kv_crc32c(const void *data, size_t size, uint32_t seed);

#endif
