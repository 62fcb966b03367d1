/* top_k on one thread against what the machine can do: the bandwidth of one streaming read (batch 1 reads
 * every row once) and the peak of f32 FMA (large batches). 1M x 128 f32 by default, in clusters, as
 * embeddings are.
 *
 *   bench_top_k [--rows N] [--dim N] [--k N] [--batch N] [--metric l2|ip|cosine|l1] [--type f32|f16|bf16|i8]
 *               [--base FILE.fvecs --queries FILE.fvecs] [--repeat N] [--seed N] [--json]
 *
 * GB/s counts the bytes of the stored rows once a scan of a batch; GFLOP/s two operations a component of each
 * query and row, whatever the metric. Best of `repeat` runs. The answers are those of ref: recall is 1 by
 * construction (tests/kernels). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/micro/bench_ceilings.h"
#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/limits.h"
#include "host/base/rng.h"
#include "host/base/text.h"
#include "kernels/compute.h"

typedef struct options {
    uint32_t rows, dim, k, batch, repeat;
    uint64_t seed;
    kith_metric metric;
    kith_vector_type type;
    const char *base_path, *queries_path;
    bool json;
} options;

typedef struct data_set {
    kith_rows rows;
    void *vectors;
    float *norms;
    float *queries;
    uint32_t query_count;
} data_set;

typedef struct figure {
    uint32_t batch;
    double seconds;
    double bytes_per_s;
    double flops_per_s;
    kith_top_k_stats stats;
} figure;

static _Noreturn void die(const char *what, const char *value) {
    fprintf(stderr, "bench_top_k: %s: %s\n", what, value);
    exit(2);
}

/* --- options --- */

static const struct {
    const char *name;
    int value;
} metric_names[] = {{"l2", KITH_METRIC_L2}, {"ip", KITH_METRIC_IP}, {"cosine", KITH_METRIC_COSINE},
    {"l1", KITH_METRIC_L1}},
  type_names[] = {
      {"f32", KITH_TYPE_F32}, {"f16", KITH_TYPE_F16}, {"bf16", KITH_TYPE_BF16}, {"i8", KITH_TYPE_I8}};

static uint64_t number_parse(const char *flag, const char *text, uint64_t most) {
    uint64_t value;
    if (!kith_text_parse_u64(text, strlen(text), &value) || value > most) die(flag, text);
    return value;
}

static void option_set(options *o, const char *flag, const char *value) {
    if (strcmp(flag, "--rows") == 0) {
        o->rows = (uint32_t)number_parse(flag, value, UINT32_MAX);
    } else if (strcmp(flag, "--dim") == 0) {
        o->dim = (uint32_t)number_parse(flag, value, KITH_DIM_MAX);
    } else if (strcmp(flag, "--k") == 0) {
        o->k = (uint32_t)number_parse(flag, value, KITH_K_MAX);
    } else if (strcmp(flag, "--batch") == 0) {
        o->batch = (uint32_t)number_parse(flag, value, KITH_QUERIES_MAX);
    } else if (strcmp(flag, "--repeat") == 0) {
        o->repeat = (uint32_t)number_parse(flag, value, 1000);
    } else if (strcmp(flag, "--seed") == 0) {
        o->seed = number_parse(flag, value, UINT64_MAX);
    } else if (strcmp(flag, "--base") == 0) {
        o->base_path = value;
    } else if (strcmp(flag, "--queries") == 0) {
        o->queries_path = value;
    } else if (strcmp(flag, "--metric") == 0) {
        o->metric = 0;
        for (int i = 0; i < 4; i++) {
            if (strcmp(value, metric_names[i].name) == 0) o->metric = (kith_metric)metric_names[i].value;
        }
        if (!o->metric) die(flag, value);
    } else if (strcmp(flag, "--type") == 0) {
        o->type = 0;
        for (int i = 0; i < 4; i++) {
            if (strcmp(value, type_names[i].name) == 0) o->type = (kith_vector_type)type_names[i].value;
        }
        if (!o->type) die(flag, value);
    } else {
        die("unknown option", flag);
    }
}

static options options_parse(int argc, char **argv) {
    options o = {.rows = 1000000,
        .dim = 128,
        .k = 10,
        .repeat = 5,
        .seed = 1,
        .metric = KITH_METRIC_L2,
        .type = KITH_TYPE_F32};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            o.json = true;
        } else if (i + 1 < argc) {
            option_set(&o, argv[i], argv[i + 1]);
            i++;
        } else {
            die("unknown option, or no value", argv[i]);
        }
    }
    if (!o.base_path != !o.queries_path) die("needs both", "--base and --queries");
    if (!o.rows || !o.dim || !o.k || !o.repeat) die("must not be 0", "--rows, --dim, --k, --repeat");
    return o;
}

/* --- data --- */

static void rows_allocate(const options *o, data_set *data) {
    data->vectors = kith_try_alloc_aligned((size_t)o->rows * o->dim * kith_vector_type_bytes(o->type));
    data->norms = kith_try_alloc_aligned((size_t)o->rows * sizeof(float));
    if (!data->vectors || !data->norms) die("out of memory", "use fewer --rows");
}

static void row_store(const options *o, data_set *data, uint32_t row, const float *values) {
    kith_err err;
    char *at = (char *)data->vectors + (size_t)row * o->dim * kith_vector_type_bytes(o->type);
    if (kith_vector_store(values, o->dim, o->type, at, &err) != KITH_OK) die("a row", err.text);
}

/* 1000 centres; a vector is one of them plus noise of half their spread. */
static void vector_make(kith_rng *rng, const float *centres, uint32_t dim, float *out) {
    const float *centre = centres + kith_rng_below(rng, 1000) * dim;
    for (uint32_t i = 0; i < dim; i++)
        out[i] = centre[i] + 8 * (float)kith_rng_normal(rng);
}

static void data_synthesise(const options *o, data_set *data) {
    kith_rng rng;
    kith_rng_init(&rng, o->seed);
    float *centres = kith_alloc_array(1000 * (size_t)o->dim, sizeof(float));
    float *vector = kith_alloc_array(o->dim, sizeof(float));
    for (size_t i = 0; i < 1000 * (size_t)o->dim; i++)
        centres[i] = 16 * (float)kith_rng_normal(&rng);
    rows_allocate(o, data);
    for (uint32_t row = 0; row < o->rows; row++) {
        vector_make(&rng, centres, o->dim, vector);
        row_store(o, data, row, vector);
    }
    data->query_count = o->batch > 1024 ? o->batch : 1024;
    data->queries = kith_alloc_array((size_t)data->query_count * o->dim, sizeof(float));
    for (uint32_t q = 0; q < data->query_count; q++)
        vector_make(&rng, centres, o->dim, data->queries + (size_t)q * o->dim);
    kith_free(centres);
    kith_free(vector);
}

/* fvecs (Jegou et al., "Product quantization for nearest neighbor search", 2011, the TEXMEX sets): a vector
 * is its dim as i32 and then its floats, little-endian. */
static float *fvecs_read(
    kith_env *env, const char *path, uint32_t rows_most, uint32_t *dim_out, uint32_t *count_out) {
    kith_err err;
    kith_file *file;
    uint64_t bytes;
    uint8_t head[4];
    size_t read;
    if (kith_file_open(env, path, KITH_FILE_READ, &file, &err) != KITH_OK) die(path, err.text);
    if (kith_file_bytes(file, &bytes, &err) != KITH_OK) die(path, err.text);
    if (kith_file_read_at(file, 0, head, 4, &read, &err) != KITH_OK || read != 4)
        die(path, "is not an fvecs file");
    uint32_t dim = kith_load_u32(head);
    size_t record = 4 + 4 * (size_t)dim;
    if (dim == 0 || dim > KITH_DIM_MAX || bytes % record != 0) die(path, "is not an fvecs file");
    uint32_t count = bytes / record < rows_most ? (uint32_t)(bytes / record) : rows_most;
    float *vectors = kith_try_alloc_aligned((size_t)count * dim * 4);
    uint8_t *buffer = kith_try_alloc_aligned(count * record);
    if (!vectors || !buffer) die("out of memory", path);
    if (kith_file_read_at(file, 0, buffer, count * record, &read, &err) != KITH_OK ||
        read != count * record) {
        die(path, "could not be read whole");
    }
    for (uint32_t i = 0; i < count; i++)
        memcpy(vectors + (size_t)i * dim, buffer + i * record + 4, 4 * (size_t)dim);
    kith_free(buffer);
    kith_file_close(file);
    *dim_out = dim;
    *count_out = count;
    return vectors;
}

static void data_load(kith_env *env, options *o, data_set *data) {
    uint32_t query_dim;
    float *base = fvecs_read(env, o->base_path, o->rows, &o->dim, &o->rows);
    data->queries = fvecs_read(env, o->queries_path, KITH_QUERIES_MAX, &query_dim, &data->query_count);
    if (query_dim != o->dim) die(o->queries_path, "has another dim than the base");
    rows_allocate(o, data);
    for (uint32_t row = 0; row < o->rows; row++)
        row_store(o, data, row, base + (size_t)row * o->dim);
    kith_free(base);
}

/* --- measuring --- */

static figure measure(kith_env *env, const options *o, const data_set *data, uint32_t batch) {
    const kith_compute_ops *ops = kith_compute_cpu();
    kith_row_hit *hits = kith_alloc_array((size_t)batch * o->k, sizeof *hits);
    uint32_t *counts = kith_alloc_array(batch, sizeof *counts);
    kith_top_k_job job = {
        .rows = &data->rows, .row_end = o->rows, .queries = data->queries, .query_count = batch, .k = o->k};
    job.scratch_bytes = ops->scratch_bytes(o->dim, batch, o->k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes);
    if (!job.scratch) die("out of memory", "scratch");
    figure best = {.batch = batch, .seconds = INFINITY};
    for (uint32_t i = 0; i < o->repeat; i++) {
        kith_err err;
        kith_top_k_stats stats = {0};
        uint64_t start = kith_env_now_ns(env);
        if (ops->top_k(&job, hits, counts, &stats, &err) != KITH_OK) die("top_k", err.text);
        double seconds = (double)(kith_env_now_ns(env) - start) * 1e-9;
        if (seconds < best.seconds) best.seconds = seconds;
        best.stats = stats;
    }
    double components = (double)o->rows * o->dim;
    best.bytes_per_s = components * (double)kith_vector_type_bytes(o->type) / best.seconds;
    best.flops_per_s = 2 * components * batch / best.seconds;
    kith_free(hits);
    kith_free(counts);
    kith_free(job.scratch);
    return best;
}

static void print_table(const options *o, double read, double fma, const figure *figures, int count) {
    printf("backend %s, %u x %u, k %u, one thread\n", kith_compute_cpu()->name, o->rows, o->dim, o->k);
    printf("ceilings: read %.1f GB/s, f32 FMA %.1f GFLOP/s\n\n", read * 1e-9, fma * 1e-9);
    printf("%6s %10s %12s %8s %6s %10s %6s %16s %6s\n", "batch", "ms", "queries/s", "GB/s", "of", "GFLOP/s",
        "of", "rescored/query", "wide");
    for (int i = 0; i < count; i++) {
        const figure *f = &figures[i];
        printf("%6u %10.2f %12.1f %8.2f %5.0f%% %10.1f %5.0f%% %16.1f %6llu\n", f->batch, f->seconds * 1e3,
            f->batch / f->seconds, f->bytes_per_s * 1e-9, 100 * f->bytes_per_s / read, f->flops_per_s * 1e-9,
            100 * f->flops_per_s / fma, (double)f->stats.rows_rescored / f->batch,
            (unsigned long long)f->stats.wide_scans);
    }
}

static void print_json(const options *o, double read, double fma, const figure *figures, int count) {
    printf("{\"backend\": \"%s\", \"rows\": %u, \"dim\": %u, \"k\": %u, \"metric\": %d, \"type\": %d, "
           "\"read_bytes_per_s\": %.0f, \"fma_flops_per_s\": %.0f, \"figures\": [",
        kith_compute_cpu()->name, o->rows, o->dim, o->k, o->metric, o->type, read, fma);
    for (int i = 0; i < count; i++) {
        const figure *f = &figures[i];
        printf("%s{\"batch\": %u, \"seconds\": %.6f, \"bytes_per_s\": %.0f, \"flops_per_s\": %.0f, "
               "\"rows_rescored\": %llu, \"wide_scans\": %llu}",
            i ? ", " : "", f->batch, f->seconds, f->bytes_per_s, f->flops_per_s,
            (unsigned long long)f->stats.rows_rescored, (unsigned long long)f->stats.wide_scans);
    }
    printf("]}\n");
}

static double read_ceiling(kith_env *env) {
    const size_t bytes = 1u << 30;
    char *memory = kith_try_alloc_aligned(bytes);
    if (!memory) die("out of memory", "1 GiB to read");
    memset(memory, 1, bytes); /* its own pages: untouched memory is one shared zero page */
    double rate = bench_ceiling_read(env, memory, bytes);
    kith_free(memory);
    return rate;
}

int main(int argc, char **argv) {
    options o = options_parse(argc, argv);
    kith_env *env;
    kith_err err;
    if (kith_env_posix_create(&env, &err) != KITH_OK) die("env", err.text);
    data_set data = {0};
    if (o.base_path) {
        data_load(env, &o, &data);
    } else {
        data_synthesise(&o, &data);
    }
    kith_compute_cpu()->norms(data.vectors, o.type, o.dim, o.rows, data.norms);
    data.rows = (kith_rows){.vectors = data.vectors,
        .norms = data.norms,
        .row_count = o.rows,
        .dim = o.dim,
        .type = o.type,
        .metric = o.metric};
    double read = read_ceiling(env), fma = bench_ceiling_fma(env);
    const uint32_t batches[] = {1, 32, 1024};
    figure figures[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        uint32_t batch = o.batch ? o.batch : batches[i];
        if (batch <= data.query_count) figures[count++] = measure(env, &o, &data, batch);
        if (o.batch) break;
    }
    (o.json ? print_json : print_table)(&o, read, fma, figures, count);
    kith_free(data.vectors);
    kith_free(data.norms);
    kith_free(data.queries);
    kith_env_posix_destroy(env);
    return 0;
}
