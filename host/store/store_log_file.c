/* Which streams a log file has, from where to where, and which of them it is still needed for.
 *
 * A replica whose tail was cut may write fewer entries than it had, and then none for long. What they supersede must not keep
 * a file: only the oldest one can go, so all later ones of all streams would stay with it. Nobody needs it: an entry is noted
 * when it is durable, and from then on a recovery puts it in the place of those that it supersedes. */
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

static void needed_set(log_file *file, log_file_stream *stream, bool needed) {
    if (stream->needed && !needed) file->needed_count--;
    if (!stream->needed && needed) file->needed_count++;
    stream->needed = needed;
}

static void note(log_file *file, const kith_log_entry *entry) {
    log_file_stream *found = find(file, entry->stream);
    if (!found) found = insert(file, entry->stream);
    if (entry->sequence < found->least) found->least = entry->sequence;
    if (entry->sequence > found->greatest) found->greatest = entry->sequence;
    found->last = entry->sequence;
    needed_set(file, found, true);
}

/* A later file has `entry`. */
static void supersede(log_file *file, const kith_log_entry *entry) {
    log_file_stream *found = find(file, entry->stream);
    if (!found || found->last < entry->sequence) return;
    if (found->least < entry->sequence)
        found->last = entry->sequence - 1;
    else
        needed_set(file, found, false);
}

void log_files_note(log_file *files, uint32_t file_count, const kith_log_entry *entry) {
    log_file *last = &files[file_count - 1];
    const log_file_stream *before = find(last, entry->stream);
    /* Above the entry before it in this file, it is above all of the files before, too: that one has superseded the others. */
    bool rises = before && before->last < entry->sequence;
    for (uint32_t i = 0; !rises && i + 1 < file_count; i++)
        supersede(&files[i], entry);
    note(last, entry);
}

void log_file_trim(log_file *file, uint64_t stream, uint64_t sequence) {
    log_file_stream *found = find(file, stream);
    if (found && found->last <= sequence) needed_set(file, found, false);
}

const log_file_stream *log_file_stream_find(const log_file *file, uint64_t stream) {
    return find(file, stream);
}
