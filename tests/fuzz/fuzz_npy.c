/* Any bytes as an npy file, and (by the first byte) as fvecs or bvecs: refused with a message that names the
 * file, or read to the end with finite values, exactly as many rows as the header says. */
#include <math.h>
#include <string.h>

#include "host/base/assert.h"
#include "host/cli/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void read_as(kith_format_kind kind, const uint8_t *data, size_t bytes) {
    kith_format *format;
    kith_format_batch batch = {.count = 1};
    kith_err err = {.text = ""};
    kith_arena arena;
    kith_format_options options = {.id_start = 0};
    kith_arena_init(&arena);
    uint64_t rows = 0;
    kith_status status = kith_format_open_memory("fuzz", kind, data, bytes, &options, &format, &err);
    bool open = status == KITH_OK;
    while (status == KITH_OK && batch.count > 0) {
        kith_arena_reset(&arena);
        status = kith_format_read(format, 3, 4096, &arena, &batch, &err);
        if (status != KITH_OK || batch.count == 0) break;
        rows += batch.count;
        for (size_t i = 0; i < (size_t)batch.count * batch.columns[0].dim; i++)
            kith_assert(isfinite(batch.columns[0].values[i]));
    }
    if (status == KITH_OK)
        kith_assert(rows == kith_format_rows(format));
    else
        kith_assert(strncmp(err.text, "fuzz", 4) == 0);
    if (open) kith_format_close(format);
    kith_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    read_as(KITH_FORMAT_NPY, data, bytes);
    read_as(KITH_FORMAT_FVECS, data, bytes);
    read_as(KITH_FORMAT_BVECS, data, bytes);
    return 0;
}
