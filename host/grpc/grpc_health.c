/* grpc.health.v1: Check, and Watch as a long call that is asked at every tick whether the state changed.
 * Every service has the server's state. */
#include <string.h>

#include "host/codec/codec_health.h"
#include "host/grpc/grpc_internal.h"

static bool service_is_known(const char *service) {
    static const char *const names[] = {
        "", "kith.v1.Collections", "kith.v1.Points", "kith.v1.Cluster", "grpc.health.v1.Health"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(service, names[i]) == 0) return true;
    }
    return false;
}

static kith_codec_health health_now(const kith_grpc_thread *thread) {
    if (thread->ending) return KITH_CODEC_HEALTH_NOT_SERVING;
    bool is_ready = kith_api_ready(thread->server->options.api, NULL) == KITH_OK;
    return is_ready ? KITH_CODEC_HEALTH_SERVING : KITH_CODEC_HEALTH_NOT_SERVING;
}

KITH_GRPC_START(health_check) {
    const char *service;
    kith_status status = kith_codec_health_request_decode(data, bytes, &unary->arena, &service, err);
    if (status != KITH_OK) return status;
    if (!service_is_known(service)) {
        return kith_err_set(err, KITH_NOT_FOUND, "service: \"%.128s\" is not one of this server's", service);
    }
    kith_codec_health_response_encode(health_now(unary->base.thread), &unary->reply);
    kith_grpc_unary_answer(unary, KITH_OK, NULL);
    return KITH_OK;
}

/* --- watch --- */

typedef struct watch {
    kith_grpc_call base;
    kith_grpc_tag sent;
    kith_buf reply;
    grpc_byte_buffer *message; /* on its way */
    kith_codec_health told;    /* 0: nothing yet */
    bool is_known, has_ended, is_finishing;
} watch;

static watch *watch_of(kith_grpc_call *call) {
    return (watch *)call;
}

static void watch_tell(watch *w, kith_codec_health health) {
    kith_codec_health_response_encode(health, &w->reply);
    w->message = kith_grpc_message_of(&w->reply);
    w->told = health;
    grpc_op ops[2];
    memset(ops, 0, sizeof ops);
    size_t count = 0;
    if (!w->base.has_sent_metadata) ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    w->base.has_sent_metadata = true;
    ops[count].op = GRPC_OP_SEND_MESSAGE;
    ops[count++].data.send_message.send_message = w->message;
    w->base.pending_count++;
    kith_grpc_call_sending(&w->base);
    kith_grpc_call_start_batch(&w->base, ops, count, &w->sent);
}

static void watch_advance(watch *w) {
    if (w->message || w->is_finishing) return;
    kith_codec_health health = w->is_known ? health_now(w->base.thread) : KITH_CODEC_HEALTH_SERVICE_UNKNOWN;
    if (health != w->told && !w->base.is_closed) {
        watch_tell(w, health);
    } else if (w->has_ended) {
        w->is_finishing = true;
        kith_grpc_call_finish(&w->base, KITH_CLOSED, "shutting down", NULL);
    }
}

static void watch_sent(kith_grpc_tag *tag, bool ok) {
    (void)ok; /* the client is gone: closed comes as well */
    watch *w = (watch *)((char *)tag - offsetof(watch, sent));
    grpc_byte_buffer_destroy(w->message);
    w->message = NULL;
    w->base.pending_count--;
    kith_grpc_call_sent(&w->base);
    watch_advance(w);
    kith_grpc_call_settle(&w->base);
}

static void watch_create(kith_grpc_call *call) {
    kith_buf_init(&watch_of(call)->reply);
    watch_of(call)->sent.run = watch_sent;
}

static void watch_destroy(kith_grpc_call *call) {
    kith_buf_fini(&watch_of(call)->reply);
}

static kith_status watch_service(kith_grpc_call *call, bool *is_known_out, kith_err *err) {
    kith_arena arena;
    kith_arena_init(&arena);
    kith_grpc_bytes request = kith_grpc_bytes_open(call->payload);
    const char *service;
    kith_status status = kith_codec_health_request_decode(
        kith_grpc_bytes_data(&request), request.bytes, &arena, &service, err);
    if (status == KITH_OK) *is_known_out = service_is_known(service);
    kith_grpc_bytes_close(&request);
    kith_arena_fini(&arena);
    return status;
}

static void watch_begin(kith_grpc_call *call) {
    kith_err err;
    kith_status status = watch_service(call, &watch_of(call)->is_known, &err);
    if (status == KITH_OK) {
        watch_advance(watch_of(call));
        return;
    }
    watch_of(call)->is_finishing = true;
    kith_grpc_call_finish(call, status, err.text, NULL);
}

static void watch_end(kith_grpc_call *call) {
    watch_of(call)->has_ended = true;
    watch_advance(watch_of(call));
}

static void watch_tick(kith_grpc_call *call) {
    watch_advance(watch_of(call));
}

static void watch_recycle(kith_grpc_call *call) {
    watch *w = watch_of(call);
    w->told = 0;
    w->is_known = w->has_ended = w->is_finishing = false;
}

const kith_grpc_kind kith_grpc_kind_watch = {
    .call_bytes = sizeof(watch),
    .has_payload = true,
    .is_long = true,
    .create = watch_create,
    .destroy = watch_destroy,
    .begin = watch_begin,
    .cancelled = watch_end,
    .end = watch_end,
    .tick = watch_tick,
    .recycle = watch_recycle,
};
