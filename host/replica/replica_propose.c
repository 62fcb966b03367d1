/* Changes of configurations, through the metadata, and the map pulled when someone knows a newer one.
 *
 * A command carries the changes of many shards. Its answer says only that some of them took place, so a change whose asker must
 * know that it was its very own goes alone: that of a process which leads in an epoch that it found, and changes nothing but
 * the epoch (replica_step.h, rule 3).
 *
 * A follower that is broken takes itself out of those in sync: its primary would after some silence, but when the primary goes first, the coordinators
 * would make one primary that cannot serve. That is a change as when they take a member away: nobody who leads or is about to
 * counts less than before. The step machine is not asked, for it proposes only where it leads. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

#define CHANGES_IN_FLIGHT_MAX 16u
#define DEADLINE_NS           (3000 * MS_NS)
#define BACKOFF_NS_MIN        (50 * MS_NS)
#define BACKOFF_NS_MAX        (1000 * MS_NS)
#define LEAVE_AGAIN_NS        (500 * MS_NS)
#define PULL_DEADLINE_NS      (2000 * MS_NS)
#define PULL_NS               (50 * MS_NS)

struct replica_change {
    kith_meta_proposal proposal;
    kith_task task;
    kith_replica_set *set;
    uint32_t count;
    replica **replicas;                    /* [count] */
    kith_codec_meta_shard_change *changes; /* [count] */
    kith_status status;
    bool is_leave; /* of replicas that are broken */
    bool changed;
    kith_err err;
};

/* --- the queue --- */

static replica *queue_take(kith_replica_set *set) {
    replica *own = set->queue_first;
    set->queue_first = own->queue_next;
    if (!set->queue_first) set->queue_last = NULL;
    own->is_queued = false;
    return own;
}

static void queue_push(replica *own) {
    kith_replica_set *set = own->set;
    own->queue_next = NULL;
    if (set->queue_last)
        set->queue_last->queue_next = own;
    else
        set->queue_first = own;
    set->queue_last = own;
    own->is_queued = true;
}

void replica_propose_forget(replica *own) {
    replica **link = &own->set->queue_first, *last = NULL;
    if (!own->is_queued) return;
    while (*link != own) {
        last = *link;
        link = &last->queue_next;
    }
    *link = own->queue_next;
    if (own->set->queue_last == own) own->set->queue_last = last;
    own->is_queued = false;
}

/* --- the answer --- */

static bool is_unanswered(const replica_change *change) {
    return change->status >= KITH_BUSY;
}

static kith_replica_proposal outcome_of(const replica_change *change, uint32_t index) {
    if (change->status == KITH_OK) {
        const replica *own = change->replicas[index];
        if (!change->changed) return KITH_REPLICA_PROPOSAL_REFUSED;
        if (change->count == 1) return KITH_REPLICA_PROPOSAL_DONE;
        bool stands =
            own->config.epoch <= change->changes[index].shard.epoch; /* the map has what the command made */
        return stands ? KITH_REPLICA_PROPOSAL_REFUSED : KITH_REPLICA_PROPOSAL_UNKNOWN;
    }
    return is_unanswered(change) ? KITH_REPLICA_PROPOSAL_UNKNOWN : KITH_REPLICA_PROPOSAL_REFUSED;
}

/* Where nobody answers all wait. A refusal is one shard's: its step machine, or its turn to leave, waits before it asks again. */
static void backoff(kith_replica_set *set, const replica_change *change) {
    if (change->status != KITH_OK)
        kith_log_warn("replica_proposal_failed", kith_kv_u64("shard", change->changes[0].shard_id),
            kith_kv_u64("shards", change->count), kith_kv_text("reason", change->err.text));
    if (!is_unanswered(change)) {
        set->propose_backoff_ns = 0;
        return;
    }
    uint64_t twice_ns = 2 * set->propose_backoff_ns;
    set->propose_backoff_ns = twice_ns < BACKOFF_NS_MIN   ? BACKOFF_NS_MIN
                              : twice_ns > BACKOFF_NS_MAX ? BACKOFF_NS_MAX
                                                          : twice_ns;
    set->propose_not_before_ns = replica_now_ns(set) + set->propose_backoff_ns;
}

static void change_free(replica_change *change) {
    kith_free(change->replicas);
    kith_free(change->changes);
    kith_free(change);
}

static void pump(kith_replica_set *set);
static void leave_ended(kith_task *task);

static void change_ended(kith_task *task) {
    replica_change *change = (replica_change *)(void *)((char *)task - offsetof(replica_change, task));
    kith_replica_set *set = change->set;
    set->changes_in_flight--;
    backoff(set, change);
    for (uint32_t i = 0; i < change->count; i++) {
        replica *own = change->replicas[i];
        if (!own->let_go && !set->stopped) {
            kith_replica_step_proposed(own->step, outcome_of(change, i), replica_now_ns(set));
            own->alone_epoch = 0;
            replica_configure(own);
        }
        replica_unuse(set, own);
    }
    change_free(change);
    pump(set);
}

/* On the metadata's executor. The map that shows the change was given to kith_replica_set_map before. */
static void change_done(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    replica_change *change = (replica_change *)proposal;
    (void)collection;
    change->status = status;
    change->changed = changed;
    if (status != KITH_OK) change->err = *err;
    change->task.run = change->is_leave ? leave_ended : change_ended;
    kith_executor_post(change->set->owner, &change->task);
}

/* --- the command --- */

static bool changes_only_epoch(const replica *own) {
    const kith_replica_config *now = &own->config, *wanted = &own->wanted;
    return now->replica_count == wanted->replica_count && now->in_sync == wanted->in_sync &&
           memcmp(now->replicas, wanted->replicas, now->replica_count * sizeof *now->replicas) == 0;
}

static void change_add(replica_change *change, replica *own, const kith_replica_config *wanted) {
    kith_codec_meta_shard_change *entry = &change->changes[change->count];
    *entry = (kith_codec_meta_shard_change){.shard_id = own->shard_id,
        .shard = {
            .epoch = wanted->epoch, .replica_count = wanted->replica_count, .in_sync = wanted->in_sync}};
    memcpy(entry->shard.replicas, wanted->replicas, sizeof entry->shard.replicas);
    change->replicas[change->count++] = own;
    replica_use(own->set, own);
}

static void change_reserve(replica_change *change, kith_replica_set *set, uint32_t most) {
    change->set = set;
    change->replicas = kith_alloc_array(most, sizeof(replica *));
    change->changes = kith_alloc_array(most, sizeof *change->changes);
}

/* Takes from the queue what may go together. */
static replica_change *change_create(kith_replica_set *set) {
    replica_change *change = kith_alloc_zero(sizeof *change);
    uint32_t most = 0;
    for (const replica *own = set->queue_first; own && most < KITH_META_SHARD_CHANGES_MAX;
         own = own->queue_next)
        most++;
    change_reserve(change, set, most);
    bool goes_alone = changes_only_epoch(set->queue_first);
    do {
        replica *own = queue_take(set);
        change_add(change, own, &own->wanted);
        if (goes_alone) change->replicas[0]->alone_epoch = change->changes[0].shard.epoch + 1;
    } while (!goes_alone && change->count < most && !changes_only_epoch(set->queue_first));
    return change;
}

static void change_start(kith_replica_set *set, replica_change *change) {
    set->changes_in_flight++;
    change->proposal = (kith_meta_proposal){
        .command = {.kind = KITH_CODEC_META_CHANGE_SHARDS,
            .changes = change->changes,
            .change_count = change->count},
        .deadline_ns = replica_now_ns(set) + DEADLINE_NS,
        .done = change_done,
    };
    kith_meta_propose(set->options.meta, &change->proposal);
}

static void pump(kith_replica_set *set) {
    if (set->stopped || replica_now_ns(set) < set->propose_not_before_ns) return;
    while (set->queue_first && set->changes_in_flight < CHANGES_IN_FLIGHT_MAX)
        change_start(set, change_create(set));
}

static void pump_run(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, pump_task));
    set->pump_posted = false;
    pump(set);
    if (set->queue_first) replica_timer_want(set, replica_propose_due_ns(set));
    replica_unuse(set, NULL);
}

/* Sent in a task of its own, so that shards which want something at the same time share a command. */
void replica_propose(replica *own, const kith_replica_config *wanted) {
    kith_replica_set *set = own->set;
    if (wanted->replicas[0] != set->self)
        kith_log_info("replica_makes_way", kith_kv_u64("shard", own->shard_id),
            kith_kv_u64("to", wanted->replicas[0]), kith_kv_u64("epoch", wanted->epoch));
    own->wanted = *wanted;
    if (!own->is_queued) queue_push(own);
    if (set->pump_posted) return;
    set->pump_posted = true;
    set->pump_task.run = pump_run;
    replica_use(set, NULL);
    kith_executor_post(set->owner, &set->pump_task);
}

void replica_propose_tick(kith_replica_set *set, uint64_t now_ns) {
    if (set->queue_first) pump(set);
    if (set->pull_again && !set->pulling && now_ns >= set->pull_not_before_ns) replica_pull_map(set);
}

uint64_t replica_propose_due_ns(const kith_replica_set *set) {
    uint64_t due_ns = UINT64_MAX;
    if (set->queue_first && set->changes_in_flight < CHANGES_IN_FLIGHT_MAX)
        due_ns = set->propose_not_before_ns;
    if (set->pull_again && !set->pulling && set->pull_not_before_ns < due_ns)
        due_ns = set->pull_not_before_ns;
    return due_ns;
}

/* --- replicas that are broken leave --- */

/* Its bit among those in sync; 0: it is not. */
static uint8_t in_sync_bit(const replica *own) {
    for (uint32_t i = 0; i < own->config.replica_count; i++) {
        if (own->config.replicas[i] == own->set->self) return own->config.in_sync & (uint8_t)(1u << i);
    }
    return 0;
}

static bool is_to_leave(const replica *own) {
    return own->is_broken && !own->let_go && in_sync_bit(own) > 1u;
}

void replica_leave_look(replica *own) {
    if (own->is_leaving || !is_to_leave(own)) return;
    if (own->leave_due_ns == UINT64_MAX) own->leave_due_ns = replica_now_ns(own->set);
    replica_timer_want(own->set, own->leave_due_ns);
}

static void leave_ended(kith_task *task) {
    replica_change *change = (replica_change *)(void *)((char *)task - offsetof(replica_change, task));
    kith_replica_set *set = change->set;
    set->changes_in_flight--;
    backoff(set, change);
    for (uint32_t i = 0; i < change->count; i++) {
        replica *own = change->replicas[i];
        own->is_leaving = false;
        own->leave_due_ns = UINT64_MAX;
        if (is_to_leave(own) && !set->stopped) {
            own->leave_due_ns = replica_now_ns(set) + LEAVE_AGAIN_NS;
            replica_timer_want(set, own->leave_due_ns);
        }
        replica_unuse(set, own);
    }
    change_free(change);
    pump(set);
}

static void leave_add(replica_change *change, replica *own) {
    kith_replica_config wanted = own->config;
    wanted.in_sync &= (uint8_t)~in_sync_bit(own);
    kith_log_warn("replica_leaves", kith_kv_u64("shard", own->shard_id), kith_kv_u64("epoch", wanted.epoch));
    own->is_leaving = true;
    own->leave_due_ns = UINT64_MAX;
    change_add(change, own, &wanted);
}

void replica_leave_tick(kith_replica_set *set, uint64_t now_ns) {
    replica_change *change = NULL;
    for (replica *own = set->replicas; own; own = own->next) {
        if (own->leave_due_ns > now_ns) continue;
        own->leave_due_ns = UINT64_MAX;
        if (!is_to_leave(own)) continue;
        if (!change) {
            change = kith_alloc_zero(sizeof *change);
            change->is_leave = true;
            change_reserve(change, set, KITH_META_SHARD_CHANGES_MAX);
        }
        leave_add(change, own);
        if (change->count < KITH_META_SHARD_CHANGES_MAX) continue;
        change_start(set, change);
        change = NULL;
    }
    if (change) change_start(set, change);
}

/* --- the newest map --- */

static void pulled_run(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, pull_task));
    set->pulling = false;
    set->pull_not_before_ns = replica_now_ns(set) + PULL_NS;
    if (set->pull_again) replica_timer_want(set, set->pull_not_before_ns);
    replica_unuse(set, NULL);
}

/* On the metadata's executor. */
static void pulled(kith_meta_wait *wait, kith_status status, const kith_err *err) {
    kith_replica_set *set = (kith_replica_set *)(void *)((char *)wait - offsetof(kith_replica_set, pull));
    (void)status; /* whoever still lacks it asks again */
    (void)err;
    set->pull_task.run = pulled_run;
    kith_executor_post(set->owner, &set->pull_task);
}

void replica_pull_map(kith_replica_set *set) {
    uint64_t now_ns = replica_now_ns(set);
    set->pull_again = set->pulling || now_ns < set->pull_not_before_ns;
    if (set->stopped || set->pulling) return;
    if (set->pull_again) {
        replica_timer_want(set, set->pull_not_before_ns);
        return;
    }
    set->pulling = true;
    set->pull = (kith_meta_wait){
        .map_version = KITH_META_NEWEST, .deadline_ns = now_ns + PULL_DEADLINE_NS, .done = pulled};
    replica_use(set, NULL);
    kith_meta_wait_start(set->options.meta, &set->pull);
}
