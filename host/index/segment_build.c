/* Building a sealed segment: the live rows of the sources, sorted by id, column after column into one file.
 * Only 16 bytes a row and the Bloom filter are held in memory; vectors go from where they lie to the file's
 * buffer.
 *
 * Norms are copied: they were computed from the same stored bytes by the one routine whose result does not
 * depend on the backend. */
#include "host/index/segment_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/buf.h"
#include "host/base/bytes.h"
#include "host/index/segment_bloom.h"
#include "host/index/segment_codes.h"
#include "host/store/segment_file.h"

#define BUILD_PATH_BYTES_MAX 4096u
#define BUILD_SOURCES_MAX    UINT16_MAX
#define BUILD_CANCEL_ROWS    4096u /* rows between two looks at the cancel flag */

/* Where a live row is; ordered by (type, prefix) and, where those are equal, by the whole id. */
typedef struct build_row {
    uint64_t prefix; /* the number, or the first 8 bytes as a big-endian number */
    uint32_t row;
    uint16_t source;
    uint16_t type;
} build_row;

typedef struct build {
    const kith_schema *schema;
    const kith_compute_ops *compute;
    const kith_segment_source *sources;
    const atomic_bool *cancel;
    kith_segment_writer *writer;
    build_row *rows;
    uint32_t row_count;
    uint32_t type_counts[KITH_ID_STRING + 1];
} build;

static kith_id id_of(const build *work, const build_row *at) {
    return kith_segment_row_id(work->sources[at->source].segment, at->row);
}

static kith_status cancel_check(const build *work, kith_err *err) {
    if (work->cancel && atomic_load_explicit(work->cancel, memory_order_relaxed)) {
        return kith_err_set(err, KITH_CANCELLED, "the build was cancelled");
    }
    return KITH_OK;
}

/* --- which rows, in which order --- */

static uint64_t prefix_of(const kith_id *id) {
    if (id->type == KITH_ID_NUMBER) return id->number;
    uint8_t first[8] = {0};
    size_t bytes = id->type == KITH_ID_UUID ? 16 : id->text_bytes;
    memcpy(first, id->bytes, bytes < sizeof first ? bytes : sizeof first);
    return kith_load_u64_be(first);
}

static int row_compare(const void *a_pointer, const void *b_pointer, void *ctx) {
    const build_row *a = a_pointer;
    const build_row *b = b_pointer;
    if (a->type != b->type) return a->type < b->type ? -1 : 1;
    if (a->prefix != b->prefix) return a->prefix < b->prefix ? -1 : 1;
    if (a->type == KITH_ID_NUMBER) return 0;
    kith_id a_id = id_of(ctx, a);
    kith_id b_id = id_of(ctx, b);
    return kith_id_compare(&a_id, &b_id);
}

static uint32_t live_count(const kith_segment_source *source) {
    if (!source->dead) return source->row_count;
    uint32_t count = 0;
    for (uint32_t row = 0; row < source->row_count; row++)
        count += !kith_bitset_get(source->dead, row);
    return count;
}

static void source_collect(build *work, uint16_t source_index) {
    const kith_segment_source *source = &work->sources[source_index];
    for (uint32_t row = 0; row < source->row_count; row++) {
        if (source->dead && kith_bitset_get(source->dead, row)) continue;
        kith_id id = kith_segment_row_id(source->segment, row);
        work->rows[work->row_count++] =
            (build_row){.prefix = prefix_of(&id), .row = row, .source = source_index, .type = id.type};
        work->type_counts[id.type]++;
    }
}

static kith_status repeats_check(build *work, kith_err *err) {
    for (uint32_t i = 1; i < work->row_count; i++) {
        if (row_compare(&work->rows[i - 1], &work->rows[i], work) == 0) {
            kith_id id = id_of(work, &work->rows[i]);
            kith_buf text;
            kith_buf_init(&text);
            kith_id_append_text(&text, &id);
            kith_status status = kith_err_set(err, KITH_INTERNAL,
                "point %.*s is live twice in the rows to seal", (int)text.bytes, (const char *)text.data);
            kith_buf_fini(&text);
            return status;
        }
    }
    return KITH_OK;
}

/* Fills and sorts work->rows. */
static kith_status rows_collect(build *work, uint32_t source_count, kith_err *err) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < source_count; i++)
        total += live_count(&work->sources[i]);
    if (total > SEGMENT_ROWS_MAX) {
        return kith_err_set(err, KITH_INVALID, "%llu rows are more than the %u of a segment",
            (unsigned long long)total, SEGMENT_ROWS_MAX);
    }
    if (total == 0) return KITH_OK;
    work->rows = kith_try_alloc(total * sizeof *work->rows);
    if (!work->rows) {
        return kith_err_set(err, KITH_NO_MEMORY, "no memory to sort %llu rows", (unsigned long long)total);
    }
    for (uint32_t i = 0; i < source_count; i++)
        source_collect(work, (uint16_t)i);
    kith_status status = cancel_check(work, err);
    if (status != KITH_OK) return status;
    qsort_r(work->rows, work->row_count, sizeof *work->rows, row_compare, work);
    return repeats_check(work, err);
}

/* --- sections --- */

typedef struct column {
    kith_segment_section_kind kind;
    uint32_t field;
    uint32_t row_begin, row_end;
    /* Appends what row `at` puts into the section. */
    kith_status (*append)(build *work, const struct column *column, const build_row *at, kith_err *err);
} column;

static kith_status column_write(build *work, const column *what, kith_err *err) {
    if (what->row_begin == what->row_end) return KITH_OK;
    kith_status status = kith_segment_writer_begin(work->writer, what->kind, what->field, err);
    for (uint32_t i = what->row_begin; status == KITH_OK && i < what->row_end; i++) {
        if (i % BUILD_CANCEL_ROWS == 0) status = cancel_check(work, err);
        if (status == KITH_OK) status = what->append(work, what, &work->rows[i], err);
    }
    if (status == KITH_OK) kith_segment_writer_end(work->writer);
    return status;
}

static kith_status buf_section_write(build *work, kith_segment_section_kind kind, uint32_t field,
    const void *data, size_t bytes, kith_err *err) {
    kith_status status = kith_segment_writer_begin(work->writer, kind, field, err);
    if (status == KITH_OK) status = kith_segment_writer_append(work->writer, data, bytes, err);
    if (status == KITH_OK) kith_segment_writer_end(work->writer);
    return status;
}

static kith_status schema_write(build *work, kith_err *err) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_buf_u64(&buf, work->row_count);
    for (uint32_t type = KITH_ID_NUMBER; type <= KITH_ID_STRING; type++)
        kith_buf_u64(&buf, work->type_counts[type]);
    kith_buf_u32(&buf, work->schema->field_count);
    kith_buf_u32(&buf, 0);
    for (uint32_t i = 0; i < work->schema->field_count; i++) {
        const kith_field *field = &work->schema->fields[i];
        kith_buf_u32(&buf, field->dim);
        kith_buf_u32(&buf, (uint32_t)field->metric);
        kith_buf_u32(&buf, (uint32_t)field->type);
        kith_buf_u32(&buf, 0);
    }
    kith_status status = buf_section_write(work, KITH_SEGMENT_SCHEMA, 0, buf.data, buf.bytes, err);
    kith_buf_fini(&buf);
    return status;
}

static kith_status number_append(build *work, const column *what, const build_row *at, kith_err *err) {
    (void)what;
    uint8_t bytes[8];
    kith_store_u64(bytes, at->prefix);
    return kith_segment_writer_append(work->writer, bytes, sizeof bytes, err);
}

static kith_status id_bytes_append(build *work, const column *what, const build_row *at, kith_err *err) {
    (void)what;
    kith_id id = id_of(work, at);
    return kith_segment_writer_append(
        work->writer, id.bytes, id.type == KITH_ID_UUID ? 16 : id.text_bytes, err);
}

static kith_status sequence_append(build *work, const column *what, const build_row *at, kith_err *err) {
    (void)what;
    uint8_t bytes[8];
    kith_store_u64(bytes, kith_segment_row_sequence(work->sources[at->source].segment, at->row));
    return kith_segment_writer_append(work->writer, bytes, sizeof bytes, err);
}

static kith_status string_offsets_write(build *work, uint32_t row_begin, kith_err *err) {
    if (row_begin == work->row_count) return KITH_OK;
    kith_buf offsets;
    kith_buf_init(&offsets);
    uint32_t offset = 0;
    kith_buf_u32(&offsets, offset);
    for (uint32_t i = row_begin; i < work->row_count; i++) {
        offset += id_of(work, &work->rows[i]).text_bytes;
        kith_buf_u32(&offsets, offset);
    }
    kith_status status =
        buf_section_write(work, KITH_SEGMENT_ID_STRING_OFFSETS, 0, offsets.data, offsets.bytes, err);
    kith_buf_fini(&offsets);
    return status;
}

static kith_status ids_write(build *work, kith_err *err) {
    uint32_t numbers_end = work->type_counts[KITH_ID_NUMBER];
    uint32_t uuids_end = numbers_end + work->type_counts[KITH_ID_UUID];
    column numbers = {.kind = KITH_SEGMENT_ID_NUMBERS, .row_end = numbers_end, .append = number_append};
    column uuids = {.kind = KITH_SEGMENT_ID_UUIDS,
        .row_begin = numbers_end,
        .row_end = uuids_end,
        .append = id_bytes_append};
    column strings = {.kind = KITH_SEGMENT_ID_STRING_BYTES,
        .row_begin = uuids_end,
        .row_end = work->row_count,
        .append = id_bytes_append};
    column sequences = {
        .kind = KITH_SEGMENT_SEQUENCES, .row_end = work->row_count, .append = sequence_append};
    kith_status status = column_write(work, &numbers, err);
    if (status == KITH_OK) status = column_write(work, &uuids, err);
    if (status == KITH_OK) status = string_offsets_write(work, uuids_end, err);
    if (status == KITH_OK) status = column_write(work, &strings, err);
    if (status == KITH_OK) status = column_write(work, &sequences, err);
    return status;
}

static kith_status bloom_write(build *work, kith_err *err) {
    uint64_t block_count = segment_bloom_block_count(work->row_count);
    size_t bytes = block_count * SEGMENT_BLOOM_BLOCK_BYTES;
    uint64_t *blocks = kith_try_alloc(bytes);
    if (!blocks) return kith_err_set(err, KITH_NO_MEMORY, "no memory for a bloom filter of %zu bytes", bytes);
    memset(blocks, 0, bytes);
    for (uint32_t i = 0; i < work->row_count; i++) {
        kith_id id = id_of(work, &work->rows[i]);
        segment_bloom_add(blocks, block_count, kith_id_hash(&id));
    }
    kith_status status = buf_section_write(work, KITH_SEGMENT_BLOOM, 0, blocks, bytes, err);
    kith_free(blocks);
    return status;
}

static kith_status vector_append(build *work, const column *what, const build_row *at, kith_err *err) {
    static const uint8_t zeros[KITH_DIM_MAX * 4];
    const void *vector = kith_segment_row_vector(work->sources[at->source].segment, what->field, at->row);
    size_t bytes = kith_field_vector_bytes(&work->schema->fields[what->field]);
    return kith_segment_writer_append(work->writer, vector ? vector : zeros, bytes, err);
}

static kith_status norm_append(build *work, const column *what, const build_row *at, kith_err *err) {
    const kith_segment *segment = work->sources[at->source].segment;
    kith_rows rows = {0};
    segment->ops->rows_of(segment, what->field, &rows);
    return kith_segment_writer_append(work->writer, &rows.norms[at->row], sizeof *rows.norms, err);
}

/* Presence bits, unless every row has the field. */
static kith_status presence_write(build *work, uint32_t field_index, kith_err *err) {
    size_t words = kith_bitset_words(work->row_count);
    uint64_t *presence = kith_try_alloc(words * sizeof *presence);
    if (!presence)
        return kith_err_set(err, KITH_NO_MEMORY, "no memory for %zu words of presence bits", words);
    memset(presence, 0, words * sizeof *presence);
    uint32_t present = 0;
    for (uint32_t i = 0; i < work->row_count; i++) {
        const build_row *at = &work->rows[i];
        if (!kith_segment_row_vector(work->sources[at->source].segment, field_index, at->row)) continue;
        kith_bitset_set(presence, i);
        present++;
    }
    kith_status status = KITH_OK;
    if (present < work->row_count) {
        size_t bytes = words * sizeof *presence;
        status = buf_section_write(work, KITH_SEGMENT_PRESENCE, field_index, presence, bytes, err);
    }
    kith_free(presence);
    return status;
}

static const void *row_vector(const void *ctx, uint32_t field_index, uint32_t row) {
    const build *work = ctx;
    const build_row *at = &work->rows[row];
    return kith_segment_row_vector(work->sources[at->source].segment, field_index, at->row);
}

static kith_status codes_write(build *work, uint32_t field_index, kith_err *err) {
    segment_codes_rows rows = {.field = &work->schema->fields[field_index],
        .field_index = field_index,
        .row_count = work->row_count,
        .vector_at = row_vector,
        .ctx = work,
        .cancel = work->cancel};
    return segment_codes_write(work->writer, work->compute, &rows, err);
}

static kith_status field_write(build *work, uint32_t index, kith_err *err) {
    column vectors = {
        .kind = KITH_SEGMENT_VECTORS, .field = index, .row_end = work->row_count, .append = vector_append};
    column norms = {
        .kind = KITH_SEGMENT_NORMS, .field = index, .row_end = work->row_count, .append = norm_append};
    kith_status status = column_write(work, &vectors, err);
    if (status == KITH_OK) status = presence_write(work, index, err);
    if (status == KITH_OK) status = column_write(work, &norms, err);
    if (status == KITH_OK) status = codes_write(work, index, err);
    return status;
}

static kith_status sections_write(build *work, kith_err *err) {
    kith_status status = schema_write(work, err);
    if (status == KITH_OK) status = ids_write(work, err);
    if (status == KITH_OK) status = bloom_write(work, err);
    for (uint32_t i = 0; status == KITH_OK && i < work->schema->field_count; i++)
        status = field_write(work, i, err);
    return status;
}

/* --- the file --- */

/* Makes `path` appear under its name, for good. */
static kith_status publish(kith_env *env, const char *temporary, const char *path, kith_err *err) {
    kith_status status = kith_path_rename(env, temporary, path, err);
    if (status != KITH_OK) return status;
    char folder[BUILD_PATH_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    int bytes = slash ? (int)(slash - path) : 1;
    snprintf(folder, sizeof folder, "%.*s", bytes > 0 ? bytes : 1, slash ? path : ".");
    return kith_dir_sync(env, folder, err);
}

static kith_status file_write(build *work, kith_env *env, const char *path, kith_err *err) {
    char temporary[BUILD_PATH_BYTES_MAX];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    kith_status status = kith_segment_writer_open(env, temporary, &work->writer, err);
    if (status == KITH_OK) status = sections_write(work, err);
    if (status == KITH_OK) status = kith_segment_writer_finish(work->writer, err);
    kith_segment_writer_close(work->writer);
    if (status == KITH_OK) status = publish(env, temporary, path, err);
    /* What is left over when this fails too is removed with other unnamed files at the next start. */
    if (status != KITH_OK) (void)!kith_path_remove(env, temporary, NULL);
    return status;
}

kith_status kith_segment_build(kith_env *env, const char *path, const kith_schema *schema,
    const kith_compute_ops *compute, const kith_segment_source *sources, uint32_t source_count,
    const atomic_bool *cancel, uint32_t *row_count_out, kith_err *err) {
    kith_assert(source_count <= BUILD_SOURCES_MAX);
    kith_assert(strlen(path) < BUILD_PATH_BYTES_MAX - sizeof ".tmp");
    build work = {.schema = schema, .compute = compute, .sources = sources, .cancel = cancel};
    kith_status status = cancel_check(&work, err);
    if (status == KITH_OK) status = rows_collect(&work, source_count, err);
    if (status == KITH_OK && work.row_count > 0) status = file_write(&work, env, path, err);
    kith_free(work.rows);
    if (status != KITH_OK) return kith_err_wrap(err, status, "build segment %s", path);
    *row_count_out = work.row_count;
    return KITH_OK;
}
