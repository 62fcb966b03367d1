/* One published pointer that readers take without locks: hazard pointers (M. Michael, "Hazard Pointers: Safe
 * Memory Reclamation for Lock-Free Objects", 2004, section 3) with slots that belong to the cell instead of
 * to threads.
 *
 * Threads: any number of readers (at most KITH_HAZARD_SLOTS at once; more spin until one leaves); one writer.
 * Ownership: the cell owns the published object and the retired ones, and frees them with `destroy` once no
 * reader holds them: inside a later publish, a reclaim, or fini. */
#ifndef KITH_BASE_HAZARD_H
#define KITH_BASE_HAZARD_H

#include <stdatomic.h>
#include <stdint.h>

#define KITH_HAZARD_SLOTS 256

typedef struct kith_hazard_cell kith_hazard_cell;

kith_hazard_cell *kith_hazard_create(void *first, void (*destroy)(void *object));
/* No reader may hold anything. */
void kith_hazard_destroy(kith_hazard_cell *cell);
/* The current object, safe until released with the slot. */
void *kith_hazard_acquire(kith_hazard_cell *cell, uint32_t *slot_out);
void kith_hazard_release(kith_hazard_cell *cell, uint32_t slot);
/* Writer: makes `object` current and retires the one before. */
void kith_hazard_publish(kith_hazard_cell *cell, void *object);
/* Writer: the current object, without a slot. */
void *kith_hazard_current(kith_hazard_cell *cell);
/* Writer: frees what no reader holds any more; returns how many are still held. */
uint32_t kith_hazard_reclaim(kith_hazard_cell *cell);

#endif
