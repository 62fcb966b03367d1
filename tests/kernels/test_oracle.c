/* Every CPU backend on 100,000 random cases, most of them small: ref's bits, and the neighbours that a float64 brute
 * force finds. Where that brute force, which adds in another order, cannot tell two rows apart, either may be the answer:
 * such ties within rounding are counted, and the first are listed. */
#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "tests/kernels/kernels_case.h"
#include "tests/lib/oracle.h"

enum { CASES = 100000, CODED_EVERY = 7, ALL_BACKENDS_EVERY = 8, TIES_LISTED = 5 };
#define NO_ROW UINT32_MAX

static uint64_t seed;

/* What the run did. */
static struct {
    uint64_t cases, queries, hits, backend_runs;
    uint64_t coded_cases; /* whose codes were scanned */
    uint64_t wide_scans;
    uint64_t exact_ties; /* rows left out that are as near as the last hit */
    uint64_t rounding_ties;
} total;

/* --- shapes --- */

/* In [0, most), a quarter of it on average. */
static uint32_t skewed(kith_rng *rng, uint32_t most) {
    return (uint32_t)kith_rng_below(rng, 1 + kith_rng_below(rng, most));
}

/* One size in 64 is from the whole range. */
static uint32_t size_make(kith_rng *rng, uint32_t usual, uint32_t most) {
    return kith_rng_below(rng, 64) ? skewed(rng, usual) : (uint32_t)kith_rng_below(rng, most);
}

static uint32_t query_count_make(kith_rng *rng, const case_shape *shape) {
    enum { TERMS_MOST = 30000 };
    uint32_t most = TERMS_MOST / (shape->dim * (shape->row_count + 1)) + 1;
    uint32_t count = 1 + size_make(rng, 12, 150);
    return count < most ? count : most;
}

/* Everything that a case may be; most are small. */
static case_shape shape_make(kith_rng *rng) {
    case_shape shape = {
        .metric = (kith_metric)(1 + kith_rng_below(rng, 4)),
        .type = (kith_vector_type)(1 + kith_rng_below(rng, 4)),
        .data = (case_data)kith_rng_below(rng, DATA_COUNT),
        .dim = 1 + size_make(rng, 60, 400),
        .row_count = size_make(rng, 400, 3000),
        .codes = kith_rng_below(rng, 8) == 0 ? CODES_AXES : CODES_NONE,
        .dead = kith_rng_below(rng, 2),
        .allow = kith_rng_below(rng, 2),
        .floors = kith_rng_below(rng, 4) == 0,
        .reversed_ties = kith_rng_below(rng, 4) == 0,
        .part = kith_rng_below(rng, 4) == 0,
        .words = kith_rng_below(rng, 4) == 0 ? (case_words)kith_rng_below(rng, WORDS_COUNT) : WORDS_ALL,
        .seed = kith_rng_next(rng),
    };
    shape.k = 1 + (kith_rng_below(rng, 8) ? skewed(rng, 24) : skewed(rng, shape.row_count + 30));
    shape.query_count = query_count_make(rng, &shape);
    return shape;
}

/* As many rows, as long and as many of them live as codes need to be scanned; a few have less. */
static case_shape shape_make_coded(kith_rng *rng) {
    case_shape shape = shape_make(rng);
    shape.metric = (kith_metric)(1 + kith_rng_below(rng, 3));
    if (kith_rng_below(rng, 2)) shape.type = KITH_TYPE_F32;
    shape.dim = (shape.type == KITH_TYPE_F32 ? 16 : 56) + skewed(rng, 60);
    shape.row_count = 1400 + skewed(rng, 1600);
    shape.codes = (case_codes)(CODES_AXES + kith_rng_below(rng, 2));
    if (shape.type == KITH_TYPE_I8) shape.codes = CODES_BASIS;
    shape.dead = kith_rng_below(rng, 3) == 0;
    shape.allow = kith_rng_below(rng, 8) == 0;
    if (shape.k > 100) shape.k %= shape.row_count / 8;
    shape.k += shape.k == 0;
    shape.query_count = query_count_make(rng, &shape);
    return shape;
}

/* --- the brute force --- */

typedef struct judging {
    const kernels_case *c;
    double *vectors; /* [row_count][dim] */
    const float *query;
    const kith_row_hit *hits;
    uint32_t hit_count;
    bool *is_hit;  /* [row_count] */
    bool is_exact; /* every sum is: no tie within rounding is allowed */
    double floor;
} judging;

static double closeness(const judging *judge, uint32_t row) {
    const case_shape *shape = &judge->c->shape;
    return oracle_closeness(
        shape->metric, judge->query, judge->vectors + (size_t)row * shape->dim, shape->dim);
}

static double closeness_error(const judging *judge, uint32_t row) {
    const case_shape *shape = &judge->c->shape;
    if (judge->is_exact) return 0;
    return oracle_closeness_error(
        shape->metric, judge->query, judge->vectors + (size_t)row * shape->dim, shape->dim);
}

static bool ranks_before(const judging *judge, uint32_t row, uint32_t other) {
    return judge->c->shape.reversed_ties ? row > other : row < other;
}

static bool are_equal(const judging *judge, uint32_t row, uint32_t other) {
    uint32_t dim = judge->c->shape.dim;
    const double *vector = judge->vectors + (size_t)row * dim,
                 *other_vector = judge->vectors + (size_t)other * dim;
    for (uint32_t i = 0; i < dim; i++) {
        if (vector[i] != other_vector[i]) return false;
    }
    return true;
}

static void tie_count(
    const judging *judge, uint32_t row, uint32_t other, double row_closeness, double other_closeness) {
    const case_shape *shape = &judge->c->shape;
    if (total.rounding_ties++ >= TIES_LISTED) return;
    print_message(
        "tie within rounding: row %u at %.17g, row %u at %.17g; metric %d type %d data %d dim %u seed %llu\n",
        row, row_closeness, other, other_closeness, shape->metric, shape->type, shape->data, shape->dim,
        (unsigned long long)shape->seed);
}

/* Each hit is a candidate, given once, has its score, and stands before the next by the product's own scores. */
static const char *hits_judge(judging *judge) {
    for (uint32_t i = 0; i < judge->hit_count; i++) {
        kith_row_hit hit = judge->hits[i];
        if (hit.row >= judge->c->shape.row_count || !case_row_is_candidate(judge->c, hit.row) ||
            judge->is_hit[hit.row])
            return "top_k has a row that is hidden or that it had";
        judge->is_hit[hit.row] = true;
        double want = closeness(judge, hit.row);
        if (hit.closeness != want && !(fabs(hit.closeness - want) <= closeness_error(judge, hit.row)))
            return "top_k has another score than the oracle";
        if (i == 0) continue;
        kith_row_hit before = judge->hits[i - 1];
        bool in_order = before.closeness > hit.closeness ||
                        (before.closeness == hit.closeness && ranks_before(judge, before.row, hit.row));
        if (!in_order) return "top_k is not in order";
        double want_before = closeness(judge, before.row);
        if (want_before < want) tie_count(judge, before.row, hit.row, want_before, want);
    }
    return NULL;
}

/* A row that the oracle would rank before `other`, or before no row but a floor: a tie within rounding, or wrong. */
static const char *nearer_judge(
    const judging *judge, uint32_t row, double row_closeness, kith_row_hit other) {
    double error = closeness_error(judge, row);
    bool same = other.row != NO_ROW && are_equal(judge, row, other.row);
    if (judge->is_exact || same || row_closeness - error > other.closeness)
        return "top_k leaves out a nearer row";
    tie_count(judge, row, other.row, row_closeness, other.closeness);
    return NULL;
}

/* k hits: a candidate that was left out is farther than the last. */
static const char *left_out_judge(const judging *judge, uint32_t row, double last_closeness) {
    kith_row_hit last = judge->hits[judge->hit_count - 1];
    double here = closeness(judge, row);
    if (here < last_closeness) return NULL;
    total.exact_ties += here == last_closeness;
    if (here == last_closeness && ranks_before(judge, last.row, row)) return NULL;
    return nearer_judge(judge, row, here, last);
}

/* Fewer: a candidate that was left out is below the floor. */
static const char *below_floor_judge(const judging *judge, uint32_t row) {
    double here = closeness(judge, row);
    if (here < judge->floor) return NULL;
    return nearer_judge(judge, row, here, (kith_row_hit){.closeness = judge->floor, .row = NO_ROW});
}

static const char *others_judge(const judging *judge) {
    const kernels_case *c = judge->c;
    bool full = judge->hit_count == c->shape.k;
    double last_closeness = full ? closeness(judge, judge->hits[judge->hit_count - 1].row) : 0;
    const char *wrong = NULL;
    for (uint32_t row = c->job.row_begin; row < c->job.row_end && !wrong; row++) {
        if (!case_row_is_candidate(c, row) || judge->is_hit[row]) continue;
        wrong = full ? left_out_judge(judge, row, last_closeness) : below_floor_judge(judge, row);
    }
    return wrong;
}

static void query_judge(judging *judge) {
    const kernels_case *c = judge->c;
    memset(judge->is_hit, 0, c->shape.row_count);
    const char *wrong = hits_judge(judge);
    if (!wrong) wrong = others_judge(judge);
    if (wrong) case_fail(&c->shape, "oracle", wrong);
}

/* `hits` as top_k gave them. */
static void answer_judge(const kernels_case *c, const kith_row_hit *hits, const uint32_t *counts) {
    const case_shape *shape = &c->shape;
    judging judge = {.c = c, .is_exact = shape->data == DATA_INTEGERS};
    judge.vectors = kith_alloc_array((size_t)shape->row_count * shape->dim + 1, sizeof(double));
    judge.is_hit = kith_alloc_zero(shape->row_count + 1);
    oracle_widen(c->vectors, shape->type, shape->row_count * shape->dim, judge.vectors);
    for (uint32_t q = 0; q < shape->query_count; q++) {
        judge.query = c->queries + (size_t)q * shape->dim;
        judge.hits = hits + (size_t)q * shape->k;
        judge.hit_count = counts[q];
        judge.floor = c->job.floors ? c->job.floors[q] : -INFINITY;
        query_judge(&judge);
        total.hits += counts[q];
    }
    total.queries += shape->query_count;
    kith_free(judge.vectors);
    kith_free(judge.is_hit);
}

/* --- the cases --- */

typedef struct answer {
    kith_row_hit *hits;
    uint32_t *counts;
    kith_top_k_stats stats;
} answer;

static void answer_init(const kernels_case *c, answer *out) {
    out->hits = kith_alloc_array((size_t)c->shape.query_count * c->shape.k, sizeof *out->hits);
    out->counts = kith_alloc_array(c->shape.query_count, sizeof *out->counts);
}

static void answer_make(const kernels_case *c, const kith_compute_ops *ops, answer *out) {
    out->stats = (kith_top_k_stats){0};
    case_top_k(c, ops, out->hits, out->counts, &out->stats);
}

static void answer_fini(answer *made) {
    kith_free(made->hits);
    kith_free(made->counts);
}

/* The first backend is the best of this machine: what it did is counted. */
static void case_judge(const case_shape *shape, uint32_t backend_count) {
    const kith_compute_ops *const *backends = case_backends(&(uint32_t){0});
    kernels_case c;
    answer want, got;
    case_create(shape, &c);
    answer_init(&c, &want);
    answer_init(&c, &got);
    answer_make(&c, kith_compute_ref(), &want);
    answer_judge(&c, want.hits, want.counts);
    for (uint32_t i = 0; i < backend_count; i++) {
        if (!case_applies(&c, backends[i])) continue;
        answer_make(&c, backends[i], &got);
        if (!case_hits_equal(&c, want.hits, want.counts, got.hits, got.counts))
            case_fail(shape, backends[i]->name, "top_k differs from ref");
        if (got.stats.rows_scanned != want.stats.rows_scanned)
            case_fail(shape, backends[i]->name, "rows_scanned differs from ref");
        total.backend_runs++;
        if (i > 0) continue;
        total.coded_cases += got.stats.rows_coded > 0;
        total.wide_scans += got.stats.wide_scans;
    }
    total.cases++;
    answer_fini(&want);
    answer_fini(&got);
    case_destroy(&c);
}

/* Those that this machine runs itself see every case, those over portable intrinsics one in a few. */
static void test_oracle__random_cases_have_its_neighbours_on_every_backend(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    uint32_t native_count, all_count;
    (void)kith_compute_cpu_list(&native_count);
    (void)case_backends(&all_count);
    uint64_t cases = test_scaled(CASES);
    for (uint64_t i = 0; i < cases; i++) {
        case_shape shape = i % CODED_EVERY == 0 ? shape_make_coded(&rng) : shape_make(&rng);
        bool all = i / CODED_EVERY % ALL_BACKENDS_EVERY == 0;
        case_judge(&shape, all ? all_count : native_count - 1);
    }
    print_message("%llu cases, %llu with codes, %llu searches by %u backends, %llu queries, %llu hits, %llu "
                  "wide scans\n",
        (unsigned long long)total.cases, (unsigned long long)total.coded_cases,
        (unsigned long long)total.backend_runs, all_count, (unsigned long long)total.queries,
        (unsigned long long)total.hits, (unsigned long long)total.wide_scans);
    print_message("0 differences, %llu exact ties, %llu ties within rounding\n",
        (unsigned long long)total.exact_ties, (unsigned long long)total.rounding_ties);
    assert_true(total.backend_runs >= cases);
    assert_true(total.coded_cases >= cases / 10);
    assert_true(total.exact_ties > cases / 10);
    assert_true(total.rounding_ties < total.hits / 1000);
}

int main(void) {
    seed = test_seed(20261122);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle__random_cases_have_its_neighbours_on_every_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
