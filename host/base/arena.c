#include "host/base/arena.h"

#include <stdbool.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define ARENA_BLOCK_BYTES_MIN (4u << 10)
#define ARENA_BLOCK_BYTES_MAX (1u << 20)
#define ARENA_KEPT_BYTES_MAX  (1u << 20)
#define ARENA_ALIGNMENT       16u

struct kith_arena_block {
    kith_arena_block *next;
    size_t bytes; /* of `data` */
    _Alignas(ARENA_ALIGNMENT) unsigned char data[];
};

void kith_arena_init(kith_arena *arena) {
    *arena = (kith_arena){0};
}

static void free_blocks(kith_arena_block *block) {
    while (block) {
        kith_arena_block *next = block->next;
        kith_free(block);
        block = next;
    }
}

void kith_arena_fini(kith_arena *arena) {
    free_blocks(arena->first);
    kith_arena_init(arena);
}

void kith_arena_reset(kith_arena *arena) {
    kith_arena_trim(arena, ARENA_KEPT_BYTES_MAX);
}

void kith_arena_trim(kith_arena *arena, size_t kept_bytes_max) {
    size_t kept_bytes = 0;
    kith_arena_block **link = &arena->first;
    while (*link && kept_bytes + (*link)->bytes <= kept_bytes_max) {
        kept_bytes += (*link)->bytes;
        link = &(*link)->next;
    }
    free_blocks(*link);
    *link = NULL;
    arena->current = arena->first;
    arena->used_bytes = 0;
}

/* A block for at least `bytes`, twice as large as the one before up to the limit; put after `current`. */
static void add_block(kith_arena *arena, size_t bytes) {
    size_t wanted = arena->current ? 2 * arena->current->bytes : ARENA_BLOCK_BYTES_MIN;
    if (wanted > ARENA_BLOCK_BYTES_MAX) wanted = ARENA_BLOCK_BYTES_MAX;
    if (wanted < bytes) wanted = bytes;
    kith_arena_block *block = kith_alloc(sizeof *block + wanted);
    block->bytes = wanted;
    kith_arena_block **link = arena->current ? &arena->current->next : &arena->first;
    block->next = *link;
    *link = block;
    arena->current = block;
    arena->used_bytes = 0;
}

/* Moves on to a kept block that has room, or adds one. */
static void next_block(kith_arena *arena, size_t bytes) {
    kith_arena_block *next = arena->current ? arena->current->next : arena->first;
    if (!next || next->bytes < bytes) {
        add_block(arena, bytes);
        return;
    }
    arena->current = next;
    arena->used_bytes = 0;
}

void *kith_arena_alloc(kith_arena *arena, size_t bytes) {
    kith_assert(bytes <= SIZE_MAX / 2);
    size_t rounded = (bytes + ARENA_ALIGNMENT - 1) & ~(size_t)(ARENA_ALIGNMENT - 1);
    if (!arena->current || arena->current->bytes - arena->used_bytes < rounded) next_block(arena, rounded);
    void *at = arena->current->data + arena->used_bytes;
    arena->used_bytes += rounded;
    return at;
}

void *kith_arena_alloc_zero(kith_arena *arena, size_t bytes) {
    return memset(kith_arena_alloc(arena, bytes), 0, bytes);
}

void *kith_arena_array(kith_arena *arena, size_t count, size_t bytes) {
    size_t total = SIZE_MAX;
    bool overflows = __builtin_mul_overflow(count, bytes, &total);
    kith_assert(!overflows);
    return kith_arena_alloc(arena, total);
}

void *kith_arena_copy(kith_arena *arena, const void *data, size_t bytes) {
    void *copy = kith_arena_alloc(arena, bytes);
    if (bytes) memcpy(copy, data, bytes);
    return copy;
}

char *kith_arena_text(kith_arena *arena, const char *text, size_t bytes) {
    char *copy = kith_arena_alloc(arena, bytes + 1);
    if (bytes) memcpy(copy, text, bytes);
    copy[bytes] = 0;
    return copy;
}
