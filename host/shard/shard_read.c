/* Reading points by id and in id order. Runs on the owner, from the published view and the store, which are
 * of the same moment there: a round changes both or neither. */
#include <string.h>

#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/shard/shard_internal.h"

/* --- finding --- */

static bool row_is_live(const shard_view_part *part, uint32_t row) {
    return !part->dead || !kith_bitset_get(part->dead->words, row);
}

bool shard_view_find(const shard_view *view, const kith_id *id, uint32_t *part_out, uint32_t *row_out) {
    for (uint32_t i = view->part_count; i > 0; i--) {
        const shard_view_part *part = &view->parts[i - 1];
        /* While a round is stalled a growing segment has newer rows than the view shows. */
        uint32_t row = kith_segment_find_below(part->segment, id, part->row_count);
        if (row == KITH_ROW_NONE || !row_is_live(part, row)) continue;
        *part_out = i - 1;
        *row_out = row;
        return true;
    }
    return false;
}

/* --- collecting --- */

typedef struct shard_reading {
    kith_shard *shard;
    const kith_shard_read *read;
    shard_view *view;
    kith_arena arena;
    kith_shard_point *points;
    uint32_t count, capacity;
    size_t bytes;
    bool more;
} shard_reading;

static kith_shard_point *reading_grow(shard_reading *reading) {
    if (reading->count == reading->capacity) {
        uint32_t capacity = reading->capacity ? 2 * reading->capacity : 64;
        kith_shard_point *points = kith_arena_array(&reading->arena, capacity, sizeof *points);
        if (reading->count) memcpy(points, reading->points, reading->count * sizeof *points);
        reading->points = points;
        reading->capacity = capacity;
    }
    kith_shard_point *point = &reading->points[reading->count++];
    *point = (kith_shard_point){0};
    return point;
}

static size_t point_vectors(
    const shard_reading *reading, uint32_t part, uint32_t row, kith_shard_point *point) {
    const kith_schema *schema = &reading->shard->schema;
    size_t bytes = 0;
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const void *vector = kith_segment_row_vector(reading->view->parts[part].segment, f, row);
        if (!vector) continue;
        point->field_mask |= 1u << f;
        if (!reading->read->with_vectors) continue;
        point->vectors[f] = vector;
        bytes += kith_field_vector_bytes(&schema->fields[f]);
    }
    return bytes;
}

static void point_payload(
    shard_reading *reading, const uint8_t *value, size_t value_bytes, kith_shard_point *point) {
    if (!reading->read->with_payload || value_bytes <= 8) return;
    point->payload_bytes = (uint32_t)(value_bytes - 8);
    point->payload = kith_arena_text(&reading->arena, (const char *)value + 8, value_bytes - 8);
}

static kith_status disagree(const shard_reading *reading, const kith_id *id, kith_err *err) {
    kith_buf text;
    kith_buf_init(&text);
    kith_id_append_json(&text, id);
    kith_status status =
        kith_err_set(err, KITH_CORRUPT, "store and segments of shard %llu disagree about point %.*s",
            (unsigned long long)reading->shard->id, (int)text.bytes, (const char *)text.data);
    kith_buf_fini(&text);
    return status;
}

/* --- get --- */

static kith_status get_payload(
    shard_reading *reading, const kith_id *id, kith_buf *value, kith_shard_point *point, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_point(reading->shard->id, id, key);
    kith_status status =
        kith_store_get(reading->shard->node->store, KITH_STORE_POINTS, key, key_bytes, value, err);
    if (status == KITH_NOT_FOUND) return disagree(reading, id, err);
    if (status != KITH_OK) return status;
    if (value->bytes < 8 || kith_load_u64(value->data) != point->sequence) return disagree(reading, id, err);
    point_payload(reading, value->data, value->bytes, point);
    return KITH_OK;
}

static kith_status get_one(shard_reading *reading, const kith_id *id, kith_buf *value, kith_err *err) {
    uint32_t part, row;
    if (!shard_view_find(reading->view, id, &part, &row)) return KITH_OK;
    const kith_segment *segment = reading->view->parts[part].segment;
    kith_shard_point *point = reading_grow(reading);
    point->id = kith_segment_row_id(segment, row);
    point->sequence = kith_segment_row_sequence(segment, row);
    size_t bytes = sizeof *point + point_vectors(reading, part, row, point);
    kith_status status = reading->read->with_payload ? get_payload(reading, id, value, point, err) : KITH_OK;
    if (status != KITH_OK) return status;
    reading->bytes += bytes + point->payload_bytes;
    if (reading->count == 1 || reading->bytes <= reading->read->bytes_max) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "the points have more than %zu bytes; ask for fewer at a time",
        reading->read->bytes_max);
}

static kith_status get_all(shard_reading *reading, kith_err *err) {
    kith_status status = KITH_OK;
    kith_buf value;
    kith_buf_init(&value);
    for (uint32_t i = 0; status == KITH_OK && i < reading->read->id_count; i++) {
        status = get_one(reading, &reading->read->ids[i], &value, err);
    }
    kith_buf_fini(&value);
    return status;
}

/* --- scroll --- */

static kith_status scroll_entry(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    shard_reading *reading = ctx;
    kith_id id;
    uint32_t part, row;
    if (!kith_id_from_order_key(key + 8, key_bytes - 8, &id) || value_bytes < 8)
        return kith_err_set(err, KITH_CORRUPT, "shard %llu has a malformed point of %zu bytes",
            (unsigned long long)reading->shard->id, value_bytes);
    if (reading->count == reading->read->limit) {
        reading->more = true;
        return KITH_CANCELLED;
    }
    if (!shard_view_find(reading->view, &id, &part, &row)) return disagree(reading, &id, err);
    const kith_segment *segment = reading->view->parts[part].segment;
    kith_shard_point found = {
        .id = kith_segment_row_id(segment, row), .sequence = kith_segment_row_sequence(segment, row)};
    if (found.sequence != kith_load_u64(value)) return disagree(reading, &id, err);
    size_t bytes = sizeof found + point_vectors(reading, part, row, &found) +
                   (reading->read->with_payload ? value_bytes - 8 : 0);
    if (reading->count > 0 && reading->bytes + bytes > reading->read->bytes_max) {
        reading->more = true;
        return KITH_CANCELLED;
    }
    reading->bytes += bytes;
    point_payload(reading, value, value_bytes, &found);
    *reading_grow(reading) = found;
    return KITH_OK;
}

static kith_status scroll_all(shard_reading *reading, kith_err *err) {
    const kith_id *from = reading->read->has_from ? &reading->read->from : NULL;
    kith_status status =
        shard_walk_points(reading->shard->node->store, reading->shard->id, from, scroll_entry, reading, err);
    return reading->more ? KITH_OK : status;
}

/* --- start --- */

static void read_run(kith_task *task) {
    kith_shard_read *read = (kith_shard_read *)((char *)task - offsetof(kith_shard_read, impl));
    kith_shard *shard = read->impl[3];
    kith_err err = {0};
    shard_reading reading = {.shard = shard, .read = read};
    kith_status status = shard_readable_check(shard, &err);
    if (status == KITH_OK && kith_env_now_ns(shard->node->env) >= read->deadline_ns)
        status = kith_err_set(&err, KITH_DEADLINE, "the deadline passed before the read began");
    kith_arena_init(&reading.arena);
    reading.view = shard_view_acquire(shard->view_cell);
    if (status == KITH_OK)
        status = read->kind == KITH_READ_GET ? get_all(&reading, &err) : scroll_all(&reading, &err);
    if (status == KITH_OK)
        read->done(read, KITH_OK, reading.points, reading.count, reading.more, NULL);
    else
        read->done(read, status, NULL, 0, false, &err);
    shard_view_release(reading.view);
    kith_arena_fini(&reading.arena);
    shard_use_release(shard);
}

static void read_closed(kith_task *task) {
    kith_shard_read *read = (kith_shard_read *)((char *)task - offsetof(kith_shard_read, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    read->done(read, status, NULL, 0, false, &err);
}

void kith_shard_read_start(kith_shard *shard, kith_shard_read *read) {
    bool open = shard_use_try_acquire(shard);
    kith_task *task = (kith_task *)read->impl;
    *task = (kith_task){.run = open ? read_run : read_closed};
    read->impl[3] = shard;
    kith_executor_post(shard->node->owner, task);
}
