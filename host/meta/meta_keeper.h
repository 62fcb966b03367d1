/* Metadata kept here: proposes commands, keeps the applied state, publishes the cluster map.
 *
 * Life: open (snapshot) -> the node opens the shards of kith_meta_keeper_collection_at -> replay of the node's log -> start
 * -> proposals and maps -> close.
 *
 * Threads: propose and map_get from any thread; the hooks and a proposal's `done` on the executor given (one thread,
 * which may wait for the disk); everything else before start or after the last proposal, on one thread.
 * Ownership: borrows everything in its options. */
#ifndef KITH_META_META_KEEPER_H
#define KITH_META_META_KEEPER_H

#include "host/meta/meta.h"

typedef struct kith_meta_keeper kith_meta_keeper;

typedef struct kith_meta_keeper_options {
    kith_env *env;
    const char *dir; /* <data>/meta */
    kith_executor *executor;
    kith_node node; /* this one */
    /* A collection came to be: open its shards. Called before the map shows it, and in replay. A failure reaches the
     * client; the collection exists all the same, without these shards, and a repeat of its creation calls this again:
     * what is open stays so. */
    kith_status (*created)(void *ctx, const kith_collection *collection, kith_err *err);
    /* A collection is gone: the map does not show it any more (but old maps may still be held). Frees its shards in the
     * background. */
    void (*dropped)(void *ctx, const kith_collection *collection);
    void *ctx;
} kith_meta_keeper_options;

KITH_CHECK kith_status kith_meta_keeper_open(
    const kith_meta_keeper_options *options, kith_meta_keeper **keeper_out, kith_err *err);
/* Borrowed. */
kith_meta *kith_meta_keeper_meta(kith_meta_keeper *keeper);
/* True between open and start when the folder held no metadata: a new node. */
bool kith_meta_keeper_is_new(const kith_meta_keeper *keeper);
/* Between open and start: the collections known so far; NULL past the last one. */
const kith_collection *kith_meta_keeper_collection_at(const kith_meta_keeper *keeper, uint32_t index);
/* While the node's log is opened: its entries of stream KITH_LOG_STREAM_META. */
KITH_CHECK kith_status kith_meta_keeper_replay(
    kith_meta_keeper *keeper, const kith_log_entry *entry, kith_err *err);
/* Publishes the first map and takes proposals. */
KITH_CHECK kith_status kith_meta_keeper_start(kith_meta_keeper *keeper, kith_store_log *log, kith_err *err);
/* No proposal may be open, and the executor must be idle. Accepts NULL. */
void kith_meta_keeper_close(kith_meta_keeper *keeper);

#endif
