#include "tests/unit/replica/replica_bed.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"

#define STEP_MS    2u
#define AWAIT_MS   20000u
#define DIR_LOG    "/data/log"
#define EVENTS_MAX 4096u

static const kith_schema schema = {
    .field_count = 1, .fields = {{.dim = 2, .type = KITH_TYPE_F32, .metric = KITH_METRIC_L2}}};

/* --- log events --- */

static char events[EVENTS_MAX][32];
static uint32_t event_count;

static void event_seen(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx;
    (void)level;
    const char *event = memmem(line, bytes, "event=", 6);
    if (!event || event_count == EVENTS_MAX) return;
    event += 6;
    size_t name_bytes = 0;
    while (name_bytes + 1 < sizeof events[0] && event[name_bytes] > ' ') /* a line ends in a newline */
        name_bytes++;
    memcpy(events[event_count], event, name_bytes);
    events[event_count++][name_bytes] = 0;
}

/* Each line has a second of its own: the log's limit of lines in a second leaves none out. */
static uint64_t next_second_ms(void *ctx) {
    (void)ctx;
    static uint64_t now_ms;
    return now_ms += 1000;
}

uint32_t bed_events(const char *event) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < event_count; i++)
        count += strcmp(events[i], event) == 0;
    return count;
}

/* --- the metadata --- */

static uint32_t shard_count(const bed *all) {
    return all->options.shard_count ? all->options.shard_count : 1;
}

static uint64_t shard_id(const bed *all) {
    return BED_SHARD + all->at;
}

static void map_push(bed *all) {
    all->state.map_version++;
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        if (all->machines[i].is_on) kith_replica_set_map(all->machines[i].replicas, &all->state);
    }
}

static bool change_take(bed *all, const kith_codec_meta_shard_change *change) {
    kith_meta_shard *shard = &all->shards[change->shard_id - BED_SHARD];
    if (change->shard.epoch != shard->epoch) return false;
    uint64_t loss_epoch = shard->loss_epoch;
    *shard = change->shard;
    shard->epoch++;
    shard->loss_epoch = loss_epoch;
    map_push(all);
    return true;
}

static void propose_run(kith_task *task) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)task - offsetof(kith_meta_proposal, task));
    bed_machine *machine = (bed_machine *)proposal->meta;
    bool changed = false;
    if (machine->all->is_silent) {
        kith_err err;
        kith_err_set(&err, KITH_DEADLINE, "nobody answers");
        proposal->done(proposal, KITH_DEADLINE, NULL, false, &err);
        return;
    }
    for (uint32_t i = 0; i < proposal->command.change_count; i++)
        changed |= change_take(machine->all, &proposal->command.changes[i]);
    proposal->done(proposal, KITH_OK, NULL, changed, NULL);
}

static void propose(kith_meta *meta, kith_meta_proposal *proposal) {
    proposal->meta = meta;
    proposal->task.run = propose_run;
    kith_executor_post(((bed_machine *)meta)->life, &proposal->task);
}

static void wait_run(kith_task *task) {
    kith_meta_wait *wait = (kith_meta_wait *)(void *)((char *)task - offsetof(kith_meta_wait, task));
    bed_machine *machine = (bed_machine *)wait->meta;
    kith_replica_set_map(machine->replicas, &machine->all->state);
    wait->done(wait, KITH_OK, NULL);
}

static void wait_for_map(kith_meta *meta, kith_meta_wait *wait) {
    wait->meta = meta;
    wait->task.run = wait_run;
    kith_executor_post(((bed_machine *)meta)->life, &wait->task);
}

static const kith_meta_ops meta_ops = {.propose = propose, .wait = wait_for_map};

static void metadata_begin(bed *all) {
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        all->nodes[i] = (kith_node){.number = i + 1, .role = KITH_NODE_DATA, .id = {{(uint8_t)(i + 1)}}};
        snprintf(all->nodes[i].address, sizeof all->nodes[i].address, "%s", all->machines[i].address);
    }
    for (uint32_t s = 0; s < shard_count(all); s++) {
        all->shards[s] =
            (kith_meta_shard){.epoch = 1, .replica_count = BED_MACHINES, .in_sync = (1u << BED_MACHINES) - 1};
        for (uint32_t i = 0; i < BED_MACHINES; i++)
            all->shards[s].replicas[i] = i + 1;
    }
    all->collection = (kith_meta_collection){.collection = {.id = 1,
                                                 .name = "c",
                                                 .schema = schema,
                                                 .shard_count = shard_count(all),
                                                 .shard_id_first = BED_SHARD,
                                                 .replication_factor = BED_MACHINES,
                                                 .min_in_sync = all->options.min_in_sync,
                                                 .durability = all->options.durability},
        .shards = all->shards};
    all->collections[0] = &all->collection;
    all->state = (kith_meta_state){.map_version = 1,
        .collection_count = 1,
        .collections = all->collections,
        .node_count = BED_MACHINES,
        .nodes = all->nodes};
}

static void primary_set(kith_meta_shard *shard, uint32_t index) {
    uint32_t place = 0;
    while (shard->replicas[place] != index + 1)
        place++;
    assert_true(shard->in_sync >> place & 1);
    shard->replicas[place] = shard->replicas[0];
    shard->replicas[0] = index + 1;
    shard->in_sync = (uint8_t)((shard->in_sync & ~(1u << place)) | 1u);
    shard->epoch++;
}

void bed_promote(bed *all, uint32_t index) {
    primary_set(&all->shards[all->at], index);
    map_push(all);
}

void bed_accept_loss(bed *all, uint32_t index) {
    kith_meta_shard *shard = &all->shards[all->at];
    shard->in_sync = (1u << BED_MACHINES) - 1;
    primary_set(shard, index);
    shard->in_sync = 1;
    shard->loss_epoch = shard->epoch;
    map_push(all);
}

static void dropped(void *ctx, kith_status status, const kith_err *err) {
    if (!sim_env_crashed(((const bed_machine *)ctx)->sim)) assert_ok(status, err);
}

void bed_take_away(bed *all, uint32_t index) {
    kith_meta_shard *shard = &all->shards[all->at];
    uint32_t last = shard->replica_count - 1u;
    assert_int_equal(shard->replicas[last], index + 1);
    assert_false(shard->in_sync >> last & 1);
    shard->replica_count--;
    shard->epoch++;
    map_push(all);
    kith_shard_set_drop(all->machines[index].shards, shard_id(all), dropped, &all->machines[index]);
}

kith_status bed_give_again(bed *all, uint32_t index) {
    bed_machine *machine = &all->machines[index];
    kith_meta_shard *shard = &all->shards[all->at];
    kith_err err;
    if (shard->replicas[shard->replica_count - 1u] != index + 1) {
        shard->replicas[shard->replica_count++] = index + 1;
        shard->epoch++;
    }
    kith_status status = kith_replica_set_installs(machine->replicas, shard_id(all))
                             ? KITH_OK
                             : kith_shard_set_open(machine->shards, shard_id(all), &schema, true, &err);
    if (status == KITH_OK) status = kith_shard_set_start(machine->shards, &err);
    map_push(all);
    return status;
}

uint32_t bed_in_sync_count(const bed *all) {
    return (uint32_t)__builtin_popcount(all->shards[all->at].in_sync);
}

/* --- a machine --- */

static kith_status before_flush(void *ctx, kith_err *err) {
    const bed_machine *machine = ctx;
    if (sim_env_crashed(machine->sim)) return kith_err_set(err, KITH_IO, "crashed");
    return KITH_OK;
}

static void executor_make(bed_machine *machine, const char *name, kith_executor **executor_out) {
    kith_err err;
    assert_ok(kith_executor_create(machine->env, name, 1, executor_out, &err), &err);
}

/* --- executors that may be held --- */

static void held_post(kith_executor *base, kith_task *task) {
    bed_held *held = (bed_held *)base;
    if (!held->is_held) {
        kith_executor_post(held->real, task);
        return;
    }
    task->next = NULL;
    if (held->last)
        held->last->next = task;
    else
        held->first = task;
    held->last = task;
}

static void held_timer_start(kith_timer *timer) {
    timer->executor = ((bed_held *)timer->executor)->real; /* what is timed is not held */
    kith_timer_start(timer);
}

static void held_wrap(bed_held *held, kith_executor *real) {
    *held = (bed_held){.ops = *real->ops, .real = real};
    held->ops.executor_post = held_post;
    held->ops.timer_start = held_timer_start;
    held->base.ops = &held->ops;
}

static bool held_let_one(bed_held *held) {
    kith_task *task = held->first;
    if (!task) return false;
    held->first = task->next;
    if (!held->first) held->last = NULL;
    kith_executor_post(held->real, task);
    return true;
}

static void held_set(bed_held *held, bool is_held) {
    held->is_held = is_held;
    while (!is_held && held->first)
        (void)held_let_one(held);
}

void bed_background_hold(bed *all, uint32_t index, bool is_held) {
    held_set(&all->machines[index].held_background, is_held);
}

void bed_log_hold(bed *all, uint32_t index, bool is_held) {
    held_set(&all->machines[index].held_log, is_held);
}

bool bed_background_step(bed *all, uint32_t index) {
    return held_let_one(&all->machines[index].held_background);
}

static void node_fill(bed_machine *machine) {
    machine->node = (kith_shard_node){.env = machine->env,
        .segment_dir = "/data/segments",
        .store = machine->store,
        .owner = machine->owner,
        .search = machine->search,
        .background = &machine->held_background.base,
        .compute = kith_compute_ref(),
        .seal_bytes = 64 << 20,
        .seal_rows = machine->all->options.seal_rows ? machine->all->options.seal_rows : 1000,
        .seal_idle_ns = 3600000 * BED_MS,
        .merge_bytes_max = 64 << 20,
        .request_window = 64,
        .write_queue_bytes_max = 64 << 20};
}

static void shard_opened(void *ctx, uint64_t shard_id, kith_shard *shard) {
    kith_replica_set_attach(((bed_machine *)ctx)->replicas, shard_id, shard);
}

static void replicas_make(bed_machine *machine) {
    const bed *all = machine->all;
    machine->replicas = kith_replica_set_create(&(kith_replica_set_options){.env = machine->env,
        .transport = machine->transport,
        .node = &machine->node,
        .shards = machine->shards,
        .life = machine->life,
        .meta = &machine->meta,
        .self = all->nodes[machine->index].id,
        .dir = "/data",
        .lease_ns = BED_LEASE_MS * BED_MS,
        .append_inflight_bytes_max =
            all->options.append_inflight_bytes ? all->options.append_inflight_bytes : 8 << 20,
        .digest_interval_ns = all->options.digest_interval_ms * BED_MS});
    kith_shard_set_on_open(machine->shards, shard_opened, machine);
}

static void log_open(bed_machine *machine) {
    kith_err err;
    const bed_options *options = &machine->all->options;
    kith_store_log_options log = {.env = machine->env,
        .dir = DIR_LOG,
        .executor = &machine->held_log.base,
        .file_bytes = options->log_file_bytes,
        .retain_bytes = options->log_retain_bytes,
        .pending_bytes_max = 64 << 20,
        .replay = kith_shard_set_replay,
        .replay_ctx = machine->shards};
    assert_ok(kith_store_log_open(&log, &machine->log, &err), &err);
    machine->node.log = machine->log;
}

static void transport_make(bed_machine *machine) {
    kith_err err;
    kith_transport_sim_options options = {.env = machine->env,
        .network = machine->all->network,
        .node = machine->all->nodes[machine->index].id,
        .address = machine->address,
        .in_flight_max = 1000};
    assert_ok(kith_transport_sim_create(&options, &machine->transport, &err), &err);
    kith_transport_sim_power_set(machine->all->network, machine->host, KITH_TRANSPORT_SIM_UP);
}

void bed_start(bed *all, uint32_t index) {
    bed_machine *machine = &all->machines[index];
    kith_err err;
    if (sim_env_crashed(machine->sim)) sim_env_restart(machine->sim);
    assert_ok(kith_dir_make(machine->env, "/data/segments", &err), &err);
    executor_make(machine, "owner", &machine->owner);
    executor_make(machine, "search", &machine->search);
    executor_make(machine, "background", &machine->background);
    held_wrap(&machine->held_background, machine->background);
    executor_make(machine, "log", &machine->log_executor);
    held_wrap(&machine->held_log, machine->log_executor);
    executor_make(machine, "life", &machine->life);
    assert_ok(kith_store_sim_open(machine->disk, &machine->store, &err), &err);
    node_fill(machine);
    machine->shards = kith_shard_set_create(&machine->node);
    transport_make(machine);
    replicas_make(machine);
    for (uint32_t s = 0; s < shard_count(all); s++)
        assert_ok(kith_shard_set_open(machine->shards, BED_SHARD + s, &schema, true, &err), &err);
    log_open(machine);
    assert_ok(kith_shard_set_start(machine->shards, &err), &err);
    machine->is_on = true;
    machine->is_stopped = false;
    kith_replica_set_map(machine->replicas, &all->state);
}

static void stopped(void *ctx) {
    ((bed_machine *)ctx)->is_stopped = true;
}

static void stopped_await(bed_machine *machine) {
    for (uint32_t i = 0; !machine->is_stopped && i < AWAIT_MS / STEP_MS; i++)
        bed_run_ms(machine->all, STEP_MS);
    assert_true(machine->is_stopped);
    machine->is_stopped = false;
}

static void machine_close(bed_machine *machine) {
    kith_replica_set_stop(machine->replicas, stopped, machine);
    stopped_await(machine);
    kith_transport_destroy(machine->transport);
    kith_shard_set_close(machine->shards, stopped, machine);
    stopped_await(machine);
    kith_executor_destroy(machine->life);
    kith_store_log_close(machine->log);
    held_set(&machine->held_log, false);
    kith_executor_destroy(machine->log_executor);
    kith_executor_destroy(machine->search);
    kith_executor_destroy(machine->background);
    kith_executor_destroy(machine->owner);
    kith_replica_set_destroy(machine->replicas);
    kith_shard_set_destroy(machine->shards);
    kith_shard_node_fini(&machine->node);
    kith_store_close(machine->store);
    machine->is_on = false;
}

void bed_stop(bed *all, uint32_t index) {
    machine_close(&all->machines[index]);
}

void bed_crash(bed *all, uint32_t index) {
    bed_machine *machine = &all->machines[index];
    kith_transport_sim_power_set(all->network, machine->host, KITH_TRANSPORT_SIM_REFUSING);
    sim_env_crash(machine->sim, SIM_CRASH_LOSE_ALL);
    held_set(&machine->held_log, false); /* too late */
    machine_close(machine);
}

void bed_cut(bed *all, uint32_t a, uint32_t b, bool cut) {
    kith_transport_sim_cut(all->network, all->machines[a].host, all->machines[b].host, cut);
    kith_transport_sim_cut(all->network, all->machines[b].host, all->machines[a].host, cut);
}

/* --- the bed --- */

void bed_begin(bed *all, const bed_options *options) {
    uint64_t seed = test_seed(1);
    *all = (bed){.options = *options};
    event_count = 0;
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, event_seen, NULL);
    kith_log_clock_set(next_second_ms, NULL);
    all->network = kith_transport_sim_network_create(seed);
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        bed_machine *machine = &all->machines[i];
        *machine = (bed_machine){.meta = {.ops = &meta_ops, .is_remote = true}, .all = all, .index = i};
        snprintf(machine->address, sizeof machine->address, "m%u:1", i);
        machine->host = kith_transport_sim_host(all->network, machine->address);
        machine->sim = i ? sim_env_create_beside(all->machines[0].sim, seed + i) : sim_env_create(seed);
        machine->env = sim_env_kith(machine->sim);
        machine->disk = kith_store_sim_disk_create(seed + i, 0.1, before_flush, machine);
    }
    metadata_begin(all);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        bed_start(all, i);
    bed_await_primary(all, 0, BED_MACHINES);
}

void bed_end(bed *all) {
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        if (all->machines[i].is_on) bed_stop(all, i);
    }
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        kith_store_sim_disk_destroy(all->machines[i].disk);
    kith_transport_sim_network_destroy(all->network);
    for (uint32_t i = BED_MACHINES; i-- > 0;)
        sim_env_destroy(all->machines[i].sim);
    kith_log_clock_set(NULL, NULL);
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, NULL, NULL);
}

void bed_run_ms(bed *all, uint64_t ms) {
    sim_env_run_for(all->machines[0].sim, ms * BED_MS);
}

kith_replica_status bed_status(bed *all, uint32_t index) {
    kith_replica_status status = {0};
    (void)kith_replica_set_status(all->machines[index].replicas, shard_id(all), &status);
    return status;
}

void bed_await_primary(bed *all, uint32_t index, uint32_t in_sync_count) {
    for (uint32_t i = 0; i < AWAIT_MS / STEP_MS; i++) {
        kith_replica_status status = bed_status(all, index);
        if (status.role == KITH_REPLICA_PRIMARY && bed_in_sync_count(all) == in_sync_count) return;
        bed_run_ms(all, STEP_MS);
    }
    fail_msg("machine %u has role %d, %u are in sync", index, (int)bed_status(all, index).role,
        bed_in_sync_count(all));
}

/* --- writes and reads --- */

typedef struct writing {
    kith_shard_write write;
    bool is_done;
    kith_status status;
} writing;

static void write_done(
    kith_shard_write *write, kith_status status, const kith_write_result *result, const kith_err *err) {
    writing *own = (writing *)write;
    (void)result;
    (void)err;
    own->is_done = true;
    own->status = status;
}

static void op_encode(uint64_t number, size_t payload_bytes, kith_buf *op) {
    float vector[2] = {(float)number, 1};
    char *payload = kith_alloc(payload_bytes + 16);
    int head = sprintf(payload, "{\"a\":\"");
    memset(payload + head, 'x', payload_bytes);
    sprintf(payload + head + payload_bytes, "\"}");
    kith_op_point point = {.id = kith_id_of_number(number),
        .field_mask = 1,
        .vectors = {(const uint8_t *)vector},
        .payload = payload,
        .payload_bytes = (uint32_t)strlen(payload)};
    kith_buf_init(op);
    kith_op_encode(&(kith_op){.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point}, &schema, op);
    kith_free(payload);
}

static kith_shard *shard_hold(bed *all, uint32_t index) {
    kith_shard *shard = kith_shard_set_find(all->machines[index].shards, shard_id(all));
    assert_non_null(shard);
    return shard;
}

static void shard_drop(bed *all, uint32_t index, kith_shard *shard) {
    kith_shard_set_release(all->machines[index].shards, shard);
}

kith_status bed_write(bed *all, uint32_t index, uint64_t number, size_t payload_bytes, uint64_t timeout_ms) {
    bed_machine *machine = &all->machines[index];
    kith_shard *shard = shard_hold(all, index);
    writing own = {
        .write = {.deadline_ns = kith_env_now_ns(machine->env) + timeout_ms * BED_MS, .done = write_done}};
    kith_buf op;
    op_encode(number, payload_bytes, &op);
    own.write.op = op.data;
    own.write.op_bytes = op.bytes;
    kith_shard_write_start(shard, &own.write);
    for (uint32_t i = 0; !own.is_done && i < AWAIT_MS / STEP_MS; i++)
        bed_run_ms(all, STEP_MS);
    assert_true(own.is_done);
    kith_buf_fini(&op);
    shard_drop(all, index, shard);
    return own.status;
}

struct bed_writes {
    bed *all;
    uint32_t index, count;
    kith_shard *shard;
    writing *writes; /* [count] */
    kith_buf *ops;   /* [count] */
};

bed_writes *bed_writes_begin(bed *all, uint32_t index, uint64_t first, uint32_t count, uint64_t timeout_ms) {
    bed_writes *writes = kith_alloc(sizeof *writes);
    *writes = (bed_writes){.all = all, .index = index, .count = count, .shard = shard_hold(all, index)};
    writes->writes = kith_alloc_zero(count * sizeof *writes->writes);
    writes->ops = kith_alloc_zero(count * sizeof *writes->ops);
    uint64_t deadline_ns = kith_env_now_ns(all->machines[index].env) + timeout_ms * BED_MS;
    for (uint32_t i = 0; i < count; i++) {
        op_encode(first + i, 10, &writes->ops[i]);
        writes->writes[i].write = (kith_shard_write){.op = writes->ops[i].data,
            .op_bytes = writes->ops[i].bytes,
            .deadline_ns = deadline_ns,
            .done = write_done};
        kith_shard_write_start(writes->shard, &writes->writes[i].write);
    }
    return writes;
}

bool bed_writes_end(bed_writes *writes) {
    bool all_ok = true;
    for (uint32_t i = 0; i < writes->count; i++) {
        for (uint32_t n = 0; !writes->writes[i].is_done && n < AWAIT_MS / STEP_MS; n++)
            bed_run_ms(writes->all, STEP_MS);
        assert_true(writes->writes[i].is_done);
        all_ok &= writes->writes[i].status == KITH_OK;
        kith_buf_fini(&writes->ops[i]);
    }
    shard_drop(writes->all, writes->index, writes->shard);
    kith_free(writes->writes);
    kith_free(writes->ops);
    kith_free(writes);
    return all_ok;
}

typedef struct reading {
    kith_replica_wait wait;
    bool is_done;
    kith_status status;
} reading;

static void read_done(kith_replica_wait *wait, kith_status status, const kith_err *err) {
    reading *own = (reading *)wait;
    (void)err;
    own->is_done = true;
    own->status = status;
}

kith_status bed_read(bed *all, uint32_t index, kith_replica_read read, uint64_t token, uint64_t timeout_ms) {
    bed_machine *machine = &all->machines[index];
    reading own = {.wait = {.shard_id = shard_id(all),
                       .read = read,
                       .token_sequence = token,
                       .deadline_ns = kith_env_now_ns(machine->env) + timeout_ms * BED_MS,
                       .done = read_done}};
    kith_replica_wait_start(machine->replicas, &own.wait);
    for (uint32_t i = 0; !own.is_done && i < AWAIT_MS / STEP_MS; i++)
        bed_run_ms(all, STEP_MS);
    assert_true(own.is_done);
    return own.status;
}

bool bed_reads_at_once(bed *all, uint32_t index, kith_replica_read read, uint64_t token) {
    reading own = {.wait = {.shard_id = shard_id(all),
                       .read = read,
                       .token_sequence = token,
                       .deadline_ns = kith_env_now_ns(all->machines[index].env) + BED_MS,
                       .done = read_done}};
    kith_replica_wait_start(all->machines[index].replicas, &own.wait);
    bool at_once = own.is_done && own.status == KITH_OK;
    for (uint32_t i = 0; !own.is_done && i < AWAIT_MS / STEP_MS; i++)
        bed_run_ms(all, STEP_MS);
    assert_true(own.is_done);
    return at_once;
}

/* --- what is there --- */

bool bed_has(bed *all, uint32_t index, uint64_t number) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    kith_id id = kith_id_of_number(number);
    kith_buf value;
    kith_err err;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_point(shard_id(all), &id, key);
    kith_status status =
        kith_store_get(all->machines[index].store, KITH_STORE_POINTS, key, key_bytes, &value, &err);
    kith_buf_fini(&value);
    return status == KITH_OK;
}

uint64_t bed_count(bed *all, uint32_t index) {
    kith_shard *shard = shard_hold(all, index);
    uint64_t count = kith_shard_count(shard);
    shard_drop(all, index, shard);
    return count;
}

uint64_t bed_digest(bed *all, uint32_t index) {
    kith_err err;
    uint64_t digest;
    kith_shard *shard = shard_hold(all, index);
    assert_ok(kith_shard_validate(shard, &err), &err);
    assert_ok(kith_shard_digest(shard, &digest, &err), &err);
    shard_drop(all, index, shard);
    return digest;
}

/* False while it is being replaced, or is broken. */
static bool digest_try(bed *all, uint32_t index, uint64_t *digest_out) {
    kith_err err;
    kith_shard *shard = kith_shard_set_find(all->machines[index].shards, shard_id(all));
    if (!shard) return false;
    kith_status status = kith_shard_digest(shard, digest_out, &err);
    shard_drop(all, index, shard);
    return status == KITH_OK;
}

static bool are_equal(bed *all) {
    uint64_t first = 0, digest;
    bool is_first = true;
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        if (!all->machines[i].is_on) continue;
        if (!digest_try(all, i, &digest)) return false;
        if (!is_first && digest != first) return false;
        first = digest;
        is_first = false;
    }
    return true;
}

void bed_await_equal(bed *all, uint64_t ms) {
    for (uint64_t i = 0; i < ms / STEP_MS && !are_equal(all); i++)
        bed_run_ms(all, STEP_MS);
    assert_true(are_equal(all));
}

typedef struct sealing {
    kith_shard_job job;
    bool is_done;
} sealing;

static void seal_done(kith_shard_job *job, kith_status status, const kith_err *err) {
    assert_ok(status, err);
    ((sealing *)job)->is_done = true;
}

void bed_seal(bed *all, uint32_t index) {
    kith_shard *shard = shard_hold(all, index);
    sealing own = {.job = {.done = seal_done}};
    kith_shard_seal_start(shard, &own.job);
    for (uint32_t i = 0; !own.is_done && i < AWAIT_MS / STEP_MS; i++)
        bed_run_ms(all, STEP_MS);
    assert_true(own.is_done);
    shard_drop(all, index, shard);
}

kith_shard_stats bed_stats(bed *all, uint32_t index) {
    kith_shard *shard = shard_hold(all, index);
    kith_shard_stats stats;
    kith_shard_stats_read(shard, &stats);
    shard_drop(all, index, shard);
    return stats;
}

void bed_plant_difference(bed *all, uint32_t index) {
    kith_store *store = all->machines[index].store;
    kith_err err;
    kith_store_iterator *iterator;
    const void *key, *value;
    size_t key_bytes, value_bytes;
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = shard_key_prefix(shard_id(all), from),
           to_bytes = shard_key_prefix(shard_id(all) + 1, to);
    kith_store_batch *batch = kith_store_batch_create(store);
    assert_ok(
        kith_store_iterator_open(store, KITH_STORE_POINTS, from, from_bytes, to, to_bytes, &iterator, &err),
        &err);
    assert_true(kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes));
    uint8_t *changed = kith_alloc(value_bytes);
    memcpy(changed, value, value_bytes);
    changed[value_bytes - 3] ^= 1;
    kith_store_batch_put(batch, KITH_STORE_POINTS, key, key_bytes, changed, value_bytes);
    kith_store_iterator_close(iterator);
    assert_ok(kith_store_write(store, batch, &err), &err);
    kith_store_batch_destroy(batch);
    kith_free(changed);
}
