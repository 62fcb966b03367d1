/* Plain TCP sockets: the floor. One connection, length-prefixed messages, no framing beyond that. The server reads a whole
 * message and writes it back; the caller keeps its requests in flight with poll. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/transport/bench_transport.h"
#include "host/base/alloc.h"

#define IN_FLIGHT_MAX 1024u

static int socket_make(void) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (descriptor < 0) bench_fail("socket", strerror(errno));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return descriptor;
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static bool read_all(int descriptor, uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t got = recv(descriptor, data, bytes, 0);
        if (got <= 0) return false;
        data += got;
        bytes -= (size_t)got;
    }
    return true;
}

static bool write_all(int descriptor, const uint8_t *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t sent = send(descriptor, data, bytes, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        data += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

static void tcp_serve(const bench_options *options) {
    int listener = socket_make(), on = 1;
    struct sockaddr_in address = loopback(0);
    socklen_t address_bytes = sizeof address;
    uint8_t *message = kith_alloc(options->bytes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_bytes) != 0)
        bench_fail("listen", strerror(errno));
    bench_say_port(ntohs(address.sin_port));
    int peer = accept(listener, NULL, NULL);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while (peer >= 0 && read_all(peer, message, options->bytes) && write_all(peer, message, options->bytes)) {
    }
    kith_free(message);
    close(peer);
    close(listener);
}

typedef struct tcp_caller {
    int descriptor;
    size_t bytes;
    uint8_t *request, *reply;
    size_t sent, received; /* of the current message of each way */
    uint64_t began_ns[IN_FLIGHT_MAX];
    uint64_t started, ended; /* messages */
    uint32_t in_flight;
} tcp_caller;

/* False: the socket takes no more for now, or nothing is to be sent. */
static bool caller_send(tcp_caller *caller) {
    if (caller->started - caller->ended >= caller->in_flight && caller->sent == 0) return false;
    if (caller->sent == 0) caller->began_ns[caller->started++ % IN_FLIGHT_MAX] = bench_now_ns();
    ssize_t sent = send(caller->descriptor, caller->request + caller->sent, caller->bytes - caller->sent,
        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return false;
    caller->sent = (caller->sent + (size_t)sent) % caller->bytes;
    return true;
}

/* False: the run is over. */
static bool caller_receive(tcp_caller *caller, bench_samples *samples, int flags) {
    ssize_t got =
        recv(caller->descriptor, caller->reply + caller->received, caller->bytes - caller->received, flags);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    caller->received += (size_t)got;
    if (caller->received < caller->bytes) return true;
    caller->received = 0;
    return bench_note(samples, caller->began_ns[caller->ended++ % IN_FLIGHT_MAX]);
}

static void tcp_measure(const bench_options *options, bench_samples *samples) {
    tcp_caller caller = {.descriptor = socket_make(),
        .bytes = options->bytes,
        .request = kith_alloc_zero(options->bytes),
        .reply = kith_alloc(options->bytes),
        .in_flight = options->in_flight};
    struct sockaddr_in address = loopback(options->port);
    if (connect(caller.descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        bench_fail("connect", strerror(errno));
    bool goes_on = true;
    while (goes_on) {
        while (caller_send(&caller)) {
        }
        struct pollfd watched = {
            .fd = caller.descriptor, .events = (short)(POLLIN | (caller.sent > 0 ? POLLOUT : 0))};
        bool waits_for_reply_alone = caller.sent == 0;
        if (!waits_for_reply_alone) (void)poll(&watched, 1, -1);
        goes_on = caller_receive(&caller, samples, waits_for_reply_alone ? 0 : MSG_DONTWAIT);
    }
    close(caller.descriptor);
    kith_free(caller.request);
    kith_free(caller.reply);
}

const bench_carrier bench_tcp = {.name = "tcp", .serve = tcp_serve, .measure = tcp_measure};
