/* Requests between machines: transport/transport.h over UCX active messages. TCP, and RDMA where UCX finds it.
 *
 * A connection is made when an address is first called, kept, pinged, and made again after a failure; it carries the
 * requests of the side that dialled and the replies to them. Its first frames are a hello (transport/am_frame.h): nothing
 * else runs before both sides agree on version and cluster and, with credentials, have proved who they are: a TLS 1.3
 * handshake inside the hello, whose exported keys then sign every frame. Nothing is encrypted after the handshake.
 *
 * Noticing: a peer's death is an error from UCX within milliseconds; a stopped peer or a cut link is silence, and after
 * ping_timeout_ms of it the connection is cut and its calls end UNAVAILABLE. After a failure the address rests (10 ms,
 * doubling to 1 s, jittered): calls to it end UNAVAILABLE at once, with the reason.
 *
 * Threads: one I/O thread of its own does UCX, runs `done`, and runs handlers that have no executor; none of these may wait.
 * While it sleeps, a thread that starts a small call, or replies little, sends that itself instead of waking it. A call to this very process (no address, or its own) uses no network: its handler and its `done` run as with
 * the loop transport.
 * Ownership: as transport.h says. A call with more than KITH_TRANSPORT_UCX_COPY_BYTES of request is `done` only when UCX has
 * let go of its bytes: after its deadline or cancel this may take until the peer is cut.
 * Destroy: first ends calls with CLOSED, waits until handlers have answered what they were given, and says goodbye. So
 * executors of handlers are destroyed after the transport.
 *
 * UCX knows the network devices that are up when it starts, and no later ones. One transport a process, outside tests: UCX
 * 1.13 can assert (async.c) when several open and close many connections.
 *
 * A node's certificate is signed by the cluster's CA and has in its subjectAltName a URI kith://CLUSTER/node/UUID, or
 * kith://CLUSTER/node/any for nodes whose UUID is not known beforehand: such a node is believed which one it is. */
#ifndef KITH_TRANSPORT_UCX_TRANSPORT_UCX_H
#define KITH_TRANSPORT_UCX_TRANSPORT_UCX_H

#include "transport/transport.h"

/* Larger requests are sent from the caller's memory. */
#define KITH_TRANSPORT_UCX_COPY_BYTES (64u << 10)

/* Paths of PEM files. */
typedef struct kith_transport_credentials {
    const char *ca_path;
    const char *certificate_path;
    const char *key_path;
} kith_transport_credentials;

/* Zero takes the default in brackets. */
typedef struct kith_transport_ucx_options {
    kith_env *env;
    kith_node_id node_id;
    const char *cluster_name;      /* peers of another cluster are refused */
    const char *role;              /* told to peers, for their logs */
    const char *bind_address;      /* a number, of either family ["0.0.0.0"] */
    uint16_t port;                 /* [any free one] */
    const char *advertise_address; /* "host:port" or "host" as others call this node [bind_address] */
    uint32_t in_flight_max;        /* calls to one peer at once, and requests from one [1,024] */
    uint64_t in_flight_bytes_max;  /* of their bodies; one larger than this goes alone [64 MiB] */
    /* The same on all nodes of a cluster: who accepts waits for the pings of who dials. */
    uint32_t ping_interval_ms; /* [500] */
    uint32_t ping_timeout_ms;  /* [1,500] */
    bool busy_poll;            /* the I/O thread never sleeps: lower latency for one core */
    const kith_transport_credentials *credentials; /* NULL: none, and a peer that has some is refused */
    bool mac_off;       /* with credentials: frames after the handshake are not signed; peers must agree */
    bool starts_closed; /* requests of others are answered UNAVAILABLE until kith_transport_ucx_open */
} kith_transport_ucx_options;

/* Copies what it keeps of `options`. */
KITH_CHECK kith_status kith_transport_ucx_create(
    const kith_transport_ucx_options *options, kith_transport **transport_out, kith_err *err);
/* Handlers are registered: requests of others are served from here on. */
void kith_transport_ucx_open(kith_transport *transport);
/* The port it listens on. */
uint16_t kith_transport_ucx_port(const kith_transport *transport);
/* "host:port" as others call this node; lives as long as the transport. */
const char *kith_transport_ucx_address(const kith_transport *transport);

/* Since the start, but for the last two. Bytes are of bodies. */
typedef struct kith_transport_ucx_stats {
    uint64_t sent_messages;
    uint64_t sent_bytes;
    uint64_t received_messages;
    uint64_t received_bytes;
    uint64_t connects;          /* connections made, after their hello */
    uint64_t connection_losses; /* connections that ended without a goodbye */
    uint64_t failed_hellos;     /* of peers that were refused (credentials, cluster, protocol) or gave up */
    uint64_t busy_replies;      /* calls and requests over a bound */
    uint64_t connections;       /* now, in both directions */
    uint64_t calls;             /* in flight now */
} kith_transport_ucx_stats;

/* From any thread. */
void kith_transport_ucx_stats_get(const kith_transport *transport, kith_transport_ucx_stats *stats_out);

/* --- certificates, for `kith cluster certs` and tests --- */

/* Writes `dir`/ca.crt and `dir`/ca.key (mode 0600): a new CA for the nodes of `cluster`. EXISTS when one is there. */
KITH_CHECK kith_status kith_transport_certs_create_ca(
    const char *dir, const char *cluster, uint32_t days, kith_err *err);

typedef struct kith_transport_certs_node {
    const char *ca_dir; /* of ca.crt and ca.key */
    const char *dir;    /* where NAME.crt and NAME.key (mode 0600) go; old ones are replaced */
    const char *name;   /* file name and common name */
    const char *cluster;
    const kith_node_id *node_id; /* NULL: any node of the cluster */
    int64_t valid_from_s;        /* relative to now; normally a little negative, for clocks that differ */
    int64_t valid_until_s;       /* relative to now */
} kith_transport_certs_node;

KITH_CHECK kith_status kith_transport_certs_create_node(const kith_transport_certs_node *node, kith_err *err);

#endif
