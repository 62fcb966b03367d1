/* The simulated world: a kith_env that is single-threaded, on virtual time, and made of memory. A seed
 * decides every choice, so a run can be repeated exactly.
 *
 * A world holds the clock and the run queues; it has one or more machines, each with an env, a disk and
 * executors of its own. Every file call of a machine that changes its disk has a number, so that a test can
 * crash at each in turn.
 *
 * What a disk keeps over a crash. A file's content is durable as of its last good sync; writes and truncates
 * after it are volatile. A created, renamed or removed name is durable after a sync of its folder; folders
 * themselves are durable when made. A volatile write is kept or lost sector by sector (512 B): of the writes
 * to one sector a prefix is kept, in other words the sector is as it was at some moment. Its growth of the
 * file is kept whole, in part, or not at all; kept length without kept sectors reads as zeros. After a failed
 * sync the writes it was for stay readable but a later good sync does not make them durable, as Linux has it.
 *
 * Threads: one. Ownership: destroy executors, files and maps before the machine, machines before the world
 * ends (the last machine takes it along). */
#ifndef KITH_TESTS_SIM_SIM_ENV_H
#define KITH_TESTS_SIM_SIM_ENV_H

#include "host/env/env.h"

typedef struct sim_env sim_env;

/* A machine in a new world. The clock starts at one second. */
sim_env *sim_env_create(uint64_t seed);
/* A further machine in the world of `other`. */
sim_env *sim_env_create_beside(sim_env *other, uint64_t seed);
void sim_env_destroy(sim_env *sim);
kith_env *sim_env_kith(sim_env *sim);

/* --- time (of the whole world) --- */

/* Runs one task, of an executor chosen by the seed; false when none waits. */
bool sim_env_step(sim_env *sim);
/* Runs tasks until none waits; does not move the clock. Returns how many ran. Ends the process after 10
 * million: a task that posts itself for ever. */
uint64_t sim_env_run(sim_env *sim);
/* Runs tasks and timers that fall due until the clock has moved `ns`. */
void sim_env_run_for(sim_env *sim, uint64_t ns);
/* When the next timer is due; UINT64_MAX: there is none. */
uint64_t sim_env_timer_next_ns(sim_env *sim);
/* While paused, tasks and timers of this machine wait. */
void sim_env_pause(sim_env *sim, bool paused);

/* Each task of this machine's executors of this name that are made from now on takes up to so long before it runs, as a disk does;
 * they keep their order. `name` is borrowed. At most SIM_SLOW_MAX names. */
#define SIM_SLOW_MAX 2u
void sim_env_slow(sim_env *sim, const char *name, uint64_t ns_max);

/* --- faults --- */

/* The wall clock of this machine is so much later from now on; `ms` may be below zero. */
void sim_env_wall_jump(sim_env *sim, int64_t ms);

typedef enum sim_crash_mode {
    SIM_CRASH_KEEP_ALL = 1, /* the process was killed: the kernel still writes everything */
    SIM_CRASH_LOSE_ALL = 2, /* power went: only what was synced */
    /* Power went: volatile writes are torn as described above; of the names changed in a folder since its
     * sync a prefix is kept, as a journalling file system does. */
    SIM_CRASH_TORN = 3,
    /* The same, with any subset of the changed names. */
    SIM_CRASH_TORN_UNORDERED = 4,
} sim_crash_mode;

/* Mutating file operations so far: makes, writes, syncs, truncates, renames, removes, folder makes and syncs.
 */
uint64_t sim_env_op_count(const sim_env *sim);
/* Operation number `op` (0 is the first of this machine) is done in part and fails, and so does every file
 * call after it (IO, "crashed"), until sim_env_restart. */
void sim_env_crash_at(sim_env *sim, uint64_t op, sim_crash_mode mode);
/* The same now, between two operations. */
void sim_env_crash(sim_env *sim, sim_crash_mode mode);
bool sim_env_crashed(const sim_env *sim);
/* The machine is on again, with the disk that survived. Files opened before stay dead; destroy what held them
 * first. */
void sim_env_restart(sim_env *sim);

typedef enum sim_fail_kind {
    SIM_FAIL_READ,
    SIM_FAIL_CREATE,
    SIM_FAIL_WRITE, /* a part may have been written */
    SIM_FAIL_SYNC,
    SIM_FAIL_TRUNCATE,
    SIM_FAIL_RENAME,
    SIM_FAIL_REMOVE,
    SIM_FAIL_DIR_SYNC,
    SIM_FAIL_KINDS,
} sim_fail_kind;

/* The next call of the kind fails with `status`; the one after it does not. */
void sim_env_fail_next(sim_env *sim, sim_fail_kind kind, kith_status status);
/* From now on syncs of files (SIM_FAIL_SYNC; of those opened after this) or of folders (SIM_FAIL_DIR_SYNC) whose path
 * contains `part` say OK and do nothing: a fault that tests of durability must find. `part` is borrowed; NULL: an honest
 * disk. */
void sim_env_lie(sim_env *sim, sim_fail_kind kind, const char *part);
/* Bytes that all files together may take; beyond them writes and makes fail with NO_SPACE. The space of a
 * removed file is free once its folder is synced. */
void sim_env_space_set(sim_env *sim, uint64_t bytes);

/* --- the disk, as a test sees it --- */

/* XORs `mask` into the byte at `offset` of the file, durable content included; false if there is no such
 * byte. */
bool sim_env_flip(sim_env *sim, const char *path, uint64_t offset, uint8_t mask);
/* Flips one bit somewhere in a file that the seed chooses among those whose path contains `part`; its path is
 * copied to path_out. False when there is none with a byte in it. */
bool sim_env_flip_any(
    sim_env *sim, const char *part, char *path_out, size_t path_bytes, uint64_t *offset_out);
/* Makes or replaces a file with durable content. */
void sim_env_file_put(sim_env *sim, const char *path, const void *data, size_t bytes);
/* The content that readers see, NULL if there is no such file. Borrowed until the file changes. */
const uint8_t *sim_env_file_get(sim_env *sim, const char *path, size_t *bytes_out);

#endif
