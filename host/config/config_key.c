#include <string.h>

#include "host/base/assert.h"
#include "host/base/text.h"
#include "host/config/config_internal.h"

#define DEFAULTS_BOOL(value, from, to)   .number_default = (value), .least = 0, .most = 1
#define DEFAULTS_U32(value, from, to)    .number_default = (value), .least = (from), .most = (to)
#define DEFAULTS_U64(value, from, to)    .number_default = (value), .least = (from), .most = (to)
#define DEFAULTS_TEXT(value, from, to)   .text_default = (value), .least = (from), .most = (to)
#define DEFAULTS_CHOICE(value, names, _) .text_default = (value), .choices = (names)

#define IS_CLUSTER_NODE          false
#define IS_CLUSTER_CLUSTER       true
#define IS_RELOADABLE_RESTART    false
#define IS_RELOADABLE_RELOADABLE true

#define SECTION_ENTRY(title) {.name = (title), .kind = CONFIG_SECTION},
#define KEY_ENTRY(key, type, value, from, to, scope, reload, text)                                           \
    {.name = #key,                                                                                           \
        .kind = CONFIG_##type,                                                                               \
        .offset = offsetof(kith_config, key),                                                                \
        DEFAULTS_##type(value, from, to),                                                                    \
        .cluster = IS_CLUSTER_##scope,                                                                       \
        .reloadable = IS_RELOADABLE_##reload,                                                                \
        .help = (text)},

const config_key config_keys[] = {KITH_CONFIG_TABLE(KEY_ENTRY, SECTION_ENTRY)};
const size_t config_keys_count = sizeof config_keys / sizeof *config_keys;

/* --- finding --- */

const config_key *config_key_find(const char *name, size_t name_bytes) {
    for (size_t i = 0; i < config_keys_count; i++) {
        const config_key *key = &config_keys[i];
        if (key->kind == CONFIG_SECTION || strlen(key->name) != name_bytes) continue;
        if (memcmp(key->name, name, name_bytes) == 0) return key;
    }
    return NULL;
}

const config_key *config_key_nearest(const char *name, uint32_t *edits_out) {
    const config_key *nearest = NULL;
    *edits_out = UINT32_MAX;
    for (size_t i = 0; i < config_keys_count; i++) {
        if (config_keys[i].kind == CONFIG_SECTION) continue;
        uint32_t edits = kith_text_distance(name, config_keys[i].name);
        if (edits >= *edits_out) continue;
        *edits_out = edits;
        nearest = &config_keys[i];
    }
    return nearest;
}

void config_append_suggestion(const char *name, kith_buf *buf) {
    uint32_t edits;
    const config_key *nearest = config_key_nearest(name, &edits);
    /* Half of the name wrong is another name. */
    if (2 * edits <= strlen(name)) kith_buf_append_format(buf, ", did you mean %s?", nearest->name);
}

const char *config_choice_at(const char *choices, uint32_t place, size_t *bytes_out) {
    for (; place > 0; place--) {
        choices = strchr(choices, '|');
        if (!choices) return NULL;
        choices++;
    }
    *bytes_out = strcspn(choices, "|");
    return choices;
}

static bool choice_find(const char *choices, const char *name, uint64_t *place_out) {
    size_t bytes;
    for (uint32_t place = 0;; place++) {
        const char *choice = config_choice_at(choices, place, &bytes);
        if (!choice) return false;
        if (bytes != strlen(name) || memcmp(choice, name, bytes) != 0) continue;
        *place_out = place;
        return true;
    }
}

/* --- the struct's members --- */

static void member_store_number(const config_key *key, uint64_t number, kith_config *config) {
    char *member = (char *)config + key->offset;
    uint32_t narrow = (uint32_t)number;
    bool boolean = number != 0;
    switch (key->kind) {
    case CONFIG_BOOL:
        memcpy(member, &boolean, sizeof boolean);
        return;
    case CONFIG_U64:
        memcpy(member, &number, sizeof number);
        return;
    default:
        memcpy(member, &narrow, sizeof narrow);
        return;
    }
}

uint64_t config_key_number(const config_key *key, const kith_config *config) {
    const char *member = (const char *)config + key->offset;
    uint64_t number;
    uint32_t narrow;
    bool boolean;
    switch (key->kind) {
    case CONFIG_BOOL:
        memcpy(&boolean, member, sizeof boolean);
        return boolean;
    case CONFIG_U64:
        memcpy(&number, member, sizeof number);
        return number;
    default:
        memcpy(&narrow, member, sizeof narrow);
        return narrow;
    }
}

static void member_store_text(const config_key *key, const char *text, kith_config *config) {
    size_t bytes = strlen(text);
    kith_assert(bytes <= KITH_CONFIG_TEXT_BYTES_MAX);
    memcpy((char *)config + key->offset, text, bytes + 1);
}

const char *config_key_text(const config_key *key, const kith_config *config) {
    return (const char *)config + key->offset;
}

bool config_key_equal(const config_key *key, const kith_config *a, const kith_config *b) {
    if (key->kind == CONFIG_TEXT) return strcmp(config_key_text(key, a), config_key_text(key, b)) == 0;
    return config_key_number(key, a) == config_key_number(key, b);
}

void config_key_copy(const config_key *key, const kith_config *from, kith_config *to) {
    if (key->kind == CONFIG_TEXT)
        member_store_text(key, config_key_text(key, from), to);
    else
        member_store_number(key, config_key_number(key, from), to);
}

static void set_default(const config_key *key, kith_config *config) {
    uint64_t number = key->number_default;
    switch (key->kind) {
    case CONFIG_SECTION:
        return;
    case CONFIG_TEXT:
        member_store_text(key, key->text_default, config);
        return;
    case CONFIG_CHOICE:
        if (!choice_find(key->choices, key->text_default, &number)) kith_assert(!"the default is a choice");
        break;
    default:
        break;
    }
    member_store_number(key, number, config);
}

void kith_config_defaults(kith_config *config_out) {
    memset(config_out, 0, sizeof *config_out);
    for (size_t i = 0; i < config_keys_count; i++)
        set_default(&config_keys[i], config_out);
}

/* --- setting --- */

static void append_choices(const char *choices, kith_buf *buf) {
    size_t bytes;
    const char *choice;
    for (uint32_t place = 0; (choice = config_choice_at(choices, place, &bytes)) != NULL; place++) {
        if (place > 0) kith_buf_append_text(buf, ", ");
        kith_buf_append(buf, choice, bytes);
    }
}

void config_key_append_allowed(const config_key *key, kith_buf *buf) {
    switch (key->kind) {
    case CONFIG_SECTION:
        return;
    case CONFIG_BOOL:
        kith_buf_append_text(buf, "true or false");
        return;
    case CONFIG_U32:
    case CONFIG_U64:
        kith_buf_append_format(
            buf, "an integer in %llu..%llu", (unsigned long long)key->least, (unsigned long long)key->most);
        return;
    case CONFIG_TEXT:
        kith_buf_append_format(
            buf, "a text of %llu..%llu bytes", (unsigned long long)key->least, (unsigned long long)key->most);
        return;
    case CONFIG_CHOICE:
        kith_buf_append_text(buf, "one of ");
        append_choices(key->choices, buf);
        return;
    }
}

static bool value_to_number(const config_key *key, const config_value *value, uint64_t *number_out) {
    switch (key->kind) {
    case CONFIG_BOOL:
        *number_out = value->boolean;
        return value->kind == CONFIG_VALUE_BOOL;
    case CONFIG_CHOICE:
        return value->kind == CONFIG_VALUE_TEXT && choice_find(key->choices, value->text, number_out);
    default:
        *number_out = value->number;
        return value->kind == CONFIG_VALUE_NUMBER && value->number_fits && value->number >= key->least &&
               value->number <= key->most;
    }
}

static bool set_value(const config_key *key, const config_value *value, kith_config *config) {
    if (key->kind == CONFIG_TEXT) {
        if (value->kind != CONFIG_VALUE_TEXT) return false;
        size_t bytes = strlen(value->text);
        if (bytes < key->least || bytes > key->most) return false;
        member_store_text(key, value->text, config);
        return true;
    }
    uint64_t number;
    if (!value_to_number(key, value, &number)) return false;
    member_store_number(key, number, config);
    return true;
}

void config_key_set(const config_key *key, const config_value *value, const char *where, kith_config *config,
    kith_buf *errors) {
    if (set_value(key, value, config)) return;
    kith_buf_append_format(errors, "%s: %s = %s: expected ", where, key->name, value->shown);
    config_key_append_allowed(key, errors);
    kith_buf_append_text(errors, "\n");
}

void config_key_set_text(
    const config_key *key, const char *text, const char *where, kith_config *config, kith_buf *errors) {
    config_value value = {.kind = CONFIG_VALUE_TEXT, .text = text, .shown = text};
    if (key->kind == CONFIG_U32 || key->kind == CONFIG_U64) {
        value.kind = CONFIG_VALUE_NUMBER;
        value.number_fits = config_integer_parse(text, strlen(text), &value.number);
    }
    if (key->kind == CONFIG_BOOL) {
        value.boolean = strcmp(text, "true") == 0;
        if (value.boolean || strcmp(text, "false") == 0) value.kind = CONFIG_VALUE_BOOL;
    }
    config_key_set(key, &value, where, config, errors);
}
