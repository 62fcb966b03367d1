/* Requests between nodes: one request, one reply, by message kind. Implementations: `loop` (in process; a standalone
 * node talks to itself through it), `ucx` (between machines) and `sim` (between simulated ones). Message kinds are in
 * transport/am_kinds.h. Every implementation passes tests/unit/transport/transport_conformance.h.
 *
 * A request is delivered at most once; after UNAVAILABLE or DEADLINE it may have been carried out. A reply that comes
 * after its call has ended is dropped. There is no order between calls.
 *
 * Threads: call from any thread. Handlers and reply functions run on an executor of the callee's or caller's choice (see
 * kith_transport_handle).
 * Ownership: request bytes are borrowed until the reply function returns; reply bytes until it returns. */
#ifndef KITH_TRANSPORT_TRANSPORT_H
#define KITH_TRANSPORT_TRANSPORT_H

#include <stdatomic.h>

#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/base/node_id.h"
#include "host/env/env.h"
#include "transport/am_kinds.h"

typedef struct kith_transport kith_transport;
typedef struct kith_transport_call kith_transport_call;
typedef struct kith_transport_request kith_transport_request;

/* A request on its way; embedded by the caller, who keeps it until `done`. */
struct kith_transport_call {
    kith_node_id node; /* who must be there; all zero: whoever is */
    /* "host:port" of its listener, borrowed until `done`. NULL: this process. loop has no other node and looks at neither.
     */
    const char *address;
    kith_am_kind kind;
    const void *bytes; /* encoded by codec */
    size_t byte_count;
    uint64_t deadline_ns;
    const atomic_bool *
        cancel_watch; /* may be NULL; set by whoever gives up: seen as if kith_transport_cancel were called */
    /* Exactly once. `reply` borrowed. Statuses of the transport's own: UNAVAILABLE (nobody there, another node there, cut),
     * DEADLINE, BUSY (too much in flight to this peer), CLOSED, UNAUTHENTICATED (one side refuses the other's credentials)
     * and UNIMPLEMENTED (the peer has no handler). */
    void (*done)(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
        const kith_err *err);
    atomic_bool cancelled; /* set through kith_transport_cancel */
    void *impl[32]; /* room for the request that `loop` hands to the handler: a call allocates nothing */
};

/* A request that arrived; the handler answers it exactly once, from any thread, then and only then it is gone. */
struct kith_transport_request {
    kith_am_kind kind;
    const void *bytes;
    size_t byte_count;
    uint64_t deadline_ns;
    const atomic_bool *cancelled; /* the caller gave up: an answer is still due */
    kith_node_id from;            /* who asks, as its credentials say; this node for loop */
    void *impl[16];
};

typedef struct kith_transport_ops {
    void (*call)(kith_transport *transport, kith_transport_call *call);
    void (*cancel)(kith_transport *transport, kith_transport_call *call);
    void (*handle)(kith_transport *transport, kith_am_kind kind, kith_executor *executor,
        void (*handler)(void *ctx, kith_transport_request *request), void *ctx);
    void (*reply)(kith_transport_request *request, kith_status status, const void *bytes, size_t byte_count,
        const kith_err *err);
    void (*destroy)(kith_transport *transport);
} kith_transport_ops;

struct kith_transport {
    const kith_transport_ops *ops;
};

/* In process: every node id is this one. `in_flight_max` calls at once; above it BUSY. A handler always answers and
 * looks at the deadline itself, so `loop` keeps no timer per call: a late answer is still the answer. */
KITH_CHECK kith_status kith_transport_loop_create(
    kith_env *env, uint32_t in_flight_max, kith_transport **transport_out, kith_err *err);

static inline void kith_transport_start(kith_transport *transport, kith_transport_call *call) {
    transport->ops->call(transport, call);
}
/* Best effort; `done` still comes. */
static inline void kith_transport_cancel(kith_transport *transport, kith_transport_call *call) {
    transport->ops->cancel(transport, call);
}
/* Before the first call: requests of `kind` run `handler` on `executor`. NULL, for handlers that never wait: on the
 * transport's own thread, or, when the request is from this very process, inside kith_transport_start on the caller's
 * thread; `done` may then come before the start returns. At least one kind has an executor. */
static inline void kith_transport_handle(kith_transport *transport, kith_am_kind kind,
    kith_executor *executor, void (*handler)(void *ctx, kith_transport_request *request), void *ctx) {
    transport->ops->handle(transport, kind, executor, handler, ctx);
}
/* Copies `bytes`, or hands them over before it returns (loop calls the caller's `done` on this thread). */
static inline void kith_transport_reply(kith_transport_request *request, kith_transport *transport,
    kith_status status, const void *bytes, size_t byte_count, const kith_err *err) {
    transport->ops->reply(request, status, bytes, byte_count, err);
}
/* No call may be in flight. Accepts NULL. */
static inline void kith_transport_destroy(kith_transport *transport) {
    if (transport) transport->ops->destroy(transport);
}

#endif
