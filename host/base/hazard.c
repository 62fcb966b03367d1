/* A slot is 0 when free, else the object's address with the lowest bit set (so that a NULL object can be held
 * too). Claiming a slot and announcing the object is one compare-and-swap; the object is safe once `current`
 * is seen unchanged after it. All of that is sequentially consistent: the reader's announcement must be
 * ordered before its second look at `current`, and the writer's exchange before its look at the slots. */
#include "host/base/hazard.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define HELD_BIT ((uintptr_t)1)

typedef struct hazard_slot {
    _Alignas(64) _Atomic(uintptr_t) held; /* a cache line each: readers do not disturb one another */
} hazard_slot;

struct kith_hazard_cell {
    hazard_slot slots[KITH_HAZARD_SLOTS];
    _Alignas(64) _Atomic(uintptr_t) current;
    void (*destroy)(void *object);
    void **retired; /* the writer's */
    uint32_t retired_count;
    uint32_t retired_capacity;
};

kith_hazard_cell *kith_hazard_create(void *first, void (*destroy)(void *object)) {
    kith_hazard_cell *cell = kith_try_alloc_aligned(sizeof *cell);
    kith_assert(cell);
    for (uint32_t i = 0; i < KITH_HAZARD_SLOTS; i++)
        atomic_init(&cell->slots[i].held, 0);
    atomic_init(&cell->current, (uintptr_t)first);
    cell->destroy = destroy;
    cell->retired = NULL;
    cell->retired_count = 0;
    cell->retired_capacity = 0;
    return cell;
}

static void destroy_object(const kith_hazard_cell *cell, void *object) {
    if (object) cell->destroy(object);
}

void kith_hazard_destroy(kith_hazard_cell *cell) {
    if (!cell) return;
    uint32_t held_count = kith_hazard_reclaim(cell);
    kith_assert(held_count == 0);
    destroy_object(cell, kith_hazard_current(cell));
    kith_free(cell->retired);
    kith_free(cell);
}

/* Where a thread looks first: threads start at different slots. */
static uint32_t first_slot(void) {
    static _Thread_local char mark;
    return (uint32_t)(((uint64_t)(uintptr_t)&mark * 0x9E3779B97F4A7C15ULL) >> 32) % KITH_HAZARD_SLOTS;
}

static bool claim(hazard_slot *slot, uintptr_t held) {
    uintptr_t free_slot = 0;
    return atomic_compare_exchange_strong(&slot->held, &free_slot, held);
}

static uint32_t claim_any(kith_hazard_cell *cell, uintptr_t held) {
    uint32_t slot = first_slot();
    for (uint32_t tries = 1; !claim(&cell->slots[slot], held); tries++) {
        slot = (slot + 1) % KITH_HAZARD_SLOTS;
        if (tries % KITH_HAZARD_SLOTS == 0) sched_yield();
    }
    return slot;
}

void *kith_hazard_acquire(kith_hazard_cell *cell, uint32_t *slot_out) {
    uintptr_t object = atomic_load(&cell->current);
    uint32_t slot = claim_any(cell, object | HELD_BIT);
    for (;;) {
        uintptr_t now = atomic_load(&cell->current);
        if (now == object) break;
        object = now;
        atomic_store(&cell->slots[slot].held, object | HELD_BIT);
    }
    *slot_out = slot;
    return (void *)object;
}

void kith_hazard_release(kith_hazard_cell *cell, uint32_t slot) {
    /* release: pairs with the load in is_held; the reader's last use comes before the writer's free. */
    atomic_store_explicit(&cell->slots[slot].held, 0, memory_order_release);
}

static void retire(kith_hazard_cell *cell, void *object) {
    if (cell->retired_count == cell->retired_capacity) {
        cell->retired_capacity = cell->retired_capacity ? 2 * cell->retired_capacity : 8;
        cell->retired = kith_realloc(cell->retired, cell->retired_capacity * sizeof *cell->retired);
    }
    cell->retired[cell->retired_count++] = object;
}

void kith_hazard_publish(kith_hazard_cell *cell, void *object) {
    kith_assert(((uintptr_t)object & HELD_BIT) == 0);
    void *before = (void *)atomic_exchange(&cell->current, (uintptr_t)object);
    if (before) retire(cell, before);
    kith_hazard_reclaim(cell);
}

void *kith_hazard_current(kith_hazard_cell *cell) {
    return (void *)atomic_load(&cell->current);
}

static bool is_held(kith_hazard_cell *cell, const void *object) {
    for (uint32_t i = 0; i < KITH_HAZARD_SLOTS; i++)
        if (atomic_load(&cell->slots[i].held) == ((uintptr_t)object | HELD_BIT)) return true;
    return false;
}

uint32_t kith_hazard_reclaim(kith_hazard_cell *cell) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cell->retired_count; i++) {
        void *object = cell->retired[i];
        if (is_held(cell, object))
            cell->retired[kept++] = object;
        else
            cell->destroy(object);
    }
    cell->retired_count = kept;
    return kept;
}
