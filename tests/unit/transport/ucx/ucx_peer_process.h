/* ucx_peer, the other node of a test, as a process of its own. */
#ifndef KITH_TESTS_UNIT_TRANSPORT_UCX_UCX_PEER_PROCESS_H
#define KITH_TESTS_UNIT_TRANSPORT_UCX_UCX_PEER_PROCESS_H

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/transport/ucx/ucx_fixture.h"

typedef struct peer_fixture {
    conformance_fixture base;
    pid_t pid; /* 0: none */
    int input; /* its standard input: closing it ends it */
    unsigned port;
    char address[32];
} peer_fixture;

/* ucx_peer, beside this very program. */
static inline void peer_path(char *path_out, size_t bytes) {
    ssize_t length = readlink("/proc/self/exe", path_out, bytes - 16);
    assert_true(length > 0);
    path_out[length] = 0;
    snprintf(strrchr(path_out, '/') + 1, 16, "ucx_peer");
}

static inline unsigned read_port(int descriptor) {
    char text[16] = {0};
    size_t count = 0;
    while (count < sizeof text - 1 && !strchr(text, '\n') && read(descriptor, text + count, 1) == 1)
        count++;
    assert_non_null(strchr(text, '\n'));
    return (unsigned)strtoul(text, NULL, 10);
}

static inline void peer_start(peer_fixture *fixture, unsigned port) {
    char path[4096], port_text[16];
    int input[2], output[2];
    peer_path(path, sizeof path);
    snprintf(port_text, sizeof port_text, "%u", port);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    fixture->pid = fork();
    assert_true(fixture->pid >= 0);
    if (fixture->pid == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        execl(path, "ucx_peer", port_text, "2", (char *)NULL);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    fixture->input = input[1];
    fixture->port = read_port(output[0]);
    close(output[0]);
    snprintf(fixture->address, sizeof fixture->address, "127.0.0.1:%u", fixture->port);
    fixture->base.address = fixture->address;
    fixture->base.node = server_node;
}

/* Ends it as an operator would: it says goodbye. */
static inline void peer_leave(peer_fixture *fixture) {
    close(fixture->input);
    waitpid(fixture->pid, NULL, 0);
    fixture->pid = 0;
}

static inline void peer_end(peer_fixture *fixture) {
    if (fixture->pid == 0) return;
    kill(fixture->pid, SIGKILL);
    waitpid(fixture->pid, NULL, 0);
    close(fixture->input);
    fixture->pid = 0;
}

/* Returns when it is stopped: until then its threads may run on. */
static inline void peer_stop(peer_fixture *fixture) {
    int status;
    kill(fixture->pid, SIGSTOP);
    assert_int_equal(waitpid(fixture->pid, &status, WUNTRACED), fixture->pid);
    assert_true(WIFSTOPPED(status));
}

#endif
