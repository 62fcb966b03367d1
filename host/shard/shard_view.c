/* Views: made by the owner after each round, seal and merge; read by everyone. */
#include "host/shard/shard_view.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/shard/shard_internal.h"

shard_dead *shard_dead_create(const shard_dead *from, uint32_t bit_count) {
    uint32_t word_count = (uint32_t)kith_bitset_words(bit_count);
    shard_dead *dead = kith_alloc_zero(sizeof *dead + word_count * sizeof dead->words[0]);
    atomic_init(&dead->references, 1);
    dead->word_count = word_count;
    if (from) {
        kith_assert(from->word_count == word_count);
        memcpy(dead->words, from->words, word_count * sizeof dead->words[0]);
    }
    return dead;
}

shard_dead *shard_dead_acquire(shard_dead *dead) {
    /* relaxed: who calls this holds a reference already. */
    if (dead) atomic_fetch_add_explicit(&dead->references, 1, memory_order_relaxed);
    return dead;
}

void shard_dead_release(shard_dead *dead) {
    /* acq_rel: the last one must see everything the others did with it. */
    if (dead && atomic_fetch_sub_explicit(&dead->references, 1, memory_order_acq_rel) == 1) kith_free(dead);
}

shard_view *shard_view_create(uint32_t part_capacity) {
    shard_view *view = kith_alloc_zero(sizeof *view + part_capacity * sizeof view->parts[0]);
    atomic_init(&view->references, 1);
    return view;
}

void shard_view_add(
    shard_view *view, kith_segment *segment, shard_dead *dead, uint32_t row_count, uint32_t dead_count) {
    kith_assert(dead_count <= row_count);
    view->parts[view->part_count++] = (shard_view_part){.segment = kith_segment_acquire(segment),
        .dead = shard_dead_acquire(dead),
        .row_count = row_count,
        .live_count = row_count - dead_count};
    view->live_count += row_count - dead_count;
    view->row_count += row_count;
    view->vector_bytes += kith_segment_vector_bytes(segment);
}

shard_view *shard_view_acquire(kith_hazard_cell *cell) {
    uint32_t slot;
    shard_view *view = kith_hazard_acquire(cell, &slot);
    /* relaxed: the hazard slot keeps the cell's own reference from going meanwhile. */
    atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    kith_hazard_release(cell, slot);
    return view;
}

shard_view *shard_view_hold(shard_view *view) {
    /* relaxed: who calls this holds a reference already. */
    atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    return view;
}

void shard_view_release(shard_view *view) {
    if (atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel) != 1) return;
    for (uint32_t i = 0; i < view->part_count; i++) {
        kith_segment_release(view->parts[i].segment);
        shard_dead_release(view->parts[i].dead);
    }
    kith_free(view);
}

void shard_view_destroy_cell(void *view) {
    shard_view_release(view);
}

void shard_publish(kith_shard *shard) {
    shard_view *view = shard_view_create(shard->part_count);
    view->applied_sequence = shard->applied_sequence;
    for (uint32_t i = 0; i < shard->part_count; i++) {
        shard_part *part = &shard->parts[i];
        part->dead_fresh = false;
        if (part->row_count > 0)
            shard_view_add(view, part->segment, part->dead, part->row_count, part->dead_count);
    }
    kith_hazard_publish(shard->view_cell, view);
}

void shard_publish_replaced(kith_shard *shard, const kith_segment *source, const shard_part *output) {
    const shard_view *before = kith_hazard_current(shard->view_cell);
    shard_view *view = shard_view_create(before->part_count);
    view->applied_sequence = before->applied_sequence;
    for (uint32_t i = 0; i < before->part_count; i++) {
        const shard_view_part *part = &before->parts[i];
        if (part->segment != source)
            shard_view_add(
                view, part->segment, part->dead, part->row_count, part->row_count - part->live_count);
        else if (output->segment)
            shard_view_add(view, output->segment, output->dead, output->row_count, output->dead_count);
    }
    kith_hazard_publish(shard->view_cell, view);
}
