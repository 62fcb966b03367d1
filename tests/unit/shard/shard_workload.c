/* The workload of shard_workload.h. */
#include "tests/unit/shard/shard_workload.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"

/* --- ops --- */

kith_id shard_workload_id(shard_workload *workload, kith_arena *arena) {
    uint64_t number = kith_rng_below(&workload->rng, workload->id_count);
    if (number % 4 == 1) {
        uint8_t *uuid = kith_arena_alloc_zero(arena, 16);
        memcpy(uuid + 8, &number, 8);
        return (kith_id){.type = KITH_ID_UUID, .bytes = uuid};
    }
    if (number % 4 == 2) {
        char text[32];
        int bytes = snprintf(text, sizeof text, "point-%llu", (unsigned long long)number);
        return (kith_id){.type = KITH_ID_STRING,
            .text_bytes = (uint8_t)bytes,
            .bytes = kith_arena_copy(arena, text, (size_t)bytes)};
    }
    return kith_id_of_number(number);
}

static void components_make(kith_rng *rng, uint32_t dim, float *values) {
    for (uint32_t i = 0; i < dim; i++)
        values[i] = (float)((int)kith_rng_below(rng, 9) - 4);
    values[kith_rng_below(rng, dim)] = 5;
}

void shard_workload_query(shard_workload *workload, uint32_t field_index, float *query_out) {
    components_make(&workload->rng, workload->schema->fields[field_index].dim, query_out);
}

static const uint8_t *vector_make(shard_workload *workload, const kith_field *field, kith_arena *arena) {
    float *values = kith_arena_array(arena, field->dim, sizeof *values);
    void *stored = kith_arena_alloc(arena, kith_field_vector_bytes(field));
    components_make(&workload->rng, field->dim, values);
    kith_err err;
    kith_status status = kith_vector_store(values, field->dim, field->type, stored, &err);
    return status == KITH_OK ? stored : NULL;
}

static void point_fill(shard_workload *workload, kith_op_point *point, kith_arena *arena) {
    for (uint32_t f = 0; f < workload->schema->field_count; f++) {
        if (kith_rng_unit(&workload->rng) < workload->missing_chance) continue;
        point->field_mask |= 1u << f;
        point->vectors[f] = vector_make(workload, &workload->schema->fields[f], arena);
    }
    if (kith_rng_below(&workload->rng, 3) == 0) return;
    char text[64];
    int bytes =
        snprintf(text, sizeof text, "{\"n\":%llu}", (unsigned long long)kith_rng_next(&workload->rng));
    point->payload = kith_arena_copy(arena, text, (size_t)bytes);
    point->payload_bytes = (uint32_t)bytes;
}

void shard_workload_make(shard_workload *workload, shard_workload_op *made_out) {
    kith_arena_init(&made_out->arena);
    kith_op *op = &made_out->op;
    *op = (kith_op){
        .kind = kith_rng_below(&workload->rng, 4) == 0 ? KITH_OP_DELETE : KITH_OP_UPSERT, .wall_ms = 1};
    op->point_count = 1 + (uint32_t)kith_rng_below(&workload->rng, workload->points_max);
    op->points = kith_arena_alloc_zero(&made_out->arena, op->point_count * sizeof *op->points);
    for (uint32_t i = 0; i < op->point_count; i++) {
        op->points[i].id = shard_workload_id(workload, &made_out->arena);
        if (op->kind == KITH_OP_UPSERT) point_fill(workload, &op->points[i], &made_out->arena);
    }
    if (kith_rng_below(&workload->rng, 2) == 0) return;
    memcpy(op->request_id.client, "workload client", 16);
    op->request_id.number = workload->next_number++;
}

/* --- comparison --- */

typedef struct comparing {
    const kith_schema *schema;
    const oracle *expected;
    uint32_t at; /* scroll: the oracle's next point */
    kith_id last;
    uint8_t last_bytes[KITH_ID_BYTES_MAX];
    bool more;
    bool equal;
    kith_err *difference;
} comparing;

static bool differ(comparing *compare, const char *what, const kith_id *id) {
    kith_buf text;
    if (!compare->equal) return false;
    kith_buf_init(&text);
    if (id) kith_id_append_json(&text, id);
    kith_err_set(
        compare->difference, KITH_INTERNAL, "%s %.*s", what, (int)text.bytes, (const char *)text.data);
    kith_buf_fini(&text);
    compare->equal = false;
    return false;
}

static bool point_equal(comparing *compare, const kith_shard_point *point, const oracle_point *expected) {
    /* 0: a write whose answer was lost */
    if (expected->sequence != 0 && point->sequence != expected->sequence)
        return differ(compare, "another sequence at point", &point->id);
    if (point->field_mask != expected->field_mask)
        return differ(compare, "other fields at point", &point->id);
    if (point->payload_bytes != expected->payload_bytes)
        return differ(compare, "another payload length at point", &point->id);
    if (point->payload_bytes && memcmp(point->payload, expected->payload, point->payload_bytes) != 0)
        return differ(compare, "another payload at point", &point->id);
    for (uint32_t f = 0; f < compare->schema->field_count; f++) {
        if (!(point->field_mask >> f & 1)) continue;
        if (memcmp(point->vectors[f], expected->stored[f],
                kith_field_vector_bytes(&compare->schema->fields[f])) != 0)
            return differ(compare, "another vector at point", &point->id);
    }
    return true;
}

static void scroll_compare(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next) {
    comparing *compare = ctx;
    compare->more = next != NULL;
    if (next && count == 0) differ(compare, "an empty page of a scroll", NULL);
    for (uint32_t i = 0; i < count && compare->equal; i++, compare->at++) {
        if (compare->at == oracle_count(compare->expected)) {
            differ(compare, "a point too many:", &points[i].id);
            return;
        }
        const oracle_point *expected = oracle_at(compare->expected, compare->at);
        int order = kith_id_compare(&points[i].id, &expected->id);
        if (order < 0)
            differ(compare, "a point too many:", &points[i].id);
        else if (order > 0)
            differ(compare, "a point is missing:", &expected->id);
        else
            point_equal(compare, &points[i], expected);
    }
    if (compare->equal && !next && compare->at < oracle_count(compare->expected))
        differ(compare, "a point is missing:", &oracle_at(compare->expected, compare->at)->id);
}

static bool scrolls_equal(comparing *compare, shard_node *node, kith_shard *shard) {
    compare->more = true;
    while (compare->equal && compare->more) {
        kith_shard_read read = {.kind = KITH_READ_SCROLL,
            .limit = 37,
            .with_payload = true,
            .with_vectors = true,
            .bytes_max = 1 << 20,
            .deadline_ns = UINT64_MAX};
        if (compare->at < oracle_count(compare->expected) && compare->at > 0) {
            read.has_from = true;
            read.from = oracle_at(compare->expected, compare->at)->id;
        } else if (compare->at > 0) {
            return differ(compare, "a scroll promises more than there is", NULL);
        }
        kith_status status =
            shard_node_read(node, shard, &read, scroll_compare, compare, compare->difference);
        if (status != KITH_OK) compare->equal = false;
    }
    return compare->equal;
}

typedef struct getting {
    comparing *compare;
    const oracle_point *expected[64];
    uint32_t count;
} getting;

static void get_compare(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next) {
    getting *get = ctx;
    if (next || count != get->count) differ(get->compare, "a get finds another number of points", NULL);
    for (uint32_t i = 0; i < count && get->compare->equal; i++) {
        if (kith_id_compare(&points[i].id, &get->expected[i]->id) != 0)
            differ(get->compare, "a get finds another point:", &points[i].id);
        else
            point_equal(get->compare, &points[i], get->expected[i]);
    }
}

static bool gets_equal(shard_workload *workload, comparing *compare, shard_node *node, kith_shard *shard) {
    kith_id ids[64];
    kith_arena arena;
    getting get = {.compare = compare};
    kith_arena_init(&arena);
    for (uint32_t i = 0; i < 64; i++) {
        ids[i] = shard_workload_id(workload, &arena);
        get.expected[get.count] = oracle_find(compare->expected, &ids[i]);
        get.count += get.expected[get.count] != NULL;
    }
    kith_shard_read read = {.kind = KITH_READ_GET,
        .ids = ids,
        .id_count = 64,
        .with_payload = true,
        .with_vectors = true,
        .bytes_max = 1 << 30,
        .deadline_ns = UINT64_MAX};
    kith_status status = shard_node_read(node, shard, &read, get_compare, &get, compare->difference);
    if (status != KITH_OK) compare->equal = false;
    kith_arena_fini(&arena);
    return compare->equal;
}

static bool hits_equal(comparing *compare, const kith_hit *hits, uint32_t count, const kith_hit *expected,
    uint32_t expected_count) {
    if (count != expected_count) {
        kith_err_set(
            compare->difference, KITH_INTERNAL, "a search has %u hits, not %u", count, expected_count);
        return compare->equal = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (hits[i].closeness != expected[i].closeness)
            return differ(compare, "another score at hit", &hits[i].id);
        if (kith_id_compare(&hits[i].id, &expected[i].id) != 0)
            return differ(compare, "another hit:", &hits[i].id);
    }
    return true;
}

static bool search_equal(shard_workload *workload, comparing *compare, shard_node *node, kith_shard *shard) {
    uint32_t field_index = (uint32_t)kith_rng_below(&workload->rng, compare->schema->field_count);
    uint32_t dim = compare->schema->fields[field_index].dim;
    uint32_t query_count =
        1 + (uint32_t)kith_rng_below(&workload->rng, kith_rng_below(&workload->rng, 8) == 0 ? 300 : 4);
    uint32_t k = 1 + (uint32_t)kith_rng_below(&workload->rng,
                         kith_rng_below(&workload->rng, 2) == 0 ? 5 : oracle_count(compare->expected) + 5);
    float *queries = kith_alloc_array((size_t)query_count * dim, sizeof *queries);
    kith_hit *expected = kith_alloc_array(k, sizeof *expected);
    shard_node_hits hits;
    for (uint32_t q = 0; q < query_count; q++)
        shard_workload_query(workload, field_index, queries + (size_t)q * dim);
    kith_status status = shard_node_search(node, shard, field_index, queries, query_count, k, &hits);
    if (status != KITH_OK) {
        *compare->difference = hits.err;
        compare->equal = false;
    }
    for (uint32_t q = 0; q < query_count && compare->equal; q++) {
        uint32_t count =
            oracle_search(compare->expected, field_index, queries + (size_t)q * dim, k, expected);
        hits_equal(compare, hits.hits + (size_t)q * k, hits.counts[q], expected, count);
    }
    shard_node_hits_fini(&hits);
    kith_free(expected);
    kith_free(queries);
    return compare->equal;
}

bool shard_workload_compare(shard_workload *workload, shard_node *node, kith_shard *shard,
    const oracle *expected, uint32_t search_count, kith_err *difference) {
    comparing compare = {
        .schema = workload->schema, .expected = expected, .equal = true, .difference = difference};
    if (shard_node_validate(node, shard, difference) != KITH_OK) return false;
    if (kith_shard_count(shard) != oracle_count(expected)) {
        kith_err_set(difference, KITH_INTERNAL, "%llu points live, not %u",
            (unsigned long long)kith_shard_count(shard), oracle_count(expected));
        return false;
    }
    if (!scrolls_equal(&compare, node, shard)) return false;
    if (!gets_equal(workload, &compare, node, shard)) return false;
    for (uint32_t i = 0; i < search_count; i++) {
        if (!search_equal(workload, &compare, node, shard)) return false;
    }
    return true;
}
