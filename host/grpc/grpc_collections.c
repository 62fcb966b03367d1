/* kith.v1.Collections: message -> api call -> message. */
#include <string.h>

#include "host/codec/codec_collections.h"
#include "host/grpc/grpc_internal.h"

static void infos_append(kith_grpc_unary *unary, const kith_api_collection_info *infos, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        kith_codec_collection_append(&(kith_codec_collection_info){.collection = &infos[i].collection,
                                         .points = infos[i].points,
                                         .segments = infos[i].segments,
                                         .segments_sealed = infos[i].segments_sealed,
                                         .vector_bytes = infos[i].vector_bytes,
                                         .health = infos[i].health},
            &unary->reply);
    }
}

static void infos_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) infos_append(unary, infos, count);
    kith_grpc_unary_answer(unary, status, err);
}

static void created_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) {
        infos_append(unary, infos, count);
        kith_codec_created_append(call->existed, &unary->reply);
    }
    kith_grpc_unary_answer(unary, status, err);
}

static void updated_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) {
        infos_append(unary, infos, count);
        kith_codec_updated_append(call->changed, &unary->reply);
    }
    kith_grpc_unary_answer(unary, status, err);
}

static void deleted_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    (void)infos;
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) kith_codec_delete_collection_response_encode(count > 0, &unary->reply);
    kith_grpc_unary_answer(unary, status, err);
}

static kith_api_collection_call *named_call(kith_grpc_unary *unary, const char *name) {
    unary->api.collection = (kith_api_collection_call){.call = kith_grpc_unary_api_call(unary),
        .name = name,
        .name_bytes = name ? strlen(name) : 0,
        .done = infos_done};
    return &unary->api.collection;
}

KITH_GRPC_START(create_collection) {
    kith_codec_create_request *request = kith_arena_alloc(&unary->arena, sizeof *request);
    kith_status status = kith_codec_create_request_decode(data, bytes, &unary->arena, request, err);
    if (status != KITH_OK) return status;
    kith_api_collection_call *call = named_call(unary, request->name);
    call->schema = request->schema;
    call->shard_count = request->shard_count;
    call->replication_factor = request->replication_factor;
    call->min_in_sync = request->min_in_sync;
    call->durability = request->durability;
    call->done = created_done;
    return kith_api_collection_create(unary->base.thread->server->options.api, call, err);
}

KITH_GRPC_START(update_collection) {
    kith_codec_update_request request;
    kith_status status = kith_codec_update_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    kith_api_collection_call *call = named_call(unary, request.name);
    call->replication_factor = request.replication_factor;
    call->min_in_sync = request.min_in_sync;
    call->durability = request.durability;
    call->done = updated_done;
    return kith_api_collection_update(unary->base.thread->server->options.api, call, err);
}

KITH_GRPC_START(get_collection) {
    kith_codec_name_request request;
    kith_status status = kith_codec_get_collection_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    kith_api_collection_call *call = named_call(unary, request.name);
    return kith_api_collection_get(unary->base.thread->server->options.api, call, err);
}

KITH_GRPC_START(list_collections) {
    kith_status status = kith_codec_list_request_decode(data, bytes, &unary->arena, err);
    if (status != KITH_OK) return status;
    kith_api_collection_call *call = named_call(unary, NULL);
    return kith_api_collection_list(unary->base.thread->server->options.api, call, err);
}

KITH_GRPC_START(delete_collection) {
    kith_codec_name_request request;
    kith_status status =
        kith_codec_delete_collection_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    kith_api_collection_call *call = named_call(unary, request.name);
    call->missing_ok = request.missing_ok;
    call->done = deleted_done;
    return kith_api_collection_delete(unary->base.thread->server->options.api, call, err);
}
