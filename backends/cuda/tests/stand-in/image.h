// What the stand-ins for NVRTC and for the driver have in common.
#pragma once

// How an "image" of a kernel begins that is a library for this processor; its path follows.
#define IMAGE "stand-in image: "
// And the name in it of what calls a kernel: this before the kernel's own.
#define CALL "stand_in_call_"
