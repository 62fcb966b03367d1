/* The log as the step machine knows it: positions, and where runs of one epoch begin. */
#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/replica/replica_step_internal.h"

static void epoch_push(replica_log *log, kith_replica_position begin) {
    if (log->epoch_count ==
        KITH_REPLICA_EPOCHS_MAX) { /* half of them go: seldom, and the rest moves cheaply */
        log->epoch_count -= KITH_REPLICA_EPOCHS_MAX / 2;
        memmove(
            log->epochs, log->epochs + KITH_REPLICA_EPOCHS_MAX / 2, log->epoch_count * sizeof *log->epochs);
        log->first = kith_replica_later(log->first, log->epochs[0].sequence);
    }
    if (log->epoch_count == log->epoch_capacity) {
        log->epoch_capacity = log->epoch_capacity ? 2 * log->epoch_capacity : 8;
        log->epochs = kith_realloc(log->epochs, log->epoch_capacity * sizeof *log->epochs);
    }
    log->epochs[log->epoch_count++] = begin;
}

void kith_replica_positions_init(replica_log *log, const kith_replica_log *found) {
    *log = (replica_log){.first = found->first,
        .end = found->end,
        .durable = found->end.sequence,
        .committed = kith_replica_earlier(found->committed, found->end.sequence)};
    for (uint32_t i = 0; i < found->epoch_count; i++)
        epoch_push(log, found->epochs[i]);
    if (log->epoch_count == 0 && log->end.sequence > 0) epoch_push(log, log->end);
    if (log->first == 0) log->first = 1;
}

void kith_replica_positions_fini(replica_log *log) {
    kith_free(log->epochs);
}

/* Index of the run that has `sequence`; -1: it begins before all that are known. */
static int run_find(const replica_log *log, uint64_t sequence) {
    uint32_t
        low = 0,
        high = log->epoch_count; /* runs before `low` begin at or before it, those from `high` on after it */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (log->epochs[middle].sequence <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return (int)low - 1;
}

bool kith_replica_positions_epoch(const replica_log *log, uint64_t sequence, uint64_t *epoch_out) {
    if (sequence > log->end.sequence) return false;
    int run = run_find(log, sequence);
    if (sequence > 0 && run < 0) return false;
    *epoch_out = sequence > 0 ? log->epochs[run].epoch : 0;
    return true;
}

uint64_t kith_replica_positions_run(const replica_log *log, uint64_t sequence) {
    int run = run_find(log, sequence);
    kith_assert(run >= 0);
    return log->epochs[run].sequence;
}

void kith_replica_positions_append(replica_log *log, uint64_t epoch) {
    kith_assert(epoch >= log->end.epoch);
    bool begins = epoch > log->end.epoch || log->epoch_count == 0;
    log->end = (kith_replica_position){epoch, log->end.sequence + 1};
    if (begins) epoch_push(log, log->end);
}

void kith_replica_positions_truncate(replica_log *log, uint64_t first, uint64_t epoch) {
    kith_assert(first > log->committed); /* it may have been acknowledged */
    uint64_t last = first - 1, known = 0;
    while (log->epoch_count > 0 && log->epochs[log->epoch_count - 1].sequence >= first)
        log->epoch_count--;
    log->end = (kith_replica_position){epoch, last};
    log->durable = kith_replica_earlier(log->durable, last);
    log->handed = kith_replica_earlier(log->handed, last);
    if (!kith_replica_positions_epoch(log, last, &known)) epoch_push(log, log->end);
}

/* The epoch of the last entry that goes stays known: it is the `previous` of the first that is left. */
void kith_replica_positions_trim(replica_log *log, uint64_t first) {
    if (first <= log->first) return;
    log->first = kith_replica_earlier(first, log->end.sequence + 1);
    int run = run_find(log, log->first - 1);
    if (run < 0) return;
    if (log->epochs[run].sequence < log->first - 1) log->epochs[run].sequence = log->first - 1;
    log->epoch_count -= (uint32_t)run;
    memmove(log->epochs, log->epochs + run, log->epoch_count * sizeof *log->epochs);
}

void kith_replica_positions_reset(replica_log *log, kith_replica_position end) {
    log->first = end.sequence + 1;
    log->end = end;
    log->durable = log->committed = log->handed = end.sequence;
    log->epoch_count = 0;
    if (end.sequence > 0) epoch_push(log, end);
}
