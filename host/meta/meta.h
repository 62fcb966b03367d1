/* The metadata as a process sees it: the current map, and a way to propose changes. Two kinds: kept here (meta_keeper.h: a
 * standalone node, a coordinator) and kept elsewhere (meta_client.h: data and query nodes).
 *
 * Threads: any, once it is started; a proposal's `done` on the executor that the kind was given.
 * Ownership: the kinds create and close. */
#ifndef KITH_META_META_H
#define KITH_META_META_H

#include "host/base/hazard.h"
#include "host/meta/meta_log.h"
#include "host/meta/meta_map.h"

typedef struct kith_meta kith_meta;
typedef struct kith_meta_proposal kith_meta_proposal;
typedef struct kith_meta_wait kith_meta_wait;
typedef struct kith_meta_coordinators kith_meta_coordinators;

typedef struct kith_meta_ops {
    void (*propose)(kith_meta *meta, kith_meta_proposal *proposal);
    void (*wait)(kith_meta *meta, kith_meta_wait *wait);
    bool (*serves_all)(const kith_meta *meta);
    void (*coordinators)(kith_meta *meta, kith_meta_coordinators *coordinators); /* NULL: not remote */
} kith_meta_ops;

struct kith_meta {
    const kith_meta_ops *ops;
    bool is_remote;         /* kept elsewhere: a newer map may exist */
    kith_hazard_cell *maps; /* of kith_meta_map, each with one reference of the cell; NULL before start */
};

struct kith_meta_proposal {
    kith_codec_meta_command command;
    uint64_t deadline_ns; /* 0: none; a proposal that stays here has none either way */
    /* Exactly once, never before propose has returned. OK: `collection` is the one created, found as wanted or dropped;
     * `changed` false: it was there already. The map shows it. */
    void (*done)(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
        bool changed, const kith_err *err);
    kith_task task;
    kith_meta *meta;
    kith_buf bytes;
    kith_meta_log_proposal log_proposal; /* where the metadata is kept here */
    void *impl;                          /* where it is not */
};

/* For a map of at least a version, of which a peer has spoken; or, with KITH_META_NEWEST, for whatever a coordinator
 * has now. */
#define KITH_META_NEWEST UINT64_MAX
struct kith_meta_wait {
    uint64_t map_version;
    uint64_t deadline_ns;
    /* Exactly once, never before kith_meta_wait_start has returned. OK: the map is that new; else it is not. */
    void (*done)(kith_meta_wait *wait, kith_status status, const kith_err *err);
    kith_task task;
    kith_meta *meta;
    kith_timer timer;
    kith_meta_wait *next;
    uint64_t pull; /* the pull that answers it, when for the newest */
};
static inline void kith_meta_wait_start(kith_meta *meta, kith_meta_wait *wait) {
    meta->ops->wait(meta, wait);
}

/* Where the metadata is kept: whom to ask about the cluster. */
#define KITH_META_COORDINATORS_MAX 9u
struct kith_meta_coordinators {
    /* Exactly once, never before kith_meta_coordinators_get has returned; the rest is filled in then. */
    void (*done)(kith_meta_coordinators *coordinators);
    char leader[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "": nobody is known to lead */
    uint32_t count;
    char addresses[KITH_META_COORDINATORS_MAX]
                  [KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* those to begin with, then what the map names */
    kith_task task;
    kith_meta *meta;
};
/* Only of a remote one. */
static inline void kith_meta_coordinators_get(kith_meta *meta, kith_meta_coordinators *coordinators) {
    meta->ops->coordinators(meta, coordinators);
}

static inline void kith_meta_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    meta->ops->propose(meta, proposal);
}

/* False while the shards of some collection could not all be opened here, in which case a repeat of its creation has
 * something to do. */
static inline bool kith_meta_serves_all(const kith_meta *meta) {
    return meta->ops->serves_all(meta);
}

/* The current map, acquired: release it with kith_meta_map_release. Only after start. */
static inline kith_meta_map *kith_meta_map_get(kith_meta *meta) {
    uint32_t slot;
    kith_meta_map *map = kith_meta_map_acquire(kith_hazard_acquire(meta->maps, &slot));
    kith_hazard_release(meta->maps, slot);
    return map;
}

#endif
