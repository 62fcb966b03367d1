/* Who coordinates, as far as this node knows. */
#include <string.h>

#include "host/meta/meta_client_internal.h"

static bool is_known(const kith_meta_client *client, const char *address) {
    for (uint32_t i = 0; i < client->coordinator_count; i++) {
        if (strcmp(client->coordinators[i], address) == 0) return true;
    }
    return false;
}

static void learn(kith_meta_client *client, bool down) {
    for (uint32_t i = 0; i < client->state.node_count; i++) {
        const kith_node *node = &client->state.nodes[i];
        if (client->coordinator_count >= KITH_META_COORDINATORS_MAX) return;
        if (node->role != KITH_NODE_COORDINATOR || node->down != down || is_known(client, node->address))
            continue;
        client_address_set(client->coordinators[client->coordinator_count++], node->address);
    }
}

/* Those to begin with may all have left the cluster while this node was away. */
void client_coordinators_learn(kith_meta_client *client) {
    client->coordinator_count = client->options.coordinator_count;
    learn(client, false);
    learn(client, true);
    if (client->coordinator_next >= client->coordinator_count) client->coordinator_next = 0;
}

static void coordinators_run(kith_task *task) {
    kith_meta_coordinators *asked =
        (kith_meta_coordinators *)(void *)((char *)task - offsetof(kith_meta_coordinators, task));
    const kith_meta_client *client = (const kith_meta_client *)asked->meta;
    uint32_t count = client->coordinator_count;
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
