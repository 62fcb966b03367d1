/* The simulated world: what it promises to the tests that stand on it. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

#define SECTOR 512

typedef struct numbered_task {
    kith_task task;
    kith_timer timer;
    uint32_t number;
    uint32_t *order;
    uint32_t *count;
} numbered_task;

static void task_note(kith_task *task) {
    numbered_task *mine = (numbered_task *)task;
    mine->order[(*mine->count)++] = mine->number;
}

static void timer_note(kith_task *task) {
    numbered_task *mine = (numbered_task *)((char *)task - offsetof(numbered_task, timer));
    mine->order[(*mine->count)++] = mine->number;
}

static void executors_run(uint64_t seed, uint32_t threads, uint32_t order_out[20]) {
    sim_env *sim = sim_env_create(seed);
    kith_executor *executors[2];
    kith_err err;
    numbered_task tasks[20];
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        assert_ok(kith_executor_create(sim_env_kith(sim), "e", threads, &executors[i], &err), &err);
    }
    for (uint32_t i = 0; i < 20; i++) {
        tasks[i] = (numbered_task){.task.run = task_note, .number = i, .order = order_out, .count = &count};
        kith_executor_post(executors[i % 2], &tasks[i].task);
    }
    assert_int_equal(kith_executor_queued(executors[0]), 10);
    assert_int_equal(sim_env_run(sim), 20);
    assert_int_equal(count, 20);
    for (int i = 0; i < 2; i++)
        kith_executor_destroy(executors[i]);
    sim_env_destroy(sim);
}

static void test_sim_env__the_seed_decides_the_order(void **state) {
    (void)state;
    uint32_t a[20];
    uint32_t b[20];
    uint32_t different = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        executors_run(seed, 1, a);
        executors_run(seed, 1, b);
        assert_memory_equal(a, b, sizeof a);
        executors_run(seed + 1, 1, b);
        different += memcmp(a, b, sizeof a) != 0;
        /* Of one executor with one thread the tasks stay in order. */
        int last[2] = {-1, -1};
        for (uint32_t i = 0; i < 20; i++) {
            assert_true((int)a[i] > last[a[i] % 2]);
            last[a[i] % 2] = (int)a[i];
        }
    }
    assert_true(different > 15);
    executors_run(1, 4, a);
}

static void test_sim_env__timers_run_on_virtual_time(void **state) {
    (void)state;
    sim_env *sim = sim_env_create(1);
    sim_env *other = sim_env_create_beside(sim, 2);
    kith_executor *executor;
    kith_err err;
    assert_ok(kith_executor_create(sim_env_kith(other), "e", 1, &executor, &err), &err);
    uint64_t start_ns = kith_env_now_ns(sim_env_kith(sim));
    uint32_t order[4];
    uint32_t count = 0;
    numbered_task tasks[4];
    for (uint32_t i = 0; i < 4; i++) {
        tasks[i] = (numbered_task){.number = i, .order = order, .count = &count};
        tasks[i].timer =
            (kith_timer){.task.run = timer_note, .executor = executor, .due_ns = start_ns + 100 * (4 - i)};
        kith_timer_start(&tasks[i].timer);
    }
    assert_true(kith_timer_cancel(&tasks[2].timer));
    assert_false(kith_timer_cancel(&tasks[2].timer));
    assert_true(sim_env_timer_next_ns(sim) == start_ns + 100);
    sim_env_run_for(sim, 99);
    assert_int_equal(count, 0);
    sim_env_pause(other, true);
    sim_env_run_for(sim, 1);
    assert_int_equal(count, 0);
    sim_env_pause(other, false);
    sim_env_run_for(sim, 300);
    assert_int_equal(count, 3);
    assert_int_equal(order[0], 3);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 0);
    assert_true(kith_env_now_ns(sim_env_kith(other)) == start_ns + 400);
    kith_executor_destroy(executor);
    sim_env_destroy(other);
    sim_env_destroy(sim);
}

/* --- the disk --- */

static void write_file(
    sim_env *sim, const char *path, uint64_t offset, uint8_t byte, size_t bytes, bool sync) {
    kith_err err;
    kith_file *file;
    uint8_t *data = kith_alloc(bytes);
    memset(data, byte, bytes);
    assert_ok(kith_file_open(sim_env_kith(sim), path, KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_write_at(file, offset, data, bytes, &err), &err);
    if (sync) assert_ok(kith_file_sync(file, &err), &err);
    kith_file_close(file);
    kith_free(data);
}

static sim_env *disk_make(uint64_t seed) {
    sim_env *sim = sim_env_create(seed);
    kith_err err;
    assert_ok(kith_dir_make(sim_env_kith(sim), "/d/e", &err), &err);
    write_file(sim, "/d/old", 0, 'o', 2 * SECTOR, true);
    assert_ok(kith_dir_sync(sim_env_kith(sim), "/d", &err), &err);
    return sim;
}

static void crash(sim_env *sim, sim_crash_mode mode) {
    sim_env_crash(sim, mode);
    kith_err err;
    kith_file *file;
    assert_int_equal(kith_file_open(sim_env_kith(sim), "/d/old", KITH_FILE_READ, &file, &err), KITH_IO);
    sim_env_restart(sim);
}

static bool exists(sim_env *sim, const char *path) {
    size_t bytes;
    return sim_env_file_get(sim, path, &bytes) != NULL;
}

static void test_sim_env__what_was_synced_stays(void **state) {
    (void)state;
    for (int mode = SIM_CRASH_KEEP_ALL; mode <= SIM_CRASH_TORN_UNORDERED; mode++) {
        for (uint64_t seed = 0; seed < 50; seed++) {
            sim_env *sim = disk_make(seed);
            write_file(sim, "/d/old", SECTOR, 'n', 3 * SECTOR, false);
            crash(sim, (sim_crash_mode)mode);
            size_t bytes;
            const uint8_t *data = sim_env_file_get(sim, "/d/old", &bytes);
            assert_non_null(data);
            assert_true(bytes >= 2 * SECTOR && bytes <= 4 * SECTOR);
            for (size_t i = 0; i < SECTOR; i++)
                assert_int_equal(data[i], 'o');
            if (mode == SIM_CRASH_KEEP_ALL) assert_true(bytes == 4 * SECTOR && data[SECTOR] == 'n');
            if (mode == SIM_CRASH_LOSE_ALL) assert_true(bytes == 2 * SECTOR && data[SECTOR] == 'o');
            /* A sector is of one kind. */
            for (size_t i = SECTOR; i < bytes; i++)
                assert_int_equal(data[i], data[i / SECTOR * SECTOR]);
            sim_env_destroy(sim);
        }
    }
}

static void test_sim_env__torn_writes_are_kept_and_lost_by_sector(void **state) {
    (void)state;
    uint32_t seen[8] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        sim_env *sim = sim_env_create(seed);
        kith_err err;
        assert_ok(kith_dir_make(sim_env_kith(sim), "/d", &err), &err);
        write_file(sim, "/d/f", 0, 'o', 3 * SECTOR, true);
        assert_ok(kith_dir_sync(sim_env_kith(sim), "/d", &err), &err);
        write_file(sim, "/d/f", 0, 'n', 3 * SECTOR, false);
        crash(sim, SIM_CRASH_TORN);
        size_t bytes;
        const uint8_t *data = sim_env_file_get(sim, "/d/f", &bytes);
        assert_int_equal(bytes, 3 * SECTOR);
        seen[(data[0] == 'n') + 2 * (data[SECTOR] == 'n') + 4 * (data[2 * SECTOR] == 'n')]++;
        sim_env_destroy(sim);
    }
    for (uint32_t i = 0; i < 8; i++)
        assert_true(seen[i] > 0);
}

static void test_sim_env__names_need_a_sync_of_their_folder(void **state) {
    (void)state;
    uint32_t renamed = 0;
    uint32_t removed_alone = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        sim_env *sim = disk_make(seed);
        kith_env *env = sim_env_kith(sim);
        kith_err err;
        write_file(sim, "/d/new.tmp", 0, 'n', 10, true);
        assert_ok(kith_path_rename(env, "/d/new.tmp", "/d/new", &err), &err);
        assert_ok(kith_path_remove(env, "/d/old", &err), &err);
        crash(sim, seed % 2 ? SIM_CRASH_TORN : SIM_CRASH_TORN_UNORDERED);
        bool has_new = exists(sim, "/d/new");
        bool has_temporary = exists(sim, "/d/new.tmp");
        bool has_old = exists(sim, "/d/old");
        assert_false(has_new && has_temporary);
        renamed += has_new;
        removed_alone += !has_old && !has_new;
        if (seed % 2) assert_true(has_old || has_new); /* in order: the removal was last */
        sim_env_destroy(sim);
    }
    assert_true(renamed > 0 && renamed < 300);
    assert_true(removed_alone > 0);
}

static void test_sim_env__a_failed_sync_is_not_made_good_by_the_next(void **state) {
    (void)state;
    sim_env *sim = disk_make(1);
    kith_err err;
    kith_file *file;
    assert_ok(kith_file_open(sim_env_kith(sim), "/d/old", KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_write_at(file, 0, "x", 1, &err), &err);
    sim_env_fail_next(sim, SIM_FAIL_SYNC, KITH_IO);
    assert_int_equal(kith_file_sync(file, &err), KITH_IO);
    assert_ok(kith_file_sync(file, &err), &err);
    crash(sim, SIM_CRASH_LOSE_ALL);
    uint8_t byte;
    size_t got;
    assert_int_equal(kith_file_read_at(file, 0, &byte, 1, &got, &err), KITH_IO); /* opened before the crash */
    kith_file_close(file);
    size_t bytes;
    assert_int_equal(sim_env_file_get(sim, "/d/old", &bytes)[0], 'o');
    sim_env_destroy(sim);
}

/* What was synced over a write whose sync had failed cannot go back to it. */
static void test_sim_env__a_synced_write_buries_a_failed_one(void **state) {
    (void)state;
    kith_err err;
    for (uint64_t seed = 0; seed < 50; seed++) {
        sim_env *sim = disk_make(seed);
        kith_file *file;
        assert_ok(kith_file_open(sim_env_kith(sim), "/d/old", KITH_FILE_WRITE, &file, &err), &err);
        assert_ok(kith_file_write_at(file, 0, "x", 1, &err), &err);
        sim_env_fail_next(sim, SIM_FAIL_SYNC, KITH_IO);
        assert_int_equal(kith_file_sync(file, &err), KITH_IO);
        assert_ok(kith_file_write_at(file, 0, "yy", 2, &err), &err);
        assert_ok(kith_file_sync(file, &err), &err);
        crash(sim, SIM_CRASH_TORN);
        kith_file_close(file);
        size_t bytes;
        assert_int_equal(sim_env_file_get(sim, "/d/old", &bytes)[0], 'y');
        sim_env_destroy(sim);
    }
}

static void test_sim_env__every_operation_can_be_the_last(void **state) {
    (void)state;
    kith_err err;
    for (uint64_t op = 0; op < 6; op++) {
        sim_env *sim = disk_make(op);
        kith_env *env = sim_env_kith(sim);
        uint64_t first = sim_env_op_count(sim);
        sim_env_crash_at(sim, first + op, SIM_CRASH_TORN);
        kith_file *file = NULL;
        kith_status status = kith_file_open(env, "/d/t", KITH_FILE_CREATE_NEW, &file, &err); /* 0 */
        if (status == KITH_OK) status = kith_file_write_at(file, 0, "abc", 3, &err);         /* 1 */
        if (status == KITH_OK) status = kith_file_sync(file, &err);                          /* 2 */
        if (status == KITH_OK) status = kith_path_rename(env, "/d/t", "/d/f", &err);         /* 3 */
        if (status == KITH_OK) status = kith_dir_sync(env, "/d", &err);                      /* 4 */
        if (status == KITH_OK) status = kith_file_truncate(file, 1, &err);                   /* 5 */
        assert_int_equal(status, KITH_IO);
        assert_true(sim_env_crashed(sim));
        kith_file_close(file);
        sim_env_restart(sim);
        if (op > 4) {
            size_t bytes;
            const uint8_t *data = sim_env_file_get(sim, "/d/f", &bytes);
            assert_non_null(data);
            assert_memory_equal(data, "abc", bytes);
        }
        sim_env_destroy(sim);
    }
}

static void list_note(void *ctx, const kith_dir_entry *entry) {
    char *text = ctx;
    sprintf(text + strlen(text), "%s%s:%llu ", entry->name, entry->is_dir ? "/" : "",
        (unsigned long long)entry->bytes);
}

#define TIMERS 300

/* Timers of two machines, many due at once; some are cancelled, and one machine stands still until after the last. */
static void timers_run(kith_rng *rng, numbered_task *tasks, uint32_t *order, bool *cancelled) {
    sim_env *machines[2] = {sim_env_create(1)};
    machines[1] = sim_env_create_beside(machines[0], 2);
    kith_executor *executors[2];
    kith_err err;
    uint32_t count = 0, started = 0;
    for (int i = 0; i < 2; i++)
        assert_ok(kith_executor_create(sim_env_kith(machines[i]), "e", 1, &executors[i], &err), &err);
    uint64_t start_ns = kith_env_now_ns(sim_env_kith(machines[0]));
    for (; started < TIMERS; started++) {
        numbered_task *one = &tasks[started];
        *one = (numbered_task){.number = started, .order = order, .count = &count};
        one->timer = (kith_timer){.task.run = timer_note,
            .executor = executors[started % 2],
            .due_ns = start_ns + 1 + kith_rng_below(rng, 50)};
        cancelled[started] = false;
        kith_timer_start(&one->timer);
        uint64_t other = kith_rng_below(rng, TIMERS);
        if (other <= started && !cancelled[other])
            assert_true(cancelled[other] = kith_timer_cancel(&tasks[other].timer));
    }
    sim_env_pause(machines[1], true);
    sim_env_run_for(machines[0], 100);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(order[i] % 2, 0);
    sim_env_pause(machines[1], false);
    sim_env_run_for(machines[0], 100);
    for (uint32_t i = 0; i < TIMERS; i++)
        count += cancelled[i];
    assert_int_equal(count, TIMERS);
    for (int i = 0; i < 2; i++)
        kith_executor_destroy(executors[i]);
    for (int i = 0; i < 2; i++)
        sim_env_destroy(machines[i]);
}

static void test_sim_env__timers_run_by_due_time_then_as_started(void **state) {
    (void)state;
    static numbered_task tasks[TIMERS];
    kith_rng rng;
    kith_rng_init(&rng, test_seed(11));
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t order[TIMERS], ran = 0;
        bool cancelled[TIMERS];
        timers_run(&rng, tasks, order, cancelled);
        for (uint32_t i = 0; i < TIMERS; i++)
            ran += !cancelled[i];
        for (uint32_t i = 1; i < ran; i++) {
            const numbered_task *a = &tasks[order[i - 1]], *b = &tasks[order[i]];
            if (a->number % 2 != b->number % 2) continue; /* the other machine went on only then */
            assert_true(a->timer.due_ns <= b->timer.due_ns);
            if (a->timer.due_ns == b->timer.due_ns) assert_true(a->number < b->number);
        }
    }
}

#define EXECUTORS 150

static void test_sim_env__many_executors_come_and_go(void **state) {
    (void)state;
    sim_env *sim = sim_env_create(test_seed(12)), *other = sim_env_create_beside(sim, 2);
    kith_executor *executors[EXECUTORS];
    numbered_task tasks[EXECUTORS];
    uint32_t order[2 * EXECUTORS], count = 0;
    kith_err err;
    for (uint32_t i = 0; i < EXECUTORS; i++) {
        kith_env *env = sim_env_kith(i % 3 ? sim : other);
        assert_ok(kith_executor_create(env, "e", 1, &executors[i], &err), &err);
        tasks[i] = (numbered_task){.task.run = task_note, .number = i, .order = order, .count = &count};
        kith_executor_post(executors[i], &tasks[i].task);
    }
    sim_env_pause(other, true);
    assert_int_equal(sim_env_run(sim), EXECUTORS / 3 * 2);
    for (uint32_t i = 0; i < count; i++)
        assert_int_not_equal(order[i] % 3, 0);
    for (uint32_t i = 1; i < EXECUTORS; i += 3) /* each with a waiting one of the other machine before it */
        kith_executor_destroy(executors[i]);
    sim_env_pause(other, false);
    assert_int_equal(sim_env_run(sim), EXECUTORS / 3);
    for (uint32_t i = count - EXECUTORS / 3; i < count; i++)
        assert_int_equal(order[i] % 3, 0);
    assert_false(sim_env_step(sim));
    for (uint32_t i = 0; i < EXECUTORS; i++) {
        if (i % 3 != 1) kith_executor_destroy(executors[i]);
    }
    sim_env_destroy(other);
    sim_env_destroy(sim);
}

static void test_sim_env__slow_executors_take_time_and_keep_their_order(void **state) {
    (void)state;
    sim_env *sim = sim_env_create(5);
    kith_env *env = sim_env_kith(sim);
    kith_executor *slow, *other;
    kith_err err;
    numbered_task tasks[6];
    uint32_t order[6], count = 0;
    sim_env_slow(sim, "disk", 1000);
    assert_ok(kith_executor_create(env, "disk", 1, &slow, &err), &err);
    assert_ok(kith_executor_create(env, "other", 1, &other, &err), &err);
    for (uint32_t i = 0; i < 6; i++) {
        tasks[i] = (numbered_task){.task.run = task_note, .number = i, .order = order, .count = &count};
        kith_executor_post(i < 5 ? slow : other, &tasks[i].task);
    }
    (void)sim_env_run(sim); /* no time passes */
    assert_int_equal(count, 1);
    assert_int_equal(order[0], 5);
    uint64_t start_ns = kith_env_now_ns(env);
    sim_env_run_for(sim, 5 * 1000);
    assert_int_equal(count, 6);
    for (uint32_t i = 1; i < 6; i++)
        assert_int_equal(order[i], i - 1);
    assert_int_equal(kith_env_now_ns(env), start_ns + 5 * 1000);
    kith_executor_destroy(slow);
    kith_executor_destroy(other);
    sim_env_destroy(sim);
}

static void test_sim_env__a_wall_clock_jumps_and_the_other_does_not(void **state) {
    (void)state;
    sim_env *sim = sim_env_create(5);
    kith_env *env = sim_env_kith(sim);
    uint64_t now_ns = kith_env_now_ns(env), wall_ms = kith_env_wall_ms(env);
    sim_env_wall_jump(sim, -5000);
    assert_int_equal(kith_env_wall_ms(env), wall_ms - 5000);
    sim_env_wall_jump(sim, 7000);
    assert_int_equal(kith_env_wall_ms(env), wall_ms + 2000);
    assert_int_equal(kith_env_now_ns(env), now_ns);
    sim_env_destroy(sim);
}

static void test_sim_env__files_and_folders_behave(void **state) {
    (void)state;
    sim_env *sim = disk_make(1);
    kith_env *env = sim_env_kith(sim);
    kith_err err;
    char text[200] = "";
    write_file(sim, "/d/a", 0, 'a', 5, false);
    write_file(sim, "/d/e/inner", 0, 'a', 5, false);
    assert_ok(kith_dir_list(env, "/d", list_note, text, &err), &err);
    assert_string_equal(text, "a:5 e/:0 old:1024 ");
    kith_file *file;
    assert_int_equal(kith_file_open(env, "/none/a", KITH_FILE_WRITE, &file, &err), KITH_NOT_FOUND);
    assert_int_equal(kith_file_open(env, "/d/b", KITH_FILE_READ, &file, &err), KITH_NOT_FOUND);
    assert_int_equal(kith_file_open(env, "/d/a", KITH_FILE_CREATE_NEW, &file, &err), KITH_EXISTS);
    assert_int_equal(kith_path_remove(env, "/d/e", &err), KITH_IO);
    assert_ok(kith_path_remove(env, "/d/e/inner", &err), &err);
    assert_ok(kith_dir_sync(env, "/d/e", &err), &err); /* only now its space is free */
    assert_ok(kith_path_remove(env, "/d/e", &err), &err);
    assert_int_equal(kith_path_remove(env, "/d/e", &err), KITH_NOT_FOUND);
    kith_file *lock;
    assert_ok(kith_dir_lock(env, "/d", &lock, &err), &err);
    assert_int_equal(kith_dir_lock(env, "/d", &file, &err), KITH_EXISTS);
    kith_file_close(lock);
    assert_ok(kith_dir_lock(env, "/d", &lock, &err), &err);
    kith_file_close(lock);
    uint64_t free_bytes;
    sim_env_space_set(sim, 1030);
    assert_ok(kith_env_free_bytes(env, "/d", &free_bytes, &err), &err);
    assert_int_equal(free_bytes, 1);
    assert_ok(kith_file_open(env, "/d/a", KITH_FILE_WRITE, &file, &err), &err);
    assert_int_equal(kith_file_write_at(file, 0, "12345678", 8, &err), KITH_NO_SPACE);
    assert_ok(kith_file_write_at(file, 0, "12345", 5, &err), &err);
    const void *map;
    assert_ok(kith_file_map(file, 5, &map, &err), &err);
    kith_file_close(file);
    assert_memory_equal(map, "12345", 5);
    kith_file_unmap(env, map, 5);
    sim_env_destroy(sim);
}

static void test_sim_env__a_flipped_bit_is_on_the_disk(void **state) {
    (void)state;
    sim_env *sim = disk_make(1);
    char path[64];
    uint64_t offset;
    assert_false(sim_env_flip_any(sim, "nothing", path, sizeof path, &offset));
    assert_true(sim_env_flip_any(sim, "old", path, sizeof path, &offset));
    assert_string_equal(path, "/d/old");
    crash(sim, SIM_CRASH_LOSE_ALL);
    size_t bytes;
    assert_int_not_equal(sim_env_file_get(sim, path, &bytes)[offset], 'o');
    sim_env_destroy(sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sim_env__the_seed_decides_the_order),
        cmocka_unit_test(test_sim_env__timers_run_on_virtual_time),
        cmocka_unit_test(test_sim_env__what_was_synced_stays),
        cmocka_unit_test(test_sim_env__torn_writes_are_kept_and_lost_by_sector),
        cmocka_unit_test(test_sim_env__names_need_a_sync_of_their_folder),
        cmocka_unit_test(test_sim_env__a_failed_sync_is_not_made_good_by_the_next),
        cmocka_unit_test(test_sim_env__a_synced_write_buries_a_failed_one),
        cmocka_unit_test(test_sim_env__every_operation_can_be_the_last),
        cmocka_unit_test(test_sim_env__timers_run_by_due_time_then_as_started),
        cmocka_unit_test(test_sim_env__many_executors_come_and_go),
        cmocka_unit_test(test_sim_env__slow_executors_take_time_and_keep_their_order),
        cmocka_unit_test(test_sim_env__a_wall_clock_jumps_and_the_other_does_not),
        cmocka_unit_test(test_sim_env__files_and_folders_behave),
        cmocka_unit_test(test_sim_env__a_flipped_bit_is_on_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
