/* Text: UTF-8, numbers, names, JSON checks. Nothing here depends on the locale. */
#ifndef KITH_BASE_TEXT_H
#define KITH_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/buf.h"
#include "host/base/err.h"

/* Strict UTF-8 (no surrogates, no overlong forms). On failure `*bad_offset_out` is the first bad byte. */
bool kith_text_utf8_check(const char *text, size_t bytes, size_t *bad_offset_out);
/* The whole text is one number in range, no spaces; no plus sign, and a minus only for i64. */
bool kith_text_parse_u64(const char *text, size_t bytes, uint64_t *value_out);
bool kith_text_parse_i64(const char *text, size_t bytes, int64_t *value_out);
/* The whole text is one decimal number ("1", "-2.5e3"); not "inf", "nan" or hex; refused when too
 * large for a double. */
bool kith_text_parse_f64(const char *text, size_t bytes, double *value_out);
/* Edits between two short texts (Levenshtein 1966), for "did you mean"; of longer
 * ones the first 64 bytes count. */
uint32_t kith_text_distance(const char *a, const char *b);
/* `text` as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
void kith_text_append_json_string(kith_buf *buf, const char *text, size_t bytes);
/* The shortest decimal that reads back as the same float. "null" for NaN and infinities.
 * Digits come first: 1, 0.25, 16777216, 1e-7, 3.4028235e38. */
void kith_text_append_f32(kith_buf *buf, float value);
void kith_text_append_f64(kith_buf *buf, double value);
/* Exactly one JSON value (RFC 8259) with nesting at most `depth_max`, strict UTF-8 and no lone surrogate
 * escape; the message says what and at which byte. `depth_max` <= 1024; `object_only` refuses anything but an
 * object. */
KITH_CHECK kith_status kith_text_json_check(
    const char *text, size_t bytes, uint32_t depth_max, bool object_only, kith_err *err);

#endif
