# kith_module(NAME link...): the static library kith_NAME of the .c files of the current folder; `link...` are what
# it may include and link.
function(kith_module name)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    list(FILTER sources EXCLUDE REGEX "_main\\.c$")
    add_library(kith_${name} STATIC ${sources})
    target_compile_options(kith_${name} PRIVATE ${KITH_WARNINGS})
    target_link_libraries(kith_${name} PUBLIC ${ARGN})
endfunction()

# kith_test(SUITE LABEL link...): one cmocka program for each test_*.c of the current folder, run by ctest under the
# label that tests/run.sh selects by.
function(kith_tests label)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/test_*.c)
    foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        add_executable(${name} ${source})
        target_compile_options(${name} PRIVATE ${KITH_WARNINGS})
        target_link_libraries(${name} PRIVATE ${ARGN} kith_test_lib PkgConfig::CMOCKA)
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 600)
    endforeach()
endfunction()

# kith_fuzz(NAME SOURCE link...): a libFuzzer target in the fuzz preset; in every other preset the same target is
# linked with a small driver that replays its corpus (tests/fuzz/corpus/NAME) under ctest.
function(kith_fuzz name source)
    add_executable(${name} ${source})
    target_compile_options(${name} PRIVATE ${KITH_WARNINGS})
    target_link_libraries(${name} PRIVATE ${ARGN})
    if(KITH_FUZZ)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
    else()
        target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_replay.c)
        add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
        set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
    endif()
endfunction()
