#include "host/meta/raft_term.h"

#include <stdio.h>
#include <string.h>

#include "host/base/bytes.h"
#include "host/base/crc32c.h"

#define TERM_VERSION   1u
#define SLOT_BYTES     512u
#define COPY_BYTES     48u
#define COPY_OFFSET    256u /* of the second one */
#define FILE_BYTES     (2u * SLOT_BYTES)
#define PATH_BYTES_MAX 4096u

static const char slot_magic[8] = {'K', 'I', 'T', 'H', 'T', 'E', 'R', 'M'};

typedef struct term_slot {
    uint64_t number, term, vote, flags;
} term_slot;

static void slot_encode(const term_slot *slot, uint8_t out[SLOT_BYTES]) {
    memset(out, 0, SLOT_BYTES);
    memcpy(out, slot_magic, sizeof slot_magic);
    kith_store_u32(out + 8, TERM_VERSION);
    kith_store_u64(out + 16, slot->number);
    kith_store_u64(out + 24, slot->term);
    kith_store_u64(out + 32, slot->vote);
    kith_store_u64(out + 40, slot->flags);
    kith_store_u32(out + 12, kith_crc32c(0, out + 16, COPY_BYTES - 16));
    memcpy(out + COPY_OFFSET, out, COPY_BYTES);
}

static kith_status copy_decode(const uint8_t *bytes, term_slot *slot_out, kith_err *err) {
    if (memcmp(bytes, slot_magic, sizeof slot_magic) != 0)
        return kith_err_set(err, KITH_CORRUPT, "a slot does not begin with KITHTERM");
    if (kith_load_u32(bytes + 12) != kith_crc32c(0, bytes + 16, COPY_BYTES - 16))
        return kith_err_set(err, KITH_CORRUPT, "the checksum of a slot is wrong");
    uint32_t version = kith_load_u32(bytes + 8);
    if (version != TERM_VERSION) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "its format is version %u, this program reads version %u", version, TERM_VERSION);
    }
    *slot_out = (term_slot){.number = kith_load_u64(bytes + 16),
        .term = kith_load_u64(bytes + 24),
        .vote = kith_load_u64(bytes + 32),
        .flags = kith_load_u64(bytes + 40)};
    return KITH_OK;
}

static kith_status slot_decode(const uint8_t *bytes, term_slot *slot_out, kith_err *err) {
    if (copy_decode(bytes, slot_out, err) == KITH_OK) return KITH_OK;
    return copy_decode(bytes + COPY_OFFSET, slot_out, err);
}

/* The newer of the two. */
static kith_status slots_decode(const uint8_t bytes[FILE_BYTES], term_slot *slot_out, kith_err *err) {
    term_slot slots[2];
    kith_status status = slot_decode(bytes, &slots[0], err);
    if (status == KITH_OK) status = slot_decode(bytes + SLOT_BYTES, &slots[1], err);
    if (status != KITH_OK) return status;
    uint32_t newer = slots[1].number > slots[0].number;
    if (slots[newer].number != slots[!newer].number + 1 || slots[newer].number % 2 != newer)
        return kith_err_set(err, KITH_CORRUPT,
            "its slots have numbers %llu and %llu, which are no neighbours",
            (unsigned long long)slots[0].number, (unsigned long long)slots[1].number);
    *slot_out = slots[newer];
    return KITH_OK;
}

static kith_status file_read(kith_file *file, term_slot *slot_out, kith_err *err) {
    uint8_t bytes[FILE_BYTES + 1]; /* one more, to see a longer file */
    size_t read = 0;
    kith_status status = kith_file_read_at(file, 0, bytes, sizeof bytes, &read, err);
    if (status != KITH_OK) return status;
    if (read != FILE_BYTES) return kith_err_set(err, KITH_CORRUPT, "its length is not %u bytes", FILE_BYTES);
    return slots_decode(bytes, slot_out, err);
}

static kith_status slot_write(kith_file *file, const term_slot *slot, kith_err *err) {
    uint8_t bytes[SLOT_BYTES];
    slot_encode(slot, bytes);
    kith_status status = kith_file_write_at(file, slot->number % 2 * SLOT_BYTES, bytes, sizeof bytes, err);
    return status == KITH_OK ? kith_file_sync(file, err) : status;
}

kith_status kith_raft_term_open(kith_env *env, const char *dir, kith_raft_term *term_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/term.kith", dir);
    kith_file *file = NULL;
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    kith_file_close(file);
    status = kith_file_open(env, path, KITH_FILE_WRITE, &file, err);
    if (status != KITH_OK) return status;
    term_slot slot = {0};
    status = file_read(file, &slot, err);
    /* Written once more: after a failed sync a new process reads from the cache what the disk may not have, and a sync
     * alone would not put it there. */
    if (status == KITH_OK) status = slot_write(file, &slot, err);
    if (status == KITH_OK) status = kith_dir_sync(env, dir, err);
    if (status != KITH_OK) goto err_close;
    *term_out = (kith_raft_term){
        .term = slot.term, .vote = slot.vote, .flags = slot.flags, .number = slot.number, .file = file};
    return KITH_OK;
err_close:
    kith_file_close(file);
    return kith_err_wrap(err, status, "Raft's term and vote, %s", path);
}

kith_status kith_raft_term_create(kith_env *env, const char *dir, kith_err *err) {
    uint8_t bytes[FILE_BYTES];
    slot_encode(&(term_slot){.number = 2}, bytes);
    slot_encode(&(term_slot){.number = 1}, bytes + SLOT_BYTES);
    return kith_file_replace(env, dir, "term.kith", &(kith_file_part){bytes, sizeof bytes}, 1, err);
}

kith_status kith_raft_term_write(
    kith_raft_term *term, uint64_t value, uint64_t vote, uint64_t flags, kith_err *err) {
    if (term->failed)
        return kith_err_set(err, KITH_IO, "term and vote could not be written before: restart this node");
    term_slot slot = {.number = term->number + 1, .term = value, .vote = vote, .flags = flags};
    kith_status status = slot_write(term->file, &slot, err);
    if (status != KITH_OK) {
        term->failed = true;
        return kith_err_wrap(err, status, "write Raft's term and vote");
    }
    term->number = slot.number;
    term->term = value;
    term->vote = vote;
    term->flags = flags;
    return KITH_OK;
}

void kith_raft_term_close(kith_raft_term *term) {
    kith_file_close(term->file);
    *term = (kith_raft_term){0};
}
