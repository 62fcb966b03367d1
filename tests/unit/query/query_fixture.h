/* A collection of several shards on nodes that a handler of the test plays, over the loop transport, and the wait for the
 * answer to one request.
 *
 * Threads: requests begin and are waited for on the test's; handlers run on the executor's, and lock `mutex` for what the
 * test reads. */
#ifndef KITH_TESTS_UNIT_QUERY_QUERY_FIXTURE_H
#define KITH_TESTS_UNIT_QUERY_QUERY_FIXTURE_H

#include "host/base/thread.h"
#include "host/query/query.h"

enum { QUERY_FIXTURE_SHARD_FIRST = 20 };

typedef struct query_fixture {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport;
    kith_meta_map *map;
    kith_arena arena; /* of the request */
    kith_mutex mutex;
    kith_cond answered;
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
} query_fixture;

/* `handle` gets `ctx` with each message of the kind. Shard i is QUERY_FIXTURE_SHARD_FIRST + i, all on the first node. */
void query_fixture_init(query_fixture *f, const kith_node *nodes, uint32_t node_count, uint32_t shard_count,
    kith_am_kind kind, void (*handle)(void *ctx, kith_transport_request *message), void *ctx);
void query_fixture_fini(query_fixture *f);

/* What a request is made with; the arena is empty again. */
kith_query_base query_fixture_begin(query_fixture *f);
/* For the request's callback. */
void query_fixture_answer(query_fixture *f, kith_status status, const kith_err *err);
kith_status query_fixture_wait(query_fixture *f);

#endif
