/* A whole service in one process: storage, metadata, queries, gRPC and REST, over the in-process transport.
 *
 * Start order is recovery order: data folder locked -> store -> metadata snapshot -> shards of known collections -> log
 * replayed (metadata entries may open or drop shards) -> shards started -> leftovers of dropped collections erased ->
 * serving. Stop is the reverse, and loses nothing that an unclean stop would not lose either.
 *
 * Threads: start, reload and stop on one thread, which they may keep waiting; the api from any thread.
 * Ownership: everything is its own, but for the env, which it borrows. */
#ifndef KITH_ROLE_STANDALONE_H
#define KITH_ROLE_STANDALONE_H

#include "host/api/api.h"
#include "host/config/config.h"
#include "host/env/env.h"
#include "host/metrics/metrics.h"
#include "host/role/role_compute.h"

typedef struct kith_standalone kith_standalone;

typedef struct kith_standalone_options {
    kith_env *env;
    const kith_config *config; /* copied */
    bool embedded;             /* no sockets: for programs that have kith inside */
    const kith_role_gpu *gpu;  /* NULL but in tests */
} kith_standalone_options;

/* On failure nothing is left behind, and the message is one sentence for the operator. */
KITH_CHECK kith_status kith_standalone_start(
    const kith_standalone_options *options, kith_standalone **standalone_out, kith_err *err);
kith_api *kith_standalone_api(kith_standalone *standalone);
kith_metrics *kith_standalone_metrics(kith_standalone *standalone);
uint32_t kith_standalone_grpc_port(const kith_standalone *standalone);
uint32_t kith_standalone_http_port(const kith_standalone *standalone);
/* Takes over the reloadable keys of `config`. */
void kith_standalone_reload(kith_standalone *standalone, const kith_config *config);
/* Refuses new requests, answers those in flight, cancels what takes longer than `drain_ns`, and frees. Accepts NULL. */
void kith_standalone_stop(kith_standalone *standalone, uint64_t drain_ns);

#endif
