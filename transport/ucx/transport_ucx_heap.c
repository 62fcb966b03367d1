/* Calls by deadline: a binary heap of pointers; each call knows its place, so that one that ends early leaves at once. */
#include "transport/ucx/transport_ucx_internal.h"

static uint64_t deadline_at(const ucx_transport *transport, uint32_t index) {
    return ucx_public_of(transport->heap[index])->deadline_ns;
}

static void place(ucx_transport *transport, uint32_t index, ucx_call *call) {
    transport->heap[index] = call;
    call->heap_index = index;
}

static void sift_up(ucx_transport *transport, uint32_t index) {
    ucx_call *call = transport->heap[index];
    uint64_t deadline_ns = ucx_public_of(call)->deadline_ns;
    while (index > 0 && deadline_at(transport, (index - 1) / 2) > deadline_ns) {
        place(transport, index, transport->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(transport, index, call);
}

static void sift_down(ucx_transport *transport, uint32_t index) {
    ucx_call *call = transport->heap[index];
    uint64_t deadline_ns = ucx_public_of(call)->deadline_ns;
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= transport->heap_count) break;
        if (child + 1 < transport->heap_count &&
            deadline_at(transport, child + 1) < deadline_at(transport, child))
            child++;
        if (deadline_at(transport, child) >= deadline_ns) break;
        place(transport, index, transport->heap[child]);
        index = child;
    }
    place(transport, index, call);
}

void ucx_heap_push(ucx_transport *transport, ucx_call *call) {
    if (transport->heap_count == transport->heap_capacity) {
        transport->heap_capacity = transport->heap_capacity ? 2 * transport->heap_capacity : 64;
        transport->heap = kith_realloc(transport->heap, transport->heap_capacity * sizeof *transport->heap);
    }
    place(transport, transport->heap_count++, call);
    sift_up(transport, call->heap_index);
}

void ucx_heap_remove(ucx_transport *transport, ucx_call *call) {
    uint32_t index = call->heap_index;
    if (index == UCX_HEAP_NONE) return;
    call->heap_index = UCX_HEAP_NONE;
    ucx_call *last = transport->heap[--transport->heap_count];
    if (last == call) return;
    place(transport, index, last);
    sift_up(transport, index);
    sift_down(transport, last->heap_index);
}
