/* What the server and the client ask of gRPC's library itself. */
#include <dlfcn.h>

#include <grpc/support/time.h>

#include "host/grpc/grpc_internal.h"

/* absl::SetMutexDeadlockDetectionMode in Debian 12's libabsl_synchronization. */
#define DEADLOCK_MODE_SYMBOL "_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE"
#define DEADLOCK_IGNORE      0

/* Debian 12 builds Abseil with its assertions on: every lock that gRPC takes is then entered in one graph for the process,
 * under one spinlock, to find cycles. Off, a call costs 2 to 8 % less CPU (2 cores, 64 in flight, 2026-11-21). It is no C
 * function, so it is looked up; where it has another name nothing is lost but that. */
static void deadlock_detection_stop(void) {
    void (*set_mode)(int mode) = NULL;
    /* dlsym gives an object pointer; POSIX says it may be read as a function's. */
    *(void **)&set_mode = dlsym(RTLD_DEFAULT, DEADLOCK_MODE_SYMBOL);
    if (set_mode) set_mode(DEADLOCK_IGNORE);
}

void kith_grpc_core_init(void) {
    deadlock_detection_stop();
    grpc_init();
}

void kith_grpc_events_take(grpc_completion_queue *queue, gpr_timespec deadline, kith_grpc_events *events) {
    events->count = 0;
    events->is_end = false;
    while (events->count < KITH_GRPC_EVENTS_MAX) {
        grpc_event event = grpc_completion_queue_next(queue, deadline, NULL);
        events->is_end = event.type == GRPC_QUEUE_SHUTDOWN;
        if (event.type != GRPC_OP_COMPLETE) return;
        events->taken[events->count++] = event;
        deadline = gpr_time_0(GPR_CLOCK_MONOTONIC);
    }
}
