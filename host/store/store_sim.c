/* The simulator's store: sorted arrays of shared, immutable entries. A batch is applied to the current maps;
 * a flush makes the disk's maps share the current ones' entries; opening starts from the disk's maps. An
 * iterator shares the entries of its range, so that it sees one moment.
 *
 * A sorted array costs a memmove an insert: fine for the tens of thousands of keys of a simulated node, and
 * far simpler to believe than a balanced tree.
 *
 * Threads: one lock around each call: the real store may be called from any thread, and code under test does
 * so when it runs on this store outside the simulator too. */
#include "host/store/store_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/rng.h"
#include "host/base/thread.h"

typedef struct sim_entry {
    uint32_t references; /* under the lock of the disk */
    uint32_t key_bytes;
    size_t value_bytes;
    uint8_t bytes[]; /* key, value */
} sim_entry;

typedef struct sim_map {
    sim_entry **entries; /* by key */
    size_t count;
    size_t capacity;
} sim_map;

struct kith_store_sim_disk {
    kith_mutex mutex;
    sim_map flushed[KITH_STORE_FAMILIES];
    kith_rng rng;
    double flush_chance;
    kith_status (*before_flush)(void *ctx, kith_err *err);
    void *before_flush_ctx;
    bool open;
};

typedef struct sim_store {
    kith_store store;
    kith_store_sim_disk *disk;
    sim_map current[KITH_STORE_FAMILIES];
} sim_store;

/* Operations one after another: u8 kind, u8 family, u16 0, u32 a bytes, u64 b bytes, a, b. */
typedef struct sim_batch {
    kith_store_batch batch;
    kith_buf operations;
} sim_batch;

/* Keys in the order in which they come, which is theirs. */
typedef struct sim_load {
    kith_store_load load;
    sim_store *sim;
    bool is_written; /* as they come, as RocksDB does after an error */
    sim_map maps[KITH_STORE_FAMILIES];
} sim_load;

typedef struct sim_iterator {
    kith_store_iterator iterator;
    kith_store_sim_disk *disk;
    sim_map range;
    size_t next;
} sim_iterator;

typedef struct sim_snapshot {
    kith_store_snapshot snapshot;
    sim_map maps[KITH_STORE_FAMILIES];
} sim_snapshot;

typedef enum sim_kind { SIM_PUT = 1, SIM_REMOVE = 2, SIM_REMOVE_RANGE = 3 } sim_kind;

static void entry_release(sim_entry *entry) {
    if (--entry->references == 0) kith_free(entry);
}

static int entry_compare(const sim_entry *entry, const void *key, size_t key_bytes) {
    size_t common = entry->key_bytes < key_bytes ? entry->key_bytes : key_bytes;
    int order = common > 0 ? memcmp(entry->bytes, key, common) : 0;
    if (order != 0) return order;
    return (entry->key_bytes > key_bytes) - (entry->key_bytes < key_bytes);
}

/* Index of the first entry whose key is not below `key`. */
static size_t map_lower_bound(const sim_map *map, const void *key, size_t key_bytes) {
    size_t low = 0;
    size_t high = map->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (entry_compare(map->entries[middle], key, key_bytes) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool map_has_at(const sim_map *map, size_t at, const void *key, size_t key_bytes) {
    return at < map->count && entry_compare(map->entries[at], key, key_bytes) == 0;
}

static void map_remove_at(sim_map *map, size_t at, size_t count) {
    for (size_t i = at; i < at + count; i++)
        entry_release(map->entries[i]);
    if (count > 0) {
        memmove(
            map->entries + at, map->entries + at + count, (map->count - at - count) * sizeof *map->entries);
    }
    map->count -= count;
}

static void map_put(sim_map *map, const void *key, size_t key_bytes, const void *value, size_t value_bytes) {
    sim_entry *entry = kith_alloc(sizeof *entry + key_bytes + value_bytes);
    *entry = (sim_entry){.references = 1, .key_bytes = (uint32_t)key_bytes, .value_bytes = value_bytes};
    if (key_bytes > 0) memcpy(entry->bytes, key, key_bytes);
    if (value_bytes > 0) memcpy(entry->bytes + key_bytes, value, value_bytes);
    size_t at = map_lower_bound(map, key, key_bytes);
    if (map_has_at(map, at, key, key_bytes)) {
        entry_release(map->entries[at]);
        map->entries[at] = entry;
        return;
    }
    if (map->count == map->capacity) {
        map->capacity = map->capacity ? 2 * map->capacity : 64;
        map->entries = kith_realloc(map->entries, map->capacity * sizeof *map->entries);
    }
    if (at < map->count) {
        memmove(map->entries + at + 1, map->entries + at, (map->count - at) * sizeof *map->entries);
    }
    map->entries[at] = entry;
    map->count++;
}

static void map_fini(sim_map *map) {
    for (size_t i = 0; i < map->count; i++)
        entry_release(map->entries[i]);
    kith_free(map->entries);
    *map = (sim_map){0};
}

/* Shares entries [begin, end) of `map`. */
static sim_map map_share(const sim_map *map, size_t begin, size_t end) {
    size_t count = end > begin ? end - begin : 0;
    sim_map shared = {.count = count, .capacity = count};
    if (count == 0) return shared;
    shared.entries = kith_alloc_array(count, sizeof *shared.entries);
    memcpy(shared.entries, map->entries + begin, count * sizeof *shared.entries);
    for (size_t i = 0; i < count; i++)
        shared.entries[i]->references++;
    return shared;
}

/* --- disk --- */

kith_store_sim_disk *kith_store_sim_disk_create(
    uint64_t seed, double chance, kith_status (*before_flush)(void *ctx, kith_err *err), void *ctx) {
    kith_store_sim_disk *disk = kith_alloc_zero(sizeof *disk);
    kith_mutex_init(&disk->mutex, KITH_RANK_STORE);
    kith_rng_init(&disk->rng, seed);
    disk->flush_chance = chance;
    disk->before_flush = before_flush;
    disk->before_flush_ctx = ctx;
    return disk;
}

void kith_store_sim_disk_destroy(kith_store_sim_disk *disk) {
    if (!disk) return;
    kith_assert(!disk->open);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        map_fini(&disk->flushed[i]);
    kith_mutex_fini(&disk->mutex);
    kith_free(disk);
}

static void flush_locked(sim_store *sim) {
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++) {
        map_fini(&sim->disk->flushed[i]);
        sim->disk->flushed[i] = map_share(&sim->current[i], 0, sim->current[i].count);
    }
}

static kith_status sim_flush(kith_store *store, kith_err *err) {
    sim_store *sim = (sim_store *)store;
    kith_store_sim_disk *disk = sim->disk;
    if (disk->before_flush) {
        kith_status status = disk->before_flush(disk->before_flush_ctx, err);
        if (status != KITH_OK) return status;
    }
    kith_mutex_lock(&disk->mutex);
    flush_locked(sim);
    kith_mutex_unlock(&disk->mutex);
    return KITH_OK;
}

static void sim_close(kith_store *store) {
    sim_store *sim = (sim_store *)store;
    kith_mutex_lock(&sim->disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        map_fini(&sim->current[i]);
    sim->disk->open = false;
    kith_mutex_unlock(&sim->disk->mutex);
    kith_free(sim);
}

/* --- batches --- */

static void operation_push(kith_store_batch *batch, sim_kind kind, kith_store_family family, const void *a,
    size_t a_bytes, const void *b, size_t b_bytes) {
    kith_buf *buf = &((sim_batch *)batch)->operations;
    kith_buf_u8(buf, (uint8_t)kind);
    kith_buf_u8(buf, (uint8_t)family);
    kith_buf_u16(buf, 0);
    kith_buf_u32(buf, (uint32_t)a_bytes);
    kith_buf_u64(buf, b_bytes);
    if (a_bytes > 0) kith_buf_append(buf, a, a_bytes);
    if (b_bytes > 0) kith_buf_append(buf, b, b_bytes);
}

static void sim_batch_put(kith_store_batch *batch, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes) {
    operation_push(batch, SIM_PUT, family, key, key_bytes, value, value_bytes);
}

static void sim_batch_remove(
    kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes) {
    operation_push(batch, SIM_REMOVE, family, key, key_bytes, NULL, 0);
}

static void sim_batch_remove_range(kith_store_batch *batch, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes) {
    operation_push(batch, SIM_REMOVE_RANGE, family, from, from_bytes, to, to_bytes);
}

static void sim_batch_clear(kith_store_batch *batch) {
    kith_buf_clear(&((sim_batch *)batch)->operations);
}

static void sim_batch_destroy(kith_store_batch *batch) {
    kith_buf_fini(&((sim_batch *)batch)->operations);
    kith_free(batch);
}

static void operation_apply(
    sim_map *map, sim_kind kind, const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    if (kind == SIM_PUT) {
        map_put(map, a, a_bytes, b, b_bytes);
        return;
    }
    size_t begin = map_lower_bound(map, a, a_bytes);
    size_t end = begin + map_has_at(map, begin, a, a_bytes);
    if (kind == SIM_REMOVE_RANGE) end = map_lower_bound(map, b, b_bytes);
    if (end > begin) map_remove_at(map, begin, end - begin);
}

static kith_status sim_write(kith_store *store, kith_store_batch *batch, kith_err *err) {
    sim_store *sim = (sim_store *)store;
    const kith_buf *operations = &((sim_batch *)batch)->operations;
    kith_reader reader = kith_reader_of(operations->data, operations->bytes);
    kith_mutex_lock(&sim->disk->mutex);
    while (kith_reader_left(&reader) > 0) {
        sim_kind kind = (sim_kind)kith_reader_u8(&reader);
        uint8_t family = kith_reader_u8(&reader);
        (void)kith_reader_u16(&reader);
        size_t a_bytes = kith_reader_u32(&reader);
        size_t b_bytes = kith_reader_u64(&reader);
        const uint8_t *a = kith_reader_bytes(&reader, a_bytes);
        const uint8_t *b = kith_reader_bytes(&reader, b_bytes);
        operation_apply(&sim->current[family], kind, a, a_bytes, b, b_bytes);
    }
    bool flush = kith_rng_unit(&sim->disk->rng) < sim->disk->flush_chance;
    kith_mutex_unlock(&sim->disk->mutex);
    return flush ? sim_flush(store, err) : KITH_OK;
}

/* --- loads --- */

static kith_status sim_load_begin(kith_store *store, kith_store_load **load_out, kith_err *err) {
    (void)err;
    sim_load *load = kith_alloc_zero(sizeof *load);
    load->load.ops = store->ops;
    load->sim = (sim_store *)store;
    kith_mutex_lock(&load->sim->disk->mutex);
    load->is_written = kith_rng_unit(&load->sim->disk->rng) < load->sim->disk->flush_chance;
    kith_mutex_unlock(&load->sim->disk->mutex);
    *load_out = &load->load;
    return KITH_OK;
}

static kith_status sim_load_put(kith_store_load *base, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes, kith_err *err) {
    (void)err;
    sim_load *load = (sim_load *)base;
    sim_map *map = &load->maps[family];
    kith_assert(map->count == 0 || entry_compare(map->entries[map->count - 1], key, key_bytes) < 0);
    map_put(map, key, key_bytes, value, value_bytes);
    if (!load->is_written) return KITH_OK;
    kith_mutex_lock(&load->sim->disk->mutex);
    map_put(&load->sim->current[family], key, key_bytes, value, value_bytes);
    kith_mutex_unlock(&load->sim->disk->mutex);
    return KITH_OK;
}

static void map_put_all(sim_map *map, const sim_map *from) {
    for (size_t i = 0; i < from->count; i++) {
        const sim_entry *entry = from->entries[i];
        map_put(map, entry->bytes, entry->key_bytes, entry->bytes + entry->key_bytes, entry->value_bytes);
    }
}

/* Durable alone: what waits for a flush still does. */
static kith_status sim_load_finish(kith_store_load *base, kith_err *err) {
    sim_load *load = (sim_load *)base;
    kith_store_sim_disk *disk = load->sim->disk;
    if (load->is_written) return sim_flush(&load->sim->store, err);
    if (disk->before_flush) {
        kith_status status = disk->before_flush(disk->before_flush_ctx, err);
        if (status != KITH_OK) return status;
    }
    kith_mutex_lock(&disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++) {
        map_put_all(&load->sim->current[i], &load->maps[i]);
        map_put_all(&disk->flushed[i], &load->maps[i]);
    }
    kith_mutex_unlock(&disk->mutex);
    return KITH_OK;
}

static void sim_load_destroy(kith_store_load *base) {
    sim_load *load = (sim_load *)base;
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        map_fini(&load->maps[i]);
    kith_free(load);
}

/* --- reading --- */

static kith_store_snapshot *sim_snapshot_create(kith_store *store) {
    sim_store *sim = (sim_store *)store;
    sim_snapshot *snapshot = kith_alloc_zero(sizeof *snapshot);
    kith_mutex_lock(&sim->disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        snapshot->maps[i] = map_share(&sim->current[i], 0, sim->current[i].count);
    kith_mutex_unlock(&sim->disk->mutex);
    return &snapshot->snapshot;
}

static void sim_snapshot_destroy(kith_store_snapshot *snapshot) {
    sim_store *sim = (sim_store *)snapshot->store;
    kith_mutex_lock(&sim->disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        map_fini(&((sim_snapshot *)snapshot)->maps[i]);
    kith_mutex_unlock(&sim->disk->mutex);
    kith_free(snapshot);
}

static const sim_map *map_of(
    const sim_store *sim, const kith_store_snapshot *snapshot, kith_store_family family) {
    return snapshot ? &((const sim_snapshot *)snapshot)->maps[family] : &sim->current[family];
}

static kith_status sim_get(kith_store *store, kith_store_snapshot *snapshot, kith_store_family family,
    const void *key, size_t key_bytes, kith_buf *value_out, kith_err *err) {
    (void)err;
    sim_store *sim = (sim_store *)store;
    kith_buf_clear(value_out);
    kith_mutex_lock(&sim->disk->mutex);
    const sim_map *map = map_of(sim, snapshot, family);
    size_t at = map_lower_bound(map, key, key_bytes);
    bool found = map_has_at(map, at, key, key_bytes);
    if (found && map->entries[at]->value_bytes > 0) {
        kith_buf_append(value_out, map->entries[at]->bytes + key_bytes, map->entries[at]->value_bytes);
    }
    kith_mutex_unlock(&sim->disk->mutex);
    return found ? KITH_OK : KITH_NOT_FOUND;
}

static kith_status sim_iterator_open(kith_store *store, kith_store_snapshot *snapshot,
    kith_store_family family, const void *from, size_t from_bytes, const void *to, size_t to_bytes,
    kith_store_iterator **iterator_out, kith_err *err) {
    (void)err;
    sim_store *sim = (sim_store *)store;
    sim_iterator *iterator = kith_alloc_zero(sizeof *iterator);
    iterator->iterator.ops = store->ops;
    iterator->disk = sim->disk;
    kith_mutex_lock(&sim->disk->mutex);
    const sim_map *map = map_of(sim, snapshot, family);
    iterator->range =
        map_share(map, map_lower_bound(map, from, from_bytes), map_lower_bound(map, to, to_bytes));
    kith_mutex_unlock(&sim->disk->mutex);
    *iterator_out = &iterator->iterator;
    return KITH_OK;
}

static bool sim_iterator_next(kith_store_iterator *iterator, const void **key_out, size_t *key_bytes_out,
    const void **value_out, size_t *value_bytes_out) {
    sim_iterator *sim = (sim_iterator *)iterator;
    if (sim->next == sim->range.count) return false;
    const sim_entry *entry = sim->range.entries[sim->next++];
    *key_out = entry->bytes;
    *key_bytes_out = entry->key_bytes;
    *value_out = entry->bytes + entry->key_bytes;
    *value_bytes_out = entry->value_bytes;
    return true;
}

static kith_status sim_iterator_status(kith_store_iterator *iterator, kith_err *err) {
    (void)iterator;
    (void)err;
    return KITH_OK;
}

static void sim_iterator_close(kith_store_iterator *iterator) {
    sim_iterator *sim = (sim_iterator *)iterator;
    kith_mutex_lock(&sim->disk->mutex);
    map_fini(&sim->range);
    kith_mutex_unlock(&sim->disk->mutex);
    kith_free(sim);
}

static uint64_t sim_memory_bytes(kith_store *store) {
    sim_store *sim = (sim_store *)store;
    uint64_t bytes = 0;
    kith_mutex_lock(&sim->disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++) {
        for (size_t j = 0; j < sim->current[i].count; j++) {
            const sim_entry *entry = sim->current[i].entries[j];
            bytes += sizeof *entry + entry->key_bytes + entry->value_bytes;
        }
    }
    kith_mutex_unlock(&sim->disk->mutex);
    return bytes;
}

static kith_store_batch *sim_batch_create(kith_store *store) {
    sim_batch *batch = kith_alloc_zero(sizeof *batch);
    batch->batch.ops = store->ops;
    kith_buf_init(&batch->operations);
    return &batch->batch;
}

static const kith_store_ops sim_ops = {
    .close = sim_close,
    .batch_create = sim_batch_create,
    .batch_destroy = sim_batch_destroy,
    .batch_clear = sim_batch_clear,
    .batch_put = sim_batch_put,
    .batch_remove = sim_batch_remove,
    .batch_remove_range = sim_batch_remove_range,
    .write = sim_write,
    .flush = sim_flush,
    .load_begin = sim_load_begin,
    .load_put = sim_load_put,
    .load_finish = sim_load_finish,
    .load_destroy = sim_load_destroy,
    .snapshot_create = sim_snapshot_create,
    .snapshot_destroy = sim_snapshot_destroy,
    .get = sim_get,
    .iterator_open = sim_iterator_open,
    .iterator_next = sim_iterator_next,
    .iterator_status = sim_iterator_status,
    .iterator_close = sim_iterator_close,
    .memory_bytes = sim_memory_bytes,
};

kith_status kith_store_sim_open(kith_store_sim_disk *disk, kith_store **store_out, kith_err *err) {
    kith_mutex_lock(&disk->mutex);
    bool open = disk->open;
    disk->open = true;
    kith_mutex_unlock(&disk->mutex);
    if (open) return kith_err_set(err, KITH_EXISTS, "the simulated store is open already");
    sim_store *sim = kith_alloc_zero(sizeof *sim);
    sim->store.ops = &sim_ops;
    sim->disk = disk;
    kith_mutex_lock(&disk->mutex);
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++) {
        sim->current[i] = map_share(&disk->flushed[i], 0, disk->flushed[i].count);
    }
    kith_mutex_unlock(&disk->mutex);
    *store_out = &sim->store;
    return KITH_OK;
}
