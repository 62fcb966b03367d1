#include "host/config/config.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/config/config_internal.h"

#define ENV_PREFIX            "KITH_"
#define ENV_TYPING_ERRORS_MAX 2u
#define NAME_BYTES_MAX        128u

/* `name_bytes` bytes of `name` as a key is written: lower case, '_'. */
static void name_normalise(const char *name, size_t name_bytes, char *normal) {
    if (name_bytes > NAME_BYTES_MAX - 1) name_bytes = NAME_BYTES_MAX - 1;
    for (size_t i = 0; i < name_bytes; i++) {
        char c = name[i];
        normal[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '-' ? '_' : c;
    }
    normal[name_bytes] = 0;
}

/* --- environment --- */

static void read_variable(const char *variable, kith_config *config, kith_buf *errors) {
    const char *equals = strchr(variable, '=');
    if (!equals || strncmp(variable, ENV_PREFIX, strlen(ENV_PREFIX)) != 0) return;
    const char *name = variable + strlen(ENV_PREFIX);
    char normal[NAME_BYTES_MAX];
    name_normalise(name, (size_t)(equals - name), normal);
    const config_key *key = config_key_find(normal, strlen(normal));
    if (key) {
        config_key_set_text(key, equals + 1, "environment", config, errors);
        return;
    }
    uint32_t edits;
    const config_key *nearest = config_key_nearest(normal, &edits);
    if (edits > ENV_TYPING_ERRORS_MAX) return;
    kith_buf_append_format(errors, "environment: KITH_%.*s: unknown key %s, did you mean %s?\n",
        (int)(equals - name), name, normal, nearest->name);
}

/* --- command line --- */

static void read_override(const char *override, kith_config *config, kith_buf *errors) {
    const char *equals = strchr(override, '=');
    if (!equals) {
        kith_buf_append_format(errors, "command line: %s: expected key=value\n", override);
        return;
    }
    char normal[NAME_BYTES_MAX];
    name_normalise(override, (size_t)(equals - override), normal);
    const config_key *key = config_key_find(normal, strlen(normal));
    if (key) {
        config_key_set_text(key, equals + 1, "command line", config, errors);
        return;
    }
    uint32_t edits;
    const config_key *nearest = config_key_nearest(normal, &edits);
    kith_buf_append_format(
        errors, "command line: %s: unknown key, did you mean %s?\n", normal, nearest->name);
}

/* --- keys that must fit together --- */

static void check_ports(const kith_config *config, kith_buf *errors) {
    if (config->http_port != 0 && config->http_port == config->grpc_port)
        kith_buf_append_format(
            errors, "http_port = %u: expected another port than grpc_port\n", config->http_port);
}

static void check_segments(const kith_config *config, kith_buf *errors) {
    if (config->segment_merge_bytes_max < config->segment_seal_bytes)
        kith_buf_append_format(errors,
            "segment_merge_bytes_max = %llu: expected at least segment_seal_bytes, %llu\n",
            (unsigned long long)config->segment_merge_bytes_max,
            (unsigned long long)config->segment_seal_bytes);
}

/* --- load --- */

kith_status kith_config_load(const kith_config_options *options, kith_config *config_out, kith_buf *errors) {
    size_t errors_before = errors->bytes;
    kith_config config;
    kith_config_defaults(&config);
    if (options->path || options->text) config_file_read(options->path, options->text, &config, errors);
    for (const char *const *at = options->env; at && *at; at++)
        read_variable(*at, &config, errors);
    for (const char *const *at = options->overrides; at && *at; at++)
        read_override(*at, &config, errors);
    if (errors->bytes == errors_before) {
        check_ports(&config, errors);
        check_segments(&config, errors);
    }
    if (errors->bytes != errors_before) return KITH_INVALID;
    *config_out = config;
    return KITH_OK;
}

kith_status kith_config_reload(const kith_config *current, const kith_config_options *options,
    kith_config *next_out, kith_buf *restart_keys, kith_buf *errors) {
    kith_config loaded;
    kith_status status = kith_config_load(options, &loaded, errors);
    if (status != KITH_OK) return status;
    kith_config next = *current;
    for (size_t i = 0; i < config_keys_count; i++) {
        const config_key *key = &config_keys[i];
        if (key->kind == CONFIG_SECTION || config_key_equal(key, current, &loaded)) continue;
        if (key->reloadable)
            config_key_copy(key, &loaded, &next);
        else
            kith_buf_append_format(restart_keys, "%s\n", key->name);
    }
    *next_out = next;
    return KITH_OK;
}
