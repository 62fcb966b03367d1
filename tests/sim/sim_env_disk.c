/* The disk of a simulated machine: what readers see, what would survive, and the operations between the two.
 * The model is in sim_env.h. */
#include "tests/sim/sim_env_internal.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/buf.h"
#include "host/base/map.h"

#define SIM_SECTOR_BYTES 512u

/* A write or (data NULL) a truncate that no good sync has covered. */
typedef struct sim_change {
    struct sim_change *next;
    uint64_t offset; /* of a truncate: the new length */
    uint64_t bytes;
    uint8_t *data;
    bool doomed; /* its sync failed: no later sync makes it durable */
    bool buried; /* doomed, and under a later write that is synced: it cannot come to the disk any more */
} sim_change;

typedef struct sim_inode {
    uint32_t references; /* names, durable names, handles, name changes */
    kith_buf current;
    kith_buf durable;
    sim_change *changes;
    sim_change **changes_last;
} sim_inode;

typedef enum sim_name_kind { SIM_NAME_PUT, SIM_NAME_REMOVE, SIM_NAME_RENAME } sim_name_kind;

/* A change of a name that no sync of its folder has covered. */
typedef struct sim_name_change {
    struct sim_name_change *next;
    sim_name_kind kind;
    char *path;
    char *from; /* of a rename */
    sim_inode *inode;
} sim_name_change;

struct sim_disk {
    kith_map *names;   /* path -> inode, as readers see it */
    kith_map *durable; /* path -> inode */
    kith_map *dirs;    /* path -> 1 */
    kith_map *locks;   /* folder -> 1 */
    sim_name_change *name_changes;
    sim_name_change **name_changes_last;
    kith_rng rng;
    uint64_t used_bytes;
    uint64_t space_bytes;
    uint64_t op_count;
    uint64_t crash_op; /* UINT64_MAX: none */
    sim_crash_mode crash_mode;
    bool crashed;
    uint32_t generation; /* raised by a restart: older handles are dead */
    kith_status fail_next[SIM_FAIL_KINDS];
    const char *
        lie_part; /* syncs of files, or (lie_of_names) of folders, whose path has it do nothing; NULL: none */
    bool lie_of_names;
};

typedef struct sim_file {
    kith_file file;
    sim_disk *disk;
    sim_inode *inode; /* NULL: a lock */
    char *lock_path;
    uint32_t generation;
    bool writable;
    bool lied_to;
} sim_file;

static sim_disk *disk_of(kith_env *env) {
    return ((sim_env *)env)->disk;
}

/* --- paths --- */

/* Length of the folder part of `path`. */
static size_t folder_bytes(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

static bool dir_exists(const sim_disk *disk, const char *path, size_t bytes) {
    uint64_t unused;
    while (bytes > 1 && path[bytes - 1] == '/')
        bytes--;
    bool root = bytes == 0 || (bytes == 1 && (path[0] == '.' || path[0] == '/'));
    return root || kith_map_get(disk->dirs, path, bytes, &unused);
}

static void dirs_add(sim_disk *disk, const char *path) {
    for (size_t i = 1; path[i - 1] != '\0'; i++) {
        bool end = path[i] == '\0' || path[i] == '/';
        if (end && path[i - 1] != '/') kith_map_put(disk->dirs, path, i, 1);
    }
}

/* --- inodes --- */

static sim_inode *inode_create(void) {
    sim_inode *inode = kith_alloc_zero(sizeof *inode);
    kith_buf_init(&inode->current);
    kith_buf_init(&inode->durable);
    inode->changes_last = &inode->changes;
    return inode;
}

static void changes_free(sim_inode *inode) {
    while (inode->changes) {
        sim_change *next = inode->changes->next;
        kith_free(inode->changes->data);
        kith_free(inode->changes);
        inode->changes = next;
    }
    inode->changes_last = &inode->changes;
}

static sim_inode *inode_acquire(sim_inode *inode) {
    inode->references++;
    return inode;
}

static void inode_release(sim_disk *disk, sim_inode *inode) {
    if (--inode->references > 0) return;
    disk->used_bytes -= inode->current.bytes;
    changes_free(inode);
    kith_buf_fini(&inode->current);
    kith_buf_fini(&inode->durable);
    kith_free(inode);
}

static void content_resize(kith_buf *content, uint64_t bytes) {
    if (bytes > content->bytes) {
        size_t more = bytes - content->bytes;
        memset(kith_buf_grow(content, more), 0, more);
    }
    content->bytes = bytes;
}

static void content_write(kith_buf *content, uint64_t offset, const uint8_t *data, uint64_t bytes) {
    if (bytes == 0) return;
    if (offset + bytes > content->bytes) content_resize(content, offset + bytes);
    memcpy(content->data + offset, data, bytes);
}

static void change_apply(kith_buf *content, const sim_change *change) {
    if (change->data) {
        content_write(content, change->offset, change->data, change->bytes);
    } else {
        content_resize(content, change->offset);
    }
}

/* Applies the change to what readers see and remembers it. */
static void change_push(sim_disk *disk, sim_inode *inode, uint64_t offset, const void *data, uint64_t bytes) {
    sim_change *change = kith_alloc_zero(sizeof *change);
    change->offset = offset;
    change->bytes = bytes;
    if (data) {
        change->data = kith_alloc(bytes > 0 ? bytes : 1);
        if (bytes > 0) memcpy(change->data, data, bytes);
    }
    *inode->changes_last = change;
    inode->changes_last = &change->next;
    uint64_t before = inode->current.bytes;
    change_apply(&inode->current, change);
    disk->used_bytes += inode->current.bytes - before;
}

static bool change_covers(const sim_change *change, const sim_change *old) {
    return change->data && old->data && old->offset >= change->offset &&
           old->offset + old->bytes <= change->offset + change->bytes;
}

/* Else a crash could bring back, over what was synced, what was there before it. */
static void changes_bury(sim_inode *inode) {
    for (const sim_change *change = inode->changes; change; change = change->next) {
        if (change->doomed) continue;
        for (sim_change *old = inode->changes; old != change; old = old->next)
            old->buried = old->buried || (old->doomed && change_covers(change, old));
    }
}

static void changes_sync(sim_inode *inode) {
    changes_bury(inode);
    sim_change **at = &inode->changes;
    while (*at) {
        sim_change *change = *at;
        if (change->doomed && !change->buried) {
            at = &change->next;
            continue;
        }
        if (!change->buried) change_apply(&inode->durable, change);
        *at = change->next;
        kith_free(change->data);
        kith_free(change);
    }
    inode->changes_last = at;
}

/* --- names --- */

static sim_inode *name_get(const kith_map *names, const char *path) {
    uint64_t value;
    return kith_map_get(names, path, strlen(path), &value) ? (sim_inode *)(uintptr_t)value : NULL;
}

static void name_remove(sim_disk *disk, kith_map *names, const char *path) {
    sim_inode *inode = name_get(names, path);
    if (!inode) return;
    (void)kith_map_remove(names, path, strlen(path));
    inode_release(disk, inode);
}

static void name_put(sim_disk *disk, kith_map *names, const char *path, sim_inode *inode) {
    inode_acquire(inode);
    name_remove(disk, names, path);
    kith_map_put(names, path, strlen(path), (uint64_t)(uintptr_t)inode);
}

static void name_change_apply(sim_disk *disk, kith_map *names, const sim_name_change *change) {
    switch (change->kind) {
    case SIM_NAME_PUT:
        name_put(disk, names, change->path, change->inode);
        break;
    case SIM_NAME_REMOVE:
        /* Another file may have the name here, when the change that gave it to this one was lost. */
        if (name_get(names, change->path) == change->inode) name_remove(disk, names, change->path);
        break;
    case SIM_NAME_RENAME:
        name_put(disk, names, change->path, change->inode);
        if (name_get(names, change->from) == change->inode) name_remove(disk, names, change->from);
        break;
    }
}

static void name_change_free(sim_disk *disk, sim_name_change *change) {
    inode_release(disk, change->inode);
    kith_free(change->path);
    kith_free(change->from);
    kith_free(change);
}

static void name_change_push(
    sim_disk *disk, sim_name_kind kind, const char *path, const char *from, sim_inode *inode) {
    sim_name_change *change = kith_alloc_zero(sizeof *change);
    *change = (sim_name_change){.kind = kind,
        .path = kith_strdup(path),
        .from = from ? kith_strdup(from) : NULL,
        .inode = inode_acquire(inode)};
    *disk->name_changes_last = change;
    disk->name_changes_last = &change->next;
    name_change_apply(disk, disk->names, change);
}

static bool change_in_folder(const sim_name_change *change, const char *folder, size_t bytes) {
    return folder_bytes(change->path) == bytes && memcmp(change->path, folder, bytes) == 0;
}

static void names_sync(sim_disk *disk, const char *folder) {
    size_t bytes = strlen(folder);
    while (bytes > 0 && folder[bytes - 1] == '/')
        bytes--;
    sim_name_change **at = &disk->name_changes;
    while (*at) {
        sim_name_change *change = *at;
        if (!change_in_folder(change, folder, bytes)) {
            at = &change->next;
            continue;
        }
        name_change_apply(disk, disk->durable, change);
        *at = change->next;
        name_change_free(disk, change);
    }
    disk->name_changes_last = at;
}

static int text_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All keys of `names`, sorted: hash order would tie results to the hash function. Freed with texts_free. */
static char **names_sorted(const kith_map *names, size_t *count_out) {
    char **texts = kith_alloc_array(kith_map_count(names) + 1, sizeof *texts);
    size_t count = 0;
    size_t cursor = 0;
    const void *key;
    size_t key_bytes;
    uint64_t value;
    while (kith_map_next(names, &cursor, &key, &key_bytes, &value)) {
        char *text = kith_alloc(key_bytes + 1);
        memcpy(text, key, key_bytes);
        text[key_bytes] = '\0';
        texts[count++] = text;
    }
    qsort(texts, count, sizeof *texts, text_compare);
    *count_out = count;
    return texts;
}

static void texts_free(char **texts, size_t count) {
    for (size_t i = 0; i < count; i++)
        kith_free(texts[i]);
    kith_free(texts);
}

/* --- one operation --- */

static kith_status crashed_err(kith_err *err, const char *path) {
    return kith_err_set(err, KITH_IO, "%s: the simulated machine crashed", path);
}

/* Counts a mutating operation. A status but OK: it fails; with `*partly_out` after having done a part of it.
 */
static kith_status op_begin(
    sim_disk *disk, sim_fail_kind kind, const char *path, bool *partly_out, kith_err *err) {
    *partly_out = false;
    if (disk->crashed) return crashed_err(err, path);
    if (disk->op_count++ == disk->crash_op) {
        disk->crashed = true;
        *partly_out = kith_rng_below(&disk->rng, 2) == 0;
        return crashed_err(err, path);
    }
    if (kind == SIM_FAIL_KINDS || disk->fail_next[kind] == KITH_OK) return KITH_OK;
    kith_status status = disk->fail_next[kind];
    disk->fail_next[kind] = KITH_OK;
    *partly_out = kind == SIM_FAIL_WRITE;
    return kith_err_set(err, status, "%s: injected failure", path);
}

static kith_status read_begin(sim_disk *disk, const char *path, kith_err *err) {
    if (disk->crashed) return crashed_err(err, path);
    kith_status status = disk->fail_next[SIM_FAIL_READ];
    disk->fail_next[SIM_FAIL_READ] = KITH_OK;
    return status == KITH_OK ? KITH_OK : kith_err_set(err, status, "%s: injected failure", path);
}

/* --- files --- */

static kith_status not_found(kith_err *err, const char *path) {
    return kith_err_set(err, KITH_NOT_FOUND, "%s: no such file or folder", path);
}

static kith_status file_make(sim_disk *disk, const char *path, sim_inode **inode_out, kith_err *err) {
    if (!dir_exists(disk, path, folder_bytes(path))) return not_found(err, path);
    bool partly;
    kith_status status = op_begin(disk, SIM_FAIL_CREATE, path, &partly, err);
    if (status == KITH_OK && disk->used_bytes >= disk->space_bytes) {
        return kith_err_set(err, KITH_NO_SPACE, "%s: no space left on device", path);
    }
    if (status != KITH_OK && !partly) return status;
    sim_inode *inode = inode_create();
    name_change_push(disk, SIM_NAME_PUT, path, NULL, inode);
    *inode_out = inode;
    return status;
}

static kith_status file_open(
    kith_env *env, const char *path, kith_file_mode mode, kith_file **file_out, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    sim_inode *inode = name_get(disk->names, path);
    if (!inode && mode == KITH_FILE_READ) return not_found(err, path);
    if (inode && mode == KITH_FILE_CREATE_NEW) return kith_err_set(err, KITH_EXISTS, "%s: it exists", path);
    if (!inode) {
        kith_status status = file_make(disk, path, &inode, err);
        if (status != KITH_OK) return status;
    }
    sim_file *file = kith_alloc_zero(sizeof *file);
    *file = (sim_file){.file.ops = env->ops,
        .disk = disk,
        .inode = inode_acquire(inode),
        .generation = disk->generation,
        .writable = mode != KITH_FILE_READ,
        .lied_to = disk->lie_part && !disk->lie_of_names && strstr(path, disk->lie_part)};
    *file_out = &file->file;
    return KITH_OK;
}

static void file_close(kith_file *file) {
    sim_file *sim = (sim_file *)file;
    if (sim->inode) inode_release(sim->disk, sim->inode);
    if (sim->lock_path && sim->generation == sim->disk->generation) {
        (void)kith_map_remove(sim->disk->locks, sim->lock_path, strlen(sim->lock_path));
    }
    kith_free(sim->lock_path);
    kith_free(sim);
}

static kith_status file_alive(const sim_file *file, kith_err *err) {
    if (file->generation == file->disk->generation) return KITH_OK;
    return kith_err_set(err, KITH_IO, "a file opened before the simulated machine crashed");
}

static kith_status file_read_at(
    kith_file *file, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    kith_status status = file_alive(sim, err);
    if (status == KITH_OK) status = read_begin(sim->disk, "read", err);
    if (status != KITH_OK) return status;
    const kith_buf *content = &sim->inode->current;
    size_t left = offset < content->bytes ? content->bytes - offset : 0;
    *read_out = bytes < left ? bytes : left;
    if (*read_out > 0) memcpy(data, content->data + offset, *read_out);
    return KITH_OK;
}

static kith_status file_write_at(
    kith_file *file, uint64_t offset, const void *data, size_t bytes, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    sim_disk *disk = sim->disk;
    kith_assert(sim->writable);
    kith_status status = file_alive(sim, err);
    if (status != KITH_OK) return status;
    bool partly;
    status = op_begin(disk, SIM_FAIL_WRITE, "write", &partly, err);
    if (status != KITH_OK && !partly) return status;
    uint64_t growth =
        offset + bytes > sim->inode->current.bytes ? offset + bytes - sim->inode->current.bytes : 0;
    uint64_t room = disk->space_bytes > disk->used_bytes ? disk->space_bytes - disk->used_bytes : 0;
    if (status == KITH_OK && growth > room) {
        status = kith_err_set(err, KITH_NO_SPACE, "write of %zu bytes: no space left on device", bytes);
        bytes = growth - room < bytes ? bytes - (growth - room) : 0;
    } else if (status != KITH_OK) {
        bytes = kith_rng_below(&disk->rng, bytes + 1);
        if (growth > room) bytes = 0;
    }
    if (bytes > 0) change_push(disk, sim->inode, offset, data, bytes);
    return status;
}

static kith_status file_sync(kith_file *file, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    kith_status status = file_alive(sim, err);
    if (status != KITH_OK) return status;
    bool partly;
    status = op_begin(sim->disk, SIM_FAIL_SYNC, "sync", &partly, err);
    if (status == KITH_OK) {
        if (!sim->lied_to) changes_sync(sim->inode);
    } else if (!sim->disk->crashed) {
        for (sim_change *change = sim->inode->changes; change; change = change->next)
            change->doomed = true;
    }
    return status;
}

/* Any change that is not synced may already survive a crash. */
static void file_sync_soon(kith_file *file, uint64_t offset, uint64_t bytes) {
    (void)file;
    (void)offset;
    (void)bytes;
}

static kith_status file_truncate(kith_file *file, uint64_t bytes, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    kith_assert(sim->writable);
    kith_status status = file_alive(sim, err);
    if (status != KITH_OK) return status;
    bool partly;
    status = op_begin(sim->disk, SIM_FAIL_TRUNCATE, "truncate", &partly, err);
    bool changes = bytes != sim->inode->current.bytes;
    if ((status == KITH_OK || partly) && changes) change_push(sim->disk, sim->inode, bytes, NULL, 0);
    return status;
}

static kith_status file_bytes(kith_file *file, uint64_t *bytes_out, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    kith_status status = file_alive(sim, err);
    if (status == KITH_OK && sim->disk->crashed) status = crashed_err(err, "stat");
    if (status == KITH_OK) *bytes_out = sim->inode->current.bytes;
    return status;
}

static kith_status file_map(kith_file *file, size_t bytes, const void **address_out, kith_err *err) {
    sim_file *sim = (sim_file *)file;
    kith_status status = file_alive(sim, err);
    if (status == KITH_OK) status = read_begin(sim->disk, "map", err);
    if (status != KITH_OK) return status;
    if (bytes == 0 || bytes > sim->inode->current.bytes) {
        return kith_err_set(
            err, KITH_INVALID, "map of %zu bytes of a file of %zu", bytes, sim->inode->current.bytes);
    }
    void *copy = kith_try_alloc_aligned(bytes);
    if (!copy) return kith_err_set(err, KITH_NO_MEMORY, "no memory to map %zu bytes", bytes);
    memcpy(copy, sim->inode->current.data, bytes);
    *address_out = copy;
    return KITH_OK;
}

static void file_unmap(kith_env *env, const void *address, size_t bytes) {
    (void)env;
    (void)bytes;
    kith_free((void *)(uintptr_t)address);
}

static void file_map_forget(kith_env *env, const void *address, size_t bytes) {
    (void)env;
    (void)address;
    (void)bytes;
}

/* --- names and folders --- */

static kith_status path_rename(kith_env *env, const char *from, const char *to, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, from);
    sim_inode *inode = name_get(disk->names, from);
    if (!inode) return not_found(err, from);
    /* A change belongs to one folder's sync. */
    kith_assert(folder_bytes(from) == folder_bytes(to));
    bool partly;
    kith_status status = op_begin(disk, SIM_FAIL_RENAME, from, &partly, err);
    if (status == KITH_OK || partly) name_change_push(disk, SIM_NAME_RENAME, to, from, inode);
    return status;
}

static bool dir_has_children(const kith_map *names, const char *path) {
    size_t bytes = strlen(path);
    size_t cursor = 0;
    const void *key;
    size_t key_bytes;
    uint64_t value;
    while (kith_map_next(names, &cursor, &key, &key_bytes, &value)) {
        const char *text = key;
        if (key_bytes > bytes && memcmp(text, path, bytes) == 0 && text[bytes] == '/') return true;
    }
    return false;
}

static kith_status path_remove(kith_env *env, const char *path, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    uint64_t unused;
    sim_inode *inode = name_get(disk->names, path);
    bool is_dir = !inode && kith_map_get(disk->dirs, path, strlen(path), &unused);
    if (!inode && !is_dir) return not_found(err, path);
    if (is_dir && (dir_has_children(disk->names, path) || dir_has_children(disk->dirs, path))) {
        return kith_err_set(err, KITH_IO, "%s: the folder is not empty", path);
    }
    bool partly;
    kith_status status = op_begin(disk, SIM_FAIL_REMOVE, path, &partly, err);
    if (status != KITH_OK && !partly) return status;
    if (is_dir) {
        (void)kith_map_remove(disk->dirs, path, strlen(path));
    } else {
        name_change_push(disk, SIM_NAME_REMOVE, path, NULL, inode);
    }
    return status;
}

static kith_status dir_make(kith_env *env, const char *path, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    if (dir_exists(disk, path, strlen(path))) return KITH_OK;
    bool partly;
    kith_status status = op_begin(disk, SIM_FAIL_KINDS, path, &partly, err);
    if (status == KITH_OK || partly) dirs_add(disk, path);
    return status;
}

/* The part of `path` below `folder` if it is one name, else NULL. */
static const char *child_name(const char *path, const char *folder) {
    size_t bytes = strlen(folder);
    while (bytes > 0 && folder[bytes - 1] == '/')
        bytes--;
    if (strncmp(path, folder, bytes) != 0 || path[bytes] != '/') return NULL;
    const char *name = path + bytes + 1;
    return *name != '\0' && !strchr(name, '/') ? name : NULL;
}

static int entry_compare(const void *a, const void *b) {
    return strcmp(((const kith_dir_entry *)a)->name, ((const kith_dir_entry *)b)->name);
}

static kith_status dir_list(kith_env *env, const char *path,
    void (*entry_fn)(void *ctx, const kith_dir_entry *entry), void *ctx, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    if (!dir_exists(disk, path, strlen(path))) return not_found(err, path);
    size_t file_count;
    size_t dir_count;
    char **files = names_sorted(disk->names, &file_count);
    char **dirs = names_sorted(disk->dirs, &dir_count);
    kith_dir_entry *entries = kith_alloc_array(file_count + dir_count + 1, sizeof *entries);
    size_t count = 0;
    for (size_t i = 0; i < file_count; i++) {
        const char *name = child_name(files[i], path);
        if (!name) continue;
        entries[count++] =
            (kith_dir_entry){.name = name, .bytes = name_get(disk->names, files[i])->current.bytes};
    }
    for (size_t i = 0; i < dir_count; i++) {
        const char *name = child_name(dirs[i], path);
        if (name) entries[count++] = (kith_dir_entry){.name = name, .is_dir = true};
    }
    qsort(entries, count, sizeof *entries, entry_compare);
    for (size_t i = 0; i < count; i++)
        entry_fn(ctx, &entries[i]);
    kith_free(entries);
    texts_free(files, file_count);
    texts_free(dirs, dir_count);
    return KITH_OK;
}

static kith_status dir_sync(kith_env *env, const char *path, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    if (!dir_exists(disk, path, strlen(path))) return not_found(err, path);
    bool partly;
    kith_status status = op_begin(disk, SIM_FAIL_DIR_SYNC, path, &partly, err);
    bool lie = disk->lie_part && disk->lie_of_names && strstr(path, disk->lie_part);
    if (status == KITH_OK && !lie) names_sync(disk, path);
    return status;
}

static kith_status dir_lock(kith_env *env, const char *path, kith_file **lock_out, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    if (!dir_exists(disk, path, strlen(path))) return not_found(err, path);
    uint64_t unused;
    if (kith_map_get(disk->locks, path, strlen(path), &unused)) {
        return kith_err_set(err, KITH_EXISTS, "%s is in use by process 1", path);
    }
    kith_map_put(disk->locks, path, strlen(path), 1);
    sim_file *file = kith_alloc_zero(sizeof *file);
    *file = (sim_file){
        .file.ops = env->ops, .disk = disk, .lock_path = kith_strdup(path), .generation = disk->generation};
    *lock_out = &file->file;
    return KITH_OK;
}

static kith_status free_bytes(kith_env *env, const char *path, uint64_t *bytes_out, kith_err *err) {
    sim_disk *disk = disk_of(env);
    if (disk->crashed) return crashed_err(err, path);
    *bytes_out = disk->space_bytes > disk->used_bytes ? disk->space_bytes - disk->used_bytes : 0;
    return KITH_OK;
}

void sim_disk_ops_fill(kith_env_ops *ops) {
    ops->file_open = file_open;
    ops->file_close = file_close;
    ops->file_read_at = file_read_at;
    ops->file_write_at = file_write_at;
    ops->file_sync = file_sync;
    ops->file_sync_soon = file_sync_soon;
    ops->file_truncate = file_truncate;
    ops->file_bytes = file_bytes;
    ops->file_map = file_map;
    ops->file_unmap = file_unmap;
    ops->file_map_forget = file_map_forget;
    ops->path_rename = path_rename;
    ops->path_remove = path_remove;
    ops->dir_make = dir_make;
    ops->dir_list = dir_list;
    ops->dir_sync = dir_sync;
    ops->dir_lock = dir_lock;
    ops->free_bytes = free_bytes;
}

/* --- crash and restart --- */

/* One chance of being kept for everything of one crash: 0 and 1 often, so that whole writes are kept and lost
 * too. */
static double chance_draw(sim_disk *disk) {
    static const double chances[] = {0, 0.1, 0.5, 0.5, 0.9, 1};
    return chances[kith_rng_below(&disk->rng, sizeof chances / sizeof chances[0])];
}

/* Lets the content grow to `end`, to a part of it, or not at all. */
static void growth_tear(sim_disk *disk, kith_buf *content, uint64_t end, double chance) {
    if (end <= content->bytes) return;
    uint64_t kept = end;
    if (kith_rng_unit(&disk->rng) >= chance)
        kept = content->bytes + kith_rng_below(&disk->rng, end - content->bytes + 1);
    content_resize(content, kept);
}

/* Keeps sectors of one write; `lost` are the sectors of which an earlier write was lost. */
static void write_tear(
    sim_disk *disk, kith_buf *content, const sim_change *change, double chance, kith_map *lost) {
    uint64_t end = change->offset + change->bytes;
    growth_tear(disk, content, end, chance);
    for (uint64_t at = change->offset; at < end;) {
        uint64_t sector = at / SIM_SECTOR_BYTES;
        uint64_t part_end = (sector + 1) * SIM_SECTOR_BYTES < end ? (sector + 1) * SIM_SECTOR_BYTES : end;
        uint64_t unused;
        bool keep =
            !kith_map_get(lost, &sector, sizeof sector, &unused) && kith_rng_unit(&disk->rng) < chance;
        if (!keep) kith_map_put(lost, &sector, sizeof sector, 1);
        uint64_t kept_end = part_end < content->bytes ? part_end : content->bytes;
        if (keep && at < kept_end) {
            memcpy(content->data + at, change->data + (at - change->offset), kept_end - at);
        }
        at = part_end;
    }
}

/* Makes the durable content what is left of the volatile changes, and forgets these. */
static void inode_tear(sim_disk *disk, sim_inode *inode) {
    double chance = chance_draw(disk);
    kith_map *lost = kith_map_create(0);
    for (const sim_change *change = inode->changes; change; change = change->next) {
        if (change->data) {
            write_tear(disk, &inode->durable, change, chance, lost);
        } else if (kith_rng_unit(&disk->rng) < chance) {
            content_resize(&inode->durable, change->offset);
        }
    }
    kith_map_destroy(lost);
}

static void content_copy(kith_buf *to, const kith_buf *from) {
    kith_buf_clear(to);
    if (from->bytes > 0) kith_buf_append(to, from->data, from->bytes);
}

static void inode_settle(sim_disk *disk, sim_inode *inode) {
    if (disk->crash_mode == SIM_CRASH_KEEP_ALL) {
        content_copy(&inode->durable, &inode->current);
    } else if (disk->crash_mode != SIM_CRASH_LOSE_ALL) {
        inode_tear(disk, inode);
    }
    changes_free(inode);
    disk->used_bytes -= inode->current.bytes;
    content_copy(&inode->current, &inode->durable);
    disk->used_bytes += inode->current.bytes;
}

/* Whether the name change survives; `stopped` are folders of which an earlier one did not. */
static bool name_change_kept(
    sim_disk *disk, const sim_name_change *change, double chance, kith_map *stopped) {
    if (disk->crash_mode == SIM_CRASH_KEEP_ALL) return true;
    if (disk->crash_mode == SIM_CRASH_LOSE_ALL) return false;
    bool kept = kith_rng_unit(&disk->rng) < chance;
    if (disk->crash_mode == SIM_CRASH_TORN_UNORDERED) return kept;
    size_t bytes = folder_bytes(change->path);
    uint64_t unused;
    kept = kept && !kith_map_get(stopped, change->path, bytes, &unused);
    if (!kept) kith_map_put(stopped, change->path, bytes, 1);
    return kept;
}

static void names_settle(sim_disk *disk) {
    double chance = chance_draw(disk);
    kith_map *stopped = kith_map_create(0);
    while (disk->name_changes) {
        sim_name_change *change = disk->name_changes;
        disk->name_changes = change->next;
        if (name_change_kept(disk, change, chance, stopped)) name_change_apply(disk, disk->durable, change);
        name_change_free(disk, change);
    }
    disk->name_changes_last = &disk->name_changes;
    kith_map_destroy(stopped);
}

static void names_clear(sim_disk *disk, kith_map *names) {
    size_t count;
    char **paths = names_sorted(names, &count);
    for (size_t i = 0; i < count; i++)
        name_remove(disk, names, paths[i]);
    texts_free(paths, count);
}

void sim_env_restart(sim_env *sim) {
    sim_disk *disk = sim->disk;
    kith_assert(disk->crashed);
    names_settle(disk);
    names_clear(disk, disk->names);
    size_t count;
    char **paths = names_sorted(disk->durable, &count);
    for (size_t i = 0; i < count; i++) {
        sim_inode *inode = name_get(disk->durable, paths[i]);
        inode_settle(disk, inode);
        name_put(disk, disk->names, paths[i], inode);
        char *folder = kith_strdup(paths[i]);
        folder[folder_bytes(folder)] = '\0';
        if (folder[0] != '\0') dirs_add(disk, folder);
        kith_free(folder);
    }
    texts_free(paths, count);
    kith_map_clear(disk->locks);
    disk->generation++;
    disk->crashed = false;
    disk->crash_op = UINT64_MAX;
    memset(disk->fail_next, 0, sizeof disk->fail_next);
}

uint64_t sim_env_op_count(const sim_env *sim) {
    return sim->disk->op_count;
}

void sim_env_crash_at(sim_env *sim, uint64_t op, sim_crash_mode mode) {
    kith_assert(op >= sim->disk->op_count);
    sim->disk->crash_op = op;
    sim->disk->crash_mode = mode;
}

void sim_env_crash(sim_env *sim, sim_crash_mode mode) {
    sim->disk->crashed = true;
    sim->disk->crash_mode = mode;
}

bool sim_env_crashed(const sim_env *sim) {
    return sim->disk->crashed;
}

void sim_env_fail_next(sim_env *sim, sim_fail_kind kind, kith_status status) {
    kith_assert(kind < SIM_FAIL_KINDS);
    sim->disk->fail_next[kind] = status;
}

void sim_env_lie(sim_env *sim, sim_fail_kind kind, const char *part) {
    kith_assert(kind == SIM_FAIL_SYNC || kind == SIM_FAIL_DIR_SYNC);
    sim->disk->lie_part = part;
    sim->disk->lie_of_names = kind == SIM_FAIL_DIR_SYNC;
}

void sim_env_space_set(sim_env *sim, uint64_t bytes) {
    sim->disk->space_bytes = bytes;
}

/* --- what a test does to the disk --- */

static bool content_flip(kith_buf *content, uint64_t offset, uint8_t mask) {
    if (offset >= content->bytes) return false;
    content->data[offset] ^= mask;
    return true;
}

bool sim_env_flip(sim_env *sim, const char *path, uint64_t offset, uint8_t mask) {
    sim_inode *inode = name_get(sim->disk->names, path);
    if (!inode) return false;
    for (sim_change *change = inode->changes; change; change = change->next) {
        if (change->data && offset >= change->offset && offset - change->offset < change->bytes) {
            change->data[offset - change->offset] ^= mask;
        }
    }
    (void)content_flip(&inode->durable, offset, mask);
    return content_flip(&inode->current, offset, mask);
}

bool sim_env_flip_any(
    sim_env *sim, const char *part, char *path_out, size_t path_bytes, uint64_t *offset_out) {
    sim_disk *disk = sim->disk;
    size_t count;
    char **paths = names_sorted(disk->names, &count);
    size_t fitting = 0;
    for (size_t i = 0; i < count; i++) {
        bool fits = strstr(paths[i], part) && name_get(disk->names, paths[i])->current.bytes > 0;
        if (!fits) continue;
        char *path = paths[i];
        paths[i] = paths[fitting];
        paths[fitting++] = path;
    }
    if (fitting > 0) {
        const char *path = paths[kith_rng_below(&disk->rng, fitting)];
        kith_assert(strlen(path) < path_bytes);
        memcpy(path_out, path, strlen(path) + 1);
        *offset_out = kith_rng_below(&disk->rng, name_get(disk->names, path)->current.bytes);
        (void)sim_env_flip(sim, path, *offset_out, (uint8_t)(1u << kith_rng_below(&disk->rng, 8)));
    }
    texts_free(paths, count);
    return fitting > 0;
}

void sim_env_file_put(sim_env *sim, const char *path, const void *data, size_t bytes) {
    sim_disk *disk = sim->disk;
    sim_inode *inode = inode_create();
    if (bytes > 0) {
        kith_buf_append(&inode->current, data, bytes);
        kith_buf_append(&inode->durable, data, bytes);
    }
    disk->used_bytes += bytes;
    char *folder = kith_strdup(path);
    folder[folder_bytes(folder)] = '\0';
    if (folder[0] != '\0') dirs_add(disk, folder);
    kith_free(folder);
    name_put(disk, disk->names, path, inode);
    name_put(disk, disk->durable, path, inode);
}

const uint8_t *sim_env_file_get(sim_env *sim, const char *path, size_t *bytes_out) {
    sim_inode *inode = name_get(sim->disk->names, path);
    if (!inode) return NULL;
    *bytes_out = inode->current.bytes;
    return inode->current.data ? inode->current.data : (const uint8_t *)"";
}

/* --- life --- */

sim_disk *sim_disk_create(uint64_t seed) {
    sim_disk *disk = kith_alloc_zero(sizeof *disk);
    disk->names = kith_map_create(0);
    disk->durable = kith_map_create(0);
    disk->dirs = kith_map_create(0);
    disk->locks = kith_map_create(0);
    disk->name_changes_last = &disk->name_changes;
    disk->space_bytes = 1ULL << 40;
    disk->crash_op = UINT64_MAX;
    disk->crash_mode = SIM_CRASH_LOSE_ALL;
    kith_rng_init(&disk->rng, seed);
    return disk;
}

void sim_disk_destroy(sim_disk *disk) {
    while (disk->name_changes) {
        sim_name_change *change = disk->name_changes;
        disk->name_changes = change->next;
        name_change_free(disk, change);
    }
    names_clear(disk, disk->names);
    names_clear(disk, disk->durable);
    kith_map_destroy(disk->names);
    kith_map_destroy(disk->durable);
    kith_map_destroy(disk->dirs);
    kith_map_destroy(disk->locks);
    kith_free(disk);
}
