/* Reading points by id and in id order, beside the writes: the owner only takes the moment (the published view and a
 * snapshot of the store, which agree there because a round changes both or neither), the points are read on the search
 * executor. A long read goes in slices, so that searches and other reads come between, and so that a read that nobody waits
 * for any more ends. Only so many are under way at once: each holds a page of points, and all would hold theirs until the
 * last slice of the last one. A read takes as many places as its page may have MiB; the others wait on the owner in the order
 * they came. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/shard/shard_internal.h"

#define SLICE_POINTS 256u                 /* some ms at 10 to 40 us a point from a cold store */
#define SLICE_NS_MAX (2ULL * 1000 * 1000) /* a guess: as long as a search may well wait for a thread */

#define PLACES_MAX 160u /* MiB of pages of the node */

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

typedef struct shard_reading shard_reading;
struct shard_reading {
    kith_task task;
    shard_reading *waits_after; /* the next that waits */
    uint32_t places;            /* taken; 0: none */
    kith_shard *shard;
    kith_shard_read *read;
    /* The moment. */
    shard_view *view;
    kith_store_snapshot *snapshot;
    /* How far it has come. */
    kith_store_iterator *iterator; /* scroll; NULL before the first slice */
    uint32_t next_index;           /* get: of `ids` */
    kith_buf value;
    kith_arena arena;
    kith_shard_point *points;
    uint32_t count, capacity;
    size_t bytes;
    bool ended;
    const kith_id *next; /* the first point left out */
    kith_status status;
    kith_err err;
};

static void reading_add(shard_reading *reading, const kith_shard_point *point) {
    if (reading->count == reading->capacity) {
        uint32_t capacity = reading->capacity ? 2 * reading->capacity : 64;
        kith_shard_point *points = kith_arena_array(&reading->arena, capacity, sizeof *points);
        if (reading->count) memcpy(points, reading->points, reading->count * sizeof *points);
        reading->points = points;
        reading->capacity = capacity;
    }
    reading->points[reading->count++] = *point;
}

/* Where the next page begins; the answer ends before it. */
static void reading_end_at(shard_reading *reading, const kith_id *id) {
    kith_id *next = kith_arena_alloc(&reading->arena, sizeof *next);
    *next = *id;
    if (id->type != KITH_ID_NUMBER)
        next->bytes =
            kith_arena_copy(&reading->arena, id->bytes, id->type == KITH_ID_UUID ? 16 : id->text_bytes);
    reading->next = next;
    reading->ended = true;
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

/* The point of the row, with its payload from `value` (NULL: not asked for); left out, and the reading at its end, when
 * it does not fit beside those before it. */
static kith_status point_add(shard_reading *reading, uint32_t part, uint32_t row, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    const kith_segment *segment = reading->view->parts[part].segment;
    kith_shard_point point = {
        .id = kith_segment_row_id(segment, row), .sequence = kith_segment_row_sequence(segment, row)};
    if (value && (value_bytes < 8 || kith_load_u64(value) != point.sequence))
        return disagree(reading, &point.id, err);
    size_t bytes = sizeof point + point_vectors(reading, part, row, &point);
    if (value && reading->read->with_payload) point.payload_bytes = (uint32_t)(value_bytes - 8);
    bytes += point.payload_bytes;
    if (reading->count > 0 && reading->bytes + bytes > reading->read->bytes_max) {
        reading_end_at(reading, &point.id);
        return KITH_OK;
    }
    if (point.payload_bytes)
        point.payload = kith_arena_text(&reading->arena, (const char *)value + 8, point.payload_bytes);
    reading->bytes += bytes;
    reading_add(reading, &point);
    return KITH_OK;
}

/* --- get --- */

static kith_status value_get(shard_reading *reading, const kith_id *id, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_point(reading->shard->id, id, key);
    kith_status status =
        kith_store_snapshot_get(reading->snapshot, KITH_STORE_POINTS, key, key_bytes, &reading->value, err);
    return status == KITH_NOT_FOUND ? disagree(reading, id, err) : status;
}

static kith_status get_next(shard_reading *reading, kith_err *err) {
    const kith_shard_read *read = reading->read;
    uint32_t part, row;
    if (reading->next_index == read->id_count) {
        reading->ended = true;
        return KITH_OK;
    }
    const kith_id *id = &read->ids[reading->next_index++];
    if (!shard_view_find(reading->view, id, &part, &row)) return KITH_OK;
    if (!read->with_payload) return point_add(reading, part, row, NULL, 0, err);
    kith_status status = value_get(reading, id, err);
    if (status != KITH_OK) return status;
    return point_add(reading, part, row, reading->value.data, reading->value.bytes, err);
}

/* --- scroll --- */

static kith_status scroll_open(shard_reading *reading, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    uint64_t shard_id = reading->shard->id;
    const kith_shard_read *read = reading->read;
    size_t from_bytes =
        read->has_from ? shard_key_point(shard_id, &read->from, from) : shard_key_prefix(shard_id, from);
    size_t to_bytes = shard_key_prefix(shard_id + 1, to);
    return kith_store_snapshot_iterator_open(
        reading->snapshot, KITH_STORE_POINTS, from, from_bytes, to, to_bytes, &reading->iterator, err);
}

static kith_status scroll_entry(shard_reading *reading, const uint8_t *key, size_t key_bytes,
    const uint8_t *value, size_t value_bytes, kith_err *err) {
    kith_id id;
    uint32_t part, row;
    if (!kith_id_from_order_key(key + 8, key_bytes - 8, &id) || value_bytes < 8)
        return kith_err_set(err, KITH_CORRUPT, "shard %llu has a malformed point of %zu bytes",
            (unsigned long long)reading->shard->id, value_bytes);
    if (reading->count == reading->read->limit) {
        reading_end_at(reading, &id);
        return KITH_OK;
    }
    if (!shard_view_find(reading->view, &id, &part, &row)) return disagree(reading, &id, err);
    return point_add(reading, part, row, value, value_bytes, err);
}

static kith_status scroll_next(shard_reading *reading, kith_err *err) {
    const void *key, *value;
    size_t key_bytes, value_bytes;
    kith_status status = reading->iterator ? KITH_OK : scroll_open(reading, err);
    if (status != KITH_OK) return status;
    if (kith_store_iterator_next(reading->iterator, &key, &key_bytes, &value, &value_bytes))
        return scroll_entry(reading, key, key_bytes, value, value_bytes, err);
    reading->ended = true;
    return kith_store_iterator_status(reading->iterator, err);
}

/* --- slices --- */

static kith_status patience_check(const shard_reading *reading, const char *when, kith_err *err) {
    const kith_shard_read *read = reading->read;
    if (read->cancelled && atomic_load_explicit(read->cancelled, memory_order_relaxed))
        return kith_err_set(err, KITH_CANCELLED, "the read was cancelled");
    if (kith_env_now_ns(reading->shard->node->env) < read->deadline_ns) return KITH_OK;
    return kith_err_set(err, KITH_DEADLINE, "the deadline passed %s", when);
}

static void reading_fini(shard_reading *reading) {
    kith_store_iterator_close(reading->iterator);
    kith_store_snapshot_destroy(reading->snapshot);
    if (reading->view) shard_view_release(reading->view);
    kith_buf_fini(&reading->value);
    kith_arena_fini(&reading->arena);
}

static void waiting_start(kith_task *task);

/* seq_cst here and in reading_enter: either who leaves sees who waits, or who waits sees the places that are free. */
static void reading_leave(shard_reading *reading) {
    kith_shard *shard = reading->shard;
    kith_shard_node *node = shard->node;
    atomic_fetch_sub(&node->read_places, reading->places);
    if (atomic_load(&node->reads_waiting) > 0) {
        reading->task.run = waiting_start;
        kith_executor_post(node->owner, &reading->task);
        return;
    }
    kith_free(reading);
    shard_use_release(shard);
}

static void reading_finish(shard_reading *reading) {
    kith_shard_read *read = reading->read;
    if (reading->status == KITH_OK)
        read->done(read, KITH_OK, reading->points, reading->count, reading->next, NULL);
    else
        read->done(read, reading->status, NULL, 0, NULL, &reading->err);
    reading_fini(reading);
    reading_leave(reading);
}

static kith_status slice_read(shard_reading *reading, kith_err *err) {
    const kith_shard_node *node = reading->shard->node;
    uint32_t points_max = node->read_slice_points ? node->read_slice_points : SLICE_POINTS;
    uint64_t until_ns = kith_env_now_ns(node->env) + SLICE_NS_MAX;
    kith_status status = patience_check(reading, "while it was read", err);
    for (uint32_t i = 0; i < points_max && status == KITH_OK && !reading->ended; i++) {
        status = reading->read->kind == KITH_READ_GET ? get_next(reading, err) : scroll_next(reading, err);
        if (kith_env_now_ns(node->env) >= until_ns) break;
    }
    return status;
}

static void slice_run(kith_task *task) {
    shard_reading *reading = (shard_reading *)(void *)task;
    kith_shard *shard = reading->shard;
    if (reading->status == KITH_OK) {
        SHARD_COUNT(shard, read_slices, 1);
        reading->status = slice_read(reading, &reading->err);
    }
    if (reading->status == KITH_OK && !reading->ended)
        kith_executor_post(shard->node->search, task);
    else
        reading_finish(reading);
}

/* --- start --- */

/* On the owner. */
static void moment_take(kith_task *task) {
    shard_reading *reading = (shard_reading *)(void *)task;
    kith_shard *shard = reading->shard;
    const kith_shard_read *read = reading->read;
    reading->status = shard_readable_check(shard, &reading->err);
    if (reading->status == KITH_OK)
        reading->status = patience_check(reading, "before the read began", &reading->err);
    if (reading->status == KITH_OK) {
        reading->view = shard_view_acquire(shard->view_cell);
        if (read->kind == KITH_READ_SCROLL || read->with_payload)
            reading->snapshot = kith_store_snapshot_create(shard->node->store);
    }
    task->run = slice_run;
    kith_executor_post(shard->node->search, task);
}

/* As many as the page may have MiB. */
static uint32_t places_of(const shard_reading *reading) {
    const kith_shard_read *read = reading->read;
    uint64_t points = read->kind == KITH_READ_GET ? read->id_count : read->limit;
    uint64_t bytes = points * (KITH_PAYLOAD_BYTES_MAX + reading->shard->row_bytes);
    if (bytes > read->bytes_max) bytes = read->bytes_max;
    uint64_t places = 1 + (bytes >> 20);
    return places < PLACES_MAX ? (uint32_t)places : PLACES_MAX;
}

static bool places_try_take(shard_reading *reading) {
    _Atomic uint32_t *taken = &reading->shard->node->read_places;
    uint32_t places = places_of(reading), seen = atomic_load(taken);
    do {
        if (seen + places > PLACES_MAX) return false;
    } while (!atomic_compare_exchange_weak(taken, &seen, seen + places));
    reading->places = places;
    return true;
}

/* Those in front for which there is room, and those that nobody waits for any more, which end at once. */
static void waiting_run(kith_shard_node *node) {
    while (node->reads_first) {
        shard_reading *reading = node->reads_first;
        kith_err err;
        if (patience_check(reading, "", &err) == KITH_OK && !places_try_take(reading)) return;
        node->reads_first = reading->waits_after;
        atomic_fetch_sub(&node->reads_waiting, 1);
        moment_take(&reading->task);
    }
    node->reads_last = NULL;
}

/* On the owner, by a reading that is over. */
static void waiting_start(kith_task *task) {
    shard_reading *reading = (shard_reading *)(void *)task;
    kith_shard *shard = reading->shard;
    waiting_run(shard->node);
    kith_free(reading);
    shard_use_release(shard);
}

/* On the owner. */
static void reading_enter(kith_task *task) {
    shard_reading *reading = (shard_reading *)(void *)task;
    kith_shard_node *node = reading->shard->node;
    if (!node->reads_first && places_try_take(reading)) {
        moment_take(task);
        return;
    }
    if (node->reads_first)
        node->reads_last->waits_after = reading;
    else
        node->reads_first = reading;
    node->reads_last = reading;
    atomic_fetch_add(&node->reads_waiting, 1);
    waiting_run(node);
}

static void read_closed(kith_task *task) {
    kith_shard_read *read = (kith_shard_read *)((char *)task - offsetof(kith_shard_read, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    read->done(read, status, NULL, 0, NULL, &err);
}

void kith_shard_read_start(kith_shard *shard, kith_shard_read *read) {
    if (!shard_use_try_acquire(shard)) {
        kith_task *task = (kith_task *)read->impl;
        *task = (kith_task){.run = read_closed};
        kith_executor_post(shard->node->search, task);
        return;
    }
    shard_reading *reading = kith_alloc_zero(sizeof *reading);
    reading->task.run = reading_enter;
    reading->shard = shard;
    reading->read = read;
    kith_buf_init(&reading->value);
    kith_arena_init(&reading->arena);
    kith_executor_post(shard->node->owner, &reading->task);
}
