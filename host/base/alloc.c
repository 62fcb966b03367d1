#include "host/base/alloc.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Noreturn void out_of_memory(size_t bytes) {
    fprintf(stderr, "out of memory: %zu bytes were refused\n", bytes);
    abort();
}

/* malloc(0) may be NULL, which callers would take for failure. */
static size_t at_least_one(size_t bytes) {
    return bytes ? bytes : 1;
}

void *kith_alloc(size_t bytes) {
    void *pointer = malloc(at_least_one(bytes));
    if (!pointer) out_of_memory(bytes);
    return pointer;
}

void *kith_alloc_zero(size_t bytes) {
    void *pointer = calloc(1, at_least_one(bytes));
    if (!pointer) out_of_memory(bytes);
    return pointer;
}

void *kith_alloc_array(size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) out_of_memory(SIZE_MAX);
    return kith_alloc(total);
}

void *kith_realloc(void *pointer, size_t bytes) {
    void *moved = realloc(pointer, at_least_one(bytes));
    if (!moved) out_of_memory(bytes);
    return moved;
}

void *kith_try_alloc(size_t bytes) {
    return malloc(at_least_one(bytes));
}

void *kith_try_alloc_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - 63) return NULL;
    return aligned_alloc(64, (at_least_one(bytes) + 63) & ~(size_t)63);
}

char *kith_strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    return memcpy(kith_alloc(bytes), text, bytes);
}

char *kith_strndup(const char *text, size_t bytes) {
    size_t length = strnlen(text, bytes);
    char *copy = memcpy(kith_alloc(length + 1), text, length);
    copy[length] = 0;
    return copy;
}

void kith_free(void *pointer) {
    free(pointer);
}

/* Measured: loading 1M x 128 f32 left 155 MiB in glibc's heaps (14 of them, and a mmap threshold that had grown to
 * the size of a batch); with these and a trim after sealing, see bench/served. */
#define HEAPS_MAX           2
#define MAPPED_BLOCK_BYTES  (256 << 10)
#define HEAP_TOP_KEPT_BYTES (1 << 20)

void kith_memory_tune(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, HEAPS_MAX);
    mallopt(M_MMAP_THRESHOLD, MAPPED_BLOCK_BYTES);
    mallopt(M_TRIM_THRESHOLD, HEAP_TOP_KEPT_BYTES);
#endif
}

void kith_memory_trim(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* A mapping of its own costs two calls, a fault a page and at least a page; a small array is cheaper zeroed. A guess. */
#define MAPPED_BYTES_MIN (16 << 10)

static void *small_reserve(size_t bytes) {
    void *memory = kith_try_alloc_aligned(bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

void *kith_pages_reserve(size_t bytes) {
    if (bytes < MAPPED_BYTES_MIN) return small_reserve(bytes);
    void *pages =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

void kith_pages_release(void *pointer, size_t bytes) {
    if (bytes < MAPPED_BYTES_MIN)
        kith_free(pointer);
    else if (pointer)
        munmap(pointer, bytes);
}
