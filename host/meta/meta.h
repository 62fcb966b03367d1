/* The metadata of this process: proposes commands, keeps the applied state, publishes the cluster map.
 *
 * Life: open (snapshot) -> the node opens the shards of kith_meta_collection_at -> replay of the node's log -> start ->
 * proposals and maps -> close.
 *
 * Threads: propose and map_get from any thread; the hooks and a proposal's `done` on the executor given (one thread,
 * which may wait for the disk); everything else before start or after the last proposal, on one thread.
 * Ownership: borrows everything in its options. */
#ifndef KITH_META_META_H
#define KITH_META_META_H

#include "host/meta/meta_log.h"
#include "host/meta/meta_map.h"

typedef struct kith_meta kith_meta;

typedef struct kith_meta_options {
    kith_env *env;
    const char *dir; /* <data>/meta */
    kith_executor *executor;
    kith_meta_node node; /* this one */
    /* A collection came to be: open its shards. Called before the map shows it, and in replay. A failure reaches the
     * client; the collection exists all the same, without these shards, and a repeat of its creation calls this again:
     * what is open stays so. */
    kith_status (*created)(void *ctx, const kith_collection *collection, kith_err *err);
    /* A collection is gone: the map does not show it any more (but old maps may still be held). Frees its shards in the
     * background. */
    void (*dropped)(void *ctx, const kith_collection *collection);
    void *ctx;
} kith_meta_options;

KITH_CHECK kith_status kith_meta_open(const kith_meta_options *options, kith_meta **meta_out, kith_err *err);
/* True between open and start when the folder held no metadata: a new node. */
bool kith_meta_is_new(const kith_meta *meta);
/* Between open and start: the collections known so far; NULL past the last one. */
const kith_collection *kith_meta_collection_at(const kith_meta *meta, uint32_t index);
/* While the node's log is opened: its entries of stream KITH_LOG_STREAM_META. */
KITH_CHECK kith_status kith_meta_replay(kith_meta *meta, const kith_log_entry *entry, kith_err *err);
/* Publishes the first map and takes proposals. */
KITH_CHECK kith_status kith_meta_start(kith_meta *meta, kith_store_log *log, kith_err *err);

typedef struct kith_meta_proposal kith_meta_proposal;
struct kith_meta_proposal {
    kith_codec_meta_command command;
    /* Exactly once, never before propose has returned. OK: `collection` is the one created, found as wanted or dropped;
     * `changed` false: it was there already. */
    void (*done)(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
        bool changed, const kith_err *err);
    kith_task task;
    kith_meta *meta;
    kith_meta_log_proposal log_proposal;
    kith_buf bytes;
};
void kith_meta_propose(kith_meta *meta, kith_meta_proposal *proposal);

/* False while the shards of some collection could not all be opened, in which case a repeat of its creation has something
 * to do. Any thread. */
bool kith_meta_serves_all(const kith_meta *meta);

/* The current map, acquired: release it with kith_meta_map_release. Only after start. */
kith_meta_map *kith_meta_map_get(kith_meta *meta);

/* No proposal may be open, and the executor must be idle. Accepts NULL. */
void kith_meta_close(kith_meta *meta);

#endif
