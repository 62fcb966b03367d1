/* Admission: how many requests and bytes may be in flight. One too many is refused at once with a hint, so that no queue
 * grows without bound and a client learns early to slow down. */
#include "host/api/api_internal.h"

static kith_status limit_check(kith_api *api, kith_api_class class, uint32_t count_before,
    uint64_t bytes_before, uint64_t bytes, kith_err *err) {
    if (class == KITH_API_READ) {
        uint32_t reads_max = atomic_load_explicit(&api->reads_max, memory_order_relaxed);
        if (count_before >= reads_max) {
            return kith_err_set(err, KITH_BUSY,
                "%u searches and reads are in flight, the most allowed: retry in %u ms", reads_max,
                KITH_API_RETRY_HINT_MS);
        }
        if (count_before > 0 && bytes_before + bytes > KITH_API_READ_BYTES_MAX) {
            return kith_err_set(err, KITH_BUSY,
                "%llu bytes of searches and reads are in flight, the most allowed is %llu: retry in %u ms",
                (unsigned long long)bytes_before, (unsigned long long)KITH_API_READ_BYTES_MAX,
                KITH_API_RETRY_HINT_MS);
        }
        return KITH_OK;
    }
    uint64_t write_bytes_max = atomic_load_explicit(&api->write_bytes_max, memory_order_relaxed);
    /* A write larger than the limit is let in when it is alone: it could never run otherwise. */
    if (count_before > 0 && bytes_before + bytes > write_bytes_max) {
        return kith_err_set(err, KITH_BUSY,
            "%llu bytes of writes are in flight, the most allowed is %llu (write_queue_bytes_max): retry in "
            "%u ms",
            (unsigned long long)bytes_before, (unsigned long long)write_bytes_max, KITH_API_RETRY_HINT_MS);
    }
    return KITH_OK;
}

kith_status kith_api_admit_enter(kith_api *api, kith_api_class class, uint64_t bytes, kith_err *err) {
    kith_api_admit *admit = &api->admitted[class];
    /* seq_cst, with the load of `stopped` after it and the mirror image in kith_api_stop and wait_idle: either we see
     * the stop, or the one who waits sees us. */
    atomic_fetch_add(&api->in_flight, 1);
    uint32_t count_before = atomic_fetch_add_explicit(&admit->count, 1, memory_order_relaxed);
    uint64_t bytes_before = atomic_fetch_add_explicit(&admit->bytes, bytes, memory_order_relaxed);
    kith_status status = atomic_load(&api->stopped)
                             ? kith_err_set(err, KITH_CLOSED, "the server is shutting down")
                             : limit_check(api, class, count_before, bytes_before, bytes, err);
    if (status == KITH_OK) return KITH_OK;
    kith_api_admit_free(api, class, bytes);
    kith_api_admit_leave(api);
    return status;
}

void kith_api_admit_free(kith_api *api, kith_api_class class, uint64_t bytes) {
    kith_api_admit *admit = &api->admitted[class];
    atomic_fetch_sub_explicit(&admit->bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&admit->count, 1, memory_order_relaxed);
}

uint64_t kith_api_admit_more(kith_api *api, kith_api_class class, uint64_t bytes, uint64_t bytes_max) {
    _Atomic uint64_t *admitted = &api->admitted[class].bytes;
    uint64_t before = atomic_fetch_add_explicit(admitted, bytes, memory_order_relaxed);
    if (before + bytes <= bytes_max) return 0;
    atomic_fetch_sub_explicit(admitted, bytes, memory_order_relaxed);
    return before;
}

void kith_api_admit_less(kith_api *api, kith_api_class class, uint64_t bytes) {
    atomic_fetch_sub_explicit(&api->admitted[class].bytes, bytes, memory_order_relaxed);
}

void kith_api_admit_leave(kith_api *api) {
    /* The last touch of the api may come after the waiter woke: kith_api_destroy asks for joined threads. */
    if (atomic_fetch_sub(&api->in_flight, 1) != 1) return;
    if (!atomic_load(&api->stopped)) return;
    kith_mutex_lock(&api->idle_mutex);
    kith_cond_broadcast(&api->idle);
    kith_mutex_unlock(&api->idle_mutex);
}
