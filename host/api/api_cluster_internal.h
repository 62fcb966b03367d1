/* Private to host/api/api_cluster*.c. */
#ifndef KITH_API_API_CLUSTER_INTERNAL_H
#define KITH_API_API_CLUSTER_INTERNAL_H

#include "host/api/api_cluster.h"
#include "host/api/api_internal.h"

#define CLUSTER_CANDIDATES_MAX (2 * KITH_META_COORDINATORS_MAX + 1)

/* A question to the coordinators: to their leader, whoever that is meanwhile, or to whoever is at one address. */
typedef struct cluster_ask cluster_ask;
struct cluster_ask {
    kith_transport_call call;
    const kith_api_run *run;
    kith_api_call *api_call;
    kith_codec_coordinator_request request;
    const char *address; /* only here, once; NULL: the leader */
    bool waits;          /* for a leader, where there is none now */
    /* Exactly once, on the api's executor. OK: `reply` is the leader's (or the address's). Else `reply` is that of a
     * coordinator which does not lead, if one answered; NULL: none did. */
    void (*done)(
        cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply, const kith_err *err);
    /* Its own: */
    uint64_t until_ns; /* no attempt begins after it */
    kith_meta_coordinators coordinators;
    char candidates[CLUSTER_CANDIDATES_MAX][KITH_NODE_ADDRESS_BYTES_MAX + 1];
    uint32_t candidate_count, candidate_next;
    uint32_t hints; /* followed in this round */
    char asked[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_timer timer;
    kith_task task;
    kith_status status; /* of the last attempt */
    kith_err err;
    const void *reply;
    size_t reply_bytes;
    const kith_codec_coordinator_reply *other; /* of one that does not lead */
};

/* `run`, `api_call`, `request`, `address` and `done` are set, the rest is zero. */
void cluster_ask_start(cluster_ask *ask);

typedef struct cluster_run {
    kith_api_run run;
    kith_api_cluster_call *call;
    cluster_ask ask;
    kith_meta_proposal proposal;
    kith_codec_cluster_join join;
    kith_codec_coordinator_node node; /* who leaves, or is drained */
    bool is_listed;                   /* the metadata has it */
    bool is_change;                   /* for which a leader is waited for, from the first question on */
    bool is_fresh;                    /* who joins is of no cluster yet */
} cluster_run;

/* `answer` NULL: none. */
void cluster_answer(
    cluster_run *run, kith_status status, const kith_api_cluster_answer *answer, const kith_err *err);
/* Admits the call; `name`: see kith_api_enter. */
KITH_CHECK kith_status cluster_enter(
    kith_api *api, kith_api_cluster_call *call, const char *name, cluster_run **run_out, kith_err *err);
/* A question of `kind` to the leader. */
void cluster_leader_ask(cluster_run *run, kith_codec_coordinator_kind kind, const kith_node_id *id,
    const char *address,
    void (*done)(cluster_ask *ask, kith_status status, const kith_codec_coordinator_reply *reply,
        const kith_err *err));
static inline cluster_run *cluster_run_of(cluster_ask *ask) {
    return (cluster_run *)(void *)((char *)ask - offsetof(cluster_run, ask));
}

/* The nodes that `map` knows, with the shards it puts on them and nothing of what they say. */
kith_codec_coordinator_node *cluster_nodes_of_map(
    const kith_meta_map *map, kith_arena *arena, uint32_t *count_out);
/* What `map` says of one shard, in `arena`. */
kith_codec_cluster_shard cluster_shard_of(
    const kith_meta_map *map, const kith_meta_entry *entry, uint32_t index, kith_arena *arena);
/* Takes the newest map, so that the answer shows what was done. */
void cluster_map_renew(cluster_run *run);
/* INVALID: several are meant. NOT_FOUND names what was asked for. */
KITH_CHECK kith_status cluster_node_find(const kith_codec_coordinator_node *nodes, uint32_t count,
    const char *text, const kith_codec_coordinator_node **node_out, kith_err *err);
KITH_CHECK kith_status cluster_is_remote_check(const kith_api *api, const char *deed, kith_err *err);

#endif
