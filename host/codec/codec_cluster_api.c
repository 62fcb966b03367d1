/* kith.v1.Cluster: written with codec_wire.h, read with protobuf-c. Ids are UUIDs in text. */
#include "host/codec/codec_cluster_api.h"

#include <stdio.h>
#include <string.h>

#include "host/codec/codec_wire.h"
#include "host/model/id.h"

#include "kith/v1/cluster.pb-c.h"

_Static_assert((int)KITH_NODE_COORDINATOR == KITH__V1__NODE_ROLE__NODE_ROLE_COORDINATOR,
    "roles have the same numbers everywhere");
_Static_assert((int)KITH_NODE_STANDALONE == KITH__V1__NODE_ROLE__NODE_ROLE_STANDALONE,
    "roles have the same numbers everywhere");

const kith_codec_coordinator_node *kith_codec_cluster_node_find(
    const kith_codec_coordinator_node *nodes, uint32_t node_count, const kith_node_id *id) {
    for (uint32_t i = 0; i < node_count; i++) {
        if (kith_node_id_equal(&nodes[i].heartbeat.node.id, id)) return &nodes[i];
    }
    return NULL;
}

/* --- parts, written --- */

static void id_encode(const kith_node_id *id, uint32_t field, kith_buf *buf) {
    char text[KITH_NODE_ID_TEXT_BYTES];
    if (!kith_node_id_is_none(id)) kith_wire_text(buf, field, kith_node_id_text(id, text));
}

static void members_encode(
    const kith_codec_coordinator_member *members, uint32_t count, uint32_t field, kith_buf *buf) {
    for (uint32_t i = 0; i < count; i++) {
        size_t mark = kith_wire_open(buf, field);
        id_encode(&members[i].id, 1, buf);
        kith_wire_text(buf, 2, members[i].address);
        kith_wire_u64(buf, 3, members[i].voter);
        kith_wire_u64(buf, 4, members[i].leader);
        kith_wire_close(buf, mark);
    }
}

static void node_fields_encode(const kith_codec_coordinator_node *of, kith_buf *buf) {
    const kith_codec_heartbeat *said = &of->heartbeat;
    const kith_node *node = &said->node;
    id_encode(&node->id, 1, buf);
    kith_wire_text(buf, 2, node->name);
    kith_wire_u64(buf, 3, (uint64_t)node->role);
    kith_wire_text(buf, 4, node->address);
    kith_wire_text(buf, 5, node->grpc_address);
    kith_wire_text(buf, 6, node->http_address);
    kith_wire_text(buf, 7, node->zone);
    kith_wire_u64(buf, 8, node->weight);
    kith_wire_u64(buf, 9, !node->down);
    kith_wire_u64(buf, 10, node->draining);
    kith_wire_u64(buf, 11, said->shards);
    kith_wire_u64(buf, 12, of->silent_ms);
    kith_wire_u64(buf, 13, said->points);
    kith_wire_u64(buf, 14, said->vector_bytes);
    kith_wire_u64(buf, 15, said->disk_free_bytes);
    kith_wire_u64(buf, 16, said->map_version);
    kith_wire_text(buf, 17, said->health);
    kith_wire_u64(buf, 18, said->started_wall_ms);
}

static void node_encode(const kith_codec_coordinator_node *node, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    node_fields_encode(node, buf);
    kith_wire_close(buf, mark);
}

/* --- parts, read --- */

static void *answer_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_err *err) {
    void *message = kith_codec_unpack(descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) (void)kith_err_wrap(err, KITH_INTERNAL, "the server's answer is broken");
    return message;
}

static kith_status text_decode(
    ProtobufCBinaryData from, const char *what, kith_arena *arena, const char **text_out, kith_err *err) {
    if (kith_codec_text(from, what, arena, text_out, err) == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, KITH_INTERNAL, "the server's answer is broken");
}

/* Into an array of `room` bytes. */
static kith_status text_fill(ProtobufCBinaryData from, const char *what, size_t room, kith_arena *arena,
    char *text_out, kith_err *err) {
    const char *text;
    kith_status status = text_decode(from, what, arena, &text, err);
    if (status != KITH_OK) return status;
    if (from.len >= room) {
        return kith_err_set(err, KITH_INTERNAL,
            "the server's answer is broken: %s has %zu bytes, at most %zu are allowed", what, from.len,
            room - 1);
    }
    memcpy(text_out, text, from.len + 1);
    return KITH_OK;
}

static kith_status id_decode(
    ProtobufCBinaryData from, const char *what, kith_node_id *id_out, kith_err *err) {
    kith_id id;
    *id_out = (kith_node_id){{0}};
    if (from.len == 0) return KITH_OK;
    bool is_uuid = kith_id_from_text((const char *)from.data, from.len, id_out->bytes, &id, err) == KITH_OK &&
                   id.type == KITH_ID_UUID;
    if (is_uuid) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "the server's answer is broken: %s is not a UUID", what);
}

static kith_status members_decode(Kith__V1__ClusterCoordinator *const *messages, size_t count,
    kith_arena *arena, const kith_codec_coordinator_member **members_out, uint32_t *count_out,
    kith_err *err) {
    kith_codec_coordinator_member *members = kith_arena_array(arena, count, sizeof *members);
    for (size_t i = 0; i < count; i++) {
        members[i] =
            (kith_codec_coordinator_member){.voter = messages[i]->voter, .leader = messages[i]->leader};
        kith_status status = id_decode(messages[i]->id, "coordinators.id", &members[i].id, err);
        if (status == KITH_OK)
            status =
                text_decode(messages[i]->address, "coordinators.address", arena, &members[i].address, err);
        if (status != KITH_OK) return status;
    }
    *members_out = members;
    *count_out = (uint32_t)count;
    return KITH_OK;
}

static kith_status node_texts_decode(
    const Kith__V1__ClusterNode *message, kith_arena *arena, kith_node *node, kith_err *err) {
    const struct {
        ProtobufCBinaryData from;
        const char *what;
        size_t room;
        char *to;
    } texts[] = {
        {message->name, "name", sizeof node->name, node->name},
        {message->address, "address", sizeof node->address, node->address},
        {message->grpc_address, "grpc_address", sizeof node->grpc_address, node->grpc_address},
        {message->http_address, "http_address", sizeof node->http_address, node->http_address},
        {message->zone, "zone", sizeof node->zone, node->zone},
    };
    kith_status status = KITH_OK;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && status == KITH_OK; i++)
        status = text_fill(texts[i].from, texts[i].what, texts[i].room, arena, texts[i].to, err);
    return status;
}

static kith_status node_decode(const Kith__V1__ClusterNode *message, kith_arena *arena,
    kith_codec_coordinator_node *node_out, kith_err *err) {
    if (!message) return kith_err_set(err, KITH_INTERNAL, "the server's answer is broken: no node in it");
    *node_out = (kith_codec_coordinator_node){.silent_ms = message->silent_ms};
    kith_codec_heartbeat *said = &node_out->heartbeat;
    said->node = (kith_node){.role = (kith_node_role)message->role,
        .weight = message->weight,
        .down = !message->up,
        .draining = message->draining};
    said->shards = message->shards;
    said->points = message->points;
    said->vector_bytes = message->vector_bytes;
    said->disk_free_bytes = message->disk_free_bytes;
    said->map_version = message->map_version;
    said->started_wall_ms = message->started_unix_ms;
    kith_status status = id_decode(message->id, "nodes.id", &said->node.id, err);
    if (status == KITH_OK) status = node_texts_decode(message, arena, &said->node, err);
    if (status == KITH_OK) status = text_decode(message->health, "health", arena, &said->health, err);
    return status;
}

/* --- requests --- */

void kith_codec_cluster_request_encode(const kith_codec_cluster_request *request, kith_buf *buf) {
    kith_wire_text(buf, 1, request->text);
    kith_wire_u64(buf, 2, request->draining);
}

static kith_status request_text_decode(
    ProtobufCBinaryData from, const char *what, kith_arena *arena, const char **text_out, kith_err *err) {
    if (from.len > KITH_CODEC_CLUSTER_TEXT_BYTES_MAX) {
        return kith_err_set(err, KITH_INVALID, "%s: %zu bytes; at most %u are allowed", what, from.len,
            KITH_CODEC_CLUSTER_TEXT_BYTES_MAX);
    }
    return kith_codec_text(from, what, arena, text_out, err);
}

/* All but that of accept-loss are the same bytes: field 1 a text, where there is one; field 2 of drain. */
kith_status kith_codec_cluster_request_decode(const void *data, size_t bytes, const char *what,
    kith_arena *arena, kith_codec_cluster_request *request_out, kith_err *err) {
    const Kith__V1__ClusterDrainRequest *message = kith_codec_unpack(
        &kith__v1__cluster_drain_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    request_out->draining = message->draining;
    return request_text_decode(message->node, what, arena, &request_out->text, err);
}

void kith_codec_cluster_loss_request_encode(const kith_codec_cluster_request *request, kith_buf *buf) {
    kith_wire_text(buf, 1, request->text);
    kith_wire_u64(buf, 2, request->shard);
    kith_wire_text(buf, 3, request->node);
}

kith_status kith_codec_cluster_loss_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_cluster_request *request_out, kith_err *err) {
    const Kith__V1__ClusterAcceptLossRequest *message = kith_codec_unpack(
        &kith__v1__cluster_accept_loss_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_cluster_request request = {.shard = message->shard};
    kith_status status = request_text_decode(message->collection, "collection", arena, &request.text, err);
    if (status == KITH_OK) status = request_text_decode(message->node, "node", arena, &request.node, err);
    if (status == KITH_OK) *request_out = request;
    return status;
}

/* --- status --- */

void kith_codec_cluster_status_encode(const kith_codec_cluster_status *status, kith_buf *buf) {
    kith_wire_u64(buf, 1, status->standalone);
    kith_wire_u64(buf, 2, status->map_version);
    kith_wire_u64(buf, 3, status->term);
    id_encode(&status->leader_id, 4, buf);
    kith_wire_text(buf, 5, status->leader_address);
    kith_wire_text(buf, 6, status->problem);
    members_encode(status->members, status->member_count, 7, buf);
    for (uint32_t i = 0; i < status->node_count; i++)
        node_encode(&status->nodes[i], 8, buf);
    kith_wire_u64(buf, 9, status->copying.behind);
    kith_wire_u64(buf, 10, status->copying.moving);
    kith_wire_u64(buf, 11, status->copying.waiting);
    kith_wire_u64(buf, 12, status->copying.short_count);
}

static kith_status status_nodes_decode(const Kith__V1__ClusterStatusResponse *message, kith_arena *arena,
    kith_codec_cluster_status *status_out, kith_err *err) {
    kith_codec_coordinator_node *nodes = kith_arena_array(arena, message->n_nodes, sizeof *nodes);
    for (size_t i = 0; i < message->n_nodes; i++) {
        kith_status status = node_decode(message->nodes[i], arena, &nodes[i], err);
        if (status != KITH_OK) return status;
    }
    status_out->nodes = nodes;
    status_out->node_count = (uint32_t)message->n_nodes;
    return KITH_OK;
}

kith_status kith_codec_cluster_status_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_status *status_out, kith_err *err) {
    const Kith__V1__ClusterStatusResponse *message =
        answer_unpack(&kith__v1__cluster_status_response__descriptor, data, bytes, arena, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_cluster_status own = {
        .standalone = message->standalone, .map_version = message->map_version, .term = message->term};
    own.copying = (kith_codec_copying){.behind = message->copies_behind,
        .moving = message->copies_moving,
        .waiting = message->copies_waiting,
        .short_count = message->shards_short};
    kith_status status = id_decode(message->leader_id, "leader_id", &own.leader_id, err);
    if (status == KITH_OK)
        status = text_decode(message->leader_address, "leader_address", arena, &own.leader_address, err);
    if (status == KITH_OK) status = text_decode(message->problem, "problem", arena, &own.problem, err);
    if (status == KITH_OK) {
        status = members_decode(
            message->coordinators, message->n_coordinators, arena, &own.members, &own.member_count, err);
    }
    if (status == KITH_OK) status = status_nodes_decode(message, arena, &own, err);
    if (status == KITH_OK) *status_out = own;
    return status;
}

/* --- shards --- */

static void shard_encode(const kith_codec_cluster_shard *shard, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    kith_wire_u64(buf, 1, shard->id);
    kith_wire_u64(buf, 2, shard->index);
    kith_wire_u64(buf, 3, shard->epoch);
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        size_t inner = kith_wire_open(buf, 4);
        id_encode(&shard->replicas[i].id, 1, buf);
        kith_wire_text(buf, 2, shard->replicas[i].name);
        kith_wire_u64(buf, 3, shard->replicas[i].up);
        kith_wire_u64(buf, 4, shard->replicas[i].in_sync);
        kith_wire_close(buf, inner);
    }
    kith_wire_close(buf, mark);
}

void kith_codec_cluster_shards_encode(const kith_codec_cluster_shards *shards, kith_buf *buf) {
    kith_wire_u64(buf, 1, shards->map_version);
    for (uint32_t i = 0; i < shards->collection_count; i++) {
        const kith_codec_cluster_collection *collection = &shards->collections[i];
        size_t mark = kith_wire_open(buf, 2);
        kith_wire_text(buf, 1, collection->name);
        for (uint32_t s = 0; s < collection->shard_count; s++)
            shard_encode(&collection->shards[s], 2, buf);
        kith_wire_close(buf, mark);
    }
}

static kith_status shard_decode(const Kith__V1__ShardPlace *message, kith_arena *arena,
    kith_codec_cluster_shard *shard_out, kith_err *err) {
    kith_codec_cluster_replica *replicas = kith_arena_array(arena, message->n_replicas, sizeof *replicas);
    for (size_t i = 0; i < message->n_replicas; i++) {
        const Kith__V1__ShardReplica *replica = message->replicas[i];
        replicas[i].up = replica->up;
        replicas[i].in_sync = replica->in_sync;
        kith_status status = id_decode(replica->node_id, "replicas.node_id", &replicas[i].id, err);
        if (status == KITH_OK)
            status = text_decode(replica->node, "replicas.node", arena, &replicas[i].name, err);
        if (status != KITH_OK) return status;
    }
    *shard_out = (kith_codec_cluster_shard){.id = message->id,
        .index = message->index,
        .epoch = message->epoch,
        .replica_count = (uint32_t)message->n_replicas,
        .replicas = replicas};
    return KITH_OK;
}

static kith_status collection_decode(const Kith__V1__CollectionShards *message, kith_arena *arena,
    kith_codec_cluster_collection *collection_out, kith_err *err) {
    kith_codec_cluster_shard *shards = kith_arena_array(arena, message->n_shards, sizeof *shards);
    kith_status status = text_decode(message->collection, "collection", arena, &collection_out->name, err);
    for (size_t i = 0; i < message->n_shards && status == KITH_OK; i++)
        status = shard_decode(message->shards[i], arena, &shards[i], err);
    collection_out->shards = shards;
    collection_out->shard_count = (uint32_t)message->n_shards;
    return status;
}

kith_status kith_codec_cluster_shards_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_shards *shards_out, kith_err *err) {
    const Kith__V1__ClusterShardsResponse *message =
        answer_unpack(&kith__v1__cluster_shards_response__descriptor, data, bytes, arena, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_cluster_collection *collections =
        kith_arena_array(arena, message->n_collections, sizeof *collections);
    for (size_t i = 0; i < message->n_collections; i++) {
        kith_status status = collection_decode(message->collections[i], arena, &collections[i], err);
        if (status != KITH_OK) return status;
    }
    *shards_out = (kith_codec_cluster_shards){.map_version = message->map_version,
        .collection_count = (uint32_t)message->n_collections,
        .collections = collections};
    return KITH_OK;
}

/* --- changes --- */

void kith_codec_cluster_join_encode(const kith_codec_cluster_join *join, kith_buf *buf) {
    id_encode(&join->id, 1, buf);
    kith_wire_u64(buf, 2, join->joined);
    members_encode(join->members, join->member_count, 3, buf);
}

kith_status kith_codec_cluster_join_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_join *join_out, kith_err *err) {
    const Kith__V1__ClusterJoinResponse *message =
        answer_unpack(&kith__v1__cluster_join_response__descriptor, data, bytes, arena, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_cluster_join join = {.joined = message->joined};
    kith_status status = id_decode(message->id, "id", &join.id, err);
    if (status == KITH_OK) {
        status = members_decode(
            message->coordinators, message->n_coordinators, arena, &join.members, &join.member_count, err);
    }
    if (status == KITH_OK) *join_out = join;
    return status;
}

void kith_codec_cluster_node_encode(const kith_codec_coordinator_node *node, kith_buf *buf) {
    node_encode(node, 1, buf);
}

/* ClusterLeaveResponse and ClusterDrainResponse are the same bytes. */
kith_status kith_codec_cluster_node_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_coordinator_node *node_out, kith_err *err) {
    const Kith__V1__ClusterDrainResponse *message =
        answer_unpack(&kith__v1__cluster_drain_response__descriptor, data, bytes, arena, err);
    if (!message) return KITH_INTERNAL;
    return node_decode(message->node, arena, node_out, err);
}

void kith_codec_cluster_shard_encode(const kith_codec_cluster_shard *shard, kith_buf *buf) {
    shard_encode(shard, 1, buf);
}

kith_status kith_codec_cluster_shard_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_shard *shard_out, kith_err *err) {
    const Kith__V1__ClusterAcceptLossResponse *message =
        answer_unpack(&kith__v1__cluster_accept_loss_response__descriptor, data, bytes, arena, err);
    if (!message) return KITH_INTERNAL;
    if (!message->shard)
        return kith_err_set(err, KITH_INTERNAL, "the server's answer is broken: no shard in it");
    return shard_decode(message->shard, arena, shard_out, err);
}
