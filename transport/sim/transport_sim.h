/* The transport of simulated machines: a network in memory whose delays, losses and cuts a seed decides, on the virtual
 * time of the machines' envs. The product on top of it sees what it would see of a real network: calls that end late, never
 * arrive, overtake each other, or are refused.
 *
 * What is kept of the contract of transport/transport.h, and how: a message is delivered once or not at all. A lost
 * request or reply is silence; the call ends DEADLINE. (A call without a deadline ends UNAVAILABLE after
 * KITH_TRANSPORT_SIM_SILENCE_NS, as pings of a real transport would have it.) An address where nobody listens, or whose
 * host refuses, answers UNAVAILABLE after a delay of the link. No order is kept between messages.
 *
 * Threads: one, the simulator's. Ownership: destroy the transports of a network before it. */
#ifndef KITH_TRANSPORT_SIM_TRANSPORT_SIM_H
#define KITH_TRANSPORT_SIM_TRANSPORT_SIM_H

#include "transport/transport.h"

#define KITH_TRANSPORT_SIM_HOSTS_MAX  32u
#define KITH_TRANSPORT_SIM_SILENCE_NS 2000000000ULL

typedef struct kith_transport_sim_network kith_transport_sim_network;

kith_transport_sim_network *kith_transport_sim_network_create(uint64_t seed);
/* Accepts NULL. */
void kith_transport_sim_network_destroy(kith_transport_sim_network *network);

/* How messages fare from one host to another. */
typedef struct kith_transport_sim_link {
    uint64_t delay_ns_min, delay_ns_max; /* each message draws its own: they overtake each other */
    uint32_t slow_ppm;                   /* so many of a million messages take up to slow_ns_max more */
    uint64_t slow_ns_max;
    uint32_t loss_ppm;
} kith_transport_sim_link;

/* The number of the host with this address, from 0; the first mention makes it. */
uint32_t kith_transport_sim_host(kith_transport_sim_network *network, const char *address);
/* Every link, also of hosts to come. At first: 0.1 to 1 ms, nothing lost. */
void kith_transport_sim_links_set(kith_transport_sim_network *network, const kith_transport_sim_link *link);
void kith_transport_sim_link_set(
    kith_transport_sim_network *network, uint32_t from, uint32_t to, const kith_transport_sim_link *link);
/* A cut link passes nothing in this direction, not even what is under way. */
void kith_transport_sim_cut(kith_transport_sim_network *network, uint32_t from, uint32_t to, bool cut);
/* No link is cut any more. */
void kith_transport_sim_heal(kith_transport_sim_network *network);

typedef enum kith_transport_sim_power {
    KITH_TRANSPORT_SIM_UP = 0,
    KITH_TRANSPORT_SIM_REFUSING = 1, /* the process died: peers are told so at once */
    KITH_TRANSPORT_SIM_SILENT = 2,   /* the machine died: peers hear nothing */
} kith_transport_sim_power;
/* A host that is not up sends and receives nothing; its own calls end UNAVAILABLE. */
void kith_transport_sim_power_set(
    kith_transport_sim_network *network, uint32_t host, kith_transport_sim_power power);

typedef enum kith_transport_sim_fate {
    KITH_TRANSPORT_SIM_SENT,
    KITH_TRANSPORT_SIM_ARRIVED,
    KITH_TRANSPORT_SIM_LOST, /* by chance, a cut or a host that is down */
} kith_transport_sim_fate;

typedef struct kith_transport_sim_event {
    uint64_t now_ns;
    kith_transport_sim_fate fate;
    uint32_t from, to; /* hosts */
    kith_am_kind kind;
    bool is_reply;
    kith_status status; /* of a reply */
    const void *bytes;  /* borrowed */
    size_t byte_count;
} kith_transport_sim_event;
/* For telling a history's story; NULL: nobody listens. */
void kith_transport_sim_trace(kith_transport_sim_network *network,
    void (*trace)(void *ctx, const kith_transport_sim_event *event), void *ctx);

typedef struct kith_transport_sim_options {
    kith_env *env; /* of the machine */
    kith_transport_sim_network *network;
    kith_node_id node;
    const char *address;    /* one transport an address at a time */
    uint32_t in_flight_max; /* calls to one host; above it BUSY */
} kith_transport_sim_options;

KITH_CHECK kith_status kith_transport_sim_create(
    const kith_transport_sim_options *options, kith_transport **transport_out, kith_err *err);

#endif
