/* Any bytes: the JSON check neither reads past them nor loops. What it accepts, it accepts again between
 * spaces, and its string form is JSON; numbers that parse are written so that they parse to the same. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_spaced(const char *text, size_t bytes, kith_err *err) {
    kith_buf spaced;
    kith_buf_init(&spaced);
    kith_buf_append_text(&spaced, " \t");
    kith_buf_append(&spaced, text, bytes);
    kith_buf_append_text(&spaced, "\r\n");
    kith_status status = kith_text_json_check((const char *)spaced.data, spaced.bytes, 64, false, err);
    kith_assert(status == KITH_OK);
    kith_buf_fini(&spaced);
}

static void check_string_form(const char *text, size_t bytes, kith_err *err) {
    kith_buf string;
    kith_buf_init(&string);
    kith_text_append_json_string(&string, text, bytes);
    kith_status status = kith_text_json_check((const char *)string.data, string.bytes, 0, false, err);
    kith_assert(status == KITH_OK);
    kith_buf_fini(&string);
}

static void check_number(const char *text, size_t bytes) {
    double value;
    if (!kith_text_parse_f64(text, bytes, &value)) return;
    kith_buf written;
    kith_buf_init(&written);
    kith_text_append_f64(&written, value);
    double again;
    bool parsed = kith_text_parse_f64((const char *)written.data, written.bytes, &again);
    kith_assert(parsed);
    kith_assert(memcmp(&value, &again, sizeof value) == 0);
    kith_buf_fini(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    kith_err err;
    const char *text = (const char *)data;
    kith_status any = kith_text_json_check(text, bytes, 64, false, &err);
    kith_status object = kith_text_json_check(text, bytes, 64, true, &err);
    if (object == KITH_OK) kith_assert(any == KITH_OK);
    if (any == KITH_OK) check_spaced(text, bytes, &err);
    check_string_form(text, bytes, &err);
    check_number(text, bytes);
    return 0;
}
