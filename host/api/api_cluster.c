/* Status and shards: what the leader says, and what the map says. */
#include "host/api/api_cluster.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "host/api/api_cluster_internal.h"

void cluster_answer(
    cluster_run *run, kith_status status, const kith_api_cluster_answer *answer, const kith_err *err) {
    kith_api_cluster_call *call = run->call;
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, answer, err);
    kith_api_leave(&entered);
}

/* As a write, of no bytes: a flood of searches does not hide what is going on. */
kith_status cluster_enter(
    kith_api *api, kith_api_cluster_call *call, const char *name, cluster_run **run_out, kith_err *err) {
    cluster_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status =
        kith_api_enter(api, &call->call, KITH_API_WRITE, 0, name, name ? strlen(name) : 0, &run->run, err);
    if (status == KITH_OK) *run_out = run;
    return status;
}

kith_status cluster_is_remote_check(const kith_api *api, const char *deed, kith_err *err) {
    if (api->options.meta->is_remote) return KITH_OK;
    return kith_err_set(err, KITH_PRECONDITION,
        "a standalone server is a cluster of one: %s; `kith cluster up` shows one of several nodes", deed);
}

void cluster_leader_ask(cluster_run *run, kith_codec_coordinator_kind kind, const kith_node_id *id,
    const char *address,
    void (*done)(cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply,
        const kith_err *err)) {
    memset(&run->ask, 0, sizeof run->ask);
    run->ask.run = &run->run;
    run->ask.api_call = &run->call->call;
    run->ask.request = (kith_codec_coordinator_request){.kind = kind, .address = address ? address : ""};
    if (id) run->ask.request.node_id = *id;
    run->ask.waits = run->is_change;
    run->ask.done = done;
    cluster_ask_start(&run->ask);
}

/* --- nodes --- */

static void shards_count(const kith_meta_map *map, uint32_t *counts) {
    for (uint32_t i = 0; i < map->entry_count; i++) {
        const kith_meta_entry *entry = map->entries[i];
        size_t places = (size_t)entry->collection.shard_count * entry->replica_width;
        for (size_t at = 0; at < places; at++) {
            if (entry->shard_replicas[at] != KITH_META_NODE_NONE) counts[entry->shard_replicas[at]]++;
        }
    }
}

kith_codec_coordinator_node *cluster_nodes_of_map(
    const kith_meta_map *map, kith_arena *arena, uint32_t *count_out) {
    uint32_t *counts = kith_arena_alloc_zero(arena, (map->node_count + 1) * sizeof *counts);
    kith_codec_coordinator_node *nodes = kith_arena_alloc_zero(arena, (map->node_count + 1) * sizeof *nodes);
    uint32_t count = 0;
    shards_count(map, counts);
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].number == KITH_META_NUMBER_NOBODY) continue;
        nodes[count].heartbeat =
            (kith_codec_heartbeat){.node = map->nodes[i], .shards = counts[i], .health = ""};
        count++;
    }
    *count_out = count;
    return nodes;
}

void cluster_map_renew(cluster_run *run) {
    kith_meta_map_release(run->run.map);
    run->run.map = kith_meta_map_get(run->run.api->options.meta);
}

static bool id_begins_with(const kith_node_id *id, const char *text) {
    char own[KITH_NODE_ID_TEXT_BYTES];
    kith_node_id_text(id, own);
    return strncasecmp(own, text, strlen(text)) == 0;
}

/* By name where one has it, else by the beginning of an id. */
kith_status cluster_node_find(const kith_codec_coordinator_node *nodes, uint32_t count, const char *text,
    const kith_codec_coordinator_node **node_out, kith_err *err) {
    const kith_codec_coordinator_node *named = NULL, *begun = NULL;
    uint32_t named_count = 0, begun_count = 0;
    if (!text[0]) return kith_err_set(err, KITH_INVALID, "node: none is named; its id or its name is needed");
    for (uint32_t i = 0; i < count; i++) {
        const kith_node *node = &nodes[i].heartbeat.node;
        if (strcmp(node->name, text) == 0) {
            named = &nodes[i];
            named_count++;
        }
        if (id_begins_with(&node->id, text)) {
            begun = &nodes[i];
            begun_count++;
        }
    }
    uint32_t meant = named_count ? named_count : begun_count;
    if (meant == 0)
        return kith_err_set(
            err, KITH_NOT_FOUND, "node: there is none called \"%s\", nor with such an id", text);
    if (meant > 1) {
        return kith_err_set(
            err, KITH_INVALID, "node: \"%s\" may be any of %u nodes; write more of its id", text, meant);
    }
    *node_out = named ? named : begun;
    return KITH_OK;
}

/* --- status --- */

static void status_answer(cluster_run *run, kith_codec_cluster_status *status) {
    kith_api_cluster_answer answer = {.status = status};
    cluster_answer(run, KITH_OK, &answer, NULL);
}

/* What they say of their shards gives way to what the map says of them: that is what would be lost with them. */
static kith_codec_coordinator_node *nodes_of_leader(
    const cluster_run *run, const kith_codec_coordinator_reply *reply) {
    kith_arena *arena = run->call->call.arena;
    uint32_t known_count;
    const kith_codec_coordinator_node *known = cluster_nodes_of_map(run->run.map, arena, &known_count);
    kith_codec_coordinator_node *nodes = kith_arena_array(arena, reply->node_count, sizeof *nodes);
    for (uint32_t i = 0; i < reply->node_count; i++) {
        nodes[i] = reply->nodes[i];
        kith_codec_heartbeat *said = &nodes[i].heartbeat;
        const kith_codec_coordinator_node *same =
            kith_codec_cluster_node_find(known, known_count, &said->node.id);
        said->shards = same ? same->heartbeat.shards : 0;
        if (said->node.down) said->health = "silent"; /* what it said last is not so any more */
    }
    return nodes;
}

static void status_done(
    cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply, const kith_err *err) {
    cluster_run *run = cluster_run_of(ask);
    kith_codec_cluster_status own = {.map_version = run->run.map->version, .leader_address = ""};
    own.problem = status == KITH_OK ? "" : err->text;
    if (reply) {
        own.term = reply->term;
        own.members = reply->members;
        own.member_count = reply->member_count;
        own.leader_id = reply->leader_id;
        own.leader_address = reply->leader_address;
    }
    if (reply && reply->map_version > own.map_version) own.map_version = reply->map_version;
    if (status == KITH_OK) {
        own.copying = reply->copying;
        own.nodes = nodes_of_leader(run, reply);
        own.node_count = reply->node_count;
    } else {
        own.nodes = cluster_nodes_of_map(run->run.map, run->call->call.arena, &own.node_count);
    }
    status_answer(run, &own);
}

/* A server of its own says of itself what nodes say in heartbeats. */
static void standalone_answer(cluster_run *run) {
    const kith_api_options *options = &run->run.api->options;
    kith_codec_cluster_status own = {
        .standalone = true, .map_version = run->run.map->version, .leader_address = "", .problem = ""};
    kith_codec_coordinator_node *nodes =
        cluster_nodes_of_map(run->run.map, run->call->call.arena, &own.node_count);
    kith_err err;
    if (own.node_count == 1) {
        kith_codec_heartbeat *self = &nodes[0].heartbeat;
        self->node.role = KITH_NODE_STANDALONE;
        self->map_version = own.map_version;
        self->health = "ok";
        if (options->describe) options->describe(options->ctx, self);
        if (kith_api_ready(run->run.api, &err) != KITH_OK) self->health = err.text;
    }
    own.nodes = nodes;
    status_answer(run, &own);
}

kith_status kith_api_cluster_status(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    kith_status status = cluster_enter(api, call, NULL, &run, err);
    if (status != KITH_OK) return status;
    if (api->options.meta->is_remote)
        cluster_leader_ask(run, KITH_CODEC_COORDINATOR_STATUS, NULL, NULL, status_done);
    else
        standalone_answer(run);
    return KITH_OK;
}

/* --- shards --- */

static kith_codec_cluster_replica replica_of(const kith_node *node, bool in_sync) {
    return (kith_codec_cluster_replica){
        .id = node->id, .name = node->name, .up = !node->down, .in_sync = in_sync};
}

kith_codec_cluster_shard cluster_shard_of(
    const kith_meta_map *map, const kith_meta_entry *entry, uint32_t index, kith_arena *arena) {
    uint32_t width = entry->replica_width, count = 0;
    const uint16_t *places = entry->shard_replicas + (size_t)index * width;
    kith_codec_cluster_replica *replicas = kith_arena_array(arena, width, sizeof *replicas);
    for (uint32_t i = 0; i < width; i++) {
        if (places[i] == KITH_META_NODE_NONE) continue;
        replicas[count++] = replica_of(&map->nodes[places[i]], entry->shard_in_sync[index] >> i & 1);
    }
    return (kith_codec_cluster_shard){.id = entry->collection.shard_id_first + index,
        .index = index,
        .epoch = entry->shard_epochs[index],
        .replica_count = count,
        .replicas = replicas};
}

static kith_codec_cluster_collection collection_of(
    const kith_meta_map *map, const kith_meta_entry *entry, kith_arena *arena) {
    uint32_t shard_count = entry->collection.shard_count;
    kith_codec_cluster_shard *shards = kith_arena_array(arena, shard_count, sizeof *shards);
    for (uint32_t i = 0; i < shard_count; i++)
        shards[i] = cluster_shard_of(map, entry, i, arena);
    return (kith_codec_cluster_collection){
        .name = entry->collection.name, .shard_count = shard_count, .shards = shards};
}

kith_status kith_api_cluster_shards(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    cluster_run *run;
    kith_status status = cluster_enter(api, call, call->text[0] ? call->text : NULL, &run, err);
    if (status != KITH_OK) return status;
    const kith_meta_map *map = run->run.map;
    const kith_meta_entry *const *entries = (const kith_meta_entry *const *)map->entries;
    uint32_t count = map->entry_count;
    if (call->text[0]) {
        entries = &run->run.entry;
        count = 1;
    }
    kith_codec_cluster_collection *collections =
        kith_arena_array(call->call.arena, count, sizeof *collections);
    for (uint32_t i = 0; i < count; i++)
        collections[i] = collection_of(map, entries[i], call->call.arena);
    kith_codec_cluster_shards shards = {
        .map_version = map->version, .collection_count = count, .collections = collections};
    kith_api_cluster_answer answer = {.shards = &shards};
    cluster_answer(run, KITH_OK, &answer, NULL);
    return KITH_OK;
}
