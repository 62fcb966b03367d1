/* Runs a fuzz target on every file of a folder, where there is no libFuzzer: a found input stays found. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define PATH_BYTES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void replay_file(const char *path, size_t bytes) {
    FILE *file = fopen(path, "rb");
    kith_assert(file);
    uint8_t *data = kith_alloc(bytes); /* exactly as long as the input, so that a read past it is found */
    size_t read = fread(data, 1, bytes, file);
    kith_assert(read == bytes);
    fclose(file);
    LLVMFuzzerTestOneInput(data, bytes);
    kith_free(data);
}

/* Whether `name` was a file. */
static int replay_entry(const char *dir, const char *name) {
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return 0;
    replay_file(path, (size_t)info.st_size);
    return 1;
}

int main(int count, char **arguments) {
    const char *path = count == 2 ? arguments[1] : NULL;
    DIR *dir = path ? opendir(path) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s FOLDER (%s)\n", arguments[0], path ? path : "none given");
        return 2;
    }
    int replayed_count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        replayed_count += replay_entry(path, entry->d_name);
    closedir(dir);
    printf("%d inputs of %s replayed\n", replayed_count, path);
    return replayed_count > 0 ? 0 : 1;
}
