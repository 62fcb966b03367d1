/* Launchers of the emulator's own test kernels. */
#ifndef KITH_TESTS_CUDA_EMU_EMU_FAULTS_H
#define KITH_TESTS_CUDA_EMU_EMU_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The argument, where there is one: nonzero is right (EMU_REVERSE, EMU_WARP_REVERSE, EMU_COUNT_BLOCKS,
 * EMU_DIVERGENT_WARP); an index; bytes of shared memory beside 256; threads that write; 1 or 2: the kind of fault (EMU_DIVERGENT); k (EMU_MMA); one of
 * emu_faults_wgmma. */
typedef enum emu_faults_kernel {
    EMU_REVERSE,
    EMU_WARP_REVERSE,
    EMU_COUNT_BLOCKS,
    EMU_OUT_OF_BOUNDS,
    EMU_HOST_MEMORY,
    EMU_UNWRITTEN,
    EMU_SHARED,
    EMU_DIVERGENT,
    EMU_DIVERGENT_WARP,
    EMU_SHUFFLE,
    EMU_MMA,
    EMU_WGMMA,
} emu_faults_kernel;

/* What a kernel with products of a warpgroup does wrong. */
typedef enum emu_faults_wgmma {
    EMU_WGMMA_RIGHT,
    EMU_WGMMA_NO_SHARED_FENCE,
    EMU_WGMMA_NO_BARRIER,
    EMU_WGMMA_NO_FENCE,
    EMU_WGMMA_NO_WAIT,
    EMU_WGMMA_SUMS_READ_EARLY,
    EMU_WGMMA_A_CHANGED_EARLY,
    EMU_WGMMA_ONE_WARP_LESS,
} emu_faults_wgmma;

/* Queues the kernel over `device` memory, 64 numbers (EMU_MMA: A [16][k] and B [8][k] bytes, C [16][8] numbers;
 * EMU_WGMMA: A [64][32] and B [128][32] bytes, C [64][128] numbers, which become 2 A B). */
void emu_faults_run(
    emu_faults_kernel which, uint32_t argument, uint32_t *device, uint32_t *host, void *stream);

/* The runtime's calls for a test in C. They return CUDA's error. */
int emu_malloc(void **device_out, size_t bytes);
int emu_free(void *device);
int emu_stream_create(void **stream_out);
int emu_stream_destroy(void *stream);
int emu_stream_wait(void *stream);
int emu_host_alloc(void **pinned_out, size_t bytes);
int emu_host_free(void *pinned);
int emu_upload(void *device, const void *host, size_t bytes, void *stream);
int emu_download(void *host, const void *device, size_t bytes, void *stream);

#ifdef __cplusplus
}
#endif

#endif
