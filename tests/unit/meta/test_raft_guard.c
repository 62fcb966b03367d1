/* What stands before libraft's core, alone: here, when a follower gives its leader up for a vote, who votes, and which answers
 * are too old. */
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

/* --- who votes --- */

static int role_seen;

static void look_at_own_role(struct raft_io *io, struct raft_message *message) {
    (void)message;
    const struct raft *raft = io->data;
    role_seen = -1;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == raft->id) role_seen = raft->configuration.servers[i].role;
    }
}

/* What the core sees of its own role (-1: it is not listed) when member 2 of `configuration` gets a message. */
static int role_at(unsigned short type, int state, const struct raft_configuration *configuration) {
    struct raft raft = {.id = 2, .state = (unsigned short)state, .configuration = *configuration};
    struct raft_io io = {.data = &raft};
    raft.io = &io;
    struct raft_message message = {.type = type};
    kith_raft_guard_receive(&raft, &message, look_at_own_role);
    assert_memory_equal(&raft.configuration, configuration, sizeof *configuration);
    return role_seen;
}

static void test_raft_guard__whoever_is_of_a_cluster_votes(void **state) {
    (void)state;
    struct raft_server servers[2] = {{.id = 1, .role = RAFT_VOTER}, {.id = 2, .role = RAFT_SPARE}};
    struct raft_configuration newcomers = {.servers = servers, .n = 2},
                              without = {.servers = servers, .n = 1};
    struct raft_configuration none = {.servers = NULL};
    assert_int_equal(role_at(RAFT_IO_REQUEST_VOTE, RAFT_FOLLOWER, &newcomers), RAFT_VOTER);
    assert_int_equal(role_at(RAFT_IO_REQUEST_VOTE, RAFT_FOLLOWER, &without), RAFT_VOTER);
    assert_int_equal(role_at(RAFT_IO_REQUEST_VOTE, RAFT_FOLLOWER, &none), -1);
    assert_int_equal(role_at(RAFT_IO_REQUEST_VOTE, RAFT_LEADER, &without), -1);
    assert_int_equal(role_at(RAFT_IO_TIMEOUT_NOW, RAFT_FOLLOWER, &newcomers), RAFT_SPARE);
    assert_int_equal(role_at(RAFT_IO_APPEND_ENTRIES, RAFT_FOLLOWER, &newcomers), RAFT_SPARE);
}

/* Whether a request in term 5 keeps what the core would grant a vote for, when `voted_for` has the vote of term 5. */
static bool may_win(uint64_t voted_for, uint64_t term, bool pre_vote) {
    struct raft raft = {.id = 1, .state = RAFT_CANDIDATE, .current_term = 5, .voted_for = voted_for};
    struct raft_message message = {.type = RAFT_IO_REQUEST_VOTE,
        .request_vote = {
            .term = term, .candidate_id = 3, .last_log_index = 9, .last_log_term = 4, .pre_vote = pre_vote}};
    kith_raft_guard_before(&raft, &message, NULL, 0);
    assert_int_equal(message.request_vote.last_log_index == 9, message.request_vote.last_log_term == 4);
    return message.request_vote.last_log_index == 9;
}

static void test_raft_guard__nobody_votes_twice_in_a_term(void **state) {
    (void)state;
    assert_false(may_win(2, 5, false));
    assert_true(may_win(0, 5, false));
    assert_true(may_win(3, 5, false)); /* the same once more */
    assert_true(may_win(2, 6, false));
    assert_true(may_win(2, 5, true));
}

/* --- answers that overtake each other --- */

enum { TERM = 5, LAST_INDEX = 80 };

static struct raft_server three[3] = {
    {.id = 1, .role = RAFT_VOTER}, {.id = 2, .role = RAFT_VOTER}, {.id = 3, .role = RAFT_VOTER}};

static struct raft leader_of_three(void) {
    return (struct raft){.id = 1,
        .state = RAFT_LEADER,
        .current_term = TERM,
        .log = {.offset = LAST_INDEX},
        .configuration = {.servers = three, .n = 3}};
}

typedef struct said {
    uint64_t by, term, rejected, last_index;
} said;

static bool overtaken(kith_raft_guard_acknowledged *acknowledged, struct raft *raft, said what) {
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .server_id = what.by,
        .append_entries_result = {
            .term = what.term, .rejected = what.rejected, .last_log_index = what.last_index}};
    return kith_raft_guard_is_overtaken(acknowledged, raft, &message);
}

static void test_raft_guard__refusal_of_what_was_acknowledged_is_overtaken(void **state) {
    (void)state;
    struct raft raft = leader_of_three();
    kith_raft_guard_acknowledged acknowledged = {.count = 0};
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 73, 65}));
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 0, 73}));
    assert_true(overtaken(&acknowledged, &raft, (said){2, TERM, 73, 65}));
    assert_true(overtaken(&acknowledged, &raft, (said){2, TERM, 1, 65}));
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 74, 73}));
    assert_false(overtaken(&acknowledged, &raft, (said){3, TERM, 73, 65})); /* another's */
    assert_false(
        overtaken(&acknowledged, &raft, (said){2, TERM + 1, 73, 65}));     /* it says that we lead no more */
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 0, 60})); /* an older acknowledgement */
    assert_true(overtaken(&acknowledged, &raft, (said){2, TERM, 73, 65}));
    /* Of a longer log no more than the leader's length is known to be equal. */
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 0, LAST_INDEX + 7}));
    assert_true(overtaken(&acknowledged, &raft, (said){2, TERM, LAST_INDEX, 65}));
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, LAST_INDEX + 1, 65}));
}

static void test_raft_guard__acknowledgements_end_with_term_and_membership(void **state) {
    (void)state;
    struct raft raft = leader_of_three();
    kith_raft_guard_acknowledged acknowledged = {.count = 0};
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM, 0, 73}));
    assert_false(overtaken(&acknowledged, &raft, (said){3, TERM, 0, 73}));
    raft.configuration.n = 2;
    kith_raft_guard_forget_gone(&acknowledged, &raft);
    assert_false(overtaken(&acknowledged, &raft, (said){3, TERM, 0, 73})); /* no member's */
    raft.configuration.n = 3;
    kith_raft_guard_forget_gone(&acknowledged, &raft);
    assert_false(overtaken(&acknowledged, &raft, (said){3, TERM, 73, 0})); /* it came back, with nothing */
    assert_true(overtaken(&acknowledged, &raft, (said){2, TERM, 73, 65}));
    raft.current_term = TERM + 1;
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM + 1, 73, 65}));
    raft.state = RAFT_FOLLOWER;
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM + 1, 0, 73}));
    raft.state = RAFT_LEADER;
    assert_false(overtaken(&acknowledged, &raft, (said){2, TERM + 1, 73, 65}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_guard__a_leader_that_speaks_is_kept),
        cmocka_unit_test(test_raft_guard__a_silent_leader_is_forgotten_for_a_vote),
        cmocka_unit_test(test_raft_guard__whoever_is_of_a_cluster_votes),
        cmocka_unit_test(test_raft_guard__nobody_votes_twice_in_a_term),
        cmocka_unit_test(test_raft_guard__refusal_of_what_was_acknowledged_is_overtaken),
        cmocka_unit_test(test_raft_guard__acknowledgements_end_with_term_and_membership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
