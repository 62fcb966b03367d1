/* Status codes: what went wrong, grouped by what the caller does next. One table gives the enum, the text,
 * the gRPC code and the HTTP code.
 *
 * Threads: any. */
#ifndef KITH_BASE_STATUS_H
#define KITH_BASE_STATUS_H

#include <stdint.h>

/* X(name, number, text, gRPC code, HTTP code). Numbers travel between nodes: never reuse one.
 *   0        done
 *   1..19    the request is wrong: never retry it as it is
 *   20..39   try again: elsewhere or later
 *   40..59   this node is not to be trusted with the object: stop serving it */
#define KITH_STATUS_TABLE(X)                                                                                 \
    X(OK, 0, "ok", 0, 200)                                                                                   \
    X(INVALID, 1, "invalid argument", 3, 400)                                                                \
    X(NOT_FOUND, 2, "not found", 5, 404)                                                                     \
    X(EXISTS, 3, "already exists", 6, 409)                                                                   \
    X(UNAUTHENTICATED, 4, "no valid credentials", 16, 401)                                                   \
    X(DENIED, 5, "permission denied", 7, 403)                                                                \
    X(UNIMPLEMENTED, 6, "not implemented", 12, 501)                                                          \
    X(PRECONDITION, 7, "precondition failed", 9, 412)                                                        \
    X(CANCELLED, 8, "cancelled by the caller", 1, 499)                                                       \
    X(BUSY, 20, "overloaded, retry later", 8, 429)                                                           \
    X(NO_MEMORY, 21, "out of memory", 8, 507)                                                                \
    X(NO_SPACE, 22, "no space left on device", 8, 507)                                                       \
    X(DEADLINE, 23, "deadline exceeded", 4, 504)                                                             \
    X(UNAVAILABLE, 24, "unavailable, retry", 14, 503)                                                        \
    X(NOT_LEADER, 25, "not the leader", 14, 503)                                                             \
    X(STALE_MAP, 26, "the cluster map is older than this node's", 14, 503)                                   \
    X(UNKNOWN_OUTCOME, 27, "outcome unknown, repeat with the same request id", 14, 503)                      \
    X(CLOSED, 28, "shutting down", 14, 503)                                                                  \
    X(IO, 40, "input/output error", 13, 500)                                                                 \
    X(CORRUPT, 41, "data is corrupt", 15, 500)                                                               \
    X(INTERNAL, 42, "internal error", 13, 500)

typedef enum kith_status_code {
#define KITH_STATUS_ENUM(name, number, text, grpc, http) KITH_##name = (number),
    KITH_STATUS_TABLE(KITH_STATUS_ENUM)
#undef KITH_STATUS_ENUM
} kith_status_code;

/* Every fallible function returns one; the compiler refuses to let it be dropped (see KITH_CHECK). */
typedef kith_status_code kith_status;

#define KITH_CHECK                             __attribute__((warn_unused_result))
#define KITH_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))

/* Constant text of `status`; "unknown status" for a number outside the table. */
const char *kith_status_text(kith_status status);
/* Name as in the table, e.g. "NO_SPACE". */
const char *kith_status_name(kith_status status);
int kith_status_grpc(kith_status status);
int kith_status_http(kith_status status);
/* The status whose number is `number`; INTERNAL if there is none (bytes from a peer are not trusted). */
kith_status kith_status_from_number(uint32_t number);

#endif
