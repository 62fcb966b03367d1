/* Kinds of messages between nodes. Numbers travel: never reuse one. Bodies are messages of proto/kith/internal/v1. */
#ifndef KITH_TRANSPORT_AM_KINDS_H
#define KITH_TRANSPORT_AM_KINDS_H

typedef enum kith_am_kind {
    KITH_AM_SEARCH = 1, /* ShardSearchRequest */
    KITH_AM_WRITE = 2,  /* ShardWriteRequest */
    KITH_AM_READ = 3,   /* ShardReadRequest: get and scroll */
    KITH_AM_COUNT = 4,  /* ShardCountRequest: live points and statistics */
    KITH_AM_KIND_COUNT = 5,
} kith_am_kind;

#endif
