// Where CUDA has what mma.h declares.
#pragma once
#include "../mma.h"
