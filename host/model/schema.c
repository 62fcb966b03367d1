/* Schemas: checks, names of enums, and how a closeness is shown. */
#include "host/model/schema.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool name_byte_allowed(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

kith_status kith_name_check(
    const char *what, const char *name, size_t bytes, bool empty_allowed, kith_err *err) {
    if (bytes == 0 && empty_allowed) return KITH_OK;
    if (bytes == 0)
        return kith_err_set(
            err, KITH_INVALID, "%s is empty; 1..%u bytes are allowed", what, KITH_NAME_BYTES_MAX);
    if (bytes > KITH_NAME_BYTES_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "%s has %zu bytes; at most %u are allowed", what, bytes, KITH_NAME_BYTES_MAX);
    }
    for (size_t i = 0; i < bytes; i++) {
        if (name_byte_allowed(name[i])) continue;
        return kith_err_set(err, KITH_INVALID,
            "%s has byte 0x%02x at offset %zu; letters, digits, '_', '-' and '.' are allowed", what,
            (unsigned char)name[i], i);
    }
    if (name[0] == '.' || name[0] == '-') {
        return kith_err_set(err, KITH_INVALID,
            "%s begins with '%c'; a letter, a digit or '_' is allowed there", what, name[0]);
    }
    return KITH_OK;
}

static kith_status field_check(const kith_schema *schema, uint32_t index, kith_err *err) {
    const kith_field *field = &schema->fields[index];
    kith_status status =
        kith_name_check("field name", field->name, strnlen(field->name, sizeof field->name), true, err);
    if (status != KITH_OK) return status;
    if (field->dim < 1 || field->dim > KITH_DIM_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "field \"%s\": dim %u is not in 1..%u", field->name, field->dim, KITH_DIM_MAX);
    }
    if (!kith_metric_name(field->metric)) {
        return kith_err_set(err, KITH_INVALID,
            "field \"%s\": metric %d is unknown; l2, ip, cosine and l1 are allowed", field->name,
            (int)field->metric);
    }
    if (!kith_vector_type_name(field->type)) {
        return kith_err_set(err, KITH_INVALID,
            "field \"%s\": vector type %d is unknown; f32, f16, bf16 and i8 are allowed", field->name,
            (int)field->type);
    }
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(schema->fields[i].name, field->name) != 0) continue;
        return kith_err_set(err, KITH_INVALID, "field \"%s\" is declared twice", field->name);
    }
    return KITH_OK;
}

kith_status kith_schema_check(const kith_schema *schema, kith_err *err) {
    if (schema->field_count < 1 || schema->field_count > KITH_FIELDS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "%u vector fields; 1..%u are allowed", schema->field_count, KITH_FIELDS_MAX);
    }
    for (uint32_t i = 0; i < schema->field_count; i++) {
        kith_status status = field_check(schema, i, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

int kith_schema_find(const kith_schema *schema, const char *name) {
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if (strcmp(schema->fields[i].name, name) == 0) return (int)i;
    }
    return -1;
}

size_t kith_schema_row_bytes(const kith_schema *schema) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < schema->field_count; i++)
        bytes += kith_field_vector_bytes(&schema->fields[i]);
    return bytes;
}

void kith_collection_replicas_default(kith_collection *collection) {
    if (collection->replication_factor == 0) collection->replication_factor = 1;
    if (collection->min_in_sync == 0) collection->min_in_sync = (collection->replication_factor + 1) / 2;
    if (collection->durability == KITH_DURABILITY_UNSAID) collection->durability = KITH_DURABILITY_SYNC;
}

const char *kith_metric_name(kith_metric metric) {
    switch (metric) {
    case KITH_METRIC_L2:
        return "l2";
    case KITH_METRIC_IP:
        return "ip";
    case KITH_METRIC_COSINE:
        return "cosine";
    case KITH_METRIC_L1:
        return "l1";
    }
    return NULL;
}

const char *kith_vector_type_name(kith_vector_type type) {
    switch (type) {
    case KITH_TYPE_F32:
        return "f32";
    case KITH_TYPE_F16:
        return "f16";
    case KITH_TYPE_BF16:
        return "bf16";
    case KITH_TYPE_I8:
        return "i8";
    }
    return NULL;
}

const char *kith_durability_name(kith_durability durability) {
    switch (durability) {
    case KITH_DURABILITY_UNSAID:
        break;
    case KITH_DURABILITY_SYNC:
        return "sync";
    case KITH_DURABILITY_ASYNC:
        return "async";
    }
    return NULL;
}

bool kith_metric_parse(const char *name, kith_metric *metric_out) {
    for (kith_metric metric = KITH_METRIC_L2; metric <= KITH_METRIC_L1; metric++) {
        if (strcmp(name, kith_metric_name(metric)) != 0) continue;
        *metric_out = metric;
        return true;
    }
    return false;
}

bool kith_vector_type_parse(const char *name, kith_vector_type *type_out) {
    for (kith_vector_type type = KITH_TYPE_F32; type <= KITH_TYPE_I8; type++) {
        if (strcmp(name, kith_vector_type_name(type)) != 0) continue;
        *type_out = type;
        return true;
    }
    return false;
}

bool kith_durability_parse(const char *name, kith_durability *durability_out) {
    for (kith_durability durability = KITH_DURABILITY_SYNC; durability <= KITH_DURABILITY_ASYNC;
         durability++) {
        if (strcmp(name, kith_durability_name(durability)) != 0) continue;
        *durability_out = durability;
        return true;
    }
    return false;
}

float kith_score_of_closeness(kith_metric metric, double closeness) {
    double score = closeness;
    /* + 0.0: the distance of equal vectors is 0, not -0. */
    if (metric == KITH_METRIC_L2) score = sqrt(-closeness) + 0.0;
    if (metric == KITH_METRIC_L1) score = -closeness + 0.0;
    /* The order is by closeness, so that only what is shown is clamped; an infinity is no number in JSON. */
    if (score > FLT_MAX) return FLT_MAX;
    if (score < -FLT_MAX) return -FLT_MAX;
    return (float)score;
}
