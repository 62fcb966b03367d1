/* Sealed segment files: one immutable file of checksummed sections, written once and then mapped. What is in
 * the sections is host/index's to know; this is the container. Format, version 1; all little-endian:
 *
 *   header   64 B: "KITHSEG1", u32 version, zeros, u32 crc32c of the 60 bytes before it
 *   sections each at a multiple of 64, zeros between
 *   table    at a multiple of 64; per section, in file order: u32 kind, u32 field, u64 offset, u64 bytes, u32
 * crc32c of its bytes, u32 0 trailer  32 B at the end: u64 offset of the table, u32 section count, u32 crc32c
 * of the table, u64 length of the file, u32 0, u32 crc32c of the 28 bytes before it
 *
 * Every byte is under a checksum or must be zero, so that any flipped bit is found at open. Sections that
 * this version does not know are checked and ignored.
 *
 * Threads: a writer belongs to one thread; a file is immutable. */
#ifndef KITH_STORE_SEGMENT_FILE_H
#define KITH_STORE_SEGMENT_FILE_H

#include <stdbool.h>

#include "host/base/err.h"
#include "host/env/env.h"

#define KITH_SEGMENT_FILE_VERSION 1u

/* X(name, number, text). Numbers are in files: never reuse one. */
#define KITH_SEGMENT_SECTION_TABLE(X)                                                                        \
    X(SCHEMA, 1, "schema") /* u64 rows, numbers, UUIDs, strings; u32 field count, u32 0; per field */        \
                           /* u32 dim, metric, type, 0 */                                                    \
    X(ID_NUMBERS, 2, "id numbers") /* u64 each, rising */                                                    \
    X(ID_UUIDS, 3, "id uuids")     /* 16 B each, rising */                                                   \
    X(ID_STRING_OFFSETS, 4,                                                                                  \
        "id offsets") /* u32 each and one more: where each string begins in the next section */              \
    X(ID_STRING_BYTES, 5, "id strings") /* rising */                                                         \
    X(SEQUENCES, 6, "sequences")        /* u64 a row */                                                      \
    X(BLOOM, 7, "bloom filter")         /* 64 B blocks */                                                    \
    X(VECTORS, 16, "vectors")        /* [rows][dim] of the stored type; zeros where a row lacks the field */ \
    X(PRESENCE, 17, "presence bits") /* u64 words, bit: has the field; only there when some row lacks it */  \
    X(NORMS, 18, "norms")            /* f32 a row */                                                         \
    X(CODE_BASIS, 19, "code basis")  /* host/index/segment_codes.h; only there with the next */              \
    X(CODES, 20, "codes")            /* blocks of 32 rows (kernels/codes/codes.h) */                         \
    X(CODES_BY_ROW, 21, "codes by row") /* of the same rows, where vectors are long */

typedef enum kith_segment_section_kind {
#define KITH_SEGMENT_SECTION_ENUM(name, number, text) KITH_SEGMENT_##name = (number),
    KITH_SEGMENT_SECTION_TABLE(KITH_SEGMENT_SECTION_ENUM)
#undef KITH_SEGMENT_SECTION_ENUM
} kith_segment_section_kind;

const char *kith_segment_section_name(uint32_t kind);

/* --- writing --- */

typedef struct kith_segment_writer kith_segment_writer;

/* Makes `path`, replacing what is there. */
KITH_CHECK kith_status kith_segment_writer_open(
    kith_env *env, const char *path, kith_segment_writer **writer_out, kith_err *err);
/* begin, append..., end: one section; an empty one may be left out altogether. */
KITH_CHECK kith_status kith_segment_writer_begin(
    kith_segment_writer *writer, kith_segment_section_kind kind, uint32_t field, kith_err *err);
KITH_CHECK kith_status kith_segment_writer_append(
    kith_segment_writer *writer, const void *data, size_t bytes, kith_err *err);
void kith_segment_writer_end(kith_segment_writer *writer);
/* Table, trailer, sync. The file is complete when it returns OK. */
KITH_CHECK kith_status kith_segment_writer_finish(kith_segment_writer *writer, kith_err *err);
void kith_segment_writer_close(kith_segment_writer *writer); /* removes nothing; accepts NULL */

/* --- reading --- */

typedef struct kith_segment_file kith_segment_file;

typedef struct kith_segment_section {
    uint32_t kind;
    uint32_t field;
    uint64_t offset;
    uint64_t bytes;
    const uint8_t *data; /* 64-byte aligned; borrowed from the file */
} kith_segment_section;

/* Reads and verifies all of the file, then maps it. CORRUPT names file, section and offset; also where the disk cannot read it. */
KITH_CHECK kith_status kith_segment_file_open(
    kith_env *env, const char *path, kith_segment_file **file_out, kith_err *err);
void kith_segment_file_close(kith_segment_file *file); /* accepts NULL */
/* The section, or NULL. */
const kith_segment_section *kith_segment_file_find(
    const kith_segment_file *file, kith_segment_section_kind kind, uint32_t field);
uint64_t kith_segment_file_bytes(const kith_segment_file *file);
const char *kith_segment_file_path(const kith_segment_file *file);

#endif
