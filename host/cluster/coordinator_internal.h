/* Private to host/cluster/coordinator*.c. Everything on the executor, except where it says so. */
#ifndef KITH_CLUSTER_COORDINATOR_INTERNAL_H
#define KITH_CLUSTER_COORDINATOR_INTERNAL_H

#include "host/base/map.h"
#include "host/cluster/coordinator.h"
#include "host/cluster/member.h"
#include "host/cluster/rebalance.h"
#include "host/codec/codec_cluster.h"

#define COORDINATOR_MS_NS         1000000ULL
#define COORDINATOR_TICK_MS       100u
#define COORDINATOR_NODES_MAX     (2 * KITH_NODES_MAX) /* as many strangers as nodes that the metadata know */
#define COORDINATOR_PUSHES_MAX    32u                  /* maps under way at once; a guess */
#define COORDINATOR_PROPOSALS_MAX 1024u                /* of other nodes, open at once; above it BUSY */

/* What is known of a node: by the metadata, by its heartbeats. */
typedef struct coordinator_node {
    kith_node_id id;
    bool known; /* `node` is what the metadata say */
    bool seen;  /* scratch of nodes_sync */
    kith_node node;
    bool heard; /* `heartbeat` is what it said last */
    kith_codec_heartbeat heartbeat;
    char health[KITH_ERR_BYTES_MAX];
    kith_codec_stalled stalled[KITH_CODEC_STALLED_MAX];
    uint64_t map_version; /* what it goes by, as far as it has said */
    bool pushing;
    uint64_t push_due_ns;
    uint64_t push_pause_ns; /* after the next failure at least so long */
} coordinator_node;

/* An encoded map, shared by all that carry it. */
typedef struct coordinator_map {
    uint32_t references;
    uint64_t version;
    kith_buf bytes;
} coordinator_map;

typedef struct coordinator_push {
    kith_transport_call call;
    kith_task task;
    kith_coordinator *coordinator;
    kith_node_id id;
    uint64_t started_wall_ms; /* of the process it is for */
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    coordinator_map *map; /* NULL: a free place */
    bool taken;           /* the receipt says that the node goes by this map or a newer one */
    uint64_t receipt_version;
} coordinator_push;

struct kith_coordinator {
    kith_coordinator_options options;
    kith_members *members;
    kith_member_actions actions;
    bool started;
    bool closed;   /* stop was asked for */
    bool stopping; /* and `stop_done` is still to be called */
    bool leading;
    uint64_t leadership; /* rises with each change: what was begun under another is ignored */
    uint64_t term;
    kith_meta_member leader; /* id none: nobody is known to lead */
    uint32_t node_count;
    coordinator_node **nodes; /* [COORDINATOR_NODES_MAX] */
    kith_map *node_index;     /* id -> index */
    uint64_t synced_version;
    coordinator_map *map; /* the newest encoded; NULL: none */
    coordinator_push pushes[COORDINATOR_PUSHES_MAX];
    uint32_t push_next;  /* whose turn it is */
    uint32_t open_count; /* pushes, proposals and changes under way */
    uint32_t proposal_count;
    kith_rebalance *rebalance;
    kith_rebalance_changes *rebalance_changes; /* the last step's */
    bool rebalance_open;                       /* they are proposed */
    uint64_t rebalance_due_ns;
    uint64_t rebalance_version; /* map that the last step saw */
    kith_timer timer;
    bool timer_waits;
    kith_task start_task, stop_task;
    void (*stop_done)(void *ctx);
    void *stop_ctx;
};

static inline uint64_t coordinator_now(const kith_coordinator *coordinator) {
    return kith_env_now_ns(coordinator->options.env);
}
/* Something that open_count counts has ended. */
void coordinator_ended(kith_coordinator *coordinator);
coordinator_node *coordinator_node_find(const kith_coordinator *coordinator, const kith_node_id *id);
/* The message of NOT_LEADER is always the address of who leads, or empty. */
void coordinator_fail(
    kith_coordinator *coordinator, kith_transport_request *request, kith_status status, const kith_err *err);
typedef enum coordinator_need {
    COORDINATOR_OPEN,    /* nothing but that it is not stopped */
    COORDINATOR_STARTED, /* its log may know something */
    COORDINATOR_LEADING,
} coordinator_need;
/* True: the request has been answered, because this coordinator is not what it needs. */
bool coordinator_refuses(
    kith_coordinator *coordinator, kith_transport_request *request, coordinator_need need);

/* --- coordinator_push.c --- */

void coordinator_push_all(kith_coordinator *coordinator); /* begins what pushes may begin */
void coordinator_push_cancel(kith_coordinator *coordinator);
void coordinator_map_forget(kith_coordinator *coordinator);
void coordinator_pulled(void *ctx, kith_transport_request *request);

/* --- coordinator_member.c --- */

void coordinator_nodes_sync(kith_coordinator *coordinator); /* with what the metadata say now */
void coordinator_step(kith_coordinator *coordinator, const kith_member_event *event);
void coordinator_tick(kith_coordinator *coordinator);
void coordinator_heard(void *ctx, kith_transport_request *request);

/* --- coordinator_rebalance.c --- */

void coordinator_rebalance_init(kith_coordinator *coordinator);
void coordinator_rebalance_fini(kith_coordinator *coordinator);
void coordinator_rebalance_leads(kith_coordinator *coordinator); /* from now on, or no more */
void coordinator_rebalance(kith_coordinator *coordinator); /* decides and proposes, when it is time to */

kith_codec_copying coordinator_copying(const kith_coordinator *coordinator); /* what is left */

/* --- coordinator_propose.c, coordinator_status.c --- */

void coordinator_proposed(void *ctx, kith_transport_request *request);
void coordinator_asked(void *ctx, kith_transport_request *request);

#endif
