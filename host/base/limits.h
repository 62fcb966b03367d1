/* Limits of what a client, a peer or a file may ask of kith, each with a name and a unit. Documented in the
 * README; tests/integration has a case for each. */
#ifndef KITH_BASE_LIMITS_H
#define KITH_BASE_LIMITS_H

#define KITH_DIM_MAX                16384u
#define KITH_FIELDS_MAX             16u
#define KITH_NAME_BYTES_MAX         255u       /* collection and field names */
#define KITH_ID_BYTES_MAX           255u       /* text of a string id */
#define KITH_ID_CANONICAL_BYTES_MAX 256u       /* type byte + text */
#define KITH_PAYLOAD_BYTES_MAX      (1u << 20) /* JSON of one point */
#define KITH_PAYLOAD_DEPTH_MAX      64u
#define KITH_K_MAX                  16384u
#define KITH_QUERIES_MAX            16384u /* queries of one search call */
#define KITH_BATCH_POINTS_MAX       65536u /* points of one write or get call */
#define KITH_SCROLL_POINTS_MAX      16384u
#define KITH_MESSAGE_BYTES_MAX      (64u << 20) /* one client request or response */
#define KITH_COLLECTIONS_MAX        4096u
#define KITH_SLOTS                  16384u
#define KITH_SHARDS_MAX             4096u      /* of one collection */
#define KITH_CLUSTER_SHARDS_MAX     16384u     /* of all collections; an empty one holds 43 KB */
#define KITH_REPLY_HITS_MAX         (4u << 20) /* queries x k of one search call */

_Static_assert(KITH_SHARDS_MAX <= KITH_SLOTS, "a shard owns at least one slot");
_Static_assert(
    KITH_DIM_MAX * 4u <= KITH_MESSAGE_BYTES_MAX / 16, "a message holds several of the widest vectors");

#endif
