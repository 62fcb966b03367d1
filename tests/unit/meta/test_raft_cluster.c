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

static void cut_off(cluster *all, uint32_t number, bool cut) {
    for (uint32_t i = 0; i < all->node_count; i++) {
        if (i == number) continue;
        kith_transport_sim_cut(all->network, all->nodes[number].host, all->nodes[i].host, cut);
        kith_transport_sim_cut(all->network, all->nodes[i].host, all->nodes[number].host, cut);
    }
}

static void propose_many(cluster_node *leader, const char *prefix, uint32_t count) {
    char name[32];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%u", prefix, i);
        assert_int_equal(cluster_propose(leader, name), KITH_OK);
    }
}

/* All running nodes have the same metadata. */
static void assert_all_agree(cluster *all) {
    kith_buf first, other;
    kith_buf_init(&first);
    kith_buf_init(&other);
    for (uint32_t i = 0; i < all->node_count; i++) {
        if (!all->nodes[i].running || all->nodes[i].ended) continue;
        kith_buf *buf = first.bytes ? &other : &first;
        kith_buf_clear(buf);
        kith_meta_fsm_snapshot(&all->nodes[i].fsm, buf);
        if (buf == &first) continue;
        assert_int_equal(first.bytes, other.bytes);
        assert_memory_equal(first.data, other.data, first.bytes);
    }
    kith_buf_fini(&first);
    kith_buf_fini(&other);
}

static cluster_node *other_than(cluster *all, const cluster_node *a, const cluster_node *b) {
    for (uint32_t i = 0; i < all->node_count; i++) {
        if (&all->nodes[i] != a && &all->nodes[i] != b) return &all->nodes[i];
    }
    return NULL;
}

static kith_status join(cluster_node *leader, const cluster_node *node) {
    cluster_answer answer = {.done = false};
    kith_meta_log_raft_join(leader->log, &node->member, cluster_answered, &answer);
    return cluster_answer_wait(leader->cluster, &answer, 35000);
}

static kith_status leave(cluster_node *leader, const cluster_node *node) {
    cluster_answer answer = {.done = false};
    kith_meta_log_raft_leave(leader->log, &node->member.id, cluster_answered, &answer);
    return cluster_answer_wait(leader->cluster, &answer, 5000);
}

static kith_status transfer(cluster_node *leader, const cluster_node *to) {
    cluster_answer answer = {.done = false};
    kith_meta_log_raft_transfer(leader->log, to ? &to->member.id : NULL, cluster_answered, &answer);
    return cluster_answer_wait(leader->cluster, &answer, 5000);
}

/* --- partitions --- */

static void test_raft_cluster__minority_refuses_and_says_so(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *old = cluster_leader(all, 3000);
    assert_int_equal(cluster_propose(old, "a"), KITH_OK);
    cut_off(all, old->number, true);
    /* What the leader takes in before it notices has an unknown outcome; afterwards it refuses. */
    cluster_proposal early, late;
    cluster_propose_start(old, "b", &early);
    assert_int_equal(cluster_propose_wait(old, &early, 3000), KITH_UNKNOWN_OUTCOME);
    assert_false(old->is_leader);
    cluster_propose_start(old, "c", &late);
    assert_int_equal(cluster_propose_wait(old, &late, 100), KITH_NOT_LEADER);
    cluster_node *leader = cluster_leader(all, 3000);
    assert_ptr_not_equal(leader, old);
    assert_int_equal(cluster_propose(leader, "d"), KITH_OK);
    cut_off(all, old->number, false);
    cluster_run_ms(all, 2000);
    assert_true(leader->is_leader); /* pre-vote: who comes back disturbs nobody */
    assert_true(cluster_node_has(old, "d"));
    assert_false(cluster_node_has(old, "b")); /* replaced by what the majority had */
    assert_all_agree(all);
    cluster_destroy(all);
}

/* --- snapshots --- */

static void test_raft_cluster__lagging_member_is_sent_a_snapshot(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 16, 8);
    cluster_node *leader = cluster_leader(all, 3000);
    cluster_node *lagging = other_than(all, leader, NULL);
    propose_many(leader, "a", 3);
    cut_off(all, lagging->number, true);
    propose_many(leader, "b", 60);
    cut_off(all, lagging->number, false);
    cluster_run_ms(all, 3000);
    assert_true(lagging->restored_count > 0);
    assert_true(cluster_node_has(lagging, "b59"));
    assert_all_agree(all);
    /* What it has now survives it. */
    cluster_node_crash(lagging, SIM_CRASH_LOSE_ALL);
    cut_off(all, lagging->number, true);
    cluster_node_restart(lagging);
    assert_true(cluster_node_has(lagging, "b40"));
    cut_off(all, lagging->number, false);
    cluster_run_ms(all, 2000);
    assert_all_agree(all);
    cluster_destroy(all);
}

static void test_raft_cluster__restart_finds_snapshot_and_log(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 1, 1, 16, 8);
    cluster_node *node = cluster_leader(all, 100);
    char prefix[8];
    for (uint32_t round = 0; round < 6; round++) {
        snprintf(prefix, sizeof prefix, "r%u-", round);
        propose_many(node, prefix, 23);
        cluster_node_crash(node, round % 2 ? SIM_CRASH_TORN : SIM_CRASH_LOSE_ALL);
        cluster_node_restart(node);
        assert_non_null(cluster_leader(all, 1000));
        assert_int_equal(node->fsm.state.collection_count, 23 * (round + 1));
    }
    cluster_destroy(all);
}

/* --- membership --- */

static void test_raft_cluster__one_becomes_three_and_the_first_leaves(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 1, 16, 8);
    cluster_node *first = cluster_leader(all, 1000);
    assert_ptr_equal(first, &all->nodes[0]);
    propose_many(first, "a", 40);
    assert_int_equal(join(first, &all->nodes[1]), KITH_OK);
    assert_int_equal(join(first, &all->nodes[2]), KITH_OK);
    assert_int_equal(join(first, &all->nodes[2]), KITH_OK); /* repeated */
    kith_meta_log_raft_status_report report;
    kith_meta_log_raft_status(all->nodes[1].log, &report);
    assert_int_equal(report.member_count, 3);
    assert_true(report.leader_known);
    assert_true(kith_node_id_equal(&report.leader.id, &first->member.id));
    propose_many(first, "b", 3);
    assert_int_equal(leave(first, first), KITH_NOT_LEADER);
    assert_int_equal(leave(cluster_leader(all, 2000), first), KITH_OK);
    cluster_run_ms(all, 1500);
    assert_true(first->ended);
    assert_int_equal(first->ended_status, KITH_NOT_FOUND);
    cluster_node_stop(first);
    cluster_node *leader = cluster_leader(all, 2000);
    assert_ptr_not_equal(leader, first);
    assert_int_equal(cluster_propose(leader, "c"), KITH_OK);
    cluster_run_ms(all, 200);
    assert_all_agree(all);
    cluster_destroy(all);
}

static void test_raft_cluster__removed_member_stops_also_when_it_was_away(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *leader = cluster_leader(all, 3000);
    cluster_node *gone = other_than(all, leader, NULL);
    cut_off(all, gone->number, true);
    assert_int_equal(leave(leader, gone), KITH_OK);
    assert_int_equal(leave(leader, gone), KITH_OK); /* repeated */
    cluster_run_ms(all, 2000);
    assert_false(gone->ended);
    cut_off(all, gone->number, false);
    cluster_run_ms(all, 3000);
    assert_true(gone->ended);
    assert_int_equal(gone->ended_status, KITH_NOT_FOUND);
    assert_true(leader->is_leader);
    cluster_proposal proposal;
    cluster_propose_start(gone, "x", &proposal);
    assert_int_equal(cluster_propose_wait(gone, &proposal, 10), KITH_CLOSED);
    cluster_destroy(all);
}

static void test_raft_cluster__impossible_changes_are_refused(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 2, 1, 0, 0);
    cluster_node *leader = cluster_leader(all, 1000);
    assert_int_equal(leave(leader, leader), KITH_PRECONDITION);
    assert_int_equal(transfer(leader, NULL), KITH_NOT_FOUND);
    assert_int_equal(join(&all->nodes[1], leader), KITH_NOT_LEADER);
    cluster_answer answer = {.done = false};
    kith_meta_member twin = all->nodes[1].member;
    snprintf(twin.address, sizeof twin.address, "%s", leader->member.address);
    kith_meta_log_raft_join(leader->log, &twin, cluster_answered, &answer);
    assert_int_equal(cluster_answer_wait(all, &answer, 100), KITH_EXISTS);
    /* Two at once. */
    cluster_answer first = {.done = false}, second = {.done = false};
    kith_meta_log_raft_join(leader->log, &all->nodes[1].member, cluster_answered, &first);
    kith_meta_log_raft_leave(leader->log, &leader->member.id, cluster_answered, &second);
    assert_int_equal(cluster_answer_wait(all, &second, 100), KITH_BUSY);
    assert_int_equal(cluster_answer_wait(all, &first, 5000), KITH_OK);
    kith_err err;
    assert_int_equal(kith_meta_log_raft_bootstrap(leader->log, &leader->member, 1, &err), KITH_PRECONDITION);
    cluster_destroy(all);
}

static void test_raft_cluster__member_that_cannot_be_reached_does_not_vote(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 2, 1, 0, 0);
    cluster_node *leader = cluster_leader(all, 1000);
    cut_off(all, 1, true);
    assert_int_equal(join(leader, &all->nodes[1]), KITH_UNAVAILABLE);
    kith_meta_log_raft_status_report report;
    kith_meta_log_raft_status(leader->log, &report);
    assert_int_equal(report.member_count, 2);
    assert_int_equal(cluster_propose(leader, "a"), KITH_OK); /* alone still */
    cut_off(all, 1, false);
    assert_int_equal(join(leader, &all->nodes[1]), KITH_OK);
    cluster_run_ms(all, 200);
    assert_all_agree(all);
    cluster_destroy(all);
}

static bool is_voter(const cluster_node *asked, const cluster_node *node) {
    kith_meta_log_raft_status_report report;
    kith_meta_log_raft_status(asked->log, &report);
    for (uint32_t i = 0; i < report.member_count; i++) {
        if (kith_node_id_equal(&report.members[i].member.id, &node->member.id))
            return report.members[i].voter;
    }
    return false;
}

/* `newcomer` is a voter to `leader` and does not know: it is cut off since, for so long that the leader gave up. */
static void join_cut_short(cluster_node *leader, const cluster_node *newcomer) {
    cluster *all = leader->cluster;
    cluster_answer answer = {.done = false};
    kith_meta_log_raft_join(leader->log, &newcomer->member, cluster_answered, &answer);
    for (uint32_t i = 0; i < 5000 && !is_voter(leader, newcomer); i++)
        cluster_run_ms(all, 1);
    cut_off(all, newcomer->number, true);
    assert_int_equal(cluster_answer_wait(all, &answer, 5000), KITH_UNKNOWN_OUTCOME);
    assert_true(is_voter(leader, newcomer));
    assert_false(is_voter(newcomer, newcomer));
    assert_null(cluster_leader(all, 1000));
}

static void slow_network(cluster *all) {
    kith_transport_sim_link link = {.delay_ns_min = 5 * MS, .delay_ns_max = 5 * MS};
    kith_transport_sim_links_set(all->network, &link);
}

static void test_raft_cluster__voter_that_does_not_know_yet_votes(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 2, 1, 0, 0);
    slow_network(all);
    cluster_node *first = cluster_leader(all, 1000);
    join_cut_short(first, &all->nodes[1]);
    cut_off(all, 1, false);
    assert_ptr_equal(cluster_leader(all, 3000), first);
    assert_int_equal(cluster_propose(first, "a"), KITH_OK);
    cluster_run_ms(all, 500);
    assert_true(is_voter(&all->nodes[1], &all->nodes[1]));
    assert_all_agree(all);
    cluster_destroy(all);
}

/* Two of three, and the one that is to stand in for the third: that makes three of four. */
static void test_raft_cluster__replacement_of_a_dead_member_votes(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 4, 3, 0, 0);
    slow_network(all);
    cluster_node *leader = cluster_leader(all, 3000), *newcomer = &all->nodes[3];
    cluster_node_stop(leader == &all->nodes[0] ? &all->nodes[1] : &all->nodes[0]);
    join_cut_short(leader, newcomer);
    cut_off(all, newcomer->number, false);
    leader = cluster_leader(all, 3000);
    assert_non_null(leader);
    assert_int_equal(cluster_propose(leader, "a"), KITH_OK);
    cluster_run_ms(all, 500);
    assert_true(is_voter(newcomer, newcomer));
    assert_all_agree(all);
    cluster_destroy(all);
}

/* One of four dies. Of the others the newcomer alone has the last entry, and one was away when it came: it does not know it. */
static void test_raft_cluster__unknown_newcomer_is_voted_for(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 4, 3, 0, 0);
    cluster_node *first = cluster_leader(all, 3000), *newcomer = &all->nodes[3];
    cluster_node *away = other_than(all, first, NULL), *other = other_than(all, first, away);
    cut_off(all, away->number, true);
    assert_int_equal(join(first, newcomer), KITH_OK);
    cut_off(all, other->number, true);
    cluster_proposal proposal;
    cluster_propose_start(first, "a", &proposal);
    cluster_run_ms(all, 100);
    cluster_node_crash(first, SIM_CRASH_LOSE_ALL);
    assert_int_equal(cluster_propose_wait(first, &proposal, 1), KITH_UNKNOWN_OUTCOME);
    kith_transport_sim_heal(all->network);
    assert_false(is_voter(away, newcomer));
    assert_ptr_equal(cluster_leader(all, 5000), newcomer);
    assert_int_equal(cluster_propose(newcomer, "b"), KITH_OK);
    cluster_run_ms(all, 1000);
    assert_true(is_voter(away, newcomer));
    assert_true(cluster_node_has(away, "a"));
    assert_all_agree(all);
    cluster_destroy(all);
}

/* --- leadership on purpose --- */

static void test_raft_cluster__leadership_is_handed_over(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *leader = cluster_leader(all, 3000);
    cluster_node *next = other_than(all, leader, NULL);
    assert_int_equal(transfer(leader, next), KITH_OK);
    assert_ptr_equal(cluster_leader(all, 200), next);
    assert_int_equal(cluster_propose(next, "a"), KITH_OK);
    /* A stop hands it over first: nobody waits for an election timeout. */
    kith_meta_log_raft_stop(next->log, cluster_stopped, next);
    cluster_run_ms(all, 150);
    assert_true(next->stopped);
    cluster_node_free(next);
    assert_non_null(cluster_leader(all, 50));
    cluster_node_restart(next);
    cluster_run_ms(all, 1000);
    assert_all_agree(all);
    cluster_destroy(all);
}

static void test_raft_cluster__metadata_of_a_standalone_node_becomes_the_clusters(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 2, 0, 0, 0);
    cluster_node *first = &all->nodes[0];
    cluster_node_stop(first);
    cluster_node_open(first);
    kith_meta_result result;
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .collection = {.name = "old",
            .shard_count = 1,
            .schema = {
                .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}}}};
    kith_meta_state_apply(&first->fsm.state, 7, &command, &result);
    first->applied_index = 7;
    kith_err err;
    kith_meta_member members[2] = {first->member, all->nodes[1].member};
    assert_int_equal(kith_meta_log_raft_bootstrap(first->log, members, 2, &err), KITH_INVALID);
    assert_ok(kith_meta_log_raft_bootstrap(first->log, members, 1, &err), &err);
    cluster_node_start(first);
    assert_ptr_equal(cluster_leader(all, 100), first);
    assert_int_equal(cluster_propose(first, "new"), KITH_OK);
    assert_int_equal(join(first, &all->nodes[1]), KITH_OK);
    assert_true(cluster_node_has(&all->nodes[1], "old"));
    assert_true(cluster_node_has(&all->nodes[1], "new"));
    cluster_destroy(all);
}

/* --- disks --- */

static void test_raft_cluster__full_disk_stalls_and_goes_on(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 1, 1, 0, 0);
    cluster_node *node = cluster_leader(all, 1000);
    assert_int_equal(cluster_propose(node, "a"), KITH_OK);
    sim_env_space_set(node->sim, 1);
    cluster_proposal held, refused;
    cluster_propose_start(node, "b", &held);
    cluster_run_ms(all, 300);
    assert_false(held.done);
    cluster_propose_start(node, "c", &refused);
    assert_int_equal(cluster_propose_wait(node, &refused, 10), KITH_NO_SPACE);
    sim_env_space_set(node->sim, UINT64_MAX);
    assert_int_equal(cluster_propose_wait(node, &held, 300), KITH_OK);
    assert_int_equal(cluster_propose(node, "c"), KITH_OK);
    cluster_node_crash(node, SIM_CRASH_LOSE_ALL);
    cluster_node_restart(node);
    assert_non_null(cluster_leader(all, 1000));
    assert_int_equal(node->fsm.state.collection_count, 3);
    cluster_destroy(all);
}

/* A leader that can write nothing would refuse every command, also that a node is down, until somebody made room for it. */
static void test_raft_cluster__leader_without_room_hands_over(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *old = cluster_leader(all, 3000);
    assert_int_equal(cluster_propose(old, "a"), KITH_OK);
    sim_env_space_set(old->sim, 1);
    cluster_proposal held;
    cluster_propose_start(old, "b", &held);
    for (uint32_t waited = 0; old->is_leader && waited < 1000; waited += 5)
        cluster_run_ms(all, 5);
    assert_false(old->is_leader);
    cluster_node *next = cluster_leader(all, 1000);
    assert_non_null(next);
    assert_ptr_not_equal(next, old);
    assert_int_equal(cluster_propose(next, "c"), KITH_OK);
    cluster_run_ms(all, 20000);
    assert_true(next->is_leader);
    sim_env_space_set(old->sim, UINT64_MAX);
    cluster_run_ms(all, 1000);
    assert_true(held.done);
    assert_true(cluster_node_has(old, "b"));
    assert_true(cluster_node_has(old, "c"));
    kith_buf_fini(&held.bytes);
    cluster_destroy(all);
}

static void test_raft_cluster__failed_sync_ends_the_member_and_not_the_cluster(void **unused) {
    (void)unused;
    cluster *all = cluster_create(test_seed(1), 3, 3, 0, 0);
    cluster_node *old = cluster_leader(all, 3000);
    assert_int_equal(cluster_propose(old, "a"), KITH_OK);
    cluster_proposal proposal;
    sim_env_fail_next(old->sim, SIM_FAIL_SYNC, KITH_IO);
    cluster_propose_start(old, "b", &proposal);
    kith_status status = cluster_propose_wait(old, &proposal, 1000);
    assert_true(status == KITH_UNKNOWN_OUTCOME || status == KITH_OK);
    cluster_run_ms(all, 10);
    assert_true(old->ended);
    assert_int_equal(old->ended_status, KITH_IO);
    cluster_node *leader = NULL;
    old->is_leader = false;
    leader = cluster_leader(all, 2000);
    assert_non_null(leader);
    assert_int_equal(cluster_propose(leader, "c"), KITH_OK);
    cluster_node_crash(old, SIM_CRASH_LOSE_ALL);
    cluster_node_restart(old);
    cluster_run_ms(all, 1000);
    assert_all_agree(all);
    cluster_destroy(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_cluster__one_node_elects_itself_and_applies),
        cmocka_unit_test(test_raft_cluster__three_nodes_survive_the_loss_of_a_leader),
        cmocka_unit_test(test_raft_cluster__minority_refuses_and_says_so),
        cmocka_unit_test(test_raft_cluster__lagging_member_is_sent_a_snapshot),
        cmocka_unit_test(test_raft_cluster__restart_finds_snapshot_and_log),
        cmocka_unit_test(test_raft_cluster__one_becomes_three_and_the_first_leaves),
        cmocka_unit_test(test_raft_cluster__removed_member_stops_also_when_it_was_away),
        cmocka_unit_test(test_raft_cluster__impossible_changes_are_refused),
        cmocka_unit_test(test_raft_cluster__member_that_cannot_be_reached_does_not_vote),
        cmocka_unit_test(test_raft_cluster__voter_that_does_not_know_yet_votes),
        cmocka_unit_test(test_raft_cluster__replacement_of_a_dead_member_votes),
        cmocka_unit_test(test_raft_cluster__unknown_newcomer_is_voted_for),
        cmocka_unit_test(test_raft_cluster__leadership_is_handed_over),
        cmocka_unit_test(test_raft_cluster__metadata_of_a_standalone_node_becomes_the_clusters),
        cmocka_unit_test(test_raft_cluster__full_disk_stalls_and_goes_on),
        cmocka_unit_test(test_raft_cluster__leader_without_room_hands_over),
        cmocka_unit_test(test_raft_cluster__failed_sync_ends_the_member_and_not_the_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
