// What the stand-ins for NVRTC and for the driver have in common.
#pragma once

// How an "image" of a kernel begins that is a library for this processor; its path follows.
#define IMAGE "stand-in image: "
// And the names in it of what calls a kernel and of how large its parameters are: these before the
// kernel's own.
#define CALL "stand_in_call_"
#define SIZES "stand_in_sizes_"
