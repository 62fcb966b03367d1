# Flags that every target shares. No -ffast-math and no FP contraction anywhere: scores are bit-identical on every
# backend (DESIGN: one score function).
add_compile_options($<$<COMPILE_LANGUAGE:C>:-ffp-contract=off> $<$<COMPILE_LANGUAGE:C>:-fno-strict-aliasing>
    $<$<COMPILE_LANGUAGE:C>:-fno-omit-frame-pointer>)
add_compile_definitions(_GNU_SOURCE)
include_directories(${CMAKE_SOURCE_DIR})

set(KITH_WARNINGS -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
    -Wwrite-strings -Wimplicit-fallthrough -Wundef -Wformat=2)
if(KITH_WERROR)
    list(APPEND KITH_WARNINGS -Werror)
endif()

set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g -DKITH_DEBUG=1")
if(KITH_SANITIZE)
    add_compile_options(-fsanitize=${KITH_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${KITH_SANITIZE})
endif()
if(KITH_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
    add_link_options(-fsanitize=address,undefined)
endif()
find_program(KITH_CCACHE ccache)
if(KITH_CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${KITH_CCACHE})
endif()
