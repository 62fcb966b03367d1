/* kith.v1.Cluster: message -> api call -> message. */
#include "host/grpc/grpc_internal.h"

typedef kith_status (*cluster_start)(kith_api *api, kith_api_cluster_call *call, kith_err *err);

static void answered(kith_api_cluster_call *call, kith_status status, const kith_api_cluster_answer *answer,
    const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK && answer->status)
        kith_codec_cluster_status_encode(answer->status, &unary->reply);
    else if (status == KITH_OK && answer->shards)
        kith_codec_cluster_shards_encode(answer->shards, &unary->reply);
    else if (status == KITH_OK && answer->join)
        kith_codec_cluster_join_encode(answer->join, &unary->reply);
    else if (status == KITH_OK && answer->shard)
        kith_codec_cluster_shard_encode(answer->shard, &unary->reply);
    else if (status == KITH_OK)
        kith_codec_cluster_node_encode(answer->node, &unary->reply);
    kith_grpc_unary_answer(unary, status, err);
}

/* `what` the request's text is. */
static kith_status start(kith_grpc_unary *unary, const void *data, size_t bytes, const char *what,
    cluster_start start_api, kith_err *err) {
    kith_codec_cluster_request request;
    kith_status status = kith_codec_cluster_request_decode(data, bytes, what, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.cluster = (kith_api_cluster_call){.call = kith_grpc_unary_api_call(unary),
        .text = request.text,
        .draining = request.draining,
        .done = answered};
    return start_api(unary->base.thread->server->options.api, &unary->api.cluster, err);
}

KITH_GRPC_START(cluster_status) {
    return start(unary, data, bytes, "field 1", kith_api_cluster_status, err);
}

KITH_GRPC_START(cluster_shards) {
    return start(unary, data, bytes, "collection", kith_api_cluster_shards, err);
}

KITH_GRPC_START(cluster_join) {
    return start(unary, data, bytes, "address", kith_api_cluster_join, err);
}

KITH_GRPC_START(cluster_leave) {
    return start(unary, data, bytes, "node", kith_api_cluster_leave, err);
}

KITH_GRPC_START(cluster_drain) {
    return start(unary, data, bytes, "node", kith_api_cluster_drain, err);
}

KITH_GRPC_START(cluster_accept_loss) {
    kith_codec_cluster_request request;
    kith_status status = kith_codec_cluster_loss_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.cluster = (kith_api_cluster_call){.call = kith_grpc_unary_api_call(unary),
        .text = request.text,
        .shard = request.shard,
        .node = request.node,
        .done = answered};
    return kith_api_cluster_accept_loss(unary->base.thread->server->options.api, &unary->api.cluster, err);
}
