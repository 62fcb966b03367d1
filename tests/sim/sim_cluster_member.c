/* What every data and query node has of the cluster: heartbeats to the coordinators, and the map. */
#include <stdio.h>

#include "tests/sim/sim_cluster_internal.h"
#include "tests/sim/sim_data_node.h"

#define HEARTBEAT_MS 200u

static void changed(void *ctx, const kith_meta_state *state, bool from_file) {
    sim_node *node = ctx;
    sim_node_tell(node, "goes by map version %llu%s", (unsigned long long)state->map_version,
        from_file ? ", of its file" : "");
    sim_node_map_show(node, state);
    if (node->data) sim_data_part_map(node->data, state, from_file);
}

static void heartbeat_fill(void *ctx, kith_codec_heartbeat *heartbeat_out) {
    sim_node *node = ctx;
    kith_codec_heartbeat heartbeat = {.node = {.role = KITH_NODE_DATA, .id = node->id, .weight = 100},
        .started_wall_ms = node->started_wall_ms,
        .map_version = kith_meta_client_map_version(node->client),
        .health = "ok"};
    snprintf(heartbeat.node.name, sizeof heartbeat.node.name, "n%u", node->options.number);
    snprintf(
        heartbeat.node.address, sizeof heartbeat.node.address, "%s", sim_node_address(node->options.number));
    if (node->data) sim_data_part_heartbeat(node->data, &heartbeat);
    if (node->data) sim_data_part_reopen(node->data, kith_meta_client_state(node->client));
    *heartbeat_out = heartbeat;
}

static void leader_seen(void *ctx, const kith_node_id *id, const char *address) {
    (void)id;
    kith_meta_client_leader_seen(((sim_node *)ctx)->client, address);
}

static void map_seen(void *ctx, const char *address, uint64_t map_version) {
    kith_meta_client_map_seen(((sim_node *)ctx)->client, address, map_version);
}

static void heartbeat_create(sim_node *node, const char *const *coordinators) {
    const kith_heartbeat_options options = {.env = node->env,
        .executor = node->executor,
        .transport = node->transport,
        .coordinators = coordinators,
        .coordinator_count = node->options.listed_count,
        .interval_ms = HEARTBEAT_MS,
        .timeout_ms = SIM_TIMEOUT_MS,
        .fill = heartbeat_fill,
        .leader_seen = leader_seen,
        .map_seen = map_seen,
        .ctx = node};
    node->heartbeat = kith_heartbeat_create(&options);
}

kith_status sim_member_create(sim_node *node, kith_err *err) {
    const char *coordinators[SIM_COORDINATORS_MAX];
    for (uint32_t i = 0; i < node->options.listed_count; i++)
        coordinators[i] = sim_node_address(i);
    const kith_meta_client_options options = {.env = node->env,
        .executor = node->executor,
        .transport = node->transport,
        .dir = SIM_NODE_DIR,
        .coordinators = coordinators,
        .coordinator_count = node->options.listed_count,
        .changed = changed,
        .ctx = node};
    kith_status status = node->data ? sim_data_part_open(node->data, err) : KITH_OK;
    if (status != KITH_OK) return status;
    node->client = kith_meta_client_create(&options);
    if (node->data) sim_data_part_replicate(node->data);
    status = kith_meta_client_load(node->client, err);
    if (status == KITH_OK && node->data) status = sim_data_part_recover(node->data, err);
    if (status != KITH_OK) return status;
    if (node->data) sim_data_part_serve(node->data);
    heartbeat_create(node, coordinators);
    kith_heartbeat_start(node->heartbeat);
    return KITH_OK;
}

static void parts_stop(void *ctx) {
    sim_node *node = ctx;
    sim_node_part_stopped(node); /* the hand-over */
    if (node->data) sim_data_part_stop(node->data);
    if (!node->client) return;
    node->stops_left++;
    kith_meta_client_stop(node->client, sim_node_part_stopped, node);
    if (!node->heartbeat) return;
    node->stops_left++;
    kith_heartbeat_stop(node->heartbeat, sim_node_part_stopped, node);
}

/* In good order only while it serves: a dead one, or one that has not come up, has nothing to hand over. */
void sim_member_stop(sim_node *node) {
    node->stops_left++;
    if (node->data && node->heartbeat && !node->crashed) {
        sim_data_part_hand_over(node->data, parts_stop, node);
    } else {
        parts_stop(node);
    }
}

void sim_member_destroy(sim_node *node) {
    kith_heartbeat_destroy(node->heartbeat);
    kith_meta_client_destroy(node->client);
    node->heartbeat = NULL;
    node->client = NULL;
    if (node->data) sim_data_part_close(node->data);
}
