/* Which backend is chosen, against what the kernel says of the processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "tests/lib/test_lib.h"

/* The line of flags with a space at both ends, or "" where there is none; freed by the caller. */
static char *flags_read(void) {
    char *line = NULL, *flags = NULL;
    size_t capacity = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !flags && getline(&line, &capacity, file) > 0) {
        if (strncmp(line, "flags", 5) == 0) flags = strdup(line);
    }
    free(line);
    if (file) fclose(file);
    if (flags) *strchr(flags, '\n') = ' ';
    return flags;
}

static bool has(const char *flags, const char *name) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, " %s ", name);
    return strstr(flags, wanted) != NULL;
}

/* AVX2 alone is not enough: a hypervisor may hide FMA or F16C, and the backend uses both. */
static void test_cpu_detect__backends_run_where_all_their_instructions_are(void **state) {
    (void)state;
    char *flags = flags_read();
    if (!flags) skip();
    bool avx2 = has(flags, "avx2") && has(flags, "fma") && has(flags, "f16c");
    bool avx512 = avx2 && has(flags, "avx512f") && has(flags, "avx512bw") && has(flags, "avx512dq") &&
                  has(flags, "avx512vl");
    assert_int_equal(kith_cpu_can_run("avx2"), avx2);
    assert_int_equal(kith_cpu_can_run("avx512"), avx512);
    assert_int_equal(kith_cpu_can_run("avxvnni"), avx2 && has(flags, "avx_vnni"));
    assert_int_equal(kith_cpu_can_run("avx512vnni"), avx512 && has(flags, "avx512_vnni"));
    assert_true(kith_cpu_can_run("ref"));
    assert_false(kith_cpu_can_run("nosuch"));
    free(flags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_detect__backends_run_where_all_their_instructions_are),
    };
    return cmocka_run_group_tests_name("cpu_detect", tests, NULL, NULL);
}
