/* Segment files of tests/golden, by name. */
#ifndef KITH_TESTS_UNIT_INDEX_SEGMENT_GOLDEN_H
#define KITH_TESTS_UNIT_INDEX_SEGMENT_GOLDEN_H

#include "tests/sim/sim_env.h"

/* Caller frees with kith_free; fails the test where there is none. */
uint8_t *segment_golden_read(const char *name, size_t *bytes_out);
/* With KITH_GOLDEN_WRITE in the environment, makes it from the simulated file at `path`. */
void segment_golden_write_if_asked(sim_env *sim, const char *path, const char *name);

#endif
