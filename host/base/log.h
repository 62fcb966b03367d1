/* Structured log: a line is an event with a fixed, greppable name and fields. error = someone must act; warn
 * = degraded, heals itself; info = a state changed (never per request); debug = per request. Repeats of one
 * event are limited to 10 a second each, with a count of what was left out.
 *
 * Threads: any. The sink (stderr by default) is set once at start.
 *   kith_log_info("shard_sealed", kith_kv_u64("rows", rows), kith_kv_u64("took_ms", took_ms)); */
#ifndef KITH_BASE_LOG_H
#define KITH_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef enum kith_log_level { KITH_LOG_ERROR, KITH_LOG_WARN, KITH_LOG_INFO, KITH_LOG_DEBUG } kith_log_level;
typedef enum kith_log_format { KITH_LOG_LOGFMT, KITH_LOG_JSON } kith_log_format;

typedef struct kith_kv {
    const char *key;
    enum { KITH_KV_TEXT, KITH_KV_U64, KITH_KV_I64, KITH_KV_F64 } kind;
    union {
        const char *text;
        uint64_t u64;
        int64_t i64;
        double f64;
    };
} kith_kv;

static inline kith_kv kith_kv_text(const char *key, const char *text) {
    return (kith_kv){.key = key, .kind = KITH_KV_TEXT, .text = text};
}
static inline kith_kv kith_kv_u64(const char *key, uint64_t value) {
    return (kith_kv){.key = key, .kind = KITH_KV_U64, .u64 = value};
}
static inline kith_kv kith_kv_i64(const char *key, int64_t value) {
    return (kith_kv){.key = key, .kind = KITH_KV_I64, .i64 = value};
}
static inline kith_kv kith_kv_f64(const char *key, double value) {
    return (kith_kv){.key = key, .kind = KITH_KV_F64, .f64 = value};
}

/* Called with each finished line, newline included, by the thread that logs (several at once); NULL restores
 * stderr. Set before threads start. */
typedef void (*kith_log_sink)(void *ctx, kith_log_level level, const char *line, uint32_t bytes);
void kith_log_configure(kith_log_level least, kith_log_format format, kith_log_sink sink, void *ctx);
/* Changes the level alone; safe at any time (SIGHUP). */
void kith_log_level_set(kith_log_level least);
/* Whether lines of `level` are written: for callers whose fields are costly to make. */
bool kith_log_wants(kith_log_level level);
/* Where timestamps and the rate limit's seconds come from, for the simulator; NULL restores the wall clock.
 * Set before threads start. */
void kith_log_clock_set(uint64_t (*wall_ms)(void *ctx), void *ctx);

void kith_log_event(kith_log_level level, const char *event, const kith_kv *fields, uint32_t field_count);

#define KITH_LOG_AT(level, event, ...)                                                                       \
    kith_log_event(level, event, (const kith_kv[]){{.key = 0}, ##__VA_ARGS__},                               \
        (uint32_t)(sizeof((const kith_kv[]){{.key = 0}, ##__VA_ARGS__}) / sizeof(kith_kv)))
#define kith_log_error(event, ...) KITH_LOG_AT(KITH_LOG_ERROR, event, ##__VA_ARGS__)
#define kith_log_warn(event, ...)  KITH_LOG_AT(KITH_LOG_WARN, event, ##__VA_ARGS__)
#define kith_log_info(event, ...)  KITH_LOG_AT(KITH_LOG_INFO, event, ##__VA_ARGS__)
#define kith_log_debug(event, ...) KITH_LOG_AT(KITH_LOG_DEBUG, event, ##__VA_ARGS__)

#endif
