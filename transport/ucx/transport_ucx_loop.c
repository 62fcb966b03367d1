/* The I/O thread: takes what other threads handed it, lets UCX progress, does what is due, sleeps.
 *
 * Nothing is lost between looking and sleeping: `is_asleep` is set before the last look at the queue, and whoever adds to
 * the queue looks at `is_asleep` after (both sequentially consistent); UCX is armed after it had nothing more to do. */
#include <errno.h>
#include <poll.h>
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

void ucx_wake(ucx_transport *transport) {
    if (!atomic_exchange(&transport->is_asleep, false)) return;
    uint64_t one = 1;
    ssize_t written = write(transport->wake_fd, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

void ucx_post(ucx_transport *transport, ucx_item *item) {
    ucx_item *first = atomic_load_explicit(&transport->items, memory_order_relaxed);
    do {
        item->next = first;
    } while (!atomic_compare_exchange_weak(&transport->items, &first, item));
    if (atomic_load(&transport->is_asleep)) ucx_wake(transport);
}

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

static bool run_items(ucx_transport *transport) {
    ucx_item *item = take_items(transport);
    bool any = item != NULL;
    while (item) {
        ucx_item *next = item->next; /* running it may free it */
        item->run(transport, item);
        item = next;
    }
    return any;
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

static void watch(ucx_transport *transport) {
    bool wanted = atomic_exchange_explicit(&transport->cancel_is_wanted, false, memory_order_acquire);
    bool due = transport->watched_count > 0 && transport->now_ns >= transport->watch_ns;
    if (!wanted && !due) return;
    transport->watch_ns = transport->now_ns + WATCH_NS;
    ucx_calls_watch(transport);
}

static uint64_t next_due_ns(const ucx_transport *transport) {
    uint64_t due_ns = transport->tick_ns;
    if (transport->watched_count > 0 && transport->watch_ns < due_ns) due_ns = transport->watch_ns;
    if (transport->heap_count > 0 && ucx_public_of(transport->heap[0])->deadline_ns < due_ns)
        due_ns = ucx_public_of(transport->heap[0])->deadline_ns;
    return due_ns;
}

/* --- rounds --- */

static bool progress(ucx_transport *transport) {
    bool any = false;
    for (int i = 0; i < PROGRESS_MAX && ucp_worker_progress(transport->worker) > 0; i++)
        any = true;
    return any;
}

/* Whether there was something to do. */
static bool round_run(ucx_transport *transport) {
    transport->now_ns = kith_env_now_ns(transport->env);
    bool any = run_items(transport);
    any |= progress(transport);
    any |= transport->accept_first || transport->doomed_first;
    ucx_links_accept(transport);
    ucx_links_cut_doomed(transport);
    ucx_calls_expire(transport);
    watch(transport);
    tick(transport);
    return any;
}

static void drain_wake_fd(ucx_transport *transport) {
    uint64_t count;
    ssize_t got = read(transport->wake_fd, &count, sizeof count);
    (void)got; /* nothing there: somebody is about to write, or UCX woke us */
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
    if (idle) (void)ppoll(watched, 2, &timeout, NULL);
    if (!atomic_exchange(&transport->is_asleep, false)) drain_wake_fd(transport);
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
