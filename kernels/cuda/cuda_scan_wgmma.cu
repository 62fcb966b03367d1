/* The scan on Hopper's tensor cores, for large batches: a warpgroup multiplies four blocks of 32 rows, one a warp, with
 * 64 queries. Compiled for sm_90a only.
 *
 * A block of threads takes 128 queries, whose planes lie in shared memory; each of its two warpgroups multiplies the same
 * rows with one half of them, so the second reading of a code is from L1. Both planes of the 64 queries are the 128
 * columns of one B. Codes go from memory to registers as they lie and are an A from registers; the codes that a warp
 * needs next, be it of the next block, are on the way while the tensor cores multiply. The 128 sums of a thread leave room for
 * one block of threads a processor.
 *
 * Grid: x over tiles of queries, y over shares of the blocks of codes. */
#include "kernels/cuda/cuda_scan_tile.cuh"
#include "kernels/cuda/cuda_wgmma.cuh"

enum {
    THREADS = 256,
    GROUP_QUERIES = WGMMA_COLUMNS / 2, /* of a warpgroup */
    TILE_QUERIES = THREADS / 128 * GROUP_QUERIES,
    COLUMNS = GROUP_QUERIES / 8,
    TILE_BLOCKS = 4,
    STEP_GROUPS = WGMMA_K / KITH_CODE_GROUP, /* of components, of one product */
    STEP_BYTES = WGMMA_K * WGMMA_COLUMNS,    /* of B */
    CORE_BYTES = 128,                        /* of 8 columns */
    HALF_STEP_BYTES = STEP_BYTES / 2,        /* 16 bytes of all columns */
    READINGS = 4,                            /* of four groups: two steps are read at a time */
    SHARED_BYTES_MAX = 216 << 10,            /* a launch may have 227 KiB in all */
    QUERIES_LEAST = 65,                      /* below, half of a tile is idle; guess */
};

static_assert(4 * 2 * COLUMNS == WGMMA_SUMS, "sums are what a product writes");

typedef struct tile_weights {
    cuda_scan_weights of[TILE_QUERIES];
} tile_weights;

static __device__ __host__ inline uint32_t step_count(uint32_t code_dim) {
    return (code_dim + WGMMA_K - 1) / WGMMA_K;
}

/* Puts a query's words of a group where B has them. */
static __device__ void planes_put(
    unsigned char *planes, uint32_t steps, uint32_t column, uint32_t group, uint2 words) {
    unsigned char *at = planes + (column / GROUP_QUERIES * steps + group / STEP_GROUPS) * STEP_BYTES +
                        group % STEP_GROUPS / 4 * HALF_STEP_BYTES + group % 4 * 4;
    uint32_t high = column % GROUP_QUERIES, low = high + GROUP_QUERIES;
    *(uint32_t *)(at + high / 8 * CORE_BYTES + high % 8 * 16) = words.x;
    *(uint32_t *)(at + low / 8 * CORE_BYTES + low % 8 * 16) = words.y;
}

/* Components past the last and queries past the last are 0. */
static __device__ void tile_load(
    const cuda_scan_job &job, uint32_t first, unsigned char *planes, tile_weights &weights) {
    const uint32_t steps = step_count(job.code_dim), groups = steps * STEP_GROUPS;
    for (uint32_t i = threadIdx.x; i < groups * TILE_QUERIES; i += THREADS) {
        const uint32_t group = i % groups, column = i / groups, query = first + column;
        uint2 words = {0, 0};
        if (query < job.query_count && group * KITH_CODE_GROUP < job.code_dim)
            words = scan_planes(job.d_levels + (size_t)query * job.code_dim + group * KITH_CODE_GROUP);
        planes_put(planes, steps, column, group, words);
    }
    for (uint32_t i = threadIdx.x; i < TILE_QUERIES; i += THREADS)
        weights.of[i] = tile_weights_of(job, first + i);
    wgmma_shared_fence();
    __syncthreads();
}

/* The next two steps' codes; those past the last are codes of 0. */
static __device__ __forceinline__ void codes_read(
    const uint32_t *words, uint32_t group, uint32_t groups, uint4 (&codes)[READINGS]) {
    const uint4 zeros = {0x80808080u, 0x80808080u, 0x80808080u, 0x80808080u};
#pragma unroll
    for (int i = 0; i < READINGS; i++)
        codes[i] = group + 4 * i < groups ? tile_read(words, group + 4 * i) : zeros;
}

/* Adds the products of `steps` steps, whose codes these are; then they are the codes of `words` from `group` on. */
template <int steps>
static __device__ __forceinline__ void steps_add(const uint32_t *words, uint32_t group, uint32_t groups,
    uint64_t descriptor, uint4 (&codes)[READINGS], tile_sums<COLUMNS> &sums) {
    uint32_t a[steps][TILE_HALVES][4];
#pragma unroll
    for (int i = 0; i < steps; i++) {
        tile_fragments(codes[2 * i], codes[2 * i + 1], a[i]);
        wgmma_settle(a[i][0]);
        wgmma_settle(a[i][1]);
    }
    codes_read(words, group, groups, codes);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < steps; i++) {
        uint64_t b = wgmma_descriptor_at(descriptor, i * STEP_BYTES);
        wgmma(sums.of[0], a[i][0], b);
        wgmma(sums.of[1], a[i][1], b);
    }
    wgmma_commit();
    wgmma_wait();
}

/* `codes` are the first of the block whose `words` they are; at the end they are the first of `next`. */
static __device__ __forceinline__ void products_make(const uint32_t *words, const uint32_t *next,
    uint32_t groups, uint64_t descriptor, uint4 (&codes)[READINGS], tile_sums<COLUMNS> &sums) {
    const uint32_t pair = 2 * STEP_GROUPS, odd = groups % pair <= STEP_GROUPS ? groups % pair : 0;
    sums = {};
    uint32_t group = 0;
    for (; group + odd < groups;
         group += pair, descriptor = wgmma_descriptor_at(descriptor, 2 * STEP_BYTES)) {
        const bool last = group + pair >= groups;
        steps_add<2>(last ? next : words, last ? 0 : group + pair, groups, descriptor, codes, sums);
    }
    if (odd) steps_add<1>(next, 0, groups, descriptor, codes, sums);
    wgmma_settle(sums.of[0]);
    wgmma_settle(sums.of[1]);
}

static __global__ void __launch_bounds__(THREADS, 1) scan_wgmma_kernel(cuda_scan_job job) {
    KITH_SHARED_DYNAMIC(shared);
    KITH_SHARED(tile_weights, weights);
    /* From lane 0, so that the compiler knows it to be the same in all lanes: it lets products run on only then. */
    const uint32_t warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0), column = warp / 4 * GROUP_QUERIES;
    const uint32_t first = blockIdx.x * TILE_QUERIES + column, groups = job.code_dim / KITH_CODE_GROUP;
    tile_load(job, blockIdx.x * TILE_QUERIES, shared, weights);
    if (first >= job.query_count) return; /* a whole warpgroup, and no barrier follows */
    const uint64_t descriptor =
        wgmma_descriptor(wgmma_shared_address(shared) + warp / 4 * step_count(job.code_dim) * STEP_BYTES,
            HALF_STEP_BYTES, CORE_BYTES);
    uint4 codes[READINGS];
    uint32_t number =
        job.block_first + min(blockIdx.y * TILE_BLOCKS + warp % 4, job.scan_count - 1) * job.block_step;
    const uint32_t *words = scan_words(job, scan_block(job, number));
    codes_read(words, 0, groups, codes);
    /* All four warps multiply together as long as one of them has a block; who has none repeats the last. */
    for (uint32_t begin = blockIdx.y * TILE_BLOCKS; begin < job.scan_count;
         begin += gridDim.y * TILE_BLOCKS) {
        const uint32_t i = begin + warp % 4, next_i = min(i + gridDim.y * TILE_BLOCKS, job.scan_count - 1);
        const uint32_t next_number = job.block_first + next_i * job.block_step;
        const uint32_t *next = scan_words(job, scan_block(job, next_number));
        tile_sums<COLUMNS> sums;
        products_make(words, next, groups, descriptor, codes, sums);
        const uint32_t live = i < job.scan_count ? scan_live(job, number) : 0;
        if (live) tile_append<COLUMNS>(job, number, live, first, weights.of + column, sums);
        number = next_number;
        words = next;
    }
}

static size_t shared_bytes(const cuda_scan_job *job) {
    return (size_t)(TILE_QUERIES / GROUP_QUERIES) * step_count(job->code_dim) * STEP_BYTES;
}

kith_status cuda_scan_wgmma_prepare(kith_err *err) {
    return cuda_check(err,
        cudaFuncSetAttribute(
            scan_wgmma_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES_MAX),
        "shared memory of scan_wgmma_kernel");
}

bool cuda_scan_wgmma_fits(const cuda_scan_job *job) {
    return shared_bytes(job) <= SHARED_BYTES_MAX;
}

bool cuda_scan_wgmma_suits(const cuda_scan_job *job) {
    return job->query_count >= QUERIES_LEAST && cuda_scan_wgmma_fits(job);
}

kith_status cuda_scan_wgmma(const cuda_scan_job *job, kith_err *err) {
    if (job->query_count == 0 || job->scan_count == 0) return KITH_OK;
    uint32_t tiles = (job->query_count + TILE_QUERIES - 1) / TILE_QUERIES;
    uint32_t shares = (job->scan_count + TILE_BLOCKS - 1) / TILE_BLOCKS;
    uint32_t wanted = (job->processor_count + tiles - 1) / tiles;
    dim3 grid(tiles, shares < wanted ? shares : wanted);
    KITH_LAUNCH(scan_wgmma_kernel, grid, THREADS, shared_bytes(job), job->stream, *job);
    return cuda_launch_check(err, "scan_wgmma_kernel");
}
