/* A node with one replica: the step machine's hands. Its log is in memory and, some time after each entry, on its disk. */
#include <stdio.h>

#include "tests/sim/sim_replica_internal.h"

uint64_t sim_node_now_ns(const sim_world *world, const sim_node *node) {
    return node->clock_ns + world->now_ns / 1024 * node->rate;
}

/* When its clock will show `local_ns`. */
static uint64_t world_ns_of(const sim_node *node, uint64_t local_ns) {
    return local_ns <= node->clock_ns ? 0 : ((local_ns - node->clock_ns) / node->rate + 1) * 1024;
}

/* --- log and state --- */

void sim_node_append(sim_world *world, sim_node *node, const sim_replica_entry *entry) {
    node->log[++node->end] = *entry;
    sim_write *write = &node->writes[node->write_last++ % SIM_REPLICA_ENTRIES_MAX];
    *write = (sim_write){.sequence = node->end, .entry = *entry};
    uint64_t took_ns = 1 + sim_below(world, world->disk_ms * MS);
    if (node->disk_free_ns < world->now_ns) node->disk_free_ns = world->now_ns;
    bool waits =
        node->disk_free_ns - world->now_ns > world->disk_ms * MS; /* the next sync takes all that wait */
    if (!waits && sim_percent(world, 70)) node->disk_free_ns += took_ns;
    sim_at(world, node->disk_free_ns - world->now_ns,
        (sim_event){.kind = SIM_EVENT_SYNC, .node = node->number, .process = node->process, .a = 1});
}

static void apply(sim_world *world, sim_node *node) {
    while (node->applied < node->told && node->applied < node->durable) {
        uint64_t sequence = ++node->applied;
        sim_replica_entry *entry = &node->log[sequence];
        sim_replica_check_applied(&world->check, node->number, sequence, entry);
        if (!entry->own) continue;
        entry->own = false;
        sim_replica_check_acknowledged(&world->check, sequence, entry->value);
        world->outcome->acknowledged++;
    }
    if (sim_percent(world, 30) || node->disk_committed > node->applied) node->disk_committed = node->applied;
    sim_node_waits(world, node);
}

void sim_node_waits(sim_world *world, sim_node *node) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < node->wait_count; i++) {
        sim_wait *wait = &node->waits[i];
        if (wait->sequence > node->applied) {
            node->waits[left++] = *wait;
            continue;
        }
        sim_replica_check_read_end(&world->check, &wait->begun, node->number, node->applied);
        world->outcome->answered++;
    }
    node->wait_count = left;
}

static void synced(sim_world *world, sim_node *node) {
    sim_write *write = &node->writes[node->write_first++ % SIM_REPLICA_ENTRIES_MAX];
    node->disk_end = write->sequence; /* what was behind it there is superseded */
    node->disk[write->sequence] = write->entry;
    bool current = write->sequence <= node->end && node->log[write->sequence].epoch == write->entry.epoch &&
                   write->sequence == node->durable + 1;
    if (!current) return;
    node->durable = write->sequence;
    apply(world, node);
    kith_replica_step_durable(node->step, node->durable, sim_node_now_ns(world, node));
}

static void truncate(sim_world *world, sim_node *node, uint64_t first) {
    world->outcome->truncations++;
    TRACE(world, "node %u cuts off %llu..%llu", node->number, (unsigned long long)first,
        (unsigned long long)node->end);
    node->end = first - 1;
    if (node->durable > node->end) node->durable = node->end;
    for (uint32_t i = 0; i < node->wait_count; i++) { /* what is gone was never acknowledged */
        sim_wait *wait = &node->waits[i];
        bool own_end = wait->begun.read == SIM_REPLICA_IN_SYNC;
        if (own_end && wait->sequence > node->end) wait->sequence = node->end;
    }
    if (node->applied > node->end)
        sim_replica_check_fail(&world->check, "node %u cut off what it had applied", node->number);
}

/* --- life --- */

static uint32_t epochs_of(const sim_node *node, uint64_t first, kith_replica_position *epochs) {
    uint32_t count = 0;
    for (uint64_t i = first; i <= node->end; i++) {
        if (count == 0 || node->log[i].epoch != epochs[count - 1].epoch)
            epochs[count++] = (kith_replica_position){node->log[i].epoch, i};
    }
    return count;
}

static void step_make(sim_world *world, sim_node *node) {
    static kith_replica_position epochs[SIM_REPLICA_ENTRIES_MAX];
    uint64_t first = node->disk_first > node->end + 1 ? node->end + 1 : node->disk_first;
    kith_replica_log log = {.first = first,
        .end = {node->end ? node->log[node->end].epoch : 0, node->end},
        .committed = node->disk_committed,
        .created = !node->made,
        .epochs = epochs,
        .epoch_count = epochs_of(node, first ? first : 1, epochs)};
    node->step = kith_replica_step_create(&(kith_replica_step_options){.shard_id = 1,
                                              .self = node->number,
                                              .lease_ns = LEASE_NS,
                                              .window = 1 + (uint32_t)sim_below(world, 4),
                                              .batch_bytes_max = (size_t)world->batch_max * 64},
        &log, sim_node_now_ns(world, node));
}

static void configure(sim_world *world, sim_node *node, uint64_t epoch) {
    if (epoch > node->disk_map && sim_percent(world, 50)) node->disk_map = epoch;
    kith_replica_step_configure(node->step, &world->configs[epoch], sim_node_now_ns(world, node));
}

void sim_node_start(sim_world *world, sim_node *node) {
    if (node->up) return;
    node->up = true;
    node->process = ++world->process;
    node->end = node->durable = node->disk_end;
    memcpy(node->log, node->disk, (node->end + 1) * sizeof *node->log);
    if (node->disk_committed > node->end) node->disk_committed = node->end;
    node->applied = node->told = node->disk_committed;
    node->write_first = node->write_last = node->wait_count = 0;
    node->tick_at_ns = UINT64_MAX;
    node->disk_free_ns = 0;
    node->fetch_from = 0;
    step_make(world, node);
    node->made = true;
    TRACE(world, "node %u starts with %llu entries, committed %llu, map %llu%s", node->number,
        (unsigned long long)node->end, (unsigned long long)node->applied, (unsigned long long)node->disk_map,
        node->disk_failed ? ", to be replaced" : "");
    if (node->disk_failed) kith_replica_step_failed(node->step, sim_node_now_ns(world, node));
    if (node->disk_map) configure(world, node, node->disk_map);
    sim_node_run(world, node);
    sim_meta_pull(world, node);
}

/* Of what its disk had not yet: some is there all the same, in order. A machine's clock begins anew. */
void sim_node_crash(sim_world *world, sim_node *node, bool machine) {
    if (!node->up) return;
    TRACE(world, "node %u dies%s", node->number, machine ? " with its machine" : "");
    world->outcome->crashes++;
    uint64_t kept = sim_below(world, node->write_last - node->write_first + 1);
    for (uint64_t i = 0; i < kept && !machine; i++) {
        sim_write *write = &node->writes[node->write_first++ % SIM_REPLICA_ENTRIES_MAX];
        node->disk_end = write->sequence;
        node->disk[write->sequence] = write->entry;
    }
    for (uint64_t i = 1; i <= node->disk_end; i++)
        node->disk[i].own = false;
    kith_replica_step_destroy(node->step);
    node->step = NULL;
    node->up = false;
    node->paused_until_ns = 0;
    if (machine) node->clock_ns = sim_below(world, 20) * LEASE_NS / 4;
}

static void disk_erase(sim_node *node) {
    node->disk_end = node->disk_committed = 0;
    node->disk_first = 1;
}

/* It lost some of what it had, and knows. */
void sim_node_fail(sim_world *world, sim_node *node) {
    TRACE(world, "node %u finds its files broken", node->number);
    node->disk_failed = true;
    if (sim_percent(world, 50)) disk_erase(node);
    if (!node->up) return;
    kith_replica_step_failed(node->step, sim_node_now_ns(world, node));
    sim_node_run(world, node);
}

void sim_node_trim(sim_world *world, sim_node *node) {
    if (!node->up || node->disk_failed || node->applied == 0) return;
    uint64_t first = 1 + sim_below(world, node->applied + 1);
    if (first > node->disk_committed + 1) first = node->disk_committed + 1;
    if (first <= node->disk_first) return;
    node->disk_first = first;
    kith_replica_step_trimmed(node->step, first);
}

/* --- being replaced --- */

static void install_begin(sim_world *world, sim_node *node, uint32_t from) {
    if (!node->fetch_from)
        sim_at(world, sim_delay_ns(world),
            (sim_event){.kind = SIM_EVENT_FETCH, .node = node->number, .process = node->process});
    node->fetch_from = from;
    node->disk_failed = true;
    disk_erase(node);
    node->write_first = node->write_last;
    TRACE(world, "node %u is replaced from %u", node->number, from);
}

static void fetched(sim_world *world, sim_node *node) {
    sim_node *from = &world->nodes[node->fetch_from];
    bool lost =
        sim_is_lost(world, node->number, from->number) || sim_is_lost(world, from->number, node->number);
    if (lost || !from->up || from->disk_failed || from->paused_until_ns > world->now_ns) {
        sim_at(world, 20 * MS,
            (sim_event){.kind = SIM_EVENT_FETCH, .node = node->number, .process = node->process});
        return;
    }
    uint64_t end = from->applied;
    memcpy(node->log, from->log, (end + 1) * sizeof *node->log);
    for (uint64_t i = 1; i <= end; i++)
        node->log[i].own = false;
    memcpy(node->disk, node->log, (end + 1) * sizeof *node->log);
    node->end = node->durable = node->applied = node->told = node->disk_end = node->disk_committed = end;
    node->disk_first = end + 1;
    node->disk_failed = false;
    node->fetch_from = 0;
    node->write_first = node->write_last;
    node->wait_count = 0;
    world->outcome->installs++;
    TRACE(world, "node %u has a snapshot up to %llu", node->number, (unsigned long long)end);
    kith_replica_position position = {end ? node->log[end].epoch : 0, end};
    kith_replica_step_installed(node->step, position, sim_node_now_ns(world, node));
}

/* --- messages --- */

static sim_call *call_of(sim_world *world, uint32_t id) {
    sim_call *call = &world->calls[id % CALLS];
    return call->id == id ? call : NULL;
}

static void send(sim_world *world, sim_node *node, const kith_replica_action *action) {
    uint32_t id = ++world->call_last;
    sim_call *call = &world->calls[id % CALLS];
    uint32_t count = action->last + 1 > action->first ? (uint32_t)(action->last + 1 - action->first) : 0;
    if (count > world->batch_max) count = world->batch_max; /* as the glue may, of what it reads back */
    *call = (sim_call){.id = id,
        .from = node->number,
        .to = action->peer,
        .process = node->process,
        .send_id = action->send_id,
        .append = {.epoch = action->epoch,
            .previous = action->position,
            .committed = action->committed,
            .echo_ns = action->echo_ns,
            .snapshot_needed = action->snapshot_needed,
            .entry_count = count}};
    for (uint32_t i = 0; i < count; i++) {
        call->entries[i] = node->log[action->first + i];
        call->entries[i].own = false;
        call->entry_epochs[i] = call->entries[i].epoch;
    }
    call->append.entry_epochs = call->entry_epochs;
    if (!sim_is_lost(world, node->number, action->peer))
        sim_at(
            world, sim_delay_ns(world), (sim_event){.kind = SIM_EVENT_APPEND, .node = action->peer, .a = id});
    sim_at(world, LEASE_NS / 4 + sim_below(world, 4 * LEASE_NS),
        (sim_event){.kind = SIM_EVENT_TIMEOUT, .node = node->number, .process = node->process, .a = id});
}

static void answer(sim_world *world, sim_node *node, const kith_replica_action *action) {
    sim_call *call = call_of(world, (uint32_t)action->token);
    if (!call) return;
    call->reply = action->reply;
    call->reply.full = world->options.seed % 4 == 0 && call->id % FULL_EVERY == 0;
    if (sim_is_lost(world, node->number, call->from)) return;
    sim_at(world, sim_delay_ns(world),
        (sim_event){.kind = SIM_EVENT_REPLY, .node = call->from, .process = call->process, .a = call->id});
}

static void append_received(sim_world *world, sim_node *node, uint32_t id) {
    sim_call *call = call_of(world, id);
    if (!call) return;
    kith_replica_step_received(node->step, call->from, &call->append, id, sim_node_now_ns(world, node));
}

static void entries_append(sim_world *world, sim_node *node, const kith_replica_action *action) {
    sim_call *call = call_of(world, (uint32_t)action->token);
    uint64_t previous = call->append.previous.sequence;
    for (uint64_t i = action->first; i <= action->last; i++)
        sim_node_append(world, node, &call->entries[i - previous - 1]);
}

static void answered(sim_world *world, sim_node *node, uint32_t id, bool came) {
    sim_call *call = call_of(world, id);
    if (!call || call->ended) return;
    call->ended = true;
    kith_replica_step_answered(
        node->step, call->to, call->send_id, came ? &call->reply : NULL, sim_node_now_ns(world, node));
}

static void proposed(sim_world *world, sim_node *node, uint32_t id, bool late) {
    sim_proposal *proposal = &world->proposals[id % CALLS];
    if (proposal->ended) return;
    proposal->ended = true;
    kith_replica_step_proposed(
        node->step, late ? KITH_REPLICA_PROPOSAL_UNKNOWN : proposal->outcome, sim_node_now_ns(world, node));
}

/* --- actions --- */

static void epoch_start(sim_world *world, sim_node *node, const kith_replica_action *action) {
    sim_replica_check_appended(&world->check, node->process, action->position.epoch);
    sim_node_append(world, node, &(sim_replica_entry){.epoch = action->position.epoch});
    TRACE(world, "node %u begins epoch %llu with entry %llu", node->number,
        (unsigned long long)action->position.epoch, (unsigned long long)node->end);
    if (node->end != action->position.sequence)
        sim_replica_check_fail(
            &world->check, "node %u begins an epoch elsewhere than its log ends", node->number);
}

static void carry_out(sim_world *world, sim_node *node, const kith_replica_action *action) {
    switch (action->kind) {
    case KITH_REPLICA_NOTHING:
        break;
    case KITH_REPLICA_SEND:
        send(world, node, action);
        break;
    case KITH_REPLICA_START_EPOCH:
        epoch_start(world, node, action);
        break;
    case KITH_REPLICA_TRUNCATE:
        truncate(world, node, action->first);
        break;
    case KITH_REPLICA_APPEND:
        entries_append(world, node, action);
        break;
    case KITH_REPLICA_ANSWER:
        answer(world, node, action);
        break;
    case KITH_REPLICA_COMMIT:
        node->told = action->last;
        apply(world, node);
        break;
    case KITH_REPLICA_PROPOSE:
        sim_meta_propose(world, node, &action->config);
        break;
    case KITH_REPLICA_PULL_MAP:
        sim_meta_pull(world, node);
        break;
    case KITH_REPLICA_INSTALL:
        install_begin(world, node, action->peer);
        break;
    }
}

static void tick_set(sim_world *world, sim_node *node) {
    uint64_t due_ns = kith_replica_step_due_ns(node->step);
    if (due_ns == UINT64_MAX) {
        node->tick_at_ns = UINT64_MAX;
        return;
    }
    uint64_t at_ns = world_ns_of(node, due_ns);
    if (at_ns <= world->now_ns) at_ns = world->now_ns + 1024;
    if (at_ns >= node->tick_at_ns && node->tick_at_ns > world->now_ns) return; /* it is looked at then */
    node->tick_at_ns = at_ns;
    sim_at(world, at_ns - world->now_ns,
        (sim_event){
            .kind = SIM_EVENT_TICK, .node = node->number, .process = node->process, .a = ++node->tick});
}

void sim_node_run(sim_world *world, sim_node *node) {
    kith_replica_action action;
    while (
        !world->check.violated && kith_replica_step_next(node->step, sim_node_now_ns(world, node), &action))
        carry_out(world, node, &action);
    tick_set(world, node);
}

void sim_node_event(sim_world *world, sim_node *node, const sim_event *event) {
    if (event->kind == SIM_EVENT_START) sim_node_start(world, node);
    if (!node->up || (event->process && event->process != node->process)) return;
    switch (event->kind) {
    case SIM_EVENT_APPEND:
        append_received(world, node, event->a);
        break;
    case SIM_EVENT_REPLY:
        answered(world, node, event->a, true);
        break;
    case SIM_EVENT_TIMEOUT:
        answered(world, node, event->a, false);
        break;
    case SIM_EVENT_SYNC:
        if (node->write_first != node->write_last) synced(world, node);
        break;
    case SIM_EVENT_MAP:
        configure(world, node, event->a);
        break;
    case SIM_EVENT_PROPOSED:
        proposed(world, node, event->a / 2, event->a % 2);
        break;
    case SIM_EVENT_FETCH:
        fetched(world, node);
        break;
    case SIM_EVENT_TICK:
        if (event->a != node->tick) return;
        node->tick_at_ns = UINT64_MAX;
        kith_replica_step_tick(node->step, sim_node_now_ns(world, node));
        break;
    default:
        break;
    }
    sim_node_run(world, node);
}
