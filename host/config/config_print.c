#include <string.h>

#include "host/config/config_internal.h"

#define COMMENT_COLUMNS 100u

/* `text` as comment lines, broken at spaces. */
static void append_comment(kith_buf *buf, const char *text) {
    size_t room = COMMENT_COLUMNS - 2;
    while (*text) {
        size_t bytes = strlen(text);
        if (bytes > room) {
            bytes = room;
            while (bytes > 0 && text[bytes] != ' ')
                bytes--;
            if (bytes == 0) bytes = strcspn(text, " ");
        }
        kith_buf_append_format(buf, "# %.*s\n", (int)bytes, text);
        text += bytes;
        text += strspn(text, " ");
    }
}

static void append_section(kith_buf *buf, const char *title) {
    kith_buf_append_format(buf, "\n# --- %s ", title);
    for (size_t column = strlen(title) + 7; column < COMMENT_COLUMNS; column++)
        kith_buf_u8(buf, '-');
    kith_buf_append_text(buf, "\n");
}

static void append_quoted(kith_buf *buf, const char *text) {
    kith_buf_append_text(buf, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            kith_buf_append_format(buf, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            kith_buf_append_format(buf, "\\x%02x", c);
        else
            kith_buf_u8(buf, c);
    }
    kith_buf_append_text(buf, "\"");
}

/* With L where libconfig's own reader needs it. */
static void append_number(kith_buf *buf, uint64_t number) {
    kith_buf_append_format(buf, "%llu%s", (unsigned long long)number, number > INT32_MAX ? "L" : "");
}

static void append_choice(kith_buf *buf, const config_key *key, uint64_t place) {
    size_t bytes = 0;
    const char *name = config_choice_at(key->choices, (uint32_t)place, &bytes);
    kith_buf_append_format(buf, "\"%.*s\"", (int)bytes, name ? name : "");
}

static void append_value(kith_buf *buf, const config_key *key, const kith_config *config) {
    switch (key->kind) {
    case CONFIG_SECTION:
        return;
    case CONFIG_BOOL:
        kith_buf_append_text(buf, config_key_number(key, config) ? "true" : "false");
        return;
    case CONFIG_U32:
    case CONFIG_U64:
        append_number(buf, config_key_number(key, config));
        return;
    case CONFIG_TEXT:
        append_quoted(buf, config_key_text(key, config));
        return;
    case CONFIG_CHOICE:
        append_choice(buf, key, config_key_number(key, config));
        return;
    }
}

static void append_key(
    kith_buf *buf, const config_key *key, const kith_config *config, const kith_config *defaults) {
    kith_buf_append_text(buf, "\n");
    append_comment(buf, key->help);
    kith_buf_append_text(buf, "# ");
    config_key_append_allowed(key, buf);
    kith_buf_append_text(buf, "; default ");
    append_value(buf, key, defaults);
    kith_buf_append_text(buf, key->reloadable ? "; changed by SIGHUP" : "; changed by a restart");
    kith_buf_append_text(buf, key->cluster ? "; the same on all nodes\n" : "\n");
    kith_buf_append_format(buf, "%s = ", key->name);
    append_value(buf, key, config);
    kith_buf_append_text(buf, ";\n");
}

void kith_config_print(const kith_config *config, kith_buf *buf) {
    kith_config defaults;
    kith_config_defaults(&defaults);
    append_comment(buf,
        "Configuration of kithd: what `kithd --print-config` prints. A key that is left out has its "
        "default. An environment variable (KITH_HTTP_PORT=8080) overrides this file, and the command "
        "line (--http-port 8080) overrides both.");
    for (size_t i = 0; i < config_keys_count; i++) {
        if (config_keys[i].kind == CONFIG_SECTION)
            append_section(buf, config_keys[i].name);
        else
            append_key(buf, &config_keys[i], config, &defaults);
    }
}
