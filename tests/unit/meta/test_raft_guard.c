/* What stands before libraft's core, alone: here, when a follower gives its leader up for a vote. */
#include <string.h>

#include "host/meta/raft_guard.h"
#include "tests/lib/test_lib.h"

enum { ELECTION_MS = 400, HEARTBEAT_MS = 40, HEARD_MS = 10000 };

static raft_time now_ms;

static raft_time time_now(struct raft_io *io) {
    (void)io;
    return now_ms;
}

/* Whether a follower that last heard its leader `silent_ms` ago still has it when it is asked for a vote. */
static bool keeps_leader(unsigned silent_ms) {
    struct raft_io io = {.time = time_now};
    struct raft raft = {.state = RAFT_FOLLOWER, .io = &io, .election_timeout = ELECTION_MS};
    raft.heartbeat_timeout = HEARTBEAT_MS;
    raft.election_timer_start = HEARD_MS;
    raft.follower_state.randomized_election_timeout = 2 * ELECTION_MS;
    raft.follower_state.current_leader.id = 7;
    raft.follower_state.current_leader.address = raft_malloc(8);
    memcpy(raft.follower_state.current_leader.address, "leader", 7);
    struct raft_message message = {.type = RAFT_IO_REQUEST_VOTE};
    now_ms = HEARD_MS + silent_ms;
    kith_raft_guard_before(&raft, &message, NULL, 0);
    bool kept = raft.follower_state.current_leader.id != 0;
    assert_int_equal(kept, raft.follower_state.current_leader.address != NULL);
    raft_free(raft.follower_state.current_leader.address);
    return kept;
}

static void test_raft_guard__a_leader_that_speaks_is_kept(void **state) {
    (void)state;
    assert_true(keeps_leader(0));
    assert_true(keeps_leader(HEARTBEAT_MS));
    assert_true(keeps_leader(ELECTION_MS - HEARTBEAT_MS - 1));
}

static void test_raft_guard__a_silent_leader_is_forgotten_for_a_vote(void **state) {
    (void)state;
    assert_false(keeps_leader(ELECTION_MS - HEARTBEAT_MS));
    assert_false(keeps_leader(ELECTION_MS));
    assert_false(keeps_leader(2 * ELECTION_MS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_guard__a_leader_that_speaks_is_kept),
        cmocka_unit_test(test_raft_guard__a_silent_leader_is_forgotten_for_a_vote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
