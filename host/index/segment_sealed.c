/* Sealed segments: a mapped segment file whose sections were checked to mean what they must before the first
 * read, so that no later read checks anything. Rows are in id order: numbers, UUIDs, strings. */
#include "host/index/segment_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/base/log.h"
#include "host/index/segment_bloom.h"
#include "host/index/segment_codes.h"
#include "host/store/segment_file.h"

/* Mapped arrays are read as they lie. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segment files are little-endian");

typedef struct sealed_field {
    const uint8_t *vectors;
    const float *norms;
    const uint64_t *presence; /* NULL: every row has the field */
    size_t vector_bytes;
    kith_codes codes;
    bool has_codes;
} sealed_field;

typedef struct sealed_segment {
    kith_segment segment;
    kith_env *env;
    kith_segment_file *file;
    atomic_bool remove_file;
    uint32_t row_count;
    uint32_t number_count; /* rows [0, number_count) */
    uint32_t uuid_count;   /* the rows after them */
    uint32_t string_count; /* the rows after those */
    const uint64_t *numbers;
    const uint8_t *uuids;
    const uint32_t *string_offsets; /* [string_count + 1] */
    const uint8_t *string_bytes;
    const uint64_t *sequences;
    const uint64_t *bloom;
    uint64_t bloom_block_count;
    sealed_field fields[KITH_FIELDS_MAX];
    /* Who has copies of the rows; NULL: nobody. Whoever attaches holds a reference, so this is written before the last one
     * is released. */
    const kith_compute_ops *attached;
} sealed_segment;

static const sealed_segment *sealed_of(const kith_segment *segment) {
    return (const sealed_segment *)segment;
}

/* Searches hold the segment, so none is under way; the file is still mapped, so no other has its addresses. */
static void detach(const sealed_segment *sealed) {
    for (uint32_t i = 0; sealed->attached && i < sealed->segment.schema.field_count; i++) {
        if (sealed->fields[i].has_codes) sealed->attached->detach(sealed->fields[i].vectors);
    }
}

static void sealed_destroy(kith_segment *segment) {
    sealed_segment *sealed = (sealed_segment *)segment;
    detach(sealed);
    if (atomic_load(&sealed->remove_file)) {
        kith_err err;
        const char *path = kith_segment_file_path(sealed->file);
        if (kith_path_remove(sealed->env, path, &err) != KITH_OK) {
            kith_log_warn("segment_file_not_removed", kith_kv_text("cause", err.text));
        }
    }
    kith_segment_file_close(sealed->file);
    kith_free(sealed);
}

void segment_sealed_mark_removed(kith_segment *segment) {
    atomic_store(&((sealed_segment *)segment)->remove_file, true);
}

/* --- reading rows --- */

static uint32_t sealed_row_count(const kith_segment *segment) {
    return sealed_of(segment)->row_count;
}

static uint64_t sealed_vector_bytes(const kith_segment *segment) {
    return (uint64_t)sealed_of(segment)->row_count * kith_schema_row_bytes(&segment->schema);
}

static kith_id string_id(const sealed_segment *sealed, uint32_t index) {
    uint32_t begin = sealed->string_offsets[index];
    return (kith_id){.type = KITH_ID_STRING,
        .text_bytes = (uint8_t)(sealed->string_offsets[index + 1] - begin),
        .bytes = sealed->string_bytes + begin};
}

static kith_id uuid_id(const sealed_segment *sealed, uint32_t index) {
    return (kith_id){.type = KITH_ID_UUID, .bytes = sealed->uuids + (size_t)index * 16};
}

static kith_id sealed_row_id(const kith_segment *segment, uint32_t row) {
    const sealed_segment *sealed = sealed_of(segment);
    if (row < sealed->number_count) return kith_id_of_number(sealed->numbers[row]);
    row -= sealed->number_count;
    return row < sealed->uuid_count ? uuid_id(sealed, row) : string_id(sealed, row - sealed->uuid_count);
}

static uint64_t sealed_row_sequence(const kith_segment *segment, uint32_t row) {
    return sealed_of(segment)->sequences[row];
}

static const void *sealed_row_vector(const kith_segment *segment, uint32_t field_index, uint32_t row) {
    const sealed_field *field = &sealed_of(segment)->fields[field_index];
    if (field->presence && !kith_bitset_get(field->presence, row)) return NULL;
    return field->vectors + (size_t)row * field->vector_bytes;
}

static void sealed_rows_of(const kith_segment *segment, uint32_t field_index, kith_rows *rows) {
    const sealed_field *field = &sealed_of(segment)->fields[field_index];
    rows->vectors = field->vectors;
    rows->norms = field->norms;
    rows->allow = field->presence;
    rows->codes = field->has_codes ? &field->codes : NULL;
}

static bool sealed_any_missing(const kith_segment *segment, uint32_t field_index) {
    return sealed_of(segment)->fields[field_index].presence != NULL;
}

static void sealed_presence_read(const kith_segment *segment, uint32_t field_index, size_t word_begin,
    size_t word_end, uint64_t *presence_out) {
    const uint64_t *presence = sealed_of(segment)->fields[field_index].presence;
    for (size_t i = word_begin; i < word_end; i++)
        presence_out[i - word_begin] = presence ? presence[i] : ~0ULL;
}

/* --- finding an id --- */

/* Index of `number` in `numbers` [count] rising, or KITH_ROW_NONE. The step is a conditional move: a search
 * through random ids would mispredict half of its branches. */
static uint32_t number_find(const uint64_t *numbers, uint32_t count, uint64_t number) {
    const uint64_t *base = numbers;
    uint32_t left = count;
    while (left > 1) {
        uint32_t half = left / 2;
        base = base[half] <= number ? base + half : base;
        left -= half;
    }
    return *base == number ? (uint32_t)(base - numbers) : KITH_ROW_NONE;
}

static uint32_t bytes_find(const sealed_segment *sealed, kith_id (*id_at)(const sealed_segment *, uint32_t),
    uint32_t count, const kith_id *id) {
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        kith_id candidate = id_at(sealed, middle);
        int order = kith_id_compare(&candidate, id);
        if (order == 0) return middle;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return KITH_ROW_NONE;
}

/* Whether `id` is between the first and the last of its kind. */
static bool in_bounds(const sealed_segment *sealed, const kith_id *id) {
    if (id->type == KITH_ID_NUMBER) {
        return sealed->number_count > 0 && sealed->numbers[0] <= id->number &&
               id->number <= sealed->numbers[sealed->number_count - 1];
    }
    uint32_t count = id->type == KITH_ID_UUID ? sealed->uuid_count : sealed->string_count;
    if (count == 0) return false;
    kith_id first = id->type == KITH_ID_UUID ? uuid_id(sealed, 0) : string_id(sealed, 0);
    kith_id last = id->type == KITH_ID_UUID ? uuid_id(sealed, count - 1) : string_id(sealed, count - 1);
    return kith_id_compare(&first, id) <= 0 && kith_id_compare(id, &last) <= 0;
}

static uint32_t sealed_find(const kith_segment *segment, const kith_id *id, uint32_t row_end) {
    (void)row_end; /* whoever sees a file sees all of it */
    const sealed_segment *sealed = sealed_of(segment);
    if (!in_bounds(sealed, id)) return KITH_ROW_NONE;
    if (!segment_bloom_may_have(sealed->bloom, sealed->bloom_block_count, kith_id_hash(id)))
        return KITH_ROW_NONE;
    if (id->type == KITH_ID_NUMBER) return number_find(sealed->numbers, sealed->number_count, id->number);
    uint32_t first = sealed->number_count;
    uint32_t index;
    if (id->type == KITH_ID_UUID) {
        index = bytes_find(sealed, uuid_id, sealed->uuid_count, id);
    } else {
        first += sealed->uuid_count;
        index = bytes_find(sealed, string_id, sealed->string_count, id);
    }
    return index == KITH_ROW_NONE ? KITH_ROW_NONE : first + index;
}

static const segment_ops sealed_ops = {
    .destroy = sealed_destroy,
    .row_count = sealed_row_count,
    .vector_bytes = sealed_vector_bytes,
    .find = sealed_find,
    .row_id = sealed_row_id,
    .row_sequence = sealed_row_sequence,
    .row_vector = sealed_row_vector,
    .rows_of = sealed_rows_of,
    .any_missing = sealed_any_missing,
    .presence_read = sealed_presence_read,
};

/* --- opening: what the sections say --- */

static kith_status corrupt(
    const sealed_segment *sealed, kith_segment_section_kind kind, const char *what, kith_err *err) {
    const kith_segment_section *section = kith_segment_file_find(sealed->file, kind, 0);
    return kith_err_set(err, KITH_CORRUPT, "%s: %s at offset %llu: %s", kith_segment_file_path(sealed->file),
        kith_segment_section_name(kind), (unsigned long long)(section ? section->offset : 0), what);
}

/* The section's bytes, which must be `bytes` many; an absent section has none. */
static kith_status section_get(const sealed_segment *sealed, kith_segment_section_kind kind, uint32_t field,
    uint64_t bytes, const void **data_out, kith_err *err) {
    const kith_segment_section *section = kith_segment_file_find(sealed->file, kind, field);
    uint64_t section_bytes = section ? section->bytes : 0;
    if (section_bytes != bytes) {
        return kith_err_set(err, KITH_CORRUPT,
            "%s: %s of field %u at offset %llu: %llu bytes instead of %llu",
            kith_segment_file_path(sealed->file), kith_segment_section_name(kind), field,
            (unsigned long long)(section ? section->offset : 0), (unsigned long long)section_bytes,
            (unsigned long long)bytes);
    }
    *data_out = section ? section->data : NULL;
    return KITH_OK;
}

static kith_status counts_read(sealed_segment *sealed, kith_reader *reader, kith_err *err) {
    uint64_t rows = kith_reader_u64(reader);
    uint64_t numbers = kith_reader_u64(reader);
    uint64_t uuids = kith_reader_u64(reader);
    uint64_t strings = kith_reader_u64(reader);
    bool fits = rows > 0 && rows <= SEGMENT_ROWS_MAX && numbers <= rows && uuids <= rows && strings <= rows &&
                numbers + uuids + strings == rows;
    if (!fits) return corrupt(sealed, KITH_SEGMENT_SCHEMA, "its row counts do not fit each other", err);
    sealed->row_count = sealed->segment.rows_max = (uint32_t)rows;
    sealed->number_count = (uint32_t)numbers;
    sealed->uuid_count = (uint32_t)uuids;
    sealed->string_count = (uint32_t)strings;
    return KITH_OK;
}

static kith_status schema_read(sealed_segment *sealed, kith_err *err) {
    const kith_schema *schema = &sealed->segment.schema;
    const kith_segment_section *section = kith_segment_file_find(sealed->file, KITH_SEGMENT_SCHEMA, 0);
    if (!section) return corrupt(sealed, KITH_SEGMENT_SCHEMA, "the section is not there", err);
    kith_reader reader = kith_reader_of(section->data, section->bytes);
    kith_status status = counts_read(sealed, &reader, err);
    if (status != KITH_OK) return status;
    bool same = kith_reader_u32(&reader) == schema->field_count;
    (void)kith_reader_u32(&reader);
    for (uint32_t i = 0; same && i < schema->field_count; i++) {
        const kith_field *field = &schema->fields[i];
        same = kith_reader_u32(&reader) == field->dim;
        same = kith_reader_u32(&reader) == (uint32_t)field->metric && same;
        same = kith_reader_u32(&reader) == (uint32_t)field->type && same;
        (void)kith_reader_u32(&reader);
    }
    same = same && !reader.failed && kith_reader_left(&reader) == 0;
    return same ? KITH_OK : corrupt(sealed, KITH_SEGMENT_SCHEMA, "it was built for another schema", err);
}

static kith_status strings_check(const sealed_segment *sealed, uint64_t string_bytes, kith_err *err) {
    const uint32_t *offsets = sealed->string_offsets;
    bool fits = offsets[0] == 0 && offsets[sealed->string_count] == string_bytes;
    for (uint32_t i = 0; fits && i < sealed->string_count; i++) {
        fits = offsets[i + 1] > offsets[i] && offsets[i + 1] - offsets[i] <= KITH_ID_BYTES_MAX &&
               offsets[i + 1] <= string_bytes;
    }
    return fits ? KITH_OK : corrupt(sealed, KITH_SEGMENT_ID_STRING_OFFSETS, "an offset does not fit", err);
}

static kith_status order_check(const sealed_segment *sealed, kith_err *err) {
    kith_id before = sealed_row_id(&sealed->segment, 0);
    for (uint32_t row = 1; row < sealed->row_count; row++) {
        kith_id id = sealed_row_id(&sealed->segment, row);
        if (kith_id_compare(&before, &id) >= 0) {
            return kith_err_set(err, KITH_CORRUPT, "%s: ids of rows %u and %u are not in order",
                kith_segment_file_path(sealed->file), row - 1, row);
        }
        before = id;
    }
    return KITH_OK;
}

static kith_status ids_read(sealed_segment *sealed, kith_err *err) {
    const void *data = NULL;
    kith_status status =
        section_get(sealed, KITH_SEGMENT_ID_NUMBERS, 0, 8ULL * sealed->number_count, &data, err);
    if (status != KITH_OK) return status;
    sealed->numbers = data;
    status = section_get(sealed, KITH_SEGMENT_ID_UUIDS, 0, 16ULL * sealed->uuid_count, &data, err);
    if (status != KITH_OK) return status;
    sealed->uuids = data;
    if (sealed->string_count > 0) {
        status = section_get(
            sealed, KITH_SEGMENT_ID_STRING_OFFSETS, 0, 4ULL * sealed->string_count + 4, &data, err);
        if (status != KITH_OK) return status;
        sealed->string_offsets = data;
        const kith_segment_section *bytes =
            kith_segment_file_find(sealed->file, KITH_SEGMENT_ID_STRING_BYTES, 0);
        if (!bytes) return corrupt(sealed, KITH_SEGMENT_ID_STRING_BYTES, "the section is not there", err);
        sealed->string_bytes = bytes->data;
        status = strings_check(sealed, bytes->bytes, err);
        if (status != KITH_OK) return status;
    }
    return order_check(sealed, err);
}

static kith_status bloom_read(sealed_segment *sealed, kith_err *err) {
    const kith_segment_section *section = kith_segment_file_find(sealed->file, KITH_SEGMENT_BLOOM, 0);
    if (!section || section->bytes == 0 || section->bytes % SEGMENT_BLOOM_BLOCK_BYTES != 0) {
        return corrupt(sealed, KITH_SEGMENT_BLOOM, "it is not a number of blocks", err);
    }
    sealed->bloom = (const uint64_t *)section->data;
    sealed->bloom_block_count = section->bytes / SEGMENT_BLOOM_BLOCK_BYTES;
    return KITH_OK;
}

static kith_status presence_read(sealed_segment *sealed, uint32_t index, kith_err *err) {
    if (!kith_segment_file_find(sealed->file, KITH_SEGMENT_PRESENCE, index)) return KITH_OK;
    uint64_t rows = sealed->row_count;
    size_t words = kith_bitset_words(rows);
    const void *data = NULL;
    kith_status status =
        section_get(sealed, KITH_SEGMENT_PRESENCE, index, words * sizeof(uint64_t), &data, err);
    if (status != KITH_OK) return status;
    const uint64_t *presence = data;
    if (rows % 64 != 0 && presence[words - 1] >> (rows % 64) != 0) {
        return corrupt(sealed, KITH_SEGMENT_PRESENCE, "a bit is set past the last row", err);
    }
    sealed->fields[index].presence = presence;
    return KITH_OK;
}

static void section_forget(const sealed_segment *sealed, kith_segment_section_kind kind, uint32_t index) {
    const kith_segment_section *section = kith_segment_file_find(sealed->file, kind, index);
    if (section) kith_file_map_forget(sealed->env, section->data, section->bytes);
}

/* A scan reads codes and a few vectors: pages need not count as this process's until they are read again. */
static void vectors_forget(const sealed_segment *sealed, uint32_t index) {
    section_forget(sealed, KITH_SEGMENT_VECTORS, index);
    section_forget(sealed, KITH_SEGMENT_NORMS, index);
}

void segment_sealed_attach(kith_segment *segment, const kith_compute_ops *compute) {
    sealed_segment *sealed = (sealed_segment *)segment;
    kith_assert(!sealed->attached);
    sealed->attached = compute;
    for (uint32_t i = 0; i < segment->schema.field_count; i++) {
        if (!sealed->fields[i].has_codes) continue;
        const kith_field *field = &segment->schema.fields[i];
        kith_rows rows = {
            .row_count = sealed->row_count, .dim = field->dim, .type = field->type, .metric = field->metric};
        sealed_rows_of(segment, i, &rows);
        compute->attach(&rows);
        vectors_forget(sealed, i); /* it read them all */
    }
}

static kith_status field_read(sealed_segment *sealed, uint32_t index, kith_err *err) {
    sealed_field *field = &sealed->fields[index];
    const kith_field *schema = &sealed->segment.schema.fields[index];
    uint64_t rows = sealed->row_count;
    field->vector_bytes = kith_field_vector_bytes(schema);
    const void *data = NULL;
    kith_status status =
        section_get(sealed, KITH_SEGMENT_VECTORS, index, rows * field->vector_bytes, &data, err);
    if (status != KITH_OK) return status;
    field->vectors = data;
    status = section_get(sealed, KITH_SEGMENT_NORMS, index, rows * sizeof *field->norms, &data, err);
    if (status != KITH_OK) return status;
    field->norms = data;
    status = presence_read(sealed, index, err);
    if (status != KITH_OK) return status;
    return segment_codes_read(
        sealed->file, schema, index, sealed->row_count, &field->codes, &field->has_codes, err);
}

static kith_status sections_read(sealed_segment *sealed, kith_err *err) {
    kith_status status = schema_read(sealed, err);
    if (status == KITH_OK) status = ids_read(sealed, err);
    if (status == KITH_OK) status = bloom_read(sealed, err);
    if (status != KITH_OK) return status;
    const void *data = NULL;
    status = section_get(sealed, KITH_SEGMENT_SEQUENCES, 0, 8ULL * sealed->row_count, &data, err);
    sealed->sequences = data;
    for (uint32_t i = 0; status == KITH_OK && i < sealed->segment.schema.field_count; i++) {
        status = field_read(sealed, i, err);
    }
    return status;
}

kith_status kith_segment_sealed_open(kith_env *env, const char *path, uint64_t id, const kith_schema *schema,
    kith_segment **segment_out, kith_err *err) {
    sealed_segment *sealed = kith_alloc_zero(sizeof *sealed);
    segment_init(&sealed->segment, &sealed_ops, true, id, schema, 0);
    sealed->env = env;
    kith_status status = kith_segment_file_open(env, path, &sealed->file, err);
    if (status == KITH_OK) status = sections_read(sealed, err);
    if (status != KITH_OK) {
        sealed_destroy(&sealed->segment);
        return status;
    }
    *segment_out = &sealed->segment;
    return KITH_OK;
}
