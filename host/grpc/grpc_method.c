/* Every method the server knows. */
#include "host/base/err.h"
#include "host/grpc/grpc_internal.h"

/* How many calls of a method wait for clients: enough that a burst finds one armed while this thread is busy
 * (gRPC keeps those that do not, at the cost of a lock). Each is a few KB, and Debian 12's gRPC, which asserts that it knows
 * each tag, looks through all of them twice a call. */
#define ARMED_HOT  16u
#define ARMED_COLD 1u

#define COLLECTIONS "/kith.v1.Collections/"
#define POINTS      "/kith.v1.Points/"
#define CLUSTER     "/kith.v1.Cluster/"
#define UNARY(method_path, count, name)                                                                      \
    {                                                                                                        \
        .path = (method_path), .kind = &kith_grpc_kind_unary, .armed_count = (count),                        \
        .start = kith_grpc_start_##name                                                                      \
    }

const kith_grpc_method kith_grpc_methods[] = {
    UNARY(POINTS "Search", ARMED_HOT, search),
    UNARY(POINTS "Upsert", ARMED_HOT, upsert),
    UNARY(POINTS "Get", ARMED_HOT, get_points),
    UNARY(POINTS "Count", ARMED_HOT, count),
    UNARY(POINTS "Delete", ARMED_COLD, delete_points),
    UNARY(POINTS "Scroll", ARMED_COLD, scroll),
    {.path = POINTS "UpsertStream", .kind = &kith_grpc_kind_upsert_stream, .armed_count = ARMED_COLD},
    UNARY(COLLECTIONS "Create", ARMED_COLD, create_collection),
    UNARY(COLLECTIONS "Get", ARMED_COLD, get_collection),
    UNARY(COLLECTIONS "List", ARMED_COLD, list_collections),
    UNARY(COLLECTIONS "Update", ARMED_COLD, update_collection),
    UNARY(COLLECTIONS "Delete", ARMED_COLD, delete_collection),
    UNARY(CLUSTER "Status", ARMED_COLD, cluster_status),
    UNARY(CLUSTER "Shards", ARMED_COLD, cluster_shards),
    UNARY(CLUSTER "Join", ARMED_COLD, cluster_join),
    UNARY(CLUSTER "Leave", ARMED_COLD, cluster_leave),
    UNARY(CLUSTER "Drain", ARMED_COLD, cluster_drain),
    UNARY(CLUSTER "AcceptLoss", ARMED_COLD, cluster_accept_loss),
    UNARY("/grpc.health.v1.Health/Check", ARMED_COLD, health_check),
    {.path = "/grpc.health.v1.Health/Watch", .kind = &kith_grpc_kind_watch, .armed_count = ARMED_COLD},
    {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        .kind = &kith_grpc_kind_reflection,
        .armed_count = ARMED_COLD},
    {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        .kind = &kith_grpc_kind_reflection,
        .armed_count = ARMED_COLD},
    {.path = NULL, .kind = &kith_grpc_kind_unknown, .armed_count = ARMED_COLD},
};
const uint32_t kith_grpc_method_count = sizeof kith_grpc_methods / sizeof kith_grpc_methods[0];

_Static_assert(
    sizeof kith_grpc_methods / sizeof kith_grpc_methods[0] <= KITH_GRPC_METHODS_MAX, "room for all");

/* --- a path that is not in the table --- */

static void unknown_ignore(kith_grpc_call *call) {
    (void)call;
}

static void unknown_begin(kith_grpc_call *call) {
    kith_err err;
    size_t bytes = GRPC_SLICE_LENGTH(call->details.method);
    int shown_bytes = bytes > 128 ? 128 : (int)bytes;
    kith_status status = kith_err_set(&err, KITH_UNIMPLEMENTED, "there is no method %.*s", shown_bytes,
        (const char *)GRPC_SLICE_START_PTR(call->details.method));
    kith_grpc_call_finish(call, status, err.text, NULL);
}

const kith_grpc_kind kith_grpc_kind_unknown = {
    .call_bytes = sizeof(kith_grpc_call),
    .create = unknown_ignore,
    .destroy = unknown_ignore,
    .begin = unknown_begin,
    .recycle = unknown_ignore,
};
