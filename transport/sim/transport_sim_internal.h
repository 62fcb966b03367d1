/* The two halves of the simulated transport: transport_sim_network.c decides what becomes of a packet,
 * transport_sim.c makes calls, requests and replies of packets. */
#ifndef KITH_TRANSPORT_SIM_TRANSPORT_SIM_INTERNAL_H
#define KITH_TRANSPORT_SIM_TRANSPORT_SIM_INTERNAL_H

#include "host/base/rng.h"
#include "transport/sim/transport_sim.h"

typedef struct sim_transport sim_transport;
typedef struct sim_packet sim_packet;

typedef struct sim_host {
    char *address;
    sim_transport *transport; /* NULL: nobody listens */
    kith_transport_sim_power power;
    kith_transport_sim_link links[KITH_TRANSPORT_SIM_HOSTS_MAX]; /* to each host */
    bool cut[KITH_TRANSPORT_SIM_HOSTS_MAX];
} sim_host;

struct kith_transport_sim_network {
    kith_rng rng;
    uint64_t number_next; /* of transports and calls */
    uint32_t host_count;
    sim_host hosts[KITH_TRANSPORT_SIM_HOSTS_MAX];
    void (*trace)(void *ctx, const kith_transport_sim_event *event);
    void *trace_ctx;
};

typedef enum sim_packet_type {
    SIM_PACKET_REQUEST,
    SIM_PACKET_CANCEL,
    SIM_PACKET_REPLY,
} sim_packet_type;

/* On its way; owned by the transport it is for, whose executor the timer posts to. */
struct sim_packet {
    kith_timer timer;
    sim_transport *to;
    sim_packet *next, *previous; /* of the same transport */
    sim_packet_type type;
    uint32_t from;        /* host */
    uint64_t from_number; /* of the transport there: a restarted one is another */
    uint64_t call_number;
    kith_node_id node; /* REQUEST: who is meant; REPLY: unused */
    kith_node_id from_node;
    kith_am_kind kind;
    uint64_t deadline_ns;
    kith_status status;
    char *text; /* of a failure; owned */
    size_t byte_count;
    uint8_t bytes[];
};

/* --- transport_sim_network.c --- */

bool sim_host_reachable(const kith_transport_sim_network *network, uint32_t from, uint32_t to);
/* A delay as the link draws it. */
uint64_t sim_link_delay_ns(kith_transport_sim_network *network, uint32_t from, uint32_t to);
sim_packet *sim_packet_create(sim_packet_type type, const void *bytes, size_t byte_count);
void sim_packet_destroy(sim_packet *packet);
/* Takes `packet`: it arrives at `to` some time, or never. */
void sim_packet_send_take(
    kith_transport_sim_network *network, sim_transport *to, sim_packet *packet, uint64_t now_ns);
void sim_network_trace(const kith_transport_sim_network *network, const sim_packet *packet, uint32_t to,
    uint64_t now_ns, kith_transport_sim_fate fate);

/* --- transport_sim.c --- */

struct sim_transport {
    kith_transport base;
    kith_env *env;
    kith_executor *executor; /* calls end here, packets arrive here */
    kith_transport_sim_network *network;
    uint64_t number;
    uint32_t host;
    kith_node_id node;
    uint32_t in_flight_max;
    bool closing;
    struct sim_call *calls;
    struct sim_arrival *arrivals;
    sim_packet *packets; /* on their way here */
    struct {
        kith_executor *executor;
        void (*run)(void *ctx, kith_transport_request *request);
        void *ctx;
    } handlers[KITH_AM_KIND_COUNT];
};

void sim_transport_packet_arrived(sim_transport *transport, sim_packet *packet);
/* Calls of `transport` to `host` (any: UINT32_MAX) end UNAVAILABLE after `delay_ns`. */
void sim_transport_calls_fail(sim_transport *transport, uint32_t host, uint64_t delay_ns, const char *reason);

#endif
