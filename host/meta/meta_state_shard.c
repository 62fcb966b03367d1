/* Who has a shard: what must be true of it, changes of it, who follows a primary that is down, and whose copy counts where an
 * operator accepts loss. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/meta_state_internal.h"

/* --- what must be true --- */

static kith_status replica_check(
    const kith_meta_state *state, const kith_meta_shard *shard, uint32_t replica, kith_err *err) {
    uint32_t number = shard->replicas[replica];
    const kith_node *node = kith_meta_state_node(state, number);
    if (!node) return kith_err_set(err, KITH_PRECONDITION, "there is no node %u", number);
    if (!kith_node_holds_shards(node->role)) {
        return kith_err_set(err, KITH_INVALID, "node %u (\"%s\") is a %s node and holds no shards", number,
            node->name, kith_node_role_name(node->role));
    }
    for (uint32_t i = 0; i < replica; i++) {
        if (shard->replicas[i] != number) continue;
        return kith_err_set(err, KITH_INVALID, "node %u (\"%s\") is named twice", number, node->name);
    }
    return KITH_OK;
}

kith_status kith_meta_state_replicas_check(const kith_meta_state *state, const kith_meta_shard *shard,
    uint32_t replicas_max, const char *what, kith_err *err) {
    if (shard->replica_count < 1 || shard->replica_count > replicas_max) {
        return kith_err_set(
            err, KITH_INVALID, "%s has %u replicas, not 1..%u", what, shard->replica_count, replicas_max);
    }
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        kith_status status = replica_check(state, shard, r, err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "%s.replicas[%u]", what, r);
    }
    return KITH_OK;
}

kith_status kith_meta_state_in_sync_check(const kith_meta_shard *shard, const char *what, kith_err *err) {
    uint8_t all = kith_replicas_all(shard->replica_count);
    if ((shard->in_sync & ~all) == 0 && (shard->in_sync & 1)) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "%s: in_sync 0x%x is not of %u replicas with the primary among them", what, shard->in_sync,
        shard->replica_count);
}

static bool is_in_sync(const kith_meta_shard *shard, uint32_t number) {
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        if (shard->replicas[r] == number) return shard->in_sync >> r & 1;
    }
    return false;
}

/* --- changes --- */

/* The one that has the shard, or NULL. Changes of a command are mostly of one collection: `guess` is looked at first. */
static kith_meta_collection *collection_of_shard(
    const kith_meta_state *state, uint64_t shard_id, kith_meta_collection *guess) {
    if (guess && shard_id - guess->collection.shard_id_first < guess->collection.shard_count) return guess;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_collection *collection = &state->collections[i]->collection;
        if (shard_id - collection->shard_id_first < collection->shard_count) return state->collections[i];
    }
    return NULL;
}

static kith_meta_shard *shard_in(const kith_meta_collection *collection, uint64_t shard_id) {
    return collection ? &collection->shards[shard_id - collection->collection.shard_id_first] : NULL;
}

const kith_meta_shard *kith_meta_state_shard(const kith_meta_state *state, uint64_t shard_id) {
    return shard_in(collection_of_shard(state, shard_id, NULL), shard_id);
}

/* Only one that has every acknowledged write may be primary, and only the primary knows who else has. A primary that is
 * down must register first: so no shard is left without a primary that is up while a replica in sync is. */
static kith_status primary_check(
    const kith_meta_state *state, const kith_meta_shard *have, const kith_meta_shard *wanted, kith_err *err) {
    const kith_node *primary = kith_meta_state_node(state, wanted->replicas[0]);
    if (!is_in_sync(have, primary->number)) {
        return kith_err_set(
            err, KITH_PRECONDITION, "node \"%s\" cannot be its primary: it is not in sync", primary->name);
    }
    if (primary->down) {
        return kith_err_set(
            err, KITH_PRECONDITION, "node \"%s\" cannot be its primary: it is down", primary->name);
    }
    if (have->replicas[0] == primary->number) return KITH_OK;
    for (uint32_t r = 1; r < wanted->replica_count; r++) {
        if (!(wanted->in_sync >> r & 1) || is_in_sync(have, wanted->replicas[r])) continue;
        return kith_err_set(err, KITH_PRECONDITION,
            "node %u comes in sync while the primary changes: only its primary knows", wanted->replicas[r]);
    }
    return KITH_OK;
}

static kith_status change_check(const kith_meta_state *state, const kith_codec_meta_shard_change *change,
    const kith_meta_shard *have, kith_err *err) {
    const kith_meta_shard *wanted = &change->shard;
    char what[32];
    snprintf(what, sizeof what, "shard %llu", (unsigned long long)change->shard_id);
    if (have->epoch != wanted->epoch) {
        return kith_err_set(err, KITH_PRECONDITION, "%s has epoch %llu, not %llu", what,
            (unsigned long long)have->epoch, (unsigned long long)wanted->epoch);
    }
    kith_status status = kith_meta_state_replicas_check(state, wanted, KITH_REPLICAS_MAX, what, err);
    if (status == KITH_OK) status = kith_meta_state_in_sync_check(wanted, what, err);
    if (status != KITH_OK) return status;
    status = primary_check(state, have, wanted, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "%s", what);
}

/* Where loss was accepted is not for `wanted` to say. */
static void shard_replace(kith_meta_shard *shard, const kith_meta_shard *wanted) {
    kith_meta_shard next = {.epoch = shard->epoch + 1,
        .loss_epoch = shard->loss_epoch,
        .replica_count = wanted->replica_count,
        .in_sync = wanted->in_sync};
    memcpy(next.replicas, wanted->replicas, wanted->replica_count * sizeof *next.replicas);
    *shard = next;
}

static kith_status change_apply(const kith_meta_state *state, const kith_codec_meta_shard_change *change,
    kith_meta_collection **collection, kith_err *err) {
    *collection = collection_of_shard(state, change->shard_id, *collection);
    kith_meta_shard *have = shard_in(*collection, change->shard_id);
    if (!have) {
        return kith_err_set(
            err, KITH_NOT_FOUND, "there is no shard %llu", (unsigned long long)change->shard_id);
    }
    kith_status status = change_check(state, change, have, err);
    if (status == KITH_OK) shard_replace(have, &change->shard);
    return status;
}

/* The first refusal is the answer when nothing was done; who sees that something was looks at the map. */
void kith_meta_state_change_shards(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    kith_meta_collection *collection = NULL;
    for (uint32_t i = 0; i < command->change_count; i++) {
        kith_err err;
        kith_status status = change_apply(state, &command->changes[i], &collection, &err);
        if (status == KITH_OK) result->changed = true;
        if (status == KITH_OK || result->status != KITH_OK) continue;
        result->status = status;
        result->err = err;
    }
    if (result->changed) result->status = KITH_OK;
}

/* --- failover --- */

static uint32_t node_position(const kith_meta_state *state, uint32_t number) {
    return (uint32_t)(kith_meta_state_node(state, number) - state->nodes);
}

/* [node_count] shards of which the node is primary. */
static uint32_t *primaries_count(const kith_meta_state *state) {
    uint32_t *counts = kith_alloc_zero((state->node_count + 1) * sizeof *counts);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; s < of->collection.shard_count; s++) {
            if (of->shards[s].replica_count > 0) counts[node_position(state, of->shards[s].replicas[0])]++;
        }
    }
    return counts;
}

/* The replica in sync that is up; of several one that does not drain, then the one with the fewest primaries, then the first. 0: none. */
static uint32_t successor_of(
    const kith_meta_state *state, const kith_meta_shard *shard, const uint32_t *primaries) {
    uint32_t best = 0, best_position = 0;
    for (uint32_t r = 1; r < shard->replica_count; r++) {
        if (!(shard->in_sync >> r & 1)) continue;
        uint32_t position = node_position(state, shard->replicas[r]);
        const kith_node *node = &state->nodes[position], *other = &state->nodes[best_position];
        if (node->down) continue;
        bool better =
            best == 0 || (node->draining != other->draining ? other->draining
                                                            : primaries[position] < primaries[best_position]);
        if (!better) continue;
        best = r;
        best_position = position;
    }
    return best;
}

/* It moves to the front. The old primary stays a replica, but what it did not acknowledge may be in its log. */
static void promote(kith_meta_shard *shard, uint32_t replica) {
    uint32_t number = shard->replicas[replica];
    uint8_t in_sync = shard->in_sync & (uint8_t)~1u, below = (uint8_t)((1u << replica) - 1);
    memmove(shard->replicas + 1, shard->replicas, replica * sizeof *shard->replicas);
    shard->replicas[0] = number;
    shard->in_sync = (uint8_t)(1u | (in_sync & below) << 1 | (in_sync & ~below & ~(1u << replica)));
    shard->epoch++;
}

uint32_t kith_meta_state_failover(kith_meta_state *state) {
    uint32_t promoted_count = 0;
    uint32_t *primaries = primaries_count(state);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; s < of->collection.shard_count; s++) {
            kith_meta_shard *shard = &of->shards[s];
            if (shard->replica_count < 2 || !kith_meta_state_node(state, shard->replicas[0])->down) continue;
            uint32_t replica = successor_of(state, shard, primaries);
            if (replica == 0) continue;
            promote(shard, replica);
            promoted_count++;
            primaries[node_position(state, shard->replicas[0])]++;
        }
    }
    kith_free(primaries);
    return promoted_count;
}

/* --- loss that an operator accepts --- */

static kith_status loss_shard_find(const kith_meta_state *state, const kith_codec_meta_command *command,
    kith_meta_shard **shard_out, kith_err *err) {
    const kith_collection *meant = &command->collection;
    const kith_meta_collection *have = kith_meta_state_find(state, meant->name);
    /* The name may have been given to another collection since the operator looked. */
    if (!have || (meant->id != 0 && have->collection.id != meant->id))
        return kith_err_set(err, KITH_NOT_FOUND, "collection \"%s\" does not exist", meant->name);
    if (command->shard_index >= have->collection.shard_count) {
        return kith_err_set(err, KITH_INVALID, "collection \"%s\" has no shard %u; it has 0..%u", meant->name,
            command->shard_index, have->collection.shard_count - 1);
    }
    *shard_out = &have->shards[command->shard_index];
    return KITH_OK;
}

static void holders_list(
    const kith_meta_state *state, const kith_meta_shard *shard, char *text_out, size_t room) {
    size_t used = 0;
    text_out[0] = 0;
    for (uint32_t r = 0; r < shard->replica_count && used < room; r++) {
        used += (size_t)snprintf(text_out + used, room - used, "%s\"%s\"", r ? ", " : "",
            kith_meta_state_node(state, shard->replicas[r])->name);
    }
}

/* Which of its replicas `node` has. */
static kith_status loss_replica_find(const kith_meta_state *state, const kith_codec_meta_command *command,
    const kith_meta_shard *shard, const kith_node *node, uint32_t *replica_out, kith_err *err) {
    char holders[KITH_REPLICAS_MAX * (KITH_NODE_NAME_BYTES_MAX + 4) + 1];
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        if (shard->replicas[r] != node->number) continue;
        *replica_out = r;
        return KITH_OK;
    }
    if (shard->replica_count == 0) {
        return kith_err_set(err, KITH_PRECONDITION, "shard %u of collection \"%s\" is on no node",
            command->shard_index, command->collection.name);
    }
    holders_list(state, shard, holders, sizeof holders);
    return kith_err_set(err, KITH_PRECONDITION,
        "node \"%s\" has no copy of shard %u of collection \"%s\"; there is one on %s", node->name,
        command->shard_index, command->collection.name, holders);
}

/* The one rule by which a replica that is not in sync becomes primary. Whether the primary leads is not known here: one that is
 * up may be unable to, as when its files are corrupt. */
static kith_status loss_apply(
    kith_meta_state *state, const kith_codec_meta_command *command, bool *changed_out, kith_err *err) {
    char text[KITH_NODE_ID_TEXT_BYTES];
    kith_meta_shard *shard = NULL;
    uint32_t replica = 0;
    kith_status status = loss_shard_find(state, command, &shard, err);
    if (status != KITH_OK) return status;
    const kith_node *node = kith_meta_state_node_of_id(state, &command->node.id);
    if (!node) {
        return kith_err_set(
            err, KITH_NOT_FOUND, "there is no node %s", kith_node_id_text(&command->node.id, text));
    }
    status = loss_replica_find(state, command, shard, node, &replica, err);
    if (status != KITH_OK) return status;
    if (replica == 0 && shard->loss_epoch == shard->epoch) return KITH_OK; /* done, and nothing since */
    if (node->down) {
        return kith_err_set(err, KITH_PRECONDITION,
            "node \"%s\" is down: only a copy on a node that is up can be gone by", node->name);
    }
    promote(shard, replica);
    shard->in_sync = 1;
    shard->loss_epoch = shard->epoch;
    *changed_out = true;
    return KITH_OK;
}

void kith_meta_state_accept_loss(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    result->status = loss_apply(state, command, &result->changed, &result->err);
}

/* --- who is waited for --- */

static bool shard_waits_for(const kith_meta_state *state, const kith_meta_shard *shard, uint32_t number) {
    return shard->replica_count > 0 && kith_meta_state_node(state, shard->replicas[0])->down &&
           is_in_sync(shard, number);
}

static bool any_holder_is_up(const kith_meta_state *state) {
    for (uint32_t i = 0; i < state->node_count; i++) {
        if (kith_node_holds_shards(state->nodes[i].role) && !state->nodes[i].down) return true;
    }
    return false;
}

bool kith_meta_state_waits_for(const kith_meta_state *state, uint32_t number) {
    if (!any_holder_is_up(state)) return true;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; of->shards && s < of->collection.shard_count; s++) {
            if (shard_waits_for(state, &of->shards[s], number)) return true;
        }
    }
    return false;
}
