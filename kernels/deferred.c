#include "kernels/deferred.h"

#include "host/base/assert.h"

void kith_deferred_job_begin(kith_deferred *deferred) {
    deferred->job_begin = deferred->row_count;
}

/* What they score at least stays known: that is still true, and no other way of finding hits counts it again. */
void kith_deferred_job_forget(kith_deferred *deferred) {
    deferred->row_count = deferred->job_begin;
}

void kith_deferred_cut(kith_deferred *deferred, double floor) {
    uint32_t count = 0, begin = 0;
    for (uint32_t i = 0; i < deferred->row_count; i++) {
        if ((double)deferred->rows[i].most < floor) continue;
        begin += i < deferred->job_begin;
        deferred->rows[count++] = deferred->rows[i];
    }
    deferred->row_count = count;
    deferred->job_begin = begin;
}

/* --- what is known --- */

static void known_sift_down(float *known, uint32_t count, float value) {
    uint32_t at = 0;
    for (uint32_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && known[child + 1] < known[child]) child++;
        if (known[child] >= value) break;
        known[at] = known[child];
        at = child;
    }
    known[at] = value;
}

static void known_push(kith_deferred *deferred, float value) {
    float *known = deferred->known;
    if (deferred->known_count == deferred->k) {
        if (value > known[0]) known_sift_down(known, deferred->known_count, value);
        return;
    }
    uint32_t at = deferred->known_count++;
    for (; at > 0 && known[(at - 1) / 2] > value; at = (at - 1) / 2)
        known[at] = known[(at - 1) / 2];
    known[at] = value;
}

bool kith_deferred_add(kith_deferred *deferred, kith_deferred_row row) {
    kith_assert(row.least <= row.most); /* not where one is not a number */
    known_push(deferred, row.least);
    if (deferred->row_count == deferred->row_most) {
        kith_deferred_cut(deferred, (double)kith_deferred_floor(deferred));
        if (deferred->row_count == deferred->row_most) return false;
    }
    deferred->rows[deferred->row_count++] = row;
    return true;
}
