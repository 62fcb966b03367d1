#include "host/meta/raft_guard.h"

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

/* --- roll back --- */

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

void kith_raft_guard_before(struct raft *raft, const struct raft_message *message,
    const struct raft_configuration *snapshot_configuration, uint64_t snapshot_configuration_index) {
    if (message->type != RAFT_IO_APPEND_ENTRIES) return;
    uint64_t conflict = first_conflict(raft, &message->append_entries);
    if (conflict == 0 || conflict <= raft->commit_index) return;
    uint64_t in_force = raft->configuration_uncommitted_index ? raft->configuration_uncommitted_index
                                                              : raft->configuration_index;
    if (in_force < conflict) return;
    uint64_t index = configuration_before(raft, conflict);
    if (index) {
        configuration_set_from_log(raft, index);
    } else {
        configuration_set(raft, snapshot_configuration, snapshot_configuration_index);
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
