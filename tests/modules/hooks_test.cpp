#include "troupe/modules/hooks.hpp"

#include <gtest/gtest.h>

#include <set>

namespace troupe {
namespace {

struct Base {
  virtual ~Base() = default;
#define TROUPE_TEST_DECLARE(name, arguments, owners) TROUPE_OF_MODULE_##owners(virtual void name(){})
  TROUPE_HOOKS(TROUPE_TEST_DECLARE)
#undef TROUPE_TEST_DECLARE
};

struct Plain : Base {};

struct Two : Base {
  void on_train_start() override {}
  void training_step() override {}
};

struct Three : Two {
  void backward() override {}
};

struct Overloaded : Base {
  void setup() override {}
  void setup(int) {}
};

class Private : public Base {
  void teardown() override {}
};

TEST(Hooks, AreOverriddenWhereTheStaticTypeSaysSo) {
  EXPECT_EQ((overridden_hooks<Plain, Base>().size()), 0u);
  const HookSet two = overridden_hooks<Two, Base>();
  EXPECT_EQ(two.size(), 2u);
  EXPECT_TRUE(two.has(Hook::on_train_start));
  EXPECT_TRUE(two.has(Hook::training_step));
  EXPECT_FALSE(two.has(Hook::backward));
}

TEST(Hooks, InheritedOverridesCount) {
  const HookSet three = overridden_hooks<Three, Base>();
  EXPECT_EQ(three.size(), 3u);
  EXPECT_TRUE(three.has(Hook::on_train_start));
}

TEST(Hooks, OverloadedAndPrivateOverridesAreNotMissed) {
  EXPECT_TRUE((overridden_hooks<Overloaded, Base>().has(Hook::setup)));
  EXPECT_TRUE((overridden_hooks<Private, Base>().has(Hook::teardown)));
}

TEST(Hooks, HaveOneNameEach) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < hook_count; ++i) names.insert(to_string(static_cast<Hook>(i)));
  EXPECT_EQ(names.size(), hook_count);
  EXPECT_EQ(to_string(Hook::on_before_optimizer_step), "on_before_optimizer_step");
}

}  // namespace
}  // namespace troupe
