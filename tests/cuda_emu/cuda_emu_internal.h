/* What the parts of the emulator share: memory with its shadow, the running thread, findings. Everything is called
 * with the emulator's lock held. */
#ifndef KITH_TESTS_CUDA_EMU_CUDA_EMU_INTERNAL_H
#define KITH_TESTS_CUDA_EMU_CUDA_EMU_INTERNAL_H

#include <cuda_runtime.h>

#include "tests/cuda_emu/cuda_emu.h"

enum {
    EMU_THREADS_MAX = 1024, /* of a block */
    EMU_STACK_BYTES = 64 << 10,
    EMU_DEVICE_BYTES = 256 << 20,
    EMU_SHARED_BYTES = 227 << 10,      /* of a block that asked, as sm_90 */
    EMU_SHARED_SPACE = 256 << 10,      /* with red zones */
    EMU_SHARED_PLAIN_BYTES = 48 << 10, /* what a launch may have without asking first */
};

/* Who a memory access is made by. */
struct emu_who {
    uint32_t launch, block, thread; /* block: linear index */
    uint32_t epoch;                 /* barriers that the thread has passed */
    uint32_t warp_epoch;            /* warp operations of its warp up to its last one */
};

/* --- findings --- */

void emu_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void emu_reports_clear();

/* --- memory --- */

void emu_memory_reset();
/* NULL when the limit is reached. */
void *emu_memory_alloc(size_t bytes);
bool emu_memory_free(void *pointer);
/* Whether [at, at + bytes) lies in one allocation of the device. */
bool emu_memory_valid(const void *at, size_t bytes);
/* The first of them that was never written, or `bytes`. */
size_t emu_memory_unwritten(const void *at, size_t bytes);
void emu_memory_written(void *at, size_t bytes);
/* The device's memory may be touched only between the two; they nest. */
void emu_memory_open();
void emu_memory_close();
void emu_memory_limits(size_t *used_out, size_t *limit_out);
uint32_t emu_memory_count();

/* Whether the stores to these bytes of shared memory are for products to see: each store's thread has made a fence
 * since. */
bool emu_shared_fenced(const void *at, size_t bytes);
/* Stores to memory so far. */
uint64_t emu_store_count();

/* Fresh shared memory for a block, filled with a pattern and marked unwritten. */
unsigned char *emu_shared_begin(size_t bytes);
/* An object of fixed size beside what the launch asked for. */
void emu_shared_more(size_t offset, size_t bytes);

/* --- the running kernel --- */

bool emu_running();
emu_who emu_who_now();
/* The name and place of the running thread. */
void emu_place_text(char *text, size_t bytes);
/* True for memory of the thread that is its own (stack), or that kernels may read (arguments, constants). */
bool emu_address_private(const void *at, size_t bytes, bool write);
/* Ends the running kernel; does not return. */
void emu_kernel_abort() __attribute__((noreturn));
/* emu_store_count when the thread of this block made its last fence for products. */
uint64_t emu_fenced_at(uint32_t thread);
/* Runs a whole launch; false when it found a fault. */
bool emu_kernel_run(const cuda_emu_kernel &kernel);

uint32_t emu_random(uint32_t below);
void emu_random_seed(uint64_t seed);

/* Check of one access; `atomic`: may meet other atomic ones. */
void emu_access(const void *at, size_t bytes, bool write, bool atomic);

#endif
