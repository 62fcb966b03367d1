/* The header of NumPy's .npy (numpy.lib.format, versions 1.0 to 3.0): "\x93NUMPY", version, the length of a
 * Python dict literal, the dict {'descr': '<f4', 'fortran_order': False, 'shape': (rows, dim), }, then the
 * data. The literal is read by its own small grammar: a string, True or False, or a tuple of numbers a key,
 * in any order. */
#include <string.h>

#include "host/base/bytes.h"
#include "host/base/text.h"
#include "host/cli/format_internal.h"

#define HEADER_BYTES_MAX 4096u
#define SHAPE_MAX        8

typedef struct npy_dict {
    char descr[16];
    bool has_descr, has_order, has_shape;
    bool fortran_order;
    uint64_t shape[SHAPE_MAX];
    uint32_t shape_count;
} npy_dict;

typedef struct npy_cursor {
    const char *at, *end;
} npy_cursor;

static void skip_spaces(npy_cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n'))
        cursor->at++;
}

static bool take_char(npy_cursor *cursor, char wanted) {
    skip_spaces(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted) return false;
    cursor->at++;
    return true;
}

static bool take_word(npy_cursor *cursor, const char *word) {
    size_t bytes = strlen(word);
    skip_spaces(cursor);
    if ((size_t)(cursor->end - cursor->at) < bytes || memcmp(cursor->at, word, bytes) != 0) return false;
    cursor->at += bytes;
    return true;
}

static bool take_string(npy_cursor *cursor, char *text_out, size_t text_bytes) {
    skip_spaces(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '\'' && *cursor->at != '"')) return false;
    char quote = *cursor->at++;
    const char *close = memchr(cursor->at, quote, (size_t)(cursor->end - cursor->at));
    if (!close || (size_t)(close - cursor->at) >= text_bytes) return false;
    size_t bytes = (size_t)(close - cursor->at);
    memcpy(text_out, cursor->at, bytes);
    text_out[bytes] = '\0';
    cursor->at = close + 1;
    return true;
}

static bool take_shape(npy_cursor *cursor, npy_dict *dict) {
    if (!take_char(cursor, '(')) return false;
    while (!take_char(cursor, ')')) {
        skip_spaces(cursor);
        const char *start = cursor->at;
        while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
            cursor->at++;
        if (dict->shape_count == SHAPE_MAX) return false;
        uint64_t *axis = &dict->shape[dict->shape_count++];
        if (!kith_text_parse_u64(start, (size_t)(cursor->at - start), axis)) return false;
        if (!take_char(cursor, ',')) return take_char(cursor, ')');
    }
    return true;
}

static bool take_entry(npy_cursor *cursor, npy_dict *dict) {
    char key[32];
    if (!take_string(cursor, key, sizeof key) || !take_char(cursor, ':')) return false;
    if (strcmp(key, "descr") == 0) {
        dict->has_descr = true;
        return take_string(cursor, dict->descr, sizeof dict->descr);
    }
    if (strcmp(key, "fortran_order") == 0) {
        dict->has_order = true;
        dict->fortran_order = take_word(cursor, "True");
        return dict->fortran_order || take_word(cursor, "False");
    }
    if (strcmp(key, "shape") != 0) return false;
    dict->has_shape = true;
    dict->shape_count = 0;
    return take_shape(cursor, dict);
}

static bool take_dict(npy_cursor *cursor, npy_dict *dict) {
    if (!take_char(cursor, '{')) return false;
    while (!take_char(cursor, '}')) {
        if (!take_entry(cursor, dict)) return false;
        if (!take_char(cursor, ',')) {
            if (!take_char(cursor, '}')) return false;
            break;
        }
    }
    skip_spaces(cursor);
    return cursor->at == cursor->end && dict->has_descr && dict->has_order && dict->has_shape;
}

static bool element_of(const char *descr, kith_format_element *element_out) {
    static const struct {
        const char *descr;
        kith_format_element element;
    } known[] = {
        {"<f4", KITH_FORMAT_F32},
        {"<f8", KITH_FORMAT_F64},
        {"<f2", KITH_FORMAT_F16},
        {"|i1", KITH_FORMAT_I8},
        {"|u1", KITH_FORMAT_U8},
        {"<i4", KITH_FORMAT_I32},
        {"<u4", KITH_FORMAT_U32},
        {"<i8", KITH_FORMAT_I64},
        {"<u8", KITH_FORMAT_U64},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(descr, known[i].descr) != 0) continue;
        *element_out = known[i].element;
        return true;
    }
    return false;
}

static kith_status check_dict(
    const kith_format_source *source, const npy_dict *dict, kith_format_matrix *matrix, kith_err *err) {
    if (!element_of(dict->descr, &matrix->element)) {
        return kith_err_set(err, KITH_INVALID,
            "%s: dtype '%s' is not one of float16, float32, float64, int8, uint8, little-endian (save "
            "array.astype('<f4'))",
            source->name, dict->descr);
    }
    if (dict->fortran_order) {
        return kith_err_set(err, KITH_INVALID,
            "%s: the array is in Fortran order (save numpy.ascontiguousarray(array))", source->name);
    }
    if (dict->shape_count != 2) {
        return kith_err_set(err, KITH_INVALID, "%s: the array has %u axes, not 2 (rows, components)",
            source->name, dict->shape_count);
    }
    if (dict->shape[1] < 1 || dict->shape[1] > KITH_DIM_MAX) {
        return kith_err_set(err, KITH_INVALID, "%s: %llu components a row are not in 1..%u", source->name,
            (unsigned long long)dict->shape[1], KITH_DIM_MAX);
    }
    matrix->rows = dict->shape[0];
    matrix->dim = (uint32_t)dict->shape[1];
    return KITH_OK;
}

/* The data must be exactly what the shape says: a cut file is found before the first row is sent. */
static kith_status check_size(
    const kith_format_source *source, const kith_format_matrix *matrix, kith_err *err) {
    uint64_t row_bytes = (uint64_t)matrix->dim * kith_format_element_bytes(matrix->element);
    uint64_t data_bytes = source->bytes - matrix->data_offset;
    if (matrix->rows == data_bytes / row_bytes && data_bytes % row_bytes == 0) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "%s: the shape (%llu, %u) needs %llu bytes a row behind byte %llu, the file has %llu bytes there",
        source->name, (unsigned long long)matrix->rows, matrix->dim, (unsigned long long)row_bytes,
        (unsigned long long)matrix->data_offset, (unsigned long long)data_bytes);
}

static kith_status header_fault(const kith_format_source *source, const char *what, kith_err *err) {
    return kith_err_set(err, KITH_INVALID, "%s: %s", source->name, what);
}

kith_status kith_format_npy_header(
    kith_format_source *source, kith_format_matrix *matrix_out, kith_err *err) {
    uint8_t head[12];
    char header[HEADER_BYTES_MAX];
    if (source->bytes < 10) return header_fault(source, "the file is too short for an npy header", err);
    size_t head_bytes = source->bytes < sizeof head ? 10 : sizeof head;
    kith_status status = kith_format_source_read(source, 0, head, head_bytes, err);
    if (status != KITH_OK) return status;
    if (memcmp(head, "\x93NUMPY", 6) != 0) return header_fault(source, "byte 0: this is no npy file", err);
    bool wide = head[6] >= 2;
    if (head[6] < 1 || head[6] > 3 || (wide && head_bytes < sizeof head))
        return header_fault(source, "byte 6: npy versions 1 to 3 are known, this is another", err);
    uint32_t header_bytes = wide ? kith_load_u32(head + 8) : kith_load_u16(head + 8);
    uint32_t header_offset = wide ? 12 : 10;
    if (header_bytes > sizeof header) return header_fault(source, "byte 8: the npy header is too long", err);
    status = kith_format_source_read(source, header_offset, header, header_bytes, err);
    if (status != KITH_OK) return status;

    npy_cursor cursor = {.at = header, .end = header + header_bytes};
    npy_dict dict = {.shape_count = 0};
    if (!take_dict(&cursor, &dict)) {
        return kith_err_set(err, KITH_INVALID,
            "%s: byte %u: the npy header is not a dict of descr, fortran_order "
            "and shape",
            source->name, header_offset + (uint32_t)(cursor.at - header));
    }
    kith_format_matrix matrix = {.data_offset = header_offset + header_bytes};
    status = check_dict(source, &dict, &matrix, err);
    if (status == KITH_OK) status = check_size(source, &matrix, err);
    if (status == KITH_OK) *matrix_out = matrix;
    return status;
}
