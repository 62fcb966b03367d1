/* What the tests of this folder share: a buffer to encode into, an arena to decode into, fresh for each test.
 *
 * For one source file a program: it has static state. */
#ifndef KITH_TESTS_UNIT_CODEC_CODEC_FIXTURE_H
#define KITH_TESTS_UNIT_CODEC_CODEC_FIXTURE_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "tests/lib/test_lib.h"

static kith_arena arena;
static kith_buf buf;
static kith_err err;

static int setup(void **state) {
    (void)state;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kith_arena_fini(&arena);
    kith_buf_fini(&buf);
    return 0;
}

#endif
