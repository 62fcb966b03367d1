/* The store on RocksDB (C API, 7.8): the only file that sees it.
 *
 * One column family, the first byte of a key being the kith_store_family. Two column families would need
 * every flush to take both at one moment; with atomic_flush RocksDB does so for the flushes it begins itself,
 * but the C API's manual flush takes one family alone, and a kith_store_flush of META without POINTS would
 * make an applied sequence durable whose points are not. In one family a flush is a prefix of the writes,
 * whole batches, by itself.
 *
 * The WAL is off: our own log is replayed after a crash. (Debian's library is built with asserts and aborts
 * when a WAL append meets a full disk.) What a full disk does then, as seen with 7.8.3 on a full tmpfs
 * (tests/unit/store, test_store_full): a flush fails with "No space left on device"; from then on writes fail
 * too, with the same text, while reads go on; nothing unflushed is lost, it stays in the memtables; RocksDB's
 * own recovery thread looks for space every 5 s and writes resume by themselves. So the error is mapped
 * here, and a flush after one is checked.
 *
 * RocksDB's own message file (LOG) meets the same assert: a line for it on a full disk ends the process, and
 * lines are written exactly then. The C API cannot set another logger, so the level lets only the headers
 * through, which are written by open; and open refuses a disk that is all but full instead of trying.
 *
 * After it has recovered, an ingestion of files ends the process too (assert "number > 0" of TableFileName: the store still counts as stopped,
 * without an error to show for it). So a load in a process that has seen a background error is written as batches.
 *
 * Threads: any; RocksDB does its own locking. */
#include "host/store/store_internal.h"

#include <dirent.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "host/base/alloc.h"

#define ROCKS_KEY_BYTES_INLINE   512u
#define ROCKS_FLUSH_POLL_NS      1000000    /* 1 ms */
#define ROCKS_FLUSH_POLLS_MAX    10000u     /* 10 s: a full disk is looked at every 5 s */
#define ROCKS_LOG_HEADERS        5          /* InfoLogLevel HEADER_LEVEL */
#define ROCKS_OPEN_BYTES_MIN     (4u << 20) /* a guess, generous: open writes some 100 KiB */
#define ROCKS_BLOOM_BITS         10.0
#define ROCKS_MEMTABLES          4 /* of a quarter of half the memory each: two may be flushed while two fill */
#define ROCKS_MEMTABLE_BYTES_MIN (1u << 20)
#define ROCKS_CACHE_BYTES_MIN    (1u << 20)
#define ROCKS_LOAD_BATCH_BYTES   (1u << 20)
#define ROCKS_LOAD_FILE_BYTES    (64u << 20) /* keys and values of a loaded file: what compaction makes */

typedef struct rocks_store {
    kith_store store;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *read_options;
    rocksdb_flushoptions_t *flush_options;
    rocksdb_env_t *env;
    rocksdb_envoptions_t *env_options;
    rocksdb_ingestexternalfileoptions_t *load_options;
    char *load_dir;
    _Atomic uint64_t load_files; /* so many were begun */
} rocks_store;

/* Sorted files, in a folder of their own inside the store's until they are taken in. What a crash leaves there goes at the next
 * open. */
typedef struct rocks_load {
    kith_store_load load;
    rocks_store *rocks;
    kith_store_batch *batch; /* NULL: files */
    uint64_t batch_bytes;
    rocksdb_sstfilewriter_t *writer; /* NULL: no file is being written */
    kith_store_family family;        /* of the file */
    uint64_t file_bytes;             /* of its keys and values */
    char **paths;
    uint32_t path_count, path_capacity;
} rocks_load;

typedef struct rocks_batch {
    kith_store_batch batch;
    rocksdb_writebatch_t *native;
} rocks_batch;

typedef struct rocks_iterator {
    kith_store_iterator iterator;
    rocksdb_readoptions_t *read_options;
    rocksdb_iterator_t *native;
    kith_buf upper; /* borrowed by read_options */
    bool started;
} rocks_iterator;

typedef struct rocks_snapshot {
    kith_store_snapshot snapshot;
    const rocksdb_snapshot_t *native;
    rocksdb_readoptions_t *read_options;
} rocks_snapshot;

/* A key with its family before it. */
typedef struct rocks_key {
    char inlined[ROCKS_KEY_BYTES_INLINE];
    char *bytes;
    size_t count;
} rocks_key;

static void rocks_key_init(rocks_key *key, kith_store_family family, const void *bytes, size_t count) {
    key->count = count + 1;
    key->bytes = key->count <= sizeof key->inlined ? key->inlined : kith_alloc(key->count);
    key->bytes[0] = (char)family;
    if (count > 0) memcpy(key->bytes + 1, bytes, count);
}

static void rocks_key_fini(rocks_key *key) {
    if (key->bytes != key->inlined) kith_free(key->bytes);
}

/* Takes RocksDB's message `text` (NULL: no error). */
static kith_status rocks_status_take(char *text, const char *what, kith_err *err) {
    if (!text) return KITH_OK;
    kith_status status = KITH_IO;
    if (strstr(text, "No space left") || strstr(text, "NoSpace") || strstr(text, "Disk quota")) {
        status = KITH_NO_SPACE;
    } else if (strncmp(text, "Corruption", strlen("Corruption")) == 0) {
        status = KITH_CORRUPT;
    }
    status = kith_err_set(err, status, "%s: %s", what, text);
    rocksdb_free(text);
    return status;
}

/* --- batches --- */

static kith_store_batch *rocks_batch_create(kith_store *store) {
    rocks_batch *batch = kith_alloc_zero(sizeof *batch);
    batch->batch.ops = store->ops;
    batch->native = rocksdb_writebatch_create();
    return &batch->batch;
}

static void rocks_batch_destroy(kith_store_batch *batch) {
    rocksdb_writebatch_destroy(((rocks_batch *)batch)->native);
    kith_free(batch);
}

static void rocks_batch_clear(kith_store_batch *batch) {
    rocksdb_writebatch_clear(((rocks_batch *)batch)->native);
}

static void rocks_batch_put(kith_store_batch *batch, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes) {
    rocks_key full;
    rocks_key_init(&full, family, key, key_bytes);
    rocksdb_writebatch_put(((rocks_batch *)batch)->native, full.bytes, full.count, value, value_bytes);
    rocks_key_fini(&full);
}

static void rocks_batch_remove(
    kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes) {
    rocks_key full;
    rocks_key_init(&full, family, key, key_bytes);
    rocksdb_writebatch_delete(((rocks_batch *)batch)->native, full.bytes, full.count);
    rocks_key_fini(&full);
}

static void rocks_batch_remove_range(kith_store_batch *batch, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes) {
    rocks_key first;
    rocks_key last;
    rocks_key_init(&first, family, from, from_bytes);
    rocks_key_init(&last, family, to, to_bytes);
    rocksdb_writebatch_delete_range(
        ((rocks_batch *)batch)->native, first.bytes, first.count, last.bytes, last.count);
    rocks_key_fini(&first);
    rocks_key_fini(&last);
}

static kith_status rocks_write(kith_store *store, kith_store_batch *batch, kith_err *err) {
    rocks_store *rocks = (rocks_store *)store;
    char *text = NULL;
    rocksdb_write(rocks->db, rocks->write_options, ((rocks_batch *)batch)->native, &text);
    return rocks_status_take(text, "write to the store", err);
}

/* Whether a memtable that is full or was being flushed is in memory only. */
static bool rocks_unflushed(rocks_store *rocks) {
    uint64_t count = 1;
    (void)rocksdb_property_int(rocks->db, "rocksdb.num-immutable-mem-table", &count);
    return count > 0;
}

static uint64_t rocks_background_errors(rocks_store *rocks) {
    uint64_t count = 0;
    (void)rocksdb_property_int(rocks->db, "rocksdb.background-errors", &count);
    return count;
}

/* Once RocksDB has recovered from a full disk, its flush was seen (in one process of ten, and for good) to
 * return OK before the flush was done. So after any background error its word is not taken: the memtable that
 * was there must be gone, which it is only once the manifest names its file. Polled, as the C API has nothing
 * to wait on. */
static kith_status rocks_flush(kith_store *store, kith_err *err) {
    rocks_store *rocks = (rocks_store *)store;
    char *text = NULL;
    rocksdb_flush(rocks->db, rocks->flush_options, &text);
    kith_status status = rocks_status_take(text, "flush the store", err);
    if (status != KITH_OK || rocks_background_errors(rocks) == 0) return status;
    for (uint32_t i = 0; i < ROCKS_FLUSH_POLLS_MAX; i++) {
        if (!rocks_unflushed(rocks)) return KITH_OK;
        struct timespec poll = {.tv_nsec = ROCKS_FLUSH_POLL_NS};
        (void)nanosleep(&poll, NULL);
    }
    return kith_err_set(
        err, KITH_NO_SPACE, "flush the store: it still recovers from a full disk or another error");
}

/* --- loads --- */

static kith_status rocks_load_begin(kith_store *store, kith_store_load **load_out, kith_err *err) {
    (void)err;
    rocks_load *load = kith_alloc_zero(sizeof *load);
    load->load.ops = store->ops;
    load->rocks = (rocks_store *)store;
    if (rocks_background_errors(load->rocks) > 0) load->batch = rocks_batch_create(store);
    *load_out = &load->load;
    return KITH_OK;
}

static const char *load_path_add(rocks_load *load) {
    rocks_store *rocks = load->rocks;
    uint64_t number = atomic_fetch_add_explicit(&rocks->load_files, 1, memory_order_relaxed);
    if (load->path_count == load->path_capacity) {
        load->path_capacity = load->path_capacity ? 2 * load->path_capacity : 8;
        load->paths = kith_realloc(load->paths, load->path_capacity * sizeof *load->paths);
    }
    size_t bytes = strlen(rocks->load_dir) + sizeof "/18446744073709551615.sst";
    char *path = kith_alloc(bytes);
    snprintf(path, bytes, "%s/%llu.sst", rocks->load_dir, (unsigned long long)number);
    return load->paths[load->path_count++] = path;
}

static kith_status load_file_begin(rocks_load *load, kith_store_family family, kith_err *err) {
    char *text = NULL;
    rocksdb_create_dir_if_missing(load->rocks->env, load->rocks->load_dir, &text);
    kith_status status = rocks_status_take(text, "make a folder for files to be loaded into the store", err);
    if (status != KITH_OK) return status;
    load->writer = rocksdb_sstfilewriter_create(load->rocks->env_options, load->rocks->options);
    load->family = family;
    load->file_bytes = 0;
    rocksdb_sstfilewriter_open(load->writer, load_path_add(load), &text);
    return rocks_status_take(text, "open a file to be loaded into the store", err);
}

/* Synced too. */
static kith_status load_file_end(rocks_load *load, kith_err *err) {
    if (!load->writer) return KITH_OK;
    char *text = NULL;
    rocksdb_sstfilewriter_finish(load->writer, &text);
    rocksdb_sstfilewriter_destroy(load->writer);
    load->writer = NULL;
    return rocks_status_take(text, "write a file to be loaded into the store", err);
}

static kith_status load_batch_write(rocks_load *load, kith_err *err) {
    kith_status status = rocks_write(&load->rocks->store, load->batch, err);
    rocks_batch_clear(load->batch);
    load->batch_bytes = 0;
    return status;
}

static kith_status load_batch_put(rocks_load *load, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes, kith_err *err) {
    rocks_batch_put(load->batch, family, key, key_bytes, value, value_bytes);
    load->batch_bytes += key_bytes + value_bytes;
    return load->batch_bytes < ROCKS_LOAD_BATCH_BYTES ? KITH_OK : load_batch_write(load, err);
}

static kith_status rocks_load_put(kith_store_load *base, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes, kith_err *err) {
    rocks_load *load = (rocks_load *)base;
    if (load->batch) return load_batch_put(load, family, key, key_bytes, value, value_bytes, err);
    rocks_key full;
    char *text = NULL;
    kith_status status = KITH_OK;
    if (family != load->family || load->file_bytes >= ROCKS_LOAD_FILE_BYTES)
        status = load_file_end(load, err);
    if (status == KITH_OK && !load->writer) status = load_file_begin(load, family, err);
    if (status != KITH_OK) return status;
    rocks_key_init(&full, family, key, key_bytes);
    rocksdb_sstfilewriter_put(load->writer, full.bytes, full.count, value, value_bytes, &text);
    rocks_key_fini(&full);
    load->file_bytes += key_bytes + value_bytes;
    return rocks_status_take(text, "write a file to be loaded into the store", err);
}

/* The files are linked into the store's folder and named in its manifest, all at once. */
static kith_status load_files_take(rocks_load *load, kith_err *err) {
    char *text = NULL;
    kith_status status = load_file_end(load, err);
    if (status != KITH_OK || load->path_count == 0) return status;
    if (rocks_background_errors(load->rocks) > 0)
        return kith_err_set(err, KITH_IO, "load files into the store: it had an error meanwhile");
    rocksdb_ingest_external_file(load->rocks->db, (const char *const *)load->paths, load->path_count,
        load->rocks->load_options, &text);
    return rocks_status_take(text, "load files into the store", err);
}

static kith_status rocks_load_finish(kith_store_load *base, kith_err *err) {
    rocks_load *load = (rocks_load *)base;
    if (!load->batch) return load_files_take(load, err);
    kith_status status = load_batch_write(load, err);
    return status == KITH_OK ? rocks_flush(&load->rocks->store, err) : status;
}

static void rocks_load_destroy(kith_store_load *base) {
    rocks_load *load = (rocks_load *)base;
    if (load->writer) rocksdb_sstfilewriter_destroy(load->writer);
    if (load->batch) rocks_batch_destroy(load->batch);
    for (uint32_t i = 0; i < load->path_count; i++) {
        (void)remove(load->paths[i]); /* those that were taken in have gone from here */
        kith_free(load->paths[i]);
    }
    kith_free(load->paths);
    kith_free(load);
}

/* What a load left that a crash ended: none of it is in the store. A file that stays is written over. */
static void load_files_sweep(const rocks_store *rocks) {
    char path[4096];
    DIR *dir = opendir(rocks->load_dir);
    if (!dir) return;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", rocks->load_dir, entry->d_name);
        (void)remove(path);
    }
    closedir(dir);
}

/* --- reading --- */

static kith_store_snapshot *rocks_snapshot_create(kith_store *store) {
    rocks_snapshot *snapshot = kith_alloc_zero(sizeof *snapshot);
    snapshot->native = rocksdb_create_snapshot(((rocks_store *)store)->db);
    snapshot->read_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(snapshot->read_options, snapshot->native);
    return &snapshot->snapshot;
}

static void rocks_snapshot_destroy(kith_store_snapshot *snapshot) {
    rocks_snapshot *rocks = (rocks_snapshot *)snapshot;
    rocksdb_readoptions_destroy(rocks->read_options);
    rocksdb_release_snapshot(((rocks_store *)snapshot->store)->db, rocks->native);
    kith_free(rocks);
}

static kith_status rocks_get(kith_store *store, kith_store_snapshot *snapshot, kith_store_family family,
    const void *key, size_t key_bytes, kith_buf *value_out, kith_err *err) {
    rocks_store *rocks = (rocks_store *)store;
    const rocksdb_readoptions_t *read_options =
        snapshot ? ((rocks_snapshot *)snapshot)->read_options : rocks->read_options;
    rocks_key full;
    rocks_key_init(&full, family, key, key_bytes);
    kith_buf_clear(value_out);
    char *text = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(rocks->db, read_options, full.bytes, full.count, &text);
    rocks_key_fini(&full);
    kith_status status = rocks_status_take(text, "read from the store", err);
    if (status != KITH_OK) return status;
    if (!slice) return KITH_NOT_FOUND;
    size_t value_bytes;
    const char *value = rocksdb_pinnableslice_value(slice, &value_bytes);
    if (value_bytes > 0) kith_buf_append(value_out, value, value_bytes);
    rocksdb_pinnableslice_destroy(slice);
    return KITH_OK;
}

static kith_status rocks_iterator_open(kith_store *store, kith_store_snapshot *snapshot,
    kith_store_family family, const void *from, size_t from_bytes, const void *to, size_t to_bytes,
    kith_store_iterator **iterator_out, kith_err *err) {
    (void)err;
    rocks_store *rocks = (rocks_store *)store;
    rocks_iterator *iterator = kith_alloc_zero(sizeof *iterator);
    iterator->iterator.ops = store->ops;
    kith_buf_init(&iterator->upper);
    kith_buf_u8(&iterator->upper, (uint8_t)family);
    if (to_bytes > 0) kith_buf_append(&iterator->upper, to, to_bytes);
    iterator->read_options = rocksdb_readoptions_create();
    if (snapshot)
        rocksdb_readoptions_set_snapshot(iterator->read_options, ((rocks_snapshot *)snapshot)->native);
    rocksdb_readoptions_set_iterate_upper_bound(
        iterator->read_options, (const char *)iterator->upper.data, iterator->upper.bytes);
    iterator->native = rocksdb_create_iterator(rocks->db, iterator->read_options);
    rocks_key first;
    rocks_key_init(&first, family, from, from_bytes);
    rocksdb_iter_seek(iterator->native, first.bytes, first.count);
    rocks_key_fini(&first);
    *iterator_out = &iterator->iterator;
    return KITH_OK;
}

static bool rocks_iterator_next(kith_store_iterator *iterator, const void **key_out, size_t *key_bytes_out,
    const void **value_out, size_t *value_bytes_out) {
    rocks_iterator *rocks = (rocks_iterator *)iterator;
    if (rocks->started && rocksdb_iter_valid(rocks->native)) rocksdb_iter_next(rocks->native);
    rocks->started = true;
    if (!rocksdb_iter_valid(rocks->native)) return false;
    *key_out = rocksdb_iter_key(rocks->native, key_bytes_out) + 1;
    *key_bytes_out -= 1;
    *value_out = rocksdb_iter_value(rocks->native, value_bytes_out);
    return true;
}

static kith_status rocks_iterator_status(kith_store_iterator *iterator, kith_err *err) {
    char *text = NULL;
    rocksdb_iter_get_error(((rocks_iterator *)iterator)->native, &text);
    return rocks_status_take(text, "walk the store", err);
}

static void rocks_iterator_close(kith_store_iterator *iterator) {
    rocks_iterator *rocks = (rocks_iterator *)iterator;
    rocksdb_iter_destroy(rocks->native);
    rocksdb_readoptions_destroy(rocks->read_options);
    kith_buf_fini(&rocks->upper);
    kith_free(rocks);
}

static uint64_t rocks_memory_bytes(kith_store *store) {
    rocks_store *rocks = (rocks_store *)store;
    uint64_t memtable_bytes = 0;
    uint64_t reader_bytes = 0;
    (void)rocksdb_property_int(rocks->db, "rocksdb.cur-size-all-mem-tables", &memtable_bytes);
    (void)rocksdb_property_int(rocks->db, "rocksdb.estimate-table-readers-mem", &reader_bytes);
    return memtable_bytes + reader_bytes + rocksdb_cache_get_usage(rocks->cache);
}

/* --- open and close --- */

static void rocks_close(kith_store *store) {
    rocks_store *rocks = (rocks_store *)store;
    if (rocks->db) rocksdb_close(rocks->db);
    rocksdb_ingestexternalfileoptions_destroy(rocks->load_options);
    rocksdb_envoptions_destroy(rocks->env_options);
    rocksdb_env_destroy(rocks->env);
    rocksdb_flushoptions_destroy(rocks->flush_options);
    rocksdb_readoptions_destroy(rocks->read_options);
    rocksdb_writeoptions_destroy(rocks->write_options);
    rocksdb_options_destroy(rocks->options);
    rocksdb_cache_destroy(rocks->cache);
    kith_free(rocks->load_dir);
    kith_free(rocks);
}

static const kith_store_ops rocks_ops = {
    .close = rocks_close,
    .batch_create = rocks_batch_create,
    .batch_destroy = rocks_batch_destroy,
    .batch_clear = rocks_batch_clear,
    .batch_put = rocks_batch_put,
    .batch_remove = rocks_batch_remove,
    .batch_remove_range = rocks_batch_remove_range,
    .write = rocks_write,
    .flush = rocks_flush,
    .load_begin = rocks_load_begin,
    .load_put = rocks_load_put,
    .load_finish = rocks_load_finish,
    .load_destroy = rocks_load_destroy,
    .snapshot_create = rocks_snapshot_create,
    .snapshot_destroy = rocks_snapshot_destroy,
    .get = rocks_get,
    .iterator_open = rocks_iterator_open,
    .iterator_next = rocks_iterator_next,
    .iterator_status = rocks_iterator_status,
    .iterator_close = rocks_iterator_close,
    .memory_bytes = rocks_memory_bytes,
};

static uint64_t at_least(uint64_t value, uint64_t least) {
    return value > least ? value : least;
}

/* Half of the memory for memtables, half for blocks, their indexes and filters. */
static void memory_set(rocks_store *rocks, uint64_t memory_bytes) {
    rocksdb_options_t *options = rocks->options;
    uint64_t memtable_bytes = at_least(memory_bytes / 2 / ROCKS_MEMTABLES, ROCKS_MEMTABLE_BYTES_MIN);
    rocksdb_options_set_write_buffer_size(options, memtable_bytes);
    rocksdb_options_set_max_write_buffer_number(options, ROCKS_MEMTABLES);
    rocks->cache = rocksdb_cache_create_lru(at_least(memory_bytes / 2, ROCKS_CACHE_BYTES_MIN));
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, rocks->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(ROCKS_BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static rocks_store *rocks_create(const char *path, uint64_t memory_bytes) {
    rocks_store *rocks = kith_alloc_zero(sizeof *rocks);
    size_t dir_bytes = strlen(path) + sizeof "/load";
    rocks->load_dir = kith_alloc(dir_bytes);
    snprintf(rocks->load_dir, dir_bytes, "%s/load", path);
    rocks->store.ops = &rocks_ops;
    rocks->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(rocks->options, 1);
    rocksdb_options_set_max_background_jobs(rocks->options, 2);
    rocksdb_options_set_max_open_files(rocks->options, 256);
    rocksdb_options_set_info_log_level(rocks->options, ROCKS_LOG_HEADERS);
    rocksdb_options_set_keep_log_file_num(rocks->options, 2);
    rocksdb_options_set_stats_dump_period_sec(rocks->options, 0);
    rocksdb_options_set_compression(rocks->options, rocksdb_lz4_compression); /* in Debian's build */
    memory_set(rocks, memory_bytes);
    rocks->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(rocks->write_options, 1);
    rocks->read_options = rocksdb_readoptions_create();
    rocks->flush_options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(rocks->flush_options, 1);
    rocks->env = rocksdb_create_default_env();
    rocks->env_options = rocksdb_envoptions_create();
    rocks->load_options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(rocks->load_options, 1);
    return rocks;
}

/* NO_SPACE unless the disk of `path` (which may not be there yet) has room to open. */
static kith_status space_check(const char *path, kith_err *err) {
    struct statvfs space;
    char *parent = kith_strdup(path);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) *slash = '\0';
    bool known = statvfs(path, &space) == 0 || (slash && statvfs(parent, &space) == 0);
    kith_free(parent);
    if (!known) return KITH_OK; /* RocksDB will say what is wrong with it */
    uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (free_bytes >= ROCKS_OPEN_BYTES_MIN) return KITH_OK;
    return kith_err_set(err, KITH_NO_SPACE,
        "open the store in %s: %llu bytes are free, at least %u are needed", path,
        (unsigned long long)free_bytes, ROCKS_OPEN_BYTES_MIN);
}

kith_status kith_store_rocksdb_open(
    const char *path, uint64_t memory_bytes, kith_store **store_out, kith_err *err) {
    char *text = NULL;
    kith_status status = space_check(path, err);
    if (status != KITH_OK) return status;
    rocks_store *rocks = rocks_create(path, memory_bytes);
    rocks->db = rocksdb_open(rocks->options, path, &text);
    if (text) {
        rocks_close(&rocks->store);
        status = rocks_status_take(text, "open", err);
        return kith_err_wrap(err, status, "the store in %s", path);
    }
    load_files_sweep(rocks);
    *store_out = &rocks->store;
    return KITH_OK;
}
