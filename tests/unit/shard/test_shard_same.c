/* The same points give the same answers, bit for bit, however they are cut into segments and whichever CPU backend looks
 * (tests/kernels/test_cuda_shard.c has the emulated GPU). */
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_same.h"

static int setup(void **state) {
    *state = shard_same_create(test_seed(20261123));
    return 0;
}

static int teardown(void **state) {
    shard_same_destroy(*state);
    return 0;
}

static void test_same__answers_of_ref_in_every_segmentation(void **state) {
    shard_same_check(*state,
        &(shard_same_backend){
            .name = "ref", .compute = kith_compute_ref(), .world = SHARD_NODE_SIM, .query_count_most = 64});
}

/* On real threads: which part raises the floor of which is another every time. */
static void test_same__answers_of_every_cpu_backend_in_every_segmentation(void **state) {
    uint32_t count;
    const kith_compute_ops *const *list = kith_compute_cpu_list(&count);
    for (uint32_t i = 0; i + 1 < count; i++) /* the last is ref */
        shard_same_check(*state, &(shard_same_backend){.name = list[i]->name,
                                     .compute = list[i],
                                     .world = SHARD_NODE_SIM_STORE,
                                     .query_count_most = 1024});
}

int main(void) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same__answers_of_ref_in_every_segmentation),
        cmocka_unit_test(test_same__answers_of_every_cpu_backend_in_every_segmentation),
    };
    return cmocka_run_group_tests_name("shard_same", tests, setup, teardown);
}
