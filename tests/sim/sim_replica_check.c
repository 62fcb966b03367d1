#include "tests/sim/sim_replica_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void sim_replica_check_init(sim_replica_check *check) {
    check->violated = false;
    check->applied = check->acknowledged = check->seen = 0;
    memset(check->leaders, 0, sizeof check->leaders);
}

void sim_replica_check_fail(sim_replica_check *check, const char *format, ...) {
    if (check->violated) return; /* the first is the cause */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->text, sizeof check->text, format, arguments);
    va_end(arguments);
    check->violated = true;
}

void sim_replica_check_appended(sim_replica_check *check, uint64_t process, uint64_t epoch) {
    uint64_t *leader = &check->leaders[epoch % SIM_REPLICA_EPOCHS_MAX];
    if (*leader && *leader != process)
        sim_replica_check_fail(check, "two processes led in epoch %llu", (unsigned long long)epoch);
    *leader = process;
}

void sim_replica_check_admitted(sim_replica_check *check, uint32_t in_sync, uint32_t min_in_sync) {
    if (in_sync < min_in_sync)
        sim_replica_check_fail(
            check, "a write began with %u in sync, min_in_sync is %u", in_sync, min_in_sync);
}

void sim_replica_check_applied(
    sim_replica_check *check, uint32_t node, uint64_t sequence, const sim_replica_entry *entry) {
    sim_replica_entry *known = &check->entries[sequence];
    if (sequence == check->applied + 1) {
        *known = *entry;
        check->applied = sequence;
    } else if (sequence > check->applied) {
        sim_replica_check_fail(check, "node %u applied %llu before anybody applied %llu", node,
            (unsigned long long)sequence, (unsigned long long)check->applied + 1);
    } else if (known->epoch != entry->epoch || known->value != entry->value) {
        sim_replica_check_fail(check, "node %u applied {%llu, %u} as %llu, another {%llu, %u}", node,
            (unsigned long long)entry->epoch, entry->value, (unsigned long long)sequence,
            (unsigned long long)known->epoch, known->value);
    }
}

void sim_replica_check_acknowledged(sim_replica_check *check, uint64_t sequence, uint32_t value) {
    if (sequence > check->applied || check->entries[sequence].value != value)
        sim_replica_check_fail(check, "write %u was acknowledged as %llu, which is another", value,
            (unsigned long long)sequence);
    if (sequence > check->acknowledged) check->acknowledged = sequence;
}

sim_replica_begun sim_replica_check_read_begin(
    const sim_replica_check *check, sim_replica_read read, uint64_t token) {
    return (sim_replica_begun){
        .read = read, .acknowledged = check->acknowledged, .seen = check->seen, .token = token};
}

/* Everything applied is a prefix of one order (sim_replica_check_applied), so how much a read saw says what it saw. */
void sim_replica_check_read_end(
    sim_replica_check *check, const sim_replica_begun *begun, uint32_t node, uint64_t applied) {
    static const char *const names[] = {"in_sync", "primary", "any", "token"};
    uint64_t least = 0;
    if (begun->read == SIM_REPLICA_IN_SYNC) least = begun->acknowledged;
    if (begun->read == SIM_REPLICA_PRIMARY)
        least = begun->acknowledged > begun->seen ? begun->acknowledged : begun->seen;
    if (begun->read == SIM_REPLICA_TOKEN) least = begun->token;
    if (applied < least)
        sim_replica_check_fail(check, "an %s read at node %u saw %llu entries, %llu were promised",
            names[begun->read], node, (unsigned long long)applied, (unsigned long long)least);
    if (begun->read == SIM_REPLICA_PRIMARY && applied > check->seen) check->seen = applied;
}

void sim_replica_check_log(
    sim_replica_check *check, uint32_t node, const sim_replica_entry *log, uint64_t count) {
    if (count != check->applied)
        sim_replica_check_fail(check, "when all is quiet node %u has %llu entries, %llu were applied", node,
            (unsigned long long)count, (unsigned long long)check->applied);
    for (uint64_t i = 1; i <= count && !check->violated; i++) {
        const sim_replica_entry *known = &check->entries[i];
        if (log[i].epoch != known->epoch || log[i].value != known->value)
            sim_replica_check_fail(
                check, "when all is quiet node %u has another entry %llu", node, (unsigned long long)i);
    }
}
