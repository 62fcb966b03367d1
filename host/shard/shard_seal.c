/* Background work of a shard, begun and ended by the owner.
 *
 * A seal: the growing segment freezes; a sealed file is built from its live rows; rows that died meanwhile
 * die in the output too; manifest and tombstones go to the store in one batch; the view changes. Frozen
 * segments are sealed in order, so that `sealed_sequence` in the manifest (where replay begins) never leaves
 * a gap. A merge is the same with sealed sources.
 *
 * A stalled round leaves the working state ahead of store and view, until there is room again. What it waits for may
 * be the memory of frozen segments, so seals go on: of rows that store and view have, with the deaths that they know.
 * Those of the round follow with its batch.
 *
 * The manifest is durable only after a flush of the store. Until then a crash brings the old manifest back,
 * so both the log (from the old sealed sequence on) and the files it names must stay: the flush alone trims
 * the log and removes replaced files. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"

/* --- freeze --- */

bool shard_has_unsealed(const kith_shard *shard) {
    return shard->applied_sequence > shard->frozen_sequence;
}

void shard_freeze(kith_shard *shard) {
    shard_part *last = shard->part_count > 0 ? &shard->parts[shard->part_count - 1] : NULL;
    kith_assert(last && last->kind == SHARD_PART_GROWING);
    last->kind = SHARD_PART_FROZEN;
    last->frozen_sequence = shard->applied_sequence;
    shard->frozen_sequence = shard->applied_sequence;
    shard->growing_op_bytes = 0;
}

static bool growing_is_last(const kith_shard *shard) {
    return shard->part_count > 0 && shard->parts[shard->part_count - 1].kind == SHARD_PART_GROWING;
}

/* Deletes alone make no growing segment, yet their log entries must become unneeded too: an empty one stands
 * for them. */
static kith_status freeze_unsealed(kith_shard *shard, kith_err *err) {
    if (!shard_has_unsealed(shard)) return KITH_OK;
    if (!growing_is_last(shard)) {
        kith_segment *empty;
        kith_status status = kith_segment_growing_create(
            shard->next_segment_id, &shard->schema, 1, shard->node->compute, &empty, err);
        if (status != KITH_OK) return status;
        shard->next_segment_id++;
        shard_part *part = shard_part_insert(shard, shard->part_count);
        part->kind = SHARD_PART_GROWING;
        part->segment = empty;
    }
    shard_freeze(shard);
    return KITH_OK;
}

/* --- idle timer --- */

static void idle_timer_arm(kith_shard *shard);

static void idle_timer_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, idle_timer.task));
    shard->idle_armed = false;
    if (kith_env_now_ns(shard->node->env) >= shard->idle_due_ns)
        shard->freeze_wanted = true;
    else
        idle_timer_arm(shard);
    (void)kith_hazard_reclaim(shard->view_cell);
    shard_maintain(shard);
    shard_use_release(shard);
}

static void idle_timer_arm(kith_shard *shard) {
    if (shard->idle_armed || atomic_load(&shard->closing) || !shard_has_unsealed(shard)) return;
    shard->idle_armed = true;
    shard_use_acquire(shard);
    shard->idle_timer.task.run = idle_timer_run;
    shard->idle_timer.executor = shard->node->owner;
    shard->idle_timer.due_ns = shard->idle_due_ns;
    kith_timer_start(&shard->idle_timer);
}

/* Moves the due time; a timer that is armed looks again when it fires. */
void shard_idle_arm(kith_shard *shard) {
    shard->idle_due_ns = kith_env_now_ns(shard->node->env) + shard->node->seal_idle_ns;
    idle_timer_arm(shard);
}

/* --- back-off --- */

static void maintain_timer_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, maintain_timer.task));
    shard->maintain_armed = false;
    shard_maintain(shard);
    shard_use_release(shard);
}

static void jobs_end(kith_shard *shard, kith_status status, const kith_err *err);

/* Whoever waits for this work hears of it now; the work itself is tried again. */
static void back_off(kith_shard *shard, kith_status status, const kith_err *err) {
    shard->backoff_ns = shard->backoff_ns ? 2 * shard->backoff_ns : SHARD_BACKOFF_NS_LEAST;
    if (shard->backoff_ns > SHARD_BACKOFF_NS_MAX) shard->backoff_ns = SHARD_BACKOFF_NS_MAX;
    shard->backoff_until_ns = kith_env_now_ns(shard->node->env) + shard->backoff_ns;
    kith_log_warn("shard_background_failed", kith_kv_u64("shard", shard->id),
        kith_kv_text("status", kith_status_name(status)), kith_kv_text("error", err->text),
        kith_kv_u64("retry_ms", shard->backoff_ns / 1000000));
    jobs_end(shard, status, err);
}

static bool backing_off(kith_shard *shard) {
    if (shard->backoff_ns == 0 || kith_env_now_ns(shard->node->env) >= shard->backoff_until_ns) return false;
    if (shard->maintain_armed || atomic_load(&shard->closing)) return true;
    shard->maintain_armed = true;
    shard_use_acquire(shard);
    shard->maintain_timer.task.run = maintain_timer_run;
    shard->maintain_timer.executor = shard->node->owner;
    shard->maintain_timer.due_ns = shard->backoff_until_ns;
    kith_timer_start(&shard->maintain_timer);
    return true;
}

/* --- builds: on the background executor --- */

void shard_build_source_add(shard_build *build, const shard_part *part, shard_dead *dead) {
    uint32_t at = build->source_count++;
    build->deads[at] = shard_dead_acquire(dead);
    build->sources[at] = (kith_segment_source){.segment = kith_segment_acquire(part->segment),
        .row_count = part->row_count,
        .dead = dead ? dead->words : NULL};
}

void shard_build_reset(shard_build *build) {
    for (uint32_t i = 0; i < build->source_count; i++) {
        kith_segment_release((kith_segment *)(uintptr_t)build->sources[i].segment);
        shard_dead_release(build->deads[i]);
    }
    kith_segment_release(build->output);
    build->output = NULL;
    build->publish_tried = false;
    build->source_count = 0;
    build->state = SHARD_BUILD_NONE;
}

static void build_done_run(kith_task *task) {
    shard_build *build = (shard_build *)((char *)task - offsetof(shard_build, task));
    kith_shard *shard = build->shard;
    build->state = SHARD_BUILD_DONE;
    shard_maintain(shard);
    shard_use_release(shard);
}

static void build_run(kith_task *task) {
    shard_build *build = (shard_build *)((char *)task - offsetof(shard_build, task));
    kith_shard *shard = build->shard;
    kith_shard_node *node = shard->node;
    build->status = kith_segment_build(node->env, build->path, &shard->schema, node->compute, build->sources,
        build->source_count, &build->cancel, &build->row_count, &build->err);
    if (build->status == KITH_OK && build->row_count > 0) {
        build->status = kith_segment_sealed_open(
            node->env, build->path, build->segment_id, &shard->schema, &build->output, &build->err);
    }
    build->task.run = build_done_run;
    kith_executor_post(node->owner, &build->task);
}

static void build_start(shard_build *build) {
    kith_shard *shard = build->shard;
    build->state = SHARD_BUILD_RUNNING;
    build->segment_id = shard->next_segment_id++;
    build->began_ns = kith_env_now_ns(shard->node->env);
    build->row_count = 0;
    atomic_store(&build->cancel, false);
    shard_segment_path(shard->node, shard->id, build->segment_id, build->path);
    shard_use_acquire(shard);
    build->task.run = build_run;
    kith_executor_post(shard->node->background, &build->task);
}

static shard_part *part_of_segment(kith_shard *shard, const kith_segment *segment, uint32_t *index_out) {
    for (uint32_t i = 0; i < shard->part_count; i++) {
        if (shard->parts[i].segment != segment) continue;
        *index_out = i;
        return &shard->parts[i];
    }
    return NULL;
}

static shard_part *frozen_first(kith_shard *shard) {
    for (uint32_t i = 0; i < shard->part_count; i++) {
        if (shard->parts[i].kind == SHARD_PART_FROZEN) return &shard->parts[i];
    }
    return NULL;
}

/* What is dead of the segment in the view, which is what the store knows too. Without rows it is in no view. */
static shard_dead *settled_dead(kith_shard *shard, const kith_segment *segment) {
    const shard_view *view = kith_hazard_current(shard->view_cell);
    for (uint32_t i = 0; i < view->part_count; i++) {
        if (view->parts[i].segment == segment) return view->parts[i].dead;
    }
    return NULL;
}

/* The oldest frozen segment: they are sealed in order. One that a stalled round froze waits: the store lacks some of
 * its rows. */
static bool seal_plan(kith_shard *shard) {
    shard_part *frozen = frozen_first(shard);
    if (!frozen || frozen->frozen_sequence > shard->stored_sequence) return false;
    shard->seal.frozen_sequence = frozen->frozen_sequence;
    shard_build_source_add(&shard->seal, frozen, settled_dead(shard, frozen->segment));
    return true;
}

/* --- builds: publication by the owner --- */

/* Rows of a source that are dead by `dead` and not by `known` die in the output. */
static void deaths_apply(kith_shard *shard, const kith_segment_source *source, const uint64_t *known,
    const shard_dead *dead, shard_part *output, kith_store_batch *batch) {
    if (!dead || dead->words == known) return;
    for (uint32_t row = 0; row < source->row_count; row++) {
        if (!kith_bitset_get(dead->words, row)) continue;
        if (known && kith_bitset_get(known, row)) continue;
        kith_id id = kith_segment_row_id(source->segment, row);
        uint32_t output_row = kith_segment_find(output->segment, &id);
        kith_assert(output_row != KITH_ROW_NONE);
        shard_part_kill(output, output_row);
        shard_tombstone_put(shard, batch, kith_segment_id(output->segment), output_row);
    }
}

/* Those since the build began. */
static void settled_deaths_apply(const shard_build *build, shard_part *output, kith_store_batch *batch) {
    kith_shard *shard = build->shard;
    for (uint32_t i = 0; i < build->source_count; i++) {
        const kith_segment_source *source = &build->sources[i];
        deaths_apply(shard, source, source->dead, settled_dead(shard, source->segment), output, batch);
    }
}

/* Those of the stalled round, which had no tombstones while the source was in memory only. */
static void round_deaths_apply(const shard_build *build, shard_part *output) {
    kith_shard *shard = build->shard;
    for (uint32_t i = 0; i < build->source_count; i++) {
        const kith_segment_source *source = &build->sources[i];
        const shard_dead *settled = settled_dead(shard, source->segment);
        uint32_t at;
        const shard_part *part = part_of_segment(shard, source->segment, &at);
        kith_assert(part);
        deaths_apply(shard, source, settled ? settled->words : NULL, part->dead, output, shard->round.batch);
    }
}

static bool is_source(const shard_build *build, const kith_segment *segment) {
    for (uint32_t i = 0; i < build->source_count; i++) {
        if (build->sources[i].segment == segment) return true;
    }
    return false;
}

/* The manifest as it will be. The working state changes only when the store has taken it. */
static void output_manifest_put(const shard_build *build, kith_store_batch *batch, uint64_t sealed_sequence) {
    kith_shard *shard = build->shard;
    shard_manifest manifest = {.sealed_sequence = sealed_sequence, .next_segment_id = shard->next_segment_id};
    manifest.segment_ids = kith_alloc_array(shard->part_count + 1, sizeof *manifest.segment_ids);
    for (uint32_t i = 0; i < shard->part_count; i++) {
        const shard_part *part = &shard->parts[i];
        if (part->kind != SHARD_PART_SEALED) continue;
        if (is_source(build, part->segment))
            shard_tombstones_remove(shard, batch, kith_segment_id(part->segment));
        else
            manifest.segment_ids[manifest.segment_count++] = kith_segment_id(part->segment);
    }
    if (build->output) manifest.segment_ids[manifest.segment_count++] = build->segment_id;
    shard_manifest_put(shard, batch, &manifest);
    kith_free(manifest.segment_ids);
}

static void retire(kith_shard *shard, kith_segment *segment) {
    if (shard->retired_count == shard->retired_capacity) {
        shard->retired_capacity = shard->retired_capacity ? 2 * shard->retired_capacity : 16;
        shard->retired = kith_realloc(shard->retired, shard->retired_capacity * sizeof *shard->retired);
    }
    shard->retired[shard->retired_count++] = kith_segment_acquire(segment);
}

static void sources_replace(const shard_build *build, shard_part output) {
    kith_shard *shard = build->shard;
    for (uint32_t i = 0; i < build->source_count; i++) {
        uint32_t at;
        shard_part *source = part_of_segment(shard, build->sources[i].segment, &at);
        kith_assert(source);
        if (source->kind == SHARD_PART_SEALED) retire(shard, source->segment);
        shard_part_remove(shard, at);
    }
    if (!build->output) return;
    uint32_t at = 0;
    while (at < shard->part_count && shard->parts[at].kind == SHARD_PART_SEALED)
        at++;
    *shard_part_insert(shard, at) = output;
}

/* The view gets the output as the store knows it, the working state as the round has it. */
static void output_show_stalled(const shard_build *build, shard_part settled) {
    kith_shard *shard = build->shard;
    shard_part output = settled;
    shard_dead_acquire(output.dead);
    output.dead_fresh = false; /* the view has the same bits: the round's deaths go to a copy */
    if (output.segment) round_deaths_apply(build, &output);
    shard_publish_replaced(shard, build->sources[0].segment, &settled);
    sources_replace(build, output);
    shard_dead_release(settled.dead);
}

static void output_show(const shard_build *build, shard_part output) {
    if (build->shard->round.active) {
        output_show_stalled(build, output);
        return;
    }
    sources_replace(build, output);
    shard_publish(build->shard);
}

static void build_count(const shard_build *build) {
    kith_shard *shard = build->shard;
    uint64_t took_ns = kith_env_now_ns(shard->node->env) - build->began_ns;
    if (build->is_merge)
        SHARD_COUNT(shard, merges, 1);
    else
        SHARD_COUNT(shard, seals, 1);
    if (!build->is_merge && shard->node->sealed) shard->node->sealed(shard->node->sealed_ctx, took_ns);
    kith_log_info(build->is_merge ? "shard_merged" : "shard_sealed", kith_kv_u64("shard", shard->id),
        kith_kv_u64("segment", build->segment_id), kith_kv_u64("sources", build->source_count),
        kith_kv_u64("rows", build->row_count), kith_kv_u64("took_ms", took_ns / 1000000));
}

static kith_status build_publish(shard_build *build, kith_err *err) {
    kith_shard *shard = build->shard;
    shard_part output = {.kind = SHARD_PART_SEALED, .segment = build->output, .row_count = build->row_count};
    uint64_t sealed_sequence = atomic_load_explicit(&shard->sealed_sequence, memory_order_relaxed);
    if (!build->is_merge) sealed_sequence = build->frozen_sequence;
    kith_store_batch *batch = kith_store_batch_create(shard->node->store);
    if (build->output) settled_deaths_apply(build, &output, batch);
    output_manifest_put(build, batch, sealed_sequence);
    build->publish_tried = true;
    kith_status status = kith_store_write(shard->node->store, batch, err);
    kith_store_batch_destroy(batch);
    if (status != KITH_OK) {
        shard_dead_release(output.dead);
        return status;
    }
    output_show(build, output);
    if (build->output) shard_attach_post(shard, build->output);
    build_count(build);
    build->output = NULL; /* the part has the reference now */
    shard_build_reset(build);
    atomic_store_explicit(&shard->sealed_sequence, sealed_sequence, memory_order_relaxed);
    shard->flush.wanted = true;
    if (shard->replicated) shard_replica_relieved(shard);
    return KITH_OK;
}

static void build_file_remove(const shard_build *build) {
    kith_err err;
    kith_status status = kith_path_remove(build->shard->node->env, build->path, &err);
    if (status != KITH_OK && status != KITH_NOT_FOUND) {
        kith_log_warn(
            "segment_file_left", kith_kv_text("path", build->path), kith_kv_text("error", err.text));
    }
}

/* A build that failed is thrown away and planned anew; one that only lacks room in the store waits as it is.
 */
static void build_finish(shard_build *build) {
    kith_shard *shard = build->shard;
    kith_err err = build->err;
    kith_status status = build->status;
    if (status != KITH_OK) {
        build_file_remove(build);
        shard_build_reset(build);
    } else {
        status = build_publish(build, &err);
    }
    if (status != KITH_OK)
        back_off(shard, status, &err);
    else
        shard->backoff_ns = 0;
}

/* --- flush --- */

static void retired_remove(kith_shard *shard, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        kith_segment_remove_file_on_release(shard->retired[i]);
        kith_segment_release(shard->retired[i]);
    }
    shard->retired_count -= count;
    if (count == 0) return;
    memmove(shard->retired, shard->retired + count, shard->retired_count * sizeof *shard->retired);
}

static void flush_done_run(kith_task *task) {
    shard_flush *flush = (shard_flush *)((char *)task - offsetof(shard_flush, task));
    kith_shard *shard = (kith_shard *)((char *)flush - offsetof(kith_shard, flush));
    flush->running = false;
    if (flush->status == KITH_OK) {
        shard->flushed_sequence = flush->sealed_sequence;
        shard->backoff_ns = 0;
        kith_store_log_trim(shard->node->log, shard->id, flush->sealed_sequence);
        retired_remove(shard, flush->retired_count);
    } else {
        flush->wanted = true;
        back_off(shard, flush->status, &flush->err);
    }
    shard_maintain(shard);
    shard_use_release(shard);
}

static void flush_run(kith_task *task) {
    shard_flush *flush = (shard_flush *)((char *)task - offsetof(shard_flush, task));
    kith_shard *shard = (kith_shard *)((char *)flush - offsetof(kith_shard, flush));
    flush->status = kith_store_flush(shard->node->store, &flush->err);
    kith_memory_trim(); /* what the batches since the last seal and its build held */
    flush->task.run = flush_done_run;
    kith_executor_post(shard->node->owner, &flush->task);
}

static void flush_start(kith_shard *shard) {
    shard_flush *flush = &shard->flush;
    flush->running = true;
    flush->wanted = false;
    flush->sealed_sequence = atomic_load_explicit(&shard->sealed_sequence, memory_order_relaxed);
    flush->retired_count = shard->retired_count;
    shard_use_acquire(shard);
    flush->task.run = flush_run;
    kith_executor_post(shard->node->background, &flush->task);
}

/* --- jobs --- */

static void job_end(kith_shard *shard, kith_shard_job *job, kith_status status, const kith_err *err) {
    job->done(job, status, status == KITH_OK ? NULL : err);
    shard_use_release(shard);
}

static kith_shard_job **job_next(kith_shard_job *job) {
    return (kith_shard_job **)&job->impl[4];
}

static uint64_t *job_target(kith_shard_job *job) {
    return (uint64_t *)&job->impl[5];
}

static void jobs_end(kith_shard *shard, kith_status status, const kith_err *err) {
    kith_shard_job *job = shard->jobs;
    shard->jobs = NULL;
    while (job) {
        kith_shard_job *next = *job_next(job);
        job_end(shard, job, status, err);
        job = next;
    }
}

/* Those whose writes are sealed and flushed, once no merge is left to do. */
static void jobs_end_reached(kith_shard *shard) {
    kith_shard_job **at = &shard->jobs;
    while (*at) {
        kith_shard_job *job = *at;
        if (*job_target(job) > shard->flushed_sequence) {
            at = job_next(job);
            continue;
        }
        *at = *job_next(job);
        job_end(shard, job, KITH_OK, NULL);
    }
}

static void job_run(kith_task *task) {
    kith_shard_job *job = (kith_shard_job *)((char *)task - offsetof(kith_shard_job, impl));
    kith_shard *shard = job->impl[3];
    kith_err err;
    kith_status status = shard_health_check(shard, &err);
    if (status == KITH_OK && atomic_load(&shard->closing))
        status = kith_err_set(&err, KITH_CLOSED, "shard %llu is closing", (unsigned long long)shard->id);
    if (status == KITH_OK && shard->round.active)
        status = kith_err_set(&err, KITH_NO_SPACE, "shard %llu has committed writes that wait for space",
            (unsigned long long)shard->id);
    if (status != KITH_OK) {
        job_end(shard, job, status, &err);
        return;
    }
    shard->freeze_wanted = true;
    *job_target(job) = shard->applied_sequence;
    *job_next(job) = shard->jobs;
    shard->jobs = job;
    shard->flush.wanted = true;
    shard->backoff_ns = 0;
    shard_maintain(shard);
}

static void job_closed(kith_task *task) {
    kith_shard_job *job = (kith_shard_job *)((char *)task - offsetof(kith_shard_job, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    job->done(job, status, &err);
}

_Static_assert(
    sizeof(kith_task) <= 3 * sizeof(void *), "impl[3] is the shard, impl[4] and [5] the list and the target");

void kith_shard_seal_start(kith_shard *shard, kith_shard_job *job) {
    bool open = shard_use_try_acquire(shard);
    kith_task *task = (kith_task *)job->impl;
    *task = (kith_task){.run = open ? job_run : job_closed};
    job->impl[3] = shard;
    kith_executor_post(shard->node->owner, task);
}

/* --- what to do next --- */

static void freeze_if_due(kith_shard *shard) {
    kith_err err;
    /* Small vectors and long payloads: bound the log that a restart replays. */
    if (shard->growing_op_bytes > 4 * shard->node->seal_bytes) shard->freeze_wanted = true;
    if (!shard->freeze_wanted) return;
    kith_status status = freeze_unsealed(shard, &err);
    shard->freeze_wanted = status != KITH_OK;
    if (status != KITH_OK) back_off(shard, status, &err);
}

/* A store write that failed may still be there after a restart, and then names the file: it stays, and the next start
 * removes it if nobody names it. */
static void build_discard(shard_build *build) {
    if (build->state != SHARD_BUILD_DONE) return;
    if (!build->publish_tried) build_file_remove(build);
    shard_build_reset(build);
}

static void builds_run(kith_shard *shard) {
    if (shard->seal.state == SHARD_BUILD_DONE) build_finish(&shard->seal);
    if (shard->merge.state == SHARD_BUILD_DONE) build_finish(&shard->merge);
    if (backing_off(shard)) return;
    if (shard->seal.state == SHARD_BUILD_NONE && seal_plan(shard)) build_start(&shard->seal);
    if (shard->merge.state == SHARD_BUILD_NONE && shard_merge_plan(shard)) build_start(&shard->merge);
    if (shard->flush.wanted && !shard->flush.running) flush_start(shard);
}

/* No freezes, which would cut the round, and no merges: the round's batch may have tombstones of their sources. */
static void stalled_maintain(kith_shard *shard) {
    if (shard->seal.state == SHARD_BUILD_DONE) build_finish(&shard->seal);
    if (backing_off(shard)) return;
    if (shard->seal.state == SHARD_BUILD_NONE && seal_plan(shard)) build_start(&shard->seal);
    if (shard->flush.wanted && !shard->flush.running) flush_start(shard);
}

void shard_maintain(kith_shard *shard) {
    if (!shard->started) return;
    if (atomic_load(&shard->closing)) {
        build_discard(&shard->seal);
        build_discard(&shard->merge);
        return;
    }
    if (atomic_load_explicit(&shard->health, memory_order_relaxed) != KITH_OK) return;
    if (backing_off(shard)) return;
    if (shard->round.active) {
        stalled_maintain(shard);
        return;
    }
    freeze_if_due(shard);
    builds_run(shard);
    bool flushed = !shard->flush.running && !shard->flush.wanted;
    if (flushed && shard->merge.state == SHARD_BUILD_NONE) jobs_end_reached(shard);
}

static void start_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, start_task));
    shard_idle_arm(shard);
    shard_maintain(shard);
    shard_use_release(shard);
}

void shard_maintain_post(kith_shard *shard) {
    shard_use_acquire(shard);
    shard->start_task.run = start_run;
    kith_executor_post(shard->node->owner, &shard->start_task);
}

static void timer_cancel(kith_shard *shard, kith_timer *timer, bool *armed) {
    if (!*armed || !kith_timer_cancel(timer)) return;
    *armed = false;
    shard_use_release(shard);
}

void shard_maintain_cancel(kith_shard *shard) {
    kith_err err;
    atomic_store(&shard->seal.cancel, true);
    atomic_store(&shard->merge.cancel, true);
    timer_cancel(shard, &shard->idle_timer, &shard->idle_armed);
    timer_cancel(shard, &shard->maintain_timer, &shard->maintain_armed);
    shard_maintain(shard);
    jobs_end(
        shard, kith_err_set(&err, KITH_CLOSED, "shard %llu is closing", (unsigned long long)shard->id), &err);
}
