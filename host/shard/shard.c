/* A shard's life: memory, the count of what is under way, closing, and what others may ask about it. */
#include "host/shard/shard.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/shard/shard_digest.h"
#include "host/shard/shard_internal.h"

void kith_shard_node_fini(kith_shard_node *node) {
    for (uint32_t i = 0; i < KITH_SHARD_SCRATCH_MAX; i++)
        kith_free(atomic_exchange(&node->scratch[i], NULL));
}

/* --- uses --- */

void shard_use_acquire(kith_shard *shard) {
    uint32_t before = atomic_fetch_add_explicit(&shard->uses, 1, memory_order_relaxed);
    kith_assert(before > 0);
}

bool shard_use_try_acquire(kith_shard *shard) {
    uint32_t uses = atomic_load(&shard->uses);
    do {
        if (uses == 0 || atomic_load(&shard->closing)) return false;
    } while (!atomic_compare_exchange_weak(&shard->uses, &uses, uses + 1));
    return true;
}

static void closed_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, closed_task));
    shard->closed(shard->closed_ctx);
}

void shard_use_release(kith_shard *shard) {
    /* acq_rel: whoever destroys the shard sees everything done with it. */
    if (atomic_fetch_sub_explicit(&shard->uses, 1, memory_order_acq_rel) != 1) return;
    shard->closed_task.run = closed_run;
    kith_executor_post(shard->node->owner, &shard->closed_task);
}

/* --- close --- */

static void close_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, close_task));
    shard_write_drain_closing(shard);
    shard_maintain_cancel(shard);
    kith_shard_digests_cancel(shard);
    shard_use_release(shard); /* that of the open shard */
}

void kith_shard_close(kith_shard *shard, void (*closed)(void *ctx), void *ctx) {
    shard->closed = closed;
    shard->closed_ctx = ctx;
    atomic_store(&shard->closing, true);
    shard->close_task.run = close_run;
    kith_executor_post(shard->node->owner, &shard->close_task);
}

void kith_shard_destroy(kith_shard *shard) {
    if (!shard) return;
    shard_build_reset(&shard->seal);
    shard_build_reset(&shard->merge);
    while (shard->part_count > 0)
        shard_part_remove(shard, shard->part_count - 1);
    for (uint32_t i = 0; i < shard->retired_count; i++)
        kith_segment_release(shard->retired[i]);
    shard_batcher_fini(shard);
    kith_hazard_destroy(shard->view_cell);
    kith_store_batch_destroy(shard->round.batch);
    kith_arena_fini(&shard->round.arena);
    shard_window_destroy(shard->window);
    kith_map_destroy(shard->in_flight);
    shard_replica_fini(shard);
    kith_free(shard->retired);
    kith_free(shard->parts);
    kith_free(shard);
}

/* --- health and figures --- */

void shard_health_set(kith_shard *shard, kith_status status, const char *text) {
    if (atomic_load_explicit(&shard->health, memory_order_relaxed) != KITH_OK) return;
    strncpy(shard->health_text, text, sizeof shard->health_text - 1);
    /* release: pairs with the acquire in shard_health_check; the text is complete. */
    atomic_store_explicit(&shard->health, (int)status, memory_order_release);
}

kith_status shard_health_check(kith_shard *shard, kith_err *err) {
    kith_status status = (kith_status)atomic_load_explicit(&shard->health, memory_order_acquire);
    if (status == KITH_OK) return KITH_OK;
    return kith_err_set(err, status, "%s", shard->health_text);
}

kith_status shard_readable_check(kith_shard *shard, kith_err *err) {
    kith_status status = shard_health_check(shard, err);
    return status == KITH_CORRUPT ? status : KITH_OK;
}

kith_status kith_shard_health(kith_shard *shard, kith_err *err) {
    kith_status status = shard_health_check(shard, err);
    if (status != KITH_OK || !shard->node->log) return status;
    return kith_store_log_health(shard->node->log, err);
}

void shard_count_add(kith_shard *shard, size_t counter_offset, uint64_t value) {
    if (!shard->node->counters) return;
    _Atomic uint64_t *counter = (_Atomic uint64_t *)((char *)shard->node->counters + counter_offset);
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

const kith_schema *kith_shard_schema(const kith_shard *shard) {
    return &shard->schema;
}

uint64_t kith_shard_count(kith_shard *shard) {
    shard_view *view = shard_view_acquire(shard->view_cell);
    uint64_t count = view->live_count;
    shard_view_release(view);
    return count;
}

void kith_shard_stats_read(kith_shard *shard, kith_shard_stats *stats_out) {
    shard_view *view = shard_view_acquire(shard->view_cell);
    kith_shard_stats stats = {.points = view->live_count,
        .dead_rows = view->row_count - view->live_count,
        .segments = view->part_count,
        .vector_bytes = view->vector_bytes,
        .applied_sequence = view->applied_sequence};
    for (uint32_t i = 0; i < view->part_count; i++)
        stats.segments_sealed += kith_segment_is_sealed(view->parts[i].segment);
    shard_view_release(view);
    stats.sealed_sequence = atomic_load_explicit(&shard->sealed_sequence, memory_order_relaxed);
    stats.stalled = atomic_load_explicit(&shard->stalled, memory_order_relaxed);
    *stats_out = stats;
}
