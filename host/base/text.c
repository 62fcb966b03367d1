#include "host/base/text.h"

#include <string.h>

#define DISTANCE_BYTES_MAX 64u

/* --- UTF-8 (Unicode 15, table 3-7) --- */

static bool is_continuation(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

/* Bytes of the character at `p`, of which at least one is left; 0 if it is not well formed. */
static size_t utf8_char_bytes(const unsigned char *p, size_t left) {
    unsigned char lead = p[0];
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (left < bytes) return 0;
    for (size_t i = 1; i < bytes; i++)
        if (!is_continuation(p[i])) return 0;
    if (lead == 0xE0 && p[1] < 0xA0) return 0; /* overlong */
    if (lead == 0xED && p[1] > 0x9F) return 0; /* surrogate */
    if (lead == 0xF0 && p[1] < 0x90) return 0; /* overlong */
    if (lead == 0xF4 && p[1] > 0x8F) return 0; /* past U+10FFFF */
    return bytes;
}

static bool is_ascii_word(const char *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return (word & 0x8080808080808080ULL) == 0;
}

bool kith_text_utf8_check(const char *text, size_t bytes, size_t *bad_offset_out) {
    size_t at = 0;
    while (at < bytes) {
        if (bytes - at >= 8 && is_ascii_word(text + at)) {
            at += 8;
            continue;
        }
        size_t length = utf8_char_bytes((const unsigned char *)text + at, bytes - at);
        if (length == 0) {
            *bad_offset_out = at;
            return false;
        }
        at += length;
    }
    return true;
}

/* --- names --- */

static uint32_t least_of(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

uint32_t kith_text_distance(const char *a, const char *b) {
    size_t a_bytes = strnlen(a, DISTANCE_BYTES_MAX);
    size_t b_bytes = strnlen(b, DISTANCE_BYTES_MAX);
    uint32_t row[DISTANCE_BYTES_MAX + 1]; /* edits from a's first i bytes to b's first j */
    for (size_t j = 0; j <= b_bytes; j++)
        row[j] = (uint32_t)j;
    for (size_t i = 1; i <= a_bytes; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= b_bytes; j++) {
            uint32_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = least_of(replaced, least_of(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_bytes];
}

/* --- JSON strings --- */

static const char *short_escape(unsigned char byte) {
    switch (byte) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

static bool is_plain(unsigned char byte) {
    return byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
}

/* The character at `at`; how many bytes it was. */
static size_t append_json_char(kith_buf *buf, const unsigned char *at, size_t left) {
    const char *escape = short_escape(*at);
    if (escape) {
        kith_buf_append_text(buf, escape);
        return 1;
    }
    if (*at < 0x20 || *at == 0x7F) {
        kith_buf_append_format(buf, "\\u%04x", *at);
        return 1;
    }
    size_t length = utf8_char_bytes(at, left);
    if (length == 0) {
        kith_buf_append_text(buf, "\xEF\xBF\xBD");
        return 1;
    }
    kith_buf_append(buf, at, length);
    return length;
}

void kith_text_append_json_string(kith_buf *buf, const char *text, size_t bytes) {
    const unsigned char *data = (const unsigned char *)text;
    kith_buf_append_text(buf, "\"");
    size_t at = 0;
    while (at < bytes) {
        size_t end = at;
        while (end < bytes && is_plain(data[end]))
            end++;
        if (end > at)
            kith_buf_append(buf, data + at, end - at);
        else
            end += append_json_char(buf, data + at, bytes - at);
        at = end;
    }
    kith_buf_append_text(buf, "\"");
}
