/* The scan of codes: what its twins (dp4a, mma, wgmma) share. codes.h has the layout and the bound.
 *
 * A query's levels are two signed 8-bit planes, level = 128 * high + low with low in 0..127; stored codes are biased
 * by 128, and the topmost bit of each byte turned over makes them signed. So l.c = 128 * (high.c) + low.c, three
 * integer products that cannot overflow (codes.h caps the levels).
 *
 * Rows whose upper bound reaches the query's threshold are appended to the query's list. The list's count goes on
 * past its room: what is past it is lost, and the search sees that it was (cuda_search.cu). */
#ifndef KITH_KERNELS_CUDA_CUDA_SCAN_CUH
#define KITH_KERNELS_CUDA_CUDA_SCAN_CUH

#include "kernels/codes/codes.h"
#include "kernels/cuda/cuda_launch.h"

typedef struct cuda_scan_job {
    const uint8_t *d_blocks; /* of the segment */
    const uint32_t
        *d_dead; /* bits of row_begin's block and on: word i is of block block_origin + i; or NULL */
    const uint32_t *d_allow;
    const int16_t *d_levels;          /* [query_count][code_dim] */
    const kith_cuda_query *d_weights; /* [query_count] */
    const float *d_thresholds;        /* [query_count] */
    uint32_t *d_counts;               /* [query_count], 0 at first */
    uint32_t *d_rows;                 /* [query_count][capacity] */
    kith_code_layout layout;
    uint32_t code_dim, lead_dim, query_count, capacity;
    uint32_t row_begin, row_end;
    uint32_t block_origin;                        /* of d_dead and d_allow */
    uint32_t block_first, block_step, scan_count; /* blocks first, first + step, ...: scan_count of them */
    uint32_t processor_count;
    cudaStream_t stream;
} cuda_scan_job;

/* INTERNAL when CUDA refuses the launch. mma for shapes cuda_scan_mma_suits; wgmma for those cuda_scan_wgmma_fits, on
 * devices of compute capability 9.0 that were prepared; `suits`: it is also worth it. */
kith_status cuda_scan_dp4a(const cuda_scan_job *job, kith_err *err);
bool cuda_scan_mma_suits(const cuda_scan_job *job);
kith_status cuda_scan_mma(const cuda_scan_job *job, kith_err *err);
bool cuda_scan_wgmma_fits(const cuda_scan_job *job);
bool cuda_scan_wgmma_suits(const cuda_scan_job *job);
kith_status cuda_scan_wgmma(const cuda_scan_job *job, kith_err *err);

/* What of a query the comparison needs. */
typedef struct cuda_scan_weights {
    float error, tail, offset, threshold, lead_tail;
} cuda_scan_weights;

static __device__ inline cuda_scan_weights scan_weights(const cuda_scan_job &job, uint32_t query) {
    const kith_cuda_query &weights = job.d_weights[query];
    cuda_scan_weights result = {weights.error_weight, weights.tail_weight, weights.offset_weight,
        job.d_thresholds[query], weights.lead_tail_weight};
    return result;
}

/* The two planes of four neighbouring levels: x high, y low. */
static __device__ inline uint2 scan_planes(const int16_t *levels) {
    uint2 planes = {0, 0};
    for (uint32_t i = 0; i < 4; i++) {
        int level = levels[i];
        planes.x |= ((uint32_t)(level >> 7) & 0xff) << 8 * i;
        planes.y |= (uint32_t)(level & 127) << 8 * i;
    }
    return planes;
}

/* Biased codes to signed ones. */
static __device__ inline uint32_t scan_codes(uint32_t word) {
    return word ^ 0x80808080u;
}

/* Rows of the block that may be returned, bit i for row i of it. */
static __device__ inline uint32_t scan_live(const cuda_scan_job &job, uint32_t block) {
    uint32_t live = 0xffffffffu, first = block * KITH_CODE_BLOCK_ROWS;
    if (job.d_dead) live &= ~job.d_dead[block - job.block_origin];
    if (job.d_allow) live &= job.d_allow[block - job.block_origin];
    if (job.row_begin > first) live &= 0xffffffffu << (job.row_begin - first);
    if (job.row_end - first < KITH_CODE_BLOCK_ROWS) live &= (1u << (job.row_end - first)) - 1;
    return live;
}

static __device__ inline const kith_code_block *scan_block(const cuda_scan_job &job, uint32_t block) {
    return (const kith_code_block *)(job.d_blocks + (size_t)block * job.layout.block_bytes);
}

/* A word is the four components of a row that lie together. */
static __device__ inline const uint32_t *scan_words(const cuda_scan_job &job, const kith_code_block *block) {
    return (const uint32_t *)((const char *)block + job.layout.codes_at);
}

/* What of a row the comparison needs. */
typedef struct cuda_scan_row {
    float noise, scale, tail, offset, lead_tail;
} cuda_scan_row;

/* A part that a block need not have: zeros then. */
static __device__ inline float scan_part(const kith_code_block *block, uint32_t part_at, uint32_t row) {
    return part_at ? ((const float *)((const char *)block + part_at))[row] : 0;
}

static __device__ inline cuda_scan_row scan_row(
    const cuda_scan_job &job, const kith_code_block *block, uint32_t at) {
    cuda_scan_row row = {block->noise, block->scale[at], block->tail[at],
        scan_part(block, job.layout.offset_at, at), scan_part(block, job.layout.lead_tail_at, at)};
    return row;
}

/* Whether the row's bound reaches the threshold; also when it is not a number. `tail` is what the components that were
 * not looked at may add. */
static __device__ inline bool scan_reaches(
    int product, const cuda_scan_row &row, float tail, const cuda_scan_weights &weights) {
    float sum = __fmaf_rn(row.noise, weights.error, __int2float_rn(product));
    float upper = __fmaf_rn(row.scale, sum, __fmaf_rn(row.offset, weights.offset, tail));
    return !(upper < weights.threshold);
}

/* Whether the row must be kept. */
static __device__ inline bool scan_keeps(
    int product, const cuda_scan_row &row, const cuda_scan_weights &weights) {
    return scan_reaches(product, row, row.tail * weights.tail, weights);
}

/* Whether it may have to be, by the product of its first lead_dim components. */
static __device__ inline bool scan_may_keep(
    int product, const cuda_scan_row &row, const cuda_scan_weights &weights) {
    return scan_reaches(product, row, row.lead_tail * weights.lead_tail, weights);
}

/* Appends `row` to the query's list where `keep`. All lanes of the warp come here; those in `group` have the same
 * query, and one of them takes places for all. */
static __device__ inline void scan_append(
    const cuda_scan_job &job, uint32_t query, uint32_t row, bool keep, uint32_t group) {
    uint32_t kept = __ballot_sync(0xffffffffu, keep);
    if (kept == 0) return;
    uint32_t lane = threadIdx.x % 32, mine = kept & group;
    uint32_t leader = mine ? (uint32_t)__ffs((int)mine) - 1 : lane, first = 0;
    if (mine && lane == leader) first = atomicAdd(&job.d_counts[query], (uint32_t)__popc(mine));
    first = __shfl_sync(0xffffffffu, first, leader);
    uint32_t place = first + (uint32_t)__popc(mine & ((1u << lane) - 1));
    if (keep && place < job.capacity) job.d_rows[(size_t)query * job.capacity + place] = row;
}

#endif
