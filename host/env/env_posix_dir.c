#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/env/env_posix_internal.h"

#define DIR_PERMISSIONS 0750

kith_status posix_path_rename(kith_env *env, const char *from, const char *to, kith_err *err) {
    (void)env;
    if (rename(from, to) != 0) return kith_err_set_errno(err, errno, "rename %s to %s", from, to);
    return KITH_OK;
}

kith_status posix_path_remove(kith_env *env, const char *path, kith_err *err) {
    (void)env;
    if (remove(path) != 0) return kith_err_set_errno(err, errno, "remove %s", path);
    return KITH_OK;
}

kith_status posix_dir_sync(kith_env *env, const char *path, kith_err *err) {
    (void)env;
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return kith_err_set_errno(err, errno, "open folder %s", path);
    int result = fsync(descriptor);
    int error_number = errno;
    close(descriptor);
    if (result != 0) return kith_err_set_errno(err, error_number, "sync folder %s", path);
    return KITH_OK;
}

/* --- make --- */

/* The folder that `path` is in: "." for a plain name. */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return kith_strdup(".");
    if (slash == path) return kith_strdup("/");
    return kith_strndup(path, (size_t)(slash - path));
}

static kith_status check_is_dir(const char *path, kith_err *err) {
    struct stat info;
    if (stat(path, &info) != 0) return kith_err_set_errno(err, errno, "stat %s", path);
    if (!S_ISDIR(info.st_mode))
        return kith_err_set(err, KITH_EXISTS, "%s is there and is not a folder", path);
    return KITH_OK;
}

/* A folder's name is in its parent: without this a file synced inside could vanish with the folder. */
static kith_status sync_parent(kith_env *env, const char *path, kith_err *err) {
    char *parent = parent_of(path);
    kith_status status = posix_dir_sync(env, parent, err);
    kith_free(parent);
    return status;
}

/* Whether it could be that a process of ours made `path`. */
static bool parent_is_writable(const char *path) {
    char *parent = parent_of(path);
    bool writable = access(parent, W_OK) == 0;
    kith_free(parent);
    return writable;
}

/* `last`: the folder that was asked for. When it is there, a process that was killed may have made it and not
 * come to the sync. */
static kith_status make_one(kith_env *env, const char *path, bool last, kith_err *err) {
    if (mkdir(path, DIR_PERMISSIONS) == 0) return sync_parent(env, path, err);
    if (errno != EEXIST) return kith_err_set_errno(err, errno, "make folder %s", path);
    kith_status status = check_is_dir(path, err);
    if (status == KITH_OK && last && parent_is_writable(path)) status = sync_parent(env, path, err);
    return status;
}

kith_status posix_dir_make(kith_env *env, const char *path, kith_err *err) {
    char *part = kith_strdup(path);
    size_t bytes = strlen(part);
    while (bytes > 1 && part[bytes - 1] == '/')
        part[--bytes] = 0;
    kith_status status = KITH_OK;
    for (char *slash = strchr(part + (bytes > 0), '/'); slash && status == KITH_OK;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        status = make_one(env, part, false, err);
        *slash = '/';
    }
    if (status == KITH_OK) status = make_one(env, part, true, err);
    kith_free(part);
    return status;
}

/* --- list --- */

typedef struct name_list {
    char **names;
    size_t count;
    size_t capacity;
} name_list;

static void names_add(name_list *list, const char *name) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->names = kith_realloc(list->names, list->capacity * sizeof *list->names);
    }
    list->names[list->count++] = kith_strdup(name);
}

static void names_fini(name_list *list) {
    for (size_t i = 0; i < list->count; i++)
        kith_free(list->names[i]);
    kith_free(list->names);
}

static int names_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static kith_status names_read(DIR *dir, const char *path, name_list *list, kith_err *err) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno != 0) return kith_err_set_errno(err, errno, "list folder %s", path);
        if (!entry) return KITH_OK;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            names_add(list, entry->d_name);
    }
}

/* Names first, then the calls: `entry_fn` may remove what it is shown. */
kith_status posix_dir_list(kith_env *env, const char *path,
    void (*entry_fn)(void *ctx, const kith_dir_entry *entry), void *ctx, kith_err *err) {
    (void)env;
    DIR *dir = opendir(path);
    if (!dir) return kith_err_set_errno(err, errno, "list folder %s", path);
    name_list list = {0};
    kith_status status = names_read(dir, path, &list, err);
    if (status != KITH_OK) goto close_dir;
    if (list.count > 0) qsort(list.names, list.count, sizeof *list.names, names_compare);
    for (size_t i = 0; i < list.count; i++) {
        struct stat info;
        if (fstatat(dirfd(dir), list.names[i], &info, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue; /* removed since it was listed */
            status = kith_err_set_errno(err, errno, "stat %s/%s", path, list.names[i]);
            break;
        }
        entry_fn(ctx,
            &(kith_dir_entry){
                .name = list.names[i], .is_dir = S_ISDIR(info.st_mode), .bytes = (uint64_t)info.st_size});
    }
close_dir:
    names_fini(&list);
    closedir(dir);
    return status;
}

kith_status posix_free_bytes(kith_env *env, const char *path, uint64_t *bytes_out, kith_err *err) {
    (void)env;
    struct statvfs info;
    if (statvfs(path, &info) != 0) return kith_err_set_errno(err, errno, "free space of %s", path);
    *bytes_out = (uint64_t)info.f_bavail * info.f_frsize;
    return KITH_OK;
}
