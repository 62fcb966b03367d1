/* Ids of a growing segment. Publication goes by two kinds of words: the head of a bucket and the newest row of an id are
 * stored with release order when all that hangs on them is written, and nothing of it changes afterwards. */
#include "host/index/segment_ids.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/hash.h"
#include "host/index/index.h"

#define TABLE_ROWS_MIN 64u

struct segment_ids_table {
    segment_ids_table *before; /* the smaller one, for readers that are in it */
    uint32_t row_count;        /* rows it has room for, and buckets; a power of two */
    uint32_t *next;            /* [row_count]: of an oldest row: the next id's in the bucket, + 1 */
    _Atomic uint32_t heads[];  /* [row_count]: the first id's oldest row in the bucket, + 1 */
};

static uint32_t hash_of(const uint8_t *id, size_t id_bytes) {
    return kith_hash_for_table(id, id_bytes);
}

static const uint8_t *row_id(const segment_ids *ids, uint32_t row, size_t *bytes_out) {
    uint32_t begin = row > 0 ? ids->id_ends[row - 1] : 0;
    *bytes_out = ids->id_ends[row] - begin;
    return ids->id_bytes + begin;
}

static bool row_has_id(
    const segment_ids *ids, uint32_t row, uint32_t hash, const uint8_t *id, size_t id_bytes) {
    size_t bytes;
    if (ids->rows[row].hash != hash) return false;
    const uint8_t *own = row_id(ids, row, &bytes);
    return bytes == id_bytes && memcmp(own, id, bytes) == 0;
}

/* --- tables --- */

static segment_ids_table *table_create(uint32_t row_count, segment_ids_table *before) {
    segment_ids_table *table =
        kith_alloc_zero(sizeof *table + row_count * (sizeof table->heads[0] + sizeof table->next[0]));
    table->before = before;
    table->row_count = row_count;
    table->next = (uint32_t *)(void *)&table->heads[row_count];
    return table;
}

static void table_insert(segment_ids_table *table, uint32_t row, uint32_t hash) {
    _Atomic uint32_t *head = &table->heads[hash & (table->row_count - 1)];
    table->next[row] = atomic_load_explicit(head, memory_order_relaxed);
    /* release: pairs with the acquire in oldest_find; the row and its `next` are written. */
    atomic_store_explicit(head, row + 1, memory_order_release);
}

static segment_ids_table *table_grow(segment_ids *ids, segment_ids_table *full) {
    segment_ids_table *table = table_create(2 * full->row_count, full);
    for (uint32_t row = 0; row < full->row_count; row++) {
        if (ids->rows[row].older == 0) table_insert(table, row, ids->rows[row].hash);
    }
    /* release: pairs with the acquire in segment_ids_find. */
    atomic_store_explicit(&ids->table, table, memory_order_release);
    return table;
}

/* The id's oldest row, if that is below `row_end`. */
static uint32_t oldest_find(const segment_ids *ids, const segment_ids_table *table, uint32_t hash,
    const uint8_t *id, size_t id_bytes, uint32_t row_end) {
    uint32_t entry = atomic_load_explicit(&table->heads[hash & (table->row_count - 1)], memory_order_acquire);
    for (; entry; entry = table->next[entry - 1]) {
        uint32_t row = entry - 1;
        if (row < row_end && row_has_id(ids, row, hash, id, id_bytes)) return row;
    }
    return KITH_ROW_NONE;
}

/* --- life --- */

bool segment_ids_init(segment_ids *ids, const uint8_t *id_bytes, const uint32_t *id_ends, uint32_t rows_max) {
    *ids = (segment_ids){.id_bytes = id_bytes, .id_ends = id_ends, .rows_max = rows_max};
    atomic_init(&ids->table, table_create(TABLE_ROWS_MIN, NULL));
    ids->rows = kith_pages_reserve(rows_max * sizeof *ids->rows);
    return ids->rows != NULL;
}

void segment_ids_fini(segment_ids *ids) {
    segment_ids_table *table = atomic_load_explicit(&ids->table, memory_order_relaxed);
    while (table) {
        segment_ids_table *before = table->before;
        kith_free(table);
        table = before;
    }
    if (ids->rows) kith_pages_release(ids->rows, ids->rows_max * sizeof *ids->rows);
}

void segment_ids_add(segment_ids *ids, uint32_t row) {
    kith_assert(row < ids->rows_max);
    size_t bytes;
    const uint8_t *id = row_id(ids, row, &bytes);
    uint32_t hash = hash_of(id, bytes);
    segment_ids_table *table = atomic_load_explicit(&ids->table, memory_order_relaxed);
    if (row == table->row_count) table = table_grow(ids, table);
    uint32_t oldest = oldest_find(ids, table, hash, id, bytes, row);
    segment_ids_row *own = &ids->rows[row];
    own->hash = hash;
    if (oldest == KITH_ROW_NONE) {
        atomic_store_explicit(&own->newest, row + 1, memory_order_relaxed);
        table_insert(table, row, hash);
        return;
    }
    _Atomic uint32_t *newest = &ids->rows[oldest].newest;
    own->older = atomic_load_explicit(newest, memory_order_relaxed);
    /* release: pairs with the acquire in segment_ids_find. */
    atomic_store_explicit(newest, row + 1, memory_order_release);
}

uint32_t segment_ids_find(const segment_ids *ids, const uint8_t *id, size_t id_bytes, uint32_t row_end) {
    const segment_ids_table *table = atomic_load_explicit(&ids->table, memory_order_acquire);
    uint32_t oldest = oldest_find(ids, table, hash_of(id, id_bytes), id, id_bytes, row_end);
    if (oldest == KITH_ROW_NONE) return KITH_ROW_NONE;
    uint32_t entry = atomic_load_explicit(&ids->rows[oldest].newest, memory_order_acquire);
    while (entry - 1 >= row_end)
        entry = ids->rows[entry - 1].older;
    return entry - 1;
}
