/* Applying one committed op: a deterministic function of the working state and the op. For each point its
 * live row, if there is one, dies; an upsert then has a new row in the growing segment. All points of an op
 * go to one growing segment, so that the sequence up to which segments are sealed never cuts an op in two.
 *
 * Under replay the store may be ahead of the memory (it has everything up to `stored_sequence`): such entries
 * are applied to memory alone. A sealed row that such an entry would kill must be dead already, because its
 * tombstone was written together with the entry. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/shard/shard_internal.h"

/* --- parts --- */

shard_part *shard_part_insert(kith_shard *shard, uint32_t at) {
    kith_assert(at <= shard->part_count);
    if (shard->part_count == shard->part_capacity) {
        shard->part_capacity = shard->part_capacity ? 2 * shard->part_capacity : 8;
        shard->parts = kith_realloc(shard->parts, shard->part_capacity * sizeof *shard->parts);
    }
    memmove(&shard->parts[at + 1], &shard->parts[at], (shard->part_count - at) * sizeof *shard->parts);
    shard->part_count++;
    shard->parts[at] = (shard_part){0};
    return &shard->parts[at];
}

void shard_part_remove(kith_shard *shard, uint32_t at) {
    kith_assert(at < shard->part_count);
    kith_segment_release(shard->parts[at].segment);
    shard_dead_release(shard->parts[at].dead);
    shard->part_count--;
    memmove(&shard->parts[at], &shard->parts[at + 1], (shard->part_count - at) * sizeof *shard->parts);
}

bool shard_part_is_dead(const shard_part *part, uint32_t row) {
    return part->dead && kith_bitset_get(part->dead->words, row);
}

/* Views hold the bits as they were: the first row killed after a publication copies them. */
void shard_part_kill(shard_part *part, uint32_t row) {
    kith_assert(row < part->row_count);
    kith_assert_slow(!shard_part_is_dead(part, row));
    if (!part->dead || !part->dead_fresh) {
        shard_dead *copy = shard_dead_create(part->dead, kith_segment_rows_max(part->segment));
        shard_dead_release(part->dead);
        part->dead = copy;
        part->dead_fresh = true;
    }
    kith_bitset_set(part->dead->words, row);
    part->dead_count++;
}

/* --- points --- */

/* The part that holds the id's live row, or NULL. Newest first: most writes to an existing point hit recent
 * ones. */
static shard_part *live_row_find(kith_shard *shard, const kith_id *id, uint32_t *row_out) {
    for (uint32_t i = shard->part_count; i > 0; i--) {
        shard_part *part = &shard->parts[i - 1];
        uint32_t row = kith_segment_find(part->segment, id);
        if (row == KITH_ROW_NONE || shard_part_is_dead(part, row)) continue;
        *row_out = row;
        return part;
    }
    return NULL;
}

static kith_status live_row_kill(kith_shard *shard, shard_part *part, uint32_t row, uint64_t sequence,
    kith_store_batch *batch, kith_err *err) {
    if (part->kind == SHARD_PART_SEALED && !batch) {
        return kith_err_set(err, KITH_CORRUPT,
            "log entry %llu kills row %u of sealed segment %llu, but the store that has the entry lacks the "
            "tombstone",
            (unsigned long long)sequence, row, (unsigned long long)kith_segment_id(part->segment));
    }
    shard_part_kill(part, row);
    if (part->kind == SHARD_PART_SEALED)
        shard_tombstone_put(shard, batch, kith_segment_id(part->segment), row);
    return KITH_OK;
}

/* The new row comes before the old one dies, because only the former can fail. */
static kith_status point_upsert(kith_shard *shard, const kith_op_point *point, uint64_t sequence,
    kith_store_batch *batch, uint32_t *points_changed, kith_err *err) {
    uint32_t old_row = 0, row;
    shard_part *old = live_row_find(shard, &point->id, &old_row);
    shard_part *growing = &shard->parts[shard->part_count - 1];
    kith_status status = kith_segment_growing_append(growing->segment, point, sequence, &row, err);
    if (status != KITH_OK) return status;
    kith_assert(row == growing->row_count);
    growing->row_count++;
    if (old) status = live_row_kill(shard, old, old_row, sequence, batch, err);
    if (status != KITH_OK) return status;
    if (batch) shard_point_put(shard, batch, point, sequence);
    (*points_changed)++;
    return KITH_OK;
}

static kith_status point_delete(kith_shard *shard, const kith_op_point *point, uint64_t sequence,
    kith_store_batch *batch, uint32_t *points_changed, kith_err *err) {
    uint32_t row;
    shard_part *part = live_row_find(shard, &point->id, &row);
    if (!part) return KITH_OK;
    kith_status status = live_row_kill(shard, part, row, sequence, batch, err);
    if (status != KITH_OK) return status;
    if (batch) shard_point_remove(shard, batch, &point->id);
    (*points_changed)++;
    return KITH_OK;
}

/* --- the growing segment --- */

static shard_part *growing_part(kith_shard *shard) {
    if (shard->part_count == 0) return NULL;
    shard_part *last = &shard->parts[shard->part_count - 1];
    return last->kind == SHARD_PART_GROWING ? last : NULL;
}

static uint32_t growing_rows_max(const kith_shard *shard, uint32_t point_count) {
    uint64_t rows = shard->node->seal_bytes / (shard->row_bytes ? shard->row_bytes : 1);
    if (rows > shard->node->seal_rows) rows = shard->node->seal_rows;
    if (rows > SHARD_SEGMENT_ROWS_MAX) rows = SHARD_SEGMENT_ROWS_MAX;
    if (rows < point_count) rows = point_count;
    return rows < 1 ? 1 : (uint32_t)rows;
}

static bool growing_has_room(const kith_shard *shard, const shard_part *growing, uint32_t point_count) {
    if (kith_segment_rows_max(growing->segment) - growing->row_count < point_count) return false;
    return kith_segment_vector_bytes(growing->segment) < shard->node->seal_bytes;
}

/* A growing segment with room for `point_count` rows is the last part. */
static kith_status growing_ensure(kith_shard *shard, uint32_t point_count, kith_err *err) {
    shard_part *growing = growing_part(shard);
    if (growing && growing_has_room(shard, growing, point_count)) return KITH_OK;
    if (growing) shard_freeze(shard);
    kith_segment *segment;
    kith_status status = kith_segment_growing_create(shard->next_segment_id, &shard->schema,
        growing_rows_max(shard, point_count), shard->node->compute, &segment, err);
    if (status != KITH_OK)
        return kith_err_wrap(err, status, "growing segment of shard %llu", (unsigned long long)shard->id);
    shard->next_segment_id++;
    shard_part *part = shard_part_insert(shard, shard->part_count);
    part->kind = SHARD_PART_GROWING;
    part->segment = segment;
    return KITH_OK;
}

kith_status shard_apply_op(kith_shard *shard, const kith_op *op, uint64_t sequence, kith_store_batch *batch,
    uint32_t *next_point, uint32_t *points_changed, kith_err *err) {
    if (op->kind == KITH_OP_UPSERT && *next_point == 0) {
        kith_status status = growing_ensure(shard, op->point_count, err);
        if (status != KITH_OK) return status;
    }
    for (; *next_point < op->point_count; (*next_point)++) {
        const kith_op_point *point = &op->points[*next_point];
        kith_status status = op->kind == KITH_OP_UPSERT
                                 ? point_upsert(shard, point, sequence, batch, points_changed, err)
                                 : point_delete(shard, point, sequence, batch, points_changed, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}
