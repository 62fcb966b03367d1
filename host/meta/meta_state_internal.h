/* Private to meta_state_*.c: the rules by what they are about.
 *
 * Threads: as meta_state.h. */
#ifndef KITH_META_META_STATE_INTERNAL_H
#define KITH_META_META_STATE_INTERNAL_H

#include "host/meta/meta_state.h"

/* Each fills `result` (zeroed, OK) and sets `changed` when it changed the state. */
void kith_meta_state_create(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_drop(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_update(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_change_shards(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_accept_loss(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_register(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_node_down(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_drain(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);
void kith_meta_state_remove(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result);

/* Gives each shard whose primary is down a primary that is up, where a replica in sync is: once a shard. How
 * many got one. Deterministic. */
uint32_t kith_meta_state_failover(kith_meta_state *state);

/* The shards [shard_count] are all assigned to at most `replicas_max` distinct nodes that are there and hold shards. The
 * message names the place: shards[3].replicas[1]. */
KITH_CHECK kith_status kith_meta_state_assignment_check(const kith_meta_state *state,
    const kith_collection *collection, const kith_meta_shard *shards, uint32_t replicas_max, kith_err *err);
/* Of one shard, called `what`. */
KITH_CHECK kith_status kith_meta_state_replicas_check(const kith_meta_state *state,
    const kith_meta_shard *shard, uint32_t replicas_max, const char *what, kith_err *err);
/* Those in sync are replicas, and the primary is. */
KITH_CHECK kith_status kith_meta_state_in_sync_check(
    const kith_meta_shard *shard, const char *what, kith_err *err);

/* Copies `from`, shards included. */
kith_meta_collection *kith_meta_collection_copy(
    const kith_collection *collection, const kith_meta_shard *shards);
void kith_meta_collection_free(kith_meta_collection *collection);
void kith_meta_state_collection_insert(
    kith_meta_state *state, uint32_t position, kith_meta_collection *collection_take);
void kith_meta_state_node_append(kith_meta_state *state, const kith_node *node);

/* True when the command's request id is known: `result` is what was answered then. */
bool kith_meta_state_answered(
    const kith_meta_state *state, const kith_request_id *request_id, kith_meta_result *result);
/* Forgets the oldest when there are too many. */
void kith_meta_state_answer_add(kith_meta_state *state, const kith_codec_meta_answer *answer);
void kith_meta_state_answers_free(kith_meta_state *state);

#endif
