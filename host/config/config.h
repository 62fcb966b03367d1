/* The configuration: one plain struct, made from config_table.h, filled once and then only read.
 *
 * Order: defaults < file < KITH_<KEY> environment variables < command line. Every mistake is reported, not
 * only the first: one line each, with where it is, the key, the value and what is allowed.
 *
 * Threads: any; nothing here is shared. */
#ifndef KITH_CONFIG_CONFIG_H
#define KITH_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "host/base/buf.h"
#include "host/base/status.h"
#include "host/config/config_table.h"

/* Values of the CHOICE keys, in the order of the table's names. */
typedef enum kith_config_role {
    KITH_CONFIG_ROLE_STANDALONE,
    KITH_CONFIG_ROLE_COORDINATOR,
    KITH_CONFIG_ROLE_DATA,
    KITH_CONFIG_ROLE_QUERY,
} kith_config_role;
/* log_level and log_format are kith_log_level and kith_log_format (host/base/log.h). */
typedef enum kith_config_compute_backend {
    KITH_CONFIG_COMPUTE_BACKEND_AUTO,
    KITH_CONFIG_COMPUTE_BACKEND_CPU,
    KITH_CONFIG_COMPUTE_BACKEND_CUDA,
} kith_config_compute_backend;

#define KITH_CONFIG_MEMBER_BOOL(name)   bool name;
#define KITH_CONFIG_MEMBER_U32(name)    uint32_t name;
#define KITH_CONFIG_MEMBER_U64(name)    uint64_t name;
#define KITH_CONFIG_MEMBER_TEXT(name)   char name[KITH_CONFIG_TEXT_BYTES_MAX + 1];
#define KITH_CONFIG_MEMBER_CHOICE(name) uint32_t name;

typedef struct kith_config {
#define KITH_CONFIG_MEMBER(name, type, ...) KITH_CONFIG_MEMBER_##type(name)
#define KITH_CONFIG_NO_MEMBER(title)
    KITH_CONFIG_TABLE(KITH_CONFIG_MEMBER, KITH_CONFIG_NO_MEMBER)
#undef KITH_CONFIG_MEMBER
#undef KITH_CONFIG_NO_MEMBER
} kith_config;

typedef struct kith_config_options {
    const char *path;             /* file, or NULL for none */
    const char *text;             /* instead of a file: its content; or NULL */
    const char *const *env;       /* "NAME=value" texts and NULL at the end (environ), or NULL for none */
    const char *const *overrides; /* "key=value" texts and NULL at the end, '-' in a key as '_'; or NULL */
} kith_config_options;

void kith_config_defaults(kith_config *config_out);
/* INVALID with a line in `errors` for every mistake. `*config_out` is written on success only.
 *
 * A variable of the environment that begins with KITH_ but is no key is a mistake only if it is nearly one:
 * Kubernetes sets KITH_SERVICE_HOST and the like for a service of that name. */
KITH_CHECK kith_status kith_config_load(
    const kith_config_options *options, kith_config *config_out, kith_buf *errors);
/* On SIGHUP: loads again. `*next_out` is `current` with the reloadable keys changed; the names of changed
 * keys that need a restart, and keep their old value until then, are added to `restart_keys`, one a line. */
KITH_CHECK kith_status kith_config_reload(const kith_config *current, const kith_config_options *options,
    kith_config *next_out, kith_buf *restart_keys, kith_buf *errors);
/* A whole configuration file with comments that gives `config` when loaded. */
void kith_config_print(const kith_config *config, kith_buf *buf);

#endif
