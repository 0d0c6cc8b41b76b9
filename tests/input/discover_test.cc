#include "frontend/discover.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/input/temp_tree.h"

namespace policyc::frontend {
namespace {

TEST(Glob, StarStaysWithinAPart) {
  EXPECT_TRUE(glob_match("*.yaml", "a.yaml"));
  EXPECT_TRUE(glob_match("*.yaml", "deep/below/a.yaml"));
  EXPECT_FALSE(glob_match("a/*.yaml", "a/b/c.yaml"));
  EXPECT_TRUE(glob_match("a/*.yaml", "a/c.yaml"));
  EXPECT_FALSE(glob_match("a?c", "a/c"));
}

TEST(Glob, DoubleStarCrossesParts) {
  EXPECT_TRUE(glob_match("a/**", "a/b/c.yaml"));
  EXPECT_TRUE(glob_match("**/c.yaml", "c.yaml"));
  EXPECT_TRUE(glob_match("**/c.yaml", "a/b/c.yaml"));
  EXPECT_FALSE(glob_match("**/c.yaml", "a/b/xc.yaml"));
  EXPECT_TRUE(glob_match("a/**/z", "a/z"));
  EXPECT_TRUE(glob_match("a/**/z", "a/b/c/z"));
}

TEST(Glob, WhatMatchesAFolderMatchesItsContent) {
  EXPECT_TRUE(glob_match("archive", "x/archive/a.yaml"));
  EXPECT_TRUE(glob_match("x/archive", "x/archive/deep/a.yaml"));
  EXPECT_FALSE(glob_match("x/archive", "y/x/archive/a.yaml"));
}

TEST(Glob, SetsAndEscapes) {
  EXPECT_TRUE(glob_match("a[0-9].yaml", "a7.yaml"));
  EXPECT_FALSE(glob_match("a[!0-9].yaml", "a7.yaml"));
  EXPECT_TRUE(glob_match("a[", "a["));
  EXPECT_TRUE(glob_match("\\*", "*"));
  EXPECT_FALSE(glob_match("\\*", "x"));
}

TEST(Glob, HostilePatternsStayCheap) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(2000, 'a')));
}

TEST(Paths, AreResolvedByText) {
  EXPECT_EQ(absolute_path("/a/./b//../c"), "/a/c");
  EXPECT_EQ(absolute_path("/../.."), "/");
  EXPECT_EQ(parent_path("a"), ".");
  EXPECT_EQ(parent_path("/a"), "/");
  EXPECT_EQ(parent_path("x/y"), "x");
  EXPECT_EQ(base_name("x/y.yaml"), "y.yaml");
}

class DiscoverTest : public ::testing::Test {
 protected:
  std::vector<std::string> found(const std::vector<std::string>& paths,
                                 const std::vector<std::string>& exclude = {}) {
    std::vector<std::string> all;
    for (const std::string& p : paths) all.push_back(tree_.path(p));
    result_ = discover(all, exclude);
    std::vector<std::string> names;
    for (const FoundFile& f : result_.files)
      names.push_back(f.path.substr(tree_.root().size() + 1));
    return names;
  }
  using Names = std::vector<std::string>;
  test::TempTree tree_;
  Discovery result_;
};

TEST_F(DiscoverTest, WalksByName) {
  for (const char* name : {"b.yaml", "a.yml", "d/c.json", "d/readme.md", "d/Kustomization",
                           ".hidden/x.yaml", "node_modules/x.yaml", "d/.yaml", ".policyc.yaml"}) {
    tree_.write(name, "a: 1\n");
  }
  EXPECT_EQ(found({""}), (Names{"a.yml", "b.yaml", "d/Kustomization", "d/c.json"}));
}

TEST_F(DiscoverTest, NamedFilesAreReadWhateverTheyAreCalled) {
  tree_.write("policy.tmpl", "a: 1\n");
  EXPECT_EQ(found({"policy.tmpl"}), (Names{"policy.tmpl"}));
  EXPECT_TRUE(result_.files[0].named);
}

TEST_F(DiscoverTest, TheSameFileIsReadOnce) {
  tree_.write("d/a.yaml", "a: 1\n");
  std::filesystem::create_symlink(tree_.path("d/a.yaml"), tree_.path("d/z.yaml"));
  EXPECT_EQ(found({"d/a.yaml", "d", ""}), (Names{"d/a.yaml"}));
}

TEST_F(DiscoverTest, LinksToFoldersAreNotFollowed) {
  tree_.write("d/a.yaml", "a: 1\n");
  std::filesystem::create_directory_symlink(tree_.root(), tree_.path("d/loop"));
  EXPECT_EQ(found({""}), (Names{"d/a.yaml"}));
}

TEST_F(DiscoverTest, IgnoreFileAppliesBelowItsFolder) {
  tree_.write("x/.policycignore", "# comment\narchive/\n*.gen.yaml\n!keep.gen.yaml\n/top.yaml\n");
  for (const char* name : {"x/a.yaml", "x/archive/a.yaml", "x/b.gen.yaml", "x/keep.gen.yaml",
                           "x/top.yaml", "x/d/top.yaml", "y/archive/a.yaml"}) {
    tree_.write(name, "a: 1\n");
  }
  EXPECT_EQ(found({""}),
            (Names{"x/a.yaml", "x/d/top.yaml", "x/keep.gen.yaml", "y/archive/a.yaml"}));
}

TEST_F(DiscoverTest, ExcludeIsHeldAgainstThePathBelowTheRoot) {
  tree_.write("t/old/a.yaml", "a: 1\n");
  tree_.write("t/new/a.yaml", "a: 1\n");
  EXPECT_EQ(found({"t"}, {"old/**"}), (Names{"t/new/a.yaml"}));
}

TEST_F(DiscoverTest, MissingPathsAreNamed) {
  EXPECT_TRUE(found({"nope"}).empty());
  ASSERT_EQ(result_.missing.size(), 1U);
  EXPECT_EQ(result_.missing[0].second, "no such file or directory");
}

}  // namespace
}  // namespace policyc::frontend
