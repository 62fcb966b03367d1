#include "kernels/cuda_loader.h"

#include <dlfcn.h>

#include "host/base/alloc.h"

struct kith_cuda {
    void *library; /* NULL: the table is this program's own */
    const kith_cuda_plugin *table;
    uint32_t device_count;
};

/* dlsym gives an object pointer; POSIX says it may be read as a function's (dlsym, "Application usage"). */
static kith_cuda_plugin_table_fn table_find(void *library) {
    kith_cuda_plugin_table_fn find;
    *(void **)&find = dlsym(library, KITH_CUDA_PLUGIN_SYMBOL);
    return find;
}

static kith_status table_check(
    const char *path, const kith_cuda_plugin *table, uint32_t *device_count_out, kith_err *err) {
    if (table->version != KITH_CUDA_PLUGIN_VERSION || table->table_bytes != sizeof *table) {
        return kith_err_set(err, KITH_UNAVAILABLE,
            "cuda plugin %s has version %u of %u bytes, this kith needs %u of %zu", path, table->version,
            table->table_bytes, KITH_CUDA_PLUGIN_VERSION, sizeof *table);
    }
    kith_status status = table->device_count(device_count_out, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "cuda plugin %s", path);
}

kith_status kith_cuda_open_table(
    const char *name, const kith_cuda_plugin *table, kith_cuda **cuda_out, kith_err *err) {
    uint32_t device_count;
    kith_status status = table_check(name, table, &device_count, err);
    if (status != KITH_OK) return status;
    kith_cuda *cuda = kith_alloc(sizeof *cuda);
    *cuda = (kith_cuda){.table = table, .device_count = device_count};
    *cuda_out = cuda;
    return KITH_OK;
}

kith_status kith_cuda_open(const char *path, kith_cuda **cuda_out, kith_err *err) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return kith_err_set(err, KITH_UNAVAILABLE, "cuda plugin: %s", dlerror());
    kith_cuda_plugin_table_fn find = table_find(library);
    kith_cuda *cuda;
    kith_status status;
    if (!find) {
        status = kith_err_set(
            err, KITH_UNAVAILABLE, "%s is not a cuda plugin: it has no " KITH_CUDA_PLUGIN_SYMBOL, path);
        goto err_close_library;
    }
    status = kith_cuda_open_table(path, find(), &cuda, err);
    if (status != KITH_OK) goto err_close_library;
    cuda->library = library;
    *cuda_out = cuda;
    return KITH_OK;
err_close_library:
    dlclose(library);
    return status;
}

void kith_cuda_close(kith_cuda *cuda) {
    if (!cuda) return;
    if (cuda->library) dlclose(cuda->library);
    kith_free(cuda);
}

const kith_cuda_plugin *kith_cuda_table(const kith_cuda *cuda) {
    return cuda->table;
}

uint32_t kith_cuda_device_count(const kith_cuda *cuda) {
    return cuda->device_count;
}
