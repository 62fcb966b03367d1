/* The history of data: what happens when, and what must be true in the end. */
#include "tests/sim/sim_data.h"

#include <stdio.h>
#include <string.h>

#include "host/meta/meta_state.h"
#include "tests/sim/sim_data_check.h"
#include "tests/sim/sim_data_client.h"
#include "tests/sim/sim_data_operator.h"
#include "tests/sim/sim_data_value.h"

#define READY_MS  20000ULL /* from the first start to all collections, at most */
#define LIVE_MS   15000ULL /* from healing to an acknowledged write of every shard, at most */
#define PIECE_MS  30000ULL /* and where that may wait for a new copy: for a piece that was lost before */
#define SETTLE_MS 10000ULL /* to one map everywhere: as in sim_cluster.c */
#define WHOLE_MS  60000ULL /* to all copies in sync: a piece of a copy is given 30 s */
#define IDLE_MS   10000ULL /* for the clients' last requests */
#define AUDIT_MS  20000ULL
#define WISHES_MS 20000ULL /* for an operator's last ones */
#define LATE_MS   5000ULL  /* a machine that is added starts within */

typedef struct sim_data_history {
    const sim_data_history_options *options;
    sim_world world;
    sim_data_options node_options;
    sim_data_check *check;
    sim_data_client *client;
    sim_data_operator *operator; /* NULL: nothing moves */
    uint32_t collection_count;
    bool reported, in_doubt;
} sim_data_history;

/* --- the phases of a history --- */

/* CORRUPT after a bit was flipped is the right answer, and the end of the history. */
static void corruption_look(sim_data_history *history) {
    sim_world *world = &history->world;
    const char *text = sim_data_client_corruption(history->client);
    for (uint32_t i = 0; i < world->node_count && !text; i++)
        text = sim_node_corruption(world->nodes[i]);
    if (!text) return;
    if (world->counts.flips == 0)
        sim_world_blame(world, "CORRUPT without a flipped bit: %.300s", text);
    else
        sim_world_tell(world, "the flipped bit is reported: %s", text);
    history->reported = true;
    world->over = true;
}

static void look(void *ctx) {
    sim_data_history *history = ctx;
    const char *violation = sim_data_check_violation(history->check);
    if (!violation) violation = sim_data_client_violation(history->client);
    if (violation) sim_world_blame(&history->world, "%s", violation);
    if (!history->reported) corruption_look(history);
}

/* Until `is_so`, or it is a violation. */
static void await(sim_data_history *history, bool (*is_so)(const sim_data_history *history), uint64_t ms,
    const char *otherwise) {
    sim_world *world = &history->world;
    uint64_t end_ms = sim_world_now_ms(world) + ms;
    while (!world->over && !is_so(history)) {
        if (sim_world_now_ms(world) > end_ms)
            sim_world_blame(world, "%s within %llu ms", otherwise, (unsigned long long)ms);
        sim_world_run_for(world, 20 * SIM_MS);
    }
}

static bool is_ready(const sim_data_history *history) {
    return sim_data_client_is_ready(history->client);
}

static bool is_idle(const sim_data_history *history) {
    return sim_data_client_is_idle(history->client);
}

static void preparation(sim_data_history *history) {
    sim_data_client_prepare(history->client);
    await(history, is_ready, READY_MS, "the collections could not be created");
    sim_data_client_start(history->client);
    sim_world_run_for(&history->world, (100 + sim_world_below(&history->world, 500)) * SIM_MS);
}

/* --- copies --- */

static sim_node *node_of(const sim_world *world, const kith_meta_state *state, uint32_t number) {
    const kith_node *found = kith_meta_state_node(state, number);
    for (uint32_t i = 0; found && i < world->node_count; i++) {
        kith_node_id id = sim_node_id(i);
        if (kith_node_id_equal(&id, &found->id)) return world->nodes[i];
    }
    return NULL;
}

/* Every replica that is wanted is there, in sync, not on a node that is to be empty, and has the same points. */
static bool shard_is_whole(const sim_data_history *history, const kith_meta_state *state,
    const kith_meta_collection *collection, const kith_meta_shard *shard, uint64_t shard_id) {
    uint32_t wanted = collection->collection.replication_factor;
    uint64_t digest = 0, first = 0;
    if (shard->replica_count != wanted || shard->in_sync != (1u << wanted) - 1) return false;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (kith_meta_state_node(state, shard->replicas[i])->draining) return false;
        sim_node *node = node_of(&history->world, state, shard->replicas[i]);
        if (!node || !sim_node_shard_digest(node, shard_id, &digest)) return false;
        if (i == 0) first = digest;
        if (digest != first) return false;
    }
    return true;
}

static bool shards_are_whole(const sim_data_history *history) {
    uint32_t leader = sim_world_leader(&history->world);
    if (leader == UINT32_MAX) return false;
    const kith_meta_state *state = sim_node_meta(history->world.nodes[leader]);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *collection = state->collections[i];
        for (uint32_t j = 0; j < collection->collection.shard_count; j++) {
            uint64_t shard_id = collection->collection.shard_id_first + j;
            if (!shard_is_whole(history, state, collection, &collection->shards[j], shard_id)) return false;
        }
    }
    return true;
}

static void shard_tell(sim_data_history *history, const kith_meta_shard *shard, uint64_t shard_id) {
    sim_world *world = &history->world;
    sim_world_tell(world, "shard %llu: epoch %llu, %u replicas (nodes %u %u %u), in sync %x",
        (unsigned long long)shard_id, (unsigned long long)shard->epoch, shard->replica_count,
        shard->replicas[0], shard->replicas[1], shard->replicas[2], shard->in_sync);
    for (uint32_t i = sim_world_member_first(world); i < world->node_count; i++)
        sim_node_shard_tell(world->nodes[i], shard_id);
}

static void shards_tell(sim_data_history *history) {
    uint32_t leader = sim_world_leader(&history->world);
    const kith_meta_state *state = leader == UINT32_MAX ? NULL : sim_node_meta(history->world.nodes[leader]);
    for (uint32_t i = 0; state && i < state->collection_count; i++) {
        const kith_meta_collection *collection = state->collections[i];
        for (uint32_t j = 0; j < collection->collection.shard_count; j++)
            shard_tell(history, &collection->shards[j], collection->collection.shard_id_first + j);
    }
}

/* Whoever is in sync may lack what it acknowledged: only an operator could go on. */
static bool shard_is_in_doubt(const sim_data_history *history, const kith_meta_state *state,
    const kith_meta_shard *shard, uint64_t shard_id) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (!(shard->in_sync >> i & 1)) continue;
        sim_node *node = node_of(&history->world, state, shard->replicas[i]);
        if (!node || !sim_node_shard_in_doubt(node, shard_id)) return false;
    }
    return true;
}

static void doubt_look(sim_data_history *history) {
    sim_world *world = &history->world;
    uint32_t leader = sim_world_leader(world);
    if (!history->options->async || leader == UINT32_MAX) return;
    const kith_meta_state *state = sim_node_meta(world->nodes[leader]);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *collection = state->collections[i];
        for (uint32_t j = 0; j < collection->collection.shard_count; j++) {
            uint64_t shard_id = collection->collection.shard_id_first + j;
            if (!shard_is_in_doubt(history, state, &collection->shards[j], shard_id)) continue;
            sim_world_tell(world, "shard %llu waits for an operator", (unsigned long long)shard_id);
            history->in_doubt = world->over = true;
        }
    }
}

/* A violation, unless a shard says that it is CORRUPT and may. Of a single copy that must be what clients are answered, but where
 * it shall have a second: that is missing then, and a client's write is refused for it. */
static void not_whole(sim_data_history *history, const char *what, uint64_t ms) {
    sim_world *world = &history->world;
    shards_tell(history);
    bool is_single = history->options->replicas <= 1 && !history->options->moves;
    for (uint32_t i = 0; i < world->node_count && !is_single; i++)
        sim_node_health_look(world->nodes[i]);
    look(history);
    if (!history->reported)
        sim_world_blame(world, "%s within %llu ms of healing", what, (unsigned long long)ms);
}

/* Where a flipped bit is in the only copy that is in sync, nothing can mend it; then it must be said. */
static void served_await(sim_data_history *history) {
    sim_world *world = &history->world;
    bool may_need_copy = history->options->moves || world->counts.flips > 0;
    uint64_t live_ms = LIVE_MS + (may_need_copy ? PIECE_MS : 0);
    uint64_t healed_ns = kith_env_now_ns(world->env), end_ms = sim_world_now_ms(world) + live_ms;
    while (!world->over && !sim_data_client_is_served(history->client, healed_ns)) {
        if (sim_world_now_ms(world) > end_ms)
            not_whole(history, "not every shard was written and searched", live_ms);
        sim_world_run_for(world, 20 * SIM_MS);
        doubt_look(history);
    }
}

/* All replicas that are wanted are in sync, and equal. */
static void whole_await(sim_data_history *history) {
    sim_world *world = &history->world;
    uint64_t end_ms = sim_world_now_ms(world) + WHOLE_MS;
    while (!world->over && !shards_are_whole(history)) {
        if (sim_world_now_ms(world) > end_ms)
            not_whole(history, "not every copy of every shard was in sync, with the same points,", WHOLE_MS);
        sim_world_run_for(world, 20 * SIM_MS);
        doubt_look(history);
    }
}

/* --- what an operator wants --- */

static uint32_t member_draw(sim_world *world) {
    uint32_t first = sim_world_member_first(world);
    return first + (uint32_t)sim_world_below(world, world->node_count - first);
}

/* One more or one less than there are, where that leaves two of those that had more than one. */
static void factor_wish(sim_data_history *history) {
    sim_world *world = &history->world;
    uint32_t least = history->options->replicas > 1 ? 2 : 1;
    uint32_t factor = least + (uint32_t)sim_world_below(world, 2);
    uint32_t min_in_sync = factor > 1 ? 1 + (uint32_t)sim_world_below(world, 2) : 1;
    uint32_t collection = (uint32_t)sim_world_below(world, history->collection_count);
    sim_data_operator_factor(history->operator, collection, factor, min_in_sync);
}

static void change(void *ctx) {
    sim_data_history *history = ctx;
    uint32_t number = member_draw(&history->world);
    if (sim_world_below(&history->world, 2))
        factor_wish(history);
    else
        sim_data_operator_drain(
            history->operator, number, !sim_data_operator_drains(history->operator, number));
}

static bool wishes_are_done(const sim_data_history *history) {
    return sim_data_operator_is_idle(history->operator);
}

/* One node may stay empty, and one burn, where enough are left for all copies. */
static void last_wishes(sim_data_history *history) {
    sim_world *world = &history->world;
    uint32_t first = sim_world_member_first(world), spare = world->node_count - first;
    spare = spare > 4 ? 1 : 0;
    for (uint32_t i = first; i < world->node_count; i++) {
        if (!sim_data_operator_drains(history->operator, i)) continue;
        if (spare > 0 && sim_world_below(world, 2))
            spare--;
        else
            sim_data_operator_drain(history->operator, i, false);
    }
    await(history, wishes_are_done, WISHES_MS, "what the operator wants was not acknowledged");
}

/* All its copies are in sync, so that one may be lost; but not the only one, and not beside one that a flipped bit spoils. */
static bool may_burn(const sim_data_history *history) {
    const sim_world *world = &history->world;
    uint32_t members = world->node_count - sim_world_member_first(world);
    return history->options->replicas > 1 && world->counts.flips == 0 && world->flip_number == 0 &&
           members > 3;
}

static void burning(sim_data_history *history) {
    sim_world *world = &history->world;
    if (world->over || !may_burn(history) || sim_world_below(world, 2)) return;
    whole_await(history);
    uint32_t number = member_draw(world);
    if (world->over || sim_node_state_of(world->nodes[number]) != SIM_NODE_RUNNING) return;
    sim_world_burn(world, number);
    served_await(history);
}

/* --- after the faults --- */

static void recovery(sim_data_history *history) {
    if (history->world.over) return;
    sim_world_heal(&history->world);
    if (history->operator) last_wishes(history);
    served_await(history);
    if (history->operator) burning(history);
}

static void settling(sim_data_history *history) {
    sim_world *world = &history->world;
    sim_data_client_stop(history->client);
    await(history, is_idle, IDLE_MS, "a request of a client did not end");
    whole_await(history);
    sim_world_one_map_await(world, SETTLE_MS);
    if (world->over) return;
    sim_data_client_audit(history->client);
    await(history, is_idle, AUDIT_MS, "the audit did not end");
    if (world->over) return;
    sim_data_check_finish(history->check);
    look(history);
}

/* --- set-up --- */

static void node_options_draw(sim_data_history *history) {
    sim_world *world = &history->world;
    history->node_options = (sim_data_options){.seed = history->options->seed,
        .seal_rows = 8 + (uint32_t)sim_world_below(world, 30),
        .seal_idle_ms = 200 + sim_world_below(world, 3000),
        .request_window = 512,
        .log_file_bytes = 1024ULL << sim_world_below(world, 5),
        .sync_us_max = 20ULL << sim_world_below(world, 10),
        .digest_interval_ms = 500,
        .flush_chance = sim_world_below(world, 2) ? 0.05 : 0};
    if (history->options->moves)
        history->node_options.background_us_max = 1000ULL << sim_world_below(world, 6);
}

static void node_create(sim_data_history *history, uint32_t number, bool one_executor) {
    sim_node_options options = sim_world_node_options(&history->world, history->options->seed, number);
    options.snapshot_threshold = 64;
    if (history->options->moves) {
        options.moves_max = 1 + (uint32_t)sim_world_below(&history->world, 3);
        options.replace_after_ms = 500ULL << sim_world_below(&history->world, 4);
    }
    options.one_executor = one_executor;
    options.mutant = history->options->mutant;
    options.data = &history->node_options;
    history->world.nodes[number] = sim_node_create(&options);
}

static void client_create(sim_data_history *history) {
    static const char *addresses[SIM_COORDINATORS_MAX];
    sim_world *world = &history->world;
    for (uint32_t i = 0; i < world->coordinator_count; i++)
        addresses[i] = sim_node_address(i);
    sim_data_client_options options = {.env = world->env,
        .network = world->network,
        .address = "client:7442",
        .coordinators = addresses,
        .coordinator_count = world->coordinator_count,
        .collection_count = 1 + (uint32_t)sim_world_below(world, SIM_DATA_COLLECTIONS_MAX),
        .point_count = 8 + (uint32_t)sim_world_below(world, 32),
        .shard_counts = {1 + (uint32_t)sim_world_below(world, 3), 1 + (uint32_t)sim_world_below(world, 2)},
        .dim = 2 + (uint32_t)sim_world_below(world, SIM_DATA_DIM_MAX - 1),
        .replication_factor = history->options->replicas,
        .min_in_sync = history->options->replicas > 1 ? 1 + (uint32_t)sim_world_below(world, 2) : 1,
        .durability = history->options->async ? KITH_DURABILITY_ASYNC : KITH_DURABILITY_SYNC,
        .seed = history->options->seed,
        .tell = world->trace ? sim_world_tell_text : NULL,
        .ctx = world};
    history->check = sim_data_check_create(options.collection_count, options.point_count);
    options.check = history->check;
    history->collection_count = options.collection_count;
    history->client = sim_data_client_create(&options);
    if (!history->options->moves) return;
    history->operator= sim_data_operator_create(&(sim_data_operator_options){.env = world->env,
        .api = sim_data_client_api(history->client),
        .executor = sim_data_client_executor(history->client),
        .tell = options.tell,
        .ctx = world});
}

static void setup(sim_data_history *history) {
    sim_world *world = &history->world;
    sim_world_init(world, history->options->seed, 0x64617461 /* "data" */, history->options->trace,
        history->options->trace_network);
    world->look = look;
    world->ctx = history;
    world->has_data = true;
    world->coordinator_count = sim_world_below(world, 4) ? 3 : 1;
    world->node_count = world->coordinator_count + 3 + (uint32_t)sim_world_below(world, 2);
    world->has_moves = history->options->moves;
    world->change = change;
    bool is_late = world->has_moves && sim_world_below(world, 2);
    world->node_count += is_late;
    bool one_executor = sim_world_below(world, 2);
    sim_world_weights_draw(world);
    node_options_draw(history);
    sim_world_hosts_make(world);
    client_create(history);
    for (uint32_t i = 0; i < world->node_count; i++)
        node_create(history, i, one_executor);
    for (uint32_t i = 0; i < world->node_count - is_late; i++)
        sim_world_node_start(world, i);
    if (is_late)
        world->wake_ns[world->node_count - 1] =
            kith_env_now_ns(world->env) + sim_world_below(world, LATE_MS) * SIM_MS;
}

/* --- the end --- */

static void outcome_fill(const sim_data_history *history, sim_data_history_outcome *outcome) {
    outcome->writes = sim_data_check_write_count(history->check);
    outcome->acknowledged = sim_data_check_done_count(history->check);
    outcome->seen = sim_data_check_seen_count(history->check);
    outcome->undecided = sim_data_check_undecided_count(history->check);
    outcome->requests = sim_data_client_request_count(history->client);
    outcome->failures = sim_data_client_failure_count(history->client);
    outcome->virtual_ms = sim_world_now_ms(&history->world);
}

static bool client_is_idle(void *ctx) {
    const sim_data_history *history = ctx;
    return is_idle(history) && (!history->operator|| sim_data_operator_is_idle(history->operator));
}

static void teardown(sim_data_history *history, sim_data_history_outcome *outcome) {
    sim_data_client_stop(history->client);
    if (history->operator) sim_data_operator_stop(history->operator);
    sim_data_client_disconnect(history->client);
    bool closed = sim_world_close(&history->world, client_is_idle, history);
    outcome->counts = history->world.counts;
    outcome->violated = history->world.text[0];
    outcome->reported = history->reported && !outcome->violated;
    outcome->in_doubt = history->in_doubt && !outcome->violated;
    snprintf(outcome->text, sizeof outcome->text, "%s", history->world.text);
    if (!closed) return; /* it is left as it is: the violation says so */
    sim_data_operator_destroy(history->operator);
    sim_data_client_destroy(history->client);
    sim_world_fini(&history->world);
    sim_data_check_destroy(history->check);
}

void sim_data_history_run(const sim_data_history_options *options, sim_data_history_outcome *outcome_out) {
    *outcome_out = (sim_data_history_outcome){0};
    sim_data_history history = {.options = options};
    setup(&history);
    sim_world_run_for(&history.world, 300 * SIM_MS);
    preparation(&history);
    uint64_t trouble_ms = 800 + sim_world_below(&history.world, 2500);
    if (options->moves) trouble_ms *= 3; /* a leader moves something once a second */
    sim_world_trouble(&history.world, trouble_ms);
    recovery(&history);
    settling(&history);
    outcome_fill(&history, outcome_out);
    teardown(&history, outcome_out);
}
