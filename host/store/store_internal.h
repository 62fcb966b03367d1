/* What an implementation of store.h fills in. Every implementation's store, batch, load, iterator and snapshot begin
 * with these. */
#ifndef KITH_STORE_STORE_INTERNAL_H
#define KITH_STORE_STORE_INTERNAL_H

#include "host/store/store.h"

typedef struct kith_store_ops {
    void (*close)(kith_store *store);
    kith_store_batch *(*batch_create)(kith_store *store);
    void (*batch_destroy)(kith_store_batch *batch);
    void (*batch_clear)(kith_store_batch *batch);
    void (*batch_put)(kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes,
        const void *value, size_t value_bytes);
    void (*batch_remove)(
        kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes);
    void (*batch_remove_range)(kith_store_batch *batch, kith_store_family family, const void *from,
        size_t from_bytes, const void *to, size_t to_bytes);
    kith_status (*write)(kith_store *store, kith_store_batch *batch, kith_err *err);
    kith_status (*flush)(kith_store *store, kith_err *err);
    kith_status (*load_begin)(kith_store *store, kith_store_load **load_out, kith_err *err);
    kith_status (*load_put)(kith_store_load *load, kith_store_family family, const void *key,
        size_t key_bytes, const void *value, size_t value_bytes, kith_err *err);
    kith_status (*load_finish)(kith_store_load *load, kith_err *err);
    void (*load_destroy)(kith_store_load *load);
    kith_store_snapshot *(*snapshot_create)(kith_store *store); /* `store` is set by the caller */
    void (*snapshot_destroy)(kith_store_snapshot *snapshot);
    /* `snapshot` of this store, or NULL: as it is now. */
    kith_status (*get)(kith_store *store, kith_store_snapshot *snapshot, kith_store_family family,
        const void *key, size_t key_bytes, kith_buf *value_out, kith_err *err);
    kith_status (*iterator_open)(kith_store *store, kith_store_snapshot *snapshot, kith_store_family family,
        const void *from, size_t from_bytes, const void *to, size_t to_bytes,
        kith_store_iterator **iterator_out, kith_err *err);
    bool (*iterator_next)(kith_store_iterator *iterator, const void **key_out, size_t *key_bytes_out,
        const void **value_out, size_t *value_bytes_out);
    kith_status (*iterator_status)(kith_store_iterator *iterator, kith_err *err);
    void (*iterator_close)(kith_store_iterator *iterator);
    uint64_t (*memory_bytes)(kith_store *store);
} kith_store_ops;

struct kith_store {
    const kith_store_ops *ops;
};
struct kith_store_batch {
    const kith_store_ops *ops;
};
struct kith_store_load {
    const kith_store_ops *ops;
};
struct kith_store_iterator {
    const kith_store_ops *ops;
};
struct kith_store_snapshot {
    kith_store *store;
};

#endif
