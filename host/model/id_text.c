/* Ids as people and JSON write them. The forms of a UUID are those of RFC 9562 section 4 and its
 * predecessors: with hyphens, without, as a URN, in braces; upper or lower case. */
#include <string.h>

#include "host/base/text.h"
#include "host/model/id.h"

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool hyphen_belongs_before(size_t byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

/* Exactly 32 digits, with hyphens at their places when `bytes` is 36. */
static bool uuid_digits_parse(const char *text, size_t bytes, uint8_t uuid_out[16]) {
    if (bytes != 32 && bytes != 36) return false;
    uint8_t uuid[16];
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (bytes == 36 && hyphen_belongs_before(i) && text[at++] != '-') return false;
        int high = hex_value(text[at]), low = hex_value(text[at + 1]);
        if (high < 0 || low < 0) return false;
        uuid[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    memcpy(uuid_out, uuid, 16);
    return true;
}

static bool uuid_parse(const char *text, size_t bytes, uint8_t uuid_out[16]) {
    if (bytes == 45 && memcmp(text, "urn:uuid:", 9) == 0) return uuid_digits_parse(text + 9, 36, uuid_out);
    if (bytes == 38 && text[0] == '{' && text[37] == '}') return uuid_digits_parse(text + 1, 36, uuid_out);
    return uuid_digits_parse(text, bytes, uuid_out);
}

kith_status kith_id_from_text(
    const char *text, size_t bytes, uint8_t uuid_out[16], kith_id *id_out, kith_err *err) {
    size_t bad_offset = 0;
    if (bytes == 0)
        return kith_err_set(
            err, KITH_INVALID, "a point id is empty; 1..%u bytes are allowed", KITH_ID_BYTES_MAX);
    if (bytes > KITH_ID_BYTES_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "a point id has %zu bytes; 1..%u are allowed", bytes, KITH_ID_BYTES_MAX);
    }
    if (uuid_parse(text, bytes, uuid_out)) {
        *id_out = (kith_id){.type = KITH_ID_UUID, .bytes = uuid_out};
        return KITH_OK;
    }
    if (!kith_text_utf8_check(text, bytes, &bad_offset)) {
        return kith_err_set(err, KITH_INVALID, "a point id is not UTF-8 at byte %zu", bad_offset);
    }
    *id_out = (kith_id){.type = KITH_ID_STRING, .text_bytes = (uint8_t)bytes, .bytes = (const uint8_t *)text};
    return KITH_OK;
}

static void uuid_append(kith_buf *buf, const uint8_t *uuid) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        if (hyphen_belongs_before(i)) kith_buf_u8(buf, '-');
        kith_buf_u8(buf, (uint8_t)digits[uuid[i] >> 4]);
        kith_buf_u8(buf, (uint8_t)digits[uuid[i] & 15]);
    }
}

void kith_id_append_text(kith_buf *buf, const kith_id *id) {
    switch (id->type) {
    case KITH_ID_NUMBER:
        kith_buf_append_format(buf, "%llu", (unsigned long long)id->number);
        break;
    case KITH_ID_UUID:
        uuid_append(buf, id->bytes);
        break;
    default:
        kith_buf_append(buf, id->bytes, id->text_bytes);
        break;
    }
}

void kith_id_append_json(kith_buf *buf, const kith_id *id) {
    if (id->type == KITH_ID_STRING) {
        kith_text_append_json_string(buf, (const char *)id->bytes, id->text_bytes);
        return;
    }
    if (id->type == KITH_ID_UUID) kith_buf_u8(buf, '"');
    kith_id_append_text(buf, id);
    if (id->type == KITH_ID_UUID) kith_buf_u8(buf, '"');
}
