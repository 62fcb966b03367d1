#include "host/base/hash.h"

/* Compiled into this file: most keys are 9 bytes, where a call through the shared library costs more than the
 * hash. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t kith_hash64(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}
