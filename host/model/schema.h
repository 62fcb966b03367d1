/* What a collection is. Plain data; made by api, kept by meta, read by shard and query.
 *
 * Threads: pure functions. */
#ifndef KITH_MODEL_SCHEMA_H
#define KITH_MODEL_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/err.h"
#include "host/base/limits.h"
#include "host/base/vector_types.h"

/* One dense vector field. Sparse and multi-vector fields will be further kinds beside it. */
typedef struct kith_field {
    char name[KITH_NAME_BYTES_MAX + 1]; /* "" is the default field */
    uint32_t dim;                       /* 1..KITH_DIM_MAX */
    kith_metric metric;
    kith_vector_type type;
} kith_field;

typedef struct kith_schema {
    uint32_t field_count; /* 1..KITH_FIELDS_MAX */
    kith_field fields[KITH_FIELDS_MAX];
} kith_schema;

/* When a write is acknowledged; proto/kith/v1/collections.proto says what each promises. Numbers are stored and travel. */
typedef enum kith_durability {
    KITH_DURABILITY_UNSAID = 0, /* in a wish: sync on create, as it is on update */
    KITH_DURABILITY_SYNC = 1,
    KITH_DURABILITY_ASYNC = 2,
} kith_durability;

typedef struct kith_collection {
    uint64_t id; /* never reused, also when a name is */
    char name[KITH_NAME_BYTES_MAX + 1];
    kith_schema schema;
    uint32_t shard_count;    /* 1..KITH_SHARDS_MAX */
    uint64_t shard_id_first; /* shards are shard_id_first .. + shard_count - 1; ids are never reused */
    uint64_t created_wall_ms;
    uint32_t replication_factor; /* 1..KITH_REPLICAS_MAX copies of each shard; 0 in a wish: not said */
    /* Replicas in sync, the primary among them, without which no write begins: 1..replication_factor; 0 in a wish: not said,
     * (replication_factor + 1) / 2. */
    uint32_t min_in_sync;
    kith_durability durability;
} kith_collection;

/* Names: 1..255 bytes (fields: 0..255) of letters, digits, '_', '-', '.', not beginning with '.' or '-'. `what` is
 * e.g. "collection name". */
KITH_CHECK kith_status kith_name_check(
    const char *what, const char *name, size_t bytes, bool empty_allowed, kith_err *err);
KITH_CHECK kith_status kith_schema_check(const kith_schema *schema, kith_err *err);
/* Index of the field called `name`, or -1. */
int kith_schema_find(const kith_schema *schema, const char *name);
/* Stored bytes of one vector of `field`. */
static inline size_t kith_field_vector_bytes(const kith_field *field) {
    return field->dim * kith_vector_type_bytes(field->type);
}
/* Bytes of one point's vectors over all fields. */
size_t kith_schema_row_bytes(const kith_schema *schema);

/* Of a wish: gives what was not said of replication_factor, min_in_sync and durability. */
void kith_collection_replicas_default(kith_collection *collection);

/* "l2", "ip", "cosine", "l1" / "f32", "f16", "bf16", "i8" / "sync", "async"; NULL for any
 * other number. */
const char *kith_metric_name(kith_metric metric);
const char *kith_vector_type_name(kith_vector_type type);
const char *kith_durability_name(kith_durability durability);
bool kith_metric_parse(const char *name, kith_metric *metric_out);
bool kith_vector_type_parse(const char *name, kith_vector_type *type_out);
bool kith_durability_parse(const char *name, kith_durability *durability_out);

/* What the API shows for a closeness (kernels/compute.h): l2 sqrt(-c), l1 -c, ip and cosine c; rounded to f32. */
float kith_score_of_closeness(kith_metric metric, double closeness);

#endif
