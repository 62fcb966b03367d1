/* Which streams a log file has, from where to where, and which of them it is still needed for. */
#include "host/base/alloc.h"
#include "host/store/store_log_internal.h"

void log_file_init(log_file *file, uint64_t number) {
    *file = (log_file){.number = number, .by_stream = kith_map_create(0)};
}

void log_file_fini(log_file *file) {
    kith_map_destroy(file->by_stream);
    kith_free(file->streams);
}

static log_file_stream *find(const log_file *file, uint64_t stream) {
    uint64_t index;
    return kith_map_get(file->by_stream, &stream, sizeof stream, &index) ? &file->streams[index] : NULL;
}

static log_file_stream *insert(log_file *file, uint64_t stream) {
    if (file->stream_count == file->stream_capacity) {
        file->stream_capacity = file->stream_capacity ? 2 * file->stream_capacity : 4;
        file->streams = kith_realloc(file->streams, file->stream_capacity * sizeof *file->streams);
    }
    kith_map_put(file->by_stream, &stream, sizeof stream, file->stream_count);
    log_file_stream *made = &file->streams[file->stream_count++];
    *made = (log_file_stream){.least = UINT64_MAX};
    return made;
}

void log_file_note(log_file *file, const kith_log_entry *entry) {
    log_file_stream *found = find(file, entry->stream);
    if (!found) found = insert(file, entry->stream);
    if (entry->sequence < found->least) found->least = entry->sequence;
    if (entry->sequence > found->greatest) found->greatest = entry->sequence;
    if (!found->needed) file->needed_count++;
    found->needed = true;
}

void log_file_trim(log_file *file, uint64_t stream, uint64_t sequence) {
    log_file_stream *found = find(file, stream);
    if (!found || !found->needed || found->greatest > sequence) return;
    found->needed = false;
    file->needed_count--;
}

const log_file_stream *log_file_stream_find(const log_file *file, uint64_t stream) {
    return find(file, stream);
}
