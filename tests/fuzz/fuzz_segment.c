/* Bytes as a segment file: opening never crashes, and of what opens every row can be read and found.
 *
 * The first byte chooses. Bit 0 clear: the rest is the file. Set: the rest is a list of sections (u8 kind, u8 field,
 * u16 bytes, bytes), which the writer puts into a file with right checksums, so that the checks of what is in
 * them are reached. Bit 7 clear: a schema without codes, set: one with codes, which are then searched. */
#include <string.h>

#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/index/index.h"
#include "host/store/segment_file.h"
#include "tests/sim/sim_env.h"

#define PATH "/data/segment"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Those of tests/unit/index/test_segment.c and test_segment_codes.c, so that their golden files are seeds. */
static const kith_schema plain_schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 5, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8}}};

static const kith_schema codes_schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 18, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8},
        {.name = "b", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

static void file_of_sections(kith_env *env, const uint8_t *data, size_t bytes) {
    kith_err err;
    kith_segment_writer *writer;
    kith_assert(kith_dir_make(env, "/data", &err) == KITH_OK);
    kith_assert(kith_segment_writer_open(env, PATH, &writer, &err) == KITH_OK);
    kith_reader reader = kith_reader_of(data, bytes);
    for (uint32_t i = 0; i < 64 && kith_reader_left(&reader) > 0; i++) {
        uint8_t kind = kith_reader_u8(&reader);
        uint8_t field = kith_reader_u8(&reader);
        uint16_t section_bytes = kith_reader_u16(&reader);
        const uint8_t *section = kith_reader_bytes(&reader, section_bytes);
        if (!section) break;
        kith_assert(
            kith_segment_writer_begin(writer, (kith_segment_section_kind)kind, field, &err) == KITH_OK);
        kith_assert(kith_segment_writer_append(writer, section, section_bytes, &err) == KITH_OK);
        kith_segment_writer_end(writer);
    }
    kith_assert(kith_segment_writer_finish(writer, &err) == KITH_OK);
    kith_segment_writer_close(writer);
}

static void rows_read(const kith_segment *segment, const kith_schema *schema) {
    uint32_t sum = 0;
    for (uint32_t row = 0; row < kith_segment_row_count(segment); row++) {
        kith_id id = kith_segment_row_id(segment, row);
        uint32_t found = kith_segment_find(segment, &id);
        kith_assert(
            found == row || found == KITH_ROW_NONE); /* a bad Bloom filter with a good checksum may hide it */
        sum += (uint32_t)kith_segment_row_sequence(segment, row);
        for (uint32_t field = 0; field < schema->field_count; field++) {
            const void *vector = kith_segment_row_vector(segment, field, row);
            if (vector) sum += kith_crc32c(0, vector, kith_field_vector_bytes(&schema->fields[field]));
        }
    }
    __asm__ volatile("" : : "r"(sum)); /* or the compiler leaves the reads out */
}

/* Whatever the codes say, a search of them stays inside the file. */
static void rows_search(const kith_segment *segment) {
    float query[18];
    for (uint32_t i = 0; i < 18; i++)
        query[i] = (float)i - 5;
    kith_segment_search search = {.compute = kith_compute_cpu(),
        .row_end = kith_segment_row_count(segment),
        .queries = query,
        .query_count = 1,
        .k = 3};
    kith_row_hit hits[3];
    uint32_t count;
    kith_top_k_stats stats = {0};
    kith_err err;
    kith_assert(kith_segment_search_run(segment, &search, hits, &count, &stats, &err) == KITH_OK);
    kith_assert(count <= 3);
    for (uint32_t i = 0; i < count; i++)
        kith_assert(hits[i].row < search.row_end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    bool with_codes = data[0] & 0x80;
    const kith_schema *schema = with_codes ? &codes_schema : &plain_schema;
    sim_env *sim = sim_env_create(1);
    if (data[0] % 2) {
        file_of_sections(sim_env_kith(sim), data + 1, bytes - 1);
    } else {
        sim_env_file_put(sim, PATH, data + 1, bytes - 1);
    }
    kith_segment *segment;
    kith_err err;
    kith_status status = kith_segment_sealed_open(sim_env_kith(sim), PATH, 1, schema, &segment, &err);
    if (status == KITH_OK) {
        rows_read(segment, schema);
        if (with_codes) rows_search(segment);
        kith_segment_release(segment);
    } else {
        kith_assert(status == KITH_CORRUPT);
    }
    sim_env_destroy(sim);
    return 0;
}
