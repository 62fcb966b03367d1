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
    kith_replica_action actions[256]; /* since the last look */
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
    while (at->count < 256 && kith_replica_step_next(at->step, at->now_ns, &at->actions[at->count]))
        at->count++;
    assert_true(at->count < 256);
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

static void durable(bench *at, uint64_t sequence) {
    kith_replica_step_durable(at->step, sequence, at->now_ns);
    look(at);
}

static kith_replica_status status_of(const bench *at) {
    kith_replica_status status;
    kith_replica_step_status(at->step, at->now_ns, &status);
    return status;
}

/* Answers, OK, every SEND to `peer` among the actions of `sends`: all of it is durable there. */
static void acknowledge(const bench *sends, uint32_t peer, uint64_t now_ns) {
    for (uint32_t i = 0; i < sends->count; i++) {
        const kith_replica_action *send = &sends->actions[i];
        if (send->kind != KITH_REPLICA_SEND || send->peer != peer) continue;
        kith_replica_reply reply = {
            .outcome = KITH_REPLICA_OK, .epoch = send->epoch, .matched = send->last, .stamp_ns = now_ns};
        kith_replica_step_answered(sends->step, peer, send->send_id, &reply, now_ns);
    }
}

/* The same for all of `peers`, e.g. "23", until nothing more is sent. */
static void acknowledge_all(bench *at, const char *peers) {
    while (action_find(at, KITH_REPLICA_SEND, 0)) {
        bench sends = *at;
        for (const char *c = peers; *c; c++)
            acknowledge(&sends, (uint32_t)(*c - '0'), at->now_ns);
        look(at);
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
    bench sends = at;
    durable(&at, 2);
    acknowledge(&sends, 2, at.now_ns);
    assert_int_equal(status_of(&at).committed, 1);
    acknowledge(&sends, 3, at.now_ns);
    assert_int_equal(status_of(&at).committed, 2);
    look(&at);
    assert_int_equal(
        action_of(&at, KITH_REPLICA_SEND, 2)->committed, 2); /* pushed, as nothing else is under way */
    bench_end(&at);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_primary__alone_commits_what_is_durable),
        cmocka_unit_test(test_primary__commits_when_the_whole_isr_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
