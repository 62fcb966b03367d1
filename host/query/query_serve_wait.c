/* Reads of replicated shards wait until this replica may answer them (host/replica/replica.h). Where that is known at once, as it is
 * for most, the read goes on where it is; otherwise on the search executor. */
#include "host/base/alloc.h"
#include "host/query/query_serve_internal.h"

static void one_end(serve_wait_one *one, kith_status status, const char *message) {
    one->status = status;
    if (status != KITH_OK) one->message = kith_strdup(message);
}

static void ready_run(kith_task *task) {
    serve_waits *waits = (serve_waits *)task;
    waits->ready(waits);
}

/* acq_rel: the last one sees what the others wrote. */
static bool is_last(serve_waits *waits) {
    return atomic_fetch_sub_explicit(&waits->remaining, 1, memory_order_acq_rel) == 1;
}

static void one_done(kith_replica_wait *wait, kith_status status, const kith_err *err) {
    serve_wait_one *one = (serve_wait_one *)wait;
    serve_waits *waits = one->waits;
    one_end(one, status, status == KITH_OK ? NULL : err->text);
    if (!is_last(waits)) return;
    waits->task.run = ready_run;
    kith_executor_post(waits->own->serve->options.search, &waits->task);
}

void serve_waits_start(
    serve_request *own, const serve_wait_request *request, void (*ready)(serve_waits *waits)) {
    serve_waits *waits = kith_arena_alloc_zero(&own->arena, sizeof *waits);
    *waits = (serve_waits){.own = own, .ctx = request->ctx, .count = request->shard_count, .ready = ready};
    kith_replica_set *replicas = own->serve->options.replicas;
    if (!replicas) {
        ready(waits);
        return;
    }
    waits->ones = kith_arena_alloc_zero(&own->arena, request->shard_count * sizeof *waits->ones);
    atomic_init(&waits->remaining, request->shard_count + 1);
    for (uint32_t i = 0; i < request->shard_count; i++) {
        waits->ones[i].waits = waits;
        waits->ones[i].wait = (kith_replica_wait){
            .shard_id = request->shard_ids[i],
            .read = (kith_replica_read)request->read,
            .token_sequence = request->tokens ? request->tokens[i] : 0,
            .deadline_ns = own->request->deadline_ns,
            .done = one_done,
        };
        kith_replica_wait_start(replicas, &waits->ones[i].wait);
    }
    if (is_last(waits)) ready(waits);
}

kith_status serve_wait_status(const serve_waits *waits, uint32_t index, kith_err *err) {
    if (!waits->ones || waits->ones[index].status == KITH_OK) return KITH_OK;
    return kith_err_set(err, waits->ones[index].status, "%s", waits->ones[index].message);
}

void serve_waits_free(serve_waits *waits) {
    for (uint32_t i = 0; waits->ones && i < waits->count; i++)
        kith_free(waits->ones[i].message);
}
