/* The judge of a history of data. It knows what clients asked and were answered, and when; nothing of how the product works.
 *
 * Every write to a point has a value of its own (above zero; 0: the point is absent), so what a read saw names the write that it
 * saw. What must hold, point by point:
 *  - There is one order of all writes and reads of the point in which every read sees the write before it.
 *  - A write or a read at the primary comes behind everything that had ended before it began. An in_sync read comes behind
 *    every write that was acknowledged before it began; a read with a token behind the write of the token; a read of any
 *    replica behind nothing. Nothing comes behind what began only after it had ended.
 *  - A write that was not answered is in that order or not; one that was refused is not. What a read has seen has happened.
 * And, shard by shard: acknowledged writes have sequences of their own, which rise with real time; a repeat has that of the first.
 *
 * Threads: one. */
#ifndef KITH_TESTS_SIM_SIM_DATA_CHECK_H
#define KITH_TESTS_SIM_SIM_DATA_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sim_data_check sim_data_check;

/* Points are 0..point_count - 1 of each of collections 0..collection_count - 1. */
sim_data_check *sim_data_check_create(uint32_t collection_count, uint32_t point_count);
void sim_data_check_destroy(sim_data_check *check);

typedef enum sim_data_outcome {
    SIM_DATA_UNKNOWN, /* no answer, or one that does not say */
    SIM_DATA_DONE,
    SIM_DATA_REFUSED, /* certainly not done */
} sim_data_outcome;

/* A write of `value` to points [count] of a collection begins; returns its number, from 1. */
uint32_t sim_data_check_write_begin(sim_data_check *check, uint32_t collection, const uint32_t *points,
    uint32_t count, uint64_t value, uint64_t now_ns);
void sim_data_check_write_end(
    sim_data_check *check, uint32_t write, sim_data_outcome outcome, uint64_t now_ns);
/* What an acknowledged write, or a repeat of one, was told of a shard. `begin_ns`: of that attempt. */
void sim_data_check_token(sim_data_check *check, uint32_t write, uint64_t shard_id, uint64_t epoch,
    uint64_t sequence, uint64_t now_ns);

typedef enum sim_data_read {
    SIM_DATA_IN_SYNC,
    SIM_DATA_PRIMARY,
    SIM_DATA_ANY,
    SIM_DATA_TOKEN,
} sim_data_read;

typedef struct sim_data_seen {
    uint32_t collection, point;
    sim_data_read read;
    uint32_t write; /* SIM_DATA_TOKEN: whose token it was */
    uint64_t value;
    uint64_t begin_ns, end_ns;
} sim_data_seen;
/* A read was answered so. */
void sim_data_check_seen(sim_data_check *check, const sim_data_seen *seen);

/* Judges what needs the whole history. */
void sim_data_check_finish(sim_data_check *check);
/* The first violation; NULL: none. */
const char *sim_data_check_violation(const sim_data_check *check);

uint64_t sim_data_check_write_count(const sim_data_check *check);
uint64_t sim_data_check_done_count(const sim_data_check *check);
uint64_t sim_data_check_seen_count(const sim_data_check *check);
/* Points of which no order was found or ruled out in bounded time. */
uint64_t sim_data_check_undecided_count(const sim_data_check *check);

#endif
