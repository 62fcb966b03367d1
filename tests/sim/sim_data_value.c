#include "tests/sim/sim_data_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SMALL 8u /* further components are below it */

void sim_data_vector(uint64_t value, uint32_t dim, float *vector_out) {
    vector_out[0] = (float)value;
    for (uint32_t i = 1; i < dim; i++)
        vector_out[i] = (float)(value * (2 * i + 3) / 7 % SMALL);
}

uint32_t sim_data_payload(uint64_t value, char payload_out[SIM_DATA_PAYLOAD_BYTES]) {
    if (value % 3 == 0) return 0;
    return (uint32_t)snprintf(payload_out, SIM_DATA_PAYLOAD_BYTES, "{\"v\":%llu}", (unsigned long long)value);
}

uint64_t sim_data_value_of(const float *vector, uint32_t dim, const char *payload, uint32_t payload_bytes) {
    float expected[SIM_DATA_DIM_MAX];
    char text[SIM_DATA_PAYLOAD_BYTES];
    uint64_t value = (uint64_t)vector[0];
    sim_data_vector(value, dim, expected);
    if (memcmp(vector, expected, dim * sizeof *vector) != 0) return 0;
    uint32_t bytes = sim_data_payload(value, text);
    bool same = bytes == payload_bytes && (bytes == 0 || memcmp(text, payload, bytes) == 0);
    return same ? value : 0;
}

float sim_data_score(uint64_t value, const float *query, uint32_t dim) {
    float vector[SIM_DATA_DIM_MAX];
    double sum = 0;
    sim_data_vector(value, dim, vector);
    for (uint32_t i = 0; i < dim; i++) {
        double difference = (double)query[i] - (double)vector[i];
        sum += difference * difference;
    }
    return (float)sqrt(sum);
}

uint64_t sim_data_value_of_score(float score, uint32_t dim) {
    static const float nothing[SIM_DATA_DIM_MAX];
    for (uint64_t value = (uint64_t)score + 1; value + 2 > (uint64_t)score && value > 0; value--) {
        float expected = sim_data_score(value, nothing, dim);
        if (memcmp(&expected, &score, sizeof score) == 0) return value;
    }
    return 0;
}
