#include "host/replica/replica.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"
#include "host/shard/shard_digest.h"

/* Ticks are not closer than this: thousands of shards are due at much the same time. */
#define TICK_NS_MIN (1 * MS_NS)

/* --- look-ups --- */

static replica *find_locked(const kith_replica_set *set, uint64_t shard_id) {
    uint64_t found;
    return kith_map_get(set->by_id, &shard_id, sizeof shard_id, &found) ? (replica *)(uintptr_t)found : NULL;
}

replica *replica_find(kith_replica_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    replica *own = find_locked(set, shard_id);
    kith_mutex_unlock(&set->mutex);
    return own;
}

const replica_node *replica_node_of(const kith_replica_set *set, uint32_t number) {
    uint32_t low = 0, high = set->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->nodes[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->node_count && set->nodes[low].number == number ? &set->nodes[low] : NULL;
}

uint32_t replica_number_of(const kith_replica_set *set, const kith_node_id *id) {
    for (uint32_t i = 0; i < set->node_count; i++) {
        if (memcmp(set->nodes[i].id.bytes, id->bytes, sizeof id->bytes) == 0) return set->nodes[i].number;
    }
    return 0;
}

/* --- what is under way --- */

static void stop_look(kith_replica_set *set) {
    if (!set->stopped || !set->stop_done || set->under_way > 0) return;
    void (*done)(void *ctx) = set->stop_done;
    set->stop_done = NULL;
    done(set->stop_ctx);
}

static void replica_free(replica *own) {
    kith_replica_set *set = own->set;
    if (own->previous)
        own->previous->next = own->next;
    else
        set->replicas = own->next;
    if (own->next) own->next->previous = own->previous;
    kith_replica_step_destroy(own->step);
    kith_free(own);
}

void replica_hold(replica *own) {
    own->uses++;
}

void replica_drop(replica *own) {
    if (--own->uses == 0 && own->let_go) replica_free(own);
}

void replica_use(kith_replica_set *set, replica *own) {
    set->under_way++;
    if (own) replica_hold(own);
}

void replica_unuse(kith_replica_set *set, replica *own) {
    set->under_way--;
    if (own) replica_drop(own);
    stop_look(set);
}

/* --- the gate: the shard asks and tells --- */

static kith_status gate_admit(
    void *ctx, size_t bytes, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err) {
    replica *own = ctx;
    kith_replica_position position;
    if (own->set->stopped) return kith_err_set(err, KITH_CLOSED, "this node is shutting down");
    if (!own->step) {
        return kith_err_set(err, KITH_UNAVAILABLE, "the replica of shard %llu has not started",
            (unsigned long long)own->shard_id);
    }
    kith_status status = kith_replica_step_admit(own->step, bytes, replica_now_ns(own->set), &position, err);
    if (status != KITH_OK) return status;
    own->admitted_bytes += bytes;
    own->admitted_count++;
    *epoch_out = position.epoch;
    *sequence_out = position.sequence;
    return KITH_OK;
}

/* It is in the log's hands. */
static void handed_look(replica *own, uint64_t sequence) {
    if (replica_acknowledges_early(own))
        kith_replica_step_handed(own->step, sequence, replica_now_ns(own->set));
}

static void gate_appended(void *ctx, uint64_t sequence) {
    replica *own = ctx;
    handed_look(own, sequence);
    replica_after_event(own);
}

static void gate_durable(void *ctx, uint64_t sequence) {
    replica *own = ctx;
    if (!own->step) return;
    kith_replica_step_durable(own->step, sequence, replica_now_ns(own->set));
    replica_after_event(own);
}

static void gate_applied(void *ctx, uint64_t sequence) {
    replica *own = ctx;
    own->applied = sequence;
    replica_show(own);
    replica_waits_applied(own);
    replica_held_look(own);
}

static void gate_relieved(void *ctx) {
    replica_held_look(ctx);
}

void replica_fail(replica *own) {
    own->is_broken = true;
    own->is_in_doubt = false; /* worse */
    kith_replica_step_failed(own->step, replica_now_ns(own->set));
    replica_after_event(own);
}

static void gate_failed(void *ctx) {
    replica *own = ctx;
    if (!own->step) return;
    kith_log_error("replica_failed", kith_kv_u64("shard", own->shard_id));
    replica_fail(own);
}

static const kith_shard_gate gate_of_replica = {
    .admit = gate_admit,
    .appended = gate_appended,
    .durable = gate_durable,
    .applied = gate_applied,
    .failed = gate_failed,
    .relieved = gate_relieved,
};

/* --- actions --- */

/* Those that change the log; a shard that is being replaced has none. */
static void act_on_shard(replica *own, const kith_replica_action *action) {
    if (!own->shard) return;
    switch (action->kind) {
    case KITH_REPLICA_START_EPOCH:
        kith_log_info("replica_leads", kith_kv_u64("shard", own->shard_id),
            kith_kv_u64("epoch", action->position.epoch), kith_kv_u64("sequence", action->position.sequence));
        kith_shard_epoch_start(own->shard, action->position.epoch);
        handed_look(own, action->position.sequence);
        break;
    case KITH_REPLICA_TRUNCATE:
        kith_log_info(
            "replica_truncates", kith_kv_u64("shard", own->shard_id), kith_kv_u64("from", action->first));
        kith_shard_truncate(own->shard, action->first);
        break;
    case KITH_REPLICA_APPEND:
        replica_receipt_append(own, action);
        handed_look(own, action->last);
        break;
    case KITH_REPLICA_COMMIT:
        kith_shard_commit(own->shard, action->last);
        if (own->is_async) kith_shard_answer_committed(own->shard);
        break;
    default:
        break;
    }
}

static void act(replica *own, const kith_replica_action *action) {
    switch (action->kind) {
    case KITH_REPLICA_SEND:
        replica_send(own, action);
        break;
    case KITH_REPLICA_ANSWER:
        replica_receipt_answer(own, action);
        break;
    case KITH_REPLICA_PROPOSE:
        replica_propose(own, &action->config);
        break;
    case KITH_REPLICA_PULL_MAP:
        replica_pull_map(own->set);
        break;
    case KITH_REPLICA_INSTALL:
        replica_install_want(own);
        break;
    default:
        act_on_shard(own, action);
    }
}

/* How long, at most, one of the others has lacked what was in the log; and about how many bytes all lack. */
static void lag_measure(replica *own, const kith_replica_status *status, uint64_t now_ns,
    uint64_t *lag_ns_out, uint64_t *bytes_out) {
    uint64_t entry_bytes = own->admitted_count ? own->admitted_bytes / own->admitted_count : 0;
    *lag_ns_out = *bytes_out = 0;
    for (uint32_t i = 0; i < status->peer_count; i++) {
        const kith_replica_peer_status *peer = &status->peers[i];
        replica_mark *mark = &own->marks[i];
        if (peer->matched >= mark->sequence || peer->number != mark->number) {
            *mark = (replica_mark){.number = peer->number, .sequence = status->end.sequence, .at_ns = now_ns};
        }
        if (peer->matched >= status->end.sequence) continue;
        *bytes_out += (status->end.sequence - peer->matched) * entry_bytes;
        if (now_ns - mark->at_ns > *lag_ns_out) *lag_ns_out = now_ns - mark->at_ns;
    }
}

void replica_show(replica *own) {
    kith_replica_set *set = own->set;
    kith_replica_status status = {0};
    uint64_t now_ns = replica_now_ns(set), lag_ns, lag_bytes;
    if (own->step) kith_replica_step_status(own->step, now_ns, &status);
    lag_measure(own, &status, now_ns, &lag_ns, &lag_bytes);
    replica_nearer_look(own, &status, now_ns);
    kith_mutex_lock(&set->mutex);
    own->shown.heard_ns = own->heard_ns;
    own->shown.nearer_ns = own->nearer_ns;
    own->shown.lag_ns = lag_ns;
    own->shown.lag_bytes = lag_bytes;
    own->shown.is_open = own->step && own->shard && !own->let_go && !own->is_broken;
    own->shown.status = status;
    own->shown.needed = status.role == KITH_REPLICA_PRIMARY ? status.committed : status.end.sequence;
    own->shown.applied = own->applied;
    kith_mutex_unlock(&set->mutex);
}

/* An event inside an action (a shard that fails) only adds actions to those that are being carried out. */
static void actions_run(replica *own) {
    kith_replica_action action;
    if (own->is_acting) return;
    own->is_acting = true;
    while (kith_replica_step_next(own->step, replica_now_ns(own->set), &action))
        act(own, &action);
    own->is_acting = false;
}

/* Once stopped it answers nobody: what it could still answer was refused then. */
void replica_after_event(replica *own) {
    if (!own->step || own->let_go || own->set->stopped) return;
    kith_replica_set *set = own->set;
    replica_show(own);
    actions_run(own);
    replica_doubt_look(own);
    replica_show(own);
    replica_waits_look(own);
    replica_leave_look(own);
    own->due_ns = kith_replica_step_due_ns(own->step);
    replica_timer_want(set, own->due_ns);
}

/* --- time --- */

void replica_timer_want(kith_replica_set *set, uint64_t due_ns) {
    if (set->stopped || due_ns >= set->timer_due_ns) return;
    if (set->timer_due_ns != UINT64_MAX && !kith_timer_cancel(&set->timer)) return; /* its task will look */
    set->timer_due_ns = due_ns;
    set->timer.due_ns = due_ns;
    kith_timer_start(&set->timer);
}

static void replica_tick(replica *own, uint64_t now_ns) {
    if (own->let_go) return;
    if (own->waits_due_ns <= now_ns) replica_waits_tick(own, now_ns);
    if (!own->step) return;
    if (own->held_due_ns <= now_ns) replica_held_tick(own, now_ns);
    if (own->due_ns <= now_ns) {
        kith_replica_step_tick(own->step, now_ns);
        replica_after_event(own);
    }
    if (own->compare_due_ns <= now_ns) replica_compare_tick(own, now_ns);
}

static uint64_t replica_due_ns(const replica *own) {
    uint64_t due_ns = own->waits_due_ns;
    if (own->let_go || !own->step) return due_ns;
    if (own->due_ns < due_ns) due_ns = own->due_ns;
    if (own->held_due_ns < due_ns) due_ns = own->held_due_ns;
    if (own->leave_due_ns < due_ns) due_ns = own->leave_due_ns;
    if (own->compare_due_ns < due_ns) due_ns = own->compare_due_ns;
    return due_ns;
}

static void tick(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, timer.task));
    uint64_t now_ns = replica_now_ns(set), due_ns = UINT64_MAX;
    set->timer_due_ns = UINT64_MAX;
    if (set->stopped) return;
    set->timer_due_ns = 0; /* nobody arms it meanwhile */
    for (replica *own = set->replicas; own; own = own->next)
        replica_tick(own, now_ns);
    replica_propose_tick(set, now_ns);
    replica_leave_tick(set, now_ns);
    replica_hand_over_tick(set, now_ns);
    for (replica *own = set->replicas; own; own = own->next) {
        uint64_t own_ns = replica_due_ns(own);
        if (own_ns < due_ns) due_ns = own_ns;
    }
    if (replica_propose_due_ns(set) < due_ns) due_ns = replica_propose_due_ns(set);
    if (set->hand_over_due_ns < due_ns) due_ns = set->hand_over_due_ns;
    set->timer_due_ns = UINT64_MAX;
    if (due_ns == UINT64_MAX) return;
    replica_timer_want(set, due_ns < now_ns + TICK_NS_MIN ? now_ns + TICK_NS_MIN : due_ns);
}

/* --- a replica begins and ends --- */

static void log_read(replica *own, kith_replica_log *log_out, kith_replica_position **epochs_out) {
    kith_shard_log_state state;
    kith_shard_log_state_read(own->shard, &state);
    kith_replica_position *epochs = kith_alloc_array(state.epoch_count + 1, sizeof *epochs);
    for (uint32_t i = 0; i < state.epoch_count; i++) {
        epochs[i] = (kith_replica_position){.epoch = state.epochs[i], .sequence = state.sequences[i]};
    }
    own->applied = state.applied;
    *log_out = (kith_replica_log){
        .first = state.first,
        .end = {.epoch = state.end_epoch, .sequence = state.end_sequence},
        .committed = state.applied,
        .epochs = epochs,
        .epoch_count = state.epoch_count,
    };
    *epochs_out = epochs;
}

static void step_create(replica *own) {
    kith_replica_set *set = own->set;
    kith_replica_log log;
    kith_replica_position *epochs;
    kith_err err;
    log_read(own, &log, &epochs);
    log.may_lack_tail = own->is_broken = own->is_in_doubt = replica_unsynced_find(own, &log.loss_epoch);
    if (own->is_in_doubt)
        kith_log_warn("replica_in_doubt", kith_kv_u64("shard", own->shard_id),
            kith_kv_u64("sequence", log.end.sequence));
    own->step = kith_replica_step_create(
        &(kith_replica_step_options){
            .shard_id = own->shard_id,
            .self = set->self,
            .lease_ns = set->options.lease_ns,
            .epoch_led_min = 2, /* epoch 1 is that of entries without a gate */
            .window = REPLICA_APPEND_WINDOW,
            .batch_bytes_max = set->options.append_inflight_bytes_max / REPLICA_APPEND_WINDOW,
        },
        &log, replica_now_ns(set));
    kith_free(epochs);
    if (kith_shard_health(own->shard, &err) == KITH_OK) return;
    kith_log_error("replica_failed", kith_kv_u64("shard", own->shard_id), kith_kv_text("reason", err.text));
    own->is_broken = true;
    own->is_in_doubt = false;
    kith_replica_step_failed(own->step, replica_now_ns(set));
}

/* Takes the shard once it has started. True: it has a step machine. */
static bool replica_begin(replica *own) {
    kith_replica_set *set = own->set;
    if (own->step) return true;
    own->shard = kith_shard_set_find(set->options.shards, own->shard_id);
    if (!own->shard) return false; /* not started yet, or not at all */
    step_create(own);
    if (set->options.digest_interval_ns) /* not all at once */
        own->compare_due_ns =
            replica_now_ns(set) + set->options.digest_interval_ns * (own->shard_id % 8 + 1) / 8;
    return true;
}

void replica_forget(replica *own) {
    kith_replica_set *set = own->set;
    kith_mutex_lock(&set->mutex);
    own->shown.is_open = false;
    if (find_locked(set, own->shard_id) == own)
        kith_map_remove(set->by_id, &own->shard_id, sizeof own->shard_id);
    kith_mutex_unlock(&set->mutex);
}

/* What it installs may be opened just now, and is its own until it is given up. */
static void replica_let_go(replica *own) {
    kith_replica_set *set = own->set;
    if (own->let_go) return;
    own->let_go = true;
    if (!own->install) replica_forget(own);
    replica_receipts_refuse(own);
    replica_waits_end(own, KITH_STALE_MAP, "is on this node no more");
    replica_propose_forget(own);
    replica_sendings_cancel(own);
    replica_compare_stop(own);
    replica_install_let_go(own);
    if (own->shard) {
        kith_shard_gate_set(own->shard, NULL); /* it ends what it has begun; nobody listens */
        kith_shard_set_release(set->options.shards, own->shard);
    } else if (!own->install) {
        own->uses++; /* a shard that was never seen started may still have its gate: kept until the set ends */
    }
    own->shard = NULL;
    if (own->uses == 0) replica_free(own);
}

static void link_run(kith_task *task) {
    replica *own = (replica *)(void *)((char *)task - offsetof(replica, link_task));
    kith_replica_set *set = own->set;
    own->next = set->replicas;
    if (set->replicas) set->replicas->previous = own;
    set->replicas = own;
}

static replica *replica_create(kith_replica_set *set, uint64_t shard_id) {
    replica *own = kith_alloc_zero(sizeof *own);
    own->set = set;
    own->shard_id = shard_id;
    own->gate = gate_of_replica;
    own->gate.ctx = own;
    own->due_ns = own->waits_due_ns = own->compare_due_ns = own->held_due_ns = UINT64_MAX;
    own->leave_due_ns = UINT64_MAX;
    return own;
}

/* --- attach and detach --- */

void kith_replica_set_attach(kith_replica_set *set, uint64_t shard_id, kith_shard *shard) {
    kith_mutex_lock(&set->mutex);
    replica *own = find_locked(set, shard_id);
    bool is_known = own && own->shown.is_installing;
    kith_mutex_unlock(&set->mutex);
    if (!is_known) {
        own = replica_create(set, shard_id);
        kith_mutex_lock(&set->mutex);
        kith_map_put(set->by_id, &shard_id, sizeof shard_id, (uintptr_t)own);
        kith_mutex_unlock(&set->mutex);
        own->link_task.run = link_run;
        kith_executor_post(set->owner, &own->link_task);
    }
    kith_shard_gate_set(shard, &own->gate);
}

bool kith_replica_set_installs(kith_replica_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    replica *own = find_locked(set, shard_id);
    bool installs = own && own->shown.is_installing && !own->shown.is_gone;
    kith_mutex_unlock(&set->mutex);
    return installs;
}

/* --- the map --- */

typedef struct map_shard {
    uint64_t shard_id;
    kith_replica_config config;
    bool is_async;
} map_shard;

typedef struct map_news {
    kith_task task;
    kith_replica_set *set;
    uint32_t self, node_count, shard_count;
    replica_node *nodes;
    map_shard *shards; /* by rising id */
} map_news;

static int shard_compare(const void *a, const void *b) {
    uint64_t left = ((const map_shard *)a)->shard_id, right = ((const map_shard *)b)->shard_id;
    return left < right ? -1 : left > right;
}

static void nodes_copy(map_news *news, const kith_meta_state *state) {
    news->nodes = kith_alloc_array(state->node_count + 1, sizeof *news->nodes);
    for (uint32_t i = 0; i < state->node_count; i++) {
        const kith_node *node = &state->nodes[i];
        if (!kith_node_holds_shards(node->role)) continue;
        replica_node *copy = &news->nodes[news->node_count++];
        *copy = (replica_node){.number = node->number, .id = node->id};
        memcpy(copy->address, node->address, sizeof copy->address);
    }
}

static void shard_copy(map_news *news, const kith_meta_collection *collection, uint32_t index) {
    const kith_meta_shard *shard = &collection->shards[index];
    map_shard *copy = &news->shards[news->shard_count++];
    copy->shard_id = collection->collection.shard_id_first + index;
    copy->config = (kith_replica_config){
        .epoch = shard->epoch,
        .replica_count = shard->replica_count,
        .in_sync = shard->in_sync,
        .min_in_sync = collection->collection.min_in_sync,
        .loss_epoch = shard->loss_epoch,
    };
    copy->is_async = collection->collection.durability == KITH_DURABILITY_ASYNC;
    memcpy(copy->config.replicas, shard->replicas, sizeof copy->config.replicas);
}

static void shards_copy(map_news *news, const kith_meta_state *state) {
    size_t most = 0;
    for (uint32_t i = 0; i < state->collection_count; i++)
        most += state->collections[i]->collection.shard_count;
    news->shards = kith_alloc_array(most + 1, sizeof *news->shards);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *collection = state->collections[i];
        for (uint32_t j = 0; collection->shards && j < collection->collection.shard_count; j++) {
            if (kith_meta_shard_is_on(&collection->shards[j], news->self)) shard_copy(news, collection, j);
        }
    }
    qsort(news->shards, news->shard_count, sizeof *news->shards, shard_compare);
}

/* One that this process has asked for waits for the answer: without it, it would not know that the epoch is its own, and ask for
 * another. */
void replica_configure(replica *own) {
    if (!own->step && !own->install && !replica_begin(own)) return;
    if (!own->step || own->config.epoch == own->alone_epoch) return;
    kith_replica_step_configure(own->step, &own->config, replica_now_ns(own->set));
    replica_after_event(own);
    replica_install_look(own);
}

static void config_take(replica *own, const map_shard *news) {
    if (news->config.epoch >= own->config.epoch) own->config = news->config;
    own->is_async = news->is_async;
    replica_configure(own);
}

static const map_shard *map_shard_find(const map_news *news, uint64_t shard_id) {
    map_shard key = {.shard_id = shard_id};
    return bsearch(&key, news->shards, news->shard_count, sizeof key, shard_compare);
}

static bool is_in_map(void *ctx, uint64_t shard_id) {
    return map_shard_find(ctx, shard_id) != NULL;
}

static void map_take(kith_task *task) {
    map_news *news = (map_news *)task;
    kith_replica_set *set = news->set;
    kith_free(set->nodes);
    set->nodes = news->nodes;
    set->node_count = news->node_count;
    set->self = news->self;
    for (replica *own = set->replicas, *next; own && !set->stopped; own = next) {
        next = own->next;
        const map_shard *found = map_shard_find(news, own->shard_id);
        if (own->let_go) continue;
        if (found)
            config_take(own, found);
        else
            replica_let_go(own);
    }
    if (!set->stopped) {
        replica_unsynced_gone(set, is_in_map, news);
        replica_unsynced_look(set);
    }
    kith_free(news->shards);
    kith_free(news);
}

/* At once: a map that gives it again may come before it is let go. */
static void gone_show(kith_replica_set *set, const map_news *news) {
    size_t cursor = 0, key_bytes;
    const void *id;
    uint64_t value;
    kith_mutex_lock(&set->mutex);
    while (kith_map_next(set->by_id, &cursor, &id, &key_bytes, &value)) {
        replica *own = (replica *)(uintptr_t)value;
        if (!map_shard_find(news, own->shard_id)) own->shown.is_gone = true;
    }
    kith_mutex_unlock(&set->mutex);
}

void kith_replica_set_map(kith_replica_set *set, const kith_meta_state *state) {
    const kith_node *self = kith_meta_state_node_of_id(state, &set->options.self);
    if (!self) return;
    map_news *news = kith_alloc_zero(sizeof *news);
    news->task.run = map_take;
    news->set = set;
    news->self = self->number;
    nodes_copy(news, state);
    shards_copy(news, state);
    gone_show(set, news);
    kith_executor_post(set->owner, &news->task);
}

bool kith_replica_set_status(kith_replica_set *set, uint64_t shard_id, kith_replica_status *status_out) {
    kith_mutex_lock(&set->mutex);
    const replica *own = find_locked(set, shard_id);
    bool found = own && !own->shown.is_gone && own->shown.status.epoch > 0;
    if (found) *status_out = own->shown.status;
    kith_mutex_unlock(&set->mutex);
    return found;
}

static void lag_add(const replica_shown *shown, kith_replica_lag *lag) {
    const kith_replica_config *config = &shown->status.config;
    if (shown->status.role != KITH_REPLICA_PRIMARY) return;
    lag->led++;
    lag->bytes += shown->lag_bytes;
    if (shown->lag_ns > lag->longest_ns) lag->longest_ns = shown->lag_ns;
    for (uint32_t i = 1; i < config->replica_count; i++)
        lag->out_of_sync += !(config->in_sync >> i & 1);
}

void kith_replica_set_lag(kith_replica_set *set, kith_replica_lag *lag_out) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t found;
    *lag_out = (kith_replica_lag){0};
    kith_mutex_lock(&set->mutex);
    while (kith_map_next(set->by_id, &cursor, &key, &key_bytes, &found))
        lag_add(&((const replica *)(uintptr_t)found)->shown, lag_out);
    kith_mutex_unlock(&set->mutex);
}

/* --- life --- */

static void handlers_set(kith_replica_set *set) {
    kith_transport *transport = set->options.transport;
    kith_executor *background = set->options.node->background;
    kith_transport_handle(transport, KITH_AM_APPEND, set->owner, replica_append_handle, set);
    kith_transport_handle(transport, KITH_AM_FETCH, background, replica_fetch_handle, set);
    kith_transport_handle(transport, KITH_AM_DIGEST, set->owner, replica_digest_handle, set);
}

kith_replica_set *kith_replica_set_create(const kith_replica_set_options *options) {
    kith_replica_set *set = kith_alloc_zero(sizeof *set);
    set->options = *options;
    set->env = options->env;
    set->owner = options->node->owner;
    kith_mutex_init(&set->mutex, KITH_RANK_REPLICA);
    kith_mutex_init(&set->sources_mutex, KITH_RANK_REPLICA);
    set->by_id = kith_map_create(64);
    set->timer = (kith_timer){.task = {.run = tick}, .executor = set->owner};
    set->timer_due_ns = set->hand_over_due_ns = UINT64_MAX;
    set->entries = kith_alloc_array(KITH_CODEC_APPEND_ENTRIES_MAX, sizeof *set->entries);
    set->dir = options->dir ? kith_strdup(options->dir) : NULL;
    replica_unsynced_read(set);
    handlers_set(set);
    return set;
}

/* Writes that were admitted end as their shards close; nobody hears of it here any more. */
static void replica_stop(replica *own) {
    replica_receipts_refuse(own);
    replica_waits_end(own, KITH_CLOSED, "is on a node that is shutting down");
    replica_propose_forget(own);
    replica_sendings_cancel(own);
    replica_compare_stop(own);
    if (!own->shard) return;
    kith_shard_digests_cancel(own->shard); /* or the transport waits for their answers */
    kith_shard_gate_set(own->shard, NULL);
    kith_shard_set_release(own->set->options.shards, own->shard);
    own->shard = NULL;
    replica_show(own);
}

static void stop_run(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, stop_task));
    set->stopped = true;
    replica_use(set, NULL); /* of this function */
    if (set->timer_due_ns != UINT64_MAX) (void)kith_timer_cancel(&set->timer);
    replica_hand_over_tick(set, UINT64_MAX);
    replica_install_stop(set);
    replica_sources_stop(set);
    for (replica *own = set->replicas, *next; own; own = next) {
        next = own->next;
        replica_stop(own);
    }
    replica_unuse(set, NULL);
}

void kith_replica_set_stop(kith_replica_set *set, void (*done)(void *ctx), void *ctx) {
    set->stop_done = done;
    set->stop_ctx = ctx;
    set->stop_task.run = stop_run;
    kith_executor_post(set->owner, &set->stop_task);
}

void kith_replica_set_destroy(kith_replica_set *set) {
    if (!set) return;
    replica_unsynced_end(set);
    while (set->replicas)
        replica_free(set->replicas);
    replica_sources_end(set);
    kith_map_destroy(set->by_id);
    kith_mutex_fini(&set->mutex);
    kith_mutex_fini(&set->sources_mutex);
    kith_free(set->entries);
    kith_free(set->nodes);
    kith_free(set);
}
