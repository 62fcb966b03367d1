/* Bytes as a record: decoding never crashes, and what decodes encodes to the same bytes. */
#include <string.h>

#include "host/base/assert.h"
#include "host/model/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* That of tests/unit/model/test_record.c, so that its golden file is a seed. */
static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "title", .dim = 5, .metric = KITH_METRIC_IP, .type = KITH_TYPE_I8}}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    kith_arena arena;
    kith_op op;
    kith_err err;
    kith_arena_init(&arena);
    if (kith_op_decode(data, bytes, &schema, &arena, &op, &err) == KITH_OK) {
        kith_buf buf;
        kith_buf_init(&buf);
        kith_op_encode(&op, &schema, &buf);
        kith_assert(buf.bytes == bytes);
        kith_assert(memcmp(buf.data, data, bytes) == 0);
        kith_buf_fini(&buf);
    }
    kith_arena_fini(&arena);
    return 0;
}
