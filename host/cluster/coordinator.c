/* The life of a coordinator, and what its log tells it. */
#include "host/cluster/coordinator.h"

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/cluster/coordinator_internal.h"

/* --- answers --- */

void coordinator_fail(
    kith_coordinator *coordinator, kith_transport_request *request, kith_status status, const kith_err *err) {
    kith_err elsewhere;
    if (status == KITH_NOT_LEADER) {
        kith_err_set(&elsewhere, status, "%s", coordinator->leading ? "" : coordinator->leader.address);
        err = &elsewhere;
    }
    kith_transport_reply(request, coordinator->options.transport, status, NULL, 0, err);
}

bool coordinator_refuses(
    kith_coordinator *coordinator, kith_transport_request *request, coordinator_need need) {
    kith_err err;
    kith_status status = KITH_OK;
    if (coordinator->closed) {
        status = kith_err_set(&err, KITH_CLOSED, "this coordinator is shutting down");
    } else if (need != COORDINATOR_OPEN && !coordinator->started) {
        status = kith_err_set(&err, KITH_UNAVAILABLE, "this coordinator is starting");
    } else if (need == COORDINATOR_LEADING && !coordinator->leading) {
        status = KITH_NOT_LEADER;
    }
    if (status == KITH_OK) return false;
    coordinator_fail(coordinator, request, status, &err);
    return true;
}

/* --- what the log tells --- */

static void map_changed(kith_coordinator *coordinator) {
    if (coordinator->synced_version == coordinator->options.fsm->state.map_version) return;
    coordinator_nodes_sync(coordinator);
    coordinator_push_all(coordinator);
}

void kith_coordinator_applied(kith_coordinator *coordinator, const kith_meta_result *result) {
    if (result->changed) map_changed(coordinator);
}

void kith_coordinator_restored(kith_coordinator *coordinator) {
    map_changed(coordinator);
}

void kith_coordinator_leadership(
    kith_coordinator *coordinator, bool is_leader, uint64_t term, const kith_meta_member *leader) {
    bool was_leading = coordinator->leading;
    coordinator->term = term;
    coordinator->leading = is_leader;
    coordinator->leader = is_leader ? coordinator->options.self : leader ? *leader : (kith_meta_member){0};
    if (was_leading == is_leader) return;
    coordinator->leadership++;
    kith_member_event event = {.kind = is_leader ? KITH_MEMBER_LEADING : KITH_MEMBER_FOLLOWING};
    coordinator_step(coordinator, &event);
    coordinator_rebalance_leads(coordinator);
    coordinator_push_all(coordinator);
}

/* --- time --- */

static void finish_if_idle(kith_coordinator *coordinator) {
    if (!coordinator->stopping || coordinator->timer_waits || coordinator->open_count > 0) return;
    coordinator->stopping = false;
    coordinator->stop_done(coordinator->stop_ctx);
}

void coordinator_ended(kith_coordinator *coordinator) {
    coordinator->open_count--;
    finish_if_idle(coordinator);
}

static void timer_set(kith_coordinator *coordinator);

static void timer_run(kith_task *task) {
    kith_coordinator *coordinator =
        (kith_coordinator *)(void *)((char *)task - offsetof(kith_coordinator, timer.task));
    coordinator->timer_waits = false;
    if (coordinator->stopping) {
        finish_if_idle(coordinator);
        return;
    }
    coordinator_tick(coordinator);
    coordinator_rebalance(coordinator);
    coordinator_push_all(coordinator); /* those that wait after a failure */
    timer_set(coordinator);
}

static void timer_set(kith_coordinator *coordinator) {
    coordinator->timer = (kith_timer){.task = {.run = timer_run},
        .executor = coordinator->options.executor,
        .due_ns = coordinator_now(coordinator) + COORDINATOR_TICK_MS * COORDINATOR_MS_NS};
    coordinator->timer_waits = true;
    kith_timer_start(&coordinator->timer);
}

/* --- life --- */

static void handlers_register(kith_coordinator *coordinator) {
    const struct {
        kith_am_kind kind;
        void (*run)(void *ctx, kith_transport_request *request);
    } handlers[] = {
        {KITH_AM_HEARTBEAT, coordinator_heard},
        {KITH_AM_MAP_PULL, coordinator_pulled},
        {KITH_AM_META_PROPOSE, coordinator_proposed},
        {KITH_AM_COORDINATOR, coordinator_asked},
    };
    for (uint32_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
        kith_transport_handle(coordinator->options.transport, handlers[i].kind, coordinator->options.executor,
            handlers[i].run, coordinator);
}

kith_coordinator *kith_coordinator_create(const kith_coordinator_options *options) {
    kith_coordinator *coordinator = kith_alloc_zero(sizeof *coordinator);
    coordinator->options = *options;
    coordinator->members = kith_members_create(options->heartbeat_timeout_ms * COORDINATOR_MS_NS);
    coordinator->nodes = kith_alloc_zero(COORDINATOR_NODES_MAX * sizeof(coordinator_node *));
    coordinator->node_index = kith_map_create(64);
    coordinator_rebalance_init(coordinator);
    coordinator_nodes_sync(coordinator);
    handlers_register(coordinator);
    return coordinator;
}

static void start_run(kith_task *task) {
    kith_coordinator *coordinator =
        (kith_coordinator *)(void *)((char *)task - offsetof(kith_coordinator, start_task));
    if (coordinator->closed) return;
    coordinator->started = true;
    timer_set(coordinator);
}

void kith_coordinator_start(kith_coordinator *coordinator) {
    coordinator->start_task = (kith_task){.run = start_run};
    kith_executor_post(coordinator->options.executor, &coordinator->start_task);
}

static void stop_run(kith_task *task) {
    kith_coordinator *coordinator =
        (kith_coordinator *)(void *)((char *)task - offsetof(kith_coordinator, stop_task));
    coordinator->closed = coordinator->stopping = true;
    if (coordinator->timer_waits && kith_timer_cancel(&coordinator->timer)) coordinator->timer_waits = false;
    coordinator_push_cancel(coordinator);
    finish_if_idle(coordinator);
}

void kith_coordinator_stop(kith_coordinator *coordinator, void (*done)(void *ctx), void *ctx) {
    coordinator->stop_ctx = ctx;
    coordinator->stop_done = done;
    coordinator->stop_task = (kith_task){.run = stop_run};
    kith_executor_post(coordinator->options.executor, &coordinator->stop_task);
}

void kith_coordinator_destroy(kith_coordinator *coordinator) {
    if (!coordinator) return;
    kith_assert(coordinator->open_count == 0);
    coordinator_map_forget(coordinator);
    for (uint32_t i = 0; i < coordinator->node_count; i++)
        kith_free(coordinator->nodes[i]);
    kith_free(coordinator->nodes);
    kith_map_destroy(coordinator->node_index);
    kith_members_destroy(coordinator->members);
    coordinator_rebalance_fini(coordinator);
    kith_free(coordinator);
}
