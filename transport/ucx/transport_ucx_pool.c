/* Memory for long bodies, kept for the next one: fresh memory of a megabyte costs 256 page faults, more than carrying it.
 *
 * Blocks have sizes of which there are four a doubling. At most POOL_BYTES_MAX stay; all go when none was used for a while.
 * Smaller and larger bodies than those of the pool are the allocator's own business. Any thread: a reply's memory is taken
 * by whoever replies and given back by the I/O thread, so a lock, held for a few instructions. */
#include "transport/ucx/transport_ucx_internal.h"

#define BLOCK_BYTES_MIN (64u << 10)
#define BLOCK_BYTES_MAX (32u << 20)
#define POOL_BYTES_MAX  (64u << 20)
#define CLASS_NONE      UINT32_MAX

/* In front of every block; as long as a cache line, so that what follows is aligned. */
typedef struct ucx_block {
    struct ucx_block *next;
    uint64_t bytes; /* with this header */
    uint32_t class_index;
    uint8_t padding[44];
} ucx_block;

_Static_assert(sizeof(ucx_block) == 64, "a block's bytes are aligned");

/* The class of blocks for `bytes`, and how long they are. */
static uint32_t class_of(uint64_t bytes, uint64_t *block_bytes_out) {
    uint32_t doubling = 63u - (uint32_t)__builtin_clzll(bytes);
    uint64_t step = 1ULL << (doubling - 2);
    uint64_t steps = (bytes + step - 1) / step; /* 4..8 */
    *block_bytes_out = steps * step;
    uint32_t lowest = 63u - (uint32_t)__builtin_clzll(BLOCK_BYTES_MIN);
    return 4 * (doubling - lowest) + (uint32_t)steps - 4;
}

void ucx_pool_init(ucx_pool *pool) {
    *pool = (ucx_pool){0};
    kith_mutex_init(&pool->mutex, KITH_RANK_TRANSPORT);
}

static ucx_block *take_kept(ucx_pool *pool, uint32_t class_index) {
    kith_mutex_lock(&pool->mutex);
    ucx_block *block = pool->kept[class_index];
    pool->was_used = true;
    if (block) {
        pool->kept[class_index] = block->next;
        pool->kept_bytes -= block->bytes;
    }
    kith_mutex_unlock(&pool->mutex);
    return block;
}

void *ucx_pool_take(ucx_pool *pool, size_t bytes) {
    uint64_t block_bytes = bytes + sizeof(ucx_block);
    uint32_t class_index = CLASS_NONE;
    ucx_block *block = NULL;
    if (block_bytes > BLOCK_BYTES_MIN && block_bytes <= BLOCK_BYTES_MAX) {
        class_index = class_of(block_bytes, &block_bytes);
        kith_assert(class_index < UCX_POOL_CLASSES);
        block = take_kept(pool, class_index);
    }
    if (!block) block = kith_try_alloc(block_bytes);
    if (!block) return NULL;
    block->bytes = block_bytes;
    block->class_index = class_index;
    return block + 1;
}

void ucx_pool_give(ucx_pool *pool, void *bytes) {
    if (!bytes) return;
    ucx_block *block = (ucx_block *)bytes - 1;
    if (block->class_index != CLASS_NONE) {
        kith_mutex_lock(&pool->mutex);
        if (pool->kept_bytes + block->bytes <= POOL_BYTES_MAX) {
            block->next = pool->kept[block->class_index];
            pool->kept[block->class_index] = block;
            pool->kept_bytes += block->bytes;
            block = NULL;
        }
        kith_mutex_unlock(&pool->mutex);
    }
    kith_free(block);
}

static void free_chain(ucx_block *block) {
    while (block) {
        ucx_block *next = block->next;
        kith_free(block);
        block = next;
    }
}

void ucx_pool_trim(ucx_pool *pool) {
    ucx_block *kept[UCX_POOL_CLASSES] = {0};
    kith_mutex_lock(&pool->mutex);
    if (!pool->was_used && pool->kept_bytes > 0) {
        memcpy(kept, pool->kept, sizeof kept);
        memset(pool->kept, 0, sizeof pool->kept);
        pool->kept_bytes = 0;
    }
    pool->was_used = false;
    kith_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < UCX_POOL_CLASSES; i++)
        free_chain(kept[i]);
}

void ucx_pool_fini(ucx_pool *pool) {
    for (uint32_t i = 0; i < UCX_POOL_CLASSES; i++)
        free_chain(pool->kept[i]);
    kith_mutex_fini(&pool->mutex);
}
