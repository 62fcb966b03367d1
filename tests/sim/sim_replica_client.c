/* Clients: they write to whom they hold to be the primary, and read anywhere, with every promise. */
#include "tests/sim/sim_replica_internal.h"

bool sim_client_write(sim_world *world, sim_node *node) {
    if (!node->up || node->paused_until_ns > world->now_ns || node->end >= WRITES_LAST) return false;
    kith_replica_position position;
    kith_status status =
        kith_replica_step_admit(node->step, 64, sim_node_now_ns(world, node), &position, NULL);
    if (status != KITH_OK) return false;
    world->outcome->writes++;
    const kith_replica_config *config = &world->configs[position.epoch];
    sim_replica_check_admitted(
        &world->check, (uint32_t)__builtin_popcount(config->in_sync), (uint32_t)world->min_in_sync);
    sim_replica_check_appended(&world->check, node->process, position.epoch);
    if (position.sequence != node->end + 1)
        sim_replica_check_fail(
            &world->check, "node %u admits a write elsewhere than its log ends", node->number);
    sim_node_append(
        world, node, &(sim_replica_entry){.epoch = position.epoch, .value = ++world->value, .own = true});
    sim_node_run(world, node);
    return true;
}

void sim_client_read(sim_world *world, sim_node *node, sim_replica_read read) {
    if (!node->up || node->paused_until_ns > world->now_ns || node->wait_count == WAITS_MAX) return;
    uint64_t sequence, token = world->check.acknowledged;
    if (read == SIM_REPLICA_TOKEN && token > 0) token -= sim_below(world, token < 8 ? token : 8);
    sim_replica_begun begun = sim_replica_check_read_begin(&world->check, read, token);
    world->outcome->reads++;
    kith_status status = kith_replica_step_read(
        node->step, (kith_replica_read)read, token, sim_node_now_ns(world, node), &sequence, NULL);
    if (status != KITH_OK) return;
    node->waits[node->wait_count++] = (sim_wait){.sequence = sequence, .begun = begun};
    sim_node_waits(world, node);
}

void sim_client_event(sim_world *world) {
    uint32_t primary = world->configs[world->epoch].replicas[0];
    uint32_t any = 1 + (uint32_t)sim_below(world, world->node_count);
    uint32_t number = sim_percent(world, 50) ? primary : any;
    if (world->writing && sim_percent(world, world->write_percent))
        (void)sim_client_write(world, &world->nodes[number]);
    else
        sim_client_read(world, &world->nodes[number], (sim_replica_read)sim_below(world, 4));
    sim_at(world, sim_below(world, world->client_ms * MS), (sim_event){.kind = SIM_EVENT_CLIENT});
}
