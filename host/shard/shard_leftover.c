#include "host/shard/shard_leftover.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/shard/shard_internal.h"

typedef struct leftovers {
    bool (*known)(void *ctx, uint64_t shard_id);
    void *ctx;
    uint64_t *shard_ids;
    uint32_t count, capacity;
} leftovers;

static void leftover_add(leftovers *found, uint64_t shard_id) {
    if (found->known(found->ctx, shard_id)) return;
    for (uint32_t i = 0; i < found->count; i++) {
        if (found->shard_ids[i] == shard_id) return;
    }
    if (found->count == found->capacity) {
        found->capacity = found->capacity ? found->capacity * 2 : 16;
        found->shard_ids = kith_realloc(found->shard_ids, found->capacity * sizeof *found->shard_ids);
    }
    found->shard_ids[found->count++] = shard_id;
}

/* Files of other names are not ours to judge. */
static void leftover_file(void *ctx, const kith_dir_entry *entry) {
    uint64_t shard_id, segment_id;
    if (entry->is_dir || !shard_segment_name_parse(entry->name, &shard_id, &segment_id)) return;
    leftover_add(ctx, shard_id);
}

/* Keys begin with the shard id, big-endian: leap from the first key of one shard to the first of the next. */
static kith_status leftover_keys(
    kith_store *store, kith_store_family family, leftovers *found, kith_err *err) {
    uint8_t end[9];
    memset(end, 0xff, sizeof end);
    for (uint64_t shard_id = 0;;) {
        uint8_t from[8];
        kith_store_iterator *iterator;
        const void *key, *value;
        size_t key_bytes, value_bytes;
        kith_store_u64_be(from, shard_id);
        kith_status status =
            kith_store_iterator_open(store, family, from, sizeof from, end, sizeof end, &iterator, err);
        if (status != KITH_OK) return status;
        bool more =
            kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes) && key_bytes >= 8;
        if (more) shard_id = kith_load_u64_be(key);
        status = kith_store_iterator_status(iterator, err);
        kith_store_iterator_close(iterator);
        if (status != KITH_OK || !more) return status;
        leftover_add(found, shard_id);
        if (shard_id++ == UINT64_MAX) return KITH_OK;
    }
}

static int id_compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

kith_status kith_shard_leftovers(kith_shard_node *node, bool (*known)(void *ctx, uint64_t shard_id),
    void *ctx, uint64_t **shard_ids_out, uint32_t *count_out, kith_err *err) {
    leftovers found = {.known = known, .ctx = ctx};
    kith_status status = leftover_keys(node->store, KITH_STORE_POINTS, &found, err);
    if (status == KITH_OK) status = leftover_keys(node->store, KITH_STORE_META, &found, err);
    if (status == KITH_OK) status = kith_dir_list(node->env, node->segment_dir, leftover_file, &found, err);
    if (status != KITH_OK) {
        kith_free(found.shard_ids);
        return status;
    }
    if (found.count) qsort(found.shard_ids, found.count, sizeof *found.shard_ids, id_compare);
    *shard_ids_out = found.shard_ids;
    *count_out = found.count;
    return KITH_OK;
}

void kith_shard_streams_drop(kith_shard_node *node, kith_map *streams, bool forget,
    bool (*known)(void *ctx, uint64_t shard_id), void *ctx) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t unused, count = 0;
    uint64_t *strangers = kith_alloc_array(kith_map_count(streams) + 1, sizeof *strangers);
    while (kith_map_next(streams, &cursor, &key, &key_bytes, &unused)) {
        memcpy(&strangers[count], key, sizeof *strangers);
        count += !known(ctx, strangers[count]);
    }
    for (uint64_t i = 0; i < count; i++) {
        kith_store_log_drop(node->log, strangers[i]);
        if (forget) kith_map_remove(streams, &strangers[i], sizeof *strangers);
    }
    kith_free(strangers);
}
