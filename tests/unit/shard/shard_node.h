/* A node of shards for tests: env, executors, store, log and shard set, on the real world (env_posix, RocksDB
 * or the simulated store) or in the simulated one; opened, closed, crashed and opened again. Calls wait for
 * their answer: in the simulated world by running it, in the real one by a condition variable.
 *
 * Threads: the functions that wait may be called from several threads in the real world. */
#ifndef KITH_TESTS_UNIT_SHARD_SHARD_NODE_H
#define KITH_TESTS_UNIT_SHARD_SHARD_NODE_H

#include "host/base/thread.h"
#include "host/shard/shard.h"
#include "host/shard/shard_replica.h"
#include "host/shard/shard_set.h"
#include "tests/sim/sim_env.h"

typedef enum shard_node_world {
    SHARD_NODE_SIM,       /* all simulated */
    SHARD_NODE_SIM_STORE, /* real threads and files, simulated store */
    SHARD_NODE_REAL,      /* real threads and files, RocksDB */
} shard_node_world;

typedef struct shard_node_options {
    shard_node_world world;
    uint64_t seed;
    uint32_t search_threads;
    uint64_t seal_bytes;
    uint32_t seal_rows;
    uint64_t seal_idle_ns;
    uint64_t merge_bytes_max;
    uint32_t request_window;
    uint32_t read_slice_points;
    uint64_t write_queue_bytes_max;
    uint64_t disk_reserve_bytes;
    uint64_t log_file_bytes;
    uint64_t log_pending_bytes_max; /* 0: more than any test has */
    double flush_chance;
    kith_status (*before_flush)(
        void *ctx, kith_err *err); /* NULL: the node's own, which fails once it has crashed */
    void *before_flush_ctx;
    const kith_compute_ops *compute; /* NULL: ref in the simulated world, the best elsewhere */
} shard_node_options;

typedef struct shard_node_shard {
    uint64_t id;
    const kith_schema *schema;
    const kith_shard_gate *gate; /* NULL: not replicated */
} shard_node_shard;

typedef struct shard_node {
    shard_node_options options;
    sim_env *sim; /* or NULL */
    kith_env *env;
    char *dir;
    kith_store_sim_disk *disk; /* or NULL */
    kith_executor *log_executor, *owner, *search, *background;
    kith_store *store;
    kith_store_log *log;
    kith_shard_node node;
    bool closed_short; /* as it was at the last close */
    kith_shard_counters counters;
    kith_shard_set *set;
    const shard_node_shard *opening; /* while shards are opened */
    _Atomic uint64_t flush_count;    /* of the simulated store, since it was made */
    kith_mutex mutex;
    kith_cond cond;
} shard_node;

/* Makes the world with an empty disk. */
void shard_node_init(shard_node *node, const shard_node_options *options);
void shard_node_fini(shard_node *node);
/* Starts the node as after a restart. On a failure everything opened is closed again. */
kith_status shard_node_open(
    shard_node *node, const shard_node_shard *shards, uint32_t shard_count, kith_err *err);
/* Ends it; in the simulated world also after a crash, whatever fails then. */
void shard_node_close(shard_node *node);
/* In the simulated world: the machine stops now. Close, then sim_env_restart, then open. */
void shard_node_restart_machine(shard_node *node);

/* Waits until `*done`, which shard_node_signal sets. False in the simulated world when nothing happens any
 * more. */
bool shard_node_wait(shard_node *node, atomic_bool *done);
void shard_node_signal(shard_node *node, atomic_bool *done);
/* Runs `run` on the owner executor and waits. */
void shard_node_on_owner(shard_node *node, void (*run)(void *ctx), void *ctx);

typedef struct shard_node_write {
    kith_shard_write write;
    shard_node *node;
    kith_buf op;
    atomic_bool done;
    kith_status status;
    kith_write_result result;
    kith_err err;
} shard_node_write;

/* Begins a write; `done` says when its outcome is there. Free the op with shard_node_write_fini. */
void shard_node_write_begin(shard_node *node, kith_shard *shard, const kith_schema *schema, const kith_op *op,
    uint64_t deadline_ns, shard_node_write *write);
void shard_node_write_fini(shard_node_write *write);
/* Begins it and waits; CANCELLED when the simulated machine died first. */
kith_status shard_node_write_op(shard_node *node, kith_shard *shard, const kith_schema *schema,
    const kith_op *op, kith_write_result *result_out, kith_err *err);

typedef struct shard_node_hits {
    kith_status status;
    kith_err err;
    kith_hit *hits; /* [query_count][k]; ids in `arena` */
    uint32_t *counts;
    kith_arena arena;
} shard_node_hits;

/* Free with shard_node_hits_fini, whatever the status. */
kith_status shard_node_search(shard_node *node, kith_shard *shard, uint32_t field_index, const float *queries,
    uint32_t query_count, uint32_t k, shard_node_hits *hits_out);
void shard_node_hits_fini(shard_node_hits *hits);

/* Seals, merges, flushes. */
kith_status shard_node_seal(shard_node *node, kith_shard *shard, kith_err *err);
/* Calls `each` with the points on a search thread; `next` is where the answer ends early, or NULL. */
kith_status shard_node_read(shard_node *node, kith_shard *shard, kith_shard_read *read,
    void (*each)(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next), void *ctx,
    kith_err *err);
kith_status shard_node_validate(shard_node *node, kith_shard *shard, kith_err *err);
kith_status shard_node_digest(shard_node *node, kith_shard *shard, uint64_t *digest_out, kith_err *err);
kith_status shard_node_drop(shard_node *node, uint64_t shard_id, kith_err *err);

#endif
