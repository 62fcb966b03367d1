/* Rows that a scan puts off: it knows from their codes between which scores theirs lies, and leaves it to the end of the whole
 * search to read the vectors of those that can still be among the k best. Of one query, over all parts of one search; the
 * memory is the caller's.
 *
 * What k rows score at least is a threshold for all that come after, so the scan needs no vector to raise it. Text of 384
 * dimensions, batches of 32, k = 100: 290 vectors a query were read as soon as their codes let them pass, 126 are at the end. */
#ifndef KITH_KERNELS_DEFERRED_H
#define KITH_KERNELS_DEFERRED_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kith_deferred_row {
    float least, most; /* closeness (compute.h) is between them */
    uint32_t origin;   /* kith_top_k_job.origin of the job that put it off */
    uint32_t row;
} kith_deferred_row;

/* A search begins with the counts at 0. */
typedef struct kith_deferred {
    uint32_t k;
    uint32_t row_most;
    kith_deferred_row *rows; /* [row_most], in no order */
    float *known;            /* [k]: the best `least`s of rows so far, as a heap, the smallest first */
    uint32_t row_count, known_count;
    uint32_t job_begin; /* rows from here on are of the job that runs */
} kith_deferred;

/* Enough for two rows of each of the k best, and for what comes before k are known. */
static inline uint32_t kith_deferred_rows(uint32_t k) {
    return 2 * k + 64;
}

/* k rows score so much, or more; -INFINITY: fewer than k are known. */
static inline float kith_deferred_floor(const kith_deferred *deferred) {
    return deferred->known_count == deferred->k ? deferred->known[0] : -INFINITY;
}

/* A job begins. */
void kith_deferred_job_begin(kith_deferred *deferred);
/* The job finds its hits in another way: what it put off is forgotten. */
void kith_deferred_job_forget(kith_deferred *deferred);
/* Counts the row's `least`, once for each row. True: the row is put off. False: there is no room, and the caller must score
 * it. */
bool kith_deferred_add(kith_deferred *deferred, kith_deferred_row row);
/* Rows that score less than `floor` are forgotten. */
void kith_deferred_cut(kith_deferred *deferred, double floor);

#endif
