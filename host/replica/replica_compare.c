/* Anti-entropy: now and then the primary compares what it has of a shard with each replica that is in sync, slot by slot, as of one entry
 * (host/shard/shard_digest.h). They should never differ.
 *
 * Who differs is replaced by a copy. Where several others agree with each other and not with the primary, it is the primary that is wrong: it
 * makes way. With one other nobody can tell, and the primary is believed.
 *
 * The entry lies ahead of the log while writes go on, so that every replica hears of it before it has gone by; how far, is tried. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

#define ATTEMPTS_MAX 6u
#define AHEAD_FIRST  64u /* entries; four times as many with each attempt */
#define DEADLINE_NS  (20000 * MS_NS)
#define RETRY_NS     (2000 * MS_NS)
#define BUSY_NS      (500 * MS_NS) /* another shard of this node is being compared */
#define VERDICT_NS   (5000 * MS_NS)

typedef struct compare_peer {
    kith_transport_call call;
    kith_task task;
    replica_compare *compare;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    uint32_t number;
    kith_buf request;
    kith_status status;
    uint64_t *digests; /* NULL: none as of the entry */
    uint32_t difference_count;
    bool is_calling;
} compare_peer;

struct replica_compare {
    kith_shard_digests mine;
    kith_task task; /* the own digests are there */
    replica *own;
    uint64_t sequence;
    uint64_t *digests;
    kith_status status;
    uint32_t remaining, peer_count;
    bool is_over;    /* it is not wanted any more */
    bool is_counted; /* the own digests, which end with the shard at the latest, are waited for by a stop */
    compare_peer peers[KITH_REPLICAS_MAX];
};

static void peer_free(compare_peer *peer) {
    kith_buf_fini(&peer->request);
    kith_free(peer->digests);
}

static void compare_free(replica_compare *compare) {
    for (uint32_t i = 0; i < compare->peer_count; i++)
        peer_free(&compare->peers[i]);
    kith_free(compare->digests);
    kith_free(compare);
}

static void peer_call(compare_peer *peer, const kith_codec_digest_request *request, uint64_t deadline_ns,
    void (*done)(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
        const kith_err *err)) {
    kith_replica_set *set = peer->compare->own->set;
    const replica_node *node = replica_node_of(set, peer->number);
    kith_buf_clear(&peer->request);
    kith_codec_digest_request_encode(request, &peer->request);
    if (node) memcpy(peer->address, node->address, sizeof peer->address);
    peer->call = (kith_transport_call){
        .node = node ? node->id : (kith_node_id){{0}},
        .address = peer->address,
        .kind = KITH_AM_DIGEST,
        .bytes = peer->request.data,
        .byte_count = peer->request.bytes,
        .deadline_ns = deadline_ns,
        .done = done,
    };
    peer->is_calling = true;
    replica_use(set, NULL);
    kith_transport_start(set->options.transport, &peer->call);
}

/* --- the end --- */

static void compare_over(replica_compare *compare) {
    replica *own = compare->own;
    kith_replica_set *set = own->set;
    own->compare = NULL;
    set->comparing--;
    compare_free(compare);
    replica_drop(own);
}

/* As far as the set is to wait for it. */
static void mine_uncount(replica_compare *compare) {
    if (compare->is_counted) replica_unuse(compare->own->set, NULL);
    compare->is_counted = false;
}

/* An answer has come, or will not; the last one ends it. */
static bool part_ends(replica_compare *compare) {
    return --compare->remaining == 0;
}

static void verdict_ended(kith_task *task) {
    compare_peer *peer = (compare_peer *)(void *)((char *)task - offsetof(compare_peer, task));
    kith_replica_set *set = peer->compare->own->set;
    peer->is_calling = false;
    if (part_ends(peer->compare)) compare_over(peer->compare);
    replica_unuse(set, NULL);
}

static void verdict_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    compare_peer *peer = (compare_peer *)call;
    (void)status; /* the next comparison tells it again */
    (void)reply;
    (void)reply_bytes;
    (void)err;
    peer->task.run = verdict_ended;
    kith_executor_post(peer->compare->own->set->owner, &peer->task);
}

static void verdict_send(compare_peer *peer) {
    replica_compare *compare = peer->compare;
    replica *own = compare->own;
    kith_log_error("replica_differs", kith_kv_u64("shard", own->shard_id), kith_kv_u64("node", peer->number),
        kith_kv_u64("sequence", compare->sequence), kith_kv_u64("slots", peer->difference_count));
    compare->remaining++;
    peer_call(peer,
        &(kith_codec_digest_request){.shard_id = own->shard_id,
            .epoch = own->config.epoch,
            .sequence = compare->sequence,
            .slot_count = 1,
            .differs = true},
        replica_now_ns(own->set) + VERDICT_NS, verdict_done);
}

/* --- the verdict --- */

static uint32_t differences(const uint64_t *a, const uint64_t *b) {
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < KITH_SLOTS; slot++)
        count += a[slot] != b[slot];
    return count;
}

/* Two others at least have the same, and it is not what the primary has. */
static bool primary_is_wrong(const replica_compare *compare) {
    const compare_peer *first = NULL;
    uint32_t agreed = 0;
    for (uint32_t i = 0; i < compare->peer_count; i++) {
        const compare_peer *peer = &compare->peers[i];
        if (!peer->digests) continue;
        if (peer->difference_count == 0) return false;
        if (first && differences(first->digests, peer->digests) > 0) return false;
        first = peer;
        agreed++;
    }
    return agreed >= 2;
}

static void primary_fails(replica *own) {
    kith_log_error("replica_differs", kith_kv_u64("shard", own->shard_id),
        kith_kv_u64("node", own->set->self), kith_kv_text("reason", "all others have the same"));
    replica_fail(own);
}

static void count_differences(const replica_compare *compare, uint64_t count) {
    kith_metrics *metrics = compare->own->set->options.metrics;
    if (metrics && count)
        kith_series_add(kith_metrics_series(metrics, KITH_METRIC_ID_REPLICA_DIFFERENCES, ""), count);
}

/* True: all that are in sync were compared. */
static bool judge(replica_compare *compare) {
    uint64_t count = 0;
    bool complete = true;
    for (uint32_t i = 0; i < compare->peer_count; i++) {
        compare_peer *peer = &compare->peers[i];
        complete = complete && peer->digests;
        if (peer->digests) peer->difference_count = differences(peer->digests, compare->digests);
        count += peer->difference_count;
    }
    count_differences(compare, count);
    kith_log_debug("replica_compared", kith_kv_u64("shard", compare->own->shard_id),
        kith_kv_u64("sequence", compare->sequence), kith_kv_u64("copies", compare->peer_count),
        kith_kv_u64("all", complete), kith_kv_u64("differences", count));
    bool wrong = primary_is_wrong(compare);
    for (uint32_t i = 0; i < compare->peer_count && !wrong; i++) {
        if (compare->peers[i].difference_count > 0) verdict_send(&compare->peers[i]);
    }
    if (wrong) primary_fails(compare->own);
    return complete;
}

static void next_plan(replica *own, bool complete) {
    kith_replica_set *set = own->set;
    bool again = !complete && ++own->compare_attempt < ATTEMPTS_MAX;
    if (!again) own->compare_attempt = 0;
    own->compare_due_ns = replica_now_ns(set) + (again ? RETRY_NS : set->options.digest_interval_ns);
    replica_timer_want(set, own->compare_due_ns);
}

static void compare_end(replica_compare *compare) {
    replica *own = compare->own;
    bool leads = own->step && !own->let_go && own->shown.status.role == KITH_REPLICA_PRIMARY;
    compare->remaining = 1; /* of this function */
    if (!compare->is_over && !own->set->stopped && leads)
        next_plan(own, compare->status == KITH_OK && judge(compare));
    else if (!own->let_go && !own->set->stopped)
        next_plan(own, true);
    if (part_ends(compare)) compare_over(compare);
}

static void part_ended(replica_compare *compare) {
    if (part_ends(compare)) compare_end(compare);
}

/* --- what comes --- */

static void mine_ended(kith_task *task) {
    replica_compare *compare = (replica_compare *)(void *)((char *)task - offsetof(replica_compare, task));
    mine_uncount(compare);
    part_ended(compare);
}

/* On the background executor. */
static void mine_done(kith_shard_digests *mine, kith_status status, uint64_t sequence, const kith_err *err) {
    replica_compare *compare = (replica_compare *)mine;
    (void)sequence;
    (void)err;
    compare->status = status;
    compare->task.run = mine_ended;
    kith_executor_post(compare->own->set->owner, &compare->task);
}

static void peer_ended(kith_task *task) {
    compare_peer *peer = (compare_peer *)(void *)((char *)task - offsetof(compare_peer, task));
    kith_replica_set *set = peer->compare->own->set;
    peer->is_calling = false;
    part_ended(peer->compare);
    replica_unuse(set, NULL);
}

static void reply_take(compare_peer *peer, const void *reply, size_t reply_bytes) {
    kith_arena arena;
    kith_err err;
    kith_codec_digest_reply decoded;
    kith_arena_init(&arena);
    kith_status status = kith_codec_digest_reply_decode(reply, reply_bytes, &arena, &decoded, &err);
    if (status == KITH_OK && decoded.sequence == peer->compare->sequence &&
        decoded.slot_count == KITH_SLOTS) {
        peer->digests = kith_alloc_array(KITH_SLOTS, sizeof *peer->digests);
        memcpy(peer->digests, decoded.digests, KITH_SLOTS * sizeof *peer->digests);
    }
    kith_arena_fini(&arena);
}

/* Any thread. */
static void peer_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    compare_peer *peer = (compare_peer *)call;
    (void)err; /* another time, then */
    if (status == KITH_OK) reply_take(peer, reply, reply_bytes);
    peer->task.run = peer_ended;
    kith_executor_post(peer->compare->own->set->owner, &peer->task);
}

/* --- start --- */

static void peers_choose(replica_compare *compare) {
    const kith_replica_config *config = &compare->own->config;
    for (uint32_t i = 1; i < config->replica_count; i++) {
        if (!(config->in_sync & 1u << i)) continue;
        compare_peer *peer = &compare->peers[compare->peer_count++];
        peer->compare = compare;
        peer->number = config->replicas[i];
        kith_buf_init(&peer->request);
    }
}

static uint64_t sequence_choose(const replica *own) {
    const kith_replica_status *status = &own->shown.status;
    bool is_quiet = status->committed == status->end.sequence && own->compare_end == status->end.sequence;
    if (is_quiet) return status->end.sequence;
    return status->end.sequence + ((uint64_t)AHEAD_FIRST << 2 * own->compare_attempt);
}

static void compare_start(replica *own, uint64_t now_ns) {
    kith_replica_set *set = own->set;
    replica_compare *compare = kith_alloc_zero(sizeof *compare);
    compare->own = own;
    compare->sequence = sequence_choose(own);
    compare->digests = kith_alloc_zero(KITH_SLOTS * sizeof *compare->digests);
    own->compare = compare;
    own->compare_due_ns = UINT64_MAX;
    set->comparing++;
    compare->is_counted = true;
    replica_hold(own);
    replica_use(set, NULL);
    peers_choose(compare);
    compare->remaining = 1 + compare->peer_count;
    compare->mine = (kith_shard_digests){.slot_count = KITH_SLOTS,
        .at_sequence = compare->sequence,
        .deadline_ns = now_ns + DEADLINE_NS,
        .digests_out = compare->digests,
        .done = mine_done};
    kith_codec_digest_request request = {.shard_id = own->shard_id,
        .epoch = own->config.epoch,
        .sequence = compare->sequence,
        .slot_count = KITH_SLOTS};
    for (uint32_t i = 0; i < compare->peer_count; i++)
        peer_call(&compare->peers[i], &request, now_ns + DEADLINE_NS, peer_done);
    kith_shard_digests_start(own->shard, &compare->mine);
}

/* A shard that was written to a moment ago is looked at twice, to see whether it still is. */
void replica_compare_tick(replica *own, uint64_t now_ns) {
    const kith_replica_status *status = &own->shown.status;
    bool has_others = (own->config.in_sync & ~1u) != 0;
    uint64_t interval_ns = own->set->options.digest_interval_ns;
    if (own->compare || status->role != KITH_REPLICA_PRIMARY || !own->shard || !has_others ||
        own->applied == 0) {
        own->compare_due_ns = own->compare ? UINT64_MAX : now_ns + interval_ns;
    } else if (own->set->comparing > 0 || own->compare_end == 0) {
        own->compare_end = status->end.sequence;
        own->compare_due_ns = now_ns + BUSY_NS;
    } else {
        compare_start(own, now_ns);
        own->compare_end = 0;
    }
}

void replica_compare_stop(replica *own) {
    replica_compare *compare = own->compare;
    if (!compare) return;
    compare->is_over = true;
    mine_uncount(compare);
    for (uint32_t i = 0; i < compare->peer_count; i++) {
        if (compare->peers[i].is_calling)
            kith_transport_cancel(own->set->options.transport, &compare->peers[i].call);
    }
}

/* --- those that are asked --- */

typedef struct digest_serving {
    kith_shard_digests digests;
    kith_replica_set *set;
    kith_transport_request *request;
    kith_codec_digest_request asked;
    uint64_t values[];
} digest_serving;

/* On the background executor. */
static void serving_done(
    kith_shard_digests *digests, kith_status status, uint64_t sequence, const kith_err *err) {
    digest_serving *serving = (digest_serving *)digests;
    kith_transport *transport = serving->set->options.transport;
    if (status == KITH_OK || status == KITH_NOT_FOUND) {
        kith_buf bytes;
        kith_buf_init(&bytes);
        kith_codec_digest_reply reply = {.sequence = sequence,
            .slot_count = status == KITH_OK ? serving->asked.slot_count : 0,
            .digests = serving->values};
        kith_codec_digest_reply_encode(&reply, &bytes);
        kith_transport_reply(serving->request, transport, KITH_OK, bytes.data, bytes.bytes, NULL);
        kith_buf_fini(&bytes);
    } else {
        kith_transport_reply(serving->request, transport, status, NULL, 0, err);
    }
    kith_free(serving);
}

static void serving_start(
    replica *own, kith_transport_request *request, const kith_codec_digest_request *asked) {
    digest_serving *serving = kith_alloc_zero(sizeof *serving + asked->slot_count * sizeof *serving->values);
    serving->set = own->set;
    serving->request = request;
    serving->asked = *asked;
    serving->digests = (kith_shard_digests){.slot_first = asked->slot_first,
        .slot_count = asked->slot_count,
        .at_sequence = asked->sequence,
        .deadline_ns = request->deadline_ns,
        .digests_out = serving->values,
        .done = serving_done};
    kith_shard_digests_start(own->shard, &serving->digests);
}

/* The primary has found that this replica is not as others are. */
static void told_differs(replica *own, kith_transport_request *request) {
    kith_transport_reply(request, own->set->options.transport, KITH_OK, NULL, 0, NULL);
    if (own->install) return;
    kith_log_error("replica_is_different", kith_kv_u64("shard", own->shard_id));
    replica_fail(own);
}

static kith_status may_be_asked(
    const replica *own, uint32_t from, const kith_codec_digest_request *asked, kith_err *err) {
    if (!own || !own->step || !own->shard || own->let_go) {
        return kith_err_set(
            err, KITH_STALE_MAP, "shard %llu is not ready here", (unsigned long long)asked->shard_id);
    }
    if (own->config.epoch == asked->epoch && own->config.replicas[0] == from) return KITH_OK;
    return kith_err_set(err, KITH_STALE_MAP, "epoch of shard %llu is %llu here, not %llu",
        (unsigned long long)asked->shard_id, (unsigned long long)own->config.epoch,
        (unsigned long long)asked->epoch);
}

void replica_digest_handle(void *ctx, kith_transport_request *request) {
    kith_replica_set *set = ctx;
    kith_codec_digest_request asked;
    kith_err err;
    kith_status status = kith_codec_digest_request_decode(request->bytes, request->byte_count, &asked, &err);
    replica *own = status == KITH_OK ? replica_find(set, asked.shard_id) : NULL;
    if (status == KITH_OK) status = may_be_asked(own, replica_number_of(set, &request->from), &asked, &err);
    if (status != KITH_OK)
        kith_transport_reply(request, set->options.transport, status, NULL, 0, &err);
    else if (asked.differs)
        told_differs(own, request);
    else
        serving_start(own, request, &asked);
}
