#include "host/role/kithd_options.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"

typedef struct kithd_flag {
    const char *name;
    const char *key; /* of the configuration; NULL: one of kithd's own */
    const char *value, *help;
} kithd_flag;

static const kithd_flag flags[] = {
    {"--config", NULL, "FILE", "configuration file (see --print-config)"},
    {"--role", "role", "ROLE",
        "standalone: a whole service in one process; coordinator, data, query: nodes of a cluster"},
    {"--data-dir", "data_dir", "DIR", "folder of everything that must survive a restart"},
    {"--bind-address", "bind_address", "ADDRESS", "address to listen on"},
    {"--http-port", "http_port", "PORT", "REST, metrics and health checks; 0 takes a free one"},
    {"--grpc-port", "grpc_port", "PORT", "gRPC; 0 takes a free one"},
    {"--node-port", "node_port", "PORT", "between the nodes of a cluster"},
    {"--set", NULL, "KEY=VALUE", "any configuration key; may come often"},
    {"--print-config", NULL, NULL, "print the configuration that would be used, and exit"},
    {"--version", NULL, NULL, "print the version, and exit"},
    {"--help", NULL, NULL, "print this, and exit"},
};
enum { FLAG_COUNT = sizeof flags / sizeof *flags };

const char *kithd_options_help(void) {
    static char text[4096]; /* written once by the only thread there is yet */
    int used = snprintf(text, sizeof text, "kithd: a vector search server.\n\nUsage: kithd [FLAG]...\n\n");
    for (int i = 0; i < FLAG_COUNT; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", flags[i].name, flags[i].value ? flags[i].value : "");
        used += snprintf(text + used, sizeof text - (size_t)used, "  %-26s %s\n", left, flags[i].help);
    }
    snprintf(text + used, sizeof text - (size_t)used,
        "\nConfiguration: defaults < file < KITH_<KEY> in the environment < flags. SIGHUP reads the file "
        "again.\n");
    return text;
}

/* "--name" alone, or the length of the name in "--name=value". */
static const kithd_flag *flag_find(const char *argument, const char **value_out) {
    const char *equals = strchr(argument, '=');
    size_t bytes = equals ? (size_t)(equals - argument) : strlen(argument);
    *value_out = equals ? equals + 1 : NULL;
    for (int i = 0; i < FLAG_COUNT; i++) {
        if (strlen(flags[i].name) == bytes && memcmp(flags[i].name, argument, bytes) == 0) return &flags[i];
    }
    return NULL;
}

static kith_status unknown_flag(const char *argument, kith_err *err) {
    const kithd_flag *nearest = &flags[0];
    for (int i = 1; i < FLAG_COUNT; i++) {
        if (kith_text_distance(argument, flags[i].name) < kith_text_distance(argument, nearest->name)) {
            nearest = &flags[i];
        }
    }
    if (kith_text_distance(argument, nearest->name) <= 3) {
        return kith_err_set(err, KITH_INVALID, "unknown flag %s; did you mean %s?", argument, nearest->name);
    }
    return kith_err_set(err, KITH_INVALID, "unknown flag %s; kithd --help lists them", argument);
}

static void override_add(kithd_options *options, uint32_t *count, char *text) {
    options->overrides[(*count)++] = text;
    options->overrides[*count] = NULL;
}

static void flag_apply(
    kithd_options *options, uint32_t *override_count, const kithd_flag *flag, const char *value) {
    if (flag->key) {
        size_t bytes = strlen(flag->key) + strlen(value) + 2;
        char *text = kith_alloc(bytes);
        snprintf(text, bytes, "%s=%s", flag->key, value);
        override_add(options, override_count, text);
    } else if (strcmp(flag->name, "--config") == 0) {
        options->config_path = value;
    } else if (strcmp(flag->name, "--set") == 0) {
        override_add(options, override_count, kith_strdup(value));
    } else {
        options->print_config |= strcmp(flag->name, "--print-config") == 0;
        options->version |= strcmp(flag->name, "--version") == 0;
        options->help |= strcmp(flag->name, "--help") == 0;
    }
}

kith_status kithd_options_parse(
    int argument_count, char **arguments, kithd_options *options_out, kith_err *err) {
    kithd_options options = {
        .overrides = kith_alloc_array((size_t)argument_count + 1, sizeof *options.overrides)};
    options.overrides[0] = NULL;
    uint32_t override_count = 0;
    kith_status status = KITH_OK;
    for (int i = 1; i < argument_count && status == KITH_OK; i++) {
        const char *value;
        const kithd_flag *flag = flag_find(arguments[i], &value);
        if (!flag) {
            status = unknown_flag(arguments[i], err);
        } else if (flag->value && !value && i + 1 == argument_count) {
            status = kith_err_set(
                err, KITH_INVALID, "%s needs a value: %s %s", flag->name, flag->name, flag->value);
        } else if (!flag->value && value) {
            status = kith_err_set(err, KITH_INVALID, "%s takes no value", flag->name);
        } else {
            if (flag->value && !value) value = arguments[++i];
            flag_apply(&options, &override_count, flag, value);
        }
    }
    if (status == KITH_OK)
        *options_out = options;
    else
        kithd_options_fini(&options);
    return status;
}

void kithd_options_fini(kithd_options *options) {
    for (const char **text = options->overrides; text && *text; text++)
        kith_free((void *)*text);
    kith_free(options->overrides);
    *options = (kithd_options){0};
}
