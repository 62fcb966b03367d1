/* One page of a collection in id order: a page of every shard, merged.
 *
 * Ids are spread by hash, so a shard is asked only for its share of the page: of the points with some more, of the bytes no
 * more, so that all pages together have no more than one answer may have (and a point a shard, since each sends at least
 * one). A shard that has further points than it sent bounds the merged page: from the first one that it left out on we know
 * nothing of it. That is above those it sent, so every page moves on. */
#include <math.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_point.h"

typedef struct shard_page {
    const kith_codec_shard_point *points;
    uint32_t count, at;
} shard_page;

typedef struct scroll_run {
    kith_query_scroll *scroll;
    shard_page *pages; /* [shard_count] */
    bool has_bound;
    kith_id bound; /* the lowest point that a shard left out */
} scroll_run;

/* The mean share, eight standard deviations of a binomial and a little: short pages are rarer than disk errors. */
static uint32_t shard_limit(uint32_t limit, uint32_t shard_count) {
    if (shard_count == 1) return limit;
    double mean = (double)limit / shard_count;
    double share = mean + 8 * sqrt(mean) + 16;
    return share < limit ? (uint32_t)share : limit;
}

static void page_take(scroll_run *run, uint32_t index, const kith_codec_shard_read_response *response) {
    run->pages[index] = (shard_page){.points = response->points, .count = response->count};
    if (!response->has_next) return;
    if (run->has_bound && kith_id_compare(&run->bound, &response->next) <= 0) return;
    run->has_bound = true;
    run->bound = response->next;
}

static kith_status pages_gather(scroll_run *run, const kith_query_fanout *fanout, kith_err *err) {
    for (uint32_t i = 0; i < fanout->target_count; i++) {
        const kith_query_target *target = &fanout->targets[i];
        if (!target->is_answered) return kith_err_set(err, target->status, "%s", target->message);
        page_take(run, i, target->part->answer);
    }
    return KITH_OK;
}

/* The page whose next point is the lowest; NULL at the end. Shards are few or pages are short: no heap. */
static shard_page *lowest_page(scroll_run *run, uint32_t page_count) {
    shard_page *lowest = NULL;
    for (uint32_t i = 0; i < page_count; i++) {
        shard_page *page = &run->pages[i];
        if (page->at == page->count) continue;
        if (!lowest || kith_id_compare(&page->points[page->at].id, &lowest->points[lowest->at].id) < 0)
            lowest = page;
    }
    return lowest;
}

static size_t point_bytes(const kith_codec_shard_point *point, const kith_schema *schema) {
    size_t bytes = 64 + KITH_ID_CANONICAL_BYTES_MAX + point->payload_bytes;
    for (uint32_t field = 0; field < schema->field_count; field++) {
        /* As the answer shows them: f32, and the field's name. */
        if (point->vectors[field]) bytes += 4 * (size_t)schema->fields[field].dim + KITH_NAME_BYTES_MAX;
    }
    return bytes;
}

static void next_set(kith_query_scroll *scroll, const kith_id *id) {
    scroll->has_next = true;
    scroll->next = *id;
}

static kith_status pages_merge(scroll_run *run, uint32_t page_count, kith_err *err) {
    kith_query_scroll *scroll = run->scroll;
    const kith_schema *schema = &scroll->base.entry->collection.schema;
    scroll->points = kith_arena_array(scroll->base.arena, scroll->limit, sizeof *scroll->points);
    size_t bytes = 0;
    for (shard_page *page; (page = lowest_page(run, page_count));) {
        const kith_codec_shard_point *point = &page->points[page->at];
        if (run->has_bound && kith_id_compare(&run->bound, &point->id) <= 0) break;
        bytes += point_bytes(point, schema);
        if (scroll->count == scroll->limit || (scroll->count && bytes > scroll->bytes_max)) {
            next_set(scroll, &point->id);
            return KITH_OK;
        }
        scroll->points[scroll->count++] = kith_query_point_of(point, scroll->base.arena);
        page->at++;
    }
    if (!run->has_bound) return KITH_OK;
    if (scroll->count == 0)
        return kith_err_set(err, KITH_INTERNAL, "a shard left out a point below those it sent");
    next_set(scroll, &run->bound);
    return KITH_OK;
}

static void scroll_gathered(kith_query_fanout *fanout) {
    scroll_run *run = fanout->ctx;
    kith_query_scroll *scroll = run->scroll;
    kith_err err;
    kith_status status = pages_gather(run, fanout, &err);
    if (status == KITH_OK) status = pages_merge(run, fanout->target_count, &err);
    scroll->done(scroll, status, &err);
}

static void scroll_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    const scroll_run *run = fanout->ctx;
    const kith_query_scroll *scroll = run->scroll;
    const kith_query_base *base = fanout->base;
    uint32_t shard_count = base->entry->collection.shard_count;
    kith_codec_shard_read_request request = {
        .collection_id = base->entry->collection.id,
        .map_version = base->map->version,
        .shard_id = kith_query_part_shard_id(part, 0),
        .kind = KITH_CODEC_READ_SCROLL,
        .has_from = scroll->has_from,
        .from = scroll->from,
        .limit = shard_limit(scroll->limit, shard_count),
        .with_payload = scroll->with_payload,
        .with_vectors = scroll->with_vectors,
        .bytes_max = scroll->bytes_max / shard_count,
        .read = base->read,
        .token = kith_query_part_token(part),
    };
    kith_codec_shard_read_request_encode(&request, buf);
}

void kith_query_scroll_start(kith_query_scroll *scroll) {
    static const kith_query_fanout_ops ops = {.kind = KITH_AM_READ,
        .is_apart = true,
        .encode = scroll_encode,
        .decode = kith_query_points_decode,
        .gathered = scroll_gathered};
    uint32_t shard_count = scroll->base.entry->collection.shard_count;
    scroll_run *run = kith_arena_alloc_zero(scroll->base.arena, sizeof *run);
    run->scroll = scroll;
    run->pages = kith_arena_alloc_zero(scroll->base.arena, shard_count * sizeof *run->pages);
    scroll->count = 0;
    scroll->has_next = false;
    kith_query_fanout_start(&scroll->base, &ops, run, NULL, shard_count);
}
