/* A search on the device: threshold, scan, scores, selection, all queued on the worker's stream; the host waits once.
 *
 * Stages. Each scans some blocks of codes with the thresholds so far, scores what it kept, and raises each query's
 * floor to the k-th best closeness found (k rows reach it, so it is never above the true one):
 *   sample  at least SAMPLE_TIMES k rows, spread: no threshold yet, all are scored
 *   spread  every SPREAD-th block, where that is several times the sample
 *   all     every block; what it keeps holds the answer, because the threshold is proven
 * A sample that is cut short for want of room still proves its floor. If the last stage keeps more rows than there is
 * room for, the query has no answer here; its floor is better than before, and the caller tries again with fewer
 * queries and so more room, or asks the CPU.
 *
 * Memory. The worker's arenas are cut up by the shape: inputs go up in one copy, results come down in one. These begin as
 * zeros: counts have to, and of the rest no byte goes to the host that was never written. */
#include <string.h>

#include "kernels/cuda/cuda_scan.cuh"
#include "kernels/cuda/cuda_select.cuh"

enum {
    ALIGNMENT = 256,
    SAMPLE_TIMES = 4,        /* rows of the sample for each of k; guess */
    SAMPLE_ROWS_LEAST = 128, /* guess */
    SPREAD = 32,
    STAGE_TIMES = 4,   /* a stage is worth its launches when the next has this many times its rows; guess */
    ROOM_TIMES = 64,   /* rows that may survive for each of k: twice what SPREAD leads one to expect */
    ROOM_LEAST = 4096, /* rows, likewise */
    RESCORE_BLOCKS_A_PROCESSOR = 8,
};

/* --- cutting up --- */

/* Hands out pieces of an arena; `used` goes past its end when it is too small. */
typedef struct pieces {
    const cuda_arena *arena;
    size_t used;
} pieces;

static size_t piece(pieces *from, size_t bytes) {
    size_t at = from->used;
    from->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

/* Where everything of one search lies in its worker's arenas. */
typedef struct search_layout {
    size_t queries, levels, weights, dead, allow; /* in queries */
    size_t queries_bytes;
    size_t hits, hit_counts, floors, counts; /* in results */
    size_t results_bytes;
    size_t thresholds, rows, closeness; /* in scratch */
    uint32_t capacity;                  /* rows that may survive, a query */
    uint32_t block_begin, block_end;    /* of codes */
    bool fits;
} search_layout;

static uint32_t capacity_most(const cuda_arena *scratch, uint32_t query_count, uint32_t row_count) {
    size_t fixed = 3 * ALIGNMENT + (size_t)query_count * sizeof(float);
    if (scratch->bytes < fixed) return 0;
    size_t rows = (scratch->bytes - fixed) / query_count / (sizeof(uint32_t) + sizeof(double));
    return rows < row_count ? (uint32_t)rows : row_count;
}

static search_layout layout_make(const cuda_worker *worker, const kith_cuda_segment *segment,
    uint32_t query_count, uint32_t k, uint32_t row_begin, uint32_t row_end) {
    search_layout layout = {};
    layout.block_begin = row_begin / KITH_CODE_BLOCK_ROWS;
    layout.block_end = kith_code_block_count(row_end);
    uint32_t blocks = layout.block_end - layout.block_begin;
    /* dead and allow are given in words of 64 rows, and lie here from block_begin on */
    pieces queries = {&worker->queries, 0}, results = {&worker->results, 0}, scratch = {&worker->scratch, 0};
    layout.queries = piece(&queries, (size_t)query_count * segment->dim * sizeof(float));
    layout.levels = piece(&queries, (size_t)query_count * segment->code_dim * sizeof(int16_t));
    layout.weights = piece(&queries, query_count * sizeof(kith_cuda_query));
    layout.dead = piece(&queries, blocks * sizeof(uint32_t));
    layout.allow = piece(&queries, blocks * sizeof(uint32_t));
    layout.queries_bytes = queries.used;
    layout.hits = piece(&results, (size_t)query_count * k * sizeof(kith_row_hit));
    layout.hit_counts = piece(&results, query_count * sizeof(uint32_t));
    layout.floors = piece(&results, query_count * sizeof(double));
    layout.counts = piece(&results, 3 * (size_t)query_count * sizeof(uint32_t));
    layout.results_bytes = results.used;
    layout.capacity = capacity_most(&worker->scratch, query_count, blocks * KITH_CODE_BLOCK_ROWS);
    layout.thresholds = piece(&scratch, query_count * sizeof(float));
    layout.rows = piece(&scratch, (size_t)query_count * layout.capacity * sizeof(uint32_t));
    layout.closeness = piece(&scratch, (size_t)query_count * layout.capacity * sizeof(double));
    layout.fits = queries.used <= worker->queries.bytes && results.used <= worker->results.bytes &&
                  scratch.used <= worker->scratch.bytes;
    return layout;
}

/* Room that a query should have, so that a usual search does not run over. */
static uint32_t room_wanted(uint32_t k, uint32_t row_count) {
    uint32_t rows = max(k * ROOM_TIMES, (uint32_t)ROOM_LEAST);
    uint32_t all = kith_code_block_count(row_count) * KITH_CODE_BLOCK_ROWS;
    return rows < all ? rows : all;
}

static_assert((uint64_t)KITH_K_MAX * ROOM_TIMES <= UINT32_MAX, "room is counted in 32 bits");

uint32_t cuda_search_queries_max(
    const kith_cuda_device *device, const kith_cuda_segment *segment, uint32_t k) {
    uint32_t least = 0, most = KITH_QUERIES_MAX; /* least fits, most + 1 does not */
    while (least < most) {
        uint32_t count = least + (most - least + 1) / 2;
        search_layout layout = layout_make(&device->workers[0], segment, count, k, 0, segment->row_count);
        if (layout.fits && layout.capacity >= room_wanted(k, segment->row_count))
            least = count;
        else
            most = count - 1;
    }
    if (least > 0) return least;
    /* One query at a time may have less room than it should. */
    search_layout layout = layout_make(&device->workers[0], segment, 1, k, 0, segment->row_count);
    return layout.fits && layout.capacity >= k ? 1 : 0;
}

/* --- one search --- */

typedef struct search_run {
    kith_cuda_device *device;
    cuda_worker *worker;
    kith_cuda_search_job *job;
    search_layout layout;
    cuda_scan_job scan;
    kith_cuda_rescore_job rescore;
    cuda_select_job select;
} search_run;

/* The words of a bitmap that the scan's blocks need; on this little-endian machine two blocks share a word. */
static void bits_stage(const search_run *run, const uint64_t *bits, char *p_to) {
    uint32_t blocks = run->layout.block_end - run->layout.block_begin;
    if (bits) memcpy(p_to, (const uint32_t *)bits + run->layout.block_begin, blocks * sizeof(uint32_t));
}

static void inputs_stage(const search_run *run) {
    const kith_cuda_search_job *job = run->job;
    const search_layout *layout = &run->layout;
    char *p_at = run->worker->queries.p_at;
    size_t query_bytes = job->segment->dim * sizeof(float);
    size_t level_bytes = job->segment->code_dim * sizeof(int16_t);
    for (uint32_t i = 0; i < job->query_count; i++) {
        uint32_t number = job->query_numbers[i];
        memcpy(p_at + layout->queries + i * query_bytes, (const char *)job->queries + number * query_bytes,
            query_bytes);
        memcpy(p_at + layout->levels + i * level_bytes, (const char *)job->levels + number * level_bytes,
            level_bytes);
        memcpy(p_at + layout->weights + i * sizeof(kith_cuda_query), job->weights + number,
            sizeof(kith_cuda_query));
    }
    bits_stage(run, job->dead, p_at + layout->dead);
    bits_stage(run, job->allow, p_at + layout->allow);
}

static void jobs_make(search_run *run) {
    const kith_cuda_search_job *job = run->job;
    const kith_cuda_segment *segment = job->segment;
    const search_layout *layout = &run->layout;
    char *d_queries = run->worker->queries.d_at, *d_results = run->worker->results.d_at,
         *d_scratch = run->worker->scratch.d_at;
    uint32_t *d_rows = (uint32_t *)(d_scratch + layout->rows);
    double *d_closeness = (double *)(d_scratch + layout->closeness);
    cuda_scan_job *scan = &run->scan;
    scan->d_blocks = segment->d_blocks;
    scan->d_dead = job->dead ? (const uint32_t *)(d_queries + layout->dead) : NULL;
    scan->d_allow = job->allow ? (const uint32_t *)(d_queries + layout->allow) : NULL;
    scan->d_levels = (const int16_t *)(d_queries + layout->levels);
    scan->d_weights = (const kith_cuda_query *)(d_queries + layout->weights);
    scan->d_thresholds = (const float *)(d_scratch + layout->thresholds);
    scan->d_rows = d_rows;
    scan->layout = segment->layout;
    scan->code_dim = segment->code_dim;
    scan->lead_dim = segment->lead_dim;
    scan->query_count = job->query_count;
    scan->capacity = layout->capacity;
    scan->row_begin = job->row_begin;
    scan->row_end = job->row_end;
    scan->block_origin = layout->block_begin;
    scan->processor_count = run->device->processor_count;
    scan->stream = run->worker->stream;
    kith_cuda_rescore_job *rescore = &run->rescore;
    rescore->d_vectors = segment->d_vectors;
    rescore->d_queries = (const float *)(d_queries + layout->queries);
    rescore->d_row_numbers = d_rows;
    rescore->d_closeness_out = d_closeness;
    rescore->dim = segment->dim;
    rescore->query_count = job->query_count;
    rescore->rows_per_query_max = layout->capacity;
    rescore->blocks_per_query =
        run->device->processor_count * RESCORE_BLOCKS_A_PROCESSOR / job->query_count + 1;
    rescore->type = segment->type;
    rescore->metric = segment->metric;
    rescore->stream = run->worker->stream;
    cuda_select_job *select = &run->select;
    select->d_closeness = d_closeness;
    select->d_rows = d_rows;
    select->d_weights = scan->d_weights;
    select->query_count = job->query_count;
    select->capacity = layout->capacity;
    select->k = job->k;
    select->d_floors = (double *)(d_results + layout->floors);
    select->d_thresholds = (float *)(d_scratch + layout->thresholds);
    select->d_hit_counts = (uint32_t *)(d_results + layout->hit_counts);
    select->stream = run->worker->stream;
}

static bool wgmma_wanted(const search_run *run) {
    const kith_cuda_scan wanted = run->device->options.scan;
    if (run->device->arch != CUDA_ARCH_WGMMA) return false;
    return wanted == KITH_CUDA_SCAN_WGMMA
               ? cuda_scan_wgmma_fits(&run->scan)
               : wanted == KITH_CUDA_SCAN_AUTO && cuda_scan_wgmma_suits(&run->scan);
}

static kith_status scan_queue(const search_run *run, kith_err *err) {
    if (wgmma_wanted(run)) return cuda_scan_wgmma(&run->scan, err);
    bool mma = run->device->options.scan != KITH_CUDA_SCAN_DP4A && cuda_scan_mma_suits(&run->scan);
    return mma ? cuda_scan_mma(&run->scan, err) : cuda_scan_dp4a(&run->scan, err);
}

/* Stage `number` (0 to 2) over `count` blocks, `step` apart from `first` on. */
static kith_status stage_queue(search_run *run, uint32_t number, uint32_t first, uint32_t step,
    uint32_t count, bool last, kith_err *err) {
    uint32_t *d_counts =
        (uint32_t *)(run->worker->results.d_at + run->layout.counts) + (size_t)number * run->job->query_count;
    run->scan.d_counts = d_counts;
    run->scan.block_first = first;
    run->scan.block_step = step;
    run->scan.scan_count = count;
    run->rescore.d_row_counts = d_counts;
    run->select.d_counts = d_counts;
    run->select.d_hits = last ? (kith_row_hit *)(run->worker->results.d_at + run->layout.hits) : NULL;
    kith_status status = scan_queue(run, err);
    if (status == KITH_OK) status = cuda_rescore(&run->rescore, err);
    if (status == KITH_OK) status = cuda_select(&run->select, err);
    return status;
}

static kith_status stages_queue(search_run *run, kith_err *err) {
    uint32_t begin = run->layout.block_begin, blocks = run->layout.block_end - begin;
    uint64_t sample_rows = (uint64_t)SAMPLE_TIMES * run->job->k;
    if (sample_rows < SAMPLE_ROWS_LEAST) sample_rows = SAMPLE_ROWS_LEAST;
    uint32_t sample = (uint32_t)((sample_rows + KITH_CODE_BLOCK_ROWS - 1) / KITH_CODE_BLOCK_ROWS);
    uint32_t spread = blocks / SPREAD;
    kith_status status = KITH_OK;
    if (blocks >= STAGE_TIMES * sample)
        status = stage_queue(run, 0, begin, blocks / sample, sample, false, err);
    if (status == KITH_OK && spread >= STAGE_TIMES * sample)
        status = stage_queue(run, 1, begin + SPREAD / 2, SPREAD, spread, false, err);
    if (status == KITH_OK) status = stage_queue(run, 2, begin, 1, blocks, true, err);
    return status;
}

static kith_status search_queue(search_run *run, kith_err *err) {
    const search_layout *layout = &run->layout;
    cuda_worker *worker = run->worker;
    kith_status status = cuda_check(err,
        cudaMemcpyAsync(worker->queries.d_at, worker->queries.p_at, layout->queries_bytes,
            cudaMemcpyHostToDevice, worker->stream),
        "queries to the device");
    if (status == KITH_OK)
        status =
            cuda_check(err, cudaMemsetAsync(worker->results.d_at, 0, layout->results_bytes, worker->stream),
                "counts of survivors");
    if (status == KITH_OK) status = cuda_select_start(&run->select, err);
    if (status == KITH_OK) status = stages_queue(run, err);
    if (status == KITH_OK)
        status = cuda_check(err,
            cudaMemcpyAsync(worker->results.p_at, worker->results.d_at, layout->results_bytes,
                cudaMemcpyDeviceToHost, worker->stream),
            "results from the device");
    if (status == KITH_OK)
        status = cuda_check(err, cudaEventRecord(worker->done, worker->stream), "a search");
    if (status == KITH_OK) status = cuda_check(err, cudaEventSynchronize(worker->done), "a search");
    return status;
}

static void results_take(const search_run *run) {
    kith_cuda_search_job *job = run->job;
    const char *p_results = run->worker->results.p_at;
    const kith_row_hit *hits = (const kith_row_hit *)(p_results + run->layout.hits);
    const uint32_t *hit_counts = (const uint32_t *)(p_results + run->layout.hit_counts);
    const double *floors = (const double *)(p_results + run->layout.floors);
    const uint32_t *counts = (const uint32_t *)(p_results + run->layout.counts);
    for (uint32_t i = 0; i < job->query_count; i++) {
        uint32_t number = job->query_numbers[i];
        job->counts_out[number] = hit_counts[i];
        job->floors_out[number] = floors[i];
        if (hit_counts[i] != UINT32_MAX)
            memcpy(job->hits_out + (size_t)number * job->k, hits + (size_t)i * job->k,
                hit_counts[i] * sizeof *hits);
        for (uint32_t stage = 0; stage < 3; stage++) {
            uint32_t count = counts[stage * job->query_count + i];
            job->rescored += count < run->layout.capacity ? count : run->layout.capacity;
            if (stage == 2) job->survivors += count;
        }
    }
}

kith_status cuda_search(kith_cuda_device *device, kith_cuda_search_job *job, kith_err *err) {
    if (job->query_count == 0) return KITH_OK;
    const kith_cuda_segment *segment = job->segment;
    if (job->worker >= device->options.worker_count || job->row_begin >= job->row_end ||
        job->row_end > segment->row_count) {
        return cuda_fail(err, KITH_INVALID, "worker %u, rows %u to %u: there are %u workers, %u rows",
            job->worker, job->row_begin, job->row_end, device->options.worker_count, segment->row_count);
    }
    search_run run = {};
    run.device = device;
    run.worker = &device->workers[job->worker];
    run.job = job;
    run.layout = layout_make(run.worker, segment, job->query_count, job->k, job->row_begin, job->row_end);
    if (!run.layout.fits || run.layout.capacity == 0) {
        return cuda_fail(err, KITH_UNIMPLEMENTED, "%u queries with k %u do not fit in a worker's memory",
            job->query_count, job->k);
    }
    kith_status status = cuda_check(err, cudaSetDevice((int)device->options.device_index), "the device");
    if (status != KITH_OK) return status;
    jobs_make(&run);
    inputs_stage(&run);
    status = search_queue(&run, err);
    if (status == KITH_OK) results_take(&run);
    return status;
}
