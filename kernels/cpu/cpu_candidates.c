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
#include "kernels/score.h"

uint32_t cpu_candidates_capacity(uint32_t k) {
    return 2 * k +
           256; /* k to keep; k + 256 between compactions, of which 64 for the tile being filtered. Guess. */
}

/* --- hits: a binary heap, the last-ranked hit first --- */

static void heap_sift_down(const kith_top_k_job *job, kith_row_hit *hits, uint32_t count, uint32_t at) {
    kith_row_hit moved = hits[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && kith_score_hit_before(job, hits[child], hits[child + 1])) child++;
        if (!kith_score_hit_before(job, moved, hits[child])) break;
        hits[at] = hits[child];
        at = child;
    }
    hits[at] = moved;
}

static void heap_push(const kith_top_k_job *job, cpu_query *query, kith_row_hit hit) {
    kith_row_hit *hits = query->hits;
    if (query->hit_count == job->k) {
        if (!kith_score_hit_before(job, hit, hits[0])) return;
        hits[0] = hit;
        heap_sift_down(job, hits, query->hit_count, 0);
        return;
    }
    uint32_t at = query->hit_count++;
    while (at > 0 && kith_score_hit_before(job, hits[(at - 1) / 2], hit)) {
        hits[at] = hits[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    hits[at] = hit;
}

static void heap_sort(const kith_top_k_job *job, kith_row_hit *hits, uint32_t count) {
    for (uint32_t left = count; left > 1; left--) {
        kith_row_hit last = hits[0];
        hits[0] = hits[left - 1];
        hits[left - 1] = last;
        heap_sift_down(job, hits, left - 1, 0);
    }
}

/* --- intervals --- */

/* A key that orders as floats do; NaN (no interval) first. */
static uint32_t order_key(float value) {
    if (value != value) return 0;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

static float order_key_value(uint32_t key) {
    if (key == 0) return -INFINITY;
    uint32_t bits = key & 0x80000000 ? key & 0x7fffffff : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The k-th largest of `values`, 1 <= k <= count: radix selection, a byte at a time from the top, because its
 * time does not depend on the data. */
static float kth_largest(const float *values, uint32_t count, uint32_t k) {
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint32_t histogram[256] = {0};
        for (uint32_t i = 0; i < count; i++) {
            uint32_t key = order_key(values[i]);
            if ((key & mask) == prefix) histogram[key >> shift & 255]++;
        }
        uint32_t digit = 255;
        while (histogram[digit] < k)
            k -= histogram[digit--];
        prefix |= digit << shift;
        mask |= 255u << shift;
    }
    return order_key_value(prefix);
}

static void threshold_raise(cpu_query *query, float threshold) {
    if (threshold > query->threshold) query->threshold = threshold;
}

static void intervals_compact(cpu_query *query, uint32_t k) {
    if (query->candidate_count > k) {
        threshold_raise(query, kth_largest(query->candidate_lower, query->candidate_count, k));
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
            heap_push(job, query, (kith_row_hit){.closeness = closeness[i], .row = rows[i]});
        }
    }
    query->candidate_count = 0;
    if (query->hit_count == job->k) threshold_raise(query, cpu_bound_round_down(query->hits[0].closeness));
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
    heap_sort(job, query->hits, query->hit_count);
}
