/* Arena: a request's memory, freed in one call. Blocks grow geometrically and stay with the arena on reset,
 * so that a reused arena stops calling malloc.
 *
 * Threads: one at a time. */
#ifndef KITH_BASE_ARENA_H
#define KITH_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct kith_arena_block kith_arena_block;

typedef struct kith_arena {
    kith_arena_block *first;
    kith_arena_block *current;
    size_t used_bytes; /* in `current` */
} kith_arena;

void kith_arena_init(kith_arena *arena);
void kith_arena_fini(kith_arena *arena);
/* Forgets everything allocated; keeps up to 1 MiB of blocks for reuse. */
void kith_arena_reset(kith_arena *arena);
/* As reset, but keeps blocks of `kept_bytes_max` together at most. */
void kith_arena_trim(kith_arena *arena, size_t kept_bytes_max);
/* 16-byte aligned, not zeroed, never NULL (see alloc.h). */
void *kith_arena_alloc(kith_arena *arena, size_t bytes);
void *kith_arena_alloc_zero(kith_arena *arena, size_t bytes);
/* Array of `count` elements; ends the process if count * bytes overflows: check counts against limits first.
 */
void *kith_arena_array(kith_arena *arena, size_t count, size_t bytes);
void *kith_arena_copy(kith_arena *arena, const void *data, size_t bytes);
/* NUL-terminated copy of `bytes` bytes of text. */
char *kith_arena_text(kith_arena *arena, const char *text, size_t bytes);

#endif
