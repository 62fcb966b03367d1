/* What a collection must contain, and what a search of it must find: a model that shares no code with the
 * product. A plain array of points in id order, scored one by one in f64, sorted whole.
 *
 * Its sums run in index order, the product's in eight lanes. They agree to the last bit where every partial
 * sum is exact (components that are small integers), and to a relative 1e-12 or so otherwise.
 *
 * Threads: one. */
#ifndef KITH_TESTS_LIB_ORACLE_H
#define KITH_TESTS_LIB_ORACLE_H

#include "host/model/hits.h"
#include "host/model/record.h"

typedef struct oracle oracle;

typedef struct oracle_point {
    kith_id id; /* bytes in `id_bytes` */
    uint8_t id_bytes[KITH_ID_BYTES_MAX];
    uint64_t sequence;
    char *payload; /* NULL: none */
    uint32_t payload_bytes;
    uint32_t field_mask;
    double *vectors[KITH_FIELDS_MAX]; /* widened */
    uint8_t *stored[KITH_FIELDS_MAX]; /* as written */
} oracle_point;

oracle *oracle_create(const kith_schema *schema);
oracle *oracle_copy(const oracle *from);
void oracle_destroy(oracle *model); /* accepts NULL */

/* Returns the points changed: all of an upsert, of a delete those that were there. */
uint32_t oracle_apply(oracle *model, const kith_op *op, uint64_t sequence);
uint32_t oracle_count(const oracle *model);
/* In id order. */
const oracle_point *oracle_at(const oracle *model, uint32_t index);
const oracle_point *oracle_find(const oracle *model, const kith_id *id);
/* hits_out [k], ids borrowed from the oracle; returns how many. */
uint32_t oracle_search(
    const oracle *model, uint32_t field_index, const float *query, uint32_t k, kith_hit *hits_out);

/* What it is made of: a vector as stored, widened to vector_out [dim]; and the closeness of a query to one. */
void oracle_widen(const void *stored, kith_vector_type type, uint32_t dim, double *vector_out);
double oracle_closeness(kith_metric metric, const float *query, const double *vector, uint32_t dim);
/* How far from it a sum of the same terms in another order may be. */
double oracle_closeness_error(kith_metric metric, const float *query, const double *vector, uint32_t dim);

#endif
