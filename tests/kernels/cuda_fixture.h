/* A CUDA backend for tests: on the emulator, or on a real GPU where there is one. KITH_TEST_CUDA=emu|real picks one;
 * otherwise the emulator and, if it opens, the real one, KITH_TEST_CUDA_PLUGIN or the one that was built. */
#ifndef KITH_TESTS_KERNELS_CUDA_FIXTURE_H
#define KITH_TESTS_KERNELS_CUDA_FIXTURE_H

#include "kernels/cuda/cuda_backend.h"
#include "tests/cuda_emu/cuda_emu.h"
#include "tests/kernels/kernels_case.h"

typedef struct cuda_fixture {
    bool emulated;
    kith_cuda *cuda;
    kith_cuda_backend *backend;
    kith_cuda_backend_options options;
    uint32_t retired_count; /* times that the callback was told */
} cuda_fixture;

/* The kinds that this run tests; bit 0: emulated, bit 1: real. Prints them once. */
uint32_t cuda_fixture_kinds(void);

/* Opens a backend. Emulated: on a fresh device, its order from `seed`. Fails the test if it cannot be had. */
void cuda_fixture_open(
    cuda_fixture *f, bool emulated, uint64_t seed, const kith_cuda_backend_options *options);
/* Emulated: fails the test if the emulator found something, or something was left on the device. */
void cuda_fixture_close(cuda_fixture *f);

/* Makes the case's rows resident, searches, and compares with ref, bit for bit; fails the test with the shape. The
 * statistics of the search are added. */
void cuda_fixture_check(cuda_fixture *f, const case_shape *shape, kith_top_k_stats *stats);
/* The same for a case that is there, with the hits that are wanted. */
typedef struct cuda_answer {
    kith_row_hit *hits;
    uint32_t *counts;
} cuda_answer;
void cuda_answer_make(const kernels_case *c, const kith_compute_ops *ops, cuda_answer *out);
void cuda_answer_free(cuda_answer *answer);
bool cuda_answers_equal(const kernels_case *c, const cuda_answer *a, const cuda_answer *b);

#endif
