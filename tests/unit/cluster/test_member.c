/* Failure detection: scenarios step by step, then random lives against a model that keeps its own books. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/cluster/member.h"
#include "tests/lib/test_lib.h"

#define MS         1000000ULL
#define TIMEOUT_MS 2000ULL
#define TICK_MS    100ULL

/* --- scenarios --- */

typedef struct deed {
    const char *name;
    kith_member_event_kind kind;
} deed;

static const deed deeds[] = {
    {"lead", KITH_MEMBER_LEADING},
    {"follow", KITH_MEMBER_FOLLOWING},
    {"beat", KITH_MEMBER_HEARTBEAT},
    {"up", KITH_MEMBER_KNOWN},
    {"down", KITH_MEMBER_KNOWN},
    {"removed", KITH_MEMBER_REMOVED},
    {"done", KITH_MEMBER_PROPOSED},
    {"failed", KITH_MEMBER_PROPOSED},
    {"refused", KITH_MEMBER_PROPOSED},
    {"ticks", KITH_MEMBER_TICK},
};

static kith_node_id id_of(uint32_t node) {
    return (kith_node_id){{(uint8_t)(1 + node % 256), (uint8_t)(node / 256), 7}};
}

/* "MS DEED [NODE [START]] [-> ACTIONS]". `up` and `down` are what the metadata say of the node. Actions are e.g. "R1"
 * (register node 1) or "D2" (node 2 is down). "ticks" ticks from the last moment until MS, and its actions are those of all
 * ticks. A beat of a node below 10 says what the metadata say; node 11 is node 1 saying something else. */
typedef struct scene {
    unsigned ms;
    kith_member_event event;
    char actions[64];
} scene;

static scene scene_parse(const char *text) {
    scene parsed = {.actions = ""};
    char name[16];
    unsigned node = 0, start = 0;
    assert_true(sscanf(text, "%u %15s %u %u", &parsed.ms, name, &node, &start) >= 2);
    const char *arrow = strstr(text, "-> ");
    if (arrow) snprintf(parsed.actions, sizeof parsed.actions, "%s", arrow + 3);
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        if (strcmp(deeds[i].name, name) == 0) parsed.event.kind = deeds[i].kind;
    }
    assert_true(parsed.event.kind != 0);
    parsed.event.id = id_of(node % 10);
    parsed.event.started_wall_ms = start;
    parsed.event.differs = node > 10;
    parsed.event.down = strcmp(name, "down") == 0;
    parsed.event.failed = strcmp(name, "failed") == 0;
    parsed.event.refused = strcmp(name, "refused") == 0;
    return parsed;
}

static void actions_print(const kith_member_actions *actions, char *text, size_t bytes) {
    for (uint32_t i = 0; i < actions->count; i++) {
        char letter = actions->actions[i].kind == KITH_MEMBER_REGISTER ? 'R' : 'D';
        size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%c%u", letter, actions->actions[i].id.bytes[0] - 1u);
    }
}

static void play(const char *const *scenes, size_t count) {
    kith_members *members = kith_members_create(TIMEOUT_MS * MS);
    static kith_member_actions actions;
    uint64_t ms = 1000;
    for (size_t i = 0; i < count; i++) {
        scene at = scene_parse(scenes[i]);
        char text[4096] = "";
        while (at.event.kind == KITH_MEMBER_TICK && ms + TICK_MS <= 1000 + at.ms) {
            ms += TICK_MS;
            kith_members_step(members, &at.event, ms * MS, &actions);
            actions_print(&actions, text, sizeof text);
        }
        ms = 1000 + at.ms;
        if (at.event.kind != KITH_MEMBER_TICK) {
            kith_members_step(members, &at.event, ms * MS, &actions);
            actions_print(&actions, text, sizeof text);
        }
        if (strcmp(text, at.actions) != 0) fail_msg("'%s': it does '%s'", scenes[i], text);
    }
    kith_members_destroy(members);
}
#define PLAY(...)                                                                                            \
    do {                                                                                                     \
        const char *const scenes[] = {__VA_ARGS__};                                                          \
        play(scenes, sizeof scenes / sizeof *scenes);                                                        \
    } while (0)

static void test_member__node_that_was_not_known_is_registered_once(void **unused) {
    (void)unused;
    PLAY("0 lead", "10 beat 1 5 -> R1", "500 beat 1 5", "1000 beat 1 5", "1100 up 1", "1100 done 1",
        "1500 beat 1 5", "3400 ticks");
}

static void test_member__node_that_says_something_else_is_registered_again(void **unused) {
    (void)unused;
    PLAY("0 lead", "0 up 1", "10 beat 1 5", "20 beat 11 6 -> R1");
}

static void test_member__failed_registration_is_repeated_after_a_pause(void **unused) {
    (void)unused;
    PLAY("0 lead", "10 beat 1 5 -> R1", "20 failed 1", "30 beat 1 5", "500 beat 1 5", "530 beat 1 5 -> R1");
}

/* The metadata will say the same next time. But that a node is down is said again soon. */
static void test_member__refused_registration_is_repeated_after_a_long_pause(void **unused) {
    (void)unused;
    PLAY("0 lead", "10 beat 1 5 -> R1", "20 refused 1", "1000 beat 1 5", "16000 beat 1 5",
        "16020 beat 1 5 -> R1");
    PLAY("0 up 1", "0 lead", "2000 ticks -> D1", "2000 refused 1", "2400 ticks", "2500 ticks -> D1");
}

static void test_member__silent_node_is_down_once_and_up_with_its_next_heartbeat(void **unused) {
    (void)unused;
    PLAY("0 lead", "0 up 1", "0 up 2", "30000 ticks -> D2D1", "30000 down 1", "30000 done 1",
        "30100 beat 1 5 -> R1", "30200 up 1", "30200 done 1", "32000 ticks");
}

static void test_member__new_leader_waits_one_timeout(void **unused) {
    (void)unused;
    PLAY("0 up 1", "100000 lead", "101900 ticks", "102000 ticks -> D1");
}

/* A host may die that has the leader of the coordinators and a node. */
static void test_member__silence_that_a_follower_heard_counts(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 up 2", "1000 ticks", "1000 beat 1 5", "1000 beat 2 5", "1900 ticks", "1900 beat 2 5",
        "2000 lead", "2900 ticks", "3000 ticks -> D1", "3800 ticks", "3900 ticks -> D2");
    /* But for half a timeout. */
    PLAY("0 up 1", "0 up 2", "9800 ticks", "9800 beat 2 5", "10000 lead", "10900 ticks", "11000 ticks -> D1");
}

static void test_member__leader_that_heard_few_nodes_begins_anew(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 up 2", "0 up 3", "9800 ticks", "9800 beat 2 5", "10000 lead", "11900 ticks",
        "12000 ticks -> D3D2D1");
}

/* It began shortly before it led, and no link to it is there yet. */
static void test_member__leader_that_heard_nobody_yet_begins_anew(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 up 2", "1500 ticks", "1500 lead", "3400 ticks", "3500 ticks -> D2D1");
    PLAY("0 up 1", "0 up 2", "1400 ticks", "1400 beat 2 5", "1500 lead", "2400 ticks", "2500 ticks -> D1");
}

static void test_member__follower_that_stood_still_blames_nobody(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 up 2", "1000 ticks", "1000 beat 1 5", "1000 beat 2 5", "1100 ticks", "60000 lead",
        "61800 ticks", "61900 ticks -> D2D1");
}

static void test_member__follower_decides_nothing(void **unused) {
    (void)unused;
    PLAY("0 up 1", "10 beat 2 5", "10000 ticks", "10000 lead", "10000 follow", "10100 beat 2 5",
        "20000 ticks");
}

/* What an earlier leadership had proposed is not waited for. */
static void test_member__leader_again_judges_again(void **unused) {
    (void)unused;
    PLAY(
        "0 up 1", "0 lead", "5000 ticks -> D1", "5000 follow", "5000 lead", "6900 ticks", "7000 ticks -> D1");
}

static void test_member__failed_judgement_is_repeated_after_a_pause(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 lead", "2000 ticks -> D1", "2000 failed 1", "2400 ticks", "2500 ticks -> D1");
}

static void test_member__removed_node_is_not_judged(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 lead", "100 removed 1", "9000 ticks", "9000 beat 1 5 -> R1");
}

static void test_member__leader_that_stood_still_blames_nobody(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 lead", "1000 ticks", "1000 beat 1 5", "1900 ticks");
    /* The same, but the next tick comes 60 s late. */
    kith_members *members = kith_members_create(TIMEOUT_MS * MS);
    static kith_member_actions actions;
    kith_member_event event = {.kind = KITH_MEMBER_KNOWN, .id = id_of(1)};
    kith_members_step(members, &event, 0, &actions);
    event.kind = KITH_MEMBER_LEADING;
    kith_members_step(members, &event, 0, &actions);
    event.kind = KITH_MEMBER_TICK;
    kith_members_step(members, &event, 60000 * MS, &actions);
    assert_int_equal(actions.count, 0);
    for (uint64_t ms = 60100; ms < 62000; ms += 100) {
        kith_members_step(members, &event, ms * MS, &actions);
        assert_int_equal(actions.count, 0);
    }
    kith_members_step(members, &event, 62000 * MS, &actions);
    assert_int_equal(actions.count, 1);
    kith_members_destroy(members);
}

static void test_member__heartbeat_of_an_earlier_start_does_not_count(void **unused) {
    (void)unused;
    PLAY("0 up 1", "0 lead", "100 beat 1 50", "1000 ticks", "1000 beat 11 40", "2000 ticks",
        "2100 ticks -> D1");
    /* But a clock may have gone back: after the timeout the earlier one is believed. */
    PLAY("0 up 1", "0 lead", "100 beat 1 50", "2099 beat 11 40", "2100 beat 11 40 -> R1");
}

/* Of a node that is silent for 2.5 s, then says one thing, for an hour. */
static uint64_t registrations_of_an_hour(bool needed) {
    kith_members *members = kith_members_create(TIMEOUT_MS * MS);
    static kith_member_actions actions;
    uint64_t registrations = 0;
    bool down = false;
    kith_member_event event = {.kind = KITH_MEMBER_KNOWN, .id = id_of(1)};
    kith_members_step(members, &event, 0, &actions);
    event.kind = KITH_MEMBER_LEADING;
    kith_members_step(members, &event, 0, &actions);
    for (uint64_t ms = 0; ms < 3600 * 1000; ms += TICK_MS) {
        event = (kith_member_event){.kind = ms % 2500 ? KITH_MEMBER_TICK : KITH_MEMBER_HEARTBEAT};
        event.id = id_of(1);
        event.needed = needed && down;
        kith_members_step(members, &event, ms * MS, &actions);
        if (actions.count == 0) continue;
        registrations += actions.actions[0].kind == KITH_MEMBER_REGISTER;
        down = actions.actions[0].kind == KITH_MEMBER_DOWN;
        event = (kith_member_event){.kind = KITH_MEMBER_KNOWN, .id = id_of(1), .down = down};
        kith_members_step(members, &event, ms * MS, &actions);
        event.kind = KITH_MEMBER_PROPOSED;
        kith_members_step(members, &event, ms * MS, &actions);
    }
    kith_members_destroy(members);
    return registrations;
}

static void test_member__node_that_keeps_going_down_is_up_at_a_falling_rate(void **unused) {
    (void)unused;
    assert_in_range(registrations_of_an_hour(false), 30, 70); /* 64 s a time, not 2.5 */
}

static void test_member__node_that_shards_wait_for_is_up_at_once(void **unused) {
    (void)unused;
    assert_true(registrations_of_an_hour(true) > 700);
}

static void test_member__strangers_do_not_fill_the_table(void **unused) {
    (void)unused;
    kith_members *members = kith_members_create(TIMEOUT_MS * MS);
    static kith_member_actions actions;
    kith_member_event event = {.kind = KITH_MEMBER_LEADING};
    kith_members_step(members, &event, 0, &actions);
    for (uint32_t round = 0; round < 3; round++) {
        uint64_t now_ns = round * 3000 * MS, begun = 0;
        for (uint32_t i = 0; i < 5000; i++) {
            event = (kith_member_event){.kind = KITH_MEMBER_HEARTBEAT, .id = id_of(i)};
            kith_members_step(members, &event, now_ns, &actions);
            begun += actions.count;
            event.kind = KITH_MEMBER_PROPOSED;
            event.failed = true;
            kith_members_step(members, &event, now_ns, &actions);
        }
        assert_int_equal(begun, 2 * KITH_NODES_MAX); /* there was room again */
        for (uint64_t ms = 100; ms < 3000; ms += 100) {
            event = (kith_member_event){.kind = KITH_MEMBER_TICK};
            kith_members_step(members, &event, now_ns + ms * MS, &actions);
        }
    }
    kith_members_destroy(members);
}

/* --- random lives --- */

#define NODES 12u

typedef struct model_node {
    bool alive, known, down, proposing;
    uint64_t start;    /* rises with each restart */
    uint64_t heard_ms; /* by this coordinator */
    uint64_t failed_ms;
    kith_member_action_kind proposed;
} model_node;

typedef struct model {
    kith_members *members;
    kith_rng rng;
    uint64_t now_ms;
    bool leading;
    uint64_t led_ms;
    model_node nodes[NODES];
    uint64_t downs, ups;
} model;

static void model_step(model *life, kith_member_event event, kith_member_actions *actions) {
    kith_members_step(life->members, &event, life->now_ms * MS, actions);
    for (uint32_t i = 0; i < actions->count; i++) {
        model_node *node = &life->nodes[actions->actions[i].id.bytes[0] - 1];
        assert_true(life->leading);
        assert_false(node->proposing);
        if (actions->actions[i].kind == KITH_MEMBER_DOWN) { /* safety */
            assert_true(node->known && !node->down);
            assert_true(life->now_ms - life->led_ms >= TIMEOUT_MS / 2);
            assert_true(life->now_ms - node->heard_ms >= TIMEOUT_MS);
            life->downs++;
        } else {
            assert_int_equal(node->heard_ms, life->now_ms); /* only a heartbeat registers */
            life->ups++;
        }
        node->proposing = true;
        node->proposed = actions->actions[i].kind;
    }
}

static kith_member_event model_event(kith_member_event_kind kind, uint32_t node) {
    return (kith_member_event){.kind = kind, .id = id_of(node)};
}

static void model_tick(model *life, kith_member_actions *actions) {
    model_step(life, model_event(KITH_MEMBER_TICK, 0), actions);
    for (uint32_t i = 0; life->leading && i < NODES; i++) { /* whoever is silent has been judged */
        const model_node *node = &life->nodes[i];
        uint64_t since_ms = node->heard_ms > life->led_ms ? node->heard_ms : life->led_ms;
        bool silent = life->now_ms - since_ms >= TIMEOUT_MS;
        bool failed_lately = node->failed_ms && life->now_ms - node->failed_ms < TIMEOUT_MS / 4;
        if (node->known && !node->down && silent && !failed_lately) assert_true(node->proposing);
    }
}

static void model_heartbeats(model *life, kith_member_actions *actions) {
    for (uint32_t i = 0; i < NODES; i++) {
        model_node *node = &life->nodes[i];
        if (!node->alive || kith_rng_below(&life->rng, 8) > 0) continue;
        if (life->leading || node->known) node->heard_ms = life->now_ms;
        kith_member_event event = model_event(KITH_MEMBER_HEARTBEAT, i);
        event.started_wall_ms = node->start;
        event.differs = kith_rng_below(&life->rng, 50) == 0;
        model_step(life, event, actions);
    }
}

/* Commits, refuses or delays what is proposed. */
static void model_commits(model *life, kith_member_actions *actions) {
    for (uint32_t i = 0; i < NODES; i++) {
        model_node *node = &life->nodes[i];
        if (!node->proposing || kith_rng_below(&life->rng, 3) > 0) continue;
        kith_member_event event = model_event(KITH_MEMBER_PROPOSED, i);
        event.failed = kith_rng_below(&life->rng, 5) == 0;
        if (!event.failed) {
            node->known = true;
            node->down = node->proposed == KITH_MEMBER_DOWN;
            kith_member_event known = model_event(KITH_MEMBER_KNOWN, i);
            known.down = node->down;
            model_step(life, known, actions);
        } else {
            node->failed_ms = life->now_ms;
        }
        node->proposing = false;
        model_step(life, event, actions);
    }
}

static void model_leadership(model *life, kith_member_actions *actions) {
    if (kith_rng_below(&life->rng, 200) > 0) return;
    life->leading = !life->leading;
    life->led_ms = life->now_ms;
    for (uint32_t i = 0; i < NODES; i++) {
        life->nodes[i].proposing = false;
        life->nodes[i].failed_ms = 0;
    }
    model_step(life, model_event(life->leading ? KITH_MEMBER_LEADING : KITH_MEMBER_FOLLOWING, 0), actions);
}

static void model_world(model *life, kith_member_actions *actions) {
    uint32_t chosen = (uint32_t)kith_rng_below(&life->rng, NODES);
    model_node *node = &life->nodes[chosen];
    uint64_t fate = kith_rng_below(&life->rng, 100);
    if (fate < 4) node->alive = !node->alive;
    if (fate == 5) node->start++;
    if (fate == 6 && !node->proposing) {
        node->known = node->down = false;
        node->failed_ms = 0;
        model_step(life, model_event(KITH_MEMBER_REMOVED, chosen), actions);
    }
}

static void test_member__random_lives_judge_the_silent_and_nobody_else(void **unused) {
    (void)unused;
    static kith_member_actions actions;
    uint64_t seed = test_seed(1), downs = 0, ups = 0;
    for (uint64_t round = 0; round < test_scaled(200); round++) {
        model life = {.members = kith_members_create(TIMEOUT_MS * MS), .now_ms = 1000};
        kith_rng_init(&life.rng, seed + round);
        for (uint32_t step = 0; step < 3000; step++) {
            life.now_ms += TICK_MS;
            model_leadership(&life, &actions);
            model_world(&life, &actions);
            model_heartbeats(&life, &actions);
            model_commits(&life, &actions);
            model_tick(&life, &actions);
        }
        downs += life.downs;
        ups += life.ups;
        kith_members_destroy(life.members);
    }
    printf("%llu times down, %llu times registered\n", (unsigned long long)downs, (unsigned long long)ups);
    assert_true(downs > 1000);
    assert_true(ups > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member__node_that_was_not_known_is_registered_once),
        cmocka_unit_test(test_member__node_that_says_something_else_is_registered_again),
        cmocka_unit_test(test_member__failed_registration_is_repeated_after_a_pause),
        cmocka_unit_test(test_member__refused_registration_is_repeated_after_a_long_pause),
        cmocka_unit_test(test_member__silent_node_is_down_once_and_up_with_its_next_heartbeat),
        cmocka_unit_test(test_member__new_leader_waits_one_timeout),
        cmocka_unit_test(test_member__silence_that_a_follower_heard_counts),
        cmocka_unit_test(test_member__leader_that_heard_few_nodes_begins_anew),
        cmocka_unit_test(test_member__leader_that_heard_nobody_yet_begins_anew),
        cmocka_unit_test(test_member__follower_that_stood_still_blames_nobody),
        cmocka_unit_test(test_member__follower_decides_nothing),
        cmocka_unit_test(test_member__leader_again_judges_again),
        cmocka_unit_test(test_member__failed_judgement_is_repeated_after_a_pause),
        cmocka_unit_test(test_member__removed_node_is_not_judged),
        cmocka_unit_test(test_member__leader_that_stood_still_blames_nobody),
        cmocka_unit_test(test_member__heartbeat_of_an_earlier_start_does_not_count),
        cmocka_unit_test(test_member__node_that_keeps_going_down_is_up_at_a_falling_rate),
        cmocka_unit_test(test_member__node_that_shards_wait_for_is_up_at_once),
        cmocka_unit_test(test_member__strangers_do_not_fill_the_table),
        cmocka_unit_test(test_member__random_lives_judge_the_silent_and_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
