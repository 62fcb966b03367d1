/* Who may search what; cuda_backend_search.c has the search itself. */
#include "kernels/cuda/cuda_backend.h"

#include <stdatomic.h>
#include <stdio.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "kernels/codes/codes.h"
#include "kernels/cuda/cuda_backend_internal.h"

enum {
    WORKERS_DEFAULT = 4,
    WORKERS_MOST = 64,
};
static const size_t upload_bytes_default = (size_t)8 << 20; /* guess */
static const size_t queries_bytes_default = (size_t)32 << 20;
static const size_t results_bytes_default = (size_t)32 << 20;
static const size_t scratch_bytes_default = (size_t)192 << 20;

/* A segment on the device. */
typedef struct resident {
    const void *vectors; /* the name */
    kith_rows rows;      /* its shape; the pointers are not followed */
    uint32_t code_dim, lead_dim;
    kith_cuda_segment *segment;
    uint32_t user_count; /* searches that read it */
    uint64_t used_turn;  /* of the backend's turns, when last used */
} resident;

struct kith_cuda_backend {
    kith_cuda_backend_options options;
    const kith_cuda_plugin *plugin;
    kith_cuda_device *device;
    /* Guards all below. A message would not do: a search has to find its rows, and pin them, before it can run, on
     * whichever thread it runs. */
    kith_mutex mutex;
    kith_cond changed; /* a worker or a segment became free, an upload ended */
    resident **residents;
    uint32_t resident_count, resident_room;
    uint64_t turn;
    uint64_t workers_free; /* bits */
    bool uploading, retired;
    char reason[KITH_ERR_BYTES_MAX];
    kith_cuda_backend_counts counts;
};

/* --- life --- */

kith_status kith_cuda_backend_create(
    const kith_cuda_backend_options *options, kith_cuda_backend **backend_out, kith_err *err) {
    kith_cuda_backend_options own = *options;
    if (own.worker_count == 0) own.worker_count = WORKERS_DEFAULT;
    if (own.worker_count > WORKERS_MOST)
        return kith_err_set(err, KITH_INVALID, "%u workers are more than %d", own.worker_count, WORKERS_MOST);
    if (own.upload_bytes == 0) own.upload_bytes = upload_bytes_default;
    if (own.worker_queries_bytes == 0) own.worker_queries_bytes = queries_bytes_default;
    if (own.worker_results_bytes == 0) own.worker_results_bytes = results_bytes_default;
    if (own.worker_scratch_bytes == 0) own.worker_scratch_bytes = scratch_bytes_default;
    kith_cuda_device_options device_options = {
        .device_index = own.device_index,
        .worker_count = own.worker_count,
        .memory_bytes_max = own.memory_bytes_max,
        .worker_queries_bytes = own.worker_queries_bytes,
        .worker_results_bytes = own.worker_results_bytes,
        .worker_scratch_bytes = own.worker_scratch_bytes,
        .upload_bytes = own.upload_bytes,
        .scan = own.scan,
    };
    const kith_cuda_plugin *plugin = kith_cuda_table(own.cuda);
    kith_cuda_device *device;
    kith_status status = plugin->device_open(&device_options, &device, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "cuda device %u", own.device_index);
    kith_cuda_backend *backend = kith_alloc_zero(sizeof *backend);
    backend->options = own;
    backend->plugin = plugin;
    backend->device = device;
    backend->workers_free = own.worker_count == 64 ? ~0ULL : (1ULL << own.worker_count) - 1;
    kith_mutex_init(&backend->mutex, KITH_RANK_CUDA);
    kith_cond_init(&backend->changed);
    *backend_out = backend;
    return KITH_OK;
}

static void resident_free(kith_cuda_backend *backend, resident *r) {
    backend->plugin->segment_release(backend->device, r->segment);
    kith_free(r);
}

void kith_cuda_backend_destroy(kith_cuda_backend *backend) {
    if (!backend) return;
    kith_cuda_backend_uninstall(backend);
    for (uint32_t i = 0; i < backend->resident_count; i++)
        resident_free(backend, backend->residents[i]);
    kith_free(backend->residents);
    backend->plugin->device_close(backend->device);
    kith_cond_fini(&backend->changed);
    kith_mutex_fini(&backend->mutex);
    kith_free(backend);
}

/* --- faults and figures --- */

bool kith_cuda_backend_usable(kith_cuda_backend *backend, kith_err *err) {
    kith_mutex_lock(&backend->mutex);
    bool usable = !backend->retired;
    if (!usable) (void)kith_err_set(err, KITH_UNAVAILABLE, "%s", backend->reason);
    kith_mutex_unlock(&backend->mutex);
    return usable;
}

/* Takes the device out of use; the first fault is told. */
static void retire(kith_cuda_backend *backend, const kith_err *fault) {
    kith_mutex_lock(&backend->mutex);
    bool first = !backend->retired;
    backend->retired = true;
    backend->counts.faults++;
    if (first) (void)snprintf(backend->reason, sizeof backend->reason, "%s", fault->text);
    kith_cond_broadcast(&backend->changed);
    kith_mutex_unlock(&backend->mutex);
    if (first && backend->options.retired) backend->options.retired(backend->options.ctx, backend->reason);
}

void kith_cuda_backend_count(kith_cuda_backend *backend, kith_cuda_backend_counts *counts_out) {
    kith_mutex_lock(&backend->mutex);
    *counts_out = backend->counts;
    counts_out->segments = backend->resident_count;
    kith_mutex_unlock(&backend->mutex);
    counts_out->memory_bytes_max = backend->plugin->device_memory(backend->device, counts_out->used_bytes);
}

/* --- residents --- */

static uint32_t resident_index_locked(const kith_cuda_backend *backend, const void *vectors) {
    uint32_t i = 0;
    while (i < backend->resident_count && backend->residents[i]->vectors != vectors)
        i++;
    return i;
}

static resident *resident_remove_locked(kith_cuda_backend *backend, uint32_t index) {
    resident *removed = backend->residents[index];
    backend->residents[index] = backend->residents[--backend->resident_count];
    return removed;
}

static void resident_add_locked(kith_cuda_backend *backend, resident *added) {
    if (backend->resident_count == backend->resident_room) {
        backend->resident_room = backend->resident_room ? 2 * backend->resident_room : 16;
        backend->residents =
            kith_realloc(backend->residents, backend->resident_room * sizeof *backend->residents);
    }
    added->used_turn = ++backend->turn;
    backend->residents[backend->resident_count++] = added;
}

/* The one that was used longest ago, of those that nobody uses; NULL: none. */
static resident *resident_oldest_take_locked(kith_cuda_backend *backend) {
    uint32_t oldest = backend->resident_count;
    for (uint32_t i = 0; i < backend->resident_count; i++) {
        const resident *r = backend->residents[i];
        if (r->user_count > 0) continue;
        if (oldest == backend->resident_count || r->used_turn < backend->residents[oldest]->used_turn)
            oldest = i;
    }
    return oldest == backend->resident_count ? NULL : resident_remove_locked(backend, oldest);
}

/* Begins an upload, alone. False: there is nothing to do, `status_out` says why. */
static bool upload_begin(
    kith_cuda_backend *backend, const kith_rows *rows, kith_status *status_out, kith_err *err) {
    kith_mutex_lock(&backend->mutex);
    while (backend->uploading)
        kith_cond_wait(&backend->changed, &backend->mutex);
    bool there = resident_index_locked(backend, rows->vectors) < backend->resident_count;
    *status_out = KITH_OK;
    if (backend->retired)
        *status_out = kith_err_set(err, KITH_UNIMPLEMENTED, "the device is not in use: %s", backend->reason);
    bool begun = *status_out == KITH_OK && !there;
    backend->uploading = begun;
    kith_mutex_unlock(&backend->mutex);
    return begun;
}

/* Whether they would fit if nothing else did. */
static bool fits_alone(const kith_cuda_backend *backend, const kith_rows *rows) {
    size_t used[KITH_CUDA_MEMORY_COUNT];
    size_t most = backend->plugin->device_memory(backend->device, used);
    size_t workers =
        used[KITH_CUDA_MEMORY_QUERIES] + used[KITH_CUDA_MEMORY_RESULTS] + used[KITH_CUDA_MEMORY_SCRATCH];
    size_t bytes = (size_t)rows->row_count * rows->dim * kith_vector_type_bytes(rows->type) +
                   kith_code_block_count(rows->row_count) * kith_code_block_bytes(&rows->codes->basis);
    return bytes <= most - workers;
}

static bool evict_one(kith_cuda_backend *backend) {
    kith_mutex_lock(&backend->mutex);
    resident *oldest = resident_oldest_take_locked(backend);
    if (oldest) backend->counts.evictions++;
    kith_mutex_unlock(&backend->mutex);
    if (oldest) resident_free(backend, oldest);
    return oldest != NULL;
}

static void upload_end(kith_cuda_backend *backend, resident *added, kith_status status) {
    kith_mutex_lock(&backend->mutex);
    if (added) {
        resident_add_locked(backend, added);
        backend->counts.uploads++;
    }
    if (status == KITH_NO_MEMORY) backend->counts.refusals++;
    backend->uploading = false;
    kith_cond_broadcast(&backend->changed);
    kith_mutex_unlock(&backend->mutex);
}

kith_status kith_cuda_backend_upload(kith_cuda_backend *backend, const kith_rows *rows, kith_err *err) {
    if (!rows->codes || rows->metric == KITH_METRIC_L1 || rows->row_count == 0)
        return kith_err_set(err, KITH_UNIMPLEMENTED, "rows without codes are not for the device");
    kith_status status;
    if (!upload_begin(backend, rows, &status, err)) return status;
    kith_err fault;
    kith_cuda_segment *segment = NULL;
    do {
        status = backend->plugin->segment_upload(backend->device, rows, &segment, &fault);
    } while (status == KITH_NO_MEMORY && fits_alone(backend, rows) && evict_one(backend));
    resident *added = NULL;
    if (status == KITH_OK) {
        added = kith_alloc(sizeof *added);
        *added = (resident){.vectors = rows->vectors,
            .rows = *rows,
            .code_dim = rows->codes->basis.code_dim,
            .lead_dim = rows->codes->basis.lead_dim,
            .segment = segment};
    }
    upload_end(backend, added, status);
    if (status == KITH_OK) return KITH_OK;
    if (status != KITH_NO_MEMORY) retire(backend, &fault);
    return kith_err_set(
        err, status == KITH_NO_MEMORY ? KITH_NO_MEMORY : KITH_UNIMPLEMENTED, "%s", fault.text);
}

void kith_cuda_backend_drop(kith_cuda_backend *backend, const void *vectors) {
    resident *dropped = NULL;
    kith_mutex_lock(&backend->mutex);
    while (!dropped) {
        uint32_t index = resident_index_locked(backend, vectors);
        if (index == backend->resident_count) break;
        if (backend->residents[index]->user_count == 0)
            dropped = resident_remove_locked(backend, index);
        else
            kith_cond_wait(&backend->changed, &backend->mutex);
    }
    kith_mutex_unlock(&backend->mutex);
    if (dropped) resident_free(backend, dropped);
}

/* --- searches --- */

static bool shape_matches(const resident *r, const kith_rows *rows) {
    return r->rows.row_count >= rows->row_count && r->rows.dim == rows->dim && r->rows.type == rows->type &&
           r->rows.metric == rows->metric && r->code_dim == rows->codes->basis.code_dim &&
           r->lead_dim == rows->codes->basis.lead_dim;
}

/* Waits for a worker, with the rows pinned. False: the device was retired meanwhile. */
static bool worker_wait_locked(kith_cuda_backend *backend, resident *r) {
    r->user_count++;
    while (backend->workers_free == 0 && !backend->retired)
        kith_cond_wait(&backend->changed, &backend->mutex);
    if (!backend->retired) return true;
    r->user_count--;
    kith_cond_broadcast(&backend->changed); /* a drop may wait for the rows */
    return false;
}

static uint32_t worker_take_locked(kith_cuda_backend *backend) {
    uint32_t worker = (uint32_t)__builtin_ctzll(backend->workers_free);
    backend->workers_free &= ~(1ULL << worker);
    return worker;
}

/* The rows' segment, pinned, and a worker; or why not. */
static kith_status search_begin(
    kith_cuda_backend *backend, const kith_rows *rows, cuda_backend_turn *turn_out, kith_err *err) {
    kith_status status = KITH_UNIMPLEMENTED;
    kith_mutex_lock(&backend->mutex);
    uint32_t index = resident_index_locked(backend, rows->vectors);
    resident *r = index < backend->resident_count ? backend->residents[index] : NULL;
    bool there = r && shape_matches(r, rows);
    if (backend->retired || (there && !worker_wait_locked(backend, r))) {
        (void)kith_err_set(err, status, "the device is not in use: %s", backend->reason);
    } else if (!there) {
        (void)kith_err_set(err, status, "the rows are not on the device");
        backend->counts.declined_away++;
    } else {
        r->used_turn = ++backend->turn;
        *turn_out = (cuda_backend_turn){.plugin = backend->plugin,
            .device = backend->device,
            .segment = r->segment,
            .worker = worker_take_locked(backend),
            .resident = r};
        status = KITH_OK;
    }
    if (status != KITH_OK) backend->counts.declined++;
    kith_mutex_unlock(&backend->mutex);
    return status;
}

static void search_end(
    kith_cuda_backend *backend, const cuda_backend_turn *turn, kith_status status, uint32_t query_count) {
    resident *r = turn->resident;
    kith_mutex_lock(&backend->mutex);
    r->user_count--;
    backend->workers_free |= 1ULL << turn->worker;
    if (status == KITH_OK) {
        backend->counts.searches++;
        backend->counts.queries += query_count;
        backend->counts.queries_wide += turn->queries_wide;
    } else {
        backend->counts.declined++;
    }
    kith_cond_broadcast(&backend->changed);
    kith_mutex_unlock(&backend->mutex);
}

static kith_status decline(kith_cuda_backend *backend, kith_err *err, const char *why) {
    kith_mutex_lock(&backend->mutex);
    backend->counts.declined++;
    kith_mutex_unlock(&backend->mutex);
    return kith_err_set(err, KITH_UNIMPLEMENTED, "%s", why);
}

kith_status kith_cuda_backend_top_k(kith_cuda_backend *backend, const kith_top_k_job *job,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    kith_status status = cuda_backend_job_check(job, err);
    if (status != KITH_OK) return status;
    const char *unfit = cuda_backend_unfit(job);
    if (unfit) return decline(backend, err, unfit);
    if (job->query_count == 0) return KITH_OK;
    cuda_backend_turn turn;
    status = search_begin(backend, job->rows, &turn, err);
    if (status != KITH_OK) return status;
    kith_err fault;
    status = cuda_backend_search(&turn, job, hits_out, counts_out, stats, &fault);
    /* Before the worker is free: whoever waits for it shall not search. */
    if (status != KITH_OK && status != KITH_UNIMPLEMENTED) retire(backend, &fault);
    search_end(backend, &turn, status, job->query_count);
    if (status == KITH_OK) return KITH_OK;
    return kith_err_set(err, KITH_UNIMPLEMENTED, "%s", fault.text);
}

/* --- the process's one --- */

/* A table of operations has no argument for its backend. release / acquire: publishes the backend's memory. */
static _Atomic(kith_cuda_backend *) installed;

void kith_cuda_backend_install(kith_cuda_backend *backend) {
    atomic_store_explicit(&installed, backend, memory_order_release);
}

void kith_cuda_backend_uninstall(kith_cuda_backend *backend) {
    kith_cuda_backend *expected = backend;
    (void)atomic_compare_exchange_strong(&installed, &expected, NULL);
}

static kith_status cuda_top_k(const kith_top_k_job *job, kith_row_hit *hits_out, uint32_t *counts_out,
    kith_top_k_stats *stats, kith_err *err) {
    kith_cuda_backend *backend = atomic_load_explicit(&installed, memory_order_acquire);
    if (!backend) return kith_err_set(err, KITH_UNIMPLEMENTED, "no device is in use");
    return kith_cuda_backend_top_k(backend, job, hits_out, counts_out, stats, err);
}

static void cuda_cpu_rescore(const kith_rows *rows, const float *query, const uint32_t *row_numbers,
    uint32_t row_count, double *closeness_out) {
    kith_compute_cpu()->rescore(rows, query, row_numbers, row_count, closeness_out);
}

static void cuda_cpu_norms(
    const void *vectors, kith_vector_type type, uint32_t dim, uint32_t row_count, float *norms_out) {
    kith_compute_cpu()->norms(vectors, type, dim, row_count, norms_out);
}

static void cuda_cpu_products(const float *queries, uint32_t query_count, const float *rows,
    uint32_t row_count, uint32_t stride, float *sums_out) {
    kith_compute_cpu()->products(queries, query_count, rows, row_count, stride, sums_out);
}

static void cuda_attach(const kith_rows *rows) {
    kith_err err;
    kith_cuda_backend *backend = atomic_load_explicit(&installed, memory_order_acquire);
    if (!backend || kith_cuda_backend_upload(backend, rows, &err) != KITH_NO_MEMORY) return;
    kith_log_warn("gpu_upload_refused", kith_kv_u64("rows", rows->row_count), kith_kv_u64("dim", rows->dim),
        kith_kv_text("reason", err.text));
}

static void cuda_detach(const void *vectors) {
    kith_cuda_backend *backend = atomic_load_explicit(&installed, memory_order_acquire);
    if (backend) kith_cuda_backend_drop(backend, vectors);
}

const kith_compute_ops *kith_compute_cuda(void) {
    static const kith_compute_ops ops = {
        .name = "cuda",
        .top_k = cuda_top_k,
        .scratch_bytes = cuda_backend_scratch_bytes,
        .rescore = cuda_cpu_rescore,
        .norms = cuda_cpu_norms,
        .products = cuda_cpu_products,
        .attach = cuda_attach,
        .detach = cuda_detach,
    };
    return &ops;
}
