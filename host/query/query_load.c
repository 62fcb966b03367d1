#include "host/query/query_load.h"

#include <stdatomic.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"

/* By node number; nodes that share a slot share its numbers, which is a worse guess and no fault. */
#define SLOTS 2048u
/* A node's times are forgotten when it has not answered for so long: it may be well again. */
#define FORGET_NS UINT64_C(10000000000)
/* No second replica is asked sooner: below it a pause of the scheduler decides, not the node. */
#define PATIENCE_NS_MIN UINT64_C(10000000)
#define PATIENCE_NS_MAX UINT64_C(60000000000)
/* Of a failure: the node is asked again when the others are as slow, or when it is forgotten. */
#define FAILED_NS UINT64_C(100000000)
/* Extra messages are paid for in twentieths; as many may be saved as for 16 of them. */
#define EXTRA_PRICE     20
#define EXTRA_SAVED_MAX (16 * EXTRA_PRICE)

typedef struct load_slot {
    _Atomic uint32_t in_flight;
    _Atomic uint64_t shard_ns, heard_ns;
} load_slot;

struct kith_query_load {
    uint64_t seed;
    _Atomic uint64_t drawn;
    _Atomic uint64_t slow_ns[KITH_AM_KIND_COUNT]; /* the 95th of 100 answers */
    _Atomic int32_t extra_saved;
    load_slot slots[SLOTS];
};

kith_query_load *kith_query_load_create(kith_env *env) {
    kith_query_load *load = kith_alloc_zero(sizeof *load);
    kith_env_random(env, &load->seed, sizeof load->seed);
    for (uint32_t kind = 0; kind < KITH_AM_KIND_COUNT; kind++)
        atomic_init(&load->slow_ns[kind], PATIENCE_NS_MIN);
    return load;
}

void kith_query_load_destroy(kith_query_load *load) {
    kith_free(load);
}

uint64_t kith_query_load_seed(kith_query_load *load) {
    kith_rng rng;
    uint64_t drawn = atomic_fetch_add_explicit(&load->drawn, 1, memory_order_relaxed);
    kith_rng_init(&rng, load->seed + drawn);
    return kith_rng_next(&rng);
}

void kith_query_load_sent(kith_query_load *load, uint32_t node_number) {
    atomic_fetch_add_explicit(&load->slots[node_number % SLOTS].in_flight, 1, memory_order_relaxed);
    if (atomic_load_explicit(&load->extra_saved, memory_order_relaxed) < EXTRA_SAVED_MAX)
        atomic_fetch_add_explicit(&load->extra_saved, 1, memory_order_relaxed);
}

/* A quantile by small steps: 19 of them up weigh as much as one down, so they balance where one answer in 20 is above
 * (after Q. Ma, S. Muthukrishnan, M. Sandler, "Frugal Streaming for Estimating Quantiles", 2013, section 3, with steps
 * in proportion to the value). */
static void slow_learn(_Atomic uint64_t *slow_ns, uint64_t took_ns) {
    uint64_t slow = atomic_load_explicit(slow_ns, memory_order_relaxed);
    slow = took_ns > slow ? slow + slow * 19 / 512 : slow - slow / 512;
    if (slow > PATIENCE_NS_MAX) slow = PATIENCE_NS_MAX;
    if (slow < PATIENCE_NS_MIN / 16) slow = PATIENCE_NS_MIN / 16;
    atomic_store_explicit(slow_ns, slow, memory_order_relaxed);
}

void kith_query_load_ended(kith_query_load *load, const kith_query_load_sample *sample) {
    load_slot *slot = &load->slots[sample->node_number % SLOTS];
    atomic_fetch_sub_explicit(&slot->in_flight, 1, memory_order_relaxed);
    uint64_t shard_ns = sample->failed ? FAILED_NS : sample->took_ns / sample->shard_count;
    uint64_t known = atomic_load_explicit(&slot->shard_ns, memory_order_relaxed);
    uint64_t heard = atomic_load_explicit(&slot->heard_ns, memory_order_relaxed);
    if (known && sample->now_ns < heard + FORGET_NS) shard_ns = known - known / 4 + shard_ns / 4;
    atomic_store_explicit(&slot->shard_ns, shard_ns ? shard_ns : 1, memory_order_relaxed);
    atomic_store_explicit(&slot->heard_ns, sample->now_ns, memory_order_relaxed);
    if (!sample->failed) slow_learn(&load->slow_ns[sample->kind], sample->took_ns);
}

kith_query_node_load kith_query_load_of(const kith_query_load *load, uint32_t node_number, uint64_t now_ns) {
    const load_slot *slot = &load->slots[node_number % SLOTS];
    kith_query_node_load of = {.in_flight = atomic_load_explicit(&slot->in_flight, memory_order_relaxed)};
    uint64_t heard = atomic_load_explicit(&slot->heard_ns, memory_order_relaxed);
    if (now_ns < heard + FORGET_NS) of.shard_ns = atomic_load_explicit(&slot->shard_ns, memory_order_relaxed);
    return of;
}

uint64_t kith_query_load_patience_ns(const kith_query_load *load, kith_am_kind kind) {
    uint64_t slow = atomic_load_explicit(&load->slow_ns[kind], memory_order_relaxed);
    return slow > PATIENCE_NS_MIN ? slow : PATIENCE_NS_MIN;
}

bool kith_query_load_extra_take(kith_query_load *load, uint32_t message_count) {
    int32_t saved = atomic_load_explicit(&load->extra_saved, memory_order_relaxed);
    int64_t price = (int64_t)message_count * EXTRA_PRICE;
    do {
        if (saved < price) return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &load->extra_saved, &saved, saved - (int32_t)price, memory_order_relaxed, memory_order_relaxed));
    return true;
}
