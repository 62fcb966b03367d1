/* The only file that sees libconfig (1.5). What it does not do, done here: integers without L are cut to 32
 * bits (config_integer.c); @include is looked for where the program runs, not beside the including file; its
 * scanner ends the process when asked to read a folder, which would turn a bad @include on SIGHUP into an
 * outage. */
#include <errno.h>
#include <libconfig.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"
#include "host/config/config_internal.h"

#define FILE_BYTES_MAX (1u << 20)

typedef struct file_read {
    const char *path;
    const char *text; /* of `path`, or given */
    kith_config *config;
    kith_buf *errors;
} file_read;

/* Content of the file with a NUL; NULL and a line in `errors` if it cannot be read. */
static char *text_of_file(const char *path, kith_buf *errors) {
    FILE *file = fopen(path, "re");
    if (!file) {
        kith_buf_append_format(errors, "%s: %s\n", path, strerror(errno));
        return NULL;
    }
    char *text = kith_alloc(FILE_BYTES_MAX + 1);
    size_t bytes = fread(text, 1, FILE_BYTES_MAX, file);
    int error_number = ferror(file) ? errno : 0; /* a folder opens, and cannot be read */
    fclose(file);
    text[bytes] = 0;
    if (error_number == 0 && bytes < FILE_BYTES_MAX && strlen(text) == bytes) return text;
    if (error_number != 0)
        kith_buf_append_format(errors, "%s: %s\n", path, strerror(error_number));
    else
        kith_buf_append_format(errors, "%s: not a text of less than %u bytes\n", path, FILE_BYTES_MAX);
    kith_free(text);
    return NULL;
}

/* Where `included`, as the file at `path` names it, lies: beside that file. */
static char *included_path(const char *path, const char *included) {
    const char *slash = strrchr(path, '/');
    if (!slash) return kith_strdup(included);
    kith_buf joined;
    kith_buf_init(&joined);
    kith_buf_append_format(&joined, "%.*s%s", (int)(slash + 1 - path), path, included);
    kith_buf_u8(&joined, 0);
    size_t bytes;
    return (char *)kith_buf_take(&joined, &bytes);
}

/* The file that a setting is in. */
static char *path_of_setting(const file_read *read, const config_setting_t *setting) {
    const char *included = config_setting_source_file(setting);
    return included && *included ? included_path(read->path, included) : kith_strdup(read->path);
}

/* The value of an integer from the text of the file it is in (an included one, perhaps). */
static void read_integer(
    const file_read *read, const config_setting_t *setting, const char *path, config_value *value) {
    kith_buf ignored; /* the file could be read a moment ago */
    kith_buf_init(&ignored);
    char *included_text = strcmp(path, read->path) == 0 ? NULL : text_of_file(path, &ignored);
    const char *text = included_text ? included_text : read->text;
    size_t bytes = 0;
    const char *integer = config_integer_find(text, config_setting_name(setting), &bytes);
    value->kind = CONFIG_VALUE_NUMBER;
    value->number_fits = integer && config_integer_parse(integer, bytes, &value->number);
    value->shown = integer ? kith_strndup(integer, bytes) : kith_strdup("(an integer)");
    kith_free(included_text);
    kith_buf_fini(&ignored);
}

static char *quoted(const char *text) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_text_append_json_string(&buf, text, strlen(text));
    kith_buf_u8(&buf, 0);
    size_t bytes;
    return (char *)kith_buf_take(&buf, &bytes);
}

static const char *name_of_type(int type) {
    switch (type) {
    case CONFIG_TYPE_FLOAT:
        return "(a fraction)";
    case CONFIG_TYPE_GROUP:
        return "(a group)";
    case CONFIG_TYPE_ARRAY:
    case CONFIG_TYPE_LIST:
        return "(a list)";
    default:
        return "(nothing)";
    }
}

static void read_value(
    const file_read *read, const config_setting_t *setting, const char *path, config_value *value) {
    *value = (config_value){.kind = CONFIG_VALUE_OTHER};
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        read_integer(read, setting, path, value);
        return;
    case CONFIG_TYPE_BOOL:
        value->kind = CONFIG_VALUE_BOOL;
        value->boolean = config_setting_get_bool(setting);
        value->shown = kith_strdup(value->boolean ? "true" : "false");
        return;
    case CONFIG_TYPE_STRING:
        value->kind = CONFIG_VALUE_TEXT;
        value->text = config_setting_get_string(setting);
        value->shown = quoted(value->text);
        return;
    default:
        value->shown = kith_strdup(name_of_type(config_setting_type(setting)));
        return;
    }
}

static void report_unknown(const char *name, const char *where, kith_buf *errors) {
    kith_buf_append_format(errors, "%s: %s: unknown key", where, name);
    config_append_suggestion(name, errors);
    kith_buf_append_text(errors, "\n");
}

static void read_setting(const file_read *read, const config_setting_t *setting) {
    const char *name = config_setting_name(setting);
    char *path = path_of_setting(read, setting);
    kith_buf where;
    kith_buf_init(&where);
    kith_buf_append_format(&where, "%s:%u", path, config_setting_source_line(setting));
    kith_buf_u8(&where, 0);
    const config_key *key = config_key_find(name, strlen(name));
    if (key) {
        config_value value;
        read_value(read, setting, path, &value);
        config_key_set(key, &value, (const char *)where.data, read->config, read->errors);
        kith_free((void *)(uintptr_t)value.shown);
    } else {
        report_unknown(name, (const char *)where.data, read->errors);
    }
    kith_buf_fini(&where);
    kith_free(path);
}

static void report_syntax(const file_read *read, const config_t *parsed) {
    const char *included = config_error_file(parsed);
    const char *reason = config_error_text(parsed);
    kith_buf_append_format(read->errors, "%s:%d: %s\n", included && *included ? included : read->path,
        config_error_line(parsed), reason ? reason : "not a configuration file");
}

/* "@include" is relative to the file it is in, as people expect. */
static void set_include_dir(config_t *parsed, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return;
    char *dir = kith_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    config_set_include_dir(parsed, dir);
    kith_free(dir);
}

/* What follows @include at the start of a line: its path, or NULL. */
static const char *include_of_line(const char *line, size_t *bytes_out) {
    static const char word[] = "@include";
    line += strspn(line, " \t");
    if (strncmp(line, word, strlen(word)) != 0) return NULL;
    line += strlen(word);
    line += strspn(line, " \t");
    if (*line != '"') return NULL;
    *bytes_out = strcspn(line + 1, "\"\n");
    return line + 1;
}

static const char *next_line(const char *line) {
    const char *end = strchr(line, '\n');
    return end ? end + 1 : NULL;
}

static bool has_include(const char *text) {
    size_t bytes;
    for (const char *line = text; line; line = next_line(line))
        if (include_of_line(line, &bytes)) return true;
    return false;
}

/* Included files are texts that include nothing themselves. */
static void check_included(const char *path, kith_buf *errors) {
    char *text = text_of_file(path, errors);
    if (text && has_include(text))
        kith_buf_append_format(errors, "%s: @include inside an included file is not supported\n", path);
    kith_free(text);
}

static bool check_includes(const file_read *read) {
    size_t errors_before = read->errors->bytes;
    for (const char *line = read->text; line; line = next_line(line)) {
        size_t bytes;
        const char *name = include_of_line(line, &bytes);
        if (!name) continue;
        char *included = kith_strndup(name, bytes);
        char *path = included_path(read->path, included);
        check_included(path, read->errors);
        kith_free(path);
        kith_free(included);
    }
    return read->errors->bytes == errors_before;
}

static void read_text(const file_read *read) {
    config_t parsed;
    config_init(&parsed);
    set_include_dir(&parsed, read->path);
    if (config_read_string(&parsed, read->text)) {
        const config_setting_t *root = config_root_setting(&parsed);
        for (int i = 0; i < config_setting_length(root); i++)
            read_setting(read, config_setting_get_elem(root, (unsigned)i));
    } else {
        report_syntax(read, &parsed);
    }
    config_destroy(&parsed);
}

void config_file_read(const char *path, const char *text, kith_config *config, kith_buf *errors) {
    char *owned_text = text ? NULL : text_of_file(path, errors);
    if (!text && !owned_text) return;
    file_read read = {
        .path = text ? "text" : path, .text = text ? text : owned_text, .config = config, .errors = errors};
    if (check_includes(&read)) read_text(&read);
    kith_free(owned_text);
}
