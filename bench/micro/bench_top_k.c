/* top_k on one thread against what the machine can do: reading memory (batch 1 reads everything once) and
 * multiply-adds (large batches). 1M x 128 f32 by default, in clusters, as embeddings are.
 *
 *   bench_top_k [--rows N] [--dim N] [--k N] [--batch N] [--metric l2|ip|cosine|l1] [--type f32|f16|bf16|i8]
 *               [--base FILE --queries FILE] [--repeat N] [--seed N] [--no-codes] [--json]
 *
 * FILE is .fvecs, or .npy of f32. Codes are trained on SAMPLE_ROWS rows and scanned where they pay; --no-codes scans the
 * vectors. GB/s counts the bytes that a scan reads, codes or vectors, once a batch; G/s two operations a component of
 * each query and row, of the code or of the vector. Best of `repeat` runs. The answers are those of ref: recall is 1
 * by construction (tests/kernels). */
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
#include "kernels/codes/codes.h"

enum { SAMPLE_ROWS = 4096 };

typedef struct options {
    uint32_t rows, dim, k, batch, repeat;
    uint64_t seed;
    kith_metric metric;
    kith_vector_type type;
    const char *base_path, *queries_path;
    bool no_codes, json;
} options;

typedef struct data_set {
    kith_rows rows;
    void *vectors;
    float *norms;
    float *queries;
    uint32_t query_count;
    kith_code_training training;
    kith_codes codes;
    uint8_t *blocks;
    double train_seconds, encode_seconds;
} data_set;

typedef struct figure {
    uint32_t batch;
    double seconds;
    double bytes_per_s;
    double ops_per_s;
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
        } else if (strcmp(argv[i], "--no-codes") == 0) {
            o.no_codes = true;
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

/* Where a file's vectors lie. */
typedef struct layout {
    uint32_t dim;
    uint64_t offset, stride, count;
} layout;

/* fvecs (Jegou et al., "Product quantization for nearest neighbor search", 2011, the TEXMEX sets): a vector
 * is its dim as i32 and then its floats, little-endian. */
static layout fvecs_layout(const char *head, uint64_t file_bytes, const char *path) {
    uint32_t dim = kith_load_u32((const uint8_t *)head);
    uint64_t record = 4 + 4 * (uint64_t)dim;
    if (dim == 0 || dim > KITH_DIM_MAX || file_bytes % record != 0) die(path, "is not an fvecs file");
    return (layout){.dim = dim, .offset = 4, .stride = record, .count = file_bytes / record};
}

/* npy 1.0: magic, version, u16 length of the head, the head as a Python dictionary. */
static layout npy_layout(const char *head, uint64_t file_bytes, const char *path) {
    unsigned long long count = 0;
    unsigned dim = 0;
    const char *shape = strstr(head + 10, "'shape': (");
    if (!shape || sscanf(shape, "'shape': (%llu, %u)", &count, &dim) != 2 || !strstr(head + 10, "<f4") ||
        dim == 0)
        die(path, "is not an npy file of rows of f32");
    layout made = {.dim = dim, .stride = 4 * (uint64_t)dim, .count = count};
    made.offset = 10 + (uint64_t)(uint8_t)head[8] + 256 * (uint64_t)(uint8_t)head[9];
    if (made.offset + made.stride * made.count != file_bytes) die(path, "is shorter than its head says");
    return made;
}

static float *vectors_read(
    kith_env *env, const char *path, uint32_t rows_most, uint32_t *dim_out, uint32_t *count_out) {
    kith_err err;
    kith_file *file;
    uint64_t bytes;
    const void *mapped;
    if (kith_file_open(env, path, KITH_FILE_READ, &file, &err) != KITH_OK) die(path, err.text);
    if (kith_file_bytes(file, &bytes, &err) != KITH_OK) die(path, err.text);
    if (bytes < 128) die(path, "is too short for vectors");
    if (kith_file_map(file, bytes, &mapped, &err) != KITH_OK) die(path, err.text);
    bool npy = memcmp(mapped, "\x93NUMPY\x01", 7) == 0;
    layout lies = (npy ? npy_layout : fvecs_layout)(mapped, bytes, path);
    uint32_t count = lies.count < rows_most ? (uint32_t)lies.count : rows_most;
    float *vectors = kith_try_alloc_aligned((size_t)count * lies.dim * 4);
    if (!vectors) die("out of memory", path);
    for (uint32_t i = 0; i < count; i++)
        memcpy(vectors + (size_t)i * lies.dim, (const char *)mapped + lies.offset + i * lies.stride,
            4 * (size_t)lies.dim);
    kith_file_unmap(env, mapped, bytes);
    kith_file_close(file);
    *dim_out = lies.dim;
    *count_out = count;
    return vectors;
}

static void data_load(kith_env *env, options *o, data_set *data) {
    uint32_t query_dim;
    float *base = vectors_read(env, o->base_path, o->rows, &o->dim, &o->rows);
    data->queries = vectors_read(env, o->queries_path, KITH_QUERIES_MAX, &query_dim, &data->query_count);
    if (query_dim != o->dim) die(o->queries_path, "has another dim than the base");
    rows_allocate(o, data);
    for (uint32_t row = 0; row < o->rows; row++)
        row_store(o, data, row, base + (size_t)row * o->dim);
    kith_free(base);
}

/* --- codes --- */

static void codes_train(const options *o, data_set *data) {
    kith_err err;
    size_t vector_bytes = o->dim * kith_vector_type_bytes(o->type);
    uint32_t count = o->rows < SAMPLE_ROWS ? o->rows : SAMPLE_ROWS;
    uint8_t *sample = kith_alloc_array(count, vector_bytes);
    for (uint32_t i = 0; i < count; i++)
        memcpy(sample + i * vector_bytes,
            (const uint8_t *)data->vectors + (uint64_t)i * o->rows / count * vector_bytes, vector_bytes);
    kith_status status = kith_codes_train(
        kith_compute_cpu(), o->metric, o->type, o->dim, sample, count, o->rows, &data->training, &err);
    if (status != KITH_OK) die("training", err.text);
    kith_free(sample);
}

static void codes_encode(const options *o, data_set *data) {
    const kith_code_basis *basis = &data->training.basis;
    size_t block_bytes = kith_code_block_bytes(basis);
    data->blocks = kith_try_alloc_aligned(kith_code_block_count(o->rows) * block_bytes);
    void *scratch = kith_try_alloc_aligned(kith_codes_encode_scratch_bytes(basis));
    if (!data->blocks || !scratch) die("out of memory", "codes");
    for (uint32_t first = 0; first < o->rows; first += KITH_CODE_BLOCK_ROWS) {
        const void *vectors[KITH_CODE_BLOCK_ROWS];
        uint32_t count = o->rows - first < KITH_CODE_BLOCK_ROWS ? o->rows - first : KITH_CODE_BLOCK_ROWS;
        for (uint32_t i = 0; i < count; i++)
            vectors[i] =
                (const char *)data->vectors + (size_t)(first + i) * o->dim * kith_vector_type_bytes(o->type);
        kith_codes_encode(kith_compute_cpu(), basis, o->type, vectors, count, scratch,
            (kith_code_block *)(data->blocks + first / KITH_CODE_BLOCK_ROWS * block_bytes));
    }
    kith_free(scratch);
    data->codes = (kith_codes){.basis = *basis, .blocks = data->blocks};
    data->rows.codes = &data->codes;
}

static void codes_make(kith_env *env, const options *o, data_set *data) {
    uint64_t start = kith_env_now_ns(env);
    codes_train(o, data);
    uint64_t trained = kith_env_now_ns(env);
    data->train_seconds = (double)(trained - start) * 1e-9;
    if (!data->training.useful) return;
    codes_encode(o, data);
    data->encode_seconds = (double)(kith_env_now_ns(env) - trained) * 1e-9;
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
    double bytes = (double)o->rows * o->dim * (double)kith_vector_type_bytes(o->type);
    double components = (double)o->rows * o->dim;
    if (data->rows.codes) {
        uint32_t code_dim = data->codes.basis.code_dim;
        bytes = (double)kith_code_block_count(o->rows) * (double)kith_code_block_bytes(&data->codes.basis);
        components = (double)o->rows * code_dim;
    }
    best.bytes_per_s = bytes / best.seconds;
    best.ops_per_s = 2 * components * batch / best.seconds;
    kith_free(hits);
    kith_free(counts);
    kith_free(job.scratch);
    return best;
}

/* What a scan's arithmetic is held against. */
static double ops_ceiling(const data_set *data, const bench_ceilings *ceilings) {
    if (!data->rows.codes) return ceilings->f32_ops_per_s;
    /* A query's levels are wider than 8 bits: two planes where factors are bytes (kernels/codes/codes.h). */
    return ceilings->integer_bits == 8 ? ceilings->integer_ops_per_s / 2 : ceilings->integer_ops_per_s;
}

static void print_table(const options *o, const data_set *data, const bench_ceilings *ceilings,
    const figure *figures, int count) {
    printf("backend %s, %u x %u, k %u, one thread\n", kith_compute_cpu()->name, o->rows, o->dim, o->k);
    printf("ceilings: read %.1f GB/s, f32 FMA %.1f G/s, %s %.1f G/s\n", ceilings->read_bytes_per_s * 1e-9,
        ceilings->f32_ops_per_s * 1e-9, ceilings->integer_instruction, ceilings->integer_ops_per_s * 1e-9);
    if (data->rows.codes)
        printf("codes of %u components%s, trained in %.2f s, made in %.2f s\n", data->codes.basis.code_dim,
            data->codes.basis.vectors ? "" : " (the axes)", data->train_seconds, data->encode_seconds);
    printf("\n%6s %10s %12s %8s %6s %10s %6s %16s %16s %6s\n", "batch", "ms", "queries/s", "GB/s", "of",
        "G/s", "of", "survivors/query", "rescored/query", "wide");
    for (int i = 0; i < count; i++) {
        const figure *f = &figures[i];
        printf("%6u %10.2f %12.1f %8.2f %5.0f%% %10.1f %5.0f%% %16.1f %16.1f %6llu\n", f->batch,
            f->seconds * 1e3, f->batch / f->seconds, f->bytes_per_s * 1e-9,
            100 * f->bytes_per_s / ceilings->read_bytes_per_s, f->ops_per_s * 1e-9,
            100 * f->ops_per_s / ops_ceiling(data, ceilings), (double)f->stats.code_survivors / f->batch,
            (double)f->stats.rows_rescored / f->batch, (unsigned long long)f->stats.wide_scans);
    }
}

static void print_json(const options *o, const data_set *data, const bench_ceilings *ceilings,
    const figure *figures, int count) {
    printf("{\"backend\": \"%s\", \"rows\": %u, \"dim\": %u, \"k\": %u, \"metric\": %d, \"type\": %d, "
           "\"code_dim\": %u, \"read_bytes_per_s\": %.0f, \"f32_ops_per_s\": %.0f, "
           "\"integer_ops_per_s\": %.0f, \"figures\": [",
        kith_compute_cpu()->name, o->rows, o->dim, o->k, o->metric, o->type,
        data->rows.codes ? data->codes.basis.code_dim : 0, ceilings->read_bytes_per_s,
        ceilings->f32_ops_per_s, ceilings->integer_ops_per_s);
    for (int i = 0; i < count; i++) {
        const figure *f = &figures[i];
        printf("%s{\"batch\": %u, \"seconds\": %.6f, \"bytes_per_s\": %.0f, \"ops_per_s\": %.0f, "
               "\"code_survivors\": %llu, \"rows_rescored\": %llu, \"wide_scans\": %llu}",
            i ? ", " : "", f->batch, f->seconds, f->bytes_per_s, f->ops_per_s,
            (unsigned long long)f->stats.code_survivors, (unsigned long long)f->stats.rows_rescored,
            (unsigned long long)f->stats.wide_scans);
    }
    printf("]}\n");
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
    if (!o.no_codes) codes_make(env, &o, &data);
    bench_ceilings ceilings;
    if (bench_ceilings_measure(env, 1, &ceilings, &err) != KITH_OK) die("ceilings", err.text);
    const uint32_t batches[] = {1, 32, 1024};
    figure figures[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        uint32_t batch = o.batch ? o.batch : batches[i];
        if (batch <= data.query_count) figures[count++] = measure(env, &o, &data, batch);
        if (o.batch) break;
    }
    (o.json ? print_json : print_table)(&o, &data, &ceilings, figures, count);
    kith_codes_training_free(&data.training);
    kith_free(data.blocks);
    kith_free(data.vectors);
    kith_free(data.norms);
    kith_free(data.queries);
    kith_env_posix_destroy(env);
    return 0;
}
