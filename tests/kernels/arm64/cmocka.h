/* As much of cmocka as the tests of kernels/ use, so that they can be built for an architecture whose cmocka is not
 * installed. A failed assertion ends the program; tests named in KITH_TEST_SKIP are left out. */
#ifndef KITH_TESTS_KERNELS_ARM64_CMOCKA_H
#define KITH_TESTS_KERNELS_ARM64_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function)                     ((struct CMUnitTest){#function, function})
#define cmocka_run_group_tests(tests, setup, teardown) cmocka_run(tests, sizeof(tests) / sizeof((tests)[0]))
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                            \
    cmocka_run_group_tests(tests, setup, teardown)

#define print_message printf
#define fail_msg(...)                                                                                        \
    do {                                                                                                     \
        printf("%s:%d: ", __FILE__, __LINE__);                                                               \
        printf(__VA_ARGS__);                                                                                 \
        printf("\n");                                                                                        \
        exit(1);                                                                                             \
    } while (0)

#define assert_true(a)                                                                                       \
    do {                                                                                                     \
        if (!(a)) fail_msg("%s", #a);                                                                        \
    } while (0)
#define assert_false(a)              assert_true(!(a))
#define assert_null(a)               assert_true((a) == NULL)
#define assert_non_null(a)           assert_true((a) != NULL)
#define assert_int_equal(a, b)       assert_true((a) == (b))
#define assert_int_not_equal(a, b)   assert_true((a) != (b))
#define assert_string_equal(a, b)    assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count) {
    const char *skipped = getenv("KITH_TEST_SKIP");
    for (size_t i = 0; i < count; i++) {
        if (skipped && strstr(skipped, tests[i].name)) continue;
        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(NULL);
    }
    return 0;
}

#endif
