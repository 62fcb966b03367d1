/* What the scans on tensor cores (mma, wgmma) share: how a warp reads a block of 32 rows as A fragments, and what it does
 * with the sums.
 *
 * Which row of the matrix product is which row of the block is for us to choose, as long as all registers agree. So
 * that a lane reads 16 bytes at a time, lane 4 r + m takes rows 4 r to 4 r + 3 of groups of components m and m + 4: a
 * warp reads 512 neighbouring bytes. Rows 4 r and 4 r + 1 are rows r and r + 8 of a first product of 16 rows, 4 r + 2
 * and 4 r + 3 of a second. */
#ifndef KITH_KERNELS_CUDA_CUDA_SCAN_TILE_CUH
#define KITH_KERNELS_CUDA_CUDA_SCAN_TILE_CUH

#include "kernels/cuda/cuda_scan.cuh"

enum { TILE_HALVES = 2 }; /* products of 16 rows that make up a block */

/* The A fragments of 32 components: what the lane read of its groups m and m + 4. */
static __device__ __forceinline__ void tile_fragments(
    const uint4 &first, const uint4 &second, uint32_t (&a)[TILE_HALVES][4]) {
    a[0][0] = scan_codes(first.x), a[0][1] = scan_codes(first.y);
    a[1][0] = scan_codes(first.z), a[1][1] = scan_codes(first.w);
    a[0][2] = scan_codes(second.x), a[0][3] = scan_codes(second.y);
    a[1][2] = scan_codes(second.z), a[1][3] = scan_codes(second.w);
}

/* What the lane reads of four groups, from group `group` on. */
static __device__ __forceinline__ uint4 tile_read(const uint32_t *words, uint32_t group) {
    const uint32_t row = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
    return __ldg((const uint4 *)(words + (group + member) * KITH_CODE_BLOCK_ROWS) + row);
}

/* Sums of a block's rows with 8 `columns` queries, high planes before low ones: of[half][columns * 8][...] as D fragments
 * lie. With lane 4 r + m, register i of a column: row 4 r + 2 half + i / 2, query 8 column + 2 m + i % 2. */
template <int columns> struct tile_sums {
    int of[TILE_HALVES][2 * columns * 4];

    __device__ __forceinline__ int product(int half, int column, int i) const {
        return 128 * of[half][4 * column + i] + of[half][4 * (columns + column) + i];
    }
};

/* A query's weights; of one that is not there, such that hardly any row is kept. */
static __device__ inline cuda_scan_weights tile_weights_of(const cuda_scan_job &job, uint32_t query) {
    if (query < job.query_count) return scan_weights(job, query);
    cuda_scan_weights none = {0, 0, 0, INFINITY, 0};
    return none;
}

/* Compares and appends the rows of one block. `first`: the query of the first column; weights: from there on. */
template <int columns>
static __device__ __forceinline__ void tile_append(const cuda_scan_job &job, uint32_t number, uint32_t live,
    uint32_t first, const cuda_scan_weights *weights, const tile_sums<columns> &sums) {
    const uint32_t row = threadIdx.x % 32 / 4, member = threadIdx.x % 4, lanes = 0x11111111u << member;
    const kith_code_block *block = scan_block(job, number);
#pragma unroll
    for (int quarter = 0; quarter < 4; quarter++) {
        const uint32_t at = 4 * row + quarter;
        const cuda_scan_row constants = scan_row(job, block, at);
        uint32_t kept = 0;
#pragma unroll
        for (int i = 0; i < 2 * columns; i++) {
            int product = sums.product(quarter / 2, i / 2, 2 * (quarter % 2) + i % 2);
            if (scan_keeps(product, constants, weights[8 * (i / 2) + 2 * member + i % 2])) kept |= 1u << i;
        }
        if (!(live >> at & 1)) kept = 0;
        if (!__any_sync(0xffffffffu, kept)) continue;
        for (uint32_t i = 0; i < 2 * columns; i++) {
            const uint32_t query = first + 8 * (i / 2) + 2 * member + i % 2;
            scan_append(job, query, number * KITH_CODE_BLOCK_ROWS + at,
                kept >> i & 1 && query < job.query_count, lanes);
        }
    }
}

#endif
