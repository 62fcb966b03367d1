/* The only place that calls malloc. kith_alloc and friends never return NULL: running out while serving
 * small, bounded objects ends the process with a message. kith_try_alloc is for sizes that a client or a data
 * set decides: NULL becomes KITH_NO_MEMORY at the caller.
 *
 * Threads: any. */
#ifndef KITH_BASE_ALLOC_H
#define KITH_BASE_ALLOC_H

#include <stddef.h>

void *kith_alloc(size_t bytes);
void *kith_alloc_zero(size_t bytes);
/* Array of `count` elements; ends the process if count * bytes overflows. */
void *kith_alloc_array(size_t count, size_t bytes);
void *kith_realloc(void *pointer, size_t bytes);
/* NULL when memory is out. Not zeroed. */
void *kith_try_alloc(size_t bytes);
/* 64-byte aligned, for SIMD and packed matrices; NULL when memory is out; freed with kith_free. */
void *kith_try_alloc_aligned(size_t bytes);
char *kith_strdup(const char *text);
/* The first `bytes` bytes of `text`, or all of it if it is shorter, and a NUL. */
char *kith_strndup(const char *text, size_t bytes);
void kith_free(void *pointer);

/* Once, at the start of a server's main: big blocks go back to the system when freed, and threads share few heaps. */
void kith_memory_tune(void);
/* Gives freed memory back to the system. Costs milliseconds: for background threads, after large work. */
void kith_memory_trim(void);

/* Address space for an array that grows in place under readers: `bytes` of zeros, aligned to 64 or more. Of a large one
 * each page is taken from memory only when first touched. NULL when the address space or the commit limit is out. Freed with
 * kith_pages_release of the same size. */
void *kith_pages_reserve(size_t bytes);
void kith_pages_release(void *pointer, size_t bytes);

#endif
