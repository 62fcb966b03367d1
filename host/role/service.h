/* What kithd runs: one of the roles, behind one table.
 *
 * Threads: start, reload and stop on one thread, which they may keep waiting.
 * Ownership: everything is its own, but for the env, which it borrows. */
#ifndef KITH_ROLE_SERVICE_H
#define KITH_ROLE_SERVICE_H

#include "host/config/config.h"
#include "host/env/env.h"

typedef struct kith_service kith_service;

typedef struct kith_service_ports {
    uint32_t grpc, http, node; /* 0: it does not listen there */
} kith_service_ports;

typedef struct kith_service_ops {
    kith_service_ports (*ports)(const kith_service *service);
    /* Takes over the reloadable keys. */
    void (*reload)(kith_service *service, const kith_config *config);
    /* Refuses new requests, answers those in flight, cancels what takes longer than `drain_ns`, and frees. */
    void (*stop)(kith_service *service, uint64_t drain_ns);
} kith_service_ops;

struct kith_service {
    const kith_service_ops *ops;
};

/* The role of the configuration. On failure nothing is left behind, and the message is one sentence for the operator. */
KITH_CHECK kith_status kith_service_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);

/* The roles; each checks its own keys. */
KITH_CHECK kith_status kith_service_standalone_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);
KITH_CHECK kith_status kith_service_coordinator_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);
KITH_CHECK kith_status kith_service_data_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);
KITH_CHECK kith_status kith_service_query_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err);

#endif
