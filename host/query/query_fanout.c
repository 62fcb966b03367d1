#include "host/query/query_fanout.h"

#include <string.h>

#include "host/base/assert.h"

/* A node that is taken for down is asked all the same, for the judgement may be late, but not waited for: above a round
 * trip within a data centre, with a small search in it. */
#define DOWN_NODE_NS UINT64_C(100000000)

/* A replica that has not answered for so long, and four times as long as nearly all answers take, is taken for frozen,
 * however far the deadline is. A guess: about how long a node is silent before it is taken for down. */
#define SHARE_NS UINT64_C(2000000000)

_Static_assert(KITH_REPLICAS_MAX <= 8, "a bit for each replica tried");

/* Messages to be started together. */
typedef struct wave {
    kith_query_part *parts; /* [count] */
    uint32_t count;
} wave;

bool kith_query_may_fare_better(kith_status status) {
    return status >= KITH_BUSY && status != KITH_UNKNOWN_OUTCOME;
}

static uint32_t node_number(const kith_query_part *part) {
    return part->fanout->base->map->nodes[part->node_index].number;
}

/* --- for those who encode and gather --- */

uint64_t kith_query_part_shard_id(const kith_query_part *part, uint32_t index) {
    const kith_query_fanout *fanout = part->fanout;
    return fanout->base->entry->collection.shard_id_first + fanout->targets[part->targets[index]].shard_index;
}

const uint64_t *kith_query_part_shard_ids(const kith_query_part *part) {
    uint64_t *shard_ids = kith_arena_array(part->fanout->base->arena, part->target_count, sizeof *shard_ids);
    for (uint32_t i = 0; i < part->target_count; i++)
        shard_ids[i] = kith_query_part_shard_id(part, i);
    return shard_ids;
}

const uint64_t *kith_query_part_tokens(const kith_query_part *part) {
    const kith_query_base *base = part->fanout->base;
    if (!base->tokens) return NULL;
    uint64_t *tokens = kith_arena_array(base->arena, part->target_count, sizeof *tokens);
    for (uint32_t i = 0; i < part->target_count; i++)
        tokens[i] = base->tokens[part->fanout->targets[part->targets[i]].shard_index];
    return tokens;
}

kith_query_coverage kith_query_fanout_coverage(const kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    kith_query_missing *missing = kith_arena_array(base->arena, fanout->target_count, sizeof *missing);
    uint32_t missing_count = 0;
    for (uint32_t i = 0; i < fanout->target_count; i++) {
        const kith_query_target *target = &fanout->targets[i];
        if (target->is_answered) continue;
        missing[missing_count++] = (kith_query_missing){
            .shard_id = base->entry->collection.shard_id_first + target->shard_index,
            .status = target->status,
            .node = base->map->nodes[target->part->node_index].name,
            .reason = target->message,
        };
    }
    return (kith_query_coverage){.shards_total = fanout->target_count,
        .shards_answered = fanout->target_count - missing_count,
        .missing = missing};
}

/* --- which messages --- */

/* A write is for the primary alone. */
static bool asks_others(const kith_query_fanout *fanout) {
    return fanout->base->entry->replica_width > 1 && fanout->ops->kind != KITH_AM_WRITE;
}

static kith_query_plan_options plan_options(const kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    return (kith_query_plan_options){
        .map = base->map,
        .entry = base->entry,
        .read = fanout->ops->kind == KITH_AM_WRITE ? KITH_READ_PRIMARY : base->read,
        .loads = fanout->loads,
        .seed = fanout->seed,
        .is_apart = fanout->ops->is_apart,
    };
}

static void loads_read(kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    if (!asks_others(fanout) || !base->load) return;
    fanout->load = base->load;
    uint64_t now_ns = kith_env_now_ns(base->env);
    kith_query_node_load *loads = kith_arena_array(base->arena, base->map->node_count, sizeof *loads);
    for (uint32_t i = 0; i < base->map->node_count; i++)
        loads[i] = kith_query_load_of(fanout->load, base->map->nodes[i].number, now_ns);
    fanout->loads = loads;
    fanout->seed = kith_query_load_seed(fanout->load);
}

static void part_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err);

static void part_address(kith_query_part *part) {
    const kith_query_base *base = part->fanout->base;
    const kith_node *node = &base->map->nodes[part->node_index];
    kith_transport_call *call = &part->call;
    call->kind = part->fanout->ops->kind;
    call->node = node->id;
    call->address = node->address[0] ? node->address : NULL;
    call->deadline_ns = base->deadline_ns;
    call->cancel_watch = base->cancelled;
    call->done = part_done;
    bool may_be_missing = call->kind == KITH_AM_SEARCH || call->kind == KITH_AM_COUNT;
    if (!node->down || !may_be_missing) return;
    uint64_t until = kith_env_now_ns(base->env) + DOWN_NODE_NS;
    if (until >= call->deadline_ns) return;
    call->deadline_ns = until;
    part->is_not_waited_for = true;
}

/* `positions` [want_count]: which targets the wants are; NULL: all, in order. */
static void part_make(kith_query_fanout *fanout, const kith_query_plan *plan, uint32_t index,
    const uint32_t *positions, kith_query_part *part) {
    const kith_query_plan_message *message = &plan->messages[index];
    uint32_t *targets = (uint32_t *)message->wants; /* rewritten in place: the plan is ours */
    part->fanout = fanout;
    part->node_index = message->node_index;
    part->target_count = message->want_count;
    part->targets = targets;
    part->is_in_flight = true;
    kith_buf_init(&part->request);
    for (uint32_t i = 0; i < message->want_count; i++) {
        uint32_t want = message->wants[i];
        targets[i] = positions ? positions[want] : want;
        kith_query_target *target = &fanout->targets[targets[i]];
        target->tried |= (uint8_t)(1u << plan->replicas[want]);
        if (target->asking++ == 0) fanout->open_count++;
    }
    part_address(part);
    fanout->ops->encode(fanout, part, &part->request);
    part->call.bytes = part->request.data;
    part->call.byte_count = part->request.bytes;
    *fanout->parts_end = part;
    fanout->parts_end = &part->next;
}

static wave parts_make(kith_query_fanout *fanout, const kith_query_plan *plan, const uint32_t *positions) {
    wave made = {.count = plan->message_count};
    made.parts = kith_arena_alloc_zero(fanout->base->arena, made.count * sizeof *made.parts);
    atomic_fetch_add_explicit(&fanout->holds, made.count, memory_order_relaxed);
    for (uint32_t i = 0; i < made.count; i++)
        part_make(fanout, plan, i, positions, &made.parts[i]);
    return made;
}

/* --- asking elsewhere, under the lock --- */

static bool time_is_left(const kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    if (base->cancelled && atomic_load_explicit(base->cancelled, memory_order_relaxed)) return false;
    return kith_env_now_ns(base->env) < base->deadline_ns;
}

/* Targets [count] at replicas that were not tried yet, where there are any. `is_extra`: only as far as extra messages
 * are allowed. */
static wave elsewhere_ask(
    kith_query_fanout *fanout, const uint32_t *positions, uint32_t count, bool is_extra) {
    kith_arena *arena = fanout->base->arena;
    kith_query_plan_options options = plan_options(fanout);
    kith_query_plan_want *wants = kith_arena_array(arena, count, sizeof *wants);
    uint32_t *asked = kith_arena_array(arena, count, sizeof *asked);
    for (uint32_t i = 0; i < count; i++) {
        const kith_query_target *target = &fanout->targets[positions[i]];
        kith_query_plan_want want = {.shard_index = target->shard_index, .tried = target->tried};
        if (!kith_query_plan_has_other(&options, &want)) continue;
        asked[options.want_count] = positions[i];
        wants[options.want_count++] = want;
    }
    if (options.want_count == 0 || !time_is_left(fanout)) return (wave){0};
    kith_query_plan plan;
    options.wants = wants;
    kith_query_plan_make(&options, arena, &plan);
    if (is_extra && !kith_query_load_extra_take(fanout->load, plan.message_count)) return (wave){0};
    return parts_make(fanout, &plan, asked);
}

/* --- starting --- */

static void part_start(kith_query_fanout *fanout, kith_query_part *part) {
    kith_query_load *load = fanout->load;
    if (load) {
        kith_query_load_sent(load, node_number(part));
        part->sent_ns = kith_env_now_ns(fanout->base->env);
    }
    kith_transport_start(fanout->base->transport, &part->call);
}

/* Whoever calls has a hold: that a message is not needed any more may be told from another thread before it is started, and
 * it can still be cancelled afterwards. */
static void wave_start(kith_query_fanout *fanout, wave started) {
    for (uint32_t i = 0; i < started.count; i++) {
        kith_query_part *part = &started.parts[i];
        part_start(fanout, part);
        if (atomic_load(&part->is_unwanted)) kith_transport_cancel(fanout->base->transport, &part->call);
    }
}

static void losers_cancel(kith_query_fanout *fanout, kith_query_part *loser) {
    for (; loser; loser = loser->next_loser)
        kith_transport_cancel(fanout->base->transport, &loser->call);
}

/* Gives holds back. */
static void leave(kith_query_fanout *fanout, uint32_t holds) {
    /* acq_rel: the last one sees what the others took. */
    if (atomic_fetch_sub_explicit(&fanout->holds, holds, memory_order_acq_rel) != holds) return;
    kith_mutex_fini(&fanout->mutex);
    fanout->ops->gathered(fanout);
}

/* --- a reply --- */

static void target_end(
    kith_query_fanout *fanout, const kith_query_part *part, uint32_t position, kith_query_outcome outcome) {
    kith_query_target *target = &fanout->targets[position];
    target->asking--;
    if (target->is_answered) return;
    if (target->asking == 0 || outcome.status == KITH_OK) fanout->open_count--;
    target->is_answered = outcome.status == KITH_OK;
    target->status = outcome.status;
    target->message = outcome.message;
    target->part = part;
}

/* The deadline of a node that is not waited for is not the caller's, who has time left and may try again. Of the whole message,
 * or of a shard for which the node itself has waited so long. */
static kith_query_outcome failure_of(const kith_query_part *part, kith_status status, const char *text) {
    kith_err err;
    if (status == KITH_DEADLINE && part->is_not_waited_for) {
        status = kith_err_set(&err, KITH_UNAVAILABLE, "the node is taken for down: %s", text);
        text = err.text;
    }
    return (kith_query_outcome){
        .status = status, .message = kith_arena_text(part->fanout->base->arena, text, strlen(text))};
}

static kith_query_outcome reply_take(
    kith_query_part *part, kith_status status, const void *reply, size_t reply_bytes, const kith_err *err) {
    kith_query_fanout *fanout = part->fanout;
    kith_err own;
    part->reply_bytes = reply_bytes;
    if (status == KITH_OK && !atomic_load_explicit(&part->is_unwanted, memory_order_relaxed)) {
        status = fanout->ops->decode(fanout, part, reply, reply_bytes, &own);
        err = &own;
    } else if (status == KITH_OK) {
        status = kith_err_set(&own, KITH_CANCELLED, "others have answered");
        err = &own;
    }
    if (status == KITH_OK) return (kith_query_outcome){0};
    return failure_of(part, status, err->text);
}

/* What the part brought its target `index`. */
static kith_query_outcome outcome_of(const kith_query_part *part, uint32_t index, kith_query_outcome whole) {
    if (whole.status != KITH_OK || !part->outcomes || part->outcomes[index].status == KITH_OK) return whole;
    return failure_of(part, part->outcomes[index].status, part->outcomes[index].message);
}

static bool brings(const kith_query_part *part, uint32_t index) {
    return !part->outcomes || part->outcomes[index].status == KITH_OK;
}

/* The part brings all that `other` counts for. Targets of both rise. */
static bool may_replace(const kith_query_part *part, const kith_query_part *other) {
    const kith_query_target *targets = part->fanout->targets;
    for (uint32_t i = 0, at = 0; i < other->target_count; i++) {
        uint32_t position = other->targets[i];
        if (!targets[position].is_answered || targets[position].part != other) continue;
        while (at < part->target_count && part->targets[at] < position)
            at++;
        if (at == part->target_count || part->targets[at] != position || !brings(part, at)) return false;
    }
    return true;
}

/* An answer that was merged takes the place of those that others gave meanwhile for some of its shards. False: it cannot,
 * for they brought other shards too. */
static bool others_replace(const kith_query_part *part) {
    kith_query_target *targets = part->fanout->targets;
    for (uint32_t i = 0; i < part->target_count; i++) {
        const kith_query_target *target = &targets[part->targets[i]];
        if (brings(part, i) && target->is_answered && !may_replace(part, target->part)) return false;
    }
    for (uint32_t i = 0; i < part->target_count; i++) {
        if (brings(part, i) && targets[part->targets[i]].is_answered) targets[part->targets[i]].part = part;
    }
    return true;
}

/* What the part brought its targets; those of them that may fare better elsewhere are asked for there. */
static wave targets_end(kith_query_part *part, kith_query_outcome whole) {
    kith_query_fanout *fanout = part->fanout;
    if (whole.status == KITH_OK && fanout->ops->is_merged && !others_replace(part)) {
        whole = (kith_query_outcome){
            .status = KITH_UNAVAILABLE, .message = "it came too late, with shards that others had answered"};
    }
    bool others = asks_others(fanout);
    uint32_t *failed =
        others ? kith_arena_array(fanout->base->arena, part->target_count, sizeof *failed) : NULL;
    uint32_t failed_count = 0;
    for (uint32_t i = 0; i < part->target_count; i++) {
        kith_query_outcome outcome = outcome_of(part, i, whole);
        target_end(fanout, part, part->targets[i], outcome);
        bool is_answered = fanout->targets[part->targets[i]].is_answered;
        if (others && !is_answered && kith_query_may_fare_better(outcome.status))
            failed[failed_count++] = part->targets[i];
    }
    return failed_count > 0 ? elsewhere_ask(fanout, failed, failed_count, false) : (wave){0};
}

static bool part_is_needed(const kith_query_part *part) {
    for (uint32_t i = 0; i < part->target_count; i++) {
        if (!part->fanout->targets[part->targets[i]].is_answered) return true;
    }
    return false;
}

/* Messages on their way all of whose shards others have answered. */
static kith_query_part *losers_find(kith_query_fanout *fanout) {
    kith_query_part *losers = NULL;
    for (kith_query_part *part = fanout->parts; part && fanout->was_asked_twice; part = part->next) {
        bool is_known = atomic_load_explicit(&part->is_unwanted, memory_order_relaxed);
        if (!part->is_in_flight || is_known || part_is_needed(part)) continue;
        atomic_store(&part->is_unwanted, true);
        part->next_loser = losers;
        losers = part;
    }
    return losers;
}

static void load_learn(const kith_query_part *part, kith_status status) {
    kith_query_load *load = part->fanout->load;
    if (!load) return;
    uint64_t now_ns = kith_env_now_ns(part->fanout->base->env);
    kith_query_load_ended(load, &(kith_query_load_sample){.node_number = node_number(part),
                                    .kind = part->call.kind,
                                    .shard_count = part->target_count,
                                    .failed = status != KITH_OK && status != KITH_CANCELLED,
                                    .now_ns = now_ns,
                                    .took_ns = now_ns - part->sent_ns});
}

/* Holds that are free, when nobody waits any more. */
static uint32_t timer_stop(kith_query_fanout *fanout) {
    if (fanout->open_count > 0 || !fanout->is_timed || !kith_timer_cancel(&fanout->timer)) return 0;
    fanout->is_timed = false;
    return 1;
}

static void part_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    kith_query_part *part = (kith_query_part *)call;
    kith_query_fanout *fanout = part->fanout;
    load_learn(part, status);
    kith_buf_fini(&part->request);
    kith_mutex_lock(&fanout->mutex);
    part->is_in_flight = false;
    wave again = targets_end(part, reply_take(part, status, reply, reply_bytes, err));
    kith_query_part *losers = losers_find(fanout);
    uint32_t holds = 1 + timer_stop(fanout);
    kith_mutex_unlock(&fanout->mutex);
    wave_start(fanout, again);
    losers_cancel(fanout, losers);
    leave(fanout, holds);
}

/* --- patience --- */

/* When the answers that are still out are to be helped next. Each of the replicas has a like share of the time. */
static void timer_arm(kith_query_fanout *fanout, uint64_t now_ns, uint64_t due_ns) {
    uint64_t deadline_ns = fanout->base->deadline_ns;
    if (now_ns >= fanout->share_ns) {
        uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        uint64_t share_ns = left_ns / fanout->base->entry->replica_width;
        fanout->share_ns = now_ns + (share_ns < fanout->share_ns_max ? share_ns : fanout->share_ns_max);
    }
    fanout->timer.due_ns = due_ns < fanout->share_ns ? due_ns : fanout->share_ns;
    fanout->is_timed = true;
    atomic_fetch_add_explicit(&fanout->holds, 1, memory_order_relaxed);
    kith_timer_start(&fanout->timer);
}

/* Open targets -> `positions`, how many. */
static uint32_t open_targets(const kith_query_fanout *fanout, uint32_t *positions) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < fanout->target_count; i++) {
        if (!fanout->targets[i].is_answered && fanout->targets[i].asking > 0) positions[count++] = i;
    }
    return count;
}

/* Within the share of those asked, only as many as extra messages are allowed; afterwards they are taken for frozen. */
static wave slow_ask(kith_query_fanout *fanout, uint64_t now_ns) {
    uint32_t *positions = kith_arena_array(fanout->base->arena, fanout->target_count, sizeof *positions);
    uint32_t count = open_targets(fanout, positions);
    bool is_share_over = now_ns >= fanout->share_ns;
    wave more = elsewhere_ask(fanout, positions, count, !is_share_over);
    fanout->was_asked_twice |= more.count > 0;
    if (more.count > 0 || !is_share_over) timer_arm(fanout, now_ns, UINT64_MAX);
    return more;
}

static void patience_ends(kith_task *task) {
    kith_query_fanout *fanout =
        (kith_query_fanout *)(void *)((char *)task - offsetof(kith_query_fanout, timer.task));
    uint64_t now_ns = kith_env_now_ns(fanout->base->env);
    wave more = {0};
    kith_mutex_lock(&fanout->mutex);
    fanout->is_timed = false;
    if (fanout->open_count > 0 && now_ns < fanout->base->deadline_ns) more = slow_ask(fanout, now_ns);
    kith_mutex_unlock(&fanout->mutex);
    wave_start(fanout, more);
    leave(fanout, 1);
}

static bool has_patience(const kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    return fanout->load && base->executor && base->read != KITH_READ_PRIMARY;
}

static void patience_begin(kith_query_fanout *fanout) {
    const kith_query_base *base = fanout->base;
    uint64_t now_ns = kith_env_now_ns(base->env);
    fanout->timer.task.run = patience_ends;
    fanout->timer.executor = base->executor;
    uint64_t patience_ns = kith_query_load_patience_ns(fanout->load, fanout->ops->kind);
    fanout->share_ns_max = 4 * patience_ns > SHARE_NS ? 4 * patience_ns : SHARE_NS;
    timer_arm(fanout, now_ns, now_ns + patience_ns);
}

/* --- start --- */

static void targets_make(kith_query_fanout *fanout, const uint32_t *shards, kith_query_plan_want *wants) {
    for (uint32_t i = 0; i < fanout->target_count; i++) {
        uint32_t shard_index = shards ? shards[i] : i;
        fanout->targets[i].shard_index = shard_index;
        wants[i] = (kith_query_plan_want){.shard_index = shard_index};
    }
}

static wave first_wave(kith_query_fanout *fanout, const uint32_t *shards) {
    kith_query_plan plan;
    kith_query_plan_want *wants = kith_arena_array(fanout->base->arena, fanout->target_count, sizeof *wants);
    targets_make(fanout, shards, wants);
    kith_query_plan_options options = plan_options(fanout);
    options.wants = wants;
    options.want_count = fanout->target_count;
    kith_query_plan_make(&options, fanout->base->arena, &plan);
    return parts_make(fanout, &plan, NULL);
}

/* Nothing can be unwanted before all is started, and the last message may end the request before its start returns: nothing
 * of the fan-out is read afterwards. */
static void first_start(kith_query_fanout *fanout, wave first) {
    for (uint32_t i = 0; i < first.count; i++)
        part_start(fanout, &first.parts[i]);
}

void kith_query_fanout_start(const kith_query_base *base, const kith_query_fanout_ops *ops, void *ctx,
    const uint32_t *shards, uint32_t target_count) {
    kith_assert(target_count >= 1);
    kith_query_fanout *fanout = kith_arena_alloc_zero(base->arena, sizeof *fanout);
    *fanout = (kith_query_fanout){.base = base, .ops = ops, .ctx = ctx, .target_count = target_count};
    fanout->parts_end = &fanout->parts;
    fanout->targets = kith_arena_alloc_zero(base->arena, target_count * sizeof *fanout->targets);
    kith_mutex_init(&fanout->mutex, KITH_RANK_QUERY);
    loads_read(fanout);
    wave first = first_wave(fanout, shards);
    if (!has_patience(fanout)) {
        first_start(fanout, first);
        return;
    }
    /* The timer may find messages too slow that are not started yet. */
    atomic_fetch_add_explicit(&fanout->holds, 1, memory_order_relaxed);
    patience_begin(fanout);
    wave_start(fanout, first);
    leave(fanout, 1);
}
