/* Any bytes as a JSONL file: it is refused with a message that names the file, or every batch holds what it
 * says. */
#include <math.h>
#include <string.h>

#include "host/base/assert.h"
#include "host/cli/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_column(const kith_codec_client_column *column, uint32_t point_count) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < point_count; i++)
        rows += column->present ? column->present[i] : 1;
    kith_assert(rows == column->row_count);
    for (size_t i = 0; i < (size_t)rows * column->dim; i++)
        kith_assert(isfinite(column->values[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    kith_format *format;
    kith_format_batch batch = {.count = 1};
    kith_err err = {.text = ""};
    kith_arena arena;
    kith_format_options options = {.field = "f", .id_start = 5};
    kith_arena_init(&arena);
    kith_status status =
        kith_format_open_memory("fuzz", KITH_FORMAT_JSONL, data, bytes, &options, &format, &err);
    kith_assert(status == KITH_OK);
    while (status == KITH_OK && batch.count > 0) {
        kith_arena_reset(&arena);
        status = kith_format_read(format, 3, 4096, &arena, &batch, &err);
        for (uint32_t i = 0; status == KITH_OK && i < batch.column_count; i++)
            check_column(&batch.columns[i], batch.count);
    }
    if (status != KITH_OK) kith_assert(strncmp(err.text, "fuzz", 4) == 0);
    kith_format_close(format);
    kith_arena_fini(&arena);
    return 0;
}
