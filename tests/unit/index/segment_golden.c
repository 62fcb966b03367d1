/* The files of segment_golden.h. */
#include "tests/unit/index/segment_golden.h"

#include <stdio.h>
#include <stdlib.h>

#include "host/base/alloc.h"
#include "tests/lib/test_lib.h"

static FILE *golden_open(const char *name, const char *mode) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", KITH_SOURCE_DIR, name);
    FILE *file = fopen(path, mode);
    if (!file) fail_msg("%s is not there", path);
    return file;
}

uint8_t *segment_golden_read(const char *name, size_t *bytes_out) {
    enum { BYTES_MOST = 65536 };
    FILE *file = golden_open(name, "rb");
    uint8_t *bytes = kith_alloc(BYTES_MOST);
    *bytes_out = fread(bytes, 1, BYTES_MOST, file);
    fclose(file);
    return bytes;
}

void segment_golden_write_if_asked(sim_env *sim, const char *path, const char *name) {
    if (!getenv("KITH_GOLDEN_WRITE")) return;
    size_t bytes;
    const uint8_t *data = sim_env_file_get(sim, path, &bytes);
    FILE *file = golden_open(name, "wb");
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}
