#include "tests/unit/shard/shard_copy.h"

#include "host/base/assert.h"
#include "tests/lib/test_lib.h"

typedef struct take_call {
    kith_shard_snapshot_begin begin;
    shard_node *node;
    kith_shard_snapshot *snapshot;
    kith_status status;
    kith_err *err;
    atomic_bool done;
} take_call;

static void take_done(kith_shard_snapshot_begin *begin, kith_status status, kith_shard_snapshot *snapshot,
    const kith_err *err) {
    take_call *call = (take_call *)begin;
    call->snapshot = snapshot;
    call->status = status;
    if (err) *call->err = *err;
    shard_node_signal(call->node, &call->done);
}

kith_status shard_copy_take(
    shard_node *node, kith_shard *shard, kith_shard_snapshot **snapshot_out, kith_err *err) {
    take_call call = {.begin = {.done = take_done}, .node = node, .err = err};
    kith_shard_snapshot_begin_start(shard, &call.begin);
    bool answered = shard_node_wait(node, &call.done);
    kith_assert(answered);
    *snapshot_out = call.snapshot;
    return call.status;
}

void shard_copy_read(kith_shard_snapshot *snapshot, kith_rng *rng, kith_buf *bytes_out) {
    uint64_t epoch, sequence, bytes;
    kith_err err;
    kith_shard_snapshot_describe(snapshot, &epoch, &sequence, &bytes);
    kith_buf_clear(bytes_out);
    while (bytes_out->bytes < bytes) {
        size_t wanted = 1 + kith_rng_below(rng, 5000), read;
        uint8_t *at = kith_buf_reserve(bytes_out, wanted);
        assert_ok(kith_shard_snapshot_read(snapshot, bytes_out->bytes, at, wanted, &read, &err), &err);
        assert_true(read == wanted || bytes_out->bytes + read == bytes);
        (void)kith_buf_grow(bytes_out, read);
    }
}

static kith_status pieces_write(
    kith_shard_install *install, const kith_buf *bytes, kith_rng *rng, kith_err *err) {
    kith_status status = KITH_OK;
    for (size_t at = 0; at < bytes->bytes && status == KITH_OK;) {
        size_t piece = 1 + kith_rng_below(rng, kith_rng_below(rng, 4) == 0 ? 20 : 5000);
        if (piece > bytes->bytes - at) piece = bytes->bytes - at;
        assert_int_equal(kith_shard_install_offset(install), at);
        status = kith_shard_install_write(install, bytes->data + at, piece, err);
        at += piece;
    }
    return status;
}

kith_status shard_copy_install(
    shard_node *node, const shard_node_shard *shard, const kith_buf *bytes, kith_rng *rng, kith_err *err) {
    kith_shard_install *install;
    uint64_t epoch, sequence;
    kith_status status = kith_shard_install_begin(&node->node, shard->id, shard->schema, &install, err);
    if (status != KITH_OK) return status;
    status = pieces_write(install, bytes, rng, err);
    if (status == KITH_OK) status = kith_shard_install_finish(install, &epoch, &sequence, err);
    kith_shard_install_destroy(install);
    return status;
}

kith_shard *shard_copy_open(shard_node *node, const shard_node_shard *shard) {
    kith_err err;
    assert_ok(kith_shard_set_open(node->set, shard->id, shard->schema, false, &err), &err);
    assert_ok(kith_shard_set_start(node->set, &err), &err);
    kith_shard *held = kith_shard_set_find(node->set, shard->id);
    assert_non_null(held);
    return held;
}
