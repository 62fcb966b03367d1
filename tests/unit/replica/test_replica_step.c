/* The rules of the replication protocol, one by one. Histories are the simulator's (tests/sim). */
#include <stdio.h>
#include <string.h>

#include "host/replica/replica_step.h"
#include "tests/lib/test_lib.h"

#define MS    1000000ULL
#define LEASE (100 * MS)

/* One replica with everything it ever asked for. Sends and tokens are looked at by the tests. */
typedef struct bench {
    kith_replica_step *step;
    uint64_t now_ns, token;
    uint32_t count;
    kith_replica_action actions[256]; /* of the last look */
    uint32_t send_count;
    kith_replica_action sends[256]; /* not answered */
} bench;

static kith_replica_log log_of(uint64_t epoch, uint64_t end, uint64_t committed) {
    return (kith_replica_log){.first = end + 1, .end = {epoch, end}, .committed = committed};
}

static void bench_make(bench *at, uint32_t self, kith_replica_log log) {
    *at = (bench){.now_ns = 1000 * MS};
    at->step = kith_replica_step_create(
        &(kith_replica_step_options){
            .shard_id = 1, .self = self, .lease_ns = LEASE, .window = 4, .batch_bytes_max = 1000},
        &log, at->now_ns);
}

static void bench_end(bench *at) {
    kith_replica_step_destroy(at->step);
}

/* Takes what the last event led to. */
static void look(bench *at) {
    at->count = 0;
    kith_replica_action *action = at->actions;
    while (at->count < 256 && kith_replica_step_next(at->step, at->now_ns, action)) {
        if (action->kind == KITH_REPLICA_SEND) at->sends[at->send_count++ % 256] = *action;
        action = &at->actions[++at->count];
    }
    assert_true(at->count < 256);
    assert_true(at->send_count < 256);
}

static const kith_replica_action *action_find(const bench *at, kith_replica_action_kind kind, uint32_t peer) {
    for (uint32_t i = 0; i < at->count; i++) {
        const kith_replica_action *action = &at->actions[i];
        if (action->kind == kind && (peer == 0 || action->peer == peer)) return action;
    }
    return NULL;
}

static const kith_replica_action *action_of(const bench *at, kith_replica_action_kind kind, uint32_t peer) {
    const kith_replica_action *action = action_find(at, kind, peer);
    if (!action) fail_msg("no action %d to %u", (int)kind, peer);
    return action;
}

/* `replicas` e.g. "1*2*3": primary first, a star behind those in sync. */
static void configure(bench *at, uint64_t epoch, const char *replicas) {
    kith_replica_config config = {.epoch = epoch, .min_in_sync = 1};
    for (const char *c = replicas; *c; c++) {
        if (*c == '*')
            config.in_sync |= (uint8_t)(1u << (config.replica_count - 1));
        else
            config.replicas[config.replica_count++] = (uint32_t)(*c - '0');
    }
    kith_replica_step_configure(at->step, &config, at->now_ns);
    look(at);
}

static void pass(bench *at, uint64_t ms) {
    for (uint64_t i = 0; i < ms; i += 10) { /* as its timer would: it never sleeps for long */
        at->now_ns += 10 * MS;
        kith_replica_step_tick(at->step, at->now_ns);
    }
    look(at);
}

static void durable(bench *at, uint64_t sequence) {
    kith_replica_step_durable(at->step, sequence, at->now_ns);
    look(at);
}

static kith_replica_status status_of(const bench *at) {
    kith_replica_status status;
    kith_replica_step_status(at->step, at->now_ns, &status);
    return status;
}

/* Answers, OK, every SEND to `peer`: all of it is durable there. */
static void acknowledge(bench *at, uint32_t peer) {
    uint32_t left = 0, count = at->send_count;
    for (uint32_t i = 0; i < count; i++) {
        kith_replica_action send = at->sends[i];
        if (send.peer != peer) {
            at->sends[left++] = send;
            continue;
        }
        kith_replica_reply reply = {
            .outcome = KITH_REPLICA_OK, .epoch = send.epoch, .matched = send.last, .stamp_ns = at->now_ns};
        kith_replica_step_answered(at->step, peer, send.send_id, &reply, at->now_ns);
    }
    at->send_count = left;
    look(at);
}

static bool sends_to(const bench *at, uint32_t peer) {
    for (uint32_t i = 0; i < at->send_count; i++) {
        if (at->sends[i].peer == peer) return true;
    }
    return false;
}

/* The same for all of `peers`, e.g. "23", until nothing more is sent to them, or a change is asked for. */
static void acknowledge_all(bench *at, const char *peers) {
    for (bool more = true; more;) {
        more = false;
        for (const char *c = peers; *c; c++) {
            uint32_t peer = (uint32_t)(*c - '0');
            if (!sends_to(at, peer)) continue;
            acknowledge(at, peer);
            more = true;
            if (action_find(at, KITH_REPLICA_PROPOSE, 0)) return;
        }
    }
}

/* Node 1, made with its shard, is the primary of epoch 1; {1, 1} is committed, and known to be, at all `others`. */
static void primary_make(bench *at, const char *replicas, const char *others) {
    kith_replica_log log = log_of(0, 0, 0);
    log.created = true;
    bench_make(at, 1, log);
    configure(at, 1, replicas);
    acknowledge_all(at, others);
    durable(at, 1);
    acknowledge_all(at, others);
    assert_int_equal(status_of(at).role, KITH_REPLICA_PRIMARY);
    assert_int_equal(status_of(at).committed, 1);
}

static uint64_t write(bench *at) {
    kith_replica_position position;
    kith_err err;
    assert_ok(kith_replica_step_admit(at->step, 10, at->now_ns, &position, &err), &err);
    look(at);
    return position.sequence;
}

static void test_primary__alone_commits_what_is_durable(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*", "");
    assert_int_equal(write(&at), 2);
    assert_int_equal(status_of(&at).committed, 1);
    durable(&at, 2);
    assert_int_equal(action_of(&at, KITH_REPLICA_COMMIT, 0)->last, 2);
    assert_int_equal(kith_replica_step_due_ns(at.step), UINT64_MAX);
    bench_end(&at);
}

static void test_primary__commits_when_the_whole_isr_has_it(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    write(&at);
    durable(&at, 2);
    acknowledge(&at, 2);
    assert_int_equal(status_of(&at).committed, 1);
    acknowledge(&at, 3);
    assert_int_equal(status_of(&at).committed, 2);
    assert_int_equal(
        action_of(&at, KITH_REPLICA_SEND, 2)->committed, 2); /* pushed, as nothing else is under way */
    bench_end(&at);
}

static kith_status admit(bench *at, kith_err *err) {
    kith_replica_position position;
    return kith_replica_step_admit(at->step, 10, at->now_ns, &position, err);
}

static void answer(bench *at, const kith_replica_action *send, kith_replica_outcome outcome, uint64_t matched,
    uint64_t hint) {
    kith_replica_reply reply = {
        .outcome = outcome, .epoch = send->epoch, .matched = matched, .hint = hint, .stamp_ns = at->now_ns};
    kith_replica_step_answered(at->step, send->peer, send->send_id, &reply, at->now_ns);
    at->send_count = 0;
    look(at);
}

static void proposed(bench *at, kith_replica_proposal outcome) {
    kith_replica_step_proposed(at->step, outcome, at->now_ns);
    look(at);
}

/* Time passes, and only `peers` answer. */
static void pass_with(bench *at, uint64_t ms, const char *peers) {
    for (uint64_t i = 0; i < ms; i += 10) {
        pass(at, 10);
        if (action_find(at, KITH_REPLICA_PROPOSE, 0)) return;
        acknowledge_all(at, peers);
        if (action_find(at, KITH_REPLICA_PROPOSE, 0)) return;
    }
}

static void assert_proposes(const bench *at, uint64_t epoch, uint32_t primary, uint8_t in_sync) {
    const kith_replica_action *action = action_of(at, KITH_REPLICA_PROPOSE, 0);
    assert_int_equal(action->config.epoch, epoch);
    assert_int_equal(action->config.replicas[0], primary);
    assert_int_equal(action->config.in_sync, in_sync);
}

/* --- writes --- */

static void test_admit__says_who_it_is_and_how_many_are_in_sync(void **state) {
    (void)state;
    bench at;
    kith_err err;
    primary_make(&at, "1*2*", "2");
    kith_replica_config config = {
        .epoch = 1, .replica_count = 2, .replicas = {1, 2}, .in_sync = 3, .min_in_sync = 3};
    kith_replica_step_configure(at.step, &config, at.now_ns);
    assert_int_equal(admit(&at, &err), KITH_UNAVAILABLE);
    assert_string_equal(err.text, "2 of 2 replicas are in sync, min_in_sync is 3");
    configure(&at, 2, "2*1*");
    assert_int_equal(admit(&at, &err), KITH_STALE_MAP);
    bench_end(&at);
}

/* --- sending --- */

static void test_send__begins_again_behind_what_matches_when_one_was_not_answered(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    write(&at);
    kith_replica_action first = *action_of(&at, KITH_REPLICA_SEND, 2);
    write(&at);
    kith_replica_action second = *action_of(&at, KITH_REPLICA_SEND, 2);
    assert_int_equal(second.first, 3);
    kith_replica_step_answered(at.step, 2, first.send_id, NULL, at.now_ns);
    answer(&at, &second, KITH_REPLICA_OK, 3, 0); /* of an earlier generation */
    durable(&at, 3);
    assert_int_equal(status_of(&at).committed, 1);
    pass(&at, 20);
    kith_replica_action empty = *action_of(&at, KITH_REPLICA_SEND, 2);
    answer(&at, &empty, KITH_REPLICA_OK, 1, 0);
    const kith_replica_action *again = action_of(&at, KITH_REPLICA_SEND, 2);
    assert_int_equal(again->first, 2);
    assert_int_equal(again->last, 3);
    bench_end(&at);
}

/* Whoever reads entries back finds that one append cannot hold what was asked for. */
static void test_send__goes_on_behind_an_append_that_was_shortened(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(admit(&at, &(kith_err){0}), KITH_OK);
    look(&at);
    kith_replica_action first = at.sends[0], second = at.sends[1], third = at.sends[2];
    assert_int_equal(at.send_count, 3);
    assert_int_equal(second.first, first.last + 1);
    at.send_count = 0;
    uint64_t last = second.first + 9;
    kith_replica_step_shortened(at.step, 2, second.send_id, last, 1000);
    look(&at);
    kith_replica_action next = *action_of(&at, KITH_REPLICA_SEND, 2);
    assert_int_equal(next.first, last + 1);
    assert_int_equal(next.position.sequence, last);
    answer(&at, &third, KITH_REPLICA_MISMATCH, 0, second.first); /* nobody waits for it any more */
    assert_null(action_find(&at, KITH_REPLICA_SEND, 2));
    answer(&at, &first, KITH_REPLICA_OK, first.last, 0);
    answer(&at, &second, KITH_REPLICA_OK, last, 0);
    kith_replica_step_shortened(at.step, 2, next.send_id, next.last + 1, 1000);  /* longer is not shorter */
    kith_replica_step_shortened(at.step, 2, second.send_id, second.first, 1000); /* answered: too late */
    look(&at);
    assert_true(
        !action_find(&at, KITH_REPLICA_SEND, 2) || action_of(&at, KITH_REPLICA_SEND, 2)->first > next.last);
    bench_end(&at);
}

/* One question at a time, until the answer is that there is room, or there is none. */
static void test_send__asks_for_room_before_it_sends_more(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    write(&at);
    write(&at);
    kith_replica_action first = at.sends[0];
    kith_replica_reply full = {.outcome = KITH_REPLICA_OK, .epoch = 1, .matched = 1, .full = true};
    at.send_count = 0;
    kith_replica_step_answered(at.step, 2, first.send_id, &full, at.now_ns);
    look(&at);
    assert_int_equal(at.send_count, 1);
    kith_replica_action asks = at.sends[0];
    assert_true(asks.asks_room);
    assert_true(asks.last < asks.first);
    assert_int_equal(asks.position.sequence, 1);
    write(&at);
    pass(&at, 30);
    assert_int_equal(at.send_count, 1); /* what it has to send waits for the answer */
    full.outcome = KITH_REPLICA_NOT_READY;
    kith_replica_step_answered(at.step, 2, asks.send_id, &full, at.now_ns);
    look(&at);
    pass(&at, 30);
    assert_int_equal(at.send_count, 2);
    asks = at.sends[1];
    assert_true(asks.asks_room);
    answer(&at, &asks, KITH_REPLICA_OK, 1, 0);
    const kith_replica_action *goes_on = action_of(&at, KITH_REPLICA_SEND, 2);
    assert_false(goes_on->asks_room);
    assert_int_equal(goes_on->first, 2);
    assert_int_equal(goes_on->last, 4);
    bench_end(&at);
}

static void test_send__asks_who_did_not_answer_before_it_sends_entries_again(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    write(&at);
    kith_replica_action first = at.sends[0];
    kith_replica_reply full = {.outcome = KITH_REPLICA_OK, .epoch = 1, .matched = 1, .full = true};
    kith_replica_step_answered(at.step, 2, first.send_id, &full, at.now_ns);
    look(&at);
    kith_replica_action asks = *action_of(&at, KITH_REPLICA_SEND, 2);
    assert_true(asks.asks_room);
    kith_replica_step_answered(at.step, 2, asks.send_id, NULL, at.now_ns);
    for (uint32_t i = 0; i < 3; i++) { /* it may be dead for hours */
        pass(&at, 20);
        kith_replica_action empty = *action_of(&at, KITH_REPLICA_SEND, 2);
        assert_false(empty.asks_room);
        assert_int_equal(empty.position.sequence, 1);
        assert_int_equal(empty.last, 1);
        kith_replica_step_answered(at.step, 2, empty.send_id, NULL, at.now_ns);
    }
    pass(&at, 20);
    kith_replica_action empty = *action_of(&at, KITH_REPLICA_SEND, 2);
    kith_replica_reply is_there = {.outcome = KITH_REPLICA_OK, .epoch = 1, .matched = 1};
    kith_replica_step_answered(at.step, 2, empty.send_id, &is_there, at.now_ns);
    look(&at);
    const kith_replica_action *again = action_of(&at, KITH_REPLICA_SEND, 2);
    assert_int_equal(again->first, 2);
    assert_int_equal(again->last, 2);
    bench_end(&at);
}

static void test_send__is_empty_every_quarter_of_a_lease_when_idle(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    assert_int_equal(kith_replica_step_due_ns(at.step), at.now_ns + LEASE / 4);
    pass(&at, 20);
    assert_null(action_find(&at, KITH_REPLICA_SEND, 2));
    pass(&at, 10);
    const kith_replica_action *send = action_of(&at, KITH_REPLICA_SEND, 2);
    assert_true(send->last < send->first);
    assert_true(send->echo_ns > 0);
    bench_end(&at);
}

static void test_send__follows_the_hint_and_asks_for_a_snapshot_where_the_log_is_gone(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3", "2");
    for (int i = 0; i < 9; i++)
        write(&at);
    durable(&at, 10);
    acknowledge_all(&at, "2");
    kith_replica_step_trimmed(at.step, 6);
    configure(&at, 2, "1*2*3"); /* all are asked anew */
    kith_replica_action send = *action_of(&at, KITH_REPLICA_SEND, 3);
    assert_true(send.snapshot_needed); /* it began before the first entry */
    answer(&at, &send, KITH_REPLICA_MISMATCH, 0, 5);
    send = *action_of(&at, KITH_REPLICA_SEND, 3);
    assert_int_equal(send.first, 6);
    assert_int_equal(send.position.epoch, 1);
    answer(&at, &send, KITH_REPLICA_MISMATCH, 0, 4);
    send = *action_of(&at, KITH_REPLICA_SEND, 3);
    assert_true(send.snapshot_needed);
    assert_true(send.last < send.first);
    assert_int_equal(send.position.sequence, 5);
    /* It may not be replaced yet: its map is older, and no coordinator gives it another. It is asked now and then. */
    answer(&at, &send, KITH_REPLICA_MISMATCH, 0, 4);
    assert_null(action_find(&at, KITH_REPLICA_SEND, 3));
    pass(&at, 20);
    assert_true(action_of(&at, KITH_REPLICA_SEND, 3)->snapshot_needed);
    bench_end(&at);
}

/* Entries whose epoch is forgotten could not be told from others of the same number, where they are read back. */
static void test_send__asks_for_a_snapshot_where_epochs_are_forgotten(void **state) {
    (void)state;
    enum { EPOCHS = 5000, LEAST_KNOWN = 1000 };
    bench at;
    primary_make(&at, "1*2", "");
    for (uint64_t epoch = 2; epoch < EPOCHS; epoch++) {
        at.send_count = 0;
        configure(&at, epoch, "1*2");
        durable(&at, write(&at));
    }
    at.send_count = 0;
    configure(&at, EPOCHS, "1*2"); /* node 2 lacks the second entry, and all behind it */
    kith_replica_action send = *action_of(&at, KITH_REPLICA_SEND, 2);
    assert_true(send.snapshot_needed);
    assert_int_not_equal(kith_replica_step_epoch_of(at.step, send.position.sequence + 1), 0);
    answer(&at, &send, KITH_REPLICA_MISMATCH, 0, EPOCHS - LEAST_KNOWN);
    send = *action_of(&at, KITH_REPLICA_SEND, 2);
    assert_false(send.snapshot_needed);
    assert_int_equal(kith_replica_step_epoch_of(at.step, send.first), send.first);
    bench_end(&at);
}

/* --- changes of the ISR --- */

static void test_shrink__after_two_leases_of_silence_and_old_and_new_count(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    uint64_t began_ns = at.now_ns;
    pass_with(&at, 400, "2");
    assert_true(at.now_ns - began_ns >= 2 * LEASE + LEASE / 4);
    assert_true(at.now_ns - began_ns <= 2 * LEASE + LEASE / 2);
    assert_proposes(&at, 1, 1, 3);
    write(&at);
    durable(&at, 2);
    acknowledge_all(&at, "2");
    assert_int_equal(status_of(&at).committed, 1); /* it may be refused */
    proposed(&at, KITH_REPLICA_PROPOSAL_UNKNOWN);
    assert_non_null(action_find(&at, KITH_REPLICA_PULL_MAP, 0));
    assert_int_equal(status_of(&at).committed, 1); /* or not */
    configure(&at, 2, "1*2*3");
    assert_int_equal(status_of(&at).committed, 2);
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY); /* and goes on without an entry */
    assert_null(action_find(&at, KITH_REPLICA_START_EPOCH, 0));
    bench_end(&at);
}

static void test_shrink__does_not_count_time_in_which_the_primary_stood_still(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    at.now_ns += 10 * LEASE;
    kith_replica_step_tick(at.step, at.now_ns);
    look(&at);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    bench_end(&at);
}

static void test_shrink__a_member_that_is_not_ready_is_silent(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    for (int i = 0; i < 40 && !action_find(&at, KITH_REPLICA_PROPOSE, 0); i++) {
        pass(&at, 10);
        const kith_replica_action *send = action_find(&at, KITH_REPLICA_SEND, 2);
        if (!send || action_find(&at, KITH_REPLICA_PROPOSE, 0)) continue;
        kith_replica_action copy = *send;
        answer(&at, &copy, KITH_REPLICA_NOT_READY, 0, 0);
    }
    assert_proposes(&at, 1, 1, 1);
    bench_end(&at);
}

static void test_proposal__one_at_a_time_and_again_when_refused(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    pass_with(&at, 400, "2");
    assert_proposes(&at, 1, 1, 3);
    at.count = 0;
    pass(&at, 400);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    proposed(&at, KITH_REPLICA_PROPOSAL_REFUSED);
    assert_non_null(action_find(&at, KITH_REPLICA_PULL_MAP, 0));
    pass(&at, 30);
    assert_proposes(&at, 1, 1, 1);
    bench_end(&at);
}

/* It is not known whether the learner came in, and it is silent now: commits wait for it no longer than it takes to settle that. */
static void test_growth__whose_outcome_is_unknown_is_settled_when_the_learner_is_gone(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3", "2");
    acknowledge_all(&at, "3");
    assert_proposes(&at, 1, 1, 7);
    proposed(&at, KITH_REPLICA_PROPOSAL_UNKNOWN);
    acknowledge_all(&at, "2");
    uint64_t sequence = write(&at);
    durable(&at, sequence);
    for (uint32_t i = 0; i < 100 && !action_find(&at, KITH_REPLICA_PROPOSE, 0); i++)
        pass_with(&at, 10, "2");
    assert_true(status_of(&at).committed < sequence);
    assert_proposes(&at, 1, 1, 3);
    proposed(&at, KITH_REPLICA_PROPOSAL_DONE);
    configure(&at, 2, "1*2*3");
    acknowledge_all(&at, "2");
    assert_int_equal(status_of(&at).committed, sequence);
    bench_end(&at);
}

static void test_growth__when_a_learner_has_what_is_committed(void **state) {
    (void)state;
    bench at;
    kith_replica_log log = log_of(0, 0, 0);
    log.created = true;
    bench_make(&at, 1, log);
    configure(&at, 1, "1*2");
    kith_replica_action first = *action_of(&at, KITH_REPLICA_SEND, 2);
    durable(&at, 1);
    write(&at);
    write(&at);
    durable(&at, 3);
    assert_int_equal(status_of(&at).committed, 3); /* nobody waits for a learner */
    kith_replica_reply reply = {.outcome = KITH_REPLICA_OK, .epoch = 1, .matched = 1, .stamp_ns = 9};
    kith_replica_step_answered(at.step, 2, first.send_id, &reply, at.now_ns);
    look(&at);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    acknowledge_all(&at, "2");
    assert_proposes(&at, 1, 1, 3);
    bench_end(&at);
}

static void test_removal__commits_wait_for_the_lease_of_a_member_that_is_taken_away(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    configure(&at, 2, "1*2*");
    write(&at);
    durable(&at, 2);
    acknowledge_all(&at, "2");
    assert_int_equal(status_of(&at).committed, 1);
    for (int i = 0; i < 12; i++) {
        pass(&at, 10);
        acknowledge_all(&at, "2");
    }
    assert_int_equal(status_of(&at).committed, 2);
    bench_end(&at);
}

static void test_hand_over__stops_writes_and_waits_until_all_is_committed(void **state) {
    (void)state;
    bench at;
    kith_err err;
    primary_make(&at, "1*2*3*", "23");
    write(&at);
    kith_replica_step_hand_over(at.step, at.now_ns);
    look(&at);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    assert_int_equal(admit(&at, &err), KITH_UNAVAILABLE);
    durable(&at, 2);
    acknowledge(&at, 3);
    acknowledge(&at, 2);
    assert_int_equal(status_of(&at).committed, 2);
    assert_proposes(&at, 1, 2, 7);
    bench_end(&at);
}

static void test_failed__a_primary_makes_way(void **state) {
    (void)state;
    bench at;
    kith_err err;
    primary_make(&at, "1*2*3*", "23");
    kith_replica_step_failed(at.step, at.now_ns);
    look(&at);
    assert_proposes(&at, 1, 2, 5); /* 2, 1, 3: without 1 */
    assert_int_equal(admit(&at, &err), KITH_UNAVAILABLE);
    bench_end(&at);
}

/* Its followers have the entry, and it answers them: nobody else could notice. */
static void test_disk__a_primary_whose_own_stands_still_makes_way(void **state) {
    (void)state;
    bench at;
    uint32_t asked_ms = 0;
    primary_make(&at, "1*2*3*", "23");
    for (uint32_t i = 0; i < 20; i++) { /* idle: there is nothing that the disk lacks */
        pass(&at, 50);
        acknowledge_all(&at, "23");
        assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    }
    uint64_t last = write(&at);
    (void)write(&at);
    do {
        acknowledge_all(&at, "23");
        if (asked_ms == 500) durable(&at, last); /* it gets on, if only a little */
        pass(&at, 10);
        asked_ms += 10;
    } while (asked_ms < 2000 && !action_find(&at, KITH_REPLICA_PROPOSE, 0));
    assert_in_range(asked_ms, 1300 - 10, 1300 + 10);
    assert_proposes(&at, 1, 2, 5);
    bench_end(&at);
}

/* One that is dead, which the metadata do not know yet, would be the only one in sync. */
static void test_disk__a_primary_makes_way_for_none_that_it_does_not_hear(void **state) {
    (void)state;
    bench at;
    uint32_t asked_ms = 0;
    primary_make(&at, "1*2*", "2");
    (void)write(&at);
    do {
        if (asked_ms < 650) acknowledge_all(&at, "2");
        pass(&at, 10);
        asked_ms += 10;
    } while (asked_ms < 2000 && !action_find(&at, KITH_REPLICA_PROPOSE, 0));
    assert_proposes(&at, 1, 1, 1); /* itself, without 2 */
    bench_end(&at);
}

/* The disk of a machine that stands still does, too; and where nobody has more, nobody makes way. */
static void test_disk__who_stood_still_or_has_as_much_as_others_stays(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*", "2");
    (void)write(&at);
    pass(&at, 100);
    acknowledge(&at, 2);
    at.now_ns += 2000 * MS;
    kith_replica_step_tick(at.step, at.now_ns);
    look(&at);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    bench_end(&at);
    primary_make(&at, "1*2*", "2");
    kith_replica_reply reply = {.outcome = KITH_REPLICA_OK, .epoch = 1, .matched = 1};
    (void)write(&at);
    for (uint32_t i = 0; i < 200; i++) { /* 2 lives, and its disk has no more */
        reply.stamp_ns = at.now_ns;
        for (uint32_t s = 0; s < at.send_count; s++)
            kith_replica_step_answered(at.step, 2, at.sends[s].send_id, &reply, at.now_ns);
        at.send_count = 0;
        pass(&at, 10);
        assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    }
    bench_end(&at);
}

/* It may be down without having been silent for long, and one that has failed drops nobody. */
static void test_failed__a_primary_asks_for_another_heir_when_one_is_refused(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    kith_replica_step_failed(at.step, at.now_ns);
    look(&at);
    assert_proposes(&at, 1, 2, 5);
    for (uint32_t i = 0; i < 3; i++) {
        proposed(&at, KITH_REPLICA_PROPOSAL_REFUSED);
        assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
        pass(&at, (25 << i) + 10);
        assert_proposes(&at, 1, i % 2 ? 2 : 3, i % 2 ? 5 : 3);
    }
    bench_end(&at);
}

/* --- taking over --- */

static void test_start__does_not_lead_in_an_epoch_that_it_finds(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 3, "1*2*");
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    assert_null(action_find(&at, KITH_REPLICA_SEND, 0));
    assert_proposes(&at, 3, 1, 3);
    proposed(&at, KITH_REPLICA_PROPOSAL_UNKNOWN);
    configure(&at, 4, "1*2*"); /* perhaps of an earlier life */
    assert_proposes(&at, 4, 1, 3);
    proposed(&at, KITH_REPLICA_PROPOSAL_DONE);
    configure(&at, 5, "1*2*");
    const kith_replica_action *start = action_of(&at, KITH_REPLICA_START_EPOCH, 0);
    assert_int_equal(start->position.epoch, 5);
    assert_int_equal(start->position.sequence, 11);
    assert_int_equal(action_of(&at, KITH_REPLICA_SEND, 2)->position.sequence, 10);
    bench_end(&at);
}

/* A follower that has acknowledged to node 2, whose reign ends now, and was told by the metadata that its next epoch is its own. */
static void promoted_make(bench *at, uint64_t silence_ms) {
    bench_make(at, 1, log_of(3, 10, 8));
    configure(at, 4, "2*1*3*");
    at->now_ns += 1000 * MS;
    kith_replica_append append = {.epoch = 4, .previous = {3, 10}, .committed = 9};
    kith_replica_step_received(at->step, 2, &append, 1, at->now_ns);
    look(at);
    assert_int_equal(action_of(at, KITH_REPLICA_ANSWER, 0)->reply.outcome, KITH_REPLICA_OK);
    at->now_ns += silence_ms * MS;
    configure(at, 5, "1*2*3*");
    proposed(at, KITH_REPLICA_PROPOSAL_DONE);
    configure(at, 6, "1*2*3*");
    durable(at, 11);
    acknowledge(at, 3);
}

static void test_take_over__waits_for_the_leases_of_the_one_before(void **state) {
    (void)state;
    bench at;
    promoted_make(&at, 0);
    configure(&at, 7, "1*3*2"); /* as if the old one had been silent for long */
    for (int i = 0; i < 20; i++) {
        pass(&at, 10);
        acknowledge_all(&at, "3");
    }
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    for (int i = 0; i < 4; i++) {
        pass(&at, 10);
        acknowledge_all(&at, "3");
    }
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY);
    assert_int_equal(status_of(&at).committed, 11);
    bench_end(&at);
}

static void test_take_over__is_quick_when_the_one_before_follows(void **state) {
    (void)state;
    bench at;
    promoted_make(&at, 0);
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    acknowledge_all(&at, "23");
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY);
    bench_end(&at);
}

/* Node 3 was taken away while 2 led, which may not have heard of it, and have vouched for 3 until this node heard. */
static void test_take_over__waits_for_the_lease_of_one_that_left_before(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*3*");
    at.now_ns += 1000 * MS;
    kith_replica_append append = {.epoch = 4, .previous = {3, 10}, .committed = 9};
    kith_replica_step_received(at.step, 2, &append, 1, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.outcome, KITH_REPLICA_OK);
    at.now_ns += 10 * MS;
    configure(&at, 5, "2*1*");
    configure(&at, 6, "1*2*");
    proposed(&at, KITH_REPLICA_PROPOSAL_DONE);
    configure(&at, 7, "1*2*");
    durable(&at, 11);
    acknowledge(&at, 2);
    pass_with(&at, 200, "2");
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    pass_with(&at, 30, "2");
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY);
    bench_end(&at);
}

static void test_take_over__waits_for_leases_that_it_gave_before_it_missed_an_epoch(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2*3*", "23");
    for (int i = 0; i < 30; i++) {
        pass(&at, 10);
        acknowledge_all(&at, "23");
    }
    configure(&at, 3, "1*2*"); /* 3 was taken away in epoch 2 */
    durable(&at, 2);
    acknowledge_all(&at, "2");
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    for (int i = 0; i < 12; i++) {
        pass(&at, 10);
        acknowledge_all(&at, "2");
    }
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY);
    bench_end(&at);
}

static void test_primary__steps_down_when_it_hears_of_a_newer_epoch(void **state) {
    (void)state;
    bench at;
    kith_err err;
    primary_make(&at, "1*2*", "2");
    write(&at);
    kith_replica_action send = *action_of(&at, KITH_REPLICA_SEND, 2);
    kith_replica_reply reply = {.outcome = KITH_REPLICA_OLD_EPOCH, .epoch = 3};
    kith_replica_step_answered(at.step, 2, send.send_id, &reply, at.now_ns);
    look(&at);
    assert_non_null(action_find(&at, KITH_REPLICA_PULL_MAP, 0));
    assert_int_equal(admit(&at, &err), KITH_STALE_MAP);
    assert_int_equal(status_of(&at).end.sequence, 2); /* what is not committed stays until it is cut off */
    bench_end(&at);
}

/* --- following --- */

static kith_replica_reply receive(bench *at, uint64_t epoch, kith_replica_position previous,
    uint64_t committed, uint64_t echo_ns, const char *epochs) {
    uint64_t entries[16];
    kith_replica_append append = {.epoch = epoch,
        .previous = previous,
        .committed = committed,
        .echo_ns = echo_ns,
        .entry_epochs = entries};
    for (; *epochs; epochs++)
        entries[append.entry_count++] = (uint64_t)(*epochs - '0');
    kith_replica_step_received(at->step, 2, &append, 77, at->now_ns);
    look(at);
    const kith_replica_action *answered = action_find(at, KITH_REPLICA_ANSWER, 0);
    return answered ? answered->reply : (kith_replica_reply){0};
}

static void test_follower__answers_when_it_is_durable(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*");
    assert_int_equal(receive(&at, 4, (kith_replica_position){3, 10}, 10, 0, "44").outcome, 0);
    assert_int_equal(action_of(&at, KITH_REPLICA_APPEND, 0)->first, 11);
    assert_int_equal(action_of(&at, KITH_REPLICA_APPEND, 0)->last, 12);
    assert_int_equal(action_of(&at, KITH_REPLICA_COMMIT, 0)->last, 10);
    durable(&at, 11);
    assert_null(action_find(&at, KITH_REPLICA_ANSWER, 0));
    durable(&at, 12);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.matched, 12);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->token, 77);
    bench_end(&at);
}

/* A disk that stands still does not fill the memory with what is sent again and again. */
static void test_follower__takes_few_appends_that_wait_for_the_disk(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*");
    uint32_t taken = 0;
    kith_replica_reply reply = {0};
    for (; taken < 1000 && reply.outcome == 0; taken++)
        reply = receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "44");
    assert_int_equal(taken, 65);
    assert_int_equal(reply.outcome, KITH_REPLICA_NOT_READY);
    assert_true(reply.full);
    durable(&at, 12);
    assert_int_equal(receive(&at, 4, (kith_replica_position){4, 12}, 9, 0, "").outcome, KITH_REPLICA_OK);
    bench_end(&at);
}

/* No primary sends it, and whoever does learns that nothing matches. */
static void test_follower__refuses_an_append_behind_a_later_epoch(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*");
    assert_int_equal(receive(&at, 4, (kith_replica_position){9, 0}, 0, 0, "").outcome, KITH_REPLICA_MISMATCH);
    assert_int_equal(receive(&at, 4, (kith_replica_position){9, 5}, 0, 0, "").outcome, KITH_REPLICA_MISMATCH);
    assert_int_equal(receive(&at, 4, (kith_replica_position){9, 10}, 0, 0, "").hint, 9);
    bench_end(&at);
}

static void test_follower__acknowledges_and_commits_what_is_known_to_be_equal(void **state) {
    (void)state;
    bench at;
    kith_replica_position epochs[] = {{1, 1}, {3, 9}};
    kith_replica_log log = log_of(3, 12, 5);
    log.first = 1;
    log.epochs = epochs;
    log.epoch_count = 2;
    bench_make(&at, 1, log);
    configure(&at, 4, "2*1*");
    kith_replica_reply reply = receive(&at, 4, (kith_replica_position){1, 6}, 11, 0, "1");
    assert_int_equal(reply.outcome, KITH_REPLICA_OK);
    assert_int_equal(reply.matched, 7); /* not 12 */
    assert_int_equal(status_of(&at).committed, 7);
    bench_end(&at);
}

static void test_follower__cuts_off_what_differs_and_hints_before_the_run_that_does(void **state) {
    (void)state;
    bench at;
    kith_replica_position epochs[] = {{1, 1}, {2, 7}};
    kith_replica_log log = log_of(2, 12, 5);
    log.first = 1;
    log.epochs = epochs;
    log.epoch_count = 2;
    bench_make(&at, 1, log);
    configure(&at, 4, "2*1*");
    kith_replica_reply reply = receive(&at, 4, (kith_replica_position){3, 20}, 5, 0, "4");
    assert_int_equal(reply.outcome, KITH_REPLICA_MISMATCH);
    assert_int_equal(reply.hint, 12);
    reply = receive(&at, 4, (kith_replica_position){3, 12}, 5, 0, "3");
    assert_int_equal(reply.hint, 6);
    receive(&at, 4, (kith_replica_position){1, 6}, 5, 0, "333");
    assert_int_equal(action_of(&at, KITH_REPLICA_TRUNCATE, 0)->first, 7);
    assert_int_equal(action_of(&at, KITH_REPLICA_APPEND, 0)->last, 9);
    assert_int_equal(kith_replica_step_epoch_of(at.step, 7), 3);
    assert_int_equal(status_of(&at).end.sequence, 9);
    bench_end(&at);
}

static void test_follower__refuses_older_epochs_also_after_a_restart_with_an_old_map(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(4, 10, 8));
    configure(&at, 1, "2*1*");
    kith_replica_reply reply = receive(&at, 3, (kith_replica_position){3, 9}, 8, 0, "3");
    assert_int_equal(reply.outcome, KITH_REPLICA_OLD_EPOCH);
    assert_int_equal(reply.epoch, 4);
    assert_int_equal(status_of(&at).end.sequence, 10);
    bench_end(&at);
}

/* Whoever reads without asking goes by the moment that the status names. */
static void assert_leased_until(const bench *at, uint64_t until_ns) {
    uint64_t sequence;
    kith_err err;
    assert_int_equal(status_of(at).leased_until_ns, until_ns);
    assert_ok(
        kith_replica_step_read(at->step, KITH_REPLICA_READ_IN_SYNC, 0, until_ns - 1, &sequence, &err), &err);
    if (until_ns == UINT64_MAX) return;
    assert_int_equal(
        kith_replica_step_read(at->step, KITH_REPLICA_READ_IN_SYNC, 0, until_ns, &sequence, &err),
        KITH_UNAVAILABLE);
}

static void test_status__says_until_when_the_primary_may_read(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*", "");
    assert_leased_until(&at, UINT64_MAX);
    bench_end(&at);
    primary_make(&at, "1*2*3*", "23");
    pass_with(&at, 50, "23");
    uint64_t heard_ns = at.now_ns;
    write(&at);
    acknowledge(&at, 2);
    pass_with(&at, 30, "3"); /* the older of the two counts */
    assert_leased_until(&at, heard_ns + LEASE);
    pass_with(&at, 80, "3");
    assert_int_equal(status_of(&at).leased_until_ns, 0);
    bench_end(&at);
}

static void test_follower__reads_under_a_lease_from_its_own_stamp(void **state) {
    (void)state;
    bench at;
    kith_err err;
    uint64_t sequence = 0;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*");
    uint64_t stamp_ns = receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").stamp_ns;
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, at.now_ns, &sequence, &err),
        KITH_UNAVAILABLE);
    at.now_ns += 30 * MS;
    receive(&at, 4, (kith_replica_position){3, 10}, 9, stamp_ns + 1, ""); /* it never gave that one */
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, at.now_ns, &sequence, &err),
        KITH_UNAVAILABLE);
    receive(&at, 4, (kith_replica_position){3, 10}, 9, stamp_ns, "");
    assert_ok(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, stamp_ns + LEASE - 1, &sequence, &err),
        &err);
    assert_int_equal(sequence, 10); /* not only what is known to be committed */
    assert_leased_until(&at, stamp_ns + LEASE);
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, stamp_ns + LEASE, &sequence, &err),
        KITH_UNAVAILABLE);
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_PRIMARY, 0, at.now_ns, &sequence, &err),
        KITH_STALE_MAP);
    assert_ok(kith_replica_step_read(at.step, KITH_REPLICA_READ_TOKEN, 12, at.now_ns, &sequence, &err), &err);
    assert_int_equal(sequence, 12);
    configure(&at, 5, "2*1");
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, at.now_ns, &sequence, &err),
        KITH_UNAVAILABLE);
    bench_end(&at);
}

static void test_failed__a_follower_is_replaced_only_when_it_is_out_of_the_isr(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1*");
    kith_replica_step_failed(at.step, at.now_ns);
    assert_int_equal(
        receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NOT_READY);
    assert_null(action_find(&at, KITH_REPLICA_INSTALL, 0));
    configure(&at, 5, "2*1");
    assert_int_equal(
        receive(&at, 5, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NOT_READY);
    assert_int_equal(action_of(&at, KITH_REPLICA_INSTALL, 0)->peer, 2);
    kith_replica_step_installed(at.step, (kith_replica_position){3, 9}, at.now_ns);
    look(&at);
    kith_replica_reply reply = receive(&at, 5, (kith_replica_position){3, 9}, 9, 0, "");
    assert_int_equal(reply.outcome, KITH_REPLICA_OK);
    assert_int_equal(reply.matched, 9);
    bench_end(&at);
}

/* What it acknowledged in an epoch may still bring it into the ISR by a proposal of that epoch, which comes late: it must not have
 * lost it by then. */
static void test_failed__a_learner_is_replaced_in_a_later_epoch_only(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1");
    assert_int_equal(receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_OK);
    kith_replica_step_failed(at.step, at.now_ns);
    assert_int_equal(
        receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NEEDS_EPOCH);
    assert_null(action_find(&at, KITH_REPLICA_INSTALL, 0));
    configure(&at, 5, "2*1");
    assert_int_equal(
        receive(&at, 5, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NOT_READY);
    assert_int_equal(action_of(&at, KITH_REPLICA_INSTALL, 0)->peer, 2);
    bench_end(&at);
}

/* The process before this one took appends of epoch 4 while the map that it had kept was still of epoch 3. */
static void test_failed__one_that_fails_at_its_start_is_replaced_in_a_later_epoch_only(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(0, 0, 0));
    kith_replica_step_failed(at.step, at.now_ns);
    configure(&at, 3, "2*3*1");
    configure(&at, 4, "2*1");
    assert_int_equal(
        receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NEEDS_EPOCH);
    assert_null(action_find(&at, KITH_REPLICA_INSTALL, 0));
    configure(&at, 5, "2*1");
    assert_int_equal(
        receive(&at, 5, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NOT_READY);
    assert_int_equal(action_of(&at, KITH_REPLICA_INSTALL, 0)->peer, 2);
    bench_end(&at);
}

static kith_replica_log doubtful_log(uint64_t epoch, uint64_t end, uint64_t committed) {
    kith_replica_log log = log_of(epoch, end, committed);
    log.may_lack_tail = true;
    return log;
}

/* What it has is sound: nothing is installed, but it says nothing that counts before it is out of the ISR, in an epoch that it has not
 * acknowledged in. */
static void test_doubt__ends_in_a_later_epoch_in_which_it_is_not_in_sync(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, doubtful_log(3, 10, 8));
    configure(&at, 4, "2*1*");
    assert_int_equal(
        receive(&at, 4, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NOT_READY);
    configure(&at, 5, "2*1");
    assert_int_equal(receive(&at, 5, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_OK);
    assert_null(action_find(&at, KITH_REPLICA_INSTALL, 0));
    assert_false(status_of(&at).may_lack_tail);
    bench_end(&at);
}

/* Perhaps a proposal of the epoch in which it acknowledged more than it has brings it into the ISR yet. */
static void test_doubt__lasts_in_the_epoch_of_the_map_that_it_kept_and_of_the_first_append(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, doubtful_log(3, 10, 8));
    configure(&at, 4, "2*1");
    configure(&at, 5, "2*1");
    assert_int_equal(
        receive(&at, 5, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_NEEDS_EPOCH);
    configure(&at, 6, "2*1");
    assert_int_equal(receive(&at, 6, (kith_replica_position){3, 10}, 9, 0, "").outcome, KITH_REPLICA_OK);
    bench_end(&at);
}

static void test_doubt__a_primary_makes_way_and_is_not_installed(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, doubtful_log(3, 10, 8));
    configure(&at, 4, "1*2*");
    assert_proposes(&at, 4, 2, 1);
    assert_int_equal(status_of(&at).role, KITH_REPLICA_TAKING_OVER);
    bench_end(&at);
}

/* Nobody else can have more; or an operator says so, once. */
static void test_doubt__the_only_copy_leads_and_one_of_several_where_loss_is_accepted(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, doubtful_log(3, 10, 8));
    configure(&at, 4, "1*");
    assert_false(status_of(&at).may_lack_tail);
    bench_end(&at);
    kith_replica_log log = doubtful_log(3, 10, 8);
    log.loss_epoch = 2;
    bench_make(&at, 1, log);
    kith_replica_config config = {
        .epoch = 4, .min_in_sync = 1, .loss_epoch = 2, .replica_count = 2, .in_sync = 1, .replicas = {1, 2}};
    kith_replica_step_configure(at.step, &config, at.now_ns);
    pass(&at, 1000);
    assert_true(status_of(&at).may_lack_tail);
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    config.loss_epoch = config.epoch = 5;
    kith_replica_step_configure(at.step, &config, at.now_ns);
    look(&at);
    assert_false(status_of(&at).may_lack_tail);
    assert_proposes(&at, 5, 1, 1); /* an epoch of its own, as after every start */
    bench_end(&at);
}

/* It waits for a copy of what the others had, who are gone. */
static void test_loss__who_is_chosen_keeps_what_it_has(void **state) {
    (void)state;
    bench at;
    kith_err err;
    uint64_t sequence;
    kith_replica_append append = {
        .epoch = 4, .previous = {4, 100}, .committed = 100, .snapshot_needed = true};
    bench_make(&at, 1, log_of(3, 10, 8));
    configure(&at, 4, "2*1");
    kith_replica_step_received(at.step, 2, &append, 77, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_INSTALL, 0)->peer, 2);
    assert_true(kith_replica_step_installs(at.step));
    assert_true(status_of(&at).awaits_copy);
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_ANY, 0, at.now_ns, &sequence, &err), KITH_OK);
    kith_replica_config config = {
        .epoch = 5, .min_in_sync = 1, .loss_epoch = 5, .replica_count = 2, .in_sync = 1, .replicas = {1, 2}};
    kith_replica_step_configure(at.step, &config, at.now_ns);
    look(&at);
    assert_false(kith_replica_step_installs(at.step));
    assert_proposes(&at, 5, 1, 1);
    proposed(&at, KITH_REPLICA_PROPOSAL_DONE);
    config.epoch = 6;
    kith_replica_step_configure(at.step, &config, at.now_ns);
    durable(&at, 11);
    pass(&at, 1000);
    assert_int_equal(status_of(&at).role, KITH_REPLICA_PRIMARY);
    assert_int_equal(
        kith_replica_step_read(at.step, KITH_REPLICA_READ_IN_SYNC, 0, at.now_ns, &sequence, &err), KITH_OK);
    bench_end(&at);
}

/* The append says so before the map does. */
static void test_loss__who_has_nothing_of_the_time_after_it_is_replaced(void **state) {
    (void)state;
    bench at;
    kith_replica_append append = {.epoch = 6, .previous = {3, 8}, .committed = 8, .loss_epoch = 5};
    bench_make(&at, 1, log_of(4, 10, 10));
    configure(&at, 4, "1*2");
    kith_replica_step_received(at.step, 2, &append, 77, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.outcome, KITH_REPLICA_NOT_READY);
    assert_null(action_find(&at, KITH_REPLICA_INSTALL, 0));
    configure(&at, 6, "2*1");
    kith_replica_step_received(at.step, 2, &append, 78, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.outcome, KITH_REPLICA_NOT_READY);
    assert_int_equal(action_of(&at, KITH_REPLICA_INSTALL, 0)->peer, 2);
    kith_replica_step_installed(at.step, (kith_replica_position){6, 9}, at.now_ns);
    append.previous = (kith_replica_position){6, 9};
    kith_replica_step_received(at.step, 2, &append, 79, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.outcome, KITH_REPLICA_OK);
    bench_end(&at);
}

/* What is only in the log's hands counts in the epoch of the own map, and in no later one. */
static void test_handed__counts_in_the_epoch_of_the_map(void **state) {
    (void)state;
    bench at;
    bench_make(&at, 1, log_of(3, 10, 10));
    configure(&at, 4, "2*1*");
    assert_int_equal(receive(&at, 4, (kith_replica_position){3, 10}, 10, 0, "44").outcome, 0);
    kith_replica_step_handed(at.step, 12, at.now_ns);
    look(&at);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.matched, 12);
    assert_int_equal(status_of(&at).durable, 10);
    assert_int_equal(receive(&at, 5, (kith_replica_position){4, 12}, 10, 0, "").outcome, 0);
    durable(&at, 12);
    assert_int_equal(action_of(&at, KITH_REPLICA_ANSWER, 0)->reply.matched, 12);
    bench_end(&at);
}

static void test_failed__who_needs_an_epoch_gets_one(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2", "");
    kith_replica_action first = at.sends[0];
    answer(&at, &first, KITH_REPLICA_NEEDS_EPOCH, 0, 0);
    assert_proposes(&at, 1, 1, 1);
    bench_end(&at);
}

static void test_growth__counts_what_a_learner_says_in_this_epoch(void **state) {
    (void)state;
    bench at;
    primary_make(&at, "1*2", "");
    acknowledge_all(&at, "2");
    assert_proposes(&at, 1, 1, 3);
    proposed(&at, KITH_REPLICA_PROPOSAL_REFUSED);
    at.count = 0;
    configure(&at, 2, "1*2");
    assert_null(action_find(&at, KITH_REPLICA_PROPOSE, 0));
    acknowledge_all(&at, "2");
    assert_proposes(&at, 2, 1, 3);
    bench_end(&at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_primary__alone_commits_what_is_durable),
        cmocka_unit_test(test_primary__commits_when_the_whole_isr_has_it),
        cmocka_unit_test(test_admit__says_who_it_is_and_how_many_are_in_sync),
        cmocka_unit_test(test_send__begins_again_behind_what_matches_when_one_was_not_answered),
        cmocka_unit_test(test_send__goes_on_behind_an_append_that_was_shortened),
        cmocka_unit_test(test_send__asks_for_room_before_it_sends_more),
        cmocka_unit_test(test_send__asks_who_did_not_answer_before_it_sends_entries_again),
        cmocka_unit_test(test_send__is_empty_every_quarter_of_a_lease_when_idle),
        cmocka_unit_test(test_send__follows_the_hint_and_asks_for_a_snapshot_where_the_log_is_gone),
        cmocka_unit_test(test_send__asks_for_a_snapshot_where_epochs_are_forgotten),
        cmocka_unit_test(test_shrink__after_two_leases_of_silence_and_old_and_new_count),
        cmocka_unit_test(test_shrink__does_not_count_time_in_which_the_primary_stood_still),
        cmocka_unit_test(test_shrink__a_member_that_is_not_ready_is_silent),
        cmocka_unit_test(test_proposal__one_at_a_time_and_again_when_refused),
        cmocka_unit_test(test_growth__whose_outcome_is_unknown_is_settled_when_the_learner_is_gone),
        cmocka_unit_test(test_growth__when_a_learner_has_what_is_committed),
        cmocka_unit_test(test_removal__commits_wait_for_the_lease_of_a_member_that_is_taken_away),
        cmocka_unit_test(test_hand_over__stops_writes_and_waits_until_all_is_committed),
        cmocka_unit_test(test_failed__a_primary_makes_way),
        cmocka_unit_test(test_disk__a_primary_whose_own_stands_still_makes_way),
        cmocka_unit_test(test_disk__a_primary_makes_way_for_none_that_it_does_not_hear),
        cmocka_unit_test(test_disk__who_stood_still_or_has_as_much_as_others_stays),
        cmocka_unit_test(test_failed__a_primary_asks_for_another_heir_when_one_is_refused),
        cmocka_unit_test(test_start__does_not_lead_in_an_epoch_that_it_finds),
        cmocka_unit_test(test_take_over__waits_for_the_leases_of_the_one_before),
        cmocka_unit_test(test_take_over__is_quick_when_the_one_before_follows),
        cmocka_unit_test(test_take_over__waits_for_the_lease_of_one_that_left_before),
        cmocka_unit_test(test_take_over__waits_for_leases_that_it_gave_before_it_missed_an_epoch),
        cmocka_unit_test(test_primary__steps_down_when_it_hears_of_a_newer_epoch),
        cmocka_unit_test(test_follower__answers_when_it_is_durable),
        cmocka_unit_test(test_follower__takes_few_appends_that_wait_for_the_disk),
        cmocka_unit_test(test_follower__refuses_an_append_behind_a_later_epoch),
        cmocka_unit_test(test_follower__acknowledges_and_commits_what_is_known_to_be_equal),
        cmocka_unit_test(test_follower__cuts_off_what_differs_and_hints_before_the_run_that_does),
        cmocka_unit_test(test_follower__refuses_older_epochs_also_after_a_restart_with_an_old_map),
        cmocka_unit_test(test_status__says_until_when_the_primary_may_read),
        cmocka_unit_test(test_follower__reads_under_a_lease_from_its_own_stamp),
        cmocka_unit_test(test_failed__a_follower_is_replaced_only_when_it_is_out_of_the_isr),
        cmocka_unit_test(test_failed__a_learner_is_replaced_in_a_later_epoch_only),
        cmocka_unit_test(test_failed__one_that_fails_at_its_start_is_replaced_in_a_later_epoch_only),
        cmocka_unit_test(test_doubt__ends_in_a_later_epoch_in_which_it_is_not_in_sync),
        cmocka_unit_test(test_doubt__lasts_in_the_epoch_of_the_map_that_it_kept_and_of_the_first_append),
        cmocka_unit_test(test_doubt__a_primary_makes_way_and_is_not_installed),
        cmocka_unit_test(test_doubt__the_only_copy_leads_and_one_of_several_where_loss_is_accepted),
        cmocka_unit_test(test_loss__who_is_chosen_keeps_what_it_has),
        cmocka_unit_test(test_loss__who_has_nothing_of_the_time_after_it_is_replaced),
        cmocka_unit_test(test_handed__counts_in_the_epoch_of_the_map),
        cmocka_unit_test(test_failed__who_needs_an_epoch_gets_one),
        cmocka_unit_test(test_growth__counts_what_a_learner_says_in_this_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
