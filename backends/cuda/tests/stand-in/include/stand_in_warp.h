// Threads that wait for each other, and what those of a warp tell each other.
#pragma once

#define __syncthreads() stand_in_barrier(__LINE__)
#define __syncwarp() stand_in_meet(__LINE__)
// Blocks are run by processors whose memory is in order where threads meet.
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

namespace stand_in {
// What thread `from` of the warp gives.
template <class T> T told(T value, unsigned from, int line) {
    T *all = static_cast<T *>(stand_in_room());
    all[stand_in_here.lane] = value;
    stand_in_meet(line);
    // As on a GPU, a thread that asks for one that is not there has its own.
    return from < stand_in_here.lanes ? all[from] : value;
}
inline unsigned ballot(bool vote, int line) {
    bool *all = static_cast<bool *>(stand_in_room());
    all[stand_in_here.lane] = vote;
    stand_in_meet(line);
    unsigned votes = 0;
    for (unsigned k = 0; k < stand_in_here.lanes; k++) votes |= unsigned(all[k]) << k;
    return votes;
}
inline unsigned everybody() {
    return stand_in_here.lanes < 32 ? (1u << stand_in_here.lanes) - 1 : ~0u;
}
// CubeCL asks for no part of a warp to meet.
inline void whole(unsigned mask) {
    if (mask != ~0u) stand_in_stop("only whole warps can meet on the stand-in");
}
} // namespace stand_in

#define __shfl_sync(mask, value, from)                                                             \
    (stand_in::whole(mask), stand_in::told(value, (from) % 32u, __LINE__))
#define __shfl_xor_sync(mask, value, bits)                                                         \
    (stand_in::whole(mask), stand_in::told(value, stand_in_here.lane ^ (bits), __LINE__))
// Beyond the ends of the warp a thread keeps its own.
#define __shfl_up_sync(mask, value, by)                                                            \
    (stand_in::whole(mask),                                                                        \
     stand_in::told(value, stand_in_here.lane < (by) ? ~0u : stand_in_here.lane - (by), __LINE__))
#define __shfl_down_sync(mask, value, by)                                                          \
    (stand_in::whole(mask), stand_in::told(value, stand_in_here.lane + (by), __LINE__))
#define __ballot_sync(mask, vote) (stand_in::whole(mask), stand_in::ballot(vote, __LINE__))
#define __any_sync(mask, vote) (__ballot_sync(mask, vote) != 0)
#define __all_sync(mask, vote) (__ballot_sync(mask, vote) == stand_in::everybody())
