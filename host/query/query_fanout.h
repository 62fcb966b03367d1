/* Several messages sent at once and gathered when the last reply is there; private to host/query.
 *
 * Threads: prepared and started by one thread; `gathered` runs on the thread that brought the last reply. Between start
 * and `gathered` nobody may touch the arena. */
#ifndef KITH_QUERY_QUERY_FANOUT_H
#define KITH_QUERY_QUERY_FANOUT_H

#include "host/query/query.h"

typedef struct kith_query_fanout kith_query_fanout;

typedef struct kith_query_part {
    kith_transport_call call;
    kith_query_fanout *fanout;
    kith_buf request;
    bool not_waited_for; /* its node is taken for down: the deadline is ours, not the caller's */
    /* The reply, until `gathered` returns: the transport's own bytes when there is one part, else a copy. */
    kith_status status;
    const void *reply;
    size_t reply_bytes;
    const char *message; /* of a failure */
    kith_buf kept;       /* the copy, or the message */
} kith_query_part;

struct kith_query_fanout {
    const kith_query_base *base;
    uint32_t part_count;
    kith_query_part *parts;
    _Atomic uint32_t remaining;
    void (*gathered)(kith_query_fanout *fanout);
    void *ctx;
};

/* In the arena of `base`. The caller then fills each part's `request` and its node, and starts. */
kith_query_fanout *kith_query_fanout_create(const kith_query_base *base, kith_am_kind kind,
    uint32_t part_count, void (*gathered)(kith_query_fanout *fanout), void *ctx);
void kith_query_fanout_node_set(kith_query_fanout *fanout, uint32_t part_index, uint32_t node_index);
/* The fan-out may be gone when this returns. */
void kith_query_fanout_start(kith_query_fanout *fanout);
/* For `gathered`, when it has what it needs: frees what the parts hold. Before `done` of the request. */
void kith_query_fanout_finish(kith_query_fanout *fanout);

#endif
