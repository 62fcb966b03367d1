/* Recovery. The store comes back as it was at some moment at or after its last flush: manifest, tombstones,
 * points, request window and applied sequence of one moment. The files that manifest names are there, because
 * replaced ones are removed after a flush only; the log has every entry after its sealed sequence, for the
 * same reason.
 *
 * So: open the named segments with their tombstones, then replay the log from the sealed sequence on. Entries
 * the store has already are applied to memory alone (the growing segment is nowhere else); later ones to
 * both. Then what files are named by nobody can go.
 *
 * A shard with the mark of an install is what a crash left of one: neither the old shard nor the copy.
 *
 * A fault in what is on the disk does not keep the node from starting: the shard is quarantined, says CORRUPT
 * and the file's name, replays nothing, and so trims nothing of the log. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"

#define REPLAY_BATCH_BYTES_MAX (4u << 20)

static void quarantine(kith_shard *shard, const kith_err *err) {
    kith_log_error("shard_corrupt", kith_kv_u64("shard", shard->id), kith_kv_text("error", err->text));
    SHARD_COUNT(shard, segments_corrupt, 1);
    shard_health_set(shard, KITH_CORRUPT, err->text);
}

/* --- open --- */

static kith_shard *shard_create(const kith_shard_options *options) {
    kith_shard *shard = kith_alloc_zero(sizeof *shard);
    shard->node = options->node;
    shard->id = options->shard_id;
    shard->schema = *options->schema;
    shard->row_bytes = kith_schema_row_bytes(options->schema);
    atomic_init(&shard->uses, 1);
    shard->next_segment_id = 1;
    shard_batcher_init(shard);
    shard->view_cell = kith_hazard_create(shard_view_create(0), shard_view_destroy_cell);
    shard->round.batch = kith_store_batch_create(options->node->store);
    kith_arena_init(&shard->round.arena);
    shard->window = shard_window_create(options->node->request_window);
    shard->in_flight = kith_map_create(64);
    shard->replicated = options->replicated;
    /* Opened without a look at the log, which may have entries that a snapshot replaced. */
    if (options->node->log) shard->replica.log_greatest = UINT64_MAX;
    shard->seal.shard = shard;
    shard->merge.shard = shard;
    shard->merge.is_merge = true;
    return shard;
}

static kith_status segment_open(kith_shard *shard, uint64_t segment_id, kith_err *err) {
    char path[SHARD_PATH_BYTES_MAX];
    kith_segment *segment;
    shard_segment_path(shard->node, shard->id, segment_id, path);
    kith_status status =
        kith_segment_sealed_open(shard->node->env, path, segment_id, &shard->schema, &segment, err);
    if (status == KITH_NOT_FOUND)
        return kith_err_set(err, KITH_CORRUPT, "segment %s is in the manifest but missing", path);
    if (status != KITH_OK) return status;
    shard_part *part = shard_part_insert(shard, shard->part_count);
    part->kind = SHARD_PART_SEALED;
    part->segment = segment;
    part->row_count = kith_segment_row_count(segment);
    return KITH_OK;
}

static shard_part *part_find(kith_shard *shard, uint64_t segment_id) {
    for (uint32_t i = 0; i < shard->part_count; i++) {
        if (kith_segment_id(shard->parts[i].segment) == segment_id) return &shard->parts[i];
    }
    return NULL;
}

static kith_status tombstone_read(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    kith_shard *shard = ctx;
    (void)value;
    if (key_bytes != 8 + 1 + 8 + 4 || value_bytes != 0)
        return kith_err_set(err, KITH_CORRUPT, "shard %llu has a malformed tombstone of %zu bytes",
            (unsigned long long)shard->id, key_bytes);
    uint64_t segment_id = kith_load_u64_be(key + 9);
    uint32_t row = __builtin_bswap32(kith_load_u32(key + 17));
    shard_part *part = part_find(shard, segment_id);
    if (!part || row >= part->row_count)
        return kith_err_set(err, KITH_CORRUPT,
            "shard %llu has a tombstone for row %u of segment %llu, which is not there",
            (unsigned long long)shard->id, row, (unsigned long long)segment_id);
    shard_part_kill(part, row);
    return KITH_OK;
}

static kith_status window_read(void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value,
    size_t value_bytes, kith_err *err) {
    kith_shard *shard = ctx;
    kith_request_id request_id;
    kith_write_result result;
    (void)key;
    if (key_bytes != 8 + 1 + 4 || !shard_window_value_decode(value, value_bytes, &request_id, &result)) {
        return kith_err_set(err, KITH_CORRUPT, "shard %llu has a malformed remembered request",
            (unsigned long long)shard->id);
    }
    shard_window_put(shard->window, &request_id, &result);
    return KITH_OK;
}

static kith_status applied_read(kith_shard *shard, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_applied(shard->id, key);
    kith_status status = kith_store_get(shard->node->store, KITH_STORE_META, key, key_bytes, &value, err);
    if (status == KITH_OK &&
        !shard_applied_decode(value.data, value.bytes, &shard->stored_sequence, &shard->applied_epoch))
        status = kith_err_set(err, KITH_CORRUPT, "applied sequence of shard %llu has %zu bytes; 16 are due",
            (unsigned long long)shard->id, value.bytes);
    kith_buf_fini(&value);
    return status == KITH_NOT_FOUND ? KITH_OK : status;
}

static kith_status floor_read(kith_shard *shard, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_floor(shard->id, key);
    kith_status status = kith_store_get(shard->node->store, KITH_STORE_META, key, key_bytes, &value, err);
    if (status == KITH_OK && value.bytes != 8)
        status = kith_err_set(err, KITH_CORRUPT, "log floor of shard %llu has %zu bytes; 8 are due",
            (unsigned long long)shard->id, value.bytes);
    if (status == KITH_OK) shard->replica.floor = kith_load_u64(value.data);
    kith_buf_fini(&value);
    return status == KITH_NOT_FOUND ? KITH_OK : status;
}

static kith_status segments_open(kith_shard *shard, const shard_manifest *manifest, kith_err *err) {
    for (uint32_t i = 0; i < manifest->segment_count; i++) {
        kith_status status = segment_open(shard, manifest->segment_ids[i], err);
        if (status != KITH_OK) return status;
    }
    return shard_walk_tombstones(shard->node->store, shard->id, tombstone_read, shard, err);
}

static kith_status state_read(kith_shard *shard, kith_err *err) {
    shard_manifest manifest;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_status status = shard_install_mark_check(shard->node, shard->id, err);
    if (status == KITH_OK)
        status = shard_manifest_read(shard->node->store, shard->id, &arena, &manifest, err);
    if (status != KITH_OK) goto fini_arena;
    shard->next_segment_id = manifest.next_segment_id;
    atomic_store_explicit(&shard->sealed_sequence, manifest.sealed_sequence, memory_order_relaxed);
    shard->frozen_sequence = shard->applied_sequence = shard->last_sequence = manifest.sealed_sequence;
    status = applied_read(shard, err);
    shard->replica.stored_epoch = shard->applied_epoch;
    if (status == KITH_OK && shard->stored_sequence < manifest.sealed_sequence)
        status = kith_err_set(err, KITH_CORRUPT,
            "shard %llu is sealed up to entry %llu but applied up to %llu", (unsigned long long)shard->id,
            (unsigned long long)manifest.sealed_sequence, (unsigned long long)shard->stored_sequence);
    if (status == KITH_OK && shard->replicated) status = floor_read(shard, err);
    if (status == KITH_OK) status = segments_open(shard, &manifest, err);
    if (status == KITH_OK) status = shard_walk_window(shard->node->store, shard->id, window_read, shard, err);
fini_arena:
    kith_arena_fini(&arena);
    return status;
}

kith_status kith_shard_open(const kith_shard_options *options, kith_shard **shard_out, kith_err *err) {
    kith_err fault;
    kith_shard *shard = shard_create(options);
    kith_status status = state_read(shard, &fault);
    if (status == KITH_CORRUPT) {
        quarantine(shard, &fault);
    } else if (status != KITH_OK) {
        kith_shard_destroy(shard);
        return kith_err_set(
            err, status, "open shard %llu: %s", (unsigned long long)options->shard_id, fault.text);
    }
    *shard_out = shard;
    return KITH_OK;
}

/* --- replay --- */

/* Everything replayed so far is in the store, if it was not before. */
static kith_status replay_store(kith_shard *shard, kith_err *err) {
    shard_round *round = &shard->round;
    if (shard->applied_sequence <= shard->stored_sequence) return KITH_OK;
    shard_applied_put(shard, round->batch);
    kith_status status = kith_store_write(shard->node->store, round->batch, err);
    if (status != KITH_OK) return status;
    shard->stored_sequence = shard->applied_sequence;
    kith_store_batch_clear(round->batch);
    kith_arena_reset(&round->arena);
    round->points_changed = 0;
    return KITH_OK;
}

static void replay_remember(
    kith_shard *shard, const kith_log_entry *entry, const kith_op *op, uint32_t points_changed) {
    kith_write_result result = {
        .epoch = entry->epoch, .sequence = entry->sequence, .points_changed = points_changed};
    shard_window_entry_put(shard, shard->round.batch, &op->request_id, &result);
    shard_window_put(shard->window, &op->request_id, &result);
}

static kith_status replay_op(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    kith_op op;
    uint32_t next_point = 0, points_changed = 0;
    bool stored = entry->sequence <= shard->stored_sequence;
    if (entry->bytes == 0) return KITH_OK; /* it begins an epoch */
    kith_status status =
        kith_op_decode(entry->data, entry->bytes, &shard->schema, &shard->round.arena, &op, err);
    if (status != KITH_OK) return status;
    status = shard_apply_op(
        shard, &op, entry->sequence, stored ? NULL : shard->round.batch, &next_point, &points_changed, err);
    if (status != KITH_OK) return status;
    if (stored)
        kith_arena_reset(&shard->round.arena);
    else
        replay_remember(shard, entry, &op, points_changed);
    return KITH_OK;
}

static kith_status replay_apply(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    kith_status status = replay_op(shard, entry, err);
    if (status != KITH_OK) return status;
    shard->applied_sequence = entry->sequence;
    shard->applied_epoch = entry->epoch;
    if (shard->last_sequence < entry->sequence) shard->last_sequence = entry->sequence;
    shard->growing_op_bytes += entry->bytes;
    return KITH_OK;
}

kith_status shard_replay_entry(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    kith_err fault = {0};
    kith_status status = replay_apply(shard, entry, &fault);
    shard->round.replay_bytes += entry->bytes;
    if (status == KITH_OK && shard->round.replay_bytes > REPLAY_BATCH_BYTES_MAX) {
        shard->round.replay_bytes = 0;
        status = replay_store(shard, &fault);
    }
    if (status == KITH_CORRUPT) {
        kith_err_wrap(&fault, status, "log entry %llu of shard %llu", (unsigned long long)entry->sequence,
            (unsigned long long)shard->id);
        quarantine(shard, &fault);
        return KITH_OK;
    }
    if (status != KITH_OK)
        return kith_err_set(err, status, "replay shard %llu: %s", (unsigned long long)shard->id, fault.text);
    return KITH_OK;
}

kith_status kith_shard_replay(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    kith_err fault;
    if (shard_health_check(shard, &fault) != KITH_OK) return KITH_OK;
    if (shard->replicated) return shard_replica_replay(shard, entry, err);
    if (entry->sequence <= shard->applied_sequence) return KITH_OK; /* sealed */
    return shard_replay_entry(shard, entry, err);
}

/* --- start --- */

typedef struct sweep {
    kith_shard_node *node;
    kith_shard *(*starting)(void *ctx, uint64_t shard_id);
    void *ctx;
    kith_arena arena;
    struct sweep_name {
        struct sweep_name *next;
        char *path;
    } * names;
} sweep;

static bool file_is_named(kith_shard *shard, const char *name, uint64_t segment_id) {
    shard_part *part = part_find(shard, segment_id);
    size_t length = strlen(name);
    return part && part->kind == SHARD_PART_SEALED && strcmp(name + length - 4, ".seg") == 0;
}

static void sweep_entry(void *ctx, const kith_dir_entry *entry) {
    sweep *found = ctx;
    const char *dir = found->node->segment_dir;
    uint64_t shard_id, segment_id;
    kith_err fault;
    if (entry->is_dir || !shard_segment_name_parse(entry->name, &shard_id, &segment_id)) return;
    kith_shard *shard = found->starting(found->ctx, shard_id);
    if (!shard || shard_health_check(shard, &fault) != KITH_OK) return;
    if (file_is_named(shard, entry->name, segment_id)) return;
    size_t bytes = strlen(dir) + 1 + strlen(entry->name) + 1;
    struct sweep_name *name = kith_arena_alloc(&found->arena, sizeof *name);
    name->path = kith_arena_alloc(&found->arena, bytes);
    snprintf(name->path, bytes, "%s/%s", dir, entry->name);
    name->next = found->names;
    found->names = name;
}

static kith_status sweep_run(sweep *found, kith_err *err) {
    kith_env *env = found->node->env;
    kith_status status = kith_dir_list(env, found->node->segment_dir, sweep_entry, found, err);
    if (status == KITH_NOT_FOUND) status = KITH_OK;
    for (struct sweep_name *name = found->names; status == KITH_OK && name; name = name->next) {
        status = kith_path_remove(env, name->path, err);
        if (status == KITH_NOT_FOUND) status = KITH_OK;
    }
    return status;
}

void shard_unnamed_files_remove(
    kith_shard_node *node, kith_shard *(*starting)(void *ctx, uint64_t shard_id), void *ctx) {
    kith_err err;
    sweep found = {.node = node, .starting = starting, .ctx = ctx};
    kith_arena_init(&found.arena);
    if (sweep_run(&found, &err) != KITH_OK)
        kith_log_warn("segment_files_left", kith_kv_text("error", err.text));
    kith_arena_fini(&found.arena);
}

kith_status kith_shard_start(kith_shard *shard, kith_err *err) {
    kith_err fault;
    shard->started = true;
    if (shard_health_check(shard, &fault) != KITH_OK) return KITH_OK;
    kith_status status = shard->replicated ? shard_replica_start(shard, err) : KITH_OK;
    if (status == KITH_OK && shard_health_check(shard, &fault) != KITH_OK) return KITH_OK;
    if (status == KITH_OK) status = replay_store(shard, err);
    if (status != KITH_OK)
        return kith_err_wrap(err, status, "start shard %llu", (unsigned long long)shard->id);
    kith_arena_reset(&shard->round.arena);
    if (shard->applied_sequence < shard->stored_sequence) {
        kith_err_set(&fault, KITH_CORRUPT, "the store has entry %llu of shard %llu, the log ends at %llu",
            (unsigned long long)shard->stored_sequence, (unsigned long long)shard->id,
            (unsigned long long)shard->applied_sequence);
        quarantine(shard, &fault);
        return KITH_OK;
    }
    shard_publish(shard);
    for (uint32_t i = 0; i < shard->part_count; i++) {
        if (shard->parts[i].kind == SHARD_PART_SEALED) shard_attach_post(shard, shard->parts[i].segment);
    }
    shard->flush.wanted = true; /* then the log may be trimmed to what is sealed */
    shard_maintain_post(shard);
    return KITH_OK;
}
