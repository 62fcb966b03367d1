/* .incbin rather than `ld -r -b binary`: the section is read-only data, the stack stays non-executable, and it works the
 * same with gcc, clang and the sanitizers. */
#include "proto/proto_descriptors.h"

__asm__(".pushsection .rodata, \"a\"\n"
        ".balign 16\n"
        ".global kith_proto_descriptors\n"
        "kith_proto_descriptors:\n"
        ".incbin \"" KITH_PROTO_DESCRIPTORS_FILE "\"\n"
        ".global kith_proto_descriptors_end\n"
        "kith_proto_descriptors_end:\n"
        ".byte 0\n"
        ".popsection\n");
