#include "tests/sim/sim_data_operator.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "tests/sim/sim_data_client_internal.h"

#define PAUSE_NS (50 * SIM_MS)
#define CALL_NS  (1000 * SIM_MS)

typedef struct factor_wish {
    bool open;
    uint32_t replication_factor, min_in_sync;
} factor_wish;

struct sim_data_operator {
    sim_data_operator_options options;
    kith_timer timer;
    bool waits, calls, stopped;
    bool draining[SIM_WORLD_NODES_MAX];
    bool drain_open[SIM_WORLD_NODES_MAX];
    factor_wish factors[SIM_DATA_COLLECTIONS_MAX];
    /* The call under way. */
    bool is_drain;
    uint32_t index; /* of the wish */
    bool drain_said;
    factor_wish factor_said;
    char name[16];
    kith_arena arena;
    union {
        kith_api_cluster_call cluster;
        kith_api_collection_call collection;
    } call;
};

static void step(sim_data_operator *operator);

static void tell(const sim_data_operator *operator, kith_status status, const kith_err *err) {
    char text[300];
    if (!operator->options.tell) return;
    if (operator->is_drain)
        snprintf(text, sizeof text,
            "operator: %s %s: %s %.200s", operator->drain_said ? "drain" : "use", operator->name,
            kith_status_name(status), status == KITH_OK ? "" : err->text);
    else
        snprintf(text, sizeof text,
            "operator: %u copies of %s, %u in sync: %s %.200s",
            operator->factor_said.replication_factor, operator->name, operator->factor_said.min_in_sync,
            kith_status_name(status), status == KITH_OK ? "" : err->text);
    operator->options.tell(operator->options.ctx, text);
}

static void timer_run(kith_task *task) {
    sim_data_operator *operator=(sim_data_operator *)(void *)(
        (char *)task - offsetof(sim_data_operator, timer.task));
    operator->waits = false;
    step(operator);
}

static void sleep_set(sim_data_operator *operator) {
    if (operator->waits || operator->calls) return;
    operator->waits = true;
    operator->timer =(kith_timer){.task = {.run = timer_run},
        .executor = operator->options.executor,
        .due_ns = kith_env_now_ns(operator->options.env) + PAUSE_NS};
    kith_timer_start(&operator->timer);
}

/* --- what comes of a call --- */

static void wish_close(sim_data_operator *operator) {
    if (operator->is_drain) {
        operator->drain_open[operator->index] = operator->draining[operator->index] != operator->drain_said;
        return;
    }
    factor_wish *wish = &operator->factors[operator->index];
    wish->open = wish->replication_factor != operator->factor_said.replication_factor ||
                                             wish->min_in_sync !=
                                             operator->factor_said.min_in_sync;
}

static void ended(sim_data_operator *operator, kith_status status, const kith_err *err) {
    tell(operator, status, err);
    operator->calls = false;
    if (status == KITH_OK) wish_close(operator);
    sleep_set(operator);
}

static void drained(kith_api_cluster_call *call, kith_status status, const kith_api_cluster_answer *answer,
    const kith_err *err) {
    (void)answer;
    ended((sim_data_operator *)(void *)((char *)call - offsetof(sim_data_operator, call)), status, err);
}

static void updated(kith_api_collection_call *call, kith_status status, const kith_api_collection_info *infos,
    uint32_t count, const kith_err *err) {
    (void)infos, (void)count;
    ended((sim_data_operator *)(void *)((char *)call - offsetof(sim_data_operator, call)), status, err);
}

/* --- calls --- */

static void drain_call(sim_data_operator *operator, uint32_t number) {
    kith_err err;
    operator->is_drain = operator->calls = true;
    operator->index = number;
    operator->drain_said = operator->draining[number];
    snprintf(operator->name, sizeof operator->name, "n%u", number);
    operator->call.cluster =(kith_api_cluster_call){
        .call = {.arena = &operator->arena, .deadline_ns = kith_env_now_ns(operator->options.env) + CALL_NS},
        .text = operator->name,
        .draining = operator->drain_said,
        .done = drained};
    kith_status status = kith_api_cluster_drain(operator->options.api, &operator->call.cluster, &err);
    if (status != KITH_OK) ended(operator, status, &err);
}

static void factor_call(sim_data_operator *operator, uint32_t collection) {
    kith_err err;
    operator->is_drain = false;
    operator->calls = true;
    operator->index = collection;
    operator->factor_said = operator->factors[collection];
    snprintf(operator->name, sizeof operator->name, "%s", sim_data_collection_name(collection));
    operator->call.collection =(kith_api_collection_call){
        .call = {.arena = &operator->arena, .deadline_ns = kith_env_now_ns(operator->options.env) + CALL_NS},
        .name = operator->name,
        .name_bytes = strlen(operator->name),
        .replication_factor = operator->factor_said.replication_factor,
        .min_in_sync = operator->factor_said.min_in_sync,
        .done = updated};
    kith_status status = kith_api_collection_update(operator->options.api, &operator->call.collection, &err);
    if (status != KITH_OK) ended(operator, status, &err);
}

static void step(sim_data_operator *operator) {
    if (operator->stopped || operator->calls) return;
    kith_arena_reset(&operator->arena);
    for (uint32_t i = 0; i < SIM_WORLD_NODES_MAX; i++) {
        if (!operator->drain_open[i]) continue;
        drain_call(operator, i);
        return;
    }
    for (uint32_t i = 0; i < SIM_DATA_COLLECTIONS_MAX; i++) {
        if (!operator->factors[i].open) continue;
        factor_call(operator, i);
        return;
    }
}

/* --- wishes --- */

void sim_data_operator_drain(sim_data_operator *operator, uint32_t number, bool draining) {
    if (operator->draining[number] == draining) return;
    operator->draining[number] = draining;
    operator->drain_open[number] = true;
    sleep_set(operator);
}

void sim_data_operator_factor(
    sim_data_operator *operator, uint32_t collection, uint32_t replication_factor, uint32_t min_in_sync) {
    operator->factors[collection] =(factor_wish){
        .open = true, .replication_factor = replication_factor, .min_in_sync = min_in_sync};
    sleep_set(operator);
}

bool sim_data_operator_drains(const sim_data_operator *operator, uint32_t number) {
    return operator->draining[number];
}

void sim_data_operator_stop(sim_data_operator *operator) {
    operator->stopped = true;
}

static bool has_wishes(const sim_data_operator *operator) {
    bool found = false;
    for (uint32_t i = 0; i < SIM_WORLD_NODES_MAX; i++)
        found |= operator->drain_open[i];
    for (uint32_t i = 0; i < SIM_DATA_COLLECTIONS_MAX; i++)
        found |= operator->factors[i].open;
    return found;
}

bool sim_data_operator_is_idle(const sim_data_operator *operator) {
    return !operator->calls && !operator->waits &&(operator->stopped || !has_wishes(operator));
}

sim_data_operator *sim_data_operator_create(const sim_data_operator_options *options) {
    sim_data_operator *operator= kith_alloc_zero(sizeof *operator);
    operator->options = * options;
    kith_arena_init(&operator->arena);
    return operator;
}

void sim_data_operator_destroy(sim_data_operator *operator) {
    if (!operator) return;
    kith_arena_fini(&operator->arena);
    kith_free(operator);
}
