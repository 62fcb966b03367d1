/* What becomes of a packet: the seed draws its delay and whether it is lost; cuts and powered-off hosts are looked at when
 * it leaves and again when it arrives. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "transport/sim/transport_sim_internal.h"

#define PPM 1000000u

static const kith_transport_sim_link link_default = {.delay_ns_min = 100000, .delay_ns_max = 1000000};

kith_transport_sim_network *kith_transport_sim_network_create(uint64_t seed) {
    kith_transport_sim_network *network = kith_alloc_zero(sizeof *network);
    kith_rng_init(&network->rng, seed ^ 0x6e6574); /* "net": another stream than the machines' */
    kith_transport_sim_links_set(network, &link_default);
    return network;
}

void kith_transport_sim_network_destroy(kith_transport_sim_network *network) {
    if (!network) return;
    for (uint32_t i = 0; i < network->host_count; i++) {
        kith_assert(network->hosts[i].transport == NULL);
        kith_free(network->hosts[i].address);
    }
    kith_free(network);
}

uint32_t kith_transport_sim_host(kith_transport_sim_network *network, const char *address) {
    for (uint32_t i = 0; i < network->host_count; i++) {
        if (strcmp(network->hosts[i].address, address) == 0) return i;
    }
    kith_assert(network->host_count < KITH_TRANSPORT_SIM_HOSTS_MAX);
    network->hosts[network->host_count].address = kith_strdup(address);
    return network->host_count++;
}

/* --- faults --- */

void kith_transport_sim_links_set(kith_transport_sim_network *network, const kith_transport_sim_link *link) {
    for (uint32_t from = 0; from < KITH_TRANSPORT_SIM_HOSTS_MAX; from++) {
        for (uint32_t to = 0; to < KITH_TRANSPORT_SIM_HOSTS_MAX; to++)
            network->hosts[from].links[to] = *link;
    }
}

void kith_transport_sim_link_set(
    kith_transport_sim_network *network, uint32_t from, uint32_t to, const kith_transport_sim_link *link) {
    network->hosts[from].links[to] = *link;
}

void kith_transport_sim_cut(kith_transport_sim_network *network, uint32_t from, uint32_t to, bool cut) {
    network->hosts[from].cut[to] = cut;
}

void kith_transport_sim_heal(kith_transport_sim_network *network) {
    for (uint32_t from = 0; from < KITH_TRANSPORT_SIM_HOSTS_MAX; from++)
        memset(network->hosts[from].cut, 0, sizeof network->hosts[from].cut);
}

/* The peers of a process that died hear of it from its kernel, where the link lets them. */
static void host_reset_tell(kith_transport_sim_network *network, uint32_t host) {
    for (uint32_t peer = 0; peer < network->host_count; peer++) {
        if (peer == host || !network->hosts[peer].transport) continue;
        if (network->hosts[host].cut[peer]) continue;
        sim_transport_calls_fail(network->hosts[peer].transport, host, sim_link_delay_ns(network, host, peer),
            "the connection was reset");
    }
}

void kith_transport_sim_power_set(
    kith_transport_sim_network *network, uint32_t host, kith_transport_sim_power power) {
    network->hosts[host].power = power;
    if (power == KITH_TRANSPORT_SIM_UP) return;
    if (network->hosts[host].transport)
        sim_transport_calls_fail(network->hosts[host].transport, UINT32_MAX, 0, "this host is down");
    if (power == KITH_TRANSPORT_SIM_REFUSING) host_reset_tell(network, host);
}

void kith_transport_sim_trace(kith_transport_sim_network *network,
    void (*trace)(void *ctx, const kith_transport_sim_event *event), void *ctx) {
    network->trace = trace;
    network->trace_ctx = ctx;
}

/* --- packets --- */

bool sim_host_reachable(const kith_transport_sim_network *network, uint32_t from, uint32_t to) {
    const sim_host *hosts = network->hosts;
    if (from == to) return true;
    return hosts[from].power == KITH_TRANSPORT_SIM_UP && hosts[to].power == KITH_TRANSPORT_SIM_UP &&
           !hosts[from].cut[to];
}

uint64_t sim_link_delay_ns(kith_transport_sim_network *network, uint32_t from, uint32_t to) {
    const kith_transport_sim_link *link = &network->hosts[from].links[to];
    if (from == to) return 0;
    uint64_t delay_ns =
        link->delay_ns_min + kith_rng_below(&network->rng, link->delay_ns_max - link->delay_ns_min + 1);
    if (kith_rng_below(&network->rng, PPM) < link->slow_ppm)
        delay_ns += kith_rng_below(&network->rng, link->slow_ns_max + 1);
    return delay_ns;
}

static bool link_loses(kith_transport_sim_network *network, uint32_t from, uint32_t to) {
    if (!sim_host_reachable(network, from, to)) return true;
    return from != to && kith_rng_below(&network->rng, PPM) < network->hosts[from].links[to].loss_ppm;
}

sim_packet *sim_packet_create(sim_packet_type type, const void *bytes, size_t byte_count) {
    sim_packet *packet = kith_alloc(sizeof *packet + byte_count);
    memset(packet, 0, sizeof *packet);
    packet->type = type;
    packet->byte_count = byte_count;
    if (byte_count) memcpy(packet->bytes, bytes, byte_count);
    return packet;
}

void sim_packet_destroy(sim_packet *packet) {
    kith_free(packet->text);
    kith_free(packet);
}

void sim_network_trace(const kith_transport_sim_network *network, const sim_packet *packet, uint32_t to,
    uint64_t now_ns, kith_transport_sim_fate fate) {
    if (!network->trace || packet->type == SIM_PACKET_CANCEL) return;
    kith_transport_sim_event event = {.now_ns = now_ns,
        .fate = fate,
        .from = packet->from,
        .to = to,
        .kind = packet->kind,
        .is_reply = packet->type == SIM_PACKET_REPLY,
        .status = packet->status,
        .bytes = packet->bytes,
        .byte_count = packet->byte_count};
    network->trace(network->trace_ctx, &event);
}

static void packet_unlink(sim_packet *packet) {
    if (packet->next) packet->next->previous = packet->previous;
    if (packet->previous) {
        packet->previous->next = packet->next;
    } else {
        packet->to->packets = packet->next;
    }
}

static void packet_run(kith_task *task) {
    sim_packet *packet = (sim_packet *)(void *)((char *)task - offsetof(sim_packet, timer.task));
    sim_transport *to = packet->to;
    packet_unlink(packet);
    bool arrives = !to->closing && sim_host_reachable(to->network, packet->from, to->host);
    sim_network_trace(to->network, packet, to->host, kith_env_now_ns(to->env),
        arrives ? KITH_TRANSPORT_SIM_ARRIVED : KITH_TRANSPORT_SIM_LOST);
    if (arrives) sim_transport_packet_arrived(to, packet);
    sim_packet_destroy(packet);
}

void sim_packet_send_take(
    kith_transport_sim_network *network, sim_transport *to, sim_packet *packet, uint64_t now_ns) {
    if (link_loses(network, packet->from, to->host)) {
        sim_network_trace(network, packet, to->host, now_ns, KITH_TRANSPORT_SIM_LOST);
        sim_packet_destroy(packet);
        return;
    }
    sim_network_trace(network, packet, to->host, now_ns, KITH_TRANSPORT_SIM_SENT);
    packet->to = to;
    packet->next = to->packets;
    if (to->packets) to->packets->previous = packet;
    to->packets = packet;
    uint64_t delay_ns = sim_link_delay_ns(network, packet->from, to->host);
    packet->timer.task.run = packet_run;
    packet->timer.executor = to->executor;
    packet->timer.due_ns = now_ns + delay_ns;
    if (delay_ns == 0) {
        kith_executor_post(to->executor, &packet->timer.task);
    } else {
        kith_timer_start(&packet->timer);
    }
}
