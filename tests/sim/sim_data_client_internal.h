/* What the files of the clients share: sim_data_client.c (life, what is asked next), sim_data_write.c, sim_data_read.c (one
 * request), sim_data_audit.c (the comparison in the end). */
#ifndef KITH_TESTS_SIM_SIM_DATA_CLIENT_INTERNAL_H
#define KITH_TESTS_SIM_SIM_DATA_CLIENT_INTERNAL_H

#include "host/api/api.h"
#include "host/base/rng.h"
#include "host/cluster/heartbeat.h"
#include "host/meta/meta_client.h"
#include "tests/sim/sim_data_client.h"
#include "tests/sim/sim_data_value.h"

#define SIM_DATA_SLOTS     4u  /* clients */
#define SIM_DATA_BATCH_MAX 4u  /* points of a write */
#define SIM_DATA_KNOWN_MAX 32u /* acknowledged writes kept to be repeated */
#define SIM_DATA_TOKENS    8u  /* of one write */

/* A write as it is asked for. */
typedef struct sim_data_batch {
    uint32_t collection, count;
    uint32_t points[SIM_DATA_BATCH_MAX];
    uint64_t value; /* 0: deleted */
    kith_request_id request_id;
    uint32_t number; /* the judge's */
    kith_api_token tokens[SIM_DATA_TOKENS];
    uint32_t token_count;
} sim_data_batch;

typedef enum sim_data_kind {
    SIM_DATA_WRITE,
    SIM_DATA_REPEAT, /* of an acknowledged write */
    SIM_DATA_GET,
    SIM_DATA_SEARCH,
    SIM_DATA_CREATE,
    SIM_DATA_AUDIT,
} sim_data_kind;

/* Pages, then ids, then the count, then searches of one collection after the other. */
typedef struct sim_data_auditor {
    uint32_t collection, step;
    uint64_t values[SIM_DATA_POINTS_MAX]; /* as pages showed them */
    kith_id next;
    bool has_next;
    uint32_t k;
    float query[SIM_DATA_DIM_MAX];
} sim_data_auditor;

typedef struct sim_data_slot {
    kith_timer timer; /* the next request or the next attempt */
    sim_data_client *client;
    bool busy;
    sim_data_kind kind;
    uint64_t begin_ns;   /* of the attempt */
    uint64_t first_ns;   /* of the first one */
    uint64_t give_up_ns; /* no attempt after it */
    bool tainted;        /* an attempt of the write may have been carried out */
    sim_data_batch batch;
    uint32_t collection, count; /* of a read */
    sim_data_read read;
    kith_read_token tokens[SIM_DATA_TOKENS]; /* of `batch`, with SIM_DATA_TOKEN */
    uint32_t points[SIM_DATA_POINTS_MAX];
    kith_id ids[SIM_DATA_POINTS_MAX];
    char name[8];
    float vectors[SIM_DATA_BATCH_MAX * SIM_DATA_DIM_MAX];
    char payload[SIM_DATA_PAYLOAD_BYTES];
    const char *payloads[SIM_DATA_BATCH_MAX];
    uint32_t payload_bytes[SIM_DATA_BATCH_MAX];
    kith_api_column column;
    kith_arena arena;
    union {
        kith_api_write_call write;
        kith_api_points_call points;
        kith_api_search_call search;
        kith_api_count_call count;
        kith_api_collection_call collection;
    } call;
} sim_data_slot;

typedef struct sim_data_served {
    uint64_t shard_id;
    uint64_t write_ns; /* beginning of the last write that was answered */
} sim_data_served;

struct sim_data_client {
    sim_data_client_options options;
    kith_transport *transport;
    kith_executor *executor;
    kith_meta_client *meta;
    kith_heartbeat *heartbeat;
    kith_api *api;
    kith_rng rng;
    uint64_t started_wall_ms;
    bool running, ready, connected;
    uint32_t created; /* collections */
    uint32_t stops_left;
    uint64_t value_next, request_next;
    sim_data_batch known[SIM_DATA_KNOWN_MAX];
    uint32_t known_count, known_at;
    sim_data_served served[SIM_DATA_COLLECTIONS_MAX * 8];
    uint32_t served_count;
    uint64_t search_ns[SIM_DATA_COLLECTIONS_MAX]; /* beginning of the last whole search */
    sim_data_auditor auditor;
    uint64_t request_count, failure_count;
    char violation[300];
    char corruption[300];
    sim_data_slot slots[SIM_DATA_SLOTS];
};

void sim_data_tell(const sim_data_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim_data_blame(sim_data_client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t sim_data_below(sim_data_client *client, uint64_t bound);
uint64_t sim_data_now_ns(const sim_data_client *client);
/* The slot's task comes after `ms_min` to `ms_min + ms_more`. */
void sim_data_sleep(sim_data_slot *slot, uint64_t ms_min, uint64_t ms_more);
/* The request is over, answered or given up; another follows. */
void sim_data_end(sim_data_slot *slot);
/* An answer that is a failure, noted; true: there is time for another attempt. */
bool sim_data_may_retry(sim_data_slot *slot, kith_status status, const kith_err *err);
/* Prepares the slot's memory for an attempt; returns its deadline. */
uint64_t sim_data_attempt(sim_data_slot *slot);
const char *sim_data_collection_name(uint32_t collection);
static inline kith_id sim_data_id(uint32_t point) {
    return kith_id_of_number(point + 1);
}
/* SIM_DATA_POINTS_MAX: it is none of ours. */
uint32_t sim_data_point(const sim_data_client *client, const kith_id *id);

void sim_data_write_begin(sim_data_slot *slot);
void sim_data_repeat_begin(sim_data_slot *slot);
void sim_data_write_attempt(sim_data_slot *slot);
void sim_data_get_begin(sim_data_slot *slot);
void sim_data_get_attempt(sim_data_slot *slot);
void sim_data_search_begin(sim_data_slot *slot);
void sim_data_search_attempt(sim_data_slot *slot);
void sim_data_create_attempt(sim_data_slot *slot);
void sim_data_audit_attempt(sim_data_slot *slot);

#endif
