/* The two structures of shard_tail.h. */
#include "host/shard/shard_tail.h"

#include "host/base/alloc.h"
#include "host/base/assert.h"

/* --- the tail --- */

static shard_tail_item *item_at(const shard_tail *tail, uint32_t index) {
    return &tail->items[(tail->at + index) % tail->capacity];
}

void shard_tail_fini(shard_tail *tail) {
    for (uint32_t i = 0; i < tail->count; i++)
        kith_free(item_at(tail, i)->data);
    kith_free(tail->items);
    *tail = (shard_tail){0};
}

static void grow(shard_tail *tail) {
    uint32_t capacity = tail->capacity ? 2 * tail->capacity : 16;
    shard_tail_item *items = kith_alloc_array(capacity, sizeof *items);
    for (uint32_t i = 0; i < tail->count; i++)
        items[i] = *item_at(tail, i);
    kith_free(tail->items);
    tail->items = items;
    tail->capacity = capacity;
    tail->at = 0;
}

void shard_tail_push_take(shard_tail *tail, uint64_t sequence, const shard_tail_item *item) {
    if (tail->count == tail->capacity) grow(tail);
    if (tail->count == 0) tail->first = sequence;
    kith_assert(sequence == tail->first + tail->count);
    *item_at(tail, tail->count) = *item;
    tail->count++;
}

shard_tail_item *shard_tail_find(const shard_tail *tail, uint64_t sequence) {
    if (sequence < tail->first || sequence - tail->first >= tail->count) return NULL;
    return item_at(tail, (uint32_t)(sequence - tail->first));
}

shard_tail_item shard_tail_pop_front(shard_tail *tail) {
    kith_assert(tail->count > 0);
    shard_tail_item item = *item_at(tail, 0);
    tail->at = (tail->at + 1) % tail->capacity;
    tail->count--;
    tail->first++;
    return item;
}

shard_tail_item shard_tail_pop_back(shard_tail *tail) {
    kith_assert(tail->count > 0);
    tail->count--;
    return *item_at(tail, tail->count);
}

/* --- epochs --- */

void shard_epochs_fini(shard_epochs *epochs) {
    kith_free(epochs->epochs);
    kith_free(epochs->sequences);
    *epochs = (shard_epochs){0};
}

static void run_push(shard_epochs *epochs, uint64_t sequence, uint64_t epoch) {
    if (epochs->count == epochs->capacity) {
        epochs->capacity = epochs->capacity ? 2 * epochs->capacity : 8;
        epochs->epochs = kith_realloc(epochs->epochs, epochs->capacity * sizeof *epochs->epochs);
        epochs->sequences = kith_realloc(epochs->sequences, epochs->capacity * sizeof *epochs->sequences);
    }
    epochs->epochs[epochs->count] = epoch;
    epochs->sequences[epochs->count++] = sequence;
}

void shard_epochs_cut(shard_epochs *epochs, uint64_t sequence) {
    if (sequence >= epochs->end) return;
    epochs->end = sequence < epochs->first ? epochs->first : sequence;
    while (epochs->count > 0 && epochs->sequences[epochs->count - 1] >= epochs->end)
        epochs->count--;
}

void shard_epochs_note(shard_epochs *epochs, uint64_t sequence, uint64_t epoch) {
    shard_epochs_cut(epochs, sequence);
    bool follows = epochs->count > 0 && sequence == epochs->end;
    /* Epochs rise along a log: one that does not is of another one than what is before it. */
    if (!follows || epochs->epochs[epochs->count - 1] > epoch) {
        epochs->count = 0;
        epochs->first = sequence;
    }
    epochs->end = sequence + 1;
    if (epochs->count == 0 || epochs->epochs[epochs->count - 1] != epoch) run_push(epochs, sequence, epoch);
}

uint32_t shard_epochs_index(const shard_epochs *epochs, uint64_t sequence) {
    uint32_t index = epochs->count - 1;
    while (index > 0 && epochs->sequences[index] > sequence)
        index--;
    return index;
}

uint64_t shard_epochs_find(const shard_epochs *epochs, uint64_t sequence) {
    if (sequence < epochs->first || sequence >= epochs->end) return 0;
    return epochs->epochs[shard_epochs_index(epochs, sequence)];
}
