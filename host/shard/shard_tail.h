/* The end of a replica's log in memory: the bytes of entries that wait to be applied and of some that were (shard_tail), and where
 * in the log each epoch begins (shard_epochs).
 *
 * Threads: one at a time. Ownership: init/fini; the tail owns the bytes of its entries. */
#ifndef KITH_SHARD_SHARD_TAIL_H
#define KITH_SHARD_SHARD_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shard_entry;

typedef struct shard_tail_item {
    uint64_t epoch;
    void *data; /* NULL where `bytes` is 0 */
    size_t bytes;
    struct shard_entry *entry; /* NULL: nothing waits for it any more; borrowed */
} shard_tail_item;

/* A ring of consecutive sequences. */
typedef struct shard_tail {
    shard_tail_item *items;
    uint32_t capacity, at, count;
    uint64_t first; /* sequence of the first item, where there is one */
} shard_tail;

void shard_tail_fini(shard_tail *tail);
/* `sequence` follows the last one, or the tail is empty. Takes the item's data. */
void shard_tail_push_take(shard_tail *tail, uint64_t sequence, const shard_tail_item *item);
/* NULL: not in it. Good until the next push. */
shard_tail_item *shard_tail_find(const shard_tail *tail, uint64_t sequence);
/* Takes an end off; the data is the caller's. The tail is not empty. */
shard_tail_item shard_tail_pop_front(shard_tail *tail);
shard_tail_item shard_tail_pop_back(shard_tail *tail);
static inline uint64_t shard_tail_end(const shard_tail *tail) {
    return tail->first + tail->count; /* of a tail that is not empty: one past its last sequence */
}

/* Of consecutive entries [first, end). */
typedef struct shard_epochs {
    uint64_t *epochs, *sequences; /* [count], rising: epoch, and its first entry */
    uint32_t count, capacity;
    uint64_t first, end; /* equal: none */
} shard_epochs;

void shard_epochs_fini(shard_epochs *epochs);
/* The next entry. One that is in [first, end) replaces what there was from it on; one behind a gap begins anew. */
void shard_epochs_note(shard_epochs *epochs, uint64_t sequence, uint64_t epoch);
/* Entries from `sequence` on are gone. */
void shard_epochs_cut(shard_epochs *epochs, uint64_t sequence);
/* 0: not in it. */
uint64_t shard_epochs_find(const shard_epochs *epochs, uint64_t sequence);
/* Index of the run that has `sequence`, which is in [first, end). */
uint32_t shard_epochs_index(const shard_epochs *epochs, uint64_t sequence);

#endif
