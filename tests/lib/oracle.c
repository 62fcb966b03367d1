/* The model of oracle.h. Obvious and slow on purpose. */
#include "tests/lib/oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"

struct oracle {
    kith_schema schema;
    oracle_point **points;
    uint32_t count, capacity;
};

oracle *oracle_create(const kith_schema *schema) {
    oracle *made = kith_alloc_zero(sizeof *made);
    made->schema = *schema;
    return made;
}

static void point_free(oracle_point *point) {
    for (uint32_t f = 0; f < KITH_FIELDS_MAX; f++) {
        kith_free(point->vectors[f]);
        kith_free(point->stored[f]);
    }
    kith_free(point->payload);
    kith_free(point);
}

void oracle_destroy(oracle *model) {
    if (!model) return;
    for (uint32_t i = 0; i < model->count; i++)
        point_free(model->points[i]);
    kith_free(model->points);
    kith_free(model);
}

/* --- components --- */

static double component_of_f16(uint32_t bits) {
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24);
    return bits >> 15 ? -value : value;
}

static double component(const uint8_t *stored, uint32_t index, kith_vector_type type) {
    if (type == KITH_TYPE_I8) return (int8_t)stored[index];
    uint32_t bits = 0;
    float value;
    if (type == KITH_TYPE_F16)
        return component_of_f16((uint32_t)(stored[2 * index] + 256 * stored[2 * index + 1]));
    if (type == KITH_TYPE_BF16)
        bits = (uint32_t)(stored[2 * index] + 256 * stored[2 * index + 1]) << 16;
    else
        memcpy(&bits, stored + 4 * (size_t)index, 4);
    memcpy(&value, &bits, 4);
    return value;
}

void oracle_widen(const void *stored, kith_vector_type type, uint32_t dim, double *vector_out) {
    for (uint32_t i = 0; i < dim; i++)
        vector_out[i] = component(stored, i, type);
}

/* --- content --- */

/* Numbers, then UUIDs, then strings; each by its meaning. */
static int id_order(const kith_id *a, const kith_id *b) {
    if (a->type != b->type) return (int)a->type - (int)b->type;
    if (a->type == KITH_ID_NUMBER) return a->number < b->number ? -1 : a->number > b->number;
    uint32_t a_bytes = a->type == KITH_ID_UUID ? 16 : a->text_bytes,
             b_bytes = b->type == KITH_ID_UUID ? 16 : b->text_bytes;
    for (uint32_t i = 0; i < a_bytes && i < b_bytes; i++) {
        if (a->bytes[i] != b->bytes[i]) return (int)a->bytes[i] - (int)b->bytes[i];
    }
    return (int)a_bytes - (int)b_bytes;
}

/* Where the id is, or would be. */
static uint32_t place_of(const oracle *model, const kith_id *id) {
    uint32_t low = 0, high = model->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (id_order(&model->points[middle]->id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const oracle *model, uint32_t place, const kith_id *id) {
    return place < model->count && id_order(&model->points[place]->id, id) == 0;
}

static oracle_point *point_make(const oracle *model, const kith_op_point *from, uint64_t sequence) {
    oracle_point *point = kith_alloc_zero(sizeof *point);
    point->id = from->id;
    if (from->id.type != KITH_ID_NUMBER) {
        memcpy(point->id_bytes, from->id.bytes, from->id.type == KITH_ID_UUID ? 16 : from->id.text_bytes);
        point->id.bytes = point->id_bytes;
    }
    point->sequence = sequence;
    if (from->payload_bytes) {
        point->payload = kith_alloc(from->payload_bytes);
        memcpy(point->payload, from->payload, from->payload_bytes);
        point->payload_bytes = from->payload_bytes;
    }
    point->field_mask = from->field_mask;
    for (uint32_t f = 0; f < model->schema.field_count; f++) {
        const kith_field *field = &model->schema.fields[f];
        if (!(from->field_mask >> f & 1)) continue;
        point->stored[f] = kith_alloc(kith_field_vector_bytes(field));
        memcpy(point->stored[f], from->vectors[f], kith_field_vector_bytes(field));
        point->vectors[f] = kith_alloc_array(field->dim, sizeof(double));
        oracle_widen(point->stored[f], field->type, field->dim, point->vectors[f]);
    }
    return point;
}

static void point_insert(oracle *model, uint32_t place, oracle_point *point) {
    if (model->count == model->capacity) {
        model->capacity = model->capacity ? 2 * model->capacity : 64;
        model->points = kith_realloc(model->points, model->capacity * sizeof *model->points);
    }
    memmove(&model->points[place + 1], &model->points[place], (model->count - place) * sizeof *model->points);
    model->points[place] = point;
    model->count++;
}

static void point_remove(oracle *model, uint32_t place) {
    point_free(model->points[place]);
    model->count--;
    memmove(&model->points[place], &model->points[place + 1], (model->count - place) * sizeof *model->points);
}

uint32_t oracle_apply(oracle *model, const kith_op *op, uint64_t sequence) {
    uint32_t changed = 0;
    for (uint32_t i = 0; i < op->point_count; i++) {
        uint32_t place = place_of(model, &op->points[i].id);
        bool there = is_at(model, place, &op->points[i].id);
        if (there) point_remove(model, place);
        if (op->kind == KITH_OP_UPSERT)
            point_insert(model, place, point_make(model, &op->points[i], sequence));
        changed += op->kind == KITH_OP_UPSERT || there;
    }
    return changed;
}

static kith_op_point op_point_of(const oracle_point *point) {
    kith_op_point made = {.id = point->id,
        .field_mask = point->field_mask,
        .payload = point->payload,
        .payload_bytes = point->payload_bytes};
    for (uint32_t f = 0; f < KITH_FIELDS_MAX; f++)
        made.vectors[f] = point->stored[f];
    return made;
}

oracle *oracle_copy(const oracle *from) {
    oracle *made = oracle_create(&from->schema);
    for (uint32_t i = 0; i < from->count; i++) {
        kith_op_point point = op_point_of(from->points[i]);
        point_insert(made, i, point_make(made, &point, from->points[i]->sequence));
    }
    return made;
}

uint32_t oracle_count(const oracle *model) {
    return model->count;
}

const oracle_point *oracle_at(const oracle *model, uint32_t index) {
    return model->points[index];
}

const oracle_point *oracle_find(const oracle *model, const kith_id *id) {
    uint32_t place = place_of(model, id);
    return is_at(model, place, id) ? model->points[place] : NULL;
}

/* --- search --- */

double oracle_closeness(kith_metric metric, const float *query, const double *vector, uint32_t dim) {
    double product = 0, query_square = 0, vector_square = 0, square = 0, absolute = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double q = query[i], x = vector[i];
        product += q * x;
        query_square += q * q;
        vector_square += x * x;
        square += (q - x) * (q - x);
        absolute += fabs(q - x);
    }
    if (metric == KITH_METRIC_IP) return product;
    if (metric == KITH_METRIC_COSINE && (query_square == 0 || vector_square == 0)) return 0;
    if (metric == KITH_METRIC_COSINE) return product / (sqrt(query_square) * sqrt(vector_square));
    return metric == KITH_METRIC_L2 ? -square : -absolute;
}

/* Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 4.2: either sum is within gamma_dim times the sum
 * of its terms' sizes; a quotient has three such sums, of which two are roots. */
double oracle_closeness_error(kith_metric metric, const float *query, const double *vector, uint32_t dim) {
    double roundings = dim + 8, sizes = 0;
    for (uint32_t i = 0; i < dim && metric == KITH_METRIC_IP; i++)
        sizes += fabs(query[i] * vector[i]);
    if (metric == KITH_METRIC_L2 || metric == KITH_METRIC_L1)
        sizes = -oracle_closeness(metric, query, vector, dim);
    if (metric == KITH_METRIC_COSINE) sizes = 2;
    return 2 * roundings * 0x1p-53 * sizes * 1.001;
}

static int hit_order(const void *a_pointer, const void *b_pointer) {
    const kith_hit *a = a_pointer, *b = b_pointer;
    if (a->closeness != b->closeness) return a->closeness > b->closeness ? -1 : 1;
    return id_order(&a->id, &b->id);
}

uint32_t oracle_search(
    const oracle *model, uint32_t field_index, const float *query, uint32_t k, kith_hit *hits_out) {
    const kith_field *field = &model->schema.fields[field_index];
    kith_hit *all = kith_alloc_array(model->count + 1, sizeof *all);
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->count; i++) {
        const oracle_point *point = model->points[i];
        if (!point->vectors[field_index]) continue;
        all[count++] = (kith_hit){
            .closeness = oracle_closeness(field->metric, query, point->vectors[field_index], field->dim),
            .id = point->id};
    }
    qsort(all, count, sizeof *all, hit_order);
    if (count > k) count = k;
    if (count > 0) memcpy(hits_out, all, count * sizeof *all);
    kith_free(all);
    return count;
}
