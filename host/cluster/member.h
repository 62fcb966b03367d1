/* Which nodes live: the leader's pure step of failure detection. Heartbeats are not written anywhere; what is decided from
 * them is proposed: that a node be registered (it is new, says something else of itself, or is back), or that it is down.
 *
 * Rules:
 *   - A node is judged by silence that this leader has measured itself: one timeout since it first heard of the node, and
 *     since the node's last heartbeat. Time in which it stood still (two ticks far apart) does not count.
 *   - What it measured before it led counts too, so that who loses the coordinators' leader and a node at once does not wait
 *     for one after the other; but for half a timeout, in which a link that has just healed shows. And only if it heard at
 *     least half of the nodes that are up: otherwise it was probably the one cut off, and measures anew.
 *   - A silent node is judged with the first tick after its timeout.
 *   - One proposal a node is under way; a failed one is repeated after a pause, a registration that was refused after a
 *     longer one: each attempt is an entry of the log.
 *   - A node that keeps going down is believed later and later: when it went down soon after it came up, it must wait before
 *     it is up again, twice as long each time. So the metadata change at a bounded rate whatever a sick node does. One that
 *     shards wait for is believed at once: what they would lose by waiting is more than what a change costs.
 *   - A heartbeat of an earlier start of a node (there is no order between messages) is ignored, unless its later start has
 *     been silent for the timeout: clocks go back too.
 *
 * Threads: one at a time. No clock: `now_ns` is the only time it knows. Ownership: create/destroy. */
#ifndef KITH_CLUSTER_MEMBER_H
#define KITH_CLUSTER_MEMBER_H

#include "host/base/node_id.h"
#include "host/model/node.h"

/* In timeouts. Up for so long: going down counts as the first time again. */
#define KITH_MEMBER_STEADY_TIMEOUTS   10u
#define KITH_MEMBER_REFUSED_TIMEOUTS  8u  /* before a refused registration is tried again */
#define KITH_MEMBER_HOLD_TIMEOUTS_MAX 32u /* longest wait before a node that keeps going down is up again */

typedef struct kith_members kith_members;

typedef enum kith_member_event_kind {
    KITH_MEMBER_LEADING = 1,   /* this coordinator leads from now on */
    KITH_MEMBER_FOLLOWING = 2, /* no more: what was proposed is forgotten */
    KITH_MEMBER_HEARTBEAT = 3, /* id, started_wall_ms, differs, needed */
    KITH_MEMBER_KNOWN = 4,     /* the metadata has the node: id, down */
    KITH_MEMBER_REMOVED = 5,   /* the metadata has it no more: id */
    KITH_MEMBER_PROPOSED = 6,  /* a proposal about it has ended: id, failed, refused */
    KITH_MEMBER_TICK = 7,
} kith_member_event_kind;

typedef struct kith_member_event {
    kith_member_event_kind kind;
    kith_node_id id;
    uint64_t started_wall_ms;
    bool differs; /* the heartbeat says something else of the node than the metadata do */
    bool needed;  /* the node is down in the metadata, and shards, old or new, have no place until it is up */
    bool down;
    bool failed;  /* it may not have come into the log */
    bool refused; /* it did, and the rules of the metadata refused it */
} kith_member_event;

typedef enum kith_member_action_kind {
    KITH_MEMBER_REGISTER = 1, /* as its last heartbeat says */
    KITH_MEMBER_DOWN = 2,
} kith_member_action_kind;

typedef struct kith_member_action {
    kith_member_action_kind kind;
    kith_node_id id;
} kith_member_action;

typedef struct kith_member_actions {
    uint32_t count;
    kith_member_action actions[KITH_NODES_MAX];
} kith_member_actions;

kith_members *kith_members_create(uint64_t heartbeat_timeout_ns);
void kith_members_destroy(kith_members *members); /* accepts NULL */
/* Overwrites actions_out. A proposal it asks for is answered by one PROPOSED, unless FOLLOWING comes first. */
void kith_members_step(
    kith_members *members, const kith_member_event *event, uint64_t now_ns, kith_member_actions *actions_out);
/* Since the last heartbeat that counted, or since its silence began to count; UINT64_MAX for a node it does not know or when
 * this coordinator does not lead. */
uint64_t kith_members_silent_ns(const kith_members *members, const kith_node_id *id, uint64_t now_ns);

#endif
