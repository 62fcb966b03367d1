#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/base/text.h"
#include "host/cli/cli_internal.h"

#define COLUMNS_MAX       16
#define CELL_BYTES_MAX    4096
#define PROGRESS_EVERY_NS 100000000ull
#define SECOND_NS         1000000000ull

int kith_cli_flush(kith_cli *cli) {
    if (cli->out.bytes == 0) return KITH_CLI_OK;
    bool ok = fwrite(cli->out.data, 1, cli->out.bytes, stdout) == cli->out.bytes && fflush(stdout) == 0;
    kith_buf_clear(&cli->out);
    if (ok) return KITH_CLI_OK;
    if (errno == EPIPE) return KITH_CLI_REFUSED; /* `| head` has seen enough: nothing to tell */
    return kith_cli_fail(KITH_CLI_REFUSED, "stdout can't be written");
}

/* --- JSON --- */

void kith_cli_json_key(kith_buf *out, const char *key) {
    uint8_t last = out->bytes ? out->data[out->bytes - 1] : '{';
    if (last != '{' && last != '[') kith_buf_append_text(out, ", ");
    if (!key) return; /* an array's element */
    kith_text_append_json_string(out, key, strlen(key));
    kith_buf_append_text(out, ": ");
}

void kith_cli_json_text(kith_buf *out, const char *key, const char *value) {
    kith_cli_json_key(out, key);
    kith_text_append_json_string(out, value, strlen(value));
}

void kith_cli_json_u64(kith_buf *out, const char *key, uint64_t value) {
    kith_cli_json_key(out, key);
    kith_buf_append_format(out, "%llu", (unsigned long long)value);
}

void kith_cli_json_f64(kith_buf *out, const char *key, double value) {
    kith_cli_json_key(out, key);
    kith_text_append_f64(out, value);
}

void kith_cli_json_bool(kith_buf *out, const char *key, bool value) {
    kith_cli_json_key(out, key);
    kith_buf_append_text(out, value ? "true" : "false");
}

void kith_cli_json_raw(kith_buf *out, const char *key, const char *json, size_t bytes) {
    if (key) kith_cli_json_key(out, key);
    if (!json) {
        kith_buf_append_text(out, "null");
        return;
    }
    uint8_t *copy = kith_buf_grow(out, bytes);
    for (size_t i = 0; i < bytes; i++)
        copy[i] =
            json[i] == '\n' || json[i] == '\r' ? ' ' : (uint8_t)json[i]; /* only white space is raw there */
}

void kith_cli_json_collection_members(kith_buf *out, const kith_codec_client_collection *info) {
    const kith_collection *collection = &info->collection;
    kith_cli_json_text(out, "name", collection->name);
    kith_cli_json_u64(out, "id", collection->id);
    kith_cli_json_key(out, "fields");
    kith_buf_append_text(out, "[");
    for (uint32_t i = 0; i < collection->schema.field_count; i++) {
        const kith_field *field = &collection->schema.fields[i];
        kith_cli_json_key(out, NULL);
        kith_buf_append_text(out, "{");
        kith_cli_json_text(out, "name", field->name);
        kith_cli_json_u64(out, "dim", field->dim);
        kith_cli_json_text(out, "metric", kith_metric_name(field->metric));
        kith_cli_json_text(out, "type", kith_vector_type_name(field->type));
        kith_buf_append_text(out, "}");
    }
    kith_buf_append_text(out, "]");
    kith_cli_json_u64(out, "shards", collection->shard_count);
    kith_cli_json_u64(out, "replicas", collection->replication_factor);
    kith_cli_json_u64(out, "min_in_sync", collection->min_in_sync);
    kith_cli_json_text(out, "durability", kith_durability_name(collection->durability));
    kith_cli_json_u64(out, "points", info->points);
    kith_cli_json_u64(out, "segments", info->segments);
    kith_cli_json_u64(out, "segments_sealed", info->segments_sealed);
    kith_cli_json_u64(out, "vector_bytes", info->vector_bytes);
    kith_cli_json_u64(out, "created_unix_ms", collection->created_wall_ms);
    kith_cli_json_text(out, "health", info->health);
}

void kith_cli_json_collection(kith_buf *out, const kith_codec_client_collection *info) {
    kith_cli_json_key(out, NULL);
    kith_buf_append_text(out, "{");
    kith_cli_json_collection_members(out, info);
    kith_buf_append_text(out, "}");
}

void kith_cli_json_coverage(kith_buf *out, const kith_codec_client_coverage *coverage) {
    kith_cli_json_key(out, "coverage");
    kith_buf_append_text(out, "{");
    kith_cli_json_u64(out, "shards_total", coverage->shards_total);
    kith_cli_json_u64(out, "shards_answered", coverage->shards_answered);
    kith_cli_json_key(out, "missing");
    kith_buf_append_text(out, "[");
    for (uint32_t i = 0; i < coverage->missing_count; i++) {
        kith_cli_json_key(out, NULL);
        kith_buf_append_text(out, "{");
        kith_cli_json_u64(out, "shard", coverage->missing[i].shard_id);
        kith_cli_json_text(out, "node", coverage->missing[i].node);
        kith_cli_json_text(out, "reason", coverage->missing[i].reason);
        kith_buf_append_text(out, "}");
    }
    kith_buf_append_text(out, "]}");
}

/* --- for people --- */

int kith_cli_say_coverage(const kith_codec_client_coverage *coverage) {
    if (coverage->shards_answered >= coverage->shards_total) return KITH_CLI_OK;
    const kith_codec_client_missing *first = coverage->missing;
    if (!first)
        return kith_cli_fail(KITH_CLI_PARTIAL, "only %u of %u shards answered", coverage->shards_answered,
            coverage->shards_total);
    return kith_cli_fail(KITH_CLI_PARTIAL, "only %u of %u shards answered; shard %llu on %s did not: %s",
        coverage->shards_answered, coverage->shards_total, (unsigned long long)first->shard_id, first->node,
        first->reason);
}

void kith_cli_append_grouped(kith_buf *out, uint64_t value) {
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0) kith_buf_u8(out, ',');
        kith_buf_u8(out, (uint8_t)digits[i]);
    }
}

void kith_cli_append_size(kith_buf *out, uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    uint32_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    kith_buf_append_format(out, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

void kith_cli_table_init(kith_cli_table *table, const char *alignment) {
    *table = (kith_cli_table){.alignment = alignment};
    kith_buf_init(&table->cells);
}

void kith_cli_table_cell(kith_cli_table *table, const char *format, ...) {
    char text[CELL_BYTES_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' '; /* what is stored must not drive the terminal */
    kith_buf_append(&table->cells, text, strlen(text) + 1);
    table->cell_count++;
}

/* Code points, near enough to columns. */
static size_t text_width(const char *text) {
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void append_spaces(kith_buf *out, size_t count) {
    memset(kith_buf_grow(out, count), ' ', count);
}

void kith_cli_table_fini(kith_cli_table *table, kith_buf *out) {
    size_t widths[COLUMNS_MAX] = {0};
    size_t columns = strlen(table->alignment);
    const char *cell = (const char *)table->cells.data;
    for (uint32_t i = 0; i < table->cell_count; i++, cell += strlen(cell) + 1)
        if (text_width(cell) > widths[i % columns]) widths[i % columns] = text_width(cell);
    cell = (const char *)table->cells.data;
    for (uint32_t i = 0; i < table->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % columns;
        size_t padding = widths[column] - text_width(cell);
        bool last = column + 1 == columns;
        if (table->alignment[column] == '>') append_spaces(out, padding);
        kith_buf_append_text(out, cell);
        if (table->alignment[column] == '<' && !last) append_spaces(out, padding);
        kith_buf_append_text(out, last ? "\n" : "  ");
    }
    kith_buf_fini(&table->cells);
}

void kith_cli_progress_init(kith_cli_progress *progress, kith_env *env, const char *what) {
    *progress = (kith_cli_progress){
        .env = env,
        .what = what,
        .began_ns = kith_env_now_ns(env),
        .on = isatty(STDERR_FILENO) == 1,
    };
}

void kith_cli_progress_show(kith_cli_progress *progress, double fraction, uint64_t count) {
    uint64_t now_ns = kith_env_now_ns(progress->env);
    if (!progress->on || now_ns - progress->shown_ns < PROGRESS_EVERY_NS) return;
    progress->shown_ns = now_ns;
    double seconds = (double)(now_ns - progress->began_ns) / SECOND_NS;
    uint64_t left = fraction > 0 ? (uint64_t)(seconds / fraction * (1 - fraction) + 0.5) : 0;
    kith_buf line;
    kith_buf_init(&line);
    int filled = (int)(fraction * 24);
    kith_buf_append_format(
        &line, "\r[%.*s%*s] %3.0f%%  ", filled, "########################", 24 - filled, "", fraction * 100);
    kith_cli_append_grouped(&line, count);
    kith_buf_append_format(&line, " %s  ", progress->what);
    kith_cli_append_grouped(&line, (uint64_t)((double)count / (seconds > 0 ? seconds : 1)));
    kith_buf_append_format(
        &line, "/s  %llu:%02llu left \x1b[K", (unsigned long long)left / 60, (unsigned long long)left % 60);
    fwrite(line.data, 1, line.bytes, stderr);
    kith_buf_fini(&line);
}

void kith_cli_progress_fini(kith_cli_progress *progress) {
    if (progress->on && progress->shown_ns) fputs("\r\x1b[K", stderr);
}
