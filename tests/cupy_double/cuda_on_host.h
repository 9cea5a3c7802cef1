// Makes a CUDA kernel compile with g++: tests/cupy_double/raw.py puts this before the kernel's text.
//
// LANES is 1 or 32. With 1, a warp is a single lane: EACH in a kernel covers a whole row, and no lanes exchange numbers.
// With 32, each lane is a thread, and the threads wait for each other at every exchange, as in a warp, but slower.
// FIBERS is defined if the threads of a block work together, with __shared__ and __syncthreads: see the end.
#pragma once
#include <math.h>
#include <algorithm>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__ static inline
#define __restrict__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static                       // blocks run one after the other, so they can use the same memory
typedef _Float16 __half;
struct __align__(16) float4 { float x, y, z, w; };

struct Dim { unsigned x, y, z; };
static thread_local Dim threadIdx, blockIdx;
static Dim blockDim, gridDim;

// Functions that CUDA has for float and double under one name, and math.h only for double.
using std::exp; using std::log; using std::sqrt; using std::tanh;
static inline float normcdf(float x) { return float(0.5 * erfc(-double(x) * 0.70710678118654752)); }
static inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }

#if defined FIBERS
#include "fibers.h"
#elif LANES > 1
static std::barrier<>* meeting;
static double handed[LANES];

template <typename V> V __shfl_xor_sync(unsigned, V mine, int far) {
    handed[threadIdx.x] = mine;
    meeting->arrive_and_wait();
    const V theirs = V(handed[threadIdx.x ^ far]);
    meeting->arrive_and_wait();
    return theirs;
}
#else
template <typename V> V __shfl_xor_sync(unsigned, V mine, int) { return mine; }
#endif

#if !defined FIBERS
// Runs the blocks one after the other, their warps one after the other, and the lanes of a warp at the same time.
template <typename Run> bool launch(const unsigned* grid, const unsigned* block, Run run) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    auto lane = [&](unsigned x) {
        for (unsigned b = 0; b < grid[0]; b++)
            for (unsigned c = 0; c < grid[1]; c++)
                for (unsigned y = 0; y < block[1]; y++) {
                    blockIdx = {b, c, 0};
                    threadIdx = {x, y, 0};
                    run();
                }
    };
#if LANES > 1
    std::barrier<> all(LANES);
    meeting = &all;
    std::vector<std::thread> lanes;
    for (unsigned x = 0; x < LANES; x++) lanes.emplace_back(lane, x);
    for (auto& one : lanes) one.join();
#else
    lane(0);
#endif
    return true;
}
#endif
