/* The command line of kithd. Flags are short for configuration keys: --http-port 80 is --set http_port=80.
 *
 * Ownership: init by parse, fini in place; texts borrow the arguments or the struct. */
#ifndef KITH_ROLE_KITHD_OPTIONS_H
#define KITH_ROLE_KITHD_OPTIONS_H

#include <stdbool.h>

#include "host/base/err.h"

typedef struct kithd_options {
    const char *config_path; /* or NULL */
    const char **overrides;  /* "key=value" texts and NULL at the end */
    bool print_config, version, help;
} kithd_options;

/* INVALID for what is no flag, or lacks its value. */
KITH_CHECK kith_status kithd_options_parse(
    int argument_count, char **arguments, kithd_options *options_out, kith_err *err);
void kithd_options_fini(kithd_options *options);
const char *kithd_options_help(void);

#endif
