/* A query node: the clients' entry. It keeps nothing but its id; it has the api over the transport and the newest map. */
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/role/role_api.h"
#include "host/role/role_cluster.h"
#include "host/role/role_folder.h"
#include "host/role/role_metrics.h"
#include "host/role/service.h"

typedef struct query_node {
    kith_service base;
    kith_env *env;
    kith_config config;
    kith_file *lock;
    kith_executor *meta_executor, *answers;
    kith_metrics *metrics;
    kith_role_metrics *measure;
    kith_role_cluster cluster;
    kith_api *api;
    kith_role_servers servers;
} query_node;

static kith_status health(void *ctx, kith_err *err) {
    return kith_role_cluster_health(&((query_node *)ctx)->cluster, err);
}

static void api_searched(void *ctx, const kith_api_search_sample *sample) {
    kith_role_metrics_searched(((query_node *)ctx)->measure, sample);
}

static void api_wrote(void *ctx, kith_status status, uint64_t took_ns, uint32_t points) {
    kith_role_metrics_wrote(((query_node *)ctx)->measure, status, took_ns, points);
}

static kith_status folder_open(query_node *own, kith_err *err) {
    kith_status status = kith_dir_make(own->env, own->config.data_dir, err);
    if (status == KITH_OK) status = kith_dir_lock(own->env, own->config.data_dir, &own->lock, err);
    if (status == KITH_OK)
        status = kith_role_folder_claim(own->env, own->config.data_dir, KITH_CONFIG_ROLE_QUERY, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "data_dir %s", own->config.data_dir);
}

static kith_status node_start(query_node *own, kith_err *err) {
    kith_status status = folder_open(own, err);
    if (status == KITH_OK) status = kith_executor_create(own->env, "meta", 1, &own->meta_executor, err);
    if (status == KITH_OK) status = kith_executor_create(own->env, "answers", 1, &own->answers, err);
    if (status != KITH_OK) return status;
    kith_role_cluster_options cluster = {
        .env = own->env,
        .config = &own->config,
        .executor = own->meta_executor,
        .data_dir = own->config.data_dir,
        .role = KITH_NODE_QUERY,
        .ctx = own,
    };
    status = kith_role_cluster_open(&cluster, &own->cluster, err);
    if (status != KITH_OK) return status;
    own->api = kith_api_create(&(kith_api_options){
        .env = own->env,
        .meta = kith_meta_client_meta(own->cluster.client),
        .transport = own->cluster.transport,
        .executor = own->answers,
        .limits = kith_role_api_limits(&own->config, 1),
        .message_bytes_max = own->config.message_bytes_max,
        .health = health,
        .searched = api_searched,
        .wrote = api_wrote,
        .ctx = own,
    });
    kith_role_metrics_start(own->measure, &(kith_role_metrics_sources){.executor = own->meta_executor,
                                              .dir = own->config.data_dir,
                                              .transport = own->cluster.transport});
    status = kith_role_servers_start(own->env, &own->config, own->api, own->metrics, &own->servers, err);
    if (status != KITH_OK) return status;
    kith_service_ports ports = kith_role_servers_ports(&own->servers);
    kith_role_cluster_start(&own->cluster, ports.grpc, ports.http);
    return KITH_OK;
}

static kith_service_ports node_ports(const kith_service *service) {
    const query_node *own = (const query_node *)service;
    kith_service_ports ports = kith_role_servers_ports(&own->servers);
    ports.node = kith_role_cluster_port(&own->cluster);
    return ports;
}

static void node_reload(kith_service *service, const kith_config *config) {
    query_node *own = (query_node *)service;
    own->config = *config;
    kith_log_level_set((kith_log_level)config->log_level);
    kith_api_limits limits = kith_role_api_limits(config, 1);
    kith_api_limits_set(own->api, &limits);
}

/* Proposals and waits for a map end with the cluster's part, before the servers: those would wait for them until their own
 * deadlines, the longer the fewer coordinators are left. */
static void requests_stop(query_node *own, uint64_t drain_ns) {
    uint64_t end_ns = kith_env_now_ns(own->env) + drain_ns;
    if (own->api) {
        kith_api_stop(own->api);
        (void)kith_api_wait_idle(own->api, drain_ns);
    }
    kith_role_cluster_stop(&own->cluster);
    uint64_t now_ns = kith_env_now_ns(own->env);
    kith_role_servers_stop(&own->servers, own->api, end_ns > now_ns ? end_ns - now_ns : 0);
}

static void node_stop(kith_service *service, uint64_t drain_ns) {
    query_node *own = (query_node *)service;
    requests_stop(own, drain_ns);
    kith_role_metrics_stop(own->measure);
    kith_role_cluster_disconnect(&own->cluster);
    kith_executor_destroy(own->meta_executor);
    kith_executor_destroy(own->answers);
    kith_role_cluster_close(&own->cluster);
    kith_api_destroy(own->api);
    kith_role_metrics_destroy(own->measure);
    kith_metrics_destroy(own->metrics);
    kith_file_close(own->lock);
    kith_free(own);
}

static const kith_service_ops node_ops = {.ports = node_ports, .reload = node_reload, .stop = node_stop};

kith_status kith_service_query_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    query_node *own = kith_alloc_zero(sizeof *own);
    own->base.ops = &node_ops;
    own->env = env;
    own->config = *config;
    own->metrics = kith_metrics_create();
    own->measure = kith_role_metrics_create(env, own->metrics);
    kith_status status = node_start(own, err);
    if (status != KITH_OK) {
        node_stop(&own->base, 0);
        return status;
    }
    *service_out = &own->base;
    return KITH_OK;
}
