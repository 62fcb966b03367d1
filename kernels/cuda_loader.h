/* Loads the CUDA plugin, or says why it cannot be used: no plugin, one of another version, no driver, no
 * device. Nothing here needs CUDA to build.
 *
 * Threads: open and close at start and stop; the table may be used by any thread in between.
 * Ownership: open makes a kith_cuda that close ends; the table lives as long. */
#ifndef KITH_KERNELS_CUDA_LOADER_H
#define KITH_KERNELS_CUDA_LOADER_H

#include "kernels/cuda/cuda_plugin.h"

typedef struct kith_cuda kith_cuda;

/* `path`: the plugin's file, or a bare name that the dynamic linker looks up. UNAVAILABLE with the reason. */
KITH_CHECK kith_status kith_cuda_open(const char *path, kith_cuda **cuda_out, kith_err *err);
/* As open, with a plugin that is linked into this program (tests: the emulated one); `name` is for messages. */
KITH_CHECK kith_status kith_cuda_open_table(
    const char *name, const kith_cuda_plugin *table, kith_cuda **cuda_out, kith_err *err);
/* Accepts NULL. */
void kith_cuda_close(kith_cuda *cuda);

const kith_cuda_plugin *kith_cuda_table(const kith_cuda *cuda);
uint32_t kith_cuda_device_count(const kith_cuda *cuda);

#endif
