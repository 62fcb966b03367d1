/* A gRPC server over the fake api on a free port, and a client of it. */
#ifndef KITH_TESTS_UNIT_GRPC_GRPC_FIXTURE_H
#define KITH_TESTS_UNIT_GRPC_GRPC_FIXTURE_H

#include "tests/lib/test_lib.h"

#include "host/codec/codec_client.h"
#include "host/grpc/grpc_client.h"
#include "host/grpc/grpc_server.h"
#include "tests/unit/grpc/grpc_fake_api.h"

typedef struct grpc_fixture {
    kith_env *env;
    kith_api *api;
    kith_metrics *metrics;
    kith_grpc_server *server; /* NULL once a test stopped it */
    kith_grpc_client *client;
    kith_arena arena;
    kith_buf request, reply;
    kith_err err;
} grpc_fixture;

/* `limits` holds limits alone (all zero: the defaults). */
grpc_fixture *grpc_fixture_make(const kith_grpc_server_options *limits);
void grpc_fixture_remove(grpc_fixture *fixture);
/* Calls `method` with fixture->request (cleared afterwards); the answer or message is in fixture->reply,
 * which is NUL-terminated. */
int grpc_fixture_call(grpc_fixture *fixture, const char *method, uint64_t timeout_ms);
/* Fails unless the call is answered with `code` and `message`. */
void grpc_fixture_expect(grpc_fixture *fixture, const char *method, int code, const char *message);

/* What a stream brought. */
typedef struct grpc_seen {
    uint32_t messages;
    bool has_ended;
    int code;
    char message[256];
    kith_buf last; /* bytes of the last message */
    uint32_t in_order,
        failed; /* of UpsertStream: answers whose sequence was the next one; with another code than 0 */
} grpc_seen;

kith_grpc_stream *grpc_fixture_stream(grpc_fixture *fixture, const char *method, grpc_seen *seen);
/* Sends fixture->request (cleared afterwards) when the stream lets it. */
void grpc_fixture_send(grpc_fixture *fixture, kith_grpc_stream *stream);
void grpc_fixture_finish(grpc_fixture *fixture, kith_grpc_stream *stream);
/* Polls until `*count` is at least `least`, or the stream ended, at most 20 s. */
void grpc_fixture_wait(grpc_fixture *fixture, const grpc_seen *seen, uint32_t least);
void grpc_fixture_wait_end(grpc_fixture *fixture, const grpc_seen *seen);
/* Polls the client until `*value` is `wanted`, at most 20 s. */
void grpc_fixture_wait_value(grpc_fixture *fixture, const atomic_uint *value, uint32_t wanted);

#define FIXTURE_SETUP(...)                                                                                   \
    grpc_fixture *fixture = grpc_fixture_make(&(kith_grpc_server_options){__VA_ARGS__});                     \
    (void)state

#endif
