#include "tests/sim/sim_cluster_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "tests/sim/sim_data_node.h"

#define IN_FLIGHT  64u
#define IDLE_POLLS 4u /* after everything has stopped: late tasks of requests and timers */

void sim_node_tell(const sim_node *node, const char *format, ...) {
    char text[SIM_NODE_TEXT_BYTES];
    if (!node->options.tell) return;
    size_t bytes = (size_t)snprintf(text, sizeof text, "%s: ", sim_node_address(node->options.number));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + bytes, sizeof text - bytes, format, arguments);
    va_end(arguments);
    node->options.tell(node->options.ctx, text);
}

const char *sim_mutant_name(sim_mutant mutant) {
    static const char *const names[SIM_MUTANTS] = {"none", "1 term unsynced", "2 log unsynced",
        "3 names unsynced", "4 disk forgotten", "5 data unsynced", "6 store unflushed", "7 doubt forgotten"};
    return names[mutant];
}

const char *sim_node_address(uint32_t number) {
    static const char *const addresses[] = {"n0:7442", "n1:7442", "n2:7442", "n3:7442", "n4:7442", "n5:7442",
        "n6:7442", "n7:7442", "n8:7442", "n9:7442", "na:7442", "nb:7442", "nc:7442", "nd:7442", "ne:7442",
        "nf:7442"};
    kith_assert(number < sizeof addresses / sizeof addresses[0]);
    return addresses[number];
}

/* In an order that is not that of the numbers. */
kith_node_id sim_node_id(uint32_t number) {
    kith_node_id id = {{(uint8_t)(number * 37 + 11), (uint8_t)number}};
    id.bytes[15] = 1;
    return id;
}

void sim_node_blame(sim_node *node, const char *format, ...) {
    char text[SIM_NODE_TEXT_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (node->violation[0]) return;
    snprintf(node->violation, sizeof node->violation, "%s: %s", sim_node_address(node->options.number), text);
}

void sim_node_failed(sim_node *node, const kith_err *err, const char *what) {
    sim_node_tell(node, "%s: %s", what, err->text);
    if (node->corrupt_allowed) { /* a flipped number of a version is no version that can be read */
        snprintf(node->corruption, sizeof node->corruption, "%.500s", err->text);
    } else {
        sim_node_blame(node, "%s: %.250s", what, err->text);
    }
}

bool sim_node_flip(sim_node *node, const char *part) {
    char path[256];
    uint64_t offset;
    if (!sim_env_flip_any(node->machine, part, path, sizeof path, &offset)) return false;
    sim_node_tell(node, "a bit of %s at %llu is flipped", path, (unsigned long long)offset);
    node->corrupt_allowed = true;
    return true;
}

void sim_node_wall_jump(sim_node *node, int64_t ms) {
    sim_node_tell(node, "the wall clock jumps by %lld ms", (long long)ms);
    sim_env_wall_jump(node->machine, ms);
}

bool sim_node_shard_digest(sim_node *node, uint64_t shard_id, uint64_t *digest_out) {
    if (node->state != SIM_NODE_RUNNING || !node->data) return false;
    return sim_data_part_digest(node->data, shard_id, digest_out);
}

const char *sim_node_corruption(const sim_node *node) {
    return node->corruption[0] ? node->corruption : NULL;
}

void sim_node_map_show(sim_node *node, const kith_meta_state *state) {
    if (!node->options.check || state->map_version == node->shown_version) return;
    kith_buf buf;
    kith_buf_init(&buf);
    const kith_meta_fsm view = {.state = *state}; /* borrowed, to be encoded */
    kith_meta_fsm_map(&view, &buf);
    node->shown_version = state->map_version;
    sim_check_map(node->options.check, node->options.number, buf.data, buf.bytes);
    kith_buf_fini(&buf);
}

static void lies_set(const sim_node *node) {
    switch (node->options.mutant) {
    case SIM_MUTANT_TERM_UNSYNCED:
        sim_env_lie(node->machine, SIM_FAIL_SYNC, "term");
        break;
    case SIM_MUTANT_LOG_UNSYNCED:
        sim_env_lie(node->machine, SIM_FAIL_SYNC, "raft-log");
        break;
    case SIM_MUTANT_DATA_UNSYNCED:
        sim_env_lie(node->machine, SIM_FAIL_SYNC, "/data/log");
        break;
    case SIM_MUTANT_NAMES_UNSYNCED:
        sim_env_lie(node->machine, SIM_FAIL_DIR_SYNC, "");
        break;
    default:
        break;
    }
}

sim_node *sim_node_create(const sim_node_options *options) {
    sim_node *node = kith_alloc_zero(sizeof *node);
    node->options = *options;
    node->machine = options->machine;
    node->env = sim_env_kith(node->machine);
    node->id = sim_node_id(options->number);
    node->host = kith_transport_sim_host(options->network, sim_node_address(options->number));
    lies_set(node);
    if (options->data && !options->is_coordinator) node->data = sim_data_part_create(node, options->data);
    return node;
}

void sim_node_destroy(sim_node *node) {
    if (!node) return;
    kith_assert(node->transport == NULL);
    sim_data_part_destroy(node->data);
    sim_env_destroy(node->machine);
    kith_free(node);
}

sim_node_state sim_node_state_of(const sim_node *node) {
    return node->state;
}

/* --- starting --- */

static kith_status executors_create(sim_node *node, kith_err *err) {
    kith_status status = kith_executor_create(node->env, "node", 1, &node->executor, err);
    if (status != KITH_OK || node->options.one_executor) return status;
    return kith_executor_create(node->env, "disk", 1, &node->disk_executor, err);
}

static kith_status transport_create(sim_node *node, kith_err *err) {
    const kith_transport_sim_options options = {.env = node->env,
        .network = node->options.network,
        .node = node->id,
        .address = sim_node_address(node->options.number),
        .in_flight_max = IN_FLIGHT};
    kith_transport_sim_power_set(node->options.network, node->host, KITH_TRANSPORT_SIM_UP);
    return kith_transport_sim_create(&options, &node->transport, err);
}

static kith_status parts_start(sim_node *node, kith_err *err) {
    kith_status status = executors_create(node, err);
    if (status == KITH_OK) status = transport_create(node, err);
    if (status != KITH_OK) return status;
    return node->options.is_coordinator ? sim_coordinator_create(node, err) : sim_member_create(node, err);
}

static void disk_forget(sim_node *node) {
    sim_env *fresh = sim_env_create_beside(node->machine, node->options.number);
    sim_env_destroy(node->machine);
    node->machine = fresh;
    node->env = sim_env_kith(fresh);
    node->has_been = false;
}

void sim_node_start(sim_node *node) {
    kith_err err;
    kith_assert(node->state == SIM_NODE_OFF);
    if (node->crashed && node->options.mutant == SIM_MUTANT_DISK_FORGOTTEN) {
        disk_forget(node);
    } else if (node->crashed) {
        sim_env_restart(node->machine);
    }
    /* A coordinator learns only from others how much of its log counts; a dead disk may have lost a member's last map. */
    if (node->options.check && (node->options.is_coordinator || node->crashed))
        sim_check_map_forgotten(node->options.check, node->options.number);
    node->crashed = false;
    node->shown_version = 0;
    node->started_wall_ms = kith_env_wall_ms(node->env);
    sim_node_tell(node, "starts");
    kith_status status = parts_start(node, &err);
    node->state = SIM_NODE_RUNNING;
    if (status == KITH_OK) return;
    if (sim_env_crashed(node->machine)) {
        sim_node_crash(node, SIM_CRASH_LOSE_ALL, KITH_TRANSPORT_SIM_SILENT); /* in the middle of it */
    } else {
        sim_node_stop(node);
        sim_node_failed(node, &err, "cannot start");
    }
}

/* --- stopping --- */

void sim_node_part_stopped(void *ctx) {
    sim_node *node = ctx;
    kith_assert(node->stops_left > 0);
    node->stops_left--;
}

void sim_node_stop(sim_node *node) {
    kith_assert(node->state == SIM_NODE_RUNNING);
    sim_node_pause(node, false);
    node->state = SIM_NODE_STOPPING;
    node->idle_polls = 0;
    node->leads = false;
    if (node->options.is_coordinator) {
        sim_coordinator_stop(node);
    } else {
        sim_member_stop(node);
    }
}

void sim_node_crash(sim_node *node, sim_crash_mode mode, kith_transport_sim_power power) {
    kith_assert(node->state == SIM_NODE_RUNNING);
    kith_transport_sim_power_set(node->options.network, node->host, power);
    if (!sim_env_crashed(node->machine)) sim_env_crash(node->machine, mode);
    node->crashed = true;
    sim_node_stop(node); /* what is left of it in memory: it reaches neither disk nor network */
}

void sim_node_crash_soon(sim_node *node, uint64_t operations, sim_crash_mode mode) {
    sim_env_crash_at(node->machine, sim_env_op_count(node->machine) + operations, mode);
}

void sim_node_pause(sim_node *node, bool paused) {
    node->paused = paused;
    sim_env_pause(node->machine, paused);
}

bool sim_node_is_paused(const sim_node *node) {
    return node->paused;
}

static void parts_destroy(sim_node *node) {
    if (node->options.is_coordinator) {
        sim_coordinator_destroy(node);
    } else {
        sim_member_destroy(node);
    }
    kith_transport_destroy(node->transport);
    node->transport = NULL;
    kith_executor_destroy(node->disk_executor);
    kith_executor_destroy(node->executor);
    node->executor = node->disk_executor = NULL;
}

static void stopping_poll(sim_node *node) {
    if (node->stops_left > 0) return;
    if (node->idle_polls++ == 0 && !node->crashed)
        kith_transport_sim_power_set(node->options.network, node->host, KITH_TRANSPORT_SIM_REFUSING);
    if (node->idle_polls < IDLE_POLLS) return;
    parts_destroy(node);
    if (!node->crashed)
        kith_transport_sim_power_set(node->options.network, node->host, KITH_TRANSPORT_SIM_UP);
    node->state = node->removed ? SIM_NODE_GONE : SIM_NODE_OFF;
    sim_node_tell(node, "is off");
}

void sim_node_health_look(sim_node *node) {
    if (node->state == SIM_NODE_RUNNING && node->data) sim_data_part_health_look(node->data);
}

bool sim_node_shard_in_doubt(sim_node *node, uint64_t shard_id) {
    return node->state == SIM_NODE_RUNNING && node->data && sim_data_part_in_doubt(node->data, shard_id);
}

void sim_node_shard_tell(sim_node *node, uint64_t shard_id) {
    if (node->state == SIM_NODE_RUNNING && node->data) sim_data_part_tell(node->data, shard_id);
}

const kith_meta_state *sim_node_meta(const sim_node *node) {
    return node->state == SIM_NODE_RUNNING && node->options.is_coordinator ? &node->fsm.state : NULL;
}

uint64_t sim_node_map_version(const sim_node *node) {
    if (node->state != SIM_NODE_RUNNING) return 0;
    return node->options.is_coordinator ? node->fsm.state.map_version
                                        : kith_meta_client_map_version(node->client);
}

const char *sim_node_violation(const sim_node *node) {
    return node->violation[0] ? node->violation : NULL;
}

void sim_node_poll(sim_node *node) {
    if (node->state == SIM_NODE_STOPPING) stopping_poll(node);
    if (node->state != SIM_NODE_RUNNING) return;
    if (sim_env_crashed(node->machine)) {
        sim_node_tell(node, "died in the middle of a file operation");
        sim_node_crash(node, SIM_CRASH_LOSE_ALL, KITH_TRANSPORT_SIM_SILENT);
    } else if (node->removed) {
        sim_node_stop(node);
    } else if (!node->has_been && sim_node_voter_count(node) > 0) {
        node->has_been = true;
    }
}
