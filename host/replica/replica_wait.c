/* Reads and writes that wait until this replica may answer them. */
#include "host/replica/replica_internal.h"

/* How long a read or write waits for a replica that is about to take over: above what that takes, so that a planned change
 * fails nothing. */
#define TAKE_OVER_NS (3000 * MS_NS)

typedef struct wait_impl {
    kith_task task;
    kith_replica_set *set;
    kith_replica_wait *next;
    uint64_t sequence; /* that is to be applied; UINT64_MAX: it waits for this replica to take over */
    uint64_t until_ns;
} wait_impl;
_Static_assert(sizeof(wait_impl) <= sizeof((kith_replica_wait){0}.impl), "it fits its place");

static wait_impl *impl_of(kith_replica_wait *wait) {
    return (wait_impl *)(void *)wait->impl;
}

static void wait_fail(kith_replica_wait *wait, kith_status status, const char *why) {
    kith_err err;
    kith_err_set(&err, status, "shard %llu %s", (unsigned long long)wait->shard_id, why);
    wait->done(wait, status, &err);
}

/* --- without the owner --- */

static bool shown_suffices(const replica_shown *shown, const kith_replica_wait *wait, uint64_t now_ns) {
    if (!shown->is_open) return false;
    if (wait->is_write) return shown->status.role == KITH_REPLICA_PRIMARY;
    switch (wait->read) {
    case KITH_REPLICA_READ_ANY:
        return shown->status.role != KITH_REPLICA_IDLE;
    case KITH_REPLICA_READ_TOKEN:
        return !shown->status.awaits_copy && shown->applied >= wait->token_sequence;
    case KITH_REPLICA_READ_PRIMARY:
        if (shown->status.role != KITH_REPLICA_PRIMARY) return false;
        break;
    case KITH_REPLICA_READ_IN_SYNC:
        break;
    default:
        return false;
    }
    return now_ns < shown->status.leased_until_ns && shown->applied >= shown->needed;
}

static bool is_known_good(kith_replica_set *set, const kith_replica_wait *wait) {
    uint64_t found, now_ns = replica_now_ns(set);
    bool is_good = false;
    kith_mutex_lock(&set->mutex);
    if (kith_map_get(set->by_id, &wait->shard_id, sizeof wait->shard_id, &found))
        is_good = shown_suffices(&((const replica *)(uintptr_t)found)->shown, wait, now_ns);
    kith_mutex_unlock(&set->mutex);
    return is_good;
}

/* --- on the owner --- */

static void wait_add(replica *own, kith_replica_wait *wait, uint64_t until_ns) {
    impl_of(wait)->until_ns = until_ns;
    impl_of(wait)->next = own->waits;
    own->waits = wait;
    if (until_ns < own->waits_due_ns) own->waits_due_ns = until_ns;
    replica_timer_want(own->set, own->waits_due_ns);
}

static bool is_taking_over(const replica *own) {
    return own->shown.status.role == KITH_REPLICA_TAKING_OVER;
}

static kith_status wait_status(replica *own, kith_replica_wait *wait, uint64_t now_ns, kith_err *err) {
    if (wait->is_write && !is_taking_over(own)) return KITH_OK; /* whether it leads, its gate says */
    return kith_replica_step_read(own->step, wait->is_write ? KITH_REPLICA_READ_PRIMARY : wait->read,
        wait->token_sequence, now_ns, &impl_of(wait)->sequence, err);
}

/* A replica that is to lead and whose files are CORRUPT waits for another that is in sync, perhaps for ever: who asks is told why. */
static bool is_corrupt(const replica *own, kith_err *err) {
    return is_taking_over(own) && kith_shard_health(own->shard, err) == KITH_CORRUPT;
}

static void wait_on(replica *own, kith_replica_wait *wait) {
    kith_err err;
    uint64_t now_ns = replica_now_ns(own->set);
    impl_of(wait)->sequence = 0;
    kith_status status = wait_status(own, wait, now_ns, &err);
    if (status != KITH_OK && is_corrupt(own, &err)) {
        wait->done(wait, KITH_CORRUPT, &err);
    } else if (status != KITH_OK && is_taking_over(own) && now_ns < wait->deadline_ns) {
        uint64_t until_ns = now_ns + TAKE_OVER_NS;
        impl_of(wait)->sequence = UINT64_MAX;
        wait_add(own, wait, until_ns < wait->deadline_ns ? until_ns : wait->deadline_ns);
    } else if (status != KITH_OK) {
        wait->done(wait, status, &err);
    } else if (own->applied >= impl_of(wait)->sequence) {
        wait->done(wait, KITH_OK, NULL);
    } else if (now_ns >= wait->deadline_ns) {
        wait_fail(wait, KITH_DEADLINE, "had not applied what the read asks for before its deadline");
    } else {
        wait_add(own, wait, wait->deadline_ns);
    }
}

static void wait_run(kith_task *task) {
    wait_impl *impl = (wait_impl *)(void *)task;
    kith_replica_wait *wait = (kith_replica_wait *)(void *)((char *)impl - offsetof(kith_replica_wait, impl));
    kith_replica_set *set = impl->set;
    replica *own = replica_find(set, wait->shard_id);
    if (set->stopped)
        wait_fail(wait, KITH_CLOSED, "is on a node that is shutting down");
    else if (!own)
        wait_fail(wait, KITH_STALE_MAP, "is not on this node");
    else if (!own->step || !own->shard)
        wait_fail(wait, KITH_UNAVAILABLE, "is not ready on this node");
    else
        wait_on(own, wait);
}

void kith_replica_wait_start(kith_replica_set *set, kith_replica_wait *wait) {
    if (is_known_good(set, wait)) {
        wait->done(wait, KITH_OK, NULL);
        return;
    }
    *impl_of(wait) = (wait_impl){.task = {.run = wait_run}, .set = set};
    kith_executor_post(set->owner, &impl_of(wait)->task);
}

/* --- those that wait --- */

/* Taken out of the list before they are told: they may start others. */
static kith_replica_wait *take_if(replica *own,
    bool (*is_over)(const replica *own, kith_replica_wait *wait, uint64_t now_ns), uint64_t now_ns) {
    kith_replica_wait *taken = NULL, **link = &own->waits;
    own->waits_due_ns = UINT64_MAX;
    while (*link) {
        kith_replica_wait *wait = *link;
        if (is_over(own, wait, now_ns)) {
            *link = impl_of(wait)->next;
            impl_of(wait)->next = taken;
            taken = wait;
            continue;
        }
        if (impl_of(wait)->until_ns < own->waits_due_ns) own->waits_due_ns = impl_of(wait)->until_ns;
        link = &impl_of(wait)->next;
    }
    return taken;
}

static bool is_applied(const replica *own, kith_replica_wait *wait, uint64_t now_ns) {
    (void)now_ns;
    return own->applied >= impl_of(wait)->sequence;
}

static bool is_late(const replica *own, kith_replica_wait *wait, uint64_t now_ns) {
    (void)own;
    return now_ns >= impl_of(wait)->until_ns;
}

static bool is_parked(const replica *own, kith_replica_wait *wait, uint64_t now_ns) {
    (void)own;
    (void)now_ns;
    return impl_of(wait)->sequence == UINT64_MAX;
}

static bool is_any(const replica *own, kith_replica_wait *wait, uint64_t now_ns) {
    (void)own;
    (void)wait;
    (void)now_ns;
    return true;
}

static void fail_all(kith_replica_wait *wait, kith_status status, const char *why) {
    while (wait) {
        kith_replica_wait *next = impl_of(wait)->next;
        wait_fail(wait, status, why);
        wait = next;
    }
}

void replica_waits_applied(replica *own) {
    if (!own->waits) return;
    kith_replica_wait *wait = take_if(own, is_applied, 0);
    while (wait) {
        kith_replica_wait *next = impl_of(wait)->next;
        wait->done(wait, KITH_OK, NULL);
        wait = next;
    }
}

void replica_waits_look(replica *own) {
    if (!own->waits || is_taking_over(own)) return;
    kith_replica_wait *wait = take_if(own, is_parked, 0);
    while (wait) {
        kith_replica_wait *next = impl_of(wait)->next;
        wait_on(own, wait);
        wait = next;
    }
}

void replica_waits_tick(replica *own, uint64_t now_ns) {
    kith_replica_wait *wait = take_if(own, is_late, now_ns);
    while (wait) {
        kith_replica_wait *next = impl_of(wait)->next;
        if (impl_of(wait)->sequence == UINT64_MAX)
            wait_fail(wait, KITH_UNAVAILABLE, "is being taken over by this node");
        else
            wait_fail(wait, KITH_DEADLINE, "had not applied what the read asks for before its deadline");
        wait = next;
    }
}

void replica_waits_end(replica *own, kith_status status, const char *why) {
    fail_all(take_if(own, is_any, 0), status, why);
}
