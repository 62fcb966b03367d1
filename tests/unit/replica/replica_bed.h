/* Three simulated machines, each with one replica of each shard there is, and the metadata played by the test: it says who is the
 * primary and takes what primaries propose.
 *
 * Threads: one, the simulator's. Failures fail the running test. */
#ifndef KITH_TESTS_UNIT_REPLICA_REPLICA_BED_H
#define KITH_TESTS_UNIT_REPLICA_REPLICA_BED_H

#include "host/replica/replica.h"
#include "host/shard/shard_replica.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define BED_MACHINES   3u
#define BED_SHARD      7u /* the first */
#define BED_SHARDS_MAX 4u
#define BED_MS         UINT64_C(1000000)
#define BED_LEASE_MS   UINT64_C(100)

typedef struct bed bed;

/* In front of an executor: what is posted may be kept for a while. */
typedef struct bed_held {
    kith_executor base;
    kith_env_ops ops;
    kith_executor *real;
    bool is_held;
    kith_task *first, *last;
} bed_held;

typedef struct bed_machine {
    kith_meta meta; /* first: what the replicas propose to */
    bed *all;
    uint32_t index, host;
    char address[16];
    sim_env *sim;
    kith_env *env;
    kith_store_sim_disk *disk;
    /* While it is on: */
    bool is_on;
    kith_transport *transport;
    kith_executor *owner, *search, *background, *log_executor, *life;
    kith_store *store;
    kith_store_log *log;
    bed_held held_background, held_log;
    kith_shard_node node;
    kith_shard_set *shards;
    kith_replica_set *replicas;
    bool is_stopped;
} bed_machine;

typedef struct bed_options {
    uint32_t shard_count; /* 0: 1 */
    uint32_t min_in_sync;
    uint64_t log_file_bytes, log_retain_bytes;
    uint64_t digest_interval_ms;    /* 0: none */
    uint32_t seal_rows;             /* 0: more than any test writes */
    uint64_t append_inflight_bytes; /* 0: 8 MiB */
    kith_durability durability;
} bed_options;

struct bed {
    bed_options options;
    uint32_t at;    /* the shard that is meant below: the first, unless a test says otherwise */
    bool is_silent; /* the metadata take no proposal */
    kith_transport_sim_network *network;
    bed_machine machines[BED_MACHINES];
    /* The metadata. */
    kith_node nodes[BED_MACHINES]; /* of number index + 1 */
    kith_meta_shard shards[BED_SHARDS_MAX];
    kith_meta_collection collection, *collections[1];
    kith_meta_state state;
};

/* All are on, machine 0 is to lead, all are in sync. */
void bed_begin(bed *all, const bed_options *options);
void bed_end(bed *all);
void bed_run_ms(bed *all, uint64_t ms);

/* In good order. */
void bed_stop(bed *all, uint32_t index);
/* The machine loses what was not synced. */
void bed_crash(bed *all, uint32_t index);
void bed_start(bed *all, uint32_t index);
void bed_cut(bed *all, uint32_t a, uint32_t b, bool cut); /* both ways */

/* As the coordinators do when a primary is down: another is promoted, the one before is not in sync. */
void bed_promote(bed *all, uint32_t index);
/* As they do when an operator accepts loss: the machine's copy counts, and no other. */
void bed_accept_loss(bed *all, uint32_t index);
/* As they do when another node is to have it: the last of the replicas, which is not in sync, goes. */
void bed_take_away(bed *all, uint32_t index);
/* It is to have it again; not OK: not opened yet. */
kith_status bed_give_again(bed *all, uint32_t index);
kith_replica_status bed_status(bed *all, uint32_t index);
/* Runs until the replica leads and has so many in sync. */
void bed_await_primary(bed *all, uint32_t index, uint32_t in_sync_count);
uint32_t bed_in_sync_count(const bed *all);

/* Writes point `number` on a machine, with a payload of so many bytes at least; waits for the outcome. */
kith_status bed_write(bed *all, uint32_t index, uint64_t number, size_t payload_bytes, uint64_t timeout_ms);
/* The same for several points, none of which is waited for. */
typedef struct bed_writes bed_writes;
bed_writes *bed_writes_begin(bed *all, uint32_t index, uint64_t first, uint32_t count, uint64_t timeout_ms);
/* Waits for all. True: all were acknowledged. */
bool bed_writes_end(bed_writes *writes);
/* What a read there is told. */
kith_status bed_read(bed *all, uint32_t index, kith_replica_read read, uint64_t token, uint64_t timeout_ms);
/* OK without a wait for the owner. */
bool bed_reads_at_once(bed *all, uint32_t index, kith_replica_read read, uint64_t token);
bool bed_has(bed *all, uint32_t index, uint64_t number);
uint64_t bed_count(bed *all, uint32_t index);
uint64_t bed_digest(bed *all, uint32_t index);
/* Runs until all that are on have the same points; at most so long. */
void bed_await_equal(bed *all, uint64_t ms);
/* Seals and flushes, so that the log may go. */
void bed_seal(bed *all, uint32_t index);
/* Nothing is sealed or flushed there from now on; or everything again. */
void bed_background_hold(bed *all, uint32_t index, bool held);
/* The same for its log's writer. */
void bed_log_hold(bed *all, uint32_t index, bool held);
/* The oldest that is held may run. */
bool bed_background_step(bed *all, uint32_t index);
kith_shard_stats bed_stats(bed *all, uint32_t index);
/* Changes the payload of one point in the store, behind the shard's back. */
void bed_plant_difference(bed *all, uint32_t index);

/* Log events of that name since bed_begin. */
uint32_t bed_events(const char *event);

#endif
