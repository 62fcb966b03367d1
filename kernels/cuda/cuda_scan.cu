/* The plain scan, with dp4a, for batches that are bound by memory: a code is read once, 16 bytes a lane, and used for
 * all queries of a tile.
 *
 * A warp takes a block of 32 rows. An instruction reads four groups of components of all its rows, 512 neighbouring
 * bytes: lane 8 g + r has rows 4 r to 4 r + 3 of group g. What the four lanes of a row find is added up at the end, in
 * such a way that each lane is left with one row: 4 r + g.
 *
 * Two looks (codes.h). The first lead_dim components lie first in the block; the rest are read only where a row of the
 * block may have to be kept for a query of the tile.
 *
 * Bytes on the way. To keep 4.8 TB/s busy over a latency of some 700 ns, 132 processors need 25 KB each. A warp has 2
 * KiB on the way (AHEAD readings) beside its constants, and a processor 16 warps of a tile of 8 queries (at most 128
 * registers a thread: 64 sums, 16 of codes) or 32 of a single query: 32 and 64 KiB. Not measured yet.
 *
 * Grid: x over tiles, y over warps' shares of the blocks; tiles of the same blocks run side by side, so that larger
 * batches find codes in L2. */
#include "kernels/cuda/cuda_scan.cuh"

enum {
    TILE_QUERIES = 8,
    THREADS = 256,
    WARPS = THREADS / 32,
    ROWS = 4,                    /* of a lane's reading */
    GROUPS = 4,                  /* of components, of a warp's reading */
    AHEAD = 4,                   /* readings that are on the way together */
    SHARED_BYTES_MAX = 40 << 10, /* a launch has 48 KiB without asking */
    BLOCKS_A_PROCESSOR = 8,      /* of threads: several rounds of them, for an even end; guess */
};

#define ALL 0xffffffffu /* lanes */

static_assert(KITH_CODE_DIM_STEP / KITH_CODE_GROUP == GROUPS, "code_dim is whole readings");
static_assert(GROUPS * KITH_CODE_BLOCK_ROWS / ROWS == 32, "a word of 16 bytes for each lane");

typedef struct tile_weights {
    cuda_scan_weights of[TILE_QUERIES];
} tile_weights;

/* The tile's queries: planes [code_dim / 4][tile_queries]; those past the last are 0. */
template <int tile_queries>
static __device__ void tile_load(
    const cuda_scan_job &job, uint32_t first, uint2 *planes, tile_weights &weights) {
    uint32_t groups = job.code_dim / KITH_CODE_GROUP;
    for (uint32_t i = threadIdx.x; i < groups * tile_queries; i += THREADS) {
        uint32_t query = first + i % tile_queries, group = i / tile_queries;
        uint2 words = {0, 0};
        if (query < job.query_count)
            words = scan_planes(job.d_levels + (size_t)query * job.code_dim + group * KITH_CODE_GROUP);
        planes[i] = words;
    }
    if (threadIdx.x < tile_queries && first + threadIdx.x < job.query_count)
        weights.of[threadIdx.x] = scan_weights(job, first + threadIdx.x);
    __syncthreads();
}

/* Sums of a lane's four rows, by plane. */
template <int tile_queries> struct lane_sums { int high[tile_queries][ROWS], low[tile_queries][ROWS]; };

/* Adds `count` readings from the lane's address `codes` on; `planes` is the lane's, too. */
template <int tile_queries, int count>
static __device__ __forceinline__ void readings_add(
    const uint4 *codes, const uint2 *planes, lane_sums<tile_queries> &sums) {
    uint4 read[count];
#pragma unroll
    for (int i = 0; i < count; i++)
        read[i] = __ldg(codes + i * 32);
#pragma unroll
    for (int i = 0; i < count; i++) {
        const uint32_t words[ROWS] = {
            scan_codes(read[i].x), scan_codes(read[i].y), scan_codes(read[i].z), scan_codes(read[i].w)};
#pragma unroll
        for (int q = 0; q < tile_queries; q++) {
            const uint2 plane = planes[i * GROUPS * tile_queries + q];
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                sums.high[q][row] = __dp4a((int)words[row], (int)plane.x, sums.high[q][row]);
                sums.low[q][row] = __dp4a((int)words[row], (int)plane.y, sums.low[q][row]);
            }
        }
    }
}

/* The sum over the row's four lanes, in the lane whose row it is. Each step halves the rows that a lane still has. */
static __device__ __forceinline__ int row_sum(const int sums[ROWS]) {
    const bool odd = threadIdx.x >> 3 & 1, upper = threadIdx.x >> 4 & 1;
    int first = odd ? sums[1] : sums[0], second = odd ? sums[3] : sums[2];
    first += __shfl_xor_sync(ALL, odd ? sums[0] : sums[1], 8);
    second += __shfl_xor_sync(ALL, odd ? sums[2] : sums[3], 8);
    return (upper ? second : first) + __shfl_xor_sync(ALL, upper ? first : second, 16);
}

/* Adds to products [tile_queries], of the lane's own row, the products of components [begin, end) with the tile's
 * first `count` queries. */
template <int tile_queries>
static __device__ __forceinline__ void products_add(
    const uint32_t *words, uint32_t begin, uint32_t end, uint32_t count, const uint2 *planes, int *products) {
    const uint32_t lane = threadIdx.x % 32;
    const uint4 *codes = (const uint4 *)words + begin / KITH_CODE_DIM_STEP * 32 + lane;
    const uint2 *plane = planes + (begin / KITH_CODE_GROUP + lane / 8) * tile_queries;
    lane_sums<tile_queries> sums = {};
    uint32_t left = (end - begin) / KITH_CODE_DIM_STEP;
    for (; left >= AHEAD; left -= AHEAD, codes += AHEAD * 32, plane += AHEAD * GROUPS * tile_queries)
        readings_add<tile_queries, AHEAD>(codes, plane, sums);
    for (; left > 0; left--, codes += 32, plane += GROUPS * tile_queries)
        readings_add<tile_queries, 1>(codes, plane, sums);
#pragma unroll
    for (int q = 0; q < tile_queries; q++) {
        if ((uint32_t)q >= count) break;
        int both[ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; row++)
            both[row] = 128 * sums.high[q][row] + sums.low[q][row];
        products[q] += row_sum(both);
    }
}

/* Of `count` queries, those for which the lane's row is kept, or may be; bit i for query i. */
template <int tile_queries, bool lead>
static __device__ __forceinline__ uint32_t queries_of(
    uint32_t count, const int *products, const cuda_scan_row &row, const tile_weights &weights) {
    uint32_t kept = 0;
#pragma unroll
    for (int q = 0; q < tile_queries; q++) {
        if ((uint32_t)q >= count) break;
        bool keeps = lead ? scan_may_keep(products[q], row, weights.of[q])
                          : scan_keeps(products[q], row, weights.of[q]);
        if (keeps) kept |= 1u << q;
    }
    return kept;
}

/* One block, by a warp. */
template <int tile_queries>
static __device__ __forceinline__ void block_scan(const cuda_scan_job &job, uint32_t number, uint32_t first,
    const uint2 *planes, const tile_weights &weights) {
    const uint32_t lane = threadIdx.x % 32, own = ROWS * (lane % 8) + lane / 8;
    const uint32_t live = scan_live(job, number),
                   count = min(job.query_count - first, (uint32_t)tile_queries);
    if (live == 0) return;
    const kith_code_block *block = scan_block(job, number);
    const uint32_t *words = scan_words(job, block);
    const cuda_scan_row row = scan_row(job, block, own);
    const bool lives = live >> own & 1;
    int products[tile_queries] = {};
    products_add<tile_queries>(words, 0, job.lead_dim, count, planes, products);
    if (job.lead_dim < job.code_dim) {
        uint32_t may = queries_of<tile_queries, true>(count, products, row, weights);
        if (!__any_sync(ALL, lives && may)) return;
        products_add<tile_queries>(words, job.lead_dim, job.code_dim, count, planes, products);
    }
    uint32_t kept = lives ? queries_of<tile_queries, false>(count, products, row, weights) : 0;
    if (!__any_sync(ALL, kept)) return;
    for (uint32_t q = 0; q < count; q++)
        scan_append(job, first + q, number * KITH_CODE_BLOCK_ROWS + own, kept >> q & 1, ALL);
}

template <int tile_queries>
static __global__ void __launch_bounds__(THREADS, tile_queries == 1 ? 4 : 2) scan_kernel(cuda_scan_job job) {
    KITH_SHARED_DYNAMIC(shared);
    KITH_SHARED(tile_weights, weights);
    uint2 *planes = (uint2 *)shared;
    const uint32_t first = blockIdx.x * tile_queries;
    tile_load<tile_queries>(job, first, planes, weights);
    for (uint32_t i = blockIdx.y * WARPS + threadIdx.x / 32; i < job.scan_count; i += gridDim.y * WARPS)
        block_scan<tile_queries>(job, job.block_first + i * job.block_step, first, planes, weights);
}

template <int tile_queries> static void launch(const cuda_scan_job &job) {
    uint32_t tiles = (job.query_count + tile_queries - 1) / tile_queries;
    uint32_t shares = (job.scan_count + WARPS - 1) / WARPS;
    uint32_t wanted = (job.processor_count * BLOCKS_A_PROCESSOR + tiles - 1) / tiles;
    dim3 grid(tiles, shares < wanted ? shares : wanted);
    KITH_LAUNCH((scan_kernel<tile_queries>), grid, THREADS,
        job.code_dim / KITH_CODE_GROUP * tile_queries * sizeof(uint2), job.stream, job);
}

kith_status cuda_scan_dp4a(const cuda_scan_job *job, kith_err *err) {
    if (job->query_count == 0 || job->scan_count == 0) return KITH_OK;
    bool fits = job->code_dim / KITH_CODE_GROUP * TILE_QUERIES * sizeof(uint2) <= SHARED_BYTES_MAX;
    if (job->query_count == 1 || !fits)
        launch<1>(*job);
    else
        launch<TILE_QUERIES>(*job);
    return cuda_launch_check(err, "scan_kernel");
}
