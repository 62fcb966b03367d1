/* Private to host/meta/meta_client*.c. Everything on the client's executor, except where it says so. */
#ifndef KITH_META_META_CLIENT_INTERNAL_H
#define KITH_META_META_CLIENT_INTERNAL_H

#include "host/base/arena.h"
#include "host/base/thread.h"
#include "host/meta/meta_client.h"

typedef struct client_proposal client_proposal;

/* A pull of the map; one at a time. Its reply comes on any thread and is copied for the executor's task. */
typedef struct client_pull {
    kith_transport_call call;
    kith_task task;
    kith_buf request, reply;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_status status;
    bool is_open;
} client_pull;

struct kith_meta_client {
    kith_meta base;
    kith_meta_client_options options;
    char *dir; /* or NULL */
    uint32_t coordinator_count;
    char (*coordinators)[KITH_NODE_ADDRESS_BYTES_MAX +
                         1]; /* those to begin with, then those that the map names */
    kith_meta_state state;
    _Atomic uint64_t map_version; /* of state, for any thread */
    char leader[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    uint32_t coordinator_next; /* whom to ask while nobody is known to lead */
    client_pull pull;
    uint64_t pulls_started, pulls_ended;
    uint64_t pull_answered; /* the last that ended well */
    kith_timer pull_timer;  /* until the next, for those who wait */
    bool pull_timer_waits;
    uint64_t pull_wanted; /* a version that somebody spoke of */
    char pull_address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_meta_wait *waits;
    client_proposal *proposals;
    kith_mutex refusal_mutex;         /* guards: */
    char refusal[KITH_ERR_BYTES_MAX]; /* of the last map that was not taken; "": it was */
    bool stopped;
    bool stopping; /* and `stop_done` is still to be called */
    kith_task stop_task;
    void (*stop_done)(void *ctx);
    void *stop_ctx;
};

/* Asks the coordinator at `address` for its map, now or after the pull that is under way. */
void client_pull_want(kith_meta_client *client, const char *address, uint64_t map_version);

void client_propose(kith_meta *meta, kith_meta_proposal *proposal); /* any thread */
/* A newer map is shown. */
void client_proposals_look(kith_meta_client *client);
/* One is done and waits for a map that shows it. */
bool client_proposals_wait(const kith_meta_client *client);
void client_proposals_stop(kith_meta_client *client);
/* Something has ended: perhaps the last that the stop waits for. */
void client_idle_look(kith_meta_client *client);

void client_coordinators(kith_meta *meta, kith_meta_coordinators *coordinators); /* any thread */

/* A newer map may name others. */
void client_coordinators_learn(kith_meta_client *client);
/* Whom to ask: who leads, as far as is known, else each in turn. */
const char *client_coordinator(const kith_meta_client *client);
/* The one at `address` gave no answer that counts: the next is asked next. */
void client_coordinator_failed(kith_meta_client *client, const char *address);
/* Copies text that fits, or nothing. */
void client_address_set(char to[KITH_NODE_ADDRESS_BYTES_MAX + 1], const char *address);

#endif
