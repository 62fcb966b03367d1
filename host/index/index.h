/* Segments: runs of points with an index per vector field. A growing segment takes rows in arrival order in memory; a
 * sealed one is an immutable file (host/store/segment_file.h), opened by mmap, its rows sorted by id. Which rows are
 * live is not theirs to know: the view (host/shard) holds the dead bits and, for growing ones, how many rows are
 * visible.
 *
 * Threads: a growing segment's append and kith_segment_find run on its shard's thread; everything else from any thread,
 * for rows below a row count that was published with release order (the view's). No locks.
 * Ownership: counted; the last release frees it (a sealed one is unmapped, and its file removed if it was marked). */
#ifndef KITH_INDEX_INDEX_H
#define KITH_INDEX_INDEX_H

#include <stdatomic.h>

#include "host/base/err.h"
#include "host/env/env.h"
#include "host/model/record.h"
#include "host/model/schema.h"
#include "kernels/compute.h"
#include "kernels/deferred.h"

#define KITH_ROW_NONE UINT32_MAX

typedef struct kith_segment kith_segment;

/* Capacity is fixed: `rows_max` rows (at most 2^24). Memory is taken as rows come. NO_MEMORY. */
KITH_CHECK kith_status kith_segment_growing_create(uint64_t id, const kith_schema *schema, uint32_t rows_max,
    const kith_compute_ops *compute, kith_segment **segment_out, kith_err *err);
/* Copies the point in; returns its row. The segment must have room (row_count < rows_max). The same id may come again:
 * find gives the newest row, the caller marks the older one dead. */
KITH_CHECK kith_status kith_segment_growing_append(
    kith_segment *segment, const kith_op_point *point, uint64_t sequence, uint32_t *row_out, kith_err *err);

/* Maps and verifies the file: every section's checksum and every inner length. CORRUPT names file, section and
 * offset. */
KITH_CHECK kith_status kith_segment_sealed_open(kith_env *env, const char *path, uint64_t id,
    const kith_schema *schema, kith_segment **segment_out, kith_err *err);
/* Sealed: gives the fields with codes to `compute` (kith_compute_ops.attach), and takes them back when the last
 * reference goes. Once a segment; waits for the copy of the rows. */
void kith_segment_attach(kith_segment *segment, const kith_compute_ops *compute);
/* The file is removed when the last reference goes. */
void kith_segment_remove_file_on_release(kith_segment *segment);

kith_segment *kith_segment_acquire(kith_segment *segment);
void kith_segment_release(kith_segment *segment); /* accepts NULL */

uint64_t kith_segment_id(const kith_segment *segment);
bool kith_segment_is_sealed(const kith_segment *segment);
/* Rows appended so far (growing: owner thread only), or in the file. */
uint32_t kith_segment_row_count(const kith_segment *segment);
uint32_t kith_segment_rows_max(const kith_segment *segment);
/* Stored vector bytes held (growing) or mapped. */
uint64_t kith_segment_vector_bytes(const kith_segment *segment);
/* Newest row with this id, dead or not; KITH_ROW_NONE. Sealed: bounds check, bloom filter, binary search. */
uint32_t kith_segment_find(const kith_segment *segment, const kith_id *id);
/* The same among rows below `row_count` (of a view), while later ones are added: from any thread. Cost: one step a later
 * row of this id. */
uint32_t kith_segment_find_below(const kith_segment *segment, const kith_id *id, uint32_t row_count);
/* Borrowed while the segment is held. */
kith_id kith_segment_row_id(const kith_segment *segment, uint32_t row);
uint64_t kith_segment_row_sequence(const kith_segment *segment, uint32_t row);
/* Stored bytes of the vector, or NULL where the point lacks the field. */
const void *kith_segment_row_vector(const kith_segment *segment, uint32_t field_index, uint32_t row);

/* One search of one field over part of a segment. */
typedef struct kith_segment_search {
    const kith_compute_ops *compute;
    uint32_t field_index;
    uint32_t row_begin, row_end;   /* within the view's row count */
    uint32_t word_step, word_done; /* see kith_top_k_job */
    bool sample;                   /* likewise */
    const uint64_t *dead;          /* bits, or NULL */
    const float *queries;          /* [query_count][dim] f32, host */
    uint32_t query_count;
    uint32_t k;
    const double *floors;    /* [query_count] or NULL; see kith_top_k_job */
    kith_deferred *deferred; /* likewise */
    uint32_t origin;         /* likewise */
    kith_kept_queries *kept; /* or NULL; of this segment and field, and these queries */
    void *scratch;           /* compute->scratch_bytes(dim, query_count, k) */
    size_t scratch_bytes;
} kith_segment_search;

/* hits_out [query_count][k], best first, ties in id order; counts_out [query_count]. Falls back to the next backend
 * where one declines. Rows without the field are never returned. */
KITH_CHECK kith_status kith_segment_search_run(const kith_segment *segment, const kith_segment_search *search,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err);

/* closeness_out [row_count] of one query [dim] f32 and these rows, which have the field. */
void kith_segment_rescore(const kith_segment *segment, const kith_compute_ops *compute, uint32_t field_index,
    const float *query, const uint32_t *rows, uint32_t row_count, double *closeness_out);

/* Source rows of a build: those below row_count whose dead bit is clear. */
typedef struct kith_segment_source {
    const kith_segment *segment;
    uint32_t row_count;
    const uint64_t *dead; /* or NULL */
} kith_segment_source;

/* Writes the sealed file of all live rows of the sources, sorted by id, to `path` (through path + ".tmp", fsync,
 * rename, fsync of the folder), in memory bounded by the row count, not by the vectors. Fields of many rows get codes
 * where they pay (kernels/codes/codes.h), trained and made with `compute`. Ids must not repeat among live rows. `*cancel`
 * true ends it with CANCELLED and removes what was written. Zero live rows: no file, `*row_count_out` 0. */
KITH_CHECK kith_status kith_segment_build(kith_env *env, const char *path, const kith_schema *schema,
    const kith_compute_ops *compute, const kith_segment_source *sources, uint32_t source_count,
    const atomic_bool *cancel, uint32_t *row_count_out, kith_err *err);

#endif
