// `lint --format sarif` keeps the rules of the SARIF 2.1.0 schema that bear on what is written
// here: required properties, nothing that the schema does not know, enumerations, bounds of
// numbers, lists without repetition, and what references must refer to.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "cli/command.h"

namespace policyc::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Objects of the schema: which properties they must have, and which they may.
struct Shape {
  std::vector<std::string> required, optional;
};
const std::map<std::string, Shape>& shapes() {
  static const std::map<std::string, Shape> table = {
      {"sarifLog", {{"version", "runs"}, {"$schema"}}},
      {"run", {{"tool", "results"}, {"columnKind"}}},
      {"tool", {{"driver"}, {}}},
      {"toolComponent", {{"name"}, {"version", "semanticVersion", "rules", "informationUri"}}},
      {"reportingDescriptor",
       {{"id"}, {"name", "shortDescription", "fullDescription", "help", "defaultConfiguration"}}},
      {"multiformatMessageString", {{"text"}, {"markdown"}}},
      {"reportingConfiguration", {{}, {"enabled", "level"}}},
      {"result",
       {{"message"},
        {"ruleId", "ruleIndex", "level", "locations", "relatedLocations", "partialFingerprints",
         "fixes"}}},
      {"message", {{"text"}, {}}},
      {"location", {{}, {"physicalLocation", "logicalLocations", "message"}}},
      {"logicalLocation", {{}, {"name", "fullyQualifiedName", "kind"}}},
      {"physicalLocation", {{"artifactLocation"}, {"region"}}},
      {"artifactLocation", {{"uri"}, {}}},
      {"region", {{"startLine"}, {"startColumn", "endLine", "endColumn"}}},
      {"fix", {{"artifactChanges"}, {"description"}}},
      {"artifactChange", {{"artifactLocation", "replacements"}, {}}},
      {"replacement", {{"deletedRegion"}, {"insertedContent"}}},
      {"artifactContent", {{}, {"text"}}},
  };
  return table;
}

// Collects complaints as "path: what is wrong".
class SarifRules {
 public:
  std::vector<std::string> check(const json& log) {
    if (!object(log, "sarifLog", "")) return out_;
    if (log["version"] != "2.1.0") say("version", "must be 2.1.0");
    each(log, "runs", "", false,
         [&](const json& run, const std::string& at) { check_run(run, at); });
    return out_;
  }

 private:
  void say(const std::string& at, const std::string& what) { out_.push_back(at + ": " + what); }

  bool object(const json& value, const std::string& shape, const std::string& at) {
    if (!value.is_object()) {
      say(at, "is no object");
      return false;
    }
    const Shape& s = shapes().at(shape);
    bool good = true;
    for (const std::string& key : s.required) {
      if (value.contains(key)) continue;
      say(at, "has no `" + key + "`");
      good = false;
    }
    for (const auto& [key, unused] : value.items()) {
      const auto in = [&key = key](const std::vector<std::string>& list) {
        return std::find(list.begin(), list.end(), key) != list.end();
      };
      if (!in(s.required) && !in(s.optional)) say(at, "`" + key + "` is no property of " + shape);
    }
    return good;
  }

  template <class F>
  void each(const json& parent, const char* key, const std::string& at, bool unique, F&& visit) {
    if (!parent.contains(key)) return;
    const json& list = parent[key];
    const std::string here = at + "/" + key;
    if (!list.is_array()) return say(here, "is no list");
    std::set<std::string> seen;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string where = fmt::format("{}/{}", here, i);
      if (unique && !seen.insert(list[i].dump()).second) say(where, "stands twice");
      visit(list[i], where);
    }
  }

  void text(const json& parent, const char* key, const std::string& at) {
    if (parent.contains(key) &&
        !(parent[key].is_string() && !parent[key].get<std::string>().empty()))
      say(at + "/" + key, "is no text");
  }

  void level(const json& parent, const std::string& at) {
    static const std::set<json> levels = {"none", "note", "warning", "error"};
    if (parent.contains("level") && levels.count(parent["level"]) == 0) {
      say(at + "/level", "is none of none, note, warning, error");
    }
  }

  void check_run(const json& run, const std::string& at) {
    if (!object(run, "run", at) || !object(run["tool"], "tool", at + "/tool")) return;
    const json& driver = run["tool"]["driver"];
    const std::string tool = at + "/tool/driver";
    if (!object(driver, "toolComponent", tool)) return;
    if (run.contains("columnKind") && run["columnKind"] != "utf16CodeUnits" &&
        run["columnKind"] != "unicodeCodePoints") {
      say(at + "/columnKind", "is unknown");
    }
    rules_.clear();
    each(driver, "rules", tool, true, [&](const json& rule, const std::string& where) {
      if (!object(rule, "reportingDescriptor", where)) return;
      text(rule, "id", where);
      for (const char* key : {"shortDescription", "fullDescription", "help"}) {
        if (!rule.contains(key)) continue;
        if (object(rule[key], "multiformatMessageString", where + "/" + key)) {
          text(rule[key], "text", where + "/" + key);
        }
      }
      if (rule.contains("defaultConfiguration") &&
          object(rule["defaultConfiguration"], "reportingConfiguration", where)) {
        level(rule["defaultConfiguration"], where);
      }
      rules_.push_back(rule["id"]);
    });
    if (std::set<json>(rules_.begin(), rules_.end()).size() != rules_.size()) {
      say(tool + "/rules", "hold one id twice");
    }
    each(run, "results", at, false,
         [&](const json& r, const std::string& where) { result(r, where); });
  }

  void result(const json& r, const std::string& at) {
    if (!object(r, "result", at)) return;
    message(r["message"], at + "/message");
    level(r, at);
    if (r.contains("ruleIndex")) {
      const json& index = r["ruleIndex"];
      if (!index.is_number_integer() || index < 0 || index >= rules_.size()) {
        say(at + "/ruleIndex", "is outside the rules");
      } else if (!r.contains("ruleId") || rules_[index.get<std::size_t>()] != r["ruleId"]) {
        say(at + "/ruleIndex", "names another rule than ruleId");
      }
    }
    each(r, "locations", at, false,
         [&](const json& l, const std::string& where) { location(l, where); });
    each(r, "relatedLocations", at, true,
         [&](const json& l, const std::string& where) { location(l, where); });
    if (r.contains("partialFingerprints")) {
      for (const auto& [key, value] : r["partialFingerprints"].items()) {
        if (!value.is_string()) say(at + "/partialFingerprints/" + key, "is no text");
      }
    }
    each(r, "fixes", at, true, [&](const json& fix, const std::string& where) {
      if (!object(fix, "fix", where)) return;
      if (fix.contains("description")) message(fix["description"], where + "/description");
      if (fix["artifactChanges"].empty()) say(where, "changes nothing");
      each(fix, "artifactChanges", where, true, [&](const json& change, const std::string& here) {
        if (!object(change, "artifactChange", here)) return;
        artifact(change["artifactLocation"], here);
        if (change["replacements"].empty()) say(here, "replaces nothing");
        each(change, "replacements", here, false, [&](const json& rep, const std::string& place) {
          if (!object(rep, "replacement", place)) return;
          region(rep["deletedRegion"], place);
          if (rep.contains("insertedContent")) {
            object(rep["insertedContent"], "artifactContent", place + "/insertedContent");
          }
        });
      });
    });
  }

  void message(const json& m, const std::string& at) {
    if (object(m, "message", at)) text(m, "text", at);
  }

  void location(const json& l, const std::string& at) {
    if (!object(l, "location", at)) return;
    if (l.contains("physicalLocation") &&
        object(l["physicalLocation"], "physicalLocation", at + "/physicalLocation")) {
      artifact(l["physicalLocation"]["artifactLocation"], at);
      if (l["physicalLocation"].contains("region")) region(l["physicalLocation"]["region"], at);
    }
    if (l.contains("message")) message(l["message"], at + "/message");
    each(l, "logicalLocations", at, true, [&](const json& logical, const std::string& where) {
      object(logical, "logicalLocation", where);
    });
  }

  // RFC 3986: nothing that would have to be escaped; relative to where lint was run.
  void artifact(const json& a, const std::string& at) {
    if (!object(a, "artifactLocation", at + "/artifactLocation") || !a["uri"].is_string()) return;
    const std::string uri = a["uri"];
    static const std::string allowed = "-._~/%!$&'()*+,;=@";
    const bool good = !uri.empty() && std::all_of(uri.begin(), uri.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || allowed.find(static_cast<char>(c)) != std::string::npos;
    });
    if (!good) say(at, "`" + uri + "` is no URI reference");
    if (uri.rfind('/', 0) == 0) say(at, "`" + uri + "` is not relative");
  }

  // Lines and columns count from 1; the end is not before the begin.
  void region(const json& r, const std::string& at) {
    if (!object(r, "region", at + "/region")) return;
    for (const auto& [key, value] : r.items()) {
      if (!value.is_number_integer() || value < 1) say(at + "/region/" + key, "is below 1");
    }
    const auto number = [&](const char* key, int otherwise) { return r.value(key, otherwise); };
    const std::pair begin(number("startLine", 1), number("startColumn", 1));
    const std::pair end(number("endLine", begin.first), number("endColumn", begin.second));
    if (end < begin) say(at + "/region", "ends before it begins");
  }

  std::vector<json> rules_;
  std::vector<std::string> out_;
};

std::string joined(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

json lint(const fs::path& folder) {
  const fs::path before = fs::current_path();
  fs::current_path(folder);
  std::istringstream in;
  std::ostringstream out, err;
  Env env{in, out, err, false, false};
  run_policyc({"lint", "--format", "sarif", "."}, env);
  fs::current_path(before);
  return json::parse(out.str());
}

TEST(Sarif, EveryGalleryFolderKeepsTheSchema) {
  std::size_t results = 0;
  std::size_t fixes = 0;
  const fs::path golden = fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden";
  for (const auto& entry : fs::directory_iterator(golden)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("rejected-", 0) != 0 && name.rfind("findings-", 0) != 0) continue;
    const json log = lint(entry.path());
    const auto complaints = SarifRules().check(log);
    EXPECT_TRUE(complaints.empty()) << name << "\n" << joined(complaints);
    for (const json& r : log["runs"][0]["results"]) {
      ++results;
      fixes += r.contains("fixes") ? 1U : 0U;
    }
  }
  EXPECT_GT(results, 200U);
  EXPECT_GT(fixes, 5U);
}

TEST(Sarif, NothingToReportKeepsTheSchema) {
  const json log = lint(fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden" / "lint-clean");
  EXPECT_EQ(joined(SarifRules().check(log)), "");
  EXPECT_TRUE(log["runs"][0]["results"].empty());
}

// The rules would notice: one change each to a good log.
TEST(SarifChecker, NoticesWhatTheSchemaRefuses) {
  const json good =
      lint(fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden" / "lint-format-sarif");
  ASSERT_EQ(joined(SarifRules().check(good)), "");
  const std::vector<std::pair<std::string, json>> changes = {
      {"/version", "2.0.0"},
      {"/runs/0/columnKind", "bytes"},
      {"/runs/0/tool/driver/name", nullptr},
      {"/runs/0/results/0/level", "fatal"},
      {"/runs/0/results/0/ruleIndex", 99},
      {"/runs/0/results/0/ruleIndex", 1},
      {"/runs/0/results/0/message", json::object()},
      {"/runs/0/results/0/severity", "error"},
      {"/runs/0/results/0/locations/0/physicalLocation/region/startLine", 0},
      {"/runs/0/results/0/locations/0/physicalLocation/region/endLine", 1},
      {"/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", "/etc/a.yaml"},
      {"/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", "a b.yaml"},
      {"/runs/0/results/0/fixes/0/artifactChanges", json::array()},
      {"/runs/0/results/0/relatedLocations", json::array({{{"id", 1}}})},
      {"/runs/0/tool/driver/rules/0/defaultConfiguration/level", "off"},
  };
  for (const auto& [pointer, value] : changes) {
    json bad = good;
    bad[json::json_pointer(pointer)] = value;
    if (value.is_null()) bad["runs"][0]["tool"]["driver"].erase("name");
    EXPECT_NE(joined(SarifRules().check(bad)), "") << pointer << " = " << value.dump();
  }
}

}  // namespace
}  // namespace policyc::cli
