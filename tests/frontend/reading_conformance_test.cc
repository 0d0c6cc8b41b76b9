// Acceptance of policies, held against the verdicts recorded in ../shared (skipped where that
// folder is missing) and against our own table in testdata/validate.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>

#include "frontend/parse_policy.h"

namespace policyc::frontend {
namespace {

namespace fs = std::filesystem;

const fs::path kShared = fs::path(POLICYC_SOURCE_DIR) / ".." / "shared";

#define SKIP_WITHOUT_SHARED() \
  if (!fs::is_directory(kShared)) GTEST_SKIP() << "skipped: ../shared is absent"

std::string read_text_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// One object of a file and what we say of it.
struct Answer {
  bool is_policy = false;
  std::string kind;
  bool accepted = false;
  std::string layer;
  std::string error;
};

struct FileAnswer {
  bool parsed = true;
  std::vector<Answer> objects;  // one each document that is not empty
  std::size_t errors = 0;
  std::string findings;
};

void answer_object(const YamlRef& object, FileId file, std::uint32_t index,
                   const ir::Settings& settings, DiagnosticSink& sink, FileAnswer& out) {
  const YamlNode* items = object.node->get("items");
  if (items != nullptr && items->is_sequence()) {
    for (const YamlRef& item : items->items) {
      answer_object(item, file, index, settings, sink, out);
    }
    return;
  }
  Answer answer;
  answer.kind = std::string(object.node->get_text("kind"));
  if (auto kind = policy_kind_of(*object.node)) {
    const PolicyAst ast = read_policy(object, *kind, file, index, settings, sink);
    answer.is_policy = true;
    answer.accepted = ast.accepted;
    answer.layer = std::string(layer_name(ast.layer));
    answer.error = ast.error;
    EXPECT_EQ(ast.accepted, ast.layer == Layer::None);
    EXPECT_EQ(ast.accepted, ast.error.empty());
  }
  out.objects.push_back(std::move(answer));
}

FileAnswer answer_file(const fs::path& path, const ir::Settings& settings) {
  FileAnswer out;
  SourceMap sources;
  DiagnosticSink sink;
  const FileId file = sources.add(path.filename().string(), read_text_file(path));
  const YamlStream stream = read_yaml(sources, file, sink);
  out.parsed = stream.ok();
  EXPECT_EQ(stream.ok(), !sink.has_errors()) << path;
  for (const YamlDocument& document : stream.documents()) {
    if (!document.root->is_mapping()) continue;
    answer_object({document.root, document.range}, file, document.index, settings, sink, out);
  }
  for (const Diagnostic& d : sink.all()) {
    EXPECT_TRUE(d.range.known()) << path << d.message;
    EXPECT_LE(d.range.begin, d.range.end) << path << d.message;
    EXPECT_LE(d.range.end, sources.text(file).size()) << path << d.message;
    if (d.severity != Severity::Error) continue;
    ++out.errors;
    out.findings += fmt::format("  {}: {}[{}] {}: {}\n", sources.place(d.range),
                                severity_name(d.severity), diag_name(d.code), d.rule, d.message);
  }
  return out;
}

ir::Settings admitted() {
  ir::Settings settings;
  settings.assume_admitted = true;
  return settings;
}

std::string expected_layer(const YAML::Node& row) {
  if (row["yaml_error"]) return "yaml";
  if (row["schema_error"]) return "schema";
  if (row["unknown_fields"]) return "unknown-field";
  if (row["sanitize_error"] || row["decode_error"]) return "agent";
  return "";
}

TEST(ReadingConformance, SingleManifests) {
  SKIP_WITHOUT_SHARED();
  const fs::path folder = kShared / "conformance" / "validate";
  const YAML::Node expected = YAML::LoadFile((folder / "expected.json").string());
  std::size_t agree = 0;
  std::size_t total = 0;
  for (const YAML::Node& row : expected) {
    const std::string name = row["file"].as<std::string>();
    const bool accept = row["accept"].as<bool>();
    std::string layer = expected_layer(row);
    const FileAnswer answer = answer_file(folder / name, admitted());
    bool got = false;
    std::string got_layer = "yaml";
    std::string error = answer.findings;
    if (answer.parsed) {
      ASSERT_FALSE(answer.objects.empty()) << name;
      const Answer& object = answer.objects.at(row["doc"].as<std::size_t>());
      got = object.is_policy && object.accepted;
      got_layer = object.layer;
      error = object.error;
      if (!object.is_policy) layer = "";  // not one of our kinds: nobody judges it
    }
    ++total;
    const bool same = got == accept && got_layer == layer;
    agree += same ? 1 : 0;
    EXPECT_EQ(got, accept) << name << ": " << error;
    EXPECT_EQ(got_layer, layer) << name << ": " << error;
  }
  std::cout << "validate: " << agree << " of " << total << " manifests agree\n";
  EXPECT_GT(total, 100U);
}

TEST(ReadingConformance, PoliciesOfAllWorlds) {
  SKIP_WITHOUT_SHARED();
  std::size_t agree = 0;
  std::size_t total = 0;
  for (const char* set : {"worlds", "handmade", "settings", "articles/worlds"}) {
    std::vector<fs::path> worlds;
    for (const auto& entry : fs::directory_iterator(kShared / "conformance" / set)) {
      if (fs::exists(entry.path() / "expected.json")) worlds.push_back(entry.path());
    }
    std::sort(worlds.begin(), worlds.end());
    for (const fs::path& world : worlds) {
      const YAML::Node expected = YAML::LoadFile((world / "expected.json").string());
      std::map<std::string, FileAnswer> files;
      for (const YAML::Node& row : expected["policies"]) {
        const std::string name = row["file"].as<std::string>();
        if (files.count(name) == 0) {
          files[name] = answer_file(world / "policies" / name, admitted());
        }
        const FileAnswer& file = files[name];
        const std::size_t doc = row["doc"].as<std::size_t>();
        ASSERT_LT(doc, file.objects.size()) << world << name;
        const Answer& object = file.objects[doc];
        ++total;
        const bool ok = row["ok"].as<bool>();
        agree += object.accepted == ok ? 1 : 0;
        EXPECT_EQ(object.accepted, ok) << world << " " << name << ": " << object.error;
        if (ok) continue;
        const bool schema = row["error"].as<std::string>().rfind("api-server:", 0) == 0;
        EXPECT_EQ(object.layer, schema ? "schema" : "agent") << world << name << object.error;
      }
    }
  }
  std::cout << "worlds: " << agree << " of " << total << " policies agree\n";
  EXPECT_GT(total, 500U);
}

// Nothing in the wild crashes or hangs us, and of the policies that people run only a handful is
// wrong.
TEST(ReadingConformance, Corpus) {
  SKIP_WITHOUT_SHARED();
  const fs::path folder = kShared / "corpus";
  std::map<std::string, std::string> category;
  for (const YAML::Node& row : YAML::LoadFile((folder / "INDEX.json").string())) {
    category[row["file"].as<std::string>()] = row["category"].as<std::string>();
  }
  struct Count {
    std::size_t files = 0, policies = 0, refused = 0, errors = 0, unparsed = 0;
  };
  std::map<std::string, Count> counts;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".yaml" || extension == ".yml") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  const bool print = std::getenv("POLICYC_PRINT_FINDINGS") != nullptr;
  for (const fs::path& path : paths) {
    const FileAnswer answer = answer_file(path, ir::Settings{});
    const std::string name = fs::relative(path, folder).string();
    const std::string kind = category.count(name) != 0 ? category[name] : "unlisted";
    Count& count = counts[kind];
    ++count.files;
    count.errors += answer.errors;
    count.unparsed += answer.parsed ? 0 : 1;
    for (const Answer& object : answer.objects) {
      count.policies += object.is_policy ? 1 : 0;
      count.refused += object.is_policy && !object.accepted ? 1 : 0;
    }
    if (print && answer.errors > 0) std::cout << kind << " " << name << "\n" << answer.findings;
  }
  for (const auto& [kind, count] : counts) {
    std::cout << fmt::format(
        "corpus {}: {} files, {} policies, {} refused, {} errors, {} files unreadable\n", kind,
        count.files, count.policies, count.refused, count.errors, count.unparsed);
  }
  EXPECT_LE(counts["gitops"].errors + counts["product"].errors, 6U);
  EXPECT_GT(paths.size(), 500U);
}

// Our own manifests: one document each, judged by testdata/validate/expected.yaml.
TEST(OwnManifests, AreJudgedAsTheTableSays) {
  const fs::path folder = fs::path(POLICYC_SOURCE_DIR) / "testdata" / "validate";
  const YAML::Node table = YAML::LoadFile((folder / "expected.yaml").string());
  std::size_t rows = 0;
  for (const auto& row : table) {
    const std::string name = row.first.as<std::string>();
    const std::string layer = row.second.as<std::string>();
    const FileAnswer answer = answer_file(folder / name, ir::Settings{});
    ++rows;
    if (layer == "yaml") {
      EXPECT_FALSE(answer.parsed) << name;
      continue;
    }
    ASSERT_EQ(answer.objects.size(), 1U) << name << answer.findings;
    EXPECT_EQ(answer.objects[0].accepted, layer == "accepted") << name << answer.objects[0].error;
    EXPECT_EQ(answer.objects[0].layer, layer == "accepted" ? "" : layer)
        << name << answer.objects[0].error;
  }
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files += entry.path().filename() == "expected.yaml" ? 0U : 1U;
  }
  EXPECT_EQ(rows, files) << "each manifest has a row";
}

}  // namespace
}  // namespace policyc::frontend
