#include "tests/kernels/kernels_case.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "kernels/cpu/cpu.h"

#ifdef KITH_TEST_SIMDE
extern const kith_compute_ops kith_cpu_avx512_simde, kith_cpu_avx512vnni_simde, kith_cpu_avxvnni_simde;
#endif

const kith_compute_ops *const *case_backends(uint32_t *count_out) {
    static const kith_compute_ops *backends[8];
    uint32_t listed, count = 0;
    const kith_compute_ops *const *list = kith_compute_cpu_list(&listed);
    for (uint32_t i = 0; i + 1 < listed; i++)
        backends[count++] = list[i];
#ifdef KITH_TEST_SIMDE
    if (kith_cpu_can_run("avx2")) {
        backends[count++] = &kith_cpu_avx512_simde;
        backends[count++] = &kith_cpu_avx512vnni_simde;
        backends[count++] = &kith_cpu_avxvnni_simde;
    }
#endif
    *count_out = count;
    return backends;
}

/* Backends that are another one but for their codes: their other leaves have been tested under its name. */
static bool differs_in_codes_only(const kith_compute_ops *ops) {
    return strstr(ops->name, "vnni") || strstr(ops->name, "dot");
}

bool case_applies(const kernels_case *c, const kith_compute_ops *ops) {
    return c->rows.codes || !differs_in_codes_only(ops);
}

/* --- data --- */

static float component_make(kith_rng *rng, case_data data, double scale) {
    switch (data) {
    case DATA_INTEGERS:
        return (float)((int)kith_rng_below(rng, 5) - 2);
    case DATA_OFFSET:
        return (float)(100 + 1e-3 * kith_rng_normal(rng));
    case DATA_SUBNORMAL:
        return (float)(1e-40 * kith_rng_normal(rng));
    case DATA_TINY:
        return (float)(2e-22 * kith_rng_normal(rng));
    case DATA_HUGE:
        return (float)((2 * kith_rng_unit(rng) - 1) * 3.3e38);
    case DATA_SCALES:
        return (float)(scale * kith_rng_normal(rng));
    default:
        return (float)kith_rng_normal(rng);
    }
}

static float component_fit(float value, kith_vector_type type) {
    if (type == KITH_TYPE_I8) return value < -128 ? -128 : value > 127 ? 127 : value;
    if (type == KITH_TYPE_F16) return value < -65504 ? -65504 : value > 65504 ? 65504 : value;
    return value;
}

/* `factor` lengthens queries; `type` is what the vector must fit in. */
static void vector_make(
    kith_rng *rng, const case_shape *shape, kith_vector_type type, double factor, float *values) {
    double scale = ldexp(1, (int)kith_rng_below(rng, 121) - 60);
    if (shape->type == KITH_TYPE_I8) scale = 40;
    double spread = shape->type == KITH_TYPE_I8 && shape->data == DATA_NORMAL ? 30 : 1;
    for (uint32_t i = 0; i < shape->dim; i++) {
        float value = (float)(spread * factor) * component_make(rng, shape->data, scale);
        values[i] = component_fit(value, type);
    }
    if (shape->metric == KITH_METRIC_COSINE && values[0] == 0)
        values[0] = 1; /* zero vectors are refused upstream */
}

static void rows_make(kernels_case *c, kith_rng *rng) {
    enum { DISTINCT_FEW = 5 };
    const case_shape *shape = &c->shape;
    size_t row_bytes = (size_t)shape->dim * kith_vector_type_bytes(shape->type);
    float *values = kith_alloc_array(shape->dim, sizeof *values);
    for (uint32_t row = 0; row < shape->row_count; row++) {
        char *at = (char *)c->vectors + row * row_bytes;
        uint32_t distinct = shape->data == DATA_EQUAL ? 1
                            : shape->data == DATA_FEW ? DISTINCT_FEW
                                                      : shape->row_count;
        if (row >= distinct) {
            memcpy(at, (char *)c->vectors + kith_rng_below(rng, distinct) * row_bytes, row_bytes);
            continue;
        }
        kith_err err;
        vector_make(rng, shape, shape->type, 1, values);
        assert_ok(kith_vector_store(values, shape->dim, shape->type, at, &err), &err);
    }
    kith_free(values);
}

static void bitmaps_make(kernels_case *c, kith_rng *rng) {
    const case_shape *shape = &c->shape;
    size_t words = kith_bitset_words(shape->row_count);
    c->dead = kith_alloc_zero(words * 8 + 8);
    c->allow = kith_alloc_zero(words * 8 + 8);
    for (uint32_t row = 0; row < shape->row_count; row++) {
        bool in_run = row >= 100 && row < 300;
        if (in_run || kith_rng_below(rng, 3) == 0) kith_bitset_set(c->dead, row);
        if (kith_rng_below(rng, 2) == 0) kith_bitset_set(c->allow, row);
    }
}

/* --- codes --- */

/* Near the middle of the rows, where they have one in f32. */
static float *mean_make(const kernels_case *c) {
    enum { OF = 16 };
    uint32_t dim = c->shape.dim, count = c->shape.row_count < OF ? c->shape.row_count : OF;
    size_t row_bytes = (size_t)dim * kith_vector_type_bytes(c->shape.type);
    float *mean = kith_alloc_zero(kith_code_stride(dim) * sizeof *mean);
    float *values = kith_alloc_array(dim, sizeof *values);
    for (uint32_t row = 0; row < count; row++) {
        kith_vector_load((char *)c->vectors + row * row_bytes, dim, c->shape.type, values);
        for (uint32_t i = 0; i < dim; i++)
            mean[i] += values[i] / (float)count;
    }
    for (uint32_t i = 0; i < dim; i++) {
        if (!isfinite(mean[i])) mean[i] = 0;
    }
    kith_free(values);
    return mean;
}

static double dot_of(const float *a, const double *b, uint32_t count) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Random directions, each made orthogonal to those before it. */
static float *directions_make(uint32_t dim, uint32_t count, kith_rng *rng) {
    uint32_t stride = kith_code_stride(dim);
    float *directions = kith_alloc_zero((size_t)count * stride * sizeof *directions);
    double *next = kith_alloc_array(stride, sizeof *next);
    for (uint32_t j = 0; j < count; j++) {
        for (uint32_t i = 0; i < dim; i++)
            next[i] = kith_rng_normal(rng);
        for (uint32_t before = 0; before < 2 * j; before++) {
            const float *other = directions + (size_t)(before % j) * stride;
            double along = dot_of(other, next, dim);
            for (uint32_t i = 0; i < dim; i++)
                next[i] -= along * other[i];
        }
        double square = 0;
        for (uint32_t i = 0; i < dim; i++)
            square += next[i] * next[i];
        for (uint32_t i = 0; i < dim; i++)
            directions[(size_t)j * stride + i] = (float)(next[i] / sqrt(square));
    }
    kith_free(next);
    return directions;
}

/* The Frobenius norm of B B^T - I. */
static double defect_of(const float *directions, uint32_t dim, uint32_t count) {
    uint32_t stride = kith_code_stride(dim);
    double square = 0;
    for (uint32_t a = 0; a < count; a++) {
        for (uint32_t b = 0; b < count; b++) {
            double product = a == b ? -1 : 0;
            for (uint32_t i = 0; i < dim; i++)
                product += (double)directions[(size_t)a * stride + i] * directions[(size_t)b * stride + i];
            square += product * product;
        }
    }
    return sqrt(square) * (1 + 1e-6);
}

static void basis_make(kernels_case *c, kith_rng *rng) {
    const case_shape *shape = &c->shape;
    kith_code_basis *basis = &c->codes.basis;
    basis->dim = shape->dim;
    basis->metric = shape->metric;
    basis->mean = c->code_memory[1] = mean_make(c);
    basis->code_dim = basis->lead_dim = kith_code_stride(shape->dim);
    if (shape->codes != CODES_BASIS || shape->dim < 2 * KITH_CODE_DIM_STEP) return;
    basis->code_dim = shape->dim / 2 / KITH_CODE_DIM_STEP * KITH_CODE_DIM_STEP;
    basis->vectors = c->code_memory[2] = directions_make(shape->dim, basis->code_dim, rng);
    basis->defect = defect_of(basis->vectors, shape->dim, basis->code_dim);
}

/* Up to 32 rows from `begin` on. */
static uint32_t vectors_of(
    const kernels_case *c, uint32_t begin, const void *vectors_out[KITH_CODE_BLOCK_ROWS]) {
    size_t row_bytes = (size_t)c->shape.dim * kith_vector_type_bytes(c->shape.type);
    uint32_t left = c->shape.row_count - begin;
    uint32_t count = left < KITH_CODE_BLOCK_ROWS ? left : KITH_CODE_BLOCK_ROWS;
    for (uint32_t i = 0; i < count; i++)
        vectors_out[i] = (char *)c->vectors + (begin + i) * row_bytes;
    return count;
}

static void blocks_make(kernels_case *c) {
    const kith_code_basis *basis = &c->codes.basis;
    size_t block_bytes = kith_code_block_bytes(basis);
    uint32_t block_count = kith_code_block_count(c->shape.row_count);
    uint8_t *blocks = c->code_memory[0] = kith_try_alloc_aligned(block_count * block_bytes + 64);
    void *scratch = kith_try_alloc_aligned(kith_codes_encode_scratch_bytes(basis));
    assert_non_null(blocks);
    assert_non_null(scratch);
    for (uint32_t block = 0; block < block_count; block++) {
        const void *vectors[KITH_CODE_BLOCK_ROWS];
        uint32_t count = vectors_of(c, block * KITH_CODE_BLOCK_ROWS, vectors);
        kith_codes_encode(kith_compute_cpu(), basis, c->shape.type, vectors, count, scratch,
            (kith_code_block *)(void *)(blocks + block * block_bytes));
    }
    kith_free(scratch);
    c->codes.blocks = blocks;
}

static void by_row_make(kernels_case *c) {
    const kith_code_basis *basis = &c->codes.basis;
    size_t bytes = kith_code_row_bytes(basis->dim);
    uint8_t *by_row = c->code_memory[3] = kith_try_alloc_aligned(c->shape.row_count * bytes + 64);
    void *scratch = kith_try_alloc_aligned(kith_code_rows_encode_scratch_bytes(basis));
    assert_non_null(by_row);
    assert_non_null(scratch);
    for (uint32_t row = 0; row < c->shape.row_count; row += KITH_CODE_BLOCK_ROWS) {
        const void *vectors[KITH_CODE_BLOCK_ROWS];
        uint32_t count = vectors_of(c, row, vectors);
        kith_code_rows_encode(
            kith_compute_cpu(), basis, c->shape.type, vectors, count, scratch, by_row + row * bytes);
    }
    kith_free(scratch);
    c->codes.by_row = by_row;
}

void case_codes_make(kernels_case *c, kith_rng *rng) {
    basis_make(c, rng);
    uint32_t steps = c->codes.basis.code_dim / KITH_CODE_DIM_STEP;
    c->codes.basis.lead_dim = (1 + (uint32_t)kith_rng_below(rng, steps)) * KITH_CODE_DIM_STEP;
    blocks_make(c);
    if (kith_rng_below(rng, 2)) by_row_make(c);
    c->rows.codes = &c->codes;
}

void case_codes_free(kernels_case *c) {
    for (uint32_t i = 0; i < sizeof c->code_memory / sizeof *c->code_memory; i++)
        kith_free(c->code_memory[i]);
    memset(c->code_memory, 0, sizeof c->code_memory);
    c->codes = (kith_codes){0};
    c->rows.codes = NULL;
}

static int ties_reversed(const void *ctx, uint32_t row_a, uint32_t row_b) {
    (void)ctx;
    return row_a > row_b ? -1 : row_a < row_b;
}

/* A floor that cuts each query's hits about in the middle. */
static void floors_make(kernels_case *c) {
    const case_shape *shape = &c->shape;
    kith_row_hit *hits = kith_alloc_array((size_t)shape->query_count * shape->k, sizeof *hits);
    uint32_t *counts = kith_alloc_array(shape->query_count, sizeof *counts);
    kith_top_k_stats stats = {0};
    case_top_k(c, kith_compute_ref(), hits, counts, &stats);
    c->floors = kith_alloc_array(shape->query_count, sizeof *c->floors);
    for (uint32_t q = 0; q < shape->query_count; q++) {
        c->floors[q] = counts[q] ? hits[(size_t)q * shape->k + counts[q] / 2].closeness : 0;
    }
    kith_free(hits);
    kith_free(counts);
    c->job.floors = c->floors;
}

static const struct {
    uint32_t step, done;
} words_parts[WORDS_COUNT] = {[WORDS_FIRST] = {.step = 4},
    [WORDS_SECOND] = {.step = 2, .done = 4},
    [WORDS_REST] = {.step = 1, .done = 4}};

bool case_row_is_candidate(const kernels_case *c, uint32_t row) {
    if (row < c->job.row_begin || row >= c->job.row_end) return false;
    uint32_t word = row / 64 - c->job.row_begin / 64;
    if (c->shape.words == WORDS_FIRST && word % 4 != 0) return false;
    if (c->shape.words == WORDS_SECOND && word % 4 != 2) return false;
    if (c->shape.words == WORDS_REST && word % 4 == 0) return false;
    if (c->rows.dead && kith_bitset_get(c->rows.dead, row)) return false;
    return !c->rows.allow || kith_bitset_get(c->rows.allow, row);
}

void case_create(const case_shape *shape, kernels_case *out) {
    kith_rng rng;
    kith_rng_init(&rng, shape->seed);
    size_t bytes = (size_t)shape->row_count * shape->dim * kith_vector_type_bytes(shape->type);
    *out = (kernels_case){.shape = *shape, .vectors = kith_try_alloc_aligned(bytes + !bytes)};
    out->norms = kith_alloc_array(shape->row_count + 1, sizeof *out->norms);
    out->queries = kith_alloc_array((size_t)shape->query_count * shape->dim, sizeof *out->queries);
    rows_make(out, &rng);
    bitmaps_make(out, &rng);
    for (uint32_t q = 0; q < shape->query_count; q++) {
        double factor = shape->data == DATA_FAR_QUERY ? 65536 : 1;
        vector_make(&rng, shape, KITH_TYPE_F32, factor, out->queries + (size_t)q * shape->dim);
    }
    kith_compute_ref()->norms(out->vectors, shape->type, shape->dim, shape->row_count, out->norms);
    out->rows = (kith_rows){
        .vectors = out->vectors,
        .norms = out->norms,
        .dead = shape->dead ? out->dead : NULL,
        .allow = shape->allow ? out->allow : NULL,
        .row_count = shape->row_count,
        .dim = shape->dim,
        .type = shape->type,
        .metric = shape->metric,
    };
    out->job = (kith_top_k_job){
        .row_begin = shape->part ? shape->row_count / 7 : 0,
        .row_end = shape->part ? shape->row_count - shape->row_count / 9 : shape->row_count,
        .word_step = words_parts[shape->words].step,
        .word_done = words_parts[shape->words].done,
        .queries = out->queries,
        .query_count = shape->query_count,
        .k = shape->k,
        .tie_compare = shape->reversed_ties ? ties_reversed : NULL,
    };
    if (shape->floors) floors_make(out);
    if (shape->codes != CODES_NONE && shape->metric != KITH_METRIC_L1) case_codes_make(out, &rng);
}

void case_destroy(kernels_case *c) {
    kith_free(c->vectors);
    kith_free(c->norms);
    kith_free(c->dead);
    kith_free(c->allow);
    kith_free(c->queries);
    kith_free(c->floors);
    case_codes_free(c);
}

/* --- comparison --- */

void case_top_k(const kernels_case *c, const kith_compute_ops *ops, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats_out) {
    kith_err err;
    kith_top_k_job job = c->job;
    job.rows = &c->rows;
    job.scratch_bytes = ops->scratch_bytes(c->shape.dim, c->shape.query_count, c->shape.k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes + !job.scratch_bytes);
    assert_non_null(job.scratch);
    memset(job.scratch, 0xff, job.scratch_bytes); /* NaNs: stale scratch must not matter */
    assert_ok(ops->top_k(&job, hits_out, counts_out, stats_out, &err), &err);
    kith_free(job.scratch);
}

void case_fail(const case_shape *s, const char *backend, const char *what) {
    fail_msg("%s: %s: metric %d type %d data %d dim %u rows %u queries %u k %u codes %d dead %d "
             "allow %d floors %d reversed %d part %d words %d seed %llu",
        backend, what, s->metric, s->type, s->data, s->dim, s->row_count, s->query_count, s->k, s->codes,
        s->dead, s->allow, s->floors, s->reversed_ties, s->part, s->words, (unsigned long long)s->seed);
}

bool case_hits_equal(const kernels_case *c, const kith_row_hit *a, const uint32_t *a_counts,
    const kith_row_hit *b, const uint32_t *b_counts) {
    for (uint32_t q = 0; q < c->shape.query_count; q++) {
        if (a_counts[q] != b_counts[q]) return false;
        for (uint32_t i = 0; i < a_counts[q]; i++) {
            size_t at = (size_t)q * c->shape.k + i;
            if (a[at].row != b[at].row) return false;
            if (memcmp(&a[at].closeness, &b[at].closeness, sizeof a[at].closeness) != 0) return false;
        }
    }
    return true;
}

/* The job with queries that one run keeps for another: both give `want`, in kept memory of exactly kept_bytes. */
static void kept_check(const kernels_case *c, const kith_compute_ops *ops, const kith_row_hit *want,
    const uint32_t *want_counts, kith_row_hit *got, uint32_t *got_counts) {
    if (!ops->kept_bytes) return;
    kernels_case keeping = *c;
    kith_kept_queries kept = {.bytes = ops->kept_bytes(c->shape.dim, c->shape.query_count)};
    kept.memory = kith_try_alloc_aligned(kept.bytes + !kept.bytes);
    memset(kept.memory, 0xff, kept.bytes);
    keeping.job.kept = &kept;
    for (uint32_t run = 0; run < 2; run++) {
        kith_top_k_stats stats = {0};
        case_top_k(&keeping, ops, got, got_counts, &stats);
        if (!case_hits_equal(c, want, want_counts, got, got_counts))
            case_fail(&c->shape, ops->name,
                run ? "top_k with kept queries differs" : "top_k that keeps queries differs");
    }
    kith_free(kept.memory);
}

/* Whether `hits` may be those of a sample: best first, none twice, none that scores less than it says or than the floor. */
static bool sample_is_right(
    const kernels_case *c, const float *query, double floor, const kith_row_hit *hits, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        double closeness;
        if (!case_row_is_candidate(c, hits[i].row) || !(hits[i].closeness >= floor)) return false;
        kith_compute_ref()->rescore(&c->rows, query, &hits[i].row, 1, &closeness);
        if (hits[i].closeness > closeness) return false;
        if (i > 0 && hits[i].closeness > hits[i - 1].closeness) return false;
        for (uint32_t j = 0; j < i; j++) {
            if (hits[j].row == hits[i].row) return false;
        }
    }
    return true;
}

/* A sample may miss rows, but what it finds is there. */
static void sample_check(
    const kernels_case *c, const kith_compute_ops *ops, kith_row_hit *hits, uint32_t *counts) {
    kernels_case sample = *c;
    kith_top_k_stats stats = {0};
    sample.job.sample = true;
    case_top_k(&sample, ops, hits, counts, &stats);
    for (uint32_t q = 0; q < c->shape.query_count; q++) {
        const float *query = c->queries + (size_t)q * c->shape.dim;
        double floor = c->floors ? c->floors[q] : -INFINITY;
        if (counts[q] > c->shape.k ||
            !sample_is_right(c, query, floor, hits + (size_t)q * c->shape.k, counts[q]))
            case_fail(&c->shape, ops->name, "a sample's hits are not rows with their scores");
    }
}

static void top_k_check(const kernels_case *c) {
    size_t hit_count = (size_t)c->shape.query_count * c->shape.k;
    kith_row_hit *want = kith_alloc_array(hit_count, sizeof *want),
                 *got = kith_alloc_array(hit_count, sizeof *got);
    uint32_t *want_counts = kith_alloc_array(c->shape.query_count, sizeof *want_counts);
    uint32_t *got_counts = kith_alloc_array(c->shape.query_count, sizeof *got_counts);
    kith_top_k_stats want_stats = {0};
    case_top_k(c, kith_compute_ref(), want, want_counts, &want_stats);
    uint32_t backend_count;
    const kith_compute_ops *const *backends = case_backends(&backend_count);
    for (uint32_t i = 0; i < backend_count; i++) {
        if (!case_applies(c, backends[i])) continue;
        kith_top_k_stats stats = {0};
        case_top_k(c, backends[i], got, got_counts, &stats);
        if (!case_hits_equal(c, want, want_counts, got, got_counts))
            case_fail(&c->shape, backends[i]->name, "top_k differs from ref");
        if (stats.rows_scanned != want_stats.rows_scanned)
            case_fail(&c->shape, backends[i]->name, "rows_scanned differs from ref");
        if (!c->rows.codes || c->shape.seed % 4 > 0)
            continue; /* the others would say no more, and take as long */
        kept_check(c, backends[i], want, want_counts, got, got_counts);
        sample_check(c, backends[i], got, got_counts);
    }
    kith_free(want);
    kith_free(got);
    kith_free(want_counts);
    kith_free(got_counts);
}

static void rescore_check(const kernels_case *c, const kith_compute_ops *ops) {
    enum { COUNT = 23 };
    uint32_t numbers[COUNT];
    double want[COUNT], got[COUNT];
    float *norms = kith_alloc_array(c->shape.row_count + 1, sizeof *norms);
    ops->norms(c->vectors, c->shape.type, c->shape.dim, c->shape.row_count, norms);
    if (memcmp(norms, c->norms, c->shape.row_count * sizeof *norms))
        case_fail(&c->shape, ops->name, "norms differs from ref");
    kith_free(norms);
    if (c->shape.row_count == 0) return;
    for (uint32_t i = 0; i < COUNT; i++)
        numbers[i] = (uint32_t)((i * 7919ull) % c->shape.row_count);
    kith_compute_ref()->rescore(&c->rows, c->queries, numbers, COUNT, want);
    ops->rescore(&c->rows, c->queries, numbers, COUNT, got);
    if (memcmp(want, got, sizeof want)) case_fail(&c->shape, ops->name, "rescore differs from ref");
}

void case_check(const case_shape *shape) {
    kernels_case c;
    case_create(shape, &c);
    top_k_check(&c);
    uint32_t backend_count;
    const kith_compute_ops *const *backends = case_backends(&backend_count);
    for (uint32_t i = 0; i < backend_count; i++) {
        if (!differs_in_codes_only(backends[i])) rescore_check(&c, backends[i]);
    }
    case_destroy(&c);
}
