/* How the first coordinators of a cluster find each other: each asks all addresses of the configuration who is there, until
 * it knows enough to begin.
 *
 *   all are there, and none is of a cluster      the log is bootstrapped with all of them: the same list on each
 *   one is of a cluster whose members are those  so is this log: the others were quicker
 *   of the configuration, this one among them
 *   one is of another cluster                    the log begins empty, and waits until a leader has this node join
 *   this node is not in the configuration        the same
 *
 * A node that lost its folder is a new node with a new id: it is never taken for the one that was there before, whose
 * votes it does not know.
 *
 * Threads: the executor given. Ownership: borrows its options; freed by whoever made it, once `done` was called. */
#ifndef KITH_ROLE_COORDINATOR_FORM_H
#define KITH_ROLE_COORDINATOR_FORM_H

#include "host/codec/codec_cluster.h"
#include "host/meta/meta_log_raft.h"

typedef struct kith_coordinator_form kith_coordinator_form;

typedef struct kith_coordinator_form_options {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport;
    kith_node_id self;
    const char *const *addresses; /* [address_count] of the configuration */
    uint32_t address_count;
    /* Once. member_count 0: begin empty. CLOSED: it was stopped. */
    void (*done)(void *ctx, kith_status status, const kith_meta_member *members, uint32_t member_count);
    void *ctx;
} kith_coordinator_form_options;

/* Begins at once. */
kith_coordinator_form *kith_coordinator_form_create(const kith_coordinator_form_options *options);
/* On the executor; `done` comes when nothing is under way, if it has not come. */
void kith_coordinator_form_stop(kith_coordinator_form *form);
void kith_coordinator_form_destroy(kith_coordinator_form *form); /* accepts NULL */

#endif
