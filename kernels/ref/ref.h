/* The reference backend. Private to kernels/; others call kith_compute_ref. */
#ifndef KITH_KERNELS_REF_REF_H
#define KITH_KERNELS_REF_REF_H

#include "kernels/compute.h"

extern const kith_compute_ops kith_ref;

#endif
