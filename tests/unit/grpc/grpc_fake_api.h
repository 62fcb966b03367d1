/* A test double of host/api: answers what it is told to, and keeps what it was asked.
 *
 * Threads: as the real one; the fields below may be read while no call is on its way. */
#ifndef KITH_TESTS_UNIT_GRPC_GRPC_FAKE_API_H
#define KITH_TESTS_UNIT_GRPC_GRPC_FAKE_API_H

#include <stdatomic.h>

#include "host/api/api.h"
#include "host/base/thread.h"

typedef enum fake_mode {
    FAKE_ANSWER, /* OK, from the executor */
    FAKE_INLINE, /* OK, before the start function returns (against the rules, for measuring) */
    FAKE_FAIL,   /* `status` and `message`, from the executor */
    FAKE_REFUSE, /* `status` and `message`, returned by the start function */
    FAKE_HOLD,   /* CANCELLED once the call is cancelled, OK once released */
} fake_mode;

typedef struct fake_held fake_held;

struct kith_api {
    kith_env *env;
    kith_executor *executor;
    fake_mode mode;
    kith_status status;
    const char *message;
    kith_status ready;
    char asked[1024]; /* the last request in words */
    uint32_t hits;    /* a search finds this many per query */
    bool with_strings, with_missing;
    uint32_t payload_bytes; /* of each point and hit */
    atomic_uint calls;
    atomic_uint cancelled; /* calls that saw it */
    atomic_uint held_count;
    atomic_bool released;
};

kith_api *fake_api_create(kith_env *env);
void fake_api_destroy(kith_api *api);

#endif
