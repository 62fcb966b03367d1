/* Echo between two processes, over different carriers, measured alike: a closed loop of requests of one size, so many at
 * once, with one caller and one server. */
#ifndef KITH_BENCH_TRANSPORT_BENCH_TRANSPORT_H
#define KITH_BENCH_TRANSPORT_BENCH_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench_options {
    size_t bytes;       /* of a request, and of its reply */
    uint32_t in_flight; /* at once, over one connection */
    uint64_t measure_ns;
    uint16_t port;           /* of the server */
    const char *credentials; /* folder with node.crt, node.key, ca.crt; NULL: none */
    bool busy_poll;
} bench_options;

/* Times of requests of a run; one caller's thread. */
typedef struct bench_samples {
    uint32_t *ns;
    uint64_t count, capacity;
    uint64_t began_ns, until_ns; /* what ends between them counts */
    uint64_t ended_count;        /* with those while warming up */
} bench_samples;

uint64_t bench_now_ns(void);
/* Notes a request that began then and ended now; whether to start another. */
bool bench_note(bench_samples *samples, uint64_t began_ns);

/* A server prints its port, serves until its standard input ends. */
typedef struct bench_carrier {
    const char *name;
    void (*serve)(const bench_options *options);
    void (*measure)(const bench_options *options, bench_samples *samples);
} bench_carrier;

extern const bench_carrier bench_tcp;
extern const bench_carrier bench_ucx;
extern const bench_carrier bench_grpc;

/* A CA, and a certificate for any node, in options->credentials. */
void bench_certificates_make(const bench_options *options);

/* For servers: says the port, and waits for the end of standard input. */
void bench_say_port(unsigned port);
void bench_wait_for_end(void);
_Noreturn void bench_fail(const char *what, const char *why);

#endif
