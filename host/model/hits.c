/* Merging hit lists: a binary heap of list heads, so that k results from n lists cost k log n comparisons,
 * and a table of the ids already taken, because the nearer of two hits with one id need not stand beside the
 * other (a point that moves between shards may be seen in both, in two versions). */
#include "host/model/hits.h"

#include <string.h>

#include "host/base/alloc.h"

#define LISTS_ON_STACK 64u
#define SLOTS_ON_STACK 512u /* of the table of taken ids: k up to 256 */

int kith_hit_compare(const kith_hit *a, const kith_hit *b) {
    if (a->closeness != b->closeness) return a->closeness > b->closeness ? -1 : 1;
    return kith_id_compare(&a->id, &b->id);
}

typedef struct head {
    const kith_hit *at, *end;
} head;

static void heap_sift_down(head *heap, uint32_t count, uint32_t at) {
    head moving = heap[at];
    for (uint32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && kith_hit_compare(heap[child + 1].at, heap[child].at) < 0) child++;
        if (kith_hit_compare(moving.at, heap[child].at) <= 0) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static uint32_t heap_make(head *heap, const kith_hits *lists, uint32_t list_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < list_count; i++) {
        if (lists[i].count > 0) heap[count++] = (head){lists[i].hits, lists[i].hits + lists[i].count};
    }
    for (uint32_t i = count / 2; i > 0; i--)
        heap_sift_down(heap, count, i - 1);
    return count;
}

/* True if `id` is among `hits`; else remembers that hit number `number` has it. */
static bool taken_add(
    uint32_t *slots, uint32_t slot_count, const kith_hit *hits, const kith_id *id, uint32_t number) {
    uint32_t at = kith_id_hash_for_table(id) & (slot_count - 1);
    while (slots[at]) {
        if (kith_id_compare(&hits[slots[at] - 1].id, id) == 0) return true;
        at = (at + 1) & (slot_count - 1);
    }
    slots[at] = number + 1;
    return false;
}

static uint32_t heap_drain(
    head *heap, uint32_t heap_count, uint32_t k, uint32_t *slots, uint32_t slot_count, kith_hit *hits_out) {
    uint32_t count = 0;
    while (count < k && heap_count > 0) {
        const kith_hit *best = heap[0].at++;
        if (!taken_add(slots, slot_count, hits_out, &best->id, count)) hits_out[count++] = *best;
        if (heap[0].at == heap[0].end) heap[0] = heap[--heap_count];
        if (heap_count > 0) heap_sift_down(heap, heap_count, 0);
    }
    return count;
}

/* A power of two at least twice k: the table is at most half full. */
static uint32_t slot_count_for(uint32_t k) {
    uint32_t slot_count = SLOTS_ON_STACK;
    while (slot_count < 2 * k)
        slot_count *= 2;
    return slot_count;
}

uint32_t kith_hits_merge(const kith_hits *lists, uint32_t list_count, uint32_t k, kith_hit *hits_out) {
    if (list_count == 1) {
        uint32_t count = lists[0].count < k ? lists[0].count : k;
        if (count > 0) memcpy(hits_out, lists[0].hits, count * sizeof *hits_out);
        return count;
    }
    head heap_small[LISTS_ON_STACK];
    uint32_t slots_small[SLOTS_ON_STACK];
    uint32_t slot_count = slot_count_for(k);
    head *heap = list_count <= LISTS_ON_STACK ? heap_small : kith_alloc_array(list_count, sizeof *heap);
    uint32_t *slots =
        slot_count <= SLOTS_ON_STACK ? slots_small : kith_alloc_array(slot_count, sizeof *slots);
    memset(slots, 0, slot_count * sizeof *slots);
    uint32_t heap_count = heap_make(heap, lists, list_count);
    uint32_t count = heap_drain(heap, heap_count, k, slots, slot_count, hits_out);
    if (slots != slots_small) kith_free(slots);
    if (heap != heap_small) kith_free(heap);
    return count;
}
