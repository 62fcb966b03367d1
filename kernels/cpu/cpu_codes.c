/* Searching by codes: groups of queries, blocks of rows, guesses. cpu_codes.h has the idea. */
#include "kernels/cpu/cpu_codes.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/cpu_hits.h"
#include "kernels/guess.h"
#include "kernels/score.h"

enum {
    /* Packed queries, of which coarse looks go through a third: they stay in L2. The vectors that must be checked are read
     * from memory once a group: a million vectors of text, k = 100, 1,024 queries in groups of 256 take a seventh longer. */
    GROUP_QUERY_BYTES = 512 << 10,
    GROUP_QUERIES_LEAST = 12,
    SAMPLE_STEP_ALONE = 64, /* the last sample for few queries, which wait for memory: it likes no gaps */
    SAMPLE_SHARED_LEAST = 8,
    LOOK_WORDS = 32,   /* of 64 rows, between one check of the first look and the next */
    ROWS_LEAST = 1024, /* fewer are scanned as vectors */
    TILE_BYTES =
        512
        << 10, /* of vectors, whose rows that passed are then checked. Guess: 256 KiB is 9 % slower, 1 MiB as fast */
    CHECK_LEAST = 4, /* rows of a query: the sums are made of four at once */
    LOOKS_LEAST = 1024,
    LOOKS_PASSED_MOST = 3,        /* one in so many may pass the first look */
    LOOKS_PASSED_MOST_COARSE = 2, /* at all components, where it saves 40 % */
    LOOK_PAUSE = 3,               /* times LOOK_WORDS words, at first */
    LOOK_PAUSE_MOST = 24,
};

/* One word in so many is scanned; each divides the one before. */
static const uint32_t sample_steps[] = {512, 64, 8, 1};

/* --- which jobs --- */

static uint64_t rows_looked_at(const kith_top_k_job *job) {
    uint64_t count = job->row_end - job->row_begin;
    return job->word_step > 1 ? count / job->word_step : count;
}

static uint64_t live_rows(const kith_top_k_job *job) {
    uint64_t count = 0;
    if (!job->rows->dead && !job->rows->allow) return rows_looked_at(job);
    for (uint32_t word = job->row_begin / 64; (uint64_t)word * 64 < job->row_end; word++)
        count += (uint32_t)__builtin_popcountll(kith_score_live_word(job, word));
    return count;
}

/* Codes do not pay where nearly all rows will be rescored, or where so few are live that reading their vectors is
 * less than reading all codes. */
bool cpu_codes_apply(const kith_top_k_job *job) {
    const kith_rows *rows = job->rows;
    if (!rows->codes || rows->metric == KITH_METRIC_L1) return false;
    uint64_t row_count = rows_looked_at(job);
    uint32_t whole =
        job->row_end - job->row_begin; /* parts have thresholds from others, and share what queries cost */
    if (job->sample) return row_count >= 64;
    if (whole < ROWS_LEAST || job->k > whole / 8) return false;
    uint64_t vector_bytes = (uint64_t)rows->dim * kith_vector_type_bytes(rows->type);
    uint64_t code_bytes = kith_code_block_bytes(&rows->codes->basis) / KITH_CODE_BLOCK_ROWS;
    return live_rows(job) * vector_bytes > row_count * code_bytes;
}

/* --- scratch --- */

static size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t packed_bytes(uint32_t code_dim) {
    return cpu_code_packed_words(code_dim) * sizeof(int32_t);
}

static uint32_t group_most(uint32_t code_dim) {
    size_t most = GROUP_QUERY_BYTES / packed_bytes(code_dim);
    if (most < GROUP_QUERIES_LEAST) return GROUP_QUERIES_LEAST;
    return most > CPU_CODE_GROUP_MAX ? CPU_CODE_GROUP_MAX
                                     : (uint32_t)most / GROUP_QUERIES_LEAST * GROUP_QUERIES_LEAST;
}

/* As few groups as can be, of equal width: a small one left over would read all rows for its few queries. */
static uint32_t group_width(uint32_t query_count, uint32_t most) {
    uint32_t groups = (query_count + most - 1) / most;
    return (query_count + groups - 1) / groups;
}

/* The least monotone formula above the need, for codes of any basis: of as many components as the vectors have, or fewer,
 * and then of more queries together. */
size_t cpu_codes_scratch_bytes(uint32_t dim, uint32_t query_count) {
    uint32_t code_dim = kith_code_stride(dim), most = (uint32_t)size_min(query_count, CPU_CODE_GROUP_MAX);
    size_t words = size_min(
        most * packed_bytes(code_dim), GROUP_QUERY_BYTES + GROUP_QUERIES_LEAST * packed_bytes(code_dim));
    size_t coded = cpu_code_coded_bytes(dim, 0, most) + cpu_code_align(words) + cpu_code_align(words / 2);
    size_t pending = most * CPU_TILE_ROWS_MAX * sizeof(uint32_t);
    size_t operand = (size_t)code_dim * 2 * KITH_CODE_BLOCK_ROWS;
    return cpu_code_align(sizeof(cpu_code_scan)) + cpu_code_align(most * sizeof(cpu_code_query)) +
           cpu_code_check_bytes(dim) + operand + coded + pending + cpu_code_make_bytes(dim, most);
}

static cpu_code_scan *scan_place(
    const cpu_leaves *leaves, const kith_top_k_job *job, void *scratch, kith_top_k_stats *stats) {
    cpu_code_scan *scan = scratch;
    uint32_t code_dim = job->rows->codes->basis.code_dim;
    scan->leaves = leaves;
    scan->job = job;
    scan->stats = stats;
    scan->code_dim = code_dim;
    scan->by_row = job->rows->codes->by_row && !job->sample;
    scan->defers = scan->by_row && job->deferred && job->word_step > 0;
    scan->layout = kith_code_layout_of(&job->rows->codes->basis);
    scan->group_max = group_width(job->query_count, group_most(code_dim));
    char *at = (char *)scan + cpu_code_align(sizeof *scan);
    scan->queries = (cpu_code_query *)(void *)at;
    at += cpu_code_align(scan->group_max * sizeof *scan->queries);
    cpu_code_check_place(scan, at);
    at += cpu_code_check_bytes(job->rows->dim);
    scan->operand = at;
    at += (size_t)code_dim * 2 * KITH_CODE_BLOCK_ROWS;
    scan->own = cpu_code_coded_place(job->rows->dim, code_dim, scan->group_max, at);
    at += cpu_code_coded_bytes(job->rows->dim, code_dim, scan->group_max);
    for (uint32_t i = 0; i < scan->group_max; i++) {
        scan->queries[i].pending = (uint32_t *)(void *)at;
        at += CPU_TILE_ROWS_MAX * sizeof(uint32_t);
    }
    scan->make_scratch = at;
    return scan;
}

/* --- guesses --- */

static uint64_t hit_word(const void *hits, uint32_t index) {
    return ((const kith_row_hit *)hits)[index].row / 64;
}

static void hits_reverse(kith_row_hit *hits, uint32_t count) {
    for (uint32_t i = 0; i < count / 2; i++) {
        kith_row_hit hit = hits[i];
        hits[i] = hits[count - 1 - i];
        hits[count - 1 - i] = hit;
    }
}

/* `part` of the words have been scanned. */
static void query_guess(cpu_code_scan *scan, cpu_code_query *query, double part) {
    uint32_t needed = kith_guess_needed(scan->job->k * part);
    if (query->wide || query->hit_count < needed) return;
    cpu_hits_sort(scan->job, query->hits, query->hit_count);
    uint32_t found = kith_guess_find(query->hits, query->hit_count, needed, hit_word);
    if (found < query->hit_count) query->guess = fmax(query->guess, query->hits[found].closeness);
    hits_reverse(query->hits, query->hit_count); /* a heap again: worst first */
    cpu_code_threshold_raise(scan, query, query->guess);
}

static bool guess_failed(const cpu_code_scan *scan, const cpu_code_query *query) {
    bool full = query->hit_count == scan->job->k;
    return query->guess > -INFINITY && !(full && query->hits[0].closeness >= query->guess);
}

/* --- queries --- */

static void query_start(cpu_code_scan *scan, uint32_t index, uint32_t job_index, kith_row_hit *hits_out) {
    const kith_top_k_job *job = scan->job;
    cpu_code_query *query = &scan->queries[index];
    query->query = job->queries + (size_t)job_index * job->rows->dim;
    query->floor = job->floors ? job->floors[job_index] : -INFINITY;
    query->tail_weight = query->made->code.tail_weight;
    query->offset_weight = query->made->code.offset_weight;
    query->pending_count = query->asked_count = query->hit_count = 0;
    query->hits = hits_out + (size_t)job_index * job->k;
    query->checked = query->rescored = 0;
    query->guess = -INFINITY;
    query->wide = false;
    query->threshold = query->row_threshold = query->closeness_least = -INFINITY;
    query->deferred = scan->defers ? &job->deferred[job_index] : NULL;
    if (query->deferred) kith_deferred_job_begin(query->deferred);
    cpu_code_threshold_raise(scan, query, query->floor);
    if (query->made->code.inverse == 0) cpu_code_widen(query);
}

static void group_start(cpu_code_scan *scan, uint32_t first, kith_row_hit *hits_out) {
    scan->coarse_made =
        scan->leaves->codes->coarse_block > 0 && scan->query_count >= scan->leaves->codes->coarse_least;
    scan->rows_seen = 0;
    scan->coarse = false;
    cpu_code_group_make(scan, first);
    for (uint32_t i = 0; i < scan->query_count; i++)
        query_start(scan, i, first + i, hits_out);
}

/* --- rows --- */

static uint32_t tile_words(const kith_rows *rows) {
    size_t words = TILE_BYTES / (64 * (size_t)rows->dim * kith_vector_type_bytes(rows->type));
    return words > 1 ? (uint32_t)words : 1;
}

/* What coarse looks add up for a query, in steps of its ratio. */
static void coarse_query_set(cpu_code_scan *scan, uint32_t index, bool whole) {
    cpu_code_query *query = &scan->queries[index];
    const kith_code_coarse *coarse = &query->made->coarse;
    query->look_tail_weight = whole ? coarse->tail_weight : coarse->lead_tail_weight;
    query->look_offset_weight = coarse->offset_weight;
    scan->error_weights[index] = coarse->error_weight;
    scan->length_weights[index] = coarse->lead_length_weight + (whole ? coarse->rest_length_weight : 0);
    scan->look_starts[index] = whole ? -coarse->bias : -coarse->lead_bias;
}

/* A sample's looks: what codes say, without what is proven of their error. */
static void query_estimate(cpu_code_scan *scan, uint32_t index) {
    cpu_code_query *query = &scan->queries[index];
    query->look_tail_weight = query->tail_weight = 0;
    scan->error_weights[index] = scan->length_weights[index] = 0;
}

/* What the first look at a row adds up for a query. */
static void look_query_set(cpu_code_scan *scan, uint32_t index) {
    bool whole = scan->look_dim == scan->code_dim, biased = !scan->leaves->codes->signed_codes;
    cpu_code_query *query = &scan->queries[index];
    query->look_tail_weight = whole ? query->made->code.tail_weight : query->made->code.lead_tail_weight;
    query->look_offset_weight = query->offset_weight;
    query->rest_start = biased ? query->made->code.lead_bias - query->made->code.bias : 0;
    scan->error_weights[index] = query->made->code.error_weight;
    scan->length_weights[index] = 0;
    scan->look_starts[index] = !biased ? 0 : whole ? -query->made->code.bias : -query->made->code.lead_bias;
    if (scan->coarse) coarse_query_set(scan, index, whole);
    if (scan->job->sample) query_estimate(scan, index);
    cpu_code_look_threshold_set(scan, query);
}

/* The narrowest first look: at coarse levels, at the lead, at the lead's coarse levels. */
static uint32_t look_most(const cpu_code_scan *scan) {
    return (scan->job->rows->codes->basis.lead_dim < scan->code_dim) + scan->coarse_made;
}

static void look_set(cpu_code_scan *scan, uint32_t look) {
    bool narrow = look == 2 || (look == 1 && !scan->coarse_made);
    scan->look = look;
    scan->coarse = look > 0 && scan->coarse_made;
    scan->look_dim = narrow ? scan->job->rows->codes->basis.lead_dim : scan->code_dim;
    scan->look_tails_at = narrow ? scan->layout.lead_tail_at : (uint32_t)offsetof(kith_code_block, tail);
    scan->looks = scan->passed = 0;
    for (uint32_t i = 0; i < scan->query_count; i++)
        look_query_set(scan, i);
}

/* A first look that passes too often costs more than it saves: one that tells more is taken for a while. Thresholds
 * rise meanwhile, so it is tried again. */
static void look_check(cpu_code_scan *scan) {
    if (scan->look > 0 && scan->looks >= LOOKS_LEAST) {
        bool narrow = scan->look_dim < scan->code_dim;
        bool often = scan->passed * (narrow ? LOOKS_PASSED_MOST : LOOKS_PASSED_MOST_COARSE) > scan->looks;
        scan->looks = scan->passed = 0;
        if (often) {
            scan->pause = scan->pause_next;
            if (scan->pause_next < LOOK_PAUSE_MOST) scan->pause_next *= 2;
            look_set(scan, scan->look - 1);
            return;
        }
    }
    if (scan->look == look_most(scan) || --scan->pause > 0) return;
    scan->pause = scan->pause_next;
    look_set(scan, scan->look + 1);
}

/* The words of a job: every step-th, but for every done-th, if any (0). */
typedef struct word_series {
    uint32_t begin, end, step, done;
} word_series;

static word_series words_of(const kith_top_k_job *job, uint32_t step, uint32_t done) {
    return (word_series){
        .begin = job->row_begin / 64, .end = (job->row_end + 63) / 64, .step = step, .done = done};
}

/* `word`, or the first after it that is not done. */
static uint32_t words_from(const word_series *all, uint32_t word) {
    bool is_done = all->done > 0 && (word - all->begin) % all->done == 0;
    return is_done ? word + all->step : word;
}

/* Returns the word that comes after it. */
static uint32_t word_scan(cpu_code_scan *scan, const word_series *all, uint32_t word) {
    const kith_codes *codes = scan->job->rows->codes;
    const uint32_t after = words_from(all, word + all->step), next = after < all->end ? after : word;
    uint64_t live = kith_score_live_word(scan->job, word);
    for (uint32_t half = 0; half < 2; half++, live >>= 32) {
        uint32_t bits = (uint32_t)live;
        if (!bits) continue;
        uint32_t block = 2 * word + half;
        scan->next = kith_code_block_at(codes, half == 0 && live >> 32 ? block + 1 : 2 * next);
        scan->leaves->codes->scan(scan, kith_code_block_at(codes, block), block * KITH_CODE_BLOCK_ROWS, bits);
        scan->rows_seen += (uint32_t)__builtin_popcount(bits);
    }
    return after;
}

static bool all_wide(const cpu_code_scan *scan) {
    for (uint32_t i = 0; i < scan->query_count; i++) {
        if (!scan->queries[i].wide) return false;
    }
    return true;
}

/* Those of the queries that have `least` rows or more to check. */
static void pending_check(cpu_code_scan *scan, uint32_t least) {
    for (uint32_t i = 0; i < scan->query_count; i++) {
        if (scan->queries[i].pending_count >= least) cpu_code_check(scan, &scan->queries[i], least);
    }
}

/* Every step-th word, but for those that were scanned with step `done`, if any. */
static void sample_scan(cpu_code_scan *scan, uint32_t step, uint32_t done) {
    const word_series all = words_of(scan->job, step, done);
    uint32_t tile = tile_words(scan->job->rows), scanned = 0;
    for (uint32_t word = words_from(&all, all.begin); word < all.end;) {
        word = word_scan(scan, &all, word);
        if (++scanned % tile == 0) pending_check(scan, CHECK_LEAST);
        if (scanned % LOOK_WORDS > 0) continue;
        if (all_wide(scan)) return;
        look_check(scan);
    }
}

/* All of them: what passes by codes by row stays pending at first. */
static void pending_finish(cpu_code_scan *scan) {
    pending_check(scan, 1);
    pending_check(scan, 1);
}

static void sample_finish(cpu_code_scan *scan, double part) {
    pending_finish(scan);
    for (uint32_t i = 0; i < scan->query_count; i++)
        query_guess(scan, &scan->queries[i], part);
    scan->pause_next = LOOK_PAUSE;
    look_set(scan, look_most(scan));
}

static bool thresholds_known(const cpu_code_scan *scan) {
    for (uint32_t i = 0; i < scan->query_count; i++) {
        if (scan->queries[i].threshold == -INFINITY) return false;
    }
    return true;
}

/* --- samples for a guess --- */

/* At most one row of a word counts (kernels/guess.h). */
void cpu_code_estimated(
    cpu_code_scan *scan, cpu_code_query *query, uint32_t row_base, uint32_t mask, const float *estimates) {
    for (; mask; mask &= mask - 1) {
        uint32_t at = (uint32_t)__builtin_ctz(mask);
        kith_row_hit hit = {.closeness = (double)estimates[at], .row = row_base + at};
        if (!(hit.closeness > -INFINITY)) continue; /* a row that is always kept has no estimate */
        cpu_hits_push_word(scan->job, query->hits, &query->hit_count, hit);
    }
    if (query->hit_count == scan->job->k)
        query->threshold = query->look_threshold =
            fmaxf(query->look_threshold, (float)query->hits[0].closeness);
}

static void estimated_prefetch(const cpu_code_scan *scan, const cpu_code_query *query) {
    for (uint32_t i = 0; i < query->hit_count; i++)
        cpu_code_prefetch(scan->job->rows, query->hits[i].row);
}

/* The rows that seem best become hits, by what f32 says that they score at least. */
static void estimated_check(cpu_code_scan *scan, cpu_code_query *query) {
    uint32_t count = query->hit_count;
    query->hit_count = 0; /* hits come to lie where rows have been taken from */
    for (uint32_t begin = 0; begin < count;) {
        query->pending_count = (uint32_t)size_min(count - begin, CPU_TILE_ROWS_MAX);
        for (uint32_t i = 0; i < query->pending_count; i++)
            query->pending[i] = query->hits[begin++].row;
        scan->stats->code_survivors += query->pending_count;
        cpu_code_check(scan, query, 1);
    }
}

/* No bound is asked, and no vector is looked at before the end. */
static void estimate_scan(cpu_code_scan *scan) {
    const uint32_t step = scan->job->word_step + !scan->job->word_step;
    const word_series all = words_of(scan->job, step, scan->job->word_done);
    look_set(scan, scan->coarse_made ? 1 : 0); /* at all components */
    for (uint32_t word = words_from(&all, all.begin); word < all.end;)
        word = word_scan(scan, &all, word);
    for (uint32_t i = 0; i < scan->query_count; i++) {
        if (i + 1 < scan->query_count) estimated_prefetch(scan, &scan->queries[i + 1]);
        if (!scan->queries[i].wide) estimated_check(scan, &scan->queries[i]);
    }
}

/* Part of a scan whose thresholds were found by the parts before. */
static void part_scan(cpu_code_scan *scan) {
    scan->pause = scan->pause_next = LOOK_PAUSE;
    look_set(scan, thresholds_known(scan) ? look_most(scan) : 0);
    sample_scan(scan, scan->job->word_step, scan->job->word_done);
}

static void rows_scan(cpu_code_scan *scan) {
    uint32_t words = (scan->job->row_end + 63) / 64 - scan->job->row_begin / 64, done = 0;
    uint32_t least = scan->query_count < SAMPLE_SHARED_LEAST ? SAMPLE_STEP_ALONE : 0;
    scan->pause = scan->pause_next = LOOK_PAUSE;
    look_set(scan, 0);
    for (size_t i = 0; i < sizeof sample_steps / sizeof sample_steps[0]; i++) {
        uint32_t step = sample_steps[i];
        if (step > words || (step > 1 && step < least)) continue;
        sample_scan(scan, step, done);
        if (step > 1) sample_finish(scan, (double)((words + step - 1) / step) / words);
        done = step;
    }
}

static void query_count(const cpu_code_scan *scan, const cpu_code_query *query) {
    scan->stats->rows_coded += scan->rows_seen;
    scan->stats->rows_rescored += query->rescored;
    if (!query->wide) scan->stats->rows_scanned += scan->rows_seen; /* or the wider scan counts them again */
}

uint32_t cpu_codes_top_k(const cpu_leaves *leaves, const kith_top_k_job *job, void *scratch,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, cpu_code_wide *wide_out) {
    cpu_code_scan *scan = scan_place(leaves, job, scratch, stats);
    uint32_t wide_count = 0;
    for (uint32_t first = 0; first < job->query_count; first += scan->group_max) {
        scan->query_count = (uint32_t)size_min(scan->group_max, job->query_count - first);
        group_start(scan, first, hits_out);
        if (job->sample)
            estimate_scan(scan);
        else if (job->word_step > 0)
            part_scan(scan);
        else
            rows_scan(scan);
        pending_finish(scan);
        for (uint32_t i = 0; i < scan->query_count; i++) {
            cpu_code_query *query = &scan->queries[i];
            query->wide |= guess_failed(scan, query);
            query_count(scan, query);
            if (query->wide) {
                if (query->deferred) kith_deferred_job_forget(query->deferred);
                bool full = query->hit_count == job->k && !job->sample;
                wide_out[wide_count++] = (cpu_code_wide){
                    .query_index = first + i, .floor = full ? query->hits[0].closeness : query->floor};
                continue;
            }
            cpu_hits_sort(job, query->hits, query->hit_count);
            counts_out[first + i] = query->hit_count;
        }
    }
    if (job->kept) job->kept->maker = leaves->ops;
    return wide_count;
}
