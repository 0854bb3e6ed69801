// The only include of napi.h. Node-API 9; C++ exceptions of any std::exception become JavaScript
// errors.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <napi.h>
#pragma GCC diagnostic pop
