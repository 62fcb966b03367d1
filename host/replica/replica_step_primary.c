/* Leading: taking over, sending, committing. Appends to one replica are pipelined, in order; when one was not answered or did not match,
 * all under way to that replica are forgotten and it begins again behind what is known to match (go-back-N). While it is not known what
 * matches there is one under way: of several, which all do not match, the answer to the last, which knows least, could come first each time.
 * One that has no room for entries is sent none, but asked for room, one question at a time. One that did not answer is sent an empty
 * append, until it answers something: entries that go to nobody are read back from the log files, again and again. */
#include "host/base/assert.h"
#include "host/replica/replica_step_internal.h"

static uint64_t idle_ns(const kith_replica_step *step) {
    return step->options.lease_ns / 4;
}

/* --- taking over --- */

static void entry_note(kith_replica_step *step, uint64_t bytes) {
    uint64_t sequence = step->log.end.sequence;
    if (bytes > 0) step->size_usual = step->size_usual ? (7 * step->size_usual + bytes) / 8 : bytes;
    step->sizes[sequence % KITH_REPLICA_SIZES].sequence = sequence;
    step->sizes[sequence % KITH_REPLICA_SIZES].bytes = bytes;
}

static void peer_rewind(replica_peer *peer, uint64_t base) {
    peer->flight_count = 0;
    peer->base = base;
    peer->next = base + 1;
    peer->committed_sent = 0;
}

/* Who is not in sync may have been replaced since it acknowledged: for entering the ISR only what it says in this epoch counts. */
static void peer_doubt(replica_peer *peer) {
    peer->acked = false;
    peer->matched = 0;
}

static replica_peer peer_make(kith_replica_step *step, uint32_t index, uint64_t now_ns) {
    return (replica_peer){.number = step->config.replicas[index],
        .base = step->log.end.sequence,
        .next = step->log.end.sequence + 1,
        .probing = true,
        .heard_ns = now_ns,
        .flight = step->flights + (size_t)index * step->options.window};
}

static void peers_make(kith_replica_step *step, uint64_t now_ns) {
    for (uint32_t i = 1; i < step->config.replica_count; i++)
        step->peers[i] = peer_make(step, i, now_ns);
}

void kith_replica_step_lead(kith_replica_step *step, uint64_t now_ns) {
    step->leads_epoch = step->config.epoch;
    step->fresh_epoch = kith_replica_earlier(step->fresh_epoch, step->config.epoch);
    step->served = step->handing_over = false;
    peers_make(step, now_ns);
    kith_replica_step_hold_begin(step);
    step->start = step->log.end.sequence;
    if (MUTANT(NO_EPOCH_START)) return;
    kith_replica_positions_append(&step->log, step->config.epoch);
    step->start = step->log.end.sequence;
    step->start_due = true;
    entry_note(step, 0);
}

static const replica_peer *peer_of(const replica_peer *peers, uint32_t count, uint32_t number) {
    for (uint32_t i = 1; i < count; i++) {
        if (peers[i].number == number) return &peers[i];
    }
    return NULL;
}

void kith_replica_step_lead_on(kith_replica_step *step, const kith_replica_config *before, uint64_t now_ns) {
    replica_peer old[KITH_REPLICAS_MAX];
    memcpy(old, step->peers, sizeof old);
    step->leads_epoch = step->config.epoch;
    peers_make(step, now_ns);
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        const replica_peer *same = peer_of(old, before->replica_count, step->config.replicas[i]);
        if (!same) continue;
        replica_send *flight = step->peers[i].flight;
        step->peers[i] = *same;
        step->peers[i].flight = flight;
        step->peers[i].sent = step->peers[i].needs_epoch = false;
        peer_rewind(&step->peers[i], same->base);
        if (!(step->config.in_sync & 1u << i)) peer_doubt(&step->peers[i]);
    }
    for (uint32_t i = 1; i < before->replica_count; i++) {
        int index = kith_replica_config_find(&step->config, before->replicas[i]);
        bool stays = index >= 0 && step->config.in_sync & 1u << index;
        if (before->in_sync & 1u << i && !stays) kith_replica_step_hold_removed(step, &old[i]);
    }
}

/* --- writes --- */

static uint32_t in_sync_count(const kith_replica_step *step) {
    return (uint32_t)__builtin_popcount(step->config.in_sync);
}

static kith_status admit_check(const kith_replica_step *step, kith_err *err) {
    kith_replica_role role = kith_replica_step_role(step);
    uint32_t self = step->options.self, count = in_sync_count(step);
    if (role == KITH_REPLICA_IDLE || role == KITH_REPLICA_FOLLOWER)
        return kith_err_set(err, KITH_STALE_MAP, "node %u is not the primary", self);
    if (step->lacks_tail)
        return kith_err_set(err, KITH_UNAVAILABLE,
            "the copy on node %u may lack writes that it acknowledged before it stopped without warning, and "
            "no other is in sync: where none will be, `kith cluster accept-loss` goes on with one",
            self);
    if (role == KITH_REPLICA_TAKING_OVER)
        return kith_err_set(err, KITH_UNAVAILABLE, "node %u is taking over", self);
    if (step->handing_over) return kith_err_set(err, KITH_UNAVAILABLE, "node %u is handing over", self);
    if (count < step->config.min_in_sync && !MUTANT(NO_MIN_IN_SYNC))
        return kith_err_set(err, KITH_UNAVAILABLE, "%u of %u replicas are in sync, min_in_sync is %u", count,
            step->config.replica_count, step->config.min_in_sync);
    return KITH_OK;
}

kith_status kith_replica_step_admit(kith_replica_step *step, uint64_t bytes, uint64_t now_ns,
    kith_replica_position *position_out, kith_err *err) {
    (void)now_ns; /* what follows from the time is the business of ticks */
    kith_status status = admit_check(step, err);
    if (status != KITH_OK) return status;
    kith_replica_positions_append(&step->log, step->config.epoch);
    entry_note(step, bytes);
    *position_out = step->log.end;
    return KITH_OK;
}

uint8_t kith_replica_step_counted(const kith_replica_step *step) {
    if (MUTANT(NEW_ISR_ALONE) && step->proposed) return step->proposed;
    return (uint8_t)(step->config.in_sync | step->proposed | step->doubted);
}

/* Up to where every counted replica has it, durably or as well as that. */
static uint64_t committable(const kith_replica_step *step) {
    uint8_t counted = kith_replica_step_counted(step);
    uint64_t kept = kith_replica_step_kept(step, step->config.epoch), least = kept, most = 0;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        if (!(counted & 1u << i)) continue;
        least = kith_replica_earlier(least, step->peers[i].matched);
        most = kith_replica_later(most, step->peers[i].matched);
    }
    if (MUTANT(COMMIT_ALONE)) return kept;
    if (MUTANT(COMMIT_BY_ONE)) return most ? kith_replica_earlier(most, kept) : least;
    return least;
}

void kith_replica_step_commit(kith_replica_step *step, uint64_t now_ns) {
    if (!kith_replica_step_leads(step) || kith_replica_step_held(step, now_ns)) return;
    uint64_t committed = committable(step);
    if (committed < step->start) return;
    step->log.committed = kith_replica_later(step->log.committed, committed);
    step->served = true;
}

/* --- sending --- */

static uint64_t entry_bytes(const kith_replica_step *step, uint64_t sequence) {
    uint64_t slot = sequence % KITH_REPLICA_SIZES;
    if (step->sizes[slot].sequence == sequence) return step->sizes[slot].bytes;
    /* A guess: whoever reads it back may send fewer (kith_replica_step_shortened). */
    return step->size_usual ? step->size_usual : step->options.batch_bytes_max / 64;
}

static uint64_t batch_last(const kith_replica_step *step, uint64_t first) {
    uint64_t last = first, bytes = entry_bytes(step, first);
    while (last < step->log.end.sequence && last - first + 1 < KITH_REPLICA_BATCH_ENTRIES_MAX) {
        bytes += entry_bytes(step, last + 1);
        if (bytes > step->options.batch_bytes_max) break;
        last++;
    }
    return last;
}

static bool is_window_full(const kith_replica_step *step, const replica_peer *peer) {
    return peer->flight_count >= (peer->probing ? 1 : step->options.window);
}

static bool peer_is_due(const kith_replica_step *step, const replica_peer *peer, uint64_t now_ns) {
    if (now_ns < peer->retry_ns || is_window_full(step, peer)) return false;
    if (peer->full || peer->silent) return peer->flight_count == 0;
    if (!peer->snapshot && peer->next <= step->log.end.sequence) return true;
    if (peer->flight_count > 0) return false;
    if (!peer->sent || now_ns - peer->sent_ns >= idle_ns(step)) return true;
    return !peer->snapshot && peer->committed_sent < step->log.committed;
}

/* False: the log files no more have what follows. What is committed is the same everywhere: its epoch may be forgotten. */
static bool previous_find(
    const kith_replica_step *step, const replica_peer *peer, kith_replica_position *out) {
    *out = (kith_replica_position){.sequence = peer->next - 1};
    if (peer->next < step->log.first) return false;
    return kith_replica_positions_epoch(&step->log, out->sequence, &out->epoch) ||
           out->sequence <= step->log.committed;
}

static void action_fill(
    kith_replica_step *step, replica_peer *peer, uint64_t now_ns, kith_replica_action *action) {
    *action = (kith_replica_action){.kind = KITH_REPLICA_SEND,
        .peer = peer->number,
        .send_id = ++step->send_id,
        .epoch = step->config.epoch,
        .loss_epoch = step->config.loss_epoch,
        .committed = step->log.committed};
    bool vouches = kith_replica_step_leased(step, now_ns) || MUTANT(ECHO_UNLEASED);
    if (peer->acked && vouches) action->echo_ns = peer->stamp_ns;
    peer->snapshot = !previous_find(step, peer, &action->position);
    action->snapshot_needed = peer->snapshot;
    action->first = action->position.sequence + 1;
    action->last = action->position.sequence;
    action->asks_room = peer->full && !peer->snapshot;
    if (peer->snapshot)
        action->position = (kith_replica_position){.sequence = step->log.first - 1};
    else if (!peer->full && !peer->silent && peer->next <= step->log.end.sequence)
        action->last = batch_last(step, peer->next);
}

static void send_one(
    kith_replica_step *step, replica_peer *peer, uint64_t now_ns, kith_replica_action *action) {
    action_fill(step, peer, now_ns, action);
    peer->flight[peer->flight_count++] = (replica_send){.id = action->send_id,
        .sent_ns = now_ns,
        .previous = action->position.sequence,
        .last = action->last};
    peer->sent = true;
    peer->sent_ns = now_ns;
    peer->committed_sent = action->committed;
    if (!peer->snapshot) peer->next = action->last + 1;
}

bool kith_replica_step_send(kith_replica_step *step, uint64_t now_ns, kith_replica_action *action_out) {
    if (!kith_replica_step_leads(step)) return false;
    uint32_t count = step->config.replica_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = (step->turn + i) % count;
        if (index == 0 || !peer_is_due(step, &step->peers[index], now_ns)) continue;
        step->turn = index + 1;
        send_one(step, &step->peers[index], now_ns, action_out);
        return true;
    }
    return false;
}

uint64_t kith_replica_step_send_due_ns(const kith_replica_step *step) {
    uint64_t due_ns = UINT64_MAX;
    for (uint32_t i = 1; i < step->config.replica_count; i++) {
        const replica_peer *peer = &step->peers[i];
        bool rests = peer->snapshot || peer->next > step->log.end.sequence;
        bool asks = peer->full || peer->silent;
        bool waits = is_window_full(step, peer) || (peer->flight_count > 0 && (rests || asks));
        if (waits) continue;
        uint64_t at_ns = peer->sent ? peer->sent_ns + idle_ns(step) : step->now_ns;
        at_ns = !rests || asks ? peer->retry_ns : kith_replica_later(at_ns, peer->retry_ns);
        due_ns = kith_replica_earlier(due_ns, at_ns);
    }
    return due_ns;
}

void kith_replica_step_forgive(kith_replica_step *step, uint64_t gap_ns, uint64_t now_ns) {
    step->disk_ns = kith_replica_earlier(step->disk_ns + gap_ns, now_ns);
    for (uint32_t i = 1; i < step->config.replica_count; i++)
        step->peers[i].heard_ns = kith_replica_earlier(step->peers[i].heard_ns + gap_ns, now_ns);
}

/* What was to follow the entries that are not sent is forgotten, and begins again behind those that are. */
void kith_replica_step_shortened(
    kith_replica_step *step, uint32_t number, uint64_t send_id, uint64_t last, uint64_t bytes) {
    int index = kith_replica_config_find(&step->config, number);
    if (index < 1 || !kith_replica_step_leads(step)) return;
    replica_peer *peer = &step->peers[index];
    replica_send *shortened = NULL;
    for (uint32_t i = 0; i < peer->flight_count; i++) {
        if (peer->flight[i].id == send_id) shortened = &peer->flight[i];
    }
    if (!shortened || last >= shortened->last || last <= shortened->previous) return;
    step->size_usual = bytes / (last - shortened->previous);
    shortened->last = last;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < peer->flight_count; i++) {
        if (peer->flight[i].previous < last) peer->flight[kept++] = peer->flight[i];
    }
    peer->flight_count = kept;
    peer->next = last + 1;
}

/* --- answers --- */

static bool flight_take(replica_peer *peer, uint64_t send_id, replica_send *send_out) {
    for (uint32_t i = 0; i < peer->flight_count; i++) {
        if (peer->flight[i].id != send_id) continue;
        *send_out = peer->flight[i];
        peer->flight[i] = peer->flight[--peer->flight_count];
        return true;
    }
    return false;
}

static void answered_ok(kith_replica_step *step, replica_peer *peer, const replica_send *send,
    const kith_replica_reply *reply, uint64_t now_ns) {
    uint64_t sent_ns = MUTANT(LEASE_FROM_ANSWER) ? now_ns : send->sent_ns;
    peer->lease_ns = peer->acked ? kith_replica_later(peer->lease_ns, sent_ns) : sent_ns;
    if (!peer->acked || send->id > peer->stamp_send_id) {
        peer->stamp_ns = reply->stamp_ns;
        peer->stamp_send_id = send->id;
    }
    peer->acked = true;
    peer->snapshot = peer->probing = false;
    peer->heard_ns = now_ns;
    peer->applied = reply->applied;
    uint64_t matched = kith_replica_earlier(reply->matched, step->log.end.sequence);
    peer->matched = kith_replica_later(peer->matched, matched);
    peer->base = peer->matched;
    if (matched < send->last) peer_rewind(peer, peer->base); /* it was not all sent */
    peer->next = kith_replica_later(peer->next, peer->base + 1);
}

/* It lacks `previous`. A hint that leads nowhere is tried again, but not at once. */
static void answered_mismatch(kith_replica_step *step, replica_peer *peer, const replica_send *send,
    const kith_replica_reply *reply, uint64_t now_ns) {
    uint64_t hint = kith_replica_earlier(reply->hint, step->log.end.sequence);
    peer_rewind(peer, hint);
    peer->probing = true;
    peer->matched = kith_replica_earlier(peer->matched, hint);
    bool leads_on = peer->snapshot ? hint + 1 >= step->log.first : hint < send->previous;
    peer->snapshot = false;
    if (!leads_on) peer->retry_ns = now_ns + step->options.lease_ns / 8;
}

static void answered_late(replica_peer *peer, uint64_t retry_ns) {
    peer_rewind(peer, peer->base);
    peer->retry_ns = retry_ns;
}

static void answered_take(kith_replica_step *step, replica_peer *peer, const replica_send *send,
    const kith_replica_reply *reply, uint64_t now_ns) {
    uint64_t lease_ns = step->options.lease_ns;
    peer->full = reply && reply->full;
    peer->silent = !reply;
    if (!reply) {
        answered_late(peer, now_ns + lease_ns / 8);
    } else if (reply->outcome == KITH_REPLICA_OLD_EPOCH && MUTANT(PRIMARY_ANY_EPOCH)) {
        kith_replica_reply taken = *reply;
        taken.matched = send->last;
        answered_ok(step, peer, send, &taken, now_ns);
    } else if (reply->outcome == KITH_REPLICA_OK && reply->epoch == step->config.epoch) {
        answered_ok(step, peer, send, reply, now_ns);
    } else if (reply->outcome == KITH_REPLICA_MISMATCH && reply->epoch == step->config.epoch) {
        answered_mismatch(step, peer, send, reply, now_ns);
    } else if (reply->outcome == KITH_REPLICA_NEEDS_EPOCH && reply->epoch == step->config.epoch) {
        peer->needs_epoch = true;
        peer_doubt(peer);
        answered_late(peer, now_ns + lease_ns / 4);
    } else {
        answered_late(peer, now_ns + lease_ns / 4);
    }
}

void kith_replica_step_answer_take(kith_replica_step *step, uint32_t number, uint64_t send_id,
    const kith_replica_reply *reply, uint64_t now_ns) {
    int index = kith_replica_config_find(&step->config, number);
    replica_send send;
    if (index < 1 || !flight_take(&step->peers[index], send_id, &send)) return;
    answered_take(step, &step->peers[index], &send, reply, now_ns);
}
