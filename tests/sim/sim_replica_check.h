/* Judge of replication histories: knows only what was applied where, and what clients were told. Links nothing of what it judges.
 *
 * Threads: one. */
#ifndef KITH_TESTS_SIM_SIM_REPLICA_CHECK_H
#define KITH_TESTS_SIM_SIM_REPLICA_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_REPLICA_ENTRIES_MAX 1536u
#define SIM_REPLICA_EPOCHS_MAX  1024u

typedef struct sim_replica_entry {
    uint64_t epoch;
    uint32_t value; /* of a client's write, never used twice; 0: it begins an epoch */
    bool own;       /* a client waits for it at the node that has it so */
} sim_replica_entry;

typedef enum sim_replica_read {
    SIM_REPLICA_IN_SYNC = 0,
    SIM_REPLICA_PRIMARY = 1,
    SIM_REPLICA_ANY = 2,
    SIM_REPLICA_TOKEN = 3,
} sim_replica_read;

/* What had been promised when a read began. */
typedef struct sim_replica_begun {
    sim_replica_read read;
    uint64_t acknowledged, seen, token;
} sim_replica_begun;

typedef struct sim_replica_check {
    bool violated;
    char text[256];
    uint64_t applied; /* by anybody */
    sim_replica_entry entries[SIM_REPLICA_ENTRIES_MAX + 1];
    uint64_t acknowledged;                    /* the last sequence that a client was told */
    uint64_t seen;                            /* by a primary read that has ended */
    uint64_t leaders[SIM_REPLICA_EPOCHS_MAX]; /* who appended in each epoch: a process, never named twice */
} sim_replica_check;

void sim_replica_check_init(sim_replica_check *check);
void sim_replica_check_fail(sim_replica_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim_replica_check_appended(sim_replica_check *check, uint64_t process, uint64_t epoch);
/* `in_sync` of the config in whose epoch the write began. */
void sim_replica_check_admitted(sim_replica_check *check, uint32_t in_sync, uint32_t min_in_sync);
void sim_replica_check_applied(
    sim_replica_check *check, uint32_t node, uint64_t sequence, const sim_replica_entry *entry);
void sim_replica_check_acknowledged(sim_replica_check *check, uint64_t sequence, uint32_t value);
sim_replica_begun sim_replica_check_read_begin(
    const sim_replica_check *check, sim_replica_read read, uint64_t token);
/* It saw everything up to `applied`. */
void sim_replica_check_read_end(
    sim_replica_check *check, const sim_replica_begun *begun, uint32_t node, uint64_t applied);
/* A whole log, when all is quiet: it must be what was applied, and have what was acknowledged. */
void sim_replica_check_log(
    sim_replica_check *check, uint32_t node, const sim_replica_entry *log, uint64_t count);

#endif
