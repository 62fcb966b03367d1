/* Selection: the k best hits, and the k-th largest of many numbers. */
#include "kernels/cpu/cpu_hits.h"

#include <string.h>

#include "kernels/score.h"

/* --- heap --- */

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

void cpu_hits_push(const kith_top_k_job *job, kith_row_hit *hits, uint32_t *count, kith_row_hit hit) {
    if (*count == job->k) {
        if (!kith_score_hit_before(job, hit, hits[0])) return;
        hits[0] = hit;
        heap_sift_down(job, hits, *count, 0);
        return;
    }
    uint32_t at = (*count)++;
    while (at > 0 && kith_score_hit_before(job, hits[(at - 1) / 2], hit)) {
        hits[at] = hits[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    hits[at] = hit;
}

void cpu_hits_push_word(const kith_top_k_job *job, kith_row_hit *hits, uint32_t *count, kith_row_hit hit) {
    for (uint32_t i = 0; i < *count; i++) {
        if (hits[i].row / 64 != hit.row / 64) continue;
        if (!kith_score_hit_before(job, hit, hits[i])) return;
        hits[i] = hit;
        heap_sift_down(job, hits, *count, i);
        return;
    }
    cpu_hits_push(job, hits, count, hit);
}

void cpu_hits_sort(const kith_top_k_job *job, kith_row_hit *hits, uint32_t count) {
    for (uint32_t left = count; left > 1; left--) {
        kith_row_hit last = hits[0];
        hits[0] = hits[left - 1];
        hits[left - 1] = last;
        heap_sift_down(job, hits, left - 1, 0);
    }
}

/* --- k-th largest --- */

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
float cpu_kth_largest(const float *values, uint32_t count, uint32_t k) {
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
