/* Who coordinates, as far as this node knows. */
#include "host/meta/meta_client_internal.h"

static void coordinators_run(kith_task *task) {
    kith_meta_coordinators *asked =
        (kith_meta_coordinators *)(void *)((char *)task - offsetof(kith_meta_coordinators, task));
    const kith_meta_client *client = (const kith_meta_client *)asked->meta;
    uint32_t count = client->options.coordinator_count;
    asked->count = count < KITH_META_COORDINATORS_MAX ? count : KITH_META_COORDINATORS_MAX;
    client_address_set(asked->leader, client->leader);
    for (uint32_t i = 0; i < asked->count; i++)
        client_address_set(asked->addresses[i], client->coordinators[i]);
    asked->done(asked);
}

void client_coordinators(kith_meta *meta, kith_meta_coordinators *coordinators) {
    coordinators->meta = meta;
    coordinators->task = (kith_task){.run = coordinators_run};
    kith_executor_post(((kith_meta_client *)meta)->options.executor, &coordinators->task);
}
