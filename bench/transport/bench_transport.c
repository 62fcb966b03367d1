/* bench_transport CARRIER --bytes N --in-flight M --seconds S [--credentials DIR] [--busy-poll]
 *
 * Starts itself as a server (--serve), calls it, and prints one line of JSON. CARRIER: tcp, ucx, grpc; or certificates, which
 * makes those of --credentials DIR. */
#include "bench/transport/bench_transport.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/base/alloc.h"

#define NS_PER_S     1000000000ULL
#define WARM_NS      (NS_PER_S / 5)
#define ARGUMENT_MAX 16

static const bench_carrier *const carriers[] = {&bench_tcp, &bench_ucx, &bench_grpc};

void bench_fail(const char *what, const char *why) {
    fprintf(stderr, "bench_transport: %s: %s\n", what, why);
    exit(1);
}

uint64_t bench_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void bench_say_port(unsigned port) {
    printf("%u\n", port);
    fflush(stdout);
}

void bench_wait_for_end(void) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

bool bench_note(bench_samples *samples, uint64_t began_ns) {
    uint64_t now_ns = bench_now_ns();
    samples->ended_count++;
    if (now_ns >= samples->until_ns) return false;
    if (now_ns < samples->began_ns) return true; /* warming up */
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 1 << 16;
        samples->ns = kith_realloc(samples->ns, samples->capacity * sizeof *samples->ns);
    }
    uint64_t took_ns = now_ns - began_ns;
    samples->ns[samples->count++] = took_ns < UINT32_MAX ? (uint32_t)took_ns : UINT32_MAX;
    return true;
}

/* --- the server's process --- */

typedef struct server {
    pid_t pid;
    int input;
    uint16_t port;
} server;

static uint16_t read_port(int descriptor) {
    char text[16] = {0};
    for (size_t count = 0; count < sizeof text - 1 && !strchr(text, '\n'); count++)
        if (read(descriptor, text + count, 1) != 1) bench_fail("server", "it did not start");
    return (uint16_t)strtoul(text, NULL, 10);
}

static server server_start(char **arguments, int count) {
    int input[2], output[2];
    static char serve[] = "--serve";
    char *own[ARGUMENT_MAX];
    if (count + 2 > ARGUMENT_MAX || pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0)
        bench_fail("server", "no pipes");
    memcpy(own, arguments, (size_t)count * sizeof *own);
    own[count] = serve;
    own[count + 1] = NULL;
    server started = {.pid = fork(), .input = input[1]};
    if (started.pid == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        execv("/proc/self/exe", own);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    started.port = read_port(output[0]);
    close(output[0]);
    return started;
}

static void server_end(const server *started) {
    close(started->input);
    waitpid(started->pid, NULL, 0);
}

/* --- figures --- */

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* Of both processes, for one message there and back: what other work on the machine disturbs least. */
static double cpu_us(const bench_samples *samples) {
    struct rusage caller, served;
    getrusage(RUSAGE_SELF, &caller);
    getrusage(RUSAGE_CHILDREN, &served);
    double seconds = seconds_of(caller.ru_utime) + seconds_of(caller.ru_stime) + seconds_of(served.ru_utime) +
                     seconds_of(served.ru_stime);
    return seconds * 1e6 / (double)samples->ended_count;
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_us(const bench_samples *samples, double quantile) {
    uint64_t at = (uint64_t)(quantile * (double)(samples->count - 1));
    return samples->ns[at] / 1e3;
}

static void print_json(const bench_carrier *carrier, const bench_options *options, bench_samples *samples) {
    if (samples->count == 0) bench_fail(carrier->name, "no request ended in time");
    qsort(samples->ns, samples->count, sizeof *samples->ns, compare_u32);
    printf("{\"carrier\": \"%s\", \"mac\": %s, \"busy_poll\": %s, \"bytes\": %zu, \"in_flight\": %u, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"messages_per_s\": %.0f, \"cpu_us\": %.1f}\n",
        carrier->name, options->credentials ? "true" : "false", options->busy_poll ? "true" : "false",
        options->bytes, options->in_flight, quantile_us(samples, 0.5), quantile_us(samples, 0.99),
        (double)samples->count * 1e9 / (double)options->measure_ns, cpu_us(samples));
}

static const bench_carrier *carrier_of(const char *name) {
    for (size_t i = 0; i < sizeof carriers / sizeof *carriers; i++)
        if (strcmp(carriers[i]->name, name) == 0) return carriers[i];
    bench_fail(name, "is not tcp, ucx or grpc");
}

int main(int count, char **arguments) {
    bench_options options = {.bytes = 1024, .in_flight = 1, .measure_ns = NS_PER_S};
    bool serves = false;
    if (count < 2)
        bench_fail("usage", "bench_transport tcp|ucx|grpc [--bytes N] [--in-flight M] [--seconds S]");
    for (int i = 2; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : "";
        bool is_flag = strcmp(name, "--serve") == 0 || strcmp(name, "--busy-poll") == 0;
        if (strcmp(name, "--serve") == 0) serves = true;
        if (strcmp(name, "--busy-poll") == 0) options.busy_poll = true;
        if (strcmp(name, "--bytes") == 0) options.bytes = strtoul(value, NULL, 10);
        if (strcmp(name, "--in-flight") == 0) options.in_flight = (uint32_t)strtoul(value, NULL, 10);
        if (strcmp(name, "--seconds") == 0) options.measure_ns = (uint64_t)(atof(value) * 1e9);
        if (strcmp(name, "--credentials") == 0) options.credentials = value;
        i += !is_flag;
    }
    if (strcmp(arguments[1], "certificates") == 0) {
        bench_certificates_make(&options);
        return 0;
    }
    const bench_carrier *carrier = carrier_of(arguments[1]);
    signal(SIGPIPE, SIG_IGN);
    if (serves) {
        carrier->serve(&options);
        return 0;
    }
    server started = server_start(arguments, count);
    bench_samples samples = {.began_ns = bench_now_ns() + WARM_NS};
    samples.until_ns = samples.began_ns + options.measure_ns;
    options.port = started.port;
    carrier->measure(&options, &samples);
    server_end(&started);
    print_json(carrier, &options, &samples);
    kith_free(samples.ns);
    return 0;
}
