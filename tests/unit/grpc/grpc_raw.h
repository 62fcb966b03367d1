/* A client that speaks just enough HTTP/2 to misbehave: it reads nothing unless told to, and grants no window. */
#ifndef KITH_TESTS_UNIT_GRPC_GRPC_RAW_H
#define KITH_TESTS_UNIT_GRPC_GRPC_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct grpc_raw {
    int fd;
    uint32_t next_stream;
} grpc_raw;

/* Connects to the local `port` and lets the server send no byte of any answer. */
void grpc_raw_open(grpc_raw *raw, uint32_t port);
void grpc_raw_close(grpc_raw *raw);
/* Starts a call with one message of less than 16 KiB; `is_last`: the client sends no other. */
void grpc_raw_call(grpc_raw *raw, const char *method, const void *message, size_t bytes, bool is_last);
/* Reads until the server has reset `count` calls; fails when nothing comes for 20 s. */
void grpc_raw_wait_resets(grpc_raw *raw, uint32_t count);

#endif
