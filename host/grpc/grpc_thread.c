/* The loop of one completion queue. */
#include <stdio.h>

#include <grpc/support/time.h>

#include "host/grpc/grpc_internal.h"

/* How late a watch may learn that the server's state changed, and an answer that nobody reads may be given up. */
#define TICK_MS 250
/* How often brief calls are looked at, while there are any. A client that went away is noticed within two of these. */
#define LOOK_MS 10

static gpr_timespec in_ms(int64_t milliseconds) {
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(milliseconds, GPR_TIMESPAN));
}

/* Without calls there is nothing to tick and the thread sleeps until something happens. */
static gpr_timespec next_wait(const kith_grpc_thread *thread) {
    if (thread->has_brief) return in_ms(LOOK_MS);
    return thread->calls ? in_ms(TICK_MS) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
}

/* Brief calls that were there at the last look are watched; those that came since may be, at the next one. */
static void look_at_calls(kith_grpc_thread *thread) {
    if (!thread->has_brief) return;
    uint64_t now_ns = kith_env_now_ns(thread->server->options.env);
    if (now_ns < thread->look_ns) return;
    thread->has_brief = false;
    thread->look_ns = now_ns + LOOK_MS * UINT64_C(1000000);
    for (kith_grpc_call *call = thread->calls; call; call = call->next) {
        if (!call->method->kind->is_brief || call->is_finished) continue;
        if (call->is_seen) kith_grpc_call_watch(call);
        thread->has_brief |= !call->is_seen;
        call->is_seen = true;
    }
}

static void tick_calls(kith_grpc_thread *thread) {
    uint64_t now_ns = kith_env_now_ns(thread->server->options.env);
    if (!thread->calls || now_ns < thread->tick_ns) return;
    thread->tick_ns = now_ns + TICK_MS * UINT64_C(1000000);
    for (kith_grpc_call *call = thread->calls, *next; call; call = next) {
        next = call->next;
        kith_grpc_call_expire(call, now_ns);
        if (call->method->kind->tick) call->method->kind->tick(call);
    }
}

/* gRPC says that the server has stopped when its connections are gone; a call may still wait for the api then, and its
 * answer needs the queue. So stop waits for this too. The thread goes on: connections are closed by polling. */
static void idle_after_last_call(kith_grpc_thread *thread) {
    if (!thread->ending || thread->is_idle || thread->call_count > 0) return;
    thread->is_idle = true;
    kith_mutex_lock(&thread->server->idle_mutex);
    thread->server->idle_count++;
    kith_cond_signal(&thread->server->idle_changed);
    kith_mutex_unlock(&thread->server->idle_mutex);
}

static void run_event(const grpc_event *event) {
    kith_grpc_tag *tag = event->tag;
    (void)atomic_load_explicit(&tag->posted, memory_order_acquire);
    tag->run(tag, event->success != 0);
}

/* --- what comes back on other threads --- */

static _Thread_local const kith_grpc_thread *own_thread;

bool kith_grpc_thread_is_own(const kith_grpc_thread *thread) {
    return thread == own_thread;
}

void kith_grpc_thread_give_back(kith_grpc_thread *thread, kith_grpc_tag *tag) {
    kith_grpc_tag *first = atomic_load_explicit(&thread->returned, memory_order_relaxed);
    do {
        tag->next = first;
        /* release: pairs with the acquire of who runs it. */
    } while (!atomic_compare_exchange_weak_explicit(
        &thread->returned, &first, tag, memory_order_release, memory_order_relaxed));
}

/* After the events: what is left to do for answers that went out can wait for calls that came in. */
static void run_returned(kith_grpc_thread *thread) {
    if (!atomic_load_explicit(&thread->returned, memory_order_relaxed)) return;
    kith_grpc_tag *tag = atomic_exchange_explicit(&thread->returned, NULL, memory_order_acquire);
    while (tag) {
        kith_grpc_tag *next = tag->next;
        tag->run(tag, true);
        tag = next;
    }
}

void kith_grpc_thread_run(void *ctx) {
    kith_grpc_thread *thread = ctx;
    kith_grpc_events events;
    own_thread = thread;
    for (;;) {
        kith_grpc_events_take(thread->queue, next_wait(thread), &events);
        for (uint32_t i = 0; i < events.count; i++)
            run_event(&events.taken[i]);
        run_returned(thread);
        if (events.is_end) return;
        look_at_calls(thread);
        tick_calls(thread);
        idle_after_last_call(thread);
    }
}

kith_status kith_grpc_thread_start(kith_grpc_thread *thread, uint32_t index, kith_err *err) {
    char name[16];
    snprintf(name, sizeof name, "grpc-%u", index % 1000);
    for (uint32_t m = 0; m < kith_grpc_method_count; m++) {
        for (uint32_t i = 0; i < kith_grpc_methods[m].armed_count; i++)
            kith_grpc_call_arm(thread, m);
    }
    return kith_thread_start(
        thread->server->options.env, name, kith_grpc_thread_run, thread, &thread->thread, err);
}
