/* Messages of the cluster. What a node says of itself is checked as its metadata would be, since it becomes that. */
#include "host/codec/codec_cluster.h"

#include "host/codec/codec_meta.h"
#include "host/codec/codec_wire.h"

#include "kith/internal/v1/cluster.pb-c.h"

/* --- parts --- */

static kith_status id_decode(
    ProtobufCBinaryData id, const char *what, bool none_allowed, kith_node_id *id_out, kith_err *err) {
    *id_out = (kith_node_id){{0}};
    if (id.len == 0 && none_allowed) return KITH_OK;
    if (id.len != sizeof id_out->bytes) {
        return kith_err_set(
            err, KITH_INTERNAL, "%s: %zu bytes are not a node id of %zu", what, id.len, sizeof id_out->bytes);
    }
    memcpy(id_out->bytes, id.data, id.len);
    if (none_allowed || !kith_node_id_is_none(id_out)) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "%s: all zero is nobody's id", what);
}

static void id_encode(const kith_node_id *id, uint32_t field, kith_buf *buf) {
    if (!kith_node_id_is_none(id)) kith_wire_bytes(buf, field, id->bytes, sizeof id->bytes);
}

static kith_status text_decode(ProtobufCBinaryData text, const char *what, size_t bytes_max,
    kith_arena *arena, const char **text_out, kith_err *err) {
    if (text.len > bytes_max) {
        return kith_err_set(
            err, KITH_INTERNAL, "%s: %zu bytes; at most %zu are allowed", what, text.len, bytes_max);
    }
    if (kith_codec_text(text, what, arena, text_out, err) == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, KITH_INTERNAL, "a node's message");
}

static kith_status address_decode(ProtobufCBinaryData text, const char *what, bool empty_allowed,
    kith_arena *arena, const char **address_out, kith_err *err) {
    kith_status status = text_decode(text, what, KITH_NODE_ADDRESS_BYTES_MAX, arena, address_out, err);
    if (status != KITH_OK) return status;
    if (kith_node_address_check(what, *address_out, empty_allowed, err) == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, KITH_INTERNAL, "a node's message");
}

/* Into a struct's array of `room` bytes. */
static kith_status text_fill(
    ProtobufCBinaryData text, const char *what, size_t room, char *text_out, kith_err *err) {
    if (text.len >= room) {
        return kith_err_set(
            err, KITH_INTERNAL, "%s: %zu bytes; at most %zu are allowed", what, text.len, room - 1);
    }
    if (text.len > 0) memcpy(text_out, text.data, text.len);
    text_out[text.len] = 0;
    if (strlen(text_out) == text.len) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "%s: a zero byte; text without one is allowed", what);
}

static kith_status count_check(const char *what, size_t count, uint32_t count_max, kith_err *err) {
    if (count <= count_max) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "%s: %zu; at most %u are allowed", what, count, count_max);
}

/* --- heartbeats --- */

static void load_encode(const kith_codec_heartbeat *heartbeat, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 11);
    kith_wire_u64(buf, 1, heartbeat->points);
    kith_wire_u64(buf, 2, heartbeat->shards);
    kith_wire_u64(buf, 3, heartbeat->vector_bytes);
    kith_wire_u64(buf, 4, heartbeat->disk_free_bytes);
    kith_wire_text(buf, 5, heartbeat->health);
    kith_wire_close(buf, mark);
}

static void stalled_encode(const kith_codec_stalled *stalled, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 12);
    kith_wire_u64(buf, 1, stalled->shard_id);
    kith_wire_u64(buf, 2, stalled->for_ms);
    kith_wire_close(buf, mark);
}

void kith_codec_heartbeat_encode(const kith_codec_heartbeat *heartbeat, kith_buf *buf) {
    const kith_node *node = &heartbeat->node;
    id_encode(&node->id, 1, buf);
    kith_wire_text(buf, 2, node->name);
    kith_wire_u64(buf, 3, (uint64_t)node->role);
    kith_wire_text(buf, 4, node->address);
    kith_wire_text(buf, 5, node->grpc_address);
    kith_wire_text(buf, 6, node->http_address);
    kith_wire_text(buf, 7, node->zone);
    kith_wire_u64(buf, 8, node->weight);
    kith_wire_u64(buf, 9, heartbeat->started_wall_ms);
    kith_wire_u64(buf, 10, heartbeat->map_version);
    load_encode(heartbeat, buf);
    for (uint32_t i = 0; i < heartbeat->stalled_count; i++)
        stalled_encode(&heartbeat->stalled[i], buf);
}

static kith_status heartbeat_node_decode(
    const Kith__Internal__V1__NodeHeartbeat *message, kith_node *node, kith_err *err) {
    *node = (kith_node){.role = (kith_node_role)message->role, .weight = message->weight};
    kith_status status = id_decode(message->node_id, "node_id", false, &node->id, err);
    if (status == KITH_OK) status = text_fill(message->name, "name", sizeof node->name, node->name, err);
    if (status == KITH_OK)
        status = text_fill(message->address, "address", sizeof node->address, node->address, err);
    if (status == KITH_OK) {
        status = text_fill(
            message->grpc_address, "grpc_address", sizeof node->grpc_address, node->grpc_address, err);
    }
    if (status == KITH_OK) {
        status = text_fill(
            message->http_address, "http_address", sizeof node->http_address, node->http_address, err);
    }
    if (status == KITH_OK) status = text_fill(message->zone, "zone", sizeof node->zone, node->zone, err);
    if (status != KITH_OK) return status;
    return kith_node_check(node, err) == KITH_OK ? KITH_OK : kith_err_wrap(err, KITH_INTERNAL, "heartbeat");
}

static kith_status load_decode(const Kith__Internal__V1__NodeLoad *message, kith_arena *arena,
    kith_codec_heartbeat *heartbeat, kith_err *err) {
    heartbeat->health = "";
    if (!message) return KITH_OK;
    heartbeat->points = message->points;
    heartbeat->shards = message->shards;
    heartbeat->vector_bytes = message->vector_bytes;
    heartbeat->disk_free_bytes = message->disk_free_bytes;
    return text_decode(
        message->health, "load.health", KITH_ERR_BYTES_MAX - 1, arena, &heartbeat->health, err);
}

static kith_status stalled_decode(const Kith__Internal__V1__NodeHeartbeat *message, kith_arena *arena,
    kith_codec_heartbeat *heartbeat, kith_err *err) {
    kith_status status = count_check("stalled", message->n_stalled, KITH_CODEC_STALLED_MAX, err);
    if (status != KITH_OK) return status;
    kith_codec_stalled *stalled = kith_arena_array(arena, message->n_stalled, sizeof *stalled);
    for (size_t i = 0; i < message->n_stalled; i++)
        stalled[i] = (kith_codec_stalled){
            .shard_id = message->stalled[i]->shard_id, .for_ms = message->stalled[i]->for_ms};
    heartbeat->stalled = stalled;
    heartbeat->stalled_count = (uint32_t)message->n_stalled;
    return KITH_OK;
}

static kith_status heartbeat_decode(const Kith__Internal__V1__NodeHeartbeat *message, kith_arena *arena,
    kith_codec_heartbeat *heartbeat, kith_err *err) {
    *heartbeat = (kith_codec_heartbeat){
        .started_wall_ms = message->started_wall_ms, .map_version = message->map_version};
    kith_status status = heartbeat_node_decode(message, &heartbeat->node, err);
    if (status == KITH_OK) status = load_decode(message->load, arena, heartbeat, err);
    return status == KITH_OK ? stalled_decode(message, arena, heartbeat, err) : status;
}

kith_status kith_codec_heartbeat_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_heartbeat *heartbeat_out, kith_err *err) {
    const Kith__Internal__V1__NodeHeartbeat *message = kith_codec_unpack(
        &kith__internal__v1__node_heartbeat__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_heartbeat heartbeat;
    kith_status status = heartbeat_decode(message, arena, &heartbeat, err);
    if (status == KITH_OK) *heartbeat_out = heartbeat;
    return status;
}

void kith_codec_heartbeat_reply_encode(const kith_codec_heartbeat_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, reply->leader);
    kith_wire_u64(buf, 2, reply->term);
    id_encode(&reply->leader_id, 3, buf);
    kith_wire_text(buf, 4, reply->leader_address);
    kith_wire_u64(buf, 5, reply->map_version);
    for (uint32_t i = 0; i < reply->coordinator_count; i++) {
        const char *address = reply->coordinator_addresses[i];
        kith_wire_bytes_always(buf, 6, address, strlen(address));
    }
}

static kith_status addresses_decode(const ProtobufCBinaryData *texts, size_t count, kith_arena *arena,
    kith_codec_heartbeat_reply *reply, kith_err *err) {
    kith_status status = count_check("coordinator_addresses", count, KITH_COORDINATORS_MAX, err);
    if (status != KITH_OK) return status;
    const char **addresses = kith_arena_array(arena, count, sizeof *addresses);
    for (size_t i = 0; i < count && status == KITH_OK; i++)
        status = address_decode(texts[i], "coordinator_addresses", false, arena, &addresses[i], err);
    reply->coordinator_addresses = addresses;
    reply->coordinator_count = (uint32_t)count;
    return status;
}

kith_status kith_codec_heartbeat_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_heartbeat_reply *reply_out, kith_err *err) {
    const Kith__Internal__V1__NodeHeartbeatReply *message = kith_codec_unpack(
        &kith__internal__v1__node_heartbeat_reply__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_heartbeat_reply reply = {
        .leader = message->leader, .term = message->term, .map_version = message->map_version};
    kith_status status = id_decode(message->leader_id, "leader_id", true, &reply.leader_id, err);
    if (status == KITH_OK) {
        status = address_decode(
            message->leader_address, "leader_address", true, arena, &reply.leader_address, err);
    }
    if (status == KITH_OK) {
        status = addresses_decode(
            message->coordinator_addresses, message->n_coordinator_addresses, arena, &reply, err);
    }
    if (status == KITH_OK) *reply_out = reply;
    return status;
}

/* --- map versions --- */

void kith_codec_map_version_encode(uint64_t map_version, kith_buf *buf) {
    kith_wire_u64(buf, 1, map_version);
}

/* MapReceipt and MapPull look the same. */
kith_status kith_codec_map_version_decode(
    const void *data, size_t bytes, uint64_t *map_version_out, kith_err *err) {
    kith_arena arena;
    kith_arena_init(&arena);
    const Kith__Internal__V1__MapPull *message =
        kith_codec_unpack(&kith__internal__v1__map_pull__descriptor, data, bytes, &arena, KITH_INTERNAL, err);
    if (message) *map_version_out = message->map_version;
    kith_arena_fini(&arena);
    return message ? KITH_OK : KITH_INTERNAL;
}

/* --- proposals --- */

void kith_codec_propose_reply_encode(const kith_codec_propose_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, (uint64_t)reply->status);
    kith_wire_text(buf, 2, reply->message);
    kith_wire_u64(buf, 3, reply->changed);
    kith_wire_u64(buf, 4, reply->map_version);
    if (!reply->collection) return;
    size_t mark = kith_wire_open(buf, 5);
    kith_codec_meta_collection_encode(reply->collection, buf);
    kith_wire_close(buf, mark);
}

static kith_status reply_collection_decode(
    ProtobufCBinaryData bytes, kith_arena *arena, const kith_collection **collection_out, kith_err *err) {
    *collection_out = NULL;
    if (bytes.len == 0) return KITH_OK;
    kith_collection *collection = kith_arena_alloc(arena, sizeof *collection);
    if (kith_codec_meta_collection_decode(bytes.data, bytes.len, arena, collection, err) != KITH_OK)
        return kith_err_wrap(err, KITH_INTERNAL, "collection");
    *collection_out = collection;
    return KITH_OK;
}

kith_status kith_codec_propose_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_propose_reply *reply_out, kith_err *err) {
    const Kith__Internal__V1__MetaProposeReply *message = kith_codec_unpack(
        &kith__internal__v1__meta_propose_reply__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_propose_reply reply = {.status = kith_status_from_number(message->status),
        .changed = message->changed,
        .map_version = message->map_version};
    kith_status status =
        text_decode(message->message, "message", KITH_ERR_BYTES_MAX - 1, arena, &reply.message, err);
    if (status == KITH_OK)
        status = reply_collection_decode(message->collection, arena, &reply.collection, err);
    if (status == KITH_OK) *reply_out = reply;
    return status;
}

/* --- asking coordinators --- */

void kith_codec_coordinator_request_encode(const kith_codec_coordinator_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, (uint64_t)request->kind);
    id_encode(&request->node_id, 2, buf);
    kith_wire_text(buf, 3, request->address);
}

/* Who joins and who leaves is said; where to, only of who joins. */
static kith_status coordinator_request_check(const kith_codec_coordinator_request *request, kith_err *err) {
    bool join = request->kind == KITH_CODEC_COORDINATOR_JOIN;
    bool leave = request->kind == KITH_CODEC_COORDINATOR_LEAVE;
    if (request->kind < KITH_CODEC_COORDINATOR_STATUS || request->kind > KITH_CODEC_COORDINATOR_TRANSFER) {
        return kith_err_set(err, KITH_INTERNAL,
            "kind %u is unknown; 1 (status), 2 (join), 3 (leave) and 4 (transfer) are allowed",
            (unsigned)request->kind);
    }
    if ((join || leave) && kith_node_id_is_none(&request->node_id))
        return kith_err_set(err, KITH_INTERNAL, "node_id is missing");
    if (join != (request->address[0] != 0))
        return kith_err_set(
            err, KITH_INTERNAL, "address \"%s\": join has one, nothing else", request->address);
    return KITH_OK;
}

kith_status kith_codec_coordinator_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_coordinator_request *request_out, kith_err *err) {
    const Kith__Internal__V1__CoordinatorRequest *message = kith_codec_unpack(
        &kith__internal__v1__coordinator_request__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_coordinator_request request = {.kind = (kith_codec_coordinator_kind)message->kind};
    kith_status status = id_decode(message->node_id, "node_id", true, &request.node_id, err);
    if (status == KITH_OK)
        status = address_decode(message->address, "address", true, arena, &request.address, err);
    if (status == KITH_OK) status = coordinator_request_check(&request, err);
    if (status == KITH_OK) *request_out = request;
    return status;
}

static void member_encode(const kith_codec_coordinator_member *member, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 6);
    id_encode(&member->id, 1, buf);
    kith_wire_text(buf, 2, member->address);
    kith_wire_u64(buf, 3, member->voter);
    kith_wire_u64(buf, 4, member->leader);
    kith_wire_close(buf, mark);
}

static void coordinator_node_encode(const kith_codec_coordinator_node *node, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 7);
    size_t inner = kith_wire_open(buf, 1);
    kith_codec_heartbeat_encode(&node->heartbeat, buf);
    kith_wire_close(buf, inner);
    kith_wire_u64(buf, 2, node->silent_ms);
    kith_wire_u64(buf, 3, node->heartbeat.node.down);
    kith_wire_u64(buf, 4, node->heartbeat.node.draining);
    kith_wire_close(buf, mark);
}

static void copying_encode(const kith_codec_copying *copying, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 10);
    kith_wire_u64(buf, 1, copying->behind);
    kith_wire_u64(buf, 2, copying->moving);
    kith_wire_u64(buf, 3, copying->waiting);
    kith_wire_u64(buf, 4, copying->short_count);
    kith_wire_close(buf, mark);
}

void kith_codec_coordinator_reply_encode(const kith_codec_coordinator_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, reply->term);
    kith_wire_u64(buf, 2, reply->map_version);
    kith_wire_u64(buf, 3, reply->applied_index);
    id_encode(&reply->leader_id, 4, buf);
    kith_wire_text(buf, 5, reply->leader_address);
    for (uint32_t i = 0; i < reply->member_count; i++)
        member_encode(&reply->members[i], buf);
    for (uint32_t i = 0; i < reply->node_count; i++)
        coordinator_node_encode(&reply->nodes[i], buf);
    id_encode(&reply->self_id, 8, buf);
    kith_wire_u64(buf, 9, reply->fresh);
    copying_encode(&reply->copying, buf);
}

/* A member may be known by its Raft number alone, as one that has not been heard since this coordinator started. */
static kith_status member_decode(const Kith__Internal__V1__CoordinatorMember *message, kith_arena *arena,
    kith_codec_coordinator_member *member, kith_err *err) {
    *member = (kith_codec_coordinator_member){.voter = message->voter, .leader = message->leader};
    kith_status status = id_decode(message->node_id, "members.node_id", true, &member->id, err);
    if (status != KITH_OK) return status;
    return address_decode(message->address, "members.address", true, arena, &member->address, err);
}

static kith_status coordinator_node_decode(const Kith__Internal__V1__CoordinatorNode *message,
    kith_arena *arena, kith_codec_coordinator_node *node, kith_err *err) {
    if (!message->heartbeat) return kith_err_set(err, KITH_INTERNAL, "nodes.heartbeat is missing");
    kith_status status = heartbeat_decode(message->heartbeat, arena, &node->heartbeat, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "nodes");
    node->silent_ms = message->silent_ms;
    node->heartbeat.node.down = message->down;
    node->heartbeat.node.draining = message->draining;
    return KITH_OK;
}

static kith_status members_decode(const Kith__Internal__V1__CoordinatorReply *message, kith_arena *arena,
    kith_codec_coordinator_reply *reply, kith_err *err) {
    kith_status status = count_check("members", message->n_members, KITH_COORDINATORS_MAX, err);
    if (status != KITH_OK) return status;
    kith_codec_coordinator_member *members = kith_arena_array(arena, message->n_members, sizeof *members);
    for (size_t i = 0; i < message->n_members && status == KITH_OK; i++)
        status = member_decode(message->members[i], arena, &members[i], err);
    reply->members = members;
    reply->member_count = (uint32_t)message->n_members;
    return status;
}

static kith_status coordinator_nodes_decode(const Kith__Internal__V1__CoordinatorReply *message,
    kith_arena *arena, kith_codec_coordinator_reply *reply, kith_err *err) {
    kith_status status = count_check("nodes", message->n_nodes, KITH_NODES_MAX, err);
    if (status != KITH_OK) return status;
    kith_codec_coordinator_node *nodes = kith_arena_array(arena, message->n_nodes, sizeof *nodes);
    for (size_t i = 0; i < message->n_nodes && status == KITH_OK; i++)
        status = coordinator_node_decode(message->nodes[i], arena, &nodes[i], err);
    reply->nodes = nodes;
    reply->node_count = (uint32_t)message->n_nodes;
    return status;
}

kith_status kith_codec_coordinator_reply_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_coordinator_reply *reply_out, kith_err *err) {
    const Kith__Internal__V1__CoordinatorReply *message = kith_codec_unpack(
        &kith__internal__v1__coordinator_reply__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_coordinator_reply reply = {.fresh = message->fresh,
        .term = message->term,
        .map_version = message->map_version,
        .applied_index = message->applied_index};
    if (message->copying) {
        reply.copying = (kith_codec_copying){.behind = message->copying->behind,
            .moving = message->copying->moving,
            .waiting = message->copying->waiting,
            .short_count = message->copying->short_};
    }
    kith_status status = id_decode(message->leader_id, "leader_id", true, &reply.leader_id, err);
    if (status == KITH_OK) {
        status = address_decode(
            message->leader_address, "leader_address", true, arena, &reply.leader_address, err);
    }
    if (status == KITH_OK) status = id_decode(message->self_id, "self_id", true, &reply.self_id, err);
    if (status == KITH_OK) status = members_decode(message, arena, &reply, err);
    if (status == KITH_OK) status = coordinator_nodes_decode(message, arena, &reply, err);
    if (status == KITH_OK) *reply_out = reply;
    return status;
}
