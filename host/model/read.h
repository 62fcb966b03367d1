/* What a read promises. Plain data.
 *
 * Threads: any. */
#ifndef KITH_MODEL_READ_H
#define KITH_MODEL_READ_H

#include <stdint.h>

#include "host/base/limits.h"

#define KITH_READ_TOKENS_MAX KITH_SHARDS_MAX /* of one read: one a shard */

/* Numbers travel, to clients too: never reuse one. */
typedef enum kith_read_consistency {
    KITH_READ_IN_SYNC =
        0, /* every write that was acknowledged before the read began, on any replica in sync */
    KITH_READ_PRIMARY = 1, /* the same, on the primary */
    KITH_READ_ANY = 2,     /* whatever the replica that answers has */
    KITH_READ_TOKEN = 3,   /* at least the writes of tokens */
} kith_read_consistency;

/* Where a write is in one shard. */
typedef struct kith_read_token {
    uint64_t shard_id, epoch, sequence;
} kith_read_token;

typedef struct kith_read_promise {
    kith_read_consistency read;
    const kith_read_token *tokens; /* [token_count], with KITH_READ_TOKEN only */
    uint32_t token_count;          /* 0..KITH_READ_TOKENS_MAX */
} kith_read_promise;

#endif
