/* The candidates and hits of one query in a scan.
 *
 * A query begins in interval mode: candidates carry [lower, upper]; when the buffer is full, the k-th largest
 * lower becomes the threshold and candidates whose upper is below it go (k others are strictly nearer). If
 * too many stay, the data defeats the bounds (near-duplicates, tiny differences far from the origin): the
 * query goes over to exact mode for the rest of its scan. There a full buffer is rescored into a heap of the
 * k best exact hits and emptied, so it can never run over, even if all rows are equal. stats.wide_scans
 * counts these queries. */
#include "kernels/cpu/cpu_candidates.h"

#include <string.h>

#include "kernels/cpu/cpu_bound.h"
#include "kernels/cpu/cpu_hits.h"
#include "kernels/rounding.h"
#include "kernels/score.h"

uint32_t cpu_candidates_capacity(uint32_t k) {
    return 2 * k +
           256; /* k to keep; k + 256 between compactions, of which 64 for the tile being filtered. Guess. */
}

/* --- intervals --- */

static void threshold_raise(cpu_query *query, float threshold) {
    if (threshold > query->threshold) query->threshold = threshold;
}

static void intervals_compact(cpu_query *query, uint32_t k) {
    if (query->candidate_count > k) {
        threshold_raise(query, cpu_kth_largest(query->candidate_lower, query->candidate_count, k));
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < query->candidate_count; i++) {
        if (query->candidate_upper[i] < query->threshold) continue;
        query->candidate_lower[kept] = query->candidate_lower[i];
        query->candidate_upper[kept] = query->candidate_upper[i];
        query->candidate_rows[kept] = query->candidate_rows[i];
        kept++;
    }
    query->candidate_count = kept;
}

/* --- exact --- */

static void candidates_rescore(
    const cpu_leaves *leaves, const kith_top_k_job *job, cpu_query *query, kith_top_k_stats *stats) {
    enum { CHUNK = 256 };
    double closeness[CHUNK];
    stats->rows_rescored += query->candidate_count;
    for (uint32_t begin = 0; begin < query->candidate_count; begin += CHUNK) {
        uint32_t left = query->candidate_count - begin;
        uint32_t count = left < CHUNK ? left : CHUNK;
        const uint32_t *rows = &query->candidate_rows[begin];
        leaves->rescore(job->rows, query->query, rows, count, closeness);
        for (uint32_t i = 0; i < count; i++) {
            if (closeness[i] < query->floor) continue;
            cpu_hits_push(job, query->hits, &query->hit_count,
                (kith_row_hit){.closeness = closeness[i], .row = rows[i]});
        }
    }
    query->candidate_count = 0;
    if (query->hit_count == job->k) threshold_raise(query, kith_round_down(query->hits[0].closeness));
}

void cpu_candidates_compact(
    const cpu_leaves *leaves, const kith_top_k_job *job, cpu_query *query, kith_top_k_stats *stats) {
    if (!query->exact) {
        intervals_compact(query, job->k);
        /* At least half of the room must come free, or compacting itself would become the work. */
        if (query->candidate_count <= job->k + (job->k + 256) / 2) return;
        query->exact = true;
        stats->wide_scans++;
    }
    candidates_rescore(leaves, job, query, stats);
}

void cpu_candidates_finish(
    const cpu_leaves *leaves, const kith_top_k_job *job, cpu_query *query, kith_top_k_stats *stats) {
    if (!query->exact) intervals_compact(query, job->k);
    candidates_rescore(leaves, job, query, stats);
    cpu_hits_sort(job, query->hits, query->hit_count);
}
