/* The ring and a map into it; see the header for what is remembered and why that survives replay. */
#include "host/shard/shard_request_window.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/map.h"

#define KEY_BYTES 24u

typedef struct slot {
    kith_request_id request_id; /* zero client: free */
    kith_write_result result;
} slot;

struct shard_window {
    slot *slots;
    uint32_t slot_count;
    kith_map *index; /* client and number -> slot */
};

static void key_make(const kith_request_id *request_id, uint8_t key_out[KEY_BYTES]) {
    memcpy(key_out, request_id->client, 16);
    kith_store_u64(key_out + 16, request_id->number);
}

shard_window *shard_window_create(uint32_t slot_count) {
    shard_window *window = kith_alloc_zero(sizeof *window);
    window->slot_count = slot_count;
    window->slots = slot_count ? kith_alloc_zero((size_t)slot_count * sizeof *window->slots) : NULL;
    window->index = kith_map_create(64);
    return window;
}

void shard_window_destroy(shard_window *window) {
    if (!window) return;
    kith_map_destroy(window->index);
    kith_free(window->slots);
    kith_free(window);
}

bool shard_request_is_named(const kith_request_id *request_id) {
    static const uint8_t nobody[16] = {0};
    return memcmp(request_id->client, nobody, sizeof nobody) != 0;
}

bool shard_window_find(
    const shard_window *window, const kith_request_id *request_id, kith_write_result *result_out) {
    uint8_t key[KEY_BYTES];
    uint64_t at;
    if (!shard_request_is_named(request_id)) return false;
    key_make(request_id, key);
    if (!kith_map_get(window->index, key, KEY_BYTES, &at)) return false;
    *result_out = window->slots[at].result;
    return true;
}

uint32_t shard_window_slot(const shard_window *window, const kith_request_id *request_id, uint64_t sequence) {
    if (window->slot_count == 0 || !shard_request_is_named(request_id)) return UINT32_MAX;
    return (uint32_t)(sequence % window->slot_count);
}

void shard_window_put(
    shard_window *window, const kith_request_id *request_id, const kith_write_result *result) {
    uint8_t key[KEY_BYTES];
    uint32_t at = shard_window_slot(window, request_id, result->sequence);
    if (at == UINT32_MAX) return;
    slot *taken = &window->slots[at];
    if (shard_request_is_named(&taken->request_id)) {
        /* Read from a store that was written with a larger window: the newer one stays. */
        if (taken->result.sequence > result->sequence) return;
        key_make(&taken->request_id, key);
        kith_map_remove(window->index, key, KEY_BYTES);
    }
    *taken = (slot){.request_id = *request_id, .result = *result};
    taken->result.repeated = false;
    key_make(request_id, key);
    kith_map_put(window->index, key, KEY_BYTES, at);
}

uint32_t shard_window_count(const shard_window *window) {
    return (uint32_t)kith_map_count(window->index);
}

void shard_window_value_encode(const kith_request_id *request_id, const kith_write_result *result,
    uint8_t value_out[SHARD_WINDOW_VALUE_BYTES]) {
    memset(value_out, 0, SHARD_WINDOW_VALUE_BYTES);
    memcpy(value_out, request_id->client, 16);
    kith_store_u64(value_out + 16, request_id->number);
    kith_store_u64(value_out + 24, result->epoch);
    kith_store_u64(value_out + 32, result->sequence);
    kith_store_u32(value_out + 40, result->points_changed);
}

bool shard_window_value_decode(
    const uint8_t *value, size_t bytes, kith_request_id *request_id_out, kith_write_result *result_out) {
    if (bytes != SHARD_WINDOW_VALUE_BYTES) return false;
    memcpy(request_id_out->client, value, 16);
    request_id_out->number = kith_load_u64(value + 16);
    *result_out = (kith_write_result){.epoch = kith_load_u64(value + 24),
        .sequence = kith_load_u64(value + 32),
        .points_changed = kith_load_u32(value + 40)};
    return true;
}
