/* The clients' side of a node: limits of the api, and the servers in front of it.
 *
 * Threads: start and stop on one thread, which they keep waiting; the rest from any. */
#ifndef KITH_ROLE_ROLE_API_H
#define KITH_ROLE_ROLE_API_H

#include "host/api/api.h"
#include "host/config/config.h"
#include "host/grpc/grpc_server.h"
#include "host/http/http_server.h"
#include "host/role/service.h"

kith_api_limits kith_role_api_limits(const kith_config *config, uint32_t search_threads);

typedef struct kith_role_servers {
    kith_grpc_server *grpc; /* NULL: there is none */
    kith_http_server *http;
} kith_role_servers;

/* On failure some may serve: stop them. */
KITH_CHECK kith_status kith_role_servers_start(kith_env *env, const kith_config *config, kith_api *api,
    kith_metrics *metrics, kith_role_servers *servers, kith_err *err);
/* Ports of the node transport are not theirs. */
kith_service_ports kith_role_servers_ports(const kith_role_servers *servers);
/* Refuses new requests, answers those in flight, cancels what takes longer than `drain_ns`. `api` may be NULL. */
void kith_role_servers_stop(kith_role_servers *servers, kith_api *api, uint64_t drain_ns);

#endif
