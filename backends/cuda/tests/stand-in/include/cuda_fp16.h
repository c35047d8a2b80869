// Numbers of 16 bits, as they are in float.
#pragma once
#include "stand_in_half.h"
