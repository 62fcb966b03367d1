/* What tests share: cmocka with its includes in the right order, seeds that are printed, temporary folders.
 *
 * KITH_TEST_SEED=N replays a run; KITH_TEST_SCALE=N makes the random parts N times as long. */
#ifndef KITH_TESTS_LIB_TEST_LIB_H
#define KITH_TESTS_LIB_TEST_LIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/base/err.h"
#include "host/base/rng.h"
#include "host/env/env.h"

/* Seed of this run: KITH_TEST_SEED, else `otherwise`; printed once a program so that a failure can be
 * replayed. */
uint64_t test_seed(uint64_t otherwise);
/* `count` times KITH_TEST_SCALE (default 1). */
uint64_t test_scaled(uint64_t count);
/* A new empty folder under $TMPDIR or /tmp; caller passes it to test_dir_remove, which removes it with its
 * content. */
char *test_dir_make(void);
void test_dir_remove(char *path);
/* Whether `run` ends the process by an assertion; it runs in a child, so nothing of it stays. */
bool test_dies(void (*run)(void *ctx), void *ctx);

/* Fails the test with the message when `status` is not OK. */
#define assert_ok(status, err)                                                                               \
    do {                                                                                                     \
        kith_status status_ = (status);                                                                      \
        if (status_ != KITH_OK) fail_msg("%s: %s", kith_status_name(status_), (err)->text);                  \
    } while (0)

#endif
