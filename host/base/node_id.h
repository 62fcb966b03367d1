/* Who a node is: the UUID in its data directory. */
#ifndef KITH_BASE_NODE_ID_H
#define KITH_BASE_NODE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct kith_node_id {
    uint8_t bytes[16]; /* all zero: none */
} kith_node_id;

static inline bool kith_node_id_equal(const kith_node_id *a, const kith_node_id *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
static inline bool kith_node_id_is_none(const kith_node_id *id) {
    return kith_node_id_equal(id, &(kith_node_id){{0}});
}

#endif
