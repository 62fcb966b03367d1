/* The plain scan: lane i of a warp is row i of a block, one dp4a a plane for four components.
 *
 * A block of threads takes a tile of queries, whose planes lie in shared memory, and its warps take blocks of codes
 * in turn. A word of codes is read once, by one lane, 128 neighbouring bytes a warp, eight groups ahead of their
 * use, and used for all queries of the tile: for a batch of at most TILE_QUERIES the codes are read exactly once, which
 * is what such a batch costs. Grid: x over tiles, y over warps' shares of the blocks; tiles of the same blocks run side
 * by side, so that larger batches find codes in L2. */
#include "kernels/cuda/cuda_scan.cuh"

enum {
    TILE_QUERIES = 8,
    THREADS = 256,
    WARPS = THREADS / 32,
    SHARED_BYTES_MAX = 40 << 10, /* a launch has 48 KiB without asking */
    BLOCKS_A_PROCESSOR = 8,      /* 64 warps; guess */
    AHEAD = 4,                   /* code_dim / 4 is a multiple */
};

static_assert(KITH_CODE_DIM_STEP / KITH_CODE_GROUP % AHEAD == 0, "groups are read in whole runs");

/* planes [code_dim / 4][tile_queries] of the tile's queries; those past the last are 0. */
template <int tile_queries>
static __device__ void tile_load(const cuda_scan_job &job, uint32_t first, uint2 *planes) {
    uint32_t groups = job.code_dim / KITH_CODE_GROUP;
    for (uint32_t i = threadIdx.x; i < groups * tile_queries; i += THREADS) {
        uint32_t query = first + i % tile_queries, group = i / tile_queries;
        uint2 words = {0, 0};
        if (query < job.query_count)
            words = scan_planes(job.d_levels + (size_t)query * job.code_dim + group * KITH_CODE_GROUP);
        planes[i] = words;
    }
    __syncthreads();
}

/* products_out [tile_queries]: l.c of the lane's row, whose words begin at `words`, and each query. */
template <int tile_queries>
static __device__ void products_make(
    const uint32_t *words, uint32_t groups, const uint2 *planes, int *products_out) {
    int high[tile_queries], low[tile_queries];
    for (int q = 0; q < tile_queries; q++)
        high[q] = low[q] = 0;
    for (uint32_t group = 0; group < groups; group += AHEAD) {
        uint32_t codes[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            codes[i] = __ldg(words + (group + i) * KITH_CODE_BLOCK_ROWS);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            int signed_codes = (int)scan_codes(codes[i]);
#pragma unroll
            for (int q = 0; q < tile_queries; q++) {
                uint2 plane = planes[(group + i) * tile_queries + q];
                high[q] = __dp4a(signed_codes, (int)plane.x, high[q]);
                low[q] = __dp4a(signed_codes, (int)plane.y, low[q]);
            }
        }
    }
    for (int q = 0; q < tile_queries; q++)
        products_out[q] = 128 * high[q] + low[q];
}

template <int tile_queries> static __global__ void __launch_bounds__(THREADS) scan_kernel(cuda_scan_job job) {
    KITH_SHARED_DYNAMIC(shared);
    uint2 *planes = (uint2 *)shared;
    const uint32_t first = blockIdx.x * tile_queries, lane = threadIdx.x % 32;
    const uint32_t warp = blockIdx.y * WARPS + threadIdx.x / 32, warps = gridDim.y * WARPS;
    tile_load<tile_queries>(job, first, planes);
    cuda_scan_weights weights[tile_queries];
    for (int q = 0; q < tile_queries; q++)
        weights[q] = scan_weights(job, first + q < job.query_count ? first + q : first);
    for (uint32_t i = warp; i < job.scan_count; i += warps) {
        const uint32_t number = job.block_first + i * job.block_step, live = scan_live(job, number);
        if (live == 0) continue;
        const kith_code_block *block = scan_block(job, number);
        const cuda_scan_row row = scan_row(job, block, lane);
        int products[tile_queries];
        products_make<tile_queries>(
            scan_words(job, block) + lane, job.code_dim / KITH_CODE_GROUP, planes, products);
#pragma unroll
        for (int q = 0; q < tile_queries; q++) {
            if (first + q >= job.query_count) break;
            bool keep = live >> lane & 1 && scan_keeps(products[q], row, weights[q]);
            scan_append(job, first + q, number * KITH_CODE_BLOCK_ROWS + lane, keep, 0xffffffffu);
        }
    }
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
