/* Sizes of the segment file format (segment_file.h), for its writer and its reader. */
#ifndef KITH_STORE_SEGMENT_FILE_INTERNAL_H
#define KITH_STORE_SEGMENT_FILE_INTERNAL_H

#include "host/base/limits.h"
#include "host/store/segment_file.h"

#define SEGMENT_ALIGNMENT     64u
#define SEGMENT_HEADER_BYTES  64u
#define SEGMENT_ENTRY_BYTES   32u
#define SEGMENT_TRAILER_BYTES 32u
#define SEGMENT_SECTIONS_MAX  256u

_Static_assert(
    SEGMENT_SECTIONS_MAX >= 7 + 5 * KITH_FIELDS_MAX, "every section of the widest schema has a place");

/* "KITHSEG1" */
extern const char segment_file_magic[8];

#endif
