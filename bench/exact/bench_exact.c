/* A shard on disk, loaded and sealed by the product's own code, that answers commands of exact_bench.py: one line in,
 * one line of JSON out. So its searches can alternate with those of another library.
 *
 *   bench_exact --base FILE:OFFSET:STRIDE --rows N --queries FILE:OFFSET:STRIDE --query-count N --dim N --metric NAME
 *               [--seal-bytes N] [--merge-bytes N]
 *
 * Vector i of a file is the `dim` little-endian f32 at OFFSET + i * STRIDE bytes (fvecs and npy both are such). The
 * shard lies in a new folder in $TMPDIR, removed at the end of the input. Point i has the id i.
 *
 *   open THREADS               opens the shard with so many search threads (and loads it, the first time)
 *   ceilings THREADS           what so many cores do at most
 *   search FIRST BATCH K COUNT COUNT searches of BATCH queries each, from query FIRST on, around at the last one
 *   hits FIRST BATCH K COUNT FILE  the same, and writes what was found: per query K ids as u64 (all bits set: none),
 *                              then K closenesses as f64
 *
 * Exit codes: 0 at the end of the input, 1 something failed (said in one line), 2 wrong command line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/micro/bench_ceilings.h"
#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/log.h"
#include "host/base/text.h"
#include "host/store/segment_file.h"
#include "kernels/codes/codes.h"
#include "tests/unit/shard/shard_node.h"

enum {
    SHARD_ID = 1,
    LOAD_POINTS = 4096, /* a write, as `kith load` makes them */
    LINE_BYTES_MAX = 4096,
};

typedef struct vectors {
    const uint8_t *bytes;
    size_t mapped_bytes;
    uint64_t offset, stride;
    uint32_t count, dim;
} vectors;

typedef struct bench {
    shard_node node;
    kith_schema schema;
    kith_shard *shard; /* NULL until the first open */
    vectors base, source;
    float *queries; /* [query_count + KITH_QUERIES_MAX][dim]: the first ones again at the end */
    uint32_t query_count;
    bool loaded;
} bench;

static _Noreturn void die(int code, const char *what, const char *text) {
    fprintf(stderr, "bench_exact: %s: %s\n", what, text);
    exit(code);
}

static void check(kith_status status, const char *what, const kith_err *err) {
    if (status != KITH_OK) die(1, what, err->text);
}

/* --- input --- */

static uint64_t number_parse(const char *what, const char *text, uint64_t most) {
    uint64_t value;
    if (!text || !kith_text_parse_u64(text, strlen(text), &value) || value > most)
        die(2, what, text ? text : "a number is missing");
    return value;
}

/* FILE:OFFSET:STRIDE; the numbers are behind the last two colons. */
static void vectors_open(kith_env *env, char *text, vectors *out) {
    kith_err err;
    kith_file *file;
    const void *mapped;
    char *stride = strrchr(text, ':');
    if (!stride) die(2, text, "is not FILE:OFFSET:STRIDE");
    *stride++ = 0;
    char *offset = strrchr(text, ':');
    if (!offset) die(2, text, "is not FILE:OFFSET:STRIDE");
    *offset++ = 0;
    out->offset = number_parse("offset", offset, 1 << 20);
    out->stride = number_parse("stride", stride, 1 << 20);
    out->mapped_bytes = out->offset + (out->count - 1) * out->stride + 4 * (size_t)out->dim;
    check(kith_file_open(env, text, KITH_FILE_READ, &file, &err), text, &err);
    check(kith_file_map(file, out->mapped_bytes, &mapped, &err), text, &err);
    kith_file_close(file);
    out->bytes = mapped;
}

static const uint8_t *vector_at(const vectors *from, uint64_t index) {
    return from->bytes + from->offset + index * from->stride;
}

static void queries_copy(bench *b) {
    size_t vector_bytes = 4 * (size_t)b->source.dim;
    uint32_t count = b->query_count + KITH_QUERIES_MAX;
    b->queries = kith_alloc_array(count, vector_bytes);
    for (uint32_t i = 0; i < count; i++)
        memcpy((uint8_t *)b->queries + i * vector_bytes, vector_at(&b->source, i % b->query_count),
            vector_bytes);
}

/* --- the shard --- */

static void points_write(bench *b, uint32_t first, uint32_t count) {
    kith_err err;
    kith_write_result result;
    kith_op_point *points = kith_alloc_zero(count * sizeof *points);
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = count, .points = points};
    for (uint32_t i = 0; i < count; i++) {
        points[i] = (kith_op_point){.id = kith_id_of_number(first + i), .field_mask = 1};
        points[i].vectors[0] = vector_at(&b->base, first + i);
    }
    kith_status status;
    /* BUSY: too much waits to be sealed; then seal. */
    while ((status = shard_node_write_op(&b->node, b->shard, &b->schema, &op, &result, &err)) == KITH_BUSY)
        check(shard_node_seal(&b->node, b->shard, &err), "seal", &err);
    check(status, "load", &err);
    kith_free(points);
}

static void shard_load(bench *b) {
    kith_err err;
    for (uint32_t first = 0; first < b->base.count; first += LOAD_POINTS) {
        uint32_t left = b->base.count - first;
        points_write(b, first, left < LOAD_POINTS ? left : LOAD_POINTS);
    }
    check(shard_node_seal(&b->node, b->shard, &err), "seal", &err);
    b->loaded = true;
}

static void shard_close(bench *b) {
    if (!b->shard) return;
    kith_shard_set_release(b->node.set, b->shard);
    shard_node_close(&b->node);
    b->shard = NULL;
}

static void shard_open(bench *b, uint32_t thread_count) {
    kith_err err;
    shard_node_shard named = {.id = SHARD_ID, .schema = &b->schema};
    shard_close(b);
    b->node.options.search_threads = thread_count;
    check(shard_node_open(&b->node, &named, 1, &err), "open", &err);
    b->shard = kith_shard_set_find(b->node.set, SHARD_ID);
    if (!b->shard) die(1, "open", "the shard is not there");
    if (!b->loaded) shard_load(b);
}

/* --- what a scan reads --- */

typedef struct scan_bytes {
    bench *bench;
    uint64_t segments, rows, bytes;
    uint64_t code_multiplications; /* of one query with all codes; 0: vectors are scanned */
} scan_bytes;

static uint64_t section_bytes(const kith_segment_file *file, kith_segment_section_kind kind) {
    const kith_segment_section *section = kith_segment_file_find(file, kind, 0);
    return section ? section->bytes : 0;
}

/* Of a code, from where host/index/segment_codes.h has it in the basis. */
static uint32_t code_dim_of(const kith_segment_file *file) {
    const kith_segment_section *basis = kith_segment_file_find(file, KITH_SEGMENT_CODE_BASIS, 0);
    return basis ? kith_load_u32((const uint8_t *)basis->data + 4) : 0;
}

/* Codes where a segment has them; else vectors and norms. */
static void file_add(scan_bytes *sum, const kith_segment_file *file) {
    uint64_t vector_bytes = section_bytes(file, KITH_SEGMENT_VECTORS);
    uint64_t code_bytes = section_bytes(file, KITH_SEGMENT_CODES);
    uint64_t rows = vector_bytes / kith_schema_row_bytes(&sum->bench->schema);
    sum->segments++;
    sum->rows += rows;
    sum->bytes += code_bytes ? code_bytes : vector_bytes + section_bytes(file, KITH_SEGMENT_NORMS);
    uint64_t coded_rows = (uint64_t)kith_code_block_count((uint32_t)rows) * KITH_CODE_BLOCK_ROWS;
    sum->code_multiplications += coded_rows * code_dim_of(file);
}

static void segment_add(void *ctx, const kith_dir_entry *entry) {
    scan_bytes *sum = ctx;
    kith_err err;
    kith_segment_file *file;
    char path[4096];
    if (!strstr(entry->name, ".seg")) return;
    snprintf(path, sizeof path, "%s/%s", sum->bench->node.node.segment_dir, entry->name);
    check(kith_segment_file_open(sum->bench->node.env, path, &file, &err), "segment", &err);
    file_add(sum, file);
    kith_segment_file_close(file);
}

static void open_answer(bench *b, uint32_t thread_count) {
    kith_err err;
    scan_bytes sum = {.bench = b};
    shard_open(b, thread_count);
    check(kith_dir_list(b->node.env, b->node.node.segment_dir, segment_add, &sum, &err), "segments", &err);
    printf("{\"backend\": \"%s\", \"segments\": %" PRIu64 ", \"rows\": %" PRIu64 ", \"scan_bytes\": %" PRIu64
           ", \"code_multiplications\": %" PRIu64 "}\n",
        kith_compute_cpu()->name, sum.segments, sum.rows, sum.bytes, sum.code_multiplications);
}

/* --- searches --- */

static void hits_save(FILE *file, const shard_node_hits *hits, uint32_t query, uint32_t k) {
    for (uint32_t i = 0; i < k; i++) {
        bool found = i < hits->counts[query];
        uint64_t id = found ? hits->hits[(size_t)query * k + i].id.number : UINT64_MAX;
        if (fwrite(&id, sizeof id, 1, file) != 1) die(1, "hits", "cannot be written");
    }
    for (uint32_t i = 0; i < k; i++) {
        bool found = i < hits->counts[query];
        double closeness = found ? hits->hits[(size_t)query * k + i].closeness : 0;
        if (fwrite(&closeness, sizeof closeness, 1, file) != 1) die(1, "hits", "cannot be written");
    }
}

typedef struct search_command {
    uint32_t first, batch, k, count;
    FILE *file; /* of hits, or NULL */
} search_command;

typedef struct search_time {
    uint64_t wall_ns;
    clock_t cpu; /* of all threads */
} search_time;

static void search_once(bench *b, const search_command *command, uint32_t first, search_time *sum) {
    shard_node_hits hits;
    const float *queries = b->queries + (size_t)first * b->base.dim;
    uint64_t start = kith_env_now_ns(b->node.env);
    clock_t cpu_start = clock();
    kith_status status = shard_node_search(&b->node, b->shard, 0, queries, command->batch, command->k, &hits);
    sum->wall_ns += kith_env_now_ns(b->node.env) - start;
    sum->cpu += clock() - cpu_start;
    check(status, "search", &hits.err);
    for (uint32_t q = 0; command->file && q < command->batch; q++)
        hits_save(command->file, &hits, q, command->k);
    shard_node_hits_fini(&hits);
}

static void search_answer(bench *b, const search_command *command) {
    const kith_shard_counters before = b->node.counters;
    search_time sum = {0};
    for (uint32_t i = 0; i < command->count; i++) {
        uint64_t first = (command->first + (uint64_t)i * command->batch) % b->query_count;
        search_once(b, command, (uint32_t)first, &sum);
    }
    const kith_shard_counters *after = &b->node.counters;
    printf("{\"seconds\": %.9f, \"cpu_seconds\": %.6f, \"rows_scanned\": %" PRIu64
           ", \"rows_coded\": %" PRIu64 ", \"code_survivors\": %" PRIu64 ", \"rows_rescored\": %" PRIu64
           ", \"wide_scans\": %" PRIu64 "}\n",
        (double)sum.wall_ns * 1e-9, (double)sum.cpu / CLOCKS_PER_SEC,
        after->rows_scanned - before.rows_scanned, after->rows_coded - before.rows_coded,
        after->code_survivors - before.code_survivors, after->rows_rescored - before.rows_rescored,
        after->wide_scans - before.wide_scans);
}

static void ceilings_answer(bench *b, uint32_t thread_count) {
    kith_err err;
    bench_ceilings c;
    check(bench_ceilings_measure(b->node.env, thread_count, &c, &err), "ceilings", &err);
    printf("{\"read_bytes_per_s\": %.0f, \"f32_ops_per_s\": %.0f, \"integer_ops_per_s\": %.0f, "
           "\"integer_instruction\": \"%s\", \"integer_bits\": %u}\n",
        c.read_bytes_per_s, c.f32_ops_per_s, c.integer_ops_per_s, c.integer_instruction, c.integer_bits);
}

/* --- commands --- */

static uint32_t argument(char **rest, uint64_t least, uint64_t most) {
    char *text = strtok_r(NULL, " \n", rest);
    uint64_t value = number_parse("command", text, most);
    if (value < least) die(2, "command", text);
    return (uint32_t)value;
}

static void search_parse(bench *b, char **rest, bool saved) {
    search_command command = {0};
    if (!b->shard) die(2, "command", "search before open");
    command.first = argument(rest, 0, b->query_count - 1);
    command.batch = argument(rest, 1, KITH_QUERIES_MAX);
    command.k = argument(rest, 1, KITH_K_MAX);
    command.count = argument(rest, 1, UINT32_MAX);
    const char *path = saved ? strtok_r(NULL, "\n", rest) : NULL;
    if (saved && !path) die(2, "command", "hits without a file");
    if (saved && !(command.file = fopen(path, "wb"))) die(1, path, "cannot be made");
    search_answer(b, &command);
    if (command.file && fclose(command.file) != 0) die(1, path, "cannot be written");
}

static void command_run(bench *b, char *line) {
    char *rest;
    const char *word = strtok_r(line, " \n", &rest);
    if (!word) return;
    if (strcmp(word, "open") == 0)
        open_answer(b, argument(&rest, 1, 256));
    else if (strcmp(word, "ceilings") == 0)
        ceilings_answer(b, argument(&rest, 1, 256));
    else if (strcmp(word, "search") == 0 || strcmp(word, "hits") == 0)
        search_parse(b, &rest, word[0] == 'h');
    else
        die(2, "unknown command", word);
    fflush(stdout);
}

/* The config's defaults (host/config/config_table.h), but for seals that come by themselves: measuring waits for all. */
static shard_node_options node_options(void) {
    return (shard_node_options){.world = SHARD_NODE_REAL,
        .search_threads = 1,
        .seal_bytes = 64 << 20,
        .seal_rows = 200000,
        .seal_idle_ns = UINT64_MAX / 2,
        .merge_bytes_max = 512 << 20,
        .request_window = 16384,
        .write_queue_bytes_max = 256 << 20,
        .log_file_bytes = 64 << 20};
}

typedef struct arguments {
    char *base, *queries;
    uint32_t rows, query_count, dim;
    kith_metric metric;
    shard_node_options node;
} arguments;

static arguments arguments_parse(int argc, char **argv) {
    arguments a = {.node = node_options()};
    for (int i = 1; i < argc; i += 2) {
        const char *flag = argv[i];
        char *value = argv[i + 1];
        if (!value) die(2, flag, "has no value");
        if (strcmp(flag, "--base") == 0)
            a.base = value;
        else if (strcmp(flag, "--queries") == 0)
            a.queries = value;
        else if (strcmp(flag, "--rows") == 0)
            a.rows = (uint32_t)number_parse(flag, value, UINT32_MAX);
        else if (strcmp(flag, "--query-count") == 0)
            a.query_count = (uint32_t)number_parse(flag, value, 1 << 20);
        else if (strcmp(flag, "--dim") == 0)
            a.dim = (uint32_t)number_parse(flag, value, KITH_DIM_MAX);
        else if (strcmp(flag, "--seal-bytes") == 0)
            a.node.seal_bytes = number_parse(flag, value, UINT64_MAX);
        else if (strcmp(flag, "--merge-bytes") == 0)
            a.node.merge_bytes_max = number_parse(flag, value, UINT64_MAX);
        else if (strcmp(flag, "--metric") != 0 || !kith_metric_parse(value, &a.metric))
            die(2, flag, value);
    }
    if (!a.base || !a.queries || !a.rows || !a.query_count || !a.dim || !a.metric)
        die(2, "needs", "--base --rows --queries --query-count --dim --metric");
    return a;
}

int main(int argc, char **argv) {
    arguments a = arguments_parse(argc, argv);
    bench b = {.query_count = a.query_count,
        .base = {.count = a.rows, .dim = a.dim},
        .source = {.count = a.query_count, .dim = a.dim}};
    b.schema.field_count = 1;
    b.schema.fields[0] = (kith_field){.dim = a.dim, .metric = a.metric, .type = KITH_TYPE_F32};
    kith_log_configure(KITH_LOG_WARN, KITH_LOG_LOGFMT, NULL, NULL);
    shard_node_init(&b.node, &a.node);
    vectors_open(b.node.env, a.base, &b.base);
    vectors_open(b.node.env, a.queries, &b.source);
    queries_copy(&b);
    char line[LINE_BYTES_MAX];
    while (fgets(line, sizeof line, stdin))
        command_run(&b, line);
    shard_close(&b);
    kith_file_unmap(b.node.env, b.base.bytes, b.base.mapped_bytes);
    kith_file_unmap(b.node.env, b.source.bytes, b.source.mapped_bytes);
    kith_free(b.queries);
    shard_node_fini(&b.node);
    return 0;
}
