/* The step: what is under way is counted, what can end is ended, what is to begin is begun in the order of need. */
#include "host/cluster/rebalance.h"

#include <stdlib.h>

#include "host/base/alloc.h"
#include "host/base/arena.h"
#include "host/base/assert.h"
#include "host/cluster/rebalance_internal.h"

/* A shard that lacks a replica. */
typedef struct need {
    rebalance_shard shard;
    uint64_t id;
    rebalance_why why;
    uint32_t in_sync_count;
} need;

typedef struct step {
    kith_rebalance *rebalance;
    const kith_meta_state *state;
    kith_rebalance_changes *changes;
    uint64_t now_ns;
    bool settled;
    need *needs; /* [need_count] */
    uint32_t need_count;
} step;

/* --- what is under way --- */

static void shard_count(kith_rebalance *rebalance, const rebalance_shard *shard) {
    const kith_meta_shard *is = shard->is;
    uint8_t behind = shard->all & ~is->in_sync, catching_up = behind & shard->up;
    for (uint32_t i = 0; i < is->replica_count; i++) {
        rebalance_node *node = rebalance_node_find(rebalance, is->replicas[i]);
        if (node) node->receiving_count += catching_up >> i & 1;
    }
    rebalance_node *primary = rebalance_node_find(rebalance, is->replicas[0]);
    uint32_t extra = is->replica_count > shard->factor ? is->replica_count - shard->factor : 0;
    if (primary && extra) primary->sending_count += (uint32_t)__builtin_popcount(catching_up);
    rebalance->report.behind_count += (uint32_t)__builtin_popcount(behind);
    rebalance->report.moving_count += extra;
    rebalance->report.waiting_count += (uint32_t)__builtin_popcount(shard->missing);
    rebalance->report.short_count += shard->wanted->count < shard->factor;
}

static void shard_see(step *own, const kith_meta_shard *is, uint32_t place) {
    rebalance_led *led = &own->rebalance->led[place];
    if (led->primary == is->replicas[0]) return;
    *led = (rebalance_led){.primary = is->replicas[0], .since_ns = own->now_ns};
}

/* --- changes --- */

static void change_add(step *own, uint64_t id, const kith_meta_shard *next) {
    kith_assert(own->changes->count < KITH_REBALANCE_CHANGES_MAX);
    own->changes->changes[own->changes->count++] =
        (kith_codec_meta_shard_change){.shard_id = id, .shard = *next};
}

/* A primary that is new has to hear from all that were in sync under the one before, or to wait for as long as these might answer
 * reads: writers would feel it if one of them were dropped now. */
static bool has_taken_over(const step *own, uint32_t place) {
    uint64_t led_ns = own->now_ns - own->rebalance->led[place].since_ns;
    return led_ns >= own->rebalance->options.handover_interval_ns;
}

/* Changes that need no place on a node. */
static bool end(step *own, const rebalance_shard *shard, uint64_t id) {
    kith_meta_shard next;
    if (!rebalance_drop(shard, &next) && !rebalance_make_room(shard, &next) &&
        !rebalance_hand_over(shard, false, &next))
        return false;
    own->changes->drop_count += shard->is->replica_count - next.replica_count;
    own->changes->handover_count += next.replicas[0] != shard->is->replicas[0];
    change_add(own, id, &next);
    return true;
}

static bool give_up(step *own, const rebalance_shard *shard, uint64_t id, uint32_t place) {
    kith_meta_shard next;
    kith_placement_replicas *wanted = &own->rebalance->wanted[place];
    if (!rebalance_give_up(own->rebalance, own->state, id, shard->is, wanted, &next)) return false;
    own->changes->drop_count++;
    own->changes->given_up_count++;
    change_add(own, id, &next);
    return true;
}

static bool hand_back(step *own, const rebalance_shard *shard, uint64_t id) {
    kith_meta_shard next;
    if (!own->settled || own->now_ns < own->rebalance->handover_due_ns) return false;
    if (!rebalance_hand_over(shard, true, &next)) return false;
    own->rebalance->handover_due_ns = own->now_ns + own->rebalance->options.handover_interval_ns;
    own->changes->handover_count++;
    change_add(own, id, &next);
    return true;
}

static void need_note(step *own, const rebalance_shard *shard, uint64_t id) {
    need found = {.shard = *shard, .id = id};
    if (!rebalance_needs(shard, &found.why)) return;
    if (found.why == REBALANCE_BALANCE && !own->settled) return;
    found.in_sync_count = (uint32_t)__builtin_popcount(shard->is->in_sync);
    own->needs[own->need_count++] = found;
}

static void shard_step(step *own, const rebalance_shard *shard, uint64_t id, uint32_t place) {
    if (own->changes->count == KITH_REBALANCE_CHANGES_MAX) return;
    if (give_up(own, shard, id, place)) return;
    if (has_taken_over(own, place) && (end(own, shard, id) || hand_back(own, shard, id))) return;
    need_note(own, shard, id);
}

/* --- new replicas --- */

static int need_compare(const void *left, const void *right) {
    const need *a = left, *b = right;
    if (a->why != b->why) return a->why < b->why ? -1 : 1;
    if (a->in_sync_count != b->in_sync_count) return a->in_sync_count < b->in_sync_count ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

/* A node that has a place for it; NULL: none now. */
static rebalance_node *target_of(const step *own, const rebalance_shard *shard) {
    uint32_t most = own->rebalance->options.moves_max;
    for (uint32_t i = 0; i < shard->wanted->count; i++) {
        if (!(shard->missing >> i & 1)) continue;
        rebalance_node *node = rebalance_node_find(own->rebalance, shard->wanted->nodes[i]);
        if (node && node->up && node->receiving_count < most) return node;
    }
    return NULL;
}

static void need_meet(step *own, const need *of) {
    rebalance_node *primary = rebalance_node_find(own->rebalance, of->shard.is->replicas[0]);
    rebalance_node *target = target_of(own, &of->shard);
    if (!target || !primary || primary->sending_count >= own->rebalance->options.moves_max) return;
    kith_meta_shard next = rebalance_add(&of->shard, target->number);
    target->receiving_count++;
    primary->sending_count++;
    own->changes->add_count++;
    change_add(own, of->id, &next);
}

/* --- the step --- */

static void shards_step(step *own, const kith_meta_state *state, bool count_only) {
    uint32_t place = 0;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; s < of->collection.shard_count; s++, place++) {
            const kith_meta_shard *is = &of->shards[s];
            const kith_placement_replicas *wanted = &own->rebalance->wanted[place];
            if (is->replica_count == 0) continue;
            rebalance_shard shard = rebalance_shard_of(own->rebalance, &of->collection, is, wanted);
            if (count_only) {
                shard_see(own, is, place);
                shard_count(own->rebalance, &shard);
            } else if (wanted->count > 0) {
                shard_step(own, &shard, of->collection.shard_id_first + s, place);
            }
        }
    }
}

static void needs_meet(step *own) {
    if (own->need_count) qsort(own->needs, own->need_count, sizeof *own->needs, need_compare);
    for (uint32_t i = 0; i < own->need_count; i++) {
        if (own->changes->count == KITH_REBALANCE_CHANGES_MAX) return;
        need_meet(own, &own->needs[i]);
    }
}

void kith_rebalance_step(kith_rebalance *rebalance, const kith_meta_state *state, kith_rebalance_clock clock,
    kith_rebalance_changes *changes_out) {
    uint64_t now_ns = clock.now_ns;
    changes_out->count = 0;
    changes_out->add_count = changes_out->drop_count = changes_out->handover_count = 0;
    changes_out->given_up_count = 0;
    rebalance_nodes_see(rebalance, state, clock);
    rebalance_plan(rebalance, state, now_ns);
    kith_arena arena;
    kith_arena_init(&arena);
    step own = {.rebalance = rebalance, .state = state, .changes = changes_out, .now_ns = now_ns};
    own.settled = now_ns - rebalance->planned_ns >= rebalance->options.settle_ns;
    own.needs = kith_arena_array(&arena, rebalance->shard_count, sizeof *own.needs);
    rebalance->report = (kith_rebalance_report){0};
    shards_step(&own, state, true);
    if (rebalance->options.moves_max > 0) {
        shards_step(&own, state, false);
        needs_meet(&own);
    }
    kith_arena_fini(&arena);
}

void kith_rebalance_tell(const kith_rebalance *rebalance, kith_rebalance_report *report_out) {
    *report_out = rebalance->report;
}

/* --- life --- */

kith_rebalance *kith_rebalance_create(const kith_rebalance_options *options) {
    kith_rebalance *rebalance = kith_alloc_zero(sizeof *rebalance);
    rebalance->options = *options;
    return rebalance;
}

void kith_rebalance_reset(kith_rebalance *rebalance) {
    kith_rebalance_options options = rebalance->options;
    kith_free(rebalance->nodes);
    kith_free(rebalance->wanted);
    kith_free(rebalance->led);
    *rebalance = (kith_rebalance){.options = options};
}

void kith_rebalance_destroy(kith_rebalance *rebalance) {
    if (!rebalance) return;
    kith_free(rebalance->nodes);
    kith_free(rebalance->wanted);
    kith_free(rebalance->led);
    kith_free(rebalance);
}
