/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): SSE4.2 or ARMv8 instructions where the machine has them, else
 * a table. All give the same value. */
#ifndef KITH_BASE_CRC32C_H
#define KITH_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to start) over `bytes` bytes. */
uint32_t kith_crc32c(uint32_t crc, const void *data, size_t bytes);
/* The same by the table, for the test that compares them. */
uint32_t kith_crc32c_portable(uint32_t crc, const void *data, size_t bytes);

#endif
