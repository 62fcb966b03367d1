/* Preloaded into kithd: remembers what a disk would still have after the power fails. Whenever a file under
 * KITH_POWER_ROOT is synced, its content as of then is copied to KITH_POWER_SHADOW/<inode>; whenever a folder is synced,
 * its list of names and inodes is. test_power_loss.py kills the process and rebuilds the folder from that alone: what
 * was never synced is gone, a name without a synced folder is gone, a file without a sync of its own is empty.
 *
 * A copy is written under another name and renamed, so that a kill leaves the copy before it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_uint copies;

/* The shadow's path for `inode`, and one to write before it is renamed there. */
static void shadow_paths(unsigned long long inode, char final[4096], char fresh[4096]) {
    const char *shadow = getenv("KITH_POWER_SHADOW");
    snprintf(final, 4096, "%s/%llu", shadow, inode);
    snprintf(fresh, 4096, "%s/fresh-%u-%u", shadow, (unsigned)getpid(), atomic_fetch_add(&copies, 1));
}

static void copy_file(const char *path, FILE *to) {
    char block[65536];
    int from = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes;
    if (from < 0) return;
    while ((bytes = read(from, block, sizeof block)) > 0)
        fwrite(block, 1, (size_t)bytes, to);
    close(from);
}

/* A line an entry: inode, d or f, name. */
static void list_folder(const char *path, FILE *to) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    if (!folder) return;
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        fprintf(to, "%llu %c %s\n", (unsigned long long)entry->d_ino, entry->d_type == DT_DIR ? 'd' : 'f',
            entry->d_name);
    }
    closedir(folder);
}

static void remember(int fd) {
    char link[64], path[4096], final[4096], fresh[4096];
    struct stat status;
    int error = errno;
    const char *root = getenv("KITH_POWER_ROOT");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, sizeof path - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    if (!root || strncmp(path, root, strlen(root)) != 0 || fstat(fd, &status) != 0) return;
    shadow_paths((unsigned long long)status.st_ino, final, fresh);
    FILE *to = fopen(fresh, "wb");
    if (!to) return;
    if (S_ISDIR(status.st_mode))
        list_folder(path, to);
    else
        copy_file(link, to); /* by the descriptor: the name may be gone already */
    fclose(to);
    rename(fresh, final);
    errno = error;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0) remember(fd);
    return result;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (result == 0) remember(fd);
    return result;
}
