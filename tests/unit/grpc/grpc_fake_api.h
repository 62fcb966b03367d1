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

/* Atomic, because the threads of the server read what a test changes between calls. */
struct kith_api {
    kith_env *env;
    kith_executor *executor;
    atomic_int mode;   /* a fake_mode */
    atomic_int status; /* a kith_status */
    _Atomic(const char *) message;
    atomic_int ready; /* a kith_status */
    char asked[1024]; /* the last request in words */
    atomic_uint hits; /* a search finds this many per query */
    atomic_bool with_strings, with_missing;
    atomic_uint payload_bytes; /* of each point and hit */
    atomic_uint calls;
    atomic_uint cancelled; /* calls that saw it */
    atomic_uint held_count;
    atomic_bool released;
    /* A call that is refused with NOT_FOUND waits, and is answered when it comes again. */
    atomic_bool refreshes;
    kith_task refresh_task;
    kith_api_refresh *refresh;
    /* If not NULL, runs on the thread that starts a call, before anything else of it. */
    void (*_Atomic hook)(void *ctx); /* set after hook_ctx */
    void *hook_ctx;
};

kith_api *fake_api_create(kith_env *env);
void fake_api_destroy(kith_api *api);

#endif
