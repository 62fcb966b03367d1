/* Following: an append is taken behind an entry that both have, what differs is cut off, and it is answered when it is durable. */
#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/replica/replica_step_internal.h"

/* --- answers --- */

static void answer(kith_replica_step *step, uint64_t token, kith_replica_reply reply) {
    kith_replica_action *action = kith_replica_step_enqueue(step, KITH_REPLICA_ANSWER);
    action->token = token;
    action->reply = reply;
}

static void answer_plain(
    kith_replica_step *step, uint64_t token, kith_replica_outcome outcome, uint64_t now_ns) {
    answer(step, token,
        (kith_replica_reply){.outcome = outcome, .epoch = step->known_epoch, .stamp_ns = now_ns});
}

/* The disk stands still, and those that were given up stay until it goes on: what is sent again only adds to them. */
static void answer_full(kith_replica_step *step, uint64_t token, uint64_t now_ns) {
    answer(step, token,
        (kith_replica_reply){
            .outcome = KITH_REPLICA_NOT_READY, .epoch = step->known_epoch, .stamp_ns = now_ns, .full = true});
}

void kith_replica_step_pending_refuse(kith_replica_step *step, kith_replica_outcome outcome) {
    for (uint32_t i = 0; i < step->pending_count; i++)
        answer_plain(step, step->pending[i].token, outcome, step->now_ns);
    step->pending_count = 0;
}

static void pending_answer(kith_replica_step *step, const replica_pending *pending, uint64_t now_ns) {
    uint64_t matched = kith_replica_earlier(step->verified, kith_replica_step_kept(step, pending->epoch));
    if (MUTANT(MATCHED_END)) matched = step->log.durable;
    if (MUTANT(ANSWER_BEFORE_DURABLE)) matched = step->verified;
    answer(step, pending->token,
        (kith_replica_reply){
            .outcome = KITH_REPLICA_OK, .epoch = pending->epoch, .matched = matched, .stamp_ns = now_ns});
    kith_replica_step_acknowledge(step, pending->from, now_ns);
}

static void pending_push(kith_replica_step *step, replica_pending pending) {
    if (step->pending_count == step->pending_capacity) {
        step->pending_capacity = step->pending_capacity ? 2 * step->pending_capacity : 8;
        step->pending = kith_realloc(step->pending, step->pending_capacity * sizeof *step->pending);
    }
    step->pending[step->pending_count++] = pending;
}

void kith_replica_step_pending_answer(kith_replica_step *step, uint64_t now_ns) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < step->pending_count; i++) {
        replica_pending pending = step->pending[i];
        if (pending.last <= kith_replica_step_kept(step, pending.epoch) || MUTANT(ANSWER_BEFORE_DURABLE))
            pending_answer(step, &pending, now_ns);
        else
            step->pending[left++] = pending;
    }
    step->pending_count = left;
}

/* --- being replaced --- */

static bool is_out_of_sync(const kith_replica_step *step, uint64_t epoch) {
    return step->config.epoch == epoch && step->self_index > 0 && !kith_replica_step_is_in_sync(step);
}

/* In this epoch what it acknowledged before it failed may still bring it into the ISR: a proposal is perhaps on its way. In a later
 * one acknowledgements count anew. */
static bool needs_epoch(const kith_replica_step *step, uint64_t epoch) {
    return step->failed && epoch <= step->failed_epoch && is_out_of_sync(step, epoch);
}

/* Only a replica that is surely not in sync may forget what it has: a member of the ISR may be the one that is promoted. */
static bool install_is_allowed(const kith_replica_step *step, uint64_t epoch) {
    if (MUTANT(INSTALL_IN_SYNC)) return true;
    return is_out_of_sync(step, epoch) && !needs_epoch(step, epoch);
}

static void install_begin(kith_replica_step *step, uint32_t from) {
    if (step->installing_from == from) return;
    step->installing_from = from;
    step->install_due = true;
}

/* --- matching --- */

static bool previous_is_here(const kith_replica_step *step, const kith_replica_position *previous) {
    uint64_t epoch;
    if (previous->sequence <= step->log.committed)
        return true; /* committed entries are the same everywhere */
    if (!kith_replica_positions_epoch(&step->log, previous->sequence, &epoch)) return false;
    return (epoch == previous->epoch && epoch > 0) || MUTANT(MATCH_BY_SEQUENCE);
}

/* Behind which sequence the primary had best try: not within a run of entries of an epoch of which it has another entry there. */
static uint64_t hint_of(const kith_replica_step *step, const kith_replica_append *append) {
    bool below = append->previous.sequence <= step->log.committed; /* of one that is not sound */
    if (append->snapshot_needed || below) return step->log.committed;
    if (append->previous.sequence > step->log.end.sequence) return step->log.end.sequence;
    uint64_t before = kith_replica_positions_run(&step->log, append->previous.sequence) - 1;
    return kith_replica_later(before, kith_replica_later(step->log.committed, step->verified));
}

static void answer_mismatch(
    kith_replica_step *step, const kith_replica_append *append, uint64_t token, uint64_t now_ns) {
    answer(step, token,
        (kith_replica_reply){.outcome = KITH_REPLICA_MISMATCH,
            .epoch = append->epoch,
            .hint = hint_of(step, append),
            .stamp_ns = now_ns});
}

/* --- taking entries --- */

/* The first of the append's entries that is not here; differing ones are cut off. */
static uint64_t missing_from(kith_replica_step *step, const kith_replica_append *append) {
    uint64_t first = append->previous.sequence + 1;
    for (uint32_t i = 0; i < append->entry_count; i++) {
        uint64_t sequence = first + i, epoch = 0;
        if (sequence <= step->log.committed) continue;
        if (sequence > step->log.end.sequence) return sequence;
        bool known = kith_replica_positions_epoch(&step->log, sequence, &epoch);
        kith_assert(known);
        if (epoch == append->entry_epochs[i] || MUTANT(NO_TRUNCATION)) continue;
        kith_assert(sequence > step->verified);
        kith_replica_step_enqueue(step, KITH_REPLICA_TRUNCATE)->first = sequence;
        kith_replica_positions_truncate(
            &step->log, sequence, i > 0 ? append->entry_epochs[i - 1] : append->previous.epoch);
        return sequence;
    }
    return first + append->entry_count;
}

static void entries_take(kith_replica_step *step, const kith_replica_append *append, uint64_t token) {
    uint64_t first = missing_from(step, append);
    uint64_t last = append->previous.sequence + append->entry_count;
    if (first <= last) {
        kith_replica_action *action = kith_replica_step_enqueue(step, KITH_REPLICA_APPEND);
        action->token = token;
        action->first = first;
        action->last = last;
    }
    for (uint64_t sequence = first; sequence <= last; sequence++)
        kith_replica_positions_append(
            &step->log, append->entry_epochs[sequence - append->previous.sequence - 1]);
    step->verified = kith_replica_later(step->verified, last);
}

static void commit_take(kith_replica_step *step, uint64_t committed) {
    uint64_t sure = kith_replica_earlier(committed, step->verified);
    step->log.committed = kith_replica_later(step->log.committed, sure);
}

/* The epochs of the entries rise from that of `previous` to that of the append: what a primary sends is never otherwise. */
static bool append_is_sound(const kith_replica_append *append) {
    uint64_t least = append->previous.epoch;
    for (uint32_t i = 0; i < append->entry_count; i++) {
        if (append->entry_epochs[i] < least) return false;
        least = append->entry_epochs[i];
    }
    return least <= append->epoch;
}

static void append_take(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns) {
    if (!append_is_sound(append) || !previous_is_here(step, &append->previous)) {
        answer_mismatch(step, append, token, now_ns);
        return;
    }
    entries_take(step, append, token);
    commit_take(step, append->committed);
    pending_push(step, (replica_pending){.token = token,
                           .epoch = append->epoch,
                           .from = from,
                           .last = append->previous.sequence + append->entry_count});
    kith_replica_step_pending_answer(step, now_ns);
}

/* --- what comes --- */

static bool is_from_primary(const kith_replica_step *step, uint32_t from, uint64_t epoch) {
    if (step->config.epoch != epoch) return true; /* the map here is older: nobody else sends in that epoch */
    return step->self_index > 0 && step->config.replicas[0] == from;
}

static bool is_refused_as_old(const kith_replica_step *step, uint64_t epoch) {
    if (MUTANT(FOLLOWER_ANY_EPOCH) && !kith_replica_step_leads(step)) return false;
    return epoch < step->known_epoch;
}

/* What was committed before an operator accepted loss is not the same everywhere: a replica that has nothing of the time after it may have what
 * the copy that counts has not. */
static bool is_of_lost_time(const kith_replica_step *step, const kith_replica_append *append) {
    return kith_replica_later(append->loss_epoch, step->config.loss_epoch) > step->log.end.epoch;
}

static bool is_to_be_installed(const kith_replica_step *step, const kith_replica_append *append) {
    if (step->failed || step->installing_from || is_of_lost_time(step, append)) return true;
    return append->snapshot_needed && step->log.committed < append->previous.sequence;
}

/* The same primary's next attempt, or another primary that has it too: the glue fetches from the newest. One that was found to have failed
 * at its start may have acknowledged in this epoch before, also where the map that it had kept is of an earlier one. */
static void install_take(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns) {
    if (step->failed && step->failed_at_start)
        step->failed_epoch = kith_replica_later(step->failed_epoch, append->epoch);
    step->failed_at_start = false;
    bool is_lost = is_of_lost_time(step, append);
    if (step->lacks_tail && !is_lost && install_is_allowed(step, append->epoch)) {
        kith_replica_step_sound(step);
        append_take(step, from, append, token, now_ns);
        return;
    }
    bool needs = !step->installing_from && needs_epoch(step, append->epoch);
    if (install_is_allowed(step, append->epoch)) install_begin(step, from);
    if (step->failed || step->installing_from || is_lost)
        answer_plain(step, token, needs ? KITH_REPLICA_NEEDS_EPOCH : KITH_REPLICA_NOT_READY, now_ns);
    else
        answer_mismatch(step, append, token, now_ns);
}

void kith_replica_step_append_take(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns) {
    if (is_refused_as_old(step, append->epoch)) {
        answer_plain(step, token, KITH_REPLICA_OLD_EPOCH, now_ns);
        return;
    }
    kith_replica_step_learn(step, append->epoch);
    if (append->epoch > step->leads_epoch) step->leads_epoch = 0; /* somebody else leads since */
    if (!is_from_primary(step, from, append->epoch)) {
        answer_plain(step, token, KITH_REPLICA_NOT_READY, now_ns);
        return;
    }
    if (step->pending_count == KITH_REPLICA_PENDING_MAX) {
        answer_full(step, token, now_ns);
        return;
    }
    kith_replica_step_echo(step, append->echo_ns, now_ns);
    if (is_to_be_installed(step, append))
        install_take(step, from, append, token, now_ns);
    else if (append->snapshot_needed)
        answer_mismatch(step, append, token, now_ns);
    else
        append_take(step, from, append, token, now_ns);
}
