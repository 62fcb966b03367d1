/* top_k of every CPU ISA: groups of queries, tiles of rows (cpu.h has the idea).
 *
 * A group's padded queries stay in L2 while all rows pass by; a tile stays in L1 or L2 while all queries of
 * the group see it, `query_block` at a time. f32 rows whose dim is a multiple of the lanes are scanned in
 * place; others are widened into the tile. Dead and disallowed rows are never listed in a tile, so they cost
 * no arithmetic, and 64 of them in a row cost one test of a word. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_bound.h"
#include "kernels/cpu/cpu_candidates.h"
#include "kernels/cpu/cpu_codes.h"
#include "kernels/rounding.h"
#include "kernels/score.h"

enum {
    GROUP_QUERIES_MAX = 240,       /* a multiple of every query_block */
    GROUP_QUERIES_LEAST = 12,      /* however wide the vectors */
    GROUP_QUERY_BYTES = 256 << 10, /* half of a usual L2 (512 KiB on Zen 3) */
    GROUP_CANDIDATE_BYTES = 16 << 20,
    TILE_BYTES_BATCH = 128 << 10, /* another quarter of L2 */
    TILE_BYTES_SINGLE = 16 << 10, /* half of L1: the tile is used once */
    CANDIDATE_BYTES = 12,         /* lower, upper, row */
};

_Static_assert(GROUP_QUERIES_MAX % CPU_QUERY_BLOCK_MAX == 0, "groups are cut into whole blocks");
_Static_assert(GROUP_QUERIES_LEAST % CPU_QUERY_BLOCK_MAX == 0, "groups are cut into whole blocks");

typedef struct cpu_scan {
    const cpu_leaves *leaves;
    const kith_top_k_job *job;
    kith_top_k_stats *stats;
    uint32_t dim_padded;
    uint32_t group_queries_max;
    uint32_t tile_rows_max;
    uint32_t candidate_capacity;
    float *queries; /* [group_queries_max][dim_padded], zeros from dim on */
    float *widened; /* [tile_rows_max][dim_padded], or NULL: rows are scanned in place */
    uint32_t group_query_count;
    cpu_query group[GROUP_QUERIES_MAX];
    cpu_tile tile;
    float sums[CPU_QUERY_BLOCK_MAX][CPU_TILE_ROWS_MAX];
    uint32_t next_word; /* where the tile after this one begins: */
    uint64_t live_left; /* rows of word next_word - 1 that are not yet in a tile */
} cpu_scan;

/* --- scratch --- */

static size_t align_up(size_t bytes, size_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

static size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t row_bytes_padded(uint32_t dim) {
    return align_up(dim, CPU_LANES_MAX) * sizeof(float);
}

static size_t candidate_bytes(uint32_t k) {
    return align_up((size_t)cpu_candidates_capacity(k) * CANDIDATE_BYTES, 64);
}

/* At least GROUP_QUERIES_LEAST; the caller cuts it to the queries there are. */
static uint32_t group_queries_most(uint32_t dim, uint32_t k) {
    size_t most =
        size_min(GROUP_QUERY_BYTES / row_bytes_padded(dim), GROUP_CANDIDATE_BYTES / candidate_bytes(k));
    if (most < GROUP_QUERIES_LEAST) return GROUP_QUERIES_LEAST;
    return most > GROUP_QUERIES_MAX ? GROUP_QUERIES_MAX
                                    : (uint32_t)most / GROUP_QUERIES_LEAST * GROUP_QUERIES_LEAST;
}

static uint32_t tile_rows_most(uint32_t dim, bool single) {
    size_t rows = (single ? TILE_BYTES_SINGLE : TILE_BYTES_BATCH) / row_bytes_padded(dim);
    if (rows > CPU_TILE_ROWS_MAX) return CPU_TILE_ROWS_MAX;
    return rows < CPU_ROW_BLOCK ? CPU_ROW_BLOCK : (uint32_t)rows / CPU_ROW_BLOCK * CPU_ROW_BLOCK;
}

/* Not the exact need but the least monotone formula above it: a group's queries take at most
 * GROUP_QUERY_BYTES, or GROUP_QUERIES_LEAST of them; candidates and the tile likewise. */
static size_t vectors_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k) {
    size_t row = row_bytes_padded(dim), candidates = candidate_bytes(k);
    query_count = (uint32_t)size_min(query_count, GROUP_QUERIES_MAX);
    size_t tile = TILE_BYTES_BATCH + CPU_ROW_BLOCK * row;
    size_t queries = size_min(query_count * row, GROUP_QUERY_BYTES + GROUP_QUERIES_LEAST * row);
    size_t buffers =
        size_min(query_count * candidates, GROUP_CANDIDATE_BYTES + GROUP_QUERIES_LEAST * candidates);
    return align_up(sizeof(cpu_scan), 64) + tile + queries + buffers;
}

static size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t wide_bytes(uint32_t query_count) {
    return align_up(query_count * sizeof(cpu_code_wide), 64);
}

/* The queries that codes leave over, then what one scan after the other uses. */
size_t cpu_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k) {
    return wide_bytes(query_count) +
           size_max(vectors_scratch_bytes(dim, query_count, k), cpu_codes_scratch_bytes(dim, query_count));
}

static cpu_scan *scan_place(
    const cpu_leaves *leaves, const kith_top_k_job *job, void *scratch, kith_top_k_stats *stats) {
    const kith_rows *rows = job->rows;
    cpu_scan *scan = scratch;
    /* Stale lanes of norms and sums are computed with: they must be floats. Nothing else is read before it is
     * written, and the whole is 24 KiB, more than a job of one point looks at. */
    memset(scan->tile.norms, 0, sizeof scan->tile.norms);
    memset(scan->sums, 0, size_min(job->query_count, leaves->query_block) * sizeof scan->sums[0]);
    scan->leaves = leaves;
    scan->job = job;
    scan->stats = stats;
    scan->dim_padded = (uint32_t)align_up(rows->dim, leaves->lanes);
    scan->group_queries_max = (uint32_t)size_min(group_queries_most(rows->dim, job->k), job->query_count);
    scan->candidate_capacity = cpu_candidates_capacity(job->k);
    bool in_place = rows->type == KITH_TYPE_F32 && scan->dim_padded == rows->dim;
    scan->tile_rows_max = in_place && job->query_count < leaves->query_block
                              ? CPU_TILE_ROWS_MAX
                              : tile_rows_most(rows->dim, job->query_count < leaves->query_block);
    char *at = (char *)scan + align_up(sizeof *scan, 64);
    scan->widened = in_place ? NULL : (float *)(void *)at;
    at += TILE_BYTES_BATCH + CPU_ROW_BLOCK * row_bytes_padded(rows->dim);
    scan->queries = (float *)(void *)at;
    at += scan->group_queries_max * row_bytes_padded(rows->dim);
    for (uint32_t i = 0; i < scan->group_queries_max; i++) {
        scan->group[i].candidate_lower = (float *)(void *)at;
        scan->group[i].candidate_upper = scan->group[i].candidate_lower + scan->candidate_capacity;
        scan->group[i].candidate_rows =
            (uint32_t *)(void *)(scan->group[i].candidate_upper + scan->candidate_capacity);
        at += candidate_bytes(job->k);
    }
    return scan;
}

/* --- tiles --- */

static void tile_append(cpu_scan *scan, uint32_t row) {
    const kith_rows *rows = scan->job->rows;
    cpu_tile *tile = &scan->tile;
    uint32_t at = tile->row_count++;
    const char *stored =
        (const char *)rows->vectors + (size_t)row * rows->dim * kith_vector_type_bytes(rows->type);
    tile->row_numbers[at] = row;
    if (rows->metric != KITH_METRIC_L1) tile->norms[at] = rows->norms[row];
    if (!scan->widened) {
        tile->rows[at] = (const float *)(const void *)stored;
        return;
    }
    float *widened = scan->widened + (size_t)at * scan->dim_padded;
    scan->leaves->widen(stored, rows->type, rows->dim, scan->dim_padded, widened);
    tile->rows[at] = widened;
}

static void tile_start(cpu_scan *scan) {
    scan->next_word = scan->job->row_begin / 64;
    scan->live_left = 0;
}

/* The next live rows; false when there are none. */
static bool tile_fill(cpu_scan *scan) {
    const kith_top_k_job *job = scan->job;
    cpu_tile *tile = &scan->tile;
    tile->row_count = 0;
    while (tile->row_count < scan->tile_rows_max) {
        if (scan->live_left == 0) {
            if ((uint64_t)scan->next_word * 64 >= job->row_end) break;
            scan->live_left = kith_score_live_word(job, scan->next_word++);
            continue;
        }
        tile_append(scan, (scan->next_word - 1) * 64 + (uint32_t)__builtin_ctzll(scan->live_left));
        scan->live_left &= scan->live_left - 1;
    }
    if (tile->row_count == 0) return false;
    for (uint32_t i = tile->row_count; i % CPU_ROW_BLOCK != 0; i++)
        tile->rows[i] = tile->rows[tile->row_count - 1];
    cpu_bound_tile(job->rows->metric, tile);
    return true;
}

static void tile_scan(cpu_scan *scan) {
    const cpu_leaves *leaves = scan->leaves;
    kith_metric metric = scan->job->rows->metric;
    cpu_sums_fn sums = metric == KITH_METRIC_L1 ? leaves->differences : leaves->products;
    uint32_t rows = (uint32_t)align_up(scan->tile.row_count, CPU_ROW_BLOCK);
    for (uint32_t begin = 0; begin < scan->group_query_count; begin += leaves->query_block) {
        uint32_t count = (uint32_t)size_min(leaves->query_block, scan->group_query_count - begin);
        const float *queries = scan->queries + (size_t)begin * scan->dim_padded;
        sums(queries, count, scan->tile.rows, rows, scan->dim_padded, scan->sums);
        for (uint32_t i = 0; i < count; i++) {
            cpu_query *query = &scan->group[begin + i];
            if (query->candidate_count + CPU_TILE_ROWS_MAX > scan->candidate_capacity) {
                cpu_candidates_compact(leaves, scan->job, query, scan->stats);
            }
            leaves->filter(metric, scan->sums[i], &scan->tile, query);
        }
    }
    scan->stats->rows_scanned += (uint64_t)scan->tile.row_count * scan->group_query_count;
}

/* --- groups --- */

static void query_start(
    cpu_scan *scan, uint32_t group_index, const cpu_code_wide *wide, kith_row_hit *hits_out) {
    const kith_top_k_job *job = scan->job;
    uint32_t dim = job->rows->dim;
    cpu_query *query = &scan->group[group_index];
    query->query = job->queries + (size_t)wide->query_index * dim;
    query->floor = wide->floor;
    query->bound = cpu_bound_of(job->rows->metric, query->query, dim, scan->dim_padded, scan->leaves->lanes);
    query->threshold = kith_round_down(query->floor);
    query->exact = false;
    query->candidate_count = 0;
    query->hits = hits_out + (size_t)wide->query_index * job->k;
    query->hit_count = 0;
    float *padded = scan->queries + (size_t)group_index * scan->dim_padded;
    scan->leaves->widen(query->query, KITH_TYPE_F32, dim, scan->dim_padded, padded);
}

static void group_run(cpu_scan *scan, const cpu_code_wide *queries, uint32_t count, kith_row_hit *hits_out,
    uint32_t *counts_out) {
    scan->group_query_count = count;
    for (uint32_t i = 0; i < count; i++)
        query_start(scan, i, &queries[i], hits_out);
    tile_start(scan);
    while (tile_fill(scan))
        tile_scan(scan);
    for (uint32_t i = 0; i < count; i++) {
        cpu_candidates_finish(scan->leaves, scan->job, &scan->group[i], scan->stats);
        counts_out[queries[i].query_index] = scan->group[i].hit_count;
    }
}

/* --- jobs --- */

static uint32_t queries_list(const kith_top_k_job *job, cpu_code_wide *list_out) {
    for (uint32_t i = 0; i < job->query_count; i++)
        list_out[i] = (cpu_code_wide){.query_index = i, .floor = job->floors ? job->floors[i] : -INFINITY};
    return job->query_count;
}

kith_status cpu_top_k(const cpu_leaves *leaves, const kith_top_k_job *job, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err) {
    size_t scratch_bytes = cpu_scratch_bytes(job->rows->dim, job->query_count, job->k);
    kith_status status = kith_score_job_check(job, scratch_bytes, err);
    if (status != KITH_OK) return status;
    if (job->kept && job->kept->bytes < cpu_codes_kept_bytes(job->rows->dim, job->query_count))
        return kith_err_set(err, KITH_INVALID, "%zu bytes for kept queries, this job needs %zu",
            job->kept->bytes, cpu_codes_kept_bytes(job->rows->dim, job->query_count));
    if (job->query_count == 0) return KITH_OK;
    cpu_code_wide *list = job->scratch;
    void *scratch = (char *)job->scratch + wide_bytes(job->query_count);
    uint32_t count;
    if (leaves->codes && cpu_codes_apply(job)) {
        count = cpu_codes_top_k(leaves, job, scratch, hits_out, counts_out, stats, list);
        stats->wide_scans += count;
    } else {
        count = queries_list(job, list);
    }
    if (count == 0) return KITH_OK;
    cpu_scan *scan = scan_place(leaves, job, scratch, stats);
    for (uint32_t first = 0; first < count; first += scan->group_queries_max) {
        uint32_t group = (uint32_t)size_min(scan->group_queries_max, count - first);
        group_run(scan, list + first, group, hits_out, counts_out);
    }
    return KITH_OK;
}
