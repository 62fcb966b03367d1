/* One contract for both stores: random work against a table of what must be there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/store/store.h"
#include "tests/lib/test_lib.h"

#define KEYS        200
#define MEMORY      (8u << 20)
#define VALUE_BYTES 300

typedef struct fixture {
    char *dir;
    kith_store_sim_disk *disk; /* NULL: RocksDB */
    kith_store *store;
    uint32_t values[KITH_STORE_FAMILIES][KEYS]; /* 0: not there, else the seed of its value */
} fixture;

static void store_open(fixture *f) {
    kith_err err;
    kith_status status = f->disk ? kith_store_sim_open(f->disk, &f->store, &err)
                                 : kith_store_rocksdb_open(f->dir, MEMORY, &f->store, &err);
    assert_ok(status, &err);
}

static fixture *fixture_create(bool sim) {
    fixture *f = kith_alloc_zero(sizeof *f);
    f->dir = test_dir_make();
    if (sim) f->disk = kith_store_sim_disk_create(1, 0.1, NULL, NULL);
    store_open(f);
    return f;
}

static void fixture_destroy(fixture *f) {
    kith_store_close(f->store);
    kith_store_sim_disk_destroy(f->disk);
    test_dir_remove(f->dir);
    kith_free(f);
}

/* Keys of different lengths, in the order of their numbers. */
static size_t key_make(uint32_t number, uint8_t key_out[16]) {
    kith_store_u64_be(key_out, number / 2);
    memset(key_out + 8, 0xff, 8);
    return 8 + number % 2 * 5;
}

static size_t value_make(uint32_t seed, uint8_t value_out[VALUE_BYTES]) {
    for (uint32_t i = 0; i < VALUE_BYTES; i++)
        value_out[i] = (uint8_t)(seed * 31 + i);
    return seed % VALUE_BYTES;
}

static void get_check(fixture *f, kith_store_family family, uint32_t number) {
    uint8_t key[16];
    uint8_t value[VALUE_BYTES];
    kith_buf got;
    kith_buf_init(&got);
    kith_err err;
    kith_status status = kith_store_get(f->store, family, key, key_make(number, key), &got, &err);
    uint32_t seed = f->values[family][number];
    assert_int_equal(status, seed ? KITH_OK : KITH_NOT_FOUND);
    if (seed) {
        assert_int_equal(got.bytes, value_make(seed, value));
        assert_memory_equal(got.data, value, got.bytes);
    }
    kith_buf_fini(&got);
}

static void iterate_check(fixture *f, kith_store_family family, uint32_t from, uint32_t to) {
    uint8_t from_key[16];
    uint8_t to_key[16];
    kith_err err;
    kith_store_iterator *iterator;
    assert_ok(kith_store_iterator_open(f->store, family, from_key, key_make(from, from_key), to_key,
                  key_make(to, to_key), &iterator, &err),
        &err);
    const void *key;
    const void *value;
    size_t key_bytes;
    size_t value_bytes;
    for (uint32_t number = from; number < to; number++) {
        uint32_t seed = f->values[family][number];
        if (!seed) continue;
        uint8_t expected_key[16];
        uint8_t expected[VALUE_BYTES];
        assert_true(kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes));
        assert_int_equal(key_bytes, key_make(number, expected_key));
        assert_memory_equal(key, expected_key, key_bytes);
        assert_int_equal(value_bytes, value_make(seed, expected));
        assert_memory_equal(value, expected, value_bytes);
    }
    assert_false(kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes));
    assert_ok(kith_store_iterator_status(iterator, &err), &err);
    kith_store_iterator_close(iterator);
}

static void operation_add(fixture *f, kith_store_batch *batch, kith_rng *rng) {
    kith_store_family family = (kith_store_family)kith_rng_below(rng, KITH_STORE_FAMILIES);
    uint32_t number = (uint32_t)kith_rng_below(rng, KEYS);
    uint8_t key[16];
    size_t key_bytes = key_make(number, key);
    uint64_t kind = kith_rng_below(rng, 10);
    if (kind == 0) {
        uint32_t end = number + (uint32_t)kith_rng_below(rng, KEYS - number);
        uint8_t end_key[16];
        kith_store_batch_remove_range(batch, family, key, key_bytes, end_key, key_make(end, end_key));
        for (uint32_t i = number; i < end; i++)
            f->values[family][i] = 0;
    } else if (kind < 3) {
        kith_store_batch_remove(batch, family, key, key_bytes);
        f->values[family][number] = 0;
    } else {
        uint32_t seed = 1 + (uint32_t)kith_rng_below(rng, 1000000);
        uint8_t value[VALUE_BYTES];
        kith_store_batch_put(batch, family, key, key_bytes, value, value_make(seed, value));
        f->values[family][number] = seed;
    }
}

static void random_work(bool sim) {
    fixture *f = fixture_create(sim);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    kith_err err;
    for (uint64_t round = 0; round < test_scaled(300); round++) {
        kith_store_batch *batch = kith_store_batch_create(f->store);
        uint64_t count = kith_rng_below(&rng, 20);
        for (uint64_t i = 0; i < count; i++)
            operation_add(f, batch, &rng);
        assert_ok(kith_store_write(f->store, batch, &err), &err);
        kith_store_batch_clear(batch);
        assert_ok(kith_store_write(f->store, batch, &err), &err); /* of nothing */
        kith_store_batch_destroy(batch);
        for (uint32_t i = 0; i < 20; i++) {
            get_check(f, (kith_store_family)(i % 2), (uint32_t)kith_rng_below(&rng, KEYS));
        }
        uint32_t from = (uint32_t)kith_rng_below(&rng, KEYS);
        iterate_check(
            f, (kith_store_family)(round % 2), from, from + (uint32_t)kith_rng_below(&rng, KEYS - from));
        if (round % 30 != 0) continue;
        assert_ok(kith_store_flush(f->store, &err), &err);
        kith_store_close(f->store);
        store_open(f);
        for (uint32_t i = 0; i < KEYS; i++)
            get_check(f, (kith_store_family)(i % 2), i);
    }
    assert_true(kith_store_memory_bytes(f->store) > 0);
    fixture_destroy(f);
}

static void test_store__rocksdb_does_what_the_contract_says(void **state) {
    (void)state;
    random_work(false);
}

static void test_store__sim_does_what_the_contract_says(void **state) {
    (void)state;
    random_work(true);
}

static kith_status put_one(kith_store *store, kith_store_family family, uint32_t number, kith_err *err) {
    uint8_t key[16];
    kith_store_batch *batch = kith_store_batch_create(store);
    kith_store_batch_put(batch, family, key, key_make(number, key), "value", 5);
    kith_status status = kith_store_write(store, batch, err);
    kith_store_batch_destroy(batch);
    return status;
}

static void iterator_sees_one_moment(bool sim) {
    fixture *f = fixture_create(sim);
    kith_err err;
    for (uint32_t i = 0; i < 10; i += 2)
        assert_ok(put_one(f->store, KITH_STORE_META, i, &err), &err);
    kith_store_iterator *iterator;
    assert_ok(kith_store_iterator_open(f->store, KITH_STORE_META, "", 0, "\xff", 1, &iterator, &err), &err);
    for (uint32_t i = 1; i < 10; i += 2)
        assert_ok(put_one(f->store, KITH_STORE_META, i, &err), &err);
    const void *key;
    const void *value;
    size_t key_bytes;
    size_t value_bytes;
    uint32_t count = 0;
    while (kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes))
        count++;
    assert_int_equal(count, 5);
    kith_store_iterator_close(iterator);
    fixture_destroy(f);
}

static void test_store__iterator_sees_one_moment(void **state) {
    (void)state;
    iterator_sees_one_moment(false);
    iterator_sees_one_moment(true);
}

static uint32_t snapshot_count(kith_store_snapshot *snapshot) {
    kith_store_iterator *iterator;
    const void *key, *value;
    size_t key_bytes, value_bytes;
    kith_err err;
    uint32_t count = 0;
    assert_ok(kith_store_snapshot_iterator_open(snapshot, KITH_STORE_META, "", 0, "\xff", 1, &iterator, &err),
        &err);
    while (kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes))
        count++;
    kith_store_iterator_close(iterator);
    return count;
}

static void snapshot_sees_one_moment(bool sim) {
    fixture *f = fixture_create(sim);
    kith_err err;
    kith_buf value;
    uint8_t key[16];
    kith_buf_init(&value);
    for (uint32_t i = 0; i < 10; i += 2)
        assert_ok(put_one(f->store, KITH_STORE_META, i, &err), &err);
    kith_store_snapshot *snapshot = kith_store_snapshot_create(f->store);
    for (uint32_t i = 1; i < 10; i += 2)
        assert_ok(put_one(f->store, KITH_STORE_META, i, &err), &err);
    kith_store_batch *batch = kith_store_batch_create(f->store);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_make(0, key), "other", 5);
    kith_store_batch_remove(batch, KITH_STORE_META, key, key_make(2, key));
    assert_ok(kith_store_write(f->store, batch, &err), &err);
    assert_ok(kith_store_flush(f->store, &err), &err);
    kith_store_batch_destroy(batch);
    assert_int_equal(snapshot_count(snapshot), 5);
    for (uint32_t i = 0; i <= 2; i += 2) {
        assert_ok(
            kith_store_snapshot_get(snapshot, KITH_STORE_META, key, key_make(i, key), &value, &err), &err);
        assert_memory_equal(value.data, "value", 5);
    }
    assert_int_equal(kith_store_snapshot_get(snapshot, KITH_STORE_META, key, key_make(1, key), &value, &err),
        KITH_NOT_FOUND);
    kith_store_snapshot_destroy(snapshot);
    assert_int_equal(
        kith_store_get(f->store, KITH_STORE_META, key, key_make(2, key), &value, &err), KITH_NOT_FOUND);
    kith_buf_fini(&value);
    fixture_destroy(f);
}

static void test_store__snapshot_sees_one_moment(void **state) {
    (void)state;
    snapshot_sees_one_moment(false);
    snapshot_sees_one_moment(true);
}

static kith_status refuse_flush(void *ctx, kith_err *err) {
    bool *refuse = ctx;
    return *refuse ? kith_err_set(err, KITH_IO, "crashed") : KITH_OK;
}

static void test_store__sim_keeps_flushed_state_only(void **state) {
    (void)state;
    bool refuse = false;
    kith_err err;
    kith_store_sim_disk *disk = kith_store_sim_disk_create(1, 0, refuse_flush, &refuse);
    kith_store *store;
    assert_ok(kith_store_sim_open(disk, &store, &err), &err);
    kith_store *other;
    assert_int_equal(kith_store_sim_open(disk, &other, &err), KITH_EXISTS);
    assert_ok(put_one(store, KITH_STORE_POINTS, 1, &err), &err);
    assert_ok(kith_store_flush(store, &err), &err);
    assert_ok(put_one(store, KITH_STORE_POINTS, 2, &err), &err);
    refuse = true;
    assert_int_equal(kith_store_flush(store, &err), KITH_IO);
    kith_store_close(store);
    assert_ok(kith_store_sim_open(disk, &store, &err), &err);
    kith_buf value;
    kith_buf_init(&value);
    uint8_t key[16];
    assert_ok(kith_store_get(store, KITH_STORE_POINTS, key, key_make(1, key), &value, &err), &err);
    assert_int_equal(
        kith_store_get(store, KITH_STORE_POINTS, key, key_make(2, key), &value, &err), KITH_NOT_FOUND);
    kith_buf_fini(&value);
    kith_store_close(store);
    kith_store_sim_disk_destroy(disk);
}

/* --- loads --- */

/* Every `step`th number of all, in both families. */
static void load_fill(kith_store_load *load, uint32_t step) {
    kith_err err;
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES * KEYS; i += step) {
        uint8_t key[16], value[VALUE_BYTES];
        size_t key_bytes = key_make(i % KEYS, key);
        assert_ok(kith_store_load_put(load, (kith_store_family)(i / KEYS), key, key_bytes, value,
                      value_make(i + 1, value), &err),
            &err);
    }
}

static void loaded(fixture *f, uint32_t step) {
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES * KEYS; i += step)
        f->values[i / KEYS][i % KEYS] = i + 1;
}

static void all_check(fixture *f) {
    for (uint32_t i = 0; i < KITH_STORE_FAMILIES; i++)
        iterate_check(f, (kith_store_family)i, 0, KEYS);
}

static void some_write(fixture *f, uint64_t seed) {
    kith_err err;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    kith_store_batch *batch = kith_store_batch_create(f->store);
    for (uint32_t i = 0; i < 50; i++)
        operation_add(f, batch, &rng);
    assert_ok(kith_store_write(f->store, batch, &err), &err);
    kith_store_batch_destroy(batch);
}

/* Over what is there, flushed and not, with a reader of the moment before. */
static void load_work(bool sim) {
    fixture *f = fixture_create(sim);
    kith_err err;
    kith_store_load *load;
    for (uint32_t round = 0; round < 6; round++) {
        some_write(f, test_seed(1) + round);
        if (round % 2) assert_ok(kith_store_flush(f->store, &err), &err);
        assert_ok(kith_store_load_begin(f->store, &load, &err), &err);
        load_fill(load, round + 1);
        if (!sim) all_check(f); /* that may also take them as they come */
        kith_store_snapshot *snapshot = round % 3 ? kith_store_snapshot_create(f->store) : NULL;
        if (sim || round != 3) {
            assert_ok(kith_store_load_finish(load, &err), &err);
            loaded(f, round + 1);
        }
        kith_store_load_destroy(load);
        kith_store_snapshot_destroy(snapshot);
        all_check(f);
        some_write(f, test_seed(1) + 100 + round);
        all_check(f);
        assert_ok(kith_store_flush(f->store, &err), &err);
        kith_store_close(f->store);
        store_open(f);
        all_check(f);
    }
    fixture_destroy(f);
}

static void test_store__load_comes_over_what_was_there(void **state) {
    (void)state;
    load_work(false);
    load_work(true);
}

static void test_store__load_of_nothing_is_nothing(void **state) {
    (void)state;
    for (int sim = 0; sim < 2; sim++) {
        fixture *f = fixture_create(sim);
        kith_err err;
        kith_store_load *load;
        assert_ok(kith_store_load_begin(f->store, &load, &err), &err);
        assert_ok(kith_store_load_finish(load, &err), &err);
        kith_store_load_destroy(load);
        kith_store_load_destroy(NULL);
        all_check(f);
        fixture_destroy(f);
    }
}

/* What was written before and not flushed stays as it was: a crash may take it. */
static void test_store__sim_load_is_durable_alone(void **state) {
    (void)state;
    bool refuse = false;
    kith_err err;
    kith_store *store;
    kith_store_load *load;
    uint8_t key[16];
    kith_store_sim_disk *disk = kith_store_sim_disk_create(1, 0, refuse_flush, &refuse);
    assert_ok(kith_store_sim_open(disk, &store, &err), &err);
    assert_ok(put_one(store, KITH_STORE_POINTS, 1, &err), &err);
    for (uint32_t i = 0; i < 2; i++) {
        refuse = i == 1;
        assert_ok(kith_store_load_begin(store, &load, &err), &err);
        size_t key_bytes = key_make(2 + i, key);
        assert_ok(kith_store_load_put(load, KITH_STORE_POINTS, key, key_bytes, "", 0, &err), &err);
        assert_int_equal(kith_store_load_finish(load, &err), refuse ? KITH_IO : KITH_OK);
        kith_store_load_destroy(load);
    }
    kith_store_close(store);
    assert_ok(kith_store_sim_open(disk, &store, &err), &err);
    kith_buf value;
    kith_buf_init(&value);
    for (uint32_t i = 1; i <= 3; i++) {
        kith_status status = kith_store_get(store, KITH_STORE_POINTS, key, key_make(i, key), &value, &err);
        assert_int_equal(status, i == 2 ? KITH_OK : KITH_NOT_FOUND);
    }
    kith_buf_fini(&value);
    kith_store_close(store);
    kith_store_sim_disk_destroy(disk);
}

/* RocksDB's copy of a load that a crash ended is found by the next open. */
static void test_store__files_of_an_unfinished_load_go(void **state) {
    (void)state;
    fixture *f = fixture_create(false);
    kith_err err;
    kith_store_load *load;
    char path[512];
    snprintf(path, sizeof path, "%s/load/0.sst", f->dir);
    assert_ok(kith_store_load_begin(f->store, &load, &err), &err);
    load_fill(load, 1);
    assert_int_equal(access(path, F_OK), 0);
    kith_store_load_destroy(load);
    assert_int_equal(access(path, F_OK), -1);
    FILE *left = fopen(path, "w");
    assert_non_null(left);
    assert_int_equal(fclose(left), 0);
    kith_store_close(f->store);
    store_open(f);
    assert_int_equal(access(path, F_OK), -1);
    all_check(f);
    fixture_destroy(f);
}

/* --- a full disk --- */

/* 64 KiB values that do not compress. */
static kith_status put_large(kith_store *store, uint64_t number, kith_err *err) {
    static uint8_t value[64 << 10];
    kith_rng rng;
    kith_rng_init(&rng, number);
    for (size_t i = 0; i + 8 <= sizeof value; i += 8)
        kith_store_u64(value + i, kith_rng_next(&rng));
    uint8_t key[8];
    kith_store_u64_be(key, number);
    kith_store_batch *batch = kith_store_batch_create(store);
    kith_store_batch_put(batch, KITH_STORE_POINTS, key, sizeof key, value, sizeof value);
    kith_status status = kith_store_write(store, batch, err);
    kith_store_batch_destroy(batch);
    return status;
}

static void large_check(kith_store *store, uint64_t count) {
    kith_err err;
    kith_buf value;
    kith_buf_init(&value);
    for (uint64_t number = 0; number < count; number++) {
        uint8_t key[8];
        kith_store_u64_be(key, number);
        kith_status status = kith_store_get(store, KITH_STORE_POINTS, key, sizeof key, &value, &err);
        if (status != KITH_OK)
            fail_msg("value %llu of %llu: %s", (unsigned long long)number, (unsigned long long)count,
                kith_status_name(status));
        kith_rng rng;
        kith_rng_init(&rng, number);
        assert_int_equal(value.bytes, 64 << 10);
        assert_true(kith_load_u64(value.data) == kith_rng_next(&rng));
    }
    kith_buf_fini(&value);
}

/* Takes the rest of the file system's space but for `left_bytes`. */
static void ballast_make(const char *path, off_t left_bytes) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    static char block[4096];
    while (fwrite(block, sizeof block, 1, file) == 1 && fflush(file) == 0) {
    }
    (void)!fclose(file);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - left_bytes), 0);
}

/* Writes and flushes until both work again; returns the milliseconds that took. */
static uint64_t wait_until_writable(kith_store *store, uint64_t *count) {
    kith_err err;
    for (uint64_t waited_ms = 0; waited_ms < 60000; waited_ms += 50) {
        if (put_large(store, *count, &err) == KITH_OK) {
            *count += 1;
            if (kith_store_flush(store, &err) == KITH_OK) return waited_ms;
        }
        usleep(50000); /* RocksDB looks for space by its own clock */
    }
    fail_msg("writes did not resume in a minute: %s", err.text);
    return 0;
}

/* What the test holds beyond itself, so that a failure in the midst of it leaves nothing behind. */
typedef struct disk_fixture {
    char *dir; /* a tmpfs while mounted */
    bool mounted;
    kith_store *store;
} disk_fixture;

static int disk_set_up(void **state) {
    disk_fixture *disk = kith_alloc_zero(sizeof *disk);
    disk->dir = test_dir_make();
    *state = disk;
    return 0;
}

static int disk_unmount(disk_fixture *disk) {
    kith_store_close(disk->store);
    disk->store = NULL;
    if (!disk->mounted) return 0;
    if (umount(disk->dir) != 0) return -1;
    disk->mounted = false;
    return 0;
}

static int disk_tear_down(void **state) {
    disk_fixture *disk = *state;
    int result = disk_unmount(disk);
    if (result != 0) result = umount2(disk->dir, MNT_DETACH); /* an open that failed may hold files in it */
    test_dir_remove(disk->dir);
    kith_free(disk);
    return result;
}

/* 8 MiB that do not compress, behind all others. */
static kith_status load_large(kith_store *store, kith_err *err) {
    static uint8_t value[64 << 10];
    kith_rng rng;
    kith_store_load *load;
    kith_rng_init(&rng, 1);
    kith_status status = kith_store_load_begin(store, &load, err);
    for (uint32_t i = 0; i < 128 && status == KITH_OK; i++) {
        uint8_t key[8];
        for (size_t at = 0; at + 8 <= sizeof value; at += 8)
            kith_store_u64(value + at, kith_rng_next(&rng));
        kith_store_u64_be(key, UINT64_MAX / 2 + i);
        status = kith_store_load_put(load, KITH_STORE_POINTS, key, sizeof key, value, sizeof value, err);
    }
    if (status == KITH_OK) status = kith_store_load_finish(load, err);
    kith_store_load_destroy(load);
    return status;
}

static void full_disk(disk_fixture *disk, off_t left_bytes) {
    const char *mount_path = disk->dir;
    char store_path[512];
    char ballast_path[512];
    snprintf(store_path, sizeof store_path, "%s/store", mount_path);
    snprintf(ballast_path, sizeof ballast_path, "%s/ballast", mount_path);
    kith_err err;
    assert_ok(kith_store_rocksdb_open(store_path, MEMORY, &disk->store, &err), &err);
    kith_store *store = disk->store;
    uint64_t count = 0;
    for (; count < 20; count++)
        assert_ok(put_large(store, count, &err), &err);
    assert_ok(kith_store_flush(store, &err), &err);
    ballast_make(ballast_path, left_bytes);
    kith_store *other;
    char other_path[512];
    snprintf(other_path, sizeof other_path, "%s/other", mount_path);
    assert_int_equal(kith_store_rocksdb_open(other_path, MEMORY, &other, &err), KITH_NO_SPACE);
    assert_int_equal(load_large(store, &err), KITH_NO_SPACE);
    print_message("load refused: %s\n", err.text);
    kith_status status = KITH_OK;
    uint64_t refused_at = 0;
    for (uint32_t i = 0; status == KITH_OK && i < 1000; i++) {
        status = put_large(store, count, &err);
        if (status == KITH_OK) count++;
        if (status == KITH_OK && i % 10 == 9) status = kith_store_flush(store, &err);
        refused_at = count;
    }
    assert_int_equal(status, KITH_NO_SPACE);
    print_message("refused after %llu values: %s\n", (unsigned long long)refused_at, err.text);
    assert_int_equal(put_large(store, count, &err), KITH_NO_SPACE);
    large_check(store, count);
    assert_int_equal(unlink(ballast_path), 0);
    uint64_t waited_ms = wait_until_writable(store, &count);
    print_message("writes resumed %llu ms after space came back\n", (unsigned long long)waited_ms);
    large_check(store, count);
    assert_ok(load_large(store, &err), &err);
    large_check(store, count);
    kith_store_close(store);
    disk->store = NULL;
    assert_ok(kith_store_rocksdb_open(store_path, MEMORY, &disk->store, &err), &err);
    large_check(disk->store, count);
}

static void test_store__full_disk_is_no_space_and_passes(void **state) {
    disk_fixture *disk = *state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t round = 0; round < test_scaled(1); round++) {
        if (mount("tmpfs", disk->dir, "tmpfs", 0, "size=64m") != 0) {
            print_message("skipped: this process may not mount a tmpfs\n");
            skip();
        }
        disk->mounted = true;
        full_disk(disk, (off_t)kith_rng_below(&rng, 1 << 20));
        assert_int_equal(disk_unmount(disk), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store__rocksdb_does_what_the_contract_says),
        cmocka_unit_test(test_store__sim_does_what_the_contract_says),
        cmocka_unit_test(test_store__iterator_sees_one_moment),
        cmocka_unit_test(test_store__snapshot_sees_one_moment),
        cmocka_unit_test(test_store__sim_keeps_flushed_state_only),
        cmocka_unit_test(test_store__load_comes_over_what_was_there),
        cmocka_unit_test(test_store__load_of_nothing_is_nothing),
        cmocka_unit_test(test_store__sim_load_is_durable_alone),
        cmocka_unit_test(test_store__files_of_an_unfinished_load_go),
        cmocka_unit_test_setup_teardown(
            test_store__full_disk_is_no_space_and_passes, disk_set_up, disk_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
