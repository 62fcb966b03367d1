/* Leases and the waits that make them true (rule 6). Three kinds of promise, all measured on the promiser's own clock, which runs
 * on while its process sleeps:
 *   - whoever acknowledges an append commits nothing as a primary until 2 L (1 + drift) later;
 *   - a primary commits without a member of its ISR no earlier than that after the member's last acknowledgement came;
 *   - a primary of which a member was taken away by the coordinators, as one that it is the primary of again, waits likewise.
 *
 * Why 2 L: a deposed primary that does not know it may answer reads until L after the last append that the new one acknowledged
 * to it was sent, and until then send a follower's stamp back, which is good for L after the stamp. */
#include "host/replica/replica_step_internal.h"

uint64_t kith_replica_step_hold_length_ns(const kith_replica_step *step) {
    return 2 * step->options.lease_ns + step->options.lease_ns / 4;
}

/* Until no lease can be valid that this process has vouched for, as a primary, until `vouched_ns`. */
static void hold_at_least(kith_replica_step *step, uint64_t vouched_ns) {
    uint64_t until_ns = vouched_ns + step->options.lease_ns + step->options.lease_ns / 8;
    step->hold_floor_ns = kith_replica_later(step->hold_floor_ns, until_ns);
}

/* A primary that is about to take over. The wait for the primary right before it ends early when that one acknowledges the own
 * epoch: it cannot be serving an older one. So a planned hand-over costs a round trip. That holds only where nobody who was in sync with it
 * is left out now, and its own predecessors are waited for all the same. So is whoever was left out before, while that one led: it may have
 * vouched for him without having heard of it. Where this process led before, it may itself have vouched for one that is left out now. */
void kith_replica_step_hold_begin(kith_replica_step *step) {
    uint64_t length_ns = kith_replica_step_hold_length_ns(step);
    step->hold_by = 0;
    step->hold_ns = step->hold_floor_ns = 0;
    if (step->created && step->config.epoch == 1) return; /* nobody can have been before */
    if (step->config.epoch == step->options.epoch_led_min && step->fresh_epoch <= step->config.epoch) return;
    step->hold_ns = step->acked_ns + length_ns;
    if (step->rival_sure && step->acked_to == step->rival) {
        step->hold_by = step->rival;
        step->hold_floor_ns = kith_replica_later(step->acked_before_ns, step->acked_left_ns) + length_ns;
    } else {
        step->hold_floor_ns = step->hold_ns;
    }
    if (step->led) hold_at_least(step, step->led_ns);
}

/* `removed` was in sync and is not any more. Of the own doing, it has been silent for longer. */
void kith_replica_step_hold_removed(kith_replica_step *step, const replica_peer *removed) {
    if (!MUTANT(REMOVED_NO_HOLD)) hold_at_least(step, removed->heard_ns);
}

bool kith_replica_step_held(const kith_replica_step *step, uint64_t now_ns) {
    if (MUTANT(NO_HOLD)) return false;
    if (now_ns < step->hold_floor_ns) return true;
    if (now_ns >= step->hold_ns) return false;
    int helper = step->hold_by ? kith_replica_config_find(&step->config, step->hold_by) : -1;
    return helper < 0 || !step->peers[helper].acked;
}

/* UINT64_MAX: nobody else counts. */
static uint64_t primary_leased_until_ns(const kith_replica_step *step) {
    uint8_t counted = kith_replica_step_counted(step);
    uint64_t until_ns = UINT64_MAX;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        const replica_peer *peer = &step->peers[i];
        if (!(counted & 1u << i)) continue;
        if (!peer->acked) return 0;
        until_ns = kith_replica_earlier(until_ns, peer->lease_ns + step->options.lease_ns);
    }
    return until_ns;
}

bool kith_replica_step_leased(const kith_replica_step *step, uint64_t now_ns) {
    return now_ns < primary_leased_until_ns(step);
}

uint64_t kith_replica_step_leased_until_ns(const kith_replica_step *step) {
    bool is_primary = kith_replica_step_role(step) == KITH_REPLICA_PRIMARY;
    return is_primary ? primary_leased_until_ns(step) : step->leased_until_ns;
}

/* --- of a follower --- */

void kith_replica_step_acknowledge(kith_replica_step *step, uint32_t to, uint64_t now_ns) {
    if (to != step->acked_to) step->acked_before_ns = step->acked_ns;
    step->acked_to = to;
    step->acked_ns = now_ns;
    step->stamps[step->stamp_count++ % KITH_REPLICA_STAMPS] = now_ns;
}

/* Only a stamp of this very process counts: a clock that began anew with its machine may have had the number before. */
static bool stamp_is_own(const kith_replica_step *step, uint64_t stamp_ns) {
    uint32_t count = step->stamp_count < KITH_REPLICA_STAMPS ? step->stamp_count : KITH_REPLICA_STAMPS;
    for (uint32_t i = 0; i < count; i++) {
        if (step->stamps[i] == stamp_ns) return true;
    }
    return false;
}

void kith_replica_step_echo(kith_replica_step *step, uint64_t echo_ns, uint64_t now_ns) {
    if (echo_ns == 0 || !stamp_is_own(step, echo_ns)) return;
    uint64_t from_ns = MUTANT(LEASE_FROM_RECEIPT) ? now_ns : echo_ns;
    step->leased_until_ns = kith_replica_later(step->leased_until_ns, from_ns + step->options.lease_ns);
}

static bool isr_is_kept(const kith_replica_config *before, const kith_replica_config *after) {
    for (uint32_t i = 0; i < before->replica_count; i++) {
        if (!(before->in_sync & 1u << i)) continue;
        int index = kith_replica_config_find(after, before->replicas[i]);
        if (index < 0 || !(after->in_sync & 1u << index)) return false;
    }
    return true;
}

/* Keeps up who was the primary before this node; called before `config` replaces the one here. */
void kith_replica_step_rival(kith_replica_step *step, const kith_replica_config *config) {
    bool is_kept = config->epoch == step->config.epoch + 1 && isr_is_kept(&step->config, config);
    if (!is_kept) step->acked_left_ns = step->acked_ns;
    if (config->replica_count > 0 && config->replicas[0] != step->options.self) {
        step->rival = config->replicas[0];
        step->rival_sure = true;
        return;
    }
    step->rival_sure = step->rival_sure && is_kept;
}

/* --- reads --- */

static kith_status read_as_primary(
    const kith_replica_step *step, uint64_t now_ns, uint64_t *sequence_out, kith_err *err) {
    if (!kith_replica_step_leased(step, now_ns))
        return kith_err_set(err, KITH_UNAVAILABLE,
            "the primary, node %u, has not heard all in-sync replicas for %llu ms", step->options.self,
            (unsigned long long)(step->options.lease_ns / 1000000));
    *sequence_out = step->log.committed;
    return KITH_OK;
}

static kith_status read_as_follower(
    const kith_replica_step *step, uint64_t now_ns, uint64_t *sequence_out, kith_err *err) {
    if (step->known_epoch > step->config.epoch)
        return kith_err_set(err, KITH_UNAVAILABLE, "node %u knows of epoch %llu, its map is of epoch %llu",
            step->options.self, (unsigned long long)step->known_epoch,
            (unsigned long long)step->config.epoch);
    if (!kith_replica_step_is_in_sync(step))
        return kith_err_set(err, KITH_UNAVAILABLE, "node %u is not in sync", step->options.self);
    if (now_ns >= step->leased_until_ns)
        return kith_err_set(err, KITH_UNAVAILABLE, "node %u has not heard the primary for %llu ms",
            step->options.self, (unsigned long long)(step->options.lease_ns / 1000000));
    *sequence_out = MUTANT(READ_COMMITTED) ? step->log.committed : step->log.end.sequence;
    return KITH_OK;
}

/* Reads that promise nothing about others: any replica that is whole may answer; before it is replaced by a copy, too, for what it has. */
static kith_status read_plain(
    const kith_replica_step *step, uint64_t sequence, uint64_t *sequence_out, kith_err *err) {
    if (step->config.epoch > 0 && step->self_index < 0)
        return kith_err_set(err, KITH_STALE_MAP, "node %u has no replica of shard %llu", step->options.self,
            (unsigned long long)step->options.shard_id);
    *sequence_out = sequence;
    return KITH_OK;
}

kith_status kith_replica_step_read(const kith_replica_step *step, kith_replica_read read,
    uint64_t token_sequence, uint64_t now_ns, uint64_t *sequence_out, kith_err *err) {
    bool is_replaced = step->installing_from && read != KITH_REPLICA_READ_ANY;
    if (step->failed || is_replaced)
        return kith_err_set(
            err, KITH_UNAVAILABLE, "the replica on node %u is being replaced", step->options.self);
    if (read == KITH_REPLICA_READ_ANY) return read_plain(step, 0, sequence_out, err);
    if (read == KITH_REPLICA_READ_TOKEN) return read_plain(step, token_sequence, sequence_out, err);
    kith_replica_role role = kith_replica_step_role(step);
    if (role == KITH_REPLICA_PRIMARY) return read_as_primary(step, now_ns, sequence_out, err);
    if (role == KITH_REPLICA_TAKING_OVER)
        return kith_err_set(err, KITH_UNAVAILABLE, "node %u is taking over", step->options.self);
    if (role == KITH_REPLICA_FOLLOWER && read == KITH_REPLICA_READ_IN_SYNC)
        return read_as_follower(step, now_ns, sequence_out, err);
    return kith_err_set(err, KITH_STALE_MAP, "node %u is not the primary", step->options.self);
}
