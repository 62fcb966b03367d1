/* A CUDA device made of one CPU thread: kernels are compiled for the CPU, their blocks run one by one and the threads
 * of a block take turns in an order that a seed decides. What it is for is finding what a GPU hides:
 *
 *   memory   every access of a kernel is checked (the kernels are compiled with -fsanitize=thread, and this is the
 *            runtime of its calls): outside an allocation, of bytes never written, of host memory, of the shared
 *            memory of a block past its end. Device memory cannot be touched by the host at all, and what is copied to it
 *            was written.
 *   races    two threads, one of them writing, without a barrier between; two blocks of one launch likewise.
 *   barriers a thread that has left, or waits at another one, while others wait; the same for warp operations.
 *   order    copies and kernels of a stream run when somebody waits for them, or earlier, as the seed decides.
 *   faults   the N-th call of the runtime fails.
 *
 * A kernel with a fault ends with cudaErrorLaunchFailure, which sticks as on a device; cuda_emu_report says where.
 *
 * Threads: calls may come from any thread; one runs at a time. */
#ifndef KITH_TESTS_CUDA_EMU_CUDA_EMU_H
#define KITH_TESTS_CUDA_EMU_CUDA_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A fresh device: no allocations, no streams, no reports, no injected fault. Ends the process if something was left
 * running. Order of threads and streams comes from `seed`. */
void cuda_emu_reset(uint64_t seed);
/* Bytes that cudaMalloc gives out in all; also what cudaMemGetInfo and the device's properties say. */
void cuda_emu_memory_limit(size_t bytes);
/* 80, 90: what the device says it can do. */
void cuda_emu_arch(int major, int minor);
/* No device at all: every call says so. */
void cuda_emu_no_device(void);

typedef enum cuda_emu_fault {
    CUDA_EMU_FAULT_ONCE,   /* this call alone fails */
    CUDA_EMU_FAULT_STICKY, /* this call and all after it: a lost device */
} cuda_emu_fault;
/* The `number`-th call from now fails, counted from 1; 0: none. Calls that only ask for the last error are not
 * counted. */
void cuda_emu_fail(uint64_t number, cuda_emu_fault fault);
/* Runtime calls and launches since cuda_emu_fail or cuda_emu_reset. */
uint64_t cuda_emu_call_count(void);
/* Name of the call that was made to fail, or NULL. */
const char *cuda_emu_failed_call(void);

/* Findings since the reset, and the text of the first ones; "" past the last. */
uint32_t cuda_emu_report_count(void);
const char *cuda_emu_report(uint32_t index);

/* What is in use now. */
size_t cuda_emu_device_bytes(void);
uint32_t cuda_emu_object_count(void); /* allocations, pinned blocks, streams, events */
uint64_t cuda_emu_launch_count(void);
/* Bytes of device memory that kernels have read since the reset. */
uint64_t cuda_emu_read_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
