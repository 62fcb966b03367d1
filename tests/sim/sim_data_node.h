/* What a data node has beside what every member has: log, store, shards, and what answers requests for them; a twin of
 * host/role/data.c and data_node.c on the simulated world, where nothing waits and the store is a simulated one.
 *
 * Life, each time the node is on: open -> replicate -> map (of its file) -> recover -> serve -> maps -> (hand_over) -> stop -> close. The store's disk lives as
 * long as the machine.
 *
 * Threads: one, the simulator's. */
#ifndef KITH_TESTS_SIM_SIM_DATA_NODE_H
#define KITH_TESTS_SIM_SIM_DATA_NODE_H

#include "host/codec/codec_cluster.h"
#include "host/meta/meta_state.h"
#include "host/shard/shard_set.h"
#include "tests/sim/sim_cluster_node.h"

typedef struct sim_data_part sim_data_part;

sim_data_part *sim_data_part_create(sim_node *node, const sim_data_options *options);
void sim_data_part_destroy(sim_data_part *part); /* accepts NULL; only when off */

kith_status sim_data_part_open(sim_data_part *part, kith_err *err);
/* The node has its meta client. */
void sim_data_part_replicate(sim_data_part *part);
/* The node goes by this map. */
void sim_data_part_map(sim_data_part *part, const kith_meta_state *state, bool from_file);
/* With a heartbeat: shards that had to wait for the end of what they were here before. */
void sim_data_part_reopen(sim_data_part *part, const kith_meta_state *state);
kith_status sim_data_part_recover(sim_data_part *part, kith_err *err);
void sim_data_part_serve(sim_data_part *part);
void sim_data_part_heartbeat(const sim_data_part *part, kith_codec_heartbeat *heartbeat);
/* As sim_node_shard_digest. */
bool sim_data_part_digest(sim_data_part *part, uint64_t shard_id, uint64_t *digest_out);
void sim_data_part_health_look(sim_data_part *part);
bool sim_data_part_in_doubt(sim_data_part *part, uint64_t shard_id);
void sim_data_part_tell(sim_data_part *part, uint64_t shard_id);
/* Before a stop in good order: what it leads goes to others, as far as that can be done in time. `done` when it is over. */
void sim_data_part_hand_over(sim_data_part *part, void (*done)(void *ctx), void *ctx);
/* Counts in the node's stops_left what is still to stop. */
void sim_data_part_stop(sim_data_part *part);
/* Also what an open has left half done. */
void sim_data_part_close(sim_data_part *part);

#endif
