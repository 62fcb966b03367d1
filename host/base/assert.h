/* Assert what we promised, return a status for what the world did. kith_assert stays on in release: a crash
 * beats a wrong answer. kith_assert_slow walks structures; it is on in debug builds and in the simulator. One
 * condition an assert, no side effects. */
#ifndef KITH_BASE_ASSERT_H
#define KITH_BASE_ASSERT_H

_Noreturn void kith_assert_failed(const char *condition, const char *file, int line);

#define kith_assert(condition)                                                                               \
    (__builtin_expect(!(condition), 0) ? kith_assert_failed(#condition, __FILE__, __LINE__) : (void)0)

#ifdef KITH_DEBUG
#define kith_assert_slow(condition) kith_assert(condition)
#else
#define kith_assert_slow(condition) ((void)0)
#endif

#endif
