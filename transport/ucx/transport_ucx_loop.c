/* The I/O thread: takes what other threads handed it, lets UCX progress, does what is due, sleeps.
 *
 * Nothing is lost between looking and sleeping: `is_asleep` is set before the last look at the queue, and whoever adds to
 * the queue looks at `is_asleep` after (both sequentially consistent); UCX is armed after it had nothing more to do.
 *
 * While it sleeps, its turn is free: a thread with a small message sends it itself, which saves a wake-up, and leaves the I/O
 * thread asleep unless UCX has not finished with it or something is due earlier now. UCX stays armed meanwhile: what a send
 * leads to is an event like any other. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include "transport/ucx/transport_ucx_internal.h"

/* Between two looks at the queue. A guess. */
#define PROGRESS_MAX 64
/* How soon a set cancel_watch is seen. */
#define WATCH_NS (10 * NS_PER_MS)
/* How long memory for long bodies is kept unused, at least. A guess. */
#define TRIM_NS (5 * NS_PER_S)
/* How long others get to hear a goodbye. */
#define GOODBYE_NS (200 * NS_PER_MS)

/* --- the queue --- */

static void wake_fd_write(ucx_transport *transport) {
    uint64_t one = 1;
    ssize_t written = write(transport->wake_fd, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

void ucx_wake(ucx_transport *transport) {
    if (atomic_exchange(&transport->is_asleep, false)) wake_fd_write(transport);
}

void ucx_post(ucx_transport *transport, ucx_item *item) {
    ucx_item *first = atomic_load_explicit(&transport->items, memory_order_relaxed);
    do {
        item->next = first;
    } while (!atomic_compare_exchange_weak(&transport->items, &first, item));
    if (atomic_load(&transport->is_asleep)) ucx_wake(transport);
}

/* --- the turn --- */

/* acquire: pairs with the release of whoever had it. */
static bool turn_change(ucx_transport *transport, uint32_t from, ucx_turn to) {
    return atomic_compare_exchange_strong_explicit(
        &transport->turn, &from, to, memory_order_acquire, memory_order_relaxed);
}

bool ucx_turn_take(ucx_transport *transport) {
    if (!turn_change(transport, UCX_TURN_FREE, UCX_TURN_BORROWED)) return false;
    transport->now_ns = kith_env_now_ns(transport->env);
    transport->has_unfinished_sends = false;
    return true;
}

static uint64_t next_due_ns(const ucx_transport *transport) {
    uint64_t due_ns = transport->tick_ns < transport->watch_ns ? transport->tick_ns : transport->watch_ns;
    if (transport->heap_count > 0 && ucx_public_of(transport->heap[0])->deadline_ns < due_ns)
        due_ns = ucx_public_of(transport->heap[0])->deadline_ns;
    return due_ns;
}

void ucx_turn_give(ucx_transport *transport) {
    uint32_t expected = UCX_TURN_BORROWED;
    if (transport->has_unfinished_sends || transport->doomed_first ||
        next_due_ns(transport) < transport->sleep_ns)
        ucx_wake(transport);
    /* release: pairs with the acquire of the next; the last that is touched of the transport. */
    if (atomic_compare_exchange_strong_explicit(
            &transport->turn, &expected, UCX_TURN_FREE, memory_order_release, memory_order_relaxed))
        return;
    wake_fd_write(transport);
    atomic_store_explicit(&transport->turn, UCX_TURN_LOOP, memory_order_release);
}

static void drain_wake_fd(ucx_transport *transport) {
    uint64_t count;
    ssize_t got = read(transport->wake_fd, &count, sizeof count);
    (void)got; /* nothing there: somebody is about to write, or UCX woke us */
}

/* Of the I/O thread, awake again. Who has borrowed the turn is in the middle of a message, and hands it over when it is done:
 * nobody can take it in between. When something else wakes the I/O thread first, the rest is waited for awake. */
static void turn_take_back(ucx_transport *transport) {
    struct pollfd watched = {.fd = transport->wake_fd, .events = POLLIN};
    while (!turn_change(transport, UCX_TURN_FREE, UCX_TURN_LOOP)) {
        if (!turn_change(transport, UCX_TURN_BORROWED, UCX_TURN_WANTED)) continue; /* given back just now */
        (void)poll(&watched, 1, -1);
        drain_wake_fd(transport);
        while (atomic_load_explicit(&transport->turn, memory_order_acquire) != UCX_TURN_LOOP)
            sched_yield();
        return;
    }
}

/* --- what the queue holds --- */

static ucx_item *take_items(ucx_transport *transport) {
    if (!atomic_load_explicit(&transport->items, memory_order_relaxed)) return NULL;
    ucx_item *newest = atomic_exchange(&transport->items, NULL), *oldest = NULL;
    while (newest) {
        ucx_item *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void run_items(ucx_transport *transport) {
    ucx_item *item = take_items(transport);
    while (item) {
        ucx_item *next = item->next; /* running it may free it */
        item->run(transport, item);
        item = next;
    }
}

/* --- time --- */

static uint64_t tick_interval_ns(const ucx_transport *transport) {
    return transport->ping_interval_ns / 4 < 10 * NS_PER_MS ? 10 * NS_PER_MS
                                                            : transport->ping_interval_ns / 4;
}

/* When this very process was stopped or starved, silence says nothing about others. */
static void forgive_silence(ucx_transport *transport) {
    for (ucx_link *link = transport->link_first; link; link = link->next)
        link->heard_ns = transport->now_ns;
}

static void tick(ucx_transport *transport) {
    if (transport->now_ns < transport->tick_ns) return;
    if (transport->now_ns - transport->tick_ns > transport->ping_interval_ns) forgive_silence(transport);
    transport->tick_ns = transport->now_ns + tick_interval_ns(transport);
    ucx_links_tick(transport);
    ucx_peers_tick(transport);
    if (transport->now_ns < transport->trim_ns) return;
    transport->trim_ns = transport->now_ns + TRIM_NS;
    ucx_pool_trim(&transport->pool);
}

/* Looks go on for one interval after the last call that wants them: as long as such calls come, none of them has the I/O
 * thread woken for their sake. */
void ucx_watch_want(ucx_transport *transport) {
    transport->watched_count++;
    transport->was_watched = true;
    if (transport->watch_ns == UINT64_MAX) transport->watch_ns = transport->now_ns + WATCH_NS;
}

static void watch(ucx_transport *transport) {
    bool wanted = atomic_load_explicit(&transport->cancel_is_wanted, memory_order_relaxed) &&
                  atomic_exchange_explicit(&transport->cancel_is_wanted, false, memory_order_acquire);
    bool due = transport->now_ns >= transport->watch_ns;
    if (!wanted && !due) return;
    if (due) {
        transport->watch_ns = transport->was_watched ? transport->now_ns + WATCH_NS : UINT64_MAX;
        transport->was_watched = transport->watched_count > 0;
    }
    if (wanted || transport->watched_count > 0) ucx_calls_watch(transport);
}

/* --- rounds --- */

/* Until UCX has nothing to do. What its callbacks led to, such as an answer, goes out before the next look. */
static void progress(ucx_transport *transport) {
    for (int i = 0; i < PROGRESS_MAX; i++) {
        transport->has_asked_ucx = ucp_worker_progress(transport->worker) > 0;
        run_items(transport);
        if (!transport->has_asked_ucx) return;
    }
}

/* Whether UCX may have something to do again. */
static bool round_run(ucx_transport *transport) {
    transport->now_ns = kith_env_now_ns(transport->env);
    run_items(transport);
    progress(transport);
    ucx_links_accept(transport);
    ucx_links_cut_doomed(transport);
    ucx_calls_expire(transport);
    watch(transport);
    tick(transport);
    return transport->has_asked_ucx || transport->accept_first || transport->doomed_first;
}

static void sleep_until(ucx_transport *transport, uint64_t due_ns) {
    struct pollfd watched[] = {
        {.fd = transport->wake_fd, .events = POLLIN}, {.fd = transport->worker_fd, .events = POLLIN}};
    uint64_t now_ns = kith_env_now_ns(transport->env);
    uint64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / NS_PER_S), .tv_nsec = (long)(wait_ns % NS_PER_S)};
    atomic_store(&transport->is_asleep, true);
    bool idle = !atomic_load(&transport->items) && !atomic_load(&transport->cancel_is_wanted) &&
                atomic_load(&transport->is_stopping) == transport->was_stopping &&
                ucp_worker_arm(transport->worker) == UCS_OK;
    if (idle) {
        transport->sleep_ns = due_ns;
        /* release: pairs with the acquire of who borrows it. */
        atomic_store_explicit(&transport->turn, UCX_TURN_FREE, memory_order_release);
        (void)ppoll(watched, 2, &timeout, NULL);
        turn_take_back(transport);
    }
    /* What is there must go in any case: whoever wakes may write only after something else has woken this thread, and it has
     * gone to sleep again. */
    if (!atomic_exchange(&transport->is_asleep, false) || watched[0].revents) drain_wake_fd(transport);
}

/* --- the end --- */

static bool is_quiet(const ucx_transport *transport) {
    /* acquire: pairs with the release of the last local call, whose `done` has returned. */
    return transport->request_count == 0 && transport->ending_count == 0 &&
           atomic_load_explicit(&transport->local_undone, memory_order_acquire) == 0 &&
           !atomic_load(&transport->items);
}

static bool any_link(const ucx_transport *transport, bool closing_too) {
    for (const ucx_link *link = transport->link_first; link; link = link->next)
        if (closing_too || link->state != UCX_LINK_CLOSING) return true;
    return false;
}

/* Rounds until `no_link`, or for `wait_ns`. */
static void rounds_without_links(ucx_transport *transport, bool closing_too, uint64_t wait_ns) {
    uint64_t end_ns = kith_env_now_ns(transport->env) + wait_ns;
    while (any_link(transport, closing_too) && transport->now_ns < end_ns)
        if (!round_run(transport)) sleep_until(transport, transport->now_ns + NS_PER_MS);
}

/* Handlers answer first, then everyone hears a goodbye and hangs up; who does not is cut. */
static void stop(ucx_transport *transport) {
    transport->was_stopping = true;
    ucx_calls_close(transport);
    while (!is_quiet(transport))
        if (!round_run(transport)) sleep_until(transport, transport->now_ns + NS_PER_MS);
    ucx_links_leave(transport);
    rounds_without_links(transport, false, GOODBYE_NS);
    for (ucx_link *link = transport->link_first; link; link = link->next)
        ucx_link_doom(link, KITH_CLOSED, "this node is shutting down");
    rounds_without_links(transport, true, GOODBYE_NS);
}

void ucx_loop_run(void *arg) {
    ucx_transport *transport = arg;
    transport->now_ns = kith_env_now_ns(transport->env);
    transport->tick_ns = transport->now_ns;
    /* acquire: pairs with the release in destroy. */
    while (!atomic_load_explicit(&transport->is_stopping, memory_order_acquire)) {
        bool any = round_run(transport);
        if (!any && !transport->busy_poll) sleep_until(transport, next_due_ns(transport));
    }
    stop(transport);
}
