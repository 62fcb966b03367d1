#include "host/api/api.h"

#include "host/api/api_internal.h"
#include "host/base/alloc.h"
#include "host/base/assert.h"

/* A coordinator that takes longer to say what it has is on its way out. */
#define REFRESH_NS_MAX UINT64_C(1000000000)
/* Pauses before a request is started again: none, then these, twice as long each time up to 320 ms, so that a failover of
 * some seconds costs a request a dozen tries, and a hand-over of some milliseconds costs it little more (a guess). */
#define AGAIN_NS_FIRST UINT64_C(10000000)
#define AGAIN_DOUBLED  5u
/* So many last about 9 s: one failover takes two to three, and the next may follow at once. */
#define AGAIN_READS_MAX 32u
/* An answer that lacks shards is given after so many: 70 ms of pauses. */
#define AGAIN_PARTIAL_MAX 4u

kith_api *kith_api_create(const kith_api_options *options) {
    kith_api *api = kith_alloc_zero(sizeof *api);
    api->options = *options;
    kith_api_limits_set(api, &options->limits);
    /* A node that has all shards itself has nobody to choose from. */
    if (options->meta->is_remote) api->load = kith_query_load_create(options->env);
    kith_mutex_init(&api->idle_mutex, KITH_RANK_API);
    kith_cond_init(&api->idle);
    return api;
}

void kith_api_limits_set(kith_api *api, const kith_api_limits *limits) {
    atomic_store_explicit(&api->search_timeout_ns, limits->search_timeout_ns, memory_order_relaxed);
    atomic_store_explicit(&api->write_timeout_ns, limits->write_timeout_ns, memory_order_relaxed);
    atomic_store_explicit(&api->slow_search_ns, limits->slow_search_ns, memory_order_relaxed);
    atomic_store_explicit(&api->write_bytes_max, limits->write_bytes_max, memory_order_relaxed);
    atomic_store_explicit(&api->reads_max, limits->reads_max, memory_order_relaxed);
}

uint32_t kith_api_in_flight(const kith_api *api) {
    return atomic_load_explicit(&api->in_flight, memory_order_relaxed);
}

void kith_api_stop(kith_api *api) {
    atomic_store(&api->stopped, true);
}

bool kith_api_wait_idle(kith_api *api, uint64_t timeout_ns) {
    uint64_t until_ns = kith_env_now_ns(api->options.env) + timeout_ns;
    kith_mutex_lock(&api->idle_mutex);
    while (atomic_load(&api->in_flight) > 0) {
        uint64_t now_ns = kith_env_now_ns(api->options.env);
        if (now_ns >= until_ns) break;
        (void)kith_cond_wait_for(&api->idle, &api->idle_mutex, until_ns - now_ns);
    }
    bool idle = atomic_load(&api->in_flight) == 0;
    kith_mutex_unlock(&api->idle_mutex);
    return idle;
}

void kith_api_destroy(kith_api *api) {
    if (!api) return;
    kith_assert(atomic_load(&api->in_flight) == 0);
    kith_cond_fini(&api->idle);
    kith_mutex_fini(&api->idle_mutex);
    kith_query_load_destroy(api->load);
    kith_free(api);
}

kith_status kith_api_ready(kith_api *api, kith_err *err) {
    if (atomic_load(&api->stopped)) return kith_err_set(err, KITH_CLOSED, "the server is shutting down");
    return api->options.health ? api->options.health(api->options.ctx, err) : KITH_OK;
}

/* The client's deadline, but no later than the configured timeout from now. */
static uint64_t deadline_of(
    const kith_api *api, const kith_api_call *call, kith_api_class class, uint64_t now_ns) {
    uint64_t timeout_ns = atomic_load_explicit(
        class == KITH_API_WRITE ? &api->write_timeout_ns : &api->search_timeout_ns, memory_order_relaxed);
    uint64_t latest_ns = now_ns + timeout_ns;
    return call->deadline_ns && call->deadline_ns < latest_ns ? call->deadline_ns : latest_ns;
}

static kith_status collection_find(kith_api_run *run, const char *name, size_t name_bytes, kith_err *err) {
    run->entry = kith_meta_map_find(run->map, name, name_bytes);
    if (run->entry) return KITH_OK;
    kith_status status = kith_name_check("collection name", name, name_bytes, false, err);
    if (status != KITH_OK) return status;
    return kith_err_set(err, KITH_NOT_FOUND, "collection \"%.*s\" does not exist", (int)name_bytes, name);
}

kith_status kith_api_enter(kith_api *api, kith_api_call *call, kith_api_class class, uint64_t bytes,
    const char *name, size_t name_bytes, kith_api_run *run_out, kith_err *err) {
    kith_status status = kith_api_admit_enter(api, class, bytes, err);
    if (status != KITH_OK) return status;
    uint64_t now_ns = kith_env_now_ns(api->options.env);
    kith_api_run run = {
        .api = api,
        .class = class,
        .bytes = bytes,
        .entered_ns = now_ns,
        .map = kith_meta_map_get(api->options.meta),
    };
    call->deadline_ns = deadline_of(api, call, class, now_ns);
    if (call->deadline_ns <= now_ns)
        status = kith_err_set(err, KITH_DEADLINE, "deadline exceeded before it began");
    if (status == KITH_OK && name) status = collection_find(&run, name, name_bytes, err);
    if (status != KITH_OK) {
        kith_api_leave(&run);
        return status;
    }
    *run_out = run;
    return KITH_OK;
}

static void refreshed(kith_meta_wait *wait, kith_status status, const kith_err *err) {
    kith_api_refresh *refresh = (kith_api_refresh *)(void *)((char *)wait - offsetof(kith_api_refresh, impl));
    (void)status;
    (void)err;
    refresh->done(refresh);
}

bool kith_api_refresh_start(kith_api *api, kith_api_refresh *refresh) {
    _Static_assert(sizeof(kith_meta_wait) <= sizeof refresh->impl, "a refresh embeds its wait");
    if (!api->options.meta->is_remote) return false;
    uint64_t until = kith_env_now_ns(api->options.env) + REFRESH_NS_MAX;
    kith_meta_wait *wait = (kith_meta_wait *)(void *)refresh->impl;
    *wait = (kith_meta_wait){
        .map_version = KITH_META_NEWEST,
        .deadline_ns = refresh->deadline_ns && refresh->deadline_ns < until ? refresh->deadline_ns : until,
        .done = refreshed,
    };
    kith_meta_wait_start(api->options.meta, wait);
    return true;
}

kith_arena *kith_api_run_arena(kith_api_run *run, kith_api_call *call) {
    return call->again_count > 0 ? &run->arena : call->arena;
}

kith_api_run kith_api_answer(kith_api_run *run) {
    if (!run->answering) kith_api_admit_free(run->api, run->class, run->bytes);
    run->answering = true;
    return *run;
}

void kith_api_leave(kith_api_run *run) {
    kith_arena_fini(&run->arena);
    kith_meta_map_release(run->map);
    if (!run->answering) kith_api_admit_free(run->api, run->class, run->bytes);
    kith_api_admit_leave(run->api);
}

/* --- again --- */

static void again_refreshed(kith_api_refresh *refresh) {
    kith_api_again *again = (kith_api_again *)refresh;
    again->run(again);
}

static void again_paused(kith_task *task) {
    kith_api_again *again = (kith_api_again *)(void *)((char *)task - offsetof(kith_api_again, timer.task));
    (void)kith_api_refresh_start(again->api, &again->refresh); /* its metadata are remote */
}

bool kith_api_again_start(kith_api *api, kith_api_again *again, uint64_t deadline_ns, uint32_t count) {
    uint64_t now_ns = kith_env_now_ns(api->options.env);
    uint64_t pause_ns =
        count == 0 ? 0 : AGAIN_NS_FIRST << (count - 1 < AGAIN_DOUBLED ? count - 1 : AGAIN_DOUBLED);
    bool is_late = deadline_ns <= now_ns || deadline_ns - now_ns <= pause_ns;
    if (!api->options.meta->is_remote || is_late || atomic_load(&api->stopped)) return false;
    again->api = api;
    again->refresh = (kith_api_refresh){.deadline_ns = deadline_ns, .done = again_refreshed};
    if (pause_ns == 0) return kith_api_refresh_start(api, &again->refresh);
    again->timer.task.run = again_paused;
    again->timer.executor = api->options.executor;
    again->timer.due_ns = now_ns + pause_ns;
    kith_timer_start(&again->timer);
    return true;
}

typedef struct again_run {
    kith_api_again again;
    kith_api_run left;
    kith_api_call *call;
    void (*start)(kith_api *api, kith_api_call *call);
} again_run;

/* The first run is left last: until then the api knows of the request. */
static void again_start(kith_api_again *started) {
    again_run again = *(again_run *)started; /* in the call's arena, which may be gone once it is started */
    kith_arena_fini(&again.left.arena);
    again.start(again.left.api, again.call);
    kith_api_leave(&again.left);
}

/* While a shard changes hands none of its replicas may answer. With one copy there are no hands to change to. */
static bool is_changing(const kith_api_run *run, kith_status status) {
    if (status == KITH_STALE_MAP) return true;
    if (!run->entry || run->entry->replica_width == 1) return false;
    return status == KITH_UNAVAILABLE || status == KITH_CLOSED;
}

bool kith_api_starts_again(kith_api_run *run, kith_api_call *call, kith_status status,
    void (*start)(kith_api *api, kith_api_call *call)) {
    uint32_t count_max = run->entry && run->entry->replica_width > 1 ? AGAIN_READS_MAX : 1;
    if (!is_changing(run, status) || call->again_count >= count_max || atomic_load(&call->cancelled))
        return false;
    again_run *again = kith_arena_alloc_zero(call->arena, sizeof *again);
    *again =
        (again_run){.again.run = again_start, .left = kith_api_answer(run), .call = call, .start = start};
    if (!kith_api_again_start(run->api, &again->again, call->deadline_ns, call->again_count++)) {
        *run = again->left;
        return false;
    }
    return true;
}

/* Some replica that the shard may be read on is up. */
static bool may_come_back(const kith_api_run *run, uint64_t shard_id) {
    const kith_meta_entry *entry = run->entry;
    uint64_t shard = shard_id - entry->collection.shard_id_first;
    for (uint32_t i = 0; i < entry->replica_width; i++) {
        uint16_t node = entry->shard_replicas[shard * entry->replica_width + i];
        bool is_in_sync = entry->shard_in_sync[shard] >> i & 1;
        if (node != KITH_META_NODE_NONE && is_in_sync && !run->map->nodes[node].down) return true;
    }
    return false;
}

kith_status kith_api_coverage_status(
    const kith_api_run *run, const kith_api_call *call, const kith_query_coverage *coverage) {
    if (run->entry->replica_width == 1 || call->again_count >= AGAIN_PARTIAL_MAX) return KITH_OK;
    for (uint32_t i = 0; i < coverage->shards_total - coverage->shards_answered; i++) {
        const kith_query_missing *missing = &coverage->missing[i];
        if (is_changing(run, missing->status) && may_come_back(run, missing->shard_id))
            return missing->status;
    }
    return KITH_OK;
}

kith_query_base kith_api_query_base(kith_api_run *run, kith_api_call *call) {
    return (kith_query_base){
        .env = run->api->options.env,
        .transport = run->api->options.transport,
        .map = run->map,
        .entry = run->entry,
        .arena = kith_api_run_arena(run, call),
        .deadline_ns = call->deadline_ns,
        .cancelled = &call->cancelled,
        .executor = run->api->options.executor,
        .load = run->api->load,
    };
}

kith_api_coverage kith_api_coverage_of(const kith_query_coverage *coverage, kith_arena *arena) {
    uint32_t missing_count = coverage->shards_total - coverage->shards_answered;
    kith_api_missing *missing = kith_arena_array(arena, missing_count, sizeof *missing);
    for (uint32_t i = 0; i < missing_count; i++) {
        missing[i] = (kith_api_missing){
            .shard_id = coverage->missing[i].shard_id,
            .node = coverage->missing[i].node,
            .reason = coverage->missing[i].reason,
        };
    }
    return (kith_api_coverage){.shards_total = coverage->shards_total,
        .shards_answered = coverage->shards_answered,
        .missing = missing};
}
