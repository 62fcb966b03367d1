/* Changes that the primary asks of the metadata: whoever is silent leaves the ISR, whoever caught up enters it, another becomes primary,
 * also where the own disk stands still while others get on, or, after a restart, the same in a new epoch. One at a time, each a
 * compare-and-set on the epoch. */
#include "host/replica/replica_step_internal.h"

/* A hand-over that does not come about is given up, and writes begin again. */
#define HAND_OVER_LEASES 8u
/* A primary whose disk has got nowhere for so long makes way. (A follower is dropped after a third of it, but that moves no primary.) */
#define DISK_LEASES 8u
/* A replica enters the ISR when no more than this is on its way to it: commits wait for it from then on. */
#define NEAR_ENTRIES 1024u

/* --- what is wanted --- */

static uint64_t silence_ns(const kith_replica_step *step) {
    if (MUTANT(SHRINK_EARLY)) return step->options.lease_ns / 4;
    return kith_replica_step_hold_length_ns(step);
}

static bool is_silent(const kith_replica_step *step, const replica_peer *peer, uint64_t now_ns) {
    return now_ns - peer->heard_ns >= silence_ns(step);
}

static bool is_caught_up(const kith_replica_step *step, const replica_peer *peer, uint64_t now_ns) {
    if (!peer->acked || peer->snapshot || now_ns - peer->lease_ns >= step->options.lease_ns) return false;
    if (MUTANT(GROW_LAGGARD)) return true;
    if (peer->matched < step->log.committed) return false;
    return peer->next > step->log.end.sequence || step->log.end.sequence - peer->matched <= NEAR_ENTRIES;
}

static uint8_t wanted_in_sync(const kith_replica_step *step, uint64_t now_ns) {
    uint8_t wanted = step->config.in_sync;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        const replica_peer *peer = &step->peers[i];
        if (wanted & 1u << i) {
            if (is_silent(step, peer, now_ns)) wanted &= (uint8_t) ~(1u << i);
        } else if (step->served && is_caught_up(step, peer, now_ns)) {
            wanted |= (uint8_t)(1u << i);
        }
    }
    return wanted;
}

/* The same again, for one that can be installed only then. */
static bool needs_epoch(const kith_replica_step *step) {
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        if (step->peers[i].needs_epoch && !(step->config.in_sync & 1u << i)) return step->served;
    }
    return false;
}

/* The same again, for a change that may have taken place and is wanted no more: until one of them has, commits wait for
 * whoever would have come in, which may never answer again. */
static bool is_to_settle(const kith_replica_step *step, const kith_replica_config *wanted) {
    return (step->doubted & ~wanted->in_sync) != 0;
}

/* Places of the other members of the ISR, without those that were refused while others were not. */
static uint8_t heirs(const kith_replica_step *step) {
    uint8_t all = step->config.in_sync & (uint8_t)~1u, left = all & (uint8_t)~step->refused_heirs;
    return left ? left : all;
}

/* The one of them that has most; 0: there is none. */
static uint32_t heir_find(const kith_replica_step *step) {
    uint32_t heir = 0;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        if (!(heirs(step) & 1u << i)) continue;
        if (heir == 0 || step->peers[i].matched > step->peers[heir].matched) heir = i;
    }
    return heir;
}

static void config_promote(kith_replica_config *config, uint32_t index) {
    uint32_t first = config->replicas[0];
    config->replicas[0] = config->replicas[index]; /* both are in sync: the bits stay */
    config->replicas[index] = first;
}

static bool wants_hand_over(const kith_replica_step *step, kith_replica_config *wanted) {
    uint32_t heir = heir_find(step);
    uint64_t end = step->log.end.sequence;
    if (heir == 0 || step->peers[heir].matched < end || step->log.committed < end) return false;
    config_promote(wanted, heir);
    return true;
}

/* A primary that may lack entries makes way for one that has them. */
static bool wants_to_leave(const kith_replica_step *step, kith_replica_config *wanted) {
    uint32_t heir = heir_find(step);
    if (heir == 0) return false;
    config_promote(wanted, heir);
    wanted->in_sync &= (uint8_t) ~(1u << heir);
    return true;
}

static uint64_t disk_late_ns(const kith_replica_step *step) {
    bool is_behind = step->log.durable < step->log.end.sequence;
    return is_behind ? step->disk_ns + DISK_LEASES * step->options.lease_ns : UINT64_MAX;
}

/* Without an error nobody else notices: it answers, and nothing is committed. */
static bool is_held_up(const kith_replica_step *step, uint64_t now_ns) {
    uint32_t heir = heir_find(step);
    if (heir == 0 || now_ns < disk_late_ns(step)) return false;
    const replica_peer *peer = &step->peers[heir];
    return peer->matched > step->log.durable && now_ns - peer->heard_ns < step->options.lease_ns;
}

static bool wants(const kith_replica_step *step, uint64_t now_ns, kith_replica_config *wanted) {
    *wanted = step->config;
    if (step->failed) return wants_to_leave(step, wanted);
    if (step->leads_epoch != step->config.epoch) return true; /* the same again, as an epoch of its own */
    if (is_held_up(step, now_ns)) return wants_to_leave(step, wanted);
    if (step->handing_over && wants_hand_over(step, wanted)) return true;
    wanted->in_sync = wanted_in_sync(step, now_ns);
    bool same = wanted->in_sync == step->config.in_sync;
    return !same || needs_epoch(step) || is_to_settle(step, wanted);
}

/* --- asking --- */

static bool may_propose(const kith_replica_step *step, uint64_t now_ns) {
    bool first = step->config.epoch > 0 && step->self_index == 0;
    return first && step->known_epoch == step->config.epoch && !step->proposing &&
           now_ns >= step->propose_due_ns;
}

/* The wanted ISR in places of the config that is to be replaced. */
static uint8_t places_of(const kith_replica_step *step, const kith_replica_config *wanted) {
    uint8_t places = 0;
    for (uint32_t i = 0; i < wanted->replica_count; i++) {
        int index = kith_replica_config_find(&step->config, wanted->replicas[i]);
        if (wanted->in_sync & 1u << i) places |= (uint8_t)(1u << index);
    }
    return places;
}

void kith_replica_step_change(kith_replica_step *step, uint64_t now_ns) {
    if (step->handing_over && now_ns >= step->handing_until_ns) step->handing_over = false;
    kith_replica_config wanted;
    if (!may_propose(step, now_ns) || !wants(step, now_ns, &wanted)) return;
    step->proposing = true;
    step->proposing_epoch = step->config.epoch;
    step->proposed = places_of(step, &wanted);
    step->wanted = wanted;
    step->propose_due = true;
}

void kith_replica_step_change_forget(kith_replica_step *step) {
    step->proposed = step->doubted = step->refused_heirs = 0;
    step->refusals = 0;
    step->awaiting_map = false;
    step->propose_due_ns = 0;
}

bool kith_replica_step_change_open(const kith_replica_step *step) {
    return step->awaiting_map || (step->proposing && step->proposing_epoch == step->config.epoch);
}

/* It may be down, and its primary, which has failed, may never have heard it: then another is asked for, and once all were, all again. */
static void heir_refused(kith_replica_step *step) {
    int index = kith_replica_config_find(&step->config, step->wanted.replicas[0]);
    if (index <= 0) return;
    if (heirs(step) == 1u << index) step->refused_heirs = 0;
    step->refused_heirs |= (uint8_t)(1u << index);
}

/* From a quarter of a lease on, twice as long each time, up to two leases: each refusal is an entry of the metadata's log. */
static uint64_t refused_wait_ns(kith_replica_step *step) {
    uint32_t doublings = step->refusals < 3 ? step->refusals++ : 3;
    return (step->options.lease_ns / 4) << doublings;
}

/* The proposal was of the config that is still the newest here. */
static void ended(kith_replica_step *step, kith_replica_proposal outcome, uint64_t now_ns) {
    uint64_t lease_ns = step->options.lease_ns;
    uint8_t proposed = step->proposed;
    step->proposed = 0;
    step->pull_due = true;
    step->propose_due_ns = now_ns + lease_ns / 4;
    if (outcome == KITH_REPLICA_PROPOSAL_REFUSED) {
        step->propose_due_ns = now_ns + refused_wait_ns(step);
        heir_refused(step);
        return;
    }
    step->doubted |= proposed;
    step->awaiting_map = true;
    step->propose_due_ns = outcome == KITH_REPLICA_PROPOSAL_DONE ? UINT64_MAX : now_ns + lease_ns;
}

void kith_replica_step_proposed(kith_replica_step *step, kith_replica_proposal outcome, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    if (!step->proposing) return;
    step->proposing = false;
    if (outcome == KITH_REPLICA_PROPOSAL_DONE)
        step->fresh_epoch = kith_replica_earlier(step->fresh_epoch, step->proposing_epoch + 1);
    if (step->proposing_epoch == step->config.epoch) ended(step, outcome, now_ns);
    kith_replica_step_settle(step, now_ns);
}

void kith_replica_step_hand_over(kith_replica_step *step, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    if (kith_replica_step_role(step) != KITH_REPLICA_PRIMARY || heir_find(step) == 0) return;
    step->handing_over = true;
    step->handing_until_ns = now_ns + HAND_OVER_LEASES * step->options.lease_ns;
    kith_replica_step_settle(step, now_ns);
}

uint64_t kith_replica_step_change_due_ns(const kith_replica_step *step) {
    if (step->config.epoch == 0 || step->self_index != 0) return UINT64_MAX;
    uint64_t due_ns = step->handing_over ? step->handing_until_ns : UINT64_MAX;
    if (step->proposing || step->propose_due_ns == UINT64_MAX) return due_ns;
    if (step->propose_due_ns > step->now_ns) due_ns = kith_replica_earlier(due_ns, step->propose_due_ns);
    if (!kith_replica_step_leads(step)) return due_ns;
    if (disk_late_ns(step) > step->now_ns) due_ns = kith_replica_earlier(due_ns, disk_late_ns(step));
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        uint64_t silent_ns = step->peers[i].heard_ns + silence_ns(step);
        bool counts = step->config.in_sync & 1u << i && silent_ns > step->now_ns;
        if (counts) due_ns = kith_replica_earlier(due_ns, silent_ns);
    }
    return due_ns;
}
