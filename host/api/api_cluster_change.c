/* Join, leave, drain and accept-loss. */
#include <stdio.h>
#include <string.h>

#include "host/api/api_cluster_internal.h"

static void fail(cluster_run *run, kith_status status, const kith_err *err) {
    cluster_answer(run, status, NULL, err);
}

static bool is_member(const kith_codec_coordinator_reply *reply, const kith_node_id *id) {
    for (uint32_t i = 0; i < reply->member_count; i++) {
        if (kith_node_id_equal(&reply->members[i].id, id)) return true;
    }
    return false;
}

/* --- join: who is there; is it one of ours already; then it is added --- */

static void join_answer(cluster_run *run, const kith_codec_coordinator_reply *reply) {
    run->join.members = reply->members;
    run->join.member_count = reply->member_count;
    kith_api_cluster_answer answer = {.join = &run->join};
    cluster_answer(run, KITH_OK, &answer, NULL);
}

static void joined(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply, const kith_err *err) {
    cluster_run *run = cluster_run_of(ask);
    if (status != KITH_OK) {
        fail(run, status, err);
        return;
    }
    run->join.joined = true;
    join_answer(run, reply);
}

/* Under the address by which it calls itself, where it has said it: "localhost" is somebody else elsewhere. */
static const char *join_address(const cluster_run *run, const kith_codec_coordinator_reply *leader) {
    const kith_codec_coordinator_node *known =
        kith_codec_cluster_node_find(leader->nodes, leader->node_count, &run->join.id);
    return known ? known->heartbeat.node.address : run->call->text;
}

static void join_leader_known(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *leader, const kith_err *err) {
    cluster_run *run = cluster_run_of(ask);
    kith_err own;
    if (status != KITH_OK) {
        fail(run, status, err);
    } else if (is_member(leader, &run->join.id)) {
        join_answer(run, leader);
    } else if (!run->is_fresh) {
        status = kith_err_set(&own, KITH_PRECONDITION,
            "the coordinator at %s is of another cluster, or was of this one: to join it starts with an "
            "empty "
            "data_dir",
            run->call->text);
        fail(run, status, &own);
    } else {
        cluster_leader_ask(
            run, KITH_CODEC_COORDINATOR_JOIN, &run->join.id, join_address(run, leader), joined);
    }
}

static void join_found(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply, const kith_err *err) {
    cluster_run *run = cluster_run_of(ask);
    kith_err own;
    if (status == KITH_OK) {
        run->join.id = reply->self_id;
        run->is_fresh = reply->fresh;
        cluster_leader_ask(run, KITH_CODEC_COORDINATOR_STATUS, NULL, NULL, join_leader_known);
    } else if (status == KITH_UNIMPLEMENTED) {
        status = kith_err_set(&own, KITH_PRECONDITION, "the node at %s is no coordinator", run->call->text);
        fail(run, status, &own);
    } else {
        status =
            kith_err_set(&own, status, "no coordinator answers at %s: %.300s", run->call->text, err->text);
        fail(run, status, &own);
    }
}

kith_status kith_api_cluster_join(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    kith_status status = cluster_is_remote_check(api, "nothing joins it", err);
    if (status == KITH_OK) status = kith_node_address_check("address", call->text, false, err);
    if (status == KITH_OK) status = cluster_enter(api, call, NULL, &run, err);
    if (status != KITH_OK) return status;
    run->is_change = true;
    run->ask.run = &run->run;
    run->ask.api_call = &call->call;
    run->ask.request.kind = KITH_CODEC_COORDINATOR_STATUS;
    run->ask.request.address = "";
    run->ask.address = call->text;
    run->ask.done = join_found;
    cluster_ask_start(&run->ask);
    return KITH_OK;
}

/* --- leave: out of Raft, if it is there; then out of the metadata --- */

static void node_answer(cluster_run *run) {
    kith_api_cluster_answer answer = {.node = &run->node};
    cluster_answer(run, KITH_OK, &answer, NULL);
}

static void removed(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    (void)collection;
    (void)changed;
    cluster_run *run = (cluster_run *)(void *)((char *)proposal - offsetof(cluster_run, proposal));
    if (status == KITH_OK || status == KITH_NOT_FOUND)
        node_answer(run);
    else
        fail(run, status, err);
}

static void propose(cluster_run *run, kith_codec_meta_kind kind,
    void (*done)(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
        bool changed, const kith_err *err)) {
    run->proposal.command.kind = kind;
    run->proposal.command.node.id = run->node.heartbeat.node.id;
    run->proposal.command.node.draining = run->call->draining;
    run->proposal.deadline_ns = run->call->call.deadline_ns;
    run->proposal.done = done;
    kith_meta_propose(run->run.api->options.meta, &run->proposal);
}

static void remove_start(cluster_run *run) {
    if (run->is_listed)
        propose(run, KITH_CODEC_META_REMOVE_NODE, removed);
    else
        node_answer(run);
}

static void left(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply, const kith_err *err) {
    (void)reply;
    cluster_run *run = cluster_run_of(ask);
    if (status == KITH_OK)
        remove_start(run);
    else
        fail(run, status, err);
}

/* Among the nodes that have reported, and the coordinators, which need not have. */
static kith_status leaver_find(cluster_run *run, const kith_codec_coordinator_reply *leader, kith_err *err) {
    kith_codec_coordinator_node *all =
        kith_arena_array(run->call->call.arena, leader->node_count + leader->member_count, sizeof *all);
    uint32_t count = leader->node_count;
    for (uint32_t i = 0; i < count; i++)
        all[i] = leader->nodes[i];
    for (uint32_t i = 0; i < leader->member_count; i++) {
        const kith_codec_coordinator_member *member = &leader->members[i];
        if (kith_codec_cluster_node_find(all, count, &member->id)) continue;
        all[count] = (kith_codec_coordinator_node){.heartbeat = {.health = ""}};
        kith_node *node = &all[count++].heartbeat.node;
        node->id = member->id;
        node->role = KITH_NODE_COORDINATOR;
        node->down = true;
        kith_node_id_text(&member->id, node->name);
        snprintf(node->address, sizeof node->address, "%s", member->address);
    }
    const kith_codec_coordinator_node *found;
    kith_status status = cluster_node_find(all, count, run->call->text, &found, err);
    if (status != KITH_OK) return status;
    run->node = *found;
    run->is_listed = found < all + leader->node_count;
    return KITH_OK;
}

static void leave_leader_known(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *leader, const kith_err *err) {
    cluster_run *run = cluster_run_of(ask);
    kith_err own;
    if (status != KITH_OK) {
        fail(run, status, err);
        return;
    }
    status = leaver_find(run, leader, &own);
    const kith_node_id *id = &run->node.heartbeat.node.id;
    if (status != KITH_OK)
        fail(run, status, &own);
    else if (is_member(leader, id))
        cluster_leader_ask(run, KITH_CODEC_COORDINATOR_LEAVE, id, NULL, left);
    else
        remove_start(run);
}

kith_status kith_api_cluster_leave(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    kith_status status = cluster_is_remote_check(api, "no node can leave it", err);
    if (status == KITH_OK) status = cluster_enter(api, call, NULL, &run, err);
    if (status != KITH_OK) return status;
    run->is_change = true;
    cluster_leader_ask(run, KITH_CODEC_COORDINATOR_STATUS, NULL, NULL, leave_leader_known);
    return KITH_OK;
}

/* --- drain --- */

static void drained(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    (void)collection;
    (void)changed;
    cluster_run *run = (cluster_run *)(void *)((char *)proposal - offsetof(cluster_run, proposal));
    if (status != KITH_OK) {
        fail(run, status, err);
        return;
    }
    uint32_t count;
    cluster_map_renew(run); /* the map that shows it was published before this */
    const kith_codec_coordinator_node *nodes =
        cluster_nodes_of_map(run->run.map, run->call->call.arena, &count);
    const kith_codec_coordinator_node *now =
        kith_codec_cluster_node_find(nodes, count, &run->node.heartbeat.node.id);
    if (now) run->node = *now;
    node_answer(run);
}

kith_status kith_api_cluster_drain(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    uint32_t count;
    const kith_codec_coordinator_node *found;
    kith_status status = cluster_is_remote_check(api, "there is no other node for its shards", err);
    if (status == KITH_OK) status = cluster_enter(api, call, NULL, &run, err);
    if (status != KITH_OK) return status;
    const kith_codec_coordinator_node *nodes = cluster_nodes_of_map(run->run.map, call->call.arena, &count);
    status = cluster_node_find(nodes, count, call->text, &found, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    run->node = *found;
    propose(run, KITH_CODEC_META_DRAIN_NODE, drained);
    return KITH_OK;
}

/* --- accept-loss --- */

static void loss_accepted(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    (void)collection;
    (void)changed;
    cluster_run *run = (cluster_run *)(void *)((char *)proposal - offsetof(cluster_run, proposal));
    const kith_api_cluster_call *call = run->call;
    kith_err own;
    if (status != KITH_OK) {
        fail(run, status, err);
        return;
    }
    cluster_map_renew(run); /* the map that shows it was published before this */
    const kith_meta_entry *entry = kith_meta_map_find(run->run.map, call->text, strlen(call->text));
    if (!entry || call->shard >= entry->collection.shard_count) {
        status = kith_err_set(&own, KITH_NOT_FOUND, "collection \"%s\" was dropped meanwhile", call->text);
        fail(run, status, &own);
        return;
    }
    kith_codec_cluster_shard shard =
        cluster_shard_of(run->run.map, entry, call->shard, run->call->call.arena);
    kith_api_cluster_answer answer = {.shard = &shard};
    cluster_answer(run, KITH_OK, &answer, NULL);
}

/* Whether the node has a copy, and is up, is for the state to say. */
kith_status kith_api_cluster_accept_loss(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    uint32_t count;
    const kith_codec_coordinator_node *found;
    kith_status status = cluster_is_remote_check(api, "it has one copy of everything", err);
    if (status == KITH_OK) status = cluster_enter(api, call, call->text, &run, err);
    if (status != KITH_OK) return status;
    const kith_codec_coordinator_node *nodes = cluster_nodes_of_map(run->run.map, call->call.arena, &count);
    status = cluster_node_find(nodes, count, call->node, &found, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    run->node = *found;
    run->proposal.command.collection = run->run.entry->collection;
    run->proposal.command.shard_index = call->shard;
    propose(run, KITH_CODEC_META_ACCEPT_LOSS, loss_accepted);
    return KITH_OK;
}
