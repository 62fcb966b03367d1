/* What a node measures: counters that the shards keep are carried over once a second, the rest is observed as it happens.
 *
 * Threads: observe functions from any thread; start and stop on the main thread; the tick runs on the executor given,
 * which may read files and is meta's, so that it sees the collections without a lock.
 * Ownership: borrows everything. */
#ifndef KITH_ROLE_ROLE_METRICS_H
#define KITH_ROLE_ROLE_METRICS_H

#include "host/api/api.h"
#include "host/meta/meta.h"
#include "host/metrics/metrics.h"
#include "host/replica/replica.h"
#include "host/role/data.h"
#include "host/role/role_compute.h"
#include "transport/transport.h"

typedef struct kith_role_metrics kith_role_metrics;

kith_role_metrics *kith_role_metrics_create(kith_env *env, kith_metrics *metrics);
/* What this node has; NULL where it has not. */
typedef struct kith_role_metrics_sources {
    kith_executor *executor; /* of the ticks: meta's */
    const char *dir;         /* the data folder */
    kith_role_data *data;
    kith_role_compute *compute;
    kith_replica_set *replicas;
    kith_meta *meta;                 /* whose collections are measured on `data` */
    const kith_transport *transport; /* between nodes: UCX */
} kith_role_metrics_sources;

/* Begins the ticks. */
void kith_role_metrics_start(kith_role_metrics *own, const kith_role_metrics_sources *sources);
/* Nothing is measured after it. A tick may still be queued, which finds nothing to do: destroy only after the executor. */
void kith_role_metrics_stop(kith_role_metrics *own);
void kith_role_metrics_destroy(kith_role_metrics *own); /* accepts NULL */

void kith_role_metrics_searched(kith_role_metrics *own, const kith_api_search_sample *sample);
void kith_role_metrics_wrote(kith_role_metrics *own, kith_status status, uint64_t took_ns, uint32_t points);
void kith_role_metrics_synced(kith_role_metrics *own, uint64_t took_ns, uint64_t bytes);
void kith_role_metrics_sealed(kith_role_metrics *own, uint64_t took_ns);
/* On meta's executor: its series go. */
void kith_role_metrics_dropped(kith_role_metrics *own, const kith_collection *collection);

#endif
