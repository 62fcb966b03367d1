/* The history of sim_history.h.
 *
 * What is known of a write: OK is acknowledged: it must be there, exactly, for ever. UNKNOWN_OUTCOME, or no
 * answer before a crash: there or not, but wholly. Anything else: it must not be there. A shard's entries are
 * durable in order, so of its unknown writes a prefix is there after a restart; the model finds out which by
 * comparing. */
#include "tests/sim/sim_history.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "tests/unit/shard/shard_workload.h"

#define SHARDS_MAX     3u
#define GROUP_MAX      4u
#define WINDOW         8u
#define SECOND_NS      1000000000ULL
#define KNOWN_MAX      64u /* acknowledged named writes kept for repeats */
#define UNKNOWN_MAX    64u
#define STEPS_AFTER    4u /* a fault */
#define OPEN_TRIES_MAX 4u

typedef struct tracked {
    shard_workload_op made;
    kith_write_result result;
} tracked;

typedef struct shard_state {
    uint64_t id;
    kith_shard *shard; /* held; NULL while the node is down */
    oracle *expected;
    tracked *unknown[UNKNOWN_MAX];
    uint32_t unknown_count;
    uint32_t there_least, there_most; /* of the unknown ones, after a restart */
    tracked *known[KNOWN_MAX];        /* named and acknowledged, oldest first */
    uint32_t known_count;
    uint64_t last_sequence; /* acknowledged */
} shard_state;

typedef struct job_state {
    kith_shard_job job;
    bool running;
} job_state;

typedef struct history {
    const sim_history_options *options;
    sim_outcome *outcome;
    kith_schema schema;
    shard_node node;
    shard_workload workload;
    kith_rng rng;
    shard_state shards[SHARDS_MAX];
    job_state jobs[SHARDS_MAX];
    uint32_t shard_count;
    uint64_t step;
    uint64_t flush_crash_at; /* UINT64_MAX: none */
    bool space_taken;
    bool faulted;         /* the fault has happened: the history ends soon */
    bool corrupt_allowed; /* a bit was flipped */
} history;

/* --- words --- */

const char *sim_fault_name(sim_fault_kind kind) {
    static const char *const names[] = {"none", "crash at file operation", "crash at flush",
        "flipped bit after step", "no space from step", "failed operation at step"};
    return names[kind];
}

static void trace(history *run, const char *format, ...) KITH_PRINTF(2, 3);
static void trace(history *run, const char *format, ...) {
    if (!run->options->trace) return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%4llu %8llu ", (unsigned long long)run->step,
        (unsigned long long)sim_env_op_count(run->node.sim));
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static void violate(history *run, const char *format, ...) KITH_PRINTF(2, 3);
static void violate(history *run, const char *format, ...) {
    if (run->outcome->violated) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->outcome->text, sizeof run->outcome->text, format, arguments);
    va_end(arguments);
    run->outcome->violated = true;
    trace(run, "VIOLATION %s", run->outcome->text);
}

static bool is_over(const history *run) {
    return run->outcome->violated || run->outcome->reported;
}

/* --- tracked writes --- */

static void tracked_free(tracked *write) {
    kith_arena_fini(&write->made.arena);
    kith_free(write);
}

static bool is_named(const tracked *write) {
    return write->made.op.request_id.client[0] != 0;
}

static void known_add(shard_state *state, tracked *write) {
    if (!is_named(write)) {
        tracked_free(write);
        return;
    }
    if (state->known_count == KNOWN_MAX) {
        tracked_free(state->known[0]);
        memmove(state->known, state->known + 1, --state->known_count * sizeof state->known[0]);
    }
    state->known[state->known_count++] = write;
}

static void acknowledged(history *run, shard_state *state, tracked *write) {
    uint32_t changed = oracle_apply(state->expected, &write->made.op, write->result.sequence);
    if (changed != write->result.points_changed)
        violate(run, "write %llu changed %u points, not %u", (unsigned long long)write->result.sequence,
            write->result.points_changed, changed);
    if (write->result.sequence <= state->last_sequence)
        violate(run, "sequence %llu follows %llu", (unsigned long long)write->result.sequence,
            (unsigned long long)state->last_sequence);
    state->last_sequence = write->result.sequence;
    run->outcome->writes++;
    known_add(state, write);
}

static void answered(history *run, shard_state *state, tracked *write, const shard_node_write *answer) {
    trace(run, "shard %llu %s of %u: %s %llu%s%s", (unsigned long long)state->id,
        write->made.op.kind == KITH_OP_UPSERT ? "upsert" : "delete", write->made.op.point_count,
        kith_status_name(answer->status), (unsigned long long)answer->result.sequence,
        answer->status == KITH_OK ? "" : ": ", answer->status == KITH_OK ? "" : answer->err.text);
    if (answer->status == KITH_OK) {
        if (answer->result.repeated)
            violate(run, "a new write (%llu) is answered as a repeat",
                (unsigned long long)write->made.op.request_id.number);
        write->result = answer->result;
        acknowledged(run, state, write);
    } else if (answer->status == KITH_UNKNOWN_OUTCOME) {
        kith_assert(state->unknown_count < UNKNOWN_MAX);
        state->unknown[state->unknown_count++] = write;
    } else {
        tracked_free(write);
    }
}

static bool group_wait(history *run, shard_node_write *writes, uint32_t count) {
    bool all = true;
    for (uint32_t i = 0; i < count; i++)
        all = shard_node_wait(&run->node, &writes[i].done) && all;
    if (!all) violate(run, "a write has no answer");
    return all;
}

/* A repeat of a known write must get the first answer, as long as it is in the window. */
static void repeat_known(history *run, shard_state *state, const tracked *write) {
    shard_node_write answer;
    bool in_window = write->result.sequence + WINDOW > state->last_sequence;
    if (!in_window) return;
    shard_node_write_begin(&run->node, state->shard, &run->schema, &write->made.op, UINT64_MAX, &answer);
    if (!group_wait(run, &answer, 1)) return;
    shard_node_write_fini(&answer);
    trace(run, "shard %llu repeat of %llu: %s", (unsigned long long)state->id,
        (unsigned long long)write->result.sequence, kith_status_name(answer.status));
    if (answer.status != KITH_OK) {
        if (!run->faulted && !sim_env_crashed(run->node.sim) && run->options->fault == SIM_FAULT_NONE)
            violate(run, "a repeat fails: %s", answer.err.text);
        return;
    }
    if (!answer.result.repeated)
        violate(run, "a repeat of write %llu is done again as %llu",
            (unsigned long long)write->result.sequence, (unsigned long long)answer.result.sequence);
    else if (answer.result.sequence != write->result.sequence ||
             answer.result.points_changed != write->result.points_changed)
        violate(run, "a repeat of write %llu has another answer", (unsigned long long)write->result.sequence);
}

static void step_repeat(history *run) {
    shard_state *state = &run->shards[kith_rng_below(&run->rng, run->shard_count)];
    if (state->known_count > 0)
        repeat_known(run, state, state->known[kith_rng_below(&run->rng, state->known_count)]);
}

static void step_write(history *run) {
    shard_node_write writes[GROUP_MAX];
    tracked *made[GROUP_MAX];
    shard_state *of[GROUP_MAX];
    uint32_t count = 1 + (uint32_t)kith_rng_below(&run->rng, GROUP_MAX);
    for (uint32_t i = 0; i < count; i++) {
        of[i] = &run->shards[kith_rng_below(&run->rng, run->shard_count)];
        made[i] = kith_alloc_zero(sizeof *made[i]);
        shard_workload_make(&run->workload, &made[i]->made);
        shard_node_write_begin(
            &run->node, of[i]->shard, &run->schema, &made[i]->made.op, UINT64_MAX, &writes[i]);
    }
    if (!group_wait(run, writes, count)) return;
    for (uint32_t i = 0; i < count; i++) {
        answered(run, of[i], made[i], &writes[i]);
        shard_node_write_fini(&writes[i]);
    }
}

/* --- other steps --- */

static void job_done(kith_shard_job *job, kith_status status, const kith_err *err) {
    (void)status;
    (void)err;
    ((job_state *)job)->running = false;
}

/* Not waited for: writes go on meanwhile. */
static void step_seal(history *run) {
    uint32_t at = (uint32_t)kith_rng_below(&run->rng, run->shard_count);
    if (run->jobs[at].running) return;
    trace(run, "shard %llu seal", (unsigned long long)run->shards[at].id);
    run->jobs[at] = (job_state){.job = {.done = job_done}, .running = true};
    kith_shard_seal_start(run->shards[at].shard, &run->jobs[at].job);
    for (uint64_t i = kith_rng_below(&run->rng, 12); i > 0; i--)
        sim_env_step(run->node.sim);
}

static void step_time(history *run) {
    uint64_t ns = kith_rng_below(&run->rng, 2) == 0 ? kith_rng_below(&run->rng, SECOND_NS) : 31 * SECOND_NS;
    trace(run, "%llu ms pass", (unsigned long long)(ns / 1000000));
    sim_env_run_for(run->node.sim, ns);
}

static bool shard_compare(
    history *run, shard_state *state, const oracle *expected, uint32_t search_count, kith_err *difference) {
    return shard_workload_compare(
        &run->workload, &run->node, state->shard, expected, search_count, difference);
}

/* Only where nothing is unknown. */
static void compare_all(history *run) {
    for (uint32_t i = 0; i < run->shard_count && !is_over(run); i++) {
        kith_err difference;
        shard_state *state = &run->shards[i];
        if (state->unknown_count > 0 || shard_compare(run, state, state->expected, 2, &difference)) continue;
        if (sim_env_crashed(run->node.sim)) return;
        violate(run, "shard %llu: %s", (unsigned long long)state->id, difference.text);
    }
}

/* --- down and up --- */

static void node_down(history *run) {
    for (uint32_t i = 0; i < run->shard_count; i++) {
        if (run->shards[i].shard) kith_shard_set_release(run->node.set, run->shards[i].shard);
        run->shards[i].shard = NULL;
    }
    if (run->node.set) shard_node_close(&run->node);
    for (uint32_t i = 0; i < run->shard_count; i++) {
        if (run->jobs[i].running) violate(run, "a seal has no answer after close");
    }
}

static kith_status node_open(history *run, kith_err *err) {
    shard_node_shard shards[SHARDS_MAX];
    for (uint32_t i = 0; i < run->shard_count; i++)
        shards[i] = (shard_node_shard){.id = run->shards[i].id, .schema = &run->schema};
    kith_status status = shard_node_open(&run->node, shards, run->shard_count, err);
    for (uint32_t i = 0; i < run->shard_count && status == KITH_OK; i++) {
        run->shards[i].shard = kith_shard_set_find(run->node.set, run->shards[i].id);
    }
    run->outcome->restarts++;
    return status;
}

static kith_status health_of_all(history *run, kith_err *err) {
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < run->shard_count && status == KITH_OK; i++)
        status = kith_shard_health(run->shards[i].shard, err);
    return status;
}

/* What the disk could not read when a segment was opened is corrupt, until the next start reads it. */
static kith_status node_open_again(history *run, kith_err *err) {
    node_down(run);
    kith_status status = node_open(run, err);
    return status == KITH_OK ? health_of_all(run, err) : status;
}

/* A fault that strikes while the node starts is over when it starts the next time. */
static void node_up(history *run) {
    kith_err err = {0};
    kith_status status = KITH_INTERNAL;
    for (uint32_t i = 0; i < OPEN_TRIES_MAX && status != KITH_OK; i++) {
        if (sim_env_crashed(run->node.sim)) {
            node_down(run);
            sim_env_restart(run->node.sim);
        }
        status = node_open(run, &err);
        trace(run, "open: %s %s", kith_status_name(status), status == KITH_OK ? "" : err.text);
        if (status == KITH_CORRUPT) break;
    }
    if (status == KITH_OK) status = health_of_all(run, &err);
    bool read_failed = run->options->fault == SIM_FAULT_FAIL && run->options->fail == SIM_FAIL_READ;
    if (status == KITH_CORRUPT && read_failed) status = node_open_again(run, &err);
    if (status == KITH_OK) return;
    if (status == KITH_CORRUPT && run->corrupt_allowed)
        run->outcome->reported = true;
    else
        violate(run, "the node does not start: %s", err.text);
}

/* Which prefix of the unknown writes is there: `least` to `most` of them. Writes that change nothing make
 * several prefixes look alike. */
static void unknown_resolve(history *run, shard_state *state) {
    kith_err first = {0}, difference = {0};
    uint32_t matches = 0, least = 0, most = 0;
    oracle *model = oracle_copy(state->expected), *found = NULL;
    for (uint32_t j = 0; j <= state->unknown_count; j++) {
        if (j > 0) oracle_apply(model, &state->unknown[j - 1]->made.op, 0);
        bool equal = shard_compare(run, state, model, 0, j == 0 ? &first : &difference);
        if (sim_env_crashed(run->node.sim)) break;
        if (!equal) continue;
        if (matches++ == 0) least = j;
        most = j;
        oracle_destroy(found);
        found = oracle_copy(model);
    }
    oracle_destroy(model);
    if (sim_env_crashed(run->node.sim) || !found) {
        oracle_destroy(found);
        if (!sim_env_crashed(run->node.sim))
            violate(run, "shard %llu after restart, none of %u unknown writes: %s; all: %s",
                (unsigned long long)state->id, state->unknown_count, first.text, difference.text);
        return;
    }
    trace(run, "shard %llu has %u..%u of %u unknown writes", (unsigned long long)state->id, least, most,
        state->unknown_count);
    oracle_destroy(state->expected);
    state->expected = found;
    state->there_least = least;
    state->there_most = most;
}

/* A write that is there gets its first answer; one that is not is done now. */
static void unknown_repeat(history *run, shard_state *state, uint32_t index) {
    tracked *write = state->unknown[index];
    shard_node_write answer;
    shard_node_write_begin(&run->node, state->shard, &run->schema, &write->made.op, UINT64_MAX, &answer);
    bool ok = group_wait(run, &answer, 1) && answer.status == KITH_OK;
    shard_node_write_fini(&answer);
    trace(run, "shard %llu repeat of unknown write %u: %s%s", (unsigned long long)state->id, index,
        kith_status_name(answer.status), answer.result.repeated ? ", repeated" : "");
    if (!ok) {
        if (!sim_env_crashed(run->node.sim))
            violate(run, "a repeat of an unknown write fails: %s", answer.err.text);
        /* Not there before, and begun anew as the machine died: unknown again. */
        if (index >= state->there_most)
            state->unknown[state->unknown_count++] = write;
        else
            tracked_free(write);
        return;
    }
    bool there = answer.result.repeated;
    if (there && index >= state->there_most)
        violate(run, "unknown write %u is remembered but not there", index);
    if (!there && index < state->there_least)
        violate(run, "unknown write %u is there but not remembered", index);
    write->result = answer.result;
    write->result.repeated = false;
    if (!there) {
        acknowledged(run, state, write);
        return;
    }
    if (answer.result.sequence > state->last_sequence) state->last_sequence = answer.result.sequence;
    known_add(state, write);
}

static void unknown_settle(history *run, shard_state *state) {
    uint32_t count = state->unknown_count;
    state->unknown_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        tracked *write = state->unknown[i];
        if (!is_over(run) && !sim_env_crashed(run->node.sim) && is_named(write))
            unknown_repeat(run, state, i);
        else
            tracked_free(write);
    }
}

static void sequence_refresh(shard_state *state) {
    kith_shard_stats stats;
    kith_shard_stats_read(state->shard, &stats);
    state->last_sequence = stats.applied_sequence;
}

static void known_check(history *run, shard_state *state) {
    for (uint32_t i = 0; i < state->known_count && !is_over(run); i++)
        repeat_known(run, state, state->known[i]);
}

/* After every start of the node. */
static void judge(history *run) {
    for (uint32_t i = 0; i < run->shard_count && !is_over(run); i++) {
        shard_state *state = &run->shards[i];
        unknown_resolve(run, state);
        if (is_over(run) || sim_env_crashed(run->node.sim)) return;
        sequence_refresh(state);
        known_check(run, state);
        unknown_settle(run, state);
    }
}

/* Down (if it was not), up, judge; again if it crashes meanwhile. */
static void restart(history *run) {
    for (uint32_t i = 0; i < OPEN_TRIES_MAX && !is_over(run); i++) {
        node_down(run);
        if (sim_env_crashed(run->node.sim)) {
            sim_env_restart(run->node.sim);
            run->faulted = true;
        }
        node_up(run);
        if (!is_over(run)) judge(run);
        if (!sim_env_crashed(run->node.sim)) break;
    }
}

/* --- faults --- */

static kith_status before_flush(void *ctx, kith_err *err) {
    history *run = ctx;
    if (run->node.flush_count - 1 != run->flush_crash_at) return KITH_OK;
    trace(run, "crash at flush %llu", (unsigned long long)run->flush_crash_at);
    sim_env_crash(run->node.sim, run->options->crash_mode);
    return kith_err_set(err, KITH_IO, "crashed");
}

static void fault_flip(history *run) {
    char path[256];
    uint64_t offset;
    node_down(run);
    if (kith_rng_below(&run->rng, 2) == 0) {
        sim_env_crash(run->node.sim, SIM_CRASH_LOSE_ALL);
        sim_env_restart(run->node.sim);
    }
    if (sim_env_flip_any(
            run->node.sim, kith_rng_below(&run->rng, 2) ? "segments" : "", path, sizeof path, &offset)) {
        trace(run, "flipped a bit of %s at %llu", path, (unsigned long long)offset);
        run->corrupt_allowed = true;
    }
    run->faulted = true;
    restart(run);
}

static void fault_no_space(history *run) {
    trace(run, "the disk is full");
    sim_env_space_set(run->node.sim, kith_rng_below(&run->rng, 4096));
    run->space_taken = true;
}

static void fault_strike(history *run) {
    if (run->options->at != run->step) return;
    switch (run->options->fault) {
    case SIM_FAULT_FLIP:
        fault_flip(run);
        break;
    case SIM_FAULT_NO_SPACE:
        fault_no_space(run);
        break;
    case SIM_FAULT_FAIL:
        trace(run, "the next operation of kind %d fails", (int)run->options->fail);
        sim_env_fail_next(run->node.sim, run->options->fail, KITH_IO);
        break;
    default:
        break;
    }
}

/* Space comes back some steps later; what was waiting for it must go on by itself. */
static void space_give_back(history *run) {
    if (!run->space_taken || run->step < run->options->at + STEPS_AFTER) return;
    trace(run, "there is space again");
    sim_env_space_set(run->node.sim, UINT64_MAX);
    run->space_taken = false;
    sim_env_run_for(run->node.sim, 60 * SECOND_NS);
}

/* --- the whole --- */

static void history_init(history *run, const sim_history_options *options, sim_outcome *outcome) {
    memset(run, 0, sizeof *run);
    memset(outcome, 0, sizeof *outcome);
    run->options = options;
    run->outcome = outcome;
    kith_rng_init(&run->rng, options->seed);
    run->schema = (kith_schema){.field_count = 2,
        .fields = {{.name = "",
                       .dim = 1 + (uint32_t)kith_rng_below(&run->rng, 4),
                       .metric = (kith_metric)(1 + kith_rng_below(&run->rng, 4)),
                       .type = (kith_vector_type)(1 + kith_rng_below(&run->rng, 4))},
            {.name = "b", .dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
    run->workload =
        (shard_workload){.schema = &run->schema, .id_count = 30, .points_max = 4, .missing_chance = 0.1};
    kith_rng_init(&run->workload.rng, options->seed + 1);
    run->shard_count = 1 + (uint32_t)kith_rng_below(&run->rng, SHARDS_MAX);
    for (uint32_t i = 0; i < run->shard_count; i++) {
        run->shards[i].id = i + 1;
        run->shards[i].expected = oracle_create(&run->schema);
    }
    run->flush_crash_at = options->fault == SIM_FAULT_CRASH_AT_FLUSH ? options->at : UINT64_MAX;
    shard_node_init(&run->node, &(shard_node_options){.world = SHARD_NODE_SIM,
                                    .seed = options->seed,
                                    .search_threads = 2,
                                    .seal_bytes = 1 << 20,
                                    .seal_rows = 8 + (uint32_t)kith_rng_below(&run->rng, 20),
                                    .seal_idle_ns = 30 * SECOND_NS,
                                    .merge_bytes_max = 1 << 20,
                                    .request_window = WINDOW,
                                    .read_slice_points = 5,
                                    .write_queue_bytes_max = 1 << 20,
                                    .log_file_bytes = 1024 << kith_rng_below(&run->rng, 4),
                                    .flush_chance = kith_rng_below(&run->rng, 2) ? 0.1 : 0,
                                    .before_flush = before_flush,
                                    .before_flush_ctx = run});
    if (options->fault == SIM_FAULT_CRASH_AT_FILE_OP)
        sim_env_crash_at(run->node.sim, options->at, options->crash_mode);
}

static void history_fini(history *run) {
    node_down(run);
    run->outcome->file_ops = sim_env_op_count(run->node.sim);
    run->outcome->flushes = run->node.flush_count;
    run->outcome->seals = run->node.counters.seals;
    run->outcome->merges = run->node.counters.merges;
    for (uint32_t i = 0; i < run->shard_count; i++) {
        shard_state *state = &run->shards[i];
        for (uint32_t j = 0; j < state->known_count; j++)
            tracked_free(state->known[j]);
        for (uint32_t j = 0; j < state->unknown_count; j++)
            tracked_free(state->unknown[j]);
        oracle_destroy(state->expected);
    }
    shard_node_fini(&run->node);
}

static void step_run(history *run) {
    uint64_t choice = kith_rng_below(&run->rng, 20);
    if (choice < 12)
        step_write(run);
    else if (choice < 14)
        step_seal(run);
    else if (choice < 16)
        step_time(run);
    else if (choice < 17)
        restart(run);
    else if (choice < 18)
        compare_all(run);
    else
        step_repeat(run);
}

/* A second crash strikes while the node recovers from the first. */
static void crash_again_arm(history *run) {
    if (!run->options->crash_again) return;
    sim_env_crash_at(run->node.sim, sim_env_op_count(run->node.sim) + kith_rng_below(&run->rng, 12),
        run->options->crash_mode);
}

static void steps_run(history *run) {
    uint64_t last = run->options->step_count;
    bool crashed_before = false;
    for (run->step = 0; run->step < last && !is_over(run); run->step++) {
        fault_strike(run);
        space_give_back(run);
        if (!is_over(run) && run->shards[0].shard) step_run(run);
        if (is_over(run) || !sim_env_crashed(run->node.sim)) continue;
        if (!crashed_before) {
            node_down(run);
            sim_env_restart(run->node.sim);
            crash_again_arm(run);
            last = run->step + 1 + STEPS_AFTER;
        }
        crashed_before = true;
        restart(run);
    }
}

void sim_history_run(const sim_history_options *options, sim_outcome *outcome_out) {
    history *run = kith_alloc(sizeof *run);
    history_init(run, options, outcome_out);
    restart(run);
    steps_run(run);
    if (!is_over(run)) sim_env_space_set(run->node.sim, UINT64_MAX);
    if (!is_over(run)) restart(run);
    compare_all(run);
    history_fini(run);
    kith_free(run);
}
