#include "tests/lib/test_lib.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/text.h"

#define OPEN_DIRS_MAX 16

/* `otherwise` when the variable is missing or not a number. */
static uint64_t number_from_env(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    uint64_t value;
    if (text && kith_text_parse_u64(text, strlen(text), &value)) return value;
    return otherwise;
}

uint64_t test_seed(uint64_t otherwise) {
    static bool printed; /* tests of one program run one after the other */
    uint64_t seed = number_from_env("KITH_TEST_SEED", otherwise);
    if (!printed) fprintf(stderr, "KITH_TEST_SEED=%llu\n", (unsigned long long)seed);
    printed = true;
    return seed;
}

uint64_t test_scaled(uint64_t count) {
    return count * number_from_env("KITH_TEST_SCALE", 1);
}

char *test_dir_make(void) {
    const char *parent = getenv("TMPDIR");
    if (!parent || !*parent) parent = "/tmp";
    char *path = kith_alloc(strlen(parent) + sizeof "/kith-test-XXXXXX");
    sprintf(path, "%s/kith-test-XXXXXX", parent);
    const char *made = mkdtemp(path);
    kith_assert(made);
    return path;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

void test_dir_remove(char *path) {
    if (!path) return;
    nftw(path, remove_entry, OPEN_DIRS_MAX, FTW_DEPTH | FTW_PHYS);
    kith_free(path);
}

/* The message of the expected end would look like a failure in the test's log. */
static void silence_stderr(void) {
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
}

bool test_dies(void (*run)(void *ctx), void *ctx) {
    pid_t child = fork();
    kith_assert(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        silence_stderr();
        run(ctx);
        _exit(0);
    }
    int result = 0;
    pid_t ended = waitpid(child, &result, 0);
    kith_assert(ended == child);
    return WIFSIGNALED(result) && WTERMSIG(result) == SIGABRT;
}
