#include "host/role/role_api.h"

#include "host/base/log.h"

#define MS_NS UINT64_C(1000000)

kith_api_limits kith_role_api_limits(const kith_config *config, uint32_t search_threads) {
    return (kith_api_limits){
        .search_timeout_ns = config->search_timeout_ms * MS_NS,
        .write_timeout_ns = config->write_timeout_ms * MS_NS,
        .slow_search_ns = config->slow_query_ms * MS_NS,
        .reads_max = config->search_queue_max + search_threads,
        .write_bytes_max = config->write_queue_bytes_max,
    };
}

kith_status kith_role_servers_start(kith_env *env, const kith_config *config, kith_api *api,
    kith_metrics *metrics, kith_role_servers *servers, kith_err *err) {
    kith_grpc_server_options grpc = {
        .env = env,
        .api = api,
        .metrics = metrics,
        .bind_address = config->bind_address,
        .port = config->grpc_port,
        .thread_count = config->grpc_threads,
        .message_bytes_max = config->message_bytes_max,
        .answer_timeout_ns = config->answer_timeout_ms * MS_NS,
    };
    kith_http_server_options http = {
        .api = api,
        .metrics = metrics,
        .bind_address = config->bind_address,
        .port = config->http_port,
    };
    kith_status status = kith_grpc_server_start(&grpc, &servers->grpc, err);
    if (status == KITH_OK) status = kith_http_server_start(&http, &servers->http, err);
    return status;
}

kith_service_ports kith_role_servers_ports(const kith_role_servers *servers) {
    return (kith_service_ports){
        .grpc = servers->grpc ? kith_grpc_server_port(servers->grpc) : 0,
        .http = servers->http ? kith_http_server_port(servers->http) : 0,
    };
}

void kith_role_servers_stop(kith_role_servers *servers, kith_api *api, uint64_t drain_ns) {
    if (api) kith_api_stop(api);
    kith_grpc_server_stop(servers->grpc, drain_ns);
    kith_http_server_stop(servers->http); /* after gRPC: meanwhile /readyz says that we go */
    *servers = (kith_role_servers){0};
    /* The servers have waited for their calls. Whoever embeds us may still have some: every request has a deadline. */
    if (!api || kith_api_wait_idle(api, drain_ns)) return;
    kith_log_warn("stop_waits", kith_kv_u64("requests", kith_api_in_flight(api)));
    while (!kith_api_wait_idle(api, 1000 * MS_NS)) {
    }
}
