/* All query vectors of a file.
 *
 * Ownership: kith_cli_queries_free frees the values. */
#ifndef KITH_CLI_CLI_QUERIES_H
#define KITH_CLI_CLI_QUERIES_H

#include <stdint.h>

#include "host/base/err.h"
#include "host/env/env.h"

typedef struct kith_cli_queries {
    float *values; /* [count][dim] */
    uint64_t count;
    uint32_t dim;
} kith_cli_queries;

/* At least one query, each with a vector for `field`. */
KITH_CHECK kith_status kith_cli_queries_read(
    kith_env *env, const char *path, const char *field, kith_cli_queries *queries_out, kith_err *err);
void kith_cli_queries_free(kith_cli_queries *queries);

#endif
