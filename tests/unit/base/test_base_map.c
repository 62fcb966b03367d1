#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/hash.h"
#include "host/base/limits.h"
#include "host/base/map.h"

#define NUMBERS 4096u

/* Key `number` as text of 0 to 60 bytes: short ones live in the slot, long ones outside. */
static size_t key_of(uint32_t number, char *key) {
    if (number == 0) return 0;
    static const char padding[] = "................................................";
    return (size_t)sprintf(key, "%u%.*s", number, (int)(number % 3 ? number % 12 : number % 47), padding);
}

/* Against an array that is the truth. */
static void test_base__map_agrees_with_an_array_under_random_changes(void **state) {
    (void)state;
    uint64_t *truth = kith_alloc_zero(NUMBERS * sizeof *truth); /* 0: not there */
    size_t count = 0;
    kith_map *map = kith_map_create(0);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(3));
    for (uint64_t i = 1; i <= test_scaled(200000); i++) {
        uint32_t number = (uint32_t)kith_rng_below(&rng, i % 50000 < 25000 ? NUMBERS : NUMBERS / 16);
        char key[80];
        size_t bytes = key_of(number, key);
        uint64_t value = 0;
        assert_int_equal(kith_map_get(map, key, bytes, &value), truth[number] != 0);
        assert_true(value == truth[number]);
        if (kith_rng_below(&rng, 2)) {
            kith_map_put(map, key, bytes, i);
            count += truth[number] == 0;
            truth[number] = i;
        } else {
            assert_int_equal(kith_map_remove(map, key, bytes), truth[number] != 0);
            count -= truth[number] != 0;
            truth[number] = 0;
        }
        assert_int_equal(kith_map_count(map), count);
    }
    for (uint32_t number = 0; number < NUMBERS; number++) {
        char key[80];
        uint64_t value = 0;
        kith_map_get(map, key, key_of(number, key), &value);
        assert_true(value == truth[number]);
    }
    kith_map_destroy(map);
    kith_free(truth);
}

static void test_base__map_walk_meets_every_entry_once(void **state) {
    (void)state;
    kith_map *map = kith_map_create(10);
    for (uint64_t i = 0; i < 1000; i++)
        kith_map_put(map, &i, sizeof i, i * i);
    uint8_t seen[1000] = {0};
    size_t cursor = 0;
    const void *key;
    size_t key_bytes;
    uint64_t value;
    while (kith_map_next(map, &cursor, &key, &key_bytes, &value)) {
        uint64_t number;
        assert_int_equal(key_bytes, sizeof number);
        memcpy(&number, key, sizeof number);
        assert_true(value == number * number);
        seen[number]++;
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 1);
    kith_map_destroy(map);
}

static void test_base__map_memory_does_not_grow_with_overwrites_and_removals(void **state) {
    (void)state;
    kith_map *map = kith_map_create(100);
    char key[100];
    memset(key, 'k', sizeof key);
    for (uint32_t i = 0; i < 64; i++) {
        key[0] = (char)i;
        kith_map_put(map, key, sizeof key, i);
    }
    size_t full_bytes = kith_map_memory_bytes(map);
    for (uint32_t i = 0; i < 100000; i++) {
        key[0] = (char)(i % 64);
        if (i % 3 == 0) kith_map_remove(map, key, sizeof key);
        kith_map_put(map, key, sizeof key, i);
    }
    assert_int_equal(kith_map_memory_bytes(map), full_bytes);
    kith_map_clear(map);
    assert_int_equal(kith_map_count(map), 0);
    assert_true(kith_map_memory_bytes(map) < full_bytes);
    uint64_t value;
    assert_false(kith_map_get(map, key, sizeof key, &value));
    kith_map_destroy(map);
}

static void test_base__map_hint_is_room_enough(void **state) {
    (void)state;
    kith_map *map = kith_map_create(50000);
    size_t bytes = kith_map_memory_bytes(map);
    for (uint64_t i = 0; i < 50000; i++)
        kith_map_put(map, &i, sizeof i, i);
    assert_int_equal(kith_map_memory_bytes(map), bytes);
    kith_map_destroy(map);
}

/* As the tables of a shard, whose ids are all of its slots. */
static void test_base__map_spreads_keys_of_one_slot(void **state) {
    (void)state;
    kith_map *map = kith_map_create(0);
    for (uint64_t key = 0; kith_map_count(map) < 1000; key++) {
        if (kith_hash64(&key, sizeof key) % KITH_SLOTS == 77) kith_map_put(map, &key, sizeof key, 1);
    }
    assert_true(kith_map_probe_max(map) < 64); /* 1000 where all keys have one home */
    kith_map_destroy(map);
}

/* XXH3 multiplies 8 bytes of the key, xor 8 of its secret, by the next 8, xor others: where a key has the secret's own
 * bytes the product is zero whatever follows. With the seed 0 that everybody knows, such keys are one home. */
static void test_base__map_spreads_keys_made_to_collide(void **state) {
    (void)state;
    uint8_t key[32] = {0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe};
    uint64_t seed = test_seed(3), hash = kith_hash64(key, sizeof key);
    kith_hash_table_seed_set(seed ? seed : 1);
    kith_map *map = kith_map_create(0);
    for (uint64_t i = 0; i < 10000; i++) {
        memcpy(key + 8, &i, sizeof i);
        assert_true(kith_hash64(key, sizeof key) == hash);
        kith_map_put(map, key, sizeof key, i);
    }
    assert_true(kith_map_probe_max(map) < 128); /* 10,000 with seed 0 */
    kith_map_destroy(map);
    kith_hash_table_seed_set(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__map_agrees_with_an_array_under_random_changes),
        cmocka_unit_test(test_base__map_walk_meets_every_entry_once),
        cmocka_unit_test(test_base__map_memory_does_not_grow_with_overwrites_and_removals),
        cmocka_unit_test(test_base__map_hint_is_room_enough),
        cmocka_unit_test(test_base__map_spreads_keys_of_one_slot),
        cmocka_unit_test(test_base__map_spreads_keys_made_to_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
