/* Searching by codes: a group's queries coded, and packed as the leaf wants them.
 *
 * That takes a query about as long as scanning some thousand rows (text of 384 dimensions, 208 coded), and a search meets the
 * same rows several times: in passes, and in one piece after the other. So the caller may keep them. */
#include <string.h>

#include "kernels/cpu/cpu_codes.h"

enum { MAKE_QUERIES = 32 /* queries that are coded together */ };

/* --- memory --- */

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

size_t cpu_code_coded_bytes(uint32_t dim, uint32_t code_dim, uint32_t count) {
    size_t packed = count * cpu_code_packed_words(code_dim) * sizeof(int32_t);
    return cpu_code_align(count * sizeof(cpu_code_made)) + cpu_code_align(packed) +
           cpu_code_align(packed / 2) +
           cpu_code_align((size_t)count * cpu_code_row_words(dim) * sizeof(int32_t));
}

cpu_code_coded cpu_code_coded_place(uint32_t dim, uint32_t code_dim, uint32_t count, void *memory) {
    size_t packed = count * cpu_code_packed_words(code_dim) * sizeof(int32_t);
    cpu_code_coded coded = {.made = memory};
    char *at = (char *)memory + cpu_code_align(count * sizeof(cpu_code_made));
    coded.row_words = (int32_t *)(void *)at;
    at += cpu_code_align((size_t)count * cpu_code_row_words(dim) * sizeof(int32_t));
    coded.packed = (int32_t *)(void *)at;
    coded.coarse_packed = (int32_t *)(void *)(at + cpu_code_align(packed));
    return coded;
}

size_t cpu_codes_kept_bytes(uint32_t dim, uint32_t query_count) {
    return cpu_code_coded_bytes(dim, kith_code_stride(dim), query_count);
}

static size_t levels_bytes(uint32_t code_dim) {
    return cpu_code_align(code_dim * sizeof(int16_t));
}

size_t cpu_code_make_bytes(uint32_t dim, uint32_t count) {
    kith_code_basis widest = {.dim = dim, .code_dim = kith_code_stride(dim)};
    uint32_t together = least(count, MAKE_QUERIES);
    return together * (levels_bytes(widest.code_dim) + levels_bytes(cpu_code_row_levels(dim))) +
           cpu_code_align(kith_code_query_scratch_bytes(&widest, together));
}

/* --- blocks of queries --- */

/* Where the words of a query of the group lie: from `first` on, and `step` from one of its components to the next. */
typedef struct place {
    size_t first;
    uint32_t step;
} place;

/* Words hold `components` each time. */
static place place_of(const cpu_code_scan *scan, uint32_t query_block, uint32_t components, uint32_t index) {
    cpu_code_query_block block = cpu_code_block_of(scan->query_count, query_block, index);
    size_t groups = scan->code_dim / components;
    return (place){.first = (block.begin * groups + (index - block.begin)) * CPU_CODE_WORDS,
        .step = block.width * CPU_CODE_WORDS};
}

static place levels_place(const cpu_code_scan *scan, uint32_t index) {
    return place_of(scan, scan->leaves->codes->query_block, KITH_CODE_GROUP, index);
}

static place coarse_place(const cpu_code_scan *scan, uint32_t index) {
    return place_of(scan, scan->leaves->codes->coarse_block, 2 * KITH_CODE_GROUP, index);
}

/* --- packing --- */

static void levels_pack(const cpu_code_scan *scan, const int16_t *levels, place at) {
    int32_t *words = scan->coded.packed + at.first;
    for (uint32_t i = 0; i < scan->code_dim; i += KITH_CODE_GROUP, words += at.step)
        scan->leaves->codes->pack(levels + i, words);
}

/* Words of components [begin, end) of coarse levels: one of the first half, one of the second. Returns where those of the
 * next begin. */
static int32_t *coarse_pack(
    const int8_t *levels, uint32_t begin, uint32_t end, uint32_t step, int32_t *words) {
    uint32_t half = (end - begin) / 2;
    for (uint32_t i = begin; i < begin + half; i += KITH_CODE_GROUP, words += step) {
        memcpy(words, levels + i, KITH_CODE_GROUP);
        memcpy(words + 1, levels + i + half, KITH_CODE_GROUP);
    }
    return words;
}

/* `levels` [code_dim] is space. */
static void query_coarsen(const cpu_code_scan *scan, cpu_code_made *made, int8_t *levels, place at) {
    const kith_code_basis *basis = &scan->job->rows->codes->basis;
    made->coarse.levels = levels;
    kith_code_query_coarsen(basis, &made->code, scan->leaves->codes->coarse_16, &made->coarse);
    int32_t *words = scan->coded.coarse_packed + at.first;
    words = coarse_pack(levels, 0, basis->lead_dim, at.step, words);
    coarse_pack(levels, basis->lead_dim, basis->code_dim, at.step, words);
    made->coarse.levels = NULL;
}

/* --- groups --- */

/* Levels of `count` queries, each [level_count], of which code_dim will be filled. Returns what lies behind. */
static char *levels_place_all(
    kith_code_query *codes, uint32_t count, uint32_t code_dim, uint32_t level_count, char *at) {
    for (uint32_t i = 0; i < count; i++, at += levels_bytes(level_count)) {
        codes[i].levels = (int16_t *)(void *)at;
        memset(codes[i].levels + code_dim, 0, (level_count - code_dim) * sizeof(int16_t));
    }
    return at;
}

/* Queries [begin, begin + count) of the group, whose first is `first` of the job's. */
static void queries_make(cpu_code_scan *scan, uint32_t first, uint32_t begin, uint32_t count) {
    const kith_top_k_job *job = scan->job;
    const float *queries = job->queries + (size_t)(first + begin) * job->rows->dim;
    const uint32_t dim = job->rows->dim, row_levels = cpu_code_row_levels(dim);
    const bool by_row = job->rows->codes->by_row;
    kith_code_query codes[MAKE_QUERIES], row_codes[MAKE_QUERIES];
    char *scratch = levels_place_all(codes, count, scan->code_dim, scan->code_dim, scan->make_scratch);
    if (by_row) scratch = levels_place_all(row_codes, count, kith_code_stride(dim), row_levels, scratch);
    kith_code_queries_make(scan->leaves->ops, &job->rows->codes->basis, queries, count, scratch, codes,
        by_row ? row_codes : NULL);
    for (uint32_t i = 0; i < count; i++) {
        cpu_code_made *made = &scan->coded.made[begin + i];
        made->code = codes[i];
        made->bound = cpu_code_query_bound(scan, queries + (size_t)i * dim);
        levels_pack(scan, codes[i].levels, levels_place(scan, begin + i));
        if (scan->coarse_made) /* what the codes were made in is free */
            query_coarsen(scan, made, (int8_t *)scratch, coarse_place(scan, begin + i));
        made->code.levels = NULL;
        if (!by_row) continue;
        int32_t *words = scan->coded.row_words + (size_t)(begin + i) * cpu_code_row_words(dim);
        scan->leaves->codes->row_pack(row_codes[i].levels, row_levels, words);
        made->by_row = row_codes[i];
        made->by_row.levels = NULL;
    }
}

static void query_point(cpu_code_scan *scan, uint32_t index) {
    cpu_code_query *query = &scan->queries[index];
    place at = levels_place(scan, index);
    query->made = &scan->coded.made[index];
    query->words = scan->coded.packed + at.first;
    query->words_step = at.step;
    query->row_words = scan->coded.row_words + (size_t)index * cpu_code_row_words(scan->job->rows->dim);
    if (!scan->coarse_made) return;
    at = coarse_place(scan, index);
    query->coarse_words = scan->coded.coarse_packed + at.first;
    query->coarse_step = at.step;
}

/* The caller's memory for query `first` of the job and those after it. */
static cpu_code_coded kept_place(const cpu_code_scan *scan, uint32_t first) {
    const kith_top_k_job *job = scan->job;
    const uint32_t dim = job->rows->dim;
    cpu_code_coded coded = cpu_code_coded_place(dim, scan->code_dim, job->query_count, job->kept->memory);
    size_t words = first * cpu_code_packed_words(scan->code_dim);
    return (cpu_code_coded){.made = coded.made + first,
        .packed = coded.packed + words,
        .coarse_packed = coded.coarse_packed + words / 2,
        .row_words = coded.row_words + (size_t)first * cpu_code_row_words(dim)};
}

void cpu_code_group_make(cpu_code_scan *scan, uint32_t first) {
    const kith_kept_queries *kept = scan->job->kept;
    scan->coded = kept ? kept_place(scan, first) : scan->own;
    if (!kept || kept->maker != scan->leaves->ops) {
        for (uint32_t i = 0; i < scan->query_count; i += MAKE_QUERIES)
            queries_make(scan, first, i, least(scan->query_count - i, MAKE_QUERIES));
    }
    for (uint32_t i = 0; i < scan->query_count; i++)
        query_point(scan, i);
}
