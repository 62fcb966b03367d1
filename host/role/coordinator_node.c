/* A coordinator: the cluster's metadata in Raft, and who its nodes are.
 *
 * Start order: folder locked -> log loaded -> node port -> handlers -> served. A log of a cluster starts at once; a new one
 * when the other coordinators are found (coordinator_form.h). */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/cluster/coordinator.h"
#include "host/http/http_server.h"
#include "host/role/coordinator_form.h"
#include "host/role/role_cluster.h"
#include "host/role/role_folder.h"
#include "host/role/role_latch.h"
#include "host/role/role_metrics.h"
#include "host/role/service.h"

#define PATH_BYTES_MAX 4096u

typedef struct coordinator_node {
    kith_service base;
    kith_env *env;
    kith_config config;
    kith_file *lock;
    kith_executor *meta_executor, *disk, *snapshots;
    kith_metrics *metrics;
    kith_role_metrics *measure;
    kith_role_cluster cluster;
    kith_meta_fsm fsm;
    kith_meta_log *log;
    kith_coordinator *coordinator;
    kith_coordinator_form *form;
    bool is_formed; /* on meta's executor */
    kith_http_server *http;
    char meta_dir[PATH_BYTES_MAX];
    /* Written on meta's executor, read by any thread; each says nothing of the other. */
    _Atomic bool running, leader_known, failed;
    kith_task start_task, stop_task;
    kith_role_latch stop_latch;
} coordinator_node;

/* --- the log's hooks, on meta's executor --- */

static void log_applied(void *ctx, kith_meta_result *result) {
    kith_coordinator_applied(((coordinator_node *)ctx)->coordinator, result);
}

static void log_restored(void *ctx) {
    kith_coordinator_restored(((coordinator_node *)ctx)->coordinator);
}

static void log_leadership(void *ctx, bool is_leader, uint64_t term, const kith_meta_member *leader) {
    coordinator_node *own = ctx;
    atomic_store(&own->leader_known, leader != NULL);
    kith_log_info("leadership", kith_kv_text("leader", leader ? leader->address : ""),
        kith_kv_u64("term", term), kith_kv_text("here", is_leader ? "yes" : "no"));
    kith_coordinator_leadership(own->coordinator, is_leader, term, leader);
}

static void log_failed(void *ctx, kith_status status, const kith_err *err) {
    coordinator_node *own = ctx;
    atomic_store(&own->failed, true);
    kith_log_error(status == KITH_NOT_FOUND ? "coordinator_removed" : "coordinator_failed",
        kith_kv_text("reason", err->text));
}

/* --- a folder that has been a coordinator's --- */

static kith_status mark_path(const coordinator_node *own, char path[PATH_BYTES_MAX], kith_err *err) {
    int bytes = snprintf(path, PATH_BYTES_MAX, "%s/coordinator", own->config.data_dir);
    if (bytes > 0 && (uint32_t)bytes < PATH_BYTES_MAX) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "data_dir is longer than %u bytes", PATH_BYTES_MAX);
}

static kith_status mark_is_there(coordinator_node *own, bool *there_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    kith_file *file;
    kith_status status = mark_path(own, path, err);
    if (status == KITH_OK) status = kith_file_open(own->env, path, KITH_FILE_READ, &file, err);
    *there_out = status == KITH_OK;
    if (status == KITH_OK) kith_file_close(file);
    return status == KITH_NOT_FOUND ? KITH_OK : status;
}

/* From here on a folder without its log has lost it, and with it votes it may have given. */
static kith_status mark_make(coordinator_node *own, kith_err *err) {
    char path[PATH_BYTES_MAX];
    kith_file *file;
    kith_status status = mark_path(own, path, err);
    if (status == KITH_OK) status = kith_file_open(own->env, path, KITH_FILE_WRITE, &file, err);
    if (status != KITH_OK) return status;
    status = kith_file_sync(file, err);
    kith_file_close(file);
    if (status == KITH_OK) status = kith_dir_sync(own->env, own->config.data_dir, err);
    return status;
}

/* --- start --- */

static kith_status log_start(coordinator_node *own, kith_err *err) {
    kith_status status = mark_make(own, err);
    if (status == KITH_OK) status = kith_meta_log_raft_start(own->log, err);
    if (status == KITH_OK) atomic_store(&own->running, true);
    return status;
}

static void start_failed(coordinator_node *own, const kith_err *err) {
    atomic_store(&own->failed, true);
    kith_log_error("coordinator_failed", kith_kv_text("reason", err->text));
}

/* The same on each of the first members, and on those of no other cluster. */
static kith_node_id cluster_id_of(const kith_meta_member *members, uint32_t member_count) {
    kith_node_id id = {{0}};
    for (uint32_t i = 0; i < member_count; i++) {
        for (size_t j = 0; j < sizeof id.bytes; j++)
            id.bytes[j] ^= members[i].id.bytes[j];
    }
    return id;
}

static void formed(void *ctx, kith_status status, const kith_meta_member *members, uint32_t member_count) {
    coordinator_node *own = ctx;
    kith_err err;
    own->is_formed = true;
    if (status != KITH_OK) { /* it stops */
        kith_role_latch_done(&own->stop_latch);
        return;
    }
    if (member_count) {
        kith_log_info("cluster_formed", kith_kv_u64("coordinators", member_count));
        own->fsm.state.cluster_id = cluster_id_of(members, member_count);
        status = kith_meta_log_raft_bootstrap(own->log, members, member_count, &err);
    } else {
        kith_log_info("coordinator_waits_to_join", kith_kv_text("address", own->cluster.self.address));
    }
    if (status == KITH_OK) status = log_start(own, &err);
    if (status != KITH_OK) start_failed(own, &err);
}

static void start_run(kith_task *task) {
    coordinator_node *own =
        (coordinator_node *)(void *)((char *)task - offsetof(coordinator_node, start_task));
    kith_err err;
    if (!kith_meta_log_raft_is_new(own->log)) {
        if (log_start(own, &err) != KITH_OK) start_failed(own, &err);
        return;
    }
    own->form = kith_coordinator_form_create(&(kith_coordinator_form_options){
        .env = own->env,
        .executor = own->meta_executor,
        .transport = own->cluster.transport,
        .self = own->cluster.self.id,
        .addresses = own->cluster.coordinators,
        .address_count = own->cluster.coordinator_count,
        .done = formed,
        .ctx = own,
    });
}

static kith_status folder_open(coordinator_node *own, kith_err *err) {
    const char *dir = own->config.data_dir;
    kith_status status = kith_dir_make(own->env, dir, err);
    if (status == KITH_OK) status = kith_dir_lock(own->env, dir, &own->lock, err);
    if (status == KITH_OK) status = kith_role_folder_claim(own->env, dir, KITH_CONFIG_ROLE_COORDINATOR, err);
    snprintf(own->meta_dir, sizeof own->meta_dir, "%s/meta", dir);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "data_dir %s", dir);
}

static kith_status log_open(coordinator_node *own, kith_err *err) {
    bool must_exist;
    kith_status status = mark_is_there(own, &must_exist, err);
    if (status != KITH_OK) return status;
    kith_meta_log_raft_options options = {
        .env = own->env,
        .dir = own->meta_dir,
        .executor = own->meta_executor,
        .disk_executor = own->disk,
        .snapshot_executor = own->snapshots,
        .fsm = &own->fsm,
        .transport = own->cluster.transport,
        .self = {.id = own->cluster.self.id},
        .must_exist = must_exist,
        .election_timeout_ms = own->config.election_timeout_ms,
        .applied = log_applied,
        .restored = log_restored,
        .leadership = log_leadership,
        .failed = log_failed,
        .ctx = own,
    };
    snprintf(options.self.address, sizeof options.self.address, "%s", own->cluster.self.address);
    return kith_meta_log_raft_open(&options, &own->log, err);
}

static kith_status ready(void *ctx, kith_err *err) {
    coordinator_node *own = ctx;
    if (atomic_load(&own->failed))
        return kith_err_set(err, KITH_UNAVAILABLE, "the metadata log has stopped: see this node's log");
    if (!atomic_load(&own->running))
        return kith_err_set(err, KITH_UNAVAILABLE, "waiting for the other coordinators of the configuration");
    if (!atomic_load(&own->leader_known))
        return kith_err_set(
            err, KITH_UNAVAILABLE, "no leader is known: a majority of the coordinators is needed");
    return KITH_OK;
}

static void heartbeat_fill(void *ctx, kith_codec_heartbeat *heartbeat) {
    static __thread kith_err err; /* the text is borrowed until this thread's task ends */
    if (ready(ctx, &err) != KITH_OK) heartbeat->health = err.text;
}

static kith_status node_start(coordinator_node *own, kith_err *err) {
    kith_status status = folder_open(own, err);
    if (status == KITH_OK) status = kith_executor_create(own->env, "meta", 1, &own->meta_executor, err);
    if (status == KITH_OK) status = kith_executor_create(own->env, "raft-log", 1, &own->disk, err);
    if (status == KITH_OK) status = kith_executor_create(own->env, "raft-snapshot", 1, &own->snapshots, err);
    if (status != KITH_OK) return status;
    kith_role_cluster_options cluster = {
        .env = own->env,
        .config = &own->config,
        .executor = own->meta_executor,
        .data_dir = own->config.data_dir,
        .role = KITH_NODE_COORDINATOR,
        .fill = heartbeat_fill,
        .ctx = own,
    };
    status = kith_role_cluster_open(&cluster, &own->cluster, err);
    if (status == KITH_OK) status = log_open(own, err);
    if (status != KITH_OK) return status;
    kith_meta_member self = {.id = own->cluster.self.id};
    snprintf(self.address, sizeof self.address, "%s", own->cluster.self.address);
    own->coordinator = kith_coordinator_create(&(kith_coordinator_options){
        .env = own->env,
        .executor = own->meta_executor,
        .transport = own->cluster.transport,
        .self = self,
        .heartbeat_timeout_ms = own->config.heartbeat_timeout_ms,
        .replica_replace_after_ms = own->config.replica_replace_after_ms,
        .rebalance_moves_max = own->config.rebalance_moves_max,
        .fsm = &own->fsm,
        .log = own->log,
        .raft = {.is_new = kith_meta_log_raft_is_new,
            .status = kith_meta_log_raft_status,
            .join = kith_meta_log_raft_join,
            .leave = kith_meta_log_raft_leave,
            .transfer = kith_meta_log_raft_transfer},
    });
    kith_role_metrics_start(own->measure, &(kith_role_metrics_sources){.executor = own->meta_executor,
                                              .dir = own->config.data_dir,
                                              .transport = own->cluster.transport});
    kith_http_server_options http = {
        .ready = ready,
        .ctx = own,
        .metrics = own->metrics,
        .bind_address = own->config.bind_address,
        .port = own->config.http_port,
    };
    status = kith_http_server_start(&http, &own->http, err);
    if (status != KITH_OK) return status;
    kith_coordinator_start(own->coordinator);
    kith_role_cluster_start(&own->cluster, 0, kith_http_server_port(own->http));
    own->start_task.run = start_run;
    kith_executor_post(own->meta_executor, &own->start_task);
    return KITH_OK;
}

/* --- life --- */

static kith_service_ports node_ports(const kith_service *service) {
    const coordinator_node *own = (const coordinator_node *)service;
    return (kith_service_ports){
        .http = kith_http_server_port(own->http), .node = kith_role_cluster_port(&own->cluster)};
}

static void node_reload(kith_service *service, const kith_config *config) {
    ((coordinator_node *)service)->config = *config;
    kith_log_level_set((kith_log_level)config->log_level);
}

static void part_stopped(void *ctx) {
    kith_role_latch_done(&((coordinator_node *)ctx)->stop_latch);
}

static void stop_run(kith_task *task) {
    coordinator_node *own =
        (coordinator_node *)(void *)((char *)task - offsetof(coordinator_node, stop_task));
    if (own->form && !own->is_formed) {
        kith_role_latch_add(&own->stop_latch, 1); /* its questions must end before the transport goes */
        kith_coordinator_form_stop(own->form);
    }
    kith_coordinator_stop(own->coordinator, part_stopped, own);
    kith_meta_log_raft_stop(own->log, part_stopped, own);
}

/* Leadership is handed over first, so that the others need no election. */
static void log_stop(coordinator_node *own) {
    kith_role_latch_init(&own->stop_latch);
    kith_role_latch_add(&own->stop_latch, 2);
    own->stop_task.run = stop_run;
    kith_executor_post(own->meta_executor, &own->stop_task);
    kith_role_latch_wait(&own->stop_latch);
    kith_role_latch_fini(&own->stop_latch);
}

static void node_stop(kith_service *service, uint64_t drain_ns) {
    coordinator_node *own = (coordinator_node *)service;
    (void)drain_ns; /* every request to a coordinator is short */
    kith_http_server_stop(own->http);
    kith_role_metrics_stop(own->measure);
    if (own->coordinator) log_stop(own);
    kith_role_cluster_stop(&own->cluster);
    kith_role_cluster_disconnect(&own->cluster);
    kith_executor_destroy(own->meta_executor);
    kith_coordinator_form_destroy(own->form);
    kith_coordinator_destroy(own->coordinator);
    kith_meta_log_close(own->log);
    kith_executor_destroy(own->disk);
    kith_executor_destroy(own->snapshots);
    kith_role_cluster_close(&own->cluster);
    kith_meta_fsm_fini(&own->fsm);
    kith_role_metrics_destroy(own->measure);
    kith_metrics_destroy(own->metrics);
    kith_file_close(own->lock);
    kith_free(own);
}

static const kith_service_ops node_ops = {.ports = node_ports, .reload = node_reload, .stop = node_stop};

kith_status kith_service_coordinator_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    coordinator_node *own = kith_alloc_zero(sizeof *own);
    own->base.ops = &node_ops;
    own->env = env;
    own->config = *config;
    own->metrics = kith_metrics_create();
    own->measure = kith_role_metrics_create(env, own->metrics);
    kith_meta_fsm_init(&own->fsm);
    kith_status status = node_start(own, err);
    if (status != KITH_OK) {
        node_stop(&own->base, 0);
        return status;
    }
    *service_out = &own->base;
    return KITH_OK;
}
