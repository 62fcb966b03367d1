/* The walk that compares every structure of a shard with every other. On the owner. */
#include <string.h>

#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/shard/shard_internal.h"

static bool part_row_is_live(const shard_view_part *part, uint32_t row) {
    return !part->dead || !kith_bitset_get(part->dead->words, row);
}

typedef struct shard_checking {
    kith_shard *shard;
    const shard_view *view;
    kith_map *live; /* canonical id -> sequence */
    uint64_t count; /* entries seen by a walk */
} shard_checking;

static kith_status row_check(
    shard_checking *checking, const shard_view_part *part, uint32_t row, kith_err *err) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    uint64_t other;
    kith_id id = kith_segment_row_id(part->segment, row);
    size_t bytes = kith_id_encode(&id, canonical);
    if (kith_map_get(checking->live, canonical, bytes, &other))
        return kith_err_set(err, KITH_INTERNAL,
            "an id lives twice: row %u of segment %llu, and with sequence %llu", row,
            (unsigned long long)kith_segment_id(part->segment), (unsigned long long)other);
    if (kith_segment_find(part->segment, &id) != row)
        return kith_err_set(err, KITH_INTERNAL, "row %u of segment %llu is live but not found by its id", row,
            (unsigned long long)kith_segment_id(part->segment));
    kith_map_put(checking->live, canonical, bytes, kith_segment_row_sequence(part->segment, row));
    return KITH_OK;
}

static kith_status part_check(shard_checking *checking, const shard_view_part *part, kith_err *err) {
    uint32_t live_count = 0;
    kith_status status = KITH_OK;
    if (part->row_count > kith_segment_row_count(part->segment))
        return kith_err_set(err, KITH_INTERNAL, "the view shows %u rows of a segment with %u",
            part->row_count, kith_segment_row_count(part->segment));
    for (uint32_t row = 0; row < part->row_count && status == KITH_OK; row++) {
        if (!part_row_is_live(part, row)) continue;
        live_count++;
        status = row_check(checking, part, row, err);
    }
    if (status == KITH_OK && live_count != part->live_count)
        return kith_err_set(err, KITH_INTERNAL, "segment %llu has %u live rows, the view counts %u",
            (unsigned long long)kith_segment_id(part->segment), live_count, part->live_count);
    return status;
}

static kith_status point_check(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    shard_checking *checking = ctx;
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    kith_id id;
    uint64_t sequence;
    checking->count++;
    if (!kith_id_from_order_key(key + 8, key_bytes - 8, &id) || value_bytes < 8)
        return kith_err_set(err, KITH_INTERNAL, "a point in the store is malformed");
    if (!kith_map_get(checking->live, canonical, kith_id_encode(&id, canonical), &sequence))
        return kith_err_set(err, KITH_INTERNAL, "a point in the store lives in no segment; sequence %llu",
            (unsigned long long)kith_load_u64(value));
    if (sequence != kith_load_u64(value))
        return kith_err_set(err, KITH_INTERNAL, "a point has sequence %llu in the store, %llu in its segment",
            (unsigned long long)kith_load_u64(value), (unsigned long long)sequence);
    return KITH_OK;
}

static kith_status tombstone_check(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    shard_checking *checking = ctx;
    uint64_t segment_id = kith_load_u64_be(key + 9);
    uint32_t row = __builtin_bswap32(kith_load_u32(key + 17));
    (void)key_bytes, (void)value, (void)value_bytes;
    checking->count++;
    for (uint32_t i = 0; i < checking->view->part_count; i++) {
        const shard_view_part *part = &checking->view->parts[i];
        if (kith_segment_id(part->segment) == segment_id && !part_row_is_live(part, row)) return KITH_OK;
    }
    return kith_err_set(err, KITH_INTERNAL,
        "a tombstone for row %u of segment %llu, which is not dead in the view", row,
        (unsigned long long)segment_id);
}

static uint64_t sealed_dead_count(const shard_view *view) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < view->part_count; i++) {
        const shard_view_part *part = &view->parts[i];
        if (kith_segment_is_sealed(part->segment)) count += part->row_count - part->live_count;
    }
    return count;
}

static kith_status window_check(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    shard_checking *checking = ctx;
    kith_request_id request_id;
    kith_write_result stored, remembered;
    (void)key, (void)key_bytes;
    checking->count++;
    if (!shard_window_value_decode(value, value_bytes, &request_id, &stored))
        return kith_err_set(err, KITH_INTERNAL, "a remembered request is malformed");
    if (!shard_window_find(checking->shard->window, &request_id, &remembered))
        return kith_err_set(err, KITH_INTERNAL,
            "a request with sequence %llu is remembered by the store alone",
            (unsigned long long)stored.sequence);
    if (stored.sequence != remembered.sequence || stored.points_changed != remembered.points_changed)
        return kith_err_set(err, KITH_INTERNAL,
            "a remembered request has sequence %llu in the store, %llu in memory",
            (unsigned long long)stored.sequence, (unsigned long long)remembered.sequence);
    return KITH_OK;
}

static kith_status manifest_check(shard_checking *checking, kith_err *err) {
    kith_shard *shard = checking->shard;
    shard_manifest manifest;
    kith_arena arena;
    uint32_t sealed = 0, named = 0;
    kith_arena_init(&arena);
    kith_status status = shard_manifest_read(shard->node->store, shard->id, &arena, &manifest, err);
    for (uint32_t i = 0; status == KITH_OK && i < shard->part_count; i++) {
        if (shard->parts[i].kind != SHARD_PART_SEALED) continue;
        sealed++;
        for (uint32_t j = 0; j < manifest.segment_count; j++)
            named += manifest.segment_ids[j] == kith_segment_id(shard->parts[i].segment);
    }
    if (status == KITH_OK && (sealed != manifest.segment_count || named != sealed))
        status = kith_err_set(err, KITH_INTERNAL, "the manifest names %u segments, %u are open, %u are both",
            manifest.segment_count, sealed, named);
    if (status == KITH_OK && manifest.sealed_sequence != atomic_load(&shard->sealed_sequence))
        status = kith_err_set(err, KITH_INTERNAL, "the manifest is sealed up to %llu, the shard up to %llu",
            (unsigned long long)manifest.sealed_sequence,
            (unsigned long long)atomic_load(&shard->sealed_sequence));
    kith_arena_fini(&arena);
    return status;
}

static kith_status walk_check(shard_checking *checking, const char *what, uint64_t expected,
    kith_status (*walk)(kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err),
    shard_walk_fn entry, kith_err *err) {
    checking->count = 0;
    kith_status status = walk(checking->shard->node->store, checking->shard->id, entry, checking, err);
    if (status == KITH_OK && checking->count != expected)
        return kith_err_set(err, KITH_INTERNAL, "the store has %llu %s, the shard %llu",
            (unsigned long long)checking->count, what, (unsigned long long)expected);
    return status;
}

static kith_status walk_all_points(
    kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err) {
    return shard_walk_points(store, shard_id, NULL, entry, ctx, err);
}

static kith_status applied_check(shard_checking *checking, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    uint64_t stored = 0;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_applied(checking->shard->id, key);
    kith_status status =
        kith_store_get(checking->shard->node->store, KITH_STORE_META, key, key_bytes, &value, err);
    if (status == KITH_OK) stored = kith_load_u64(value.data);
    if (status == KITH_NOT_FOUND) status = KITH_OK;
    kith_buf_fini(&value);
    if (status == KITH_OK && stored != checking->view->applied_sequence)
        return kith_err_set(err, KITH_INTERNAL, "the store is applied up to %llu, the view up to %llu",
            (unsigned long long)stored, (unsigned long long)checking->view->applied_sequence);
    return status;
}

static kith_status check_all(shard_checking *checking, kith_err *err) {
    kith_status status = applied_check(checking, err);
    for (uint32_t i = 0; i < checking->view->part_count && status == KITH_OK; i++)
        status = part_check(checking, &checking->view->parts[i], err);
    if (status == KITH_OK && kith_map_count(checking->live) != checking->view->live_count)
        status = kith_err_set(err, KITH_INTERNAL, "%zu ids live, the view counts %llu",
            kith_map_count(checking->live), (unsigned long long)checking->view->live_count);
    if (status == KITH_OK)
        status =
            walk_check(checking, "points", checking->view->live_count, walk_all_points, point_check, err);
    if (status == KITH_OK)
        status = walk_check(checking, "tombstones", sealed_dead_count(checking->view), shard_walk_tombstones,
            tombstone_check, err);
    if (status == KITH_OK)
        status = walk_check(checking, "remembered requests", shard_window_count(checking->shard->window),
            shard_walk_window, window_check, err);
    if (status == KITH_OK) status = manifest_check(checking, err);
    return status;
}

kith_status kith_shard_validate(kith_shard *shard, kith_err *err) {
    kith_status status = shard_health_check(shard, err);
    if (status != KITH_OK) return status;
    if (shard->round.active)
        return kith_err_set(err, KITH_BUSY, "shard %llu has committed writes that wait for space",
            (unsigned long long)shard->id);
    shard_checking checking = {
        .shard = shard, .view = kith_hazard_current(shard->view_cell), .live = kith_map_create(1024)};
    status = check_all(&checking, err);
    kith_map_destroy(checking.live);
    if (status != KITH_OK)
        return kith_err_wrap(err, status, "validate shard %llu", (unsigned long long)shard->id);
    return KITH_OK;
}
