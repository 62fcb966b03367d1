/* Sealed segments for a backend that copies their rows to its device. On the background executor, after the segment was
 * published: a copy may take long, and nobody waits for it. Until it is done, and where it is refused, the backend declines
 * the rows and the CPU searches them. When the segment ends, it takes itself back (kith_segment_attach). */
#include "host/base/alloc.h"
#include "host/shard/shard_internal.h"

typedef struct attachment {
    kith_task task;
    kith_shard *shard;
    kith_segment *segment;
} attachment;

static void attach_run(kith_task *task) {
    attachment *own = (attachment *)task;
    kith_shard *shard = own->shard;
    if (!atomic_load(&shard->closing)) kith_segment_attach(own->segment, shard->node->compute);
    kith_segment_release(own->segment);
    kith_free(own);
    shard_use_release(shard);
}

void shard_attach_post(kith_shard *shard, kith_segment *segment) {
    if (!shard->node->compute->attach) return;
    attachment *own = kith_alloc(sizeof *own);
    shard_use_acquire(shard);
    *own =
        (attachment){.task = {.run = attach_run}, .shard = shard, .segment = kith_segment_acquire(segment)};
    kith_executor_post(shard->node->background, &own->task);
}
