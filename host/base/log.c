/* A line is formatted without a lock and leaves in one write, so lines of several threads do not mix. */
#include "host/base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/base/buf.h"
#include "host/base/hash.h"
#include "host/base/text.h"
#include "host/base/thread.h"

#define EVENTS_PER_S_MAX 10u
#define EVENT_SLOTS      256u
#define VALUE_BYTES_MAX  2048u
#define MS_PER_S         1000u

/* How often one event was written in the current second. Events whose hashes collide take the slot from one
 * another: then some are written that should not be, never the reverse. */
typedef struct event_rate {
    uint64_t event_hash;
    uint64_t second;
    uint32_t written_count;
    uint32_t left_out_count;
} event_rate;

/* The one piece of global state of the process: there is one stderr. */
static struct {
    _Atomic(int) least;
    _Atomic(int) format;
    kith_log_sink sink;
    void *sink_ctx;
    uint64_t (*wall_ms)(void *ctx);
    void *clock_ctx;
    kith_mutex lock; /* guards `rates`; a message would need a thread, which base does not have */
    event_rate rates[EVENT_SLOTS];
} logger = {
    .least = KITH_LOG_INFO,
    .format = KITH_LOG_LOGFMT,
    .lock = {.native = PTHREAD_MUTEX_INITIALIZER, .rank = KITH_RANK_LOG},
};

void kith_log_configure(kith_log_level least, kith_log_format format, kith_log_sink sink, void *ctx) {
    kith_log_level_set(least);
    /* relaxed: set before threads start. */
    atomic_store_explicit(&logger.format, (int)format, memory_order_relaxed);
    logger.sink = sink;
    logger.sink_ctx = ctx;
}

void kith_log_clock_set(uint64_t (*wall_ms)(void *ctx), void *ctx) {
    logger.wall_ms = wall_ms;
    logger.clock_ctx = ctx;
}

void kith_log_level_set(kith_log_level least) {
    /* relaxed: a line more or less around the change does not matter. */
    atomic_store_explicit(&logger.least, (int)least, memory_order_relaxed);
}

bool kith_log_wants(kith_log_level level) {
    return (int)level <= atomic_load_explicit(&logger.least, memory_order_relaxed);
}

static uint64_t wall_ms(void) {
    if (logger.wall_ms) return logger.wall_ms(logger.clock_ctx);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / 1000000;
}

/* False if the event has had its lines of this second; else also how many were left out before. */
static bool admit_locked(const char *event, uint64_t second, uint32_t *left_out_out) {
    uint64_t hash = kith_hash64(event, strlen(event));
    event_rate *rate = &logger.rates[hash % EVENT_SLOTS];
    if (rate->event_hash != hash) *rate = (event_rate){.event_hash = hash, .second = second};
    if (rate->second != second) {
        rate->second = second;
        rate->written_count = 0;
    }
    if (rate->written_count == EVENTS_PER_S_MAX) {
        rate->left_out_count++;
        return false;
    }
    rate->written_count++;
    *left_out_out = rate->left_out_count;
    rate->left_out_count = 0;
    return true;
}

static const char *level_name(kith_log_level level) {
    static const char *const names[] = {"error", "warn", "info", "debug"};
    return names[level];
}

static void append_time(kith_buf *line, uint64_t now_ms) {
    time_t seconds = (time_t)(now_ms / MS_PER_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    kith_buf_append_format(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", utc.tm_year + 1900, utc.tm_mon + 1,
        utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (unsigned)(now_ms % MS_PER_S));
}

/* logfmt needs quotes around what could be read as a separator. */
static bool is_bare(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F) return false;
    }
    return bytes > 0;
}

static void append_text(kith_buf *line, kith_log_format format, const char *text) {
    if (!text) text = "";
    size_t bytes = strnlen(text, VALUE_BYTES_MAX);
    if (format == KITH_LOG_LOGFMT && is_bare(text, bytes))
        kith_buf_append(line, text, bytes);
    else
        kith_text_append_json_string(line, text, bytes);
}

static void append_value(kith_buf *line, kith_log_format format, const kith_kv *field) {
    switch (field->kind) {
    case KITH_KV_TEXT:
        append_text(line, format, field->text);
        return;
    case KITH_KV_U64:
        kith_buf_append_format(line, "%llu", (unsigned long long)field->u64);
        return;
    case KITH_KV_I64:
        kith_buf_append_format(line, "%lld", (long long)field->i64);
        return;
    case KITH_KV_F64:
        kith_text_append_f64(line, field->f64);
        return;
    }
}

static void append_field(kith_buf *line, kith_log_format format, const kith_kv *field) {
    if (format == KITH_LOG_JSON) {
        kith_buf_append_text(line, ",");
        kith_text_append_json_string(line, field->key, strlen(field->key));
        kith_buf_append_text(line, ":");
    } else {
        kith_buf_append_format(line, " %s=", field->key);
    }
    append_value(line, format, field);
}

static void append_head(kith_buf *line, kith_log_format format, kith_log_level level, uint64_t now_ms) {
    kith_buf_append_text(line, format == KITH_LOG_JSON ? "{\"ts\":\"" : "ts=");
    append_time(line, now_ms);
    kith_buf_append_format(
        line, format == KITH_LOG_JSON ? "\",\"level\":\"%s\"" : " level=%s", level_name(level));
}

static void write_stderr(const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t written = write(STDERR_FILENO, data, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* nowhere left to say so */
        data += written;
        bytes -= (size_t)written;
    }
}

static void emit(kith_log_level level, const kith_buf *line) {
    if (logger.sink)
        logger.sink(logger.sink_ctx, level, (const char *)line->data, (uint32_t)line->bytes);
    else
        write_stderr(line->data, line->bytes);
}

void kith_log_event(kith_log_level level, const char *event, const kith_kv *fields, uint32_t field_count) {
    if (!kith_log_wants(level)) return;
    uint64_t now_ms = wall_ms();
    uint32_t left_out_count = 0;
    kith_mutex_lock(&logger.lock);
    bool admitted = admit_locked(event, now_ms / MS_PER_S, &left_out_count);
    kith_mutex_unlock(&logger.lock);
    if (!admitted) return;

    kith_log_format format = (kith_log_format)atomic_load_explicit(&logger.format, memory_order_relaxed);
    kith_buf line;
    kith_buf_init(&line);
    append_head(&line, format, level, now_ms);
    kith_kv event_field = kith_kv_text("event", event);
    append_field(&line, format, &event_field);
    for (uint32_t i = 0; i < field_count; i++)
        if (fields[i].key) append_field(&line, format, &fields[i]);
    kith_kv left_out_field = kith_kv_u64("left_out", left_out_count);
    if (left_out_count > 0) append_field(&line, format, &left_out_field);
    kith_buf_append_text(&line, format == KITH_LOG_JSON ? "}\n" : "\n");
    emit(level, &line);
    kith_buf_fini(&line);
}
