/* What a shard keeps in the store, key by key. Every key begins with the shard id, big-endian, so that a
 * shard is a range of both families.
 *
 *   points  shard u64be, order key of the point's id     -> u64 sequence, payload
 *   meta    shard u64be, 'A'                             -> u64 applied sequence, u64 epoch of that entry (before
 *                                                           replication: none, which is 1)
 *           shard u64be, 'I'                             -> nothing: a copy is being installed (shard_snapshot.h)
 *           shard u64be, 'L'                             -> u64: what the node's log has of the shard up to this entry
 *                                                           is not the shard's (a snapshot replaced it)
 *           shard u64be, 'M'                             -> manifest (below)
 *           shard u64be, 'T', segment u64be, row u32be   -> nothing: the row of the sealed segment is dead
 *           shard u64be, 'W', slot u32be                 -> a remembered request (shard_request_window.h)
 *
 * Manifest, version 1, little-endian: "KSHM" | u16 version=1 | u16 0 | u64 shard | u64 sealed sequence |
 * u64 next segment id | u32 segment count | u32 0 | u64 segment id... | u32 CRC-32C of all before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/text.h"
#include "host/shard/shard_internal.h"

#define MANIFEST_VERSION     1u
#define MANIFEST_BYTES_LEAST 44u /* no segments */

/* --- keys --- */

size_t shard_key_prefix(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    kith_store_u64_be(key_out, shard_id);
    return 8;
}

size_t shard_key_point(uint64_t shard_id, const kith_id *id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    kith_store_u64_be(key_out, shard_id);
    return 8 + kith_id_order_key(id, key_out + 8);
}

static size_t key_of_kind(uint64_t shard_id, char kind, uint8_t *key_out) {
    kith_store_u64_be(key_out, shard_id);
    key_out[8] = (uint8_t)kind;
    return 9;
}

size_t shard_key_manifest(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    return key_of_kind(shard_id, 'M', key_out);
}

size_t shard_key_install(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    return key_of_kind(shard_id, 'I', key_out);
}

size_t shard_key_applied(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    return key_of_kind(shard_id, 'A', key_out);
}

size_t shard_key_floor(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    return key_of_kind(shard_id, 'L', key_out);
}

static void store_u32_be(uint8_t *out, uint32_t value) {
    kith_store_u32(out, __builtin_bswap32(value));
}

size_t shard_key_tombstone(
    uint64_t shard_id, uint64_t segment_id, uint32_t row, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    size_t bytes = key_of_kind(shard_id, 'T', key_out);
    kith_store_u64_be(key_out + bytes, segment_id);
    store_u32_be(key_out + bytes + 8, row);
    return bytes + 12;
}

size_t shard_key_window(uint64_t shard_id, uint32_t slot, uint8_t key_out[SHARD_KEY_BYTES_MAX]) {
    size_t bytes = key_of_kind(shard_id, 'W', key_out);
    store_u32_be(key_out + bytes, slot);
    return bytes + 4;
}

/* --- manifest --- */

void shard_manifest_encode(const shard_manifest *manifest, uint64_t shard_id, kith_buf *buf) {
    size_t start = buf->bytes;
    kith_buf_append(buf, "KSHM", 4);
    kith_buf_u16(buf, MANIFEST_VERSION);
    kith_buf_u16(buf, 0);
    kith_buf_u64(buf, shard_id);
    kith_buf_u64(buf, manifest->sealed_sequence);
    kith_buf_u64(buf, manifest->next_segment_id);
    kith_buf_u32(buf, manifest->segment_count);
    kith_buf_u32(buf, 0);
    for (uint32_t i = 0; i < manifest->segment_count; i++)
        kith_buf_u64(buf, manifest->segment_ids[i]);
    kith_buf_u32(buf, kith_crc32c(0, buf->data + start, buf->bytes - start));
}

kith_status shard_manifest_decode(const void *data, size_t bytes, uint64_t shard_id, kith_arena *arena,
    shard_manifest *manifest_out, kith_err *err) {
    kith_reader reader = kith_reader_of(data, bytes);
    if (bytes < MANIFEST_BYTES_LEAST)
        return kith_err_set(err, KITH_CORRUPT, "manifest of shard %llu has %zu bytes; at least %u are due",
            (unsigned long long)shard_id, bytes, MANIFEST_BYTES_LEAST);
    const uint8_t *end = reader.data + bytes - 4;
    if (kith_crc32c(0, data, bytes - 4) != kith_load_u32(end))
        return kith_err_set(
            err, KITH_CORRUPT, "manifest of shard %llu has a bad checksum", (unsigned long long)shard_id);
    bool magic_ok = memcmp(kith_reader_bytes(&reader, 4), "KSHM", 4) == 0;
    uint32_t version = kith_reader_u16(&reader);
    (void)kith_reader_u16(&reader);
    if (!magic_ok || version != MANIFEST_VERSION)
        return kith_err_set(err, KITH_CORRUPT, "manifest of shard %llu has version %u; 1 is known",
            (unsigned long long)shard_id, version);
    uint64_t named = kith_reader_u64(&reader);
    if (named != shard_id)
        return kith_err_set(err, KITH_CORRUPT, "manifest of shard %llu names shard %llu",
            (unsigned long long)shard_id, (unsigned long long)named);
    shard_manifest manifest = {.sealed_sequence = kith_reader_u64(&reader),
        .next_segment_id = kith_reader_u64(&reader),
        .segment_count = kith_reader_u32(&reader)};
    (void)kith_reader_u32(&reader);
    if (kith_reader_left(&reader) != (size_t)manifest.segment_count * 8 + 4)
        return kith_err_set(err, KITH_CORRUPT, "manifest of shard %llu has %zu bytes for %u segments",
            (unsigned long long)shard_id, bytes, manifest.segment_count);
    manifest.segment_ids = kith_arena_array(arena, manifest.segment_count, sizeof *manifest.segment_ids);
    for (uint32_t i = 0; i < manifest.segment_count; i++)
        manifest.segment_ids[i] = kith_reader_u64(&reader);
    *manifest_out = manifest;
    return KITH_OK;
}

kith_status shard_manifest_read(
    kith_store *store, uint64_t shard_id, kith_arena *arena, shard_manifest *manifest_out, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    kith_buf_init(&value);
    kith_status status =
        kith_store_get(store, KITH_STORE_META, key, shard_key_manifest(shard_id, key), &value, err);
    if (status == KITH_NOT_FOUND) {
        *manifest_out = (shard_manifest){.next_segment_id = 1};
        status = KITH_OK;
    } else if (status == KITH_OK) {
        status = shard_manifest_decode(value.data, value.bytes, shard_id, arena, manifest_out, err);
    }
    kith_buf_fini(&value);
    return status;
}

kith_status shard_install_mark_check(kith_shard_node *node, uint64_t shard_id, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_install(shard_id, key);
    kith_status status = kith_store_get(node->store, KITH_STORE_META, key, key_bytes, &value, err);
    kith_buf_fini(&value);
    if (status == KITH_NOT_FOUND) return KITH_OK;
    if (status != KITH_OK) return status;
    return kith_err_set(
        err, KITH_CORRUPT, "an install of shard %llu was cut off", (unsigned long long)shard_id);
}

void shard_manifest_put(kith_shard *shard, kith_store_batch *batch, const shard_manifest *manifest) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    kith_buf_init(&value);
    shard_manifest_encode(manifest, shard->id, &value);
    size_t key_bytes = shard_key_manifest(shard->id, key);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, value.data, value.bytes);
    kith_buf_fini(&value);
}

/* --- the other records --- */

void shard_applied_put(kith_shard *shard, kith_store_batch *batch) {
    uint8_t key[SHARD_KEY_BYTES_MAX], value[16];
    size_t key_bytes = shard_key_applied(shard->id, key);
    kith_store_u64(value, shard->applied_sequence);
    kith_store_u64(value + 8, shard->applied_epoch);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, value, sizeof value);
}

bool shard_applied_decode(const uint8_t *value, size_t bytes, uint64_t *sequence_out, uint64_t *epoch_out) {
    if (bytes != 8 && bytes != 16) return false;
    *sequence_out = kith_load_u64(value);
    *epoch_out = bytes == 16 ? kith_load_u64(value + 8) : 1;
    return true;
}

void shard_tombstone_put(kith_shard *shard, kith_store_batch *batch, uint64_t segment_id, uint32_t row) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_tombstone(shard->id, segment_id, row, key);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, "", 0);
}

void shard_tombstones_remove(kith_shard *shard, kith_store_batch *batch, uint64_t segment_id) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = shard_key_tombstone(shard->id, segment_id, 0, from);
    size_t to_bytes = shard_key_tombstone(shard->id, segment_id + 1, 0, to);
    kith_store_batch_remove_range(batch, KITH_STORE_META, from, from_bytes, to, to_bytes);
}

void shard_point_put(
    kith_shard *shard, kith_store_batch *batch, const kith_op_point *point, uint64_t sequence) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_point(shard->id, &point->id, key);
    uint8_t *value = kith_arena_alloc(&shard->round.arena, 8 + point->payload_bytes);
    kith_store_u64(value, sequence);
    if (point->payload_bytes) memcpy(value + 8, point->payload, point->payload_bytes);
    kith_store_batch_put(batch, KITH_STORE_POINTS, key, key_bytes, value, 8 + point->payload_bytes);
}

void shard_point_remove(kith_shard *shard, kith_store_batch *batch, const kith_id *id) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_store_batch_remove(batch, KITH_STORE_POINTS, key, shard_key_point(shard->id, id, key));
}

void shard_window_entry_put(kith_shard *shard, kith_store_batch *batch, const kith_request_id *request_id,
    const kith_write_result *result) {
    uint8_t key[SHARD_KEY_BYTES_MAX], value[SHARD_WINDOW_VALUE_BYTES];
    uint32_t slot = shard_window_slot(shard->window, request_id, result->sequence);
    if (slot == UINT32_MAX) return;
    size_t key_bytes = shard_key_window(shard->id, slot, key);
    shard_window_value_encode(request_id, result, value);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, value, sizeof value);
}

/* --- walks --- */

static kith_status walk(kith_store *store, kith_store_family family, const uint8_t *from, size_t from_bytes,
    const uint8_t *to, size_t to_bytes, shard_walk_fn entry, void *ctx, kith_err *err) {
    kith_store_iterator *iterator;
    const void *key, *value;
    size_t key_bytes, value_bytes;
    kith_status status =
        kith_store_iterator_open(store, family, from, from_bytes, to, to_bytes, &iterator, err);
    if (status != KITH_OK) return status;
    while (status == KITH_OK && kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes)) {
        status = entry(ctx, key, key_bytes, value, value_bytes, err);
    }
    if (status == KITH_OK) status = kith_store_iterator_status(iterator, err);
    kith_store_iterator_close(iterator);
    return status;
}

static kith_status walk_kind(
    kith_store *store, uint64_t shard_id, char kind, shard_walk_fn entry, void *ctx, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = key_of_kind(shard_id, kind, from);
    size_t to_bytes = key_of_kind(shard_id, (char)(kind + 1), to);
    return walk(store, KITH_STORE_META, from, from_bytes, to, to_bytes, entry, ctx, err);
}

kith_status shard_walk_tombstones(
    kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err) {
    return walk_kind(store, shard_id, 'T', entry, ctx, err);
}

kith_status shard_walk_window(
    kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err) {
    return walk_kind(store, shard_id, 'W', entry, ctx, err);
}

kith_status shard_walk_points(kith_store *store, uint64_t shard_id, const kith_id *from_id,
    shard_walk_fn entry, void *ctx, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = from_id ? shard_key_point(shard_id, from_id, from) : shard_key_prefix(shard_id, from);
    size_t to_bytes = shard_key_prefix(shard_id + 1, to);
    return walk(store, KITH_STORE_POINTS, from, from_bytes, to, to_bytes, entry, ctx, err);
}

/* --- files --- */

void shard_segment_path(const kith_shard_node *node, uint64_t shard_id, uint64_t segment_id,
    char path_out[SHARD_PATH_BYTES_MAX]) {
    snprintf(path_out, SHARD_PATH_BYTES_MAX, "%s/%llu-%llu.seg", node->segment_dir,
        (unsigned long long)shard_id, (unsigned long long)segment_id);
}

bool shard_segment_name_parse(const char *name, uint64_t *shard_id_out, uint64_t *segment_id_out) {
    const char *dash = strchr(name, '-');
    const char *dot = dash ? strchr(dash, '.') : NULL;
    if (!dot) return false;
    if (strcmp(dot, ".seg") != 0 && strcmp(dot, ".seg.tmp") != 0) return false;
    if (!kith_text_parse_u64(name, (size_t)(dash - name), shard_id_out)) return false;
    return kith_text_parse_u64(dash + 1, (size_t)(dot - dash - 1), segment_id_out);
}
