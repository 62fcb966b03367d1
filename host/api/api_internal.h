/* Shared by the files of host/api. */
#ifndef KITH_API_API_INTERNAL_H
#define KITH_API_API_INTERNAL_H

#include "host/api/api.h"
#include "host/base/thread.h"
#include "host/meta/meta.h"
#include "host/query/query.h"

/* Bytes of reading requests in flight (queries, ids, results of searches). A guess: three of the largest searches. */
#define KITH_API_READ_BYTES_MAX (1ULL << 30)
/* Long enough for a full queue to be half done at usual speeds (a guess). */
#define KITH_API_RETRY_HINT_MS 50u

/* One class of requests is admitted apart from the other, so that a flood of searches does not stop writes. */
typedef enum kith_api_class { KITH_API_READ, KITH_API_WRITE, KITH_API_CLASSES } kith_api_class;

typedef struct kith_api_admit {
    _Atomic uint32_t count;
    _Atomic uint64_t bytes;
} kith_api_admit;

struct kith_api {
    kith_api_options options;
    /* Reloadable, each read on its own: a request sees old or new of each. */
    _Atomic uint64_t search_timeout_ns, write_timeout_ns, slow_search_ns, write_bytes_max;
    _Atomic uint32_t reads_max;
    kith_query_load *load; /* NULL: there are no other nodes */
    kith_api_admit admitted[KITH_API_CLASSES];
    _Atomic uint32_t in_flight;
    _Atomic bool stopped;
    /* The main thread waits here for the last request: a message to it would need a loop of its own. */
    kith_mutex idle_mutex;
    kith_cond idle;
};

/* A request between enter and leave: first member of what each file keeps in the request's arena. */
typedef struct kith_api_run {
    kith_api *api;
    kith_api_class class;
    uint64_t bytes;
    uint64_t entered_ns;
    bool answering; /* its admitted room is free again */
    /* Of a read that was started again: what each try takes goes with its run. The first one's is the call's. */
    kith_arena arena;
    kith_meta_map *map;
    const kith_meta_entry *entry; /* NULL for requests of no collection */
} kith_api_run;

/* Admission (api_admit.c): CLOSED when stopped, BUSY with a hint when too much is in flight. */
KITH_CHECK kith_status kith_api_admit_enter(
    kith_api *api, kith_api_class class, uint64_t bytes, kith_err *err);
/* Leaving is in two steps: the room is free before the answer is given, so that a client which sends one request after
 * the other never meets itself; the request counts as in flight until the answer was handed over. */
void kith_api_admit_free(kith_api *api, kith_api_class class, uint64_t bytes);
void kith_api_admit_leave(kith_api *api);
/* More bytes for a request that is in: 0, or how many were admitted already when these would be more than `bytes_max`. */
KITH_CHECK uint64_t kith_api_admit_more(
    kith_api *api, kith_api_class class, uint64_t bytes, uint64_t bytes_max);
void kith_api_admit_less(kith_api *api, kith_api_class class, uint64_t bytes);

/* Admits the request, takes the current map, finds the collection (when `name` is not NULL) and sets the deadline. */
KITH_CHECK kith_status kith_api_enter(kith_api *api, kith_api_call *call, kith_api_class class,
    uint64_t bytes, const char *name, size_t name_bytes, kith_api_run *run_out, kith_err *err);
/* Memory of this try. */
kith_arena *kith_api_run_arena(kith_api_run *run, kith_api_call *call);
/* Before `done`: a copy to leave with, since `done` may free the request. */
kith_api_run kith_api_answer(kith_api_run *run);
/* After `done`, or when a check fails. */
void kith_api_leave(kith_api_run *run);
/* A pause, longer each time, and the newest map. */
typedef struct kith_api_again kith_api_again;
struct kith_api_again {
    kith_api_refresh refresh;
    kith_timer timer;
    kith_api *api;
    void (*run)(
        kith_api_again *again); /* once, when this node has the newest map, or none could be had in time */
};
/* True: `again->run` comes. False: it is late, or there is nothing newer. `count`: how often it was started before. */
bool kith_api_again_start(kith_api *api, kith_api_again *again, uint64_t deadline_ns, uint32_t count);
/* For `done` of a read: true when its shards are not where the run's map has them, or change hands, and a newer map may say
 * where they are. Then `start` is called with the same call once this node has the newest map, in place of the call's `done`;
 * the run is left by then. */
bool kith_api_starts_again(kith_api_run *run, kith_api_call *call, kith_status status,
    void (*start)(kith_api *api, kith_api_call *call));
/* Sequences [shard_count] by shard, where the promise goes by tokens; NULL where it does not. INVALID: a token is not the
 * collection's. */
KITH_CHECK kith_status kith_api_tokens_place(const kith_read_promise *promise,
    const kith_collection *collection, kith_arena *arena, const uint64_t **sequences_out, kith_err *err);
/* What a query needs from the run. */
kith_query_base kith_api_query_base(kith_api_run *run, kith_api_call *call);

/* OK, or why shards are missing that may be answered soon: the read is then started again, a few times, before it is
 * answered without them. */
kith_status kith_api_coverage_status(
    const kith_api_run *run, const kith_api_call *call, const kith_query_coverage *coverage);

/* Checks that say which and what (api_check.c). `what` is e.g. "queries". */

/* Index of the field; INVALID names those there are. */
KITH_CHECK kith_status kith_api_field_find(
    const kith_collection *collection, const char *field, uint32_t *index_out, kith_err *err);
/* `bytes` are whole rows of `dim` f32; how many. */
KITH_CHECK kith_status kith_api_rows_count(
    const char *what, size_t bytes, uint32_t dim, uint64_t *rows_out, kith_err *err);
KITH_CHECK kith_status kith_api_count_check(const char *what, uint64_t count, uint64_t most, kith_err *err);
/* Values [dim] f32 can be searched for: finite, and not all zero under cosine. */
KITH_CHECK kith_status kith_api_query_check(const float *values, const kith_field *field, kith_err *err);
/* Text of an id for messages, cut at 48 bytes. */
const char *kith_api_id_text(const kith_id *id, kith_arena *arena);
/* Rows as aligned floats: in place where they are, else a copy in the arena. */
const float *kith_api_floats(const uint8_t *values, size_t bytes, kith_arena *arena);

/* Coverage as the protocols show it. */
kith_api_coverage kith_api_coverage_of(const kith_query_coverage *coverage, kith_arena *arena);

#endif
