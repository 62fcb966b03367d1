/* Preloaded into kithd: makes fsync, fdatasync and sync_file_range fail on demand. While the file named by
 * KITH_FAULT_FILE exists, a sync of any file whose path contains the control file's first line fails with EIO (an empty
 * line: every file). One line of stderr for each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int matches(int fd) {
    const char *control = getenv("KITH_FAULT_FILE");
    char wanted[256], link[64], path[4096];
    int file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t bytes = read(file, wanted, sizeof wanted - 1);
    close(file);
    wanted[bytes > 0 ? bytes : 0] = '\0';
    wanted[strcspn(wanted, "\n")] = '\0';
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    bytes = readlink(link, path, sizeof path - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    if (!strstr(path, wanted)) return 0;
    fprintf(stderr, "faultfs: sync of %s fails\n", path);
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return matches(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return matches(fd) ? -1 : real(fd);
}

int sync_file_range(int fd, off_t offset, off_t bytes, unsigned int flags) {
    static int (*real)(int, off_t, off_t, unsigned int);
    if (!real) real = (int (*)(int, off_t, off_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    return matches(fd) ? -1 : real(fd, offset, bytes, flags);
}
