/* Selection of the k best of a query's scored rows, one block of threads a query.
 *
 * Closeness becomes a 64-bit key that orders as it does (-0 as 0). The k-th largest key is found a byte at a time
 * from the top: a histogram of the next byte of the keys that agree so far, until what is left in a bin is wanted
 * whole. If rows with the k-th key are left over, the same is done with their row numbers, the smallest first. Rows
 * that are chosen go to d_hits in any order and are sorted there (or in shared memory) by a bitonic network that needs
 * no power of two (its missing last elements would never move).
 *
 * Rows whose closeness is below the query's floor do not count: k better ones are known. */
#include "kernels/cuda/cuda_select.cuh"

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    BINS = 256,
    SORT_SHARED = 1024, /* hits that are sorted in shared memory: 16 KiB */
    START_THREADS = 128,
};

static_assert(THREADS == BINS, "a thread clears a bin");

typedef struct select_state {
    uint32_t bins[BINS];
    uint32_t digit, left;    /* the bin that the k-th is in, and how many of it are wanted */
    uint32_t usable, chosen; /* rows at or above the floor; places taken */
    unsigned long long least[WARPS];
    unsigned long long best;
} select_state;

typedef struct select_hits {
    double closeness[SORT_SHARED];
    uint32_t rows[SORT_SHARED];
} select_hits;

/* What is chosen: keys whose masked part is above, or equal if row_mask lets the row pass. */
typedef struct select_cut {
    unsigned long long prefix, mask;
    uint32_t row_prefix, row_mask; /* of rows with the last key: those whose masked number is not above */
    bool rows_cut;
} select_cut;

/* Rising with closeness; never 0. */
static __device__ unsigned long long key_of(double closeness) {
    unsigned long long bits = (unsigned long long)__double_as_longlong(closeness == 0 ? 0.0 : closeness);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

static __device__ double key_closeness(unsigned long long key) {
    return __longlong_as_double((long long)(key >> 63 ? key & ~(1ull << 63) : ~key));
}

/* kith_code_threshold of codes.h, operation by operation. */
static __device__ float threshold_of(const kith_cuda_query &weights, double closeness) {
    const double smallest = 0x1p-38, most = 1.7976931348623157e308;
    if (weights.inverse == 0 || !(closeness >= -most)) return -INFINITY;
    double lengths = __dadd_rn(fabs(closeness), fabs(weights.constant));
    double slack = __dadd_rn(weights.slack, __dmul_rn(4 * smallest, lengths));
    double scaled = __dmul_rn(__dsub_rn(__dsub_rn(closeness, weights.constant), slack), weights.inverse);
    return __double2float_rd(__dsub_rn(__dsub_rn(scaled, __dmul_rn(fabs(scaled), smallest)), 0x1p-140));
}

/* The bin in which the `wanted`-th lies, counted from the last bin (from the first, if rising), into state.digit, and
 * how many of that bin are wanted into state.left. By the first warp; lane i sums eight bins. */
static __device__ void bin_find(select_state &state, uint32_t wanted, bool rising) {
    if (threadIdx.x < 32) {
        const uint32_t lane = threadIdx.x;
        uint32_t own = 0;
        for (uint32_t i = 0; i < 8; i++)
            own += state.bins[rising ? 8 * lane + i : BINS - 1 - (8 * lane + i)];
        uint32_t through = own;
        for (uint32_t step = 1; step < 32; step *= 2) {
            uint32_t before = __shfl_up_sync(0xffffffffu, through, step);
            if (lane >= step) through += before;
        }
        uint32_t passed = through - own;
        if (passed < wanted && wanted <= through) {
            uint32_t i = 8 * lane;
            for (;; i++) {
                uint32_t count = state.bins[rising ? i : BINS - 1 - i];
                if (passed + count >= wanted) break;
                passed += count;
            }
            state.digit = rising ? i : BINS - 1 - i;
            state.left = wanted - passed;
        }
    }
    __syncthreads();
}

/* Clears the bins; everybody waits. */
static __device__ void bins_clear(select_state &state) {
    __syncthreads();
    state.bins[threadIdx.x] = 0;
    __syncthreads();
}

/* The smallest cut that `wanted` rows pass; there are more. */
static __device__ void cut_keys(select_state &state, const double *closeness, uint32_t count, double floor,
    uint32_t wanted, select_cut &cut) {
    for (int shift = 56; shift >= 0; shift -= 8) {
        bins_clear(state);
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
            unsigned long long key = key_of(closeness[i]);
            if (closeness[i] >= floor && (key & cut.mask) == cut.prefix)
                atomicAdd(&state.bins[key >> shift & 255], 1u);
        }
        __syncthreads();
        bin_find(state, wanted, false);
        wanted = state.left;
        cut.prefix |= (unsigned long long)state.digit << shift;
        cut.mask |= 255ull << shift;
        if (state.bins[state.digit] == wanted) return;
    }
    cut.rows_cut = true;
}

/* Of the rows whose key is cut.prefix, the `wanted` with the smallest numbers. */
static __device__ void cut_rows(select_state &state, const double *closeness, const uint32_t *rows,
    uint32_t count, double floor, uint32_t wanted, select_cut &cut) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        bins_clear(state);
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
            if (closeness[i] >= floor && key_of(closeness[i]) == cut.prefix &&
                (rows[i] & cut.row_mask) == cut.row_prefix)
                atomicAdd(&state.bins[rows[i] >> shift & 255], 1u);
        }
        __syncthreads();
        bin_find(state, wanted, true);
        wanted = state.left;
        cut.row_prefix |= state.digit << shift;
        cut.row_mask |= 255u << shift;
        if (state.bins[state.digit] == wanted) return;
    }
}

static __device__ bool cut_passes(const select_cut &cut, unsigned long long key, uint32_t row) {
    unsigned long long part = key & cut.mask;
    if (part != cut.prefix || !cut.rows_cut) return part >= cut.prefix;
    return (row & cut.row_mask) <= cut.row_prefix;
}

/* Rows at or above the floor. */
static __device__ uint32_t usable_count(
    select_state &state, const double *closeness, uint32_t count, double floor) {
    if (threadIdx.x == 0) state.usable = state.chosen = 0;
    __syncthreads();
    uint32_t own = 0;
    for (uint32_t i = threadIdx.x; i < count; i += THREADS)
        own += closeness[i] >= floor;
    if (own) atomicAdd(&state.usable, own);
    __syncthreads();
    return state.usable;
}

/* Writes the chosen rows' hits, if wanted; returns the least chosen key in all threads. */
static __device__ unsigned long long choose(select_state &state, const double *closeness,
    const uint32_t *rows, uint32_t count, double floor, const select_cut &cut, kith_row_hit *hits) {
    unsigned long long least = ~0ull;
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        unsigned long long key = key_of(closeness[i]);
        if (!(closeness[i] >= floor) || !cut_passes(cut, key, rows[i])) continue;
        least = key < least ? key : least;
        if (!hits) continue;
        uint32_t place = atomicAdd(&state.chosen, 1u);
        hits[place].closeness = closeness[i];
        hits[place].row = rows[i];
    }
    for (uint32_t step = 16; step; step /= 2) {
        unsigned long long other = __shfl_xor_sync(0xffffffffu, least, step);
        least = other < least ? other : least;
    }
    if (threadIdx.x % 32 == 0) state.least[threadIdx.x / 32] = least;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < WARPS; i++)
            least = state.least[i] < least ? state.least[i] : least;
        state.best = least;
    }
    __syncthreads();
    return state.best;
}

/* --- sorting --- */

/* Hits in shared memory (two arrays) or where they lie. */
struct shared_hits {
    select_hits &hits;
    __device__ double closeness(uint32_t i) const {
        return hits.closeness[i];
    }
    __device__ uint32_t row(uint32_t i) const {
        return hits.rows[i];
    }
    __device__ void put(uint32_t i, double closeness, uint32_t row) const {
        hits.closeness[i] = closeness;
        hits.rows[i] = row;
    }
};

struct global_hits {
    kith_row_hit *hits;
    __device__ double closeness(uint32_t i) const {
        return hits[i].closeness;
    }
    __device__ uint32_t row(uint32_t i) const {
        return hits[i].row;
    }
    __device__ void put(uint32_t i, double closeness, uint32_t row) const {
        hits[i].closeness = closeness;
        hits[i].row = row;
    }
};

/* Puts i and j, i < j, in order. */
template <typename hits_type>
static __device__ void pair_order(const hits_type &hits, uint32_t i, uint32_t j) {
    double a = hits.closeness(i), b = hits.closeness(j);
    uint32_t row_a = hits.row(i), row_b = hits.row(j);
    if (a > b || (a == b && row_a < row_b)) return;
    hits.put(i, b, row_b);
    hits.put(j, a, row_a);
}

/* K. Batcher, "Sorting networks and their applications" (1968), in the form whose comparators all point the same way:
 * the first step of a merge compares mirrored elements. */
template <typename hits_type> static __device__ void sort(const hits_type &hits, uint32_t count) {
    for (uint32_t size = 2; size < 2 * count; size *= 2) {
        for (uint32_t flip = size - 1; flip; flip = flip == size - 1 ? size / 4 : flip / 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
                uint32_t j = i ^ flip;
                if (j > i && j < count) pair_order(hits, i, j);
            }
            if (flip == 1) break;
        }
    }
    __syncthreads();
}

static __device__ void hits_sort(select_hits &shared, kith_row_hit *hits, uint32_t count) {
    if (count > SORT_SHARED) {
        sort(global_hits{hits}, count);
        return;
    }
    for (uint32_t i = threadIdx.x; i < count; i += THREADS)
        shared_hits{shared}.put(i, hits[i].closeness, hits[i].row);
    sort(shared_hits{shared}, count);
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        hits[i].closeness = shared.closeness[i];
        hits[i].row = shared.rows[i];
    }
}

/* --- kernels --- */

static __global__ void __launch_bounds__(THREADS) select_kernel(cuda_select_job job) {
    KITH_SHARED(select_state, state);
    KITH_SHARED(select_hits, shared);
    const uint32_t query = blockIdx.x, count = min(job.d_counts[query], job.capacity);
    const bool lost = job.d_counts[query] > job.capacity;
    const double *closeness = job.d_closeness + (size_t)query * job.capacity;
    const uint32_t *rows = job.d_rows + (size_t)query * job.capacity;
    kith_row_hit *hits = job.d_hits && !lost ? job.d_hits + (size_t)query * job.k : NULL;
    const double floor = job.d_floors[query];
    const uint32_t usable = usable_count(state, closeness, count, floor), wanted = min(usable, job.k);
    select_cut cut = {0, 0, 0, 0, false};
    if (usable > job.k) {
        cut_keys(state, closeness, count, floor, wanted, cut);
        if (cut.rows_cut && hits) cut_rows(state, closeness, rows, count, floor, state.left, cut);
        if (!hits) cut.rows_cut = false;
    }
    unsigned long long least = choose(state, closeness, rows, count, floor, cut, hits);
    if (hits) hits_sort(shared, hits, wanted);
    if (threadIdx.x != 0) return;
    if (usable >= job.k) job.d_floors[query] = key_closeness(least);
    job.d_thresholds[query] = threshold_of(job.d_weights[query], job.d_floors[query]);
    if (job.d_hits) job.d_hit_counts[query] = lost ? UINT32_MAX : wanted;
}

static __global__ void start_kernel(cuda_select_job job) {
    uint32_t query = blockIdx.x * START_THREADS + threadIdx.x;
    if (query >= job.query_count) return;
    job.d_floors[query] = job.d_weights[query].floor;
    job.d_thresholds[query] = threshold_of(job.d_weights[query], job.d_weights[query].floor);
}

kith_status cuda_select_start(const cuda_select_job *job, kith_err *err) {
    if (job->query_count == 0) return KITH_OK;
    uint32_t blocks = (job->query_count + START_THREADS - 1) / START_THREADS;
    KITH_LAUNCH(start_kernel, blocks, START_THREADS, 0, job->stream, *job);
    return cuda_launch_check(err, "start_kernel");
}

kith_status cuda_select(const cuda_select_job *job, kith_err *err) {
    if (job->query_count == 0) return KITH_OK;
    KITH_LAUNCH(select_kernel, job->query_count, THREADS, 0, job->stream, *job);
    return cuda_launch_check(err, "select_kernel");
}
