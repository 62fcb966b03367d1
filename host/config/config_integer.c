/* A small reader of libconfig's lexical rules: enough to find `name = integer` outside comments and strings.
 */
#include <string.h>

#include "host/base/text.h"
#include "host/config/config_internal.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*';
}

static bool is_word(char c) {
    return is_letter(c) || is_digit(c) || c == '-' || c == '_';
}

static const char *skip_string(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    return *at ? at + 1 : at;
}

static const char *skip_line(const char *at) {
    return at + strcspn(at, "\n");
}

static const char *skip_block_comment(const char *at) {
    const char *end = strstr(at + 2, "*/");
    return end ? end + 2 : at + strlen(at);
}

/* Past spaces and comments. */
static const char *skip_space(const char *at) {
    for (;;) {
        if (*at == '#' || (at[0] == '/' && at[1] == '/'))
            at = skip_line(at);
        else if (at[0] == '/' && at[1] == '*')
            at = skip_block_comment(at);
        else if (*at && strchr(" \t\r\n\f", *at))
            at++;
        else
            return at;
    }
}

static const char *skip_word(const char *at) {
    while (is_word(*at))
        at++;
    return at;
}

/* After a name: the integer it is given, or NULL. */
static const char *integer_after(const char *at) {
    at = skip_space(at);
    if (*at != '=' && *at != ':') return NULL;
    at = skip_space(at + 1);
    return is_digit(*at) || *at == '-' || *at == '+' ? at : NULL;
}

const char *config_integer_find(const char *text, const char *name, size_t *bytes_out) {
    size_t name_bytes = strlen(name);
    for (const char *at = skip_space(text); *at; at = skip_space(at)) {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        const char *end = skip_word(at);
        if (end == at) {
            at++;
            continue;
        }
        bool matches = (size_t)(end - at) == name_bytes && memcmp(at, name, name_bytes) == 0;
        const char *integer = matches ? integer_after(end) : NULL;
        if (integer) {
            *bytes_out = strspn(integer, "+-0123456789abcdefABCDEFxXlL");
            return integer;
        }
        at = end;
    }
    return NULL;
}

/* -1 if it is none. */
static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool parse_hex(const char *digits, size_t bytes, uint64_t *value_out) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        int digit = hex_digit(digits[i]);
        if (digit < 0 || value >> 60 != 0) return false;
        value = value << 4 | (uint64_t)digit;
    }
    if (bytes == 0) return false;
    *value_out = value;
    return true;
}

bool config_integer_parse(const char *integer, size_t bytes, uint64_t *value_out) {
    for (int i = 0; i < 2; i++)
        if (bytes > 1 && (integer[bytes - 1] == 'L' || integer[bytes - 1] == 'l')) bytes--;
    if (bytes > 1 && integer[0] == '+') {
        integer++;
        bytes--;
    }
    if (bytes > 2 && integer[0] == '0' && (integer[1] == 'x' || integer[1] == 'X'))
        return parse_hex(integer + 2, bytes - 2, value_out);
    return kith_text_parse_u64(integer, bytes, value_out);
}
