#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/text.h"
#include "host/env/env_posix_internal.h"

/* Vectors and payloads are their owner's; the group may read them, for backups. */
#define FILE_PERMISSIONS 0640

typedef struct posix_file {
    kith_file base;
    int descriptor;
    char *path; /* for messages */
} posix_file;

static kith_status open_descriptor(const char *path, int flags, int *descriptor_out, kith_err *err) {
    int descriptor;
    do {
        descriptor = open(path, flags | O_CLOEXEC, FILE_PERMISSIONS);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return kith_err_set_errno(err, errno, "open %s", path);
    *descriptor_out = descriptor;
    return KITH_OK;
}

static kith_file *file_of(int descriptor, const char *path) {
    posix_file *file = kith_alloc(sizeof *file);
    *file = (posix_file){.base.ops = &posix_ops, .descriptor = descriptor, .path = kith_strdup(path)};
    return &file->base;
}

static int open_flags(kith_file_mode mode) {
    switch (mode) {
    case KITH_FILE_READ:
        return O_RDONLY;
    case KITH_FILE_WRITE:
        return O_RDWR | O_CREAT;
    case KITH_FILE_CREATE_NEW:
        return O_RDWR | O_CREAT | O_EXCL;
    }
    return O_RDONLY;
}

kith_status posix_file_open(
    kith_env *env, const char *path, kith_file_mode mode, kith_file **file_out, kith_err *err) {
    (void)env;
    int descriptor;
    kith_status status = open_descriptor(path, open_flags(mode), &descriptor, err);
    if (status != KITH_OK) return status;
    *file_out = file_of(descriptor, path);
    return KITH_OK;
}

void posix_file_close(kith_file *base) {
    posix_file *file = (posix_file *)base;
    /* Not repeated on EINTR: Linux has closed the descriptor, whose number may be another thread's by now. */
    close(file->descriptor);
    kith_free(file->path);
    kith_free(file);
}

/* The kernel's offsets are signed. */
static kith_status check_range(const posix_file *file, uint64_t offset, size_t bytes, kith_err *err) {
    if (bytes <= INT64_MAX && offset <= (uint64_t)INT64_MAX - bytes) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "%s: offset %llu is past the largest file", file->path,
        (unsigned long long)offset);
}

kith_status posix_file_read_at(
    kith_file *base, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err) {
    posix_file *file = (posix_file *)base;
    kith_status status = check_range(file, offset, bytes, err);
    if (status != KITH_OK) return status;
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(file->descriptor, (uint8_t *)data + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return kith_err_set_errno(err, errno, "read %s", file->path);
        if (got == 0) break;
        done += (size_t)got;
    }
    *read_out = done;
    return KITH_OK;
}

kith_status posix_file_write_at(
    kith_file *base, uint64_t offset, const void *data, size_t bytes, kith_err *err) {
    posix_file *file = (posix_file *)base;
    kith_status status = check_range(file, offset, bytes, err);
    if (status != KITH_OK) return status;
    size_t done = 0;
    while (done < bytes) {
        ssize_t put =
            pwrite(file->descriptor, (const uint8_t *)data + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return kith_err_set_errno(err, errno, "write %s", file->path);
        /* A regular file that takes nothing and gives no reason: an error, not an endless loop. */
        if (put == 0)
            return kith_err_set(err, KITH_IO, "write %s: 0 of %zu bytes written", file->path, bytes - done);
        done += (size_t)put;
    }
    return KITH_OK;
}

kith_status posix_file_sync(kith_file *base, kith_err *err) {
    posix_file *file = (posix_file *)base;
    /* Never repeated, not even on EINTR: a second fsync may report success for pages that the first one
     * dropped. */
    if (fdatasync(file->descriptor) != 0) return kith_err_set_errno(err, errno, "sync %s", file->path);
    return KITH_OK;
}

/* Without its waiting flags the call looks at no error, so that fdatasync still reports what goes wrong. */
void posix_file_sync_soon(kith_file *base, uint64_t offset, uint64_t bytes) {
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(
        ((posix_file *)base)->descriptor, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
#else
    (void)base;
    (void)offset;
    (void)bytes;
#endif
}

kith_status posix_file_truncate(kith_file *base, uint64_t bytes, kith_err *err) {
    posix_file *file = (posix_file *)base;
    kith_status status = check_range(file, bytes, 0, err);
    if (status != KITH_OK) return status;
    int result;
    do {
        result = ftruncate(file->descriptor, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    if (result != 0) return kith_err_set_errno(err, errno, "truncate %s", file->path);
    return KITH_OK;
}

kith_status posix_file_bytes(kith_file *base, uint64_t *bytes_out, kith_err *err) {
    posix_file *file = (posix_file *)base;
    struct stat info;
    if (fstat(file->descriptor, &info) != 0) return kith_err_set_errno(err, errno, "stat %s", file->path);
    *bytes_out = (uint64_t)info.st_size;
    return KITH_OK;
}

kith_status posix_file_map(kith_file *base, size_t bytes, const void **address_out, kith_err *err) {
    posix_file *file = (posix_file *)base;
    kith_assert(bytes > 0);
    uint64_t file_bytes = 0;
    kith_status status = posix_file_bytes(base, &file_bytes, err);
    if (status != KITH_OK) return status;
    /* Pages past the end would be SIGBUS at the first touch. */
    if (file_bytes < bytes)
        return kith_err_set(err, KITH_CORRUPT, "map %s: file has %llu bytes, %zu expected", file->path,
            (unsigned long long)file_bytes, bytes);
    void *address = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file->descriptor, 0);
    if (address == MAP_FAILED) return kith_err_set_errno(err, errno, "map %s", file->path);
    *address_out = address;
    return KITH_OK;
}

void posix_file_unmap(kith_env *env, const void *address, size_t bytes) {
    (void)env;
    int result = munmap((void *)(uintptr_t)address, bytes);
    kith_assert(result == 0);
}

/* Whole pages only. The pages stay in the system's cache; MADV_DONTNEED takes them off this process's table. */
void posix_file_map_forget(kith_env *env, const void *address, size_t bytes) {
    (void)env;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)address + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)address + bytes) / page * page;
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* --- the folder's lock --- */

/* The pid that the holder wrote into its LOCK file. */
static kith_status set_held_error(int descriptor, const char *path, kith_err *err) {
    char pid[24];
    ssize_t got = pread(descriptor, pid, sizeof pid - 1, 0);
    pid[got > 0 ? got : 0] = 0;
    size_t bytes = strcspn(pid, "\n");
    uint64_t number;
    if (!kith_text_parse_u64(pid, bytes, &number))
        return kith_err_set(err, KITH_EXISTS, "folder %s is in use by another process", path);
    return kith_err_set(
        err, KITH_EXISTS, "folder %s is in use by process %llu", path, (unsigned long long)number);
}

static kith_status write_pid(kith_file *lock, kith_err *err) {
    char pid[24];
    int bytes = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    kith_status status = posix_file_truncate(lock, 0, err);
    return status == KITH_OK ? posix_file_write_at(lock, 0, pid, (size_t)bytes, err) : status;
}

static kith_status take_lock(int descriptor, const char *path, kith_err *err) {
    int result;
    do {
        result = flock(descriptor, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return KITH_OK;
    if (errno == EWOULDBLOCK) return set_held_error(descriptor, path, err);
    return kith_err_set_errno(err, errno, "lock %s/LOCK", path);
}

kith_status posix_dir_lock(kith_env *env, const char *path, kith_file **lock_out, kith_err *err) {
    (void)env;
    char *lock_path = kith_alloc(strlen(path) + sizeof "/LOCK");
    sprintf(lock_path, "%s/LOCK", path);
    int descriptor = -1;
    kith_status status = open_descriptor(lock_path, O_RDWR | O_CREAT, &descriptor, err);
    if (status != KITH_OK) goto free_path;
    kith_file *lock = file_of(descriptor, lock_path);
    status = take_lock(descriptor, path, err);
    if (status == KITH_OK) status = write_pid(lock, err);
    if (status == KITH_OK)
        *lock_out = lock;
    else
        posix_file_close(lock);
free_path:
    kith_free(lock_path);
    return status;
}
