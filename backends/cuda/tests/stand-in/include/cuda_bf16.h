// Numbers of 16 bits, of which 8 are the exponent.
#pragma once
#include "stand_in_half.h"
