/* Runs a launch: block after block, the threads of a block as coroutines. A thread runs until it waits (barrier, warp
 * operation) or ends; who runs next is drawn from those that can. A wait is over when everybody it is for has come;
 * when nobody can run and a wait is not over, the barrier diverged. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <vector>

#include "tests/cuda_emu/cuda_emu_internal.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

cuda_emu_place *cuda_emu_here;
extern "C" char __executable_start, end;

namespace {

enum state : uint8_t { RUNNABLE, AT_BARRIER, AT_WARP, AT_PRODUCTS, ENDED };

#ifdef __x86_64__
typedef void *context;
#else
typedef ucontext_t context;
#endif

/* What a thread asked a product of its warpgroup to do. */
struct product {
    int32_t *d;
    const uint32_t *a;
    uint64_t descriptor;
};

struct emu_thread {
    context saved;
    cuda_emu_place place;
    state now;
    const char *file; /* where it waits */
    int line;
    uint32_t mask; /* of the warp operation */
    void *payload;
    cuda_emu_combine combine;
    uint32_t epoch, warp_epoch, objects;
    std::vector<product> products; /* that nobody waited for */
    size_t committed;              /* of them */
    bool product_fence;            /* since the last commit or wait */
    uint64_t fenced_at;
};

struct shared_object {
    size_t offset, bytes;
};

const cuda_emu_kernel *kernel;
emu_thread threads[EMU_THREADS_MAX], *current;
context scheduler;
char *stacks;
uint32_t thread_count, launch_number, block_number;
uint32_t warp_epochs[EMU_THREADS_MAX / 32];
unsigned char *shared_base;
size_t shared_used, shared_asked; /* with red zones, and without */
std::vector<shared_object> shared_objects;
std::vector<uint32_t> ready; /* threads that can run */
bool aborted;
uint64_t random_state;

uint32_t index_of(const emu_thread *thread) {
    return (uint32_t)(thread - threads);
}

char *stack_of(const emu_thread *thread) {
    return stacks + (size_t)index_of(thread) * EMU_STACK_BYTES;
}

/* --- switching --- */

void thread_main() {
    kernel->run(kernel->closure);
    if (!current->products.empty()) {
        emu_report("%s: a thread ends while its products run", kernel->name);
        emu_kernel_abort();
    }
    current->now = ENDED;
    for (;;)
        emu_kernel_abort(); /* back to the scheduler; it does not come again */
}

#ifdef __x86_64__
/* Saves what the ABI keeps, changes stacks. */
__asm__(".text\n.type cuda_emu_switch, @function\ncuda_emu_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size cuda_emu_switch, . - cuda_emu_switch\n");
extern "C" void cuda_emu_switch(void **save, void *load);

void context_make(emu_thread *thread) {
    void **top = (void **)(stack_of(thread) + EMU_STACK_BYTES) -
                 1; /* entered as by a call: 16-byte aligned, minus 8 */
    *top = NULL;
    *--top = (void *)thread_main;
    thread->saved = top - 6;
}

void switch_to(emu_thread *thread) {
    cuda_emu_switch(&scheduler, thread->saved);
}

void switch_back(emu_thread *thread) {
    cuda_emu_switch(&thread->saved, scheduler);
}
#else
void context_make(emu_thread *thread) {
    getcontext(&thread->saved);
    thread->saved.uc_stack.ss_sp = stack_of(thread);
    thread->saved.uc_stack.ss_size = EMU_STACK_BYTES;
    makecontext(&thread->saved, thread_main, 0);
}

void switch_to(emu_thread *thread) {
    swapcontext(&scheduler, &thread->saved);
}

void switch_back(emu_thread *thread) {
    swapcontext(&thread->saved, &scheduler);
}
#endif

/* --- the asynchronous product of a warpgroup --- */

enum { GROUP_THREADS = 128, PRODUCT_COLUMNS = 128, PRODUCT_K = 32 };

int byte_at(uint32_t word, uint32_t index) {
    return (int8_t)(word >> 8 * index);
}

/* `current` made a mistake with products. */
void product_fault(const char *what) {
    char place[160];
    emu_place_text(place, sizeof place);
    emu_report("%s: %s", place, what);
    emu_kernel_abort();
}

/* b[column][k] as the descriptor says: start address, distance of core matrices along k and along columns, each in 16
 * bytes and 14 bits; no swizzle. */
void product_b_read(uint64_t descriptor, int8_t b[PRODUCT_COLUMNS][PRODUCT_K]) {
    uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4,
             leading = (uint32_t)(descriptor >> 16 & 0x3fff) << 4,
             stride = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 46) product_fault("a descriptor with a swizzle or a base offset");
    for (uint32_t column = 0; column < PRODUCT_COLUMNS; column++) {
        for (uint32_t k = 0; k < PRODUCT_K; k += 16) {
            const unsigned char *at =
                shared_base + start + k / 16 * leading + column / 8 * stride + column % 8 * 16;
            emu_access(at, 16, false, false);
            if (!emu_shared_fenced(at, 16))
                product_fault("a product reads shared memory that no fence made visible to it");
            memcpy(&b[column][k], at, 16);
        }
    }
}

/* The part of one warp: 16 rows. Fragments as for mma.sync: lane = 4 * group + member. */
void product_warp(emu_thread *lanes, size_t index, const int8_t b[PRODUCT_COLUMNS][PRODUCT_K]) {
    int8_t a[16][PRODUCT_K];
    for (uint32_t lane = 0; lane < 32; lane++) {
        for (uint32_t r = 0; r < 4; r++) {
            for (uint32_t i = 0; i < 4; i++)
                a[lane / 4 + 8 * (r & 1)][16 * (r >> 1) + 4 * (lane % 4) + i] =
                    (int8_t)byte_at(lanes[lane].products[index].a[r], i);
        }
    }
    for (uint32_t lane = 0; lane < 32; lane++) {
        const product &p = lanes[lane].products[index];
        for (uint32_t r = 0; r < PRODUCT_COLUMNS / 2; r++) {
            uint32_t row = lane / 4 + 8 * (r >> 1 & 1), column = r / 4 * 8 + 2 * (lane % 4) + (r & 1);
            int32_t sum = p.d[r];
            for (uint32_t k = 0; k < PRODUCT_K; k++)
                sum += a[row][k] * b[column][k];
            p.d[r] = sum;
        }
    }
}

/* Everything that the warpgroup has committed. */
void products_run(emu_thread *group) {
    size_t count = group[0].committed;
    static int8_t b[PRODUCT_COLUMNS][PRODUCT_K];
    for (uint32_t i = 1; i < GROUP_THREADS; i++) {
        bool same = group[i].committed == count;
        for (size_t at = 0; same && at < count; at++)
            same = group[i].products[at].descriptor == group[0].products[at].descriptor;
        if (!same) product_fault("the threads of its warpgroup do not ask for the same products");
    }
    for (size_t at = 0; at < count; at++) {
        product_b_read(group[0].products[at].descriptor, b);
        for (uint32_t warp = 0; warp < GROUP_THREADS / 32; warp++)
            product_warp(group + 32 * warp, at, b);
    }
    for (uint32_t i = 0; i < GROUP_THREADS; i++) {
        group[i].products.erase(group[i].products.begin(), group[i].products.begin() + (ptrdiff_t)count);
        group[i].committed = 0;
        group[i].product_fence = false;
    }
}

/* --- waits --- */

uint32_t warp_threads_mask(uint32_t warp) {
    uint32_t left = thread_count - warp * 32;
    return left >= 32 ? 0xffffffffu : (1u << left) - 1;
}

void make_ready(emu_thread *thread) {
    thread->now = RUNNABLE;
    ready.push_back(index_of(thread));
}

void wait(state how, const char *file, int line) {
    emu_thread *self = current;
    self->now = how;
    self->file = file;
    self->line = line;
    switch_back(self);
}

/* Lets the warp's lanes go on if all that `thread` waits for have come to the same place. */
void warp_release(emu_thread *thread) {
    uint32_t warp = index_of(thread) / 32, mask = thread->mask & warp_threads_mask(warp);
    emu_thread *lanes = threads + warp * 32;
    void *payloads[32] = {};
    for (uint32_t lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (lanes[lane].now != AT_WARP || lanes[lane].line != thread->line ||
            lanes[lane].file != thread->file || lanes[lane].mask != thread->mask) {
            return;
        }
        payloads[lane] = lanes[lane].payload;
    }
    thread->combine(payloads, mask);
    warp_epochs[warp]++;
    for (uint32_t lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        make_ready(&lanes[lane]);
        lanes[lane].warp_epoch = warp_epochs[warp];
    }
}

/* Waits for the rest of the warpgroup at the same place; who comes last runs the products, and is the one that a fault is
 * told of. */
void products_wait(const char *file, int line) {
    emu_thread *self = current, *group = threads + index_of(self) / GROUP_THREADS * GROUP_THREADS;
    for (uint32_t i = 0; i < GROUP_THREADS; i++) {
        const emu_thread *other = &group[i];
        if (other == self || (other->now == AT_PRODUCTS && other->line == line && other->file == file))
            continue;
        wait(AT_PRODUCTS, file, line);
        return;
    }
    products_run(group);
    for (uint32_t i = 0; i < GROUP_THREADS; i++) {
        if (&group[i] != self) make_ready(&group[i]);
    }
}

/* True when all threads have come to the same barrier and go on. */
bool barrier_release() {
    for (uint32_t i = 0; i < thread_count; i++) {
        if (threads[i].now != AT_BARRIER || threads[i].line != threads[0].line ||
            threads[i].file != threads[0].file)
            return false;
    }
    for (uint32_t i = 0; i < thread_count; i++) {
        make_ready(&threads[i]);
        threads[i].epoch++;
    }
    return true;
}

/* Nobody can run: says of one that waits what another, that it waits for, does instead. */
void divergence_report() {
    emu_thread *waiting = NULL;
    for (uint32_t i = 0; i < thread_count && !waiting; i++) {
        if (threads[i].now != ENDED) waiting = &threads[i];
    }
    emu_thread *other = NULL;
    for (uint32_t i = 0; i < thread_count; i++) {
        bool same = threads[i].now == waiting->now && threads[i].line == waiting->line;
        bool expected =
            waiting->now == AT_BARRIER ||
            (waiting->now == AT_PRODUCTS && i / GROUP_THREADS == index_of(waiting) / GROUP_THREADS) ||
            (waiting->now == AT_WARP && i / 32 == index_of(waiting) / 32 && waiting->mask >> i % 32 & 1);
        if (expected && !same) other = &threads[i];
    }
    current = waiting;
    char place[160];
    emu_place_text(place, sizeof place);
    emu_report("%s: waits at a %s in line %d, where thread %u does not come: it %s", place,
        waiting->now == AT_BARRIER    ? "barrier"
        : waiting->now == AT_PRODUCTS ? "wait for products"
                                      : "warp operation",
        waiting->line, other ? index_of(other) : 0,
        !other                     ? "has another mask"
        : other->now == ENDED      ? "has ended"
        : other->now == AT_BARRIER ? "waits at another barrier"
                                   : "waits at another warp operation");
}

/* --- blocks --- */

void block_begin(dim3 block) {
    ready.clear();
    shared_objects.clear();
    shared_used = (kernel->shared_bytes + 255) / 256 * 256;
    shared_asked = kernel->shared_bytes;
    shared_base = emu_shared_begin(kernel->shared_bytes);
    memset(warp_epochs, 0, sizeof warp_epochs);
    for (uint32_t i = 0; i < thread_count; i++) {
        emu_thread *thread = &threads[i];
        dim3 size = kernel->block;
        make_ready(thread);
        thread->epoch = thread->warp_epoch = thread->objects = 0;
        thread->products.clear();
        thread->committed = 0;
        thread->product_fence = false;
        thread->fenced_at = 0;
        thread->place = {
            dim3(i % size.x, i / size.x % size.y, i / size.x / size.y), block, size, kernel->grid};
        context_make(thread);
    }
}

/* One drawn from those that can run; NULL: none. */
emu_thread *thread_draw() {
    if (ready.empty()) return NULL;
    uint32_t &drawn = ready[emu_random((uint32_t)ready.size())];
    emu_thread *thread = &threads[drawn];
    drawn = ready.back();
    ready.pop_back();
    return thread;
}

bool all_ended() {
    for (uint32_t i = 0; i < thread_count; i++) {
        if (threads[i].now != ENDED) return false;
    }
    return true;
}

bool block_run(dim3 block) {
    block_begin(block);
    while (!aborted) {
        emu_thread *next = thread_draw();
        if (next) {
            current = next;
            cuda_emu_here = &next->place;
            switch_to(next);
            if (next->now == AT_WARP && !aborted) warp_release(next);
            continue;
        }
        if (all_ended()) return true;
        if (barrier_release()) continue;
        divergence_report();
        return false;
    }
    return false;
}

} // namespace

/* Of this thread of the host: others may meanwhile run host code of the same files. */
static thread_local bool running;

bool emu_running() {
    return running;
}

emu_who emu_who_now() {
    return {launch_number, block_number, index_of(current), current->epoch, current->warp_epoch};
}

void emu_place_text(char *text, size_t bytes) {
    const dim3 &block = current->place.block, &thread = current->place.thread;
    snprintf(text, bytes, "%.80s block (%u,%u,%u) thread (%u,%u,%u)", kernel->name, block.x, block.y, block.z,
        thread.x, thread.y, thread.z);
}

bool emu_address_private(const void *at, size_t bytes, bool write) {
    const char *address = (const char *)at;
    const char *stack = stack_of(current);
    if (address >= stack && address + bytes <= stack + EMU_STACK_BYTES) return true;
    if (write) return false;
    const char *closure = (const char *)kernel->closure;
    if (address >= closure && address + bytes <= closure + kernel->closure_bytes) return true;
    const char *code = &__executable_start; /* constants, and the emulator's own variables */
    return address >= code && address + bytes <= &end;
}

void emu_kernel_abort() {
    if (current->now != ENDED) aborted = true;
    switch_back(current);
    abort(); /* never scheduled again */
}

bool emu_kernel_run(const cuda_emu_kernel &launched) {
    if (!stacks) {
        stacks = (char *)mmap(NULL, (size_t)EMU_THREADS_MAX * EMU_STACK_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) abort();
    }
    kernel = &launched;
    launch_number++;
    thread_count = launched.block.x * launched.block.y * launched.block.z;
    aborted = false;
    running = true;
    bool good = true;
    block_number = 0;
    for (uint32_t z = 0; good && z < launched.grid.z; z++) {
        for (uint32_t y = 0; good && y < launched.grid.y; y++) {
            for (uint32_t x = 0; good && x < launched.grid.x; x++, block_number++)
                good = block_run(dim3(x, y, z));
        }
    }
    running = false;
    return good;
}

uint32_t emu_random(uint32_t below) {
    random_state ^= random_state << 13; /* xorshift64 (Marsaglia 2003) */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(((random_state >> 32) * below) >> 32);
}

void emu_random_seed(uint64_t seed) {
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    if (random_state == 0) random_state = 1;
}

/* --- what kernels call --- */

void *cuda_emu_shared_dynamic(void) {
    return shared_base;
}

void *cuda_emu_shared_object(size_t bytes) {
    uint32_t number = current->objects++;
    if (number == shared_objects.size()) {
        shared_asked += bytes;
        if (shared_asked > kernel->shared_most || shared_used + bytes > EMU_SHARED_SPACE) {
            emu_report("%s: %zu bytes of shared memory, its launch may have %zu", kernel->name, shared_asked,
                kernel->shared_most);
            emu_kernel_abort();
        }
        shared_objects.push_back({shared_used, bytes});
        emu_shared_more(shared_used, bytes);
        shared_used = (shared_used + bytes + 64 + 15) / 16 * 16; /* a red zone */
    }
    if (shared_objects[number].bytes != bytes) {
        emu_report("%s: threads name shared objects in different orders", kernel->name);
        emu_kernel_abort();
    }
    return shared_base + shared_objects[number].offset;
}

void cuda_emu_barrier(const char *file, int line) {
    wait(AT_BARRIER, file, line);
}

void cuda_emu_warp(uint32_t mask, void *payload, cuda_emu_combine combine, const char *file, int line) {
    if (!(mask >> index_of(current) % 32 & 1)) {
        char place[160];
        emu_place_text(place, sizeof place);
        emu_report("%s: is not in the mask %08x of its warp operation in line %d", place, mask, line);
        emu_kernel_abort();
    }
    current->mask = mask;
    current->payload = payload;
    current->combine = combine;
    wait(AT_WARP, file, line);
}

uint32_t cuda_emu_lane(void) {
    return index_of(current) % 32;
}

void cuda_emu_vote_combine(void *const payloads[32], uint32_t mask) {
    uint32_t ballot = 0;
    for (uint32_t lane = 0; lane < 32; lane++) {
        if (mask >> lane & 1 && ((cuda_emu_vote *)payloads[lane])->predicate) ballot |= 1u << lane;
    }
    for (uint32_t lane = 0; lane < 32; lane++) {
        if (mask >> lane & 1) ((cuda_emu_vote *)payloads[lane])->ballot = ballot;
    }
}

/* A lane that reads one outside the mask gets a pattern: what it gets on a device is undefined. */
void cuda_emu_exchange_combine(void *const payloads[32], uint32_t mask) {
    for (uint32_t lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        cuda_emu_exchange *exchange = (cuda_emu_exchange *)payloads[lane];
        bool there = mask >> exchange->source % 32 & 1;
        exchange->result =
            there ? ((cuda_emu_exchange *)payloads[exchange->source % 32])->value : 0xa5a5a5a5a5a5a5a5u;
    }
}

/* --- the matrix product of a warp --- */

namespace {

struct mma_payload {
    int32_t *c;
    uint32_t a[4], b[2];
    uint32_t k;
};

/* Fragments of m16n8k32 (PTX ISA, "Matrix Fragments for mma.m16n8k32"): lane = 4 * group + member. A: register r holds
 * row group + 8 (r & 1), columns 16 (r >> 1) + 4 member...; B: register r column group, rows 16 r + 4 member...; C:
 * register r row group + 8 (r >> 1), column 2 member + (r & 1). For k 16: the first half of A and of B. */
void mma_combine(void *const payloads[32], uint32_t mask) {
    (void)mask;
    int8_t a[16][32] = {}, b[32][8] = {};
    uint32_t k = ((mma_payload *)payloads[0])->k;
    for (uint32_t lane = 0; lane < 32; lane++) {
        mma_payload *p = (mma_payload *)payloads[lane];
        uint32_t group = lane / 4, member = lane % 4;
        for (uint32_t r = 0; r < k / 8; r++) {
            for (uint32_t i = 0; i < 4; i++)
                a[group + 8 * (r & 1)][16 * (r >> 1) + 4 * member + i] = (int8_t)byte_at(p->a[r], i);
        }
        for (uint32_t r = 0; r < k / 16; r++) {
            for (uint32_t i = 0; i < 4; i++)
                b[16 * r + 4 * member + i][group] = (int8_t)byte_at(p->b[r], i);
        }
    }
    for (uint32_t lane = 0; lane < 32; lane++) {
        mma_payload *p = (mma_payload *)payloads[lane];
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t row = lane / 4 + 8 * (r >> 1), column = 2 * (lane % 4) + (r & 1);
            for (uint32_t i = 0; i < k; i++)
                p->c[r] += a[row][i] * b[i][column];
        }
    }
}

} // namespace

void cuda_emu_mma(
    int32_t c[4], const uint32_t *a, const uint32_t *b, uint32_t k, const char *file, int line) {
    mma_payload payload = {c, {}, {}, k};
    memcpy(payload.a, a, k / 8 * sizeof *a);
    memcpy(payload.b, b, k / 16 * sizeof *b);
    cuda_emu_warp(0xffffffffu, &payload, mma_combine, file, line);
}

/* --- what kernels call for products --- */

uint64_t emu_fenced_at(uint32_t thread) {
    return threads[thread].fenced_at;
}

uint32_t cuda_emu_shared_address(const void *at) {
    return (uint32_t)((const unsigned char *)at - shared_base);
}

void cuda_emu_async_fence(void) {
    current->fenced_at = emu_store_count();
}

void cuda_emu_wgmma_fence(void) {
    current->product_fence = true;
}

void cuda_emu_wgmma(int32_t d[64], const uint32_t a[4], uint64_t descriptor) {
    if (!current->product_fence) product_fault("a product without a fence since the last group");
    current->products.push_back({d, a, descriptor});
}

void cuda_emu_wgmma_commit(void) {
    current->committed = current->products.size();
    current->product_fence = false;
}

void cuda_emu_wgmma_wait(const char *file, int line) {
    products_wait(file, line);
}
