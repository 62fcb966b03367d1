/* Checks JSON without building it and without recursion: the open containers are one bit each. */
#include <string.h>

#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/text.h"

#define JSON_DEPTH_MAX 1024u

typedef struct json_check {
    const char *text;
    size_t bytes;
    size_t at;
    uint32_t depth;
    uint32_t depth_max;
    uint64_t is_object[JSON_DEPTH_MAX / 64]; /* of the open containers, outermost first */
    kith_err *err;
} json_check;

static kith_status bad(const json_check *check, const char *what) {
    return kith_err_set(check->err, KITH_INVALID, "not valid JSON: %s at byte %zu", what, check->at);
}

/* The byte at hand; 0 at the end (which no rule accepts). */
static char peek(const json_check *check) {
    return check->at < check->bytes ? check->text[check->at] : 0;
}

static void skip_space(json_check *check) {
    char c = peek(check);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        check->at++;
        c = peek(check);
    }
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool skip_digits(json_check *check) {
    size_t start = check->at;
    while (is_digit(peek(check)))
        check->at++;
    return check->at > start;
}

static kith_status check_number(json_check *check) {
    if (peek(check) == '-') check->at++;
    if (peek(check) == '0') {
        check->at++;
    } else if (!skip_digits(check)) {
        return bad(check, "expected a digit");
    }
    if (peek(check) == '.') {
        check->at++;
        if (!skip_digits(check)) return bad(check, "expected a digit");
    }
    if (peek(check) == 'e' || peek(check) == 'E') {
        check->at++;
        if (peek(check) == '+' || peek(check) == '-') check->at++;
        if (!skip_digits(check)) return bad(check, "expected a digit");
    }
    return KITH_OK;
}

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Four hex digits. */
static bool read_unit(json_check *check, uint32_t *unit_out) {
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(peek(check));
        if (digit < 0) return false;
        unit = unit << 4 | (uint32_t)digit;
        check->at++;
    }
    *unit_out = unit;
    return true;
}

/* After "\u". A surrogate is good only as the first of a pair. */
static kith_status check_unicode_escape(json_check *check) {
    uint32_t unit;
    if (!read_unit(check, &unit)) return bad(check, "expected four hex digits");
    if (unit < 0xD800 || unit > 0xDFFF) return KITH_OK;
    uint32_t second = 0;
    bool paired =
        unit < 0xDC00 && check->bytes - check->at >= 2 && memcmp(check->text + check->at, "\\u", 2) == 0;
    if (paired) {
        check->at += 2;
        paired = read_unit(check, &second) && second >= 0xDC00 && second <= 0xDFFF;
    }
    return paired ? KITH_OK : bad(check, "lone surrogate");
}

/* After a backslash. */
static kith_status check_escape(json_check *check) {
    char c = peek(check);
    if (c == 0 || !strchr("\"\\/bfnrtu", c)) return bad(check, "unknown escape");
    check->at++;
    return c == 'u' ? check_unicode_escape(check) : KITH_OK;
}

/* UTF-8 has been checked before. */
static kith_status check_string(json_check *check) {
    if (peek(check) != '"') return bad(check, "expected a string");
    check->at++;
    while (check->at < check->bytes) {
        unsigned char c = (unsigned char)check->text[check->at];
        if (c < 0x20) return bad(check, "control character in a string");
        check->at++;
        if (c == '"') return KITH_OK;
        if (c != '\\') continue;
        kith_status status = check_escape(check);
        if (status != KITH_OK) return status;
    }
    return bad(check, "string without end");
}

static kith_status check_word(json_check *check, const char *word) {
    size_t bytes = strlen(word);
    if (check->bytes - check->at < bytes) return bad(check, "unknown word");
    if (memcmp(check->text + check->at, word, bytes) != 0) return bad(check, "unknown word");
    check->at += bytes;
    return KITH_OK;
}

static kith_status check_scalar(json_check *check) {
    switch (peek(check)) {
    case '"':
        return check_string(check);
    case 't':
        return check_word(check, "true");
    case 'f':
        return check_word(check, "false");
    case 'n':
        return check_word(check, "null");
    default:
        return peek(check) == '-' || is_digit(peek(check)) ? check_number(check)
                                                           : bad(check, "expected a value");
    }
}

static bool in_object(const json_check *check) {
    return kith_bitset_get(check->is_object, check->depth - 1);
}

static kith_status open_container(json_check *check) {
    if (check->depth == check->depth_max)
        return kith_err_set(check->err, KITH_INVALID, "JSON is nested deeper than %u at byte %zu",
            check->depth_max, check->at);
    if (peek(check) == '{')
        kith_bitset_set(check->is_object, check->depth);
    else
        kith_bitset_clear(check->is_object, check->depth);
    check->depth++;
    check->at++;
    skip_space(check);
    return KITH_OK;
}

/* In an object, before a value: "name": */
static kith_status check_member_name(json_check *check) {
    kith_status status = check_string(check);
    if (status != KITH_OK) return status;
    skip_space(check);
    if (peek(check) != ':') return bad(check, "expected ':'");
    check->at++;
    skip_space(check);
    return KITH_OK;
}

static bool at_close(const json_check *check) {
    return peek(check) == (in_object(check) ? '}' : ']');
}

static void close_container(json_check *check) {
    check->depth--;
    check->at++;
    skip_space(check);
}

/* After a value: closes what ends here; on return either all is closed or a comma was read. */
static kith_status finish_value(json_check *check) {
    skip_space(check);
    while (check->depth > 0 && at_close(check))
        close_container(check);
    if (check->depth == 0) return KITH_OK;
    if (peek(check) != ',')
        return bad(check, in_object(check) ? "expected ',' or '}'" : "expected ',' or ']'");
    check->at++;
    skip_space(check);
    return KITH_OK;
}

/* One value, or the opening of a container that has something in it. */
static kith_status check_step(json_check *check) {
    kith_status status = check->depth > 0 && in_object(check) ? check_member_name(check) : KITH_OK;
    if (status != KITH_OK) return status;
    if (peek(check) != '{' && peek(check) != '[') {
        status = check_scalar(check);
        return status == KITH_OK ? finish_value(check) : status;
    }
    status = open_container(check);
    if (status != KITH_OK || !at_close(check)) return status;
    close_container(check);
    return finish_value(check);
}

kith_status kith_text_json_check(
    const char *text, size_t bytes, uint32_t depth_max, bool object_only, kith_err *err) {
    kith_assert(depth_max <= JSON_DEPTH_MAX);
    json_check check = {.text = text, .bytes = bytes, .depth_max = depth_max, .err = err};
    if (!kith_text_utf8_check(text, bytes, &check.at)) return bad(&check, "not UTF-8");
    skip_space(&check);
    if (object_only && peek(&check) != '{') return bad(&check, "expected an object");
    do {
        kith_status status = check_step(&check);
        if (status != KITH_OK) return status;
    } while (check.depth > 0);
    skip_space(&check);
    return check.at == bytes ? KITH_OK : bad(&check, "text after the value");
}
