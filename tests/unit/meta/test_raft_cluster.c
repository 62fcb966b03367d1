/* The replicated metadata log: elections, commits, crashes, partitions, snapshots, membership, on simulated machines. */
#include "tests/unit/meta/raft_cluster.h"

static void test_raft_cluster__one_node_elects_itself_and_applies(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 1, 1, 0, 0);
    cluster_node *node = cluster_leader(all, 100);
    assert_non_null(node);
    assert_true(kith_node_id_equal(&node->leader.id, &node->member.id));
    assert_int_equal(cluster_propose(node, "a"), KITH_OK);
    assert_true(cluster_node_has(node, "a"));
    cluster_node_stop(node);
    cluster_node_restart(node);
    assert_false(kith_meta_log_raft_is_new(node->log));
    assert_non_null(cluster_leader(all, 100));
    assert_true(cluster_node_has(node, "a"));
    cluster_node_crash(node, SIM_CRASH_LOSE_ALL);
    cluster_node_restart(node);
    assert_non_null(cluster_leader(all, 100));
    assert_true(cluster_node_has(node, "a"));
    cluster_destroy(all);
}

static void test_raft_cluster__three_nodes_survive_the_loss_of_a_leader(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *first = cluster_leader(all, 3000);
    assert_non_null(first);
    assert_int_equal(cluster_propose(first, "a"), KITH_OK);
    cluster_node_crash(first, SIM_CRASH_LOSE_ALL);
    cluster_node *second = cluster_leader(all, 1500);
    assert_non_null(second);
    assert_ptr_not_equal(second, first);
    assert_true(cluster_node_has(second, "a"));
    assert_int_equal(cluster_propose(second, "b"), KITH_OK);
    cluster_node_restart(first);
    cluster_run_ms(all, 1000);
    assert_true(cluster_node_has(first, "a"));
    assert_true(cluster_node_has(first, "b"));
    assert_false(first->is_leader);
    assert_true(kith_node_id_equal(&first->leader.id, &second->member.id));
    /* A follower says where the leader is. */
    cluster_proposal proposal;
    cluster_propose_start(first, "c", &proposal);
    assert_int_equal(cluster_propose_wait(first, &proposal, 10), KITH_NOT_LEADER);
    assert_non_null(strstr(proposal.text, second->member.address));
    cluster_destroy(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_cluster__one_node_elects_itself_and_applies),
        cmocka_unit_test(test_raft_cluster__three_nodes_survive_the_loss_of_a_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
