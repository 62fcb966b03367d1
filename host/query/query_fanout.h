/* A question about some shards: sent to a replica of each, one message a node or a shard, and gathered when every shard
 * is answered or has nobody left to ask; private to host/query.
 *
 * A shard whose message fails is asked for at its next replica. One that is not answered for longer than nearly all are, or
 * than its share of the time there is, is asked for at another one too: the first answer counts, and messages that nobody
 * needs any more are cancelled. Each shard is in the answer of one message or is missing, never both, never twice.
 *
 * Threads: prepared and started by one thread; `encode` and `decode` run one at a time on the threads that bring replies
 * (encode first on the starter's), and alone may use the arena meanwhile; `gathered` runs on the thread that brought the
 * last reply, or on the starter's when that is still sending.
 * Ownership: everything lives in the arena of the base until `gathered`. */
#ifndef KITH_QUERY_QUERY_FANOUT_H
#define KITH_QUERY_QUERY_FANOUT_H

#include "host/base/thread.h"
#include "host/query/query.h"
#include "host/query/query_plan.h"

typedef struct kith_query_fanout kith_query_fanout;
typedef struct kith_query_part kith_query_part;

/* How one shard fared in an answer. */
typedef struct kith_query_outcome {
    kith_status status;
    const char *message; /* when not OK */
} kith_query_outcome;

/* A message. */
struct kith_query_part {
    kith_transport_call call;
    kith_query_fanout *fanout;
    kith_query_part *next; /* of the fan-out, in the order sent */
    kith_query_part *next_loser;
    kith_buf request;
    uint32_t node_index;
    uint32_t target_count;
    const uint32_t *targets; /* [target_count] rising */
    uint64_t sent_ns;
    bool is_in_flight;
    bool is_not_waited_for;  /* its node is taken for down: the deadline is ours, not the caller's */
    atomic_bool is_unwanted; /* answered by others: cancelled */
    /* Of an OK reply, by `decode`. */
    void *answer;
    const kith_query_outcome *outcomes; /* [target_count]; NULL: all are OK */
    size_t reply_bytes;
};

/* A shard that is asked for. */
typedef struct kith_query_target {
    uint32_t shard_index;
    uint8_t tried;  /* bit i: replica i */
    uint8_t asking; /* messages on their way */
    bool is_answered;
    kith_status status;
    const char *message;         /* of the last failure */
    const kith_query_part *part; /* whose answer counts, or who failed last */
} kith_query_target;

typedef struct kith_query_fanout_ops {
    kith_am_kind kind;
    bool is_apart; /* a message a shard */
    /* An answer is cut off at what is best of all its shards, so it counts for all that it brings or for none: beside
     * another answer for one of them, what was cut off of the others would be missing. */
    bool is_merged;
    /* What the part asks for. */
    void (*encode)(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *request);
    /* The part's answer and outcomes; not OK: it is none. `reply` is gone afterwards. */
    kith_status (*decode)(
        kith_query_fanout *fanout, kith_query_part *part, const void *reply, size_t bytes, kith_err *err);
    void (*gathered)(kith_query_fanout *fanout);
} kith_query_fanout_ops;

struct kith_query_fanout {
    const kith_query_base *base;
    const kith_query_fanout_ops *ops;
    void *ctx;
    uint32_t target_count;
    kith_query_target *targets;
    kith_query_part *parts, **parts_end;
    /* Replies come on several threads, and each may decide what is sent next: a lock of a few instructions and one decoded
     * reply; a message to one thread would cost more than most searches. */
    kith_mutex mutex;
    _Atomic uint32_t holds; /* messages on their way, the timer, whoever starts messages */
    uint32_t open_count;    /* targets with a message on its way and no answer */
    bool was_asked_twice;
    kith_query_load *load;       /* NULL: nobody else is to be asked, or nothing is known */
    kith_query_node_load *loads; /* [map's node_count]; NULL: all are alike */
    uint64_t seed;
    kith_timer timer;
    bool is_timed;
    uint64_t share_ns_max;
    uint64_t share_ns; /* when the first one's share of the time is over */
};

/* Asks for shards [target_count] (NULL: for each of the collection, in order). The fan-out may be gone when it returns. */
void kith_query_fanout_start(const kith_query_base *base, const kith_query_fanout_ops *ops, void *ctx,
    const uint32_t *shards, uint32_t target_count);

/* For `encode`: the part's shards [target_count], and the sequences that its tokens name in them (NULL: no tokens). */
const uint64_t *kith_query_part_shard_ids(const kith_query_part *part);
const uint64_t *kith_query_part_tokens(const kith_query_part *part);
uint64_t kith_query_part_shard_id(const kith_query_part *part, uint32_t index);
/* For `gathered`, of a question about each shard of the collection. */
kith_query_coverage kith_query_fanout_coverage(const kith_query_fanout *fanout);
/* Pure: another replica, or the same later, may answer what this status is said of. */
bool kith_query_may_fare_better(kith_status status);

#endif
