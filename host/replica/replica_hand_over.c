/* Planned: before a node stops, what it leads goes to others, so that no write waits for a failure to be noticed. */
#include "host/replica/replica_internal.h"

#define LOOK_NS (5 * MS_NS)

/* It leads, and somebody else could. */
static bool is_to_go(const replica *own) {
    const kith_replica_status *status = &own->shown.status;
    if (own->let_go || !own->step) return false;
    if (status->role != KITH_REPLICA_PRIMARY && status->role != KITH_REPLICA_TAKING_OVER) return false;
    return (status->config.in_sync & ~1u) != 0;
}

/* Once an epoch, as soon as it leads: it must have taken over before it can hand over. */
static void hand_over(replica *own, uint64_t now_ns) {
    if (own->shown.status.role != KITH_REPLICA_PRIMARY) return;
    if (own->handed_over_epoch == own->shown.status.epoch) return;
    own->handed_over_epoch = own->shown.status.epoch;
    kith_replica_step_hand_over(own->step, now_ns);
    replica_after_event(own);
}

void replica_hand_over_tick(kith_replica_set *set, uint64_t now_ns) {
    if (set->hand_over_due_ns == UINT64_MAX) return;
    uint32_t left = 0;
    for (replica *own = set->replicas; own; own = own->next) {
        if (!is_to_go(own)) continue;
        if (!set->stopped) hand_over(own, now_ns);
        left += is_to_go(own);
    }
    set->hand_over_due_ns = now_ns < UINT64_MAX - LOOK_NS ? now_ns + LOOK_NS : UINT64_MAX;
    if (left > 0 && now_ns < set->hand_over_deadline_ns) return;
    set->hand_over_due_ns = UINT64_MAX;
    set->hand_over_done(set->hand_over_ctx, left);
}

static void hand_over_run(kith_task *task) {
    kith_replica_set *set =
        (kith_replica_set *)(void *)((char *)task - offsetof(kith_replica_set, hand_over_task));
    set->hand_over_due_ns = replica_now_ns(set);
    replica_hand_over_tick(set, set->stopped ? UINT64_MAX : set->hand_over_due_ns);
    if (set->hand_over_due_ns != UINT64_MAX) replica_timer_want(set, set->hand_over_due_ns);
}

void kith_replica_set_hand_over(
    kith_replica_set *set, uint64_t deadline_ns, void (*done)(void *ctx, uint32_t left), void *ctx) {
    set->hand_over_deadline_ns = deadline_ns;
    set->hand_over_done = done;
    set->hand_over_ctx = ctx;
    set->hand_over_task.run = hand_over_run;
    kith_executor_post(set->owner, &set->hand_over_task);
}
