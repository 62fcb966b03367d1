/* One search of one field of one segment: the segment's rows as a job for a compute backend. */
#include "host/index/segment_internal.h"

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"

enum { RESCORE_ROWS = 16, PREFETCH_BYTES_MOST = 4096 };

static int tie_by_id(const void *ctx, uint32_t row_a, uint32_t row_b) {
    const kith_segment *segment = ctx;
    kith_id a = segment->ops->row_id(segment, row_a);
    kith_id b = segment->ops->row_id(segment, row_b);
    return kith_id_compare(&a, &b);
}

/* Runs the job on `compute`, with scratch of its own if the caller's is for a backend that needs less. */
static kith_status run_on(const kith_compute_ops *compute, kith_top_k_job job, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    size_t needed_bytes = compute->scratch_bytes(job.rows->dim, job.query_count, job.k);
    void *own = NULL;
    if (needed_bytes > job.scratch_bytes) {
        own = kith_try_alloc_aligned(needed_bytes);
        if (!own)
            return kith_err_set(
                err, KITH_NO_MEMORY, "no memory for %zu bytes of search scratch", needed_bytes);
        job.scratch = own;
        job.scratch_bytes = needed_bytes;
    }
    kith_status status = compute->top_k(&job, hits_out, counts_out, stats, err);
    kith_free(own);
    return status;
}

/* The first backend that takes the shape: the caller's, then the CPU's from best to ref, which takes every
 * shape. */
static kith_status run_on_any(const kith_compute_ops *wanted, const kith_top_k_job *job,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    kith_status status = run_on(wanted, *job, hits_out, counts_out, stats, err);
    uint32_t count;
    const kith_compute_ops *const *others = kith_compute_cpu_list(&count);
    for (uint32_t i = 0; status == KITH_UNIMPLEMENTED && i < count; i++) {
        if (others[i] != wanted) status = run_on(others[i], *job, hits_out, counts_out, stats, err);
    }
    return status;
}

static kith_rows rows_of(const kith_segment *segment, uint32_t field_index, uint32_t row_count) {
    kith_assert(field_index < segment->schema.field_count);
    const kith_field *field = &segment->schema.fields[field_index];
    kith_rows rows = {
        .row_count = row_count, .dim = field->dim, .type = field->type, .metric = field->metric};
    segment->ops->rows_of(segment, field_index, &rows);
    return rows;
}

kith_status kith_segment_search_run(const kith_segment *segment, const kith_segment_search *search,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    kith_assert(search->row_end <= segment->rows_max);
    kith_rows rows = rows_of(segment, search->field_index, search->row_end);
    rows.dead = search->dead;
    uint64_t *presence = NULL;
    if (!segment->sealed && segment->ops->any_missing(segment, search->field_index)) {
        /* A copy: the shard's thread changes the word that later rows share with the last visible ones. */
        size_t words = kith_bitset_words(search->row_end);
        presence = kith_try_alloc(words * sizeof *presence);
        if (!presence) return kith_err_set(err, KITH_NO_MEMORY, "no memory for %zu words of row bits", words);
        segment->ops->presence_read(segment, search->field_index, 0, words, presence);
        rows.allow = presence;
    }
    kith_top_k_job job = {.rows = &rows,
        .row_begin = search->row_begin,
        .row_end = search->row_end,
        .word_step = search->word_step,
        .word_done = search->word_done,
        .sample = search->sample,
        .queries = search->queries,
        .query_count = search->query_count,
        .k = search->k,
        .floors = search->floors,
        .deferred = search->deferred,
        .origin = search->origin,
        .kept = search->kept,
        .tie_compare = segment->sealed ? NULL : tie_by_id,
        .tie_ctx = segment,
        .scratch = search->scratch,
        .scratch_bytes = search->scratch_bytes};
    kith_status status = run_on_any(search->compute, &job, hits_out, counts_out, stats, err);
    kith_free(presence);
    return status;
}

static void rows_prefetch(const kith_rows *all, const uint32_t *rows, uint32_t begin, uint32_t end) {
    const size_t bytes = (size_t)all->dim * kith_vector_type_bytes(all->type);
    for (uint32_t i = begin; i < end && i < begin + RESCORE_ROWS; i++) {
        const char *at = (const char *)all->vectors + rows[i] * bytes;
        for (size_t line = 0; line < bytes && line < PREFETCH_BYTES_MOST; line += 64)
            __builtin_prefetch(at + line);
    }
}

/* The rows lie anywhere: the next few are asked for meanwhile. */
void kith_segment_rescore(const kith_segment *segment, const kith_compute_ops *compute, uint32_t field_index,
    const float *query, const uint32_t *rows, uint32_t row_count, double *closeness_out) {
    const kith_rows all = rows_of(segment, field_index, segment->rows_max);
    rows_prefetch(&all, rows, 0, row_count);
    for (uint32_t i = 0; i < row_count; i += RESCORE_ROWS) {
        const uint32_t left = row_count - i, count = left < RESCORE_ROWS ? left : RESCORE_ROWS;
        rows_prefetch(&all, rows, i + count, row_count);
        compute->rescore(&all, query, rows + i, count, closeness_out + i);
    }
}
