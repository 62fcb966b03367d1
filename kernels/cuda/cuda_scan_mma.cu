/* The scan on tensor cores: a warp multiplies one block of 32 rows with 32 queries.
 *
 * A block of threads takes 64 queries, whose planes lie in shared memory; four warps take four blocks of codes with the
 * first half of the queries, four the same blocks with the second half, so the second reading of a code word is from
 * L1. Codes go from memory to registers as they lie: a register of an A fragment is one word (group of four
 * components, row) of the block. Grid: x over tiles of queries, y over shares of the blocks of codes. */
#include "kernels/cuda/cuda_mma.cuh"
#include "kernels/cuda/cuda_scan_tile.cuh"

enum {
    THREADS = 256,
    TILE_QUERIES = 64,
    WARP_QUERIES = 32,
    COLUMNS = WARP_QUERIES / 8, /* fragments of 8 queries */
    TILE_BLOCKS = 4,
    /* Words of a group of components in shared memory: 4 more than queries, so that a fragment's 16 lanes of a half
     * warp (4 groups, 4 queries) hit 16 different pairs of banks. */
    STRIDE = TILE_QUERIES + 4,
    SHARED_BYTES_MAX = 46 << 10,
    QUERIES_LEAST = 9, /* fewer are bound by memory: dp4a's tile does them at one reading */
    BLOCKS_A_PROCESSOR = 2,
};

static_assert(
    THREADS / 32 == TILE_BLOCKS * (TILE_QUERIES / WARP_QUERIES), "a warp for each part of the tile");

typedef struct tile_weights {
    cuda_scan_weights of[TILE_QUERIES];
} tile_weights;

static __device__ void tile_load(
    const cuda_scan_job &job, uint32_t first, uint2 *planes, tile_weights &weights) {
    uint32_t groups = job.code_dim / KITH_CODE_GROUP;
    for (uint32_t i = threadIdx.x; i < groups * TILE_QUERIES; i += THREADS) {
        uint32_t group = i % groups, column = i / groups, query = first + column;
        uint2 words = {0, 0};
        if (query < job.query_count)
            words = scan_planes(job.d_levels + (size_t)query * job.code_dim + group * KITH_CODE_GROUP);
        planes[group * STRIDE + column] = words;
    }
    for (uint32_t i = threadIdx.x; i < TILE_QUERIES; i += THREADS)
        weights.of[i] = tile_weights_of(job, first + i);
    __syncthreads();
}

/* Adds the products of 16 or 32 components, from group `group` on. `planes` begins at the warp's queries. */
template <bool wide>
static __device__ __forceinline__ void step(
    const uint32_t *words, uint32_t group, const uint2 *planes, tile_sums<COLUMNS> &sums) {
    const uint32_t row = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
    const uint4 none = {0, 0, 0, 0};
    uint32_t a[TILE_HALVES][4];
    tile_fragments(tile_read(words, group), wide ? tile_read(words, group + 4) : none, a);
#pragma unroll
    for (int column = 0; column < COLUMNS; column++) {
        const uint2 *at = planes + (group + member) * STRIDE + 8 * column + row;
        uint2 first = at[0], second = wide ? at[4 * STRIDE] : first;
        const uint32_t b_high[2] = {first.x, second.x}, b_low[2] = {first.y, second.y};
#pragma unroll
        for (int half = 0; half < TILE_HALVES; half++) {
            int *high = sums.of[half] + 4 * column, *low = sums.of[half] + 4 * (COLUMNS + column);
            if (wide) {
                mma_k32(high, a[half], b_high);
                mma_k32(low, a[half], b_low);
            } else {
                mma_k16(high, a[half], b_high[0]);
                mma_k16(low, a[half], b_low[0]);
            }
        }
    }
}

static __device__ __forceinline__ void products_make(
    const uint32_t *words, uint32_t groups, const uint2 *planes, tile_sums<COLUMNS> &sums) {
    sums = {};
    uint32_t group = 0;
    for (; group + 8 <= groups; group += 8)
        step<true>(words, group, planes, sums);
    if (group < groups) step<false>(words, group, planes, sums);
}

static __global__ void __launch_bounds__(THREADS) scan_mma_kernel(cuda_scan_job job) {
    KITH_SHARED_DYNAMIC(shared);
    KITH_SHARED(tile_weights, weights);
    uint2 *planes = (uint2 *)shared;
    const uint32_t warp = threadIdx.x / 32, column = warp / TILE_BLOCKS * WARP_QUERIES;
    const uint32_t first = blockIdx.x * TILE_QUERIES + column;
    tile_load(job, blockIdx.x * TILE_QUERIES, planes, weights);
    if (first >= job.query_count) return; /* no barrier follows */
    for (uint32_t i = blockIdx.y * TILE_BLOCKS + warp % TILE_BLOCKS; i < job.scan_count;
         i += gridDim.y * TILE_BLOCKS) {
        const uint32_t number = job.block_first + i * job.block_step, live = scan_live(job, number);
        if (live == 0) continue;
        tile_sums<COLUMNS> sums;
        products_make(
            scan_words(job, scan_block(job, number)), job.code_dim / KITH_CODE_GROUP, planes + column, sums);
        tile_append<COLUMNS>(job, number, live, first, weights.of + column, sums);
    }
}

static size_t shared_bytes(const cuda_scan_job *job) {
    return job->code_dim / KITH_CODE_GROUP * STRIDE * sizeof(uint2);
}

bool cuda_scan_mma_suits(const cuda_scan_job *job) {
    return job->query_count >= QUERIES_LEAST && shared_bytes(job) <= SHARED_BYTES_MAX;
}

kith_status cuda_scan_mma(const cuda_scan_job *job, kith_err *err) {
    if (job->query_count == 0 || job->scan_count == 0) return KITH_OK;
    uint32_t tiles = (job->query_count + TILE_QUERIES - 1) / TILE_QUERIES;
    uint32_t shares = (job->scan_count + TILE_BLOCKS - 1) / TILE_BLOCKS;
    uint32_t wanted = (job->processor_count * BLOCKS_A_PROCESSOR + tiles - 1) / tiles;
    dim3 grid(tiles, shares < wanted ? shares : wanted);
    KITH_LAUNCH(scan_mma_kernel, grid, THREADS, shared_bytes(job), job->stream, *job);
    return cuda_launch_check(err, "scan_mma_kernel");
}
