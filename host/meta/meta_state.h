/* The rules of the metadata: (state, command) -> result, a deterministic function. No clock, no I/O, no randomness: what
 * needs them is inside the command, so that every coordinator that applies the same commands has the same state.
 *
 * Invariants (kith_meta_state_validate): names are distinct and sorted; collection ids, shard ids and node numbers begin
 * at 1, are never given twice, not even after a drop or removal, and all lie below the `next` counters; the shards of a
 * collection are all assigned, to distinct nodes that are there and hold shards, or all not; the primary of an assigned
 * shard, its first replica, is in sync; min_in_sync is at most replication_factor; the map version rises with every command
 * that changes something and with no other. And kept by the rules, though not by every snapshot of older programs: no shard has a
 * primary that is down while a replica in sync is up.
 *
 * Failover is part of the command that changes who is up (meta_state_shard.c): once it is committed, every coordinator
 * has the same new primaries, and each promoted shard a new epoch.
 *
 * A collection without assignment is on the one node there is. Such ones are made only while no node is registered; where
 * nodes came later, they stay without until someone who knows says where they are.
 *
 * Threads: a state belongs to one thread. Ownership: init/fini in place. */
#ifndef KITH_META_META_STATE_H
#define KITH_META_META_STATE_H

#include "host/codec/codec_meta.h"
#include "host/model/node.h"
#include "host/model/schema.h"

typedef struct kith_meta_state {
    uint64_t map_version;
    uint64_t applied_index; /* of the last command applied */
    uint64_t collection_id_next;
    uint64_t shard_id_next;
    uint32_t node_number_next;
    kith_node_id
        cluster_id; /* drawn when the cluster is formed, before its first command; none: of no cluster */
    uint32_t collection_count;
    uint32_t collection_capacity;
    kith_meta_collection **collections; /* by name, each owned */
    uint32_t node_count;
    uint32_t node_capacity;
    kith_node *nodes; /* by rising number */
    uint32_t answer_count;
    kith_codec_meta_answer *answers; /* oldest first; owned with what they point to */
} kith_meta_state;

typedef struct kith_meta_result {
    kith_codec_meta_kind kind;
    kith_status status;
    kith_err err;
    bool changed; /* false: the state is as before but for applied_index and answers (a repeat, or refused) */
    /* What the client is told: as `changed`, but where the request id was seen before, what it was told then. */
    bool answer_changed;
    uint32_t promoted_count;    /* shards that have another primary because of who is up now */
    kith_collection collection; /* create, update, drop, OK: as it is then, or was before it was dropped */
} kith_meta_result;

/* False: it was about nodes, and `collection` is empty. */
static inline bool kith_meta_result_of_collection(const kith_meta_result *result) {
    return result->kind == KITH_CODEC_META_CREATE_COLLECTION ||
           result->kind == KITH_CODEC_META_DROP_COLLECTION ||
           result->kind == KITH_CODEC_META_UPDATE_COLLECTION;
}

void kith_meta_state_init(kith_meta_state *state);
void kith_meta_state_fini(kith_meta_state *state);
/* `index` is above applied_index. A command that is refused is applied too. */
void kith_meta_state_apply(kith_meta_state *state, uint64_t index, const kith_codec_meta_command *command,
    kith_meta_result *result_out);
/* NULL when there is none. Borrowed until the next apply. */
const kith_meta_collection *kith_meta_state_find(const kith_meta_state *state, const char *name);
const kith_meta_shard *kith_meta_state_shard(const kith_meta_state *state, uint64_t shard_id);
/* Some shard has no primary that is up and would have one if the node of `number` were: it is in sync there. Or no node that
 * holds shards is up. */
bool kith_meta_state_waits_for(const kith_meta_state *state, uint32_t number);
const kith_node *kith_meta_state_node(const kith_meta_state *state, uint32_t number);
const kith_node *kith_meta_state_node_of_id(const kith_meta_state *state, const kith_node_id *id);
/* Same fields in the same order. */
bool kith_meta_schema_equal(const kith_schema *a, const kith_schema *b);

/* Replaces the state by what the snapshot says. CORRUPT when it breaks an invariant; the state is then empty. */
KITH_CHECK kith_status kith_meta_state_restore(
    kith_meta_state *state, const kith_codec_meta_snapshot *snapshot, kith_err *err);
KITH_CHECK kith_status kith_meta_state_validate(const kith_meta_state *state, kith_err *err);

#endif
