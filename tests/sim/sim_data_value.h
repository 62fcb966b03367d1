/* Points of a history of data: all that there is of a point follows from one number, its value, so that whoever sees a vector, a
 * payload or a score knows which write made it, and a mixture of two is noticed.
 *
 * Threads: pure functions. */
#ifndef KITH_TESTS_SIM_SIM_DATA_VALUE_H
#define KITH_TESTS_SIM_SIM_DATA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_DATA_DIM_MAX       4u
#define SIM_DATA_VALUE_FIRST   1000u /* so that scores of two values always differ */
#define SIM_DATA_PAYLOAD_BYTES 32u

/* vector_out [dim]: whole numbers, the value and some small ones. */
void sim_data_vector(uint64_t value, uint32_t dim, float *vector_out);
/* JSON, or 0 bytes: some values have none. */
uint32_t sim_data_payload(uint64_t value, char payload_out[SIM_DATA_PAYLOAD_BYTES]);
/* The value of a point read back; 0: it is none, or a mixture. `payload` may be NULL. */
uint64_t sim_data_value_of(const float *vector, uint32_t dim, const char *payload, uint32_t payload_bytes);

/* The score that a search by L2 shows for a value: exact sums, rounded once. */
float sim_data_score(uint64_t value, const float *query, uint32_t dim);
/* Which value has this score from the query of nothing but zeros; 0: none. */
uint64_t sim_data_value_of_score(float score, uint32_t dim);

#endif
