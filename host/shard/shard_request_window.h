/* The last writes' request ids and answers, so that a repeat gets the first answer. A ring by sequence
 * number: an entry stays until another one whose sequence is the same modulo the window takes its slot, so
 * what is remembered depends on the entries alone and is the same after replay. Writes without a client are
 * not remembered.
 *
 * Threads: one. */
#ifndef KITH_SHARD_SHARD_REQUEST_WINDOW_H
#define KITH_SHARD_SHARD_REQUEST_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "host/model/record.h"
#include "host/shard/shard.h"

typedef struct shard_window shard_window;

shard_window *shard_window_create(uint32_t slot_count);
void shard_window_destroy(shard_window *window);
bool shard_request_is_named(const kith_request_id *request_id);
/* True and the first answer if the id is remembered. */
bool shard_window_find(
    const shard_window *window, const kith_request_id *request_id, kith_write_result *result_out);
/* Slot of an entry with this sequence; UINT32_MAX when nothing is remembered. */
uint32_t shard_window_slot(const shard_window *window, const kith_request_id *request_id, uint64_t sequence);
void shard_window_put(
    shard_window *window, const kith_request_id *request_id, const kith_write_result *result);
uint32_t shard_window_count(const shard_window *window);

/* Bytes in the store: client, u64 number, u64 epoch, u64 sequence, u32 changed, u32 0. */
#define SHARD_WINDOW_VALUE_BYTES 48u
void shard_window_value_encode(const kith_request_id *request_id, const kith_write_result *result,
    uint8_t value_out[SHARD_WINDOW_VALUE_BYTES]);
bool shard_window_value_decode(
    const uint8_t *value, size_t bytes, kith_request_id *request_id_out, kith_write_result *result_out);

#endif
