/* The data side of queries: answers the messages of transport/am_kinds.h from this node's shards.
 *
 * Threads: created and destroyed on one thread; handlers run on the executors given. A search is decoded, run (when it is
 * small) and answered on one search thread.
 * Ownership: borrows everything in its options. */
#ifndef KITH_QUERY_QUERY_SERVE_H
#define KITH_QUERY_QUERY_SERVE_H

#include "host/meta/meta.h"
#include "host/replica/replica.h"
#include "host/shard/shard_set.h"
#include "transport/transport.h"

typedef struct kith_query_serve kith_query_serve;

typedef struct kith_query_serve_options {
    kith_env *env;
    kith_transport *transport;
    kith_shard_set *shards;
    kith_meta *meta; /* for askers with a newer map than this node's; NULL: there is only one map */
    kith_replica_set *replicas; /* NULL: shards have one copy, without a gate */
    kith_executor *search;      /* searches, counts, reads of points */
    kith_executor *write;       /* hands writes over; cheap, so the shards' own executor will do */
} kith_query_serve_options;

/* Registers the handlers. */
kith_query_serve *kith_query_serve_create(const kith_query_serve_options *options);
/* No request may be under way. Accepts NULL. */
void kith_query_serve_destroy(kith_query_serve *serve);

#endif
