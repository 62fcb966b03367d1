/* store.h: each call goes to the implementation that opened the store. */
#include "host/store/store_internal.h"

#include "host/base/assert.h"

void kith_store_close(kith_store *store) {
    if (store) store->ops->close(store);
}

kith_store_batch *kith_store_batch_create(kith_store *store) {
    return store->ops->batch_create(store);
}

void kith_store_batch_destroy(kith_store_batch *batch) {
    if (batch) batch->ops->batch_destroy(batch);
}

void kith_store_batch_clear(kith_store_batch *batch) {
    batch->ops->batch_clear(batch);
}

void kith_store_batch_put(kith_store_batch *batch, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes) {
    kith_assert(family < KITH_STORE_FAMILIES);
    batch->ops->batch_put(batch, family, key, key_bytes, value, value_bytes);
}

void kith_store_batch_remove(
    kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes) {
    kith_assert(family < KITH_STORE_FAMILIES);
    batch->ops->batch_remove(batch, family, key, key_bytes);
}

void kith_store_batch_remove_range(kith_store_batch *batch, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes) {
    kith_assert(family < KITH_STORE_FAMILIES);
    batch->ops->batch_remove_range(batch, family, from, from_bytes, to, to_bytes);
}

kith_status kith_store_write(kith_store *store, kith_store_batch *batch, kith_err *err) {
    kith_assert(store->ops == batch->ops);
    return store->ops->write(store, batch, err);
}

kith_status kith_store_flush(kith_store *store, kith_err *err) {
    return store->ops->flush(store, err);
}

kith_status kith_store_load_begin(kith_store *store, kith_store_load **load_out, kith_err *err) {
    return store->ops->load_begin(store, load_out, err);
}

kith_status kith_store_load_put(kith_store_load *load, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes, kith_err *err) {
    kith_assert(family < KITH_STORE_FAMILIES);
    return load->ops->load_put(load, family, key, key_bytes, value, value_bytes, err);
}

kith_status kith_store_load_finish(kith_store_load *load, kith_err *err) {
    return load->ops->load_finish(load, err);
}

void kith_store_load_destroy(kith_store_load *load) {
    if (load) load->ops->load_destroy(load);
}

kith_status kith_store_get(kith_store *store, kith_store_family family, const void *key, size_t key_bytes,
    kith_buf *value_out, kith_err *err) {
    kith_assert(family < KITH_STORE_FAMILIES);
    return store->ops->get(store, NULL, family, key, key_bytes, value_out, err);
}

kith_store_snapshot *kith_store_snapshot_create(kith_store *store) {
    kith_store_snapshot *snapshot = store->ops->snapshot_create(store);
    snapshot->store = store;
    return snapshot;
}

void kith_store_snapshot_destroy(kith_store_snapshot *snapshot) {
    if (snapshot) snapshot->store->ops->snapshot_destroy(snapshot);
}

kith_status kith_store_snapshot_get(kith_store_snapshot *snapshot, kith_store_family family, const void *key,
    size_t key_bytes, kith_buf *value_out, kith_err *err) {
    kith_assert(family < KITH_STORE_FAMILIES);
    kith_store *store = snapshot->store;
    return store->ops->get(store, snapshot, family, key, key_bytes, value_out, err);
}

kith_status kith_store_snapshot_iterator_open(kith_store_snapshot *snapshot, kith_store_family family,
    const void *from, size_t from_bytes, const void *to, size_t to_bytes, kith_store_iterator **iterator_out,
    kith_err *err) {
    kith_assert(family < KITH_STORE_FAMILIES);
    kith_store *store = snapshot->store;
    return store->ops->iterator_open(
        store, snapshot, family, from, from_bytes, to, to_bytes, iterator_out, err);
}

kith_status kith_store_iterator_open(kith_store *store, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes, kith_store_iterator **iterator_out, kith_err *err) {
    kith_assert(family < KITH_STORE_FAMILIES);
    return store->ops->iterator_open(store, NULL, family, from, from_bytes, to, to_bytes, iterator_out, err);
}

bool kith_store_iterator_next(kith_store_iterator *iterator, const void **key_out, size_t *key_bytes_out,
    const void **value_out, size_t *value_bytes_out) {
    return iterator->ops->iterator_next(iterator, key_out, key_bytes_out, value_out, value_bytes_out);
}

kith_status kith_store_iterator_status(kith_store_iterator *iterator, kith_err *err) {
    return iterator->ops->iterator_status(iterator, err);
}

void kith_store_iterator_close(kith_store_iterator *iterator) {
    if (iterator) iterator->ops->iterator_close(iterator);
}

uint64_t kith_store_memory_bytes(kith_store *store) {
    return store->ops->memory_bytes(store);
}
