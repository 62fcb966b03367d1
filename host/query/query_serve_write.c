/* A write to one shard of this node. */
#include "host/query/query_serve_internal.h"

static void write_done(
    kith_shard_write *write, kith_status status, const kith_write_result *result, const kith_err *err) {
    serve_request *own = (serve_request *)(void *)((char *)write - offsetof(serve_request, write));
    if (status == KITH_OK) {
        kith_codec_shard_write_response response = {
            .shard_id = own->shard_id,
            .epoch = result->epoch,
            .sequence = result->sequence,
            .points_changed = result->points_changed,
            .repeated = result->repeated,
        };
        kith_codec_shard_write_response_encode(&response, &own->reply);
    }
    serve_request_answer(own, status, err);
}

/* On the shards' owner. One that this node does not lead is the gate's to refuse. */
static void write_start(serve_request *own) {
    kith_err err;
    kith_status status = serve_shard_find(own->serve, own->shard_id, &own->shard, &err);
    if (status == KITH_OK)
        kith_shard_write_start(own->shard, &own->write);
    else
        serve_request_answer(own, status, &err);
}

static void write_waited(kith_replica_wait *wait, kith_status status, const kith_err *err) {
    serve_request *own = (serve_request *)(void *)((char *)wait - offsetof(serve_request, write_wait));
    if (status == KITH_OK)
        write_start(own);
    else
        serve_request_answer(own, status, err);
}

/* A replica that is about to take over is waited for. */
static void write_wait(serve_request *own) {
    kith_replica_set *replicas = own->serve->options.replicas;
    own->write_wait = (kith_replica_wait){.shard_id = own->shard_id,
        .is_write = true,
        .deadline_ns = own->request->deadline_ns,
        .done = write_waited};
    if (replicas)
        kith_replica_wait_start(replicas, &own->write_wait);
    else
        write_start(own);
}

void serve_write(void *ctx, kith_transport_request *request) {
    serve_request *own = serve_request_begin(ctx, request);
    kith_codec_shard_write_request decoded;
    kith_err err;
    kith_status status = kith_codec_shard_write_request_decode(
        request->bytes, request->byte_count, &own->arena, &decoded, &err);
    own->shard_id = status == KITH_OK ? decoded.shard_id : 0;
    if (status != KITH_OK) {
        serve_request_answer(own, status, &err);
        return;
    }
    if (serve_map_await(own, decoded.map_version, &decoded.shard_id, 1, serve_write)) return;
    own->write = (kith_shard_write){
        .op = decoded.op,
        .op_bytes = decoded.op_bytes,
        .request_id = decoded.request_id,
        .deadline_ns = request->deadline_ns,
        .done = write_done,
    };
    write_wait(own);
}
