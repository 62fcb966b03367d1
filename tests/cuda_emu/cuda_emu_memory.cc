/* Device and shared memory with a shadow: for each byte whether it exists and was written, for each four bytes who
 * read and wrote them last. This file is also the runtime of -fsanitize=thread for the kernels: the compiler calls
 * __tsan_readN and __tsan_writeN before each access that may be to memory that others see. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>
#include <string>
#include <vector>

#include "tests/cuda_emu/cuda_emu_internal.h"

namespace {

enum byte_state : uint8_t { NOWHERE, UNWRITTEN, WRITTEN };
const uint32_t GRANULE = 4, REDZONE = 256, WARP = 0x8000, MANY = 0xffff;
const int PATTERN = 0xff;

/* Who touched a granule last. */
struct touch {
    uint32_t launch, block, epoch, warp_epoch;
    uint16_t thread; /* or WARP | its warp: several of it; or MANY */
    uint8_t bytes;   /* mask within the granule */
    uint8_t atomic;
};
struct granule {
    touch write, read;
    uint64_t store; /* number of the last store */
};

/* Device memory, then the shared memory of the running block. */
const size_t arena_bytes = EMU_DEVICE_BYTES + EMU_SHARED_SPACE + REDZONE;
uint8_t *arena, *states;
granule *granules;
size_t limit = EMU_DEVICE_BYTES, used;
size_t shared_now; /* bytes of the running block's */
uint64_t stores, read_bytes;
int opened;
std::map<size_t, size_t> allocations; /* offset -> bytes */
std::vector<std::string> reports;

void *map_pages(size_t bytes, int protection) {
    void *pages = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        fprintf(stderr, "cuda_emu: no address space for %zu bytes\n", bytes);
        abort();
    }
    return pages;
}

void arena_make() {
    if (arena) return;
    arena = (uint8_t *)map_pages(arena_bytes, PROT_NONE);
    states = (uint8_t *)map_pages(arena_bytes, PROT_READ | PROT_WRITE);
    granules = (granule *)map_pages(arena_bytes / GRANULE * sizeof(granule), PROT_READ | PROT_WRITE);
}

const char *kind_of(size_t offset) {
    return offset < EMU_DEVICE_BYTES ? "device" : "shared";
}

/* "KERNEL block (0,0,0) thread 3: write of 4 bytes at device memory +16 of an allocation of 64". */
void fault(size_t offset, size_t bytes, bool write, const char *what) {
    char place[160];
    emu_place_text(place, sizeof place);
    size_t base = EMU_DEVICE_BYTES, size = shared_now;
    if (offset < EMU_DEVICE_BYTES) {
        auto after = allocations.upper_bound(offset);
        if (after != allocations.begin()) --after;
        base = after == allocations.end() ? 0 : after->first;
        size = after == allocations.end() ? 0 : after->second;
    }
    emu_report("%s: %s of %zu bytes at +%zd of %zu %s bytes: %s", place, write ? "write" : "read", bytes,
        (ptrdiff_t)(offset - base), size, kind_of(offset), what);
}

bool ordered(const touch &before, const emu_who &who) {
    if (before.thread == who.thread || before.epoch < who.epoch) return true;
    uint32_t warp = before.thread & WARP ? before.thread & ~WARP : before.thread / 32u;
    return before.thread != MANY && warp == who.thread / 32 && before.warp_epoch < who.warp_epoch;
}

/* Whether an earlier touch and the one now may happen in either order. */
bool races(const touch &before, const emu_who &who, uint8_t bytes, bool atomic, bool shared) {
    if (before.launch != who.launch || !(before.bytes & bytes) || (before.atomic && atomic)) return false;
    if (before.block != who.block) return !shared;
    return !ordered(before, who);
}

/* Remembers the touch; together with those that it is not ordered with: other reads, or other atomics. */
void touch_set(touch &last, const emu_who &who, uint8_t bytes, bool write, bool atomic) {
    bool same = last.launch == who.launch && last.block == who.block && last.epoch == who.epoch;
    bool together =
        same && (last.bytes & bytes) && last.thread != who.thread && (!write || (last.atomic && atomic));
    bool same_warp = (last.thread & WARP ? last.thread & ~WARP : last.thread / 32u) == who.thread / 32;
    uint32_t thread = !together                          ? who.thread
                      : same_warp && last.thread != MANY ? WARP | who.thread / 32
                                                         : MANY;
    last = {who.launch, who.block, who.epoch, who.warp_epoch, (uint16_t)thread,
        (uint8_t)(together ? last.bytes | bytes : bytes), atomic};
}

void granule_access(size_t offset, uint8_t bytes, bool write, bool atomic, const emu_who &who, size_t total) {
    granule &g = granules[offset / GRANULE];
    bool shared = offset >= EMU_DEVICE_BYTES;
    bool race =
        races(g.write, who, bytes, atomic, shared) || (write && races(g.read, who, bytes, atomic, shared));
    if (race) {
        bool by_writer = races(g.write, who, bytes, atomic, shared);
        const touch &other = by_writer ? g.write : g.read;
        char text[160];
        snprintf(text, sizeof text, "race: block %u thread %d %s it, and no barrier lies between",
            other.block, other.thread & WARP ? -1 : other.thread, by_writer ? "wrote" : "read");
        fault(offset, total, write, text);
        emu_kernel_abort();
    }
    touch_set(write ? g.write : g.read, who, bytes, write, atomic);
    if (write) g.store = ++stores;
}

} // namespace

bool emu_shared_fenced(const void *at, size_t bytes) {
    size_t offset = (size_t)((const uint8_t *)at - arena);
    for (size_t i = offset / GRANULE; i * GRANULE < offset + bytes; i++) {
        const granule &g = granules[i];
        if (g.write.thread >= EMU_THREADS_MAX || emu_fenced_at(g.write.thread) < g.store) return false;
    }
    return true;
}

uint64_t cuda_emu_read_bytes(void) {
    return read_bytes;
}

uint64_t emu_store_count() {
    return stores;
}

/* --- findings --- */

void emu_report(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reports.push_back(text);
}

void emu_reports_clear() {
    reports.clear();
}

uint32_t cuda_emu_report_count(void) {
    return (uint32_t)reports.size();
}

const char *cuda_emu_report(uint32_t index) {
    return index < reports.size() ? reports[index].c_str() : "";
}

/* --- allocations --- */

void emu_memory_reset() {
    arena_make();
    /* Fresh pages: opening and closing the device costs time for each that was ever touched. */
    madvise(arena, arena_bytes, MADV_DONTNEED);
    madvise(states, arena_bytes, MADV_DONTNEED);
    allocations.clear();
    used = read_bytes = 0;
    limit = EMU_DEVICE_BYTES;
}

void *emu_memory_alloc(size_t bytes) {
    arena_make();
    if (bytes > limit || used > limit - bytes) return NULL;
    size_t at = 0;
    for (auto &allocation : allocations) { /* first fit, a red zone after each */
        if (allocation.first >= at + bytes + REDZONE) break;
        at = (allocation.first + allocation.second + REDZONE + 255) / 256 * 256;
    }
    if (at + bytes + REDZONE > EMU_DEVICE_BYTES) return NULL;
    allocations[at] = bytes;
    used += bytes;
    memset(states + at, UNWRITTEN, bytes);
    emu_memory_open();
    memset(arena + at, PATTERN, bytes);
    emu_memory_close();
    return arena + at;
}

bool emu_memory_free(void *pointer) {
    auto found = allocations.find((size_t)((uint8_t *)pointer - arena));
    if (found == allocations.end()) return false;
    memset(states + found->first, NOWHERE, found->second);
    used -= found->second;
    allocations.erase(found);
    return true;
}

bool emu_memory_valid(const void *at, size_t bytes) {
    size_t offset = (size_t)((const uint8_t *)at - arena);
    auto after = allocations.upper_bound(offset);
    if (offset >= EMU_DEVICE_BYTES || after == allocations.begin()) return false;
    --after;
    return offset + bytes <= after->first + after->second;
}

size_t emu_memory_unwritten(const void *at, size_t bytes) {
    const uint8_t *found = (const uint8_t *)memchr(states + ((const uint8_t *)at - arena), UNWRITTEN, bytes);
    return found ? (size_t)(found - (states + ((const uint8_t *)at - arena))) : bytes;
}

void emu_memory_written(void *at, size_t bytes) {
    memset(states + ((uint8_t *)at - arena), WRITTEN, bytes);
}

void emu_memory_open() {
    if (opened++ == 0) mprotect(arena, arena_bytes, PROT_READ | PROT_WRITE);
}

void emu_memory_close() {
    if (--opened == 0) mprotect(arena, arena_bytes, PROT_NONE);
}

void emu_memory_limits(size_t *used_out, size_t *limit_out) {
    *used_out = used;
    *limit_out = limit;
}

uint32_t emu_memory_count() {
    return (uint32_t)allocations.size();
}

void cuda_emu_memory_limit(size_t bytes) {
    limit = bytes < (size_t)EMU_DEVICE_BYTES ? bytes : (size_t)EMU_DEVICE_BYTES;
}

unsigned char *emu_shared_begin(size_t bytes) {
    memset(states + EMU_DEVICE_BYTES, NOWHERE, EMU_SHARED_SPACE + REDZONE);
    memset(states + EMU_DEVICE_BYTES, UNWRITTEN, bytes);
    memset(arena + EMU_DEVICE_BYTES, PATTERN, bytes);
    shared_now = bytes;
    return arena + EMU_DEVICE_BYTES;
}

void emu_shared_more(size_t offset, size_t bytes) {
    memset(states + EMU_DEVICE_BYTES + offset, UNWRITTEN, bytes);
    memset(arena + EMU_DEVICE_BYTES + offset, PATTERN, bytes);
    shared_now = offset + bytes;
}

/* --- accesses --- */

void emu_access(const void *at, size_t bytes, bool write, bool atomic) {
    if (!emu_running()) return;
    size_t offset = (size_t)((const uint8_t *)at - arena);
    if (offset >= arena_bytes) {
        if (emu_address_private(at, bytes, write)) return;
        char place[160];
        emu_place_text(place, sizeof place);
        emu_report("%s: %s of %zu bytes at %p: not memory of the device", place, write ? "write" : "read",
            bytes, at);
        emu_kernel_abort();
    }
    if (bytes <= 16 && (bytes & (bytes - 1)) == 0 && offset % bytes != 0) {
        fault(offset, bytes, write, "not aligned");
        emu_kernel_abort();
    }
    for (size_t i = 0; i < bytes; i++) {
        if (states[offset + i] == WRITTEN || (states[offset + i] == UNWRITTEN && write && !atomic)) continue;
        fault(offset, bytes, write, states[offset + i] == NOWHERE ? "out of bounds" : "never written");
        emu_kernel_abort();
    }
    if (write) memset(states + offset, WRITTEN, bytes);
    if (!write && offset < EMU_DEVICE_BYTES) read_bytes += bytes;
    emu_who who = emu_who_now();
    for (size_t begin = offset; begin < offset + bytes;) {
        size_t end = begin / GRANULE * GRANULE + GRANULE;
        if (end > offset + bytes) end = offset + bytes;
        uint8_t mask = (uint8_t)(((1u << (end - begin)) - 1) << begin % GRANULE);
        granule_access(begin, mask, write, atomic, who, bytes);
        begin = end;
    }
}

/* What the compiler calls. */
extern "C" {
void __tsan_init() {
}
void __tsan_func_entry(void *) {
}
void __tsan_func_exit() {
}
void __tsan_vptr_update(void **, void *) {
}
void __tsan_vptr_read(void **) {
}
#define ACCESSES(bytes)                                                                                      \
    void __tsan_read##bytes(void *at) {                                                                      \
        emu_access(at, bytes, false, false);                                                                 \
    }                                                                                                        \
    void __tsan_write##bytes(void *at) {                                                                     \
        emu_access(at, bytes, true, false);                                                                  \
    }                                                                                                        \
    void __tsan_volatile_read##bytes(void *at) {                                                             \
        emu_access(at, bytes, false, false);                                                                 \
    }                                                                                                        \
    void __tsan_volatile_write##bytes(void *at) {                                                            \
        emu_access(at, bytes, true, false);                                                                  \
    }                                                                                                        \
    void __tsan_unaligned_read##bytes(void *at) {                                                            \
        emu_access(at, bytes, false, false);                                                                 \
    }                                                                                                        \
    void __tsan_unaligned_write##bytes(void *at) {                                                           \
        emu_access(at, bytes, true, false);                                                                  \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
/* Atomics of the host's parts of the source. */
long __tsan_atomic64_load(const volatile long *at, int) {
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
long __tsan_atomic64_fetch_add(volatile long *at, long value, int) {
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
long __tsan_atomic64_fetch_sub(volatile long *at, long value, int) {
    return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST);
}
void __tsan_read_range(void *at, unsigned long bytes) {
    emu_access(at, bytes, false, false);
}
void __tsan_write_range(void *at, unsigned long bytes) {
    emu_access(at, bytes, true, false);
}
}

/* --- atomics --- */

#define ATOMIC(name, type, update)                                                                           \
    type name(type *at, type value) {                                                                        \
        emu_access(at, sizeof *at, true, true);                                                              \
        type before = *at;                                                                                   \
        *at = update;                                                                                        \
        return before;                                                                                       \
    }
ATOMIC(atomicAdd, uint32_t, before + value)
ATOMIC(atomicAdd, unsigned long long, before + value)
ATOMIC(atomicOr, uint32_t, before | value)
ATOMIC(atomicMax, uint32_t, before > value ? before : value)
ATOMIC(atomicExch, uint32_t, value)

uint32_t atomicCAS(uint32_t *at, uint32_t expected, uint32_t value) {
    emu_access(at, sizeof *at, true, true);
    uint32_t before = *at;
    if (before == expected) *at = value;
    return before;
}
