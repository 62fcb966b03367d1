/* The loop of one completion queue. */
#include <stdio.h>

#include <grpc/support/time.h>

#include "host/grpc/grpc_internal.h"

/* How late a watch may learn that the server's state changed, and an answer that nobody reads may be given up. */
#define TICK_MS 250

static gpr_timespec in_ms(int64_t milliseconds) {
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(milliseconds, GPR_TIMESPAN));
}

/* Without calls there is nothing to tick and the thread sleeps until something happens. */
static gpr_timespec next_wait(const kith_grpc_thread *thread) {
    return thread->calls ? in_ms(TICK_MS) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
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

void kith_grpc_thread_run(void *ctx) {
    kith_grpc_thread *thread = ctx;
    kith_grpc_events events;
    for (;;) {
        kith_grpc_events_take(thread->queue, next_wait(thread), &events);
        for (uint32_t i = 0; i < events.count; i++)
            run_event(&events.taken[i]);
        if (events.is_end) return;
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
