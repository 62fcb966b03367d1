/* The leader carries out what rebalance.h decides: one command at a time, through its own log. Nothing is remembered but in the
 * metadata. */
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/cluster/coordinator_internal.h"

/* What a command changes is seen in the next map; where nothing changes, time does: delays end. */
#define REBALANCE_PAUSE_NS (1000 * COORDINATOR_MS_NS)
/* Times the heartbeat timeout without a change of nodes and collections before anything is moved for balance; a guess. */
#define REBALANCE_SETTLE_TIMEOUTS 15u

void coordinator_rebalance_init(kith_coordinator *coordinator) {
    const kith_coordinator_options *options = &coordinator->options;
    uint64_t timeout_ns = options->heartbeat_timeout_ms * COORDINATOR_MS_NS;
    coordinator->rebalance = kith_rebalance_create(&(kith_rebalance_options){
        .replace_after_ns = options->replica_replace_after_ms * COORDINATOR_MS_NS,
        .settle_ns = REBALANCE_SETTLE_TIMEOUTS * timeout_ns,
        .handover_interval_ns = timeout_ns,
        .moves_max = options->rebalance_moves_max,
    });
    coordinator->rebalance_changes = kith_alloc_zero(sizeof *coordinator->rebalance_changes);
}

void coordinator_rebalance_fini(kith_coordinator *coordinator) {
    kith_rebalance_destroy(coordinator->rebalance);
    kith_free(coordinator->rebalance_changes);
}

typedef struct rebalance_proposal {
    kith_meta_log_proposal proposal;
    kith_coordinator *coordinator;
    kith_buf bytes;
} rebalance_proposal;

/* Shards that were changed meanwhile were refused, which is no news: the next step sees them as they are. */
static void proposal_done(kith_meta_log_proposal *proposal, kith_status status,
    const kith_meta_result *result, const kith_err *err) {
    rebalance_proposal *own = (rebalance_proposal *)(void *)proposal;
    kith_coordinator *coordinator = own->coordinator;
    if (status != KITH_OK) {
        kith_log_warn("rebalance_failed", kith_kv_text("reason", err->text));
    } else if (result->status != KITH_OK) {
        kith_log_debug("rebalance_refused", kith_kv_text("reason", result->err.text));
    }
    coordinator->rebalance_open = false;
    kith_buf_fini(&own->bytes);
    kith_free(own);
    coordinator_ended(coordinator);
}

static void propose(kith_coordinator *coordinator) {
    const kith_rebalance_changes *decided = coordinator->rebalance_changes;
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = decided->changes, .change_count = decided->count};
    rebalance_proposal *own = kith_alloc_zero(sizeof *own);
    own->coordinator = coordinator;
    kith_buf_init(&own->bytes);
    kith_codec_meta_command_encode(&command, &own->bytes);
    own->proposal = (kith_meta_log_proposal){
        .bytes = own->bytes.data, .byte_count = own->bytes.bytes, .done = proposal_done};
    coordinator->open_count++;
    coordinator->rebalance_open = true;
    kith_meta_log_propose(coordinator->options.log, &own->proposal);
}

static void decided_tell(const kith_coordinator *coordinator) {
    const kith_rebalance_changes *decided = coordinator->rebalance_changes;
    kith_rebalance_report left;
    kith_rebalance_tell(coordinator->rebalance, &left);
    kith_log_info("rebalance", kith_kv_u64("added", decided->add_count),
        kith_kv_u64("dropped", decided->drop_count), kith_kv_u64("given_up", decided->given_up_count),
        kith_kv_u64("handed_over", decided->handover_count), kith_kv_u64("behind", left.behind_count),
        kith_kv_u64("waiting", left.waiting_count));
}

/* Copies that come no nearer to being in sync, for as long as a node that is down is waited for. */
static void stalled_tell(kith_coordinator *coordinator) {
    kith_rebalance_stalled_forget(coordinator->rebalance);
    for (uint32_t i = 0; i < coordinator->node_count; i++) {
        const coordinator_node *of = coordinator->nodes[i];
        if (!of->known || !of->heard || of->node.down) continue;
        for (uint32_t s = 0; s < of->heartbeat.stalled_count; s++) {
            const kith_codec_stalled *stalled = &of->heartbeat.stalled[s];
            if (stalled->for_ms >= coordinator->options.replica_replace_after_ms)
                kith_rebalance_stalled(coordinator->rebalance, stalled->shard_id, of->node.number);
        }
    }
}

void coordinator_rebalance(kith_coordinator *coordinator) {
    const kith_meta_state *state = &coordinator->options.fsm->state;
    uint64_t now_ns = coordinator_now(coordinator);
    if (!coordinator->leading || coordinator->closed || coordinator->rebalance_open) return;
    if (now_ns < coordinator->rebalance_due_ns && state->map_version == coordinator->rebalance_version)
        return;
    coordinator->rebalance_due_ns = now_ns + REBALANCE_PAUSE_NS;
    coordinator->rebalance_version = state->map_version;
    stalled_tell(coordinator);
    kith_rebalance_clock clock = {.now_ns = now_ns, .wall_ms = kith_env_wall_ms(coordinator->options.env)};
    kith_rebalance_step(coordinator->rebalance, state, clock, coordinator->rebalance_changes);
    if (coordinator->rebalance_changes->count == 0) return;
    decided_tell(coordinator);
    propose(coordinator);
}

kith_codec_copying coordinator_copying(const kith_coordinator *coordinator) {
    kith_rebalance_report left;
    kith_rebalance_tell(coordinator->rebalance, &left);
    return (kith_codec_copying){.behind = left.behind_count,
        .moving = left.moving_count,
        .waiting = left.waiting_count,
        .short_count = left.short_count};
}

void coordinator_rebalance_leads(kith_coordinator *coordinator) {
    kith_rebalance_reset(coordinator->rebalance);
    coordinator->rebalance_due_ns = 0;
}
