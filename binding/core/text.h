// text(parts…): one std::string from anything an ostream prints.
#pragma once

#include <sstream>
#include <string>

namespace fishermask {

template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace fishermask
