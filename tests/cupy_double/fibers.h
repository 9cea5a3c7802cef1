// The threads of a block as fibers, for kernels with __shared__ and __syncthreads: cuda_on_host.h, which needs them, says when.
//
// A fiber is a function call with its own stack. Each runs until it waits for the others, and then the next one runs; so a
// block is one thread of the host, its order is the same in every run, and there are as many fibers as the block has
// threads. A thread that returns is not waited for, as on a GPU. If all wait and none can go on, the launch gives up.
#include <ucontext.h>
#include <memory>

struct Meeting { unsigned came = 0, round = 0; };
struct Fiber { ucontext_t state; std::unique_ptr<char[]> stack; Dim index; bool runs; };

static const size_t STACK = 1 << 16;
static ucontext_t home;
static std::vector<Fiber> fibers;
static unsigned now, threads, alive, moves;     // which one runs; how many there are, have not ended; steps forward, of all
static Meeting block_meeting;
static std::vector<Meeting> warp_meetings;
static std::vector<double> handed;

static void rest() { swapcontext(&fibers[now].state, &home); }

// Waits until all threads that are waited for have come. Their number falls if one of them returns.
template <typename Count> void meet(Meeting& meeting, Count waited_for) {
    const unsigned round = meeting.round;
    meeting.came++;
    moves++;
    while (meeting.round == round) {
        if (meeting.came >= waited_for()) {
            meeting.came = 0;
            meeting.round++;
            moves++;
        } else rest();
    }
}

static void __syncthreads() { meet(block_meeting, [] { return alive; }); }
static Meeting& my_warp() { return warp_meetings[now / LANES]; }
static void __syncwarp(unsigned = 0xffffffff) { meet(my_warp(), [] { return unsigned(LANES); }); }

template <typename V> V __shfl_xor_sync(unsigned, V mine, int far) {
    handed[now] = mine;
    __syncwarp();
    const V theirs = V(handed[now ^ far]);
    __syncwarp();
    return theirs;
}

// False if all threads wait and none can go on.
template <typename Run> bool launch(const unsigned* grid, const unsigned* block, Run run) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    static Run* running;
    running = &run;
    handed.resize(threads);
    while (fibers.size() < threads) fibers.push_back({{}, std::unique_ptr<char[]>(new char[STACK]), {}, false});
    void (*life)() = [] {
        (*running)();
        fibers[now].runs = false;
        alive--;
        moves++;
    };
    for (unsigned b = 0; b < grid[0] * grid[1] * grid[2]; b++) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        alive = threads;
        block_meeting = {};
        warp_meetings.assign((threads + LANES - 1) / LANES, {});
        for (unsigned t = 0; t < threads; t++) {
            Fiber& fiber = fibers[t];
            fiber.index = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
            fiber.runs = true;
            getcontext(&fiber.state);
            fiber.state.uc_stack.ss_sp = fiber.stack.get();
            fiber.state.uc_stack.ss_size = STACK;
            fiber.state.uc_link = &home;
            makecontext(&fiber.state, life, 0);
        }
        while (alive) {
            const unsigned before = moves;
            for (now = 0; now < threads; now++)
                if (fibers[now].runs) {
                    threadIdx = fibers[now].index;
                    swapcontext(&home, &fibers[now].state);
                }
            if (moves == before) return false;
        }
    }
    return true;
}
