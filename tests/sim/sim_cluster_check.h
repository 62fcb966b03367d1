/* The judge of a cluster's history. It knows what clients were answered, which maps were seen where, and who led when, and
 * nothing of how the product works: it reads the bytes of a map with a reader of its own.
 *
 * What must hold:
 *  - One leader a term.
 *  - A map version has one content, whoever shows it. What a node goes by never goes back.
 *  - An acknowledged creation is in every later map until a drop that was asked for; an acknowledged drop is in every later
 *    map. Later: with a version at or above the one answered. A change shows in no map from before it was asked for.
 *  - What is gone never comes back; ids of collections, shards and nodes mean one thing for ever, so a name that is
 *    dropped and created again has another id. Nothing exists that nobody asked for.
 *  - Answers agree with real time: a command asked for after another was answered sees a version at least as high; a drop
 *    says NOT_FOUND only when there was nothing, or somebody else might have dropped it.
 *
 * Threads: one. */
#ifndef KITH_TESTS_SIM_SIM_CLUSTER_CHECK_H
#define KITH_TESTS_SIM_SIM_CLUSTER_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sim_check sim_check;

sim_check *sim_check_create(void);
void sim_check_destroy(sim_check *check);

/* `node` found itself the leader of `term`. */
void sim_check_leader(sim_check *check, uint64_t term, uint32_t node);
/* `node` goes by this MetaSnapshot. */
void sim_check_map(sim_check *check, uint32_t node, const void *bytes, size_t byte_count);
/* A node that keeps no map over a restart starts from nothing. */
void sim_check_map_forgotten(sim_check *check, uint32_t node);

typedef enum sim_check_kind {
    SIM_CHECK_CREATE,
    SIM_CHECK_DROP,
} sim_check_kind;

typedef enum sim_check_outcome {
    SIM_CHECK_UNKNOWN, /* no answer, or one that does not say: it may yet come true */
    SIM_CHECK_OK,
    SIM_CHECK_NOT_FOUND, /* drop: there is none */
    SIM_CHECK_NOTHING,   /* certainly not done, nothing learned */
} sim_check_outcome;

/* A client asks; returns the number of the command. `name` is copied. */
uint32_t sim_check_begin(sim_check *check, sim_check_kind kind, const char *name);
/* It was answered. `id`, `changed`, `map_version`: of OK; map_version also of NOT_FOUND. Call it again with every answer
 * that repeats of the command get. */
void sim_check_end(sim_check *check, uint32_t command, sim_check_outcome outcome, uint64_t id, bool changed,
    uint64_t map_version);

/* Judges what needs the whole history. */
void sim_check_finish(sim_check *check);
/* The first violation; NULL: none. */
const char *sim_check_violation(const sim_check *check);
/* How much there was to judge. */
uint64_t sim_check_command_count(const sim_check *check);
uint64_t sim_check_term_count(const sim_check *check); /* that had a leader */
uint64_t sim_check_map_count(const sim_check *check);
uint64_t sim_check_acknowledged_count(const sim_check *check);

#endif
