#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/buf.h"

typedef struct fixture {
    kith_env *env;
    char *dir;
    char path[256];
    kith_err err;
} fixture;

static int set_up(void **state) {
    fixture *fix = kith_alloc_zero(sizeof *fix);
    if (kith_env_posix_create(&fix->env, &fix->err) != KITH_OK) return -1;
    fix->dir = test_dir_make();
    snprintf(fix->path, sizeof fix->path, "%s/file", fix->dir);
    *state = fix;
    return 0;
}

static int tear_down(void **state) {
    fixture *fix = *state;
    test_dir_remove(fix->dir);
    kith_env_posix_destroy(fix->env);
    kith_free(fix);
    return 0;
}

static kith_file *open_file(fixture *fix, kith_file_mode mode) {
    kith_file *file = NULL;
    assert_ok(kith_file_open(fix->env, fix->path, mode, &file, &fix->err), &fix->err);
    return file;
}

static void test_env__file_gives_back_what_was_written(void **state) {
    fixture *fix = *state;
    kith_file *file = open_file(fix, KITH_FILE_CREATE_NEW);
    assert_ok(kith_file_write_at(file, 3, "hello", 5, &fix->err), &fix->err);
    assert_ok(kith_file_sync(file, &fix->err), &fix->err);
    char data[16];
    size_t read;
    assert_ok(kith_file_read_at(file, 0, data, sizeof data, &read, &fix->err), &fix->err);
    assert_int_equal(read, 8);
    assert_memory_equal(data, "\0\0\0hello", 8);
    assert_ok(kith_file_read_at(file, 8, data, sizeof data, &read, &fix->err), &fix->err);
    assert_int_equal(read, 0);
    uint64_t bytes;
    assert_ok(kith_file_truncate(file, 4, &fix->err), &fix->err);
    assert_ok(kith_file_bytes(file, &bytes, &fix->err), &fix->err);
    assert_int_equal(bytes, 4);
    kith_file_close(file);
}

static void test_env__file_modes_say_what_must_be_there(void **state) {
    fixture *fix = *state;
    kith_file *file = NULL;
    assert_int_equal(kith_file_open(fix->env, fix->path, KITH_FILE_READ, &file, &fix->err), KITH_NOT_FOUND);
    assert_null(file);
    assert_non_null(strstr(fix->err.text, fix->path));
    kith_file_close(open_file(fix, KITH_FILE_WRITE));
    kith_file_close(open_file(fix, KITH_FILE_WRITE));
    assert_int_equal(
        kith_file_open(fix->env, fix->path, KITH_FILE_CREATE_NEW, &file, &fix->err), KITH_EXISTS);
    file = open_file(fix, KITH_FILE_READ);
    assert_int_equal(kith_file_write_at(file, 0, "x", 1, &fix->err), KITH_IO);
    kith_file_close(file);
    kith_file_close(NULL);
}

static void test_env__file_offset_past_the_kernels_range_is_refused(void **state) {
    fixture *fix = *state;
    kith_file *file = open_file(fix, KITH_FILE_WRITE);
    char byte;
    size_t read;
    assert_int_equal(kith_file_write_at(file, UINT64_MAX, "x", 1, &fix->err), KITH_INVALID);
    assert_int_equal(kith_file_read_at(file, INT64_MAX, &byte, 1, &read, &fix->err), KITH_INVALID);
    assert_int_equal(kith_file_truncate(file, UINT64_MAX, &fix->err), KITH_INVALID);
    kith_file_close(file);
}

static void test_env__file_map_outlives_close_and_removal(void **state) {
    fixture *fix = *state;
    kith_file *file = open_file(fix, KITH_FILE_CREATE_NEW);
    assert_ok(kith_file_write_at(file, 0, "mapped", 6, &fix->err), &fix->err);
    const void *address = NULL;
    assert_int_equal(kith_file_map(file, 7, &address, &fix->err), KITH_CORRUPT);
    assert_non_null(strstr(fix->err.text, "file has 6 bytes, 7 expected"));
    assert_ok(kith_file_map(file, 6, &address, &fix->err), &fix->err);
    kith_file_close(file);
    assert_ok(kith_path_remove(fix->env, fix->path, &fix->err), &fix->err);
    assert_memory_equal(address, "mapped", 6);
    kith_file_unmap(fix->env, address, 6);
    assert_int_equal(kith_path_remove(fix->env, fix->path, &fix->err), KITH_NOT_FOUND);
}

/* Pages of files that are mapped into this process now. */
static long mapped_pages(void) {
    long all, resident, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld %ld", &all, &resident, &shared), 3);
    fclose(file);
    return shared;
}

static uint64_t bytes_sum(const uint8_t *bytes, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += bytes[i];
    return sum;
}

static void test_env__file_map_forgets_whole_pages_and_no_data(void **state) {
    fixture *fix = *state;
    enum { BYTES = 8 << 20 };
    uint8_t *bytes = kith_alloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 4096);
    kith_file *file = open_file(fix, KITH_FILE_CREATE_NEW);
    assert_ok(kith_file_write_at(file, 0, bytes, BYTES, &fix->err), &fix->err);
    const void *address = NULL;
    assert_ok(kith_file_map(file, BYTES, &address, &fix->err), &fix->err);
    kith_file_close(file);
    uint64_t sum = bytes_sum(address, BYTES);
    long before = mapped_pages();
    kith_file_map_forget(fix->env, (const char *)address + 100, 200); /* less than a page: nothing */
    kith_file_map_forget(fix->env, (const char *)address + 100, BYTES - 200);
    long gone = before - mapped_pages();
    long page = sysconf(_SC_PAGESIZE);
    assert_true(gone > BYTES / page * 9 / 10 && gone <= BYTES / page);
    assert_int_equal(bytes_sum(address, BYTES), sum);
    assert_memory_equal(address, bytes, BYTES);
    kith_file_unmap(fix->env, address, BYTES);
    kith_free(bytes);
}

static void test_env__rename_replaces(void **state) {
    fixture *fix = *state;
    char other[300];
    snprintf(other, sizeof other, "%s/other", fix->dir);
    kith_file *file = open_file(fix, KITH_FILE_CREATE_NEW);
    assert_ok(kith_file_write_at(file, 0, "new", 3, &fix->err), &fix->err);
    kith_file_close(file);
    assert_ok(kith_file_open(fix->env, other, KITH_FILE_CREATE_NEW, &file, &fix->err), &fix->err);
    kith_file_close(file);
    assert_ok(kith_path_rename(fix->env, fix->path, other, &fix->err), &fix->err);
    assert_ok(kith_dir_sync(fix->env, fix->dir, &fix->err), &fix->err);
    assert_ok(kith_file_open(fix->env, other, KITH_FILE_READ, &file, &fix->err), &fix->err);
    uint64_t bytes;
    assert_ok(kith_file_bytes(file, &bytes, &fix->err), &fix->err);
    assert_int_equal(bytes, 3);
    kith_file_close(file);
    assert_int_equal(kith_path_rename(fix->env, fix->path, other, &fix->err), KITH_NOT_FOUND);
}

static void note_entry(void *ctx, const kith_dir_entry *entry) {
    kith_buf_append_format(ctx, "%s%s:%llu ", entry->name, entry->is_dir ? "/" : "",
        entry->is_dir ? 0ULL : (unsigned long long)entry->bytes);
}

static void test_env__dir_list_is_in_name_order(void **state) {
    fixture *fix = *state;
    static const char *const names[] = {"b", "a/b/c", "a10", "a9"};
    for (size_t i = 0; i < 4; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", fix->dir, names[i]);
        assert_ok(kith_dir_make(fix->env, path, &fix->err), &fix->err);
        assert_ok(kith_dir_make(fix->env, path, &fix->err), &fix->err);
    }
    kith_file *file = open_file(fix, KITH_FILE_CREATE_NEW);
    assert_ok(kith_file_write_at(file, 0, "12345", 5, &fix->err), &fix->err);
    kith_file_close(file);
    kith_buf found;
    kith_buf_init(&found);
    assert_ok(kith_dir_list(fix->env, fix->dir, note_entry, &found, &fix->err), &fix->err);
    kith_buf_u8(&found, 0);
    assert_string_equal((char *)found.data, "a/:0 a10/:0 a9/:0 b/:0 file:5 ");
    kith_buf_fini(&found);
    assert_int_equal(kith_dir_make(fix->env, fix->path, &fix->err), KITH_EXISTS);
    assert_int_equal(kith_dir_list(fix->env, "/nowhere", note_entry, NULL, &fix->err), KITH_NOT_FOUND);
    assert_int_equal(kith_dir_sync(fix->env, "/nowhere", &fix->err), KITH_NOT_FOUND);
}

/* The linker puts __wrap_fsync in place of fsync, and that behind __real_. */
int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor);
static struct stat fsync_last; /* what the last one was of */
static uint32_t fsync_count;

int __wrap_fsync(int descriptor) {
    fsync_count++;
    assert_int_equal(fstat(descriptor, &fsync_last), 0);
    return __real_fsync(descriptor);
}

/* Whoever made it may have been killed before the sync. */
static void test_env__dir_make_syncs_the_parent_of_what_is_there(void **state) {
    fixture *fix = *state;
    char path[300];
    snprintf(path, sizeof path, "%s/there", fix->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    fsync_count = 0;
    assert_ok(kith_dir_make(fix->env, path, &fix->err), &fix->err);
    assert_int_equal(fsync_count, 1);
    struct stat parent;
    assert_int_equal(stat(fix->dir, &parent), 0);
    assert_true(fsync_last.st_ino == parent.st_ino && fsync_last.st_dev == parent.st_dev);
}

static void count_entry(void *ctx, const kith_dir_entry *entry) {
    (void)entry;
    *(uint32_t *)ctx += 1;
}

/* Lists a folder whose names may be read but not looked up, as a user for whom that counts. */
static kith_status list_as_nobody(fixture *fix, uint32_t *count) {
    if (geteuid() == 0 && (chown(fix->dir, 65534, 65534) != 0 || setuid(65534) != 0)) return KITH_OK;
    if (chmod(fix->dir, 0400) != 0) return KITH_OK;
    kith_status status = kith_dir_list(fix->env, fix->dir, count_entry, count, &fix->err);
    return chmod(fix->dir, 0700) == 0 ? status : KITH_OK;
}

static void test_env__dir_list_names_an_entry_it_cannot_look_at(void **state) {
    fixture *fix = *state;
    kith_file_close(open_file(fix, KITH_FILE_CREATE_NEW));
    pid_t child = fork();
    if (child == 0) {
        uint32_t count = 0;
        bool right = list_as_nobody(fix, &count) == KITH_IO && count == 0 && strstr(fix->err.text, fix->path);
        _exit(right ? 0 : 1);
    }
    int result;
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
}

static void test_env__dir_make_takes_trailing_slashes(void **state) {
    fixture *fix = *state;
    char path[300];
    snprintf(path, sizeof path, "%s//x///y//", fix->dir);
    assert_ok(kith_dir_make(fix->env, path, &fix->err), &fix->err);
    assert_ok(kith_dir_make(fix->env, "/", &fix->err), &fix->err);
    assert_ok(kith_dir_make(fix->env, ".", &fix->err), &fix->err);
}

static void test_env__dir_lock_names_the_holder(void **state) {
    fixture *fix = *state;
    kith_file *lock = NULL;
    kith_file *second = NULL;
    assert_ok(kith_dir_lock(fix->env, fix->dir, &lock, &fix->err), &fix->err);
    assert_int_equal(kith_dir_lock(fix->env, fix->dir, &second, &fix->err), KITH_EXISTS);
    char wanted[300];
    snprintf(wanted, sizeof wanted, "folder %s is in use by process %ld", fix->dir, (long)getpid());
    assert_string_equal(fix->err.text, wanted);
    kith_file_close(lock);
    assert_ok(kith_dir_lock(fix->env, fix->dir, &lock, &fix->err), &fix->err);
    kith_file_close(lock);
    assert_int_equal(kith_dir_lock(fix->env, "/nowhere", &lock, &fix->err), KITH_NOT_FOUND);
}

static void test_env__dir_lock_of_a_dead_process_is_free(void **state) {
    fixture *fix = *state;
    pid_t child = fork();
    if (child == 0) {
        kith_file *lock = NULL;
        kith_err err;
        _exit(kith_dir_lock(fix->env, fix->dir, &lock, &err) == KITH_OK ? 0 : 1);
    }
    int result;
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
    kith_file *lock = NULL;
    assert_ok(kith_dir_lock(fix->env, fix->dir, &lock, &fix->err), &fix->err);
    kith_file_close(lock);
}

static void test_env__free_bytes_knows_the_disk(void **state) {
    fixture *fix = *state;
    uint64_t bytes = 0;
    assert_ok(kith_env_free_bytes(fix->env, fix->dir, &bytes, &fix->err), &fix->err);
    assert_true(bytes > 0);
    assert_int_equal(kith_env_free_bytes(fix->env, "/nowhere", &bytes, &fix->err), KITH_NOT_FOUND);
}

static void test_env__random_bytes_differ(void **state) {
    fixture *fix = *state;
    uint8_t a[32] = {0};
    uint8_t b[32] = {0};
    kith_env_random(fix->env, a, sizeof a);
    kith_env_random(fix->env, b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void test_env__allows_itself_more_open_files(void **state) {
    fixture *fix = *state;
    kith_env *another;
    struct rlimit before, after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {.rlim_cur = 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_ok(kith_env_posix_create(&another, &fix->err), &fix->err);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_true(after.rlim_cur >= (before.rlim_max < 65536 ? before.rlim_max : 65536));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    kith_env_posix_destroy(another);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_env__file_gives_back_what_was_written),
        CASE(test_env__file_modes_say_what_must_be_there),
        CASE(test_env__file_offset_past_the_kernels_range_is_refused),
        CASE(test_env__file_map_outlives_close_and_removal),
        CASE(test_env__file_map_forgets_whole_pages_and_no_data),
        CASE(test_env__rename_replaces),
        CASE(test_env__dir_list_is_in_name_order),
        CASE(test_env__dir_list_names_an_entry_it_cannot_look_at),
        CASE(test_env__dir_make_syncs_the_parent_of_what_is_there),
        CASE(test_env__dir_make_takes_trailing_slashes),
        CASE(test_env__dir_lock_names_the_holder),
        CASE(test_env__dir_lock_of_a_dead_process_is_free),
        CASE(test_env__free_bytes_knows_the_disk),
        CASE(test_env__random_bytes_differ),
        CASE(test_env__allows_itself_more_open_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
