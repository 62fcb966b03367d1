/* Frames by hand (RFC 9113), headers as literals that enter no table (RFC 7541, 6.2.2). */
#include "tests/unit/grpc/grpc_raw.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "host/base/buf.h"
#include "tests/lib/test_lib.h"

#define PREFACE          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define FRAME_BYTES      9u
#define FRAME_DATA       0u
#define FRAME_HEADERS    1u
#define FRAME_RST_STREAM 3u
#define FRAME_SETTINGS   4u
#define FLAG_END_STREAM  1u
#define FLAG_END_HEADERS 4u
#define WAIT_S           20

static void append_big_endian(kith_buf *out, uint32_t value, uint32_t byte_count) {
    for (uint32_t i = byte_count; i > 0; i--)
        kith_buf_u8(out, (uint8_t)(value >> (8 * (i - 1))));
}

static void append_frame(
    kith_buf *out, uint8_t type, uint8_t flags, uint32_t stream, const kith_buf *content) {
    append_big_endian(out, (uint32_t)content->bytes, 3);
    kith_buf_u8(out, type);
    kith_buf_u8(out, flags);
    append_big_endian(out, stream, 4);
    kith_buf_append(out, content->data, content->bytes);
}

static void append_text(kith_buf *out, const char *text) {
    assert_true(strlen(text) < 127);
    kith_buf_u8(out, (uint8_t)strlen(text));
    kith_buf_append_text(out, text);
}

static void append_header(kith_buf *out, const char *name, const char *value) {
    kith_buf_u8(out, 0);
    append_text(out, name);
    append_text(out, value);
}

static void send_take(grpc_raw *raw, kith_buf *out) {
    for (size_t sent = 0; sent < out->bytes;) {
        ssize_t bytes = send(raw->fd, out->data + sent, out->bytes - sent, MSG_NOSIGNAL);
        assert_true(bytes > 0);
        sent += (size_t)bytes;
    }
    kith_buf_fini(out);
}

void grpc_raw_open(grpc_raw *raw, uint32_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {.tv_sec = WAIT_S};
    kith_buf out, settings;
    *raw = (grpc_raw){.fd = socket(AF_INET, SOCK_STREAM, 0), .next_stream = 1};
    assert_int_equal(connect(raw->fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(raw->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    kith_buf_init(&out);
    kith_buf_init(&settings);
    append_big_endian(&settings, 4, 2); /* SETTINGS_INITIAL_WINDOW_SIZE */
    append_big_endian(&settings, 0, 4);
    kith_buf_append_text(&out, PREFACE);
    append_frame(&out, FRAME_SETTINGS, 0, 0, &settings);
    kith_buf_fini(&settings);
    send_take(raw, &out);
}

void grpc_raw_close(grpc_raw *raw) {
    close(raw->fd);
}

void grpc_raw_call(grpc_raw *raw, const char *method, const void *message, size_t bytes, bool is_last) {
    kith_buf out, content;
    uint32_t stream = raw->next_stream;
    raw->next_stream += 2;
    kith_buf_init(&out);
    kith_buf_init(&content);
    append_header(&content, ":method", "POST");
    append_header(&content, ":scheme", "http");
    append_header(&content, ":path", method);
    append_header(&content, ":authority", "x");
    append_header(&content, "te", "trailers");
    append_header(&content, "content-type", "application/grpc");
    append_frame(&out, FRAME_HEADERS, FLAG_END_HEADERS, stream, &content);
    kith_buf_clear(&content);
    kith_buf_u8(&content, 0); /* not compressed */
    append_big_endian(&content, (uint32_t)bytes, 4);
    kith_buf_append(&content, message, bytes);
    append_frame(&out, FRAME_DATA, is_last ? FLAG_END_STREAM : 0, stream, &content);
    kith_buf_fini(&content);
    send_take(raw, &out);
}

static void read_exactly(grpc_raw *raw, uint8_t *data, size_t bytes) {
    for (size_t got = 0; got < bytes;) {
        ssize_t more = read(raw->fd, data + got, bytes - got);
        if (more <= 0) fail_msg("the server closed the connection, or was silent for %d s", WAIT_S);
        got += (size_t)more;
    }
}

void grpc_raw_wait_resets(grpc_raw *raw, uint32_t count) {
    static uint8_t content[1u << 24];
    for (uint32_t resets = 0; resets < count;) {
        uint8_t head[FRAME_BYTES];
        read_exactly(raw, head, sizeof head);
        read_exactly(raw, content, (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2]);
        resets += head[3] == FRAME_RST_STREAM;
    }
}
