#include "host/meta/raft_guard.h"

#include <string.h>

#include "host/base/assert.h"
#include "host/meta/raft_wire.h"

/* --- the log, as raft.h declares it --- */

static uint64_t log_count(const struct raft_log *log) {
    return log->front <= log->back ? log->back - log->front : log->size - log->front + log->back;
}

static const struct raft_entry *log_entry(const struct raft_log *log, uint64_t index) {
    if (index <= log->offset || index > log->offset + log_count(log)) return NULL;
    return &log->entries[(log->front + (index - 1 - log->offset)) % log->size];
}

uint64_t kith_raft_guard_term(const struct raft *raft, uint64_t index) {
    if (index == 0) return 0;
    if (index == raft->log.snapshot.last_index) return raft->log.snapshot.last_term;
    const struct raft_entry *entry = log_entry(&raft->log, index);
    return entry ? entry->term : 0;
}

/* The last configuration entry before `index` that is still in the log; 0: none is. */
static uint64_t configuration_before(const struct raft *raft, uint64_t index) {
    for (uint64_t at = index - 1; at > raft->log.offset; at--) {
        const struct raft_entry *entry = log_entry(&raft->log, at);
        if (entry && entry->type == RAFT_CHANGE) return at;
    }
    return 0;
}

/* --- configurations that are rolled back --- */

/* Index of the first entry here that the message replaces; 0: it replaces none. */
static uint64_t first_conflict(const struct raft *raft, const struct raft_append_entries *message) {
    if (message->term < raft->current_term) return 0;
    if (kith_raft_guard_term(raft, message->prev_log_index) != message->prev_log_term) return 0;
    for (unsigned i = 0; i < message->n_entries; i++) {
        uint64_t index = message->prev_log_index + 1 + i;
        uint64_t term = kith_raft_guard_term(raft, index);
        if (term == 0) return 0;
        if (term != message->entries[i].term) return index;
    }
    return 0;
}

static void configuration_set(
    struct raft *raft, const struct raft_configuration *configuration, uint64_t index) {
    struct raft_configuration copy;
    kith_raft_configuration_copy(configuration, &copy);
    raft_configuration_close(&raft->configuration);
    raft->configuration = copy;
    raft->configuration_index = index;
    raft->configuration_uncommitted_index = 0;
}

static void configuration_set_from_log(struct raft *raft, uint64_t index) {
    const struct raft_entry *entry = log_entry(&raft->log, index);
    struct raft_configuration configuration;
    kith_status status =
        kith_raft_configuration_decode(entry->buf.base, entry->buf.len, &configuration, NULL);
    kith_assert(status == KITH_OK); /* it was checked when it came in */
    configuration_set(raft, &configuration, index);
    raft_configuration_close(&configuration);
}

/* Puts the last committed configuration in force when entries from `index` on go, and the present one with them. */
static void configuration_roll_back(struct raft *raft, uint64_t index,
    const struct raft_configuration *snapshot_configuration, uint64_t snapshot_configuration_index) {
    uint64_t in_force = raft->configuration_uncommitted_index ? raft->configuration_uncommitted_index
                                                              : raft->configuration_index;
    if (in_force < index) return;
    uint64_t before = configuration_before(raft, index);
    if (before) {
        configuration_set_from_log(raft, before);
    } else {
        configuration_set(raft, snapshot_configuration, snapshot_configuration_index);
    }
}

/* --- entries that are cut off, as the core's logTruncate does it --- */

/* One holder of the entry at `index` less. True: that was the last one. */
static bool ref_drop(struct raft_log *log, uint64_t index, uint64_t term) {
    struct raft_entry_ref *first = &log->refs[(index - 1) % log->refs_size];
    struct raft_entry_ref *ref = first, *previous = NULL;
    while (ref->term != term) {
        previous = ref;
        ref = ref->next;
        kith_assert(ref != NULL);
    }
    if (--ref->count > 0) return false;
    if (previous) {
        previous->next = ref->next;
        raft_free(ref);
    } else if (ref->next) {
        struct raft_entry_ref *next = ref->next;
        *ref = *next;
        raft_free(next);
    }
    return true;
}

static bool batch_is_used(const struct raft_log *log, const void *batch) {
    for (uint64_t i = 0; i < log_count(log); i++) {
        if (log->entries[(log->front + i) % log->size].batch == batch) return true;
    }
    return false;
}

static void last_entry_drop(struct raft_log *log) {
    uint64_t index = log->offset + log_count(log);
    log->back = log->back == 0 ? log->size - 1 : log->back - 1;
    const struct raft_entry *entry = &log->entries[log->back];
    if (!ref_drop(log, index, entry->term)) return;
    if (!entry->batch) {
        raft_free(entry->buf.base);
    } else if (!batch_is_used(log, entry->batch)) {
        raft_free(entry->batch);
    }
}

static void log_cut(struct raft_log *log, uint64_t index) {
    while (log_count(log) > 0 && log->offset + log_count(log) >= index)
        last_entry_drop(log);
    if (log_count(log) > 0) return;
    raft_free(log->entries);
    log->entries = NULL;
    log->size = log->front = log->back = 0;
}

/* --- a term that is not written --- */

void kith_raft_guard_term_failed(struct raft *raft) {
    if (raft->state != RAFT_CANDIDATE) return;
    raft->candidate_state.disrupt_leader = false;
    raft->candidate_state.in_pre_vote = false;
}

/* --- appends that begin before the log --- */

static void entries_skip(struct raft_append_entries *append, uint64_t count) {
    if (append->n_entries == 0) return;
    if (count < append->n_entries) {
        append->n_entries -= (unsigned)count;
        memmove(append->entries, append->entries + count, append->n_entries * sizeof *append->entries);
        return;
    }
    raft_free(append->entries[0].batch);
    raft_free(append->entries);
    append->entries = NULL;
    append->n_entries = 0;
}

/* What is in a snapshot was committed, so that the leader of this or a later term has it too: the message may as well begin
 * behind it. */
static void append_shorten(const struct raft *raft, struct raft_append_entries *append) {
    uint64_t end = raft->log.snapshot.last_index;
    if (append->term < raft->current_term || append->prev_log_index >= end) return;
    if (kith_raft_guard_term(raft, append->prev_log_index) != 0) return; /* the core can compare */
    entries_skip(append, end - append->prev_log_index);
    append->prev_log_index = end;
    append->prev_log_term = raft->log.snapshot.last_term;
}

/* --- a leader that is gone --- */

/* Heartbeats do not reach all at the same moment: whoever asks for votes may have heard its last one earlier than we. */
static bool leader_is_silent(const struct raft *raft) {
    raft_time heard = raft->election_timer_start, now = raft->io->time(raft->io);
    return now >= heard && now - heard + raft->heartbeat_timeout >= raft->election_timeout;
}

static void leader_forget(struct raft *raft) {
    if (raft->state != RAFT_FOLLOWER || raft->follower_state.current_leader.id == 0) return;
    if (!leader_is_silent(raft)) return;
    raft->follower_state.current_leader.id = 0;
    raft_free(raft->follower_state.current_leader.address);
    raft->follower_state.current_leader.address = NULL;
}

/* --- a second vote --- */

/* The core compares logs in any case, and nobody's is behind this. */
static void second_vote_refuse(const struct raft *raft, struct raft_request_vote *asked) {
    if (asked->pre_vote || asked->term != raft->current_term) return;
    if (raft->voted_for == 0 || raft->voted_for == asked->candidate_id) return;
    asked->last_log_index = asked->last_log_term = 0;
}

/* --- answers that overtake each other --- */

static uint64_t *acknowledged_find(kith_raft_guard_acknowledged *acknowledged, uint64_t id) {
    for (uint32_t i = 0; i < acknowledged->count; i++) {
        if (acknowledged->members[i].id == id) return &acknowledged->members[i].index;
    }
    return NULL;
}

/* NULL: `id` is no member. */
static uint64_t *acknowledged_of(
    kith_raft_guard_acknowledged *acknowledged, const struct raft *raft, uint64_t id) {
    if (acknowledged->term != raft->current_term) {
        acknowledged->term = raft->current_term;
        acknowledged->count = 0;
    }
    uint64_t *found = acknowledged_find(acknowledged, id);
    if (found || !kith_raft_guard_is_member(raft, id)) return found;
    /* The gone are forgotten with each configuration. */
    kith_assert(acknowledged->count < KITH_META_MEMBERS_MAX);
    uint32_t at = acknowledged->count++;
    acknowledged->members[at].id = id;
    acknowledged->members[at].index = 0;
    return &acknowledged->members[at].index;
}

/* What a member has acknowledged is on its disk and equal to this leader's log, for as long as this leader leads: only an
 * append of another leader cuts it off, and a member that lost its disk may not come back under its id. So no refusal of as
 * much is true of it any more. The core knows that while it sends one append behind the other, not while it looks for where
 * the logs agree. To drop the refusal is what any network may do: nothing is counted for a commit that was not before, and
 * the next append asks again. */
bool kith_raft_guard_is_overtaken(
    kith_raft_guard_acknowledged *acknowledged, struct raft *raft, const struct raft_message *message) {
    if (message->type != RAFT_IO_APPEND_ENTRIES_RESULT || raft->state != RAFT_LEADER) return false;
    const struct raft_append_entries_result *result = &message->append_entries_result;
    if (result->term != raft->current_term) return false;
    uint64_t *index = acknowledged_of(acknowledged, raft, message->server_id);
    if (!index) return false;
    if (result->rejected > 0) return result->rejected <= *index;
    uint64_t last_index = raft_last_index(raft);
    uint64_t agreed = result->last_log_index < last_index ? result->last_log_index : last_index;
    if (*index < agreed) *index = agreed;
    return false;
}

void kith_raft_guard_forget_gone(kith_raft_guard_acknowledged *acknowledged, const struct raft *raft) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < acknowledged->count; i++) {
        if (kith_raft_guard_is_member(raft, acknowledged->members[i].id))
            acknowledged->members[kept++] = acknowledged->members[i];
    }
    acknowledged->count = kept;
}

/* --- before a message --- */

static bool takes_other_for_snapshot(const struct raft *raft, const struct raft_install_snapshot *message) {
    return message->term >= raft->current_term && message->last_index > raft->log.snapshot.last_index &&
           message->last_index > raft->commit_index &&
           kith_raft_guard_term(raft, message->last_index) > message->last_term;
}

void kith_raft_guard_before(struct raft *raft, struct raft_message *message,
    const struct raft_configuration *snapshot_configuration, uint64_t snapshot_configuration_index) {
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        append_shorten(raft, &message->append_entries);
        uint64_t index = first_conflict(raft, &message->append_entries);
        if (index > raft->commit_index)
            configuration_roll_back(raft, index, snapshot_configuration, snapshot_configuration_index);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT &&
               takes_other_for_snapshot(raft, &message->install_snapshot)) {
        uint64_t index = message->install_snapshot.last_index;
        configuration_roll_back(raft, index, snapshot_configuration, snapshot_configuration_index);
        int result = raft->io->truncate(raft->io, index);
        kith_assert(result == 0); /* ours never fails at once */
        log_cut(&raft->log, index);
        if (raft->last_stored >= index) raft->last_stored = index - 1;
    } else if (message->type == RAFT_IO_REQUEST_VOTE) {
        second_vote_refuse(raft, &message->request_vote);
        leader_forget(raft);
    }
}

/* --- votes --- */

bool kith_raft_guard_is_behind(const struct raft *raft, const struct raft_request_vote *asked) {
    uint64_t last_index = raft->log.offset + log_count(&raft->log);
    uint64_t last_term = kith_raft_guard_term(raft, last_index);
    if (asked->last_log_term != last_term) return asked->last_log_term < last_term;
    return asked->last_log_index < last_index;
}

static bool is_voter(const struct raft *raft) {
    const struct raft_configuration *configuration = &raft->configuration;
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == raft->id) return configuration->servers[i].role == RAFT_VOTER;
    }
    return false;
}

/* The configuration is lent for the call alone: a request for a vote neither reads more of it nor changes it. */
static void receive_as_voter(struct raft *raft, struct raft_message *message, raft_io_recv_cb recv) {
    struct raft_server self = {.id = raft->id, .address = raft->address, .role = RAFT_VOTER};
    struct raft_configuration own = raft->configuration;
    raft->configuration = (struct raft_configuration){.servers = &self, .n = 1};
    recv(raft->io, message);
    raft->configuration = own;
}

/* Who has no configuration is of no cluster. */
void kith_raft_guard_receive(struct raft *raft, struct raft_message *message, raft_io_recv_cb recv) {
    bool asked = message->type == RAFT_IO_REQUEST_VOTE && raft->state == RAFT_FOLLOWER;
    if (asked && raft->configuration.n > 0 && !is_voter(raft)) {
        receive_as_voter(raft, message, recv);
    } else {
        recv(raft->io, message);
    }
}

/* --- what is committed --- */

void kith_raft_guard_started(struct raft *raft, uint64_t snapshot_configuration_index) {
    uint64_t index = raft->configuration_index;
    if (index <= raft->commit_index) return;
    uint64_t before = configuration_before(raft, index);
    raft->configuration_uncommitted_index = index;
    raft->configuration_index = before ? before : snapshot_configuration_index;
}

void kith_raft_guard_installed(struct raft *raft) {
    raft->configuration_uncommitted_index = 0;
}

bool kith_raft_guard_configuration_committed(const struct raft *raft) {
    return raft->configuration_index > 0 && raft->configuration_uncommitted_index == 0 &&
           raft->configuration_index <= raft->last_applied;
}

bool kith_raft_guard_snapshot_allowed(const struct raft *raft) {
    return kith_raft_guard_configuration_committed(raft);
}

bool kith_raft_guard_is_member(const struct raft *raft, uint64_t id) {
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == id) return true;
    }
    return false;
}
