/* One search: queries are coded on the host and go to the device in groups; those whose survivors had no room go again,
 * with the better floors that the first attempt proved, fewer at a time and so with more room each; what is then left
 * goes to the CPU. */
#include <math.h>
#include <string.h>

#include "kernels/codes/codes.h"
#include "kernels/cuda/cuda_backend_internal.h"
#include "kernels/score.h"

enum {
    GROUP_QUERIES = 1024, /* coded together */
    CODE_QUERIES = 32,    /* of these, at a time: their scratch stays in L2 */
    ATTEMPTS = 3,
    ATTEMPT_FEWER = 16, /* each has so many times fewer queries than the one before; guess */
};

/* The job's scratch, cut up. */
typedef struct group_memory {
    int16_t *levels;          /* [queries][code_dim] */
    kith_cuda_query *weights; /* [queries] */
    double *floors;           /* [queries] */
    uint32_t *numbers;        /* [queries], pending */
    uint32_t *counts;         /* [queries] */
    void *coding;
    void *cpu;
    size_t cpu_bytes;
} group_memory;

static size_t align_up(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static uint32_t code_dim_most(uint32_t dim) {
    return (dim + KITH_CODE_DIM_STEP - 1) / KITH_CODE_DIM_STEP * KITH_CODE_DIM_STEP;
}

static char *cut(char **at, size_t bytes) {
    char *piece = *at;
    *at += align_up(bytes);
    return piece;
}

/* The pieces from `scratch` on; returns their end. */
static char *group_place(char *scratch, uint32_t dim, uint32_t query_count, uint32_t k, group_memory *out) {
    uint32_t queries = query_count < GROUP_QUERIES ? query_count : GROUP_QUERIES;
    uint32_t coded = query_count < CODE_QUERIES ? query_count : CODE_QUERIES;
    kith_code_basis widest = {.dim = dim, .code_dim = code_dim_most(dim)};
    char *at = scratch;
    out->levels = (int16_t *)(void *)cut(&at, (size_t)queries * widest.code_dim * sizeof(int16_t));
    out->weights = (kith_cuda_query *)(void *)cut(&at, queries * sizeof(kith_cuda_query));
    out->floors = (double *)(void *)cut(&at, queries * sizeof(double));
    out->numbers = (uint32_t *)(void *)cut(&at, queries * sizeof(uint32_t));
    out->counts = (uint32_t *)(void *)cut(&at, queries * sizeof(uint32_t));
    out->coding = cut(&at, kith_code_query_scratch_bytes(&widest, coded));
    out->cpu_bytes = kith_compute_cpu()->scratch_bytes(dim, query_count ? 1 : 0, k);
    out->cpu = cut(&at, out->cpu_bytes);
    return at;
}

/* At least what the CPU needs for the job: it takes the ones that are declined, with the same scratch. */
size_t cuda_backend_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k) {
    group_memory memory;
    static char origin[1]; /* only differences count */
    size_t own = (uintptr_t)group_place(origin, dim, query_count, k, &memory) - (uintptr_t)origin;
    size_t cpu = kith_compute_cpu()->scratch_bytes(dim, query_count, k);
    return own > cpu ? own : cpu;
}

kith_status cuda_backend_job_check(const kith_top_k_job *job, kith_err *err) {
    kith_status status = kith_score_job_check(job, 0, err); /* scratch_bytes wants a right dim and k */
    if (status != KITH_OK) return status;
    return kith_score_job_check(
        job, cuda_backend_scratch_bytes(job->rows->dim, job->query_count, job->k), err);
}

const char *cuda_backend_unfit(const kith_top_k_job *job) {
    const kith_rows *rows = job->rows;
    if (rows->metric == KITH_METRIC_L1) return "l1 has no codes";
    if (job->word_step > 0) return "parts of a scan are not for the device";
    if (!rows->codes) return "rows without codes are not for the device";
    if (job->tie_compare) return "ties by anything but row number are not for the device";
    if (rows->codes->basis.code_dim > code_dim_most(rows->dim)) return "codes are longer than vectors";
    return NULL;
}

/* --- a group --- */

typedef struct group_run {
    cuda_backend_turn *turn;
    const kith_top_k_job *job;
    group_memory memory;
    uint32_t first, count; /* queries of the job */
    kith_row_hit *hits;    /* [count][k] */
    uint32_t *counts;      /* [count] */
    kith_top_k_stats *stats;
} group_run;

static void queries_code(const group_run *run) {
    const kith_code_basis *basis = &run->job->rows->codes->basis;
    for (uint32_t begin = 0; begin < run->count; begin += CODE_QUERIES) {
        uint32_t count = run->count - begin < CODE_QUERIES ? run->count - begin : CODE_QUERIES;
        kith_code_query codes[CODE_QUERIES];
        for (uint32_t i = 0; i < count; i++)
            codes[i].levels = run->memory.levels + (size_t)(begin + i) * basis->code_dim;
        kith_code_queries_make(kith_compute_cpu(), basis,
            run->job->queries + (size_t)(run->first + begin) * basis->dim, count, run->memory.coding, codes,
            NULL);
        for (uint32_t i = 0; i < count; i++) {
            double floor = run->job->floors ? run->job->floors[run->first + begin + i] : -INFINITY;
            run->memory.weights[begin + i] = (kith_cuda_query){.constant = codes[i].constant,
                .inverse = codes[i].inverse,
                .slack = codes[i].slack,
                .floor = floor,
                .error_weight = codes[i].error_weight,
                .tail_weight = codes[i].tail_weight,
                .offset_weight = codes[i].offset_weight,
                .lead_tail_weight = codes[i].lead_tail_weight};
        }
    }
}

/* One call of the device for `count` of the pending queries. */
static kith_status device_search(
    const group_run *run, const uint32_t *numbers, uint32_t count, kith_err *err) {
    const kith_top_k_job *job = run->job;
    kith_cuda_search_job search = {.segment = run->turn->segment,
        .worker = run->turn->worker,
        .row_begin = job->row_begin,
        .row_end = job->row_end,
        .dead = job->rows->dead,
        .allow = job->rows->allow,
        .queries = job->queries + (size_t)run->first * job->rows->dim,
        .levels = run->memory.levels,
        .weights = run->memory.weights,
        .query_numbers = numbers,
        .query_count = count,
        .k = job->k,
        .hits_out = run->hits,
        .counts_out = run->memory.counts,
        .floors_out = run->memory.floors};
    kith_status status = run->turn->plugin->search(run->turn->device, &search, err);
    if (status != KITH_OK) return status;
    run->stats->code_survivors += search.survivors;
    run->stats->rows_rescored += search.rescored;
    return KITH_OK;
}

/* Takes what was answered; returns how many of the first `pending` numbers stay, moved to the front. */
static uint32_t answers_take(const group_run *run, uint32_t pending) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < pending; i++) {
        uint32_t number = run->memory.numbers[i];
        if (run->memory.counts[number] != UINT32_MAX) {
            run->counts[number] = run->memory.counts[number];
            continue;
        }
        run->memory.weights[number].floor = run->memory.floors[number];
        run->memory.numbers[left++] = number;
    }
    return left;
}

/* The queries that the device gave up on, with the floors that it proved. */
static kith_status wide_search(const group_run *run, uint32_t pending, kith_err *err) {
    const kith_top_k_job *job = run->job;
    for (uint32_t i = 0; i < pending; i++) {
        uint32_t number = run->memory.numbers[i];
        kith_top_k_job one = *job;
        one.queries = job->queries + (size_t)(run->first + number) * job->rows->dim;
        one.query_count = 1;
        one.kept = NULL;
        one.floors = &run->memory.weights[number].floor;
        one.scratch = run->memory.cpu;
        one.scratch_bytes = run->memory.cpu_bytes;
        kith_top_k_stats stats = {0};
        kith_status status = kith_compute_cpu()->top_k(
            &one, run->hits + (size_t)number * job->k, run->counts + number, &stats, err);
        if (status != KITH_OK) return status;
        run->stats->rows_rescored += stats.rows_rescored;
        run->stats->wide_scans++;
        run->turn->queries_wide++;
    }
    return KITH_OK;
}

static kith_status group_search(const group_run *run, kith_err *err) {
    uint32_t most = run->turn->plugin->search_queries_max(run->turn->device, run->turn->segment, run->job->k);
    if (most == 0)
        return kith_err_set(err, KITH_UNIMPLEMENTED, "k %u is too large for the device", run->job->k);
    queries_code(run);
    for (uint32_t i = 0; i < run->count; i++)
        run->memory.numbers[i] = i;
    uint32_t pending = run->count;
    for (uint32_t attempt = 0; attempt < ATTEMPTS && pending > 0; attempt++) {
        if (attempt > 0) most = most / ATTEMPT_FEWER + 1;
        for (uint32_t begin = 0; begin < pending; begin += most) {
            uint32_t count = pending - begin < most ? pending - begin : most;
            kith_status status = device_search(run, run->memory.numbers + begin, count, err);
            if (status != KITH_OK) return status;
        }
        pending = answers_take(run, pending);
    }
    return wide_search(run, pending, err);
}

static uint64_t live_count(const kith_top_k_job *job) {
    uint64_t count = 0;
    for (uint32_t word = job->row_begin / 64; (uint64_t)word * 64 < job->row_end; word++)
        count += (uint32_t)__builtin_popcountll(kith_score_live_word(job, word));
    return count;
}

kith_status cuda_backend_search(cuda_backend_turn *turn, const kith_top_k_job *job, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    memset(counts_out, 0, job->query_count * sizeof *counts_out);
    uint64_t live = job->row_begin == job->row_end ? 0 : live_count(job);
    if (live == 0) return KITH_OK;
    kith_top_k_stats done = {.rows_scanned = live * job->query_count, .rows_coded = live * job->query_count};
    group_memory memory;
    (void)group_place(job->scratch, job->rows->dim, job->query_count, job->k, &memory);
    for (uint32_t first = 0; first < job->query_count; first += GROUP_QUERIES) {
        group_run run = {.turn = turn,
            .job = job,
            .memory = memory,
            .first = first,
            .count = job->query_count - first < GROUP_QUERIES ? job->query_count - first : GROUP_QUERIES,
            .hits = hits_out + (size_t)first * job->k,
            .counts = counts_out + first,
            .stats = &done};
        kith_status status = group_search(&run, err);
        if (status != KITH_OK) return status;
    }
    stats->rows_scanned += done.rows_scanned;
    stats->rows_coded += done.rows_coded;
    stats->code_survivors += done.code_survivors;
    stats->rows_rescored += done.rows_rescored;
    stats->wide_scans += done.wide_scans;
    return KITH_OK;
}
