// Lists of numbers as a graph's JSON writes them: 1 and 1.0 are the same text there.
#include "core/attributes.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace fishermask;

TEST_CASE("a list of numbers may hold integers, but no other type and no other count") {
  const Attributes attributes({{"whole", std::vector<std::int64_t>{1, -2}},
                               {"real", std::vector<double>{0.5, 3}},
                               {"one", 0.5}});
  CHECK(attributes.numbers("whole", 2) == std::vector<double>{1, -2});
  CHECK(attributes.numbers("real", -1) == std::vector<double>{0.5, 3});
  CHECK(attributes.numbers("absent", 1, {{7.5}}) == std::vector<double>{7.5});
  const auto refused = [&](const char* key, std::int64_t size, const char* message) {
    CHECK_THROWS_WITH_AS(static_cast<void>(attributes.numbers(key, size)), message, Error);
  };
  refused("real", 3, "expected 3 numbers for attribute 'real' but received 2");
  refused("one", 1, "expected a list of numbers for attribute 'one' but received another type");
  refused("absent", 1, "expected a list of numbers for attribute 'absent' but it is missing");
}
