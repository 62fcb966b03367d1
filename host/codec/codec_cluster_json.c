/* What is known of the cluster as JSON, for REST and for `kith --json`: the same text from both. */
#include <string.h>

#include "host/base/text.h"
#include "host/codec/codec_cluster_api.h"

/* --- members of objects --- */

/* Behind a comma unless it is the first; NULL: an element. */
static void key_append(kith_buf *buf, const char *key) {
    uint8_t last = buf->bytes ? buf->data[buf->bytes - 1] : '{';
    if (last != '{' && last != '[') kith_buf_append_text(buf, ", ");
    if (!key) return;
    kith_text_append_json_string(buf, key, strlen(key));
    kith_buf_append_text(buf, ": ");
}

static void text_append(kith_buf *buf, const char *key, const char *value) {
    key_append(buf, key);
    kith_text_append_json_string(buf, value, strlen(value));
}

static void u64_append(kith_buf *buf, const char *key, uint64_t value) {
    key_append(buf, key);
    kith_buf_append_format(buf, "%llu", (unsigned long long)value);
}

static void bool_append(kith_buf *buf, const char *key, bool value) {
    key_append(buf, key);
    kith_buf_append_text(buf, value ? "true" : "false");
}

static void id_append(kith_buf *buf, const char *key, const kith_node_id *id) {
    char text[KITH_NODE_ID_TEXT_BYTES] = "";
    text_append(buf, key, kith_node_id_is_none(id) ? "" : kith_node_id_text(id, text));
}

static void open_append(kith_buf *buf, const char *key, const char *bracket) {
    key_append(buf, key);
    kith_buf_append_text(buf, bracket);
}

/* --- nodes --- */

static void node_members(const kith_codec_coordinator_node *of, kith_buf *buf) {
    const kith_codec_heartbeat *said = &of->heartbeat;
    const kith_node *node = &said->node;
    const char *role = kith_node_role_name(node->role);
    id_append(buf, "id", &node->id);
    text_append(buf, "name", node->name);
    text_append(buf, "role", role ? role : "unknown");
    text_append(buf, "address", node->address);
    text_append(buf, "grpc_address", node->grpc_address);
    text_append(buf, "http_address", node->http_address);
    text_append(buf, "zone", node->zone);
    u64_append(buf, "weight", node->weight);
    bool_append(buf, "up", !node->down);
    bool_append(buf, "draining", node->draining);
    u64_append(buf, "shards", said->shards);
    u64_append(buf, "silent_ms", of->silent_ms);
    u64_append(buf, "points", said->points);
    u64_append(buf, "vector_bytes", said->vector_bytes);
    u64_append(buf, "disk_free_bytes", said->disk_free_bytes);
    u64_append(buf, "map_version", said->map_version);
    text_append(buf, "health", said->health);
    u64_append(buf, "started_unix_ms", said->started_wall_ms);
}

static void nodes_append(const kith_codec_cluster_status *status, kith_buf *buf) {
    open_append(buf, "nodes", "[");
    for (uint32_t i = 0; i < status->node_count; i++) {
        open_append(buf, NULL, "{");
        node_members(&status->nodes[i], buf);
        kith_buf_append_text(buf, "}");
    }
    kith_buf_append_text(buf, "]");
}

void kith_codec_cluster_node_json(const kith_codec_coordinator_node *node, kith_buf *buf) {
    kith_buf_append_text(buf, "{");
    node_members(node, buf);
    kith_buf_append_text(buf, "}");
}

static void members_append(
    const kith_codec_coordinator_member *members, uint32_t member_count, kith_buf *buf) {
    open_append(buf, "coordinators", "[");
    for (uint32_t i = 0; i < member_count; i++) {
        open_append(buf, NULL, "{");
        id_append(buf, "id", &members[i].id);
        text_append(buf, "address", members[i].address);
        bool_append(buf, "voter", members[i].voter);
        bool_append(buf, "leader", members[i].leader);
        kith_buf_append_text(buf, "}");
    }
    kith_buf_append_text(buf, "]");
}

/* --- answers --- */

void kith_codec_cluster_status_json(const kith_codec_cluster_status *status, kith_buf *buf) {
    kith_buf_append_text(buf, "{");
    bool_append(buf, "standalone", status->standalone);
    u64_append(buf, "map_version", status->map_version);
    u64_append(buf, "term", status->term);
    id_append(buf, "leader_id", &status->leader_id);
    text_append(buf, "leader_address", status->leader_address);
    text_append(buf, "problem", status->problem);
    u64_append(buf, "copies_behind", status->copying.behind);
    u64_append(buf, "copies_moving", status->copying.moving);
    u64_append(buf, "copies_waiting", status->copying.waiting);
    u64_append(buf, "shards_short", status->copying.short_count);
    members_append(status->members, status->member_count, buf);
    nodes_append(status, buf);
    kith_buf_append_text(buf, "}");
}

void kith_codec_cluster_nodes_json(const kith_codec_cluster_status *status, kith_buf *buf) {
    kith_buf_append_text(buf, "{");
    u64_append(buf, "map_version", status->map_version);
    text_append(buf, "problem", status->problem);
    nodes_append(status, buf);
    kith_buf_append_text(buf, "}");
}

/* The primary and whether it is up beside the list, because that is what most ask for. */
void kith_codec_cluster_shard_json(const kith_codec_cluster_shard *shard, kith_buf *buf) {
    const kith_codec_cluster_replica *primary = shard->replica_count ? &shard->replicas[0] : NULL;
    kith_buf_append_text(buf, "{");
    u64_append(buf, "id", shard->id);
    u64_append(buf, "index", shard->index);
    u64_append(buf, "epoch", shard->epoch);
    text_append(buf, "primary", primary ? primary->name : "");
    bool_append(buf, "up", primary && primary->up);
    open_append(buf, "replicas", "[");
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        open_append(buf, NULL, "{");
        id_append(buf, "node_id", &shard->replicas[i].id);
        text_append(buf, "node", shard->replicas[i].name);
        bool_append(buf, "up", shard->replicas[i].up);
        bool_append(buf, "in_sync", shard->replicas[i].in_sync);
        kith_buf_append_text(buf, "}");
    }
    kith_buf_append_text(buf, "]}");
}

void kith_codec_cluster_shards_json(const kith_codec_cluster_shards *shards, kith_buf *buf) {
    kith_buf_append_text(buf, "{");
    u64_append(buf, "map_version", shards->map_version);
    open_append(buf, "collections", "[");
    for (uint32_t i = 0; i < shards->collection_count; i++) {
        const kith_codec_cluster_collection *collection = &shards->collections[i];
        open_append(buf, NULL, "{");
        text_append(buf, "collection", collection->name);
        open_append(buf, "shards", "[");
        for (uint32_t s = 0; s < collection->shard_count; s++) {
            key_append(buf, NULL);
            kith_codec_cluster_shard_json(&collection->shards[s], buf);
        }
        kith_buf_append_text(buf, "]}");
    }
    kith_buf_append_text(buf, "]}");
}

void kith_codec_cluster_join_json(const kith_codec_cluster_join *join, kith_buf *buf) {
    kith_buf_append_text(buf, "{");
    id_append(buf, "id", &join->id);
    bool_append(buf, "joined", join->joined);
    members_append(join->members, join->member_count, buf);
    kith_buf_append_text(buf, "}");
}
