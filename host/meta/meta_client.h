/* Metadata kept elsewhere: what a data or query node has of it. Takes the map from pushes of the leader and pulls it when a
 * peer speaks of a newer one; carries proposals to the leader and repeats them, under one request id, until they are
 * answered or their deadline passes.
 *
 * A map is only ever followed by one of a higher version. The last one is kept in a file where a folder is given, so that
 * a data node opens its shards while no coordinator answers; a map from the file says nothing of what has been dropped
 * since, so nothing is erased by it (see `changed`).
 *
 * Life: create -> load -> leader_seen, map_seen, pulls, pushes -> stop -> (done) -> destroy.
 *
 * Threads: create, load and destroy on one thread; the rest from any. Hooks and `done` on the executor (one thread,
 * which may wait for the disk).
 * Ownership: borrows everything in its options. */
#ifndef KITH_META_META_CLIENT_H
#define KITH_META_META_CLIENT_H

#include "host/meta/meta.h"
#include "transport/transport.h"

typedef struct kith_meta_client kith_meta_client;

typedef struct kith_meta_client_options {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport;
    const char *dir; /* <data>/meta, for the last map; NULL: not kept */
    const char *const
        *coordinators; /* [coordinator_count] addresses to begin with; then the map's are asked too */
    uint32_t coordinator_count; /* 1.. */
    /* A new map, before it is shown to others: the node opens shards that it has been given, and erases those it has no
     * more if the map comes from a coordinator. Also once from load, `from_file`. May be NULL. */
    void (*changed)(void *ctx, const kith_meta_state *state, bool from_file);
    void *ctx;
} kith_meta_client_options;

kith_meta_client *kith_meta_client_create(const kith_meta_client_options *options);
/* The last map, where one was kept. CORRUPT names the file. Registers the handler of pushes. */
KITH_CHECK kith_status kith_meta_client_load(kith_meta_client *client, kith_err *err);
kith_meta *kith_meta_client_meta(kith_meta_client *client);
/* On the executor, until its task ends. */
const kith_meta_state *kith_meta_client_state(const kith_meta_client *client);
/* 0: none yet. */
uint64_t kith_meta_client_map_version(const kith_meta_client *client);
/* Somebody leads; `address` NULL: nobody is known to. */
void kith_meta_client_leader_seen(kith_meta_client *client, const char *address);
/* The coordinator there has a map of this version. */
void kith_meta_client_map_seen(kith_meta_client *client, const char *address, uint64_t map_version);
/* OK once there is a map, and the last that came was taken; else why. Any thread. */
KITH_CHECK kith_status kith_meta_client_health(kith_meta_client *client, kith_err *err);
/* Once. What waits is answered CLOSED, on the executor; nothing new is begun. `done` there when nothing of it is under way
 * any more: from then on it calls nobody. (Pushes, waits and proposals that come even later are answered CLOSED.) */
void kith_meta_client_stop(kith_meta_client *client, void (*done)(void *ctx), void *ctx);
/* After stop, when the executor is idle and the transport gone; or never started. Accepts NULL. */
void kith_meta_client_destroy(kith_meta_client *client);

#endif
