#include "host/role/role_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/role/role_latch.h"
#include "host/role/role_node_id.h"
#include "transport/ucx/transport_ucx.h"

/* --- the configuration --- */

/* "host:port" with a port of 1..65535; the host may be in brackets. */
static bool address_is_well_formed(const char *address) {
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || strlen(address) > KITH_NODE_ADDRESS_BYTES_MAX) return false;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == 0 && port >= 1 && port <= 65535;
}

static bool coordinator_is_listed(const kith_role_cluster *cluster, const char *address) {
    for (uint32_t i = 0; i < cluster->coordinator_count; i++)
        if (strcmp(cluster->coordinators[i], address) == 0) return true;
    return false;
}

/* Cuts `text` at commas, blanks around the parts left out. */
static kith_status coordinators_parse(kith_role_cluster *cluster, const char *text, kith_err *err) {
    cluster->coordinator_text = kith_strdup(text);
    cluster->coordinators = kith_alloc_array(KITH_COORDINATORS_MAX, sizeof *cluster->coordinators);
    for (char *rest = cluster->coordinator_text, *part; (part = strsep(&rest, ",")) != NULL;) {
        part += strspn(part, " \t");
        part[strcspn(part, " \t")] = 0;
        if (!*part) continue;
        if (!address_is_well_formed(part)) {
            return kith_err_set(
                err, KITH_INVALID, "coordinators: \"%s\" is not host:port with a port of 1..65535", part);
        }
        if (cluster->coordinator_count == KITH_COORDINATORS_MAX) {
            return kith_err_set(
                err, KITH_INVALID, "coordinators: more than %u addresses", KITH_COORDINATORS_MAX);
        }
        if (coordinator_is_listed(cluster, part))
            return kith_err_set(err, KITH_INVALID, "coordinators: \"%s\" is listed twice", part);
        cluster->coordinators[cluster->coordinator_count++] = part;
    }
    if (cluster->coordinator_count) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "coordinators is empty: a node of a cluster needs the node address of at least one, e.g. "
        "coordinators = \"10.0.0.1:7442,10.0.0.2:7442,10.0.0.3:7442\"");
}

static bool is_loopback(const char *address) {
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 ||
           strcmp(address, "localhost") == 0;
}

/* A node port without credentials is open to everyone who reaches it: only where nobody else can, or by a clear word. */
static kith_status security_check(const kith_config *config, kith_err *err) {
    bool any = config->node_ca_file[0] || config->node_cert_file[0] || config->node_key_file[0];
    bool all = config->node_ca_file[0] && config->node_cert_file[0] && config->node_key_file[0];
    if (any && !all) {
        return kith_err_set(err, KITH_INVALID,
            "node_ca_file, node_cert_file and node_key_file belong together: set all three or none");
    }
    if (all || config->node_insecure || is_loopback(config->bind_address)) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "bind_address %s would let everyone who reaches the node port read and write: make certificates with "
        "'kith cluster certs' and set node_ca_file, node_cert_file and node_key_file, or set node_insecure = "
        "true",
        config->bind_address);
}

/* Each node would call itself there. */
static kith_status address_check(const kith_config *config, kith_err *err) {
    static const char *const everywhere[] = {"0.0.0.0", "[::]", "::"};
    bool named = config->node_address[0] != 0;
    const char *address = named ? config->node_address : config->bind_address;
    for (size_t i = 0; i < sizeof everywhere / sizeof *everywhere; i++) {
        size_t bytes = strlen(everywhere[i]);
        bool is_it =
            strncmp(address, everywhere[i], bytes) == 0 && (!address[bytes] || address[bytes] == ':');
        if (!is_it) continue;
        return kith_err_set(err, KITH_INVALID,
            "%s %s is no address at which other nodes reach this one: set node_address to host:port",
            named ? "node_address" : "bind_address", address);
    }
    return KITH_OK;
}

/* --- heartbeats --- */

static uint64_t silence_ns_max(const kith_role_cluster *cluster) {
    return cluster->config->heartbeat_timeout_ms * UINT64_C(1000000);
}

/* With each heartbeat: once when the coordinators fall silent, once when one is heard again. */
static void silence_tell(kith_role_cluster *cluster) {
    uint64_t silent_ns = kith_heartbeat_silent_ns(cluster->heartbeat);
    bool silent = silent_ns > silence_ns_max(cluster);
    if (silent == cluster->told_silent) return;
    cluster->told_silent = silent;
    if (silent)
        kith_log_warn("coordinators_silent", kith_kv_u64("ms", silent_ns / 1000000));
    else
        kith_log_info("coordinators_heard");
}

static void heartbeat_fill(void *ctx, kith_codec_heartbeat *heartbeat) {
    kith_role_cluster *cluster = ctx;
    silence_tell(cluster);
    heartbeat->node = cluster->self;
    heartbeat->started_wall_ms = cluster->started_wall_ms;
    heartbeat->map_version = kith_meta_client_map_version(cluster->client);
    heartbeat->health = "ok";
    if (cluster->fill) cluster->fill(cluster->ctx, heartbeat);
}

static void leader_seen(void *ctx, const kith_node_id *id, const char *address) {
    (void)id;
    kith_meta_client_leader_seen(((kith_role_cluster *)ctx)->client, address);
}

static void map_seen(void *ctx, const char *address, uint64_t map_version) {
    kith_meta_client_map_seen(((kith_role_cluster *)ctx)->client, address, map_version);
}

static kith_heartbeat *heartbeat_create(kith_role_cluster *cluster) {
    return kith_heartbeat_create(&(kith_heartbeat_options){
        .env = cluster->env,
        .executor = cluster->executor,
        .transport = cluster->transport,
        .coordinators = cluster->coordinators,
        .coordinator_count = cluster->coordinator_count,
        .interval_ms = cluster->config->heartbeat_ms,
        .timeout_ms = cluster->config->heartbeat_timeout_ms,
        .fill = heartbeat_fill,
        .leader_seen = leader_seen,
        .map_seen = map_seen,
        .ctx = cluster,
    });
}

/* Of the map that was kept; there are few places. */
static void coordinators_keep(kith_role_cluster *cluster, bool down) {
    const kith_meta_state *state = kith_meta_client_state(cluster->client);
    for (uint32_t i = 0; i < state->node_count; i++) {
        const kith_node *node = &state->nodes[i];
        if (node->role == KITH_NODE_COORDINATOR && node->down == down)
            kith_heartbeat_keep(cluster->heartbeat, node->address);
    }
}

/* --- open --- */

static kith_status transport_open(kith_role_cluster *cluster, kith_err *err) {
    const kith_config *config = cluster->config;
    kith_transport_credentials credentials = {
        .ca_path = config->node_ca_file,
        .certificate_path = config->node_cert_file,
        .key_path = config->node_key_file,
    };
    kith_transport_ucx_options options = {
        .env = cluster->env,
        .node_id = cluster->self.id,
        .cluster_name = config->cluster_name,
        .role = kith_node_role_name(cluster->self.role),
        .bind_address = strcmp(config->bind_address, "localhost") == 0 ? "127.0.0.1" : config->bind_address,
        .port = (uint16_t)config->node_port,
        .advertise_address = config->node_address[0] ? config->node_address : NULL,
        .in_flight_max = config->node_in_flight_max,
        .in_flight_bytes_max = config->node_in_flight_bytes_max,
        .ping_interval_ms = config->node_ping_ms,
        .ping_timeout_ms = config->node_ping_timeout_ms,
        .busy_poll = config->node_busy_poll,
        .credentials = config->node_ca_file[0] ? &credentials : NULL,
        .mac_off = !config->transport_mac,
        .starts_closed = true,
    };
    kith_status status = kith_transport_ucx_create(&options, &cluster->transport, err);
    if (status != KITH_OK) return status;
    snprintf(cluster->self.address, sizeof cluster->self.address, "%s",
        kith_transport_ucx_address(cluster->transport));
    return KITH_OK;
}

static kith_status identity_load(
    kith_role_cluster *cluster, const kith_role_cluster_options *options, kith_err *err) {
    const kith_config *config = options->config;
    kith_status status = kith_role_node_id_load(options->env, options->data_dir, &cluster->self, err);
    if (status != KITH_OK) return status;
    cluster->self.role = options->role;
    cluster->self.weight = options->role == KITH_NODE_DATA ? config->node_weight : 0;
    if (config->node_name[0])
        snprintf(cluster->self.name, sizeof cluster->self.name, "%.63s", config->node_name);
    snprintf(cluster->self.zone, sizeof cluster->self.zone, "%.63s", config->node_zone);
    cluster->started_wall_ms = kith_env_wall_ms(options->env);
    return KITH_OK;
}

kith_status kith_role_cluster_open(
    const kith_role_cluster_options *options, kith_role_cluster *cluster_out, kith_err *err) {
    kith_role_cluster *cluster = cluster_out;
    *cluster = (kith_role_cluster){
        .env = options->env,
        .config = options->config,
        .executor = options->executor,
        .fill = options->fill,
        .ctx = options->ctx,
    };
    kith_status status = coordinators_parse(cluster, options->config->coordinators, err);
    if (status == KITH_OK) status = security_check(options->config, err);
    if (status == KITH_OK) status = address_check(options->config, err);
    if (status == KITH_OK) status = identity_load(cluster, options, err);
    if (status == KITH_OK) status = transport_open(cluster, err);
    if (status != KITH_OK) return status;
    cluster->client = kith_meta_client_create(&(kith_meta_client_options){
        .env = options->env,
        .executor = options->executor,
        .transport = cluster->transport,
        .dir = options->map_dir,
        .coordinators = cluster->coordinators,
        .coordinator_count = cluster->coordinator_count,
        .changed = options->changed,
        .ctx = options->ctx,
    });
    cluster->heartbeat = heartbeat_create(cluster);
    status = kith_meta_client_load(cluster->client, err);
    if (status != KITH_OK) return status;
    coordinators_keep(cluster, false);
    coordinators_keep(cluster, true);
    return KITH_OK;
}

/* --- start --- */

/* The listener's port under the host by which others know this node. */
static void client_address_set(
    const kith_role_cluster *cluster, char to[KITH_NODE_ADDRESS_BYTES_MAX + 1], uint32_t port) {
    const char *address = cluster->self.address;
    int host_bytes = (int)(strrchr(address, ':') - address);
    if (port) snprintf(to, KITH_NODE_ADDRESS_BYTES_MAX + 1, "%.*s:%u", host_bytes, address, port);
}

void kith_role_cluster_start(kith_role_cluster *cluster, uint32_t grpc_port, uint32_t http_port) {
    client_address_set(cluster, cluster->self.grpc_address, grpc_port);
    client_address_set(cluster, cluster->self.http_address, http_port);
    kith_transport_ucx_open(cluster->transport);
    kith_heartbeat_start(cluster->heartbeat);
}

uint32_t kith_role_cluster_port(const kith_role_cluster *cluster) {
    return kith_transport_ucx_port(cluster->transport);
}

static bool map_has_self(const kith_role_cluster *cluster) {
    kith_meta_map *map = kith_meta_map_get(kith_meta_client_meta(cluster->client));
    bool found = false;
    for (uint32_t i = 0; i < map->node_count && !found; i++)
        found = kith_node_id_equal(&map->nodes[i].id, &cluster->self.id) &&
                strcmp(map->nodes[i].address, cluster->self.address) == 0;
    kith_meta_map_release(map);
    return found;
}

/* A node goes on serving by its last map while no coordinator answers, so it stays ready: else whoever routes by readiness
 * would take every node away at once for the want of what searches do not need. */
static void silence_note(const kith_role_cluster *cluster, kith_err *err) {
    uint64_t silent_ns = kith_heartbeat_silent_ns(cluster->heartbeat);
    err->text[0] = 0;
    if (silent_ns <= silence_ns_max(cluster)) return;
    kith_err_set(err, KITH_OK,
        "no coordinator has been heard for %llu s: serving by map version %llu, collections and nodes cannot "
        "be changed",
        (unsigned long long)(silent_ns / 1000000000),
        (unsigned long long)kith_meta_client_map_version(cluster->client));
}

/* A data node that is not in the map yet is given no shards: whoever waits for readiness before the first collection is
 * created must wait for this too. */
kith_status kith_role_cluster_health(const kith_role_cluster *cluster, kith_err *err) {
    kith_status status = kith_meta_client_health(cluster->client, err);
    if (status != KITH_OK) return status;
    if (!map_has_self(cluster))
        return kith_err_set(err, KITH_UNAVAILABLE, "the cluster map does not have this node at %s yet",
            cluster->self.address);
    silence_note(cluster, err);
    return KITH_OK;
}

/* --- stop --- */

static void part_stopped(void *ctx) {
    kith_role_latch_done(ctx);
}

void kith_role_cluster_stop(kith_role_cluster *cluster) {
    if (!cluster->client) return;
    kith_role_latch latch;
    kith_role_latch_init(&latch);
    kith_role_latch_add(&latch, 1);
    kith_heartbeat_stop(cluster->heartbeat, part_stopped, &latch);
    kith_role_latch_wait(&latch);
    kith_role_latch_add(&latch, 1);
    kith_meta_client_stop(cluster->client, part_stopped, &latch);
    kith_role_latch_wait(&latch); /* nothing of it may reach for the transport when that is gone */
    kith_role_latch_fini(&latch);
}

void kith_role_cluster_disconnect(kith_role_cluster *cluster) {
    kith_transport_destroy(cluster->transport);
    cluster->transport = NULL;
}

void kith_role_cluster_close(kith_role_cluster *cluster) {
    kith_role_cluster_disconnect(cluster);
    kith_heartbeat_destroy(cluster->heartbeat);
    kith_meta_client_destroy(cluster->client);
    kith_free(cluster->coordinators);
    kith_free(cluster->coordinator_text);
    *cluster = (kith_role_cluster){0};
}
