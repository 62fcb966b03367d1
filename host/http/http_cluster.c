#include "host/http/http_cluster.h"

#include <string.h>

#include <jansson.h>

#include "host/base/alloc.h"
#include "host/base/text.h"

void kith_http_error_append(kith_status status, const char *message, kith_buf *buf) {
    kith_buf_append_format(buf, "{\"status\": \"%s\", \"error\": ", kith_status_name(status));
    kith_text_append_json_string(buf, message, strlen(message));
    kith_buf_append_text(buf, "}\n");
}

/* --- what is asked --- */

static kith_status text_take(kith_http_cluster_call *call, const char *key, const json_t *value,
    const char **text_out, kith_err *err) {
    if (!json_is_string(value)) return kith_err_set(err, KITH_INVALID, "%s: not a string", key);
    size_t bytes = json_string_length(value);
    if (bytes > KITH_CODEC_CLUSTER_TEXT_BYTES_MAX) {
        return kith_err_set(err, KITH_INVALID, "%s: %zu bytes; at most %u are allowed", key, bytes,
            KITH_CODEC_CLUSTER_TEXT_BYTES_MAX);
    }
    *text_out = kith_arena_text(&call->arena, json_string_value(value), bytes);
    return KITH_OK;
}

static const char *body_shown(kith_http_cluster_kind kind) {
    switch (kind) {
    case KITH_HTTP_CLUSTER_DRAIN:
        return "{\"node\": .., \"draining\": true}";
    case KITH_HTTP_CLUSTER_JOIN:
        return "{\"address\": \"host:port\"}";
    case KITH_HTTP_CLUSTER_ACCEPT_LOSS:
        return "{\"collection\": .., \"shard\": 0, \"node\": ..}";
    default:
        return "{\"node\": ..}";
    }
}

static kith_status shard_take(kith_http_cluster_call *call, const json_t *value, kith_err *err) {
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || number > UINT32_MAX)
        return kith_err_set(err, KITH_INVALID, "shard: not a number from 0");
    call->base.shard = (uint32_t)number;
    call->has_shard = true;
    return KITH_OK;
}

static kith_status member_take(
    kith_http_cluster_call *call, const char *wanted, const char *key, const json_t *value, kith_err *err) {
    if (strcmp(key, wanted) == 0) return text_take(call, key, value, &call->base.text, err);
    bool is_loss = call->kind == KITH_HTTP_CLUSTER_ACCEPT_LOSS;
    if (is_loss && strcmp(key, "node") == 0) return text_take(call, key, value, &call->base.node, err);
    if (is_loss && strcmp(key, "shard") == 0) return shard_take(call, value, err);
    if (call->kind == KITH_HTTP_CLUSTER_DRAIN && strcmp(key, "draining") == 0) {
        if (!json_is_boolean(value)) return kith_err_set(err, KITH_INVALID, "draining: not true or false");
        call->base.draining = json_is_true(value);
        return KITH_OK;
    }
    return kith_err_set(
        err, KITH_INVALID, "\"%.64s\" is not known; %s is what this takes", key, body_shown(call->kind));
}

static kith_status members_take(kith_http_cluster_call *call, json_t *object, kith_err *err) {
    bool is_loss = call->kind == KITH_HTTP_CLUSTER_ACCEPT_LOSS;
    const char *wanted = is_loss ? "collection" : call->kind == KITH_HTTP_CLUSTER_JOIN ? "address" : "node";
    const char *key;
    json_t *value;
    call->base.draining = true; /* of drain, where nothing else is said */
    if (!json_is_object(object)) return kith_err_set(err, KITH_INVALID, "the body is not a JSON object");
    json_object_foreach(object, key, value) {
        kith_status status = member_take(call, wanted, key, value, err);
        if (status != KITH_OK) return status;
    }
    if (!call->base.text[0]) return kith_err_set(err, KITH_INVALID, "%s is missing", wanted);
    if (is_loss && !call->has_shard) return kith_err_set(err, KITH_INVALID, "shard is missing");
    if (is_loss && !call->base.node[0]) return kith_err_set(err, KITH_INVALID, "node is missing");
    return KITH_OK;
}

static kith_status body_take(
    kith_http_cluster_call *call, const void *body, size_t body_bytes, kith_err *err) {
    json_error_t fault;
    json_t *object = json_loadb(body ? body : "", body_bytes, JSON_REJECT_DUPLICATES, &fault);
    if (!object)
        return kith_err_set(
            err, KITH_INVALID, "the body is not JSON: %s at byte %d", fault.text, fault.position);
    kith_status status = members_take(call, object, err);
    json_decref(object);
    return status;
}

/* --- the answer --- */

static void answer_write(kith_http_cluster_call *call, kith_status status,
    const kith_api_cluster_answer *answer, const kith_err *err) {
    call->code = (unsigned)kith_status_http(status);
    if (!answer) {
        kith_http_error_append(status, err ? err->text : kith_status_text(status), &call->answer);
        return;
    }
    if (answer->shards)
        kith_codec_cluster_shards_json(answer->shards, &call->answer);
    else if (answer->join)
        kith_codec_cluster_join_json(answer->join, &call->answer);
    else if (answer->shard)
        kith_codec_cluster_shard_json(answer->shard, &call->answer);
    else if (answer->node)
        kith_codec_cluster_node_json(answer->node, &call->answer);
    else if (call->kind == KITH_HTTP_CLUSTER_NODES)
        kith_codec_cluster_nodes_json(answer->status, &call->answer);
    else
        kith_codec_cluster_status_json(answer->status, &call->answer);
    kith_buf_append_text(&call->answer, "\n");
}

static void answered(kith_api_cluster_call *base, kith_status status, const kith_api_cluster_answer *answer,
    const kith_err *err) {
    kith_http_cluster_call *call = (kith_http_cluster_call *)base;
    answer_write(call, status, answer, err);
    call->done(call);
}

static kith_status api_start(kith_http_cluster_call *call, kith_err *err) {
    switch (call->kind) {
    case KITH_HTTP_CLUSTER_SHARDS:
        return kith_api_cluster_shards(call->api, &call->base, err);
    case KITH_HTTP_CLUSTER_JOIN:
        return kith_api_cluster_join(call->api, &call->base, err);
    case KITH_HTTP_CLUSTER_LEAVE:
        return kith_api_cluster_leave(call->api, &call->base, err);
    case KITH_HTTP_CLUSTER_DRAIN:
        return kith_api_cluster_drain(call->api, &call->base, err);
    case KITH_HTTP_CLUSTER_ACCEPT_LOSS:
        return kith_api_cluster_accept_loss(call->api, &call->base, err);
    default:
        return kith_api_cluster_status(call->api, &call->base, err);
    }
}

static void refreshed(kith_api_refresh *refresh);

/* What is not known here may have come a moment ago: a newer map is looked for, once, as for gRPC. */
static void start(kith_http_cluster_call *call) {
    kith_err err;
    kith_status status = api_start(call, &err);
    if (status == KITH_OK) return;
    if (status == KITH_NOT_FOUND && !call->refreshed) {
        call->refreshed = true;
        call->refresh = (kith_api_refresh){.done = refreshed};
        if (kith_api_refresh_start(call->api, &call->refresh)) return;
    }
    answer_write(call, status, NULL, &err);
    call->done(call);
}

static void refreshed(kith_api_refresh *refresh) {
    start((kith_http_cluster_call *)(void *)((char *)refresh - offsetof(kith_http_cluster_call, refresh)));
}

kith_http_cluster_call *kith_http_cluster_create(kith_api *api, kith_http_cluster_kind kind) {
    kith_http_cluster_call *call = kith_alloc_zero(sizeof *call);
    call->api = api;
    call->kind = kind;
    call->base.call.arena = &call->arena;
    call->base.node = "";
    call->base.done = answered;
    kith_arena_init(&call->arena);
    kith_buf_init(&call->answer);
    return call;
}

void kith_http_cluster_destroy(kith_http_cluster_call *call) {
    if (!call) return;
    kith_buf_fini(&call->answer);
    kith_arena_fini(&call->arena);
    kith_free(call);
}

void kith_http_cluster_start(
    kith_http_cluster_call *call, const char *collection, const void *body, size_t body_bytes) {
    kith_err err;
    kith_status status = KITH_OK;
    call->base.text = collection ? collection : "";
    call->base.text = kith_arena_text(&call->arena, call->base.text, strlen(call->base.text));
    if (kith_http_cluster_is_change(call->kind)) status = body_take(call, body, body_bytes, &err);
    if (status == KITH_OK) {
        start(call);
        return;
    }
    answer_write(call, status, NULL, &err);
    call->done(call);
}
