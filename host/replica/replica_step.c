/* The step machine: roles, and what events and actions have in common. See replica_step.h for the rules.
 *
 * What differs from the sources:
 *   - PacificA (section 2) has one configuration version for changes of the primary and of the set, as here; but there a replica that
 *     is not answering is removed at once, and whoever proposes it acts alone afterwards. Here old and proposed ISR count together
 *     until the metadata have answered, so nothing depends on knowing the outcome.
 *   - Kafka's epochs rise with the leader only, and followers fetch. Here every change of the ISR raises the epoch, and the primary
 *     sends: a member learns of its own leaving by the refusal of its epoch, and one number orders everything.
 *   - Both leave open what a process does that comes back and finds itself the leader. Here it asks for another epoch: {epoch, sequence}
 *     then names one entry for ever, although entries are sent before they are durable at home.
 *   - Leases are given by acknowledgements alone, in both directions (rule 6, replica_step_lease.c).
 *
 * Why an acknowledged entry is never lost:
 *   1. {epoch, sequence} names one entry and everything before it. Only one process leads in an epoch (a compare-and-set made it,
 *      and no process leads in one that may be older than itself), it appends in order, and a follower takes an entry only behind the same one.
 *   2. When an entry is committed, every replica that the metadata may name in the ISR has it durably: the primary counts the ISR of its
 *      epoch and those of all its proposals whose refusal is not certain. If the metadata are at a later epoch that it does not
 *      know, then the first change after its own epoch was its proposal, or left the ISR as it is (the coordinators choose another primary from it, or
 *      take members away), so the next primary is one that was counted. It refuses the older epoch from the moment it leads, hence what
 *      was committed before is in its log, and what was not cannot be any more without it.
 *   3. Who enters the ISR has at least what was committed when it was proposed, and is counted from then on.
 *   4. A follower cuts off only what differs from the log of a primary of a newer epoch, which has everything committed (2). What it
 *      acknowledges is what it knows to be equal, not what it happens to have.
 *   5. A process that comes back remembers the epoch of its last entry, and the map that it went by last: a map is on its disk before
 *      it is used (host/meta/meta_client.c). So it never follows a primary of an epoch before one in which it led itself, which
 *      tests/model/replica.pml needs (FORGET_OWN_EPOCH); and in each reign the epoch-start entry is the first that is committed, together
 *      with all before it (Raft's leaders do likewise: D. Ongaro, J. Ousterhout, "In Search of an Understandable Consensus Algorithm",
 *      2014, 5.4.2), so whoever counted for a commit has an entry of that reign and refuses, for ever, primaries before it, which
 *      might cut the committed entry off again.
 *   6. A member that may have lost something (failed) neither acknowledges nor leads until it has left the ISR and was replaced; or, where all
 *      that it may have lost is the end of its log (lacks_tail), until it has left. What it acknowledged then counts no more: it was in epochs
 *      up to the map's on its disk, because it acknowledges early only in that one, and in a later one in which it is
 *      not in sync the primary counts its acknowledgements anew.
 *   7. Where an operator accepts loss, 1 to 6 begin anew, in the epoch that this makes, with the log of the replica that was chosen: a replica that
 *      has no entry of that epoch or a later one is replaced by a copy.
 *
 * Why reads of the in-sync set see it: see replica_step_lease.c. */
#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/replica/replica_step_internal.h"

#ifdef KITH_REPLICA_MUTANTS
kith_replica_mutant kith_replica_mutant_active;
#endif

kith_replica_step *kith_replica_step_create(
    const kith_replica_step_options *options, const kith_replica_log *log, uint64_t now_ns) {
    kith_assert(options->window > 0);
    kith_assert(options->lease_ns > 0);
    kith_replica_step *step = kith_alloc_zero(sizeof *step);
    step->options = *options;
    kith_replica_positions_init(&step->log, log);
    step->flights = kith_alloc_array((size_t)KITH_REPLICAS_MAX * options->window, sizeof *step->flights);
    step->now_ns = step->disk_ns = now_ns;
    step->self_index = -1;
    step->created = log->created;
    step->known_epoch = log->end.epoch; /* see 5 above */
    step->fresh_epoch = UINT64_MAX;
    step->failed = step->lacks_tail = step->failed_at_start = log->may_lack_tail;
    step->failed_epoch = log->end.epoch;
    step->loss_epoch = log->loss_epoch;
    step->committed_told = step->verified = step->log.committed;
    step->acked_ns = step->acked_before_ns = now_ns; /* what was promised before was promised before now */
    return step;
}

void kith_replica_step_destroy(kith_replica_step *step) {
    if (!step) return;
    kith_replica_positions_fini(&step->log);
    kith_free(step->queue.actions);
    kith_free(step->pending);
    kith_free(step->flights);
    kith_free(step);
}

/* --- who it is --- */

int kith_replica_config_find(const kith_replica_config *config, uint32_t number) {
    for (int i = 0; i < config->replica_count; i++) {
        if (config->replicas[i] == number) return i;
    }
    return -1;
}

bool kith_replica_step_is_in_sync(const kith_replica_step *step) {
    return step->self_index >= 0 && step->config.in_sync & 1u << step->self_index;
}

/* A newer epoch ends a primary, unless it is most likely of its own asking: then it goes on as what it is, which its own
 * epoch allows as long as the others acknowledge it. */
static bool is_outdated(const kith_replica_step *step) {
    if (step->known_epoch <= step->config.epoch) return false;
    return step->known_epoch > step->config.epoch + 1 || !kith_replica_step_change_open(step);
}

kith_replica_role kith_replica_step_role(const kith_replica_step *step) {
    if (step->config.epoch == 0 || step->self_index < 0) return KITH_REPLICA_IDLE;
    if (step->self_index > 0 || is_outdated(step)) return KITH_REPLICA_FOLLOWER;
    bool leads = step->leads_epoch == step->config.epoch && !step->failed;
    return leads && step->served ? KITH_REPLICA_PRIMARY : KITH_REPLICA_TAKING_OVER;
}

bool kith_replica_step_leads(const kith_replica_step *step) {
    if (step->failed || step->config.epoch == 0 || step->leads_epoch != step->config.epoch) return false;
    return kith_replica_step_role(step) >= KITH_REPLICA_TAKING_OVER;
}

/* --- what every event ends or begins with --- */

/* A process that stood still has not listened: silence in that time is nobody's fault. */
void kith_replica_step_clock(kith_replica_step *step, uint64_t now_ns) {
    uint64_t gap_ns = now_ns > step->now_ns ? now_ns - step->now_ns : 0;
    if (gap_ns > step->options.lease_ns / 2 && kith_replica_step_leads(step))
        kith_replica_step_forgive(step, gap_ns, now_ns);
    if (step->log.durable >= step->log.end.sequence) step->disk_ns = now_ns;
    step->now_ns = now_ns;
    if (step->leads_epoch == 0) return;
    step->led = true;
    step->led_ns = now_ns;
}

void kith_replica_step_settle(kith_replica_step *step, uint64_t now_ns) {
    kith_replica_step_commit(step, now_ns);
    kith_replica_step_change(step, now_ns);
}

void kith_replica_step_learn(kith_replica_step *step, uint64_t epoch) {
    if (epoch <= step->known_epoch) return;
    step->known_epoch = epoch;
    step->verified = step->log.committed;
    kith_replica_step_pending_refuse(step, KITH_REPLICA_OLD_EPOCH);
    if (epoch > step->config.epoch) step->pull_due = true;
}

/* --- configurations --- */

static bool may_lead(const kith_replica_step *step) {
    if (step->failed || step->known_epoch > step->config.epoch) return false;
    bool first = step->created && step->config.epoch == 1;
    return first || step->config.epoch >= step->fresh_epoch || MUTANT(LEAD_FOUND);
}

/* A member of the ISR keeps what it has: whoever was to be replaced by a copy and is in sync now was chosen where loss was accepted. */
static void install_forget(kith_replica_step *step) {
    step->installing_from = 0;
    step->install_due = false;
}

static void config_replace(kith_replica_step *step, const kith_replica_config *config) {
    kith_replica_step_rival(step, config);
    kith_replica_step_learn(step, config->epoch);
    kith_replica_step_change_forget(step);
    step->config = *config;
    step->self_index = kith_replica_config_find(config, step->options.self);
    step->pull_due = config->epoch < step->known_epoch;
    if (kith_replica_step_is_in_sync(step))
        install_forget(step);
    else
        step->leased_until_ns = 0;
}

void kith_replica_step_sound(kith_replica_step *step) {
    step->failed = step->lacks_tail = false;
}

/* A shard's only copy, and one that an operator has chosen, lead with what there is. */
static void loss_look(kith_replica_step *step, bool is_first) {
    if (!step->lacks_tail) return;
    bool is_only = is_first && step->config.replica_count == 1 && step->self_index == 0;
    bool is_chosen = step->self_index == 0 && step->config.loss_epoch > step->loss_epoch;
    if (is_first) step->failed_epoch = kith_replica_later(step->failed_epoch, step->known_epoch);
    if (is_only || is_chosen) kith_replica_step_sound(step);
}

static void config_take(kith_replica_step *step, const kith_replica_config *config, uint64_t now_ns) {
    kith_replica_config before = step->config;
    bool led = step->leads_epoch != 0 && step->leads_epoch == before.epoch;
    config_replace(step, config);
    loss_look(step, before.epoch == 0);
    if (step->self_index != 0 || step->failed) {
        step->leads_epoch = 0;
        step->handing_over = false;
    } else if (led && config->epoch == before.epoch + 1) {
        kith_replica_step_lead_on(step, &before, now_ns);
    } else if (may_lead(step)) {
        kith_replica_step_lead(step, now_ns);
    } else {
        step->leads_epoch = 0;
    }
}

void kith_replica_step_configure(
    kith_replica_step *step, const kith_replica_config *config, uint64_t now_ns) {
    kith_assert(config->replica_count <= KITH_REPLICAS_MAX);
    kith_replica_step_clock(step, now_ns);
    if (config->epoch > step->config.epoch)
        config_take(step, config, now_ns);
    else if (config->epoch == step->config.epoch)
        step->config.min_in_sync = config->min_in_sync; /* it changes without an epoch */
    kith_replica_step_settle(step, now_ns);
}

/* --- other events --- */

void kith_replica_step_durable(kith_replica_step *step, uint64_t sequence, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    uint64_t there = kith_replica_earlier(sequence, step->log.end.sequence);
    if (there > step->log.durable) step->disk_ns = now_ns;
    step->log.durable = kith_replica_later(step->log.durable, there);
    kith_replica_step_pending_answer(step, now_ns);
    kith_replica_step_settle(step, now_ns);
}

/* Early only in the epoch of a map that is on the disk: so what comes back after a stop knows up to which epoch it may have counted for more than
 * it has. */
uint64_t kith_replica_step_kept(const kith_replica_step *step, uint64_t epoch) {
    bool is_early = epoch == step->config.epoch;
    return is_early ? kith_replica_later(step->log.handed, step->log.durable) : step->log.durable;
}

void kith_replica_step_handed(kith_replica_step *step, uint64_t sequence, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    step->log.handed = kith_replica_earlier(sequence, step->log.end.sequence);
    kith_replica_step_pending_answer(step, now_ns);
    kith_replica_step_settle(step, now_ns);
}

void kith_replica_step_trimmed(kith_replica_step *step, uint64_t sequence) {
    kith_replica_positions_trim(&step->log, sequence);
}

void kith_replica_step_received(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    kith_replica_step_append_take(step, from, append, token, now_ns);
    kith_replica_step_settle(step, now_ns);
}

void kith_replica_step_answered(kith_replica_step *step, uint32_t peer, uint64_t send_id,
    const kith_replica_reply *reply, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    if (reply && !MUTANT(PRIMARY_ANY_EPOCH)) kith_replica_step_learn(step, reply->epoch);
    if (kith_replica_step_leads(step)) kith_replica_step_answer_take(step, peer, send_id, reply, now_ns);
    kith_replica_step_settle(step, now_ns);
}

void kith_replica_step_installed(kith_replica_step *step, kith_replica_position end, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    kith_replica_step_pending_refuse(step, KITH_REPLICA_NOT_READY);
    kith_replica_positions_reset(&step->log, end);
    step->verified = step->committed_told = end.sequence;
    kith_replica_step_sound(step);
    install_forget(step);
    kith_replica_step_settle(step, now_ns);
}

bool kith_replica_step_installs(const kith_replica_step *step) {
    return step->installing_from != 0;
}

void kith_replica_step_failed(kith_replica_step *step, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    step->failed = true;
    step->lacks_tail = false; /* more than that */
    step->failed_epoch = step->config.epoch ? step->known_epoch : 0;
    step->failed_at_start = step->config.epoch == 0;
    step->leads_epoch = 0;
    step->handing_over = false;
    step->leased_until_ns = 0;
    kith_replica_step_pending_refuse(step, KITH_REPLICA_NOT_READY);
    kith_replica_step_settle(step, now_ns);
}

void kith_replica_step_tick(kith_replica_step *step, uint64_t now_ns) {
    kith_replica_step_clock(step, now_ns);
    kith_replica_step_settle(step, now_ns);
}

/* --- actions --- */

kith_replica_action *kith_replica_step_enqueue(kith_replica_step *step, kith_replica_action_kind kind) {
    replica_queue *queue = &step->queue;
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity ? 2 * queue->capacity : 16;
        queue->actions = kith_realloc(queue->actions, queue->capacity * sizeof *queue->actions);
    }
    kith_replica_action *action = &queue->actions[queue->count++];
    *action = (kith_replica_action){.kind = kind};
    return action;
}

static bool queue_take(replica_queue *queue, kith_replica_action *action_out) {
    if (queue->first == queue->count) {
        queue->first = queue->count = 0;
        return false;
    }
    *action_out = queue->actions[queue->first++];
    return true;
}

static bool needs_map(const kith_replica_step *step) {
    return step->known_epoch > step->config.epoch || step->awaiting_map;
}

static uint64_t pull_due_ns(const kith_replica_step *step) {
    return needs_map(step) ? step->pulled_ns + step->options.lease_ns / 2 : UINT64_MAX;
}

static bool flag_take(bool *flag) {
    bool was = *flag;
    *flag = false;
    return was;
}

static bool state_take(kith_replica_step *step, kith_replica_action *action) {
    *action = (kith_replica_action){.kind = KITH_REPLICA_NOTHING};
    if (flag_take(&step->start_due)) {
        action->kind = KITH_REPLICA_START_EPOCH;
        action->position = (kith_replica_position){step->config.epoch, step->start};
    } else if (step->log.committed > step->committed_told) {
        action->kind = KITH_REPLICA_COMMIT;
        action->last = step->committed_told = step->log.committed;
    } else if (flag_take(&step->propose_due)) {
        action->kind = KITH_REPLICA_PROPOSE;
        action->config = step->wanted;
    } else if (flag_take(&step->install_due)) {
        action->kind = KITH_REPLICA_INSTALL;
        action->peer = step->installing_from;
    }
    return action->kind != KITH_REPLICA_NOTHING;
}

static bool pull_take(kith_replica_step *step, uint64_t now_ns, kith_replica_action *action) {
    if (!flag_take(&step->pull_due) && now_ns < pull_due_ns(step)) return false;
    step->pulled_ns = now_ns;
    *action = (kith_replica_action){.kind = KITH_REPLICA_PULL_MAP};
    return true;
}

bool kith_replica_step_next(kith_replica_step *step, uint64_t now_ns, kith_replica_action *action_out) {
    return queue_take(&step->queue, action_out) || state_take(step, action_out) ||
           pull_take(step, now_ns, action_out) || kith_replica_step_send(step, now_ns, action_out);
}

/* A wait that is over is no reason to be called: what came of it was done with the last event. */
static uint64_t hold_due_ns(const kith_replica_step *step) {
    if (step->hold_floor_ns > step->now_ns) return step->hold_floor_ns;
    return step->hold_ns > step->now_ns ? step->hold_ns : UINT64_MAX;
}

uint64_t kith_replica_step_due_ns(const kith_replica_step *step) {
    uint64_t due_ns = kith_replica_earlier(pull_due_ns(step), kith_replica_step_change_due_ns(step));
    if (!kith_replica_step_leads(step)) return due_ns;
    due_ns = kith_replica_earlier(due_ns, hold_due_ns(step));
    return kith_replica_earlier(due_ns, kith_replica_step_send_due_ns(step));
}

/* --- status --- */

static void peers_tell(const kith_replica_step *step, uint64_t now_ns, kith_replica_status *status) {
    if (!kith_replica_step_leads(step)) return;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        const replica_peer *peer = &step->peers[i];
        status->peers[status->peer_count++] = (kith_replica_peer_status){.number = peer->number,
            .in_sync = step->config.in_sync & 1u << i,
            .matched = peer->matched,
            .applied = peer->applied,
            .silent_ns = now_ns > peer->heard_ns ? now_ns - peer->heard_ns : 0};
    }
}

void kith_replica_step_status(
    const kith_replica_step *step, uint64_t now_ns, kith_replica_status *status_out) {
    uint64_t sequence;
    kith_status leased = kith_replica_step_read(step, KITH_REPLICA_READ_IN_SYNC, 0, now_ns, &sequence, NULL);
    *status_out = (kith_replica_status){.role = kith_replica_step_role(step),
        .epoch = step->known_epoch,
        .config = step->config,
        .end = step->log.end,
        .committed = step->log.committed,
        .durable = step->log.durable,
        .in_sync = kith_replica_step_is_in_sync(step),
        .may_lack_tail = step->lacks_tail,
        .awaits_copy = kith_replica_step_installs(step),
        .leased = leased == KITH_OK,
        .leased_until_ns = leased == KITH_OK ? kith_replica_step_leased_until_ns(step) : 0};
    peers_tell(step, now_ns, status_out);
}

uint64_t kith_replica_step_epoch_of(const kith_replica_step *step, uint64_t sequence) {
    uint64_t epoch = 0;
    return sequence > 0 && kith_replica_positions_epoch(&step->log, sequence, &epoch) ? epoch : 0;
}
