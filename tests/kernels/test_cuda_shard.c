/* Shards whose sealed segments lie on an emulated GPU: the answers of test_shard_same, bit for bit. */
#include "host/base/log.h"
#include "tests/kernels/cuda_fixture.h"
#include "tests/unit/shard/shard_same.h"

static void test_cuda_shard__answers_in_every_segmentation(void **state) {
    (void)state;
    uint64_t seed = test_seed(20261123);
    shard_same *same = shard_same_create(seed);
    cuda_fixture f;
    kith_cuda_backend_counts counts;
    cuda_fixture_open(&f, true, seed,
        &(kith_cuda_backend_options){.worker_count = 2,
            .worker_queries_bytes = 1 << 18,
            .worker_results_bytes = 1 << 18,
            .worker_scratch_bytes = 1 << 20,
            .upload_bytes = 1 << 16});
    shard_same_check(same, &(shard_same_backend){.name = "emulated cuda",
                               .compute = kith_compute_cuda(),
                               .world = SHARD_NODE_SIM,
                               .query_count_most = 7});
    kith_cuda_backend_count(f.backend, &counts);
    print_message("%llu uploads, %llu searches, %llu queries, %llu declined\n",
        (unsigned long long)counts.uploads, (unsigned long long)counts.searches,
        (unsigned long long)counts.queries, (unsigned long long)counts.declined);
    assert_true(counts.uploads >= 3 && counts.faults == 0);
    assert_true(counts.queries > 1024);
    assert_int_equal(f.retired_count, 0);
    cuda_fixture_close(&f);
    shard_same_destroy(same);
}

int main(void) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_shard__answers_in_every_segmentation),
    };
    return cmocka_run_group_tests_name("cuda_shard", tests, NULL, NULL);
}
