/* How busy other nodes are, as far as this process has asked them: which replica is asked, and when a second one is asked
 * too, because the first takes longer than nearly all do.
 *
 * Threads: any. Each number is an atomic of its own, relaxed: two updates at once may lose one, which costs precision and
 * nothing else.
 * Ownership: create/destroy. */
#ifndef KITH_QUERY_QUERY_LOAD_H
#define KITH_QUERY_QUERY_LOAD_H

#include "host/env/env.h"
#include "transport/am_kinds.h"

typedef struct kith_query_load kith_query_load;

kith_query_load *kith_query_load_create(kith_env *env);
void kith_query_load_destroy(kith_query_load *load); /* accepts NULL */

/* Different each time: what a request's choices are drawn from. */
uint64_t kith_query_load_seed(kith_query_load *load);

/* A message to the node of this number is on its way, and has ended. */
void kith_query_load_sent(kith_query_load *load, uint32_t node_number);
typedef struct kith_query_load_sample {
    uint32_t node_number;
    kith_am_kind kind;
    uint32_t shard_count;
    bool failed; /* it said nothing of how long an answer takes */
    uint64_t now_ns, took_ns;
} kith_query_load_sample;
void kith_query_load_ended(kith_query_load *load, const kith_query_load_sample *sample);

typedef struct kith_query_node_load {
    uint32_t in_flight; /* messages */
    uint64_t shard_ns;  /* an answer took, for each shard in it; 0: not known */
} kith_query_node_load;
kith_query_node_load kith_query_load_of(const kith_query_load *load, uint32_t node_number, uint64_t now_ns);

/* How long to wait for an answer before a second replica is asked: longer than 19 of 20 answers took lately. */
uint64_t kith_query_load_patience_ns(const kith_query_load *load, kith_am_kind kind);
/* Messages beyond the necessary ones are at most a twentieth of all: false, when these would be more. */
bool kith_query_load_extra_take(kith_query_load *load, uint32_t message_count);

#endif
