/* Installing a snapshot: a machine that takes bytes in any pieces and collects what it needs for its next step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/shard/shard_eraser.h"
#include "host/shard/shard_internal.h"
#include "host/shard/shard_snapshot.h"
#include "host/shard/shard_snapshot_head.h"

#define CRC_BYTES       4u
#define SYNC_SOON_BYTES (4u << 20) /* so much is written before the disk is told to begin: a guess */

typedef enum install_step {
    INSTALL_START,       /* collects what says how long the head is */
    INSTALL_HEAD,        /* collects the head */
    INSTALL_FILES,       /* gathers, and writes */
    INSTALL_RECORD_HEAD, /* collects, as the rest */
    INSTALL_RECORD,
    INSTALL_CRC,
    INSTALL_WHOLE,
} install_step;

struct kith_shard_install {
    kith_shard_node *node;
    uint64_t shard_id;
    kith_schema schema;
    install_step step;
    uint64_t offset;
    kith_buf collected;
    size_t wanted; /* bytes to collect before the next step */
    kith_arena arena;
    shard_snapshot_head head;
    uint64_t next_segment_id;
    /* Files. */
    uint32_t file_index;
    kith_file *file;
    uint64_t file_offset;
    kith_buf gathered;  /* bytes before file_offset that are not written yet */
    uint64_t file_told; /* up to here the disk was told to begin */
    struct install_segment {
        kith_segment *segment;
        uint64_t *dead; /* bits */
    } * segments;       /* [file_index] */
    uint64_t live_count;
    /* Records. */
    uint64_t records_left; /* bytes */
    uint32_t crc;
    uint8_t key[SHARD_KEY_BYTES_MAX]; /* of the last one, with the shard id */
    size_t key_bytes;
    kith_store_family family;
    uint64_t point_count;
    bool entry_seen;
    kith_store_load *load;
    bool finished;
};

/* A record, from the bytes collected. */
typedef struct install_record {
    kith_store_family family;
    uint8_t key[SHARD_KEY_BYTES_MAX]; /* with the shard id */
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
} install_record;

static kith_status misfit(const kith_shard_install *install, const char *what, kith_err *err) {
    return kith_err_set(err, KITH_CORRUPT, "snapshot of shard %llu, before byte %llu: %s",
        (unsigned long long)install->shard_id, (unsigned long long)install->offset, what);
}

static void collect_next(kith_shard_install *install, install_step step, size_t bytes) {
    kith_buf_clear(&install->collected);
    install->step = step;
    install->wanted = bytes;
}

/* --- head --- */

static int file_compare(const void *a, const void *b) {
    uint64_t left = ((const shard_snapshot_file *)a)->segment_id;
    uint64_t right = ((const shard_snapshot_file *)b)->segment_id;
    return left < right ? -1 : left > right;
}

/* Of the ids, in a sorted copy. */
static kith_status ids_check(kith_shard_install *install, kith_err *err) {
    const shard_snapshot_head *head = &install->head;
    install->next_segment_id = 1;
    if (head->file_count == 0) return KITH_OK;
    shard_snapshot_file *sorted =
        kith_arena_copy(&install->arena, head->files, head->file_count * sizeof *sorted);
    qsort(sorted, head->file_count, sizeof *sorted, file_compare);
    for (uint32_t i = 1; i < head->file_count; i++) {
        if (sorted[i].segment_id == sorted[i - 1].segment_id) return misfit(install, "a segment twice", err);
    }
    if (sorted[head->file_count - 1].segment_id >= UINT64_MAX / 2)
        return misfit(install, "an impossible segment id", err);
    install->next_segment_id = sorted[head->file_count - 1].segment_id + 1;
    return KITH_OK;
}

static kith_status head_check(kith_shard_install *install, kith_err *err) {
    const shard_snapshot_head *head = &install->head;
    uint64_t total = head->store_bytes;
    if (head->shard_id != install->shard_id) return misfit(install, "it is of another shard", err);
    if (head->store_bytes < CRC_BYTES) return misfit(install, "a store part without a checksum", err);
    if ((head->sequence == 0) != (head->epoch == 0)) return misfit(install, "an impossible entry", err);
    for (uint32_t i = 0; i < head->file_count; i++) {
        if (head->files[i].bytes == 0) return misfit(install, "an empty segment file", err);
        if (__builtin_add_overflow(total, head->files[i].bytes, &total))
            return misfit(install, "an impossible length", err);
    }
    kith_status status = ids_check(install, err);
    return status == KITH_OK ? shard_space_check_install(install->node, install->shard_id, total, err)
                             : status;
}

static void record_next(kith_shard_install *install) {
    if (install->records_left > 0)
        collect_next(install, INSTALL_RECORD_HEAD, SHARD_SNAPSHOT_RECORD_HEAD_BYTES);
    else
        collect_next(install, INSTALL_CRC, CRC_BYTES);
}

static void files_next(kith_shard_install *install) {
    if (install->file_index < install->head.file_count)
        collect_next(install, INSTALL_FILES, 0);
    else
        record_next(install);
}

static kith_status start_take(kith_shard_install *install, kith_err *err) {
    install->step = INSTALL_HEAD;
    return shard_snapshot_head_bytes(install->collected.data, &install->wanted, err);
}

static kith_status head_take(kith_shard_install *install, kith_err *err) {
    kith_status status = shard_snapshot_head_decode(
        install->collected.data, install->collected.bytes, &install->arena, &install->head, err);
    if (status == KITH_OK) status = head_check(install, err);
    if (status != KITH_OK) return status;
    install->records_left = install->head.store_bytes - CRC_BYTES;
    install->segments =
        kith_arena_array(&install->arena, install->head.file_count, sizeof *install->segments);
    files_next(install);
    return KITH_OK;
}

/* --- files --- */

static void file_path(
    const kith_shard_install *install, const char *suffix, char path_out[SHARD_PATH_BYTES_MAX]) {
    shard_segment_path(
        install->node, install->shard_id, install->head.files[install->file_index].segment_id, path_out);
    size_t bytes = strlen(path_out);
    snprintf(path_out + bytes, SHARD_PATH_BYTES_MAX - bytes, "%s", suffix);
}

/* There was room for all files as the head came; but others, too, have written since. */
static kith_status file_begin(kith_shard_install *install, kith_err *err) {
    char path[SHARD_PATH_BYTES_MAX];
    uint64_t bytes = install->head.files[install->file_index].bytes;
    kith_status status = shard_space_check_install(install->node, install->shard_id, bytes, err);
    if (status != KITH_OK) return status;
    file_path(install, ".tmp", path);
    status = kith_file_open(install->node->env, path, KITH_FILE_WRITE, &install->file, err);
    if (status == KITH_OK) status = kith_file_truncate(install->file, 0, err);
    install->file_offset = install->file_told = 0;
    (void)kith_buf_reserve(&install->gathered, KITH_FILE_HUGE_BYTES);
    return status;
}

static kith_status file_place(kith_shard_install *install, kith_err *err) {
    char from[SHARD_PATH_BYTES_MAX], to[SHARD_PATH_BYTES_MAX];
    kith_status status = kith_file_sync(install->file, err);
    kith_file_close(install->file);
    install->file = NULL;
    if (status != KITH_OK) return status;
    file_path(install, ".tmp", from);
    file_path(install, "", to);
    return kith_path_rename(install->node->env, from, to, err);
}

/* It checks itself as it is opened, and stays open for the points to be compared with. */
static kith_status file_end(kith_shard_install *install, kith_err *err) {
    char path[SHARD_PATH_BYTES_MAX];
    kith_segment *segment;
    kith_status status = file_place(install, err);
    if (status != KITH_OK) return status;
    file_path(install, "", path);
    status = kith_segment_sealed_open(install->node->env, path,
        install->head.files[install->file_index].segment_id, &install->schema, &segment, err);
    if (status != KITH_OK) return status;
    uint32_t row_count = kith_segment_row_count(segment);
    install->segments[install->file_index++] = (struct install_segment){
        .segment = segment, .dead = kith_alloc_zero(kith_bitset_words(row_count) * sizeof(uint64_t))};
    install->live_count += row_count;
    files_next(install);
    return KITH_OK;
}

/* The disk writes while more is on its way, so that the sync at the end has little left to wait for. */
static void file_sync_soon(kith_shard_install *install) {
    uint64_t bytes = install->file_offset - install->file_told;
    if (bytes < SYNC_SOON_BYTES) return;
    kith_file_sync_soon(install->file, install->file_told, bytes);
    install->file_told = install->file_offset;
}

static kith_status gathered_write(kith_shard_install *install, uint64_t file_bytes, kith_err *err) {
    kith_buf *gathered = &install->gathered;
    kith_status status = shard_space_check_install(install->node, install->shard_id, gathered->bytes, err);
    if (status == KITH_OK)
        status = kith_file_write_at(
            install->file, install->file_offset - gathered->bytes, gathered->data, gathered->bytes, err);
    if (status != KITH_OK) return status;
    kith_buf_clear(gathered);
    file_sync_soon(install);
    return install->file_offset == file_bytes ? file_end(install, err) : KITH_OK;
}

static kith_status file_write(
    kith_shard_install *install, const uint8_t *data, size_t bytes, size_t *taken_out, kith_err *err) {
    uint64_t file_bytes = install->head.files[install->file_index].bytes;
    kith_status status = install->file ? KITH_OK : file_begin(install, err);
    if (status != KITH_OK) return status;
    uint64_t left = file_bytes - install->file_offset, room = KITH_FILE_HUGE_BYTES - install->gathered.bytes;
    uint64_t most = left < room ? left : room;
    size_t taken = bytes < most ? bytes : (size_t)most;
    kith_buf_append(&install->gathered, data, taken);
    install->file_offset += taken;
    *taken_out = taken;
    return taken == most ? gathered_write(install, file_bytes, err) : KITH_OK;
}

/* --- records: what may be in them --- */

static kith_status entry_record(kith_shard_install *install, const install_record *record, kith_err *err) {
    uint64_t sequence, epoch;
    if (record->key_bytes != 9 ||
        !shard_applied_decode(record->value, record->value_bytes, &sequence, &epoch) ||
        sequence != install->head.sequence || epoch != install->head.epoch)
        return misfit(install, "head and store part are of different entries", err);
    install->entry_seen = true;
    return KITH_OK;
}

static struct install_segment *segment_of(kith_shard_install *install, uint64_t segment_id) {
    for (uint32_t i = 0; i < install->file_index; i++) {
        if (install->head.files[i].segment_id == segment_id) return &install->segments[i];
    }
    return NULL;
}

static kith_status tombstone_record(
    kith_shard_install *install, const install_record *record, kith_err *err) {
    if (record->key_bytes != 8 + 1 + 8 + 4 || record->value_bytes != 0)
        return misfit(install, "a malformed tombstone", err);
    const struct install_segment *segment = segment_of(install, kith_load_u64_be(record->key + 9));
    uint32_t row = __builtin_bswap32(kith_load_u32(record->key + 17));
    if (!segment || row >= kith_segment_row_count(segment->segment))
        return misfit(install, "a tombstone of no row", err);
    kith_bitset_set(segment->dead, row);
    install->live_count--;
    return KITH_OK;
}

static kith_status window_record(
    const kith_shard_install *install, const install_record *record, kith_err *err) {
    kith_request_id request_id;
    kith_write_result result;
    if (record->key_bytes != 8 + 1 + 4 ||
        !shard_window_value_decode(record->value, record->value_bytes, &request_id, &result) ||
        result.sequence > install->head.sequence)
        return misfit(install, "a malformed remembered request", err);
    return KITH_OK;
}

static kith_status meta_record(kith_shard_install *install, const install_record *record, kith_err *err) {
    switch (record->key_bytes > 8 ? record->key[8] : 0) {
    case 'A':
        return entry_record(install, record, err);
    case 'T':
        return tombstone_record(install, record, err);
    case 'W':
        return window_record(install, record, err);
    default:
        return misfit(install, "a record of an unknown kind", err);
    }
}

static bool row_lives(const kith_shard_install *install, const kith_id *id, uint64_t sequence) {
    for (uint32_t i = install->file_index; i > 0; i--) {
        const struct install_segment *at = &install->segments[i - 1];
        uint32_t row = kith_segment_find(at->segment, id);
        if (row == KITH_ROW_NONE || kith_bitset_get(at->dead, row)) continue;
        return kith_segment_row_sequence(at->segment, row) == sequence;
    }
    return false;
}

/* Each point has a live row of its own; as many rows live as there are points, so none is without one (finish). */
static kith_status point_record(kith_shard_install *install, const install_record *record, kith_err *err) {
    kith_id id;
    if (record->value_bytes < 8 || !kith_id_from_order_key(record->key + 8, record->key_bytes - 8, &id))
        return misfit(install, "a malformed point", err);
    uint64_t sequence = kith_load_u64(record->value);
    if (sequence > install->head.sequence) return misfit(install, "a point of a later entry", err);
    if (!row_lives(install, &id, sequence)) return misfit(install, "a point without its row", err);
    install->point_count++;
    return KITH_OK;
}

/* --- records --- */

/* META before POINTS: so that who is dead is known when the points come. */
static bool record_follows(const kith_shard_install *install, const install_record *record) {
    if (install->key_bytes == 0) return true;
    if (record->family != install->family) return install->family == KITH_STORE_META;
    size_t common = record->key_bytes < install->key_bytes ? record->key_bytes : install->key_bytes;
    int order = memcmp(install->key, record->key, common);
    return order < 0 || (order == 0 && install->key_bytes < record->key_bytes);
}

/* Lengths are checked before the bytes are collected. */
static kith_status record_head_take(kith_shard_install *install, kith_err *err) {
    const uint8_t *head = install->collected.data;
    uint32_t key_bytes = kith_load_u32(head + 1);
    uint64_t value_bytes = kith_load_u64(head + 5);
    if (head[0] >= KITH_STORE_FAMILIES) return misfit(install, "a record of an unknown family", err);
    if (key_bytes == 0 || key_bytes > SHARD_KEY_BYTES_MAX - 8)
        return misfit(install, "a record with an impossible key", err);
    if (value_bytes > 8 + KITH_PAYLOAD_BYTES_MAX) return misfit(install, "a record that is too long", err);
    size_t bytes = SHARD_SNAPSHOT_RECORD_HEAD_BYTES + key_bytes + (size_t)value_bytes;
    if (bytes > install->records_left) return misfit(install, "a record longer than the store part", err);
    install->step = INSTALL_RECORD;
    install->wanted = bytes;
    return KITH_OK;
}

static install_record record_decode(const kith_shard_install *install) {
    const uint8_t *data = install->collected.data;
    install_record record = {.family = (kith_store_family)data[0], .key_bytes = 8 + kith_load_u32(data + 1)};
    kith_store_u64_be(record.key, install->shard_id);
    memcpy(record.key + 8, data + SHARD_SNAPSHOT_RECORD_HEAD_BYTES, record.key_bytes - 8);
    record.value = data + SHARD_SNAPSHOT_RECORD_HEAD_BYTES + record.key_bytes - 8;
    record.value_bytes = (size_t)kith_load_u64(data + 5);
    return record;
}

static kith_status record_take(kith_shard_install *install, kith_err *err) {
    install_record record = record_decode(install);
    if (!record_follows(install, &record)) return misfit(install, "records out of order", err);
    kith_status status = record.family == KITH_STORE_META ? meta_record(install, &record, err)
                                                          : point_record(install, &record, err);
    if (status == KITH_OK)
        status = kith_store_load_put(install->load, record.family, record.key, record.key_bytes, record.value,
            record.value_bytes, err);
    if (status != KITH_OK) return status;
    memcpy(install->key, record.key, record.key_bytes);
    install->key_bytes = record.key_bytes;
    install->family = record.family;
    install->crc = kith_crc32c(install->crc, install->collected.data, install->collected.bytes);
    install->records_left -= install->collected.bytes;
    record_next(install);
    return KITH_OK;
}

static kith_status crc_take(kith_shard_install *install, kith_err *err) {
    if (kith_load_u32(install->collected.data) != install->crc)
        return misfit(install, "the store part has a bad checksum", err);
    collect_next(install, INSTALL_WHOLE, 0);
    return KITH_OK;
}

/* --- pieces --- */

static kith_status collected_take(kith_shard_install *install, kith_err *err) {
    switch (install->step) {
    case INSTALL_START:
        return start_take(install, err);
    case INSTALL_HEAD:
        return head_take(install, err);
    case INSTALL_RECORD_HEAD:
        return record_head_take(install, err);
    case INSTALL_RECORD:
        return record_take(install, err);
    case INSTALL_CRC:
        return crc_take(install, err);
    case INSTALL_FILES:
    case INSTALL_WHOLE:
        break;
    }
    return KITH_OK;
}

static kith_status collect(
    kith_shard_install *install, const uint8_t *data, size_t bytes, size_t *taken_out, kith_err *err) {
    size_t missing = install->wanted - install->collected.bytes;
    size_t taken = bytes < missing ? bytes : missing;
    kith_buf_append(&install->collected, data, taken);
    *taken_out = taken;
    return taken == missing ? collected_take(install, err) : KITH_OK;
}

kith_status kith_shard_install_write(
    kith_shard_install *install, const void *data, size_t bytes, kith_err *err) {
    const uint8_t *at = data;
    while (bytes > 0) {
        size_t taken = 0;
        if (install->step == INSTALL_WHOLE) return misfit(install, "it goes on behind its end", err);
        kith_status status = install->step == INSTALL_FILES ? file_write(install, at, bytes, &taken, err)
                                                            : collect(install, at, bytes, &taken, err);
        if (status != KITH_OK) return status;
        install->offset += taken;
        at += taken;
        bytes -= taken;
    }
    return KITH_OK;
}

uint64_t kith_shard_install_offset(const kith_shard_install *install) {
    return install->offset;
}

/* --- life --- */

kith_status kith_shard_install_begin(kith_shard_node *node, uint64_t shard_id, const kith_schema *schema,
    kith_shard_install **install_out, kith_err *err) {
    kith_store_load *load;
    kith_status status = shard_erase_marked(node, shard_id, err);
    if (status == KITH_OK) status = kith_store_load_begin(node->store, &load, err);
    if (status != KITH_OK) return status;
    kith_shard_install *install = kith_alloc_zero(sizeof *install);
    install->node = node;
    install->shard_id = shard_id;
    install->schema = *schema;
    install->load = load;
    kith_buf_init(&install->collected);
    kith_buf_init(&install->gathered);
    kith_arena_init(&install->arena);
    collect_next(install, INSTALL_START, SHARD_SNAPSHOT_START_BYTES);
    *install_out = install;
    return KITH_OK;
}

static kith_status whole_check(const kith_shard_install *install, kith_err *err) {
    if (install->step != INSTALL_WHOLE) return misfit(install, "it ends too early", err);
    if (!install->entry_seen && install->head.sequence > 0)
        return misfit(install, "the store part does not say its entry", err);
    if (install->point_count == install->live_count) return KITH_OK;
    return misfit(install, "rows that live in no point", err);
}

static void manifest_put(kith_shard_install *install, kith_store_batch *batch) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_buf value;
    const shard_snapshot_head *head = &install->head;
    shard_manifest manifest = {.sealed_sequence = head->sequence,
        .next_segment_id = install->next_segment_id,
        .segment_count = head->file_count,
        .segment_ids = kith_arena_array(&install->arena, head->file_count, sizeof(uint64_t))};
    for (uint32_t i = 0; i < head->file_count; i++)
        manifest.segment_ids[i] = head->files[i].segment_id;
    kith_buf_init(&value);
    shard_manifest_encode(&manifest, install->shard_id, &value);
    size_t key_bytes = shard_key_manifest(install->shard_id, key);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, value.data, value.bytes);
    kith_buf_fini(&value);
}

/* Up to the copy's entry the log has those of what was here before, if any. */
static void floor_put(const kith_shard_install *install, kith_store_batch *batch) {
    uint8_t key[SHARD_KEY_BYTES_MAX], value[8];
    size_t key_bytes = shard_key_floor(install->shard_id, key);
    kith_store_u64(value, install->head.sequence);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, value, sizeof value);
}

static void mark_remove(const kith_shard_install *install, kith_store_batch *batch) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_install(install->shard_id, key);
    kith_store_batch_remove(batch, KITH_STORE_META, key, key_bytes);
}

/* After the files and the other keys, which are durable. */
static kith_status end_write(kith_shard_install *install, kith_err *err) {
    kith_store *store = install->node->store;
    kith_store_batch *batch = kith_store_batch_create(store);
    manifest_put(install, batch);
    floor_put(install, batch);
    mark_remove(install, batch);
    kith_status status = kith_store_write(store, batch, err);
    kith_store_batch_destroy(batch);
    return status == KITH_OK ? kith_store_flush(store, err) : status;
}

kith_status kith_shard_install_finish(
    kith_shard_install *install, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err) {
    kith_status status = whole_check(install, err);
    if (status == KITH_OK) status = kith_dir_sync(install->node->env, install->node->segment_dir, err);
    if (status == KITH_OK) status = kith_store_load_finish(install->load, err);
    if (status == KITH_OK) status = end_write(install, err);
    if (status != KITH_OK) return status;
    install->finished = true;
    *epoch_out = install->head.epoch;
    *sequence_out = install->head.sequence;
    return KITH_OK;
}

void kith_shard_install_destroy(kith_shard_install *install) {
    if (!install) return;
    kith_err err;
    kith_file_close(install->file);
    for (uint32_t i = 0; i < install->file_index; i++) {
        kith_segment_release(install->segments[i].segment);
        kith_free(install->segments[i].dead);
    }
    kith_store_load_destroy(install->load);
    if (!install->finished && shard_erase_marked(install->node, install->shard_id, &err) != KITH_OK)
        kith_log_warn(
            "shard_install_left", kith_kv_u64("shard", install->shard_id), kith_kv_text("error", err.text));
    kith_buf_fini(&install->collected);
    kith_buf_fini(&install->gathered);
    kith_arena_fini(&install->arena);
    kith_free(install);
}
