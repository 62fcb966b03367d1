/* Rebalancing, over metadata with primaries that take replicas in after a while, and lose those that are down: it gets where
 * placement wants to be, endangers nothing on the way, moves no more than it must, and stops. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "host/base/alloc.h"
#include "host/cluster/placement.h"
#include "host/cluster/rebalance.h"
#include "tests/lib/test_lib.h"

#define S_NS        1000000000ULL
#define STEPS_MAX   20000u
#define REPLACE_S   600u
#define SETTLE_S    30u
#define PRIMARIES_S 2u /* between two changes of primary for balance */

typedef struct world {
    kith_meta_state state;
    kith_rebalance *rebalance;
    kith_rebalance_options options;
    kith_rebalance_changes changes;
    kith_rng rng;
    uint64_t now_ns;
    uint64_t wall_ahead_s; /* of now_ns */
    uint32_t node_count;
    uint32_t catch_up_s; /* at most */
    uint32_t stuck;      /* number of a node that never catches up; 0: none */
    bool stuck_is_told;
    bool races; /* primaries change shards between a step and its outcome */
    /* of what was decided */
    uint32_t adds, drops, handovers, steps, receiving_most;
} world;

/* --- metadata --- */

static void apply(world *of, const kith_codec_meta_command *command) {
    kith_meta_result result;
    kith_meta_state_apply(&of->state, of->state.applied_index + 1, command, &result);
    assert_ok(result.status, &result.err);
}

static kith_node_id id_of(uint32_t number) {
    return (kith_node_id){{(uint8_t)number, (uint8_t)(number >> 8), 7}};
}

static void node_say(world *of, uint32_t number, uint32_t zone, uint32_t weight) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_REGISTER_NODE,
        .node = {.role = KITH_NODE_DATA, .id = id_of(number), .weight = weight}};
    snprintf(command.node.name, sizeof command.node.name, "n%u", number);
    snprintf(command.node.address, sizeof command.node.address, "h%u:1", number);
    snprintf(command.node.zone, sizeof command.node.zone, "z%u", zone);
    apply(of, &command);
}

static uint32_t node_join(world *of, uint32_t zone, uint32_t weight) {
    uint32_t number = ++of->node_count;
    node_say(of, number, zone, weight);
    return number;
}

static void node_up(world *of, uint32_t number) {
    const kith_node *node = kith_meta_state_node(&of->state, number);
    unsigned zone = 0;
    (void)sscanf(node->zone, "z%u", &zone);
    node_say(of, number, zone, node->weight);
}

static kith_rebalance_clock clock_of(const world *of) {
    return (kith_rebalance_clock){
        .now_ns = of->now_ns, .wall_ms = of->wall_ahead_s * 1000 + of->now_ns / 1000000};
}

static void node_down(world *of, uint32_t number) {
    apply(of, &(kith_codec_meta_command){.kind = KITH_CODEC_META_NODE_DOWN,
                  .node = {.id = id_of(number)},
                  .down_wall_ms = clock_of(of).wall_ms});
}

static void node_drain(world *of, uint32_t number, bool draining) {
    apply(of, &(kith_codec_meta_command){
                  .kind = KITH_CODEC_META_DRAIN_NODE, .node = {.id = id_of(number), .draining = draining}});
}

static bool is_up(const world *of, uint32_t number) {
    const kith_node *node = kith_meta_state_node(&of->state, number);
    return node && !node->down;
}

static kith_meta_shard *shard_find(world *of, uint64_t id, const kith_collection **collection_out) {
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        kith_meta_collection *in = of->state.collections[i];
        uint64_t first = in->collection.shard_id_first;
        if (id < first || id >= first + in->collection.shard_count) continue;
        *collection_out = &in->collection;
        return &in->shards[id - first];
    }
    fail_msg("there is no shard %llu", (unsigned long long)id);
    return NULL;
}

/* Where the shards of a new collection go, as the coordinators place them; everything is in sync, being empty. */
static void collection_create(world *of, uint32_t shard_count, uint32_t factor, uint32_t min_in_sync) {
    kith_err err;
    kith_placement_node *nodes = kith_alloc_array(of->state.node_count, sizeof *nodes);
    kith_placement_load *loads = kith_alloc_zero(of->state.node_count * sizeof *loads);
    kith_placement_replicas *wanted = kith_alloc_array(shard_count, sizeof *wanted);
    kith_meta_shard *shards = kith_alloc_zero(shard_count * sizeof *shards);
    for (uint32_t i = 0; i < of->state.node_count; i++)
        nodes[i] = kith_placement_node_of(&of->state.nodes[i]);
    kith_placement_collection placed = {
        .shard_id_first = of->state.shard_id_next, .shard_count = shard_count, .replica_count = factor};
    assert_ok(kith_placement_new_collection(nodes, loads, of->state.node_count, &placed, wanted, &err), &err);
    for (uint32_t i = 0; i < shard_count; i++) {
        shards[i].replica_count = (uint8_t)wanted[i].count;
        memcpy(shards[i].replicas, wanted[i].nodes, sizeof shards[i].replicas);
    }
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION, .shards = shards};
    snprintf(command.collection.name, sizeof command.collection.name, "c%u", of->state.collection_count);
    command.collection.shard_count = shard_count;
    command.collection.replication_factor = factor;
    command.collection.min_in_sync = min_in_sync;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    apply(of, &command);
    kith_free(nodes);
    kith_free(loads);
    kith_free(wanted);
    kith_free(shards);
}

static void collection_change(world *of, uint32_t which, uint32_t factor) {
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_UPDATE_COLLECTION, .collection = of->state.collections[which]->collection};
    if (factor > of->node_count) factor = of->node_count;
    command.collection.replication_factor = factor;
    if (command.collection.min_in_sync > factor) command.collection.min_in_sync = factor;
    apply(of, &command);
}

static world *world_make(uint64_t seed, uint32_t node_count, uint32_t zone_count) {
    world *made = kith_alloc_zero(sizeof *made);
    kith_meta_state_init(&made->state);
    kith_rng_init(&made->rng, seed);
    made->now_ns = 1000 * S_NS;
    made->wall_ahead_s = 1700000000;
    made->catch_up_s = 8;
    made->options = (kith_rebalance_options){.replace_after_ns = REPLACE_S * S_NS,
        .settle_ns = SETTLE_S * S_NS,
        .handover_interval_ns = PRIMARIES_S * S_NS,
        .moves_max = 2};
    made->rebalance = kith_rebalance_create(&made->options);
    for (uint32_t i = 0; i < node_count; i++)
        node_join(made, i % zone_count, 100);
    return made;
}

static void world_free(world *of) {
    kith_rebalance_destroy(of->rebalance);
    kith_meta_state_fini(&of->state);
    kith_free(of);
}

/* --- what is never done --- */

static uint32_t bits(uint32_t mask) {
    return (uint32_t)__builtin_popcount(mask);
}

static int place_of(const kith_meta_shard *shard, uint32_t number) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i] == number) return (int)i;
    }
    return -1;
}

static bool in_sync(const kith_meta_shard *shard, uint32_t number) {
    int place = place_of(shard, number);
    return place >= 0 && (shard->in_sync >> place & 1);
}

static uint32_t in_sync_up(const world *of, const kith_meta_shard *shard) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->replica_count; i++)
        count += (shard->in_sync >> i & 1) && is_up(of, shard->replicas[i]);
    return count;
}

/* Whoever is in sync after it was before; a new primary is up; what is dropped is not missed. */
static void check_change(const world *of, const kith_collection *collection, const kith_meta_shard *is,
    const kith_meta_shard *next) {
    assert_true(next->replica_count >= 1 && next->replica_count <= KITH_REPLICAS_MAX);
    assert_true(next->in_sync & 1);
    assert_int_equal(next->in_sync >> next->replica_count, 0);
    for (uint32_t i = 0; i < next->replica_count; i++) {
        assert_non_null(kith_meta_state_node(&of->state, next->replicas[i]));
        assert_int_equal(place_of(next, next->replicas[i]), i); /* distinct */
        assert_int_equal(next->in_sync >> i & 1, in_sync(is, next->replicas[i]));
        if (place_of(is, next->replicas[i]) < 0) assert_true(is_up(of, next->replicas[i]));
    }
    assert_true(place_of(next, is->replicas[0]) >= 0); /* the primary is not dropped */
    if (next->replicas[0] != is->replicas[0]) assert_true(is_up(of, next->replicas[0]));
    if (bits(next->in_sync) == bits(is->in_sync)) return;
    if (in_sync_up(of, next) >= collection->replication_factor) return;
    assert_int_equal(is->replica_count, KITH_REPLICAS_MAX); /* it makes room */
    assert_int_equal(in_sync_up(of, next), KITH_REPLICAS_MAX - 1);
    assert_true(in_sync_up(of, next) >= collection->min_in_sync);
}

static uint32_t receiving_most(const world *of) {
    uint32_t most = 0;
    for (uint32_t n = 0; n < of->state.node_count; n++) {
        uint32_t number = of->state.nodes[n].number, count = 0;
        for (uint32_t i = 0; i < of->state.collection_count; i++) {
            const kith_meta_collection *in = of->state.collections[i];
            for (uint32_t s = 0; s < in->collection.shard_count; s++)
                count += place_of(&in->shards[s], number) >= 0 && !in_sync(&in->shards[s], number);
        }
        if (is_up(of, number) && count > most) most = count;
    }
    return most;
}

/* --- the world goes on --- */

/* Each change stands for itself; one of them may be refused. */
static void changes_propose(world *of, const kith_codec_meta_shard_change *changes, uint32_t count) {
    kith_meta_result result;
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = changes, .change_count = count};
    if (count > 0) kith_meta_state_apply(&of->state, of->state.applied_index + 1, &command, &result);
    if (count > 0 && !of->races) assert_ok(result.status, &result.err);
}

/* What the primary of a shard does: followers that are down leave, others come in. */
static void primary_act(world *of, uint64_t id, const kith_meta_shard *shard) {
    kith_codec_meta_shard_change change = {.shard_id = id, .shard = *shard};
    for (uint32_t i = 1; i < shard->replica_count; i++) {
        bool up = is_up(of, shard->replicas[i]);
        if (!up && kith_rng_below(&of->rng, 2) == 0) change.shard.in_sync &= (uint8_t) ~(1u << i);
        bool catches_up = kith_rng_below(&of->rng, of->catch_up_s) == 0 && shard->replicas[i] != of->stuck;
        if (up && catches_up) change.shard.in_sync |= (uint8_t)(1u << i);
    }
    if (change.shard.in_sync != shard->in_sync) changes_propose(of, &change, 1);
}

static void primaries_act(world *of) {
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++) {
            const kith_meta_shard *shard = &in->shards[s];
            if (is_up(of, shard->replicas[0])) primary_act(of, in->collection.shard_id_first + s, shard);
        }
    }
}

static void changes_check(world *of) {
    for (uint32_t i = 0; i < of->changes.count; i++) {
        const kith_codec_meta_shard_change *change = &of->changes.changes[i];
        const kith_collection *collection = NULL;
        const kith_meta_shard *shard = shard_find(of, change->shard_id, &collection);
        assert_int_equal(change->shard.epoch, shard->epoch);
        check_change(of, collection, shard, &change->shard);
    }
}

static void stuck_tell(world *of) {
    kith_rebalance_stalled_forget(of->rebalance);
    for (uint32_t i = 0; of->stuck_is_told && i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++)
            kith_rebalance_stalled(of->rebalance, in->collection.shard_id_first + s, of->stuck);
    }
}

/* One second. True: something was decided. */
static bool step(world *of) {
    of->now_ns += S_NS;
    of->steps++;
    uint32_t receiving_before = receiving_most(of);
    stuck_tell(of);
    kith_rebalance_step(of->rebalance, &of->state, clock_of(of), &of->changes);
    changes_check(of);
    of->adds += of->changes.add_count;
    of->drops += of->changes.drop_count;
    of->handovers += of->changes.handover_count;
    if (of->races) primaries_act(of);
    changes_propose(of, of->changes.changes, of->changes.count);
    if (!of->races && receiving_before <= of->options.moves_max)
        assert_true(receiving_most(of) <= of->options.moves_max);
    if (receiving_most(of) > of->receiving_most) of->receiving_most = receiving_most(of);
    primaries_act(of);
    return of->changes.count > 0;
}

/* Until nothing has been decided for longer than anything waits. */
static void run_to_rest(world *of) {
    uint32_t quiet_s = 0, steps = 0;
    while (quiet_s < REPLACE_S + SETTLE_S + 60) {
        quiet_s = step(of) ? 0 : quiet_s + 1;
        if (++steps > STEPS_MAX) fail_msg("it does not come to rest");
    }
}

static void run_s(world *of, uint32_t seconds) {
    for (uint32_t i = 0; i < seconds; i++)
        step(of);
}

static void counts_clear(world *of) {
    of->adds = of->drops = of->handovers = of->steps = of->receiving_most = 0;
}

/* --- where it should be --- */

static uint32_t held_by(const world *of, uint32_t number) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++)
            count += place_of(&in->shards[s], number) >= 0;
    }
    return count;
}

static uint32_t led_by(const world *of, uint32_t number) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++)
            count += in->shards[s].replicas[0] == number;
    }
    return count;
}

static void check_whole(const world *of) {
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++) {
            const kith_meta_shard *shard = &in->shards[s];
            assert_int_equal(shard->replica_count, in->collection.replication_factor);
            assert_int_equal(in_sync_up(of, shard), shard->replica_count);
        }
    }
}

/* What placement would still move from here, with those that are down given up; `primaries` too. */
static uint32_t placement_moves(const world *of, bool give_up, uint32_t *primaries_out) {
    kith_err err;
    uint32_t shard_count = 0, moves = 0;
    kith_placement_node *nodes = kith_alloc_array(of->state.node_count, sizeof *nodes);
    for (uint32_t i = 0; i < of->state.node_count; i++) {
        nodes[i] = kith_placement_node_of(&of->state.nodes[i]);
        if (give_up) nodes[i].keeps = false;
    }
    for (uint32_t i = 0; i < of->state.collection_count; i++)
        shard_count += of->state.collections[i]->collection.shard_count;
    kith_placement_shard *shards = kith_alloc_zero(shard_count * sizeof *shards);
    kith_placement_replicas *wanted = kith_alloc_array(shard_count, sizeof *wanted);
    uint32_t count = 0;
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        const kith_meta_collection *in = of->state.collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++) {
            kith_placement_shard *shard = &shards[count++];
            shard->id = in->collection.shard_id_first + s;
            shard->replica_count = in->collection.replication_factor;
            shard->current_count = in->shards[s].replica_count;
            memcpy(shard->current, in->shards[s].replicas, sizeof shard->current);
        }
    }
    assert_ok(
        kith_placement_plan(nodes, of->state.node_count, shards, shard_count, wanted, NULL, &err), &err);
    *primaries_out = 0;
    for (uint32_t i = 0; i < shard_count; i++) {
        *primaries_out += wanted[i].nodes[0] != shards[i].current[0];
        for (uint32_t j = 0; j < wanted[i].count; j++) {
            bool there = false;
            for (uint32_t k = 0; k < shards[i].current_count; k++)
                there |= shards[i].current[k] == wanted[i].nodes[j];
            moves += !there;
        }
    }
    kith_free(nodes);
    kith_free(shards);
    kith_free(wanted);
    return moves;
}

/* Placement may want one move more when it is asked again from where it wanted to be: a leader that comes anew makes it. Not
 * for ever. */
static void check_at_rest(world *of) {
    uint32_t primaries;
    check_whole(of);
    for (uint32_t i = 0; placement_moves(of, true, &primaries) + primaries > 0; i++) {
        counts_clear(of);
        assert_true(i < 4);
        kith_rebalance_reset(of->rebalance);
        run_to_rest(of);
        check_whole(of);
        assert_true(of->adds <= 1);
    }
}

/* --- tests --- */

static void test_rebalance__nothing_is_done_where_all_is_well(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(1), 4, 1);
    collection_create(of, 16, 3, 2);
    run_to_rest(of);
    assert_int_equal(of->adds + of->drops + of->handovers, 0);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__drained_node_is_emptied_and_its_primaries_handed_over(void **unused) {
    (void)unused;
    for (uint32_t factor = 1; factor <= 3; factor++) {
        world *of = world_make(test_seed(2), 5, 1);
        uint32_t primaries;
        collection_create(of, 20, factor, factor > 1 ? factor - 1 : 1);
        uint32_t held = held_by(of, 2), led = led_by(of, 2);
        node_drain(of, 2, true);
        uint32_t least = placement_moves(of, false, &primaries);
        run_to_rest(of);
        assert_int_equal(held_by(of, 2), 0);
        assert_int_equal(of->adds, least);
        assert_int_equal(of->drops, least);
        assert_true(least >= held && of->handovers >= led);
        check_at_rest(of);
        world_free(of);
    }
}

static void test_rebalance__node_that_joins_gets_its_share_after_a_while(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(3), 3, 3);
    uint32_t primaries;
    collection_create(of, 24, 2, 1);
    run_s(of, 100);
    uint32_t joined = node_join(of, 0, 100);
    uint32_t least = placement_moves(of, false, &primaries);
    run_s(of, SETTLE_S - 1);
    assert_int_equal(held_by(of, joined), 0);
    run_to_rest(of);
    assert_int_equal(held_by(of, joined), 12);
    assert_int_equal(led_by(of, joined), 6);
    assert_int_equal(of->adds, least);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__dead_node_is_replaced_after_the_delay_and_not_before(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(4), 5, 1);
    collection_create(of, 20, 3, 2);
    run_s(of, 50);
    uint32_t held = held_by(of, 1);
    node_down(of, 1);
    run_s(of, REPLACE_S);
    assert_int_equal(of->adds + of->drops, 0);
    run_to_rest(of);
    assert_int_equal(held_by(of, 1), 0);
    assert_int_equal(of->adds, held);
    check_at_rest(of);
    world_free(of);
}

/* The one before saw it go down; the one that leads now has another clock since start-up, and much the same on the wall. */
static void test_rebalance__new_leader_goes_on_from_when_a_node_went_down(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(4), 5, 1);
    collection_create(of, 20, 3, 2);
    run_s(of, 50);
    uint32_t held = held_by(of, 1);
    node_down(of, 1);
    run_s(of, REPLACE_S - SETTLE_S - 10);
    kith_rebalance_reset(of->rebalance);
    of->wall_ahead_s += of->now_ns / S_NS - 10;
    of->now_ns = 10 * S_NS;
    run_s(of, SETTLE_S);
    assert_int_equal(of->adds + of->drops, 0);
    run_s(of, 20);
    assert_true(of->adds > 0);
    run_to_rest(of);
    assert_int_equal(held_by(of, 1), 0);
    assert_int_equal(of->adds, held);
    world_free(of);
}

/* A clock that is far ahead makes it no hastier than this; one that is behind, no more patient than a leader that knows nothing. */
static void test_rebalance__new_leader_waits_for_nodes_whatever_its_clock_says(void **unused) {
    (void)unused;
    static const int64_t ahead_s[] = {1000000, -1000000};
    for (uint32_t i = 0; i < 2; i++) {
        world *of = world_make(test_seed(4), 5, 1);
        collection_create(of, 20, 3, 2);
        run_s(of, 50);
        node_down(of, 1);
        kith_rebalance_reset(of->rebalance);
        of->wall_ahead_s = (uint64_t)((int64_t)of->wall_ahead_s + ahead_s[i]);
        run_s(of, ahead_s[i] > 0 ? SETTLE_S : REPLACE_S);
        assert_int_equal(of->adds + of->drops, 0);
        run_s(of, 20);
        assert_true(of->adds > 0);
        world_free(of);
    }
}

/* It lives, but what is put on it never comes in sync: without a word of it its places are taken, and shards lack a replica. */
static void test_rebalance__replicas_that_come_no_nearer_go_to_other_nodes(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(4), 6, 1);
    collection_create(of, 24, 3, 2);
    run_s(of, 50);
    of->stuck = 2;
    uint32_t held = held_by(of, 2);
    node_down(of, 1);
    run_to_rest(of);
    assert_true(held_by(of, 2) > held);
    assert_true(of->changes.count == 0);
    of->stuck_is_told = true;
    run_to_rest(of);
    assert_int_equal(held_by(of, 2), held);
    assert_int_equal(held_by(of, 1), 0);
    check_whole(of);
    world_free(of);
}

/* Where there is no other node it stays: it may catch up yet. */
static void test_rebalance__replica_that_no_other_node_can_have_is_not_given_up(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(4), 3, 1);
    collection_create(of, 6, 3, 2);
    run_s(of, 50);
    of->stuck = 2;
    of->stuck_is_told = true;
    node_down(of, 2);
    run_s(of, 20);
    node_up(of, 2);
    run_s(of, 2 * REPLACE_S);
    assert_int_equal(of->adds + of->drops, 0);
    of->stuck = 0;
    of->stuck_is_told = false;
    run_to_rest(of);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__node_that_returns_in_time_keeps_what_it_has_and_leads_again(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(5), 4, 1);
    collection_create(of, 16, 3, 2);
    run_s(of, 50);
    uint32_t held = held_by(of, 1), led = led_by(of, 1);
    node_down(of, 1);
    run_s(of, REPLACE_S / 2);
    assert_int_equal(led_by(of, 1), 0);
    node_up(of, 1);
    run_s(of, SETTLE_S - 1);
    assert_int_equal(of->handovers, 0);
    run_to_rest(of);
    assert_int_equal(of->adds + of->drops, 0);
    assert_int_equal(held_by(of, 1), held);
    assert_int_equal(led_by(of, 1), led);
    check_at_rest(of);
    world_free(of);
}

/* It came back while it was being replaced: whoever is in sync first, the shard ends with as many as it should have. */
static void test_rebalance__node_that_returns_too_late_leaves_no_replica_too_many(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(6), 5, 1);
    collection_create(of, 40, 3, 2);
    of->catch_up_s = 30;
    run_s(of, 50);
    node_down(of, 3);
    run_s(of, REPLACE_S + 40);
    assert_true(of->adds > 0);
    node_up(of, 3);
    run_to_rest(of);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__factor_that_is_raised_or_lowered_is_followed(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(7), 5, 1);
    uint32_t factors[] = {3, 5, 2, 1, 4};
    collection_create(of, 10, 1, 1);
    for (uint32_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        counts_clear(of);
        collection_change(of, 0, factors[i]);
        run_to_rest(of);
        assert_true(of->adds == 0 || of->drops == 0); /* one or the other */
        check_at_rest(of);
    }
    world_free(of);
}

static void test_rebalance__shard_for_which_nodes_are_too_few_keeps_what_it_has(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(8), 3, 1);
    kith_rebalance_report report;
    collection_create(of, 6, 3, 2);
    collection_create(of, 6, 1, 1);
    node_drain(of, 1, true);
    run_to_rest(of);
    kith_rebalance_tell(of->rebalance, &report);
    assert_int_equal(report.short_count, 6);
    assert_int_equal(held_by(of, 1), 6); /* the others have gone */
    assert_int_equal(led_by(of, 1), 0);  /* and nobody writes to it */
    node_down(of, 1);
    run_to_rest(of);
    assert_int_equal(held_by(of, 1), 6); /* it may yet return */
    node_join(of, 0, 100);
    run_to_rest(of);
    assert_int_equal(held_by(of, 1), 0);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__shard_in_danger_goes_before_a_drained_node(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(9), 6, 1);
    collection_create(of, 30, 3, 2);
    of->catch_up_s = 1000000; /* nobody catches up: the first adds are all there are */
    node_down(of, 1);
    run_s(of, REPLACE_S);
    node_drain(of, 2, true);
    step(of);
    step(of);
    assert_true(of->adds > 0);
    for (uint32_t i = 0; i < of->changes.count; i++)
        assert_true(place_of(&of->changes.changes[i].shard, 1) >= 0);
    uint32_t adds = of->adds;
    run_s(of, 100);
    assert_int_equal(of->adds, adds); /* the places are taken */
    assert_int_equal(of->receiving_most, 2);
    world_free(of);
}

static void test_rebalance__primaries_go_back_one_at_a_time(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(10), 3, 1);
    collection_create(of, 30, 3, 2);
    node_down(of, 1);
    run_s(of, 20);
    node_up(of, 1);
    for (uint32_t i = 0; i < 100; i++) {
        step(of);
        assert_true(of->changes.handover_count <= 1);
    }
    assert_int_equal(of->handovers, 10);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__new_primary_is_left_alone_while_it_takes_over(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(17), 3, 1);
    collection_create(of, 3, 1, 1);
    run_s(of, 10);
    of->catch_up_s = 1; /* at once */
    node_drain(of, of->state.collections[0]->shards[0].replicas[0], true);
    while (of->handovers == 0)
        step(of);
    run_s(of, PRIMARIES_S);
    assert_int_equal(of->drops, 0);
    run_s(of, 2);
    assert_int_equal(of->drops, 1);
    check_whole(of);
    world_free(of);
}

static void test_rebalance__shard_of_the_most_replicas_makes_room_first(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(11), 8, 1);
    collection_create(of, 8, KITH_REPLICAS_MAX, 4);
    node_drain(of, 3, true);
    run_to_rest(of);
    assert_int_equal(held_by(of, 3), 0);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__no_moves_allowed_is_none_made(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(12), 4, 1);
    kith_rebalance_destroy(of->rebalance);
    of->options.moves_max = 0;
    of->rebalance = kith_rebalance_create(&of->options);
    collection_create(of, 8, 2, 1);
    node_drain(of, 1, true);
    run_s(of, 100);
    assert_int_equal(of->adds + of->drops + of->handovers, 0);
    world_free(of);
}

static void test_rebalance__node_that_flaps_moves_nothing(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(13), 5, 1);
    collection_create(of, 25, 3, 2);
    for (uint32_t i = 0; i < 200; i++) {
        node_down(of, 1);
        run_s(of, 5);
        node_up(of, 1);
        run_s(of, 20);
    }
    assert_int_equal(of->adds + of->drops + of->handovers, 0);
    world_free(of);
}

/* --- whatever happens --- */

static uint32_t any_node(world *of) {
    return 1 + (uint32_t)kith_rng_below(&of->rng, of->node_count);
}

static uint32_t usable_count(const world *of) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < of->state.node_count; i++)
        count += !of->state.nodes[i].down && !of->state.nodes[i].draining;
    return count;
}

static void something_happens(world *of) {
    uint32_t number = any_node(of), what = (uint32_t)kith_rng_below(&of->rng, 7);
    const kith_node *node = kith_meta_state_node(&of->state, number);
    if (what == 0 && !node->down) node_down(of, number);
    if (what == 1 && node->down) node_up(of, number);
    if (what == 2) node_drain(of, number, !node->draining);
    if (what == 3 && of->node_count < 20)
        node_join(of, (uint32_t)kith_rng_below(&of->rng, 3), 50 + 50 * (uint32_t)kith_rng_below(&of->rng, 3));
    if (what == 4) kith_rebalance_reset(of->rebalance);
    if (what == 5 && usable_count(of) >= 3 && of->state.collection_count < 6)
        collection_create(of, 1 + (uint32_t)kith_rng_below(&of->rng, 12), 3, 2);
    if (what == 6 && of->state.collection_count > 0) {
        uint32_t which = (uint32_t)kith_rng_below(&of->rng, of->state.collection_count);
        collection_change(of, which, 1 + (uint32_t)kith_rng_below(&of->rng, 5));
    }
}

static void all_heals(world *of) {
    for (uint32_t number = 1; number <= of->node_count; number++) {
        const kith_node *node = kith_meta_state_node(&of->state, number);
        if (node->down) node_up(of, number);
    }
    uint32_t factor_most = 1;
    for (uint32_t i = 0; i < of->state.collection_count; i++) {
        uint32_t factor = of->state.collections[i]->collection.replication_factor;
        if (factor > factor_most) factor_most = factor;
    }
    for (uint32_t number = 1; number <= of->node_count && usable_count(of) < factor_most; number++)
        node_drain(of, number, false);
    while (usable_count(of) < factor_most)
        node_join(of, 0, 100);
}

static void random_life(uint64_t seed) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    world *of =
        world_make(seed, 3 + (uint32_t)kith_rng_below(&rng, 5), 1 + (uint32_t)kith_rng_below(&rng, 3));
    of->races = kith_rng_below(&rng, 2);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t factor = 1 + (uint32_t)kith_rng_below(&rng, 3);
        collection_create(of, 1 + (uint32_t)kith_rng_below(&rng, 16), factor, (factor + 1) / 2);
    }
    for (uint32_t i = 0; i < 40; i++) {
        something_happens(of);
        run_s(of, (uint32_t)kith_rng_below(&rng, i % 10 == 0 ? 1000 : 30));
    }
    all_heals(of);
    run_to_rest(of);
    check_at_rest(of);
    world_free(of);
}

static void test_rebalance__converges_and_endangers_nothing_whatever_happens(void **unused) {
    (void)unused;
    uint64_t seed = test_seed(14);
    for (uint64_t i = 0; i < test_scaled(60); i++)
        random_life(seed + i);
}

/* One event at a time from rest: as many moves as placement makes at once. */
static void random_event(uint64_t seed) {
    kith_rng rng;
    uint32_t primaries;
    kith_rng_init(&rng, seed);
    world *of =
        world_make(seed, 4 + (uint32_t)kith_rng_below(&rng, 8), 1 + (uint32_t)kith_rng_below(&rng, 3));
    for (uint32_t i = 0; i < 3; i++)
        collection_create(
            of, 1 + (uint32_t)kith_rng_below(&rng, 40), 1 + (uint32_t)kith_rng_below(&rng, 3), 1);
    run_to_rest(of);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t what = (uint32_t)kith_rng_below(&rng, 3), number = any_node(of);
        counts_clear(of);
        if (what == 0) node_join(of, (uint32_t)kith_rng_below(&rng, 3), 100);
        if (what == 1 && usable_count(of) > 3) node_drain(of, number, true);
        if (what == 2) node_drain(of, number, false);
        uint32_t least = placement_moves(of, false, &primaries);
        run_to_rest(of);
        assert_true(of->adds <= least + least / 20);
        check_at_rest(of);
    }
    world_free(of);
}

static void test_rebalance__moves_no_more_than_placement(void **unused) {
    (void)unused;
    uint64_t seed = test_seed(15);
    for (uint64_t i = 0; i < test_scaled(40); i++)
        random_event(seed + i);
}

static void test_rebalance__steps_of_a_large_cluster_are_quick(void **unused) {
    (void)unused;
    world *of = world_make(test_seed(16), 100, 3);
    collection_create(of, 4096, 3, 2);
    collection_create(of, 4096, 3, 2);
    for (uint32_t i = 0; i < 3; i++) {
        clock_t begun = clock();
        kith_rebalance_step(of->rebalance, &of->state, clock_of(of), &of->changes);
        double took = (double)(clock() - begun) / CLOCKS_PER_SEC;
        printf("step %u of 8192 shards, 100 nodes: %.4f s\n", i, took);
        if (i == 1) node_drain(of, 7, true);
#if !defined(KITH_DEBUG)
        assert_true(took < 0.5);
#endif
    }
    assert_true(of->changes.add_count > 0);
    world_free(of);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rebalance__nothing_is_done_where_all_is_well),
        cmocka_unit_test(test_rebalance__drained_node_is_emptied_and_its_primaries_handed_over),
        cmocka_unit_test(test_rebalance__node_that_joins_gets_its_share_after_a_while),
        cmocka_unit_test(test_rebalance__dead_node_is_replaced_after_the_delay_and_not_before),
        cmocka_unit_test(test_rebalance__new_leader_goes_on_from_when_a_node_went_down),
        cmocka_unit_test(test_rebalance__new_leader_waits_for_nodes_whatever_its_clock_says),
        cmocka_unit_test(test_rebalance__replicas_that_come_no_nearer_go_to_other_nodes),
        cmocka_unit_test(test_rebalance__replica_that_no_other_node_can_have_is_not_given_up),
        cmocka_unit_test(test_rebalance__node_that_returns_in_time_keeps_what_it_has_and_leads_again),
        cmocka_unit_test(test_rebalance__node_that_returns_too_late_leaves_no_replica_too_many),
        cmocka_unit_test(test_rebalance__factor_that_is_raised_or_lowered_is_followed),
        cmocka_unit_test(test_rebalance__shard_for_which_nodes_are_too_few_keeps_what_it_has),
        cmocka_unit_test(test_rebalance__shard_in_danger_goes_before_a_drained_node),
        cmocka_unit_test(test_rebalance__primaries_go_back_one_at_a_time),
        cmocka_unit_test(test_rebalance__new_primary_is_left_alone_while_it_takes_over),
        cmocka_unit_test(test_rebalance__shard_of_the_most_replicas_makes_room_first),
        cmocka_unit_test(test_rebalance__no_moves_allowed_is_none_made),
        cmocka_unit_test(test_rebalance__node_that_flaps_moves_nothing),
        cmocka_unit_test(test_rebalance__converges_and_endangers_nothing_whatever_happens),
        cmocka_unit_test(test_rebalance__moves_no_more_than_placement),
        cmocka_unit_test(test_rebalance__steps_of_a_large_cluster_are_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
