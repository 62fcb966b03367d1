/* The emulator's f16: loads only, in software. */
#ifndef KITH_TESTS_CUDA_EMU_CUDA_FP16_H
#define KITH_TESTS_CUDA_EMU_CUDA_FP16_H

#include "kernels/convert.h"

struct __half {
    uint16_t bits;
};

static inline float __half2float(__half half) {
    return kith_convert_f16_load(half.bits);
}

#endif
