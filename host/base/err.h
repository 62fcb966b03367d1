/* An error message beside a status. The function that finds the fault writes the message once; callers add a
 * prefix; the boundary logs it. Messages are lower case, have no final stop, and give the actual value and
 * the allowed one.
 *
 * Threads: a kith_err belongs to one thread at a time. */
#ifndef KITH_BASE_ERR_H
#define KITH_BASE_ERR_H

#include "host/base/status.h"

#define KITH_ERR_BYTES_MAX 512

typedef struct kith_err {
    kith_status status;
    char text[KITH_ERR_BYTES_MAX]; /* UTF-8, NUL-terminated, cut at the limit */
} kith_err;

/* Sets `err` (may be NULL) and returns `status`, so that `return kith_err_set(err, KITH_INVALID, "dim %u
 * ...")` reads well. */
kith_status kith_err_set(kith_err *err, kith_status status, const char *format, ...) KITH_PRINTF(3, 4);
/* Prefixes "<formatted>: " to the message and returns `status`. */
kith_status kith_err_wrap(kith_err *err, kith_status status, const char *format, ...) KITH_PRINTF(3, 4);
/* As kith_err_set, adding ": <strerror(error_number)>"; ENOSPC and EDQUOT become NO_SPACE, ENOENT NOT_FOUND,
 * ENOMEM NO_MEMORY, EEXIST EXISTS, all else IO. */
kith_status kith_err_set_errno(kith_err *err, int error_number, const char *format, ...) KITH_PRINTF(3, 4);

#endif
